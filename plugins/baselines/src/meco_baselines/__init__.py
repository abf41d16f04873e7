"""Networks on signals that others are compared with: a GRU with attention over a window, and EEGNet."""

from meco_hub.plugins import Architecture

__all__ = ["eegnet", "gru"]

_PACKAGE = "meco_baselines"

gru = Architecture(
    model_type="meco_gru",
    api_version=1,
    kind="signals",
    config=f"{_PACKAGE}.configuration_baselines:GRUConfig",
    base_model=f"{_PACKAGE}.modeling_baselines:GRUModel",
    head=f"{_PACKAGE}.modeling_baselines:GRUForEmotionRecognition",
    feature_extractor=f"{_PACKAGE}.processing_baselines:BaselineSignalWindower",
    recipes=f"{_PACKAGE}:recipes/gru",
    card=f"{_PACKAGE}:card.md",
    description="A baseline: streams side by side, a GRU in two directions, attention over time; values or classes",
)

eegnet = Architecture(
    model_type="meco_eegnet",
    api_version=1,
    kind="signals",
    config=f"{_PACKAGE}.configuration_baselines:EEGNetConfig",
    base_model=f"{_PACKAGE}.modeling_baselines:EEGNetModel",
    head=f"{_PACKAGE}.modeling_baselines:EEGNetForEmotionRecognition",
    feature_extractor=f"{_PACKAGE}.processing_baselines:BaselineSignalWindower",
    recipes=f"{_PACKAGE}:recipes/eegnet",
    card=f"{_PACKAGE}:card.md",
    description="A baseline for EEG, after Lawhern et al. 2018: filters in time, then over the electrodes; values or classes",
)
