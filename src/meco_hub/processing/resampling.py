"""Zero-phase filters that leave gaps alone: a missing sample touches no other, and is not filled.

Each value is a weighted mean of the real samples around it: the weights of missing ones are left out, and the others made to sum
to one again. Next to a gap or an end, where half of the weights are missing, a filter is therefore less steep. Where less than
MIN_WEIGHT of them is left, the value is missing too.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..recordings.large_arrays import AT_ONCE, make_room
from ..recordings.signal_recording import Stream, estimate_rate

MIN_WEIGHT = 0.4
"""At the last sample before a gap it is half."""

_KAISER_BETA = 4.6
"""50 dB between pass band and stop band."""


@dataclass(frozen=True)
class Bands:
    """What a modality is filtered by at its own rate, before anything else. Hz; None leaves that side open."""

    highpass: float | None = None
    lowpass: float | None = None

    @property
    def any(self) -> bool:
        return self.highpass is not None or self.lowpass is not None

    @property
    def reach(self) -> float:
        """Seconds of signal on either side that a filtered sample depends on."""
        return sum(_half_width(cut) for cut in (self.highpass, self.lowpass) if cut)


ALL_PASS = Bands()
"""No filter."""


def are_real(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(…,) bool of (…, channels): no channel is NaN or infinite.

    A sum is finite only if all its parts are, and is a matrix product; where it overflowed, each part is looked at.
    """
    if values.shape[-1] == 1:  # of which matrix products are slow
        return np.isfinite(values[..., 0])
    with np.errstate(over="ignore", invalid="ignore"):
        real: NDArray[np.bool_] = np.asarray(np.isfinite(values @ np.ones(values.shape[-1], values.dtype)))
    if not real.all():
        unsure = np.nonzero(~real)
        real[unsure] = np.isfinite(values[unsure]).all(axis=-1)
    return real


def filter_bands(stream: Stream, rate: float, bands: Bands) -> Stream:
    """Zero-phase low-pass and high-pass of an even stream; a sample that is missing stays so, and touches no other."""
    values = stream.values
    if bands.lowpass and bands.lowpass < rate / 2:
        values = lowpass(values, rate, bands.lowpass, _half_width(bands.lowpass))
    if bands.highpass:
        values = values - lowpass(values, rate, bands.highpass, _half_width(bands.highpass))
    return replace(stream, values=values.astype(stream.values.dtype, copy=False))


def lowpass(values: NDArray[np.floating], rate: float, cutoff: float, half_seconds: float) -> NDArray[np.floating]:
    """(samples, channels) low-passed around its gaps; NaN where it was, and where too little of the filter lies on real samples."""
    from scipy import signal  # slow to import, and every process that predicts imports this module

    real = are_real(values)
    half = int(np.ceil(half_seconds * rate))
    weights = windowed_sinc(np.arange(-half, half + 1.0), cutoff / rate, half_seconds * rate)
    weights /= weights.sum()
    weight = np.asarray(signal.oaconvolve(real.astype(np.float64), weights))[half : half + len(values)]
    weight[~real | (weight < MIN_WEIGHT)] = np.nan
    result = np.empty(values.shape)
    for column in range(values.shape[1]):
        filled = np.where(real, values[:, column], 0.0).astype(np.float64)
        result[:, column] = signal.oaconvolve(filled, weights)[half : half + len(values)] / weight
    return result


def windowed_sinc(offsets: NDArray[np.floating], cutoff: float, half: float) -> NDArray[np.float64]:
    """Windowed sinc at `offsets` from its centre; cut-off in cycles per step, `half` its half-width in steps."""
    from scipy import special  # as above

    inside = np.clip(1 - (offsets / half) ** 2, 0.0, None)
    window = special.i0(_KAISER_BETA * np.sqrt(inside)) * (np.abs(offsets) <= half)
    return 2 * cutoff * np.sinc(2 * cutoff * offsets) * window


def _half_width(cutoff: float) -> float:
    """Seconds on each side of a windowed sinc that falls by 50 dB within one cut-off frequency, half of it on either side."""
    return 1.45 / cutoff


# --- Decimation -------------------------------------------------------------------------------------------------------
# Fast streams made slow: low-passed below the new Nyquist frequency and thinned, in one pass and around gaps.
#
# Each new sample is a weighted mean of real ones, by a windowed sinc centred on its own time, whatever the ratio of the
# rates. Where that is a ratio of whole numbers the weights repeat, and blocks of new samples are one small matrix times a
# stretch of old ones: a matrix product does in a tenth of the time what a filter bank does tap by tap. New samples near an
# end or a gap, and all of them at odd ratios, are computed one by one.
#
# A new sample counts where half the old ones within its own period are real.

