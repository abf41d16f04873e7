"""EVT 3.0, Prophesee's 16-bit words, decoded block by block with NumPy.

The words change a state (row, time high and low, base column) that holds until it is changed again, and the words between say where
something happened. All of it is done at once for a block: the state at a word is the last one set at or before it, which a running
count finds. What outlives a block is carried over. Time wraps after 2²⁴ µs; a step back by more than half of that is a wrap, and a
smaller one is left as it is.

There is a second way of reckoning EVT 3.0 time in the world: the package expelliarmus, and what was decoded with it, adds 4,096 µs
whenever the low part steps back, also where the high part has just been set anew. In a file that keeps to the format that clock
runs at twice the speed of the camera's, so it is never used for one. But some cameras' low part steps back by some microseconds
while the high part stays, which the format does not provide for; such a file's decoded form is, by use, what expelliarmus makes
of it, and `evt3_clock="auto"` gives that, with a warning and the note "evt3_clock". "format" reckons by the words alone, steps
back included, and "expelliarmus" as that package does, each for any file.

Written from the public description of the format.

This file knows bits of words; it does not know what they are wanted for.
"""

import logging
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import EventColumns, EventFile, ReadRequest
from .raw_words import LastValue, Unwrapped, count_unknown, set_bits

logger = logging.getLogger(__name__)

_LOOK_AHEAD_WORDS = 1 << 21  # before the clock is chosen; a camera that steps back does so every millisecond


def counts_low_steps(stream: BinaryIO, start: int, file: EventFile, request: ReadRequest) -> bool:
    """Whether the time of an EVT 3.0 file is reckoned as expelliarmus does; noted and logged where the file decided it."""
    if request.evt3_clock != "auto":
        return request.evt3_clock == "expelliarmus"
    stream.seek(start)
    data = stream.read(2 * _LOOK_AHEAD_WORDS)
    if not _low_steps_back(np.frombuffer(data, "<u2", len(data) // 2)):
        return False
    file.notes["evt3_clock"] = "expelliarmus"
    logger.warning(
        "%s: the low part of its time steps back while the high part stays, which EVT 3.0 does not provide for. Times are reckoned "
        'as the package expelliarmus does, whose clock is faster than the camera\'s; evt3_clock="format" goes by the words alone.',
        request.path,
    )
    return True


def _low_steps_back(words: NDArray[np.uint16]) -> bool:
    """Whether the low part of the time ever decreases under one and the same high part."""
    kind, content = words >> 12, (words & 0xFFF).astype(np.int64)
    lows = np.flatnonzero(kind == Evt3.LOW)
    highs = np.concatenate([[-1], content[kind == Evt3.HIGH]])
    above = highs[np.cumsum(kind == Evt3.HIGH)[lows]]
    return bool(((np.diff(content[lows]) < 0) & (np.diff(above) == 0)).any())


class Evt3:
    """EVT 3.0: 16-bit words; four bits of type, twelve of content."""

    Y, X, BASE, VECTOR_12, VECTOR_8, LOW, HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
    KNOWN = (Y, X, BASE, VECTOR_12, VECTOR_8, LOW, 0x7, HIGH, 0xA, 0xE, 0xF)

    def __init__(self, file: EventFile, count_low_steps: bool = False) -> None:
        self.file = file
        self.row, self.base = LastValue(), LastValue()
        # unwrapping with a period of 4096 that counts every step back is what expelliarmus adds to the high part
        self.low = LastValue(Unwrapped(12, any_step=True) if count_low_steps else None)
        self.low.carried, self.low.known = 0, True
        self.high = LastValue(Unwrapped(12))
        self.advanced = 0  # columns that vectors have gone on since the base was set

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        kind, content = (words >> 12).astype(np.uint8), words & 0xFFF
        self.file.count("unknown_words", count_unknown(kind, self.KNOWN))
        vector = (kind == self.VECTOR_12) | (kind == self.VECTOR_8)
        at = np.flatnonzero(vector | (kind == self.X))
        row, row_known = self.row.at(kind == self.Y, content & 0x7FF, at)
        high, high_known = self.high.at(kind == self.HIGH, content, at)
        low, _ = self.low.at(kind == self.LOW, content, at)
        base, base_known = self.base.at(kind == self.BASE, content, at)
        offset = self._offsets(kind, at)
        is_vector = vector[at]
        known = row_known & high_known & (base_known | ~is_vector)
        mask = np.where(is_vector, np.where(kind[at] == self.VECTOR_8, content[at] & 0xFF, content[at]), 1)
        start = np.where(is_vector, (base & 0x7FF) + offset, content[at] & 0x7FF)
        polarity = np.where(is_vector, base, content[at]) >> 11 & 1
        which, bit = set_bits(np.where(known, mask, 0).astype("<u2"))
        lost = ~known
        if lost.any():
            self.file.count("before_first_time", len(set_bits(mask[lost].astype("<u2"))[0]))
        t = ((high << 12) + low)[which]
        return start[which] + bit, row[which], t, polarity[which]

    def _offsets(self, kind: NDArray[np.uint8], at: NDArray[np.intp]) -> NDArray[np.int64]:
        """Columns that the vectors since the last base have covered before each of the words `at`."""
        width = np.zeros(len(kind), np.int64)
        width[kind == self.VECTOR_12], width[kind == self.VECTOR_8] = 12, 8
        covered = np.cumsum(width)
        bases = np.flatnonzero(kind == self.BASE)
        # what was covered when the latest base was set; before the first of this block, less than nothing by what is carried
        at_base = np.concatenate([[-self.advanced], covered[bases]])
        latest = at_base[np.cumsum(kind == self.BASE)]
        if len(kind):
            self.advanced = int(covered[-1] - latest[-1])
        return (covered - width - latest)[at]
