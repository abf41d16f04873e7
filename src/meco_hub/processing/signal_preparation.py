"""A recording's streams, checked and put on the grids of their modalities."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from transformers.feature_extraction_utils import BatchFeature

from ..errors import ConfigurationError, RecordingError
from ..recordings.large_arrays import blocks_of
from ..recordings.signal_names import how_to_name, offer
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
    said = {name: (*recording.streams[name].channels, recording.streams[name].kind) for name in held}
    pairs, silent = offer(names, said)
    chosen: dict[str, str] = {}
    for name, wanted in pairs:
        if name not in chosen.values():
            chosen.setdefault(wanted, name)
    near = (
        f" Did you mean {', '.join(f'{name!r} for {wanted!r}' for wanted, name in chosen.items())}?" if chosen else ""
    )
    example = how_to_name(chosen or {names[0]: silent[0]}) if chosen or silent else ""
    how = f"{example}{'' if chosen else ', or likewise'}" if example else f"pass streams={{{names[0]!r}: [channel, …]}}"
    shown = ", ".join(map(repr, held[:12])) + (f" and {len(held) - 12} more" if len(held) > 12 else "")
    raise RecordingError(
        f"{recording.name or 'The recording'} holds {shown or 'no sample at all'}; expected at least one of the streams "
        f"{', '.join(map(repr, names))}.{near} Name its streams so, or {how}."
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

    @staticmethod
    def of(clip: SignalRecording) -> "SignalClips":
        """A clip by itself, with all samples that it has."""
        return SignalClips(clip, np.array([clip.start]), np.array([clip.end]), np.inf)

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

    def samples(self, stream: Stream) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) first sample of a stream that each clip keeps, and (n,) the one after its last."""
        times = stream.times
        return times.searchsorted(self.starts - self.margin), times.searchsorted(self.ends + self.margin)

    def shown(self, modalities: Sequence[Modality]) -> SignalRecording | None:
        """The recording with those streams of which any clip holds a sample; None if one is not on its grid in some clip.

        The whole of a clock that wanders may take as long as it should, and a clip of it not.
        """
        streams = {}
        for one in modalities:
            stream = self.recording.streams.get(one.name)
            if stream is not None:
                first, last = self.samples(stream)
                if (last > first).any():
                    if not is_on_grid(stream, one.sampling_rate, first, last):
                        return None
                    streams[one.name] = stream
        return replace(self.recording, streams=streams)

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


_MOST_WINDOWS = 1 << 22
"""Of a recording: a week, seven a second."""


