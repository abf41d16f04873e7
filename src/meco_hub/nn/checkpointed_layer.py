"""A layer whose activations can be thrown away and computed again in the backward pass.

transformers has such a base class, but importing it imports every Auto class, and with them every plugin: a plugin's model file
that did so would find itself half imported. This one follows the same protocol, so `gradient_checkpointing_enable` works.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn


class CheckpointedLayer(nn.Module):
    """Base class of layers that `PreTrainedModel.gradient_checkpointing_enable` reaches. Call them with positional arguments."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Any = None  # set by transformers together with the flag

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls):
            cls.forward = _computed_again(cls.forward)


def _computed_again(forward: Callable[..., Any]) -> Callable[..., Any]:
    # Around `forward` rather than `__call__`: hooks of whoever shards or watches the layer must run once, not again in the
    # backward pass.
    @wraps(forward)
    def checkpointed(self: CheckpointedLayer, *args: Any) -> Any:
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(forward.__get__(self), *args)
        return forward(self, *args)

    return checkpointed
