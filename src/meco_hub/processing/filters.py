"""Zero-phase filters that leave gaps alone: a missing sample touches no other, and is not filled.

Each value is a weighted mean of the real samples around it: the weights of missing ones are left out, and the others made to sum
to one again. Next to a gap or an end, where half of the weights are missing, a filter is therefore less steep. Where less than
MIN_WEIGHT of them is left, the value is missing too.

This file knows windowed sincs and gaps; it knows no grid.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special

from ..recordings.signal_recording import Stream

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
    inside = np.clip(1 - (offsets / half) ** 2, 0.0, None)
    window = special.i0(_KAISER_BETA * np.sqrt(inside)) * (np.abs(offsets) <= half)
    return 2 * cutoff * np.sinc(2 * cutoff * offsets) * window


def _half_width(cutoff: float) -> float:
    """Seconds on each side of a windowed sinc that falls by 50 dB within one cut-off frequency, half of it on either side."""
    return 1.45 / cutoff
