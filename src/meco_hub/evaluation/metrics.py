"""Metrics: of probabilities (reliability, calibration error, Brier score), of classes, and of values.

Conventions, because toolkits differ:
- Confidence is the probability of the top label (Guo et al. 2017, arXiv 1706.04599). Bins have equal width over [0, 1] and hold
  their lower edge, the last one both edges.
- ECE (expected calibration error) is the mean gap between confidence and accuracy over the bins, weighted by their samples; MCE is
  the largest gap of a bin that has samples.
- The Brier score is the mean over samples of the sum over classes of (p − 1[true])², which runs from 0 to 2 (Brier 1950). For two
  classes it is twice the form that sums over one of them.
- Cross-entropy is in nats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from ..errors import InputError

Floats = NDArray[np.floating]
"""Scores, probabilities or values."""
Ints = NDArray[np.integer]
"""Class indices, row numbers or counts."""

BINS = 15
"""Bins of a reliability diagram, as in Guo et al. 2017."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The samples whose top label has a probability in [low, high).

    Attributes:
        confidence, accuracy: mean probability of the top label, and the share where it was right; None without samples.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def rows_by(keys: Iterable[Any]) -> dict[Any, list[int]]:
    """Key → the rows that have it; keys in the order in which they come."""
    rows: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return rows


def mean_known(rows: Floats) -> Floats:
    """(columns,) mean over (n, columns) rows, NaN left out; NaN where nothing is known."""
    known = ~np.isnan(rows)
    counts = known.sum(axis=0)
    sums = np.where(known, rows, 0.0).sum(axis=0, dtype=np.float64)
    return np.divide(sums, counts, out=np.full(rows.shape[1], np.nan), where=counts > 0)


def softmax(logits: Floats) -> Floats:
    """(n, classes) scores → (n, classes) probabilities, in double precision."""
    return special.softmax(np.asarray(logits, np.float64), axis=1)


def log_softmax(logits: Floats) -> Floats:
    """(n, classes) scores → (n, classes) logarithms of probabilities, in double precision."""
    return special.log_softmax(np.asarray(logits, np.float64), axis=1)


def cross_entropy(labels: Ints, logits: Floats) -> float:
    """Mean negative log-likelihood of the true classes, in nats; (n,) class indices and (n, classes) scores before softmax."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def reliability(labels: Ints, probabilities: Floats, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Confidence and accuracy, bin by bin; (n,) class indices and (n, classes) probabilities."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    # rounding may take the sum of a softmax, and with it a probability, a hair above 1
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sure, right = np.bincount(place, confidence, bins), np.bincount(place, correct, bins)
    return tuple(
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            n=int(count),
            confidence=float(sure[index] / count) if count else None,
            accuracy=float(right[index] / count) if count else None,
        )
        for index, count in enumerate(counts)
    )


def _gaps(labels: Ints, probabilities: Floats) -> list[tuple[int, float]]:
    """Samples, and the gap between confidence and accuracy, of every bin that has samples."""
    bins = reliability(labels, probabilities)
    return [(one.n, abs((one.accuracy or 0.0) - (one.confidence or 0.0))) for one in bins if one.n]


def calibration_error(labels: Ints, probabilities: Floats) -> float:
    """ECE of the top label."""
    return sum(n * gap for n, gap in _gaps(labels, probabilities)) / len(labels)


def maximum_calibration_error(labels: Ints, probabilities: Floats) -> float:
    """MCE of the top label. One stray sample in a bin of its own can make it; read it beside the bins."""
    return max(gap for _, gap in _gaps(labels, probabilities))


def brier_score(labels: Ints, probabilities: Floats) -> float:
    """Mean over samples of the squared distance between probabilities and truth, in [0, 2]."""
    distance = np.array(probabilities, np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


# --- Classes ----------------------------------------------------------------------------------------------------------
# Metrics for classification, from true labels and scores.
#
# Conventions, because toolkits differ where a class is empty:
# - UAR (unweighted average recall, balanced accuracy) and macro-F1 average over the classes that occur among the true labels.
#   A class that is only ever predicted lowers the recall of the others, but is no term of its own.
# - WAR (weighted average recall) is plain accuracy.
# - Macro AUROC averages one-vs-rest AUROC over the classes that have both positives and negatives; None when none has. It ranks by
#   the softmax's probability, which depends on all scores: of more than two classes, a prior added to them moves it.
# - One-vs-one AUROC averages over the pairs of classes that occur: the probability that of a sample of each, the difference of the
#   two scores is larger for the one's. A prior adds the same to every such difference, and so moves nothing.
# - AUROC is that of the second class when there are two (index 1, the "positive" one), and macro AUROC when there are more.
# - Precision and F1 of a class never predicted are 0.
# - Top-k accuracy counts a sample when fewer than k classes stand before the true one; among equal scores the lower index stands
#   first, as in the predicted class, so that top-1 is WAR.

TOP_K = (2, 3)
"""Ranks of the top-k accuracies; those that reach the number of classes are left out, being 1."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class."""

    recall: float
    precision: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationMetrics:
    """All metrics of one set of predictions.

    Attributes:
        macro_auroc: one against the rest; None when no class has both positives and negatives.
        ovo_auroc: one against one, which no prior moves; None when there are no two classes.
        ece: expected calibration error of the top label over 15 bins of equal width.
        confusion: (classes, classes) counts, rows true, columns predicted.
        auroc: of the second class of two; macro_auroc when there are more.
        brier: Brier score, summed over classes: 0 to 2.
        top_k: k → share of samples whose true class is among the k best.
    """

    n: int
    uar: float
    war: float
    macro_f1: float
    macro_auroc: float | None
    ovo_auroc: float | None
    ece: float
    loss: float
    per_class: dict[str, ClassMetrics]
    confusion: Ints
    auroc: float | None
    mce: float
    brier: float
    top_k: dict[int, float]
    bins: tuple[ReliabilityBin, ...]

    def flat(self) -> dict[str, float | None]:
        """Every metric that is one number, under its name in report.json."""
        return {
            "uar": self.uar,
            "war": self.war,
            "balanced_accuracy": self.uar,
            "macro_f1": self.macro_f1,
            "auroc": self.auroc,
            "macro_auroc": self.macro_auroc,
            "ovo_auroc": self.ovo_auroc,
            **{f"top_{k}_accuracy": value for k, value in self.top_k.items()},
            "ece": self.ece,
            "mce": self.mce,
            "brier": self.brier,
            "cross_entropy": self.loss,
        }


