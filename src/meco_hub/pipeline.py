"""From a model's outputs to named scores: the form in which every answer is given.

    classes   [{"label": "happiness", "score": 0.93}, …]                     most probable first
    values    [{"label": "valence", "score": 6.1}, …]                         native units, in the model's own order
    over time [{"label": "valence", "score": 6.1, "times": […], "scores": […]}, …]

Where a checkpoint holds a calibration it is applied, and each entry says so under "calibration". Where its config says what its
weights were trained on (`training_data: synthetic`), each entry says that too, so that no such answer passes for more than it is.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from huggingface_hub import CommitInfo
from numpy.typing import NDArray
from PIL import Image
from transformers import FeatureExtractionMixin, PreTrainedModel, ProcessorMixin
from transformers.pipelines import PIPELINE_REGISTRY, pipeline
from transformers.pipelines.base import ChunkPipeline

from . import plugins
from .auto import AutoModelForEmotionRecognition
from .errors import CheckpointError, ConfigurationError, FaceNotFoundError, InputError, RecordingError, naming_extras
from .evaluation.calibration import Calibration, calibration_of
from .evaluation.predict import accepted_inputs
from .evaluation.series import stitch
from .evaluation.task import task_of_model
from .loading import load_processor, read_config
from .processing.face_finder import Face
from .processing.face_preprocessor import FacePreprocessor
from .publishing import ModelPushOptions
from .recordings.images import describe_source, read_image

Entry = dict[str, Any]
"""{"label", "score", …} of one class or target."""


class Answers:
    """Gives answers in the form that a checkpoint's config calls for.

    Args:
        model: the head whose outputs are named.

    Raises:
        CheckpointError: its config holds a calibration that makes no sense.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._task = task_of_model(model)
        self._problem: str | None = model.config.problem_type
        self._calibration: Calibration | None = calibration_of(model.config)
        self._training_data: str | None = getattr(model.config, "training_data", None)

    @property
    def regression(self) -> bool:
        """Values rather than classes."""
        return self._task.regression

    def scores(self, logits: torch.Tensor, function: str | None = None) -> NDArray[np.float64]:
        """(…, outputs) probabilities or native values of outputs of the same shape.

        Args:
            logits: the model's.
            function: "softmax", "sigmoid" or "none"; by default what `problem_type` calls for. "none" gives the logits themselves,
                uncalibrated.

        Raises:
            ConfigurationError: a function of probabilities for values.
        """
        raw = logits.double()
        if function == "none":
            return raw.cpu().numpy()
        if self._task.regression:
            if function is not None:
                raise ConfigurationError(
                    f"function_to_apply={function!r} was passed; the checkpoint answers values ({', '.join(self._task.names)}), "
                    'which are no probabilities. Leave it out, or pass "none" for the outputs before they get their scale.'
                )
            native = self._task.native(raw.cpu().numpy())
            return native if self._calibration is None else self._calibration.apply(native)
        if self._calibration is not None:
            raw = self._calibration.apply(raw)
        chosen = function or ("sigmoid" if self._problem == "multi_label_classification" else "softmax")
        return (raw.sigmoid() if chosen == "sigmoid" else raw.softmax(-1)).cpu().numpy()

    def entries(
        self, scores: NDArray[np.float64], top_k: int | None = None, function: str | None = None
    ) -> list[Entry]:
        """(outputs,) scores with their names."""
        entries = [{"label": name, "score": float(score)} for name, score in zip(self._task.names, scores, strict=True)]
        self._mark(entries, function)
        if not self._task.regression:  # valence stays before arousal, whatever their values
            entries.sort(key=lambda entry: entry["score"], reverse=True)
        return entries[:top_k]

    def over_time(
        self,
        scores: NDArray[np.float64],
        times: NDArray[np.float64],
        top_k: int | None = None,
        function: str | None = None,
    ) -> list[Entry]:
        """Scores that run over time.

        Args:
            scores: (clips, steps, outputs); overlapping clips are averaged.
            times: (clips, steps) seconds at which they hold.
            top_k, function: as above; classes are ranked by their mean score.
        """
        line, values = stitch(times, scores)
        entries = [
            {
                "label": name,
                "score": float(values[:, place].mean()),
                "times": [round(float(time), 3) for time in line],
                "scores": [float(value) for value in values[:, place]],
            }
            for place, name in enumerate(self._task.names)
        ]
        self._mark(entries, function)
        if not self._task.regression:
            entries.sort(key=lambda entry: entry["score"], reverse=True)
        return entries[:top_k]

    def _mark(self, entries: Sequence[Entry], function: str | None) -> None:
        for entry in entries:
            if self._calibration is not None and function != "none":
                entry["calibration"] = str(self._calibration)
            if self._training_data is not None:
                entry["training_data"] = self._training_data


