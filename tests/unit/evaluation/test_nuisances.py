"""Nuisances: what a table knows, and the figures that it cannot give."""

import json

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from meco_hub.evaluation.nuisances import (
    LEAF,
    TREES,
    NuisanceTable,
    balance,
    classes_within,
    fit_nuisance,
    nuisance_values,
    values_within,
)


def test_words_are_answered_with_their_means_and_what_is_unknown_with_nothing() -> None:
    ratings = np.array([[1.0], [3.0], [np.nan], [9.0], [np.nan], [5.0]])
    table = fit_nuisance(["x", "x", "x", "y", "z", ""], ratings)
    assert table is not None
    assert table == NuisanceTable(("x", "y"), ((2.0,), (9.0,)))
    answers = table.answer(["y", "x"])
    assert answers is not None
    assert answers.tolist() == [[9.0], [2.0]]
    assert table.answer(["x", "z"]) is None


def test_classes_count_the_same_whatever_their_share() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    films = ["a"] * 45 + ["b"] * 45 + ["b"] * 10
    table = fit_nuisance(films, *balance(labels, 2))
    assert table is not None
    assert np.allclose(table.answers, [[1, 0], [1 / 3, 2 / 3]])  # half of one class against all of the other


def test_the_steps_of_a_number_are_the_forest_itself() -> None:
    generator = np.random.default_rng(0)
    minutes = generator.uniform(0, 60, 400).round(1)
    labels = ((minutes > 20) & (minutes < 40)).astype(int) ^ (generator.random(400) < 0.1).astype(int)
    answers, weights = balance(labels, 2)
    table = fit_nuisance(minutes.tolist(), answers, weights)
    assert table is not None
    again = NuisanceTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table
    forest = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=0)
    forest.fit(minutes[:, None], answers, sample_weight=weights)
    asked = np.linspace(-5, 70, 301)
    found = again.answer(asked.tolist())
    assert found is not None
    assert np.allclose(found, forest.predict(asked[:, None]), atol=1e-6)
    assert again.answer([1.0, float("nan")]) is None


def test_people_are_stored_by_their_fingerprints() -> None:
    stored = nuisance_values("deap", "identity", ["s01", "s02", ""])
    assert "s01" not in stored
    assert stored[2] == ""
    assert nuisance_values("deap", "stimulus", ["film"]) == ["film"]


def people_in_minutes(classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(1)
    minutes = np.tile(np.arange(6) + 0.25, 8)
    people = [f"p{index // 6}" for index in range(48)]
    labels = generator.integers(0, classes, 48)
    logits = np.round(4 * (generator.normal(size=(48, classes)) + np.eye(classes)[labels])) / 4
    return labels, logits, minutes, people


@pytest.mark.parametrize("column", ["minute", "identity"])
@pytest.mark.parametrize("classes", [2, 3])
def test_pairs_are_of_different_people_in_one_minute_or_of_one_person(classes: int, column: str) -> None:
    labels, logits, minutes, people = people_in_minutes(classes)
    areas = []
    for first in range(classes):
        for second in range(first + 1, classes):
            margin = logits[:, first] - logits[:, second]
            hits = [
                float(margin[i] > margin[j]) + 0.5 * float(margin[i] == margin[j])
                for i in np.flatnonzero(labels == first)
                for j in np.flatnonzero(labels == second)
                if (
                    people[i] == people[j]
                    if column == "identity"
                    else minutes[i] == minutes[j] and people[i] != people[j]
                )
            ]
            areas.append(np.mean(hits))
    columns = {"minute": minutes.tolist(), "identity": people}
    within = classes_within(labels, logits, columns, [column, "absent"], people)
    assert within.figures() == {f"auroc_within_{column}": pytest.approx(np.mean(areas))}
    low, high = within.intervals().bounds[f"auroc_within_{column}"] or (1, 0)
    assert low < np.mean(areas) < high


def test_who_knows_the_minute_alone_is_at_chance_within_it() -> None:
    labels, _, minutes, people = people_in_minutes()
    told = np.stack([np.zeros(48), np.sin(minutes)], axis=1)
    assert classes_within(labels, told, {"minute": minutes.tolist()}, ["minute"], people).figures() == {
        "auroc_within_minute": 0.5
    }
    same = (minutes > 3).astype(int)  # the minute tells all: there is no pair left
    found = classes_within(same, told, {"minute": minutes.tolist()}, ["minute"], people).figures()
    assert np.isnan(found["auroc_within_minute"])


def test_what_is_left_of_values_when_the_film_is_taken_away() -> None:
    generator = np.random.default_rng(2)
    films, people = ["a", "b", "c"] * 8, [f"p{index // 3}" for index in range(24)]
    level = np.array([2.0, 5.0, 8.0] * 8)[:, None]
    truth = level + generator.normal(size=(24, 2))
    truth[4, 1] = np.nan
    answers = level + 0.5 * (np.nan_to_num(truth, nan=0.0) - level) + generator.normal(size=(24, 2))
    expected = []
    for target in range(2):
        known = np.isfinite(truth[:, target])
        left = []
        for values in (truth[:, target], answers[:, target]):
            own = np.where(known, values, np.nan)
            left.append(own - np.array([np.nanmean(own[[film == other for other in films]]) for film in films]))
        expected.append(np.corrcoef(left[0][known], left[1][known])[0, 1])
    within = values_within(truth, answers, ["v", "a"], {"stimulus": films}, ["stimulus"], people)
    found = within.figures()
    assert found["pcc_within_stimulus_v"] == pytest.approx(expected[0])
    assert found["pcc_within_stimulus_a"] == pytest.approx(expected[1])
    assert found["pcc_within_stimulus"] == pytest.approx(np.mean(expected))
    told = values_within(truth, np.tile(level, 2), ["v", "a"], {"stimulus": films}, ["stimulus"], people)
    assert set(told.figures().values()) == {0.0}
    everybody = [index for index, who in enumerate(people) if who != "p0"]
    without = values_within(
        truth[everybody], answers[everybody], ["v", "a"], {"stimulus": [films[row] for row in everybody]}, ["stimulus"],
        [people[row] for row in everybody],
    ).figures()  # fmt: skip
    weights = np.ones((1, 8))
    weights[0, 0] = 0
    assert within.score(weights)["pcc_within_stimulus_v"][0] == pytest.approx(without["pcc_within_stimulus_v"])
