"""Configurations of the two baselines."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from meco_hub.configuration import EmotionConfig
from meco_hub.errors import ConfigurationError


@strict
class SignalBaselineConfig(EmotionConfig):
    """What both have: streams of a window, and what the head answers.

    Raises:
        ConfigurationError: (wrapped by huggingface_hub's StrictDataclassError) a field has a value that makes no sense.
    """

    # name → {channels, sampling_rate}, samples a second that the windower makes of the stream; kept in the order of the alphabet,
    # because a config's file is, and streams stand side by side
    modalities: dict[str, Any] = field(default_factory=dict)
    window_s: float | int = 4.0  # seconds that are looked at together
    dropout: float | int = 0.5
    # values: native = center + halfrange · answer
    target_names: list[str] | None = None
    target_center: list[float] | None = None
    target_halfrange: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.modalities = dict(sorted(self.modalities.items()))
        super().__post_init__(**kwargs)

    @property
    def grid_step_s(self) -> float:
        """Seconds between two answers; one answer a window."""
        return float(self.window_s)

    @property
    def num_steps(self) -> int:
        """Answers in a window."""
        return round(self.window_s / self.grid_step_s)

    def window_samples(self, modality: str) -> int:
        """Samples of a modality in a window."""
        return round(self.modalities[modality]["sampling_rate"] * self.window_s)

    def default_label_names(self, count: int | None) -> Sequence[str]:
        return self.target_names or super().default_label_names(count)

    def validate_numbers(self) -> None:
        if self.window_s <= 0 or not 0 <= self.dropout < 1:
            raise ConfigurationError(
                f"window_s is {self.window_s} and dropout {self.dropout}; expected more than 0, and 0 or more and less than 1."
            )

    def validate_modalities(self) -> None:
        if not self.modalities:
            raise ConfigurationError("modalities is empty; expected one at least: {name: {channels, sampling_rate}}.")
        for name, one in self.modalities.items():
            if set(one) != {"channels", "sampling_rate"} or min(one.values()) <= 0:
                raise ConfigurationError(f"Modality {name!r} is {one}; expected channels and sampling_rate, above 0.")
            for seconds in (self.window_s, self.grid_step_s):
                samples = one["sampling_rate"] * seconds
                if samples < 1 or abs(samples - round(samples)) > 1e-6:
                    raise ConfigurationError(
                        f"Modality {name!r} has {samples} samples in {seconds} s; expected a whole number. Change its rate."
                    )

    def validate_targets(self) -> None:
        scales = (self.target_names, self.target_center, self.target_halfrange)
        if len({len(one) for one in scales if one is not None}) > 1:
            raise ConfigurationError(
                f"target_names {self.target_names}, target_center {self.target_center} and target_halfrange "
                f"{self.target_halfrange} differ in length; expected one of each for every value."
            )


@strict
class GRUConfig(SignalBaselineConfig):
    """A GRU in two directions over the steps of a window, with attention over them."""

    model_type = "meco_gru"

    modalities: dict[str, Any] = field(
        default_factory=lambda: {
            name: {"channels": channels, "sampling_rate": 4.0}
            for name, channels in (("cardiac", 2), ("eda", 2), ("resp", 1))
        }
    )
    step_s: float | int = 1.0  # seconds that the GRU takes at once
    d_model: int = 32
    dropout: float | int = 0.3
    prediction_mode: Literal["sequence", "window"] = "window"  # an answer for every step, or one for the window

    @property
    def hidden_size(self) -> int:
        """Width of what the head reads: attention's mean beside the step, or the mean alone; two directions of each."""
        return 2 * self.d_model * (2 if self.prediction_mode == "sequence" else 1)

    @property
    def grid_step_s(self) -> float:
        return float(self.step_s if self.prediction_mode == "sequence" else self.window_s)

    @property
    def steps(self) -> int:
        """Steps of the GRU in a window."""
        return round(self.window_s / self.step_s)

    def validate_steps(self) -> None:
        if self.step_s <= 0 or self.d_model < 1 or abs(self.window_s / self.step_s - self.steps) > 1e-6:
            raise ConfigurationError(
                f"step_s is {self.step_s} and d_model {self.d_model}; expected a step that divides window_s {self.window_s}, and 1 "
                "or more."
            )
        for name in self.modalities:
            if self.window_samples(name) % self.steps:
                raise ConfigurationError(
                    f"Modality {name!r} has {self.window_samples(name)} samples in {self.steps} steps; expected as many in each. "
                    "Change its rate, or step_s."
                )


@strict
class EEGNetConfig(SignalBaselineConfig):
    """EEGNet-8,2 of Lawhern et al. 2018 (arXiv 1611.08024), on one stream; the defaults are the paper's."""

    model_type = "meco_eegnet"

    modalities: dict[str, Any] = field(default_factory=lambda: {"eeg": {"channels": 32, "sampling_rate": 128.0}})
    temporal_filters: int = 8  # F1
    depth: int = 2  # D: spatial filters for each of them
    separable_filters: int = 16  # F2
    kernel_length: int | None = None  # samples of a temporal filter; None: half the sampling rate, from 2 Hz on
    spatial_max_norm: float | int = 1.0
    dense_max_norm: float | int = 0.25

    @property
    def kernel(self) -> int:
        """Samples of a temporal filter."""
        rate = next(iter(self.modalities.values()))["sampling_rate"]
        return self.kernel_length or max(1, round(rate / 2))

    @property
    def hidden_size(self) -> int:
        """Width of what the head reads: F2 for every 32 samples."""
        return self.separable_filters * (self.window_samples(next(iter(self.modalities))) // 4 // 8)

    def validate_network(self) -> None:
        counts = (self.temporal_filters, self.depth, self.separable_filters, self.kernel_length or 1)
        if min(counts) < 1 or min(self.spatial_max_norm, self.dense_max_norm) <= 0:
            raise ConfigurationError(
                f"temporal_filters, depth, separable_filters and kernel_length are {counts}, the norms {self.spatial_max_norm} and "
                f"{self.dense_max_norm}; expected 1 or more, and more than 0."
            )
        if len(self.modalities) != 1 or not self.hidden_size:
            raise ConfigurationError(
                f"modalities is {self.modalities} and window_s {self.window_s}; expected one stream of 32 samples or more."
            )
