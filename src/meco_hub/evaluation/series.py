"""Predicted values beside what people rated: windows laid onto one line of time, then scored at every level.

Answers of overlapping windows are laid onto one line of time, and read off at the times of the ratings.

Where windows overlap, their answers are averaged; between the times of the line, values are interpolated linearly; before its first
and after its last time the nearest value holds, because nothing else is known there. Where the grids coincide nothing is
interpolated: what comes out are the very values that went in, or their mean.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answers import Calibration, Task, read_off, stitch
from ..corpora import Corpus
from ..errors import CorpusError, InputError
from ..recordings.signal_recording import SignalRecording
from .intervals import Intervals, group_metrics, mean_intervals, value_groups, value_intervals
from .metrics import Floats, Ints, RegressionMetrics, average, mean_known, per_subject, regression_metrics, rows_by
from .predict import Predictions, RecordingRows, RowAnswer
from .task import LabelledSubset

# --- Levels -----------------------------------------------------------------------------------------------------------
# Metrics of values at their levels: windows, trials, whole recordings; pooled, and per subject, then averaged.
#
# There are two kinds of truth. A **trial** has one value per target, and its windows are averaged before they are compared;
# that is the headline, pooled over trials, and the windows alone stand beside it. A **recording over time** has a series per
# target. Its RMSE and MAE are what challenges on such data count: of every recording on its scored seconds, averaged over
# recordings (within every fold, where there are folds, and then over folds), and then over targets. Its PCC and CCC are
# taken over all scored moments together, because ratings often rest throughout a recording; the means over recordings stand
# beside them.

_EDGE_S = 1e-6
"""Seconds by which times at the edge of the scored part may be off through rounding."""


@dataclass(frozen=True)
class ValueScores:
    """Everything that a report says of predicted values.

    Attributes:
        metrics: the headline: "n", "rmse", "rmse_<target>", "mae", …, "ccc_<target>".
        levels: "trial", "window" or "recording", "moment" → aggregation ("pooled", "per_subject", …) → metrics.
    """

    names: tuple[str, ...]
    metrics: dict[str, float]
    headline: str
    levels: dict[str, dict[str, Any]]
    intervals: Intervals
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)


def _level(truth: Floats, predictions: Floats, names: Sequence[str], subjects: Sequence[str]) -> dict[str, Any]:
    averaged = per_subject(subjects, truth, predictions, names) if subjects else None
    return {
        "pooled": regression_metrics(truth, predictions, names).to_dict(),
        "per_subject": averaged.to_dict() if averaged else None,
    }


def trial_keys(rows: int, subjects: Sequence[str], trials: Sequence[str]) -> list[Hashable]:
    """What counts once: a trial of a subject, or else the row."""
    return [(subjects[row] if subjects else "", trials[row]) if trials and trials[row] else row for row in range(rows)]


def _join_trials(
    keys: Sequence[Hashable], truth: Floats, windows: Sequence[Floats], shares: Sequence[Floats] = ()
) -> tuple[list[int], Floats, Floats]:
    """Rows joined to trials: first row, mean truth and mean prediction of each."""
    weights = shares or [np.ones(len(one)) for one in windows]
    joined = list(rows_by(keys).values())
    mean_truth = np.array([mean_known(truth[own]) for own in joined])
    predictions = np.array(
        [
            np.average(
                np.concatenate([windows[row] for row in own]),
                axis=0,
                weights=np.concatenate([weights[row] for row in own]),
            )
            for own in joined
        ],
        dtype=np.float64,
    )
    return [own[0] for own in joined], mean_truth, predictions


def score_trials(
    truth: Floats,
    windows: Sequence[Floats],
    names: Sequence[str],
    subjects: Sequence[str] = (),
    *,
    trials: Sequence[str] = (),
    shares: Sequence[Floats] = (),
    references: Mapping[str, Floats] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> ValueScores:
    """Score values of which each trial has one per target.

    Args:
        truth: (n, targets) native values of the rows, NaN where unknown.
        windows: for each row (windows, targets) native predictions; a row that was not cut has one window.
        subjects: (n,) subjects, "" where unknown; intervals and `per_subject` need them.
        trials: (n,) trial of each row, where several rows are parts of one; "" and none at all: a row is a trial of its own.
            The same name with another subject is another trial.
        shares: for each row (windows,) how much of each window is answered; none: all of each.
        references: name → (n, targets) native predictions of every row, scored like the model's.
        groups: column → (n,) value of each row; metrics are pooled over trials, each under its first row's value.
    """
    truth = np.asarray(truth, np.float64)
    _check_rows(len(truth), {"predictions": windows, "subjects": subjects, "trials": trials})
    if len(truth) == 0 or np.isnan(truth).all():
        raise InputError("There is no true value to compare with. Check the split and the folds.")
    if any(one.ndim != 2 or one.shape[1] != len(names) or not len(one) for one in windows):
        raise InputError(f"Every row needs predictions of shape (windows, {len(names)}), with one window at least.")
    keys = trial_keys(len(truth), subjects, trials)
    first, true, answered = _join_trials(keys, truth, windows, shares)
    people = [subjects[row] for row in first] if subjects else []
    owners = np.repeat(np.arange(len(truth)), [len(one) for one in windows])
    pooled = regression_metrics(true, answered, names)
    scored_references = {}
    for name, values in (references or {}).items():
        _check_rows(len(truth), {f"reference {name!r}": values})
        own = _join_trials(keys, truth, [np.asarray(row, np.float64)[None] for row in values])
        scored_references[name] = regression_metrics(*own[1:], names).flat()
    columns = {column: [values[row] for row in first] for column, values in (groups or {}).items()}
    return ValueScores(
        names=tuple(names),
        metrics={"n": pooled.n, **pooled.flat()},
        headline="pooled over trials: the windows of a trial are averaged, figures are over all trials, then over targets",
        levels={
            "trial": _level(true, answered, names, people),
            "window": _level(
                truth[owners],
                np.concatenate([np.asarray(one, np.float64) for one in windows]),
                names,
                [subjects[row] for row in owners.tolist()] if subjects else [],
            ),
        },
        intervals=value_intervals(true, answered, names, people),
        references=scored_references,
        groups=value_groups(columns, true, answered, names, people) if columns else {},
    )


@dataclass(frozen=True)
class TimeSeries:
    """Truth and prediction of one recording on one time grid.

    Attributes:
        times: (moments,) seconds since the recording began.
        truth: (moments, targets) native values, NaN where unknown.
        predictions: (moments, targets) native values.
    """

    times: Floats
    truth: Floats
    predictions: Floats

    def between(self, scored_seconds: tuple[float, float] | None) -> "TimeSeries":
        """The moments with start ≤ time ≤ end; all of them for None."""
        if scored_seconds is None:
            return self
        start, end = scored_seconds
        inside = (self.times >= start - _EDGE_S) & (self.times <= end + _EDGE_S)
        return TimeSeries(self.times[inside], self.truth[inside], self.predictions[inside])


def _official(
    each: Sequence[RegressionMetrics], pooled: RegressionMetrics, names: Sequence[str], folds: Sequence[int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """The headline metrics, and the means over recordings that they are made from."""
    overall = average(each, names, "recording")
    mean, described = overall.mean, {"mean": overall.to_dict()}
    if len(set(folds)) > 1:
        by_fold = {
            fold: average([one for one, own in zip(each, folds, strict=True) if own == fold], names, "recording")
            for fold in sorted(set(folds))
        }
        used = [one for one in by_fold.values() if one.units]
        mean = {key: float(np.nanmean([one.mean[key] for one in used])) for key in mean}
        described |= {"folds": {str(fold): one.to_dict() for fold, one in by_fold.items()}, "mean_over_folds": mean}
    headline = {key: pooled.flat()[key] if _is_relation(key) else mean[key] for key in mean}
    return headline | {_within(key): mean[key] for key in mean if _within(key)}, described


def _within(key: str) -> str:
    """ "ccc_within_recording" for "ccc", with the target behind it for "ccc_<target>"; "" for other metrics."""
    stem, _, target = key.partition("_")
    return "_".join(filter(None, ("ccc_within_recording", target))) if stem == "ccc" else ""


def _is_relation(key: str) -> bool:
    """Of PCC and CCC, which need spread: ratings often rest throughout a recording, so they are taken over all moments."""
    return key.split("_")[0] in ("pcc", "ccc")


def _pool(parts: Sequence[TimeSeries], names: Sequence[str]) -> RegressionMetrics:
    return regression_metrics(
        np.concatenate([one.truth for one in parts]), np.concatenate([one.predictions for one in parts]), names
    )


def score_series(
    series: Sequence[TimeSeries],
    names: Sequence[str],
    subjects: Sequence[str] = (),
    *,
    scored_seconds: tuple[float, float] | None = None,
    folds: Sequence[int] = (),
    references: Mapping[str, Sequence[Floats]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> ValueScores:
    """Score values that run over time.

    Args:
        scored_seconds: start and end, both counted, of the part that the metric is about; None: all of it.
        folds: fold of each recording; means are taken within folds first. None given: over all recordings at once.
        references: name → for every recording (moments, targets) on the grid of its series, or (targets,) that hold throughout.
        groups: column → value of each recording; metrics are means over recordings.
    """
    _check_rows(len(series), {"subjects": subjects, "folds": folds})
    parts = [one.between(scored_seconds) for one in series]
    each = [regression_metrics(one.truth, one.predictions, names) for one in parts]
    if not any(one.n for one in each):
        part = f" between {scored_seconds[0]:g} and {scored_seconds[1]:g} s" if scored_seconds else ""
        raise InputError(f"None of {len(series)} recordings has a true value{part}. Check annotations and clocks.")
    official, described = _official(each, _pool(parts, names), names, folds)
    used = [index for index, one in enumerate(each) if one.n]
    truth = np.concatenate([np.asarray(one.truth, np.float64) for one in parts])
    predictions = np.concatenate([np.asarray(one.predictions, np.float64) for one in parts])
    owners = np.repeat(np.arange(len(parts)), [len(one.times) for one in parts])
    part = f"on seconds {scored_seconds[0]:g} to {scored_seconds[1]:g} of each" if scored_seconds else "of each"
    within = "recordings of a fold, then over folds" if len(set(folds)) > 1 else "recordings"

    def score_group(rows: Ints) -> dict[str, Any]:
        own = [parts[row] for row in rows]
        return _official([each[row] for row in rows], _pool(own, names), names, ())[0]

    def score_reference(name: str, values: Sequence[Floats]) -> dict[str, float]:
        _check_rows(len(series), {f"reference {name!r}": values})
        lines = []
        for line, own in zip(series, values, strict=True):
            predictions = np.broadcast_to(np.asarray(own, np.float64), np.shape(line.truth))
            lines.append(TimeSeries(line.times, line.truth, predictions).between(scored_seconds))
        scored = [regression_metrics(one.truth, one.predictions, names) for one in lines]
        return _official(scored, _pool(lines, names), names, folds)[0]

    # moments of a recording stay together, whoever's it is
    people = [subjects[index] if subjects else "" for index in range(len(parts))]
    units = [subject or f"\0{index}" for index, subject in enumerate(people)]
    means = mean_intervals([each[index].flat() for index in used], [people[index] for index in used])
    pooled = value_intervals(truth, predictions, names, [units[int(row)] for row in owners])
    bounds = {key: pooled.bounds[key] if _is_relation(key) else own for key, own in means.bounds.items()}
    bounds |= {_within(key): own for key, own in means.bounds.items() if _within(key)}
    return ValueScores(
        names=tuple(names),
        metrics={"n": len(used), **official},
        headline=f"rmse and mae: {part}, averaged over {within}; pcc and ccc: over all these moments of all recordings; "
        "then over targets; ccc_within_recording: the mean of every recording's own",
        levels={
            "recording": described,
            "moment": _level(truth, predictions, names, [people[int(row)] for row in owners] if subjects else []),
        },
        intervals=replace(means, bounds=bounds),
        references={name: score_reference(name, values) for name, values in (references or {}).items()},
        groups=group_metrics(groups, len(series), score_group, minimum=2) if groups else {},
    )


def _check_rows(rows: int, given: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    """Optional sequences may be empty; any other must have one entry per row."""
    for name, values in given.items():
        if len(values) not in (0, rows) or (name == "predictions" and len(values) != rows):
            raise InputError(f"There are {rows} rows and {len(values)} {name}; expected as many.")


# --- Alignment --------------------------------------------------------------------------------------------------------
# Answers in values beside what people rated, in native units.
#
# Where ratings run over time, the answers of overlapping clips are stitched onto one line and read off at the times of the
# ratings. Where a recording has one rating, its clips are compared with it, one by one and averaged.


@dataclass(frozen=True)
class AlignedPredictions:
    """Answers and ratings of the recordings that were answered; either series, or truth and windows.

    Attributes:
        series: one for each recording whose ratings run over time; empty otherwise.
        truth: (n, targets) ratings of whole recordings.
        windows: for each recording (clips, targets) answers.
        shares: for each recording (clips,) how much of each clip is answered, from 0 to 1: the last one may reach behind the
            recording's end. None where all are answered whole.
    """

    series: list[TimeSeries]
    truth: Floats
    windows: list[Floats]
    shares: list[Floats] = field(default_factory=list)

    def answers(self) -> Floats:
        """(n, targets) one answer for each recording without ratings over time: every moment of its clips counts alike."""
        shares = self.shares or [None] * len(self.windows)
        return np.stack([np.average(one, axis=0, weights=own) for one, own in zip(self.windows, shares, strict=True)])


def _ratings(recording: SignalRecording, name: str, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """(times since the recording began, (moments, targets) ratings)."""
    missing = [target for target in names if target not in recording.annotations]
    if missing:
        raise CorpusError(
            f"{name} has no ratings of {', '.join(missing)}; it has {', '.join(recording.annotations) or 'none'}."
        )
    times = recording.annotations[names[0]].times
    columns = [
        read_off(recording.annotations[target].times, recording.annotations[target].values, times)[:, 0]
        for target in names
    ]
    return times, np.stack(columns, axis=1)


def mean_ratings(
    recording: SignalRecording, names: tuple[str, ...], scored_seconds: tuple[float, float] | None
) -> Floats:
    """(targets,) mean of the ratings of a recording on its scored seconds; NaN where there are none."""
    times, truth = _ratings(recording, recording.name, names)
    return mean_known(TimeSeries(times - recording.start, truth, truth).between(scored_seconds).truth)


def _over_time(answer: RowAnswer, times: Floats, task: Task) -> Floats:
    """(moments, targets) native values; a model that answers once per clip holds its answer at the clip's middle."""
    if answer.times is not None:
        known, values = stitch(answer.times, answer.outputs)
    else:
        known, values = stitch(answer.middles[:, None], answer.outputs.reshape(len(answer.outputs), 1, -1))
    return task.native(read_off(known, values, times))


