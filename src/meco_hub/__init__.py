"""meco_hub: a plugin-based model zoo for emotion recognition in the Hugging Face ecosystem.

    import meco_hub                                    # registers every installed plugin, loads neither torch nor transformers
    from transformers import AutoModel, pipeline

    recognise = pipeline("emotion-recognition")
    recognise("portrait.jpg")

Importing this package puts a hook in place that registers the plugins with transformers' Auto classes and pipelines at the
moment those are imported (`registration.py`). All names below are loaded on first use.

This file knows the public names and where they live.
"""

import importlib

from . import registration as _registration
from .version import __version__

TYPE_CHECKING = False  # importing typing for it would be a third of what importing this package costs
if TYPE_CHECKING:
    from typing import Any

    from .auto import AutoModelForEmotionRecognition
    from .errors import MecoError
    from .outputs import EmotionRecognitionOutput
    from .pipeline import EmotionRecognitionPipeline
    from .plugins import Architecture, checkpoint, checkpoints

_HOMES = {
    "Architecture": "plugins",
    "AutoModelForEmotionRecognition": "auto",
    "EmotionRecognitionOutput": "outputs",
    "EmotionRecognitionPipeline": "pipeline",
    "MecoError": "errors",
    "checkpoint": "plugins",
    "checkpoints": "plugins",
}

__all__ = [
    "Architecture",
    "AutoModelForEmotionRecognition",
    "EmotionRecognitionOutput",
    "EmotionRecognitionPipeline",
    "MecoError",
    "__version__",
    "checkpoint",
    "checkpoints",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


_registration.install()
