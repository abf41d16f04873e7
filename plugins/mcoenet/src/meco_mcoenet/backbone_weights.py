"""Pretrained weights for the backbones: read once, on purpose, before training.

Notable:
- Nothing here runs when a model is built or loaded. After `load_backbone_weights` the weights are the model's own, and its
  checkpoint holds them.
- All backbones start from the same weights, as published, and part in training.
- All or nothing: names and shapes are compared first, and the error lists what does not fit.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from meco_hub.conversion import fit_backbone, read_state_dict
from meco_hub.errors import ConfigurationError, DependencyError

from .backbones import ResNet

IMAGENET = "resnet18.tv_in1k"
"""What timm calls torchvision's IMAGENET1K_V1 weights of ResNet-18, which the published network starts from."""


def load_backbone_weights(
    backbones: Sequence[ResNet], source: str | Path | None = None, pretrained: bool = False
) -> None:
    """Replace the weights of all backbones by the same pretrained ones, or of none.

    Args:
        backbones: what to fill, in place.
        source: a .safetensors, .pth or .pt file with the names of torchvision's or timm's ResNet. Backbones without a classifier
            leave one in the file out.
        pretrained: instead of `source`, let timm **download** torchvision's ImageNet weights (`IMAGENET`).

    Raises:
        ConfigurationError: neither or both of `source` and `pretrained`.
        CheckpointError: the file is missing, damaged, or would run code when read.
        ConversionError: names or shapes do not fit; the message lists them, and nothing was loaded.
        DependencyError: timm is needed and not installed.
    """
    if (source is None) == (not pretrained):
        raise ConfigurationError(f"source={source!r} and pretrained={pretrained}; expected exactly one of them.")
    weights = _download() if source is None else read_state_dict(Path(source))
    fitting = _fit(weights, backbones[0], str(source or IMAGENET))
    for backbone in backbones:
        backbone.load_state_dict(fitting)


def _download() -> dict[str, torch.Tensor]:
    try:
        import timm
    except ImportError as error:
        raise DependencyError(
            "timm downloads the ImageNet weights, and it is not installed. Run `pip install timm`."
        ) from error
    return timm.create_model(IMAGENET, pretrained=True).state_dict()


def _fit(weights: dict[str, torch.Tensor], backbone: ResNet, origin: str) -> dict[str, torch.Tensor]:
    """`weights` complete and without more, or an error that names what does not fit."""
    expected = backbone.state_dict()
    if backbone.fc is None:
        weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    advice = "Check the backbone_… fields of the config: the defaults are ResNet-18's."
    return fit_backbone(weights, expected, origin, advice)