def align_predictions(
    predictions: Predictions,
    rows: RecordingRows,
    side: LabelledSubset,
    corpus: Corpus,
    task: Task,
    calibration: Calibration | None = None,
) -> AlignedPredictions:
    """Lay answers beside ratings."""

    def corrected(values: Floats) -> Floats:
        return values if calibration is None else calibration.apply(values)

    series, windows, shares = [], [], []
    for row, answer in zip(predictions.positions.tolist(), predictions.answers, strict=True):
        if corpus.time_continuous:
            recording = rows[row]
            times, truth = _ratings(recording, rows.sample_ids[row], task.names)
            series.append(TimeSeries(times - recording.start, truth, corrected(_over_time(answer, times, task))))
        else:
            steps = answer.outputs.reshape(len(answer.outputs), -1, len(task.names))
            known = np.ones(steps.shape[:2]) if answer.times is None else np.isfinite(answer.times)
            values = np.stack([own[there > 0].mean(axis=0) for own, there in zip(steps, known, strict=True)])
            windows.append(corrected(task.native(values)))
            shares.append(known.mean(axis=1))
    truth = np.asarray(side.labels[predictions.positions], np.float64)
    return AlignedPredictions(series, truth, windows, [] if all((one == 1).all() for one in shares) else shares)


def score_answers(
    aligned: AlignedPredictions,
    corpus: Corpus,
    task: Task,
    columns: Mapping[str, Sequence[str]],
    *,
    folds: Sequence[int] = (),
    references: Mapping[str, Sequence[Floats]] | None = None,
) -> ValueScores:
    """All that a report says of values."""
    people = columns.get("identity", ())
    groups = {name: columns[name] for name in corpus.groups if name in columns}
    if aligned.series:
        common: dict[str, Any] = {"scored_seconds": corpus.scored_seconds, "folds": folds, "groups": groups}
        return score_series(aligned.series, task.names, people, references=references, **common)
    known = {name: np.stack(list(values)) for name, values in (references or {}).items()}
    common = {"trials": columns.get("trial", ()), "references": known, "groups": groups}
    return score_trials(aligned.truth, aligned.windows, task.names, people, shares=aligned.shares, **common)


