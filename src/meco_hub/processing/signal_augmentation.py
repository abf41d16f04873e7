"""What can go wrong with a recording: lost samples, wrong clocks, slow clocks, noise; each a function from one to another.

Training makes such changes at random, evaluation by a plan; both take them from here, so that they mean the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from ..recordings.signal_recording import SignalRecording, Stream
from .resampling import LONGEST_STEP, interpolate, thin
from .signal_modalities import measure_level

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


# --- Signal augmentation ----------------------------------------------------------------------------------------------
# Random faults of recordings for training: sensors that are missing, gaps, delays, slow clocks, noise, dead channels.
#
#     augment = SignalAugmentation(delay_s=0.5)
#     clip = augment(clip, np.random.default_rng(0))        # a clip of SignalWindower.cut, or any recording
#
# Delays move a stream's clock, so that other real samples stand in the window; where the recording has none, the window is
# masked. Clips bring `spare_s` of such samples. How late each stream is then is told in `known_lags`. Where samples are as
# far apart as delays are long, the clock had better stay and the samples be interpolated: `delay_keeps_clock`.
#
# All numbers are drawn from the generator that is handed in, for the streams in the order of their names, and as many
# whether or not a change is switched on (noise, gain and offset excepted, which come last), so that switching one off
# leaves the others as they were.

_MOST_BLOCKS = 3


@dataclass(frozen=True)
class SignalAugmentation:
    """Changes a recording at random: `augmentation(recording, generator) -> recording`. 0 switches a change off.

    Attributes:
        complete: chance that no stream is dropped.
        dropout: otherwise each stream is dropped with one chance drawn from 0 to this; one stream always stays.
        blocks: chance that 1 to 3 gaps are torn into a stream.
        blocks_share: largest share of the window that they cover together; drawn from 0 to this.
        delay: chance that every stream is delayed by its own lag.
        delay_s: largest lag either way, seconds.
        delay_keeps_clock: delayed streams keep their clock, and what they show at each tick is interpolated, as a sensor would
            have sampled it; for rates of a few samples per delay. Else the clock is moved, and every sample stays as it is.
        decimation: chance that one stream is slowed down.
        decimation_factors: by one of these.
        noise: standard deviation of white noise, as a share of each channel's own (its `reference`, or within the clip).
        channel_dropout: chance that a channel goes dead, in the streams named in `channel_dropout_streams`; one always stays.
        channel_dropout_streams: those with many channels that say much the same.
        gain: standard deviation of the logarithm of each channel's gain about its centre, one for the whole recording.
        offset: standard deviation of what is added to each channel throughout, as a share like `noise`.
        hidden_context: chance, for either side of the window, that all streams end at one random moment beyond it. Where a
            recording begins and ends is then less of a sign, and windows without neighbours are answered too.

    Raises:
        ConfigurationError: a value is outside its range.
    """

    complete: float = 0.3
    dropout: float = 0.7
    blocks: float = 0.5
    blocks_share: float = 0.5
    delay: float = 0.5
    delay_s: float = 1.0
    delay_keeps_clock: bool = False
    decimation: float = 0.25
    decimation_factors: tuple[int, ...] = (2, 4)
    noise: float = 0.05
    channel_dropout: float = 0.1
    channel_dropout_streams: tuple[str, ...] = ("eeg",)
    gain: float = 0.0
    offset: float = 0.0
    hidden_context: float = 0.0

    def __post_init__(self) -> None:
        largest = {"delay_s": 60.0, "noise": 10.0, "gain": 3.0, "offset": 10.0}
        for name, value in vars(self).items():
            if name in ("decimation_factors", "channel_dropout_streams"):
                object.__setattr__(self, name, tuple(value))  # recipes hold lists
                continue
            if name == "delay_keeps_clock":
                if not isinstance(value, bool):
                    raise ConfigurationError(f"SignalAugmentation's {name} is {value!r}; expected true or false.")
                continue
            limit = largest.get(name, 1.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
                raise ConfigurationError(
                    f"SignalAugmentation's {name} is {value!r}; expected a number from 0 to {limit:g}. 0 switches it off."
                )
        if not self.decimation_factors or any(not isinstance(one, int) or one < 1 for one in self.decimation_factors):
            raise ConfigurationError(
                f"SignalAugmentation's decimation_factors is {self.decimation_factors}; expected whole numbers from 1."
            )

    def __call__(self, recording: SignalRecording, generator: np.random.Generator) -> SignalRecording:
        """Change a recording; the one given is left as it is."""
        names = sorted(recording.streams)
        if not names:
            return recording
        # drawn together and at once: see the module's docstring
        whole, chance, delayed, slowed = generator.random(4)
        fallen = generator.random(len(names))
        spared, slow, factor = generator.random(3)
        gaps = generator.random((len(names), 3 + 2 * _MOST_BLOCKS))
        lags = generator.uniform(-1.0, 1.0, len(names))

        if whole >= self.complete and self.dropout:
            gone = [name for name, one in zip(names, fallen, strict=True) if one < self.dropout * chance]
            if len(gone) == len(names):
                gone.pop(int(spared * len(names)))
            recording = recording.without(gone)
        torn = {
            name: self._gaps(recording, draw)
            for name, draw in zip(names, gaps, strict=True)
            if name in recording.streams and draw[0] < self.blocks
        }
        recording = lose_between(recording, torn)
        late = delayed < self.delay and self.delay_s > 0
        seconds = {name: float(lag) * self.delay_s if late else 0.0 for name, lag in zip(names, lags, strict=True)}
        keeps = self.delay_keeps_clock
        recording = lag_behind(recording, seconds) if keeps else recording.shift(seconds, known=True)
        left = sorted(recording.streams)
        if slowed < self.decimation:
            by = self.decimation_factors[int(factor * len(self.decimation_factors))]
            recording = slow_down(recording, {left[int(slow * len(left))]: by})
        return self._spoil(recording, generator)

    def _gaps(self, recording: SignalRecording, draw: np.ndarray) -> list[tuple[float, float]]:
        """1 to 3 gaps within the window that cover the drawn share of it."""
        count = 1 + int(draw[1] * _MOST_BLOCKS)
        lengths = draw[3 : 3 + count] + 1e-9
        lengths = lengths / lengths.sum() * draw[2] * self.blocks_share * recording.seconds
        starts = recording.start + draw[3 + _MOST_BLOCKS :][:count] * (recording.seconds - lengths)
        return [(float(start), float(start + length)) for start, length in zip(starts, lengths, strict=True)]

    def _spoil(self, recording: SignalRecording, generator: np.random.Generator) -> SignalRecording:
        """Hidden context, dead channels and noise."""
        streams: dict[str, Stream] = dict(recording.streams)
        if self.hidden_context:
            first, last = self._visible(recording, generator)
            streams = {name: stream.between(first, last) for name, stream in streams.items()}
            streams = {name: stream for name, stream in streams.items() if len(stream)}
        for name in sorted(streams):
            stream = streams[name]
            channels = stream.values.shape[1]
            if name in self.channel_dropout_streams and channels > 1:
                draw = generator.random(channels)
                dead = draw < self.channel_dropout
                dead[int(np.argmax(draw))] = False
                streams[name] = stream = silence(stream, dead)
            if self.noise and len(stream):
                streams[name] = add_noise(stream, self.noise * _level(recording, name)[1], generator)
        if self.gain or self.offset:
            for name in sorted(streams):
                center, scale = _level(recording, name)
                gain, offset = generator.standard_normal((2, len(scale)))
                streams[name] = miscalibrate(
                    streams[name], center, np.exp(self.gain * gain), self.offset * scale * offset
                )
        return replace(recording, streams=streams)

    def _visible(self, recording: SignalRecording, generator: np.random.Generator) -> tuple[float, float]:
        """From when to when samples are left."""
        worn = [stream for stream in recording.streams.values() if len(stream)]
        before = max([recording.start - float(one.times[0]) for one in worn], default=0.0)
        after = max([float(one.times[-1]) - recording.end for one in worn], default=0.0)
        chance, share = generator.random((2, 2))
        share = np.where(chance < self.hidden_context, share, 1.0)
        return recording.start - share[0] * max(before, 0.0), recording.end + share[1] * max(after, 0.0) + 1e-6


def _level(recording: SignalRecording, name: str) -> NDArray[np.float64]:
    """(2, channels) centre and scale of a stream: its `reference`, or within the clip."""
    level = recording.reference.get(name)
    return measure_level(recording.streams[name].values) if level is None else np.asarray(level, np.float64)
