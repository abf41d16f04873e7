"""From a sensor's own clock to an even grid, without inventing, smearing or folding anything.

    plan = plan_grid(stream, rate=128.0, anchor=recording.start)
    gridded = plan.apply(stream)                    # evenly spaced; NaN where nothing was measured

A stream that ticks at the grid's rate already is kept, sample by sample, with its own times. A faster one is low-passed by a
zero-phase filter and thinned: each value is a weighted mean of real samples around it, the weights of missing ones being left
out and the others made to sum to one again, so that a gap neither spreads nor is filled; it counts where half the samples of
its own period are real. A slower or uneven one is interpolated linearly between two real samples, which count when they lie at
most 1.5 of the stream's own periods apart. Nothing is ever extrapolated.

The filters are windowed sincs whose pass band ends at 0.7 of the new Nyquist frequency and whose stop band, 50 dB down, begins
there; next to gaps and ends, where half of the weights are missing, they are less steep.

This file knows clocks, grids and filters; it knows no recording and no model.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..recordings.clocks import estimate_rate
from ..recordings.signal_recording import Stream
from .decimation import PERIODS, decimate
from .filters import ALL_PASS, Bands, are_real, filter_bands
from .signal_summaries import summarise

LONGEST_STEP = 1.5
"""Two real samples further apart than so many periods have a gap between them."""

_JITTER = 0.3
"""Samples that stray from an even grid by no more than this, in periods from the earliest to the latest, are on it."""

_SAME_RATE = 0.02
_ON_SAMPLE = 1e-3
"""A point this close to a sample, in periods, is on it: clocks that count from 1970 resolve a quarter of a microsecond."""


@dataclass(frozen=True)
class GridPlan:
    """How one stream comes onto one grid; made once, and then the same for every part of the stream.

    Attributes:
        how: "copy", "decimate", "interpolate", or "summarise": four numbers a channel for each period of the grid.
        rate: of the grid.
        own_rate: of the stream; 0 where it has none.
        origin: time of some sample, from which "copy" and "decimate" count.
        anchor: the time (anchor + (k + 1/2) / rate) is a point of the grid, unless samples are copied.
        longest_gap: seconds between two samples that are interpolated between.
        bands: filters that come first.
    """

    how: str
    rate: float
    own_rate: float
    origin: float
    anchor: float
    longest_gap: float
    bands: Bands = ALL_PASS

    @property
    def reach(self) -> float:
        """Seconds of the stream, after a point of the grid, that its value depends on."""
        if self.how == "summarise":
            return 0.5 / self.rate
        own = 1 / self.own_rate if self.own_rate else 0.0
        thinning = PERIODS / self.rate + own if self.how == "decimate" else 0.0
        return thinning + self.bands.reach

    def is_kept_by(self, times: NDArray[np.float64]) -> bool:
        """Do further samples of a stream that is copied tick as those did from which the plan was made?"""
        ticks = (times - self.origin) * self.own_rate
        return not len(ticks) or bool(np.ptp(ticks - np.rint(ticks)) <= _JITTER)

    def describe(self) -> str:
        """In words, for reports."""
        own = f"{self.own_rate:g} Hz" if self.own_rate else "uneven"
        words = {"copy": "copied", "decimate": f"decimated from {own}", "interpolate": f"interpolated from {own}"}
        return words.get(self.how, f"summarised by {1 / self.rate:g} s from {own}")

    def apply(self, stream: Stream, start: float = -np.inf, end: float = np.inf) -> Stream:
        """The stream on its grid, from `start` up to, and without, `end`; no further than there are samples.

        Returns:
            A stream of this plan's rate, without holes in its clock; NaN where a sample is missing. A view where nothing changed.
        """
        if not len(stream):
            return replace(stream, rate=self.rate)
        if self.how == "summarise":
            half = 0.5 / self.rate
            points = self._points(max(start, stream.times[0] - half), min(end, stream.times[-1] + half))
            found = summarise(stream, points, 1 / self.rate, self.own_rate or None)
            return Stream(found.astype(stream.values.dtype), points, self.rate)
        if self.how == "interpolate" and not self.bands.any:
            points = self._points(max(start, stream.times[0]), min(end, stream.times[-1] + 2 * _ON_SAMPLE / self.rate))
            return interpolate(stream, points, self.rate, self.longest_gap)
        rate = self.own_rate
        even = fill_holes(stream, rate)
        if even is None:
            first = np.ceil((stream.times[0] - self.origin) * rate - _ON_SAMPLE)
            last = np.floor((stream.times[-1] - self.origin) * rate + _ON_SAMPLE)
            ticks = self.origin + np.arange(first, last + 1) / rate
            even = interpolate(stream, ticks, rate, LONGEST_STEP / rate)
            if not len(even):
                return replace(even, rate=self.rate)
        if self.bands.any:
            even = filter_bands(even, rate, self.bands)
        if self.how == "copy":
            edge = _ON_SAMPLE / rate
            return replace(even.between(start - edge, end - edge), rate=self.rate)
        half = 0.5 / self.rate if self.how == "decimate" else 0.0
        points = self._points(
            max(start, even.times[0] - half), min(end, even.times[-1] + half + 2 * _ON_SAMPLE / self.rate)
        )
        if self.how == "interpolate":
            return interpolate(even, points, self.rate, self.longest_gap)
        return decimate(even, rate, points, self.rate)

    def _points(self, start: float, end: float) -> NDArray[np.float64]:
        """Points of the grid from `start` up to, and without, `end`."""
        first, last = (np.ceil((time - self.anchor) * self.rate - 0.5 - _ON_SAMPLE) for time in (start, end))
        points = np.arange(first, last)
        points += 0.5
        points /= self.rate
        points += self.anchor
        return points


def plan_grid(
    stream: Stream,
    rate: float,
    anchor: float,
    *,
    bands: Bands = ALL_PASS,
    max_gap: float | None = None,
    summary: bool = False,
) -> GridPlan:
    """Decide how a stream comes onto a grid.

    Args:
        stream: with finite, strictly increasing times (`recordings.clocks.check_stream`).
        rate: Hz of the grid.
        anchor: where the grid's first period begins.
        bands: filters to apply first; not to streams without a rate.
        max_gap: for events without a rate, such as intervals between heart beats: the longest time between two of them that is
            interpolated over, seconds.
        summary: each period of the grid is described by what was measured in it, see `signal_summaries`.
    """
    own_rate = stream.rate or estimate_rate(stream.times) or 0.0
    origin = float(stream.times[0]) if len(stream) else anchor
    if summary:
        return GridPlan("summarise", rate, own_rate if max_gap is None else 0.0, origin, anchor, 1 / rate)
    even = own_rate > 0 and abs(own_rate / rate - 1) <= _SAME_RATE and _is_even(stream.times, rate)
    if even:
        return GridPlan("copy", rate, rate, origin, anchor, LONGEST_STEP / rate, bands)
    if max_gap is not None:
        return GridPlan("interpolate", rate, 0.0, origin, anchor, max_gap)
    if own_rate == 0.0:  # a single sample, which nothing can be made of
        return GridPlan("interpolate", rate, 0.0, origin, anchor, LONGEST_STEP / rate)
    how = "decimate" if own_rate > rate * (1 + _SAME_RATE) else "interpolate"
    return GridPlan(how, rate, own_rate, origin, anchor, LONGEST_STEP / own_rate, bands)


def interpolate(stream: Stream, points: NDArray[np.float64], rate: float, longest_gap: float) -> Stream:
    """Linear interpolation between the two real samples around each point; NaN where they lie too far apart, or are not there.

    A point that falls on a real sample takes its value, however long the gap beside it.
    """
    values, times = stream.values, stream.times
    real = are_real(values)
    if not real.all():
        values, times = values[real], times[real]
    if not len(times):
        return Stream(np.full((len(points), values.shape[1]), np.nan, values.dtype), points, rate, stream.channels)
    close = _ON_SAMPLE / rate
    right = np.searchsorted(times, points - close)
    inside = right < len(times)
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(times) - 1)
    earlier, later = times[left], times[right]
    before, after = values[left], values[right]
    gap = later - earlier
    valid = inside & (gap > 0) & (gap <= longest_gap * (1 + 1e-6))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of points that are not valid
        mixed = before + ((points - earlier) / gap)[:, None] * (after - before)
    result = np.where(valid[:, None], mixed, np.nan).astype(values.dtype)
    on_sample = inside & (np.abs(later - points) <= close)
    result[on_sample] = after[on_sample]  # exactly, whatever rounding would have made of it
    return Stream(result, points, rate, stream.channels)


def fill_holes(stream: Stream, rate: float) -> Stream | None:
    """A stream with a row of NaN for every sample that an even clock of that rate skipped; None if the clock is not even."""
    ticks = stream.times - stream.times[0]
    ticks *= rate
    index = np.rint(ticks)
    ticks -= index
    if np.ptp(ticks) > _JITTER or not (index[1:] > index[:-1]).all():
        return None
    size = int(index[-1]) + 1
    if size == len(index):
        return stream if stream.rate == rate else replace(stream, rate=rate)
    at = index.astype(np.int64)
    values = np.full((size, stream.values.shape[1]), np.nan, stream.values.dtype)
    values[at] = stream.values
    times = stream.times[0] + np.arange(size) / rate
    times[at] = stream.times
    return Stream(values, times, rate, stream.channels)


def is_on_grid(stream: Stream, rate: float) -> bool:
    """Does a stream tick at that rate, without holes in its clock?"""
    times = stream.times
    return abs((times[-1] - times[0]) * rate - len(times) + 1) <= _JITTER and _ticks(stream, rate)


def are_on_grid(stream: Stream, rate: float, first: NDArray[np.int64], last: NDArray[np.int64]) -> bool:
    """Is every part of a stream on that grid, from sample `first` up to and without `last`, where there are any?"""
    some = last > first
    first, last = first[some], last[some]
    drift = (stream.times[last - 1] - stream.times[first]) * rate - (last - first) + 1
    return bool((np.abs(drift) <= _JITTER).all()) and _ticks(stream, rate)


def _ticks(stream: Stream, rate: float) -> bool:
    """Is the stream's rate that one, and is every step of its clock about as long as it should be?"""
    if stream.rate is None or abs(stream.rate / rate - 1) > _SAME_RATE:
        return False
    steps = stream.times[1:] - stream.times[:-1]
    return not len(steps) or bool(steps.max() * rate <= 1 + _JITTER and steps.min() * rate >= 1 - _JITTER)


def thin(stream: Stream, factor: int) -> Stream:
    """Every `factor`-th sample of an even stream, low-passed first; a stream without a rate, or an uneven one, as it is."""
    even = fill_holes(stream, stream.rate) if stream.rate and len(stream) and factor > 1 else None
    if even is None or stream.rate is None:
        return stream
    return decimate(even, stream.rate, even.times[::factor], stream.rate / factor)


def _is_even(times: NDArray[np.float64], rate: float) -> bool:
    if not len(times):
        return False
    ticks = (times - times[0]) * rate
    return bool(np.ptp(ticks - np.rint(ticks)) <= _JITTER)
