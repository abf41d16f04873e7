"""Figures of values: against SciPy, scikit-learn and torchmetrics, and where spread or truth is missing."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from meco_hub.errors import InputError
from meco_hub.evaluation.metrics import average, correlation, per_subject, regression_metrics

NAMES = ["valence", "arousal"]


def random_case(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.normal(5, 2, size=(n, 2))
    return truth, 4.5 + 0.6 * (truth - 5) + generator.normal(0, 1, size=(n, 2))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy_scikit_learn_and_torchmetrics(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    functional = pytest.importorskip("torchmetrics.functional")
    truth, predictions = random_case(seed)
    computed = regression_metrics(truth, predictions, NAMES)
    for column, name in enumerate(NAMES):
        own, true, answer = computed.per_target[name], truth[:, column], predictions[:, column]
        assert own.rmse == pytest.approx(sk.root_mean_squared_error(true, answer))
        assert own.mae == pytest.approx(sk.mean_absolute_error(true, answer))
        assert own.pcc == pytest.approx(stats.pearsonr(true, answer).statistic)
        given = torch.tensor(answer), torch.tensor(true)
        # torchmetrics divides the variances by n − 1, as its pearson does the covariance; Lin's moments divide by n
        n = len(true)
        unbiased = true.var(ddof=1) + answer.var(ddof=1) + (true.mean() - answer.mean()) ** 2
        theirs = float(functional.concordance_corrcoef(*given))
        assert theirs == pytest.approx(2 * own.pcc * true.std(ddof=1) * answer.std(ddof=1) / unbiased, abs=1e-6)
        assert own.ccc == pytest.approx(
            2 * own.pcc * true.std() * answer.std() / (unbiased - (true.var() + answer.var()) / (n - 1))
        )
        assert own.pcc == pytest.approx(float(functional.pearson_corrcoef(*given)), abs=1e-6)
        assert own.bias == pytest.approx(float(np.mean(answer - true)))
        assert own.truth_sd == pytest.approx(float(true.std()))
    assert computed.flat()["rmse"] == pytest.approx(np.mean([one.rmse for one in computed.per_target.values()]))
    assert list(computed.flat())[:3] == ["rmse", "rmse_valence", "rmse_arousal"]


def test_concordance_is_lins_by_population_moments() -> None:
    truth, predictions = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])
    pcc, ccc, constant = correlation(truth, predictions)
    assert pcc == pytest.approx(1.0)
    assert ccc == pytest.approx(2 * (2 / 3) / (2 / 3 + 2 / 3 + 1))
    assert not constant
    assert correlation(truth, truth)[:2] == pytest.approx((1.0, 1.0))
    assert correlation(truth, -truth)[0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        (np.full(9, 3.7), np.linspace(1, 9, 9)),
        (np.linspace(1, 9, 9), np.full(9, 0.1 + 0.2)),
        (np.full(9, 3.7), np.full(9, 3.7)),
        (np.array([2.0]), np.array([5.0])),
    ],
    ids=["constant truth", "constant answers", "both alike", "one item"],
)
def test_without_spread_correlations_are_0_and_counted(truth: np.ndarray, predictions: np.ndarray) -> None:
    own = regression_metrics(truth[:, None], predictions[:, None], ["v"])
    figures = own.per_target["v"]
    assert (figures.pcc, figures.ccc, figures.constant, own.constant) == (0.0, 0.0, True, 1)
    assert figures.rmse == pytest.approx(float(np.sqrt(np.mean((truth - predictions) ** 2))))


def test_ties_are_no_matter() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    truth, predictions = generator.integers(1, 4, 50).astype(float), generator.integers(1, 4, 50).astype(float)
    assert correlation(truth, predictions)[0] == pytest.approx(stats.pearsonr(truth, predictions).statistic)


def test_unknown_values_are_left_out_for_their_target_only() -> None:
    truth, predictions = random_case(0)
    truth[:30, 1] = np.nan
    truth[:5, 0] = np.nan
    own = regression_metrics(truth, predictions, NAMES)
    assert (own.n, own.per_target["valence"].n, own.per_target["arousal"].n) == (75, 75, 50)
    assert own.per_target["arousal"] == regression_metrics(truth[30:], predictions[30:], NAMES).per_target["arousal"]
    truth[:, 1] = np.nan
    own = regression_metrics(truth, predictions, NAMES)
    assert np.isnan(own.per_target["arousal"].rmse)
    assert own.mean("rmse") == own.per_target["valence"].rmse


def test_nothing_gives_nothing() -> None:
    own = regression_metrics(np.zeros((0, 2)), np.zeros((0, 2)), NAMES)
    assert own.n == own.constant == 0
    assert np.isnan(list(own.flat().values())).all()


def test_pooled_figures_reward_knowing_the_person_and_those_per_person_do_not() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat([f"p{index}" for index in range(12)], 20)
    means = np.repeat(generator.normal(5, 2, 12), 20)
    truth = (means + generator.normal(0, 0.5, 240))[:, None]
    predictions = (means + generator.normal(0, 0.1, 240))[:, None]  # who it is, and nothing else
    pooled = regression_metrics(truth, predictions, ["v"])
    persons = per_subject(people.tolist(), truth, predictions, ["v"])
    assert persons is not None
    assert pooled.mean("ccc") > 0.9
    assert abs(persons.mean["ccc"]) < 0.15
    assert (persons.units, persons.unit) == (12, "identity")
    by_hand = [
        regression_metrics(truth[people == who], predictions[people == who], ["v"]).mean("rmse")
        for who in np.unique(people)
    ]
    assert persons.mean["rmse_v"] == pytest.approx(np.mean(by_hand))
    assert persons.sd["rmse_v"] == pytest.approx(np.std(by_hand, ddof=1))


def test_unknown_persons_take_no_part_and_nobody_is_none() -> None:
    truth, predictions = random_case(3, n=9)
    some = per_subject(["a", "a", "a", "", "", "", "b", "b", "b"], truth, predictions, NAMES)
    assert some is not None
    assert some.units == 2
    assert per_subject([""] * 9, truth, predictions, NAMES) is None


def test_averages_count_cases_without_spread_and_leave_out_the_empty() -> None:
    steady = regression_metrics(np.full((4, 1), 2.0), np.arange(4.0)[:, None], ["v"])
    moving = regression_metrics(np.arange(4.0)[:, None], np.arange(4.0)[:, None], ["v"])
    nothing = regression_metrics(np.full((4, 1), np.nan), np.arange(4.0)[:, None], ["v"])
    both = average([steady, moving, nothing], ["v"], "recording")
    assert (both.units, both.constant) == (2, 1)
    assert both.mean["pcc"] == pytest.approx(0.5)
    alone = average([moving], ["v"], "recording")
    assert np.isnan(alone.sd["rmse"])


@pytest.mark.parametrize(
    ("truth", "predictions", "says"),
    [
        (np.zeros((3, 2)), np.zeros((2, 2)), "shape"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "valence, arousal"),
        (np.zeros((3, 2)), np.array([[0, 0], [np.nan, 0], [0, 0]]), "1 of 3"),
        (np.array([[np.inf, 0.0]]), np.zeros((1, 2)), "infinite"),
    ],
)
def test_refuses_what_has_no_figures(truth: np.ndarray, predictions: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        regression_metrics(truth, predictions, NAMES)
