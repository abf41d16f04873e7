"""Figures for classification, from true labels and scores.

Conventions, because toolkits differ where a class is empty:
- UAR (unweighted average recall, balanced accuracy) and macro-F1 average over the classes that occur among the true labels.
  A class that is only ever predicted lowers the recall of the others, but is no term of its own.
- WAR (weighted average recall) is plain accuracy.
- Macro AUROC averages one-vs-rest AUROC over the classes that have both positives and negatives; None when none has.
- Precision and F1 of a class never predicted are 0.

This file knows arithmetic on labels; it knows no data set and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from ..errors import InputError


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


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, classes) scores → (n, classes) probabilities."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


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


def calibration_error(labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = 15) -> float:
    """Expected calibration error of the top label (Guo et al. 2017): bins of equal width over its probability."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, correct, bins) - np.bincount(place, confidence, bins)
    return float(np.abs(gap).sum() / len(labels))


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
    predictions = probabilities.argmax(axis=1)
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
    own = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    return ClassificationFigures(
        n=len(labels),
        uar=float(recall[present].mean()),
        war=float((predictions == labels).mean()),
        macro_f1=float(f1[present].mean()),
        macro_auroc=macro_auroc(labels, probabilities),
        ece=calibration_error(labels, probabilities),
        loss=float(-np.log(own).mean()),
        per_class={
            name: ClassFigures(float(recall[i]), float(precision[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(names)
        },
        confusion=confusion,
    )
