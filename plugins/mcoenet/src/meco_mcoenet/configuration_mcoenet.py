# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""Configuration of MCO-E Net (Han, Liu, Yi, Zhang, Tan; arXiv 2505.12007).

Notable:
- The default is the published network: 154,848,170 parameters, which leaves out 7,297 that its authors' code makes and never uses.
- What the authors' code does and a careful engineer would not do is a switch, faithful by default; the comment beside the
  field says what the published network does and what the other values change.
- `MCOENetConfig.token()` sets the switches that give the degenerate parts something to do; `.small()` is such a network of
  1.4 million parameters that trains on two cores.
"""

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict

from meco_hub.configuration import EmotionConfig
from meco_hub.errors import ConfigurationError

EXPERT_KINDS = ("focal", "attention", "deep")
"""What an expert can be, in the order in which the published network takes turns."""

DEFAULT_LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""SEE's seven expressions in alphabetical order, in canonical nouns. The order of the authors' label file is not known."""

TOKEN: dict[str, Any] = {
    "attention_tokens": 16,
    "focal_tokens": 16,
    "deep_expert_activation": "gelu",
    "share_reverse_dt_bias": False,
}
"""What the preset `token` changes: every part of the network does what its name says. Not tested for accuracy by anyone."""

SMALL: dict[str, Any] = {
    **TOKEN,
    "backbone_depths": [1, 1, 1, 1],
    "backbone_widths": [16, 32, 64, 128],
    "backbone_feature": "pooled",
    "fusion_dim": 128,
    "num_experts": 4,
    "router_hidden": 64,
    "focal_hidden": 64,
    "deep_layers": 2,
    "deep_mult": 2,
    "attention_tokens": 8,
    "focal_tokens": 8,
    "image_size": 64,
}
"""What the preset `small` changes."""


