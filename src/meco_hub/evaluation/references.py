"""What a model of signals is to be measured against: plain predictors on statistics of each window.

`window_statistics` describes a recording by a few numbers per channel, whatever its rate, gaps or length; any of scikit-learn's
estimators makes a reference predictor of them. Scaled per person without labels (`scaled_within`), they are what a logistic
regression or a random forest needs to be a fair opponent.

This file knows recordings and numbers; it does not know corpora or models.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..recordings.signal_recording import SignalRecording, Stream

STATISTICS = ("mean", "sd", "slope")
"""Of each channel, in its own unit; slope is per second."""


def window_statistics(recording: SignalRecording, channels: Mapping[str, int]) -> NDArray[np.float64]:
    """Mean, standard deviation and slope of every channel between the recording's start and end.

    Args:
        recording: any; a stream that is absent, or has no finite sample there, gives NaN.
        channels: stream name → number of its channels, so that the vector's length does not depend on what is missing.

    Returns:
        (3 · channels,) in the order of `channels`, channel by channel.
    """
    numbers: list[float] = []
    for name, count in channels.items():
        stream = recording.streams.get(name)
        inside = stream.between(recording.start, recording.end) if stream is not None else None
        for channel in range(count):
            numbers += _describe(inside, channel, recording.start)
    return np.asarray(numbers)


def _describe(stream: Stream | None, channel: int, start: float) -> list[float]:
    finite = np.isfinite(stream.values[:, channel]) if stream is not None else np.zeros(0, dtype=bool)
    if stream is None or not finite.any():
        return [np.nan] * len(STATISTICS)
    values = stream.values[finite, channel].astype(np.float64)
    times = stream.times[finite] - start
    spread = times - times.mean()
    power = float(spread @ spread)
    slope = float(spread @ (values - values.mean())) / power if power > 0 else 0.0
    return [float(values.mean()), float(values.std()), slope]


def scaled_within(statistics: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Each person's windows with mean 0 and variance 1 per column; NaN, and columns that are constant, become 0.

    Args:
        statistics: (windows, numbers).
        groups: the person of each window. All of a person's windows are used, those under test too, without their labels; say so
            beside the figure.
    """
    scaled = np.zeros_like(statistics)
    people = np.asarray(groups)
    for who in np.unique(people):
        own = statistics[people == who]
        known = np.isfinite(own)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, own, 0.0).sum(axis=0) / count
        centred = np.where(known, own - mean, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / count)
        scaled[people == who] = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return scaled
