"""Values at their levels: windows, trials, whole recordings; pooled, and per person, then averaged.

Two kinds of truth. A **trial** has one value per target, and its windows are averaged before they are compared; that is the
headline, pooled over trials, and the windows alone are told beside it. A **recording over time** has a course per target; its RMSE
and MAE are what challenges on such data count, the figure of every recording on its scored seconds, averaged over recordings
(within every fold, where there are folds, and then over folds), and then over targets. Its PCC and CCC are taken over all scored
moments together, because ratings often rest throughout a recording; the means over recordings are told beside them.

This file knows which values are compared with which; the figures are in `regression.py`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bootstrap import Intervals, bootstrap_means, bootstrap_values
from .groups import group_figures, value_groups
from .regression import RegressionFigures, average, per_subject, regression_figures

_EDGE_S = 1e-6
"""Seconds by which times at the edge of the scored part may be off through rounding."""


@dataclass(frozen=True)
class ValueScores:
    """Everything that is said of predicted values.

    Attributes:
        names: target names in order.
        metrics: the headline: "n", "rmse", "rmse_<target>", "mae", …, "ccc_<target>".
        headline: in words, how `metrics` came about.
        levels: "trial", "window" or "recording", "moment" → aggregation ("pooled", "per_subject", …) → figures.
        intervals: of the headline.
        references: name → headline figures of a predictor that is no model.
        groups: as of `groups.group_figures`.
    """

    names: tuple[str, ...]
    metrics: dict[str, float]
    headline: str
    levels: dict[str, dict[str, Any]]
    intervals: Intervals
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)


def _level(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], names: Sequence[str], subjects: Sequence[str]
) -> dict[str, Any]:
    persons = per_subject(subjects, truth, predictions, names) if subjects else None
    return {
        "pooled": regression_figures(truth, predictions, names).to_dict(),
        "per_subject": persons.to_dict() if persons else None,
    }


@dataclass(frozen=True)
class _Trials:
    """Rows joined to trials: first row, mean truth and mean prediction of each."""

    first: list[int]
    truth: NDArray[np.float64]
    predictions: NDArray[np.float64]


def _join_trials(
    keys: Sequence[Hashable], truth: NDArray[np.float64], windows: Sequence[NDArray[np.floating]]
) -> _Trials:
    rows: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        rows.setdefault(key, []).append(index)
    joined = list(rows.values())
    known = ~np.isnan(truth)
    with np.errstate(invalid="ignore"):
        mean_truth = np.array(
            [np.where(known[own], truth[own], 0.0).sum(axis=0) / known[own].sum(axis=0) for own in joined]
        )
    predictions = np.array(
        [np.concatenate([windows[row] for row in own]).mean(axis=0) for own in joined], dtype=np.float64
    )
    return _Trials([own[0] for own in joined], mean_truth, predictions)


def score_trials(
    truth: NDArray[np.floating],
    windows: Sequence[NDArray[np.floating]],
    names: Sequence[str],
    subjects: Sequence[str] = (),
    *,
    trials: Sequence[str] = (),
    references: Mapping[str, NDArray[np.floating]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ValueScores:
    """Score values of which each trial has one per target.

    Args:
        truth: (n, targets) native values of the rows, NaN where unknown.
        windows: for each row (windows, targets) native predictions; a row that was not cut has one window.
        names: target names in order.
        subjects: (n,) persons, "" where unknown; intervals and `per_subject` need them.
        trials: (n,) trial of each row, where several rows are parts of one; "" and none at all: a row is a trial of its own.
            The same name with another person is another trial.
        references: name → (n, targets) native predictions of every row, scored like the model's.
        groups: column → (n,) value of each row; figures are pooled over trials, each under its first row's value.
        resamples, seed: of the intervals.

    Raises:
        InputError: lengths or shapes that do not fit, nothing to score, or predictions that are not finite.
    """
    truth = np.asarray(truth, np.float64)
    _check_rows(len(truth), {"predictions": windows, "subjects": subjects, "trials": trials})
    if len(truth) == 0 or np.isnan(truth).all():
        raise InputError("There is no true value to compare with. Check the split and the folds.")
    if any(one.ndim != 2 or one.shape[1] != len(names) or not len(one) for one in windows):
        raise InputError(f"Every row needs predictions of shape (windows, {len(names)}), with one window at least.")
    keys: list[Hashable] = [
        (subjects[row] if subjects else "", trials[row]) if trials and trials[row] else row for row in range(len(truth))
    ]
    joined = _join_trials(keys, truth, windows)
    people = [subjects[row] for row in joined.first] if subjects else []
    owners = np.repeat(np.arange(len(truth)), [len(one) for one in windows])
    pooled = regression_figures(joined.truth, joined.predictions, names)
    scored_references = {}
    for name, values in (references or {}).items():
        _check_rows(len(truth), {f"reference {name!r}": values})
        own = _join_trials(keys, truth, [np.asarray(row, np.float64)[None] for row in values])
        scored_references[name] = regression_figures(own.truth, own.predictions, names).flat()
    columns = {column: [values[row] for row in joined.first] for column, values in (groups or {}).items()}
    return ValueScores(
        names=tuple(names),
        metrics={"n": pooled.n, **pooled.flat()},
        headline="pooled over trials: the windows of a trial are averaged, figures are over all trials, then over targets",
        levels={
            "trial": _level(joined.truth, joined.predictions, names, people),
            "window": _level(
                truth[owners],
                np.concatenate([np.asarray(one, np.float64) for one in windows]),
                names,
                [subjects[row] for row in owners.tolist()] if subjects else [],
            ),
        },
        intervals=bootstrap_values(joined.truth, joined.predictions, names, people, resamples=resamples, seed=seed),
        references=scored_references,
        groups=value_groups(columns, joined.truth, joined.predictions, names, people) if columns else {},
    )


@dataclass(frozen=True)
class Course:
    """Truth and prediction of one recording on one time grid.

    Attributes:
        times: (moments,) seconds since the recording began.
        truth: (moments, targets) native values, NaN where unknown.
        predictions: (moments, targets) native values.
    """

    times: NDArray[np.float64]
    truth: NDArray[np.floating]
    predictions: NDArray[np.floating]

    def between(self, scored_seconds: tuple[float, float] | None) -> "Course":
        """The moments with start ≤ time ≤ end; all of them for None."""
        if scored_seconds is None:
            return self
        start, end = scored_seconds
        inside = (self.times >= start - _EDGE_S) & (self.times <= end + _EDGE_S)
        return Course(self.times[inside], self.truth[inside], self.predictions[inside])


def _official(
    each: Sequence[RegressionFigures], pooled: RegressionFigures, names: Sequence[str], folds: Sequence[int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """The headline figures, and the means over recordings that they are made from."""
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
    return {key: pooled.flat()[key] if _is_relation(key) else mean[key] for key in mean}, described


def _is_relation(key: str) -> bool:
    """Of PCC and CCC, which need spread: ratings often rest throughout a recording, so they are taken over all moments."""
    return key.split("_")[0] in ("pcc", "ccc")


def _pool(parts: Sequence[Course], names: Sequence[str]) -> RegressionFigures:
    return regression_figures(
        np.concatenate([one.truth for one in parts]), np.concatenate([one.predictions for one in parts]), names
    )


def score_courses(
    courses: Sequence[Course],
    names: Sequence[str],
    subjects: Sequence[str] = (),
    *,
    scored_seconds: tuple[float, float] | None = None,
    folds: Sequence[int] = (),
    references: Mapping[str, Sequence[NDArray[np.floating]]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ValueScores:
    """Score values that run over time.

    Args:
        courses: one for each recording.
        names: target names in order.
        subjects: persons of the recordings, "" where unknown.
        scored_seconds: start and end, both counted, of the part that the metric is about; None: all of it.
        folds: fold of each recording; means are taken within folds first. None given: over all recordings at once.
        references: name → for every recording (moments, targets) on the grid of its course, or (targets,) that hold throughout.
        groups: column → value of each recording; figures are means over recordings.
        resamples, seed: of the intervals.

    Raises:
        InputError: lengths or shapes that do not fit, no recording with truth in its scored part, or predictions not finite.
    """
    _check_rows(len(courses), {"subjects": subjects, "folds": folds})
    parts = [one.between(scored_seconds) for one in courses]
    each = [regression_figures(one.truth, one.predictions, names) for one in parts]
    if not any(one.n for one in each):
        part = f" between {scored_seconds[0]:g} and {scored_seconds[1]:g} s" if scored_seconds else ""
        raise InputError(f"None of {len(courses)} recordings has a true value{part}. Check annotations and clocks.")
    official, described = _official(each, _pool(parts, names), names, folds)
    used = [index for index, one in enumerate(each) if one.n]
    truth = np.concatenate([np.asarray(one.truth, np.float64) for one in parts])
    predictions = np.concatenate([np.asarray(one.predictions, np.float64) for one in parts])
    owners = np.repeat(np.arange(len(parts)), [len(one.times) for one in parts])
    part = f"on seconds {scored_seconds[0]:g} to {scored_seconds[1]:g} of each" if scored_seconds else "of each"
    within = "recordings of a fold, then over folds" if len(set(folds)) > 1 else "recordings"

    def score_group(rows: NDArray[np.int64]) -> dict[str, Any]:
        own = [parts[row] for row in rows]
        return _official([each[row] for row in rows], _pool(own, names), names, ())[0]

    # moments of a recording stay together, whoever's it is
    people = [subjects[index] if subjects else "" for index in range(len(parts))]
    units = [person or f"\0{index}" for index, person in enumerate(people)]
    means = bootstrap_means(
        [each[index].flat() for index in used], [people[index] for index in used], resamples=resamples, seed=seed
    )
    pooled = bootstrap_values(
        truth, predictions, names, [units[int(row)] for row in owners], resamples=resamples, seed=seed
    )
    bounds = {key: pooled.bounds[key] if _is_relation(key) else own for key, own in means.bounds.items()}
    return ValueScores(
        names=tuple(names),
        metrics={"n": len(used), **official},
        headline=f"rmse and mae: {part}, averaged over {within}; pcc and ccc: over all these moments of all recordings; "
        "then over targets",
        levels={
            "recording": described,
            "moment": _level(truth, predictions, names, [people[int(row)] for row in owners] if subjects else []),
        },
        intervals=replace(means, bounds=bounds),
        references={
            name: _score_reference(name, courses, values, names, scored_seconds, folds)
            for name, values in (references or {}).items()
        },
        groups=group_figures(groups, score_group, minimum=2) if groups else {},
    )


def _score_reference(
    name: str,
    courses: Sequence[Course],
    values: Sequence[NDArray[np.floating]],
    names: Sequence[str],
    scored_seconds: tuple[float, float] | None,
    folds: Sequence[int],
) -> dict[str, float]:
    _check_rows(len(courses), {f"reference {name!r}": values})
    parts = []
    for course, own in zip(courses, values, strict=True):
        predictions = np.broadcast_to(np.asarray(own, np.float64), np.shape(course.truth))
        parts.append(Course(course.times, course.truth, predictions).between(scored_seconds))
    each = [regression_figures(one.truth, one.predictions, names) for one in parts]
    return _official(each, _pool(parts, names), names, folds)[0]


def _check_rows(rows: int, given: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    """Optional sequences may be empty; any other must have one entry per row."""
    for name, values in given.items():
        if len(values) not in (0, rows) or (name == "predictions" and len(values) != rows):
            raise InputError(f"There are {rows} rows and {len(values)} {name}; expected as many.")
