"""What is asked of models that read several streams: any of them may be missing, masked, in another order, or on another clock.

This file knows what must not change an answer; faces have neither streams nor clocks and are not asked.
"""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import torch

from ..errors import MecoError
from ..recordings.eye_clips import EyeClip
from ..recordings.signal_recording import SignalRecording
from .batches import Batch, changed, reverse
from .check import NotConforming, require, rule
from .checks_numerics import TOLERANCE, distance
from .drawn_recordings import with_raw_events
from .subject import Subject

_GARBAGE = 1e3
"""Finite, and far from whatever was measured."""


def _takes(subject: Subject, *names: str) -> bool:
    return any(name in inspect.signature(subject.load("head").forward).parameters for name in names)


def _has_streams(subject: Subject) -> bool:
    return subject.entry.kind in ("eye", "signals")


def streams_of(subject: Subject) -> list[str]:
    """The streams that the processor declares, in its order."""
    processor = subject.processor
    if subject.entry.kind == "eye":
        return list(getattr(processor, "streams", ("frames", "events")))
    return list(getattr(processor, "modality_names", None) or getattr(processor, "modalities", {}))


# --- masks ---


def _masked_places(batch: Batch) -> Iterator[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    """Tensors that a mask of the batch stands for: where they are, they themselves, and the mask, True where valid."""
    for key in ("step_mask", "window_mask", "attention_mask", "frame_mask"):
        mask = batch.get(key)
        for name, one in batch.items():
            if mask is None or "mask" in name or name.endswith("_presence"):
                continue
            if isinstance(mask, Mapping) and isinstance(one, Mapping):
                yield from (((name, stream), one[stream], mask[stream]) for stream in one if stream in mask)
            elif isinstance(mask, torch.Tensor) and isinstance(one, torch.Tensor) and one.shape[:2] == mask.shape[:2]:
                yield (name,), one, mask


def _spoil(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Garbage where a value does not count."""
    spread = valid.bool().reshape(*valid.shape, *[1] * (values.ndim - valid.ndim))
    return torch.where(spread, values, torch.full_like(values, _GARBAGE))


def _mask_some(batch: Batch) -> Batch:
    """The batch with a stretch of every step mask switched off, where there is one."""

    def hide(path: tuple[str, ...], one: torch.Tensor) -> torch.Tensor:
        if not (path[0].endswith("_mask") and one.dtype == torch.bool and one.ndim == 2 and one.shape[1] > 3):
            return one
        one = one.clone()
        one[::2, one.shape[1] // 2 :] = False
        return one

    return changed(batch, hide)


@rule(
    lambda subject: (
        _has_streams(subject) and _takes(subject, "step_mask", "window_mask", "attention_mask", "frame_mask")
    )
)
def masked_values(subject: Subject) -> None:
    """What stands behind a mask changes nothing, not by a bit."""
    model, batch = subject.shared_model, _mask_some(subject.batch())
    places = {path: (one, mask) for path, one, mask in _masked_places(batch)}
    require(
        bool(places),
        f"The model takes a mask, and its processor gives none: {', '.join(batch)}.",
        "Let the processor give step_mask (stream → (batch, samples) bool) beside the values.",
    )
    spoilt = changed(batch, lambda path, one: _spoil(*places[path]) if path in places else one)
    before, after = subject.logits(model, batch), subject.logits(model, spoilt)
    require(
        torch.equal(before, after),
        f"Values behind a False mask change the logits, by {distance(before, after):.3g}.",
        "Replace them before anything else happens (values.masked_fill(~mask, 0)), clocks too, and leave them out of every mean, "
        "norm, convolution and attention.",
    )


def _stream_tensors(subject: Subject, batch: Batch) -> list[list[tuple[str, ...]]]:
    """For each column of modality_presence, the tensors that it stands for."""
    names = streams_of(subject)
    mappings = [key for key, one in batch.items() if isinstance(one, Mapping) and "mask" not in key]
    if mappings:
        return [[(key, name) for key in mappings if name in batch[key]] for name in names]
    order = [name for name in subject.processor.model_input_names if name in batch and batch[name].is_floating_point()]
    return [[(name,)] for name in order]


def _allows_absence(subject: Subject) -> bool:
    # a config may say that a stream must not be missing; the refusal is then checked by `subsets_of_streams`
    return getattr(subject.config(), "missing_modality", "zeros") != "error"


@rule(lambda subject: _has_streams(subject) and _takes(subject, "modality_presence") and _allows_absence(subject))
def absent_streams(subject: Subject) -> None:
    """What stands in the place of a stream that is marked as absent changes nothing, not by a bit."""
    model, batch = subject.shared_model, subject.batch()
    columns = _stream_tensors(subject, batch)
    require(
        bool(columns) and all(columns),
        f"The model takes modality_presence, and its processor gives no tensors for {', '.join(streams_of(subject))}.",
        "Let the processor give every stream, zeros where it is missing, in the order of the columns of modality_presence.",
    )
    everything = batch.get("modality_presence")
    everything = torch.ones(4, len(columns), dtype=torch.bool) if everything is None else everything
    for column, paths in enumerate(columns):
        presence = everything.clone()
        presence[::2, column] = False
        given = {**batch, "modality_presence": presence}
        gone = ~presence[:, column]

        def spoil(
            path: tuple[str, ...], one: torch.Tensor, paths: Any = paths, gone: torch.Tensor = gone
        ) -> torch.Tensor:
            return (
                torch.where(gone.reshape(-1, *[1] * (one.ndim - 1)), torch.full_like(one, _GARBAGE), one)
                if path in paths
                else one
            )

        before, after = subject.logits(model, given), subject.logits(model, changed(given, spoil))
        require(
            torch.equal(before, after),
            f"{'.'.join(paths[0])} is marked as absent, and values there change the logits by {distance(before, after):.3g}.",
            "Multiply nothing by a presence: replace the values (masked_fill, torch.where) before anything reads them.",
        )


# --- subsets ---


def _without(recording: Any, names: list[str]) -> Any:
    return recording.without(names) if names else recording


def _some_subsets(names: list[str]) -> list[tuple[str, ...]]:
    """All of them up to four streams; of more, those of one stream, those that lack one, and the whole."""
    sizes = range(1, len(names) + 1) if len(names) <= 4 else {1, len(names) - 1, len(names)}
    return [chosen for size in sizes for chosen in combinations(names, size)]


@rule(_has_streams)
def subsets_of_streams(subject: Subject) -> None:
    """Whichever of the declared streams are there, there is an answer; a stream that must be there is named where it is not."""
    names, recordings = streams_of(subject), subject.recordings(2)
    require(
        bool(names),
        f"{type(subject.processor).__name__} declares no streams.",
        "Give it `modality_names` (signals) or `streams` (eyes).",
    )
    for chosen in _some_subsets(names):
        gone = [name for name in names if name not in chosen]
        left = [_without(one, gone) for one in recordings]
        processor = subject.processor
        try:
            batch = subject.process([subject.first_clip(one, processor) for one in left])
        except MecoError as error:
            if not hasattr(processor, "streams"):
                raise NotConforming(
                    f"With {', '.join(chosen)} and without {', '.join(gone)} the processor raises: {error} Give zeros behind a "
                    "mask, or `streams` as a field of the processor that says which it wants."
                ) from error
            require(
                any(name in str(error) for name in gone),
                f"Without {', '.join(gone)} the processor raises: {error}",
                "Name the stream that is missing.",
            )
            processor = subject.make_processor(streams=list(chosen))
            batch = subject.process([subject.first_clip(one, processor) for one in left], processor)
        logits = subject.logits(subject.shared_model, batch)
        require(
            logits.shape[0] == 2 and bool(torch.isfinite(logits).all()),
            f"With {', '.join(chosen)} alone the logits are {logits.flatten().tolist()[:4]}.",
            "A missing stream is zeros behind a mask: no mean over nothing, no softmax over −∞ only.",
        )


# --- order and clocks ---


@rule(_has_streams)
def dict_order(subject: Subject) -> None:
    """The order of keys means nothing, neither in recordings nor in batches."""
    model, processor = subject.shared_model, subject.processor
    recordings = subject.recordings(3)
    batch = subject.process([subject.first_clip(one, processor) for one in recordings])
    turned = [_turned(one) for one in recordings]
    if any(isinstance(one, Mapping) for one in turned):
        turned = [processor.read(one) for one in turned]
    other = subject.process([subject.first_clip(one, processor) for one in turned])
    before = subject.logits(model, batch)
    for what, given in (("a recording", other), ("a batch", reverse(batch))):
        after = subject.logits(model, given)
        require(
            torch.equal(before, after),
            f"The order of the keys of {what} changes the logits, by {distance(before, after):.3g}.",
            "Take the order of streams from a list in config and processor (modality_names), not from a mapping: JSON sorts keys.",
        )


def _turned(recording: Any) -> Any:
    if isinstance(recording, SignalRecording):
        return dataclasses.replace(recording, streams=dict(reversed(list(recording.streams.items()))))
    if isinstance(recording, EyeClip):
        given = {
            "name": recording.name,
            "frame_times": recording.frame_times,
            "events": recording.events,
            "frames": recording.frames,
        }
        return {key: value for key, value in given.items() if value is not None}
    return dict(reversed(list(recording.items()))) if isinstance(recording, Mapping) else recording


@rule(_has_streams)
def clock_shift(subject: Subject) -> None:
    """When the recording's clock began means nothing."""
    model, processor = subject.shared_model, subject.processor
    recordings = subject.recordings(3)
    if subject.entry.kind == "eye":
        recordings = (
            [with_raw_events(processor, index, 0) for index in range(3)] if _reads_raw_events(subject) else recordings
        )
    shifted = [_shifted(one) for one in recordings]
    answers = [
        subject.logits(model, subject.process([subject.first_clip(one, processor) for one in some]))
        for some in (recordings, shifted)
    ]
    require(
        distance(*answers) <= TOLERANCE,
        f"A clock that began 1000 s earlier changes the logits by {distance(*answers):.3g}; allowed: {TOLERANCE:g}.",
        "Count time from the window's start, in float64 until then: where in a recording a window lies gives away what was shown.",
    )


def _reads_raw_events(subject: Subject) -> bool:
    try:
        subject.process([with_raw_events(subject.processor, 0, 0)])
    except MecoError:
        return False
    return True


def _shifted(recording: Any) -> Any:
    if isinstance(recording, SignalRecording):
        streams = {name: dataclasses.replace(one, times=one.times + 1000.0) for name, one in recording.streams.items()}
        return dataclasses.replace(
            recording, streams=streams, start=recording.start + 1000.0, end=recording.end + 1000.0
        )
    if isinstance(recording, EyeClip) and recording.frame_times is not None:
        later: dict[str, Any] = {"frame_times": recording.frame_times + 1_000_000_000}
        if recording.is_raw:
            events: Any = recording.events
            later["events"] = dataclasses.replace(events, t=events.t + 1_000_000_000)
        return dataclasses.replace(recording, **later)
    return recording