PERIODS = 10.0
"""Half-width of the filter in periods of the new rate: with 50 dB, a transition of 0.3 Nyquist frequencies."""

_CUTOFF = 0.85
"""Of the new Nyquist frequency, in the middle of the transition."""

_ROWS = 24  # new samples in a block
_LARGEST_MATRIX = 2**22
_AT_ONCE = 2**22  # values in flight
_CLOSE = 1e-3  # of a sample: what rounding may do to times
_WIDE = 8  # channels from which on they are multiplied together


def decimate(stream: Stream, own_rate: float, points: NDArray[np.float64], rate: float) -> Stream:
    """Values of an even stream (samples 1/`own_rate` apart, NaN where missing) at even `points`, 1/`rate` apart."""
    values = stream.values
    result = np.full((len(points), values.shape[1]), np.nan, values.dtype)
    if not len(points) or not len(values):
        return Stream(result, points, rate, stream.channels)
    ratio = own_rate / rate
    origin = (points[0] - stream.times[0]) * own_rate  # its place among the old samples
    reach = PERIODS * ratio
    done = _by_blocks(values, origin, ratio, result)
    # a block that touches a gap is NaN all over, and done again like those next to the ends
    chosen = np.flatnonzero(~done | ~are_real(result))
    step = max(1, _AT_ONCE // (int(2 * reach + 1) * values.shape[1]))
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        result[part] = _one_by_one(values, origin + part * ratio, ratio)
    return Stream(result, points, rate, stream.channels)


def _weights(offsets: NDArray[np.floating], ratio: float) -> NDArray[np.float64]:
    """Weights of old samples that lie `offsets` of their periods before a new one."""
    return windowed_sinc(offsets, _CUTOFF / (2 * ratio), PERIODS * ratio)


def _by_blocks(
    values: NDArray[np.floating], start: float, ratio: float, result: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Fill in the rows of `result` whose blocks lie within `values`, the first at place `start`; which ones those are."""
    done = np.zeros(len(result), np.bool_)
    exact = Fraction(ratio).limit_denominator(256)
    rows = exact.denominator * max(1, round(_ROWS / exact.denominator))
    reach = PERIODS * ratio
    width = int(np.ceil((rows - 1) * ratio + 2 * reach)) + 2
    if abs(float(exact) - ratio) * len(result) > _CLOSE or rows * width > _LARGEST_MATRIX:
        return done
    step = rows * exact.numerator // exact.denominator
    origin = int(np.ceil(start - reach))
    skipped = max(0, -(origin // step)) if origin < 0 else 0
    origin += skipped * step
    count = min((len(result) - skipped * rows) // rows, (len(values) - origin - width) // step + 1)
    if count < 1:
        return done
    offsets = start + skipped * rows * ratio + np.arange(rows)[:, None] * ratio - (origin + np.arange(width))
    matrix = _weights(offsets, ratio)
    matrix = (matrix / matrix.sum(axis=1, keepdims=True)).astype(values.dtype)
    channels = values.shape[1]
    target = result[skipped * rows : (skipped + count) * rows].reshape(count, rows, channels)
    if channels >= _WIDE:
        values = np.ascontiguousarray(values)
        tall, across = values.strides
        blocks = as_strided(values[origin:], (count, width, channels), (step * tall, tall, across), writeable=False)
        with np.errstate(invalid="ignore", over="ignore"):
            np.matmul(matrix, blocks, out=target)
    else:
        at_once = max(1, _AT_ONCE // width)
        for channel in range(channels):
            column = np.ascontiguousarray(values[origin:, channel])
            blocks = as_strided(column, (count, width), (step * column.itemsize, column.itemsize), writeable=False)
            for start in range(0, count, at_once):
                part = np.ascontiguousarray(blocks[start : start + at_once])
                with np.errstate(invalid="ignore", over="ignore"):
                    target[start : start + at_once, :, channel] = part @ matrix.T
    done[skipped * rows : (skipped + count) * rows] = True
    return done


def _one_by_one(values: NDArray[np.floating], at: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """New samples at places of which some old neighbours may be missing; NaN where too many are."""
    reach = PERIODS * ratio
    first = np.ceil(at - reach)
    # even points have few phases, whose weights take longer to compute than to look up
    phases, phase = np.unique(np.round(at - first, 7), return_inverse=True)
    steps = np.arange(int(2 * reach) + 2)
    offsets = (phases[:, None] - steps)[phase]
    whole = _weights(phases[:, None] - steps, ratio)[phase]
    index = first.astype(np.int64)[:, None] + steps
    there = (index >= 0) & (index < len(values))
    near = values[np.clip(index, 0, len(values) - 1)].astype(np.float64)
    there &= are_real(near)
    weights = whole * there
    total = weights.sum(axis=1)
    own = there & (offsets >= -ratio / 2 - _CLOSE) & (offsets < ratio / 2 - _CLOSE)
    missing = (total < MIN_WEIGHT * whole.sum(axis=1)) | (own.sum(axis=1) < 0.5 * ratio - _CLOSE)
    total[missing] = np.nan
    near[~there] = 0.0
    mixed: NDArray[np.float64] = np.matmul(weights[:, None, :], near)[:, 0, :]
    return mixed / total[:, None]


# --- Signal summaries -------------------------------------------------------------------------------------------------
# What a minute of a stream was like, in four numbers a channel: mean, slope, spread and roughness.
#
# For few recordings and slow states, where a network that reads samples would learn the people rather than the state.
# Spread and roughness are logarithms, because how much a signal moves varies by factors; so are they nearly normal, and a
# person's mean and standard deviation of them are a fair level to normalise by.

PARTS = 4
"""Numbers a channel: all channels' means, then their slopes, spreads, roughnesses."""

_FEWEST = 3
_FLOOR = 1e-4
"""Added to what a logarithm is taken of, in the stream's own unit, so that a constant channel is finite."""


def summarise(
    stream: Stream, points: NDArray[np.float64], seconds: float, own_rate: float | None
) -> NDArray[np.float64]:
    """Describe the stretches of a stream around given moments.

    Slope is the covariance with time, which runs from −1 to 1 over the samples that are there; roughness the mean absolute step
    from one sample to the next.

    Args:
        stream: as it was recorded; a row with a missing value is left out.
        points: (n,) middles of the stretches, seconds.
        seconds: their length.
        own_rate: samples per second of the stream; None where it has no rate, as beats have none.

    Returns:
        (n, 4 · channels); NaN where fewer than three samples are there, or fewer than half of those that the rate lets expect.
    """
    real = are_real(stream.values)
    values, times = stream.values[real].astype(np.float64), stream.times[real]
    fewest = max(_FEWEST, 0.5 * seconds * (own_rate or 0.0))
    edges = 1e-6 * seconds
    first = times.searchsorted(points - seconds / 2 - edges)
    last = times.searchsorted(points + seconds / 2 - edges)
    result = np.full((len(points), PARTS * stream.values.shape[1]), np.nan)
    for row, (begin, end) in enumerate(zip(first, last, strict=True)):
        if end - begin < fewest:
            continue
        part = values[begin:end]
        mean = part.mean(axis=0)
        ramp = np.linspace(-1.0, 1.0, len(part))
        slope = ramp @ (part - mean) / len(part)
        spread = np.log(part.std(axis=0) + _FLOOR)
        roughness = np.log(np.abs(np.diff(part, axis=0)).mean(axis=0) + _FLOOR)
        result[row] = np.concatenate([mean, slope, spread, roughness])
    return result


def summary_key(name: str, seconds: float) -> str:
    """Under which a recording's `reference` holds the level of a stream's summaries, beside that of its samples."""
    return f"{name} by {seconds:g} s"


def summary_level(summaries: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2, channels) mean and standard deviation of (n, channels) summaries, NaN left out; 0 and 1 where there are none."""
    level = np.stack([np.zeros(summaries.shape[1]), np.ones(summaries.shape[1])])
    for channel in range(summaries.shape[1]):
        column = summaries[np.isfinite(summaries[:, channel]), channel].astype(np.float64)
        if len(column):
            level[:, channel] = column.mean(), column.std() or 1.0
    return level


def session_level(stream: Stream, seconds: float) -> NDArray[np.float64]:
    """(2, 4 · channels) level of a whole session's summaries, stretches that begin every half of their length."""
    if not len(stream):
        return summary_level(np.zeros((0, PARTS * stream.values.shape[1])))
    start, end = float(stream.times[0]), float(stream.times[-1])
    points = np.arange(start + seconds / 2, max(end - seconds / 2, start + seconds / 2) + 1e-9, seconds / 2)
    return summary_level(summarise(stream, points, seconds, stream.rate))


# --- Resampling -------------------------------------------------------------------------------------------------------
# From a sensor's own clock to an even grid, without inventing, smearing or folding anything.
#
#     plan = plan_grid(stream, rate=128.0, anchor=recording.start)
#     gridded = plan.apply(stream)                    # evenly spaced; NaN where nothing was measured
#
# A stream that ticks at the grid's rate already is kept, sample by sample, with its own times. A faster one is low-passed
# by a zero-phase filter and thinned: each value is a weighted mean of real samples around it, the weights of missing ones
# being left out and the others made to sum to one again, so that a gap neither spreads nor is filled; it counts where half
# the samples of its own period are real. A slower or uneven one is interpolated linearly between two real samples, which
# count when they lie at most 1.5 of the stream's own periods apart. Nothing is ever extrapolated.
#
# The filters are windowed sincs whose pass band ends at 0.7 of the new Nyquist frequency and whose stop band, 50 dB down,
# begins there; next to gaps and ends, where half of the weights are missing, they are less steep.

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
        if stream.values.size > AT_ONCE and (self.how != "copy" or self.bands.any):
            return self._in_parts(stream, start, end)
        return self._at_once(stream, start, end)

    def _in_parts(self, stream: Stream, start: float, end: float) -> Stream:
        """The same for a stream that is long: a part at a time, each with as much on both sides as its values depend on."""
        around = self.reach + 2 * self.longest_gap
        first, last = float(stream.times[0]), float(stream.times[-1])
        rows = AT_ONCE // stream.values.shape[1]
        edges = np.linspace(first, last, max(2, -(-len(stream) // rows) + 1))[1:-1]
        found: NDArray[np.floating] | None = None
        times, filled = np.empty(0), 0
        for begin, finish in zip([start, *edges], [*edges, end], strict=True):
            begin, finish = max(begin, start), min(finish, end)
            near = stream.between(begin - around, finish + around) if begin < finish else stream.between(0, 0)
            part = self._at_once(near, begin, finish) if len(near) else near
            if not len(part):
                continue
            if found is None:  # the whole grid, of which a part without samples near it gives nothing
                earlier = max(0.0, np.floor((part.times[0] - max(first, start)) * self.rate + _ON_SAMPLE))
                origin = part.times[0] - earlier / self.rate
                size = int(np.ceil((min(last, end) - origin) * self.rate + 1.5))
                times = origin + np.arange(size) / self.rate
                found = make_room((size, part.values.shape[1]), part.values.dtype)
            place = round(float(part.times[0] - times[0]) * self.rate)
            found[filled:place] = np.nan
            filled = place + len(part)
            found[place:filled], times[place:filled] = part.values, part.times
        if found is None:  # what was asked for lies inside a gap
            return self._at_once(stream, start, end)
        rest = max(filled, int(np.ceil((min(last, end) - times[0]) * self.rate - _ON_SAMPLE)))
        found[filled:rest] = np.nan
        return Stream(found[:rest], times[:rest], self.rate, stream.channels)

    def _at_once(self, stream: Stream, start: float, end: float) -> Stream:
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


def is_on_grid(
    stream: Stream, rate: float, first: NDArray[np.int64] | None = None, last: NDArray[np.int64] | None = None
) -> bool:
    """Does a stream tick at that rate, without holes in its clock?

    Args:
        stream: with a sample or more.
        rate: Hz.
        first, last: parts, each from sample `first` up to and without `last`, that are asked about; default: the whole.
    """
    times = stream.times
    if first is None or last is None:
        drift = abs((times[-1] - times[0]) * rate - len(times) + 1)
    else:
        some = last > first
        first, last = first[some], last[some]
        drift = np.abs((times[last - 1] - times[first]) * rate - (last - first) + 1).max()
    return bool(drift <= _JITTER) and _ticks(stream, rate)


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
    least, most = np.inf, -np.inf
    for first in range(0, len(times), AT_ONCE):
        ticks = (times[first : first + AT_ONCE] - times[0]) * rate
        ticks -= np.rint(ticks)
        least, most = min(least, ticks.min()), max(most, ticks.max())
    return bool(most - least <= _JITTER)
