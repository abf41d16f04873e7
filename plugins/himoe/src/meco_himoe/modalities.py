# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""The settings of a modality (channels, rate, patch, stem), and the layouts of known corpora."""

from collections.abc import Mapping
from typing import Any

from meco_hub.errors import ConfigurationError, suggest

MODALITY_LAYOUTS: dict[str, dict[str, tuple[int, float]]] = {
    "deap_4": {"eeg": (32, 128.0), "eye": (2, 128.0), "emg": (2, 128.0), "ans": (4, 32.0)},
    "deap_7": {
        "eeg": (32, 128.0),
        "eye": (2, 128.0),
        "emg": (2, 128.0),
        "gsr": (1, 32.0),
        "resp": (1, 32.0),
        "ppg": (1, 32.0),
        "temp": (1, 32.0),
    },
    "deap_2": {"eeg": (32, 128.0), "peripheral": (8, 128.0)},
    "dreamer_2": {"eeg": (14, 128.0), "ecg": (2, 256.0)},
}
"""Layout → modality → (channels, samples per second), as the corpora of those names give them."""

_MODALITY_DEFAULTS: dict[str, Any] = {"channels": None, "sampling_rate": None, "patch_s": 0.25, "stem": "conv"}


def modality_layout(name: str) -> dict[str, dict[str, Any]]:
    """The `modalities` of a named layout.

    Raises:
        ConfigurationError: there is no such layout.

    Example:
        >>> modality_layout("dreamer_2")["ecg"]
        {'channels': 2, 'sampling_rate': 256.0, 'patch_s': 0.25, 'stem': 'conv'}
    """
    if name not in MODALITY_LAYOUTS:
        raise ConfigurationError(
            f"There is no modality layout {name!r}. Known: {', '.join(MODALITY_LAYOUTS)}; or pass `modalities` yourself."
        )
    return {
        modality: {**_MODALITY_DEFAULTS, "channels": channels, "sampling_rate": rate}
        for modality, (channels, rate) in MODALITY_LAYOUTS[name].items()
    }


def complete_modality(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One modality's settings with the defaults filled in.

    Args:
        name: what errors call it.
        entry: `channels`, `sampling_rate` in Hz; optionally `patch_s`, seconds that become one token, and `stem`: "conv" for
            samples; "statistics" for samples of which mean, slope, spread and roughness of every patch are enough; "linear" for
            features that are computed already.

    Raises:
        ConfigurationError: a setting that does not exist, is missing, or makes no sense.
    """
    for key in entry:
        if key not in _MODALITY_DEFAULTS:
            offer = suggest(key, _MODALITY_DEFAULTS)
            raise ConfigurationError(
                f"Modality {name!r} has the key {key!r}.{offer} Known: {', '.join(_MODALITY_DEFAULTS)}."
            )
    whole = {**_MODALITY_DEFAULTS, **entry}
    for key in ("channels", "sampling_rate", "patch_s"):
        value = whole[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ConfigurationError(f"Modality {name!r} has {key} {value!r}; expected a number above 0.")
    if whole["channels"] != int(whole["channels"]):
        raise ConfigurationError(f"Modality {name!r} has {whole['channels']} channels; expected a whole number.")
    if whole["stem"] not in ("conv", "statistics", "linear"):
        raise ConfigurationError(
            f"Modality {name!r} has the stem {whole['stem']!r}; expected 'conv', 'statistics' or 'linear'."
        )
    return {**whole, "channels": int(whole["channels"])}
