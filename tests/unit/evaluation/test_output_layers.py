"""The layers whose rows are classes: moved when a head gets other classes, shifted by an operating point."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.calibration import OperatingPoint, output_layers, write_operating_point
from meco_hub.training.construction import relabel

NAMES = ["anger", "fear", "neutral"]


class Head(nn.Module):
    """Answers with one layer, or with the mean of two."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.config: Any = SimpleNamespace(
            id2label=dict(enumerate(NAMES)),
            label2id={name: index for index, name in enumerate(NAMES)},
            num_labels=3,
            problem_type=None,
            operating_point=None,
        )
        if layers == 1:
            self.classifier = nn.Linear(5, 3)
        elif layers == 2:
            self.first, self.second = nn.Linear(5, 3), nn.Conv1d(5, 3, 1)
            self.output_layers = lambda: [self.first, self.second]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "classifier"):
            return self.classifier(x)
        return 0.25 * self.first(x) + 0.75 * self.second(x.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("layers", [1, 2])
def test_rows_follow_their_class_and_new_ones_start_afresh(layers: int) -> None:
    head: Any = Head(layers)
    x = torch.randn(4, 5)
    before = head(x)
    relabel(head, ["neutral", "surprise", "anger", "fear"])
    after = head(x)
    torch.testing.assert_close(after[:, [2, 3, 0]], before, rtol=0, atol=1e-6)
    assert after.shape == (4, 4)
    assert (after[:, 1] - before.mean(1)).abs().max() > 1e-4
    assert head.config.id2label == {0: "neutral", 1: "surprise", 2: "anger", 3: "fear"}
    assert [getattr(one, "out_features", getattr(one, "out_channels", 0)) for one in output_layers(head)] == [
        4
    ] * layers
    after.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_an_operating_point_shifts_the_answer_and_nothing_else(layers: int) -> None:
    head: Any = Head(layers)
    x = torch.randn(4, 5)
    before = head(x)
    prior = dict(zip(NAMES, (0.5, 0.3, 0.2), strict=True))
    point = OperatingPoint("max_uar", 0.5, 0.6, None, True, 0.6, 0.6, 0.6, prior)
    write_operating_point(head, point)
    expected = before - 0.5 * torch.tensor(list(prior.values())).log()
    torch.testing.assert_close(head(x), expected)


def test_a_head_that_does_not_say_is_refused() -> None:
    head: Any = Head(0)
    assert output_layers(head) == []
    with pytest.raises(ConfigurationError, match="no `output_layers`, so it cannot be given the classes fear, anger"):
        relabel(head, ["fear", "anger"])
