"""Fast streams made slow: low-passed below the new Nyquist frequency and thinned, in one pass and around gaps.

Each new sample is a weighted mean of real ones, by a windowed sinc centred on its own time, whatever the ratio of the rates. Where
that is a ratio of whole numbers the weights repeat, and blocks of new samples are one small matrix times a stretch of old ones: a
matrix product does in a tenth of the time what a filter bank does tap by tap. New samples near an end or a gap, and all of them
at odd ratios, are computed one by one.

A new sample counts where half the old ones within its own period are real.

This file knows how to compute a decimation quickly; `resampling.py` knows when to.
"""

from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..recordings.signal_recording import Stream
from .filters import MIN_WEIGHT, are_real, windowed_sinc

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
