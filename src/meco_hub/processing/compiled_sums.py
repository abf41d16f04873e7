"""The voxel grid's sums as one loop, compiled by numba (extra `fast`): 0.5 to 0.7 of NumPy's time on a sensor of 346×260 pixels.

    loop = find_loop(len(t))        # None: NumPy it is
    if loop and fits(t):
        loop(x, y, t, p, width, height, since, packed, counts, times)

Loading numba and the loop takes 0.7 to 1.2 s in every process, and half a second more where it is compiled, once on a machine. So
it is loaded by a process that has laid out so many events that it would have gained as much by then, and is kept. What is compiled
lies where numba keeps it: in `NUMBA_CACHE_DIR`, else in `__pycache__` beside this file, else in the user's cache. Where nothing can
be written the loop is not used.

Why nothing overflows. Each event adds ±(2⁴³ + its time since the part's first event) to one number. A part has at most 2¹⁹ events
and is shorter than 2²³ µs, so that in each number the times add up to less than 2⁴² either way, half the unit: the count is the
nearest multiple of the unit, and what is left is the time. The whole is at most 2⁶² + 2⁴², which int64 holds.
"""

import importlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LONGEST_PART = 1 << 19
"""Events that the loop takes at once."""

WORTH_LOADING = 400_000_000
"""Events laid out by this process from which on the loop is loaded: what it then would have gained is about what loading takes."""

_BITS, _LONGEST_US = 43, 1 << 23
_SIGNATURE = (
    "(uint16[::1], uint16[::1], int64[::1], uint8[::1], int64, int64, int64, int64[::1], int64[::1], int64[::1])"
)

_laid_out = 0


def find_loop(events: int) -> Callable[..., None] | None:
    """The compiled loop, where it is worth it for a process that is about to lay out so many events more."""
    global _laid_out
    _laid_out += events
    return _compile() if _laid_out >= WORTH_LOADING else None


def fits(t: NDArray[np.int64]) -> bool:
    """Whether the loop may take a part with these times, in their order."""
    return 0 < len(t) <= LONGEST_PART and int(t[-1]) - int(t[0]) < _LONGEST_US


@cache
def _compile() -> Callable[..., None] | None:
    try:
        numba: Any = importlib.import_module("numba")
        if numba.config.DISABLE_JIT:  # it would run as Python
            return None
        return numba.njit(_SIGNATURE, cache=True, nogil=True)(_add_signed)
    except Exception as error:  # noqa: BLE001 — no numba, one that does not fit NumPy, no place for its cache: NumPy does it as well
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            said = str(error).partition("\n")[0]
            logger.warning(
                "Events are added up without numba, which is slower: %s. Set NUMBA_CACHE_DIR to a folder that can be written, or "
                "install meco-hub[fast] anew.",
                said or type(error).__name__,
            )
        return None


def _add_signed(
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    t: NDArray[np.int64],
    p: NDArray[np.uint8],
    width: int,
    height: int,
    since: int,
    packed: NDArray[np.int64],
    counts: NDArray[np.int64],
    times: NDArray[np.int64],
) -> None:
    """Add a part's signed numbers of events and signed times since `since`, per pixel; `packed` is zeros before and after."""
    unit, first = 1 << _BITS, t[0]
    for event in range(len(t)):
        if x[event] >= width or y[event] >= height or p[event] > 1:  # compiled code would write anywhere
            raise IndexError("An event lies outside the grid, or its polarity is neither 0 nor 1.")
        packed[np.uint64(y[event] * width + x[event])] += (2 * p[event] - 1) * (unit + t[event] - first)
    for pixel in range(len(packed)):
        count = (packed[pixel] + unit // 2) >> _BITS
        counts[pixel] += count
        times[pixel] += packed[pixel] - (count << _BITS) + count * (first - since)
        packed[pixel] = 0
