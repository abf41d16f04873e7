"""The signal windower of Hi-MoE: the core's, and a way to make one that agrees with a model."""

from typing import Any, Self

from meco_hub.processing.signal_windower import SignalWindower

from .configuration_himoe import HiMoEConfig


class HiMoESignalWindower(SignalWindower):
    """`SignalWindower` under the name by which checkpoints of Hi-MoE find it; fields and defaults are the core's."""

    @classmethod
    def for_config(cls, config: HiMoEConfig, **settings: Any) -> Self:
        """A windower whose windows, rates and grid are those of a model.

        Args:
            config: the model's.
            settings: any field; `modalities` here adds settings of the windower (filters, say) to single modalities.

        Example:
            >>> HiMoESignalWindower.for_config(HiMoEConfig.small("dreamer_2"), normalization="recording").modality_names
            ['eeg', 'ecg']
        """
        own = settings.pop("modalities", {})
        modalities = {
            name: {
                "channels": entry["channels"],
                "sampling_rate": float(entry["sampling_rate"]),
                **own.get(name, {}),
            }
            for name, entry in (config.modalities or {}).items()
        }
        agreed = {
            "modality_names": config.modality_names,
            "window_s": float(config.window_s),
            "grid_step_s": float(config.grid_step_s),
            "context_margin_s": float(config.context_margin_s),
            "target_names": config.target_names or (),
        }
        return cls(modalities, **{**agreed, **settings})
