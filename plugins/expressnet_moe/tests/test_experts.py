"""The mixture of experts: its formula, its gradients, its z-loss."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from meco_expressnet_moe.experts import TopKExperts, router_z_loss


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def by_the_formula(experts: TopKExperts, x: torch.Tensor) -> torch.Tensor:
    """One sample and one expert at a time."""
    rows = []
    for sample in x:
        gates = torch.softmax(experts.router.weight @ sample + experts.router.bias, dim=0)
        chosen = sorted(range(len(gates)), key=lambda index: (-gates[index].item(), index))[: experts.top_k]
        scale = sum(gates[index] for index in chosen) if experts.norm_topk_prob else 1.0
        rows.append(
            sum(gates[index] / scale * F.relu(experts.weight[index] @ sample + experts.bias[index]) for index in chosen)
        )
    return torch.stack(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm_topk_prob", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_formula(top_k, norm_topk_prob):
    experts = TopKExperts(6, 5, num_experts=4, top_k=top_k, norm_topk_prob=norm_topk_prob).double()
    nn.init.normal_(experts.bias)
    nn.init.normal_(experts.router.weight)
    x = torch.randn(7, 6, dtype=torch.float64)
    y, logits = experts(x)
    assert y.shape == (7, 5)
    assert logits.shape == (7, 4)
    torch.testing.assert_close(y, by_the_formula(experts, x))


def test_mass_of_the_selected_is_below_one_unless_renormalised():
    x = torch.randn(50, 6)
    raw = TopKExperts(6, 6)
    mass = raw.gates(raw.router(x)).sum(dim=-1)
    assert ((mass > 0.5) & (mass < 1)).all()
    assert (raw.gates(raw.router(x)) > 0).sum(dim=-1).eq(2).all()
    renormalised = TopKExperts(6, 6, norm_topk_prob=True)
    torch.testing.assert_close(renormalised.gates(renormalised.router(x)).sum(dim=-1), torch.ones(50))


def test_unselected_experts_get_exactly_zero_gradient_and_all_gates_some():
    experts = TopKExperts(6, 6)
    x = torch.randn(1, 6)
    y, logits = experts(x)
    y.square().sum().backward()
    chosen = set(logits[0].topk(2).indices.tolist())
    for index in range(4):
        is_zero = not experts.weight.grad[index].any() and not experts.bias.grad[index].any()
        assert is_zero is (index not in chosen)
        assert experts.router.weight.grad[index].any(), "the softmax reaches every gate"


def test_one_sample_does_not_depend_on_the_others():
    experts = TopKExperts(6, 6).eval()
    x = torch.randn(9, 6)
    torch.testing.assert_close(experts(x)[0][4:5], experts(x[4:5])[0])


def test_jitter_in_training_only():
    experts = TopKExperts(6, 6, jitter=0.5)
    x = torch.randn(3, 6)
    assert not torch.equal(experts(x)[1], experts(x)[1])
    experts.eval()
    assert torch.equal(experts(x)[1], experts(x)[1])


def test_each_expert_is_initialised_as_a_layer_of_its_own():
    experts = TopKExperts(40, 60)
    limit = (6 / (40 + 60)) ** 0.5
    for weight in experts.weight:
        assert limit * 0.95 < weight.abs().max() <= limit
    assert not experts.bias.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite(dtype):
    experts = TopKExperts(6, 6).to(dtype)
    y, logits = experts(torch.randn(3, 6).to(dtype) * 100)
    assert y.dtype == logits.dtype == dtype
    assert y.isfinite().all()


def test_z_loss():
    assert router_z_loss(torch.zeros(3, 4)).item() == pytest.approx(torch.tensor(4.0).log().item() ** 2)


def test_export_agrees():
    experts = TopKExperts(6, 6).eval()
    x = torch.randn(3, 6)
    program = torch.export.export(experts, (x,))
    torch.testing.assert_close(program.module()(x)[0], experts(x)[0])
