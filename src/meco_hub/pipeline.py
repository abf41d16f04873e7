"""`pipeline("emotion-recognition")`: from a recording to named scores.

    recognise = pipeline("emotion-recognition", model=folder_or_hub_id)
    recognise("face.jpg")                       → [{"label": "happiness", "score": 0.93}, …]
    recognise("party.jpg", faces="all")         → [{"box": {…}, "face_score": 0.9, "expressions": [{"label": …}, …]}, …]
    recognise(paths, batch_size=8, errors="return", top_k=1)
    recognise("session.edf")                    → [{"label": "valence", "score": 6.1, "times": […], "scores": […], …}, …]
    recognise({"frames": "clip.mp4", "events": "clip.aedat4"})
    recognise("talk.mp4", fps=5)                → [{"id": 0, "labels": […], "boxes": […], "expressions": [{…, "times": […]}, …]}, …]
                                                  of faces; or, by a checkpoint for eyes, of one eye of each
    for faces in recognise.stream(0): …         a webcam; a film; frames; of signals, chunks

Every input goes one way: the processor reads a recording, cuts it into clips and makes a batch of each; the model's outputs for
the clips of one recording become one answer (`answers.py`). A picture is a recording whose clips are its faces; a film is one whose
clips are the faces of its frames, or an eye of each, each person's are joined, and no more than a batch of them is in memory. The
scores are those of inferred expressions, not of felt emotions.
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import torch
from huggingface_hub import CommitInfo
from numpy.typing import NDArray
from transformers import FeatureExtractionMixin, PreTrainedModel, ProcessorMixin
from transformers.pipelines import PIPELINE_REGISTRY, pipeline
from transformers.pipelines.base import ChunkPipeline

from . import plugins
from .answer_warnings import ON_WARNING, act_on, once_a_code
from .answers import Answers, Entry, abstain, accepted_inputs, mirrored_too
from .auto import AutoModelForEmotionRecognition
from .errors import (
    CheckpointError,
    ConfigurationError,
    InputError,
    MecoError,
    RecordingError,
    naming_extras,
    require_count,
)
from .films import FilmAnswers
from .loading import load_model, load_processor, read_config
from .processing.face_tracks import FaceFollower, Smoothing
from .processing.picture_processor import MODES, PictureProcessor, recording_processor
from .processing.preprocessor import FilmFollower
from .publishing import ModelPushOptions
from .reading import reading
from .recordings.eye_clips import EyeClip
from .recordings.images import describe_source
from .recordings.live import IDLE_S, Newest, is_live_address, pieces_of
from .recordings.signal_recording import SignalRecording
from .recordings.signals import regroup
from .recordings.video import Video, drop_frame, frame_step, frames_of, is_video

TASK = "emotion-recognition"
_ERRORS = ("raise", "return")
_FUNCTIONS = ("softmax", "sigmoid", "none")


_PARTS = ("image_processor", "feature_extractor", "processor")

_CLOCKS = ("timestamps", "offsets", "lag_targets")
"""Inputs that are seconds."""

_BESIDE: dict[str, Any] = {
    "place": {},
    "error": None,
    "silent": False,
    "times": None,
    "streams": None,
    "warnings": [],
}
"""What travels beside the tensors; every item of a batch needs the same keys."""


def _join(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Inputs of single clips as a batch; mappings of streams stay mappings."""
    first = items[0]
    return {
        key: _join([item[key] for item in items])
        if isinstance(first[key], dict)
        else torch.cat([item[key] for item in items])
        for key in first
    }


