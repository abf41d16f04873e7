"""What becomes of events on a pixel grid: voxel grids, counts, time surfaces, pictures; each grows part by part.

    grid = VoxelGrid(260, 346, bins=5, start_us=0, end_us=33_000)
    for part in parts:
        grid.add(part.x, part.y, part.t, part.p)
    grid.finish()                                               # (5, 260, 346) float32

Sums are kept as integers until `finish`, so that the order and the size of the parts do not change a digit of the result, a
recording with all polarities reversed gives exactly the negative grid, and shifting all clocks changes nothing.

How the voxel grid is fast. In sorted time the events of one bin lie next to each other, so that no bin needs to be computed per
event, and within a bin both halves of the linear weight follow from two sums per pixel: how many events, and their summed time
since the bin's beginning. One pass finds both: 2ᵏ + time is added up in int64, which holds the count above bit k and the time
below it. Whether that fitted is checked afterwards; where it did not (hundreds of thousands of events on one pixel), the two sums
are made one by one. Where it is worth it, `compiled_sums` finds the same sums.

Events must lie on the grid and be in the order of time: nothing is checked here.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .compiled_sums import LONGEST_PART, find_loop, fits

GREY = 128
"""The 8-bit value of a pixel where nothing happened: 0.50196, the nearest to the middle that rounds away from black."""

BACKGROUND = float(np.float32(GREY) / np.float32(255))

_BLOCK = 1 << 16  # events whose temporaries stay in a processor's second-level cache
_BITS = 63


class EventGrid(ABC):
    """A grid that events are added to.

    Args:
        height, width: pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.pixels = height * width
        # types as narrow as the grid allows: what is half as wide is computed twice as fast
        self._row_type = np.uint16 if 2 * height < 2**16 else np.int64
        self._flat_type = np.uint32 if 2 * self.pixels < 2**32 else np.int64
        # used again for every block: asking for memory would cost as much as the sums
        self._places_room = np.empty(0, np.int64)
        self._flat_room, self._row_room = np.empty(0, self._flat_type), np.empty(0, self._row_type)

    def add(self, x: NDArray, y: NDArray, t: NDArray[np.int64], p: NDArray[np.uint8]) -> None:
        """Add events in the order of time, inside the grid, with polarities 0 and 1."""
        for first in range(0, len(t), _BLOCK):
            cut = np.s_[first : first + _BLOCK]
            self._add_block(self._places(x[cut], y[cut], p[cut]), t[cut])

    def _places(self, x: NDArray, y: NDArray, p: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Index into (2, height, width), polarity first; overwritten by the next call."""
        number = len(x)
        if len(self._places_room) < number:
            self._places_room = np.empty(number, np.int64)
            self._flat_room, self._row_room = np.empty(number, self._flat_type), np.empty(number, self._row_type)
        row, flat, places = self._row_room[:number], self._flat_room[:number], self._places_room[:number]
        np.multiply(p, self.height, out=row, dtype=self._row_type)
        row += y
        np.copyto(flat, row)
        flat *= self._flat_type(self.width)
        return np.add(flat, x, out=places)

    def _add_block(self, places: NDArray[np.int64], t: NDArray[np.int64]) -> None:
        raise NotImplementedError  # for grids that take a whole part at once and override `add`

    @abstractmethod
    def finish(self) -> NDArray[np.float32]:
        """The grid, (channels, height, width)."""

    def _signed(self, values: NDArray) -> NDArray:
        """ON minus OFF, of (2·height·width,)."""
        return values[self.pixels :] - values[: self.pixels]


class VoxelGrid(EventGrid):
    """Signed polarity, shared linearly between the two nearest of `bins` instants evenly spaced from start to end.

    An event at the k-th instant gives all of itself to bin k. Where start and end are the same, everything is in bin 0. The sum of
    the grid is the sum of the polarities. (Zhu et al., CVPR 2019.)
    """

    def __init__(self, height: int, width: int, *, bins: int, start_us: int, end_us: int) -> None:
        super().__init__(height, width)
        self.bins, self.start, self.span = bins, start_us, end_us - start_us
        self.intervals = bins - 1 if self.span > 0 else 0
        self.counts = np.zeros((max(self.intervals, 1), self.pixels), np.int64)  # signed, per interval between instants
        self.times = np.zeros((self.intervals, self.pixels), np.int64)  # signed µs since the interval's beginning
        self._weights = np.empty(0, np.int64)

    def add(self, x: NDArray, y: NDArray, t: NDArray[np.int64], p: NDArray[np.uint8]) -> None:
        if not self.intervals:
            for first in range(0, len(t), _BLOCK):
                cut = np.s_[first : first + _BLOCK]
                self.counts[0] += self._signed(
                    np.bincount(self._places(x[cut], y[cut], p[cut]), minlength=2 * self.pixels)
                )
            return
        # the first whole microsecond at or after each instant; the last interval includes its end
        instants = [self.start - (-k * self.span // self.intervals) for k in range(1, self.intervals)]
        borders = [0, *np.searchsorted(t, instants).tolist(), len(t)]
        loop = find_loop(len(t))
        step, packed = (LONGEST_PART, np.zeros(self.pixels, np.int64)) if loop else (len(t) + 1, None)
        for k in range(self.intervals):
            for first in range(borders[k], borders[k + 1], step):
                cut = np.s_[first : min(first + step, borders[k + 1])]
                part, since = (x[cut], y[cut], t[cut], p[cut]), self._beginning(k)
                if loop and fits(t[cut]):
                    # as it was compiled for them: columns of a structured array are copied
                    types = (np.uint16, np.uint16, np.int64, np.uint8)
                    columns = [
                        np.require(values, type_, ["C", "A", "W"]) for values, type_ in zip(part, types, strict=True)
                    ]
                    loop(*columns, self.width, self.height, since, packed, self.counts[k], self.times[k])
                else:
                    counts, times = self._sums(*part, since)
                    self.counts[k] += counts
                    self.times[k] += times

    def _beginning(self, k: int) -> int:
        """The last whole microsecond at or before the k-th instant."""
        return self.start + k * self.span // self.intervals

    def _sums(
        self, x: NDArray, y: NDArray, t: NDArray[np.int64], p: NDArray[np.uint8], since: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Signed number of events and signed summed time since `since`, per pixel."""
        longest = int(t[-1]) - since
        # half of what is left for the count; and however the events lie, their sum is no more than int64 holds
        low_bits = min((_BITS + longest.bit_length()) // 2, _BITS - 1 - len(t).bit_length())
        unit = 1 << low_bits
        packed = np.zeros(2 * self.pixels, np.int64)
        for first in range(0, len(t), _BLOCK):
            cut = np.s_[first : first + _BLOCK]
            number = len(t[cut])
            if len(self._weights) < number:
                self._weights = np.empty(number, np.int64)
            weights = np.subtract(t[cut], since - unit, out=self._weights[:number])
            np.add.at(packed, self._places(x[cut], y[cut], p[cut]), weights)  # in place, and quicker than np.bincount
        # never less than the true number of events on one pixel: what is summed below the unit is not negative
        most = int(packed.max(initial=0)) // unit + 1
        if most * max(longest, 1) < unit:
            counts = self._signed(packed >> low_bits)
            return counts, self._signed(packed) - (counts << low_bits)
        counts, times = np.zeros(2 * self.pixels, np.int64), np.zeros(2 * self.pixels, np.int64)
        for first in range(0, len(t), _BLOCK):
            cut = np.s_[first : first + _BLOCK]
            places = self._places(x[cut], y[cut], p[cut])
            counts += np.bincount(places, minlength=2 * self.pixels)
            np.add.at(times, places, t[cut] - since)
        return self._signed(counts), self._signed(times)

    def finish(self) -> NDArray[np.float32]:
        # bin by bin, with little memory of its own: asking for that took longer than the sums
        grid = np.zeros((self.bins, self.pixels), np.float32)
        before: NDArray[np.float64] | float = 0.0  # what the interval before the bin gives it
        for k in range(self.intervals):
            # how far the instant lies behind its whole microsecond, in 1/intervals µs
            late = k * self.span % self.intervals
            later = self.intervals * self.times[k]
            if late:
                later -= late * self.counts[k]
            later = later / self.span
            grid[k] = before + (self.counts[k] - later)
            before = later
        grid[self.intervals] = before if self.intervals else self.counts[0]
        return grid.reshape(self.bins, self.height, self.width)


class PolarityCounts(EventGrid):
    """How many events: channel 0 OFF, channel 1 ON."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.counts = np.zeros(2 * self.pixels, np.int64)

    def _add_block(self, places: NDArray[np.int64], t: NDArray[np.int64]) -> None:
        self.counts += np.bincount(places, minlength=2 * self.pixels)

    def finish(self) -> NDArray[np.float32]:
        return self.counts.reshape(2, self.height, self.width).astype(np.float32)


class _LatestTimes(EventGrid):
    """When something happened last, per polarity; an event at the same time as another of its pixel counts as the later one."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.latest = np.full(2 * self.pixels, np.iinfo(np.int64).min, np.int64)

    def _add_block(self, places: NDArray[np.int64], t: NDArray[np.int64]) -> None:
        block = np.full(2 * self.pixels, np.iinfo(np.int64).min, np.int64)
        block[places] = t  # NumPy leaves the last value where a place occurs more than once
        np.maximum(self.latest, block, out=self.latest)


class TimeSurface(_LatestTimes):
    """exp(−(end − t)/decay) of each pixel's last event, 0 where there was none: channel 0 OFF, channel 1 ON.

    (Lagorce et al., TPAMI 2017.)
    """

    def __init__(self, height: int, width: int, *, end_us: int, decay_us: float) -> None:
        super().__init__(height, width)
        self.end, self.decay = end_us, decay_us

    def finish(self) -> NDArray[np.float32]:
        seen = self.latest != np.iinfo(np.int64).min
        surface = np.zeros(2 * self.pixels)
        surface[seen] = np.exp((self.latest[seen] - self.end) / self.decay)
        return surface.reshape(2, self.height, self.width).astype(np.float32)


class EventPicture(EventGrid):
    """A grey picture of what happened: each ON event adds `contribution` to the middle grey, each OFF event takes it away.

    The result is an 8-bit picture: 128 where nothing happened or as much brightened as darkened, up to 255 (white) and down to 0
    (black). With the default contribution of 0.5 the sign of the sum decides: white, black, or grey.
    """

    def __init__(self, height: int, width: int, *, contribution: float = 0.5) -> None:
        super().__init__(height, width)
        self.contribution = contribution
        self.sums = np.zeros(self.pixels, np.int64)

    def _add_block(self, places: NDArray[np.int64], t: NDArray[np.int64]) -> None:
        self.sums += self._signed(np.bincount(places, minlength=2 * self.pixels))

    def picture(self) -> NDArray[np.uint8]:
        """(height, width), as it would be stored in a file."""
        values = np.clip(np.rint(GREY + 255 * self.contribution * self.sums), 0, 255)
        return values.astype(np.uint8).reshape(self.height, self.width)

    def finish(self) -> NDArray[np.float32]:
        return self.picture()[None].astype(np.float32) / np.float32(255)


class LastEventPicture(EventGrid):
    """A grey picture in which each pixel's last event decides: white after ON, black after OFF, 128 where nothing happened."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.latest = np.full(self.pixels, np.iinfo(np.int64).min, np.int64)
        self.values = np.full(self.pixels, GREY, np.uint8)

    def _add_block(self, places: NDArray[np.int64], t: NDArray[np.int64]) -> None:
        pixel = places % self.pixels
        times, values = np.full(self.pixels, np.iinfo(np.int64).min, np.int64), np.zeros(self.pixels, np.uint8)
        times[pixel], values[pixel] = t, np.where(places >= self.pixels, 255, 0)
        newer = (times >= self.latest) & (times != np.iinfo(np.int64).min)
        self.latest[newer], self.values[newer] = times[newer], values[newer]

    def picture(self) -> NDArray[np.uint8]:
        """(height, width), as it would be stored in a file."""
        return self.values.reshape(self.height, self.width)

    def finish(self) -> NDArray[np.float32]:
        return self.picture()[None].astype(np.float32) / np.float32(255)
