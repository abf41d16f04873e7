"""The windower of the baselines: the core's, and a way to make one that agrees with a model.

How windows are cut is in `meco_hub.processing.signal_windower`.
"""

from typing import Any, Self

from meco_hub.processing.signal_windower import SignalWindower

from .configuration_baselines import SignalBaselineConfig


class BaselineSignalWindower(SignalWindower):
    """`SignalWindower` under the name by which checkpoints of these architectures find it."""

    @classmethod
    def for_config(cls, config: SignalBaselineConfig, **settings: Any) -> Self:
        """A windower whose windows, rates and grid are those of a model.

        Args:
            config: the model's.
            settings: any field; `modalities` here adds settings of the windower (filters, say) to single modalities.
        """
        own = settings.pop("modalities", {})
        agreed = {
            "modalities": {name: {**one, **own.get(name, {})} for name, one in config.modalities.items()},
            "window_s": float(config.window_s),
            "grid_step_s": config.grid_step_s,
            "target_names": config.target_names or (),
        }
        return cls(**{**agreed, **settings})