def _row(batch: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Inputs of one clip of a batch, as views of it."""
    return {
        key: _row(value, row) if isinstance(value, Mapping) else value[row : row + 1] for key, value in batch.items()
    }


def _is_silent(tensors: dict[str, Any]) -> bool:
    """Was nothing measured in this window? A model's answer to it is then a constant."""
    presence = tensors.get("modality_presence")
    return presence is not None and not bool(presence.any())


@dataclass(frozen=True)
class _Numbered:
    """One of several inputs, and its place among them."""

    place: int
    value: Any


def _is_several(inputs: Any) -> bool:
    """Something with a length that holds inputs, and is none itself: a list, tuple, set, values of a mapping, column of datasets,
    series or index of pandas, array of paths."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        return False
    if type(inputs).__module__.partition(".")[0] in ("pandas", "polars"):
        return type(inputs).__name__ in ("Series", "Index")
    if isinstance(inputs, np.ndarray):
        return inputs.ndim == 1 and inputs.dtype.kind in "UO"
    return isinstance(inputs, Sequence | Set | ValuesView)


def _choose_streams(piece: Any, streams: Mapping[str, Any]) -> Any:
    """A piece of signals whose streams have the checkpoint's names, where others were said."""
    if not streams:
        return piece
    if isinstance(piece, SignalRecording):  # not every stream is in every piece
        known = {name for name, one in piece.streams.items() for name in (name, *one.channels)}
        known |= {f"{name}.{channel}" for name, one in piece.streams.items() for channel in one.channels}
        given = {name: [one] if isinstance(one, str) else list(one) for name, one in streams.items()}
        here = {name: labels for name, labels in given.items() if known.issuperset(labels)}
        return regroup(piece, here, keep_others=True) if here else piece
    names = {given if isinstance(given, str) else given[0]: name for name, given in streams.items()}
    return {names.get(name, name): one for name, one in piece.items()} if isinstance(piece, Mapping) else piece


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Nothing is dropped out, which would answer by chance; whoever trains the model goes on with it as it was."""
    training = [one for one in model.modules() if one.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for one in training:
            one.training = True


def lay_out(model: torch.nn.Module) -> None:
    """Lay convolutions' weights out as a CPU convolves: of weights in another layout it makes a copy for every picture.

    For models that nobody else holds: an optimiser, another process or a file's writer may need the layout that they have.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.weight.device.type == "cpu":
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r} was passed; expected one of {', '.join(map(repr, allowed))}.")
    return value


