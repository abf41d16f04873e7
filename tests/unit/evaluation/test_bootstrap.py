"""Intervals: against a plain loop, reproducible, wider where persons repeat themselves."""

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meco_hub.evaluation.intervals import bootstrap, bootstrap_means, bootstrap_values
from meco_hub.evaluation.metrics import count_confusion, macro_auroc, regression_metrics, scores_of_confusion, softmax


def sample(n: int = 400, classes: int = 4, accuracy: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    wrong = generator.random(n) > accuracy
    return labels, np.where(wrong, generator.integers(0, classes, n), labels)


def test_matches_a_plain_loop_over_persons() -> None:
    labels, predictions = sample(120)
    people = [f"p{index // 3}" for index in range(120)]
    found = bootstrap(labels, predictions, 4, people, resamples=50, seed=3)

    groups = np.unique(np.array(people, dtype=object), return_inverse=True)[1]
    picks = np.random.default_rng(3).integers(0, 40, size=(50, 40))
    values = []
    for row in picks:
        chosen = np.concatenate([np.flatnonzero(groups == person) for person in row])
        values.append(float(scores_of_confusion(count_confusion(labels[chosen], predictions[chosen], 4))["uar"]))
    assert found.bounds["uar"] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert (found.unit, found.units, found.resamples) == ("identity", 40, 50)


def test_contains_the_value_and_is_as_wide_as_theory_says() -> None:
    labels, predictions = sample(2000)
    found = bootstrap(labels, predictions, 4)
    accuracy = float((labels == predictions).mean())
    low, high = found.bounds["war"]
    assert low < accuracy < high
    theory = 2 * 1.96 * (accuracy * (1 - accuracy) / 2000) ** 0.5
    assert high - low == pytest.approx(theory, rel=0.1)
    assert found.unit == "sample"


def test_same_seed_same_interval() -> None:
    labels, predictions = sample()
    first, second, other = (bootstrap(labels, predictions, 4, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.bounds != other.bounds


def test_persons_who_repeat_themselves_widen_the_interval() -> None:
    labels, predictions = sample(200)
    labels, predictions = (
        np.repeat(labels, 10),
        np.repeat(predictions, 10),
    )  # ten copies of one picture tell nothing new
    people = [f"p{index // 10}" for index in range(2000)]
    by_sample = bootstrap(labels, predictions, 4).bounds["war"]
    by_person = bootstrap(labels, predictions, 4, people).bounds["war"]
    assert by_person[1] - by_person[0] > 2.5 * (by_sample[1] - by_sample[0])


def test_unknown_persons_are_persons_of_their_own() -> None:
    labels, predictions = sample(6)
    found = bootstrap(labels, predictions, 4, ["a", "a", "", "", "b", ""], resamples=20)
    assert (found.unit, found.units) == ("identity", 5)


def test_a_perfect_answer_has_no_width() -> None:
    labels = np.arange(40) % 4
    found = bootstrap(labels, labels, 4, resamples=100)
    assert found.bounds["war"] == (1.0, 1.0)
    assert found.bounds["uar"] == (1.0, 1.0)


def test_is_quick_for_ten_thousand_samples() -> None:
    labels, predictions = sample(10_000, 8)
    began = time.process_time()
    bootstrap(labels, predictions, 8)
    assert time.process_time() - began < 15


def draws_of(people: np.ndarray, resamples: int, seed: int) -> list[np.ndarray]:
    """The rows of every resample, by a plain loop."""
    groups = np.unique(people.astype(object), return_inverse=True)[1]
    picks = np.random.default_rng(seed).integers(0, groups.max() + 1, size=(resamples, groups.max() + 1))
    return [np.concatenate([np.flatnonzero(groups == person) for person in row]) for row in picks]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_area_matches_a_plain_loop_over_persons(classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 60)
    logits = np.round(generator.normal(size=(60, classes)) + np.eye(classes)[labels], 1)  # with ties
    people = np.array([f"p{index % 12}" for index in range(60)])
    probabilities = softmax(logits)
    found = bootstrap(
        labels, logits.argmax(1), classes, people.tolist(), probabilities=probabilities, resamples=40, seed=5
    )
    area = macro_auroc if classes > 2 else lambda true, scores: roc_auc_score(true, scores[:, 1])
    values = [area(labels[rows], probabilities[rows]) for rows in draws_of(people, 40, 5)]
    assert found.bounds["auroc"] == pytest.approx(tuple(np.quantile(np.array(values, float), [0.025, 0.975])))
    assert found.bounds["macro_auroc"] == found.bounds["auroc"]
    plain = bootstrap(labels, logits.argmax(1), classes, people.tolist(), resamples=40, seed=5)
    assert plain.bounds["uar"] == found.bounds["uar"] == found.bounds["balanced_accuracy"]


def test_the_area_of_one_class_has_no_interval() -> None:
    found = bootstrap(np.zeros(5, int), np.zeros(5, int), 2, probabilities=np.full((5, 2), 0.5), resamples=10)
    assert np.isnan(found.bounds["auroc"]).all()
    assert found.bounds["war"] == (1.0, 1.0)


def test_values_match_a_plain_loop_over_persons() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(5, 2, size=(60, 2))
    truth[::7, 1] = np.nan
    predictions = 5 + 0.6 * (np.nan_to_num(truth, nan=5) - 5) + generator.normal(0, 1, size=(60, 2)) + 100
    people = np.array([f"p{index % 9}" for index in range(60)])
    found = bootstrap_values(truth, predictions, ["valence", "arousal"], people.tolist(), resamples=60, seed=3)
    rows = [
        regression_metrics(truth[chosen], predictions[chosen], ["valence", "arousal"]).flat()
        for chosen in draws_of(people, 60, 3)
    ]
    assert found.bounds.keys() == rows[0].keys()
    for key, bounds in found.bounds.items():
        assert bounds == pytest.approx(tuple(np.quantile([row[key] for row in rows], [0.025, 0.975]))), key
    assert (found.unit, found.units) == ("identity", 9)
    again = bootstrap_values(truth, predictions, ["valence", "arousal"], people.tolist(), resamples=60, seed=3)
    assert again == found


def test_constant_answers_have_no_correlation_in_any_resample() -> None:
    truth = np.random.default_rng(0).normal(3, 1, size=(40, 1))
    found = bootstrap_values(truth, np.full((40, 1), 3.7), ["v"], resamples=50)
    assert found.bounds["pcc"] == found.bounds["ccc_v"] == (0.0, 0.0)
    assert found.bounds["rmse"][0] < found.bounds["rmse"][1]
    flat = bootstrap_values(np.full((40, 1), 3.7), truth, ["v"], resamples=50)
    assert flat.bounds["ccc"] == (0.0, 0.0)


def test_an_unknown_target_has_no_interval() -> None:
    truth = np.stack([np.arange(5.0), np.full(5, np.nan)], axis=1)
    found = bootstrap_values(truth, np.zeros((5, 2)), ["a", "b"], resamples=20)
    assert np.isnan(found.bounds["rmse_b"]).all()
    assert found.bounds["rmse"] == found.bounds["rmse_a"]


def test_means_match_a_plain_loop_over_persons() -> None:
    generator = np.random.default_rng(2)
    rows = [{"rmse": float(value), "rmse_b": float("nan") if index % 5 == 0 else 1.0 + index} for index, value in
            enumerate(generator.random(20))]  # fmt: skip
    people = np.array([f"p{index % 4}" for index in range(20)])
    found = bootstrap_means(rows, people.tolist(), resamples=30, seed=1)
    for key in ("rmse", "rmse_b"):
        values = [np.nanmean([rows[row][key] for row in chosen]) for chosen in draws_of(people, 30, 1)]
        assert found.bounds[key] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_ten_thousand_samples_of_eight_classes_do_not_take_long() -> None:
    labels, predictions = sample(10_000, 8)
    probabilities = np.random.default_rng(0).random((10_000, 8))
    began = time.process_time()
    bootstrap(labels, predictions, 8, probabilities=probabilities, resamples=200)
    assert time.process_time() - began < 15
