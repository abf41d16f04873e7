"""The names and shapes of the authors' state dict, and how its tensors become ours.

Notable:
- The authors keep the scan's parameters as one tensor per stream and direction; here they are stacked.
- Two directions share one bias of the step sizes there; the second one in the file is never read.
- Errors are in the authors' names, so that they can be found in the file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from meco_hub.conversion import State, list_misfits
from meco_hub.errors import ConversionError
from meco_hub.weight_files import require_finite_weights

from .configuration_mcoenet import MCOENetConfig

RELEASED_ENTRIES = 637
"""Entries of a state dict of the released code, BatchNorm's buffers and the parts that are never used included."""

_SCAN = "MCO.cross_matrix_mamba."
_OWN_SCAN = "mcoenet.joint_scan."
_STREAMS = ("rgb", "event")
DEAD = re.compile(
    r"^output\.|^(?:MCO\.(?:cross_matrix_mamba\.)?)?(?:norm_\w+|in_proj_extra|fusion_gate)(?:\.|$)"
    r"|^MCO\.cross_matrix_mamba\.dt_proj_b_(?:rgb|event)\.bias$"
)
"""Names of what the authors' code makes and never reads."""

_RELEASED_NAMES = (
    (r"^mcoenet\.frame_backbones\.(\d)\.", r"res0\1.resnet."),
    (r"^mcoenet\.event_backbones\.(\d)\.", r"res1\1.resnet."),
    (r"^mcoenet\.cross_attention\.frame_proj\.", "MCIB.proj_rgb."),
    (r"^mcoenet\.cross_attention\.event_proj\.", "MCIB.proj_event."),
    (r"^mcoenet\.cross_attention\.attention\.", "MCIB.attn."),
    (r"^mcoenet\.fusion\.", "fusion_proj.0."),
    (r"^moe\.router\.mixer\.attention\.", "moe.router.self_attn."),
    (r"^moe\.router\.mixer\.norm\.", "moe.router.norm."),
    (r"^moe\.router\.up\.", "moe.router.mlp.0."),
    (r"^moe\.router\.down\.", "moe.router.mlp.2."),
    (r"^(moe\.experts\.)(\d+\.)", r"\1expert_\2"),
    (r"\.conv1\.(weight|bias)$", r".0.\1"),
    (r"\.conv2\.(weight|bias)$", r".2.\1"),
    (r"\.mixer\.attention\.", ".attn."),
    (r"\.mixer\.norm\.", ".norm."),
    (r"\.up\.(\d+)\.", r".layers.\1.0."),
    (r"\.down\.(\d+)\.", r".layers.\1.2."),
    (r"\.residual_scale$", ".res_coef"),
)
"""Ours → the authors', applied in turn to names outside the scan; a classifier's depends on the kind of expert."""

_SCAN_NAMES: dict[str, tuple[str, ...]] = {
    "in_proj": ("in_proj_{}",),
    "conv_weight": ("conv1d_{}", "conv1d_b_{}"),
    "conv_bias": ("conv1d_{}.bias", "conv1d_b_{}.bias"),
    "x_proj": ("x_proj_{}", "x_proj_b_{}"),
    "joint_B": ("x_proj_peep", "x_proj_b_peep"),
    "joint_C": ("x_proj_Cpeep", "x_proj_b_Cpeep"),
    "dt_weight": ("dt_proj_{}", "dt_proj_b_{}"),
    "dt_bias": ("dt_proj_{}.bias",),
    "A_log": ("A_log_{}", "A_b_log_{}"),
    "D": ("D_{}", "D_b_{}"),
    "out_proj": ("out_proj_{}",),
}
"""The scan's parameters here → what they are stacked from: for each stream (unless shared by both) the directions in turn."""

_OWN_DIMENSIONS = {name: 1 if name in ("conv_bias", "dt_bias", "D") else 2 for name in _SCAN_NAMES}
"""Dimensions of one of those that are stacked."""


