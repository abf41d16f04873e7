"""ExpressNet-MoE for meco_hub: facial expressions from one face picture."""

from meco_hub.plugins import Architecture

__all__ = ["architecture"]

_PACKAGE = "meco_expressnet_moe"

architecture = Architecture(
    model_type="meco_expressnet_moe",
    api_version=1,
    kind="face",
    config=f"{_PACKAGE}.configuration_expressnet_moe:ExpressNetMoEConfig",
    base_model=f"{_PACKAGE}.modeling_expressnet_moe:ExpressNetMoEModel",
    head=f"{_PACKAGE}.modeling_expressnet_moe:ExpressNetMoEForEmotionRecognition",
    image_processor=f"{_PACKAGE}.processing_expressnet_moe:ExpressNetMoEImageProcessor",
    native_heads=("AutoModelForImageClassification",),
    recipes=f"{_PACKAGE}:recipes",
    checkpoints=f"{_PACKAGE}:checkpoints",
    default_checkpoint="meco-expressnet-lfw5",
    card=f"{_PACKAGE}:card.md",
    converter=f"{_PACKAGE}.conversion:convert",
    recipe_classes=(f"{_PACKAGE}.teachers:FaceApiExpressions",),
    description="Multi-scale CNNs and a residual backbone, two mixtures of experts; seven or eight expressions from a face",
)
