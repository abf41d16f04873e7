"""Levels: trials of averaged windows, recordings on their scored seconds, persons; references scored alike."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import InputError
from meco_hub.evaluation.metrics import regression_metrics
from meco_hub.evaluation.series import TimeSeries, score_series, score_trials

NAMES = ["valence", "arousal"]
CASE = Path(__file__).parents[4] / "shared" / "data" / "case" / "case_20hz.npz"


def trials(n: int = 24, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(1, 9, size=(n, 2))
    windows = [5 + 0.5 * (one - 5) + generator.normal(0, 2, size=(generator.integers(1, 7), 2)) for one in truth]
    return truth, windows, [f"p{index % 6}" for index in range(n)]


def test_the_headline_is_of_averaged_windows() -> None:
    truth, windows, subjects = trials()
    scores = score_trials(truth, windows, NAMES, subjects)
    means = np.stack([one.mean(axis=0) for one in windows])
    by_hand = regression_metrics(truth, means, NAMES)
    assert scores.metrics == {"n": 24, **by_hand.flat()}
    assert scores.levels["trial"]["pooled"]["ccc"] == by_hand.mean("ccc")
    repeated = np.repeat(truth, [len(one) for one in windows], axis=0)
    single = regression_metrics(repeated, np.concatenate(windows), NAMES)
    assert scores.levels["window"]["pooled"]["rmse"] == pytest.approx(single.mean("rmse"))
    assert scores.levels["window"]["pooled"]["rmse"] > scores.metrics["rmse"]  # averaging takes noise away
    assert scores.levels["trial"]["per_subject"]["units"] == 6
    assert scores.intervals.unit == "identity"
    for key in ("rmse", "ccc_valence"):
        low, high = scores.intervals.bounds[key]
        assert low <= scores.metrics[key] <= high


def test_rows_of_one_trial_are_one_item_and_names_are_the_persons_own() -> None:
    truth = np.array([[1.0], [1.0], [3.0], [5.0]])
    windows = [np.array([[2.0], [4.0]]), np.array([[6.0]]), np.array([[3.0]]), np.array([[5.0]])]
    scores = score_trials(truth, windows, ["v"], ["a", "a", "b", "b"], trials=["t1", "t1", "t1", ""])
    assert scores.metrics["n"] == 3
    # the trial's windows weigh alike: mean of 2, 4 and 6
    assert scores.metrics["rmse"] == pytest.approx(np.sqrt(9 / 3))
    assert scores.levels["window"]["pooled"]["n"] == 5


def test_references_and_groups_go_the_same_way() -> None:
    truth, windows, subjects = trials()
    mean = np.tile(truth.mean(axis=0), (24, 1))
    scores = score_trials(
        truth, windows, NAMES, subjects,
        references={"training mean": mean, "oracle": truth}, groups={"sex": ["m", "w"] * 12},
    )  # fmt: skip
    assert scores.references["training mean"]["rmse_valence"] == pytest.approx(truth[:, 0].std())
    assert scores.references["training mean"]["ccc"] == 0.0
    assert scores.references["oracle"]["rmse"] == 0.0
    assert scores.references["oracle"]["ccc"] == pytest.approx(1.0)
    assert scores.groups["sex"]["values"]["m"]["n"] == 12
    assert scores.groups["sex"]["gaps"]["rmse"]["gap"] > 0


def series(n: int = 8, seed: int = 0) -> list[TimeSeries]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(n):
        times = np.arange(0, 50.0, 0.5)
        truth = np.stack([np.sin(times / 5 + index), np.full(len(times), index / n)], axis=1)  # arousal rests
        predictions = truth + generator.normal(0, 0.1 + 0.1 * index, size=truth.shape)
        predictions[times > 40] += 100  # outside the scored part
        made.append(TimeSeries(times, truth, predictions))
    return made


def test_the_official_mean_is_of_files_on_their_scored_seconds() -> None:
    given = series()
    scores = score_series(given, NAMES, ["a", "b"] * 4, scored_seconds=(10, 40))
    inside = [(one.times >= 10) & (one.times <= 40) for one in given]
    assert inside[0].sum() == 61
    each = np.array(
        [
            np.sqrt(np.mean((one.predictions[own] - one.truth[own]) ** 2, axis=0))
            for one, own in zip(given, inside, strict=True)
        ]
    )
    assert scores.metrics["rmse_valence"] == pytest.approx(each[:, 0].mean())
    assert scores.metrics["rmse"] == pytest.approx(each.mean())
    assert scores.metrics["n"] == 8
    truth = np.concatenate([one.truth[own] for one, own in zip(given, inside, strict=True)])
    predictions = np.concatenate([one.predictions[own] for one, own in zip(given, inside, strict=True)])
    pooled = regression_metrics(truth, predictions, NAMES)
    assert scores.metrics["ccc_arousal"] == pooled.per_target["arousal"].ccc
    assert scores.levels["moment"]["pooled"]["rmse"] == pytest.approx(pooled.mean("rmse"))
    # inside a recording arousal rests: 8 cases without spread, told and not hidden
    assert scores.levels["recording"]["mean"]["constant"] == 8
    assert "seconds 10 to 40" in scores.headline
    for key in ("rmse", "mae_arousal", "ccc"):
        low, high = scores.intervals.bounds[key]
        assert low <= scores.metrics[key] <= high
    assert (scores.intervals.unit, scores.intervals.units) == ("identity", 2)


def test_folds_are_averaged_for_themselves_first() -> None:
    given = series()
    scores = score_series(given, NAMES, folds=[0, 0, 0, 0, 0, 0, 1, 1])
    levels = scores.levels["recording"]
    assert scores.metrics["mae"] == pytest.approx((levels["folds"]["0"]["mae"] + levels["folds"]["1"]["mae"]) / 2)
    assert scores.metrics["mae"] != pytest.approx(levels["mean"]["mae"])
    assert "then over folds" in scores.headline
    assert scores.intervals.unit == "sample"


def test_references_over_time_and_recordings_without_truth() -> None:
    given = series(4)
    given[3] = TimeSeries(given[3].times, np.full_like(given[3].truth, np.nan), given[3].predictions)
    scores = score_series(
        given, NAMES, scored_seconds=(10, 40),
        references={"zero": [np.zeros(2)] * 4, "truth": [one.truth if index < 3 else np.zeros(2) for index, one in
                    enumerate(given)]}, groups={"stimulus": ["x", "x", "y", "y"]},
    )  # fmt: skip
    assert scores.metrics["n"] == 3
    assert scores.references["truth"]["rmse"] == 0.0
    assert scores.references["zero"]["pcc"] == 0.0
    assert scores.groups["stimulus"]["values"]["x"]["n"] == 2


def test_refuses_what_cannot_be_scored() -> None:
    truth, windows, subjects = trials(4)
    with pytest.raises(InputError, match="4 rows and 3 subjects"):
        score_trials(truth, windows, NAMES, subjects[:3])
    with pytest.raises(InputError, match="4 rows and 3 predictions"):
        score_trials(truth, windows[:3], NAMES)
    with pytest.raises(InputError, match="windows"):
        score_trials(truth, [np.zeros((0, 2)), *windows[1:]], NAMES)
    with pytest.raises(InputError, match="no true value"):
        score_trials(truth * np.nan, windows, NAMES)
    with pytest.raises(InputError, match="between 60 and 70 s"):
        score_series(series(2), NAMES, scored_seconds=(60, 70))
    with pytest.raises(InputError, match="reference 'mean'"):
        score_trials(truth, windows, NAMES, references={"mean": truth[:2]})


@pytest.mark.skipif(not CASE.is_file(), reason="CASE is not beside the repository (../shared/data/case)")
def test_the_training_mean_on_real_courses() -> None:
    data = np.load(CASE)
    affect, fold, times = data["affect"].astype(float), data["fold"], data["time_ms"] / 1000
    given = [TimeSeries(times, truth, np.tile(affect[fold != own].mean(axis=(0, 1)), (len(times), 1))) for truth, own in
             zip(affect, fold, strict=True)]  # fmt: skip
    scores = score_series(
        given, NAMES, [f"s{who}" for who in data["subject"]], scored_seconds=(10, 40), folds=fold.tolist()
    )
    inside = (times >= 10) & (times <= 40)
    by_hand = [
        np.mean([np.sqrt(np.mean((one.truth - one.predictions)[inside] ** 2, axis=0)) for one, at in
                 zip(given, fold, strict=True) if at == own])
        for own in range(4)
    ]  # fmt: skip
    assert scores.metrics["rmse"] == pytest.approx(np.mean(by_hand))
    assert scores.metrics["n"] == 192
    # four different constants, one per fold: less than nothing is known about who and when
    assert abs(scores.metrics["ccc"]) < 0.05
