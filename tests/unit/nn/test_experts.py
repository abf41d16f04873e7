"""Choosing experts: equal scores, and the loss of an uneven load."""

import pytest
import torch

from meco_hub.nn.losses import load_balancing_loss, select_top_k


def test_equal_gates_go_to_the_lower_index():
    assert select_top_k(torch.tensor([[0.25] * 4, [0.1, 0.4, 0.1, 0.4], [0.4, 0.2, 0.2, 0.2]]), 2).tolist() == [
        [True, True, False, False],
        [False, True, False, True],
        [True, True, False, False],
    ]
    assert select_top_k(torch.zeros(1, 5), 3).tolist() == [[True, True, True, False, False]]


def test_balance_loss():
    even = torch.eye(4) * 50
    assert load_balancing_loss(even, 1).item() == pytest.approx(1.0)
    collapsed = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(8, 1)
    assert load_balancing_loss(collapsed, 1).item() == pytest.approx(4.0)
    logits = torch.randn(8, 4, requires_grad=True)
    load_balancing_loss(logits, 2).backward()
    assert logits.grad.any()
