"""Finds the parts of the authors' network among the weights of a Keras file, whatever the layers are called.

What is certain decides first: the bottlenecks of keras-vggface bear fixed names; shapes tell dense layers apart; the stored
architecture, where there is one, tells what feeds what. Where two parts are equal in shape (the last convolutions of both
branches, the two mixtures of experts), they are told apart, in this order, by the graph, by names that carry meaning
(MoE_CNN_Features, MoE_Expression), by the sub-model that holds them, and by the order of creation. Every choice that rests
on less than the first three is written down in `Network.notes`. Every weight is used exactly once; what stays over, or
could go to two places, is an error that names it.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from meco_hub.errors import ConversionError

from .experts import Dense, dense_layers, place_dense_layers, tell_mixtures_apart
from .hdf5 import RESAVE
from .units import KerasFile, Unit, groupings, in_creation_order, listing

# Some ports of keras-vggface write an underscore for the slash.
_BOTTLENECK = re.compile(r"(?:^|/)conv(\d+)_(\d+)_(1x1_reduce|3x3|1x1_increase|1x1_proj)([/_]bn)?$")
_STEM = re.compile(r"(?:^|/)conv1[/_]7x7_s2([/_]bn)?$")


@dataclass
class Network:
    """The parts of the network, tensors in Keras's layout.

    Attributes:
        large, small: (convolution, norm) of every stage of the branches CNNFE1 and CNNFE2.
        bottlenecks: name of keras-vggface without "/bn" ("conv2_1_3x3") → (convolution, norm); the stem is "conv1".
        projection, fusion, head: the three dense layers outside the mixtures.
        mixtures: experts in their order, and gate: of MoE_CNN_Features, of MoE_Expression.
        notes: what was assumed, in sentences.
    """

    large: list[tuple[Unit, Unit]]
    small: list[tuple[Unit, Unit]]
    bottlenecks: dict[str, tuple[Unit, Unit]]
    projection: Dense
    fusion: Dense
    head: Dense
    mixtures: list[tuple[list[Dense], Dense]]
    notes: list[str] = field(default_factory=list)


def take_bottlenecks(file: KerasFile) -> dict[str, tuple[Unit, Unit]]:
    """The ResNet-50 of keras-vggface, by its fixed layer names.

    Raises:
        ConversionError: it is not there, or a layer of it lacks its norm or does not fit the others.
    """
    convs: dict[str, Unit] = {}
    norms: dict[str, Unit] = {}
    for unit in file.units:
        found = _STEM.search(unit.name) or _BOTTLENECK.search(unit.name)
        if not found:
            continue
        *numbers, norm_suffix = found.groups()
        name = f"conv{'_'.join(numbers) or 1}"
        place = norms if norm_suffix else convs
        if name in place:
            raise ConversionError(
                f"{file.path} holds the layer {name} twice: {place[name].name} and {unit.name}; expected one ResNet-50. "
                f"Remove the other model from the file: {RESAVE}."
            )
        place[name] = unit
    if "conv1" not in convs or len(convs) < 4:
        raise ConversionError(
            f"{file.path} holds no keras-vggface ResNet-50: expected layers named conv1/7x7_s2, conv2_1_1x1_reduce, …, and "
            f"saw {listing(file.units, 5)}. Is it the weights of another network, or with renamed layers?"
        )
    for name in convs.keys() | norms.keys():
        conv, norm = convs.get(name), norms.get(name)
        if conv is None or norm is None or not conv.is_conv or not norm.is_norm or "bias" in conv.tensors:
            seen = listing([unit for unit in (conv, norm) if unit is not None])
            raise ConversionError(
                f"{file.path}: the ResNet layer {name} is {seen}; expected a convolution without bias, and a BatchNorm "
                "named …/bn with gamma, beta, moving_mean and moving_variance. Is it another variant (SENet-50)?"
            )
        if norm.tensors["gamma"].shape[0] != conv.tensors["kernel"].shape[3]:
            raise ConversionError(f"{file.path}: {listing([conv, norm])} do not fit each other. The file is damaged.")
    depths: dict[int, int] = {}
    for found in filter(None, map(_BOTTLENECK.search, convs)):
        depths[int(found[1])] = max(depths.get(int(found[1]), 0), int(found[2]))
    wanted = {"conv1"}
    for stage in range(2, max(depths) + 1):
        for block in range(1, depths.get(stage, 1) + 1):
            parts = ("1x1_reduce", "3x3", "1x1_increase", *(("1x1_proj",) if block == 1 else ()))
            wanted |= {f"conv{stage}_{block}_{part}" for part in parts}
    if wanted != convs.keys():
        raise ConversionError(
            f"{file.path}: the ResNet lacks {sorted(wanted - convs.keys()) or 'no layer'} and has "
            f"{sorted(convs.keys() - wanted) or 'no layer'} beside the expected ones. The file is damaged, or holds a variant."
        )
    return {name: (convs[name], norms[name]) for name in convs}


def _in_two(units: Sequence[Unit], key: Callable[[Unit], Hashable]) -> list[list[Unit]]:
    groups: dict[Hashable, list[Unit]] = {}
    for unit in units:
        groups.setdefault(key(unit), []).append(unit)
    return list(groups.values()) if len(groups) == 2 and None not in groups else []


def _links(convs: Sequence[Unit], channels: int) -> bool:
    """Whether each convolution reads as many channels as the one before gives, the first as many as a picture has."""
    widths = [channels, *(conv.tensors["kernel"].shape[3] for conv in convs)]
    return bool(convs) and all(
        conv.tensors["kernel"].shape[2] == width for conv, width in zip(convs, widths, strict=False)
    )


def _chain(convs: Sequence[Unit], channels: int) -> list[Unit]:
    """Convolutions from the picture on, in the order of creation if that links them, else by width; [] if nothing does."""
    ordered = in_creation_order(convs)
    if _links(ordered, channels):
        return ordered
    chain: list[Unit] = []
    while ordered:
        following = [conv for conv in ordered if conv.tensors["kernel"].shape[2] == channels]
        if len(following) != 1:
            return []
        chain += following
        ordered.remove(following[0])
        channels = following[0].tensors["kernel"].shape[3]
    return chain


def _with_norms(chain: Sequence[Unit], norms: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    """Pair every convolution with the norm behind it: same width, and, among equals, the same place in creation."""
    waiting, pairs = in_creation_order(norms), []
    for conv in chain:
        fitting = [norm for norm in waiting if norm.tensors["gamma"].shape[0] == conv.tensors["kernel"].shape[3]]
        if not fitting:
            return []
        pairs.append((conv, fitting[0]))
        waiting.remove(fitting[0])
    return [] if waiting else pairs


def _branches(file: KerasFile, units: Sequence[Unit], channels: int) -> list[list[tuple[Unit, Unit]]]:
    convs = [unit for unit in units if unit.is_conv]
    norms = [unit for unit in units if unit.is_norm]
    found: list[list[tuple[Unit, Unit]]] = []
    for _, key in groupings(file):
        groups = _in_two([*convs, *norms], key)
        parts = [([u for u in group if u.is_conv], [u for u in group if u.is_norm]) for group in groups]
        found = [_with_norms(_chain(conv, channels), norm) for conv, norm in parts]
        if found and all(found):
            break
    else:
        # All in one place: made one after the other, so that there is one cut between two chains.
        ordered, partners = in_creation_order(convs), in_creation_order(norms)
        cuts = [i for i in range(1, len(ordered)) if _links(ordered[:i], channels) and _links(ordered[i:], channels)]
        widths = [[u.tensors["kernel"].shape[3] for u in ordered], [u.tensors["gamma"].shape[0] for u in partners]]
        if len(cuts) == 1 and widths[0] == widths[1]:
            pairs = list(zip(ordered, partners, strict=True))
            found = [pairs[: cuts[0]], pairs[cuts[0] :]]
    if len(found) != 2 or not all(found):
        raise ConversionError(
            f"{file.path}: expected two chains of convolutions with bias from {channels} channels on, each followed by a "
            f"BatchNorm (CNNFE1, CNNFE2), and could not make them of {listing([*convs, *norms], 30)}. "
            'If it is this network, save the whole model (`model.save("model.h5")`), whose graph tells what follows what.'
        )
    # The branch with the larger first kernel is CNNFE1: that is what it is for.
    found.sort(key=lambda pairs: pairs[0][0].tensors["kernel"].shape[0], reverse=True)
    if found[0][0][0].tensors["kernel"].shape[0] == found[1][0][0].tensors["kernel"].shape[0]:
        raise ConversionError(
            f"{file.path}: both branches begin with a kernel of one size ({listing([found[0][0][0], found[1][0][0]])}); "
            "expected a larger one in CNNFE1 (75) than in CNNFE2 (15). Is it this network?"
        )
    return found


def find_network(file: KerasFile) -> Network:
    """Place every weight of a file.

    Raises:
        ConversionError: weights are missing, left over, or could go to two places.
    """
    notes: list[str] = []
    bottlenecks = take_bottlenecks(file)
    taken = {unit for pair in bottlenecks.values() for unit in pair}
    rest = [unit for unit in file.units if unit not in taken]
    staged = [unit for unit in rest if unit.is_norm or (unit.is_conv and "bias" in unit.tensors)]
    channels = bottlenecks["conv1"][0].tensors["kernel"].shape[2]
    large, small = _branches(file, staged, channels)
    denses = [one for unit in rest if unit not in staged for one in dense_layers(file, unit, notes)]
    last = max((name for name in bottlenecks if name.endswith("_1x1_increase")), key=_stage_and_block)
    pooled = small[-1][0].tensors["kernel"].shape[3] + bottlenecks[last][0].tensors["kernel"].shape[3]
    flat = large[-1][0].tensors["kernel"].shape[3]
    projection, fusion, head, experts, gates = place_dense_layers(file, denses, flat, pooled, large[0][0])
    backbone = {unit.layer for pair in bottlenecks.values() for unit in pair}
    widths = (projection.shape[1], fusion.shape[1])
    mixtures = tell_mixtures_apart(file, experts, gates, widths, backbone, notes)
    return Network(large, small, bottlenecks, projection, fusion, head, mixtures, notes)


def _stage_and_block(name: str) -> tuple[int, int]:
    found = _BOTTLENECK.search(name)
    return (int(found[1]), int(found[2])) if found else (0, 0)
