"""Clips on their grids become one batch of arrays: sliced, normalised, masked.

This file knows batches of signals; it does not know how the signals came onto their grids.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.feature_extraction_utils import BatchFeature

from ..errors import ConfigurationError
from ..recordings.signal_recording import SignalRecording, Stream
from .filters import are_real
from .signal_modalities import Modality

_CLOSE = 1e-3
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
    inputs: dict[str, NDArray[np.float32]] = {}
    masks: dict[str, NDArray[np.bool_]] = {}
    timestamps: dict[str, NDArray[np.float32]] = {}
    for one in modalities:
        steps, rate = one.steps(window + 2 * margin), one.sampling_rate
        values = np.zeros((len(clips), steps, one.channels), np.float32)
        times = np.zeros((len(clips), steps), np.float32)
        mask = np.zeros((len(clips), steps), np.bool_)
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
                    spread = _spread(known, steps, stream.values.dtype)
                level = known
                _place(stream, clip, margin, rate, spread, clip_at, values[row], times[row], mask[row])
        inputs[one.name], masks[one.name], timestamps[one.name] = values, mask, times
    presence = [masks[one.name].any(axis=1) for one in modalities]
    data: dict[str, Any] = {
        "inputs": inputs,
        "step_mask": masks,
        "timestamps": timestamps,
        "modality_presence": np.stack(presence, axis=1) if presence else np.zeros((len(clips), 0), np.bool_),
    }
    if any(clip.known_lags for clip in clips):
        lags = [[clip.known_lags.get(one.name, np.nan) for one in modalities] for clip in clips]
        data["lag_targets"] = np.array(lags, np.float32)
    return SignalBatch(data)


def _place(
    stream: Stream,
    clip: SignalRecording,
    margin: float,
    rate: float,
    level: NDArray[np.floating] | None,
    clip_at: float | None,
    values: NDArray[np.float32],
    times: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """Put the samples of a clip, normalised, into their places in (steps, channels), (steps,) and (steps,).

    All that happens to one window happens here, while it is in the processor's cache.
    """
    start, end, slack = clip.start - margin, clip.end + margin, _CLOSE / rate
    first, last = stream.times.searchsorted((start - slack, end - slack)).tolist()
    if first >= last:
        return
    slot = int((float(stream.times[first]) - start) * rate + _CLOSE)
    count = min(len(values) - slot, last - first)
    if count <= 0:
        return
    here, there = slice(slot, slot + count), slice(first, first + count)
    part = values[here]
    if level is None:
        part[:] = stream.values[there]
    else:
        np.subtract(stream.values[there], level[0, :count], out=part, casting="same_kind")
        part /= level[1, :count]
    times[here] = stream.times[there] - clip.start
    mask[here] = True
    if not np.isfinite(np.vdot(part, part)):  # some value is not, or their squares are too large
        missing = ~are_real(part)
        part[missing] = 0.0
        times[here][missing] = 0.0
        mask[here][missing] = False
    if clip_at is not None:
        part.clip(-clip_at, clip_at, out=part)


def _spread(level: NDArray[np.floating], steps: int, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """(2, channels) as (2, steps, channels): of two arrays of one shape NumPy subtracts faster than row by row."""
    return np.repeat(level.astype(dtype)[:, None], steps, axis=1)
