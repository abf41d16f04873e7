"""Scores of prediction files of SEE's sequences, as baselines of event-based emotion recognition publish them: one file per run.

    {"results": {"1_001_man_24_Master_normal_angry_45_take000": [{"label": "angry", "score": 0.93}, …], …}}

A test set is run many times, each time with other clips of the same sequences. The truth, and the lighting that it was recorded
under, stand in the sequence's name. The answer is the label of the highest score, the first listed of equals; the list need be
neither sorted nor complete. Every figure is computed in every run and then averaged over the runs. `meco score` prints the row of
the published tables:

    Ha Sa An Di Su Fe Ne | Nor Over Low HDR | WAR UAR        ×100, one decimal

The expressions have their recall, the lightings their accuracy; WAR is accuracy, UAR the mean recall of the expressions that occur,
which is given for each lighting too, below the row. The standard deviation over the runs (n − 1) shows how much the choice of clips
matters; it says nothing about training again.
"""

import glob
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError, InputError
from ..labels import canonical_or_own
from ..reading import read_json
from .see import parse_sequence_name

logger = logging.getLogger(__name__)

SHORT_NAMES = {
    "happiness": "Ha",
    "sadness": "Sa",
    "anger": "An",
    "disgust": "Di",
    "surprise": "Su",
    "fear": "Fe",
    "neutral": "Ne",
}
"""Classes in the order in which the tables print them, and how they are headed."""

SHORT_LIGHTINGS = {"normal": "Nor", "Overexposed": "Over", "Low": "Low", "HDR": "HDR"}
"""Lightings in the order in which the tables print them, and how they are headed."""


@dataclass(frozen=True)
class SequenceScores:
    """Figures of the runs of one test set, all as shares of 1.

    Attributes:
        recall: class → (runs,) recall; NaN where no sequence is of it.
        lighting: lighting → (runs,) accuracy; NaN where no sequence has it.
        war, uar: (runs,).
        lighting_uar: lighting → (runs,) mean recall of the expressions that occur in it; NaN where no sequence has it.
        support: class or lighting → sequences.
        confusion: (classes, classes) counts summed over the runs, rows true, in the order of `recall`.
    """

    runs: tuple[str, ...]
    sequences: int
    recall: dict[str, NDArray[np.float64]]
    lighting: dict[str, NDArray[np.float64]]
    war: NDArray[np.float64]
    uar: NDArray[np.float64]
    support: dict[str, int]
    confusion: NDArray[np.int64]
    lighting_uar: dict[str, NDArray[np.float64]]
    ignored: tuple[str, ...] = ()

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Heading → (runs,) values, in the order of the tables."""
        return {
            **{SHORT_NAMES[name]: values for name, values in self.recall.items()},
            **{SHORT_LIGHTINGS[name]: values for name, values in self.lighting.items()},
            "WAR": self.war,
            "UAR": self.uar,
        }

    def to_dict(self) -> dict[str, Any]:
        """Means, standard deviations (n − 1; NaN for one run) and every run, as plain types."""

        def described(values: NDArray[np.float64]) -> dict[str, Any]:
            return {
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "runs": values.tolist(),
            }

        return {
            "schema": "meco_hub/sequence_scores",
            "schema_version": 1,
            "runs": list(self.runs),
            "sequences": self.sequences,
            "war": described(self.war),
            "uar": described(self.uar),
            "recall": {name: described(values) for name, values in self.recall.items()},
            "lighting": {name: described(values) for name, values in self.lighting.items()},
            "lighting_uar": {name: described(values) for name, values in self.lighting_uar.items()},
            "support": self.support,
            "confusion_matrix": {"labels": list(self.recall), "counts": self.confusion.tolist()},
            "ignored": list(self.ignored),
        }

    def __str__(self) -> str:
        """Heading, means and standard deviations over the runs, ×100, one decimal."""
        return table({"": self})


def table(sets: Mapping[str, SequenceScores]) -> str:
    """Rows of several test sets or models under one heading: means, and standard deviations over the runs, ×100, one decimal."""
    first = next(iter(sets.values()))
    headings = list(first.columns())
    bars = {len(first.recall), len(first.recall) + len(first.lighting)}
    width = max(4, *(len(name) + 5 for name in sets if name)) if any(sets) else 4

    def line(name: str, cells: Iterable[str]) -> str:
        parts = [("| " if index in bars else "") + f"{cell:>5}" for index, cell in enumerate(cells)]
        return f"{name:<{width}} " + " ".join(parts)

    def percent(value: float) -> str:
        return "–" if math.isnan(value) else f"{100 * value:.1f}"

    lines = [line("", headings)]
    for name, scores in sets.items():
        own = scores.columns()
        values = [own[heading] for heading in headings]
        lines.append(line(f"{name} mean".strip(), [percent(float(one.mean())) for one in values]))
        if len(scores.runs) > 1:
            lines.append(line(f"{name} sd".strip(), [percent(float(one.std(ddof=1))) for one in values]))
    for name, scores in sets.items():
        runs = "1 run" if len(scores.runs) == 1 else f"{len(scores.runs)} runs"
        each = [f"{SHORT_LIGHTINGS[one]} {percent(float(v.mean()))}" for one, v in scores.lighting_uar.items()]
        lights = f"; UAR by light: {', '.join(each)}" if each else ""
        lines.append(f"{name}: {runs} of {scores.sequences} sequences{lights}".removeprefix(": "))
    return "\n".join(lines)


def _score_runs(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    lightings: NDArray[np.str_],
    runs: tuple[str, ...],
    ignored: tuple[str, ...],
) -> SequenceScores:
    """Score (runs, n) predicted classes, as places in `SHORT_NAMES`, against the (n,) true ones."""
    hits, classes = predicted == truth, truth[:, None] == np.arange(len(SHORT_NAMES))

    def recalls(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(runs, classes); NaN for a class without a sequence among these rows."""
        own = classes & rows[:, None]
        with np.errstate(invalid="ignore"):
            return hits.astype(np.float64) @ own / own.sum(axis=0)

    def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.nansum(values, axis=1) / np.isfinite(values).sum(axis=1)

    under = {name: lightings == name for name in SHORT_LIGHTINGS}
    recall = recalls(np.ones(len(truth), bool))
    confusion = np.zeros((len(SHORT_NAMES), len(SHORT_NAMES)), np.int64)
    np.add.at(confusion, (np.broadcast_to(truth, predicted.shape), predicted), 1)
    return SequenceScores(
        runs=runs,
        sequences=len(truth),
        recall=dict(zip(SHORT_NAMES, recall.T, strict=True)),
        lighting={
            name: hits[:, own].mean(axis=1) if own.any() else np.full(len(hits), np.nan) for name, own in under.items()
        },
        war=hits.mean(axis=1),
        uar=mean_of_known(recall),
        support={
            **dict(zip(SHORT_NAMES, classes.sum(axis=0).tolist(), strict=True)),
            **{name: int(own.sum()) for name, own in under.items()},
        },
        confusion=confusion,
        lighting_uar={name: mean_of_known(recalls(own)) for name, own in under.items()},
        ignored=ignored,
    )


