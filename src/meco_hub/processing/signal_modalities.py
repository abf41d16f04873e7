"""What a windower is told: of each kind of signal, and of its windows.

"modalities": {"eeg": {"channels": 32, "sampling_rate": 128.0, "highpass_hz": 0.5, "lowpass_hz": 45.0},
               "ibi": {"channels": 1, "sampling_rate": 4.0, "kind": "irregular", "max_gap_s": 2.5}}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, RecordingError, require_steps, suggest
from ..recordings.signal_recording import SignalRecording
from .resampling import PARTS, Bands, summary_key, summary_level

_CHOICES = {
    "last_window": ("pad", "align", "drop"),
    "normalization": ("population", "reference", "recording", "none"),
    "on_missing_reference": ("error", "recording"),
}


Pairs = tuple[tuple[float, float], ...]
"""(least, most) of each channel."""


@dataclass(frozen=True)
class TrainingRange:
    """How a stream ran in the recordings that a checkpoint was trained on.

    Attributes:
        rate: usual samples per second; None of an irregular stream.
        center, scale: least and greatest level of any recording, and spread about it, of each channel as `measure_level` has them.
    """

    rate: float | None
    center: Pairs
    scale: Pairs

    @staticmethod
    def parse(name: str, channels: int, value: Any) -> "TrainingRange":
        """As a config holds it.

        Raises:
            ConfigurationError: it is none, or has another number of channels.
        """
        try:
            rate = None if value["rate"] is None else float(value["rate"])
            center, scale = (
                tuple((float(low), float(high)) for low, high in value[key]) for key in ("center", "scale")
            )
            if len(center) != channels or len(scale) != channels:
                raise ValueError(f"{len(center)} and {len(scale)} channels instead of {channels}")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"Modality {name!r}: trained_on is {value!r} ({error}); expected rate, and center and scale as pairs of least and "
                "greatest, one a channel."
            ) from error
        return TrainingRange(rate, center, scale)


@dataclass(frozen=True)
class Modality:
    """One kind of signal, under the name of the stream that carries it.

    Attributes:
        name: of the stream.
        channels: columns of the stream.
        sampling_rate: Hz of the grid that a model sees.
        kind: "regular"; or "irregular" for events with values, such as intervals between heart beats.
        max_gap_s: irregular only: two events further apart than this have a gap between them.
        highpass_hz, lowpass_hz: zero-phase filter at the stream's own rate, before it is put on the grid; None: no limit.
        summary_s: the model sees, instead of samples, mean, slope, spread and roughness of every channel over so many seconds;
            `channels` is then four times the stream's, `sampling_rate` 1 / `summary_s`. None: it sees samples.
        channel_names: of the stream's channels, in the order of the model's input; a stream that names its own is put into it.
        units: of the stream's channels; a stream that names its own is converted.
        trained_on: how the streams of training ran; inputs far from it get a warning.
    """

    name: str
    channels: int
    sampling_rate: float
    kind: str = "regular"
    max_gap_s: float = 2.5
    highpass_hz: float | None = None
    lowpass_hz: float | None = None
    summary_s: float | None = None
    channel_names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    trained_on: TrainingRange | None = None

    def __post_init__(self) -> None:
        for field in ("sampling_rate", "max_gap_s", "highpass_hz", "lowpass_hz", "summary_s"):
            value = getattr(self, field)
            if field.endswith(("pass_hz", "summary_s")) and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"Modality {self.name!r}: {field} is {value!r}; expected a positive number.")
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:
            raise ConfigurationError(
                f"Modality {self.name!r}: channels is {self.channels!r}; expected a whole number from 1."
            )
        if self.kind not in ("regular", "irregular"):
            raise ConfigurationError(
                f"Modality {self.name!r}: kind is {self.kind!r}; expected 'regular' or 'irregular'."
            )
        if self.kind == "irregular" and (self.highpass_hz or self.lowpass_hz):
            raise ConfigurationError(
                f"Modality {self.name!r} is irregular and has a filter; events without a rate cannot be filtered. Leave it out."
            )
        if self.highpass_hz and self.lowpass_hz and self.highpass_hz >= self.lowpass_hz:
            raise ConfigurationError(
                f"Modality {self.name!r}: highpass_hz {self.highpass_hz:g} is not below lowpass_hz "
                f"{self.lowpass_hz:g}, which leaves nothing to pass. Exchange them."
            )
        if self.summary_s is not None:
            self._check_summary(self.summary_s)
        for field in ("channel_names", "units"):
            value = getattr(self, field)
            names = not isinstance(value, str) and all(isinstance(one, str) for one in value)
            if not names or (value and len(value) != self.stream_channels):
                raise ConfigurationError(
                    f"Modality {self.name!r}: {field} is {value!r}; expected {self.stream_channels} names, one a channel."
                )
            object.__setattr__(self, field, tuple(value))
        if self.trained_on is not None and not isinstance(self.trained_on, TrainingRange):
            object.__setattr__(
                self, "trained_on", TrainingRange.parse(self.name, self.stream_channels, self.trained_on)
            )

    def _check_summary(self, seconds: float) -> None:
        if self.channels % PARTS or abs(self.sampling_rate * seconds - 1) > 1e-3:
            raise ConfigurationError(
                f"Modality {self.name!r} is summarised over {seconds:g} s and has {self.channels} channels at "
                f"{self.sampling_rate:g} Hz; expected {PARTS} channels for each of the stream's, at {1 / seconds:.6g} Hz."
            )
        if self.highpass_hz or self.lowpass_hz:
            raise ConfigurationError(
                f"Modality {self.name!r} is summarised and has a filter; expected either. Leave one out."
            )

    @property
    def stream_channels(self) -> int:
        """Columns of the stream as it was recorded."""
        return self.channels if self.summary_s is None else self.channels // PARTS

    @property
    def bands(self) -> Bands:
        return Bands(self.highpass_hz, self.lowpass_hz)

    @property
    def max_gap(self) -> float | None:
        """What `plan_grid` takes; None for regular streams."""
        return self.max_gap_s if self.kind == "irregular" else None

    def steps(self, seconds: float) -> int:
        """Samples in that time."""
        return round(seconds * self.sampling_rate)


def parse_modality(name: str, settings: Mapping[str, Any]) -> Modality:
    """Settings as a config holds them.

    Raises:
        ConfigurationError: a setting that does not exist or makes no sense, or one that is missing.
    """
    known = [field.name for field in fields(Modality) if field.name != "name"]
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"Modality {name!r} is {settings!r}; expected a dict of {', '.join(known)}.")
    for key in settings:
        if key not in known:
            offer = suggest(key, known)
            raise ConfigurationError(f"Modality {name!r} has no setting {key!r}.{offer} There are {', '.join(known)}.")
    for key in ("channels", "sampling_rate"):
        if key not in settings:
            raise ConfigurationError(f"Modality {name!r} says no {key}; expected channels and sampling_rate. Add it.")
    return Modality(name, **settings)


def refuse_field(name: str, known: Sequence[str]) -> NoReturn:
    """Say that a `SignalWindower` has no such field, and which ones it has."""
    raise ConfigurationError(
        f"SignalWindower has no field {name!r}.{suggest(name, known)} There are {', '.join(known)}."
    )


LEAST_CLIP, MOST_NUMBERS = 0.1, 1 << 24
"""Of scales, at which values are cut back; and numbers of all streams in a window: a minute of 256 electrodes at 1,000 Hz."""


def check_fields(windower: Any) -> None:
    """Make sure that the fields of a `SignalWindower` make sense together.

    Raises:
        ConfigurationError: they do not.
    """
    for name in windower.modalities:
        parse_modality(name, windower.modalities[name])
    if sorted(windower.modality_names) != sorted(windower.modalities):
        raise ConfigurationError(
            f"modality_names is {windower.modality_names} and modalities are {sorted(windower.modalities)}. Name each exactly once."
        )
    for field in ("window_s", "stride_s", "context_margin_s", "context_after_s", "grid_step_s", "spare_s", "clip_at"):
        value: Any = getattr(windower, field)
        may_be_zero = field in ("context_margin_s", "context_after_s", "spare_s")
        if value is None and field in ("stride_s", "context_after_s", "grid_step_s", "clip_at"):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        if not number or (value == 0 and not may_be_zero):
            wanted = "a number of seconds from 0" if may_be_zero else "a positive number"
            raise ConfigurationError(f"{field} is {value!r}; expected {wanted}.")
    if windower.shown_after_s > windower.context_margin_s:
        raise ConfigurationError(
            f"context_after_s is {windower.context_after_s} and context_margin_s {windower.context_margin_s}; expected at most as "
            "much after a window as before it."
        )
    if windower.grid_step_s:
        require_steps("window_s", windower.window_s, windower.grid_step_s)
    if windower.clip_at is not None and windower.clip_at < LEAST_CLIP:
        raise ConfigurationError(
            f"clip_at is {windower.clip_at!r}; expected {LEAST_CLIP:g} at least, below which a signal is flat. Correct it."
        )
    seconds = windower.window_s + 2 * (windower.context_margin_s + windower.spare_s)
    numbers = seconds * sum(one["sampling_rate"] * one["channels"] for one in windower.modalities.values())
    if numbers > MOST_NUMBERS:
        raise ConfigurationError(
            f"window_s {windower.window_s:g} with context_margin_s {windower.context_margin_s:g} and spare_s {windower.spare_s:g} "
            f"is {numbers:.3g} numbers of all modalities; expected {MOST_NUMBERS} at most. Make them smaller."
        )
    for field, known in _CHOICES.items():
        if getattr(windower, field) not in known:
            raise ConfigurationError(f"{field} is {getattr(windower, field)!r}; expected one of {', '.join(known)}.")
    for name, one in windower.statistics.items():
        if name not in windower.modalities or set(one) != {"center", "scale"}:
            raise ConfigurationError(f"statistics has {name!r}: {one}; expected center and scale of a modality.")
        channels = windower.modalities[name]["channels"]
        if len(one["center"]) != channels or len(one["scale"]) != channels or not min(one["scale"]) > 0:
            raise ConfigurationError(
                f"statistics of {name!r} are {one}; expected {channels} numbers for center, and as many above 0 for scale."
            )


# --- Signal levels ----------------------------------------------------------------------------------------------------
# The level of a signal, centre and scale of each channel: how it is measured, and which one a recording is normalised by.
#
# Medians and interquartile ranges, because a loose electrode is worth more standard deviations than a feeling.

Statistics = Mapping[str, Mapping[str, Sequence[float]]]
"""Modality → {"center": one number a channel, "scale": likewise}."""

_IQR_TO_SD = 1.349
"""Interquartile range of a normal distribution of unit standard deviation."""


def measure_level(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre and scale of each channel: median, and interquartile range as a standard deviation.

    Where half of the samples have one value the range is 0, as with an accelerometer at rest: then the standard deviation, and
    of a constant 1.

    Args:
        values: (samples, channels), NaN or infinite where missing.

    Returns:
        (2, channels); (0, 1) for a channel without samples.
    """
    result = np.stack([np.zeros(values.shape[1]), np.ones(values.shape[1])])
    for channel in range(values.shape[1]):
        column = values[:, channel]
        column = column[np.isfinite(column)].astype(np.float64)
        if len(column):
            low, middle, high = np.percentile(column, [25, 50, 75])
            result[:, channel] = middle, (high - low) / _IQR_TO_SD or column.std() or 1.0
    return result


