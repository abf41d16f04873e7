"""Batches as processors give them: mappings of tensors, in which a mapping of streams may stand for a tensor.

This file knows how such batches are cut, walked and changed; it knows no model.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

__all__ = ["CLOCKS", "Batch", "changed", "leaves", "reverse", "rows", "values_in"]

Batch = dict[str, Any]

CLOCKS = ("timestamps", "offsets")
"""Inputs that are seconds; the pipeline leaves them in single precision."""


def leaves(batch: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Every tensor, with the keys that lead to it."""
    for key, value in batch.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def values_in(batch: Mapping[str, Any]) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    """The tensors that hold what was measured: floating point, and no clocks."""
    return [(path, one) for path, one in leaves(batch) if one.is_floating_point() and path[0] not in CLOCKS]


def changed(
    batch: Mapping[str, Any],
    change: Callable[[tuple[str, ...], torch.Tensor], torch.Tensor],
    path: tuple[str, ...] = (),
) -> Batch:
    """A copy in which every tensor is `change(path, tensor)`."""
    return {
        key: changed(value, change, (*path, key)) if isinstance(value, Mapping) else change((*path, key), value)
        for key, value in batch.items()
    }


def rows(batch: Mapping[str, Any], which: slice) -> Batch:
    """Some of the batch's items."""
    return changed(batch, lambda _, one: one[which])


def reverse(batch: Mapping[str, Any]) -> Batch:
    """The same, with the keys of every mapping the other way round."""
    return {
        key: reverse(value) if isinstance(value, Mapping) else value for key, value in reversed(list(batch.items()))
    }