@strict
class MCOENetConfig(EmotionConfig):
    """What an MCO-E Net is made of. The default is the published network.

    Without labels there are SEE's seven in alphabetical order (`DEFAULT_LABELS`); any other number gives LABEL_0, LABEL_1, …, so
    pass `id2label`.

    Raises:
        ConfigurationError: (wrapped by huggingface_hub's StrictDataclassError) a field has a value that makes no sense.

    Example:
        >>> MCOENetConfig().num_tokens
        500
        >>> MCOENetConfig.small(num_experts=3).expert_types
        ['focal', 'attention', 'deep']
    """

    model_type = "meco_mcoenet"

    # --- input: two clips, (batch, num_frames, num_channels, image_size, image_size) each ---
    # What the processor gives. The network itself takes any size and any length that `frame_positions` fit.
    image_size: int = 100
    num_frames: int = 4
    num_channels: int = 3
    # Which time steps the network looks at. Published: the first and the last; those between have no influence whatever.
    frame_positions: list[int] = field(default_factory=lambda: [0, -1])
    # What is done when one of the two streams is not there. Published: nothing is provided for that. "zeros" puts zeros after
    # normalisation (the mean picture) in its place, for ablations and for networks that were trained so.
    missing_modality: Literal["error", "zeros"] = "error"

    # --- backbones: residual networks of basic blocks; the default depths and widths are ResNet-18's ---
    backbone_depths: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    backbone_widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    # Published: "logits", the 1000 raw ImageNet scores of each picture are the features. "pooled": what the classifier reads.
    backbone_feature: Literal["logits", "pooled"] = "logits"
    backbone_num_features: int = 1000  # scores of the classifier, for "logits"
    # Published: False, one network per stream and time step, four in all, nothing shared. True: one per stream.
    share_backbones: bool = False
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float | int = 0.1

    # --- joint state space model ("MCO-Mamba") over tokens of d_model features ---
    d_model: int = 4  # of 2 · 1000 features per stream: 500 tokens
    d_state: int = 16
    d_conv: int = 4  # causal and depthwise
    expand: int = 2  # inner width over d_model
    dt_rank: int | None = None  # None: d_model / 16, rounded up
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    dt_init_floor: float = 1e-4
    dt_scale: float | int = 1.0
    bidirectional: bool = True  # published: both directions, averaged
    # Published: True, the backward scan adds the forward one's bias to its step sizes. False: one of its own.
    share_reverse_dt_bias: bool = True
    joint_bc: bool = True  # False: the two streams share nothing in the scan
    # Variants that the authors left commented out. Published: None and None.
    joint_activation: Literal["gelu"] | None = None  # on both streams' parameters before their joint projection
    joint_norm: Literal["layer_norm"] | None = None  # on the sums that B and C are, without parameters
    # Published training never moved D from 1, by a mistake in a hand-written gradient. False does so too.
    train_D: bool = True

    # --- fusion ---
    mcib_num_heads: int = 2  # of attention over all tokens, between the streams
    fusion_dim: int = 1024
    fusion_dropout: float | int = 0.5

    # --- mixture of experts, each giving class scores ---
    num_experts: int = 8
    expert_types: list[str] = field(default_factory=list)  # empty: taking turns as in EXPERT_KINDS
    top_k: int = 2
    norm_topk_prob: bool = True
    router_num_heads: int = 4
    router_hidden: int = 512
    attention_expert_heads: int = 2
    # Tokens that the fused vector is cut into for attention, in the router and in the attention experts, and for the focal
    # experts' convolution. Published: 1, so attention has one key and is a linear map, and three quarters of its weights and two
    # thirds of the convolution's are never used. Head counts then do not matter.
    attention_tokens: int = 1
    focal_tokens: int = 1
    focal_hidden: int = 512
    focal_kernel: int = 3
    deep_layers: int = 5
    deep_mult: int = 4
    deep_dropout: float | int = 0.5
    deep_residual_init: float | int = 0.3  # one learnt number per expert, shared by its layers
    # Published: None, so that a deep expert is an affine map in evaluation.
    deep_expert_activation: Literal["gelu", "relu"] | None = None
    layer_norm_eps: float = 1e-5
    # How experts are computed, never what: "sparse" runs each on the samples that chose it, so one that nobody chose gets no
    # gradient and is left alone by the optimiser, as published; with DistributedDataParallel that needs
    # find_unused_parameters=True. "dense" runs all on all. Graphs (export, compile), and what
    # FSDP or ZeRO-3 holds in parts, are always dense.
    expert_dispatch: Literal["sparse", "dense"] = "sparse"
    router_aux_loss_coef: float | int = 0.0  # published: no balancing. A usual value is 0.01
    output_router_logits: bool = False

    # --- loss ---
    label_smoothing: float | int = 0.0  # published: plain cross-entropy

    # --- where the weights come from ---
    # "synthetic" where they were trained on drawn or generated data: every answer of theirs then says so. None: nothing is said.
    training_data: str | None = None

    @classmethod
    def token(cls, **changes: Any) -> Self:
        """The published sizes with the degenerate parts repaired (`TOKEN`), and changes of your own."""
        return cls(**{**TOKEN, **changes})

    @classmethod
    def small(cls, **changes: Any) -> Self:
        """A network of 1.4 million parameters that trains on two cores (`SMALL`), and changes of your own."""
        return cls(**{**SMALL, **changes})

    @property
    def features_per_picture(self) -> int:
        """Width of what a backbone gives."""
        return self.backbone_num_features if self.backbone_feature == "logits" else self.backbone_widths[-1]

    @property
    def num_tokens(self) -> int:
        """Length of the sequence that the state space model runs over."""
        return len(self.frame_positions) * self.features_per_picture // self.d_model

    @property
    def d_inner(self) -> int:
        """Inner width of the state space model."""
        return self.expand * self.d_model

    @property
    def time_rank(self) -> int:
        """Rank of the map to step sizes: `dt_rank`, or its default."""
        return math.ceil(self.d_model / 16) if self.dt_rank is None else self.dt_rank

    @property
    def hidden_size(self) -> int:
        """`fusion_dim` under the name that other tools look for."""
        return self.fusion_dim

    def __post_init__(self, **kwargs: Any) -> None:
        if not self.expert_types:
            self.expert_types = [EXPERT_KINDS[index % len(EXPERT_KINDS)] for index in range(self.num_experts)]
        super().__post_init__(**kwargs)

    def default_label_names(self, count: int | None) -> Sequence[str]:
        return DEFAULT_LABELS if count in (None, len(DEFAULT_LABELS)) else super().default_label_names(count)

    def validate_numbers(self) -> None:
        counts = (
            "image_size num_frames num_channels backbone_num_features d_model d_state d_conv expand time_rank mcib_num_heads "
            "fusion_dim num_experts router_num_heads router_hidden attention_expert_heads attention_tokens focal_tokens "
            "focal_hidden focal_kernel deep_layers deep_mult batch_norm_eps batch_norm_momentum layer_norm_eps dt_min dt_max"
        )
        for name in counts.split():
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected more than 0.")
        for name in ("fusion_dropout", "deep_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected 0 or more and less than 1.")
        if self.router_aux_loss_coef < 0:
            raise ConfigurationError(f"router_aux_loss_coef is {self.router_aux_loss_coef}; expected 0 (off) or more.")
        if self.dt_min > self.dt_max:
            raise ConfigurationError(f"dt_min {self.dt_min} is above dt_max {self.dt_max}; expected the smaller first.")
        if self.focal_kernel % 2 == 0:
            raise ConfigurationError(
                f"focal_kernel is {self.focal_kernel}; expected an odd number, which keeps the length."
            )

    def validate_backbones(self) -> None:
        if len(self.backbone_depths) != len(self.backbone_widths) or not self.backbone_depths:
            raise ConfigurationError(
                f"backbone_depths has {len(self.backbone_depths)} entries and backbone_widths {len(self.backbone_widths)}; "
                "expected one of each per stage, and at least one stage."
            )
        if min(*self.backbone_depths, *self.backbone_widths) < 1:
            raise ConfigurationError(
                f"backbone_depths {self.backbone_depths} and backbone_widths {self.backbone_widths} must all be above 0."
            )
        if not self.frame_positions:
            raise ConfigurationError("frame_positions is empty; expected at least one time step, such as [0, -1].")

    def validate_shapes(self) -> None:
        features = len(self.frame_positions) * self.features_per_picture
        if features % self.d_model:
            raise ConfigurationError(
                f"The {features} features of a stream ({len(self.frame_positions)} pictures of {self.features_per_picture}) do not "
                f"divide into tokens of d_model {self.d_model}. Choose a divisor."
            )
        if self.d_model % self.mcib_num_heads:
            raise ConfigurationError(f"mcib_num_heads {self.mcib_num_heads} does not divide d_model {self.d_model}.")
        for name in ("attention_tokens", "focal_tokens"):
            if self.fusion_dim % getattr(self, name):
                raise ConfigurationError(f"{name} {getattr(self, name)} does not divide fusion_dim {self.fusion_dim}.")
        width = self.fusion_dim // self.attention_tokens
        for name in ("router_num_heads", "attention_expert_heads"):
            if width % getattr(self, name):
                raise ConfigurationError(
                    f"{name} {getattr(self, name)} does not divide the attention's width {width} (fusion_dim / attention_tokens)."
                )

    def validate_experts(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise ConfigurationError(
                f"top_k is {self.top_k} of num_experts {self.num_experts}; expected 1 to {self.num_experts}."
            )
        unknown = sorted(set(self.expert_types) - set(EXPERT_KINDS))
        if unknown or len(self.expert_types) != self.num_experts:
            raise ConfigurationError(
                f"expert_types is {self.expert_types}; expected one of {', '.join(EXPERT_KINDS)} for each of the "
                f"{self.num_experts} experts, or an empty list for taking turns."
            )
