"""What the design of a corpus gives away: predictors that are told nothing else, and the figures that it cannot give.

Everybody sees the same films, or does the same tasks in the same minutes: then who knows the film, or the minute, knows most of the
answer and needs no sensor. A corpus declares such columns (`Corpus.nuisances`), and two things follow of each:

    <column>_oracle             what the training part's labels are for each of its values: a reference beside the model
    <metric>_within_<column>    the model's figure where it tells nothing: between samples that share its value

Of classes that is AUROC over pairs of different people (one class against one), of values the correlation of what is left of truth
and answer when each value's own means are taken away. Ratings over time have `ccc_within_recording` beside it (`series.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import InputError
from .intervals import Intervals, WeightedScore, group_people, jackknife
from .metrics import SMALLEST_SD, Floats, Ints, mean_known, rows_by
from .task import hash_person

TREES, LEAF = 100, 5
"""Of the forest that is fitted on a number."""

IDENTITY = "identity"
"""The one nuisance that is the person: within it, pairs are of one person."""


@dataclass(frozen=True)
class NuisanceTable:
    """What the labels of the training part are on average, by one column and nothing else.

    Attributes:
        keys: values of a column of words, sorted; or where the steps of a column of numbers end, one less than there are steps.
        answers: for each key, or step, one number per output: a rating in native units, or a class's probability.
    """

    keys: tuple[str, ...] | tuple[float, ...]
    answers: tuple[tuple[float, ...], ...]

    def answer(self, values: Sequence[Any]) -> Floats | None:
        """(n, outputs); None where a word was not in training, or a number is unknown."""
        table = np.asarray(self.answers)
        if len(self.answers) > len(self.keys):
            numbers = np.asarray(values, np.float64)
            return table[np.searchsorted(np.asarray(self.keys), numbers)] if np.isfinite(numbers).all() else None
        places = {key: place for place, key in enumerate(self.keys)}
        return table[[places[one] for one in values]] if all(one in places for one in values) else None

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {"keys": list(self.keys), "answers": [list(row) for row in self.answers]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "NuisanceTable":
        """Out of a run.json."""
        keys, answers = tuple(stored["keys"]), tuple(tuple(map(float, row)) for row in stored["answers"])
        if len(answers) - len(keys) not in (0, 1):
            raise InputError(
                f"A nuisance's table has {len(keys)} keys and {len(answers)} answers; expected as many, or one answer more. Take "
                "data.train.nuisances out of run.json, or train again."
            )
        return cls(keys, answers)


def fit_nuisance(values: Sequence[Any], answers: Floats, weights: Floats | None = None) -> NuisanceTable | None:
    """Means by word, or a random forest on the one number, written as the steps that it is.

    Args:
        values: (n,) words, "" where unknown, or numbers, NaN where unknown.
        answers: (n, outputs) ratings, NaN where unknown, or 1 for the class and 0 for the others.
        weights: (n,) how much each row counts; None: alike.

    Returns:
        None where nothing is known.
    """
    from sklearn.ensemble import RandomForestRegressor

    weigh = np.ones(len(answers)) if weights is None else weights
    if all(isinstance(one, str) for one in values):
        table = {}
        for key in sorted({one for one in values if one}):
            rows = np.array([one == key for one in values])
            mean = mean_known(answers[rows] * weigh[rows, None]) / weigh[rows].mean()
            if np.isfinite(mean).all():
                table[key] = tuple(mean.tolist())
        return NuisanceTable(tuple(table), tuple(table.values())) if table else None
    numbers = np.asarray(values, np.float64)
    known = np.isfinite(numbers) & np.isfinite(answers).all(axis=1)
    if not known.any():
        return None
    forest: Any = RandomForestRegressor(TREES, min_samples_leaf=LEAF, random_state=0)
    wanted = answers[known] if answers.shape[1] > 1 else answers[known, 0]
    forest.fit(numbers[known, None], wanted, sample_weight=weigh[known])
    trees = [one.tree_ for one in forest.estimators_]
    keys = np.unique(np.concatenate([one.threshold[one.children_left >= 0] for one in trees]))
    middles = np.concatenate([keys[:1] - 1, (keys[:-1] + keys[1:]) / 2, keys[-1:] + 1]) if len(keys) else np.zeros(1)
    steps = forest.predict(middles[:, None]).reshape(len(middles), -1)
    return NuisanceTable(tuple(keys.tolist()), tuple(map(tuple, steps.round(6).tolist())))


def nuisance_values(corpus: str, column: str, values: Sequence[Any]) -> Sequence[Any]:
    """The values of a column as run.json may hold them: people by their fingerprints."""
    return [one and hash_person(corpus, one) for one in values] if column == IDENTITY else values


def balance(labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """(n, classes) answers and (n,) weights of classes that all count the same, for `fit_nuisance`."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.eye(classes)[labels], len(labels) / (classes * counts[labels])


def stored_tables(train: Mapping[str, Any], names: Sequence[str]) -> dict[str, NuisanceTable]:
    """The tables of a run.json's `data.train`; older ones hold `stimulus_means` alone."""
    stored = dict(train.get("nuisances") or {})
    if (old := train.get("stimulus_means")) and "stimulus" not in stored:
        stored["stimulus"] = {"keys": list(old), "answers": [[means[name] for name in names] for means in old.values()]}
    return {column: NuisanceTable.from_dict(one) for column, one in stored.items()}