# --- Face crops -------------------------------------------------------------------------------------------------------
# Which faces of a picture are looked at: the picture itself, the most prominent one, or all.

MODES = ("cropped", "largest", "all")
"""The picture is one face already; the most prominent face; every face."""


class FaceCrops:
    """Cuts faces out of pictures.

    Args:
        preprocessor: its finder and margins are used; None: our defaults, for processors that know nothing of faces.
    """

    def __init__(self, preprocessor: FacePreprocessor | None) -> None:
        self._preprocessor = preprocessor or FacePreprocessor()

    @property
    def default_mode(self) -> str:
        """What the preprocessor asks for."""
        return "largest" if self._preprocessor.do_find_face else "cropped"

    def take(self, image: Image.Image, mode: str, name: str) -> list[tuple[Image.Image, Face | None]]:
        """The faces of a picture, most prominent first, each with where it was; None where the picture is the face.

        Args:
            image: the picture.
            mode: one of `MODES`.
            name: what errors call the picture.

        Raises:
            FaceNotFoundError: there is no face in it.
        """
        if mode == "cropped":
            return [(image, None)]
        finder = self._preprocessor.face_finder
        found = finder.find(image)
        if not found:
            raise FaceNotFoundError(
                f"No face was found in {name} ({image.width}×{image.height} pixels); expected at least one of score "
                f'{finder.threshold}. If the picture is a cropped face already, pass faces="cropped".'
            )
        chosen = found[:1] if mode == "largest" else found
        return [(self._preprocessor.crop_to_face(image, face), face) for face in chosen]


def describe_box(face: Face | None) -> dict[str, float] | None:
    """Where a face is, as answers give it; None without a face."""
    if face is None:
        return None
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(float(edge), 1) for edge in face.box), strict=True))


# --- Pipeline ---------------------------------------------------------------------------------------------------------
# `pipeline("emotion-recognition")`: from a recording to named scores.
#
#     recognise = pipeline("emotion-recognition", model=folder_or_hub_id)
#     recognise("face.jpg")                       → [{"label": "happiness", "score": 0.93}, …]
#     recognise("party.jpg", faces="all")         → [{"box": {…}, "face_score": 0.9, "expressions": [{"label": …}, …]}, …]
#     recognise(paths, batch_size=8, errors="return", top_k=1)
#     recognise("session.edf")                    → [{"label": "valence", "score": 6.1, "times": […], "scores": […], …}, …]
#     recognise({"frames": "clip.mp4", "events": "clip.aedat4"})
#
# The scores are those of inferred expressions, not of felt emotions.

TASK = "emotion-recognition"
_ERRORS = ("raise", "return")
_FUNCTIONS = ("softmax", "sigmoid", "none")


_CLOCKS = ("timestamps", "offsets", "lag_targets")
"""Inputs that are seconds."""

_BESIDE: dict[str, Any] = {
    "box": None,
    "face_score": None,
    "error": None,
    "start": None,
    "end": None,
    "times": None,
    "streams": None,
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


def _is_silent(tensors: dict[str, Any]) -> bool:
    """Was nothing measured in this window? A model's answer to it is then a constant."""
    presence = tensors.get("modality_presence")
    return presence is not None and not bool(presence.any())


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r} was passed; expected one of {', '.join(map(repr, allowed))}.")
    return value


