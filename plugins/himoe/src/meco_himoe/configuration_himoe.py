# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""Configuration of Hi-MoE (after Zhu, Han, Jiang, Zhou, Wang; arXiv 2508.02133).

Notable:
- Of the paper only its block names, their order and their purposes are public. Every number here is this implementation's.
- The default is the small preset on DEAP's four groups of signals; `HiMoEConfig.small` and `.base` take other layouts.
- Two kinds of answer: values (`problem_type="regression"`, the default; `target_names`, `target_center`, `target_halfrange`
  lead back to native units) or classes (`problem_type="single_label_classification"` with `id2label`).
- Order of modalities is `modality_names`, never the order of a dict: JSON files are written with sorted keys.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict

from meco_hub.configuration import EmotionConfig
from meco_hub.errors import ConfigurationError, require_steps

from .modalities import complete_modality, modality_layout

_SCALES = {"small": 64, "base": 128}


@strict
class HiMoEConfig(EmotionConfig):
    """What a Hi-MoE is made of.

    Raises:
        ConfigurationError: (wrapped by huggingface_hub's StrictDataclassError) a field has a value that makes no sense.

    Example:
        >>> HiMoEConfig.small(modalities={"ecg": {"channels": 1, "sampling_rate": 128}}, window_s=10.0).num_steps
        40
    """

    model_type = "meco_himoe"
    attribute_map = {"hidden_size": "d_model", "num_attention_heads": "num_heads"}  # noqa: RUF012 (transformers' convention)
    # Trainer gathers and concatenates what is left: a dict of scalars could not be.
    keys_to_ignore_at_inference = [  # noqa: RUF012
        "aux_loss", "task_loss", "losses", "router_logits", "lags", "availability", "expert_gates", "modality_weights",
        "prototype_weights", "lambda_", "embedding",
    ]  # fmt: skip

    # --- input ---
    # name → {channels, sampling_rate (Hz), patch_s 0.25, stem "conv"}. patch_s: seconds that become one token. stem "statistics":
    # a patch by mean, slope, spread and roughness of each channel instead of convolutions, for few recordings and long patches.
    # "linear": for features that are computed already (band powers): one token per sample, `sampling_rate` being theirs. None:
    # DEAP's four.
    modalities: dict[str, dict[str, Any]] | None = None
    modality_names: list[str] | None = None  # their order in (B, M) tensors; None: the order in which they are given
    window_s: float | int = 4.0  # seconds that one answer is about
    grid_step_s: float | int = 0.25  # spacing of the common grid on which modalities meet
    context_margin_s: float | int = 0.0  # signals reach so much beyond the window on both sides, the grid does not
    min_coverage: float | int = 0.5  # share of valid samples below which a patch counts as missing

    # --- widths ---
    d_model: int = 64
    num_heads: int = 4
    ffn_ratio: int = 2
    stem_channels: int = 32
    encoder_layers: int = 2  # within each modality
    context_layers: int = 1  # over all modalities
    # Which tokens a token reads there: "window" all M · S of the window, at a cost that grows with the square of its length;
    # "step" the other modalities at its own step, at a cost that grows with the length.
    context_scope: Literal["window", "step"] = "window"
    fusion_layers: int = 1  # over time, after fusion
    dropout: float | int = 0.2
    layer_norm_eps: float = 1e-5
    # Standard deviation of the weights at first; None: 1/√inputs of each map, with which a small network learns far sooner.
    initializer_range: float | int | None = None

    # --- continuous-time encoding ---
    time_num_freqs: int = 16
    time_min_period_s: float | int = 0.1
    time_max_period_s: float | int = 16.0

    # --- alignment in time ---
    use_alignment: bool = True  # False: no lag is estimated or corrected
    max_lag_s: float | int = 2.0  # a multiple of grid_step_s
    lag_dim: int = 32  # width of what is correlated
    lag_temperature: float | int = 0.1  # at the start; learnt within [0.01, 1]
    lag_min_overlap: int = 4  # steps at which both must be there for a lag to be considered
    # Zero of the lags: "mean" of the modalities present, or "anchor:<name>", whose own lag is then zero (for labels over time).
    # Where the anchor is absent, the mean.
    lag_gauge: str = "mean"
    availability_radius_steps: int = 2  # a modality is there at a step if a token lies so near; at least one patch

    # --- modality expert bank ---
    meb: Literal["experts", "mean"] = "experts"  # "mean": no experts and no learnt fusion weights (ablation)
    n_shared_experts: int = 2  # beside one per modality
    router_type: Literal["softmax", "laplace"] = "softmax"  # "laplace": by distance to a centre per expert
    router_temperature: float | int = 1.0
    # "token": only absent modalities' tokens are left out; "expert": their experts answer for nobody either.
    expert_mask: Literal["token", "expert"] = "token"

    # --- emotion expert bank ---
    eeb_layers: int = 2  # 0: a feed-forward layer instead, without prototypes (ablation)
    n_emotion_experts: int = 8  # and as many prototypes
    # "differential": two softmax maps, the second subtracted with a learnt weight; "relu_norm": its positive part, as a convex
    # mixture; "softmax": one map.
    eeb_routing: Literal["differential", "relu_norm", "softmax"] = "differential"
    lambda_init: float | int | None = None  # None: 0.8 − 0.6 exp(−0.3 layer)
    # Where prototypes stand among the labels at first: "octants" spreads them evenly (corners of a cube for three targets and
    # eight prototypes, a circle for two targets), "normal" draws them. Cluster centres: `set_label_anchors` of the head.
    prototype_anchor_init: Literal["octants", "normal"] = "octants"

    # --- answer ---
    prediction_mode: Literal["window", "sequence"] = "window"  # one answer per window, or one per grid step
    target_names: list[str] | None = None  # of regression; None: valence, arousal, dominance
    target_center: list[float | int] | None = None  # native value = center + halfrange · logit; None: zeros
    target_halfrange: list[float | int] | None = None  # None: ones
    # Networks of this shape and of other first weights, whose answers are averaged: for few recordings. In training each sees
    # its share of a batch, so make batches as many times larger.
    num_members: int = 1
    output_routing: bool = False
    output_router_logits: bool = False

    # --- losses: coefficients, then their constants. Labels are scaled to about [−1, 1] ---
    mse_loss_coef: float | int = 0.5
    ccc_loss_coef: float | int = 0.5  # wants batches of 32 windows or more, from 16 trials or more
    unimodal_loss_coef: float | int = 0.1
    contrastive_loss_coef: float | int = 0.1
    lag_loss_coef: float | int = 0.2
    prototype_loss_coef: float | int = 0.05
    separation_loss_coef: float | int = 0.1
    balance_loss_coef: float | int = 0.01
    consistency_loss_coef: float | int = 0.0  # a usual value is 0.1; costs a second forward pass in training
    consistency_drop: float | int = 0.5  # share of modalities hidden from that second pass
    # Each stimulus (a film, a song) has a prototype, which is to be chosen where it is shown; a usual value is 0.1. For corpora in
    # which everybody met the same few, n_emotion_experts of them at most; nothing where no `stimulus_ids` are given.
    stimulus_loss_coef: float | int = 0.0
    # Shrinkage (`shrinkage_loss`): answers are drawn to the batch's mean label by this times the share of modalities missing; a
    # usual value is 0.6. From few modalities, a network that learnt from few subjects is surer than it should be. Values only.
    restraint_loss_coef: float | int = 0.0
    regression_loss: Literal["mse", "huber"] = "mse"  # "huber": with beta 0.5
    label_smoothing: float | int = 0.0  # classification only
    contrastive_dim: int = 64
    contrastive_temperature: float | int = 0.1  # at the start; learnt, at least 0.01
    lag_huber_beta_s: float | int = 0.25
    proto_sigma: float | int = 0.35
    proto_margin: float | int = 0.2

    # --- presets ---

    @classmethod
    def small(cls, layout: str | None = None, **values: Any) -> Self:
        """The small preset (d_model 64); `layout` is a key of `modalities.MODALITY_LAYOUTS`, `values` override any field."""
        return cls._preset("small", layout, values)

    @classmethod
    def base(cls, layout: str | None = None, **values: Any) -> Self:
        """The base preset (d_model 128); arguments as for `small`."""
        return cls._preset("base", layout, values)

    @classmethod
    def _preset(cls, scale: str, layout: str | None, values: dict[str, Any]) -> Self:
        chosen = {} if layout is None else {"modalities": modality_layout(layout)}
        return cls(**{"d_model": _SCALES[scale], **chosen, **values})

    # --- derived ---

    @property
    def num_modalities(self) -> int:
        """M."""
        return len(self.modality_names or [])

    @property
    def num_steps(self) -> int:
        """S, the cells of the grid in one window."""
        return round(self.window_s / self.grid_step_s)

    @property
    def max_lag_steps(self) -> int:
        """J, the largest lag in grid steps."""
        return round(self.max_lag_s / self.grid_step_s)

    @property
    def num_modality_experts(self) -> int:
        """K_m: one per modality, and the shared ones."""
        return self.num_modalities + self.n_shared_experts

    @property
    def is_regression(self) -> bool:
        """Whether logits are values rather than class scores."""
        return self.problem_type == "regression"

    @property
    def anchor(self) -> int | None:
        """Place of the modality whose lag is zero, or None for the mean gauge."""
        _, _, name = self.lag_gauge.partition("anchor:")
        return (self.modality_names or []).index(name) if name else None

    def patch_samples(self, modality: str) -> int:
        """Samples that become one token."""
        entry = (self.modalities or {})[modality]
        return 1 if entry["stem"] == "linear" else round(entry["patch_s"] * entry["sampling_rate"])

    def window_samples(self, modality: str) -> int:
        """Samples of a window, margins included."""
        return round((self.window_s + 2 * self.context_margin_s) * (self.modalities or {})[modality]["sampling_rate"])

    # --- construction and checks ---

    def __post_init__(self, **kwargs: Any) -> None:
        if self.modalities is None:
            self.modalities = modality_layout("deap_4")
        self.modalities = {name: complete_modality(name, entry) for name, entry in self.modalities.items()}
        if self.modality_names is None:
            self.modality_names = list(self.modalities)
        if self.problem_type is None:
            self.problem_type = "regression"
        super().__post_init__(**kwargs)
        if self.is_regression:
            self._complete_targets()

    def default_label_names(self, count: int | None) -> Sequence[str]:
        if not self.is_regression:
            return super().default_label_names(count)
        if self.target_names is not None:
            return self.target_names
        three = ["valence", "arousal", "dominance"]
        return three[:count] if count in (None, 1, 2, 3) else [f"TARGET_{index}" for index in range(count)]

    def _complete_targets(self) -> None:
        if self.target_names is None:
            self.target_names = [name for _, name in sorted((self.id2label or {}).items())]
        if self.target_center is None:
            self.target_center = [0.0] * len(self.target_names)
        if self.target_halfrange is None:
            self.target_halfrange = [1.0] * len(self.target_names)

    def validate_labels(self) -> None:
        super().validate_labels()
        names = self.id2label or {}
        targets = (self.target_names, self.target_center, self.target_halfrange)
        if self.problem_type == "single_label_classification":
            if any(targets) or len(names) < 2:
                raise ConfigurationError(
                    f"{len(names)} label(s) and target_names {self.target_names} with problem_type {self.problem_type!r}; "
                    "expected two classes or more, and no targets. For values set problem_type='regression'."
                )
            return
        if self.problem_type != "regression":
            raise ConfigurationError(
                f"problem_type is {self.problem_type!r}; expected 'regression' or 'single_label_classification'."
            )
        if self.target_names != list(names.values()):
            raise ConfigurationError(
                f"target_names {self.target_names} and id2label {names} disagree. Leave id2label out: it is derived."
            )
        for key in ("target_center", "target_halfrange"):
            if len(getattr(self, key) or []) != len(names):
                raise ConfigurationError(f"{key} is {getattr(self, key)}; expected a number for each of {names}.")
        if min(self.target_halfrange or [1]) <= 0:
            raise ConfigurationError(f"target_halfrange is {self.target_halfrange}; expected numbers above 0.")

    def validate_modalities(self) -> None:
        names, known = self.modality_names or [], self.modalities or {}
        if not names or sorted(names) != sorted(known):
            raise ConfigurationError(
                f"modality_names are {names} and modalities {sorted(known)}; expected the same names, each once, at least one."
            )
        for name in names:
            patch, window = self.patch_samples(name), self.window_samples(name)
            if patch < 1 or window < patch:
                raise ConfigurationError(
                    f"Modality {name!r}: a patch has {patch} samples and a window {window}; expected at least 1, and no more "
                    "than the window. Change patch_s or window_s."
                )
        kind, colon, anchor = self.lag_gauge.partition(":")
        if not (self.lag_gauge == "mean" or (kind == "anchor" and colon and anchor in names)):
            raise ConfigurationError(
                f"lag_gauge is {self.lag_gauge!r}; expected 'mean' or 'anchor:<name>' with one of {', '.join(names)}."
            )

    def validate_grid(self) -> None:
        self._require_positive("window_s", "grid_step_s", "max_lag_s")
        for key in ("window_s", "max_lag_s"):
            require_steps(key, getattr(self, key), self.grid_step_s)
        if self.context_margin_s < 0:
            raise ConfigurationError(f"context_margin_s is {self.context_margin_s}; expected 0 or more.")
        if not 0 < self.min_coverage <= 1:
            raise ConfigurationError(f"min_coverage is {self.min_coverage}; expected more than 0 and at most 1.")

    def validate_widths(self) -> None:
        self._require_positive(
            "d_model", "num_heads", "ffn_ratio", "stem_channels", "time_num_freqs", "time_min_period_s", "lag_dim",
            "lag_temperature", "availability_radius_steps", "router_temperature", "n_emotion_experts", "contrastive_dim",
            "contrastive_temperature", "lag_huber_beta_s", "proto_sigma", "layer_norm_eps", "num_members",
        )  # fmt: skip
        if self.initializer_range is not None:
            self._require_positive("initializer_range")
        if self.d_model % (2 * self.num_heads):
            raise ConfigurationError(
                f"d_model {self.d_model} does not divide by twice num_heads {self.num_heads}, as differential attention needs."
            )
        if self.time_max_period_s <= self.time_min_period_s:
            raise ConfigurationError(
                f"time_max_period_s is {self.time_max_period_s}; expected more than time_min_period_s {self.time_min_period_s}."
            )
        for key in (
            "encoder_layers", "context_layers", "fusion_layers", "eeb_layers", "n_shared_experts", "lag_min_overlap",
        ):  # fmt: skip
            if getattr(self, key) < 0:
                raise ConfigurationError(f"{key} is {getattr(self, key)}; expected 0 or more.")

    def validate_rates(self) -> None:
        for key in ("dropout", "label_smoothing", "consistency_drop"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigurationError(f"{key} is {getattr(self, key)}; expected 0 or more and less than 1.")
        for one in fields(self):
            if one.name.endswith("_loss_coef") and getattr(self, one.name) < 0:
                raise ConfigurationError(f"{one.name} is {getattr(self, one.name)}; expected 0 (off) or more.")
        if self.stimulus_loss_coef and not self.eeb_layers:
            raise ConfigurationError(
                f"stimulus_loss_coef is {self.stimulus_loss_coef} and eeb_layers 0; expected prototypes that could stand for "
                "stimuli. Set eeb_layers to 1 or more, or stimulus_loss_coef to 0."
            )
        if self.restraint_loss_coef and not self.is_regression:
            raise ConfigurationError(
                f"restraint_loss_coef is {self.restraint_loss_coef} with problem_type {self.problem_type!r}; expected values, "
                "which can be drawn to their mean. Set it to 0 for classes."
            )

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigurationError(f"{name} is {value}; expected more than 0.")
