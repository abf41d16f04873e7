"""What a minute of a stream was like, in four numbers a channel: mean, slope, spread and roughness.

For few recordings and slow states, where a network that reads samples would learn the people rather than the state. Spread and
roughness are logarithms, because how much a signal moves varies by factors; so are they nearly normal, and a person's mean and
standard deviation of them are a fair level to normalise by.

This file knows what a summary is; it does not know which streams are summarised.
"""

import numpy as np
from numpy.typing import NDArray

from ..recordings.signal_recording import Stream
from .filters import are_real

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
