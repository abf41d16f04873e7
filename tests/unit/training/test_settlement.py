"""settlement: what is chosen on validation is written into the model, and the figures are those of what is saved."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.answers import calibration_of
from meco_hub.evaluation.calibration import choose_operating_point, class_prior
from meco_hub.evaluation.metrics import compute_metrics, regression_metrics
from meco_hub.evaluation.series import AlignedPredictions, TimeSeries, ValueMetrics
from meco_hub.training.validation import ValidationResult, choose_after_training

NAMES = ["neutral", "anger"]


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(self.classifier.bias)
        self.config = SimpleNamespace(id2label=dict(enumerate(NAMES)))


def validator(calibrate: bool, scored_seconds: tuple[float, float] | None = None, **more: Any) -> Any:
    data = SimpleNamespace(names=NAMES, corpus=SimpleNamespace(scored_seconds=scored_seconds))
    known = {"named": "validation part of some, 4 samples", "data": data, "prior": None}
    known |= {"recipe": SimpleNamespace(calibrate=calibrate), "choose_point": lambda result: None}
    return SimpleNamespace(**(known | more))


@pytest.fixture
def result() -> ValidationResult:
    """Nine of ten are neutral; scores lean that way, and are far too sure."""
    draw = np.random.default_rng(0)
    labels = (np.arange(200) % 10 == 0).astype(np.int64)
    scores = np.stack([np.full(200, 6.0), 8.0 * labels + draw.normal(0, 5, 200)], axis=1)
    return ValidationResult(scores, labels, compute_metrics(labels, scores, NAMES))


def test_nothing_is_chosen_where_nothing_is_asked_for(result: ValidationResult) -> None:
    model: Any = Head()
    choices = choose_after_training(model, result, validator(False))
    assert choices.operating_point is choices.calibration is None
    assert choices.validation["uar"] == result.metrics.uar  # type: ignore[union-attr]
    assert "before_operating_point" not in choices.validation
    assert not hasattr(model.config, "operating_point")
    assert calibration_of(model.config) is None
    assert not model.classifier.bias.any()


def test_the_temperature_is_that_of_the_logits_after_the_operating_point(result: ValidationResult) -> None:
    prior = class_prior(result.labels, 2)

    def choose(result: ValidationResult) -> Any:
        return choose_operating_point(
            result.outputs, result.labels, prior, NAMES, rule="max_uar", taus=np.arange(0, 3.1, 0.5)
        )

    model: Any = Head()
    choices = choose_after_training(model, result, validator(True, prior=prior, choose_point=choose))
    point, calibration = choices.operating_point, choices.calibration
    assert point is not None
    assert point.tau > 0
    assert calibration is not None
    # what is saved: the bias moved, and both records in the config
    assert np.allclose(model.classifier.bias.detach().numpy(), -point.tau * np.log(prior), atol=1e-6)
    assert model.config.operating_point["tau"] == point.tau
    assert calibration_of(model.config) == calibration
    assert (calibration.fitted_on, calibration.n) == ("validation part of some, 4 samples", 200)
    # the figures are those of the moved scores, and those before are told beside them
    moved = compute_metrics(result.labels, result.outputs - point.tau * np.log(prior), NAMES)
    assert choices.validation["uar"] == moved.uar > result.metrics.uar  # type: ignore[union-attr]
    assert choices.validation["before_operating_point"]["uar"] == result.metrics.uar  # type: ignore[union-attr]
    assert calibration.before["cross_entropy"] == pytest.approx(moved.loss)
    assert calibration.after["cross_entropy"] < moved.loss


def values(aligned: AlignedPredictions) -> ValidationResult:
    return ValidationResult(np.zeros((1, 2)), np.zeros((1, 2)), ValueMetrics(1, 1.0, 1.0, 0.0, 0.0), aligned)


def test_a_line_is_fitted_to_the_scored_seconds_alone() -> None:
    times = np.arange(20.0)
    truth = np.stack([times, 20 - times], axis=1)
    answers = 2 * truth + 3
    answers[:5] = 99.0  # before the scored part
    aligned = AlignedPredictions([TimeSeries(times, truth, answers)], np.full((1, 2), np.nan), [])
    model: Any = Head()
    choices = choose_after_training(model, values(aligned), validator(True, (5.0, 30.0)))
    assert choices.calibration is not None
    assert np.allclose(choices.calibration.slope, 0.5)
    assert np.allclose(choices.calibration.intercept, -1.5)
    assert choices.calibration.n == 15
    assert calibration_of(model.config) == choices.calibration
    assert choices.validation["rmse"] == 1.0
    assert choose_after_training(Head(), values(aligned), validator(False)).calibration is None  # type: ignore[arg-type]


def test_clips_of_a_trial_are_averaged_before_a_line_is_fitted() -> None:
    truth = np.array([[1.0, 4.0], [3.0, np.nan], [5.0, 2.0]])
    windows = [np.stack([2 * row, 2 * row + 2]) for row in np.nan_to_num(truth)]  # on average 2 · truth + 1
    choices = choose_after_training(
        Head(),  # type: ignore[arg-type]
        values(AlignedPredictions([], truth, windows)),
        validator(True),
    )
    assert choices.calibration is not None
    assert np.allclose(choices.calibration.slope, 0.5)
    assert np.allclose(choices.calibration.intercept, -0.5)
    corrected = choices.calibration.apply(np.stack([one.mean(axis=0) for one in windows]))
    assert regression_metrics(truth, corrected, NAMES).mean("rmse") == pytest.approx(0, abs=1e-9)
