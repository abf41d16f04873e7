"""All clips that a recording was cut into become a batch at once.

Where clips overlap, a sample stands in several windows. Here it is normalised and clipped once, in stretches that fit the
processor's cache, and copied from there into each; and the clocks of all windows are one view of the stream's. The batch is to the
bit the one that `signal_batch.collect` makes of the same clips one by one.

This file knows how overlapping windows are filled quickly; what happens to a sample, `signal_batch.py` knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..recordings.signal_recording import Stream
from .resampling import are_on_grid
from .signal_batch import CLOSE, SignalBatch, Windows, as_batch, normalise, spread_level
from .signal_clips import EDGE, SignalClips
from .signal_modalities import Modality
from .signal_preparation import fingerprint

_IN_CACHE = 2**18
"""Bytes of samples that are normalised at once. A core's own cache holds them, their centres and their scales."""


@dataclass(frozen=True)
class Shown:
    """What some clips hold of one stream.

    Attributes:
        stream: from the first sample that any of them holds to the last.
        first, last: (n,) each clip's first sample of that, and the one after its last.
    """

    stream: Stream
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def find_samples(clips: SignalClips, modalities: Sequence[Modality], window: float) -> dict[str, Shown] | None:
    """Stream name → what the clips hold of it; None if they cannot be taken at once.

    That is so when they were cut for other modalities or longer windows, or a stream's clock wanders so far that it leaves its
    grid in some clip.
    """
    if clips.recording.prepared != fingerprint(tuple(modalities)) or clips.seconds > window + EDGE:
        return None
    found = {}
    for one in modalities:
        stream = clips.recording.streams.get(one.name)
        if stream is None:
            continue
        first = stream.times.searchsorted(clips.starts - clips.margin)
        last = stream.times.searchsorted(clips.ends + clips.margin)
        if not (last > first).any():
            continue
        begin, end = int(first.min()), int(last.max())
        part = replace(stream, values=stream.values[begin:end], times=stream.times[begin:end])
        shown = Shown(part, first - begin, last - begin)
        if not are_on_grid(part, one.sampling_rate, shown.first, shown.last):
            return None
        found[one.name] = shown
    return found


def collect_at_once(
    clips: SignalClips,
    shown: Mapping[str, Shown],
    level: Mapping[str, NDArray[np.floating]],
    modalities: Sequence[Modality],
    *,
    window: float,
    margin: float,
    clip_at: float | None,
) -> SignalBatch:
    """Make a batch of clips; see `signal_batch.collect`.

    Args:
        shown: as `find_samples` gives it.
        level: stream name → (2, channels) centre and scale, of the one recording.
    """
    made = []
    for one in modalities:
        steps, seen = one.steps(window + 2 * margin), shown.get(one.name)
        windows = Windows.make(len(clips), steps, one.channels, blank=seen is None)
        if seen is not None:
            places = _find_places(seen, clips, margin, one.sampling_rate, steps)
            real = _place_values(seen.stream, places, level.get(one.name), clip_at, windows.values)
            _place_clock(seen.stream, places, clips.starts, real, windows)
        made.append(windows)
    return as_batch(made, modalities, [clips.recording.known_lags] * len(clips))


@dataclass(frozen=True)
class _Places:
    """Which samples stand where: `count` of them from `first` on, from step `slot` of the window on; (n,) each."""

    first: NDArray[np.int64]
    slot: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def lists(self) -> tuple[list[int], list[int], list[int]]:
        """The same three; loops over lists are faster."""
        return self.first.tolist(), self.slot.tolist(), self.count.tolist()


def _find_places(shown: Shown, clips: SignalClips, margin: float, rate: float, steps: int) -> _Places:
    times, starts, ends, slack = shown.stream.times, clips.starts - margin, clips.ends + margin, CLOSE / rate
    first = times.searchsorted(starts - slack).clip(shown.first, shown.last)
    last = times.searchsorted(ends - slack).clip(shown.first, shown.last)
    slot = ((times[np.minimum(first, len(times) - 1)] - starts) * rate + CLOSE).astype(np.int64)
    return _Places(first, slot, np.minimum(steps - slot, last - first).clip(0))


def _place_values(
    stream: Stream,
    places: _Places,
    level: NDArray[np.floating] | None,
    clip_at: float | None,
    values: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Put the samples, normalised, into (n, steps, channels).

    Returns:
        (samples,) bool: those that are not missing, of which some are in a window.
    """
    real = np.ones(len(stream), np.bool_)
    room = min(max(_IN_CACHE // (4 * values.shape[2]), values.shape[1]), len(stream))  # samples
    scratch = np.empty((room, values.shape[2]), np.float32)
    spread = None if level is None else spread_level(level, room, stream.values.dtype)
    begin = end = 0  # samples in scratch
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is masked
        for window, at, slot, count in zip(values, *places.lists, strict=True):
            if count and (at < begin or at + count > end):
                begin, end = at, min(at + room, len(stream))
                missing = normalise(stream.values[begin:end], spread, clip_at, scratch[: end - begin])
                if missing is not None:
                    real[begin:end][missing] = False
            if count < len(window):
                window[:] = 0.0
            window[slot : slot + count] = scratch[at - begin : at - begin + count]
    return real


def _place_clock(
    stream: Stream, places: _Places, starts: NDArray[np.float64], real: NDArray[np.bool_], windows: Windows
) -> None:
    """Fill in times and masks; `real` says which samples are there."""
    count, steps = windows.mask.shape
    whole = np.flatnonzero(places.count == steps)
    here, there = _as_slice(whole), _as_slice(places.first[whole])
    rest = range(count)
    if here is not None and there is not None:
        ticks, begins = sliding_window_view(stream.times, steps)[there], starts[here, None]
        times, mask = windows.times[here], windows.mask[here]
        mask[:] = sliding_window_view(real, steps)[there]
        at_once = max(1, _IN_CACHE // (8 * steps))
        for begin in range(0, len(times), at_once):
            some = slice(begin, begin + at_once)
            times[some] = ticks[some] - begins[some]
            np.copyto(times[some], 0.0, where=~mask[some])
        rest = np.flatnonzero(places.count < steps)
    for row in rest:
        first, slot, size = places.first[row], places.slot[row], places.count[row]
        times, mask = windows.times[row], windows.mask[row]
        mask[:] = False
        mask[slot : slot + size] = real[first : first + size]
        times[slot : slot + size] = stream.times[first : first + size] - starts[row]
        np.copyto(times, 0.0, where=~mask)


def _as_slice(index: NDArray[np.int64]) -> slice | None:
    """Indices that increase evenly, of which there are two or more, as a slice, which copies nothing."""
    steps = np.diff(index)
    if not len(steps) or steps[0] < 1 or (steps != steps[0]).any():
        return None
    return slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))
