"""A recording's streams, checked and put on the grids of their modalities."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from transformers.feature_extraction_utils import BatchFeature

from ..errors import ConfigurationError, RecordingError
from ..recordings.large_arrays import blocks_of
from ..recordings.signal_names import may_be
from ..recordings.signal_recording import SignalRecording, Stream, check_stream, has_sample
from .resampling import LONGEST_STEP, GridPlan, are_real, interpolate, is_on_grid, plan_grid
from .signal_doubts import fit_stream, range_distance
from .signal_modalities import Modality, Statistics, add_own_level


@lru_cache(maxsize=64)
def fingerprint(modalities: tuple[Modality, ...]) -> str:
    """What `SignalRecording.prepared` says of streams on these modalities' grids, whatever the order of the modalities."""
    settings = sorted(json.dumps(asdict(one), sort_keys=True) for one in modalities)
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]


def prepare(recording: SignalRecording, modalities: Sequence[Modality]) -> SignalRecording:
    """The recording with the modalities' streams, filtered and on their grids, and no others.

    What is on its grids already, a clip that was cut before, is not filtered again; only streams that were changed since come
    back onto a grid.

    Raises:
        RecordingError: the wrong number of channels, a broken clock, a wrong rate; or prepared for other modalities.
    """
    mark = fingerprint(tuple(modalities))
    if recording.prepared not in ("", mark):
        raise RecordingError(
            f"{recording.name or 'The recording'} was cut by a windower with other modalities. Expected a recording "
            "as it was read, or a clip that this windower cut. Cut the recording again."
        )
    streams = {}
    for one in modalities:
        stream = recording.streams.get(one.name)
        if stream is not None and len(stream):
            if not recording.prepared:
                stream = fit_stream(stream, one, f"{recording.name or 'recording'}, stream {one.name!r}")[0]
            as_it_is = bool(recording.prepared) or not (one.summary_s or one.highpass_hz or one.lowpass_hz)
            if as_it_is and is_on_grid(stream, one.sampling_rate):
                check_channels(stream, one.name, one.channels, recording.name)
                streams[one.name] = stream
                continue
            plan = plan_stream(stream, _still_to_do(one, recording), recording.start, name=recording.name)
            streams[one.name] = plan.apply(stream)
    same = len(streams) == len(recording.streams) and all(recording.streams[name] is streams[name] for name in streams)
    if recording.prepared and same:
        return recording
    return replace(recording, streams=streams, prepared=mark)


def _still_to_do(modality: Modality, recording: SignalRecording) -> Modality:
    """What is left of a modality's settings: streams that were prepared are filtered and summarised already."""
    if not recording.prepared:
        return modality
    return Modality(modality.name, modality.channels, modality.sampling_rate, modality.kind, modality.max_gap_s)


def plan_stream(stream: Stream, modality: Modality, anchor: float, *, name: str = "") -> GridPlan:
    """Check a stream, and decide how it comes onto the grid of its modality."""
    check_channels(stream, modality.name, modality.stream_channels, name)
    check_stream(stream, f"{name or 'recording'}, stream {modality.name!r}")
    return plan_grid(
        stream,
        modality.sampling_rate,
        anchor,
        bands=modality.bands,
        max_gap=modality.max_gap,
        summary=modality.summary_s is not None,
    )


def check_channels(stream: Stream, modality: str, expected: int, name: str) -> None:
    """Make sure that a stream has its modality's channels, `expected` in number, as values that can be missing."""
    if stream.values.dtype.kind != "f":
        raise RecordingError(
            f"{name or 'recording'}, stream {modality!r} holds {stream.values.dtype}; expected floating point, "
            "in which NaN says what is missing. Convert it: values.astype(np.float32)."
        )
    found = stream.values.shape[1]
    if found != expected:
        named = f" ({', '.join(stream.channels)})" if stream.channels else ""
        turned = " It seems to have channels in rows: transpose it." if stream.values.shape[0] == expected else ""
        raise RecordingError(
            f"{name or 'recording'}, stream {modality!r} has {found} channel{'s' if found != 1 else ''}{named}; expected "
            f"{expected}. Give all channels, NaN where one was not recorded.{turned}"
        )


def check_any(recording: SignalRecording, names: Sequence[str]) -> None:
    """Make sure that a recording holds a sample of at least one of these streams.

    Raises:
        RecordingError: it does not; offers near names.
    """
    held = [name for name, stream in recording.streams.items() if has_sample(stream.values)]
    if any(name in names for name in held):
        return
    near = [
        f"{name!r} for {wanted!r}"
        for wanted in names
        for name in held
        if may_be(wanted, name, (*recording.streams[name].channels, recording.streams[name].kind))
    ]
    offer = f" Did you mean {', '.join(near[:3])}?" if near else ""
    shown = ", ".join(map(repr, held[:12])) + (f" and {len(held) - 12} more" if len(held) > 12 else "")
    raise RecordingError(
        f"{recording.name or 'The recording'} holds {shown or 'no sample at all'}; expected at least one of the streams "
        f"{', '.join(map(repr, names))}.{offer} Name its streams so, or pass streams={{{names[0]!r}: [channel, …]}}."
    )


