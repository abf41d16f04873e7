"""The loss of a head: which kind it is, and which labels it takes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from meco_hub.errors import InputError
from meco_hub.nn.losses import label_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


def config(kind: str | None = None, count: int = 3, smoothing: float = 0.0) -> Any:
    return SimpleNamespace(problem_type=kind, num_labels=count, label_smoothing=smoothing)


def test_the_kind_follows_labels_and_outputs() -> None:
    classes = torch.tensor([0, 1])
    settings = config(smoothing=0.2)
    assert label_loss(settings, LOGITS, classes, 0.2) == F.cross_entropy(LOGITS, classes, label_smoothing=0.2)
    assert settings.problem_type is None
    assert label_loss(config(), LOGITS, SEVERAL) == F.binary_cross_entropy_with_logits(LOGITS, SEVERAL)
    one = LOGITS[:, :1]
    assert label_loss(config(count=1), one, torch.tensor([1.0, 2.0])) == F.mse_loss(one, torch.tensor([[1.0], [2.0]]))


def test_the_kind_that_is_named_counts() -> None:
    assert label_loss(config("regression"), LOGITS, SEVERAL) == F.mse_loss(LOGITS, SEVERAL)
    shares = SEVERAL / SEVERAL.sum(dim=1, keepdim=True)
    assert label_loss(config("single_label_classification"), LOGITS, shares) == F.cross_entropy(LOGITS, shares)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (None, torch.tensor([0, 1, 1])),
        (None, torch.zeros(2)),
        ("regression", torch.zeros(2)),
        ("single_label_classification", torch.zeros(2, 3, dtype=torch.int64)),
        ("multi_label_classification", torch.tensor([0, 1])),
    ],
)
def test_labels_of_another_shape_are_refused(kind: str | None, labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="labels have shape"):
        label_loss(config(kind), LOGITS, labels)