def count_confusion(labels: Ints, predictions: Ints, num_classes: int) -> Ints:
    """(classes, classes) counts, rows true, columns predicted."""
    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))


def scores_of_confusion(confusion: NDArray[np.integer | np.floating]) -> dict[str, Floats]:
    """UAR, WAR and macro-F1 of confusion matrices, any number at once.

    Args:
        confusion: (…, classes, classes) counts, rows true.

    Returns:
        "uar", "war", "macro_f1", each of shape (…); NaN where a matrix is empty.
    """
    counts = np.asarray(confusion, np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(-1), counts.sum(-2)
    present = support > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(present, hits / support, 0.0)
        # 2·hits / (support + predicted) is F1 without the detour over a precision that may be 0/0
        f1 = np.where(present, 2 * hits / (support + predicted), 0.0)
        classes = present.sum(-1)
        return {
            "uar": recall.sum(-1) / classes,
            "war": hits.sum(-1) / support.sum(-1),
            "macro_f1": f1.sum(-1) / classes,
        }


def macro_auroc(labels: Ints, probabilities: Floats) -> float | None:
    """Mean one-vs-rest AUROC over the classes that have positives and negatives."""
    areas = []
    for index in range(probabilities.shape[1]):
        positive = labels == index
        if positive.any() and not positive.all():
            areas.append(float(roc_auc_score(positive, probabilities[:, index])))
    return float(np.mean(areas)) if areas else None


def ovo_auroc(labels: Ints, logits: Floats) -> float | None:
    """Mean AUROC of the pairs of classes that occur, each by the difference of its two scores; (n, classes) before softmax."""
    areas = []
    for first, second in combinations(np.unique(labels).tolist(), 2):
        rows = (labels == first) | (labels == second)
        areas.append(float(roc_auc_score(labels[rows] == first, logits[rows, first] - logits[rows, second])))
    return float(np.mean(areas)) if areas else None


def top_k_accuracy(labels: Ints, scores: Floats, k: int) -> float:
    """Share of samples whose true class is among the k best; (n,) class indices and (n, classes) scores on any scale."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < np.asarray(labels)[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return float((before < k).mean())


def compute_metrics(labels: Ints, logits: Floats, names: Sequence[str]) -> ClassificationMetrics:
    """All metrics of one set of predictions.

    Args:
        labels: (n,) true class indices into `names`.
        logits: (n, classes) scores before softmax.

    Raises:
        InputError: nothing to count, shapes that do not fit, a label outside the names, or scores that are not finite.
    """
    labels, logits = np.asarray(labels), np.asarray(logits, np.float64)
    if len(labels) == 0:
        raise InputError("There is no sample to compute metrics on. Check the split and the folds.")
    if logits.shape != (len(labels), len(names)):
        raise InputError(
            f"Scores have shape {logits.shape}; expected ({len(labels)}, {len(names)}), samples by classes."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(f"Labels run from {labels.min()} to {labels.max()}; expected 0 to {len(names) - 1}.")
    if not np.isfinite(logits).all():
        raise InputError(
            f"{int((~np.isfinite(logits)).any(1).sum())} of {len(labels)} samples have scores that are not finite."
        )
    probabilities = softmax(logits)
    predictions = logits.argmax(axis=1)  # not of the probabilities, which large scores round to equals
    indices = np.arange(len(names))
    confusion = count_confusion(labels, predictions, len(names))
    per_class = precision_recall_fscore_support(
        labels,
        predictions,
        labels=indices,
        average=None,
        zero_division=0.0,  # pyright: ignore[reportArgumentType]
    )
    precision, recall, f1, support = (np.asarray(column) for column in per_class)
    present = support > 0
    ranking = macro_auroc(labels, probabilities)
    has_two = len(names) == 2 and ranking is not None
    return ClassificationMetrics(
        n=len(labels),
        uar=float(recall[present].mean()),
        war=float((predictions == labels).mean()),
        macro_f1=float(f1[present].mean()),
        macro_auroc=ranking,
        ovo_auroc=ovo_auroc(labels, logits),
        ece=calibration_error(labels, probabilities),
        loss=cross_entropy(labels, logits),
        per_class={
            name: ClassMetrics(float(recall[i]), float(precision[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(names)
        },
        confusion=confusion,
        auroc=float(roc_auc_score(labels == 1, probabilities[:, 1])) if has_two else ranking,
        mce=maximum_calibration_error(labels, probabilities),
        brier=brier_score(labels, probabilities),
        top_k={k: top_k_accuracy(labels, logits, k) for k in TOP_K if k < len(names)},
        bins=reliability(labels, probabilities),
    )


# --- Values -----------------------------------------------------------------------------------------------------------
# Metrics for values, from true and predicted ones, all in native units.
#
# Definitions (population moments, that is, divided by n):
# - RMSE = √mean(p − y)², MAE = mean |p − y|, bias = mean(p − y).
# - PCC = cov(p, y) / (SD p · SD y); 0 where either SD is below 1e-8, and such cases are counted.
# - CCC = 2 cov(p, y) / (var p + var y + (mean p − mean y)²) (Lin 1989); 0 in the same cases.
# - A metric over several targets is the mean of theirs. A true value that is NaN is unknown, and left out for its target alone.
#
# Pooled metrics reward knowing each subject's mean rating; those per subject, then averaged, do not. The two differ a lot,
# which is why both are given and each is called by its name.

NAMES = ("rmse", "mae", "pcc", "ccc")
"""Metrics that every target has."""

SMALLEST_SD = 1e-8
"""Below this standard deviation values count as constant."""


@dataclass(frozen=True)
class TargetMetrics:
    """Metrics of one target.

    Attributes:
        rmse, mae, bias: in the target's units; NaN without values.
        pcc, ccc: in [−1, 1]; 0 where `constant`; NaN without values.
        constant: truth or predictions have no spread, so that pcc and ccc say nothing.
        truth_sd: spread of the true values, which is the RMSE of knowing their mean.
    """

    n: int
    rmse: float
    mae: float
    pcc: float
    ccc: float
    bias: float
    constant: bool
    truth_sd: float


@dataclass(frozen=True)
class RegressionMetrics:
    """Metrics of one set of predictions. `n`: items with at least one true value."""

    n: int
    per_target: dict[str, TargetMetrics]

    def mean(self, metric: str) -> float:
        """Mean of a metric over the targets that have values; NaN when none has."""
        values = [getattr(one, metric) for one in self.per_target.values() if one.n]
        return float(np.mean(values)) if values else float("nan")

    @property
    def constant(self) -> int:
        """Targets whose truth or predictions have no spread."""
        return sum(one.constant for one in self.per_target.values() if one.n)

    def flat(self) -> dict[str, float]:
        """ "rmse", "rmse_<target>", …: means first, then each target."""
        flat = {}
        for metric in NAMES:
            flat[metric] = self.mean(metric)
            flat |= {f"{metric}_{name}": getattr(one, metric) for name, one in self.per_target.items()}
        return flat

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        bias = {f"bias_{name}": one.bias for name, one in self.per_target.items()}
        spread = {f"truth_sd_{name}": one.truth_sd for name, one in self.per_target.items()}
        return {"n": self.n, **self.flat(), **bias, **spread, "constant": self.constant}


def correlation(truth: Floats, predictions: Floats) -> tuple[float, float, bool]:
    """PCC, CCC and whether they are undefined (and 0) for want of spread; two (n,) arrays, n ≥ 1."""
    centred_truth, centred = truth - truth.mean(), predictions - predictions.mean()
    variance_truth, variance = float(np.mean(centred_truth**2)), float(np.mean(centred**2))
    if min(variance_truth, variance) < SMALLEST_SD**2:
        return 0.0, 0.0, True
    covariance = float(np.mean(centred_truth * centred))
    distance = float(predictions.mean() - truth.mean()) ** 2
    # rounding may take a perfect line a hair beyond 1
    pcc = float(np.clip(covariance / np.sqrt(variance_truth * variance), -1, 1))
    return pcc, 2 * covariance / (variance_truth + variance + distance), False


def _target_metrics(truth: Floats, predictions: Floats) -> TargetMetrics:
    known = ~np.isnan(truth)
    truth, predictions = truth[known], predictions[known]
    if not len(truth):
        nan = float("nan")
        return TargetMetrics(0, nan, nan, nan, nan, nan, False, nan)
    error = predictions - truth
    pcc, ccc, constant = correlation(truth, predictions)
    return TargetMetrics(
        n=len(truth),
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.mean(np.abs(error))),
        pcc=pcc,
        ccc=ccc,
        bias=float(error.mean()),
        constant=constant,
        truth_sd=float(truth.std()),
    )


def checked_values(truth: Floats, predictions: Floats, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Truth and predictions as (n, targets) of float64."""
    truth, predictions = np.asarray(truth, np.float64), np.asarray(predictions, np.float64)
    if truth.ndim != 2 or truth.shape[1] != len(names) or predictions.shape != truth.shape:
        raise InputError(
            f"True values have shape {truth.shape} and predictions {predictions.shape}; expected both "
            f"(items, {len(names)}), one column each for {', '.join(names)}."
        )
    broken = ~np.isfinite(predictions).all(axis=1)
    if broken.any():
        raise InputError(f"{int(broken.sum())} of {len(truth)} predictions are not finite.")
    if np.isinf(truth).any():
        raise InputError("Some true values are infinite; expected numbers, or NaN where a value is unknown.")
    return truth, predictions


def regression_metrics(truth: Floats, predictions: Floats, names: Sequence[str]) -> RegressionMetrics:
    """All metrics of one set of predictions.

    Args:
        truth: (n, targets) native values, NaN where unknown; n may be 0, and every metric is NaN then.
        predictions: (n, targets) native values.
    """
    truth, predictions = checked_values(truth, predictions, names)
    per_target = {name: _target_metrics(truth[:, i], predictions[:, i]) for i, name in enumerate(names)}
    return RegressionMetrics(int((~np.isnan(truth)).any(axis=1).sum()), per_target)


@dataclass(frozen=True)
class Averages:
    """Metrics of each subject (or recording), averaged.

    Attributes:
        unit: what was averaged over: "identity" or "recording".
        mean, sd: metric → mean and standard deviation (n − 1) over the units; NaN without units, or with one for the SD.
        constant: cases, one per unit and target, where truth or predictions had no spread, so that pcc and ccc entered as 0.
    """

    unit: str
    units: int
    mean: dict[str, float]
    sd: dict[str, float]
    constant: int

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        return {"unit": self.unit, "units": self.units, **self.mean, "sd": self.sd, "constant": self.constant}


def average(parts: Sequence[RegressionMetrics], names: Sequence[str], unit: str) -> Averages:
    """Mean and SD over metrics of units; units without any true value are left out."""
    used = [one for one in parts if one.n]
    rows = [one.flat() for one in used]
    keys = [key for metric in NAMES for key in (metric, *(f"{metric}_{name}" for name in names))]
    mean, sd = {}, {}
    for key in keys:
        values = np.array([row[key] for row in rows if not np.isnan(row[key])])
        mean[key] = float(values.mean()) if len(values) else float("nan")
        sd[key] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Averages(unit, len(used), mean, sd, sum(one.constant for one in used))


def per_subject(subjects: Sequence[str], truth: Floats, predictions: Floats, names: Sequence[str]) -> Averages | None:
    """Metrics of every subject, then averaged; items of unknown subjects ("") take no part. None when nobody is named."""
    named = [own for who, own in rows_by(subjects).items() if who]
    each = [regression_metrics(truth[own], predictions[own], names) for own in named]
    return average(each, names, "identity") if each else None
