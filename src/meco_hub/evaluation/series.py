"""Answers in values, laid beside what people rated, in native units.

Where ratings run over time, the answers of overlapping clips are stitched onto one line and read off at the times of the ratings.
Where a recording has one rating, its clips are compared with it, one by one and averaged.

This file knows how answers and ratings meet; the figures are in `levels.py` and `regression.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..corpora import Corpus
from ..errors import CorpusError
from ..recordings.signal_recording import SignalRecording
from .calibration import Calibration
from .levels import Course, ValueScores, score_courses, score_trials
from .predict import Predictions, RowAnswer
from .regression import average, regression_figures
from .rows import RecordingRows
from .subset import LabelledSubset
from .task import Task
from .timeline import read_off, stitch


@dataclass(frozen=True)
class RatedAnswers:
    """Answers and ratings of the recordings that were answered; either courses, or truth and windows.

    Attributes:
        positions: (n,) rows.
        courses: one for each recording whose ratings run over time; empty otherwise.
        truth: (n, targets) ratings of whole recordings.
        windows: for each recording (clips, targets) answers.
    """

    positions: NDArray[np.int64]
    courses: list[Course]
    truth: NDArray[np.float64]
    windows: list[NDArray[np.float64]]


def _ratings(
    recording: SignalRecording, name: str, names: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(times since the recording began, (moments, targets) ratings)."""
    missing = [target for target in names if target not in recording.annotations]
    if missing:
        raise CorpusError(
            f"{name} has no ratings of {', '.join(missing)}; it has {', '.join(recording.annotations) or 'none'}."
        )
    times = recording.annotations[names[0]].times
    columns = [
        read_off(recording.annotations[target].times, recording.annotations[target].values, times)[:, 0]
        for target in names
    ]
    return times, np.stack(columns, axis=1)


def mean_ratings(
    recording: SignalRecording, names: tuple[str, ...], scored_seconds: tuple[float, float] | None
) -> NDArray[np.float64]:
    """(targets,) mean of the ratings of a recording on its scored seconds; NaN where there are none."""
    times, truth = _ratings(recording, recording.name, names)
    course = Course(times - recording.start, truth, truth).between(scored_seconds)
    known = ~np.isnan(course.truth)
    counts = known.sum(axis=0)
    sums = np.where(known, course.truth, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(names), np.nan), where=counts > 0)


def _over_time(answer: RowAnswer, times: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """(moments, targets) native values; a model that answers once per clip holds its answer at the clip's middle."""
    if answer.times is not None:
        known, values = stitch(answer.times, answer.outputs)
    else:
        known, values = stitch(answer.middles[:, None], answer.outputs.reshape(len(answer.outputs), 1, -1))
    return task.native(read_off(known, values, times))


def rate_answers(
    predictions: Predictions,
    rows: RecordingRows,
    side: LabelledSubset,
    corpus: Corpus,
    task: Task,
    calibration: Calibration | None = None,
) -> RatedAnswers:
    """Lay answers beside ratings.

    Args:
        predictions: the model's answers.
        rows: the recordings, whose annotations hold ratings over time.
        side: ratings of whole recordings.
        corpus: says which of the two there are.
        task: names and scale.
        calibration: correction of native values; None leaves them.

    Raises:
        CorpusError: a recording without the ratings that the corpus promises.
    """

    def corrected(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if calibration is None else calibration.apply(values)

    courses, windows = [], []
    for row, answer in zip(predictions.positions.tolist(), predictions.answers, strict=True):
        if corpus.time_continuous:
            recording = rows[row]
            times, truth = _ratings(recording, rows.sample_ids[row], task.names)
            courses.append(Course(times - recording.start, truth, corrected(_over_time(answer, times, task))))
        else:
            values = answer.outputs.reshape(len(answer.outputs), -1, len(task.names)).mean(axis=1)
            windows.append(corrected(task.native(values)))
    truth = np.asarray(side.labels[predictions.positions], np.float64)
    return RatedAnswers(predictions.positions, courses, truth, windows)


def score_answers(
    rated: RatedAnswers,
    corpus: Corpus,
    task: Task,
    columns: Mapping[str, Sequence[str]],
    *,
    folds: Sequence[int] = (),
    references: Mapping[str, Sequence[NDArray[np.floating]]] | None = None,
) -> ValueScores:
    """All that a report says of values.

    Args:
        rated: answers and ratings.
        corpus: which seconds count, and which columns are groups.
        task: names of the targets.
        columns: "identity", "trial" and group columns of the recordings that were answered, those there are.
        folds: fold of each recording; none: means are over all recordings at once.
        references: name → values of each recording of a predictor that is no model; see `levels.py`.
    """
    people = columns.get("identity", ())
    groups = {name: columns[name] for name in corpus.groups if name in columns}
    if rated.courses:
        return score_courses(
            rated.courses,
            task.names,
            people,
            scored_seconds=corpus.scored_seconds,
            folds=folds,
            references=references,
            groups=groups,
        )
    given = {name: np.stack(list(values)) for name, values in (references or {}).items()}
    return score_trials(
        rated.truth,
        rated.windows,
        task.names,
        people,
        trials=columns.get("trial", ()),
        references=given,
        groups=groups,
    )


@dataclass(frozen=True)
class ValueFigures:
    """The headline figures of answers in values, means over the targets; what training selects by.

    Attributes:
        n: recordings.
        rmse, mae: where ratings run over time, of each recording on its scored seconds, then averaged; else over recordings.
        ccc, pcc: over all moments of all recordings; else over recordings.
    """

    n: int
    rmse: float
    mae: float
    ccc: float
    pcc: float


def summarise(rated: RatedAnswers, corpus: Corpus, names: Sequence[str]) -> ValueFigures:
    """The headline figures, without intervals and levels."""
    if not rated.courses:
        answers = np.stack([one.mean(axis=0) for one in rated.windows])
        pooled = regression_figures(rated.truth, answers, names)
        return ValueFigures(len(answers), *(pooled.mean(name) for name in ("rmse", "mae", "ccc", "pcc")))
    parts = [course.between(corpus.scored_seconds) for course in rated.courses]
    each = average([regression_figures(one.truth, one.predictions, names) for one in parts], names, "recording")
    pooled = regression_figures(
        np.concatenate([one.truth for one in parts]), np.concatenate([one.predictions for one in parts]), names
    )
    return ValueFigures(len(parts), each.mean["rmse"], each.mean["mae"], pooled.mean("ccc"), pooled.mean("pcc"))
