"""Calibration: finds what was distorted, never makes the fitting data worse, stays in bounds, and is read back as written."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.answers import Calibration, calibration_of
from meco_hub.errors import CheckpointError, InputError
from meco_hub.evaluation.calibration import (
    LARGEST_TEMPERATURE,
    SMALLEST_TEMPERATURE,
    describe_calibration,
    fit_affine,
    fit_temperature,
    write_calibration,
)
from meco_hub.evaluation.metrics import calibration_error, compute_metrics, cross_entropy, softmax


def honest(n: int = 6000, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose probabilities are true: labels are drawn from them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, size=(n, classes))
    chances = softmax(logits).cumsum(axis=1)
    return logits, (generator.random((n, 1)) > chances).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5, 6.0])
def test_recovers_a_known_temperature(true: float) -> None:
    logits, labels = honest()
    found = fit_temperature(logits * true, labels)
    assert found.temperature == pytest.approx(true, rel=0.06)
    assert not found.at_bound


def test_is_where_the_cross_entropy_is_least() -> None:
    logits, labels = honest(300)
    found = fit_temperature(logits * 3, labels)
    losses = [cross_entropy(labels, logits * 3 / (found.temperature * factor)) for factor in (0.99, 1.0, 1.01)]
    assert min(losses) == losses[1]
    optimize = pytest.importorskip("scipy.optimize")
    theirs = optimize.minimize(lambda log: cross_entropy(labels, logits * 3 / np.exp(log[0])), [0.0], method="L-BFGS-B")
    assert found.temperature == pytest.approx(float(np.exp(theirs.x[0])), rel=1e-3)
    assert found.after["cross_entropy"] <= theirs.fun + 1e-12


def test_calibration_error_falls_and_the_order_stays() -> None:
    logits, labels = honest(4000)
    fitting, other = slice(0, 2000), slice(2000, 4000)
    sharp = logits * 4
    found = fit_temperature(sharp[fitting], labels[fitting])
    calmed = found.apply(sharp[other])
    assert calibration_error(labels[other], softmax(calmed)) < 0.3 * calibration_error(
        labels[other], softmax(sharp[other])
    )
    assert (calmed.argmax(1) == sharp[other].argmax(1)).all()
    before, after = (compute_metrics(labels[other], one, list("abcd")) for one in (sharp[other], calmed))
    assert (before.uar, before.war, before.macro_f1) == (after.uar, after.war, after.macro_f1)
    assert after.brier < before.brier
    assert found.after["ece"] < found.before["ece"]


@pytest.mark.parametrize("seed", range(6))
def test_never_worse_on_the_fitting_data(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(size=(30, 3)) * generator.uniform(0.1, 20), generator.integers(0, 3, 30)
    found = fit_temperature(logits, labels)
    assert found.after["cross_entropy"] <= found.before["cross_entropy"]
    assert cross_entropy(labels, found.apply(logits)) == pytest.approx(found.after["cross_entropy"])
    predictions, truth = generator.normal(size=(30, 2)) * 5 + 3, generator.normal(size=(30, 2))
    affine = fit_affine(predictions, truth, ["v", "a"])
    for column, name in enumerate(["v", "a"]):
        assert affine.after[f"rmse_{name}"] <= affine.before[f"rmse_{name}"]
        error = affine.apply(predictions)[:, column] - truth[:, column]
        assert np.sqrt(np.mean(error**2)) == pytest.approx(affine.after[f"rmse_{name}"])


def test_separated_samples_stop_at_the_bound(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(30) % 3
    perfect = fit_temperature(np.eye(3)[labels] * 5.0, labels)
    assert (perfect.temperature, perfect.at_bound) == (pytest.approx(SMALLEST_TEMPERATURE), True)
    hopeless = fit_temperature(-np.eye(3)[labels] * 5.0, labels)
    assert (hopeless.temperature, hopeless.at_bound) == (pytest.approx(LARGEST_TEMPERATURE), True)
    assert "beyond" in caplog.text
    sure = fit_temperature(np.eye(3)[labels] * 1e6, labels)
    assert np.isfinite(sure.apply(np.eye(3) * 1e6)).all()


def test_equal_scores_and_single_samples_are_left_alone() -> None:
    assert fit_temperature(np.ones((4, 3)), np.array([0, 1, 2, 0])).temperature == 1.0
    assert fit_temperature(np.zeros((1, 2)), np.array([1])).temperature == 1.0
    assert fit_temperature(np.array([[2.0, 0.0]]), np.array([0])).at_bound


def test_recovers_a_known_line() -> None:
    generator = np.random.default_rng(0)
    truth = generator.uniform(1, 9, size=(500, 2))
    predictions = np.stack([(truth[:, 0] - 1.5) / 0.8, (truth[:, 1] + 2) / 3], axis=1)
    found = fit_affine(predictions, truth, ["valence", "arousal"], fitted_on="validation part of deap, 500 items")
    assert found.slope == pytest.approx((0.8, 3.0))
    assert found.intercept == pytest.approx((1.5, -2.0))
    assert np.allclose(found.apply(predictions), truth)
    assert "validation part of deap" in str(found)
    assert "valence: +1.5 +0.8·value" in str(found)


def test_answers_against_the_truth_become_the_mean_and_are_said(caplog: pytest.LogCaptureFixture) -> None:
    truth = np.arange(10.0)[:, None]
    found = fit_affine(-truth, truth, ["v"])
    assert (found.slope, found.intercept, found.at_bound) == ((0.0,), (4.5,), True)
    assert "run against the truth" in caplog.text


def test_targets_without_truth_or_spread() -> None:
    truth = np.stack([np.full(6, np.nan), np.arange(6.0), np.full(6, 2.0)], axis=1)
    predictions = np.stack([np.arange(6.0), np.full(6, 1.0), np.arange(6.0)], axis=1)
    found = fit_affine(predictions, truth, ["none", "constant", "rest"])
    assert (found.slope[0], found.intercept[0]) == (1.0, 0.0)
    assert (found.slope[1], found.intercept[1]) == (1.0, 1.5)
    assert (found.slope[2], found.intercept[2]) == (0.0, pytest.approx(2.0))
    assert not found.at_bound
    assert "rmse_none" not in found.before


def test_torch_and_numpy_alike() -> None:
    temperature = Calibration("temperature", "validation", 9, temperature=2.0)
    assert torch.equal(temperature.apply(torch.tensor([[2.0, 4.0]])), torch.tensor([[1.0, 2.0]]))
    affine = Calibration("affine", "validation", 9, names=("v", "a"), slope=(2.0, 0.5), intercept=(1.0, -1.0))
    values = np.random.default_rng(0).normal(size=(3, 5, 2))
    answered = affine.apply(torch.tensor(values))
    assert answered.dtype == torch.float64
    assert np.allclose(answered.numpy(), affine.apply(values))
    with pytest.raises(InputError, match="v, a"):
        affine.apply(np.zeros((2, 3)))


@pytest.mark.parametrize(
    "calibration",
    [
        fit_temperature(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), np.array([1, 0, 1]), fitted_on="v"),
        fit_affine(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [3.0]]), ["valence"]),
    ],
    ids=["temperature", "affine"],
)
def test_round_trip_through_a_config(calibration: Calibration) -> None:
    import json

    model = SimpleNamespace(config=SimpleNamespace())
    assert calibration_of(model.config) is None
    write_calibration(model, calibration)
    model.config.calibration = json.loads(json.dumps(model.config.calibration))
    read = calibration_of(model.config)
    assert read is not None
    assert read.to_dict() == calibration.to_dict()
    values = np.array([[0.5]]) if calibration.method == "affine" else np.array([[0.5, 2.0]])
    assert np.array_equal(read.apply(values), calibration.apply(values))
    told = describe_calibration(read, {"ece": 0.2})
    assert told is not None
    assert told["uncalibrated"] == {"ece": 0.2}
    assert describe_calibration(None) is None


@pytest.mark.parametrize(
    "stored",
    [
        {"method": "isotonic"},
        {"method": "temperature", "temperature": 0.0},
        {"method": "temperature", "temperature": 1e-40},
        {"method": "temperature", "temperature": 11.0},
        {"method": "temperature", "temperature": "warm"},
        {"method": "temperature"},
        {"method": "affine", "names": ["v"], "slope": [1.0], "intercept": []},
        {"method": "affine", "names": ["v"], "slope": [None], "intercept": [0.0]},
        {"method": "affine", "names": ["v"], "slope": [-1.0], "intercept": [0.0]},
        "temperature",
    ],
)
def test_nonsense_in_a_config_is_refused(stored: object) -> None:
    with pytest.raises(CheckpointError, match=r"config\.calibration"):
        calibration_of(SimpleNamespace(calibration=stored))


@pytest.mark.parametrize(
    ("stored", "head"),
    [
        ({"method": "temperature", "temperature": 2.0}, {"problem_type": "regression", "target_names": ["v", "a"]}),
        ({"names": ["a", "v"]}, {"problem_type": "regression", "target_names": ["v", "a"]}),
        ({"names": ["v", "a"]}, {"problem_type": "single_label_classification"}),
    ],
)
def test_a_calibration_of_other_answers_is_refused(stored: dict[str, Any], head: dict[str, Any]) -> None:
    """The slope of one value would be laid on another's."""
    line = {"method": "affine", "slope": [1.0, 0.5], "intercept": [0.0, 1.0]}
    with pytest.raises(CheckpointError, match="for what this head answers"):
        calibration_of(SimpleNamespace(calibration={**line, **stored}, **head))
    own = {**line, "names": ["v", "a"]}
    assert calibration_of(
        SimpleNamespace(calibration=own, problem_type="regression", target_names=["v", "a"])
    ) == Calibration.from_dict(own)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(InputError, match="validation"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(InputError, match="finite"):
        fit_temperature(np.array([[np.nan, 1.0]]), np.array([0]))
    with pytest.raises(InputError, match="validation"):
        fit_affine(np.zeros((0, 1)), np.zeros((0, 1)), ["v"])
    with pytest.raises(InputError, match="shape"):
        fit_affine(np.zeros((3, 1)), np.zeros((3, 2)), ["v", "a"])
