"""Finds the dense layers of the authors' network: three single ones, and two mixtures of experts.

Shapes tell all but one thing: which mixture is which. The graph tells that, else names that carry meaning
(MoE_CNN_Features, MoE_Expression), else the sub-model that holds them, else the order of creation; the last two are said
in a note, because they say which layers belong together, and not to what.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from meco_hub.errors import ConversionError

from .units import KerasFile, Unit, groupings, in_creation_order, listing


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer: kernel (in, out), bias (out,), and the unit that it came from."""

    unit: Unit
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape[0], self.kernel.shape[1]


def dense_layers(file: KerasFile, unit: Unit, notes: list[str]) -> list[Dense]:
    """The dense layers that a unit holds: one, or those of a layer that keeps its weights itself, stacked or one by one."""
    if set(unit.tensors) == {"kernel", "bias"}:
        kernel, bias = unit.tensors["kernel"], unit.tensors["bias"]
        if kernel.ndim == 2 and bias.shape == kernel.shape[1:]:
            return [Dense(unit, kernel, bias)]
    complaint = ConversionError(
        f"{file.path}: cannot tell what {listing([unit])} is; expected a convolution (kernel, bias), a dense layer, a "
        "BatchNorm, or a mixture of experts (expert kernels (E, in, out) and biases (E, out), gate (in, E) and (E,)). "
        "Is it this network?"
    )
    names = sorted(unit.tensors, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    by_rank = {rank: [unit.tensors[name] for name in names if unit.tensors[name].ndim == rank] for rank in (1, 2, 3)}
    if sum(map(len, by_rank.values())) != len(names):
        raise complaint
    layers: list[Dense] = []
    if by_rank[3]:
        if len(by_rank[3]) != 1 or len(by_rank[1]) != 1:
            raise complaint
        (stack,), count = by_rank[3], by_rank[1][0].shape[0]
        biases = [value for value in by_rank[2] if value.shape[0] == count]
        if stack.shape.count(count) != 1 or len(biases) != 1:
            raise complaint
        axis = stack.shape.index(count)
        stack = np.moveaxis(stack, axis, 0)
        by_rank[2] = [value for value in by_rank[2] if value is not biases[0]]
        layers = [Dense(unit, stack[index], biases[0][index]) for index in range(count)]
        notes.append(
            f"The stacked expert weights of {unit.name} were read as (input, output) after their expert axis {axis}."
        )
    vectors = list(by_rank[1])
    for kernel in by_rank[2]:
        place = next((i for i, vector in enumerate(vectors) if vector.shape == kernel.shape[1:]), None)
        if place is None:
            raise complaint
        layers.append(Dense(unit, kernel, vectors.pop(place)))
    if vectors:
        raise complaint
    return layers


def place_dense_layers(
    file: KerasFile, denses: list[Dense], flat: int, pooled: int, beside: Unit
) -> tuple[Dense, Dense, Dense, list[Dense], list[Dense]]:
    """Projection, fusion, head, experts, gates: the one assignment whose shapes fit. `beside` is a convolution of CNNFE1."""
    count = (len(denses) - 5) // 2
    solutions = []
    for projection in denses:
        side = math.isqrt(projection.shape[0] // flat)
        if projection.shape[0] != flat * side**2 or side == 0:
            continue
        for fusion in denses:
            if fusion is projection or fusion.shape[0] != pooled:
                continue
            rest = [one for one in denses if one is not projection and one is not fusion]
            widths = (projection.shape[1], fusion.shape[1])
            needed = Counter((width, width) for width in widths for _ in range(count))
            needed += Counter((width, count) for width in widths)
            left = Counter(one.shape for one in rest)
            left.subtract(needed)
            heads = [shape for shape, number in left.items() if number == 1]
            if count and min(left.values()) >= 0 and sum(left.values()) == 1 and heads[0][0] == sum(widths):
                gates = [one for one in rest if one.shape[1] == count and one.shape[0] in widths]
                head = next(one for one in rest if one.shape == heads[0])
                if len(gates) == 2:
                    experts = [one for one in rest if one is not head and one not in gates]
                    solutions.append((projection, fusion, head, experts, gates))
    if len(solutions) > 1:  # at an image size of 96, projection and fusion have one shape
        solutions = [one for one in solutions if one[0].unit.layer == beside.layer]
    if len(solutions) != 1:
        shapes = ", ".join(f"{one.unit.name} {one.shape}" for one in denses)
        raise ConversionError(
            f"{file.path}: {len(solutions)} ways to place the dense layers {shapes or '(none)'}. Expected one: from "
            f"{flat}·n² (CNNFE1) and from {pooled} (fusion), twice E experts and a gate, and an output that reads both "
            "mixtures. Is it this network?"
        )
    return solutions[0]


def tell_mixtures_apart(
    file: KerasFile,
    experts: list[Dense],
    gates: list[Dense],
    widths: tuple[int, int],
    backbone: set[str],
    notes: list[str],
) -> list[tuple[list[Dense], Dense]]:
    """Experts and gate of MoE_CNN_Features, then of MoE_Expression."""
    count = len(experts) // 2
    everything = [*experts, *gates]

    def split_by(key: Callable[[Dense], Hashable]) -> list[tuple[list[Dense], Dense]]:
        groups: dict[Hashable, tuple[list[Dense], list[Dense]]] = {}
        for one in everything:
            groups.setdefault(key(one), ([], []))[one in gates].append(one)
        complete = len(groups) == 2 and all(len(e) == count and len(g) == 1 for e, g in groups.values())
        return [(groups[name][0], groups[name][1][0]) for name in groups] if complete and None not in groups else []

    def by_name(one: Dense) -> bool | None:
        name = one.unit.name.lower()
        return False if "expression" in name else True if "cnn" in name else None

    certain: list[Callable[[Dense], bool | None]] = [
        lambda one: one.shape[0] == widths[0] if widths[0] != widths[1] else None,
        lambda one: not (file.ancestors(one.unit.layer) & backbone) if file.parents else None,
        by_name,
    ]
    for rule in certain:
        pairs = split_by(rule)
        if pairs:
            pairs.sort(key=lambda pair: rule(pair[1]) is True, reverse=True)
            return [(_ordered(e), g) for e, g in pairs]
    for _, key in groupings(file):
        pairs = split_by(lambda one, key=key: key(one.unit))
        if pairs:
            break
    else:
        e, g = _ordered(experts), _ordered(gates)
        pairs = [(e[:count], g[0]), (e[count:], g[1])]
    firsts = in_creation_order([gate.unit for _, gate in pairs])
    pairs.sort(key=lambda pair: firsts.index(pair[1].unit))
    notes.append(
        f"Nothing in the file tells the two mixtures of experts apart; the one made first ({firsts[0].name}) was taken for "
        "MoE_CNN_Features. A file of the whole model (`model.save`), or names with CNN and Expression in them, would tell."
    )
    return [(_ordered(e), g) for e, g in pairs]


def _ordered(layers: Sequence[Dense]) -> list[Dense]:
    """In order of creation. Layers of one unit are in order already."""
    units = in_creation_order(list(dict.fromkeys(one.unit for one in layers)))
    return sorted(layers, key=lambda one: units.index(one.unit))
