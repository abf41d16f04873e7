"""Layers that are computed again in the backward pass; that gradients and draws stay the same, `test_dropout.py` shows."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from meco_hub.nn.checkpointed_layer import CheckpointedLayer


class Layer(CheckpointedLayer):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(2, 2), 0

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        self.calls += 1
        return self.linear(x) * scale


class Derived(Layer):
    """Takes `forward` over as it is."""


def test_hooks_run_once_although_the_layer_runs_twice() -> None:
    for kind in (Layer, Derived):
        layer, hooks = kind(), []
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = lambda function, *args: checkpoint(function, *args, use_reentrant=False)
        layer.register_forward_pre_hook(lambda *_, seen=hooks: seen.append("before"))
        layer.register_forward_hook(lambda *_, seen=hooks: seen.append("after"))
        layer(torch.ones(1, 2), 2.0).sum().backward()
        assert layer.calls == 2
        assert hooks == ["before", "after"]


def test_nothing_is_computed_again_in_evaluation() -> None:
    layer = Layer().eval()
    layer.gradient_checkpointing = True
    layer(torch.ones(1, 2), 2.0).sum().backward()
    assert layer.calls == 1
