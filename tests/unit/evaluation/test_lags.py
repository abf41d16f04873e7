"""lags: estimates are held to the delays that a condition applied, relative to the mean of those that are there."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.evaluation.conditions import AppliedCondition, conditions_for
from meco_hub.evaluation.degradation import LagRecord, estimates_lags
from meco_hub.recordings.signal_recording import SignalRecording, Stream

STREAMS = ["ecg", "eda", "resp"]


def applied(name: str = "delay-unknown/all/1") -> AppliedCondition:
    (condition,) = conditions_for("signals", [name], streams=STREAMS)
    return AppliedCondition(condition, dataset="d", protocol="", seed=0, subjects={}, streams=STREAMS)


def recording() -> SignalRecording:
    return SignalRecording({name: Stream.regular(np.arange(80.0), 8.0) for name in STREAMS})


def output(lags: Any, there: Any = None) -> Any:
    values = torch.as_tensor(lags, dtype=torch.float32)
    seen = torch.ones(*values.shape, 4, dtype=torch.bool) if there is None else torch.as_tensor(there)[..., None]
    return SimpleNamespace(lags=values, availability=seen)


def delayed(condition: AppliedCondition, names: list[str]) -> np.ndarray:
    """Apply it to recordings of these names; (recordings, streams) delays."""
    changed = [condition(recording(), name) for name in names]
    return np.array([[one.known_lags[stream] for stream in STREAMS] for one in changed])


def test_a_condition_remembers_what_it_did_and_only_where_nobody_is_told() -> None:
    unknown = applied()
    lags = delayed(unknown, ["a", "b"])
    assert unknown.delays
    assert unknown.lags == {name: dict(zip(STREAMS, row, strict=True)) for name, row in zip("ab", lags, strict=True)}
    for name in ("delay-known/all/1", "missing/0.5", "jitter/0.05"):
        other = applied(name)
        other(recording(), "a")
        assert not other.delays
        assert not other.lags
    assert applied("combined").delays


def test_estimates_are_compared_relative_to_those_that_are_there() -> None:
    condition, names = applied(), list("abcdefgh")
    lags = delayed(condition, names)
    record = LagRecord(condition, names, STREAMS)
    # right but for one constant a clip, which signals do not show
    record.observe(output(lags[:4] + np.array([[0.3], [-2.0], [0.0], [9.0]])), [0, 1, 2, 3])
    assert record.finish() == {"n": 4, "mae_s": pytest.approx(0, abs=1e-6), "correlation": pytest.approx(1)}
    # a modality that is not there counts neither in the mean nor in the error; one alone has no lag
    there = np.ones((4, 3), bool)
    there[:, 0] = False
    there[3, 1] = False
    wrong = np.where(there, lags[4:], 1e6)
    record = LagRecord(condition, names, STREAMS)
    record.observe(output(wrong, there), [4, 5, 6, 7])
    found = record.finish()
    assert found is not None
    assert (found["n"], found["mae_s"]) == (3, pytest.approx(0, abs=1e-6))
    record = LagRecord(condition, names, STREAMS)
    record.observe(output(-lags[:8]), range(8))
    found = record.finish()
    assert found is not None
    assert found["correlation"] == pytest.approx(-1)
    relative = lags - lags.mean(axis=1, keepdims=True)
    assert found["mae_s"] == pytest.approx(np.abs(2 * relative).mean(), rel=1e-6)


def test_a_model_that_finds_no_lags_is_not_scored() -> None:
    condition = applied()
    delayed(condition, ["a"])
    for said in (output(np.zeros((1, 3))), SimpleNamespace(logits=torch.zeros(1, 2)), SimpleNamespace(lags=None)):
        record = LagRecord(condition, ["a"], STREAMS)
        record.observe(said, [0])
        assert record.finish() is None

    class Silent(torch.nn.Module):
        def forward(self, inputs: Any) -> Any: ...

    class Speaking(torch.nn.Module):
        def forward(self, inputs: Any, output_routing: bool = False) -> Any: ...

    assert not estimates_lags(Silent())  # pyright: ignore[reportArgumentType]
    assert estimates_lags(Speaking())  # pyright: ignore[reportArgumentType]
