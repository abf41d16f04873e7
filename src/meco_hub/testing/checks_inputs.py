"""What is asked of a processor: it travels with the weights, is missed where it is not there, and gives the same tensors again."""

import dataclasses
import inspect
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError, MecoError
from ..evaluation.task import task_of_model
from ..recordings.eye_clips import EyeClip
from ..recordings.signal_recording import SignalRecording, Stream
from .check import NotConforming, require, rule
from .checks_model import TOLERANCE, distance
from .subject import Batch, Subject, changed, leaves, quiet, reverse, values_in, with_raw_events

_FILES = ("preprocessor_config.json", "processor_config.json")


def _plain(value: Any) -> Any:
    """What JSON makes of a processor's fields."""
    return json.loads(json.dumps(value, default=lambda one: dict(one) if hasattr(one, "keys") else str(one)))


@rule()
def processor_required(subject: Subject) -> None:
    """A checkpoint without its processor is refused: settings that nobody saved are not guessed."""
    from transformers import pipeline as make_pipeline

    pipeline: Any = make_pipeline  # typed for transformers' own tasks only

    from ..loading import load_processor

    folder = subject.new_folder() / "alone"
    shutil.copytree(subject.checkpoint, folder)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    mend = "Do not override from_pretrained to make up settings: they are those that the weights were trained with."
    doors = {
        "load_processor": lambda: load_processor(str(folder)),
        f"{subject.processor_class.__name__}.from_pretrained": lambda: subject.processor_class.from_pretrained(folder),
        'pipeline("emotion-recognition")': lambda: pipeline("emotion-recognition", model=str(folder)),
    }
    for name, door in doors.items():
        try:
            with quiet():
                door()
        except CheckpointError:
            continue
        except (OSError, ValueError) as error:
            if name.endswith("from_pretrained"):  # transformers' own door, with transformers' own error
                continue
            raise NotConforming(
                f"{name} answers a folder without processor by {type(error).__name__}: {error}. {mend}"
            ) from error
        raise NotConforming(f"{name} accepts a folder that has no {' and no '.join(_FILES)}. {mend}")


@rule()
def processor_round_trip(subject: Subject) -> None:
    """Saved and loaded, a processor has the same fields and gives the same tensors, bit for bit."""
    from ..loading import load_processor

    again = load_processor(str(subject.checkpoint))
    require(
        type(again) is subject.processor_class,
        f"The saved processor comes back as a {type(again).__name__}, expected {subject.processor_class.__name__}.",
        "Register the class in the plugin's __init__; its name must be unlike any of transformers' own.",
    )
    before, after = _plain(subject.processor.to_dict()), _plain(again.to_dict())
    ignored = {"processor_class", "_processor_class", "auto_map"}
    lost = sorted(key for key in {*before, *after} - ignored if before.get(key) != after.get(key))
    listing = "; ".join(f"{key}: {before.get(key)!r} → {after.get(key)!r}" for key in lost)
    require(
        not lost,
        f"Saving and loading the processor changes {listing}.",
        "Every setting must be an argument of __init__, an attribute of the same name, and part of to_dict.",
    )
    given, got = dict(leaves(subject.batch())), dict(leaves(subject.process(subject.clips(processor=again), again)))
    for path, one in given.items():
        require(
            path in got and torch.equal(one, got[path]),
            f"The loaded processor gives another {'.'.join(path)} than the one that was saved.",
            "Whatever it computes with (fitted statistics too) must be among the fields that are saved.",
        )


@rule()
def processor_determinism(subject: Subject) -> None:
    """The same recording gives the same tensors, whatever was drawn at random in between."""
    clips = subject.clips()
    torch.manual_seed(1)
    first = dict(leaves(subject.process(clips)))
    torch.manual_seed(2)
    second = dict(leaves(subject.process(clips)))
    for path, one in first.items():
        require(
            torch.equal(one, second[path]),
            f"Called twice on the same recordings, the processor gives two different {'.'.join(path)}.",
            "Draw at random in a training augmentation (a recipe's `augmentation`), never in the processor.",
        )


