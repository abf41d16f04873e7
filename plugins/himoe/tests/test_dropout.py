"""Quick dropout: as often and as large as torch's, repeatable, and idle in evaluation."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from meco_himoe.encoders import FastDropout
from meco_hub.nn.checkpointed_layer import CheckpointedLayer


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_scale_and_gradient(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(501, 199, requires_grad=True)  # no multiple of four
    y = FastDropout(p)(x)
    dropped = y == 0
    assert dropped.float().mean().item() == pytest.approx(p, abs=0.01)
    torch.testing.assert_close(y[~dropped], torch.full_like(y[~dropped], 1 / (1 - p)), rtol=1e-4, atol=0)
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    shares = dropped.float().mean(0)
    assert shares.std() < 2 * (p * (1 - p) / 501) ** 0.5, "neighbours that share a draw must not fall together"
    pairs = (dropped[:, :-1] & dropped[:, 1:]).float().mean().item()
    assert pairs == pytest.approx(p * p, abs=0.01)


def test_repeatable_and_idle_in_evaluation() -> None:
    layer, x = FastDropout(0.3), torch.randn(64, 8)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(FastDropout(0.0)(x), x)
    assert not FastDropout(1.0)(x).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert FastDropout(0.5)(torch.ones(10, dtype=dtype)).dtype == dtype


class Layer(CheckpointedLayer):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout, self.calls = nn.Linear(4, 4), FastDropout(0.5), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.dropout(self.linear(x))


def test_a_checkpointed_layer_draws_the_same_again() -> None:
    torch.manual_seed(0)
    layer, x = Layer(), torch.randn(3, 4)
    gradients = []
    for enable in (False, True):
        layer.gradient_checkpointing, layer.calls, layer.linear.weight.grad = enable, 0, None
        layer._gradient_checkpointing_func = lambda function, *args: checkpoint(function, *args, use_reentrant=False)
        torch.manual_seed(5)
        layer(x).square().sum().backward()
        assert layer.calls == 1 + enable
        gradients.append(layer.linear.weight.grad)
    torch.testing.assert_close(*gradients)
