"""Intervals: they hold the truth as often as they say, also over few people; against plain loops; none where nothing is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from meco_hub.evaluation import intervals
from meco_hub.evaluation.intervals import Intervals, class_intervals, mean_intervals, value_intervals
from meco_hub.evaluation.metrics import compute_metrics, count_confusion, regression_metrics, scores_of_confusion


def sample(n: int = 400, classes: int = 4, accuracy: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    wrong = generator.random(n) > accuracy
    return labels, np.where(wrong, generator.integers(0, classes, n), labels)


# --- Coverage ---------------------------------------------------------------------------------------------------------
# Worlds whose truth is known: people who differ, with several samples each.


def rated(people: int, generator: np.random.Generator) -> Intervals:
    """Ratings and answers that lean to one side in each person."""
    who = np.repeat(np.arange(people), 20)
    lean = generator.normal(size=people)[who] * 0.7
    truth = generator.normal(size=len(who)) + lean * 0.5
    answers = 0.6 * truth + generator.normal(size=len(who)) * 0.6 + lean * 0.8
    return value_intervals(truth[:, None], answers[:, None], ["v"], who.astype(str).tolist())


VARIANCE, LEAN = 1 + 0.25 * 0.49, 0.5 * 0.8 * 0.49
ANSWERED = 0.36 * VARIANCE + 0.36 + 0.64 * 0.49 + 2 * 0.6 * LEAN
SHARED = 0.6 * VARIANCE + LEAN
RATED = {
    "rmse": np.sqrt(VARIANCE + ANSWERED - 2 * SHARED),
    "ccc": 2 * SHARED / (VARIANCE + ANSWERED),
    "pcc": SHARED / np.sqrt(VARIANCE * ANSWERED),
}


def sorted_out(people: int, generator: np.random.Generator) -> Intervals:
    """Two classes and scores that part them; people are easy or hard, and lean to one class or the other."""
    who = np.repeat(np.arange(people), 20)
    labels = generator.integers(0, 2, len(who))
    margin = (2 * labels - 1) * (1 + 0.3 * generator.normal(size=people)[who]) + generator.normal(size=len(who))
    margin += 0.5 * generator.normal(size=people)[who]
    logits = np.stack([np.zeros(len(who)), margin], axis=1)
    return class_intervals(labels, (margin > 0).astype(int), 2, who.astype(str).tolist(), logits=logits)


def true_shares() -> dict[str, float]:
    """Recall by numbers; the area is between two samples that are mostly of different people."""
    generator = np.random.default_rng(99)
    n = 1_000_000
    up, down = (1 + 0.3 * generator.normal(size=n) + 1.118033988749895 * generator.normal(size=n) for _ in range(2))
    return {"uar": float((up > 0).mean()), "war": float((up > 0).mean()), "auroc": float((up > -down).mean())}


@pytest.mark.parametrize("people", [5, 24, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 13, 30))])
@pytest.mark.parametrize("world", ["values", "classes"])
def test_an_interval_holds_the_truth_as_often_as_it_says(world: str, people: int) -> None:
    """93 to 97 of 100; one more on either side for the chance of the simulation itself (standard error 1.0)."""
    draw: Callable[[int, np.random.Generator], Intervals] = rated if world == "values" else sorted_out
    truth = RATED if world == "values" else true_shares()
    generator, held = np.random.default_rng(people), dict.fromkeys(truth, 0)
    times = 500
    for _ in range(times):
        bounds = draw(people, generator).bounds
        for name, true in truth.items():
            low, high = bounds[name] or (np.nan, np.nan)
            held[name] += low <= true <= high
    shares = {name: count / times for name, count in held.items()}
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


@pytest.mark.slow
def test_where_few_err_much_more_than_others_intervals_of_errors_are_too_narrow() -> None:
    """What docs/evaluation.md says of people whose differences lean far to one side: exponential, with 13 of them."""
    generator = np.random.default_rng(13)

    def draw(people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        who = np.repeat(np.arange(people), 30)
        lean = 0.7 * (generator.exponential(size=people) - 1)[who]
        truth = generator.exponential(size=len(who)) - 1 + 0.5 * lean
        return who, truth, 0.6 * truth + 0.6 * generator.normal(size=len(who)) + 0.8 * lean

    _, truth, answers = draw(20_000)
    true = {
        key: regression_metrics(truth[:, None], answers[:, None], ["v"]).flat()[key] for key in ("rmse", "ccc", "pcc")
    }
    held, times = dict.fromkeys(true, 0), 500
    for _ in range(times):
        who, truth, answers = draw(13)
        bounds = value_intervals(truth[:, None], answers[:, None], ["v"], who.astype(str).tolist()).bounds
        for key, value in true.items():
            low, high = bounds[key] or (np.nan, np.nan)
            held[key] += low <= value <= high
    assert 0.83 <= held["rmse"] / times <= 0.92
    assert all(0.92 <= held[key] / times <= 0.98 for key in ("ccc", "pcc"))


# --- Arithmetic -------------------------------------------------------------------------------------------------------


def left_out(people: np.ndarray, figure: Callable[[np.ndarray], float], scale: str) -> tuple[float, float]:
    """The interval by a plain loop, from `figure(rows)`."""
    names = np.unique(people)
    without = np.array([figure(np.flatnonzero(people != name)) for name in names])
    value, count = figure(np.arange(len(people))), len(names)
    spread = student.ppf(0.975, count - 1) * np.sqrt(((without - without.mean()) ** 2).sum())
    if scale == "logit":
        middle, width = np.log(value / (1 - value)), spread / (value * (1 - value))
        return tuple(1 / (1 + np.exp(-(middle + sign * width))) for sign in (-1, 1))
    if scale == "fisher":
        return tuple(np.tanh(np.arctanh(value) + sign * spread / (1 - value**2)) for sign in (-1, 1))
    return tuple(1 / (1 / value + sign * spread / value**2) for sign in (1, -1))


def test_classes_match_a_plain_loop_over_people() -> None:
    labels, predictions = sample(120)
    people = np.array([f"p{index // 3}" for index in range(120)])

    def uar(rows: np.ndarray) -> float:
        return float(scores_of_confusion(count_confusion(labels[rows], predictions[rows], 4))["uar"])

    found = class_intervals(labels, predictions, 4, people.tolist())
    assert found.bounds["uar"] == pytest.approx(left_out(people, uar, "logit"))
    assert (found.unit, found.units) == ("identity", 40)


@pytest.mark.parametrize("classes", [2, 3])
def test_areas_match_a_plain_loop_over_people(classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 60)
    logits = np.round(8 * (generator.normal(size=(60, classes)) + np.eye(classes)[labels])) / 8  # with ties, exact ones
    people = np.array([f"p{index % 12}" for index in range(60)])
    names = [str(index) for index in range(classes)]
    found = class_intervals(labels, logits.argmax(1), classes, people.tolist(), logits=logits).bounds
    for key in ("auroc", "macro_auroc", "ovo_auroc"):

        def area(rows: np.ndarray, key: str = key) -> float:
            return float(compute_metrics(labels[rows], logits[rows], names).flat()[key] or 0)

        assert found[key] == pytest.approx(left_out(people, area, "logit"))
    plain = class_intervals(labels, logits.argmax(1), classes, people.tolist()).bounds
    assert plain["uar"] == found["uar"] == found["balanced_accuracy"]


def test_values_match_a_plain_loop_over_people() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(5, 2, size=(60, 2))
    truth[::7, 1] = np.nan
    predictions = 5 + 0.6 * (np.nan_to_num(truth, nan=5) - 5) + generator.normal(0, 1, size=(60, 2)) + 3
    people = np.array([f"p{index % 9}" for index in range(60)])
    names = ["valence", "arousal"]
    found = value_intervals(truth, predictions, names, people.tolist())
    assert found.bounds.keys() == regression_metrics(truth, predictions, names).flat().keys()
    for key, bounds in found.bounds.items():

        def figure(rows: np.ndarray, key: str = key) -> float:
            return regression_metrics(truth[rows], predictions[rows], names).flat()[key]

        scale = "fisher" if key[:3] in ("pcc", "ccc") else "inverse"
        assert bounds == pytest.approx(left_out(people, figure, scale)), key
    assert (found.unit, found.units) == ("identity", 9)


def test_means_match_a_plain_loop_over_people() -> None:
    generator = np.random.default_rng(2)
    rows = [
        {"rmse": 1 + float(value), "rmse_b": float("nan") if index % 5 == 0 else 5.0 + float(value) ** 2}
        for index, value in enumerate(generator.random(20))
    ]
    people = np.array([f"p{index % 4}" for index in range(20)])
    found = mean_intervals(rows, people.tolist())
    for key in ("rmse", "rmse_b"):

        def mean(chosen: np.ndarray, key: str = key) -> float:
            return float(np.nanmean([rows[row][key] for row in chosen]))

        assert found.bounds[key] == pytest.approx(left_out(people, mean, "inverse"))


def test_is_as_wide_as_theory_says_one_by_one_and_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predictions = sample(2000)
    accuracy = float((labels == predictions).mean())
    theory = 2 * 1.96 * (accuracy * (1 - accuracy) / 2000) ** 0.5
    for most in (intervals.MOST_UNITS, 2000):
        monkeypatch.setattr(intervals, "MOST_UNITS", most)
        found = class_intervals(labels, predictions, 4)
        low, high = found.bounds["war"] or (0, 0)
        assert low < accuracy < high
        assert high - low == pytest.approx(theory, rel=0.1)
        assert (found.unit, found.units) == ("sample", 2000)
        assert found == class_intervals(labels, predictions, 4)


def test_people_who_repeat_themselves_widen_the_interval() -> None:
    labels, predictions = (np.repeat(one, 10) for one in sample(200))  # ten copies of one picture tell nothing new
    people = [f"p{index // 10}" for index in range(2000)]
    by_sample = class_intervals(labels, predictions, 4).bounds["war"] or (0, 1)
    by_person = class_intervals(labels, predictions, 4, people).bounds["war"] or (0, 0)
    assert by_person[1] - by_person[0] > 2.5 * (by_sample[1] - by_sample[0])


def test_unknown_people_are_people_of_their_own() -> None:
    labels, predictions = sample(6)
    found = class_intervals(labels, predictions, 4, ["a", "a", "", "", "b", ""])
    assert (found.unit, found.units) == ("identity", 5)


# --- Where nothing can be said ----------------------------------------------------------------------------------------


def test_one_person_has_no_interval() -> None:
    labels, predictions = sample(50)
    assert set(class_intervals(labels, predictions, 4, ["a"] * 50).bounds.values()) == {None}
    truth = np.random.default_rng(0).normal(size=(50, 1))
    assert set(value_intervals(truth, truth + 1, ["v"], ["a"] * 50).bounds.values()) == {None}
    assert mean_intervals([{"rmse": 1.0}, {"rmse": 2.0}], ["a", "a"]).bounds == {"rmse": None}


def test_figures_that_nobody_changes_have_none() -> None:
    labels = np.arange(40) % 4
    assert set(class_intervals(labels, labels, 4).bounds.values()) == {None}
    truth = np.random.default_rng(0).normal(3, 1, size=(40, 1))
    constant = value_intervals(truth, np.full((40, 1), 3.7), ["v"]).bounds
    assert constant["pcc"] is constant["ccc_v"] is None
    assert constant["rmse"]


def test_nearly_perfect_answers_keep_an_interval_that_says_something() -> None:
    labels = np.arange(400) % 4
    predictions = labels.copy()
    predictions[0] = 1
    low, high = class_intervals(labels, predictions, 4).bounds["war"] or (0, 0)
    assert 0.97 < low < 0.9975 < high < 1


def test_figures_that_hang_on_one_person_have_none() -> None:
    labels, people = np.array([0, 0, 0, 1, 1]), ["a", "b", "c", "d", "d"]
    logits = np.array([[1.0, 0], [0.5, 0], [0, 0.1], [0, 1], [0.3, 0]])
    bounds = class_intervals(labels, logits.argmax(1), 2, people, logits=logits).bounds
    assert bounds["auroc"] is None  # without d there is no second class
    assert bounds["war"] is not None
    assert class_intervals(np.zeros(5, int), np.zeros(5, int), 2, logits=np.full((5, 2), 0.5)).bounds["auroc"] is None


def test_an_unknown_target_has_none() -> None:
    truth = np.stack([np.arange(5.0), np.full(5, np.nan)], axis=1)
    found = value_intervals(truth, np.zeros((5, 2)), ["a", "b"]).bounds
    assert found["rmse_b"] is None
    assert found["rmse"] == found["rmse_a"] is not None


def test_areas_agree_with_scikit_learn_and_no_prior_moves_one_against_one() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(3, 300, p=[0.7, 0.2, 0.1])
    logits = generator.normal(size=(300, 3)) + 1.5 * np.eye(3)[labels]
    before = compute_metrics(labels, logits, ["a", "b", "c"])
    after = compute_metrics(labels, logits + np.array([0.0, 2.0, 3.0]), ["a", "b", "c"])
    assert after.ovo_auroc == pytest.approx(before.ovo_auroc)
    assert abs((after.macro_auroc or 0) - (before.macro_auroc or 0)) > 1e-3
    pairs = [
        roc_auc_score(labels[rows] == i, logits[rows, i] - logits[rows, j])
        for i, j in ((0, 1), (0, 2), (1, 2))
        for rows in [np.flatnonzero((labels == i) | (labels == j))]
    ]
    assert before.ovo_auroc == pytest.approx(np.mean(pairs))
