"""What decoders of raw words share: clocks that wrap, state that holds until it is set again, and masks of bits.

This file knows how a running count stands in for a loop over words; it knows no format.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Unwrapped:
    """Counts on where a clock of so many bits wraps: where it steps back by more than half of its period."""

    def __init__(self, bits: int) -> None:
        self.period, self.last, self.wraps = 1 << bits, -1, 0

    def __call__(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        before = np.concatenate([[self.last if self.last >= 0 else values[0]], values[:-1]])
        wraps = self.wraps + np.cumsum(values < before - self.period // 2)
        self.last, self.wraps = int(values[-1]), int(wraps[-1])
        return values + self.period * wraps


class LastValue:
    """A part of the decoder's state: what it is at a word is what was set last, in this block or before."""

    def __init__(self, convert: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None) -> None:
        self.convert, self.carried, self.known = convert, 0, False

    def at(
        self, setting: NDArray[np.bool_], values: NDArray[np.integer], places: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The value at each place, and whether it had ever been set there."""
        fresh = values[setting].astype(np.int64)
        if self.convert is not None and len(fresh):
            fresh = self.convert(fresh)
        latest = np.cumsum(setting)[places]  # 0: none in this block yet
        line = np.concatenate([[self.carried], fresh])
        known = (latest > 0) | self.known
        if len(fresh):
            self.carried, self.known = int(fresh[-1]), True
        return line[latest], known


def set_bits(masks: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For every set bit, lowest first: which mask it is in, and which bit."""
    bits = np.unpackbits(masks.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    which, bit = np.nonzero(bits)
    return which, bit


def count_unknown(kind: NDArray[np.uint8], known: tuple[int, ...]) -> int:
    counts = np.bincount(kind, minlength=16)
    return int(counts.sum() - counts[list(known)].sum())
