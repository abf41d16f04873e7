"""The opponent that a training fits beside its model: a straight line on plain statistics of the very same recordings.

Its coefficients stand in `run.json`, so that whoever evaluates the checkpoint can say, of any rows, how much of its figure a
straight line has too.

This file knows which recordings and labels it may see; the arithmetic is in `evaluation/references.py`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..evaluation.references import STATISTICS, fit_logistic, fit_ridge, window_statistics
from ..evaluation.rows import RecordingRows
from ..evaluation.series import mean_ratings
from .data import TrainingData

logger = logging.getLogger(__name__)


def fit_reference(
    data: TrainingData, rows: RecordingRows, readable: Sequence[int], *, progress: bool = True
) -> dict[str, Any] | None:
    """Fit a ridge (values) or a logistic regression (classes) on the training part, and on nothing else.

    A rating over time counts as its mean on the scored seconds, and is answered by one value that holds throughout.

    Args:
        data: what is predicted, and the labels.
        rows: recordings of the training part.
        readable: those of them that can be read.
        progress: show a progress bar.

    Returns:
        What run.json keeps; None for recordings that are no signals, and where there are too few labels.

    Raises:
        InputError: a recording cannot be read any more.
    """
    if data.corpus.kind != "signals":
        return None
    task, corpus, channels = data.task, data.corpus, dict[str, int]()
    described, ratings = [], []
    for row in tqdm(readable, desc="reference", unit="rec", delay=1, disable=not progress):
        recording = rows[row]
        own = {name: stream.values.shape[1] for name, stream in recording.streams.items()}
        channels |= {name: max(count, channels.get(name, 0)) for name, count in own.items()}
        described.append((own, window_statistics(recording, own)))
        if corpus.time_continuous:
            ratings.append(mean_ratings(recording, task.names, corpus.scored_seconds))
    channels = dict(sorted(channels.items()))
    statistics = np.stack([_arrange(numbers, own, channels) for own, numbers in described])
    people = data.train.dataset.select(readable)["identity"][:]
    labels = np.stack(ratings) if corpus.time_continuous else data.train.labels[np.asarray(readable)]
    fit = fit_ridge if task.regression else fit_logistic
    fitted = fit(statistics, people, labels, channels, task.names)
    if fitted is None:
        logger.warning("Too few labels for a reference predictor; the run goes on without one.")
        return None
    return fitted.to_dict()


def _arrange(numbers: NDArray[np.float64], own: Mapping[str, int], channels: Mapping[str, int]) -> NDArray[np.float64]:
    """Statistics of a recording's own streams in the places that everybody's have; NaN for those it lacks."""
    size = len(STATISTICS)
    cuts = np.cumsum([size * count for count in own.values()])[:-1]
    found = dict(zip(own, np.split(numbers, cuts), strict=True))
    parts = []
    for name, count in channels.items():
        part = np.full(size * count, np.nan)
        part[: size * own.get(name, 0)] = found.get(name, ())
        parts.append(part)
    return np.concatenate(parts)
