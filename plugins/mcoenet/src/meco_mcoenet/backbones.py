"""The residual networks that look at single pictures: ResNet-18 by default, with its 1000 ImageNet scores as features.

Notable:
- Parameters are named as in torchvision (and in timm's `resnet18`), so ImageNet weights of either are loaded by name.
- Nothing is downloaded or read when a network is built: `backbone_weights.py` does that, once, on purpose.

Source: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition".
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_mcoenet import MCOENetConfig


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm, added to the input or to its projection.

    Shape:
        (batch, in_channels, height, width) → (batch, width, ⌈height / stride⌉, ⌈width / stride⌉).
    """

    def __init__(self, in_channels: int, width: int, stride: int, config: MCOENetConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = _norm(width, config)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = _norm(width, config)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != width:
            projection = nn.Conv2d(in_channels, width, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, _norm(width, config))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.bn1(self.conv1(inputs)), inplace=True)
        hidden = self.bn2(self.conv2(hidden))
        hidden += inputs if self.downsample is None else self.downsample(inputs)
        return F.relu(hidden, inplace=True)


class ResNet(nn.Module):
    """Stem, stages of basic blocks, global average pooling, and, for the feature "logits", the classifier.

    Shape:
        (batch, channels, height, width) → (batch, `config.features_per_picture`).
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        width = config.backbone_widths[0]
        self.conv1 = nn.Conv2d(config.num_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = _norm(width, config)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = width
        for index, (depth, width) in enumerate(zip(config.backbone_depths, config.backbone_widths, strict=True)):
            strides = [1 if index == 0 else 2] + [1] * (depth - 1)
            blocks = [
                BasicBlock(inputs if i == 0 else width, width, stride, config) for i, stride in enumerate(strides)
            ]
            stages[f"layer{index + 1}"] = nn.Sequential(*blocks)
            inputs = width
        self.stages = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.fc = nn.Linear(inputs, config.backbone_num_features) if config.backbone_feature == "logits" else None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden = F.max_pool2d(
            F.relu(self.bn1(self.conv1(pixels))), kernel_size=3, stride=2, padding=1
        )  # (B, 64, 25, 25)
        for name in self.stages:
            hidden = self.get_submodule(name)(hidden)  # (B, 64, 25, 25) … (B, 512, 4, 4)
        hidden = hidden.mean(dim=(2, 3))
        return hidden if self.fc is None else self.fc(hidden)


def _norm(channels: int, config: MCOENetConfig) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=config.batch_norm_eps, momentum=float(config.batch_norm_momentum))
