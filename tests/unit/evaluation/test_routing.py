"""Routing: shares of the weight by hand, steps and streams, dead experts, tables."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.degradation import RoutingRecord, describe_routers, tables_by


class Mixture:
    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**config)

    def forward(self, pixel_values: Any, output_router_logits: bool = False) -> None: ...


class Plain:
    config = SimpleNamespace()

    def forward(self, pixel_values: Any) -> None: ...


def record(model: Any) -> RoutingRecord:
    return RoutingRecord(model)


def observe(one: RoutingRecord, owners: list[int], *logits: torch.Tensor) -> None:
    one.observe(SimpleNamespace(router_logits=logits), owners)


def test_weights_are_those_of_the_best_divided_by_their_sum() -> None:
    one = record(Mixture(top_k=2))
    observe(one, [0, 1], torch.tensor([[4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]).log())
    routed = one.finish([0, 1])
    np.testing.assert_allclose(routed.weights[0], [[4 / 6, 2 / 6, 0, 0], [0.5, 0.5, 0, 0]])  # of equals the first
    np.testing.assert_allclose(routed.best[0], [[1, 0, 0, 0], [1, 0, 0, 0]])
    probabilities = np.array([4, 2, 1, 1]) / 8
    np.testing.assert_allclose(routed.entropies[0], [-(probabilities * np.log(probabilities)).sum() / np.log(4), 1])
    (described,) = describe_routers(routed)
    assert described["dead"] == ["3", "4"]
    assert described["chosen_share"] == [1, 1, 0, 0]
    assert described["top_k"] == 2
    load = np.array([7 / 12, 5 / 12])
    assert described["load_entropy"] == pytest.approx(-(load * np.log(load)).sum() / np.log(4))


def test_without_a_choice_all_experts_carry_and_the_temperature_counts() -> None:
    one = record(Mixture(router_temperature=2.0))
    observe(one, [0], torch.tensor([[2.0, 0.0]]))
    np.testing.assert_allclose(one.finish([0]).weights[0][0], torch.tensor([1.0, 0.0]).softmax(0), rtol=1e-6)


def test_clips_and_steps_are_averaged_and_streams_are_routers() -> None:
    one = record(Mixture())
    sharp = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
    observe(one, [7, 7, 3], sharp[[0, 1, 1]])  # two clips of row 7
    np.testing.assert_allclose(one.finish([3, 7]).weights[0], [[0, 1], [0.5, 0.5]], atol=1e-9)

    streams = record(Mixture())
    observe(streams, [0], sharp[[0, 0, 1, 1, 1, 1]].reshape(1, 2, 3, 2))  # (batch, streams, steps, experts)
    routed = streams.finish([0])
    np.testing.assert_allclose(routed.weights[0], [[2 / 3, 1 / 3]], atol=1e-9)
    np.testing.assert_allclose(routed.weights[1], [[0, 1]], atol=1e-9)
    steps = record(Mixture())
    observe(steps, [0], sharp[[0, 1]][None])  # (batch, steps, experts)
    assert len(steps.finish([0]).weights) == 1


def test_tables_by_class_and_by_condition() -> None:
    one = record(Mixture(top_k=1))
    observe(one, [0, 1, 2], torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]))
    routed = one.finish([0, 1, 2])
    (table,) = tables_by("class", routed, ["a", "a", "b"], ["b", "a", "c"])
    assert table["rows"] == ["b", "a", "c"]
    assert table["n"] == [1, 2, 0]
    np.testing.assert_allclose(table["shares"], [[1, 0], [0.5, 0.5], [np.nan, np.nan]])
    (table,) = tables_by("condition", [("clean", routed), ("blur/2", routed)])
    assert table["rows"] == ["clean", "blur/2"]
    np.testing.assert_allclose(table["shares"], [[2 / 3, 1 / 3]] * 2)


def test_models_without_routers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Plain, which has no routers"):
        record(Plain())
    with pytest.raises(ConfigurationError, match="gave none"):
        record(Mixture()).observe(SimpleNamespace(router_logits=None), [0])
