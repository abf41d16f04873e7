"""What can go wrong with a recording: lost samples, wrong clocks, slow clocks, noise; each a function from one to another.

Training makes such changes at random, evaluation by a plan; both take them from here, so that they mean the same.

This file knows faults of recordings; it does not know when to commit them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..recordings.signal_recording import SignalRecording, Stream
from .resampling import LONGEST_STEP, interpolate, thin

_EDGE = 1e-6
"""Seconds by which rounding may move a sample across an end of a recording."""


def lose_between(recording: SignalRecording, gaps: Mapping[str, Iterable[tuple[float, float]]]) -> SignalRecording:
    """Samples of a stream that lie in any of its gaps, (start, end) in seconds on the recording's clock, become NaN."""
    streams = dict(recording.streams)
    for name, pairs in gaps.items():
        stream = streams.get(name)
        pairs = list(pairs)
        if stream is None or not pairs:
            continue
        values = stream.values.copy()
        for start, end in pairs:
            first, last = np.searchsorted(stream.times, [start, end], side="left")
            values[first:last] = np.nan
        streams[name] = replace(stream, values=values)
    return replace(recording, streams=streams)


def slow_down(recording: SignalRecording, factors: Mapping[str, int]) -> SignalRecording:
    """Streams as sensors of a `factor` times lower rate would have recorded them: low-passed, and thinned.

    Streams without a rate stay as they are.
    """
    streams = dict(recording.streams)
    for name, factor in factors.items():
        if name in streams:
            streams[name] = thin(streams[name], factor)
    return replace(recording, streams=streams)


def arrive_late(
    recording: SignalRecording, seconds: Mapping[str, float], *, corrected: bool = False
) -> SignalRecording:
    """Streams as they are recorded when what happens reaches the recorder late, or early.

    The recorder starts and stops when it did. What would have reached it before or after that is lost, and where nothing reached it
    there is nothing: a late stream lacks samples at its beginning, an early one at its end. Annotations stay where they are.

    Args:
        recording: whole; of a part, what happened just outside of it could not come in.
        seconds: stream name → delay; positive: late.
        corrected: time stamps say when each sample happened, instead of when it arrived: the same samples, in their right places.
            Otherwise `known_lags` remembers how late they are, for scoring.
    """
    streams = dict(recording.streams)
    for name, delay in seconds.items():
        stream = streams.get(name)
        if stream is None or not len(stream) or not delay:
            continue
        first, last = float(stream.times[0]), float(stream.times[-1]) + (1 / stream.rate if stream.rate else 0.0)
        running = (min(recording.start, first) - _EDGE, max(recording.end, last) - _EDGE)
        arrived = stream.times + delay
        kept = slice(*arrived.searchsorted(running).tolist())
        times = stream.times if corrected else arrived
        streams[name] = replace(stream, values=stream.values[kept], times=times[kept])
    late = {name: recording.known_lags.get(name, 0.0) + seconds.get(name, 0.0) for name in recording.streams}
    return replace(recording, streams=streams, known_lags=recording.known_lags if corrected else late)


def lag_behind(recording: SignalRecording, seconds: Mapping[str, float]) -> SignalRecording:
    """Streams that show at every tick of their clock what happened so many seconds before, or after.

    It is linear between two samples, and missing where there were none: the better likeness where delays are a matter of a few
    samples. Streams without a rate have their clock moved. `known_lags` remembers how late they are.

    Args:
        recording: also a clip, of which samples outside of it may come in.
        seconds: stream name → delay; positive: late.
    """
    late = recording.shift(seconds, known=True)
    streams = dict(late.streams)
    for name, moved in late.streams.items():
        stream = recording.streams[name]
        if moved is not stream and stream.rate and len(stream):
            streams[name] = interpolate(moved, stream.times, stream.rate, LONGEST_STEP / stream.rate)
    return replace(late, streams=streams)


def jitter(stream: Stream, deviation: float, generator: np.random.Generator) -> Stream:
    """Time stamps with Gaussian noise of that many seconds; samples keep their order, as they do in a packet that waits."""
    if not deviation or not len(stream):
        return stream
    times = np.sort(stream.times + generator.normal(0.0, deviation, len(stream)))
    # two that fell together are a nanosecond apart, or as far as such numbers can be
    step = max(1e-9, 4 * float(np.spacing(np.abs(times).max())))
    ramp = step * np.arange(len(times))
    return replace(stream, times=np.maximum.accumulate(times - ramp) + ramp)


def add_noise(stream: Stream, deviation: NDArray[np.floating], generator: np.random.Generator) -> Stream:
    """Gaussian noise with a standard deviation for each channel, in the stream's own units."""
    noise = generator.standard_normal(stream.values.shape) * deviation
    return replace(stream, values=(stream.values + noise).astype(stream.values.dtype, copy=False))


def miscalibrate(
    stream: Stream, center: NDArray[np.floating], gain: NDArray[np.floating], offset: NDArray[np.floating]
) -> Stream:
    """Each channel with another gain about its centre and another zero, in the stream's own units: a sensor that sits otherwise."""
    values = center + (stream.values - center) * gain + offset
    return replace(stream, values=values.astype(stream.values.dtype, copy=False))


def silence(stream: Stream, channels: NDArray[np.bool_]) -> Stream:
    """Chosen channels at a constant, their median: an electrode that has come off, behind a filter."""
    if not channels.any() or not len(stream):
        return stream
    values = stream.values.copy()
    for channel in np.flatnonzero(channels):
        real = np.isfinite(values[:, channel])
        if real.any():
            values[real, channel] = np.median(values[real, channel])
    return replace(stream, values=values)
