"""The smallest architecture that does everything the kit asks for; tests break it in one place at a time."""

from meco_hub.plugins import Architecture

architecture = Architecture(
    model_type="meco_planted",
    kind="signals",
    config="planted_signals.configuration_planted:PlantedConfig",
    base_model="planted_signals.modeling_planted:PlantedModel",
    head="planted_signals.modeling_planted:PlantedForEmotionRecognition",
    feature_extractor="planted_signals.processing_planted:PlantedWindower",
    recipes="planted_signals:recipes",
    card="planted_signals:card.md",
)
