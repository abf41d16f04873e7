"""Confidence intervals over people, by the jackknife; and the same metrics group by group.

Pictures of one subject resemble each other, so intervals over pictures are too narrow. Where identities are known, whole people are
left out in turn, with all their samples; samples of unknown identity are people of their own. The spread of what remains gives the
standard error (Tukey 1958), and Student's t with one degree of freedom less than there are people the width: with five or twenty of
them a percentile bootstrap is too narrow, and holds the truth in 81 to 92 of 100 cases where it says 95.

The interval is laid on a scale on which the metric spreads evenly, and taken back: logit for shares and areas, Fisher's z for
correlations, the inverse for errors; a difference of two figures stays as it is. So it stays where the metric can be, and leans to
where the truth may lie. One person has no interval, nor has a metric that nobody changes by being left out, or that is undefined
without somebody.

All leavings-out are counted at once: what a subject contributes (a confusion matrix, sums of moments) is fixed, and the rest is a
weighted sum of it. Only AUROC needs the samples themselves, weighted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import InputError
from .metrics import (
    NAMES,
    SMALLEST_SD,
    Floats,
    Ints,
    checked_values,
    compute_metrics,
    mean_known,
    regression_metrics,
    rows_by,
    scores_of_confusion,
    softmax,
)

LEVEL = 0.95
"""How often an interval is to hold the truth."""

MOST_UNITS = 500
"""People, or else samples, that are left out one by one; of more, as many groups of equal size are."""

_CELLS = 200_000
"""Weighted samples held at once while AUROC is weighted: few enough to stay in a processor's cache."""

_SEED = 0
"""Of who stands in which group."""

Bounds = tuple[float, float] | None
"""(low, high), or None where nothing can be said."""

WeightedScore = Callable[[Floats], dict[str, Floats]]
"""(rows, units) how much each unit counts → metric → (rows,) its values."""


@dataclass(frozen=True)
class Intervals:
    """Intervals over people.

    Attributes:
        bounds: metric, as in the report → (low, high); None where nothing can be said.
        unit: what was left out: "identity" or "sample".
    """

    bounds: dict[str, Bounds]
    unit: str
    units: int

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        return {
            **{name: None if bounds is None else list(bounds) for name, bounds in self.bounds.items()},
            "level": LEVEL,
            "method": "jackknife with Student's t",
            "unit": self.unit,
            "units": self.units,
        }


def group_people(identities: Sequence[str], n: int) -> tuple[Ints, str]:
    """(n,) index of each sample's subject, those without a name being one each; and "identity", or "sample" if nobody is named."""
    known = [bool(name) for name in identities]
    if not any(known):
        return np.arange(n), "sample"
    keys = [name if name else f"\0{index}" for index, name in enumerate(identities)]
    return np.unique(np.asarray(keys, dtype=object), return_inverse=True)[1].astype(np.int64), "identity"


def jackknife(score: WeightedScore, groups: Ints, unit: str) -> Intervals:
    """Intervals of whatever `score` gives for weighted units.

    Args:
        score: of (rows, units) weights; its first row is called with everybody.
        groups: (n,) unit of each sample, from 0 on, as `group_people` gives them.
    """
    units = int(groups.max()) + 1
    count = min(units, MOST_UNITS)
    place = np.arange(units)
    if count < units:
        place = np.random.default_rng(_SEED).permutation(units) % count
    found = score(np.vstack([np.ones(units), (place != np.arange(count)[:, None]).astype(np.float64)]))
    bounds = {name: _interval(name, float(values[0]), values[1:]) for name, values in found.items()}
    return Intervals(bounds, unit, units)


def _interval(name: str, value: float, without: Floats) -> Bounds:
    """Of a metric, from its values without each of the units."""
    count = len(without)
    if count < 2 or not np.isfinite([value, *without]).all():
        return None
    # sqrt(count) and not sqrt(count - 1): few people show less than their whole spread
    error = float(without.std() * np.sqrt(count)) * float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
    if error <= 1e-12:
        return None
    stem = name.partition("_")[0]
    if stem == "difference":
        return value - error, value + error
    if stem in ("rmse", "mae"):
        middle, width = 1 / value, error / value**2
        return 1 / (middle + width), 1 / (middle - width) if middle > width else float("inf")
    if stem in ("pcc", "ccc"):
        middle, width = np.arctanh(value), error / (1 - value**2)
        return float(np.tanh(middle - width)), float(np.tanh(middle + width))
    with np.errstate(divide="ignore"):
        middle, width = np.log(value) - np.log1p(-value), error / np.float64(value * (1 - value))
    if not np.isfinite(width):  # nobody errs, or everybody does
        return None
    low, high = (float(1 / (1 + np.exp(-end))) for end in (middle - width, middle + width))
    return low, high


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


