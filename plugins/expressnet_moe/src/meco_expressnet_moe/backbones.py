"""The backbones of ExpressNet-MoE: the published ResNet-50 variant, and any model of timm.

Notable:
- The published one is keras-vggface's ResNet-50, not torchvision's: stride in the first 1×1, 'same' padding of the stem as
  TensorFlow does it (2 before, 3 after), max pooling without padding (55×55 at 224 pixels), BatchNorm eps 1e-3.
- Building a backbone never loads weights; `backbone_weights.py` does, when asked.
- timm is imported when a timm backbone is built, not before.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.errors import ConfigurationError, DependencyError, UnknownNameError, suggest

from .configuration_expressnet_moe import ExpressNetMoEConfig


def build_backbone(config: ExpressNetMoEConfig) -> "VGGFaceResNet | TimmBackbone":
    """The backbone that a config names, with random weights.

    Raises:
        UnknownNameError: timm has no model of that name; the message offers the nearest.
        ConfigurationError: timm refuses the options, or the model gives no pooled features.
    """
    return VGGFaceResNet(config) if config.timm_name is None else TimmBackbone(config)


class Stem(nn.Module):
    """7×7 convolution of stride 2, BatchNorm, ReLU, 3×3 max pooling of stride 2."""

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        width = config.backbone_widths[0]
        self.padding = config.backbone_stem_padding
        self.pool = config.backbone_maxpool
        self.conv = nn.Conv2d(config.num_channels, width, kernel_size=7, stride=2, bias=False)
        self.norm = _norm(width, config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        top, bottom = self._pads(pixels.shape[-2])
        left, right = self._pads(pixels.shape[-1])
        hidden = F.relu(self.norm(self.conv(F.pad(pixels, (left, right, top, bottom)))))  # (B, 64, S/2, S/2)
        padding = 1 if self.pool == "pad1" else 0
        return F.max_pool2d(hidden, kernel_size=3, stride=2, padding=padding, ceil_mode=self.pool == "valid_ceil")

    def _pads(self, size: int) -> tuple[int, int]:
        if self.padding == "symmetric":
            return 3, 3
        total = max(((size + 1) // 2 - 1) * 2 + 7 - size, 0)  # TensorFlow's 'same' for stride 2
        return total // 2, total - total // 2


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with BatchNorm, added to the input or to its projection."""

    def __init__(self, in_channels: int, width: int, stride: int, project: bool, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        out_channels = width * config.backbone_expansion
        first, second = (stride, 1) if config.backbone_stride_in_1x1 else (1, stride)
        self.reduce = nn.Conv2d(in_channels, width, kernel_size=1, stride=first, bias=False)
        self.reduce_norm = _norm(width, config)
        self.spatial = nn.Conv2d(width, width, kernel_size=3, stride=second, padding=1, bias=False)
        self.spatial_norm = _norm(width, config)
        self.expand = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.expand_norm = _norm(out_channels, config)
        self.shortcut: nn.Conv2d | None = None
        self.shortcut_norm: nn.BatchNorm2d | None = None
        if project:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut_norm = _norm(out_channels, config)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.reduce_norm(self.reduce(inputs)))
        hidden = F.relu(self.spatial_norm(self.spatial(hidden)))
        hidden = self.expand_norm(self.expand(hidden))
        if self.shortcut is not None and self.shortcut_norm is not None:
            inputs = self.shortcut_norm(self.shortcut(inputs))
        return F.relu(hidden + inputs)


