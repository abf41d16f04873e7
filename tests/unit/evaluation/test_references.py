"""references: a window's numbers are those of its own samples, and scaling knows people and nothing else."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from meco_hub.errors import InputError
from meco_hub.evaluation.references import PlainPredictor, fit_logistic, fit_ridge, scaled_within, window_statistics
from meco_hub.recordings.signal_recording import SignalRecording, Stream


def test_mean_spread_and_slope_of_what_is_inside() -> None:
    ramp = Stream.regular(np.stack([np.arange(40.0), np.full(40, 7.0)], axis=1), 4.0, start=-5.0)
    ramp.values[22, 1] = np.nan
    recording = SignalRecording({"eda": ramp}, 0.0, 5.0)
    found = window_statistics(recording, {"eda": 2, "ibi": 1})
    inside = np.arange(20.0, 40.0)  # from 0 s on
    assert found[:6] == pytest.approx([inside.mean(), inside.std(), 4.0, 7.0, 0.0, 0.0])
    assert np.isnan(found[6:]).all()
    assert len(found) == 9


def test_scaling_within_people() -> None:
    numbers = np.array([[1.0, np.nan], [3.0, 5.0], [10.0, 1.0], [10.0, 3.0]])
    scaled = scaled_within(numbers, ["a", "a", "b", "b"])
    assert scaled.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]


CHANNELS = {"eda": 1, "temp": 1}
"""Six numbers: mean, spread and slope of either."""


def drawn(people: int, rows: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Statistics of people with levels and spreads of their own."""
    draw = np.random.default_rng(seed)
    parts = [draw.normal(0, 50) + draw.uniform(1, 9) * draw.normal(size=(rows, 6)) for _ in range(people)]
    return np.concatenate(parts), [f"p{who}" for who in range(people) for _ in range(rows)]


def test_ridge_finds_a_straight_line_and_holds_for_strangers() -> None:
    numbers, people = drawn(6, 20, seed=0)
    truth = 5 + scaled_within(numbers, people)[:, [0, 4]] * [1.5, -0.7]
    truth[::7, 1] = np.nan  # unknown for one target alone
    line = fit_ridge(numbers, people, truth, CHANNELS, ("valence", "arousal"))
    assert line is not None
    assert line.penalty == (1.0, 1.0)  # nothing but the line is there, so the least one is best
    others, who = drawn(3, 10, seed=1)
    expected = 5 + scaled_within(others, who)[:, [0, 4]] * [1.5, -0.7]
    assert np.abs(line.answer(others, who) - expected).max() < 0.1
    again = PlainPredictor.from_dict(json.loads(json.dumps(line.to_dict())))
    assert again == line
    assert (again.answer(others, who) == line.answer(others, who)).all()


def test_where_there_is_nothing_to_find_ridge_answers_the_mean() -> None:
    numbers, people = drawn(6, 20, seed=0)
    truth = np.random.default_rng(2).normal(5, 2, (120, 1))
    line = fit_ridge(numbers, people, truth, CHANNELS, ("valence",))
    assert line is not None
    assert line.penalty[0] > 100
    assert np.std(line.answer(*drawn(3, 10, seed=1))) < 0.3  # of 2
    assert line.intercept[0] == pytest.approx(truth.mean())
    assert fit_ridge(numbers, people, np.full((120, 1), np.nan), CHANNELS, ("valence",)) is None


def test_the_penalty_does_not_depend_on_how_often_a_sensor_was_worn() -> None:
    numbers, people = drawn(6, 20, seed=0)
    truth = 5 + scaled_within(numbers, people)[:, :1]
    numbers[30:, 3:] = np.nan  # temp of the first person and a half only
    line = fit_ridge(numbers, people, truth, CHANNELS, ("valence",))
    assert line is not None
    assert line.coefficients[0][0] == pytest.approx(1.0, abs=0.02)
    numbers[:, 3:] = np.nan
    line = fit_ridge(numbers, people, truth, CHANNELS, ("valence",))
    assert line is not None
    assert line.coefficients[0][3:] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("names", [("calm", "stress"), ("calm", "stress", "joy")])
def test_logistic_regression_is_that_of_scikit_learn(names: tuple[str, ...]) -> None:
    numbers, people = drawn(6, 20, seed=0)
    scaled = scaled_within(numbers, people)
    labels = np.digitize(scaled[:, 2], [0.0, 0.7][: len(names) - 1])
    line = fit_logistic(numbers, people, labels, CHANNELS, names)
    assert line is not None
    whole = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
    expected = whole.fit(scaled, labels).predict_proba(scaled)
    answers = PlainPredictor.from_dict(line.to_dict()).answer(numbers, people)
    assert np.exp(answers) == pytest.approx(expected, abs=1e-6)
    assert (answers.argmax(axis=1) == labels).mean() > 0.8
    assert fit_logistic(numbers, people, np.zeros(120, int), CHANNELS, names) is None


def test_coefficients_that_do_not_fit_are_refused() -> None:
    numbers, people = drawn(2, 5, seed=0)
    line = fit_ridge(numbers, people, numbers[:, :1], CHANNELS, ("valence",))
    assert line is not None
    for broken in ({"channels": {"eda": 1}}, {"statistics": ["median"]}):
        with pytest.raises(InputError, match="reference predictor"):
            PlainPredictor.from_dict(line.to_dict() | broken)


def test_a_channel_that_is_not_there_is_unknown() -> None:
    recording = SignalRecording({"eda": Stream.regular(np.arange(8.0), 4.0)}, 0.0, 2.0)
    found = window_statistics(recording, {"eda": 2})
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3:]).all()
