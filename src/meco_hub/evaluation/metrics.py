"""Figures for classification, from true labels and scores.

Conventions, because toolkits differ where a class is empty:
- UAR (unweighted average recall, balanced accuracy) and macro-F1 average over the classes that occur among the true labels.
  A class that is only ever predicted lowers the recall of the others, but is no term of its own.
- WAR (weighted average recall) is plain accuracy.
- Macro AUROC averages one-vs-rest AUROC over the classes that have both positives and negatives; None when none has.
- AUROC is that of the second class when there are two (index 1, the "positive" one), and macro AUROC when there are more.
- Precision and F1 of a class never predicted are 0.
- Top-k accuracy counts a sample when fewer than k classes stand before the true one; among equal scores the lower index stands
  first, as in the predicted class, so that top-1 is WAR.

What concerns probabilities (ECE, MCE, Brier score, cross-entropy) is defined in `probabilities.py`.

This file knows arithmetic on labels; it knows no data set and no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from ..errors import InputError
from .probabilities import (
    ReliabilityBin,
    brier_score,
    calibration_error,
    cross_entropy,
    maximum_calibration_error,
    reliability,
    softmax,
)

__all__ = [
    "TOP_K",
    "ClassFigures",
    "ClassificationFigures",
    "calibration_error",
    "count_confusion",
    "figures",
    "macro_auroc",
    "scores_of_confusion",
    "softmax",
    "top_k_accuracy",
    "weighted_auroc",
]

TOP_K = (2, 3)
"""Ranks of the top-k accuracies; those that reach the number of classes are left out, being 1."""


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class."""

    recall: float
    precision: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationFigures:
    """All figures of one set of predictions.

    Attributes:
        n: samples.
        uar, war, macro_f1: see the module; in [0, 1].
        macro_auroc: free of any threshold; None when no class has both positives and negatives.
        ece: expected calibration error of the top label over 15 bins of equal width.
        loss: mean cross-entropy in nats.
        per_class: name → figures, every class of the label space, in order.
        confusion: (classes, classes) counts, rows true, columns predicted.
        auroc: of the second class of two; macro_auroc when there are more.
        mce: largest calibration error of a bin.
        brier: Brier score, summed over classes: 0 to 2.
        top_k: k → share of samples whose true class is among the k best.
        bins: confidence and accuracy of the top label, bin by bin.
    """

    n: int
    uar: float
    war: float
    macro_f1: float
    macro_auroc: float | None
    ece: float
    loss: float
    per_class: dict[str, ClassFigures]
    confusion: NDArray[np.int64]
    auroc: float | None
    mce: float
    brier: float
    top_k: dict[int, float]
    bins: tuple[ReliabilityBin, ...]

    def flat(self) -> dict[str, float | None]:
        """Every figure that is one number, under its name in report.json."""
        return {
            "uar": self.uar,
            "war": self.war,
            "balanced_accuracy": self.uar,
            "macro_f1": self.macro_f1,
            "auroc": self.auroc,
            "macro_auroc": self.macro_auroc,
            **{f"top_{k}_accuracy": value for k, value in self.top_k.items()},
            "ece": self.ece,
            "mce": self.mce,
            "brier": self.brier,
            "cross_entropy": self.loss,
        }


def count_confusion(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """(classes, classes) counts, rows true, columns predicted."""
    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))


def scores_of_confusion(confusion: NDArray[np.integer | np.floating]) -> dict[str, NDArray[np.float64]]:
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


def macro_auroc(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float | None:
    """Mean one-vs-rest AUROC over the classes that have positives and negatives."""
    areas = []
    for index in range(probabilities.shape[1]):
        positive = labels == index
        if positive.any() and not positive.all():
            areas.append(float(roc_auc_score(positive, probabilities[:, index])))
    return float(np.mean(areas)) if areas else None


def weighted_auroc(
    positive: NDArray[np.bool_], scores: NDArray[np.floating]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
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

    def area(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        # below[i]: weight of the i lowest negatives; those that equal a positive are half below it
        below = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
        own = weights[:, positives]
        ordered = (own * (below[:, first] + below[:, last])).sum(axis=1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return ordered / (own.sum(axis=1) * below[:, -1])

    return area


def top_k_accuracy(labels: NDArray[np.integer], scores: NDArray[np.floating], k: int) -> float:
    """Share of samples whose true class is among the k best; (n,) class indices and (n, classes) scores on any scale."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < np.asarray(labels)[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return float((before < k).mean())


def figures(labels: NDArray[np.integer], logits: NDArray[np.floating], names: Sequence[str]) -> ClassificationFigures:
    """All figures of one set of predictions.

    Args:
        labels: (n,) true class indices into `names`.
        logits: (n, classes) scores before softmax.
        names: class names in the order of the logits.

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
    return ClassificationFigures(
        n=len(labels),
        uar=float(recall[present].mean()),
        war=float((predictions == labels).mean()),
        macro_f1=float(f1[present].mean()),
        macro_auroc=ranking,
        ece=calibration_error(labels, probabilities),
        loss=cross_entropy(labels, logits),
        per_class={
            name: ClassFigures(float(recall[i]), float(precision[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(names)
        },
        confusion=confusion,
        auroc=float(roc_auc_score(labels == 1, probabilities[:, 1])) if has_two else ranking,
        mce=maximum_calibration_error(labels, probabilities),
        brier=brier_score(labels, probabilities),
        top_k={k: top_k_accuracy(labels, logits, k) for k in TOP_K if k < len(names)},
        bins=reliability(labels, probabilities),
    )
