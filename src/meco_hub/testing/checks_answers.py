"""Rules for processors, for the answers to what they give, for models that read several streams, and for unusable input."""

import dataclasses
import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError, MecoError
from ..outputs import EmotionRecognitionOutput
from ..processing.picture_processor import recording_processor
from ..processing.preprocessor import RecordingProcessor
from ..processing.signal_windower import SignalWindower
from ..recordings.event_recording import EventRecording
from ..recordings.eye_clips import EyeClip
from ..recordings.pictures import Pictures
from ..recordings.signal_recording import SignalRecording, Stream
from .check import NotConforming, is_ours, refusal, require, rule
from .subject import (
    CLOCKS,
    Batch,
    Subject,
    changed,
    draw_session,
    leaves,
    make_pipeline,
    quiet,
    reverse,
    rows,
    values_in,
    with_raw_events,
)

# A processor travels with the weights, is missed where it is not there, and gives the same tensors again.

_FILES = ("preprocessor_config.json", "processor_config.json")


def _plain(value: Any) -> Any:
    """What JSON makes of a processor's fields."""
    return json.loads(json.dumps(value, default=lambda one: dict(one) if hasattr(one, "keys") else str(one)))


@rule()
def processor_required(subject: Subject) -> None:
    """A checkpoint without its processor is refused: settings that nobody saved are not guessed."""
    from ..loading import load_processor

    folder = subject.new_folder() / "alone"
    shutil.copytree(subject.checkpoint, folder)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    fix = "Do not override from_pretrained to make up settings: they are those that the weights were trained with."
    doors = {
        "load_processor": lambda: load_processor(str(folder)),
        f"{subject.processor_class.__name__}.from_pretrained": lambda: subject.processor_class.from_pretrained(folder),
        'pipeline("emotion-recognition")': lambda: make_pipeline(str(folder)),
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
                f"{name} answers a folder without processor by {type(error).__name__}: {error}. {fix}"
            ) from error
        raise NotConforming(f"{name} accepts a folder that has no {' and no '.join(_FILES)}. {fix}")


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
    _require_same(
        subject.batch(),
        subject.process(subject.clips(processor=again), again),
        "The loaded processor gives another {} than the one that was saved.",
        "Whatever it computes with (fitted statistics too) must be among the fields that are saved.",
    )


