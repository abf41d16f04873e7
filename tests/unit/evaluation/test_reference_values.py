"""reference_values: each predictor that is no model knows what it is said to know, and nothing else."""

import numpy as np
import pytest

from meco_hub.corpora import Corpus, Target
from meco_hub.evaluation.references import nuisance_answers, reference_values, row_ratings, subject_means
from meco_hub.evaluation.series import AlignedPredictions, TimeSeries, score_answers
from meco_hub.evaluation.task import task_of_corpus

NAMES = ("valence", "arousal")


def declare(time_continuous: bool, scored: tuple[float, float] | None = None) -> Corpus:
    targets = (Target("valence", 1.0, 9.0), Target("arousal", 1.0, 9.0))
    return Corpus("rated", "signals", None, "", "", "nowhere:x", targets=targets, time_continuous=time_continuous,
                  scored_seconds=scored)  # fmt: skip


def rated_trials(truth: np.ndarray) -> AlignedPredictions:
    return AlignedPredictions([], truth, [np.full((1, 2), 5.0) for _ in truth])


TRUTH = np.array([[2.0, 1.0], [4.0, np.nan], [8.0, 3.0], [6.0, 7.0]])
PEOPLE = {"identity": ["a", "a", "b", "b"], "trial": ["1", "2", "1", "2"], "stimulus": ["x", "y", "x", "y"]}


def test_the_subject_oracle_answers_everybodys_own_mean() -> None:
    found = reference_values({}, rated_trials(TRUTH), PEOPLE)
    assert list(found) == ["subject_oracle"]  # without a record nobody knows what training knew
    assert np.stack(found["subject_oracle"]).tolist() == [[3.0, 1.0], [3.0, 1.0], [7.0, 5.0], [7.0, 5.0]]


def test_its_figure_is_what_recognising_people_brings() -> None:
    declared = declare(False)
    aligned = rated_trials(TRUTH)
    run = {"data": {"train": {"target_means": {"valence": 5.0, "arousal": 4.0}}}}
    found = reference_values(nuisance_answers(run, PEOPLE, declared, NAMES), aligned, PEOPLE)
    scores = score_answers(aligned, declared, task_of_corpus(declared), PEOPLE, references=found)
    figures = scores.references
    assert set(figures) == {"training_mean", "subject_oracle"}
    assert figures["subject_oracle"]["rmse_valence"] == pytest.approx(1.0)  # 2, 4 about 3 and 8, 6 about 7
    assert figures["subject_oracle"]["ccc_valence"] == pytest.approx(8 / 9)  # 2·4 / (5 + 4 + 0)
    assert figures["training_mean"]["rmse_valence"] == pytest.approx(np.sqrt(5))
    assert figures["training_mean"]["ccc"] == 0.0


def test_parts_of_a_trial_count_once() -> None:
    truth = np.array([[1.0], [1.0], [1.0], [5.0]])
    assert subject_means(truth, ["a"] * 4, ["1", "1", "1", "2"]) == pytest.approx(np.full((4, 1), 3.0))
    assert subject_means(truth, ["a"] * 4) == pytest.approx(np.full((4, 1), 2.0))


def test_a_target_that_somebody_never_rated_is_no_reason_to_have_no_figure() -> None:
    declared = declare(False)
    truth = TRUTH.copy()
    truth[:2, 1] = np.nan
    aligned = rated_trials(truth)
    found = reference_values({}, aligned, PEOPLE)
    scores = score_answers(aligned, declared, task_of_corpus(declared), PEOPLE, references=found)
    assert scores.references["subject_oracle"]["rmse_arousal"] == pytest.approx(2.0)  # of b alone


@pytest.mark.parametrize(
    "people",
    [
        pytest.param(["a", "a", "", "b"], id="somebody is unnamed"),
        pytest.param(["a", "b", "c", "d"], id="one trial each, so that it would be told the answer"),
    ],
)
def test_it_is_left_out_where_it_says_nothing(people: list[str]) -> None:
    assert reference_values({}, rated_trials(TRUTH), PEOPLE | {"identity": people}) == {}


def test_over_time_it_knows_the_scored_seconds_of_every_recording() -> None:
    declared = declare(True, (2.0, 5.0))
    times = np.arange(8.0)
    series = []
    for level in (2.0, 4.0, 8.0):
        truth = np.full((8, 2), 99.0)  # beyond the scored seconds, where nobody looks
        truth[2:6] = level + np.array([-1.0, 1.0, -1.0, 1.0])[:, None]
        series.append(TimeSeries(times, truth, np.zeros((8, 2))))
    aligned = AlignedPredictions(series, np.full((3, 2), np.nan), [])
    assert row_ratings(aligned, (2.0, 5.0)).tolist() == [[2.0, 2.0], [4.0, 4.0], [8.0, 8.0]]
    columns = {"identity": ["a", "a", "b"]}
    found = reference_values({}, aligned, columns, declared.scored_seconds)
    assert np.stack(found["subject_oracle"])[:, 0].tolist() == [3.0, 3.0, 8.0]
    figures = score_answers(aligned, declared, task_of_corpus(declared), columns, references=found).references
    # each recording is off by 1 of spread and, of a's, by 1 of level
    assert figures["subject_oracle"]["rmse"] == pytest.approx((2 * np.sqrt(2) + 1) / 3)


def test_the_stimulus_oracle_needs_to_know_every_stimulus() -> None:
    known = {"x": {"valence": 1.0, "arousal": 2.0}, "y": {"valence": 3.0, "arousal": 4.0}}
    train = {"target_means": {"valence": 5.0, "arousal": 4.0}, "stimulus_means": known}  # as older records hold it
    found = nuisance_answers({"data": {"train": train}}, PEOPLE, declare(False), NAMES)
    assert found["stimulus_oracle"].tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]
    train["stimulus_means"] = {"x": known["x"]}
    assert "stimulus_oracle" not in nuisance_answers({"data": {"train": train}}, PEOPLE, declare(False), NAMES)
    assert nuisance_answers({"data": {"train": train, "corpus": "another"}}, PEOPLE, declare(False), NAMES) == {}
