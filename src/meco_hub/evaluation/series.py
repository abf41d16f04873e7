"""Answers in values, laid beside what people rated: one series per recording, in native units.

Where ratings run over time, the answers of overlapping clips are stitched onto one line and read off at the times of the ratings,
in the part of the recording that the corpus scores. Where a recording has one rating, its clips are the points of the series.

This file knows how answers and ratings meet; it knows no metric.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..corpora import Corpus
from ..recordings.signal_recording import SignalRecording
from .predict import Predictions, RowAnswer
from .rows import RecordingRows
from .subset import LabelledSubset
from .task import Task
from .timeline import read_off, stitch

Correction = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(k, targets) native values → calibrated ones."""


@dataclass(frozen=True)
class Series:
    """One recording's answers and ratings.

    Attributes:
        sample_id: the recording.
        identity: its person; "" unknown.
        predicted: (points, targets) native values.
        truth: (points, targets) ratings, NaN where unknown.
        times: (points,) seconds on the recording's clock; None where the recording has one rating.
    """

    sample_id: str
    identity: str
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64]
    times: NDArray[np.float64] | None = None


def ratings_of(
    recording: SignalRecording, names: tuple[str, ...], scored: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(times, (points, targets) ratings) of a recording, in the part that counts."""
    first = recording.annotations[names[0]]
    times = first.times
    inside = np.ones(len(times), bool)
    if scored is not None:
        # a hair of tolerance: the official grids end on the last second itself
        since = times - recording.start
        inside = (since >= scored[0] - 1e-6) & (since <= scored[1] + 1e-6)
    columns = [
        read_off(recording.annotations[name].times, recording.annotations[name].values, times[inside])[:, 0]
        for name in names
    ]
    return times[inside], np.stack(columns, axis=1)


def collect_series(
    predictions: Predictions,
    rows: RecordingRows,
    side: LabelledSubset,
    corpus: Corpus,
    task: Task,
    correction: Correction | None = None,
) -> list[Series]:
    """One series per recording that was answered.

    Args:
        predictions: the model's answers.
        rows: the recordings, whose annotations hold ratings over time.
        side: ratings of whole recordings.
        corpus: says which part of a recording is scored.
        task: names and scale.
        correction: calibration of native values; None leaves them.
    """
    identities = side.dataset["identity"][:]
    found: list[Series] = []
    for row, answer in zip(predictions.positions.tolist(), predictions.answers, strict=True):
        if corpus.time_continuous:
            times, truth = ratings_of(rows[row], task.names, corpus.scored_seconds)
            predicted = _over_time(answer, times, task)
        else:
            values = answer.outputs.reshape(len(answer.outputs), -1, len(task.names)).mean(axis=1)
            times, predicted = None, task.native(values)
            truth = np.repeat(np.asarray(side.labels[row], np.float64)[None], len(predicted), axis=0)
        if correction is not None:
            predicted = correction(predicted)
        found.append(Series(rows.sample_ids[row], identities[row], predicted, truth, times))
    return found


def _over_time(answer: RowAnswer, times: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """(points, targets) native values at `times`; a model that answers once per clip holds its answer at the clip's beginning."""
    if answer.times is not None:
        known, values = stitch(answer.times, answer.outputs)
    else:
        known, values = stitch(answer.starts[:, None], answer.outputs.reshape(len(answer.outputs), 1, -1))
    return task.native(read_off(known, values, times))
