"""The level of a signal, centre and scale of each channel: how it is measured, and which one a recording is normalised by.

Medians and interquartile ranges, because a loose electrode is worth more standard deviations than a feeling.

This file knows levels; it does not know how signals come onto their grids.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, RecordingError
from ..recordings.signal_recording import SignalRecording
from .signal_modalities import Modality
from .signal_summaries import summary_key, summary_level

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