@rule()
def processor_determinism(subject: Subject) -> None:
    """The same recording gives the same tensors, whatever was drawn at random in between."""
    clips = subject.clips()
    torch.manual_seed(1)
    first = subject.process(clips)
    torch.manual_seed(2)
    _require_same(
        first,
        subject.process(clips),
        "Called twice on the same recordings, the processor gives two different {}.",
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
    _require_same(
        subject.process(clips[:1]),
        dict(subject.processor(clips[0], return_tensors="pt")),
        "processor(recording) gives another {} than processor([recording]).",
        "A recording that stands alone is a batch of one.",
    )


def _require_same(expected: Batch, given: Batch, seen: str, fix: str) -> None:
    """Two batches are equal, bit for bit; `seen` has a place for the name of the tensor that is not."""
    there = dict(leaves(given))
    for path, one in leaves(expected):
        require(path in there and torch.equal(one, there[path]), seen.format(".".join(path)), fix)


# Answers: one item's does not depend on its neighbours, on chance, or on the precision more than it must.

TOLERANCE = 1e-5


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((one.double() - other.double()).abs().max() / max(1.0, float(one.abs().max())))


@rule()
def output(subject: Subject) -> None:
    """The head returns our output: finite logits, one row per item, one column per label; a loss where there are labels."""
    model, batch = subject.shared_model, subject.batch()
    found = subject.answer(model, batch)
    require(
        isinstance(found, EmotionRecognitionOutput),
        f"{type(model).__name__} returns a {type(found).__name__}.",
        "Return meco_hub.outputs.EmotionRecognitionOutput, or a subclass with more fields.",
    )
    logits, count = found.logits, len(model.config.id2label)
    require(
        logits.ndim in (2, 3) and logits.shape[0] == 4 and logits.shape[-1] == count == model.config.num_labels,
        f"For 4 recordings and {count} labels the logits have the shape {tuple(logits.shape)}.",
        "Expected (batch, num_labels), or (batch, steps, num_labels) for answers over time.",
    )
    require(
        bool(torch.isfinite(logits).all()) and found.loss is None,
        f"Without labels: logits finite {bool(torch.isfinite(logits).all())}, loss {found.loss}.",
        "Logits must be finite, and there is no loss without labels.",
    )
    require(
        "labels" in inspect.signature(type(model).forward).parameters,
        f"{type(model).__name__}.forward takes no labels.",
        "Take `labels` and give `loss`, so that transformers' Trainer can train it.",
    )


@rule()
def labels_match_logits(subject: Subject) -> None:
    """Labels mean what the logits say: the loss is least for the labels that the model answers."""
    model, batch = subject.shared_model, subject.batch()
    logits = subject.logits(model, batch)
    if subject.is_regression:
        right, wrong = logits.clone(), logits + 0.5
    else:
        right, wrong = logits.argmax(dim=-1), logits.argmin(dim=-1)
    losses: list[float] = []
    for labels in (right, wrong):
        found = subject.answer(model, batch, labels=labels)
        loss = found.loss
        require(
            isinstance(loss, torch.Tensor) and loss.ndim == 0 and bool(torch.isfinite(loss)),
            f"With labels of shape {tuple(labels.shape)} the loss is {loss}.",
            "Expected a finite scalar: cross-entropy over class indices, or a distance between values of the logits' shape.",
        )
        require(
            torch.equal(found.logits, logits),
            "The logits differ when labels are given.",
            "Labels belong into the loss and nowhere else.",
        )
        losses.append(float(loss))
    require(
        losses[0] < losses[1],
        f"The loss is {losses[0]:.4g} for the labels that the model answers, and {losses[1]:.4g} for others.",
        "Index k of the logits is label k of id2label: check the order, the sign, and that the loss is of these logits.",
    )


@rule()
def batch_of_one(subject: Subject) -> None:
    """An item alone gets the answer that it gets in a batch."""
    model, batch = subject.shared_model, subject.batch(5)
    together = subject.logits(model, batch)
    alone = torch.cat([subject.logits(model, rows(batch, slice(index, index + 1))) for index in range(5)])
    require(
        distance(together, alone) <= TOLERANCE,
        f"Items answered one by one differ from the same in a batch by {distance(together, alone):.3g}; allowed: {TOLERANCE:g}.",
        "Nothing may look across the batch in evaluation: no statistics or attention over dimension 0, no capacity of experts.",
    )


@rule()
def determinism(subject: Subject) -> None:
    """The same input gets the same answer, whatever the random numbers."""
    model, batch = subject.shared_model, subject.batch()
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            answers.append(model(**batch).logits)
    require(
        torch.equal(*answers),
        f"Two calls on the same batch differ by {float((answers[0] - answers[1]).abs().max()):.3g}.",
        "In evaluation nothing may be drawn: guard noise and dropout by `self.training`, and keep no state between calls.",
    )


@rule()
def half_precision(subject: Subject) -> None:
    """Loaded in bfloat16 or float16, the model takes the pipeline's inputs and gives finite logits near those in float32."""
    batch = subject.batch()
    exact = subject.logits(subject.shared_model, batch)
    for dtype in (torch.bfloat16, torch.float16):
        with quiet():
            model = subject.head_class.from_pretrained(subject.checkpoint, dtype=dtype).eval()
        given = changed(
            batch,
            lambda path, one, dtype=dtype: one if path[0] in CLOCKS or not one.is_floating_point() else one.to(dtype),
        )
        try:
            logits = subject.logits(model, given).float()
        except RuntimeError as error:
            if is_ours(error):
                raise
            if dtype == torch.float16 and "not implemented" in str(error):
                continue  # some of torch's functions have no half precision on CPUs; bfloat16 they all have
            raise NotConforming(
                f"In {dtype} the model fails: {error}. Cast what it makes itself to its input's dtype, and name what must stay "
                "float32 in _keep_in_fp32_modules_strict."
            ) from error
        require(
            bool(torch.isfinite(logits).all()),
            f"In {dtype} the logits are not finite.",
            "Compute softmaxes, logarithms and exponentials in float32, and mask with finite numbers.",
        )
        require(
            distance(exact, logits) < 0.25,
            f"In {dtype} the logits are {distance(exact, logits):.3g} away from those in float32 (relative); allowed: 0.25.",
            "Keep what is too fine for eight bits of mantissa (times, scans, norms) in float32.",
        )


def dropouts_off(model: Any) -> None:
    """Take chance out of training, so that two passes can be compared."""
    for module in model.modules():
        if "Dropout" in type(module).__name__ and hasattr(module, "p"):
            module.p = 0.0


# Models that read several streams: any of them may be missing, masked, in another order, or on another clock.

_GARBAGE = 1e3
"""Finite, and far from whatever was measured."""


def _takes(subject: Subject, *names: str) -> bool:
    return any(name in inspect.signature(subject.load("head").forward).parameters for name in names)


def _has_streams(subject: Subject) -> bool:
    return subject.entry.kind in ("eye", "signals")


def _shown(processor: Any) -> list[str]:
    """The streams of an eye clip that a processor says it shows; none where it takes a clip as it comes.

    No part of the contract: transformers' tests forbid arguments of a processor that are attributes of its class too.
    """
    return list(getattr(processor, "streams", ()))


def streams_of(subject: Subject) -> list[str]:
    """The streams that the processor declares, in its order."""
    processor = subject.processor
    if subject.entry.kind == "eye":
        return list(_shown(processor) or ("frames", "events"))
    return list(recording_processor(processor).modality_names)


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


# a config may say that a stream must not be missing; the refusal is then checked by `subsets_of_streams`
@rule(
    lambda subject: (
        _has_streams(subject)
        and _takes(subject, "modality_presence")
        and getattr(subject.config(), "missing_modality", "zeros") != "error"
    )
)
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


@rule(_has_streams)
def subsets_of_streams(subject: Subject) -> None:
    """Whichever of the declared streams are there, there is an answer; a stream that must be there is named where it is not."""
    names, recordings = streams_of(subject), subject.recordings(2)
    require(
        bool(names),
        f"{type(subject.processor).__name__} declares no streams.",
        "Give it `modality_names` (signals) or `streams` (eyes).",
    )
    # all of them up to four streams; of more, those of one stream, those that lack one, and the whole
    sizes = range(1, len(names) + 1) if len(names) <= 4 else {1, len(names) - 1, len(names)}
    for chosen in (some for size in sizes for some in combinations(names, size)):
        gone = [name for name in names if name not in chosen]
        left = [one.without(gone) if gone else one for one in recordings]
        processor = subject.processor
        try:
            batch = subject.process([subject.first_clip(one, processor) for one in left])
        except MecoError as error:
            if not _shown(processor):
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


def _goes_on(subject: Subject) -> bool:
    """Whether its recordings can be followed while they come in."""
    if subject.entry.kind == "signals":
        return isinstance(subject.processor, SignalWindower)
    own = type(recording_processor(subject.processor)).stream is not RecordingProcessor.stream
    return subject.entry.kind == "face" or (subject.entry.kind == "eye" and own)


def _follow_pictures(subject: Subject) -> None:
    """Frames that come in one by one, of eyes with their events, are answered with the checkpoint's own labels."""
    if subject.entry.kind == "eye" and not _reads_raw_events(subject):
        return
    recognise, processor = make_pipeline(str(subject.checkpoint)), subject.processor

    def pieces() -> Iterator[Any]:
        if subject.entry.kind == "face":
            yield from ((one, 0.1 * step) for step, one in enumerate(subject.recordings(3)))
            return
        clip = with_raw_events(processor, 0, 0)
        shown, events, times = clip.frames, clip.events, clip.frame_times
        if not isinstance(shown, Pictures) or not isinstance(events, EventRecording) or times is None:
            raise NotConforming("The drawn clip has no frames with times, or no events.")
        before = int(times[0]) - 100_000
        for step, time in enumerate(times.tolist()):
            frame = np.asarray(shown.read([step])[0])[None]
            yield {"frames": frame, "frame_times": times[step : step + 1], "events": events.between(before, time)}
            before = time

    answers: list[Any] = []
    options: dict[str, Any] = {"on_warning": "ignore"} | ({"faces": "cropped"} if subject.entry.kind == "face" else {})
    advice = "Let the processor's `stream` give clips that its call and `read` take, with their time steps chosen."
    error = refusal(
        lambda: answers.extend(recognise.stream(pieces(), **options)), "Following frames that come in", advice
    )
    require(error is None, f"Following frames that come in is refused: {error}", advice)
    entries = [one for answer in answers for one in answer[0].get("expressions", answer)]
    expected = set(subject.shared_model.config.id2label.values())
    seen = {one["label"] for one in entries}
    require(
        seen == expected, f"The answers to frames that come in are for {sorted(seen)}, not {sorted(expected)}.", advice
    )


@rule(_goes_on)
def live_recordings(subject: Subject) -> None:
    """A recording that goes on is answered as the finished one, whatever form its pieces have; a level is measured on arrays."""
    if subject.entry.kind == "signals":
        _follow_signals(subject)
    else:
        _follow_pictures(subject)


def _follow_signals(subject: Subject) -> None:
    processor, recognise = subject.processor, make_pipeline(str(subject.checkpoint))
    session, length = draw_session(processor), 0.7 * processor.window_s

    def pieces(with_times: bool) -> Iterator[dict[str, Any]]:
        for begin in np.arange(0.0, 3 * processor.window_s, length):
            piece = {}
            for name, (values, rate) in session.items():
                part = slice(*(round(moment * rate) for moment in (begin, begin + length)))
                piece[name] = (values[part], np.arange(len(values))[part] / rate if with_times else rate)
            yield piece

    found: list[dict[str, list[float]]] = []

    def follow() -> None:
        level = processor.measure(session)
        whole = recognise(dataclasses.replace(processor.read(session), reference=level), on_warning="ignore")
        found.append({entry["label"]: entry["scores"] for entry in whole})
        for with_times in (True, False):
            line: dict[str, list[float]] = {}
            for answer in recognise.stream(pieces(with_times), reference=level, on_warning="ignore"):
                for entry in answer:
                    line.setdefault(entry["label"], []).extend(entry.get("scores", [entry["score"]]))
            found.append(line)

    advice = (
        "`measure`, `read` and `stream` of the processor take the same mappings; leave them as SignalWindower has them."
    )
    error = refusal(follow, "Following a recording that goes on", advice)
    require(error is None, f"Following a recording that goes on is refused: {error}", advice)
    whole, *lines = found
    for line in lines:
        agree = line.keys() == whole.keys() and all(
            len(line[name]) == len(whole[name]) and np.allclose(line[name], whole[name], atol=1e-4) for name in whole
        )
        require(agree, f"Piece by piece the answer is {str(line)[:200]}, at once {str(whole)[:200]}.", advice)


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


# Input that cannot be used is refused by our error, saying what was seen.


@rule()
def wrong_shapes(subject: Subject) -> None:
    """A tensor with a dimension too many is refused by our error, which says the shape that was seen."""
    model, batch = subject.shared_model, subject.batch(2)
    for path, one in values_in(batch):
        wrong = changed(batch, lambda other, same, path=path: same.unsqueeze(0) if other == path else same)
        shape, name = (1, *one.shape), ".".join(path)
        fix = f"Check shapes first thing in the forward: raise InputError saying {path[-1]}, the shape seen, the one expected."
        error = refusal(lambda wrong=wrong: subject.answer(model, wrong), f"{name} of shape {shape}", fix)
        require(error is not None, f"{name} of shape {shape}, expected {tuple(one.shape)}, is answered.", fix)
        require(
            str(shape) in str(error) and path[-1] in str(error),
            f"{name} of shape {shape} is refused with: {error}",
            f"Name {path[-1]!r} and the shape {shape} in the message.",
        )


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
        fix = "Raise an InputError (ImageError, RecordingError) saying what was seen, what was expected and what to do."
        error = refusal(lambda one=recording: _process_raw(subject, one), what.capitalize(), fix)
        require(error is not None, f"{what.capitalize()} is processed as if nothing were wrong.", fix)
        require(len(str(error)) > 20, f"{what.capitalize()} is refused with: {error}", fix)


def _process_raw(subject: Subject, recording: Any) -> None:
    if subject.entry.kind != "face" and not isinstance(recording, SignalRecording):
        recording = subject.processor.read(recording)
    subject.processor([subject.first_clip(recording, subject.processor)], return_tensors="pt")