def config_fields(source: Path, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The config's sizes, by the shapes of single tensors; whether all others fit is compared later."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        value = state.get(name, state.get(f"{name}.weight"))
        if value is None:
            raise ConversionError(
                f"{source} holds no {name}; expected a state dict of the authors' MCO-E Net, whose names begin with res00, MCO, "
                f"MCIB, fusion_proj and moe. It holds {', '.join(list(state)[:4])}, …"
            )
        if value.ndim != dimensions or 0 in value.shape:
            raise ConversionError(f"{source}: {name} has shape {tuple(value.shape)}; expected {dimensions} dimensions.")
        return tuple(value.shape)

    def count(pattern: str, first: int = 0) -> int:
        """How many different numbers names of this pattern bear; they must run from `first` without a gap."""
        found = sorted({int(match[1]) for name in state if (match := re.match(pattern, name))})
        if found != list(range(first, first + len(found))):
            raise ConversionError(
                f"{source}: names like {pattern!r} are numbered {found[:8]}; expected {first}, {first + 1}, … without gaps. Is the "
                "file whole?"
            )
        return len(found)

    stages = count(r"res00\.resnet\.layer(\d+)\.", first=1)
    classes, _ = shape("res00.resnet.fc", 2)
    wide, d_model = shape(f"{_SCAN}in_proj_rgb", 2)
    _, d_state = shape(f"{_SCAN}A_log_rgb", 2)
    _, rank = shape(f"{_SCAN}dt_proj_rgb", 2)
    fusion_dim, _ = shape("fusion_proj.0", 2)
    num_experts = count(r"moe\.experts\.expert_(\d+)\.")
    router_hidden, _ = shape("moe.router.mlp.0", 2)
    focal_hidden, _, focal_kernel = shape("moe.experts.expert_0.0", 3)
    labels = shape("moe.experts.expert_0.2", 3)[0]
    fields: dict[str, Any] = {
        "num_channels": shape("res00.resnet.conv1", 4)[1],
        "backbone_depths": [count(rf"res00\.resnet\.layer{stage}\.(\d+)\.") for stage in range(1, stages + 1)],
        "backbone_widths": [shape(f"res00.resnet.layer{s}.0.conv1", 4)[0] for s in range(1, stages + 1)],
        "backbone_num_features": classes,
        "d_model": d_model,
        "d_state": d_state,
        "d_conv": shape(f"{_SCAN}conv1d_rgb", 3)[2],
        "expand": max(1, wide // (2 * d_model)),
        "dt_rank": rank,
        "fusion_dim": fusion_dim,
        "num_experts": num_experts,
        "top_k": min(2, num_experts),
        "router_hidden": router_hidden,
        "focal_hidden": focal_hidden,
        "focal_kernel": focal_kernel,
        "num_labels": labels,
    }
    deep = "moe.experts.expert_2."
    if num_experts > 2:
        fields["deep_layers"] = count(rf"{re.escape(deep)}layers\.(\d+)\.")
        fields["deep_mult"] = max(1, shape(f"{deep}layers.0.0", 2)[0] // fusion_dim)
    # With one token the number of heads changes nothing, but it must divide the width.
    for name, heads in (("router_num_heads", 4), ("attention_expert_heads", 2)):
        fields[name] = heads if fusion_dim % heads == 0 else 1
    return fields


def translate(
    source: Path, released: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], config: MCOENetConfig
) -> State:
    """The authors' tensors under our names, in float32; those of the scan stacked. Errors are in the authors' names."""
    state: State = {}
    used: set[str] = set()
    missing: list[str] = []
    shapes: list[str] = []
    for ours, like in expected.items():
        names = _released_names(ours, config)
        if ours.endswith(".num_batches_tracked") and names[0] not in released:
            # files of torch before 0.4.1 and files that were made smaller lack it; nothing reads it while there is a momentum
            state[ours] = torch.zeros_like(like, device="cpu")
            continue
        found = [next((key for key in (name, f"{name}.weight") if key in released), None) for name in names]
        missing += [name for name, key in zip(names, found, strict=True) if key is None]
        keys = [key for key in found if key is not None]
        values = [released[key] for key in keys]
        used |= set(keys)
        stacked = ours.startswith(_OWN_SCAN)
        one = like.shape[like.ndim - _OWN_DIMENSIONS[ours.removeprefix(_OWN_SCAN)] :] if stacked else like.shape
        for key, value in zip(keys, values, strict=True):
            loose = stacked or ours.endswith("residual_scale")  # there, dimensions of size one are a matter of taste
            if (_without_ones(value.shape) != _without_ones(one)) if loose else (value.shape != one):
                shapes.append(f"{key} {tuple(value.shape)} instead of {tuple(one)}")
        if len(values) == len(names) and not shapes:
            whole = torch.stack([value.reshape(one) for value in values]) if stacked else values[0]
            # always a copy: tensors of a file may share memory, and parameters must not
            wide = whole.to(torch.float32 if whole.is_floating_point() else whole.dtype, copy=True)
            state[ours] = wide.reshape(like.shape).contiguous()
    unexpected = [name for name in released if name not in used]
    if misfits := list_misfits(missing, unexpected, shapes, 6):
        raise ConversionError(
            f"{source} does not fit the network that its sizes describe: {misfits}. Expected the authors' MCO-E Net, undamaged: "
            f"{RELEASED_ENTRIES} entries in the published size."
        )
    require_finite_weights(released.items(), str(source), ConversionError)
    integral = [
        name for name, value in state.items() if value.is_floating_point() != expected[name].is_floating_point()
    ]
    if integral:
        raise ConversionError(
            f"{source} holds whole numbers in {', '.join(integral[:4])}; expected weights. Is the file undamaged?"
        )
    return state


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _released_names(ours: str, config: MCOENetConfig) -> list[str]:
    if ours.startswith(_OWN_SCAN):
        patterns = _SCAN_NAMES[ours.removeprefix(_OWN_SCAN)]
        streams = _STREAMS if "{}" in patterns[0] else ("",)
        return [_SCAN + pattern.format(stream) for stream in streams for pattern in patterns]
    name = ours
    for own, theirs in _RELEASED_NAMES:
        if not name.startswith("res"):  # a backbone's own names are the authors' already
            name = re.sub(own, theirs, name)
    if match := re.match(r"moe\.experts\.expert_(\d+)\.classifier\.", name):
        final = "final_fc" if config.expert_types[int(match[1])] == "deep" else "fc"
        name = name.replace(".classifier.", f".{final}.")
    return [name]
