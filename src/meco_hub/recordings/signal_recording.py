"""A recording of physiological signals: streams, each with its own clock and rate, and what is known about them.

    recording = SignalRecording({"eda": Stream(values, times, rate=4.0), "ecg": Stream(…)}, name="S01")
    recording.clip(10.0, 14.0).shift({"ecg": 0.5}).without(["eda"])

Nothing here changes a sample: clips are views, shifts move clocks, missing samples are NaN. Conditions and augmentations are
functions from recording to recording, so that training, evaluation and the pipeline all see the same kind of thing.

This file knows streams and clocks; it reads no file and knows no model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError


@dataclass(frozen=True)
class Stream:
    """One sensor's samples.

    Attributes:
        values: (samples, channels) floating point; NaN where a sample is missing.
        times: (samples,) float64 seconds on the recording's own clock, strictly increasing; need not be evenly spaced.
        rate: nominal samples per second; None for an irregular stream (beat-to-beat intervals, say).
        channels: names of the channels, as many as `values` has columns.
    """

    values: NDArray[np.floating]
    times: NDArray[np.float64]
    rate: float | None = None
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.times.shape != self.values.shape[:1]:
            raise RecordingError(
                f"A stream has values of shape {self.values.shape} and times of shape {self.times.shape}; expected "
                "(samples, channels) and (samples,). Give one time per row of values."
            )
        if self.channels and len(self.channels) != self.values.shape[1]:
            raise RecordingError(
                f"A stream has {self.values.shape[1]} channels and the names {', '.join(self.channels)}. Name each once."
            )

    def __len__(self) -> int:
        return len(self.times)

    @staticmethod
    def regular(
        values: NDArray[np.floating], rate: float, *, start: float = 0.0, channels: tuple[str, ...] = ()
    ) -> "Stream":
        """A stream whose samples lie 1/rate seconds apart; (samples,) values are taken as one channel."""
        columns = values[:, None] if values.ndim == 1 else values
        return Stream(columns, start + np.arange(len(columns), dtype=np.float64) / rate, rate, channels)

    def between(self, start: float, end: float) -> "Stream":
        """The samples with start ≤ time < end, as views."""
        first, last = self.times.searchsorted((start, end))
        return Stream(self.values[first:last], self.times[first:last], self.rate, self.channels)

    def around(self, start: float, end: float) -> "Stream":
        """The samples with start ≤ time < end and the next one on either side, as views: for interpolation up to both ends."""
        first, last = self.times.searchsorted((start, end))
        first = max(0, first - 1)
        return Stream(self.values[first : last + 1], self.times[first : last + 1], self.rate, self.channels)


@dataclass(frozen=True)
class SignalRecording:
    """Streams that were recorded together.

    Attributes:
        streams: name → stream; a sensor that is missing is an absent key.
        start, end: seconds on the recording's clock between which it is asked about; by default the first and just after the last
            sample of any stream. Streams may reach beyond, which gives filters and shifts real samples to draw on.
        name: what errors call it.
        annotations: target name → stream of ground truth over time. Never handed to a model.
        reference: stream name → (2, channels) centre and scale of this person's own signals, from label-free baseline segments or
            from all that person's recordings; what `normalization="reference"` of a windower uses. Levels of a stream's summaries,
            mean and standard deviation, stand beside it under `processing.signal_summaries.summary_key`.
        known_lags: stream name → seconds by which its content is known to be late, as training's delays are; NaN unknown.
        prepared: which processor has filtered these streams and put them on its grids already; "" as they were recorded.
    """

    streams: Mapping[str, Stream]
    start: float = float("nan")
    end: float = float("nan")
    name: str = ""
    annotations: Mapping[str, Stream] = field(default_factory=dict)
    reference: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    known_lags: Mapping[str, float] = field(default_factory=dict)
    prepared: str = ""

    def __post_init__(self) -> None:
        if self.start == self.start and self.end == self.end:  # neither is NaN, as in every clip
            return
        filled = [stream for stream in self.streams.values() if len(stream)]
        if np.isnan(self.start):
            object.__setattr__(self, "start", min((float(one.times[0]) for one in filled), default=0.0))
        if np.isnan(self.end):
            # a regular stream lasts one sample longer than its last time says
            ends = [float(one.times[-1]) + (1 / one.rate if one.rate else 0.0) for one in filled]
            object.__setattr__(self, "end", max(ends, default=self.start))

    @property
    def seconds(self) -> float:
        """Duration that is asked about."""
        return self.end - self.start

    @property
    def nbytes(self) -> int:
        """Memory of the samples."""
        return sum(one.values.nbytes + one.times.nbytes for one in [*self.streams.values(), *self.annotations.values()])

    def clip(self, start: float, end: float, margin: float = 0.0) -> "SignalRecording":
        """The part from `start` to `end`, with `margin` seconds more of every stream on both sides where there are any.

        Annotations keep the next sample on either side, so that their value at any moment of the part can be interpolated.
        """
        streams = {name: one.between(start - margin, end + margin) for name, one in self.streams.items()}
        annotations = {name: one.around(start, end) for name, one in self.annotations.items()}
        return replace(self, streams=streams, annotations=annotations, start=start, end=end)

    def without(self, names: Iterable[str]) -> "SignalRecording":
        """The recording as if these sensors had not been worn."""
        gone = set(names)
        return replace(self, streams={name: one for name, one in self.streams.items() if name not in gone})

    def shift(self, seconds: Mapping[str, float], *, known: bool = False) -> "SignalRecording":
        """Streams whose content is found `seconds` later than it happened; their time stamps do not say so.

        Args:
            seconds: stream name → delay; positive: late.
            known: also remember the delays in `known_lags`, as supervision for lag estimation.
        """
        moved = {
            name: replace(one, times=one.times + seconds[name]) if seconds.get(name) else one
            for name, one in self.streams.items()
        }
        lags = {name: self.known_lags.get(name, 0.0) + seconds.get(name, 0.0) for name in self.streams}
        return replace(self, streams=moved, known_lags=lags if known else self.known_lags)
