"""What predictors that are no model answer for the rows under test, so that a report can set their figures beside the model's.

    training_mean      the training part's mean rating
    stimulus_oracle    is told what was shown, and answers the training part's mean rating of it
    subject_oracle     is told who it is and how they rated under test, and answers each person's own mean: the most that
                       recognising people can bring
    ridge, logistic_regression      a straight line on mean, spread and slope of every channel, as training fitted it on its
                       training part

Oracles know what no sensor can know; a model that is no better than one of them may have learnt no more than what it was told.

This file knows which of them can answer, and what; their figures are made in `levels.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..corpora import Corpus
from .references import PlainPredictor, window_statistics
from .rows import RecordingRows
from .series import RatedAnswers
from .task import Task

Answers = dict[str, list[NDArray[np.float64]]]
"""Predictor → for every row (targets,) native values, which hold throughout a recording."""


def reference_values(
    run: Mapping[str, Any] | None,
    rated: RatedAnswers,
    columns: Mapping[str, Sequence[str]],
    names: Sequence[str],
    scored_seconds: tuple[float, float] | None = None,
) -> Answers:
    """The answers of every predictor that knows enough to give one for every row.

    Args:
        run: the checkpoint's run.json, which says what training knew of its labels; None without one.
        rated: ratings of the rows that were answered, for the oracle that is told them.
        columns: "identity", and "trial" and "stimulus" where there are any, of these rows.
        names: target names in order.
        scored_seconds: of each recording, where ratings run over time.
    """
    train = ((run or {}).get("data") or {}).get("train") or {}
    found = _training_means(train, columns, names)
    people = list(columns.get("identity", ()))
    ratings = row_ratings(rated, scored_seconds)
    trials = [] if rated.courses else list(columns.get("trial", ()))
    own = subject_means(ratings, people, trials)
    # who has one trial only is answered with their rating itself, which measures nothing
    repeated = bool(rated.courses) or len(set(people)) < len(set(_units(people, trials)))
    if own is not None and repeated:
        found["subject_oracle"] = list(own)
    return found


def plain_answers(
    run: Mapping[str, Any] | None,
    rows: RecordingRows,
    positions: Sequence[int] | NDArray[np.int64],
    people: Sequence[str],
    corpus: Corpus,
    task: Task,
    *,
    progress: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """What the straight line of the training says: its name → (n, outputs); empty where there is none for these data.

    Each recording is read once more, and described as a whole, however many clips the model makes of it.

    Args:
        run: the checkpoint's run.json; None without one.
        rows: the recordings.
        positions: which of them.
        people: the person of each of those. All of a person's rows among them set their scale, without their ratings.
        corpus: whose they are; a line of another corpus says nothing here.
        task: what the model answers.
        progress: show a progress bar.

    Raises:
        InputError: a recording that was read before cannot be read any more, or a run.json with coefficients that do not fit.
    """
    data = (run or {}).get("data") or {}
    told = (data.get("train") or {}).get("reference")
    if not told or data.get("corpus") != corpus.name or tuple(told["names"]) != task.names:
        return {}
    line = PlainPredictor.from_dict(told)
    bar = tqdm(positions, desc=line.method.replace("_", " "), unit="rec", delay=1, disable=not progress)
    statistics = np.stack([window_statistics(rows[int(row)], line.channels) for row in bar])
    return {line.method: line.answer(statistics, people)}


def _training_means(train: Mapping[str, Any], columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> Answers:
    mean, by_stimulus = train.get("target_means"), train.get("stimulus_means") or {}
    if not mean:
        return {}
    overall = np.asarray([mean[name] for name in names])
    found = {"training_mean": [overall] * len(columns["identity"])}
    stimuli = columns.get("stimulus", [])
    if stimuli and all(one in by_stimulus for one in stimuli):
        found["stimulus_oracle"] = [np.asarray([by_stimulus[one][name] for name in names]) for one in stimuli]
    return found


def row_ratings(rated: RatedAnswers, scored_seconds: tuple[float, float] | None) -> NDArray[np.float64]:
    """(n, targets) rating of each row, over time its mean on the scored seconds; NaN where there is none."""
    if not rated.courses:
        return rated.truth
    return np.stack([_mean_known(one.between(scored_seconds).truth) for one in rated.courses])


def subject_means(
    ratings: NDArray[np.floating], people: Sequence[str], trials: Sequence[str] = ()
) -> NDArray[np.float64] | None:
    """(n, targets) mean of the same person's ratings, each trial or recording counting once; None where somebody is unnamed.

    Args:
        ratings: (n, targets), NaN where unknown.
        people: (n,) persons.
        trials: (n,) trial of each row, where several rows are parts of one; see `levels.score_trials`.
    """
    if len(people) != len(ratings) or not all(people):
        return None
    units = _units(people, trials)
    rows: dict[Any, list[int]] = {}
    for row, unit in enumerate(units):
        rows.setdefault(unit, []).append(row)
    by_person: dict[str, list[NDArray[np.float64]]] = {}
    for own in rows.values():
        by_person.setdefault(people[own[0]], []).append(_mean_known(np.asarray(ratings[own], np.float64)))
    means = {who: _mean_known(np.stack(own)) for who, own in by_person.items()}
    # a target that somebody never rated is never scored for them either; but a prediction must be a number
    return np.nan_to_num(np.stack([means[who] for who in people]), nan=0.0)


def _units(people: Sequence[str], trials: Sequence[str]) -> list[Any]:
    """What counts once: a trial of a person, or else the row."""
    return [(who, trials[row]) if trials and trials[row] else row for row, who in enumerate(people)]


def _mean_known(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """(targets,) mean over rows, NaN left out; NaN where nothing is known."""
    known = ~np.isnan(rows)
    counts = known.sum(axis=0)
    sums = np.where(known, rows, 0.0).sum(axis=0, dtype=np.float64)
    return np.divide(sums, counts, out=np.full(rows.shape[1], np.nan), where=counts > 0)
