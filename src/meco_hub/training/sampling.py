"""The order in which examples are seen: a permutation, one that evens out the classes, or one that evens out the recordings.

Balancing repeats the rare and thins out the frequent, without leaving it to chance which samples a class shows: a class due 2.5
times its size shows every sample twice and a random half of them once more, and what is thinned out changes every epoch. With
strength 0 this is a plain permutation. The order depends on (seed, epoch) alone, so that every process of a run, and
a resumed run, sees the same one.

This file knows indices; it knows no recordings.
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


class _EpochOrder(Sampler[Draw]):
    """An order that depends on seed and epoch alone."""

    def __init__(self, total: int, seed: int) -> None:
        self._total, self._seed = total, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._total

    def _chosen(self, generator: np.random.Generator) -> NDArray[np.int64]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self._seed, self.epoch))
        order = generator.permutation(self._chosen(generator))
        for place, index in enumerate(order.tolist()):
            yield Draw(index, self.epoch, place)


class EpochSampler(_EpochOrder):
    """Draws an epoch as long as the data set, class by class.

    Args:
        labels: (n,) class indices; all zero where there are no classes.
        num_classes: classes of the label space.
        strength: 0: classes as frequent as they are; 1: all alike; between: in between, 0.5 being the square root.
        seed: decides, with the epoch, everything.
    """

    def __init__(self, labels: NDArray[np.integer], num_classes: int, strength: float, seed: int) -> None:
        super().__init__(len(labels), seed)
        self._members = [np.flatnonzero(labels == index) for index in range(num_classes)]
        self._quota = class_quota(
            np.asarray([len(members) for members in self._members], np.int64), strength, len(labels)
        )

    @property
    def shown(self) -> NDArray[np.int64]:
        """(classes,) samples of each class in an epoch."""
        return self._quota.copy()

    def _chosen(self, generator: np.random.Generator) -> NDArray[np.int64]:
        parts = []
        for members, quota in zip(self._members, self._quota, strict=True):
            if quota:
                passes, rest = divmod(int(quota), len(members))
                parts += [members] * passes + [generator.permutation(members)[:rest]]
        return np.concatenate(parts)


class RecordingSampler(_EpochOrder):
    """Draws the same number of clips from every recording, others in every epoch: long recordings weigh no more than short ones.

    Args:
        owners: (n,) the recording of every clip.
        clips: clips per recording and epoch; a recording that has fewer shows some of them again.
        seed: decides, with the epoch, everything.
    """

    def __init__(self, owners: NDArray[np.integer], clips: int, seed: int) -> None:
        self._members = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
        super().__init__(clips * len(self._members), seed)
        self._clips = clips

    def _chosen(self, generator: np.random.Generator) -> NDArray[np.int64]:
        parts = []
        for members in self._members:
            passes, rest = divmod(self._clips, len(members))
            parts += [members] * passes + [generator.permutation(members)[:rest]]
        return np.concatenate(parts)
