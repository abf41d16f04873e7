"""What a model of signals is to be measured against: plain predictors on statistics of each recording.

`window_statistics` describes a recording by a few numbers per channel, whatever its rate, gaps or length; any of scikit-learn's
estimators makes a reference predictor of them. Scaled per subject without labels (`scaled_within`), they are what a logistic
regression or a random forest needs to be a fair opponent.

`fit_ridge` and `fit_logistic` make the opponents that a training fits on its own training part and writes into `run.json`: a few
coefficients, so that every evaluation can say what a straight line knows (`PlainPredictor`). `fit_forest` makes one that no file
keeps; comparisons fit it anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV

from ..corpora import Corpus
from ..errors import InputError
from ..recordings.signal_recording import SignalRecording, Stream
from .metrics import Floats, Ints, log_softmax, mean_known, rows_by
from .nuisances import nuisance_values, stored_tables
from .series import AlignedPredictions, trial_keys

PENALTIES = np.logspace(0, 5, 26)
"""Penalties of ridge regression that are tried, by the error of each row left out in turn (closed form)."""

INVERSE_PENALTY = 0.1
"""Of logistic regression, scikit-learn's C; fixed, so that nothing is chosen."""

SMALLEST_SHARE = 1e-9
"""Of a class, before its logarithm is taken."""

TREES, LEAF = 300, 5
"""Of a random forest: how many trees, and the fewest rows at the end of a branch."""

STATISTICS = ("mean", "sd", "slope")
"""Of each channel, in its own unit; slope is per second."""


def window_statistics(recording: SignalRecording, channels: Mapping[str, int]) -> Floats:
    """Mean, standard deviation and slope of every channel between the recording's start and end.

    Args:
        recording: any; a stream or channel that is absent, or has no finite sample there, gives NaN.
        channels: stream name → number of its channels, so that the vector's length does not depend on what is missing.

    Returns:
        (3 · channels,) in the order of `channels`, channel by channel.
    """
    numbers: list[float] = []
    for name, count in channels.items():
        stream = recording.streams.get(name)
        inside = stream.between(recording.start, recording.end) if stream is not None else None
        for channel in range(count):
            numbers += _describe(inside, channel, recording.start)
    return np.asarray(numbers)


def _describe(stream: Stream | None, channel: int, start: float) -> list[float]:
    if stream is None or channel >= stream.values.shape[1]:
        return [np.nan] * len(STATISTICS)
    finite = np.isfinite(stream.values[:, channel])
    if not finite.any():
        return [np.nan] * len(STATISTICS)
    values = stream.values[finite, channel].astype(np.float64)
    times = stream.times[finite] - start
    spread = times - times.mean()
    power = float(spread @ spread)
    slope = float(spread @ (values - values.mean())) / power if power > 0 else 0.0
    return [float(values.mean()), float(values.std()), slope]


def scaled_within(statistics: Floats, groups: Sequence[str]) -> Floats:
    """Each subject's windows with mean 0 and variance 1 per column; NaN, and columns that are constant, become 0.

    Args:
        statistics: (windows, numbers).
        groups: the subject of each window. All of a subject's windows are used, those under test too, without their labels; say so
            beside the figure.
    """
    scaled = np.zeros_like(statistics)
    subjects = np.asarray(groups)
    for who in np.unique(subjects):
        own = statistics[subjects == who]
        known = np.isfinite(own)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, own, 0.0).sum(axis=0) / count
        centred = np.where(known, own - mean, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / count)
        scaled[subjects == who] = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return scaled


@dataclass(frozen=True)
class PlainPredictor:
    """A straight line on the statistics of a recording, scaled within each subject.

    Attributes:
        method: "ridge" answers values in native units, "logistic_regression" log-probabilities of classes.
        channels: stream → number of its channels, in the order of the statistics.
        coefficients: for each name one number per statistic.
    """

    method: Literal["ridge", "logistic_regression"]
    names: tuple[str, ...]
    channels: dict[str, int]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]
    penalty: tuple[float, ...]
    rows: int

    def answer(self, statistics: Floats, subjects: Sequence[str]) -> Floats:
        """(n, names) native values, or logarithms of the probabilities of classes.

        Args:
            statistics: (n, numbers) as `window_statistics` gives them for `channels`.
            subjects: (n,) subject of each row; all rows of a subject that are given here set their scale.
        """
        line = scaled_within(statistics, subjects) @ np.asarray(self.coefficients).T + np.asarray(self.intercept)
        return line if self.method == "ridge" else log_softmax(line)

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {**asdict(self), "statistics": list(STATISTICS), "scaled": "within each person, without labels"}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "PlainPredictor":
        """Out of a run.json."""
        channels = {str(name): int(count) for name, count in stored["channels"].items()}
        coefficients = tuple(tuple(map(float, row)) for row in stored["coefficients"])
        numbers = len(STATISTICS) * sum(channels.values())
        if tuple(stored["statistics"]) != STATISTICS or any(len(row) != numbers for row in coefficients):
            raise InputError(
                f"A reference predictor has coefficients of {list(stored['statistics'])} for {channels}; expected {numbers} each, "
                f"of {list(STATISTICS)}. Take the reference out of run.json, or train again."
            )
        return cls(
            stored["method"],
            tuple(stored["names"]),
            channels,
            coefficients,
            tuple(map(float, stored["intercept"])),
            tuple(map(float, stored["penalty"])),
            int(stored["rows"]),
        )


