"""What a Keras file consists of: units that own weights, their names and order, and the graph between layers.

Keras numbers layers as a program makes them (conv2d, conv2d_1, …), and lists those of a functional model by depth in the
graph; so the order of creation is read off the numbers wherever names differ in numbers only.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

_NORM = frozenset({"gamma", "beta", "moving_mean", "moving_variance"})
_KIND_WORDS = re.compile(r"^(.*?)(conv|bn|batch|norm|expert|gate|gating|router)")


@dataclass(eq=False)
class Unit:
    """What owns weights.

    Attributes:
        path: names from the outside in; the first is the layer of the saved model ("MoE_CNN_Features", "dense_3").
        position: place in the file's own order.
        tensors: the weights by the last part of their names ("kernel", "bias"), float32, in Keras's layout.
    """

    path: tuple[str, ...]
    position: int
    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "/".join(self.path)

    @property
    def layer(self) -> str:
        return self.path[0]

    @property
    def is_norm(self) -> bool:
        return set(self.tensors) == _NORM

    @property
    def is_conv(self) -> bool:
        return set(self.tensors) <= {"kernel", "bias"} and "kernel" in self.tensors and self.tensors["kernel"].ndim == 4

    @property
    def shapes(self) -> str:
        return ", ".join(f"{kind} {value.shape}" for kind, value in self.tensors.items())

    @property
    def serial(self) -> tuple[str, tuple[int, ...]]:
        """The name without its numbers, and the numbers. Keras leaves the number of the first of a kind out: it is 0."""
        counted = [part if re.search(r"_\d+$", part) else f"{part}_0" for part in self.path]
        whole = "/".join(counted)
        return re.sub(r"\d+", "#", whole), tuple(int(number) for number in re.findall(r"\d+", whole))


def in_creation_order(units: Sequence[Unit]) -> list[Unit]:
    """Units in the order in which the program made them.

    Keras numbers layers as they are made, so among names that differ in numbers only the numbers decide; among other names
    the order of the file does. The order of the file alone would mislead: a functional model lists by depth in the graph.
    """
    serials = [unit.serial for unit in units]
    if len({stem for stem, _ in serials}) == 1 and len({numbers for _, numbers in serials}) == len(units):
        return sorted(units, key=lambda unit: unit.serial[1])
    return sorted(units, key=lambda unit: unit.position)


@dataclass(frozen=True)
class KerasFile:
    """The contents of a file.

    Attributes:
        path: the file.
        units: all owners of weights, in the file's order.
        keras_version: as the file states it, or "unknown".
        parents: layer → layers whose output it reads; empty when the file holds weights only.
        settings: values found in the stored architecture: "epsilon" of BatchNorm, "top_k" of layers that have one, and
            "input_shape" of pictures.
    """

    path: Path
    units: list[Unit]
    keras_version: str
    parents: dict[str, set[str]]
    settings: dict[str, set[Any]]

    @cached_property
    def weighted(self) -> set[str]:
        """Names of the layers that own weights."""
        return {unit.layer for unit in self.units}

    def ancestors(self, layer: str) -> set[str]:
        """All layers that a layer's input was computed by."""
        found: set[str] = set()
        waiting = [layer]
        while waiting:
            for parent in self.parents.get(waiting.pop(), set()) - found:
                found.add(parent)
                waiting.append(parent)
        return found

    def origin(self, layer: str) -> str | None:
        """The first layer with weights on the way to this one; None where ways join, or the architecture is not stored."""
        if not self.parents:
            return None
        while True:
            sources = self._sources(layer)
            if not sources:
                return layer
            if len(sources) > 1:
                return None
            (layer,) = sources

    def _sources(self, layer: str) -> set[str]:
        sources: set[str] = set()
        waiting, seen = list(self.parents.get(layer, ())), set()
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            if parent in self.weighted:
                sources.add(parent)
            else:
                waiting += self.parents.get(parent, ())
        return sources


def listing(units: Sequence[Unit], most: int = 8) -> str:
    shown = "; ".join(f"{unit.name} ({unit.shapes})" for unit in units[:most])
    return shown + (f"; … {len(units) - most} more" if len(units) > most else "") or "none"


def groupings(file: KerasFile) -> Iterator[tuple[str, Callable[[Unit], Hashable]]]:
    """Ways of telling which units belong together, surest first."""
    yield "graph", lambda unit: file.origin(unit.layer)
    for depth in (1, 2, 3, 4):
        yield "sub-model", lambda unit, depth=depth: unit.path[:depth]

    def prefix(unit: Unit) -> Hashable:
        found = _KIND_WORDS.match(unit.path[-1].lower())
        return found[1] if found else unit.name

    yield "name", prefix
