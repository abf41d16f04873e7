"""Confidence intervals by resampling whole subjects; and the same metrics group by group.

Pictures of one subject resemble each other, so resampling pictures makes intervals too narrow. Where identities are known,
subjects are drawn with replacement and bring all their samples; samples of unknown identity are subjects of their own.

All resamples are counted at once: what a subject contributes (a confusion matrix, sums of moments) is fixed, and a resample is a
weighted sum of it. Only AUROC needs the samples themselves, weighted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .metrics import (
    NAMES,
    SMALLEST_SD,
    Floats,
    Ints,
    checked_values,
    compute_metrics,
    regression_metrics,
    scores_of_confusion,
)

LEVEL = 0.95
"""Share of the resamples that an interval holds."""

_CHUNK = 100
"""Resamples counted at once: bounds memory at 100 × subjects × 8 bytes."""

_CELLS = 200_000
"""Weighted samples held at once while AUROC is resampled: few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class Intervals:
    """Percentile bootstrap intervals.

    Attributes:
        bounds: metric, as in the report → (low, high); NaN where no resample defines it.
        level: share of resamples inside.
        unit: what was drawn: "identity" or "sample".
        units: how many there are.
        resamples, seed: how often, and from which seed.
    """

    bounds: dict[str, tuple[float, float]]
    level: float
    unit: str
    units: int
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        return {
            **{name: list(bounds) for name, bounds in self.bounds.items()},
            "level": self.level,
            "method": "percentile bootstrap",
            "unit": self.unit,
            "units": self.units,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def _group(identities: Sequence[str], n: int) -> tuple[Ints, str]:
    """(n,) index of each sample's subject; those without a name are one each."""
    known = [bool(name) for name in identities]
    if not any(known):
        return np.arange(n), "sample"
    keys = [name if name else f"\0{index}" for index, name in enumerate(identities)]
    return np.unique(np.asarray(keys, dtype=object), return_inverse=True)[1].astype(np.int64), "identity"


def _draws(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """(chunk, units) how often each unit was drawn, chunk by chunk."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        picks = generator.integers(0, units, size=(count, units)) + np.arange(count)[:, None] * units
        # float64: exact for counts, and its matrix product runs in BLAS, which integers do not
        yield np.bincount(picks.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def _collect(
    identities: Sequence[str],
    n: int,
    score: Callable[[Ints, int], Callable[[Floats], dict[str, Floats]]],
    resamples: int,
    seed: int,
) -> Intervals:
    """Intervals of whatever `score(groups, units)` gives for (chunk, units) weights."""
    groups, unit = _group(identities or [""] * n, n)
    units = int(groups.max()) + 1
    score_weights = score(groups, units)
    drawn: dict[str, list[Floats]] = {}
    for weights in _draws(units, resamples, seed):
        for name, values in score_weights(weights).items():
            drawn.setdefault(name, []).append(values)
    tail = (1 - LEVEL) / 2
    bounds = {}
    for name, parts in drawn.items():
        values = np.concatenate(parts)
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
        bounds[name] = (float(low), float(high))
    return Intervals(bounds, LEVEL, unit, units, resamples, seed)


def weighted_auroc(positive: NDArray[np.bool_], scores: Floats) -> Callable[[Floats], Floats]:
    """AUROC of samples that count more or less: the weighted share of pairs in the right order, ties counting half.

    Args:
        positive: (n,) whether a sample is of the class.
        scores: (n,) larger for the class.

    Returns:
        (weightings, n) weights, none negative → (weightings,) areas; NaN where positives or negatives have no weight. The samples
        are ranked once, so that thousands of weightings cost little.
    """
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    first, last = (np.searchsorted(scores[negatives], scores[positives], side=side) for side in ("left", "right"))

    def area(weights: Floats) -> Floats:
        # below[i]: weight of the i lowest negatives; those that equal a positive are half below it
        below = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
        own = weights[:, positives]
        ordered = (own * (below[:, first] + below[:, last])).sum(axis=1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return ordered / (own.sum(axis=1) * below[:, -1])

    return area


def _resampled_auroc(labels: Ints, probabilities: Floats, groups: Ints) -> Callable[[Floats], Floats]:
    """(chunk, units) weights → (chunk,) macro AUROC over the classes that a resample defines."""
    # a class that nobody or everybody belongs to is undefined in every resample
    classes = [index for index in range(probabilities.shape[1]) if 0 < int((labels == index).sum()) < len(labels)]
    if probabilities.shape[1] == 2:
        classes = classes[1:]  # the other one's area is the same
    area = {index: weighted_auroc(labels == index, probabilities[:, index]) for index in classes}
    step = max(1, _CELLS // len(labels))

    def score(weights: Floats) -> Floats:
        areas = np.full((len(classes), len(weights)), np.nan)
        for start in range(0, len(weights), step):
            per_sample = weights[start : start + step][:, groups]
            for row, index in enumerate(classes):
                areas[row, start : start + step] = area[index](per_sample)
        defined = ~np.isnan(areas)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(defined, areas, 0.0).sum(axis=0) / defined.sum(axis=0)

    return score


def bootstrap(
    labels: Ints,
    predictions: Ints,
    num_classes: int,
    identities: Sequence[str] = (),
    *,
    probabilities: Floats | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """Intervals of UAR, WAR and macro-F1, and of AUROC where probabilities are given.

    Args:
        labels, predictions: (n,) class indices.
        num_classes: classes of the label space.
        identities: (n,) subjects, "" where unknown; none at all resamples single samples.
        probabilities: (n, classes); adds "auroc" and "macro_auroc".
        resamples, seed: how often is drawn, and from which seed.

    In a resample that lost a class, UAR, macro-F1 and AUROC average over the classes it still has.
    """
    labels = np.asarray(labels, np.int64)
    cells = num_classes * num_classes

    def score(groups: Ints, units: int) -> Callable[..., dict[str, Floats]]:
        place = groups * cells + labels * num_classes + np.asarray(predictions, np.int64)
        own = np.bincount(place, minlength=units * cells).reshape(units, cells).astype(np.float64)
        used = own.sum(axis=0) > 0  # most cells of a confusion matrix are never hit by anyone
        area = _resampled_auroc(labels, probabilities, groups) if probabilities is not None else None

        def of(weights: Floats) -> dict[str, Floats]:
            confusion = np.zeros((len(weights), cells))
            confusion[:, used] = weights @ own[:, used]
            scores = scores_of_confusion(confusion.reshape(len(weights), num_classes, num_classes))
            scores["balanced_accuracy"] = scores["uar"]
            if area is not None:
                scores["auroc"] = scores["macro_auroc"] = area(weights)
            return scores

        return of

    return _collect(identities, len(labels), score, resamples, seed)


def _moments(truth: Floats, predictions: Floats) -> Floats:
    """(n, targets, 8) what sums to the metrics of any subset: 1, p, y, p², y², py, |e|, e²; zeros where truth is unknown."""
    known = ~np.isnan(truth)
    y = np.where(known, truth, 0.0)
    error = np.where(known, predictions - y, 0.0)
    # around the middle of each, or the variance of values far from 0 drowns in rounding
    counts = np.maximum(known.sum(axis=0), 1)
    p = np.where(known, predictions - np.where(known, predictions, 0.0).sum(axis=0) / counts, 0.0)
    y = np.where(known, y - y.sum(axis=0) / counts, 0.0)
    return np.stack([known.astype(np.float64), p, y, p * p, y * y, p * y, np.abs(error), error**2], axis=-1)


def _metrics_of_moments(sums: Floats, bias: Floats) -> dict[str, Floats]:
    """(…, targets, 8) sums, and the (targets,) distance of the two middles → metric → (…, targets)."""
    n = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        p, y, pp, yy, py, absolute, squared = (sums[..., i] / n for i in range(1, 8))
        variance, variance_truth, covariance = pp - p * p, yy - y * y, py - p * y
        constant = np.minimum(variance, variance_truth) < SMALLEST_SD**2
        pcc = np.where(constant, 0.0, covariance / np.sqrt(np.maximum(variance * variance_truth, 1e-300)))
        distance = (p - y + bias) ** 2
        ccc = np.where(constant, 0.0, 2 * covariance / (variance + variance_truth + distance))
    empty = n == 0
    found = {"rmse": np.sqrt(squared), "mae": absolute, "pcc": np.clip(pcc, -1, 1), "ccc": ccc}
    return {name: np.where(empty, np.nan, values) for name, values in found.items()}


def bootstrap_values(
    truth: Floats,
    predictions: Floats,
    names: Sequence[str],
    identities: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Intervals:
    """Intervals of pooled RMSE, MAE, PCC and CCC: "rmse", "rmse_<target>", ….

    Args:
        truth, predictions: (n, targets) native values; NaN in `truth` where unknown.
        names: target names in order.
        identities: (n,) subjects, "" where unknown; none at all resamples single items.
    """
    truth, predictions = checked_values(truth, predictions, names)
    moments = _moments(truth, predictions)
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(truth)).sum(axis=0)
        bias = np.where(counts > 0, np.nansum(predictions - truth, axis=0) / np.maximum(counts, 1), 0.0)

    def score(groups: Ints, units: int) -> Callable[..., dict[str, Floats]]:
        own = np.zeros((units, *moments.shape[1:]))
        np.add.at(own, groups, moments)

        def of(weights: Floats) -> dict[str, Floats]:
            sums = (weights @ own.reshape(units, -1)).reshape(len(weights), *own.shape[1:])
            found = _metrics_of_moments(sums, bias)
            flat = {}
            for metric in NAMES:
                defined = ~np.isnan(found[metric])
                with np.errstate(invalid="ignore", divide="ignore"):
                    flat[metric] = np.where(defined, found[metric], 0.0).sum(axis=-1) / defined.sum(axis=-1)
                flat |= {f"{metric}_{name}": found[metric][:, i] for i, name in enumerate(names)}
            return flat

        return of

    return _collect(identities, len(truth), score, resamples, seed)


def bootstrap_means(
    rows: Sequence[dict[str, float]], identities: Sequence[str] = (), *, resamples: int = 2000, seed: int = 0
) -> Intervals:
    """Intervals of the means of metrics that each recording has for itself.

    Args:
        rows: the metrics of every recording, the same keys in each; NaN where one has none.
        identities: subjects of the recordings, "" where unknown; none at all resamples single recordings.
    """
    keys = list(rows[0])
    values = np.array([[row[key] for key in keys] for row in rows], np.float64)
    known = ~np.isnan(values)

    def score(groups: Ints, units: int) -> Callable[..., dict[str, Floats]]:
        total, count = np.zeros((units, len(keys))), np.zeros((units, len(keys)))
        np.add.at(total, groups, np.where(known, values, 0.0))
        np.add.at(count, groups, known)

        def of(weights: Floats) -> dict[str, Floats]:
            with np.errstate(invalid="ignore", divide="ignore"):
                means = (weights @ total) / (weights @ count)
            return {key: means[:, i] for i, key in enumerate(keys)}

        return of

    return _collect(identities, len(values), score, resamples, seed)


# --- Groups -----------------------------------------------------------------------------------------------------------
# The same metrics for every value of a group: lighting, sex, fold, whatever the rows say of themselves.
#
# A group's UAR averages over the classes that occur in it; `classes` says how many, because two groups with other classes
# are not alike. A gap is the highest minus the lowest among the values with enough samples; with few subjects in a group,
# read its interval before its gap.

SMALLEST_GROUP = 10
"""Samples that a value needs to take part in a gap."""

Score = Callable[[Ints], Mapping[str, Any]]
"""Row numbers of one value → its metrics; what is no number (recalls by class, say) takes no part in gaps."""


def _gaps(table: Mapping[str, Mapping[str, Any]], minimum: int) -> dict[str, Any]:
    large = {value: entry for value, entry in table.items() if value and entry["n"] >= minimum}
    keys = [key for entry in large.values() for key, number in entry.items() if isinstance(number, int | float)]
    gaps = {}
    for key in dict.fromkeys(keys):
        found = {value: entry[key] for value, entry in large.items() if entry.get(key) is not None}
        found = {value: number for value, number in found.items() if np.isfinite(number)}
        if key not in ("n", "classes", "constant", "units") and len(found) > 1:
            highest, lowest = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
            gaps[key] = {"gap": found[highest] - found[lowest], "highest": highest, "lowest": lowest}
    return gaps


def group_metrics(
    columns: Mapping[str, Sequence[str]], samples: int, score: Score, *, minimum: int = SMALLEST_GROUP
) -> dict[str, Any]:
    """Metrics for every value of every column.

    Args:
        columns: column → the value of each row; "" where it is unknown, which is listed last and takes no part in gaps.
        samples: how many rows there are.
        score: gives the metrics of some rows.
        minimum: samples that a value needs to take part in gaps.

    Returns:
        column → {"values": {value: {"n", metrics…}}, "gaps": {metric: {"gap", "highest", "lowest"}}, "smallest": minimum}.

    Raises:
        InputError: a column of another length.
    """
    report: dict[str, Any] = {}
    for column, values in columns.items():
        if len(values) != samples:
            raise InputError(
                f"The group column {column!r} has {len(values)} rows and there are {samples} samples; expected as many."
            )
        rows: dict[str, list[int]] = {}
        for index, value in enumerate(values):
            rows.setdefault(value, []).append(index)
        table = {
            value: {"n": len(rows[value]), **score(np.asarray(rows[value], np.int64))}
            for value in sorted(rows, key=lambda value: (value == "", value))
        }
        report[column] = {"values": table, "gaps": _gaps(table, minimum), "smallest": minimum}
    return report


def class_groups(
    columns: Mapping[str, Sequence[str]],
    labels: Ints,
    logits: Floats,
    names: Sequence[str],
    identities: Sequence[str] = (),
    *,
    resamples: int = 1000,
) -> dict[str, Any]:
    """`group_metrics` for classes: all that `compute_metrics` gives, recall by class, and intervals over subjects.

    Args:
        columns: as of `group_metrics`.
        labels, logits, names: as of `compute_metrics`.
        identities: (n,) subjects, "" where unknown.
        resamples: of the intervals.
    """

    def score(rows: Ints) -> dict[str, Any]:
        own, predicted = compute_metrics(labels[rows], logits[rows], names), logits[rows].argmax(axis=1)
        subjects = [identities[int(row)] for row in rows] if identities else []
        intervals = bootstrap(labels[rows], predicted, len(names), subjects, resamples=resamples)
        return {
            "classes": sum(one.support > 0 for one in own.per_class.values()),
            **own.flat(),
            "recall": {name: one.recall if one.support else None for name, one in own.per_class.items()},
            "confidence_intervals": intervals.to_dict(),
        }

    return group_metrics(columns, len(labels), score)


def value_groups(
    columns: Mapping[str, Sequence[str]],
    truth: Floats,
    predictions: Floats,
    names: Sequence[str],
    identities: Sequence[str] = (),
    *,
    resamples: int = 1000,
) -> dict[str, Any]:
    """`group_metrics` for values: pooled `regression_metrics`, and intervals over subjects; arguments as of `class_groups`."""

    def score(rows: Ints) -> dict[str, Any]:
        subjects = [identities[int(row)] for row in rows] if identities else []
        intervals = bootstrap_values(truth[rows], predictions[rows], names, subjects, resamples=resamples)
        own = regression_metrics(truth[rows], predictions[rows], names)
        return {**own.to_dict(), "confidence_intervals": intervals.to_dict()}

    return group_metrics(columns, len(truth), score)