def fit_ridge(
    statistics: Floats, subjects: Sequence[str], values: Floats, channels: Mapping[str, int], names: Sequence[str]
) -> PlainPredictor | None:
    """Ridge regression of every target by itself; the penalty has the least error on rows left out one by one.

    Args:
        statistics: (n, numbers) as `window_statistics` gives them.
        values: (n, targets) native values, NaN where unknown; such rows are left out for that target alone.

    Returns:
        None where a target is rated in fewer than three rows.
    """
    scaled = scaled_within(statistics, subjects)
    if (np.isfinite(values).sum(axis=0) < 3).any():
        return None
    rows, intercepts, penalties = [], [], []
    for target in range(len(names)):
        known = np.isfinite(values[:, target])
        unit = _unit(scaled[known])
        fitted: Any = RidgeCV(PENALTIES).fit(scaled[known] / unit, values[known, target].astype(np.float64))
        rows.append(tuple((fitted.coef_ / unit).tolist()))
        intercepts.append(float(fitted.intercept_))
        penalties.append(float(fitted.alpha_))
    return PlainPredictor(
        "ridge", tuple(names), dict(channels), tuple(rows), tuple(intercepts), tuple(penalties), len(scaled)
    )


def fit_logistic(
    statistics: Floats, subjects: Sequence[str], labels: Ints, channels: Mapping[str, int], names: Sequence[str]
) -> PlainPredictor | None:
    """Logistic regression, every class counting the same; arguments as of `fit_ridge`, `labels` being (n,) class indices.

    Returns:
        None where a class has no row.
    """
    if len(np.unique(labels)) < len(names):
        return None
    scaled = scaled_within(statistics, subjects)
    unit = _unit(scaled)
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
    fitted = model.fit(scaled / unit, labels)
    lines, intercept = fitted.coef_ / unit, fitted.intercept_
    if len(names) == 2:  # scikit-learn keeps the second class alone
        lines, intercept = np.stack([0 * lines[0], lines[0]]), np.array([0.0, intercept[0]])
    return PlainPredictor(
        "logistic_regression",
        tuple(names),
        dict(channels),
        tuple(tuple(row) for row in lines.tolist()),
        tuple(intercept.tolist()),
        (INVERSE_PENALTY,) * len(names),
        len(scaled),
    )


def _unit(scaled: Floats) -> Floats:
    """(numbers,) spread of each column, so that the penalty weighs them alike: subjects without a sensor leave zeros in it."""
    spread = scaled.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


@dataclass(frozen=True)
class Forest:
    """Random forests on the statistics of a recording, scaled within each subject.

    Attributes:
        trees: of values one forest for each target, of classes one for all.
    """

    channels: dict[str, int]
    trees: tuple[Any, ...]
    regression: bool

    def answer(self, statistics: Floats, subjects: Sequence[str]) -> Floats:
        """(n, names) native values, or logarithms of the shares of the trees; arguments as of `PlainPredictor.answer`."""
        scaled = scaled_within(statistics, subjects)
        if self.regression:
            return np.stack([forest.predict(scaled) for forest in self.trees], axis=1)
        return np.log(np.maximum(self.trees[0].predict_proba(scaled), SMALLEST_SHARE))


def fit_forest(
    statistics: Floats,
    subjects: Sequence[str],
    labels: Floats | Ints,
    channels: Mapping[str, int],
    names: Sequence[str],
    *,
    regression: bool,
    seed: int,
) -> Forest | None:
    """Random forests, classes weighted alike in the rows that each tree draws; arguments as of `fit_ridge` and `fit_logistic`.

    Returns:
        None where a class has no row, or a target is rated in fewer than three.
    """
    scaled = scaled_within(statistics, subjects)
    settings: dict[str, Any] = {"n_estimators": TREES, "min_samples_leaf": LEAF, "random_state": seed}
    if not regression:
        if len(np.unique(labels)) < len(names):
            return None
        trees = [RandomForestClassifier(class_weight="balanced_subsample", **settings).fit(scaled, labels)]
    else:
        if (np.isfinite(labels).sum(axis=0) < 3).any():
            return None
        rated = [np.isfinite(column) for column in labels.T]
        trees = [
            RandomForestRegressor(**settings).fit(scaled[known], column[known])
            for known, column in zip(rated, labels.T, strict=True)
        ]
    return Forest(dict(channels), tuple(trees), regression)


