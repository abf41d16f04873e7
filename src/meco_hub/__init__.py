"""meco_hub: a plugin-based model zoo for emotion recognition in the Hugging Face ecosystem.

    import meco_hub                                    # registers every installed plugin, loads neither torch nor transformers

    recognise = meco_hub.recogniser()                  # or transformers.pipeline("emotion-recognition")
    recognise("portrait.jpg")

Importing this package puts a hook in place that registers the plugins with transformers' Auto classes and pipelines at the
moment those are imported (`registration.py`). The names in `__all__` are loaded on first use.

Those names, the classes of `meco_hub.errors`, the conformance kit `meco_hub.testing`, the command `meco` and the format of what it
writes are the public surface: what leaves it is warned about for two minor versions first. Every other name below `meco_hub` may
change in any version (`docs/public_api.md`).
"""

import importlib

from . import registration as _registration
from .version import __version__

TYPE_CHECKING = False  # importing typing for it would be a third of what importing this package costs
if TYPE_CHECKING:
    from typing import Any

    from .auto import AutoModelForEmotionRecognition
    from .configuration import EmotionConfig
    from .corpora import Corpus
    from .errors import MecoError
    from .evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
    from .labels import LabelSpace
    from .modeling import EmotionPreTrainedModel
    from .outputs import EmotionRecognitionOutput
    from .pipeline import EmotionRecognitionPipeline, recogniser
    from .plugins import Architecture, checkpoint, checkpoints
    from .processing.event_voxelizer import EventVoxelizer
    from .processing.eye_preprocessor import EyePreprocessor
    from .processing.face_finder import FaceFinder
    from .processing.face_preprocessor import FacePreprocessor
    from .processing.signal_windower import SignalWindower
    from .recordings.events import read_events
    from .recordings.eye_clips import read_eye_clip
    from .recordings.images import read_image
    from .recordings.signals import read_signals
    from .timeline import to_frame
    from .train import train_model

_HOMES = {
    "Architecture": "plugins",
    "AutoModelForEmotionRecognition": "auto",
    "Corpus": "corpora",
    "EmotionConfig": "configuration",
    "EmotionPreTrainedModel": "modeling",
    "EmotionRecognitionOutput": "outputs",
    "EmotionRecognitionPipeline": "pipeline",
    "EvaluationSettings": "evaluation.evaluate",
    "EventVoxelizer": "processing.event_voxelizer",
    "EyePreprocessor": "processing.eye_preprocessor",
    "FaceFinder": "processing.face_finder",
    "FacePreprocessor": "processing.face_preprocessor",
    "LabelSpace": "labels",
    "MecoError": "errors",
    "SignalWindower": "processing.signal_windower",
    "checkpoint": "plugins",
    "checkpoints": "plugins",
    "evaluate_checkpoint": "evaluation.evaluate",
    "read_events": "recordings.events",
    "read_eye_clip": "recordings.eye_clips",
    "read_image": "recordings.images",
    "read_signals": "recordings.signals",
    "recogniser": "pipeline",
    "to_frame": "timeline",
    "train_model": "train",
}

_LEAVING: "dict[str, tuple[str, str, str]]" = {}
"""Public names that leave: name → (module, the version "x.y" that first warned, what to use instead). They leave in x.(y + 2)."""

__all__ = [
    "Architecture",
    "AutoModelForEmotionRecognition",
    "Corpus",
    "EmotionConfig",
    "EmotionPreTrainedModel",
    "EmotionRecognitionOutput",
    "EmotionRecognitionPipeline",
    "EvaluationSettings",
    "EventVoxelizer",
    "EyePreprocessor",
    "FaceFinder",
    "FacePreprocessor",
    "LabelSpace",
    "MecoError",
    "SignalWindower",
    "__version__",
    "checkpoint",
    "checkpoints",
    "evaluate_checkpoint",
    "read_events",
    "read_eye_clip",
    "read_image",
    "read_signals",
    "recogniser",
    "to_frame",
    "train_model",
]


def __getattr__(name: str) -> "Any":
    if name in _LEAVING:
        return _leaving(name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .errors import naming_extras

    with naming_extras():
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def _leaving(name: str) -> "Any":
    """A name that is to leave, with a warning at every use."""
    import warnings

    home, since, instead = _LEAVING[name]
    major, minor = (int(part) for part in since.split("."))
    warnings.warn(
        f"meco_hub.{name} leaves in version {major}.{minor + 2}. Use {instead} instead.", FutureWarning, stacklevel=3
    )
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


_registration.install()
