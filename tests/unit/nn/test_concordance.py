"""The concordance correlation: its identities, its masks, its gradients."""

import numpy as np
import pytest
import torch

from meco_hub.nn.losses import concordance, concordance_loss


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_identities(x: torch.Tensor) -> None:
    x = x - x.mean(0)
    one = torch.ones(3, dtype=x.dtype)
    torch.testing.assert_close(concordance(x, x), one)
    torch.testing.assert_close(concordance(x, -x), -one)
    variance = x.var(0, correction=0)
    torch.testing.assert_close(concordance(x, x + 0.7), 2 * variance / (2 * variance + 0.49))
    torch.testing.assert_close(concordance(x, 2 * x), 4 / 5 * one)
    assert not concordance(torch.zeros_like(x), x).any()


def test_is_the_textbook_formula(x: torch.Tensor) -> None:
    y = 0.5 * x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype) + 0.2
    for column, found in enumerate(concordance(x, y)):
        p, t = x[:, column].numpy(), y[:, column].numpy()
        expected = 2 * np.corrcoef(p, t)[0, 1] * p.std() * t.std() / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)
        assert found.item() == pytest.approx(expected, rel=1e-6)


def test_only_what_is_known_counts(x: torch.Tensor) -> None:
    y = x.flip(0)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    spoilt = y.masked_fill(~mask, float("nan"))
    expected = torch.stack([concordance(x[mask[:, d], d], y[mask[:, d], d]) for d in range(3)])
    torch.testing.assert_close(concordance(x, spoilt, mask), expected)
    assert not concordance(x, y, torch.zeros_like(mask)).any()


def test_a_large_offset_loses_nothing(x: torch.Tensor) -> None:
    single = x.float()
    noisy = single + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    exact = concordance(x + 1000, (noisy.double() + 1000))
    torch.testing.assert_close(concordance(single + 1000, noisy + 1000), exact.float(), rtol=1e-3, atol=0)


def test_targets_that_do_not_vary_are_left_out(x: torch.Tensor) -> None:
    y = x.clone()
    y[:, 1] = 0.3
    prediction = (x + 0.1).requires_grad_()
    loss = concordance_loss(prediction, y)
    torch.testing.assert_close(loss, (1 - concordance(prediction, y))[[0, 2]].mean())
    loss.backward()
    assert not prediction.grad[:, 1].any()
    constant = concordance_loss(prediction, torch.zeros_like(x))
    assert constant == 0
    assert constant.requires_grad


def test_gradients_are_finite_even_of_constant_predictions(x: torch.Tensor) -> None:
    prediction = torch.zeros_like(x, requires_grad=True)
    loss = concordance_loss(prediction, x)
    loss.backward()
    assert loss == 1
    assert prediction.grad.isfinite().all()
    small = (x[:6] + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: concordance_loss(p, x[:6]), (small,))