def _weighted_areas(labels: Ints, logits: Floats, groups: Ints) -> WeightedScore:
    """Macro AUROC over the classes, and over the pairs of classes, that have samples."""
    present = np.unique(labels).tolist()
    probabilities = softmax(logits)
    kinds: dict[str, list[tuple[Ints, Callable[[Floats], Floats]]]] = {"macro_auroc": [], "ovo_auroc": []}
    everybody = np.arange(len(labels))
    for index in present if len(present) > 1 else ():
        if logits.shape[1] > 2 or index == 1:  # of two classes the other one's area is the same
            kinds["macro_auroc"].append((everybody, weighted_auroc(labels == index, probabilities[:, index])))
    for first, second in combinations(present, 2):
        rows = np.flatnonzero((labels == first) | (labels == second))
        margins = logits[rows, first] - logits[rows, second]
        kinds["ovo_auroc"].append((rows, weighted_auroc(labels[rows] == first, margins)))
    step = max(1, _CELLS // len(labels))

    def score(weights: Floats) -> dict[str, Floats]:
        found = {}
        for name, areas in kinds.items():
            values = np.full((len(areas), len(weights)), np.nan)
            for start in range(0, len(weights), step):
                per_sample = weights[start : start + step][:, groups]
                for row, (rows, area) in enumerate(areas):
                    values[row, start : start + step] = area(per_sample[:, rows])
            found[name] = mean_known(values)
        return {"auroc": found["macro_auroc"], **found}

    return score


def class_intervals(
    labels: Ints, predictions: Ints, num_classes: int, identities: Sequence[str] = (), *, logits: Floats | None = None
) -> Intervals:
    """Intervals of UAR, WAR and macro-F1, and of AUROC where scores are given.

    Args:
        labels, predictions: (n,) class indices.
        identities: (n,) subjects, "" where unknown; none at all: single samples are left out.
        logits: (n, classes) scores before softmax; adds "auroc", "macro_auroc" and "ovo_auroc".

    Where a class is lost with somebody, UAR, macro-F1 and AUROC average over the classes that are left.
    """
    labels = np.asarray(labels, np.int64)
    cells = num_classes * num_classes
    groups, unit = group_people(identities, len(labels))
    units = int(groups.max()) + 1
    place = groups * cells + labels * num_classes + np.asarray(predictions, np.int64)
    own = np.bincount(place, minlength=units * cells).reshape(units, cells).astype(np.float64)
    used = own.sum(axis=0) > 0  # most cells of a confusion matrix are never hit by anyone
    areas = _weighted_areas(labels, np.asarray(logits, np.float64), groups) if logits is not None else None

    def score(weights: Floats) -> dict[str, Floats]:
        confusion = np.zeros((len(weights), cells))
        confusion[:, used] = weights @ own[:, used]
        scores = scores_of_confusion(confusion.reshape(len(weights), num_classes, num_classes))
        return {**scores, "balanced_accuracy": scores["uar"], **(areas(weights) if areas else {})}

    return jackknife(score, groups, unit)


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


def value_intervals(
    truth: Floats, predictions: Floats, names: Sequence[str], identities: Sequence[str] = ()
) -> Intervals:
    """Intervals of pooled RMSE, MAE, PCC and CCC: "rmse", "rmse_<target>", ….

    Args:
        truth, predictions: (n, targets) native values; NaN in `truth` where unknown.
        identities: (n,) subjects, "" where unknown; none at all: single items are left out.
    """
    truth, predictions = checked_values(truth, predictions, names)
    moments = _moments(truth, predictions)
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(truth)).sum(axis=0)
        bias = np.where(counts > 0, np.nansum(predictions - truth, axis=0) / np.maximum(counts, 1), 0.0)
    groups, unit = group_people(identities, len(truth))
    own = np.zeros((int(groups.max()) + 1, *moments.shape[1:]))
    np.add.at(own, groups, moments)

    def score(weights: Floats) -> dict[str, Floats]:
        sums = (weights @ own.reshape(len(own), -1)).reshape(len(weights), *own.shape[1:])
        found = _metrics_of_moments(sums, bias)
        flat = {metric: mean_known(found[metric].T) for metric in NAMES}
        return flat | {f"{metric}_{name}": found[metric][:, i] for metric in NAMES for i, name in enumerate(names)}

    return jackknife(score, groups, unit)


def mean_intervals(rows: Sequence[dict[str, float]], identities: Sequence[str] = ()) -> Intervals:
    """Intervals of the means of metrics that each recording has for itself.

    Args:
        rows: the metrics of every recording, the same keys in each; NaN where one has none.
        identities: subjects of the recordings, "" where unknown; none at all: single recordings are left out.
    """
    keys = list(rows[0])
    values = np.array([[row[key] for key in keys] for row in rows], np.float64)
    known = ~np.isnan(values)
    groups, unit = group_people(identities, len(values))
    total, count = np.zeros((2, int(groups.max()) + 1, len(keys)))
    np.add.at(total, groups, np.where(known, values, 0.0))
    np.add.at(count, groups, known)

    def score(weights: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ total) / (weights @ count)
        return {key: means[:, i] for i, key in enumerate(keys)}

    return jackknife(score, groups, unit)


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

    Returns:
        column → {"values": {value: {"n", metrics…}}, "gaps": {metric: {"gap", "highest", "lowest"}}, "smallest": minimum}.
    """
    report: dict[str, Any] = {}
    for column, values in columns.items():
        if len(values) != samples:
            raise InputError(
                f"The group column {column!r} has {len(values)} rows and there are {samples} samples; expected as many."
            )
        rows = rows_by(values)
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
) -> dict[str, Any]:
    """`group_metrics` for classes: all that `compute_metrics` gives, recall by class, and intervals over subjects."""

    def score(rows: Ints) -> dict[str, Any]:
        own, predicted = compute_metrics(labels[rows], logits[rows], names), logits[rows].argmax(axis=1)
        subjects = [identities[int(row)] for row in rows] if identities else []
        intervals = class_intervals(labels[rows], predicted, len(names), subjects)
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
) -> dict[str, Any]:
    """`group_metrics` for values: pooled `regression_metrics`, and intervals over subjects; arguments as of `class_groups`."""

    def score(rows: Ints) -> dict[str, Any]:
        subjects = [identities[int(row)] for row in rows] if identities else []
        intervals = value_intervals(truth[rows], predictions[rows], names, subjects)
        own = regression_metrics(truth[rows], predictions[rows], names)
        return {**own.to_dict(), "confidence_intervals": intervals.to_dict()}

    return group_metrics(columns, len(truth), score)
