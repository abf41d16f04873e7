"""Makes a config and a state dict of ours from the parts of the authors' network.

Notable:
- Keras keeps convolution kernels as (row, column, in, out) and dense ones as (in, out); torch as (out, in, row, column) and
  (out, in).
- Keras flattens CNNFE1's last feature map as (row, column, channel), torch as (channel, row, column): the dense layer behind
  it is reordered.
"""

import math
from typing import Any

import numpy as np
import torch

from meco_hub.errors import ConversionError

from ..configuration_expressnet_moe import ExpressNetMoEConfig
from .experts import Dense
from .mapping import Network
from .units import KerasFile, Unit

_PARTS = {"1x1_reduce": "reduce", "3x3": "spatial", "1x1_increase": "expand", "1x1_proj": "shortcut"}


def config_fields(file: KerasFile, network: Network, image_size: int | None, notes: list[str]) -> dict[str, Any]:
    """Fields of the config that the file decides; `image_size` is the caller's knowledge. What was assumed goes to `notes`.

    Raises:
        ConversionError: the file contradicts itself, or states what the config cannot express.
    """

    def kernel(unit: Unit) -> tuple[int, ...]:
        return unit.tensors["kernel"].shape  # (rows, columns, in, out)

    for conv, _ in [*network.large, *network.small]:
        if kernel(conv)[0] != kernel(conv)[1]:
            raise ConversionError(f"{file.path}: {conv.name} {kernel(conv)} is not square; expected a square kernel.")
    firsts = sorted(name for name in network.bottlenecks if name.endswith("_1_1x1_reduce"))
    widths = [kernel(network.bottlenecks[name][0])[3] for name in firsts]
    stages = [name.split("_")[0] for name in firsts]  # conv2, conv3, conv4, conv5
    depths = [
        sum(name.startswith(f"{s}_") and name.endswith("_1x1_reduce") for name in network.bottlenecks) for s in stages
    ]
    expand = kernel(network.bottlenecks[f"{stages[0]}_1_1x1_increase"][0])[3]

    flat, halvings = kernel(network.large[-1][0])[3], len(network.large) - 1
    side = math.isqrt(network.projection.shape[0] // flat)
    stated = {shape[:2] for shape in file.settings["input_shape"]}
    size = image_size or (next(iter(stated))[0] if len(stated) == 1 else side * 2**halvings)
    if size // 2**halvings != side:
        raise ConversionError(
            f"{file.path}: the picture is said to be {size} pixels wide, but CNNFE1's dense layer reads {side}×{side} maps, "
            f"which {side * 2**halvings} to {(side + 1) * 2**halvings - 1} pixels give. Correct image_size, if it was given."
        )
    if not (image_size or stated) and size != ExpressNetMoEConfig.image_size:
        notes.append(
            f"Pictures were taken to be {size}×{size}; up to {size + 2**halvings - 1} would fit as well. If they were "
            "larger, convert again with image_size."
        )
    for setting in ("epsilon", "top_k"):
        if len(file.settings[setting]) > 1:
            raise ConversionError(
                f"{file.path}: its layers state different values of {setting}: {sorted(file.settings[setting])}; expected "
                "one for all. This cannot be expressed; convert by hand."
            )
    return {
        "image_size": size,
        "num_channels": kernel(network.large[0][0])[2],
        "fe1_channels": [kernel(conv)[3] for conv, _ in network.large],
        "fe1_kernel_sizes": [kernel(conv)[0] for conv, _ in network.large],
        "fe1_hidden_size": network.projection.shape[1],
        "fe2_channels": [kernel(conv)[3] for conv, _ in network.small],
        "fe2_kernel_sizes": [kernel(conv)[0] for conv, _ in network.small],
        "batch_norm_eps": next(iter(file.settings["epsilon"]), 1e-3),
        "backbone_depths": depths,
        "backbone_widths": widths,
        "backbone_expansion": expand // widths[0],
        "fusion_hidden_size": network.fusion.shape[1],
        "num_experts": len(network.mixtures[0][0]),
        "top_k": next(iter(file.settings["top_k"]), 2),
    }


def _tensor(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))


def _conv_and_norm(conv: Unit, norm: Unit, conv_name: str, norm_name: str) -> dict[str, torch.Tensor]:
    state = {f"{conv_name}.weight": _tensor(conv.tensors["kernel"].transpose(3, 2, 0, 1))}  # HWIO → OIHW
    if "bias" in conv.tensors:
        state[f"{conv_name}.bias"] = _tensor(conv.tensors["bias"])
    for ours, theirs in (
        ("weight", "gamma"),
        ("bias", "beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ):
        state[f"{norm_name}.{ours}"] = _tensor(norm.tensors[theirs])
    return state


def _linear(layer: Dense, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": _tensor(layer.kernel.T), f"{name}.bias": _tensor(layer.bias)}


def backbone_state(bottlenecks: dict[str, tuple[Unit, Unit]]) -> dict[str, torch.Tensor]:
    """The ResNet under the names of our `VGGFaceResNet`."""
    state: dict[str, torch.Tensor] = {}
    for name, (conv, norm) in bottlenecks.items():
        if name == "conv1":
            state |= _conv_and_norm(conv, norm, "stem.conv", "stem.norm")
            continue
        stage, block, part = name.removeprefix("conv").split("_", 2)
        place = f"stages.{int(stage) - 2}.blocks.{int(block) - 1}.{_PARTS[part]}"
        state |= _conv_and_norm(conv, norm, place, f"{place}_norm")
    return state


def state_dict(network: Network) -> dict[str, torch.Tensor]:
    """All weights under the names of our `ExpressNetMoEForEmotionRecognition`."""
    base: dict[str, torch.Tensor] = {}
    for branch, stages in (("large_kernel_branch", network.large), ("small_kernel_branch", network.small)):
        for index, (conv, norm) in enumerate(stages):
            place = f"{branch}.stages.{index}"
            base |= _conv_and_norm(conv, norm, f"{place}.conv", f"{place}.norm")
    base |= {f"backbone.{name}": value for name, value in backbone_state(network.bottlenecks).items()}
    channels = network.large[-1][0].tensors["kernel"].shape[3]
    side = math.isqrt(network.projection.shape[0] // channels)
    kernel = network.projection.kernel.reshape(side, side, channels, -1).transpose(2, 0, 1, 3)  # (H,W,C) → (C,H,W)
    projection = Dense(network.projection.unit, kernel.reshape(network.projection.shape), network.projection.bias)
    base |= _linear(projection, "large_kernel_branch.projection")
    base |= _linear(network.fusion, "fusion")
    for name, (experts, gate) in zip(("large_kernel_experts", "fusion_experts"), network.mixtures, strict=True):
        base |= _linear(gate, f"{name}.router")
        base[f"{name}.weight"] = _tensor(np.stack([expert.kernel.T for expert in experts]))  # (E, out, in)
        base[f"{name}.bias"] = _tensor(np.stack([expert.bias for expert in experts]))
    return {f"expressnet.{name}": value for name, value in base.items()} | _linear(network.head, "classifier")