@dataclass(frozen=True)
class ValueMetrics:
    """The headline metrics of answers in values, means over the targets; what training selects by.

    Attributes:
        n: recordings.
        rmse, mae: where ratings run over time, of each recording on its scored seconds, then averaged; else over recordings.
        ccc, pcc: over all moments of all recordings; else over recordings.
    """

    n: int
    rmse: float
    mae: float
    ccc: float
    pcc: float


def scored_moments(aligned: AlignedPredictions, scored_seconds: tuple[float, float] | None) -> tuple[Floats, Floats]:
    """(n, targets) answers and (n, targets) truth to calibrate on: the moments that count, or of trials one answer each."""
    parts = [one.between(scored_seconds) for one in aligned.series]
    answers = [one.predictions for one in parts] or [aligned.answers()]
    return np.concatenate(answers), np.concatenate([one.truth for one in parts] or [aligned.truth])


def summarise(aligned: AlignedPredictions, corpus: Corpus, names: Sequence[str]) -> ValueMetrics:
    """The headline metrics, without intervals and levels."""
    if not aligned.series:
        pooled = regression_metrics(aligned.truth, aligned.answers(), names)
        return ValueMetrics(len(aligned.windows), *(pooled.mean(name) for name in ("rmse", "mae", "ccc", "pcc")))
    parts = [one.between(corpus.scored_seconds) for one in aligned.series]
    each = average([regression_metrics(one.truth, one.predictions, names) for one in parts], names, "recording")
    pooled = _pool(parts, names)
    return ValueMetrics(len(parts), each.mean["rmse"], each.mean["mae"], pooled.mean("ccc"), pooled.mean("pcc"))