def _read_json(file: Path) -> Any:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """A JSON object, refusing the key that stands in it twice: json would silently keep the last."""
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise InputError(
                    f"{file}: {name!r} stands twice in one object. Expected each once. Remove one of them."
                )
        return dict(pairs)

    return read_json(file, InputError, "Copy it again from its source.", object_pairs_hook=without_duplicates)


def _class_of(label: Any, where: str) -> str:
    """The class that a spelling means."""
    if not isinstance(label, str):
        raise InputError(f"{where}: the label is {label!r}; expected the name of a class.")
    name = canonical_or_own(label)
    if name not in SHORT_NAMES:
        raise InputError(f"{where}: the label {label!r} is none of {', '.join(SHORT_NAMES)}. Correct the file.")
    return name


def _answer(entries: Any, where: str) -> str:
    """The class of the highest score, the first listed of equals."""
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{where} is {str(entries)[:80]}; expected a list of {{"label", "score"}}, one per class.')
    best, best_score = "", -math.inf
    seen: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "label" not in entry or "score" not in entry:
            raise InputError(f'{where} has the entry {str(entry)[:80]}; expected an object of "label" and "score".')
        name, score = _class_of(entry["label"], where), entry["score"]
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


def score_sequence_files(paths: str | Path | Sequence[str | Path]) -> SequenceScores:
    """Score the runs of one test set.

    Args:
        paths: one or several files, a folder of files, or patterns; every file is a run. JSON files of a folder or pattern that
            have no "results" (options, logs) are left out, and named in `ignored`.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    folders = [str(one) for one in listed if Path(one).expanduser().is_dir()]
    if len(folders) > 1:
        raise InputError(
            f"{len(folders)} folders were given ({', '.join(folders[:3])}); their runs would be averaged as if they were of one "
            "model. Score each folder for itself: score_sequence_sets."
        )
    files, found = _files_of(listed)
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
        answers.append({name: _answer(own, f"{file}, {name}") for name, own in results.items()})
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
    try:
        said = {name: parse_sequence_name(name) for name in names}
    except CorpusError as error:
        raise InputError(str(error)) from error
    place = {name: index for index, name in enumerate(SHORT_NAMES)}
    truth = np.array([place[_class_of(said[name]["emotion"], name)] for name in names])
    predicted = np.array([[place[own[name]] for name in names] for own in answers])
    lightings = np.array([said[name]["lighting"] for name in names])
    return _score_runs(truth, predicted, lightings, tuple(file.name for file in used), tuple(ignored))


def score_sequence_sets(paths: Sequence[str | Path]) -> dict[str, SequenceScores]:
    """Score several models at once: every folder is one, and single files and patterns together are another.

    Returns:
        Folder's name → scores, in the order given, "" for the rest; what `table` prints. Folders of the same name
        are called by their paths.
    """
    if not paths:
        raise InputError("No file or folder was given; expected prediction files of one run each, or their folder.")
    folders = [Path(one).expanduser() for one in paths if Path(one).expanduser().is_dir()]
    rest = [one for one in paths if not Path(one).expanduser().is_dir()]
    names = [one.resolve().name for one in folders]
    sets = {
        name if names.count(name) == 1 else str(folder): score_sequence_files(folder)
        for name, folder in zip(names, folders, strict=True)
    }
    return {**sets, "": score_sequence_files(rest)} if rest else sets
