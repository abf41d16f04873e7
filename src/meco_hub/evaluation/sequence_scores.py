"""Figures of many runs of one test set, and the row that they print.

    Ha Sa An Di Su Fe Ne | Nor Over Low HDR | WAR UAR        ×100, one decimal

The expressions have their recall, the lights their accuracy; WAR is accuracy, UAR the mean recall of the expressions that occur,
which is told for each light too, below the row. A figure is computed in every run and then averaged over them; the standard
deviation over the runs (n − 1) tells how much the choice of clips matters, and nothing about training again.
"""

import glob
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..corpora.see import parse_sequence_name
from ..errors import ConfigurationError, CorpusError, InputError, UnknownNameError
from ..labels import canonical
from ..processing.eye_preprocessor import ClipSampling
from .metrics import softmax
from .predict import Condition, Predictions, RecordingRows, predict_rows

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
"""Lights in the order in which the tables print them, and how they are headed."""


@dataclass(frozen=True)
class SequenceScores:
    """Figures of the runs of one test set, all as shares of 1.

    Attributes:
        runs: names of the files, in order.
        sequences: how many each run answers.
        recall: class → (runs,) recall; NaN where no sequence is of it.
        lighting: light → (runs,) accuracy; NaN where no sequence has it.
        war, uar: (runs,).
        lighting_uar: light → (runs,) mean recall of the expressions that occur in it; NaN where no sequence has it.
        support: class or light → sequences.
        confusion: (classes, classes) counts summed over the runs, rows true, in the order of `recall`.
        ignored: files of the folder that hold no predictions.
    """

    runs: tuple[str, ...]
    sequences: int
    recall: dict[str, NDArray[np.float64]]
    lighting: dict[str, NDArray[np.float64]]
    war: NDArray[np.float64]
    uar: NDArray[np.float64]
    support: dict[str, int]
    confusion: NDArray[np.int64]
    lighting_uar: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Heading → (runs,) values, in the order of the tables."""
        return {
            **{SHORT_NAMES.get(name, name): values for name, values in self.recall.items()},
            **{SHORT_LIGHTINGS.get(name, name): values for name, values in self.lighting.items()},
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
    """Rows of several test sets or models under one heading: means, and standard deviations over the runs, ×100, one decimal.

    Args:
        sets: what a row is called → its scores; they are told in the columns of the first.
    """
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
        values = [own.get(heading, np.full(len(scores.runs), np.nan)) for heading in headings]
        lines.append(line(f"{name} mean".strip(), [percent(float(one.mean())) for one in values]))
        if len(scores.runs) > 1:
            lines.append(line(f"{name} sd".strip(), [percent(float(one.std(ddof=1))) for one in values]))
    for name, scores in sets.items():
        runs = "1 run" if len(scores.runs) == 1 else f"{len(scores.runs)} runs"
        each = [f"{SHORT_LIGHTINGS.get(one, one)} {percent(float(v.mean()))}" for one, v in scores.lighting_uar.items()]
        lights = f"; UAR by light: {', '.join(each)}" if each else ""
        lines.append(f"{name}: {runs} of {scores.sequences} sequences{lights}".removeprefix(": "))
    return "\n".join(lines)


def score_runs(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    light: NDArray[np.str_],
    order: Sequence[str],
    groups: Sequence[str],
    runs: tuple[str, ...],
    ignored: tuple[str, ...] = (),
) -> SequenceScores:
    """Score runs over the same sequences.

    Args:
        truth: (n,) class indices into `order`.
        predicted: (runs, n) class indices.
        light: (n,) value of the group; "" where unknown.
        order: classes, in the order in which they are told.
        groups: values of the group that are told, in order; others that occur follow.
        runs: names of the runs.
        ignored: names of files that hold none.
    """
    hits = predicted == truth

    def share(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        return hits[:, rows].mean(axis=1) if rows.any() else np.full(len(hits), np.nan)

    lights = [*groups, *sorted(set(light.tolist()) - set(groups) - {""})]
    recall = {name: share(truth == index) for index, name in enumerate(order)}
    present = np.stack([values for values in recall.values() if not np.isnan(values).any()])
    lighting = {
        name: share(light == name)
        for name in lights
        if (light == name).any() or (name in groups and (light != "").any())
    }
    lighting_uar = {
        name: np.mean(
            [share(own) for index in range(len(order)) if (own := (light == name) & (truth == index)).any()], axis=0
        )
        if (light == name).any()
        else np.full(len(hits), np.nan)
        for name in lighting
    }
    confusion = np.zeros((len(order), len(order)), np.int64)
    np.add.at(confusion, (np.broadcast_to(truth, predicted.shape), predicted), 1)
    return SequenceScores(
        runs=runs,
        sequences=len(truth),
        recall=recall,
        lighting=lighting,
        war=hits.mean(axis=1),
        uar=present.mean(axis=0),
        support={
            **{name: int((truth == index).sum()) for index, name in enumerate(order)},
            **{name: int((light == name).sum()) for name in lighting},
        },
        confusion=confusion,
        lighting_uar=lighting_uar,
        ignored=ignored,
    )


# --- Sequence files ---------------------------------------------------------------------------------------------------
# Predictions of whole sequences in files of one run each, as baselines of event-based emotion recognition publish them.
#
#     {"results": {"1_001_man_24_Master_normal_angry_45_take000": [{"label": "angry", "score": 0.93}, …], …}}
#
# A test set is run many times, each run with other clips of the same sequences, and figures are averaged over the runs. The
# truth, and the light that it was recorded under, stand in the sequence's name. The answer is the label of the highest
# score, the first listed of equals; the list need be neither sorted nor complete.
#
#     print(score_sequence_files("results/E4_S3"))                   a folder of 20 files, and the row that the table prints

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


# --- Clip runs --------------------------------------------------------------------------------------------------------
# The same test set many times, each time with other clips of its recordings: what a figure owes to the choice of clips.
#
# A model that sees four frames of a sequence answers otherwise for four others. Baselines of event-based emotion
# recognition therefore run their test set 20 times with random starts, and average the figures over the runs. So does this:
# for every recording, run r draws from a generator seeded with (seed, r, sample_id), so that clips depend neither on the
# order nor on what shares a batch.
#
#     runs = predict_runs(model, processor, rows, runs=20)
#     scores = score_sequence_files(write_runs(folder, runs, names))
#
# Recordings are decoded once for all runs, where they fit into memory.

RUNS = 20
"""Runs of the published protocol."""


def sample_clips(sampling: ClipSampling, run: int, seed: int = 0, before: Condition | None = None) -> Condition:
    """The condition under which every recording shows the clip that one run draws.

    Args:
        sampling: the rule.
        run: number of the run; another one draws other clips.
        seed: of all runs.
        before: a condition that is applied first (darkness, a missing stream).
    """

    def condition(recording: Any, sample_id: str) -> Any:
        changed = recording if before is None else before(recording, sample_id)
        digest = hashlib.sha256(f"{seed}/{run}/{sample_id}".encode()).digest()
        return sampling(changed, np.random.default_rng(np.frombuffer(digest, np.uint32)))

    return condition


def check_runs(processor: Any, runs: int, sampling: ClipSampling | None = None) -> ClipSampling:
    """The rule by which runs draw: `sampling`, or the processor's own.

    Raises:
        ConfigurationError: there is none, or `runs` is no positive number.
    """
    rule = sampling if sampling is not None else getattr(processor, "clip_sampling", None)
    if rule is None:
        raise ConfigurationError(
            f"{type(processor).__name__} has no clip_sampling, so every run would be the same. Evaluate once, or pass sampling=."
        )
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ConfigurationError(f"runs is {runs!r}; expected a whole number from 1 on.")
    return rule


def predict_runs(
    model: PreTrainedModel,
    processor: Any,
    rows: RecordingRows,
    *,
    runs: int = RUNS,
    seed: int = 0,
    chosen: Sequence[int] | None = None,
    condition: Condition | None = None,
    sampling: ClipSampling | None = None,
    batch_size: int = 32,
    cache_gb: float = 4.0,
    progress: bool = True,
) -> list[Predictions]:
    """Answer for every row, `runs` times.

    Args:
        model: a head of classes.
        processor: the checkpoint's processor; its `clip_sampling` says how clips are drawn.
        rows: the recordings.
        runs: how often.
        seed: another seed, other clips.
        chosen: row numbers; all of them when None.
        condition: what happens to a recording before a clip of it is drawn.
        sampling: draws clips by another rule than the processor's own.
        batch_size: clips per forward pass.
        cache_gb: memory for decoded recordings; when they need more, they are decoded in every run.
        progress: show progress bars.

    Raises:
        ConfigurationError: the processor draws no clips, or `runs` is no positive number.
        InputError: not one row can be used.
    """
    rule = check_runs(processor, runs, sampling)
    wanted = list(range(len(rows))) if chosen is None else list(chosen)
    readable = set(rows.survey(int(cache_gb * 1e9), progress, "test samples")) if runs > 1 else set(wanted)
    wanted = [row for row in wanted if row in readable]
    show = progress and PartialState().is_local_main_process
    found = []
    for run in range(runs):
        if show:
            logger.info("Run %d of %d.", run + 1, runs)
        found.append(
            predict_rows(
                model,
                processor,
                rows,
                chosen=wanted,
                batch_size=batch_size,
                condition=sample_clips(rule, run, seed, condition),
                progress=progress,
            )
        )
    return found


def describe_runs(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean and standard deviation (n − 1) over runs of every figure that all of them have; of the choice of clips, not of seeds."""
    keys = [key for key in figures[0] if all(one.get(key) is not None for one in figures)]
    values = {key: np.asarray([one[key] for one in figures], np.float64) for key in keys}
    return {
        "count": len(figures),
        "mean": {key: float(column.mean()) for key, column in values.items()},
        "sd": {key: float(column.std(ddof=1)) if len(column) > 1 else None for key, column in values.items()},
    }


def write_runs(folder: str | Path, runs: Sequence[Predictions], names: Sequence[str]) -> list[Path]:
    """Write each run as a file `run_00.json` … that `score_sequence_files` reads.

    Args:
        folder: where to; files of former runs in it are replaced, and others of that name are removed.
        runs: what `predict_runs` gave.
        names: class names in the order of the logits.

    Returns:
        The files, in the order of the runs.
    """
    place = Path(folder)
    for stale in place.glob("run_*.json"):
        stale.unlink()  # a former evaluation of more runs would be averaged in
    files = []
    for number, predictions in enumerate(runs):
        files.append(place / f"run_{number:02d}.json")
        write_sequence_file(files[-1], predictions.sample_ids, names, softmax(predictions.class_scores()))
    return files
