"""Predictions of whole sequences in files of one run each, as baselines of event-based emotion recognition publish them.

    {"results": {"1_001_man_24_Master_normal_angry_45_take000": [{"label": "angry", "score": 0.93}, …], …}}

A test set is run many times, each run with other clips of the same sequences, and figures are averaged over the runs. The truth,
and the light that it was recorded under, stand in the sequence's name. The answer is the label of the highest score, the first
listed of equals; the list need be neither sorted nor complete.

    print(score_sequence_files("results/E4_S3"))                   a folder of 20 files, and the row that the table prints

This file knows such files and what their names say; it knows no model.
"""

import glob
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..corpora.see_annotations import parse_sequence_name
from ..errors import CorpusError, InputError, UnknownNameError
from ..labels import canonical
from .sequence_scores import SHORT_LIGHTINGS, SHORT_NAMES, SequenceScores, score_runs

logger = logging.getLogger(__name__)

ParseName = Callable[[str], Mapping[str, str]]
"""Sequence name → what it says; "emotion" is the truth, and any other key may be a group. Raises InputError on other names."""


def sequence_name(name: str) -> dict[str, str]:
    """What a name of nine fields says, the light spelt as in `see_annotations.LIGHTINGS`.

    >>> sequence_name("1_001_man_24_Master_normal_angry_45_take000")["emotion"]
    'angry'

    Raises:
        InputError: not nine fields, or one that cannot be what it should.
    """
    try:
        return parse_sequence_name(name)
    except CorpusError as error:
        raise InputError(f"{error} Give a parser for other names.") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, refusing the key that stands in it twice: json would silently keep the last."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice!r} stands twice in one object")
    return made


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_duplicates)
    except InputError as error:
        raise InputError(f"{file}: {error}. Expected each sequence once. Remove one of them.") from error
    except (OSError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InputError(f"{file} cannot be read as JSON: {error}. Copy it again from its source.") from error


def _class_of(label: Any, classes: Mapping[str, str], where: str) -> str:
    """The class that a spelling means: its own name in any case, or any spelling of an expression."""
    if not isinstance(label, str):
        raise InputError(f"{where}: the label is {label!r}; expected the name of a class.")
    folded = label.strip().casefold()
    if folded not in classes:
        try:
            folded = canonical(label)
        except UnknownNameError:
            folded = ""
    if folded not in classes:
        raise InputError(
            f"{where}: the label {label!r} is none of {', '.join(classes.values())}. Name the classes it may be."
        )
    return classes[folded]


def _answer(entries: Any, classes: Mapping[str, str], where: str) -> str:
    """The class of the highest score, the first listed of equals."""
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{where} is {str(entries)[:80]}; expected a list of {{"label", "score"}}, one per class.')
    best, best_score = "", -math.inf
    seen: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "label" not in entry or "score" not in entry:
            raise InputError(f'{where} has the entry {str(entry)[:80]}; expected an object of "label" and "score".')
        name, score = _class_of(entry["label"], classes, where), entry["score"]
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise InputError(f"{where}: the score of {entry['label']!r} is {score!r}; expected a finite number.")
        if name in seen:
            raise InputError(
                f"{where} scores {name} twice, as {seen[name]!r} and {entry['label']!r}; expected each class once."
            )
        seen[name] = entry["label"]
        if score > best_score:
            best, best_score = name, score
    return best


def _results(file: Path, parsed: Any) -> dict[str, Any]:
    results = parsed.get("results") if isinstance(parsed, dict) else None
    if not isinstance(results, dict) or not results:
        has = ", ".join(map(repr, list(parsed)[:5])) if isinstance(parsed, dict) else type(parsed).__name__
        raise InputError(
            f'{file} has no predictions under "results" (it has {has or "nothing"}); expected {{"results": {{sequence: '
            '[{"label", "score"}, …]}}.'
        )
    return results


def _files_of(paths: Sequence[str | Path]) -> tuple[list[Path], set[Path]]:
    """Files named by paths, folders (the .json in them) and patterns; and those that only a folder or pattern named."""
    files: list[Path] = []
    found: set[Path] = set()
    for given in paths:
        path = Path(given).expanduser()
        if path.is_file():
            files.append(path)
            continue
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            below = [] if inside else sorted({one.parent.name for one in path.glob("*/*.json")})
            hint = f" Its folders {', '.join(below[:5])} do: score each alone." if below else ""
        else:
            inside, hint = sorted(map(Path, glob.glob(str(path)))), ""  # noqa: PTH207 — Path.glob takes no absolute pattern
            inside = [one for one in inside if one.is_file()]
        if not inside:
            raise InputError(f"{given} names no .json file; expected files of one run each, or their folder.{hint}")
        files += inside
        found |= set(inside)
    different = list(dict.fromkeys(one.resolve() for one in files))
    if len(different) != len(files):
        raise InputError(
            f"{len(files) - len(different)} of {len(files)} files are named twice; expected each run once."
        )
    return files, found


def score_sequence_files(
    paths: str | Path | Sequence[str | Path],
    *,
    parse: ParseName = sequence_name,
    labels: Sequence[str] = tuple(SHORT_NAMES),
    group: str = "lighting",
    groups: Sequence[str] = tuple(SHORT_LIGHTINGS),
) -> SequenceScores:
    """Score the runs of one test set.

    Args:
        paths: one or several files, a folder of files, or patterns; every file is a run. JSON files of a folder or pattern that
            have no "results" (options, logs) are left out, and named in `ignored`.
        parse: what a sequence's name says.
        labels: the classes, in the order in which they are told. Files may spell them in any case, and expressions in any way that
            `labels.canonical` knows.
        group: key of what `parse` gives whose values are told beside the classes.
        groups: its values, in the order in which they are told; others that occur follow.

    Raises:
        InputError: no file, a file that is not laid out so, unknown labels, scores that are no numbers, names that say nothing,
            or runs that answer different sequences.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    folders = [str(one) for one in listed if Path(one).expanduser().is_dir()]
    if len(folders) > 1:
        raise InputError(
            f"{len(folders)} folders were given ({', '.join(folders[:3])}); their runs would be averaged as if they were of one "
            "model. Score each folder for itself: score_sequence_sets."
        )
    files, found = _files_of(listed)
    classes = {name.casefold(): name for name in labels}
    answers: list[dict[str, str]] = []
    used: list[Path] = []
    ignored: list[str] = []
    for file in files:
        parsed = _read_json(file)
        if file in found and not (isinstance(parsed, dict) and "results" in parsed):
            logger.warning('%s has no "results" and is left out.', file)
            ignored.append(file.name)
            continue
        results = _results(file, parsed)
        answers.append({name: _answer(own, classes, f"{file}, {name}") for name, own in results.items()})
        used.append(file)
    if not answers:
        raise InputError(f'None of {len(files)} files has "results"; expected files of one run each.')
    names = sorted(answers[0])
    for file, own in zip(used[1:], answers[1:], strict=True):
        differing = sorted(own.keys() ^ answers[0].keys())
        if differing:
            raise InputError(
                f"{file} and {used[0]} answer different sequences: {len(differing)} stand in one only, such as {differing[0]!r}. "
                "Expected runs of one test set. Score them apart."
            )
    said = {name: parse(name) for name in names}
    order = list(labels)
    truth = np.array([order.index(_class_of(said[name].get("emotion"), classes, name)) for name in names])
    predicted = np.array([[order.index(own[name]) for name in names] for own in answers])
    light = np.array([said[name].get(group, "") for name in names])
    return score_runs(truth, predicted, light, order, list(groups), tuple(file.name for file in used), tuple(ignored))


def score_sequence_sets(paths: Sequence[str | Path], *, parse: ParseName = sequence_name) -> dict[str, SequenceScores]:
    """Score several models at once: every folder is one, and single files and patterns together are another.

    Args:
        paths: folders, files, patterns.
        parse: as of `score_sequence_files`.

    Returns:
        Folder's name → scores, in the order given, "" for the rest; what `sequence_scores.table` prints. Folders of the same name
        are called by their paths.

    Raises:
        InputError: as of `score_sequence_files`, or nothing was given.
    """
    if not paths:
        raise InputError("No file or folder was given; expected prediction files of one run each, or their folder.")
    folders = [Path(one).expanduser() for one in paths if Path(one).expanduser().is_dir()]
    rest = [one for one in paths if not Path(one).expanduser().is_dir()]
    names = [one.resolve().name for one in folders]
    sets = {
        name if names.count(name) == 1 else str(folder): score_sequence_files(folder, parse=parse)
        for name, folder in zip(names, folders, strict=True)
    }
    return {**sets, "": score_sequence_files(rest, parse=parse)} if rest else sets


def write_sequence_file(
    file: Path, sequences: Sequence[str], names: Sequence[str], probabilities: NDArray[np.floating]
) -> None:
    """Write one run in the same layout, each list sorted by score.

    Args:
        file: where to.
        sequences: (n,) names, which should say the truth if the file is to be scored.
        names: class names in the order of the columns.
        probabilities: (n, classes).
    """
    results = {}
    for name, row in zip(sequences, probabilities, strict=True):
        best = np.argsort(-np.asarray(row), kind="stable")
        results[name] = [{"label": names[index], "score": float(row[index])} for index in best]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"results": results}), encoding="utf-8")
