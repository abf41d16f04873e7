# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""Configuration of ExpressNet-MoE (Banerjee, Gothwal, Biswas; arXiv 2510.13493).

Notable:
- The default is the published network: 224×224 pixels, seven labels, 35,876,751 trainable parameters.
- What the authors' code does and a careful engineer would not do is a switch, faithful by default; the comment beside the
  field says what the published network does and what the other values change.
- Small networks of the same shape are made by shorter lists, smaller widths, and `fe1_pooling="average"`.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from meco_hub.configuration import EmotionConfig
from meco_hub.errors import ConfigurationError

OWN_BACKBONE = "resnet50_vggface"
"""The published backbone; every other name is one of timm's."""

PUBLISHED_LABELS: dict[int, tuple[str, ...]] = {
    7: ("anger", "disgust", "sadness", "happiness", "fear", "neutral", "surprise"),
    8: ("anger", "contempt", "disgust", "sadness", "happiness", "fear", "neutral", "surprise"),
}
"""Class order of the authors' AffectNet-7 (and FER-2013) and AffectNet-8 notebooks, in canonical nouns. RAF-DB's differs."""


@strict
class ExpressNetMoEConfig(EmotionConfig):
    """What an ExpressNet-MoE is made of. The default is the published network with seven labels.

    `num_labels=7` and `num_labels=8` without names take the authors' class order (`PUBLISHED_LABELS`); any other number
    gives LABEL_0, LABEL_1, …, so pass `id2label`.

    Raises:
        ConfigurationError: (wrapped by huggingface_hub's StrictDataclassError) a field has a value that makes no sense.

    Example:
        >>> ExpressNetMoEConfig(num_labels=8).feature_size
        1024
    """

    model_type = "meco_expressnet_moe"

    # --- input: (batch, num_channels, image_size, image_size), RGB in [0, 1] ---
    image_size: int = 224
    num_channels: int = 3
    # Order in which the network sees the channels. Published: "bgr", since OpenCV reads so. Flipped inside the model.
    channel_order: Literal["bgr", "rgb"] = "bgr"
    # Normalisation of the two convolutional branches' input. Published: "none" (plain [0, 1]).
    # "imagenet": minus mean, over standard deviation, per channel; "inception": to [−1, 1].
    input_norm: Literal["none", "imagenet", "inception"] = "none"

    # True: of a picture and its mirror image the network sees the one with more light on the left, so both have one answer.
    canonical_mirror: bool = False

    # --- large-kernel branch (CNNFE1): stages, then a dense layer ---
    fe1_channels: list[int] = field(default_factory=lambda: [8, 16, 32, 64, 128, 256])
    fe1_kernel_sizes: list[int] = field(default_factory=lambda: [75, 50, 25, 15, 9, 3])
    # Published: "flatten", 12,544 inputs to the dense layer at 224. "average" pools first: a 49th of that layer's weights.
    fe1_pooling: Literal["flatten", "average"] = "flatten"
    fe1_hidden_size: int = 512  # width of the dense layer and of the experts that read it
    fe1_head_dropout: float | int = 0.5

    # --- small-kernel branch (CNNFE2): stages, then global average pooling ---
    fe2_channels: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    fe2_kernel_sizes: list[int] = field(default_factory=lambda: [15, 7, 5, 3, 3])

    # --- stages of both branches: convolution, then these in order, then 2×2 max pooling after all but the last ---
    # Published: ReLU, dropout, BatchNorm. Dropout before BatchNorm makes the variance in training differ from that in
    # evaluation; "norm_relu_dropout" does not. "dropout_norm_relu" is the order that summaries of the paper give.
    stage_order: Literal["relu_dropout_norm", "norm_relu_dropout", "dropout_norm_relu"] = "relu_dropout_norm"
    conv_dropout: float | int = 0.1
    batch_norm_eps: float = 1e-3  # Keras's default; of the branches and of the published backbone, not of timm's
    batch_norm_momentum: float | int = 0.01  # torch's convention; Keras calls it 0.99
    # How large kernels are computed, never what: "auto" takes the faster of "native" and "fft" by shape and device.
    conv_impl: Literal["auto", "native", "fft"] = "auto"

    # --- backbone ---
    # "resnet50_vggface" (published), or any name that timm.list_models() knows, with or without "timm/" before it.
    backbone: str = OWN_BACKBONE
    backbone_options: dict[str, Any] = field(default_factory=dict)  # passed on to timm.create_model; timm only
    # Published: "none", although the VGGFace2 weights expect 0…255 minus a BGR mean, which costs the first epochs.
    # "vggface2_bgr" does that; "imagenet" and "inception" suit timm's weights. Each but "none" brings its own channel order.
    backbone_input_norm: Literal["none", "vggface2_bgr", "imagenet", "inception"] = "none"
    backbone_dropout: float | int = 0.5
    freeze_backbone: bool = False  # published: trained with the rest. True also holds its BatchNorm statistics still
    # The following shape "resnet50_vggface" only.
    backbone_depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    backbone_widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    backbone_expansion: int = 4
    backbone_stride_in_1x1: bool = True  # published: ResNet v1. False puts the stride into the 3×3, as torchvision does
    backbone_stem_padding: Literal["tf_same", "symmetric"] = "tf_same"  # 2 before, 3 after at 224; torchvision: 3 and 3
    # Published: "valid_floor", 55×55 at 224. "pad1" (56×56) is torchvision's, "valid_ceil" (56×56) the original Caffe net's.
    backbone_maxpool: Literal["valid_floor", "valid_ceil", "pad1"] = "valid_floor"

    # --- fusion of the small-kernel branch and the backbone ---
    fusion_hidden_size: int = 512  # width of the dense layer and of the experts that read it
    fusion_dropout: float | int = 0.5

    # --- the two mixtures of experts ---
    num_experts: int = 4
    top_k: int = 2  # experts that answer for one picture
    # Published: False, the selected experts keep their raw softmax weights, whose sum is below one (about .55 at first).
    norm_topk_prob: bool = False
    # Published: no balancing at all, so nothing prevents two experts from taking every picture. A usual value is 0.01.
    router_aux_loss_coef: float | int = 0.0
    router_z_loss_coef: float | int = 0.0  # published: none. A usual value is 0.001
    router_jitter: float | int = 0.0  # published: none. The router's input times U(1 − j, 1 + j) in training
    output_router_logits: bool = False

    # --- loss ---
    label_smoothing: float | int = 0.1  # published; used for single-label classification only

    @property
    def feature_size(self) -> int:
        """Number of features that the head reads: the outputs of both mixtures of experts."""
        return self.fe1_hidden_size + self.fusion_hidden_size

    @property
    def hidden_size(self) -> int:
        """`feature_size` under the name that other tools look for."""
        return self.feature_size

    @property
    def timm_name(self) -> str | None:
        """The backbone's name as timm knows it, or None for the published one."""
        return None if self.backbone == OWN_BACKBONE else self.backbone.removeprefix("timm/")

    def default_label_names(self, count: int | None) -> Sequence[str]:
        count = 7 if count is None else count
        return PUBLISHED_LABELS.get(count) or super().default_label_names(count)

    def validate_input(self) -> None:
        if self.num_channels not in (1, 3):
            raise ConfigurationError(f"num_channels is {self.num_channels}; expected 3 (colour) or 1 (grey).")
        if self.num_channels == 1 and (self.input_norm, self.backbone_input_norm) != ("none", "none"):
            raise ConfigurationError(
                f"input_norm={self.input_norm!r} and backbone_input_norm={self.backbone_input_norm!r} are defined for "
                'three channels, and num_channels is 1. Set both to "none".'
            )

    def validate_branches(self) -> None:
        for branch in ("fe1", "fe2"):
            channels, kernels = getattr(self, f"{branch}_channels"), getattr(self, f"{branch}_kernel_sizes")
            if len(channels) != len(kernels) or not channels:
                raise ConfigurationError(
                    f"{branch}_channels has {len(channels)} entries and {branch}_kernel_sizes {len(kernels)}; expected one "
                    "of each per stage, and at least one stage."
                )
            self._require_positive(**{f"{branch}_channels": min(channels), f"{branch}_kernel_sizes": min(kernels)})
            if self.image_size < 2 ** (len(channels) - 1):
                raise ConfigurationError(
                    f"image_size {self.image_size} is halved {len(channels) - 1} times by the {len(channels)} stages of "
                    f"{branch} and would vanish. Expected at least {2 ** (len(channels) - 1)}, or fewer stages."
                )
        self._require_positive(
            fe1_hidden_size=self.fe1_hidden_size,
            fusion_hidden_size=self.fusion_hidden_size,
            batch_norm_eps=self.batch_norm_eps,
            batch_norm_momentum=self.batch_norm_momentum,
        )

    def validate_backbone(self) -> None:
        if not self.backbone.removeprefix("timm/"):
            raise ConfigurationError(
                f"backbone is {self.backbone!r}; expected {OWN_BACKBONE!r} or a timm model's name such as 'resnet18'."
            )
        if self.timm_name is not None:
            for name in self.backbone_options:  # a config may be a stranger's, and timm opens what these name
                if name.startswith("pretrained") or name in ("checkpoint_path", "cache_dir"):
                    raise ConfigurationError(
                        f"backbone_options names {name!r}, which says where weights come from; expected options of the network. "
                        "Leave it out; `load_backbone_weights` reads weights."
                    )
            return  # what timm knows is asked when the model is built, since importing timm here would load torch
        if self.backbone_options:
            raise ConfigurationError(
                f"backbone_options {self.backbone_options} are passed on to timm, and the backbone is {OWN_BACKBONE!r}. "
                "Use the backbone_… fields instead."
            )
        if len(self.backbone_depths) != len(self.backbone_widths) or not self.backbone_depths:
            raise ConfigurationError(
                f"backbone_depths has {len(self.backbone_depths)} entries and backbone_widths {len(self.backbone_widths)}; "
                "expected one of each per stage."
            )
        self._require_positive(
            backbone_depths=min(self.backbone_depths),
            backbone_widths=min(self.backbone_widths),
            backbone_expansion=self.backbone_expansion,
        )
        if self.image_size < 6:
            raise ConfigurationError(
                f"image_size {self.image_size} leaves nothing for the backbone's max pooling; expected at least 6."
            )

    def validate_experts(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise ConfigurationError(
                f"top_k is {self.top_k} of num_experts {self.num_experts}; expected 1 to {self.num_experts}."
            )
        for name in ("router_aux_loss_coef", "router_z_loss_coef"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected 0 (off) or more.")

    def validate_rates(self) -> None:
        rates = (
            "conv_dropout",
            "fe1_head_dropout",
            "backbone_dropout",
            "fusion_dropout",
            "label_smoothing",
            "router_jitter",
        )
        for name in rates:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected 0 or more and less than 1.")

    def _require_positive(self, **values: float) -> None:
        for name, value in values.items():
            if value <= 0:
                raise ConfigurationError(f"{name} holds {value}; expected more than 0.")
