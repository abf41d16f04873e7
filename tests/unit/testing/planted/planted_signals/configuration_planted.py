"""Configuration of the planted architecture."""

from collections.abc import Sequence
from dataclasses import field

from huggingface_hub.dataclasses import strict

from meco_hub.configuration import EmotionConfig


@strict
class PlantedConfig(EmotionConfig):
    """Three streams, four experts, three classes."""

    model_type = "meco_planted"

    channels: dict[str, int] = field(default_factory=lambda: {"pulse": 1, "breath": 1, "skin": 2})
    modality_names: list[str] = field(default_factory=lambda: ["pulse", "breath", "skin"])
    sampling_rate: float | int = 8
    window_seconds: float | int = 4
    width: int = 16
    num_experts: int = 4
    note: str = ""
    output_router_logits: bool = False

    def default_label_names(self, count: int | None) -> Sequence[str]:
        return ["calm", "tense", "bored"] if count is None else super().default_label_names(count)
