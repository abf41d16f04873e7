"""Intervals: against a plain loop, reproducible, wider where persons repeat themselves."""

import time

import numpy as np
import pytest

from meco_hub.evaluation.bootstrap import bootstrap
from meco_hub.evaluation.metrics import count_confusion, scores_of_confusion


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
