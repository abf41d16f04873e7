"""series: answers of clips on the line of the ratings, in native units, and the figures that training selects by."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from meco_hub.answers import Calibration, Task
from meco_hub.corpora import Corpus, Target
from meco_hub.errors import CorpusError
from meco_hub.evaluation.predict import Predictions, RecordingRows, RowAnswer
from meco_hub.evaluation.references import row_answers
from meco_hub.evaluation.report import write_values
from meco_hub.evaluation.series import align_predictions, mean_ratings, score_answers, scored_moments, summarise
from meco_hub.evaluation.task import LabelledSubset, task_of_corpus
from meco_hub.recordings.signal_recording import SignalRecording, Stream

RATE = 2.0


def rating(name: str) -> SignalRecording:
    """10 s from second 100 on; valence rises from 1 to 9, arousal is rated by another clock and rests at 3."""
    times = 100 + np.arange(21) / RATE
    valence = Stream(np.linspace(1, 9, 21, dtype=np.float32)[:, None], times, RATE, ("valence",))
    arousal = Stream(np.full((7, 1), 3, np.float32), np.linspace(99.9, 111.9, 7), 0.5, ("arousal",))
    return SignalRecording({}, 100.0, 110.0, name, {"valence": valence, "arousal": arousal})


def read(row: dict[str, str]) -> SignalRecording:
    found = rating(row["sample_id"])
    if row["sample_id"] == "unrated":
        return SignalRecording({}, 100.0, 110.0, "unrated", {"valence": found.annotations["valence"]})
    return found


def corpus(time_continuous: bool, scored: tuple[float, float] | None = None) -> Corpus:
    return Corpus(
        name="rated",
        kind="signals",
        labels=None,
        description="",
        layout="",
        loader="nowhere:x",
        reader=f"{__name__}:read",
        targets=(Target("valence", 1.0, 9.0), Target("arousal", 1.0, 9.0)),
        time_continuous=time_continuous,
        scored_seconds=scored,
    )


def asked(names: list[str], labels: np.ndarray) -> tuple[RecordingRows, LabelledSubset]:
    table = datasets.Dataset.from_dict({"sample_id": names})
    return RecordingRows(corpus(True), table), LabelledSubset(table, labels, {})


def answered(answers: list[RowAnswer]) -> Predictions:
    return Predictions([f"r{n}" for n in range(len(answers))], np.arange(len(answers)), answers)


def over_time(bias: float = 0.0) -> RowAnswer:
    """Two overlapping clips that answer the very ratings, valence shifted by `bias` native units."""
    task = task_of_corpus(corpus(True))
    times = np.stack([100 + np.arange(13) / RATE, 104 + np.arange(13) / RATE])
    native = np.stack([1 + 8 * (times - 100) / 10 + bias, np.full_like(times, 3.0)], axis=-1)
    return RowAnswer(task.scale(native), np.array([100.0, 104.0]), times)


def test_answers_over_time_meet_the_ratings_at_their_own_times() -> None:
    declared = corpus(True)
    task = task_of_corpus(declared)
    rows, side = asked(["a"], np.full((1, 2), np.nan))
    aligned = align_predictions(answered([over_time(0.5)]), rows, side, declared, task)
    (course,) = aligned.series
    assert np.allclose(course.times, np.arange(21) / RATE)  # since the recording began, whatever its clock
    assert np.allclose(course.truth[:, 0], np.linspace(1, 9, 21))
    assert np.allclose(course.truth[:, 1], 3)  # the other target's clock is read off at the first one's times
    assert np.allclose(course.predictions - course.truth, [0.5, 0.0], atol=1e-5)
    found = summarise(aligned, declared, task.names)
    assert (found.n, found.rmse, found.mae) == (1, pytest.approx(0.25, abs=1e-5), pytest.approx(0.25, abs=1e-5))


def test_a_calibration_is_of_native_values() -> None:
    declared = corpus(True)
    task = task_of_corpus(declared)
    rows, side = asked(["a"], np.full((1, 2), np.nan))
    back = Calibration("affine", "", 1, names=task.names, slope=(1.0, 1.0), intercept=(-0.5, 0.0))
    aligned = align_predictions(answered([over_time(0.5)]), rows, side, declared, task, back)
    assert summarise(aligned, declared, task.names).rmse == pytest.approx(0, abs=1e-5)


def test_only_scored_seconds_count() -> None:
    declared = corpus(True, (2.0, 4.0))
    task = task_of_corpus(declared)
    rows, side = asked(["a"], np.full((1, 2), np.nan))
    answer = over_time()
    answer.outputs[0, 9:], answer.outputs[1, 1:] = 50.0, 50.0  # nonsense from 4.5 s on
    aligned = align_predictions(answered([answer]), rows, side, declared, task)
    assert summarise(aligned, declared, task.names).rmse == pytest.approx(0, abs=1e-5)
    assert score_answers(aligned, declared, task, {}).metrics["rmse"] == pytest.approx(0, abs=1e-5)
    assert score_answers(aligned, corpus(True), task, {}).metrics["rmse"] > 10
    assert np.allclose(mean_ratings(rating("a"), ("valence", "arousal"), (2.0, 4.0)), [1 + 8 * 0.3, 3])


def test_means_of_what_is_not_rated_are_unknown() -> None:
    assert np.isnan(mean_ratings(rating("a"), ("valence",), (50.0, 60.0))).all()
    found = rating("a")
    found.annotations["valence"].values[:10] = np.nan
    assert mean_ratings(found, ("valence",), None)[0] == pytest.approx(7.0)


def test_missing_ratings_are_named() -> None:
    declared = corpus(True)
    rows, side = asked(["unrated"], np.full((1, 2), np.nan))
    with pytest.raises(CorpusError, match="unrated has no ratings of arousal; it has valence"):
        align_predictions(answered([over_time()]), rows, side, declared, task_of_corpus(declared))


def test_what_lies_behind_the_end_of_a_recording_counts_for_nothing(tmp_path: Path) -> None:
    """Two windows of two steps, of which the last step lies behind the end: the same mean of three everywhere."""
    declared, task = corpus(False), Task(("valence", "arousal"), True, (5.0, 5.0), (4.0, 4.0))
    rows, side = asked(["a", "b"], np.array([[5.0, 3.0], [4.0, 2.0]]))
    said = np.array([[[4.0, 1.0], [6.0, 2.0]], [[5.0, 3.0], [1.0, 9.0]]])
    times = np.array([[0.5, 1.5], [2.5, np.nan]])
    first = RowAnswer(task.scale(said), np.zeros(2), times)
    second = RowAnswer(task.scale(said), np.zeros(2), np.array([[0.5, 1.5], [2.5, 3.5]]))
    found = answered([first, second])
    means = np.array([[5.0, 2.0], [4.0, 3.75]])
    assert np.allclose(task.native(found.values()), means, atol=1e-6)
    aligned = align_predictions(found, rows, side, declared, task)
    assert np.allclose(aligned.windows[0], [[5, 1.5], [5, 3]])
    assert np.allclose(aligned.shares[0], [1, 0.5])
    assert np.allclose(aligned.answers(), means)
    assert np.allclose(row_answers(aligned, None), means)
    assert np.allclose(scored_moments(aligned, None)[0], means)
    error = np.abs(means - side.labels).mean()
    assert summarise(aligned, declared, task.names).mae == pytest.approx(error)
    scores = score_answers(aligned, declared, task, {"identity": ["p", "q"]})
    assert scores.metrics["mae"] == pytest.approx(error)
    write_values(tmp_path / "predictions.csv", task.names, ["a", "b"], aligned)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == "sample_id,window,valence_true,valence,arousal_true,arousal,share"
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["1", "0.5", "1", "1"]


def test_one_rating_per_recording_is_laid_beside_the_mean_of_its_clips() -> None:
    declared, task = corpus(False), Task(("valence", "arousal"), True, (5.0, 5.0), (4.0, 4.0))
    rows, side = asked(["a", "b"], np.array([[7.0, 3.0], [5.0, np.nan]]))
    answers = [
        RowAnswer(task.scale(np.array([[6.0, 3.0], [8.0, 5.0]])), np.zeros(2)),
        RowAnswer(task.scale(np.array([[[4.0, 1.0], [6.0, 1.0]]])), np.zeros(1)),  # steps of a clip are averaged
    ]
    aligned = align_predictions(answered(answers), rows, side, declared, task)
    assert not aligned.series
    assert np.allclose(aligned.windows[0], [[6, 3], [8, 5]])
    assert np.allclose(aligned.windows[1], [[5, 1]])
    found = summarise(aligned, declared, task.names)
    assert (found.n, found.mae) == (2, pytest.approx((0 + 1.0) / 2))  # valence 0, 0; arousal 1, unknown