@rule()
def processor_batches(subject: Subject) -> None:
    """A recording's tensors do not depend on what else is in the batch, and one recording may stand without a list."""
    clips = subject.clips()
    together = dict(leaves(subject.process(clips)))
    for index, clip in enumerate(clips):
        for path, one in leaves(subject.process([clip])):
            steps = one.shape[1] if one.ndim > 1 else 0  # a batch may be padded to its longest item
            there = together[path][index : index + 1]
            there = there[:, :steps] if there.ndim > 1 else there
            require(
                there.shape == one.shape and torch.equal(one, there),
                f"{'.'.join(path)} of recording {index} differs between a batch of its own and a batch of {len(clips)}.",
                "Normalise by the recording itself or by what `fit` found, never by the batch; pad at the end, behind a mask.",
            )
    alone = dict(leaves(dict(subject.processor(clips[0], return_tensors="pt"))))
    for path, one in leaves(subject.process(clips[:1])):
        require(
            path in alone and torch.equal(one, alone[path]),
            f"processor(recording) gives another {'.'.join(path)} than processor([recording]).",
            "A recording that stands alone is a batch of one.",
        )


# --- Checks streams ---------------------------------------------------------------------------------------------------
# What is asked of models that read several streams: any of them may be missing, masked, in another order, or on another
# clock.

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


# --- Checks inputs ----------------------------------------------------------------------------------------------------
# What is asked of models and processors that are handed rubbish: our error, saying what was seen.


@rule()
def wrong_shapes(subject: Subject) -> None:
    """A tensor with a dimension too many is refused by our error, which says the shape that was seen."""
    model, batch = subject.shared_model, subject.batch(2)
    for path, one in values_in(batch):
        wrong = changed(batch, lambda other, same, path=path: same.unsqueeze(0) if other == path else same)
        shape, name = (1, *one.shape), ".".join(path)
        mend = f"Check shapes first thing in the forward: raise InputError saying {path[-1]}, the shape seen, the one expected."
        try:
            subject.answer(model, wrong)
        except MecoError as error:
            require(
                str(shape) in str(error) and path[-1] in str(error),
                f"{name} of shape {shape} is refused with: {error}",
                f"Name {path[-1]!r} and the shape {shape} in the message.",
            )
        except Exception as error:
            raise NotConforming(
                f"{name} of shape {shape} ends in {type(error).__name__}: {str(error)[:200]}. {mend}"
            ) from error
        else:
            raise NotConforming(f"{name} of shape {shape}, expected {tuple(one.shape)}, is answered. {mend}")


@rule()
def non_finite_values(subject: Subject) -> None:
    """NaN and infinity are refused by our error, or taken for missing; they never become an answer of NaN."""
    model, batch = subject.shared_model, subject.batch(2)
    masked = any("mask" in key for key in batch)
    for path, one in values_in(batch):
        for value in (float("nan"), float("inf")):
            bad = one.clone()
            bad[1].view(-1)[0] = value
            given = changed(batch, lambda other, same, path=path, bad=bad: bad if other == path else same)
            name = ".".join(path)
            try:
                logits = subject.logits(model, given)
            except MecoError as error:
                require(
                    path[-1] in str(error),
                    f"{value} in {name} is refused with: {error}",
                    f"Name {path[-1]!r} in the message, and what was seen in it.",
                )
            else:
                require(
                    masked and bool(torch.isfinite(logits).all()),
                    f"{value} in {name} is answered by {logits[1].flatten().tolist()[:4]}.",
                    "Raise InputError naming the tensor, unless a graph is being made; where there are masks, such samples may "
                    "count as masked instead.",
                )


def _spoilt(subject: Subject) -> dict[str, Any]:
    """Recordings of this kind that cannot be used, by what is wrong with them."""
    if subject.entry.kind == "face":
        nan = np.full((8, 8, 3), np.nan, np.float32)
        return {"an array of one dimension": np.zeros(5, np.uint8), "a picture of NaN": nan}
    (recording,) = subject.recordings(1)
    if isinstance(recording, SignalRecording):
        name, stream = next(iter(recording.streams.items()))
        wide = np.concatenate([stream.values, stream.values[:, :1]], axis=1)
        backwards = Stream(stream.values, stream.times[::-1].copy(), stream.rate)
        return {
            f"{wide.shape[1]} channels of {name}": dataclasses.replace(
                recording, streams={name: Stream(wide, stream.times, stream.rate)}
            ),
            f"a clock of {name} that runs backwards": dataclasses.replace(recording, streams={name: backwards}),
        }
    return {}


