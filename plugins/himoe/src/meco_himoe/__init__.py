"""Hi-MoE for meco_hub: valence, arousal and the like from physiological signals that may be missing or out of step."""

from meco_hub.plugins import Architecture

__all__ = ["architecture"]

_PACKAGE = "meco_himoe"

architecture = Architecture(
    model_type="meco_himoe",
    api_version=1,
    kind="signals",
    config=f"{_PACKAGE}.configuration_himoe:HiMoEConfig",
    base_model=f"{_PACKAGE}.modeling_himoe:HiMoEModel",
    head=f"{_PACKAGE}.modeling_himoe:HiMoEForEmotionRecognition",
    feature_extractor=f"{_PACKAGE}.processing_himoe:HiMoESignalWindower",
    recipes=f"{_PACKAGE}:recipes",
    checkpoints=f"{_PACKAGE}:checkpoints",
    card=f"{_PACKAGE}:card.md",
    description="Alignment of signals in time, a bank of modality experts, a bank of emotion experts; values or classes",
)
