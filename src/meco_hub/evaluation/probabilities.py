"""Probabilities against what happened: softmax, reliability, calibration error, Brier score.

Conventions, because toolkits differ:
- Confidence is the probability of the top label (Guo et al. 2017, arXiv 1706.04599). Bins have equal width over [0, 1] and hold
  their lower edge, the last one both edges.
- ECE (expected calibration error) is the mean gap between confidence and accuracy over the bins, weighted by their samples; MCE is
  the largest gap of a bin that has samples.
- The Brier score is the mean over samples of the sum over classes of (p − 1[true])², which runs from 0 to 2 (Brier 1950). For two
  classes it is twice the form that sums over one of them.
- Cross-entropy is in nats.

This file knows arithmetic on probabilities; it knows no data set and no model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Bins of a reliability diagram, as in Guo et al. 2017."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The samples whose top label has a probability in [low, high).

    Attributes:
        low, high: edges.
        n: samples.
        confidence, accuracy: mean probability of the top label, and the share where it was right; None without samples.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, classes) scores → (n, classes) logarithms of probabilities."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, classes) scores → (n, classes) probabilities."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> float:
    """Mean negative log-likelihood of the true classes, in nats; (n,) class indices and (n, classes) scores before softmax."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def reliability(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
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


def _gaps(bins: tuple[ReliabilityBin, ...]) -> list[tuple[int, float]]:
    """Samples, and the gap between confidence and accuracy, of every bin that has samples."""
    return [
        (one.n, abs(one.accuracy - one.confidence))
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    ]


def calibration_error(labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS) -> float:
    """ECE of the top label."""
    gaps = _gaps(reliability(labels, probabilities, bins))
    return sum(n * gap for n, gap in gaps) / len(labels)


def maximum_calibration_error(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS
) -> float:
    """MCE of the top label. One stray sample in a bin of its own can make it; read it beside the bins."""
    return max(gap for _, gap in _gaps(reliability(labels, probabilities, bins)))


def brier_score(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Mean over samples of the squared distance between probabilities and truth, in [0, 2]."""
    distance = np.array(probabilities, np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())