@rule()
def processor_refuses(subject: Subject) -> None:
    """The processor refuses what it cannot use by our error."""
    for what, recording in {"an object": object(), **_spoilt(subject)}.items():
        mend = (
            "Raise an InputError (ImageError, RecordingError) saying what was seen, what was expected and what to do."
        )
        try:
            if hasattr(subject.processor, "read") and not isinstance(recording, SignalRecording):
                recording = subject.processor.read(recording)
            subject.processor([subject.first_clip(recording, subject.processor)], return_tensors="pt")
        except MecoError as error:
            require(len(str(error)) > 20, f"{what.capitalize()} is refused with: {error}", mend)
        except Exception as error:
            raise NotConforming(
                f"{what.capitalize()} ends in {type(error).__name__}: {str(error)[:200]}. {mend}"
            ) from error
        else:
            raise NotConforming(f"{what.capitalize()} is processed as if nothing were wrong. {mend}")


# --- Checks pipeline --------------------------------------------------------------------------------------------------
# What is asked at the end: from a folder and a recording, `pipeline("emotion-recognition")` gives named scores.


def _flat(entry: dict[str, Any]) -> list[float]:
    scores = entry.get("scores")
    return [float(one) for one in (scores if scores is not None else [entry["score"]])]


@rule()
def pipeline_answers(subject: Subject) -> None:
    """One answer per label, by name, finite, the same alone and in a batch, and what the model says."""
    from transformers import pipeline as make_pipeline

    pipeline: Any = make_pipeline  # typed for transformers' own tasks only
    with quiet():
        recognise: Any = pipeline("emotion-recognition", model=str(subject.checkpoint))
    recordings = subject.recordings(2)
    answer = recognise(recordings[0])
    names = [subject.shared_model.config.id2label[index] for index in range(subject.shared_model.config.num_labels)]
    require(
        isinstance(answer, list) and sorted(entry["label"] for entry in answer) == sorted(names),
        f"For labels {names} the pipeline answers {str(answer)[:300]}.",
        "The checkpoint's config must name its labels in id2label, and logits must have as many columns.",
    )
    scores = {entry["label"]: entry for entry in answer}
    require(
        all(math.isfinite(one) for entry in answer for one in _flat(entry)),
        f"The pipeline's scores are {[entry['score'] for entry in answer]}.",
        "Scores must be finite numbers.",
    )
    if not subject.is_regression:
        total = sum(entry["score"] for entry in answer)
        require(
            abs(total - 1) < 1e-3,
            f"The scores of all classes sum to {total:.4g}.",
            'Leave problem_type at None or "single_label_classification", so that scores are a softmax.',
        )
    together = recognise(recordings, batch_size=2)
    require(
        len(together) == 2 and _near(scores, together[0]),
        "In a batch of two the pipeline answers otherwise than alone.",
        "Nothing may depend on the batch: see the checks batch_of_one and processor_batches.",
    )
    _agree(subject, scores, names, recordings[0])


def _near(scores: dict[str, Any], answer: list[dict[str, Any]]) -> bool:
    return all(
        math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4)
        for entry in answer
        for one, other in zip(_flat(scores[entry["label"]]), _flat(entry), strict=True)
    )


def _agree(subject: Subject, scores: dict[str, Any], names: list[str], recording: Any) -> None:
    """The pipeline's scores are those of the model's own logits, label by label."""
    processor = subject.processor
    if hasattr(processor, "cut") and len(processor.cut(recording)) > 1:
        return  # answers over several clips are the pipeline's own business
    logits = subject.logits(subject.shared_model, subject.process([subject.first_clip(recording, processor)]))[0]
    values = logits.flatten(0, -2) if logits.ndim > 1 else logits[None]  # (steps, labels)
    if subject.is_regression:
        expected = torch.from_numpy(task_of_model(subject.shared_model).native(values.numpy()))
    else:
        expected = values.softmax(dim=-1)
    for index, name in enumerate(names):
        own = expected[:, index].tolist()
        found = _flat(scores[name])
        near = len(own) == len(found) and all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(own, found, strict=True)
        )
        require(
            near,
            f"The pipeline says {found[:3]} for {name!r}, the model {own[:3]}.",
            "The processor must give the pipeline what it gives the loop: `read`, `cut` and `__call__` of the same settings.",
        )