class EmotionRecognitionPipeline(ChunkPipeline):
    """Pipeline of the task "emotion-recognition".

    Args (to the constructor or to a call):
        faces: "auto" (find the most prominent face, and take the picture as it is where it is the crop of a face already, or holds
            none, with a warning), "cropped" (take the picture as it is, whatever it shows), "largest" (the most prominent face) or
            "all". Default: "largest" when the checkpoint's processor asks for it (`do_find_face`), otherwise "auto".
        min_face: side in pixels of the smallest face to be found, for small faces in large pictures; costs time.
        top_k: answers per face; all when None.
        abstain_below: a score, 0 to 1, or "risk 0.05" for the one that the checkpoint's calibration stored for this share of wrong
            answers; every entry then says under "abstained" whether the first label's score is lower, so that none should be used.
        function_to_apply: "softmax", "sigmoid" or "none"; by default what the config's `problem_type` calls for.
        errors: "raise" stops at the first input that cannot be used; "return" answers `{"error": message}` in its place.
        mirror: of pictures, answer by the mean over the picture and its mirror image, in twice the time.
        on_warning: "warn" shows what is in doubt about an input as a Python warning, "ignore" leaves it to the answer, whose every
            entry holds it under "warnings" either way, and "raise" refuses the input; see `answer_warnings`.
        streams: of signals, stream that the checkpoint reads → the stream or channels of the input that it is made of.
        every, fps: of films, seconds between two frames that are looked at, or how many are a second; by default all.
        smooth: of films, time constant in seconds of the smoothing of each person's outputs, 0 for none; default 0.5.
        label_margin: of films, by which probability another label must lead before it is the person's; default 0.1.

    Inputs are what the checkpoint's processor reads. For faces: paths, bytes, PIL images, arrays. For signals and eye clips:
    files, folders, mappings of streams, or recordings of ours. Lists and generators of them everywhere. `stream` answers while
    samples come in. Answers to signals say under "streams" which were used and how, which were missing, and under "silent" in which
    windows, [start, end] in seconds, there was not one sample of any: their scores are None, and in no mean.

    Raises:
        CheckpointError: the checkpoint came without its processor, or answers what is no number.
        ImageError, FaceNotFoundError, RecordingError: an input cannot be used.
        ConfigurationError: an argument has no meaning here.
    """

    _load_tokenizer = False
    _load_feature_extractor = False
    _load_video_processor = False
    _load_processor = False
    _load_image_processor = None  # not True: its absence deserves our message, given in __init__

    def __init__(self, model: Any, *args: Any, processor: Any = None, **kwargs: Any) -> None:
        if kwargs.get("batch_size") is not None:
            require_count("batch_size", kwargs["batch_size"], "Leave it out for 1.")
        super().__init__(model, *args, processor=processor, **kwargs)
        entry = plugins.architectures().healthy.get(getattr(self.model.config, "model_type", ""))
        # transformers finds the image processor inside a processor of several parts, and would take it for the whole
        parts = (
            None if entry is not None and entry.processor else kwargs.get("feature_extractor") or self.image_processor
        )
        given = processor or parts
        if given is None:
            name = getattr(model, "name_or_path", "")
            if not name:
                raise CheckpointError(
                    "The model was made in memory and came without its processor; expected one. Pass it as image_processor=…, "
                    "feature_extractor=… or processor=…"
                )
            given = load_processor(name)  # for a picture, loading it failed silently; doing so again says why
        self._processor: Any = given
        self._put_in_place(given)
        self._takes = accepted_inputs(self.model)
        self._answers = Answers(self.model)
        self._recordings = recording_processor(given)

    @property
    def reads_films(self) -> bool:
        """Films of faces can be answered for."""
        return self._follower(None, None) is not None

    def _follower(self, faces: str | None, min_face: float | None) -> FilmFollower | None:
        """What follows the people of a film, for checkpoints that read films of faces."""
        if isinstance(self._recordings, PictureProcessor):
            return FaceFollower(self._recordings, faces=faces, min_face=min_face)
        return self._recordings.follow(faces=faces, min_face=min_face)

    @property
    def reads_recordings(self) -> bool:
        """The checkpoint's processor reads its own kind of recording, rather than pictures."""
        return not isinstance(self._recordings, PictureProcessor)

    def __setattr__(self, name: str, value: Any) -> None:
        """A processor, or a part of one, that is replaced later is the one that answers from then on."""
        super().__setattr__(name, value)
        if name not in _PARTS or "_recordings" not in self.__dict__:
            return
        if value is None:
            raise ConfigurationError(
                f"{name} was set to None; expected a processor, without which nothing is answered."
            )
        if name != "processor" and isinstance(self._processor, ProcessorMixin):
            setattr(self._processor, name, value)
        else:
            self._processor, self._recordings = value, recording_processor(value)

    def _put_in_place(self, processor: Any) -> None:
        """Where transformers looks for what it must save and for whether a pipeline can batch."""
        if isinstance(processor, ProcessorMixin):
            self.processor = processor
            self.feature_extractor = getattr(processor, "feature_extractor", None)
            self.image_processor = getattr(processor, "image_processor", None)
        elif isinstance(processor, FeatureExtractionMixin):
            self.feature_extractor = processor
        else:
            self.image_processor = processor

    def _sanitize_parameters(
        self,
        faces: str | None = None,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        errors: str | None = None,
        mirror: bool | None = None,
        on_warning: str | None = None,
        min_face: float | None = None,
        streams: Mapping[str, str | Sequence[str]] | None = None,
        abstain_below: float | str | None = None,
        every: float | None = None,
        fps: float | None = None,
        smooth: float | None = None,
        label_margin: float | None = None,
        **unknown: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise ConfigurationError(
                f"The emotion-recognition pipeline takes no {', '.join(sorted(unknown))}; it takes faces, min_face, top_k, "
                "abstain_below, function_to_apply, errors, mirror, on_warning, streams, every, fps, smooth and label_margin, "
                "beside the arguments of every pipeline."
            )
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        if faces is not None:
            before["faces"] = after["faces"] = _one_of("faces", faces, MODES)
        if min_face is not None:
            if isinstance(min_face, bool) or not isinstance(min_face, int | float) or not min_face >= 1:
                raise ConfigurationError(f"min_face is {min_face!r}; expected pixels, 1 or more.")
            before["min_face"] = min_face
        if errors is not None:
            before["errors"] = after["errors"] = _one_of("errors", errors, _ERRORS)
        if on_warning is not None:
            before["on_warning"] = _one_of("on_warning", on_warning, ON_WARNING)
        if streams is not None:
            if "streams" not in inspect.signature(self._recordings.read).parameters:
                raise ConfigurationError("streams= was passed; it is for checkpoints that read signals. Leave it out.")
            before["streams"] = streams
        frame_step(every, fps)
        before |= {name: value for name, value in (("every", every), ("fps", fps)) if value is not None}
        if (smooth, label_margin) != (None, None):
            usual = Smoothing()
            after["smoothing"] = Smoothing(
                usual.seconds if smooth is None else smooth, usual.margin if label_margin is None else label_margin
            )
        if top_k is not None:
            after["top_k"] = require_count("top_k", top_k, "Leave it out for all labels.")
        if abstain_below is not None:
            # at construction there are no answers yet: __init__ of transformers asks for the parameters first
            known = self._answers if "_answers" in self.__dict__ else Answers(self.model)
            after["abstain_below"] = known.least_score(abstain_below)
        if function_to_apply is not None:
            after["function_to_apply"] = _one_of("function_to_apply", function_to_apply, _FUNCTIONS)
        return before, {} if mirror is None else {"mirror": bool(mirror)}, after

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answer for one input, or for each of several: a list of answers for what has a length, an iterator for what has none.

        Several are a list, tuple, series of pandas, column of datasets; or a generator, map, or any other iterator.
        """
        if kwargs.get("batch_size") is not None:
            require_count("batch_size", kwargs["batch_size"], "Leave it out for 1.")
        if isinstance(inputs, Iterator) and not hasattr(inputs, "read"):  # an open file is one input
            # not transformers' own iterator, which has no `next` until somebody has called `iter`
            answers: Any = super().__call__((one for one in inputs), **kwargs)
            return (answer for answer in answers)
        if not _is_several(inputs):
            return super().__call__(inputs, **kwargs)
        several: Any = inputs
        if not len(several):
            raise InputError(
                "An empty list was passed; expected at least one picture. Check the folder or filter it came from."
            )
        numbered: Any = (_Numbered(place, one) for place, one in enumerate(several))  # a column is decoded row by row
        answered: Any = super().__call__(list(numbered) if isinstance(inputs, list | tuple) else numbered, **kwargs)
        return list(answered)

    def preprocess(
        self,
        input_: Any,
        faces: str | None = None,
        errors: str = "raise",
        on_warning: str = "warn",
        min_face: float | None = None,
        streams: Mapping[str, str | Sequence[str]] | None = None,
        every: float | None = None,
        fps: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        options = {} if streams is None else {"streams": streams}
        place = ""
        if isinstance(input_, _Numbered):
            place, input_ = f" It is input {input_.place} of the list, counted from 0.", input_.value
        pictures = isinstance(self._recordings, PictureProcessor)
        if is_video(input_) and self._follower(faces, min_face) is not None:
            film = input_ if isinstance(input_, Video) else Video(input_, every=every, fps=fps)
            items = self._films({"faces": faces, "min_face": min_face, "on_warning": on_warning}).clips(film)
        elif not pictures and (every, fps) != (None, None):
            raise ConfigurationError(
                f"every={every!r} and fps={fps!r} were passed; the checkpoint reads recordings, not films of faces. Leave them out."
            )
        else:
            items = self._prepare(input_, faces, min_face, on_warning, options)
        last = False
        while not last:
            # nothing is handed out within the `try`: answers may be abandoned in the middle, at the latest when Python itself ends
            try:
                with reading(f"{describe_source(input_)} cannot be used", InputError, "Check it, or leave it out."):
                    item = next(items)
            except InputError as error:
                if errors == "raise" and not place:
                    raise
                if errors == "raise":
                    raise type(error)(f"{error}{place}") from error
                # A batch needs the same keys and shapes from every item, so an unusable one travels as a blank whose answer is
                # thrown away; predictions do not depend on the neighbours in a batch.
                blank = self._tensors(self._recordings.blank())
                item = {**_BESIDE, "is_last": True, "error": f"{error}{place}", "tensors": blank}
            last = item["is_last"]
            yield item

    def _tensors(self, clip: Any) -> dict[str, Any]:
        processor: Any = self._recordings
        return dict(processor([clip], return_tensors="pt"))

    def _prepare(
        self, input_: Any, faces: str | None, min_face: float | None, on_warning: str, options: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        processor = self._recordings
        pictures = isinstance(processor, PictureProcessor)
        if not pictures and (faces, min_face) != (None, None):
            raise ConfigurationError(
                f"faces={faces!r} and min_face={min_face!r} were passed; the checkpoint reads recordings, in which no face is "
                "looked for. Leave them out."
            )
        recording = processor.read(input_, **options)
        clips = processor.cut(recording, faces=faces, min_face=min_face) if pictures else processor.cut(recording)
        # a window of a recording that goes on: sensors may be off for a while
        live = bool(getattr(recording, "prepared", ""))
        each = processor.doubts(recording, clips)
        act_on(once_a_code(one for found in each for one in found), getattr(recording, "name", ""), on_warning)
        silent: list[list[Any]] = []
        for place, ((clip, item), found) in enumerate(zip(self._items(clips), each, strict=True)):
            is_silent = _is_silent(item["tensors"]) or processor.is_silent(recording, clip)
            if is_silent:
                silent.append([item["place"].get("start"), item["place"].get("end")])
            last = place == len(clips) - 1
            if last and len(silent) == len(clips) and not live:
                raise RecordingError(
                    f"{getattr(recording, 'name', '') or 'The recording'} has nothing to go by in any of its {len(clips)} "
                    "window(s); expected some of any sensor. What it holds lies outside of its own start and end, or in parts that "
                    "are too short: check its clocks, or record longer."
                )
            streams = processor.report(recording) if last else None
            if silent and streams is not None:
                # of a window without any sample nothing is known: its value is None, and it is in no mean
                streams = {**streams, "silent": silent}
            beside = {"silent": is_silent, "streams": streams, "warnings": [one.to_dict() for one in found]}
            yield {**item, **beside, "is_last": last}

    def _items(self, clips: Sequence[Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Each clip, and what the model is given of it. Of a long recording they need not be in memory together: some at a time."""
        processor: Any = self._recordings
        for first in range(0, len(clips), processor.clips_at_once):
            some = clips[first : first + processor.clips_at_once]
            tensors = dict(processor(some, return_tensors="pt"))
            for row, clip in enumerate(some):
                yield clip, self._beside(clip) | {"tensors": _row(tensors, row) if len(some) > 1 else tensors}

    def _item(self, clip: Any) -> dict[str, Any]:
        return self._beside(clip) | {"tensors": self._tensors(clip)}

    def _beside(self, clip: Any) -> dict[str, Any]:
        times = self._recordings.step_times(clip)
        place = self._recordings.locate(clip)
        return {**_BESIDE, "place": place, "times": None if times is None else times.tolist()}

    def _forward(self, model_inputs: dict[str, Any], mirror: bool = False) -> dict[str, Any]:
        beside = {key: value for key, value in model_inputs.items() if key != "tensors"}
        tensors = model_inputs["tensors"]
        inputs = {
            key: self._cast(key, value)
            for key, value in (_join(tensors) if isinstance(tensors, list) else tensors).items()
            if key in self._takes
        }
        with _evaluating(self.model):
            logits = self.model(**inputs).logits.float()
            return {"logits": mirrored_too(self.model, inputs, logits) if mirror else logits, **beside}

    def _cast(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._cast(key, inner) for name, inner in value.items()}
        # clocks lose their milliseconds in half precision
        keeps = not torch.is_floating_point(value) or key in _CLOCKS
        return value if keeps else value.to(self.model.dtype)

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        faces: str | None = None,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        abstain_below: float | None = None,
        smoothing: Smoothing | None = None,
        errors: str = "raise",
    ) -> Any:
        if model_outputs[-1]["error"] is not None:  # of a film, after frames that were fine
            return {"error": model_outputs[-1]["error"]}
        if abstain_below is not None and function_to_apply == "none":
            raise ConfigurationError(
                'abstain_below was passed with function_to_apply="none", whose scores are no probabilities. Leave one of them out.'
            )
        outputs = [{**output, "logits": output["logits"].cpu().numpy()} for output in model_outputs]
        asked = {"top_k": top_k, "function_to_apply": function_to_apply, "abstain_below": abstain_below}
        try:
            if "person" in outputs[0]["place"]:
                return self._films({}, after={"smoothing": smoothing, **asked}).answer(outputs)
            answer = self._answer(outputs, faces, top_k, function_to_apply)
        except CheckpointError as error:
            if errors == "raise":
                raise
            return {"error": str(error)}
        abstain(answer, abstain_below)
        return answer

    def _answer(
        self, outputs: list[dict[str, Any]], faces: str | None, top_k: int | None, function_to_apply: str | None
    ) -> list[Entry]:
        if not isinstance(self._recordings, PictureProcessor):
            return self._answer_recording(outputs, top_k, function_to_apply)
        answers = [
            {
                **output["place"],
                "warnings": output["warnings"],
                "expressions": self._answers.entries(
                    self._answers.scores(output["logits"][0], function_to_apply), top_k, function_to_apply
                ),
            }
            for output in outputs
        ]
        faces = faces or self._recordings.default_mode
        if faces == "all":
            return answers
        (answer,) = answers
        return [{**entry, **answer} for entry in answer.pop("expressions")]

    def _answer_recording(self, outputs: list[dict[str, Any]], top_k: int | None, function: str | None) -> list[Entry]:
        logits = np.concatenate([output["logits"] for output in outputs])
        silent = [bool(output["silent"]) for output in outputs]
        if logits.ndim == 3:  # the model answers over time
            times = np.asarray([output["times"] for output in outputs])
            entries = self._answers.over_time(logits, times, top_k, function, silent=silent)
        else:  # one answer a clip: each holds in the middle of its clip
            spans = [(output["place"]["start"], output["place"]["end"]) for output in outputs]
            timed = all(None not in span for span in spans)
            middles = np.asarray(spans).mean(axis=1) if timed else np.arange(len(spans), dtype=np.float64)
            entries = self._answers.over_time(logits[:, None], middles[:, None], top_k, function, silent=silent)
            if not timed:  # pictures without a clock are in order, and that is all
                entries = [{key: entry[key] for key in entry if key not in ("times", "scores")} for entry in entries]
        first, last, streams = outputs[0]["place"], outputs[-1]["place"], outputs[-1]["streams"]
        # where a recording has no clock, it says nothing of times
        place = {**first, "end": last.get("end")}
        for key in ("frames", "events"):
            if first.get(key) is not None:
                place[key] = sum(output["place"][key] for output in outputs)
        beside = {key: value for key, value in place.items() if value is not None}
        beside |= {} if streams is None else {"streams": streams}
        beside["warnings"] = list({one["code"]: one for output in outputs for one in output["warnings"]}.values())
        return [{**entry, **beside} for entry in entries]

    def film_parts(
        self,
        film: Video,
        *,
        seconds: float,
        state: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        **parameters: Any,
    ) -> Iterator[tuple[list[Entry], dict[str, Any] | None]]:
        """A film's answers part by part: each as a call gives it for this part alone, with the ids and smoothing of the whole.

        Args:
            film: that is answered for.
            seconds: of a part.
            state: what came with the last part that is there already; the film is looked at from its end on.
            batch_size: faces or clips in a forward pass.
            parameters: those of a call; `errors` has no meaning here.

        Yields:
            The answer, empty where nobody was seen, and what goes on from there, as JSON has it; None with the last one.

        Raises:
            InputError: the film cannot be read, or nobody is in all of it.
        """
        films = self._films(*self._resolved(parameters))
        return films.parts(film, seconds=seconds, state=state, batch_size=batch_size)

    def _resolved(self, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The arguments of preprocessing, network and answer: those of this call, over those of the constructor."""
        before, forward, after = self._sanitize_parameters(**parameters)
        own: Any = self  # set by transformers' constructor, from the same three
        return own._preprocess_params | before, own._forward_params | forward, own._postprocess_params | after

    def _films(
        self,
        before: Mapping[str, Any],
        forward: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> FilmAnswers:
        """What answers films, by the arguments of preprocessing, network and answer that it has to know."""
        after = after or {}

        def follow() -> FilmFollower:
            follower = self._follower(before.get("faces"), before.get("min_face"))
            assert follower is not None
            return follower

        def rows(items: list[dict[str, Any]]) -> NDArray[np.floating]:
            inputs = {**_BESIDE, "tensors": [item["tensors"] for item in items], "place": {}}
            outputs: Any = self.forward(inputs, **(forward or {}))
            return outputs["logits"].cpu().numpy()

        return FilmAnswers(
            self._recordings,
            self._answers,
            self._item,
            rows,
            follow,
            on_warning=before.get("on_warning", "warn"),
            smoothing=after.get("smoothing") or Smoothing(),
            top_k=after.get("top_k"),
            function=after.get("function_to_apply"),
            least=after.get("abstain_below"),
        )

    def stream(
        self,
        source: Any,
        *,
        reference: Any = None,
        live: bool | None = None,
        idle_s: float | None = IDLE_S,
        **parameters: Any,
    ) -> Iterator[list[Entry]]:
        """Answer while a recording or a film goes on: one answer for every window or frame, as soon as it is there.

        Of films an answer is a list of the faces of one frame, each as of `faces="all"`, with `id`, `time` in seconds, `label` and
        `dropped`, how many frames nobody had the time to look at until then; scores are smoothed. Memory does not grow. Of eyes in
        films it is likewise, and empty for frames that end no clip.

        Args:
            source: of faces, a film, a webcam's number, a camera's address, or an iterable of frames: (picture, seconds), or
                pictures that are of the moment at which they come. Of signals, and of frames and events of an eye, an iterable of
                pieces: mappings such as a call takes; or a file that grows, a socket (tcp://…) or LSL streams (lsl://…), as of
                `recordings.live`. Checkpoints for eyes take both.
            reference: the person's own level, for a checkpoint that normalises by it: `processor.measure(an earlier recording)`.
            live: whether the source goes on whether or not there is time to answer: then it is read beside the work, the newest
                frame or window is answered, and the others are dropped and counted under `dropped`, so that no answer is later
                than the one before it took. Default: cameras, sockets and LSL are; files that grow are not, and wait.
            idle_s: of files that grow, sockets and LSL, after how many seconds without anything new they have ended; None: never.
            parameters: those of a call.

        Raises:
            ConfigurationError: the checkpoint's processor cannot follow a recording that goes on.
            RecordingError: there are no frames, or a camera that gives none.
        """
        if self.reads_films and reference is not None:
            raise ConfigurationError("reference was passed; it is for checkpoints of signals. Leave it out.")
        path = isinstance(source, str | os.PathLike)
        follows_files = self.reads_recordings and path and not is_video(source)
        if self.reads_films and not (follows_files and ("://" not in str(source) or is_live_address(source))):
            pieces = (
                self.reads_recordings and isinstance(source, Iterable) and not path and not isinstance(source, Video)
            )
            return (
                self._stream_either(cast(Iterable[Any], source), live, parameters)
                if pieces
                else self._stream_film(source, live, parameters)
            )
        goes_on = is_live_address(source) if live is None else live
        return self._stream_windows(
            pieces_of(source, idle_s=idle_s) if path else source, reference, goes_on, parameters
        )

    def _stream_either(self, source: Iterable[Any], live: bool | None, parameters: dict[str, Any]) -> Iterator[Any]:
        """Of an iterable, which the first of its items tells: pieces of recordings of an eye, or frames of faces."""
        items = iter(source)
        begin = list(islice(items, 1))
        first, again = begin[0] if begin else None, chain(begin, items)
        if isinstance(first, Mapping | EyeClip):
            yield from self._stream_windows(again, None, bool(live), parameters)
        else:
            yield from self._stream_film(again, live, parameters)

    def _stream_windows(
        self, pieces: Iterable[Any], reference: Any, goes_on: bool, parameters: dict[str, Any]
    ) -> Iterator[Any]:
        windows = self._recordings.stream(reference=reference)
        streams: Mapping[str, Any] = parameters.pop("streams", None) or {}

        def complete() -> Iterator[Any]:
            for piece in pieces:
                yield from windows.push(_choose_streams(piece, streams))
            yield from windows.flush()

        newest = Newest(complete()) if goes_on else None
        for window in complete() if newest is None else newest:
            answer = self(window, **parameters)
            beside = {} if newest is None else {"dropped": newest.dropped}
            yield [{**entry, **beside} for entry in answer] if isinstance(answer, list) else answer

    def _stream_film(self, source: Any, live: bool | None, parameters: dict[str, Any]) -> Iterator[list[Entry]]:
        before, forward, after = self._resolved(parameters)
        every, fps = before.get("every"), before.get("fps")
        if isinstance(source, str | os.PathLike) and "://" not in str(source):
            source = Video(source, every=every, fps=fps)
        frames, goes_on = frames_of(source, every=every, fps=fps)
        newest = Newest(frames, drop_frame) if (goes_on if live is None else live) else None

        def answers() -> Iterator[list[Entry]]:
            yield from self._films(before, forward, after).live(frames if newest is None else newest)
            if isinstance(source, Video):  # how a film ends is known now
                act_on(source.warnings, source.name, before.get("on_warning", "warn"))

        return answers()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save model and processor so that `pipeline(model=folder)` loads them again.

        transformers' own version forgets `self.processor`, and lets one of feature extractor and image processor overwrite the
        other; a combined processor holds both, and is saved in their place.
        """
        folder = Path(save_directory)
        if folder.is_file():
            raise ConfigurationError(
                f"{folder} is a file; expected a folder to save model and processor in. Name another."
            )
        self.model.save_pretrained(folder, **kwargs)
        self._processor.save_pretrained(folder, **kwargs)

    @naming_extras()
    def push_to_hub(self, repo_id: str, **options: Unpack[ModelPushOptions]) -> CommitInfo:
        """Push model, processor and card to the Hub as one commit; arguments and errors are those of the model's `push_to_hub`."""
        from .publishing.objects import push_model  # above this module; needed by few

        return push_model(self.model, repo_id, processor=self._processor, **options)


def register() -> None:
    """Make the task known to transformers, with the bundled checkpoint as its default; again whenever plugins have come."""
    folder = plugins.default_checkpoint()
    PIPELINE_REGISTRY.supported_tasks.pop(TASK, None)  # transformers warns when a task is registered over itself
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=EmotionRecognitionPipeline,
        pt_model=AutoModelForEmotionRecognition,
        default={"model": (str(folder), "main")} if folder is not None else None,
        type="multimodal",
    )
    # transformers takes this attribute as "custom code": save_pretrained would copy our source into the checkpoint and write a
    # `custom_pipelines` entry that breaks loading everywhere.
    del EmotionRecognitionPipeline._registered_impl  # pyright: ignore[reportAttributeAccessIssue]


register()


def recogniser(
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    *,
    device: int | str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> EmotionRecognitionPipeline:
    """A pipeline that answers for faces, eye clips or signals: `transformers.pipeline("emotion-recognition", …)`, typed.

    Args:
        model: a bundled checkpoint's name, a folder, a Hub id, or a loaded model (then pass its processor too, as
            `image_processor=…`, `feature_extractor=…` or `processor=…`); by default the bundled face checkpoint.
        device: where it computes; by default the accelerator, if there is one.
        dtype: in which precision; by default that of the checkpoint.
        batch_size: how many inputs one forward pass takes; a call may name another.
        options: anything else that `transformers.pipeline` takes, and defaults for calls (`faces`, `top_k`, …). Code that a
            checkpoint brings is run with `trust_remote_code=True` only; nobody is asked at a prompt.

    Returns:
        `recognise(portrait)` gives [{"label": "happiness", "score": 0.93}, …]; see `EmotionRecognitionPipeline`.

    Raises:
        UnknownNameError: no such checkpoint.
        CheckpointError: a checkpoint that is incomplete or unsafe, or no model was named and no plugin bundles a default.
    """
    loaded = isinstance(model, PreTrainedModel)
    if not loaded:
        model = plugins.locate_checkpoint(model)
        # whose error says what is missing, where transformers' own does not
        read_config(model, bool(options.get("trust_remote_code")))
    options = {"trust_remote_code": False} | options | {"device": device, "dtype": dtype, "batch_size": batch_size}
    build: Any = pipeline
    try:
        made = build(TASK, model=model, **{name: value for name, value in options.items() if value is not None})
    except Exception as error:
        if not isinstance(error, MecoError) and isinstance(model, str):
            load_processor(model)  # where the trouble is in a file, one of these says so
            load_model(model)
        raise
    # now, and not for each input: what its file says is tried on a recording of nothing
    with reading("The checkpoint's processor makes nothing of a blank recording", CheckpointError, "Copy it again."):
        made._tensors(made._recordings.blank())
    if not loaded:
        lay_out(made.model)
    return made
