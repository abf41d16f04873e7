"""Confidence intervals by resampling whole persons.

Pictures of one person resemble each other, so resampling pictures makes intervals too narrow. Where identities are known,
persons are drawn with replacement and bring all their samples; samples of unknown identity are persons of their own.

All resamples are counted at once: each person's confusion matrix is fixed, and a resample is a weighted sum of them.

This file knows resampling; the figures it resamples are in `metrics.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import scores_of_confusion

_CHUNK = 100
"""Resamples counted at once: bounds memory at 100 × persons × 8 bytes."""


@dataclass(frozen=True)
class Intervals:
    """Percentile bootstrap intervals.

    Attributes:
        bounds: "uar", "war", "macro_f1" → (low, high).
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


def _group(identities: Sequence[str], n: int) -> tuple[NDArray[np.int64], str]:
    """(n,) index of each sample's person; persons without a name are one each."""
    known = [bool(name) for name in identities]
    if not any(known):
        return np.arange(n), "sample"
    keys = [name if name else f"\0{index}" for index, name in enumerate(identities)]
    return np.unique(np.asarray(keys, dtype=object), return_inverse=True)[1].astype(np.int64), "identity"


def bootstrap(
    labels: NDArray[np.integer],
    predictions: NDArray[np.integer],
    num_classes: int,
    identities: Sequence[str] = (),
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Intervals of UAR, WAR and macro-F1.

    Args:
        labels, predictions: (n,) class indices.
        num_classes: classes of the label space.
        identities: (n,) persons, "" where unknown; none at all resamples single samples.

    In a resample that lost a class, UAR and macro-F1 average over the classes it still has.
    """
    groups, unit = _group(identities or [""] * len(labels), len(labels))
    units = int(groups.max()) + 1
    cells = num_classes * num_classes
    place = groups * cells + np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    # float64: exact for counts, and its matrix product runs in BLAS, which integers do not
    own = np.bincount(place, minlength=units * cells).reshape(units, cells).astype(np.float64)
    used = own.sum(axis=0) > 0  # most cells of a confusion matrix are never hit by anyone
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        picks = generator.integers(0, units, size=(count, units)) + np.arange(count)[:, None] * units
        weights = np.bincount(picks.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        confusion = np.zeros((count, cells))
        confusion[:, used] = weights @ own[:, used]
        for name, values in scores_of_confusion(confusion.reshape(count, num_classes, num_classes)).items():
            drawn.setdefault(name, []).append(values)
    tail = (1 - level) / 2
    bounds = {}
    for name, parts in drawn.items():
        low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail])
        bounds[name] = (float(low), float(high))
    return Intervals(bounds, level, unit, units, resamples, seed)
