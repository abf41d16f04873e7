"""The windower of the planted architecture."""

from typing import Any, Self

from meco_hub.processing.signal_windower import SignalWindower

from .configuration_planted import PlantedConfig


class PlantedWindower(SignalWindower):
    """The core's, made to fit a config."""

    @classmethod
    def for_config(cls, config: PlantedConfig, **settings: Any) -> Self:
        """A windower whose windows and rates are those of a model."""
        modalities = {
            name: {"channels": channels, "sampling_rate": float(config.sampling_rate)}
            for name, channels in config.channels.items()
        }
        agreed = {
            "modality_names": config.modality_names,
            "window_s": float(config.window_seconds),
            "clip_at": 8.0,
        }
        return cls(modalities, **{**agreed, **settings})
