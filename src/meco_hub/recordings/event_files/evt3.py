"""EVT 3.0, Prophesee's 16-bit words, decoded block by block with NumPy.

The words change a state (row, time high and low, base column) that holds until it is changed again, and the words between say where
something happened. All of it is done at once for a block: the state at a word is the last one set at or before it, which a running
count finds. What outlives a block is carried over. Time wraps after 2²⁴ µs; a step back by more than half of that is a wrap, and a
smaller one is left as it is.

A new high part sets the low part to zero until a word gives it, as the vendor's own decoder (OpenEB) does. Some cameras' low part
steps back by some microseconds while the high part stays; such events are put in order of time afterwards.

Written from the public description of the format.

This file knows bits of words; it does not know what they are wanted for.
"""

import numpy as np
from numpy.typing import NDArray

from . import EventColumns, EventFile
from .raw_words import LastValue, Unwrapped, count_unknown, set_bits


class Evt3:
    """EVT 3.0: 16-bit words; four bits of type, twelve of content."""

    Y, X, BASE, VECTOR_12, VECTOR_8, LOW, HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
    KNOWN = (Y, X, BASE, VECTOR_12, VECTOR_8, LOW, 0x7, HIGH, 0xA, 0xE, 0xF)

    def __init__(self, file: EventFile) -> None:
        self.file = file
        self.row, self.base = LastValue(), LastValue()
        self.low = LastValue()
        self.high = LastValue(Unwrapped(12))
        self.advanced = 0  # columns that vectors have gone on since the base was set

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        kind, content = (words >> 12).astype(np.uint8), words & 0xFFF
        self.file.count("unknown_words", count_unknown(kind, self.KNOWN))
        vector = (kind == self.VECTOR_12) | (kind == self.VECTOR_8)
        at = np.flatnonzero(vector | (kind == self.X))
        row, row_known = self.row.at(kind == self.Y, content & 0x7FF, at)
        high_word = kind == self.HIGH
        high, high_known = self.high.at(high_word, content, at)
        low, _ = self.low.at((kind == self.LOW) | high_word, np.where(high_word, 0, content), at)
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
