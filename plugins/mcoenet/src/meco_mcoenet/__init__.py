"""MCO-E Net for meco_hub: expressions of one eye from frames and events."""

from meco_hub.plugins import Architecture

__all__ = ["architecture"]

_PACKAGE = "meco_mcoenet"

architecture = Architecture(
    model_type="meco_mcoenet",
    api_version=1,
    kind="eye",
    config=f"{_PACKAGE}.configuration_mcoenet:MCOENetConfig",
    base_model=f"{_PACKAGE}.modeling_mcoenet:MCOENetModel",
    head=f"{_PACKAGE}.modeling_mcoenet:MCOENetForEmotionRecognition",
    image_processor=f"{_PACKAGE}.processing_mcoenet:MCOENetImageProcessor",
    feature_extractor="meco_hub.processing.event_voxelizer:EventVoxelizer",
    processor=f"{_PACKAGE}.processing_mcoenet:MCOENetProcessor",
    native_heads=("AutoModelForVideoClassification",),
    recipes=f"{_PACKAGE}:recipes",
    checkpoints=f"{_PACKAGE}:checkpoints",
    default_checkpoint="meco-mcoenet-synthetic-see",
    card=f"{_PACKAGE}:card.md",
    converter=f"{_PACKAGE}.conversion:convert",
    description="Frames and events of one eye, joined by a state space model and a mixture of unlike experts; seven expressions",
)