class EmotionRecognitionPipeline(ChunkPipeline):
    """Pipeline of the task "emotion-recognition".

    Args (to the constructor or to a call):
        faces: "cropped" (the picture is one face already), "largest" (find faces, answer for the most prominent one) or "all".
            Default: "largest" when the checkpoint's processor asks for it (`do_find_face`), otherwise "cropped".
        top_k: answers per face; all when None.
        function_to_apply: "softmax", "sigmoid" or "none"; by default what the config's `problem_type` calls for.
        errors: "raise" stops at the first input that cannot be used; "return" answers `{"error": message}` in its place.

    Inputs are what the checkpoint's processor reads. For faces: paths, bytes, PIL images, arrays. For signals and eye clips:
    files, folders, mappings of streams, or recordings of ours. Lists and generators of them everywhere. `stream` answers while
    samples come in. Answers to signals say under "streams" which were used and how, which were missing, and under "silent" in which
    windows, [start, end] in seconds, there was not one sample of any: what is answered there is a constant.

    Raises:
        CheckpointError: the checkpoint came without its processor.
        ImageError, FaceNotFoundError, RecordingError: an input cannot be used.
        ConfigurationError: an argument has no meaning here.
    """

    _load_tokenizer = False
    _load_feature_extractor = False
    _load_video_processor = False
    _load_processor = False
    _load_image_processor = None  # not True: its absence deserves our message, given in __init__

    def __init__(self, model: Any, *args: Any, processor: Any = None, **kwargs: Any) -> None:
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
        # A processor of transformers' own knows nothing of faces; ours with its defaults then finds them for it.
        self._finds_faces = isinstance(given, FacePreprocessor)
        self._faces = FaceCrops(given if isinstance(given, FacePreprocessor) else None)

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

    @property
    def _reads_recordings(self) -> bool:
        """The processor reads its own kind of recording, rather than pictures."""
        return hasattr(self._processor, "read")

    def _sanitize_parameters(
        self,
        faces: str | None = None,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        errors: str | None = None,
        **unknown: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise ConfigurationError(
                f"The emotion-recognition pipeline takes no {', '.join(sorted(unknown))}; it takes faces, top_k, "
                "function_to_apply and errors, beside the arguments of every pipeline."
            )
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        if faces is not None:
            before["faces"] = after["faces"] = _one_of("faces", faces, MODES)
        if errors is not None:
            before["errors"] = _one_of("errors", errors, _ERRORS)
        if top_k is not None:
            if top_k < 1:
                raise ConfigurationError(f"top_k={top_k} was passed; expected 1 or more. Leave it out for all labels.")
            after["top_k"] = top_k
        if function_to_apply is not None:
            after["function_to_apply"] = _one_of("function_to_apply", function_to_apply, _FUNCTIONS)
        return before, {}, after

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answer for one input, or for each of a list, generator or dataset; see the class."""
        if isinstance(inputs, list) and not inputs:
            raise InputError(
                "An empty list was passed; expected at least one picture. Check the folder or filter it came from."
            )
        return super().__call__(inputs, **kwargs)

    def _tensors(self, image: Image.Image) -> dict[str, torch.Tensor]:
        # Faces are cut out before this point, in one place for every processor; ours must not look for them again.
        once = {"do_find_face": False} if self._finds_faces else {}
        return dict(self._processor(image, return_tensors="pt", **once))

    def preprocess(self, input_: Any, faces: str | None = None, errors: str = "raise") -> Iterator[dict[str, Any]]:
        prepare = self._prepare_recording(input_) if self._reads_recordings else self._prepare_picture(input_, faces)
        try:
            yield from prepare
        except InputError as error:
            if errors == "raise":
                raise
            # A batch needs the same keys and shapes from every item, so an unusable one travels as a blank whose answer is
            # thrown away; predictions do not depend on the neighbours in a batch.
            yield {**_BESIDE, "is_last": True, "error": str(error), "tensors": self._blank()}

    def _blank(self) -> dict[str, Any]:
        if not self._reads_recordings:
            return self._tensors(Image.new("RGB", (64, 64)))
        return dict(self._processor([self._processor.blank()], return_tensors="pt"))

    def _prepare_picture(self, input_: Any, faces: str | None) -> Iterator[dict[str, Any]]:
        crops = self._faces.take(read_image(input_), faces or self._faces.default_mode, describe_source(input_))
        for index, (crop, face) in enumerate(crops):
            yield {
                **_BESIDE,
                "is_last": index == len(crops) - 1,
                "box": describe_box(face),
                "face_score": float(face.score) if face else None,
                "tensors": self._tensors(crop),
            }

    def _prepare_recording(self, input_: Any) -> Iterator[dict[str, Any]]:
        processor = self._processor
        recording = processor.read(input_)
        clips = processor.cut(recording) if hasattr(processor, "cut") else [recording]
        # all of them before the first leaves: an error in the last must not follow half an answer
        ready = [self._item(clip) for clip in clips]
        streams = processor.report(recording) if hasattr(processor, "report") else None
        # the answer for a window without any sample is a constant, and must not pass for more
        silent = [[item["start"], item["end"]] for item in ready if _is_silent(item["tensors"])]
        if silent and len(silent) == len(ready):
            raise RecordingError(
                f"{getattr(recording, 'name', '') or 'The recording'} has no sample in any of its {len(ready)} window(s); expected "
                "some of any sensor. What it holds lies outside of its own start and end: check its clocks."
            )
        if silent and streams is not None:
            streams = {**streams, "silent": silent}
        for index, item in enumerate(ready):
            yield {**item, "is_last": index == len(ready) - 1, "streams": streams}

    def _item(self, clip: Any) -> dict[str, Any]:
        times = self._processor.step_times(clip).tolist() if hasattr(self._processor, "step_times") else None
        return {
            **_BESIDE,
            "tensors": dict(self._processor([clip], return_tensors="pt")),
            "start": getattr(clip, "start", None),
            "end": getattr(clip, "end", None),
            "times": times,
        }

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        beside = {key: value for key, value in model_inputs.items() if key != "tensors"}
        tensors = model_inputs["tensors"]
        inputs = {
            key: self._cast(key, value)
            for key, value in (_join(tensors) if isinstance(tensors, list) else tensors).items()
            if key in self._takes
        }
        return {"logits": self.model(**inputs).logits.float(), **beside}

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
    ) -> Any:
        if model_outputs[0]["error"] is not None:
            return {"error": model_outputs[0]["error"]}
        if self._reads_recordings:
            return self._answer_recording(model_outputs, top_k, function_to_apply)
        answers = [
            {
                "box": output["box"],
                "face_score": output["face_score"],
                "expressions": self._answers.entries(
                    self._answers.scores(output["logits"][0], function_to_apply), top_k, function_to_apply
                ),
            }
            for output in model_outputs
        ]
        faces = faces or self._faces.default_mode
        if faces == "all":
            return answers
        (answer,) = answers
        if faces == "cropped":
            return answer["expressions"]
        return [{**entry, "box": answer["box"]} for entry in answer["expressions"]]

    def _answer_recording(self, outputs: list[dict[str, Any]], top_k: int | None, function: str | None) -> list[Entry]:
        scores = np.concatenate([self._answers.scores(output["logits"], function) for output in outputs])
        if scores.ndim == 3:  # the model answers over time
            times = np.asarray([output["times"] for output in outputs])
            entries = self._answers.over_time(scores, times, top_k, function)
        elif len(outputs) > 1:  # one answer a clip: each holds in the middle of its clip
            middles = np.asarray([[(output["start"] + output["end"]) / 2] for output in outputs])
            entries = self._answers.over_time(scores[:, None], middles, top_k, function)
        else:
            entries = self._answers.entries(scores[0], top_k, function)
        streams = outputs[0]["streams"]
        return [{**entry, "streams": streams} for entry in entries] if streams is not None else entries

    def stream(self, chunks: Iterable[Any], *, reference: Any = None, **parameters: Any) -> Iterator[list[Entry]]:
        """Answer while a recording goes on: one answer for every window, as soon as its samples are there.

        Args:
            chunks: what the processor's stream takes: mappings of stream name → (samples, times).
            reference: the person's own level, for a checkpoint that normalises by it: `processor.measure([an earlier recording])`.
            parameters: those of a call.

        Raises:
            ConfigurationError: the checkpoint's processor cannot follow a recording that goes on.
        """
        if not hasattr(self._processor, "stream"):
            raise ConfigurationError(
                f"{type(self._processor).__name__} takes whole recordings only; expected a processor that has `stream`. Pass a "
                "file, or use a checkpoint for signals."
            )
        windows = self._processor.stream(reference=reference)
        for chunk in chunks:
            for window in windows.push(chunk):
                yield self(window, **parameters)
        for window in windows.flush():
            yield self(window, **parameters)

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
        options: anything else that `transformers.pipeline` takes, and defaults for calls (`faces`, `top_k`, …).

    Returns:
        `recognise(portrait)` gives [{"label": "happiness", "score": 0.93}, …]; see `EmotionRecognitionPipeline`.

    Raises:
        UnknownNameError: no such checkpoint.
        CheckpointError: a checkpoint that is incomplete or unsafe, or no model was named and no plugin bundles a default.
    """
    if not isinstance(model, PreTrainedModel):
        model = plugins.locate_checkpoint(model)
        read_config(model)  # whose error says what is missing, where transformers' own does not
    options |= {"device": device, "dtype": dtype, "batch_size": batch_size}
    build: Any = pipeline
    return build(TASK, model=model, **{name: value for name, value in options.items() if value is not None})
