"""`pipeline("emotion-recognition")`: from a recording to named scores.

    recognise = pipeline("emotion-recognition", model=folder_or_hub_id)
    recognise("face.jpg")                       → [{"label": "happiness", "score": 0.93}, …]
    recognise("party.jpg", faces="all")         → [{"box": {…}, "face_score": 0.9, "expressions": [{"label": …}, …]}, …]
    recognise(paths, batch_size=8, errors="return", top_k=1)

The scores are those of inferred expressions, not of felt emotions.

This file knows how answers look and how inputs become batches; it names no model.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from . import plugins
from .auto import AutoModelForEmotionRecognition
from .errors import CheckpointError, ConfigurationError, FaceNotFoundError, InputError
from .loading import load_processor
from .processing.face_finder import Face
from .processing.face_preprocessor import FacePreprocessor
from .recordings.images import describe_source, read_image

TASK = "emotion-recognition"
_FACES = ("cropped", "largest", "all")
_ERRORS = ("raise", "return")
_FUNCTIONS = ("softmax", "sigmoid", "none")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(f"{name}={value!r} was passed; expected one of {', '.join(map(repr, allowed))}.")
    return value


def _box(face: Face) -> dict[str, float]:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(float(edge), 1) for edge in face.box), strict=True))


class EmotionRecognitionPipeline(ChunkPipeline):
    """Pipeline of the task "emotion-recognition".

    Args (to the constructor or to a call):
        faces: "cropped" (the picture is one face already), "largest" (find faces, answer for the most prominent one) or "all".
            Default: "largest" when the checkpoint's processor asks for it (`do_find_face`), otherwise "cropped".
        top_k: answers per face; all when None.
        function_to_apply: "softmax", "sigmoid" or "none"; by default what the config's `problem_type` calls for.
        errors: "raise" stops at the first input that cannot be used; "return" answers `{"error": message}` in its place.

    Inputs are whatever `recordings.images.read_image` reads: paths, bytes, PIL images, arrays, or lists and generators of them.

    Raises:
        CheckpointError: the checkpoint came without its processor.
        ImageError, FaceNotFoundError: an input cannot be used.
        ConfigurationError: an argument has no meaning here.
    """

    _load_tokenizer = False
    _load_feature_extractor = False
    _load_video_processor = False
    _load_processor = False
    _load_image_processor = None  # not True: its absence deserves our message, given in __init__

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if self.image_processor is None:
            name = getattr(model, "name_or_path", "")
            if not name:
                raise CheckpointError(
                    "The model was made in memory and came without its processor; expected one. Pass it as image_processor=…"
                )
            self.image_processor = load_processor(name)  # loading it failed silently; doing so again says why
        # A processor of transformers' own knows nothing of faces; ours with its defaults then finds them for it.
        own = isinstance(self.image_processor, FacePreprocessor)
        self._faces = self.image_processor if own else FacePreprocessor()

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
            before["faces"] = after["faces"] = _one_of("faces", faces, _FACES)
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

    def _default_faces(self) -> str:
        return "largest" if self._faces.do_find_face else "cropped"

    def _crops(self, image: Image.Image, faces: str, name: str) -> list[tuple[Image.Image, Face | None]]:
        if faces == "cropped":
            return [(image, None)]
        finder = self._faces.face_finder
        found = finder.find(image)
        if not found:
            raise FaceNotFoundError(
                f"No face was found in {name} ({image.width}×{image.height} pixels); expected at least one of score "
                f'{finder.threshold}. If the picture is a cropped face already, pass faces="cropped".'
            )
        chosen = found[:1] if faces == "largest" else found
        return [(self._faces.crop_to_face(image, face), face) for face in chosen]

    def _tensors(self, image: Image.Image) -> dict[str, torch.Tensor]:
        # Faces are cut out before this point, in one place for every processor; ours must not look for them again.
        once = {"do_find_face": False} if self._faces is self.image_processor else {}
        return dict(self.image_processor(image, return_tensors="pt", **once))

    def preprocess(self, input_: Any, faces: str | None = None, errors: str = "raise") -> Iterator[dict[str, Any]]:
        try:
            crops = self._crops(read_image(input_), faces or self._default_faces(), describe_source(input_))
        except InputError as error:
            if errors == "raise":
                raise
            # A batch needs the same keys and shapes from every item, so an unusable one travels as a blank picture whose
            # answer is thrown away; predictions do not depend on the neighbours in a batch.
            blank = self._tensors(Image.new("RGB", (64, 64)))
            yield {**blank, "is_last": True, "box": None, "face_score": None, "error": str(error)}
            return
        for index, (crop, face) in enumerate(crops):
            yield {
                **self._tensors(crop),
                "is_last": index == len(crops) - 1,
                "box": _box(face) if face else None,
                "face_score": float(face.score) if face else None,
                "error": None,
            }

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        beside = {key: model_inputs.pop(key) for key in ("is_last", "box", "face_score", "error")}
        tensors = {
            key: value.to(self.model.dtype) if torch.is_floating_point(value) else value
            for key, value in model_inputs.items()
        }
        return {"logits": self.model(**tensors).logits.float(), **beside}

    def _expressions(self, logits: torch.Tensor, top_k: int | None, function: str | None) -> list[dict[str, Any]]:
        config = self.model.config
        names = {int(index): name for index, name in (config.id2label or {}).items()}
        problem = config.problem_type
        if function is None:
            function = {"regression": "none", "multi_label_classification": "sigmoid"}.get(problem or "", "softmax")
        scores = {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "none": logits}[function].tolist()
        answer = [{"label": names[index], "score": score} for index, score in enumerate(scores)]
        if problem != "regression":  # valence stays before arousal, whatever their values
            answer.sort(key=lambda entry: entry["score"], reverse=True)
        return answer[:top_k]

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        faces: str | None = None,
        top_k: int | None = None,
        function_to_apply: str | None = None,
    ) -> Any:
        if model_outputs[0]["error"] is not None:
            return {"error": model_outputs[0]["error"]}
        answers = [
            {
                "box": output["box"],
                "face_score": output["face_score"],
                "expressions": self._expressions(output["logits"][0], top_k, function_to_apply),
            }
            for output in model_outputs
        ]
        faces = faces or self._default_faces()
        if faces == "all":
            return answers
        (answer,) = answers
        if faces == "cropped":
            return answer["expressions"]
        return [{**entry, "box": answer["box"]} for entry in answer["expressions"]]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save model and processor so that `pipeline(model=folder)` loads them again.

        transformers' own version forgets `self.processor`, and lets one of feature extractor and image processor overwrite the
        other; a combined processor holds both and is saved last.
        """
        super().save_pretrained(save_directory, **kwargs)
        if self.processor is not None:
            self.processor.save_pretrained(save_directory, **kwargs)


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