def read_annotations(
    clips: Sequence[SignalRecording], times: Sequence[NDArray[np.float64]], names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Ground truth of each clip at its (S,) moments, interpolated between two real samples.

    Returns:
        (B, S, D) values, 0 where unknown, and (B, S, D) bool: known. Nothing is known beyond a clip's end.
    """
    steps = len(times[0]) if times else 0
    values = np.zeros((len(clips), steps, len(names)), np.float32)
    known = np.zeros(values.shape, np.bool_)
    for row, (clip, moments) in enumerate(zip(clips, times, strict=True)):
        for column, name in enumerate(names):
            truth = clip.annotations.get(name)
            if truth is None or not len(truth):
                continue
            where = f"{clip.name or 'recording'}, annotation {name!r}"
            if truth.values.shape[1] != 1:
                raise RecordingError(
                    f"{where} has {truth.values.shape[1]} channels; expected one. Name each by itself."
                )
            rate = check_stream(truth, where) or 1.0  # of a single sample, which is exact or nothing
            found = interpolate(truth, moments, rate, LONGEST_STEP / rate).values[:, 0]
            good = np.isfinite(found) & (moments < clip.end)
            values[row, good, column], known[row, good, column] = found[good], True
    return values, known


# --- Signal clips -----------------------------------------------------------------------------------------------------
# The clips that a recording is cut into: each is made when it is asked for, so that all of them together cost nothing.
#
#     clips = windower.cut(recording)
#     clips[3], clips[:8], len(clips)                       # a recording, clips again, how many

EDGE = 1e-3
"""Seconds by which clocks may miss the end of a recording or a window."""


class SignalClips(Sequence[SignalRecording]):
    """Parts of one recording, in any order; they may overlap.

    Args:
        recording: that they are parts of.
        starts, ends: (n,) seconds on its clock.
        margin: seconds of every stream that a clip keeps on both sides.
    """

    def __init__(
        self, recording: SignalRecording, starts: NDArray[np.float64], ends: NDArray[np.float64], margin: float
    ) -> None:
        self.recording, self.starts, self.ends, self.margin = recording, starts, ends, margin

    @property
    def seconds(self) -> float:
        """Duration of the longest."""
        return float((self.ends - self.starts).max(initial=0.0))

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> SignalRecording: ...

    @overload
    def __getitem__(self, index: slice) -> "SignalClips": ...

    def __getitem__(self, index: int | slice) -> "SignalRecording | SignalClips":
        if isinstance(index, slice):
            return SignalClips(self.recording, self.starts[index], self.ends[index], self.margin)
        return self.recording.clip(float(self.starts[index]), float(self.ends[index]), self.margin)

    def __add__(self, other: Iterable[SignalRecording]) -> list[SignalRecording]:
        return [*self, *other]

    def __radd__(self, other: Iterable[SignalRecording]) -> list[SignalRecording]:
        return [*other, *self]

    def __repr__(self) -> str:
        return f"<{len(self)} clips of {self.recording.name or 'a recording'}>"


def check_length(clip: SignalRecording, window: float) -> None:
    """Make sure that a clip is at most one window long."""
    if clip.seconds > window + EDGE:
        raise RecordingError(
            f"{clip.name or 'The recording'} lasts {clip.seconds:.3f} s; expected at most one window of {window:g} s. "
            "Cut it first: windower(windower.cut(recording))."
        )


def check_stride(stride: float, modalities: Sequence[Modality]) -> None:
    """Make sure that windows can be so far apart."""
    if not stride > 0:
        raise ConfigurationError(f"stride_s is {stride}; expected a positive number of seconds.")
    for one in modalities:
        if one.summary_s is not None and abs(stride / one.summary_s - round(stride / one.summary_s)) > 1e-6:
            raise ConfigurationError(
                f"stride_s is {stride:g} and {one.name!r} is summarised by {one.summary_s:g} s; expected whole summaries from "
                "one window to the next. Take a multiple of that."
            )


def find_starts(start: float, end: float, *, window: float, stride: float, last_window: str) -> list[float]:
    """When the windows of a recording from `start` to `end` begin; `last_window` as a `SignalWindower` has it."""
    rest = end - start - window - EDGE
    starts = [start + index * stride for index in range(1 + max(0, int(np.ceil(rest / stride))))]
    if len(starts) > 1 and starts[-1] + window > end + EDGE:
        if last_window == "drop":
            starts.pop()
        elif last_window == "align":
            starts[-1] = end - window
    return starts


# --- Signal batch -----------------------------------------------------------------------------------------------------
# Clips on their grids become one batch of arrays: sliced, normalised, masked.

CLOSE = 1e-3
"""Part of a period by which clocks may miss the start of a window."""


class SignalBatch(BatchFeature):
    """A batch whose values may be dicts of tensors; `to` moves those too."""

    def to(self, *args: Any, **kwargs: Any) -> "SignalBatch":
        """Move or cast as `BatchFeature.to` does, inside dicts as well."""
        for key, value in self.data.items():
            if isinstance(value, Mapping):
                self.data[key] = BatchFeature(dict(value)).to(*args, **kwargs).data
        super().to(*args, **kwargs)
        return self

    def as_type(self, return_tensors: str | None) -> "SignalBatch":
        """This batch as NumPy arrays (None, "np") or torch tensors ("pt")."""
        if return_tensors in (None, "np"):
            return self
        if return_tensors != "pt":
            raise ConfigurationError(f"return_tensors is {return_tensors!r}; expected 'pt', 'np' or None.")
        import torch

        def convert(value: Any) -> Any:
            return {k: convert(v) for k, v in value.items()} if isinstance(value, Mapping) else torch.from_numpy(value)

        return SignalBatch({key: convert(value) for key, value in self.data.items()})


@dataclass(frozen=True)
class Windows:
    """One modality's part of a batch.

    Attributes:
        values: (B, T, C) float32.
        times: (B, T) float32 seconds from each window's start.
        mask: (B, T) bool.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @staticmethod
    def make(count: int, steps: int, channels: int) -> "Windows":
        """Zeros of these sizes."""
        values = np.zeros((count, steps, channels), np.float32)
        return Windows(values, np.zeros((count, steps), np.float32), np.zeros((count, steps), np.bool_))


def as_batch(
    windows: Sequence[Windows], modalities: Sequence[Modality], lags: Sequence[Mapping[str, float]]
) -> SignalBatch:
    """Windows of each of these modalities, and each clip's `known_lags`, as a batch."""
    names = [one.name for one in modalities]
    presence = [one.mask.any(axis=1) for one in windows]
    data: dict[str, Any] = {
        "inputs": {name: one.values for name, one in zip(names, windows, strict=True)},
        "step_mask": {name: one.mask for name, one in zip(names, windows, strict=True)},
        "timestamps": {name: one.times for name, one in zip(names, windows, strict=True)},
        "modality_presence": np.stack(presence, axis=1) if presence else np.zeros((len(lags), 0), np.bool_),
    }
    if any(lags):
        data["lag_targets"] = np.array([[late.get(name, np.nan) for name in names] for late in lags], np.float32)
    return SignalBatch(data)


def collect(
    clips: Sequence[SignalRecording],
    levels: Sequence[Mapping[str, NDArray[np.floating]]],
    modalities: Sequence[Modality],
    *,
    window: float,
    margin: float,
    after: float,
    clip_at: float | None,
) -> SignalBatch:
    """Make a batch of clips.

    Args:
        clips: streams on their grids, NaN where nothing was measured.
        levels: for each clip, stream name → (2, channels) centre and scale; empty: values stay as they are.
        window, margin: seconds; there is room for `margin` before and after a window.
        after: seconds; what lies further beyond a clip's end is masked.
        clip_at: largest absolute value after normalisation.
    """
    made = []
    for one in modalities:
        steps, rate = one.steps(window + 2 * margin), one.sampling_rate
        windows = Windows.make(len(clips), steps, one.channels)
        level, spread = None, None  # mostly one for all clips
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is masked
            for row, clip in enumerate(clips):
                stream = clip.streams.get(one.name)
                if stream is None:
                    continue
                known = levels[row].get(one.name)
                if known is None:
                    spread = None
                elif spread is None or level is not known or spread.dtype != stream.values.dtype:
                    spread = spread_level(known, steps, stream.values.dtype)
                level = known
                _place(stream, clip, margin, after, rate, spread, clip_at, windows, row)
        made.append(windows)
    return as_batch(made, modalities, [clip.known_lags for clip in clips])


def _place(
    stream: Stream,
    clip: SignalRecording,
    margin: float,
    after: float,
    rate: float,
    level: NDArray[np.floating] | None,
    clip_at: float | None,
    windows: Windows,
    row: int,
) -> None:
    """Put the samples of a clip, normalised, into their places in that row.

    All that happens to one window happens here, while it is in the processor's cache.
    """
    start, end, slack = clip.start - margin, clip.end + after, CLOSE / rate
    first, last = stream.times.searchsorted((start - slack, end - slack)).tolist()
    if first >= last:
        return
    slot = int((float(stream.times[first]) - start) * rate + CLOSE)
    count = min(windows.mask.shape[1] - slot, last - first)
    if count <= 0:
        return
    here, there = slice(slot, slot + count), slice(first, first + count)
    windows.times[row, here] = stream.times[there] - clip.start
    windows.mask[row, here] = True
    missing = normalise(stream.values[there], level, clip_at, windows.values[row, here])
    if missing is not None:
        windows.times[row, here][missing] = 0.0
        windows.mask[row, here][missing] = False


def normalise(
    values: NDArray[np.floating],
    level: NDArray[np.floating] | None,
    clip_at: float | None,
    result: NDArray[np.float32],
) -> NDArray[np.int64] | None:
    """Write (samples, channels) into `result`, normalised by a level that `spread_level` made, and clipped.

    Returns:
        Which samples are missing, and 0 in `result`; None where none is.
    """
    if level is None:
        result[:] = values
    else:
        np.subtract(values, level[0, : len(values)], out=result, casting="same_kind")
        result /= level[1, : len(values)]
    missing = None
    if not np.isfinite(np.vdot(result, result)):  # some value is not, or their squares are too large
        missing = np.flatnonzero(~are_real(result))
        result[missing] = 0.0
    if clip_at is not None:
        result.clip(-clip_at, clip_at, out=result)
    return missing


def spread_level(level: NDArray[np.floating], steps: int, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """(2, channels) as (2, steps, channels): of two arrays of one shape NumPy subtracts faster than row by row."""
    return np.repeat(level.astype(dtype)[:, None], steps, axis=1)


# --- Signal report ----------------------------------------------------------------------------------------------------
# What became of each stream of a recording: which were used and how, which were missed, how much of them was there.


def describe_streams(
    recording: SignalRecording,
    modalities: Sequence[Modality],
    normalization: str,
    on_missing_reference: str,
    statistics: Statistics,
    clip_at: float | None,
) -> dict[str, Any]:
    """See `SignalWindower.report`."""
    used, measured, clipped, distance = {}, {}, {}, {}
    for one in modalities:
        stream = recording.streams.get(one.name)
        if stream is None or not has_sample(stream.values):
            continue
        plan = plan_stream(stream, _still_to_do(one, recording), recording.start, name=recording.name)
        values = plan.apply(stream).between(recording.start, recording.end).values
        steps = max(1, round(recording.seconds * one.sampling_rate))
        used[one.name] = plan.describe()
        measured[one.name] = min(1.0, float(are_real(values).sum()) / steps)
        if clip_at is not None:
            clipped[one.name] = _clipped(
                values, recording, one, normalization, on_missing_reference, statistics, clip_at
            )
        if one.trained_on is not None and not recording.prepared:
            distance[one.name] = round(float(range_distance(stream, one.trained_on).max()), 3)
    names = [one.name for one in modalities]
    return {
        "used": used,
        "missing": [name for name in names if name not in used],
        "ignored": sorted(name for name in recording.streams if name not in names),
        "measured": measured,
        "clipped": clipped,
        "distance": distance,
        "level": {
            one.name: _level_of(recording, one, normalization, on_missing_reference)
            for one in modalities
            if one.name in used
        },
    }


def _clipped(
    values: NDArray[np.floating],
    recording: SignalRecording,
    modality: Modality,
    normalization: str,
    on_missing_reference: str,
    statistics: Statistics,
    clip_at: float,
) -> float:
    """Share of values on the grid that are cut back to `clip_at`."""
    stream = Stream(
        values, recording.start + np.arange(len(values), dtype=np.float64) * 1e-9
    )  # whose values alone count
    alone = replace(recording, streams={modality.name: stream}, end=np.inf)
    known = add_own_level(alone, [modality], normalization, on_missing_reference)
    level = known.get(modality.name)
    if normalization == "population" and modality.name in statistics:
        level = np.array([statistics[modality.name]["center"], statistics[modality.name]["scale"]])
    if level is None:
        return 0.0
    count = beyond = 0
    for rows in blocks_of(values):
        real = values[rows][are_real(values[rows])]
        count += real.size
        beyond += np.count_nonzero(np.abs((real - level[0]) / level[1]) >= clip_at)
    return round(beyond / count, 4) if count else 0.0


def _level_of(recording: SignalRecording, modality: Modality, normalization: str, on_missing_reference: str) -> str:
    """By whose level a stream is normalised."""
    if normalization != "reference" or on_missing_reference == "error":
        return normalization
    bare = replace(recording, streams={})
    return "reference" if modality.name in add_own_level(bare, [modality], "reference", "error") else "recording"