# --- Where a nuisance tells nothing ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Within:
    """Figures that the nuisances cannot give.

    Attributes:
        score: `<metric>_within_<column>` of weighted people.
        groups, unit: (n,) the person of each row, and what a person is called.
    """

    score: WeightedScore
    groups: Ints
    unit: str

    def figures(self) -> dict[str, float]:
        """The figures of everybody; NaN where there is nothing to compare."""
        found = self.score(np.ones((1, int(self.groups.max()) + 1)))
        return {name: float(values[0]) for name, values in found.items()}

    def intervals(self) -> Intervals:
        """Their intervals over people."""
        return jackknife(self.score, self.groups, self.unit)


def _same(values: Sequence[Any]) -> list[Ints]:
    """Rows that share a value; numbers do to the sixth decimal. Unknown ones share nothing."""
    keys = [one if isinstance(one, str) else f"{one:.6f}" if np.isfinite(one) else "" for one in values]
    return [np.asarray(own) for key, own in rows_by(keys).items() if key and len(own) > 1]


def classes_within(
    labels: Ints, logits: Floats, columns: Mapping[str, Sequence[Any]], nuisances: Sequence[str], people: Sequence[str]
) -> Within:
    """`auroc_within_<column>`: of two samples of two classes that share the value, how often the right one is ranked above.

    Args:
        logits: (n, classes) scores; pairs of classes are ranked by their difference, which no prior moves, and averaged.
        nuisances: the columns that are asked for; those that are not there are passed over.
        people: (n,) subjects. Pairs are of different people, and within `identity` of one.
    """
    groups, unit = group_people(people, len(labels))
    units = int(groups.max()) + 1
    pairs = list(combinations(np.unique(labels).tolist(), 2))
    counted = {}
    for column in (one for one in nuisances if one in columns):
        right, all_of = np.zeros((2, len(pairs), units, units))
        for rows in _same(columns[column]):
            for place, (first, second) in enumerate(pairs):
                mine, theirs = rows[labels[rows] == first], rows[labels[rows] == second]
                margins = (logits[mine, first] - logits[mine, second])[:, None] - (
                    logits[theirs, first] - logits[theirs, second]
                )
                at: Any = (place, groups[mine][:, None], groups[theirs])
                np.add.at(right, at, (margins > 0) + 0.5 * (margins == 0))
                np.add.at(all_of, at, 1.0)
        apart = np.eye(units) if column == IDENTITY else 1 - np.eye(units)
        counted[f"auroc_within_{column}"] = right * apart, all_of * apart

    def score(weights: Floats) -> dict[str, Floats]:
        found = {}
        for name, (right, all_of) in counted.items():
            hits, total = (np.einsum("rp,kpq,rq->kr", weights, one, weights, optimize=True) for one in (right, all_of))
            with np.errstate(invalid="ignore", divide="ignore"):
                found[name] = mean_known(hits / total) if pairs else np.full(len(weights), np.nan)
        return found

    return Within(score, groups, unit)


def values_within(
    truth: Floats,
    answers: Floats,
    names: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    nuisances: Sequence[str],
    people: Sequence[str],
) -> Within:
    """`pcc_within_<column>` and `…_<target>`: correlation of what is left when the means of each value are taken away.

    Args:
        truth, answers: (n, targets) one value per row, over time its mean; NaN in `truth` where unknown.
        columns, nuisances, people: as of `classes_within`.
    """
    groups, unit = group_people(people, len(truth))
    units, counted = int(groups.max()) + 1, {}
    for column in (one for one in nuisances if one in columns):
        sharing = _same(columns[column])
        sums = np.zeros((units, len(sharing), len(names), 6))
        for place, rows in enumerate(sharing):
            known = np.isfinite(truth[rows])
            y, p = (
                np.where(known, one[rows] - mean_known(np.where(known, one[rows], np.nan)), 0.0)
                for one in (truth, answers)
            )
            at: Any = (groups[rows], place)
            np.add.at(sums, at, np.stack([known, p, y, p * p, y * y, p * y], axis=-1))
        counted[column] = sums

    def score(weights: Floats) -> dict[str, Floats]:
        found = {}
        for column, sums in counted.items():
            n, p, y, pp, yy, py = np.moveaxis(np.tensordot(weights, sums, axes=1), -1, 0)
            full = np.maximum(n, 1)
            spread, spread_truth, shared = (
                (one).sum(axis=1) for one in (pp - p * p / full, yy - y * y / full, py - p * y / full)
            )
            compared = np.where(n > 1, n, 0).sum(axis=1)
            flat = np.minimum(spread, spread_truth) < SMALLEST_SD**2 * np.maximum(compared, 1)
            pcc = np.where(flat, 0.0, shared / np.sqrt(np.maximum(spread * spread_truth, 1e-300)))
            pcc = np.where(compared > 0, np.clip(pcc, -1, 1), np.nan)
            found[f"pcc_within_{column}"] = mean_known(pcc.T)
            found |= {f"pcc_within_{column}_{name}": pcc[:, place] for place, name in enumerate(names)}
        return found

    return Within(score, groups, unit)
