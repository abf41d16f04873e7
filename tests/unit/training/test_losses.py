"""Losses against their formulas."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from meco_hub.training.losses import ClassificationLoss, mix_batch


def test_label_smoothing_is_the_published_formula() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 7, dtype=torch.float64).float(), torch.randint(0, 7, (9,))
    target = 0.9 * F.one_hot(labels, 7) + 0.1 / 7
    expected = -(target * logits.log_softmax(-1)).sum(-1).mean()
    assert ClassificationLoss(0.1)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_logit_adjustment_adds_the_prior() -> None:
    logits, labels = torch.tensor([[1.0, 2.0], [0.0, 0.5]]), torch.tensor([0, 1])
    prior = np.array([0.9, 0.1])
    adjusted = ClassificationLoss(prior=prior, tau=1.5)(logits, labels)
    by_hand = F.cross_entropy(logits + 1.5 * torch.tensor(prior).log().float(), labels)
    assert adjusted.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert ClassificationLoss(prior=prior, tau=0.0)(logits, labels).item() == pytest.approx(
        F.cross_entropy(logits, labels).item()
    )


def test_mixup_mixes_pictures_and_targets_alike() -> None:
    pixels = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 3, 2, 2).clone()
    labels = torch.arange(6)
    mixed, targets = mix_batch({"pixel_values": pixels}, labels, 6, 0.4, np.random.default_rng(0))
    # the value of each picture is its label, so a mixed picture shows the mean of its target
    assert torch.allclose(mixed["pixel_values"][:, 0, 0, 0], targets @ torch.arange(6.0), atol=1e-5)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert (targets.max(1).values < 1).any()
    again, _ = mix_batch({"pixel_values": pixels}, labels, 6, 0.4, np.random.default_rng(0))
    assert torch.equal(mixed["pixel_values"], again["pixel_values"])


def test_indices_and_certain_targets_cost_the_same() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    loss = ClassificationLoss(0.1)
    assert loss(logits, labels).item() == pytest.approx(loss(logits, F.one_hot(labels, 4).float()).item(), rel=1e-6)