class LevelSample:
    """An even sample of many recordings' values, of bounded size, to measure their common level on.

    Every recording is thinned alike; when the sample is full, every second row is let go and from then on half as many are taken.
    """

    def __init__(self, per_recording: int = 4096, limit: int = 2**20) -> None:
        self.per_recording, self.limit = per_recording, limit
        self._parts: list[NDArray[np.floating]] = []
        self._share = 1

    def add(self, values: NDArray[np.floating]) -> None:
        """Add (samples, channels) of one recording; rows with a missing value are left out."""
        real = values[np.isfinite(values).all(axis=1)]
        step = max(1, -(-len(real) // self.per_recording)) * self._share
        self._parts.append(real[::step].copy())
        if sum(map(len, self._parts)) > self.limit:
            self._parts = [np.concatenate(self._parts)[::2].copy()]
            self._share *= 2

    def level(self, modality: Modality | None = None) -> NDArray[np.float64] | None:
        """(2, channels) as `measure_level` has it, or `summary_level` of summaries; None when nothing was added."""
        if not any(map(len, self._parts)):
            return None
        return _measure(np.concatenate(self._parts), modality)


def _measure(values: NDArray[np.floating], modality: Modality | None) -> NDArray[np.float64]:
    return summary_level(values) if modality and modality.summary_s is not None else measure_level(values)


def add_own_level(
    recording: SignalRecording, modalities: Sequence[Modality], normalization: str, on_missing_reference: str
) -> dict[str, NDArray[np.float64]]:
    """The `reference` of a recording whose streams are on their grids, its own level put in where the windower's fields say so.

    Of a stream that is summarised it is the level of its summaries, which the recording holds under `summary_key`.
    """
    known, kinds = {}, {one.name: one for one in modalities}
    if normalization == "reference":
        known = {name: np.asarray(level, np.float64) for name, level in recording.reference.items()}
        for one in modalities:
            if one.summary_s is not None:
                level = known.pop(summary_key(one.name, one.summary_s), known.pop(one.name, None))
                if level is not None and level.shape[-1] == one.channels:  # not the level of its samples
                    known[one.name] = level
    if normalization == "recording" or (normalization == "reference" and on_missing_reference == "recording"):
        for name, stream in recording.streams.items():
            if name not in known:
                known[name] = _measure(stream.between(recording.start, recording.end).values, kinds.get(name))
    return known


def levels_of(
    recordings: Sequence[SignalRecording], normalization: str, statistics: Statistics
) -> list[dict[str, NDArray[np.float64]]]:
    """For each recording, stream name → (2, channels) by which its streams are normalised; empty for "none".

    Raises:
        ConfigurationError: "population", and there are no statistics of a stream.
        RecordingError: there is no reference of a stream, or one of another shape.
    """
    if normalization == "none":
        return [{} for _ in recordings]
    if normalization == "population":
        known = {name: np.array([one["center"], one["scale"]], np.float64) for name, one in statistics.items()}
        return [{name: _population_level(name, one, known) for name in one.streams} for one in recordings]
    return [{name: _own_level(name, one) for name in one.streams} for one in recordings]


def _population_level(
    name: str, recording: SignalRecording, known: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    if name not in known:
        raise ConfigurationError(
            f"{recording.name or 'The recording'}, stream {name!r}: this windower has no statistics of it. Call "
            'fit(recordings) on the training part, or set normalization to "recording" or "none".'
        )
    return known[name]


def _own_level(name: str, recording: SignalRecording) -> NDArray[np.float64]:
    where, channels = f"{recording.name or 'The recording'}, stream {name!r}", recording.streams[name].values.shape[1]
    if name not in recording.reference:
        raise RecordingError(
            f"{where}: no reference, by which this windower normalises. Expected SignalRecording.reference to hold its "
            "centre and scale, as windower.measure(recordings of that person) gives; or set "
            'on_missing_reference="recording".'
        )
    level = np.asarray(recording.reference[name], np.float64)
    if level.shape != (2, channels) or not np.isfinite(level).all() or not (level[1] > 0).all():
        raise RecordingError(
            f"{where}: its reference is {level.tolist()}, of shape {level.shape}; expected (2, {channels}) finite "
            "numbers, centre and positive scale of each channel."
        )
    return level
