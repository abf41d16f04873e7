"""Banks of experts and stacks of layers: equal to one member at a time, whatever is computed at once."""

import pytest
import torch
from torch.nn import functional as F

from meco_himoe import encoders as soft_experts
from meco_himoe.encoders import SoftExperts, StackedLinear


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def one_expert(bank: SoftExperts, k: int, x: torch.Tensor) -> torch.Tensor:
    hidden = F.gelu(x @ bank.up_weight[k].T + bank.up_bias[k])
    return hidden @ bank.down_weight[k] + bank.down_bias[k]


def test_a_mixture_is_the_weighted_sum_of_its_experts() -> None:
    bank = SoftExperts(num_experts=3, width=4, hidden=6)
    x, gates = torch.randn(2, 5, 4), torch.rand(2, 5, 3)
    expected = sum(gates[..., k, None] * one_expert(bank, k, x) for k in range(3))
    torch.testing.assert_close(bank(x, gates), expected)


def test_heads_have_gates_of_their_own_and_experts_offsets() -> None:
    bank = SoftExperts(num_experts=3, width=4, hidden=6)
    x, gates, offsets = torch.randn(5, 4), torch.randn(5, 2, 3), torch.randn(3, 4)
    expected = torch.zeros(5, 4)
    for k in range(3):
        answer = one_expert(bank, k, x) + offsets[k]
        expected += torch.cat([gates[:, :1, k] * answer[:, :2], gates[:, 1:, k] * answer[:, 2:]], dim=-1)
    torch.testing.assert_close(bank(x, gates, offsets), expected)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = SoftExperts(num_experts=3, width=4, hidden=6)
    x, gates = torch.randn(50, 4), torch.rand(50, 3)
    whole = bank(x, gates)
    whole.sum().backward()
    gradient, bank.up_weight.grad = bank.up_weight.grad, None
    monkeypatch.setattr(soft_experts, "_PIECE_BYTES", 7 * 3 * 6 * 4)
    pieces = bank(x, gates)
    pieces.sum().backward()
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(bank.up_weight.grad, gradient)


@pytest.mark.parametrize("bias", [True, False])
def test_a_stack_is_its_members(bias: bool) -> None:
    stack = StackedLinear(3, 4, 5, bias=bias)
    x = torch.randn(3, 2, 7, 4)
    expected = torch.stack([x[m] @ stack.weight[m] + (stack.bias[m] if bias else 0) for m in range(3)])
    torch.testing.assert_close(stack(x), expected)