def find_starts(start: float, end: float, *, window: float, stride: float, last_window: str) -> list[float]:
    """When the windows of a recording from `start` to `end` begin; `last_window` as a `SignalWindower` has it.

    Raises:
        ConfigurationError: more windows than anybody means.
    """
    rest = end - start - window - EDGE
    if not rest / stride < _MOST_WINDOWS:
        raise ConfigurationError(
            f"A recording of {end - start:g} s has {rest / stride:.3g} windows {stride:g} s apart; expected {_MOST_WINDOWS} at "
            "most. Take a larger stride_s (or window_s), or cut the recording."
        )
    starts = [start + index * stride for index in range(1 + max(0, int(np.ceil(rest / stride))))]
    if len(starts) > 1 and starts[-1] + window > end + EDGE:
        if last_window == "drop":
            starts.pop()
        elif last_window == "align":
            starts[-1] = end - window
        elif starts[-1] > end - EDGE:  # windows with pauses between them: the last one would begin behind the end
            starts.pop()
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
        """Of these sizes, with whatever was in their memory: what is written anyway need not be zeros before."""
        values = np.empty((count, steps, channels), np.float32)
        return Windows(values, np.empty((count, steps), np.float32), np.empty((count, steps), np.bool_))

    def blank(self, rows: slice | NDArray[np.int64]) -> None:
        """Let nothing be measured in these rows."""
        self.values[rows], self.times[rows], self.mask[rows] = 0.0, 0.0, False


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
    parts: Sequence[SignalClips],
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
        parts: of recordings whose streams are on their grids in each clip, NaN where nothing was measured.
        levels: for each recording, stream name → (2, channels) centre and scale; empty: values stay as they are.
        window, margin: seconds; there is room for `margin` before and after a window.
        after: seconds; what lies further beyond a clip's end is masked.
        clip_at: largest absolute value after normalisation.
    """
    count, made = sum(map(len, parts)), []
    for one in modalities:
        windows = Windows.make(count, one.steps(window + 2 * margin), one.channels)
        level, row = _Level(None, clip_at), 0  # mostly one for all clips
        for clips, known in zip(parts, levels, strict=True):
            stream = clips.recording.streams.get(one.name)
            if stream is None or not len(stream):
                windows.blank(slice(row, row + len(clips)))
            else:
                if level.known is not known.get(one.name):
                    level = _Level(known.get(one.name), clip_at)
                _place(stream, clips, (margin, after), one.sampling_rate, level, windows, row)
            row += len(clips)
        made.append(windows)
    return as_batch(made, modalities, [clips.recording.known_lags for clips in parts for _ in range(len(clips))])


def _place(
    stream: Stream,
    clips: SignalClips,
    margins: tuple[float, float],
    rate: float,
    level: "_Level",
    windows: Windows,
    row: int,
) -> None:
    """Put the samples of clips, normalised, into their places in the rows from `row` on.

    Where clips overlap, a sample stands in several of them. It is normalised once, in stretches that fit the processor's cache.
    """
    times, steps = stream.times, windows.mask.shape[1]
    starts, ends, slack = clips.starts - margins[0], clips.ends + margins[1], CLOSE / rate
    held, beyond = clips.samples(stream)
    first = times.searchsorted(starts - slack).clip(held, beyond)
    last = times.searchsorted(ends - slack).clip(held, beyond)
    slot = ((times[np.minimum(first, len(times) - 1)] - starts) * rate + CLOSE).astype(np.int64)
    size = np.minimum(steps - slot, last - first)
    windows.blank(row + np.flatnonzero(size < steps))
    for group in _groups(first.tolist(), size.tolist(), steps, _IN_CACHE // (4 * stream.values.shape[1])):
        at, to, many = first[group], int(slot[group.start]), int(size[group.start])
        begin, end = int(at[0]), int(at[-1]) + many
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is masked
            values, real = level.apply(stream.values[begin:end])
        rows, here, at = slice(row + group.start, row + group.stop), slice(to, to + many), at - begin
        windows.values[rows, here] = _cut(values, at, many)
        clock = windows.times[rows, here]
        np.subtract(_cut(times[begin:end], at, many), clips.starts[group, None], out=clock, casting="same_kind")
        windows.mask[rows, here] = True if real is None else _cut(real, at, many)
        if real is not None:
            clock[~windows.mask[rows, here]] = 0.0


def _groups(first: list[int], size: list[int], steps: int, room: int) -> Iterator[slice]:
    """Windows to be filled together: whole ones that overlap, of up to `room` samples; others one by one, empty ones not at all."""
    begin = 0
    while begin < len(first):
        end, room_end = begin + 1, first[begin] + max(room, steps)
        while (
            end < len(first)
            and size[end] == size[begin] == steps
            and first[end - 1] <= first[end] < first[end - 1] + steps
            and first[end] + steps <= room_end
        ):
            end += 1
        if size[begin] > 0:
            yield slice(begin, end)
        begin = end


def _cut(values: NDArray[Any], first: NDArray[np.int64], size: int) -> NDArray[Any]:
    """(windows, size, …): so many rows from each of these on; a view where they lie evenly, which the usual ones do."""
    shape, strides = (len(values) - size + 1, size, *values.shape[1:]), (values.strides[0], *values.strides)
    windows = np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
    steps = first[1:] - first[:-1]
    if len(first) == 1 or (steps[0] > 0 and (steps == steps[0]).all()):
        return windows[int(first[0]) : int(first[-1]) + 1 : int(steps[0]) if len(steps) else 1]
    return windows[first]


_IN_CACHE = 2**18
"""Bytes of samples that are normalised at once. A core's own cache holds them, their centres and their scales."""


class _Level:
    """Centre and scale by which a stream is normalised, and where values are cut back to.

    Args:
        known: (2, channels); None: values stay as they are.
        clip_at: largest absolute value afterwards.
    """

    def __init__(self, known: NDArray[np.floating] | None, clip_at: float | None) -> None:
        self.known, self.clip_at = known, clip_at
        self._spread: NDArray[np.floating] | None = None

    def apply(self, values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """(samples, channels) normalised and clipped, 0 where a sample is missing; and (samples,) which are not, None: all."""
        if self.known is None:
            result = values.astype(np.float32)
        else:
            center, scale = self._spread_over(values)
            result = np.empty(values.shape, np.float32)
            np.subtract(values, center, out=result, casting="same_kind")
            result /= scale
        real = None
        if not np.isfinite(np.vdot(result, result)):  # some value is not, or their squares are too large
            real = are_real(result)
            result[~real] = 0.0
        if self.clip_at is not None:
            result.clip(-self.clip_at, self.clip_at, out=result)
        return result, real

    def _spread_over(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """(2, samples, channels): of two arrays of one shape NumPy subtracts faster than row by row; (2, 1) of one channel."""
        assert self.known is not None
        if values.shape[1] == 1:
            return self.known.astype(values.dtype)
        if self._spread is None or self._spread.dtype != values.dtype or self._spread.shape[1] < len(values):
            self._spread = np.repeat(self.known.astype(values.dtype)[:, None], len(values), axis=1)
        return self._spread[:, : len(values)]


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
