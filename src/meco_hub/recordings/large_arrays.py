"""Arrays of a day of many channels: on disk where memory would be too small, and computed a block of rows at a time.

A day of 32 channels at 256 Hz has 2.8 GB as float32. What lies on disk is a temporary file without a name, which is gone with the
array; the pages of it that were touched count as the system's cache, not as memory that the process holds.
"""

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

MOST_IN_MEMORY = 2**29
"""Bytes of one array, or of those that one file brings; larger ones lie in a temporary file."""

AT_ONCE = 2**23
"""Values of a block."""


def make_room(shape: tuple[int, ...], dtype: DTypeLike = np.float32, *, beside: int = 0) -> NDArray[np.floating]:
    """An array of that shape, whose values are whatever they are.

    Args:
        shape, dtype: of the array.
        beside: bytes of arrays that it lies beside, and that count with it.
    """
    if int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize + beside <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as room:  # which the mapping keeps, and nobody else sees
        return np.memmap(room, dtype, "w+", shape=shape)


def blocks_of(values: NDArray[np.floating]) -> Iterator[slice]:
    """Slices of the rows of (samples, channels), one after the other."""
    rows = max(1, AT_ONCE // max(1, values.shape[1]))
    return (slice(first, min(first + rows, len(values))) for first in range(0, len(values), rows))


def in_blocks(
    values: NDArray[np.floating], change: Callable[[NDArray[np.floating]], NDArray[np.floating]]
) -> NDArray[np.floating]:
    """(samples, channels) of which every row is changed by itself; of the same shape and type."""
    result = make_room(values.shape, values.dtype)
    for rows in blocks_of(values):
        result[rows] = change(values[rows])
    return result
