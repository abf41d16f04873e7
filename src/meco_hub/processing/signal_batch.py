"""Clips on their grids become one batch of arrays: sliced, normalised, masked.

This file knows batches of signals; it does not know how the signals came onto their grids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.feature_extraction_utils import BatchFeature

from ..errors import ConfigurationError
from ..recordings.signal_recording import SignalRecording, Stream
from .filters import are_real
from .signal_modalities import Modality

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
    def make(count: int, steps: int, channels: int, *, blank: bool = True) -> "Windows":
        """Arrays of these sizes: zeros, or whatever was in their memory if every window is going to be written anyway."""
        new = np.zeros if blank else np.empty
        values = new((count, steps, channels), np.float32)
        return Windows(values, new((count, steps), np.float32), new((count, steps), np.bool_))


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
    clip_at: float | None,
) -> SignalBatch:
    """Make a batch of clips.

    Args:
        clips: streams on their grids, NaN where nothing was measured.
        levels: for each clip, stream name → (2, channels) centre and scale; empty: values stay as they are.
        window, margin: seconds; what lies further than `margin` beyond a clip's end is masked.
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
                _place(stream, clip, margin, rate, spread, clip_at, windows, row)
        made.append(windows)
    return as_batch(made, modalities, [clip.known_lags for clip in clips])


def _place(
    stream: Stream,
    clip: SignalRecording,
    margin: float,
    rate: float,
    level: NDArray[np.floating] | None,
    clip_at: float | None,
    windows: Windows,
    row: int,
) -> None:
    """Put the samples of a clip, normalised, into their places in that row.

    All that happens to one window happens here, while it is in the processor's cache.
    """
    start, end, slack = clip.start - margin, clip.end + margin, CLOSE / rate
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
