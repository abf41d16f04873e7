"""torch.compile by flag.

Models are compiled in place, so that weights keep their names, checkpoints fit compiled and plain runs alike, and validation runs
the code that training runs. Inductor draws dropout from a stream of its own, so a compiled run with dropout is as random as a plain
one, but not the same; without dropout they differ by rounding.

This file knows how a module is compiled; it knows no architecture.
"""

import difflib
from collections.abc import Iterable

import torch
from torch import nn

from ..errors import ConfigurationError


def compile_in_place(models: Iterable[nn.Module], backend: str) -> None:
    """Let `model(…)` run compiled from its first call on.

    Raises:
        ConfigurationError: torch has no such backend.
    """
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        near = difflib.get_close_matches(backend, known, n=1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"Recipe key 'torch_compile_backend' is {backend!r}; expected one of {', '.join(known)}.{offer}"
        )
    for model in models:
        model.compile(backend=backend)
