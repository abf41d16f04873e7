"""Softmax and mean over what is valid: by hand, with nothing valid, with anything behind the mask, in half precision."""

import pytest
import torch

from meco_hub.nn.losses import masked_mean, masked_softmax


def test_softmax_over_the_valid_part() -> None:
    logits, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True, False, True]])
    expected = torch.tensor([1.0, 3.0]).softmax(0)
    weights = masked_softmax(logits, mask)
    torch.testing.assert_close(weights[0, [0, 2]], expected)
    assert weights[0, 1] == 0


@pytest.mark.parametrize("hidden", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_what_is_masked_is_never_seen(hidden: float) -> None:
    mask = torch.tensor([[True, True, False], [False, False, False]])
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    spoilt = logits.masked_fill(~mask, hidden)
    for function in (masked_softmax, masked_mean):
        torch.testing.assert_close(function(spoilt, mask, dim=-1), function(logits, mask, dim=-1), rtol=0, atol=0)
    assert not masked_softmax(spoilt, mask)[1].any()
    assert masked_mean(spoilt, mask, dim=-1)[1] == 0


def test_nothing_valid_is_connected_to_the_graph() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    (masked_softmax(values, nothing).sum() + masked_mean(values, nothing)).backward()
    assert values.grad is not None
    assert not values.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_wide(dtype: torch.dtype) -> None:
    logits = torch.full((1, 5000), 60000.0 if dtype == torch.float16 else 1e38, dtype=dtype)
    mask = torch.ones(1, 5000, dtype=torch.bool)
    assert masked_softmax(logits, mask).dtype == torch.float32
    assert masked_softmax(logits, mask).sum() == pytest.approx(1, abs=1e-4)
    ones = torch.ones(5000, dtype=dtype)
    assert masked_mean(ones, mask[0]) == 1, "a sum of 5000 ones does not fit bfloat16"


def test_masks_broadcast_and_dimensions() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, True, False]]).unsqueeze(-1)
    expected = torch.stack([values[0, [0, 2]].mean(0), values[1, 1]])
    torch.testing.assert_close(masked_mean(values, mask, dim=1), expected)
    torch.testing.assert_close(masked_mean(values, mask), values[mask.expand_as(values)].mean())
