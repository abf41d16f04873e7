"""The order in which samples are seen: a permutation, or one that evens out the classes.

Balancing repeats the rare and thins out the frequent, without leaving it to chance which samples a class shows: a class due 2.5
times its size shows every sample twice and a random half of them once more, and what is thinned out changes every epoch. With
strength 0 this is a plain permutation. The order depends on (seed, epoch) alone, so that every process of a run, and
a resumed run, sees the same one.

This file knows class indices; it knows no recordings.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One sample as it is shown once: what to fetch, and what its augmentation is seeded with."""

    index: int
    epoch: int
    place: int


def class_quota(counts: NDArray[np.integer], strength: float, total: int) -> NDArray[np.int64]:
    """(classes,) how often each class is shown in an epoch of `total` samples: proportional to count^(1 − strength).

    Whole numbers that sum to `total`, by largest remainder; classes without samples get none.
    """
    shares = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** (1 - strength), 0.0)
    exact = total * shares / shares.sum()
    quota = np.floor(exact).astype(np.int64)
    order = np.argsort(quota - exact, kind="stable")
    quota[order[: total - int(quota.sum())]] += 1
    return quota


class EpochSampler(Sampler[Draw]):
    """Draws an epoch as long as the data set.

    Args:
        labels: (n,) class indices.
        num_classes: classes of the label space.
        strength: 0: classes as frequent as they are; 1: all alike; between: in between, 0.5 being the square root.
        seed: decides, with the epoch, everything.
    """

    def __init__(self, labels: NDArray[np.integer], num_classes: int, strength: float, seed: int) -> None:
        self._members = [np.flatnonzero(labels == index) for index in range(num_classes)]
        counts = np.asarray([len(members) for members in self._members])
        self._total = len(labels)
        self._quota = class_quota(counts, strength, self._total)
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._total

    @property
    def shown(self) -> NDArray[np.int64]:
        """(classes,) samples of each class in an epoch."""
        return self._quota.copy()

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self._seed, self.epoch))
        parts = []
        for members, quota in zip(self._members, self._quota, strict=True):
            if quota:
                passes, rest = divmod(int(quota), len(members))
                parts += [members] * passes + [generator.permutation(members)[:rest]]
        order = generator.permutation(np.concatenate(parts))
        for place, index in enumerate(order.tolist()):
            yield Draw(index, self.epoch, place)