class ResidualStage(nn.Module):
    """Bottlenecks at one resolution; the first changes width and, but for the first stage, halves the resolution."""

    def __init__(self, in_channels: int, width: int, depth: int, stride: int, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        out_channels = width * config.backbone_expansion
        self.blocks = nn.ModuleList(
            Bottleneck(
                in_channels=in_channels if index == 0 else out_channels,
                width=width,
                stride=stride if index == 0 else 1,
                project=index == 0,
                config=config,
            )
            for index in range(depth)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class VGGFaceResNet(nn.Module):
    """keras-vggface's ResNet-50 up to global average pooling.

    Shape:
        (batch, channels, size, size) → (batch, `num_features`), 2048 by default.
    """

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        self.stem = Stem(config)
        self.stages = nn.ModuleList()
        channels = config.backbone_widths[0]
        for index, (depth, width) in enumerate(zip(config.backbone_depths, config.backbone_widths, strict=True)):
            self.stages.append(ResidualStage(channels, width, depth, stride=1 if index == 0 else 2, config=config))
            channels = width * config.backbone_expansion
        self.num_features = channels

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(pixels)  # (B, 64, 55, 55)
        for stage in self.stages:
            hidden = stage(hidden)  # (B, 256, 55, 55), (B, 512, 28, 28), (B, 1024, 14, 14), (B, 2048, 7, 7)
        return hidden.mean(dim=(2, 3))


class TimmBackbone(nn.Module):
    """A timm model without its classifier, giving pooled features.

    Its weights are initialised as timm does it; its BatchNorm keeps timm's eps and momentum.

    Shape:
        (batch, channels, size, size) → (batch, `num_features`).
    """

    def __init__(self, config: ExpressNetMoEConfig) -> None:
        super().__init__()
        self.config = config
        self.model = create_timm_model(config)
        self.num_features = int(getattr(self.model, "head_hidden_size", None) or getattr(self.model, "num_features", 0))
        self.is_initialised = not any(tensor.is_meta for tensor in self.model.parameters())
        for module in self.model.modules():
            # transformers would overwrite timm's own initialisation with its rule
            module._is_hf_initialized = True  # pyright: ignore[reportArgumentType]

    def initialise_missing(self) -> None:
        """Give every tensor that a checkpoint lacked timm's own initial value.

        transformers builds a model without memory and fills it from a checkpoint; what the checkpoint lacked (a buffer that
        is never saved, for one) is then random memory. A second, real model says what it should be.
        """
        if self.is_initialised:
            return
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        missing = {
            name: tensor
            for name, tensor in tensors.items()
            if not tensor.is_meta and not getattr(tensor, "_is_hf_initialized", False)
        }
        if missing:
            fresh = create_timm_model(self.config)
            values = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
            with torch.no_grad():
                for name, tensor in missing.items():
                    tensor.copy_(values[name])
        self.is_initialised = not any(tensor.is_meta for tensor in tensors.values())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels)


def create_timm_model(config: ExpressNetMoEConfig, pretrained: bool = False) -> nn.Module:
    """The timm model that a config names, without classifier.

    Args:
        pretrained: let timm download its weights. Never done on its own: only `load_backbone_weights(pretrained=True)` asks.

    Raises:
        UnknownNameError, ConfigurationError, DependencyError: see `build_backbone`.
    """
    try:
        import timm
    except ImportError as error:
        raise DependencyError(
            f"The backbone {config.backbone!r} is timm's, and timm is not installed. Run `pip install timm`."
        ) from error
    name = config.timm_name or ""
    architecture = name.split(".")[0]  # "resnet50.a1_in1k": what stands after the dot names weights
    if not timm.is_model(architecture):
        offer = suggest(architecture, timm.list_models())
        raise UnknownNameError(
            f"There is no backbone named {config.backbone!r} in timm {timm.__version__}.{offer} "
            "`timm.list_models()` lists them all; the published backbone is 'resnet50_vggface'."
        )
    options: dict[str, Any] = {"num_classes": 0, "in_chans": config.num_channels, **config.backbone_options}
    defaults = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if defaults is not None and defaults.fixed_input_size:
        options.setdefault("img_size", config.image_size)
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"timm cannot build the backbone {config.backbone!r} with {options}: {error}. Check backbone_options."
        ) from error


def _norm(channels: int, config: ExpressNetMoEConfig) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=config.batch_norm_eps, momentum=float(config.batch_norm_momentum))