# --- Reference values -------------------------------------------------------------------------------------------------
# What predictors that are no model answer for the rows under test, so that a report can set their metrics beside the model's.
#
#     training_mean      the training part's mean rating; of classes training_prior, their shares in it
#     <column>_oracle    knows what the corpus's design shares (`nuisances.py`), as the stimulus or the minute of the session, and
#                        answers what the training part's labels are where it is the same
#     subject_oracle     knows who it is and how they rated under test, and answers each subject's own mean: the most that
#                        recognising subjects can bring
#     ridge, logistic_regression      a straight line on mean, spread and slope of every channel, as training fitted it on its
#                        training part
#
# Oracles know what no sensor can know; a model that is no better than one of them may have learnt no more than that.

Answers = dict[str, list[Floats]]
"""Predictor → for every row (targets,) native values, which hold throughout a recording."""


def nuisance_answers(
    run: Mapping[str, Any] | None, columns: Mapping[str, Sequence[Any]], corpus: Corpus, names: Sequence[str]
) -> dict[str, Floats]:
    """What predictors answer that were told the training part's labels and one nuisance, or nothing: name → (n, outputs).

    Args:
        run: the checkpoint's run.json; None without one, and of another corpus it says nothing here.
        columns: "identity" and the nuisances of the rows, those there are.
        names: targets, of which the answers are native values, or classes, of which they are logarithms of probabilities.
    """
    data = (run or {}).get("data") or {}
    train: dict[str, Any] = data.get("train") or {}
    count = len(columns["identity"])
    if data.get("corpus", corpus.name) != corpus.name:
        return {}
    found: dict[str, Floats] = {}
    if (mean := train.get("target_means")) and corpus.targets:
        found["training_mean"] = np.tile([float(mean[name]) for name in names], (count, 1))
    shares: dict[str, int] = train.get("classes") or {}
    if list(shares) == list(names):
        found["training_prior"] = np.log(np.tile([max(shares[name], SMALLEST_SHARE) for name in names], (count, 1)))
    for column, table in stored_tables(train, names).items():
        if column in columns:
            answers = table.answer(nuisance_values(corpus.namespace, column, columns[column]))
            if answers is not None and answers.shape[1] == len(names):
                found[f"{column}_oracle"] = answers if corpus.targets else np.log(np.maximum(answers, SMALLEST_SHARE))
    return found


def reference_values(
    nuisances: Mapping[str, Floats],
    aligned: AlignedPredictions,
    columns: Mapping[str, Sequence[str]],
    scored_seconds: tuple[float, float] | None = None,
) -> Answers:
    """The answers of every predictor that knows enough to give one for every row.

    Args:
        aligned: ratings of the rows that were answered, for the oracle that knows them.
        columns: "identity", and "trial" where there are any, of these rows.
    """
    found = {name: list(own) for name, own in nuisances.items()}
    subjects = list(columns.get("identity", ()))
    ratings = row_ratings(aligned, scored_seconds)
    trials = [] if aligned.series else list(columns.get("trial", ()))
    own = subject_means(ratings, subjects, trials)
    # who has one trial only is answered with their rating itself, which measures nothing
    repeated = bool(aligned.series) or len(set(subjects)) < len(set(trial_keys(len(subjects), subjects, trials)))
    if own is not None and repeated:
        found["subject_oracle"] = list(own)
    return found


def row_ratings(aligned: AlignedPredictions, scored_seconds: tuple[float, float] | None) -> Floats:
    """(n, targets) rating of each row, over time its mean on the scored seconds; NaN where there is none."""
    if not aligned.series:
        return aligned.truth
    return np.stack([mean_known(one.between(scored_seconds).truth) for one in aligned.series])


def row_answers(aligned: AlignedPredictions, scored_seconds: tuple[float, float] | None) -> Floats:
    """(n, targets) answer of each row, over time its mean on the scored seconds."""
    if not aligned.series:
        return aligned.answers()
    return np.stack([one.between(scored_seconds).predictions.mean(axis=0) for one in aligned.series])


def subject_means(ratings: Floats, subjects: Sequence[str], trials: Sequence[str] = ()) -> Floats | None:
    """(n, targets) mean of the same subject's ratings, each trial or recording counting once; None where somebody is unnamed.

    Args:
        ratings: (n, targets), NaN where unknown.
        trials: (n,) trial of each row, where several rows are parts of one; see `series.score_trials`.
    """
    if len(subjects) != len(ratings) or not all(subjects):
        return None
    by_subject: dict[str, list[Floats]] = {}
    for own in rows_by(trial_keys(len(subjects), subjects, trials)).values():
        by_subject.setdefault(subjects[own[0]], []).append(mean_known(np.asarray(ratings[own], np.float64)))
    means = {who: mean_known(np.stack(own)) for who, own in by_subject.items()}
    # a target that somebody never rated is never scored for them either; but a prediction must be a number
    return np.nan_to_num(np.stack([means[who] for who in subjects]), nan=0.0)
