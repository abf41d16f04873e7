"""The two sides of a training: divided before anything else, by whole recordings, and checked for leaks; and the control.

**The control** is a training on permuted labels, which must not learn anything. Every trial gets the ratings of another one, drawn
by the recipe's seed, in a single round, so that none keeps its own. All parts of a trial get the same, and ratings over time change
hands as whole series. Signals, people, sampling and validation stay as they are. What such a checkpoint still gets right on
strangers, the evaluation gives away: its CCC is about 0 and its balanced accuracy one in the number of classes, or something leaks.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import PreTrainedModel

from .. import plugins
from ..answers import Task, task_of_model
from ..corpora import Corpus
from ..corpora.file_tree import with_content_hashes
from ..corpora.leaks import LeakReport, fingerprint, leak_check
from ..corpora.splits import (
    PROTOCOLS,
    by_content,
    by_identity,
    by_stimulus,
    by_trial,
    find_fold,
    stratified,
    without_content_of,
)
from ..errors import ConfigurationError, InputError, LeakError
from ..evaluation.metrics import mean_known, rows_by
from ..evaluation.nuisances import balance, fit_nuisance, nuisance_values
from ..evaluation.predict import RecordingRows, predict_rows
from ..evaluation.report_file import PERMUTED
from ..evaluation.series import mean_ratings, trial_keys
from ..evaluation.task import (
    LabelledSubset,
    hash_people,
    label_names,
    map_labels,
    map_targets,
    take_folds,
    take_split,
    task_of_corpus,
)
from ..labels import index_map
from ..loading import load_model, load_processor
from .recipes import BesideRecipe, DataRecipe, Recipe

logger = logging.getLogger(__name__)

# --- Soft labels -------------------------------------------------------------------------------------------------------
# Training targets that are shares: what several people said about a sample, beside its one label.
#
# A corpus gives them as the column `soft_label`, one share for each class of its `label`; or a trained checkpoint does, by its
# answers (`soft_labels_of`). A recipe says how much of the target they are (`soft_label_weight`), or has a second layer foresee
# them (`soft_label_head`). Validation and reports keep the label.

COLUMN = "soft_label"


def blend(labels: torch.Tensor, shares: torch.Tensor | None, weight: float) -> torch.Tensor:
    """The training target (1 − weight) · label + weight · shares.

    Args:
        labels: (batch,) class indices, or values that have no shares.
        shares: (batch, classes), or None.

    Returns:
        (batch, classes) probabilities, or the labels themselves where there is nothing to blend.
    """
    if shares is None or not weight:
        return labels
    return torch.lerp(F.one_hot(labels, shares.shape[1]).to(shares), shares, weight)


def with_soft_labels(side: LabelledSubset, names: Sequence[str]) -> LabelledSubset:
    """The samples with the shares of their votes.

    Shares of classes that are not trained are left out and the others are scaled to 1; where none is left, the label has it all.
    """
    if COLUMN not in side.dataset.column_names:
        raise ConfigurationError(
            f"The recipe trains on shares of votes, and the corpus has no column {COLUMN}. Expected one share per class: use a "
            "corpus that gives them (ferplus, or fer2013 with data.options.votes: true and fer2013new.csv beside it), or leave "
            "soft_label_weight and soft_label_head out."
        )
    own = label_names(side.dataset)
    rows = side.dataset.with_format(None)[:][COLUMN]
    if any(len(row) != len(own) for row in rows):
        raise ConfigurationError(
            f"The corpus's {COLUMN} has rows of {sorted({len(row) for row in rows})} shares; expected {len(own)}, one for each of "
            f"{', '.join(own)}. Correct the corpus's reader."
        )
    given = np.asarray(rows, np.float32).reshape(-1, len(own))
    shares = np.zeros((len(given), len(names)), np.float32)
    for column, place in enumerate(index_map(own, names)):
        if place >= 0:
            shares[:, place] += given[:, column]
    hard = np.eye(len(names), dtype=np.float32)[side.labels]
    total = shares.sum(axis=1, keepdims=True)
    soft = np.where(total > 0, shares / np.where(total > 0, total, 1), hard)
    return replace(side, soft=soft.astype(np.float32))


def with_answers(side: LabelledSubset, corpus: Corpus, names: Sequence[str], checkpoint: str) -> LabelledSubset:
    """The samples with a checkpoint's answers as their shares.

    The checkpoint sees each sample as it is. Whoever learns from these answers sees it augmented, and so learns to answer for a
    disturbed sample as the checkpoint does for the whole one.

    Args:
        checkpoint: folder, bundled name or Hub id; of pictures, its mean answer to the picture and its mirror image is taken.
    """
    source = plugins.locate_checkpoint(checkpoint)
    model = load_model(source)
    theirs = task_of_model(model).names
    if set(theirs) != set(names):
        raise ConfigurationError(
            f"Recipe key 'soft_labels_of' is {checkpoint!r}, which answers {', '.join(theirs)}; expected the classes that are "
            f"trained, {', '.join(names)}. Name another checkpoint, or leave the key out."
        )
    rows = RecordingRows(corpus, side.dataset)
    found = predict_rows(
        model, load_processor(source), rows, batch_size=64, mirror=corpus.kind == "face", together=True
    )
    scores = torch.from_numpy(found.class_scores()).softmax(dim=-1)[:, index_map(names, theirs)].numpy()
    soft = np.eye(len(names), dtype=np.float32)[side.labels]  # which a sample that cannot be read keeps
    soft[found.positions] = scores
    return replace(side, soft=soft)


# --- The two sides -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingData:
    """The two sides of a training.

    Attributes:
        fingerprints: "train" and "validation", and "beside" → fingerprint of the samples.
        beside: what is trained on of a second corpus.
        permutation: (n,) of a control on permuted labels, the training row whose ratings each has; None: its own.
    """

    corpus: Corpus
    task: Task
    train: LabelledSubset
    validation: LabelledSubset
    leaks: LeakReport
    fingerprints: dict[str, str]
    beside: "Beside | None" = None
    permutation: NDArray[np.int64] | None = None

    @property
    def synthetic(self) -> bool:
        """Somebody drew what is trained on, or a part of it."""
        return self.corpus.synthetic or (self.beside is not None and self.beside.corpus.synthetic)

    @property
    def names(self) -> list[str]:
        """Classes or targets in the order of the logits."""
        return list(self.task.names)

    def describe(self) -> dict[str, Any]:
        """Numbers of samples, subjects and classes on both sides, for the run's record."""
        sides = {
            "train": self._describe("train", self.corpus, self.train) | self._knowledge(),
            "validation": self._describe("validation", self.corpus, self.validation),
        }
        if self.permutation is not None:
            sides["train"]["permuted_labels"] = True
        if (beside := self.beside) is not None:
            named = {"corpus": beside.corpus.name, "name": beside.name, "synthetic": beside.corpus.synthetic}
            described = self._describe("beside", beside.corpus, beside.side)
            sides["beside"] = {**named, **described, "leak_check": beside.leaks.to_dict()}
        return {"synthetic": self.synthetic, **sides, "leak_check": self.leaks.to_dict()}

    def _describe(self, name: str, corpus: Corpus, side: LabelledSubset) -> dict[str, Any]:
        identities = side.dataset["identity"][:]
        described: dict[str, Any] = {
            "samples": len(side.labels),
            "identities": len({identity for identity in identities if identity}),
        }
        if not self.task.regression:
            counts = np.bincount(side.labels, minlength=len(self.names))
            described["classes"] = {label: int(count) for label, count in zip(self.names, counts, strict=True)}
        described |= {"dropped": side.excluded, "fingerprint": self.fingerprints[name]}
        return {**described, "people": hash_people(corpus.namespace, identities)}

    def _knowledge(self) -> dict[str, Any]:
        """What training knew without any sensor: mean ratings, and labels by each nuisance alone; evaluations compare with them."""
        labels, weights, found = self.train.labels, None, dict[str, Any]()
        if self.task.regression:
            answers = np.asarray(labels, np.float64)
            if self.corpus.time_continuous:
                answers = np.stack([self._mean_rating(dict(row)) for row in self.train.dataset])
            mean = mean_known(answers)
            # empty where a target is never rated: half a predictor cannot be compared with
            known = np.isfinite(mean).all()
            found["target_means"] = dict(zip(self.task.names, mean.tolist(), strict=True)) if known else {}
        else:
            answers, weights = balance(labels, len(self.names))
        # of a control each film has others' ratings: their means would pass for what is known of the film
        tables = {}
        for column in self.corpus.nuisances if self.permutation is None else ():
            if column in self.train.dataset.column_names:
                values = nuisance_values(self.corpus.namespace, column, self.train.dataset[column][:])
                if (table := fit_nuisance(values, answers, weights)) is not None:
                    tables[column] = table.to_dict()
        return {**found, "nuisances": tables}

    def _mean_rating(self, row: dict[str, Any]) -> NDArray[np.floating]:
        """(targets,) of a recording; NaN where it cannot be read, which training has reported and gone on without."""
        try:
            return mean_ratings(self.corpus.read(row), self.task.names, self.corpus.scored_seconds)
        except InputError:
            return np.full(len(self.task.names), np.nan)


@dataclass(frozen=True)
class Beside:
    """What is trained on of a second corpus.

    Attributes:
        name: last part of its path.
        leaks: what it shares with the validation side.
    """

    corpus: Corpus
    name: str
    side: LabelledSubset
    leaks: LeakReport


_HOLD_OUT = {
    "by_identity": by_identity,
    "by_trial": by_trial,
    "by_stimulus": by_stimulus,
    "by_content": by_content,
    "stratified": stratified,
}
"""Key of `data.validation` → how it holds its share out."""


@dataclass(frozen=True)
class _Division:
    """The sides of a training, and what they share on purpose.

    Attributes:
        train, validation: what is learnt from and selected on.
        test: the protocol's other side, which is only compared with these; None without a protocol.
        within: kinds of `leaks.KINDS` that training and validation share on purpose.
        across: kinds that both share with the test side on purpose.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset | None
    within: frozenset[str]
    across: frozenset[str]


def _divide(splits: datasets.DatasetDict, recipe: DataRecipe) -> _Division:
    pool = take_split(splits, recipe.train.split)
    test, across = None, frozenset({"stimulus"})
    if recipe.protocol is not None:
        wanted = recipe.protocol
        fold = find_fold(pool, wanted.name, wanted.fold, n_folds=wanted.n_folds, seed=wanted.seed)
        train, test = fold.take(pool)
        across = frozenset(PROTOCOLS[wanted.name].shares)
    else:
        train = take_folds(pool, recipe.train.folds)
    if recipe.train.without_content_of:
        train = without_content_of(train, *(take_split(splits, name) for name in recipe.train.without_content_of))
    chosen = recipe.validation
    for key, hold_out in _HOLD_OUT.items():
        share = getattr(chosen, key)
        if share is not None:
            train, validation = hold_out(train, share, seed=chosen.seed)
            purpose = {"by_trial": {"identity"}, "by_stimulus": {"identity"}}.get(key, set())
            return _Division(train, validation, test, frozenset({"stimulus", *purpose}), across)
    own = pool if chosen.split is None else take_split(splits, chosen.split)
    return _Division(train, take_folds(own, chosen.folds), test, frozenset({"stimulus"}), across)


def _check_leaks(division: _Division, sides: list[LabelledSubset], allow_leak: bool) -> LeakReport:
    """Compare what is trained on with what is selected on, and both with what is tested on."""
    names = ("train", "validation", "test")
    inner = leak_check(*(side.dataset for side in sides), names=names[:2], raises=not allow_leak, allow=division.within)
    if division.test is None:
        return inner
    outer = leak_check(
        *(side.dataset for side in sides), division.test, names=names, raises=False, allow=division.across
    )
    concerned = [one for one in outer.overlaps if one.second == "test"]
    noted = [one for one in outer.notes if one.second == "test"]
    whole = replace(outer, overlaps=(*inner.overlaps, *concerned), notes=(*inner.notes, *noted))
    if not whole.clean and not allow_leak:
        raise LeakError(
            f"{whole} Expected nothing of the test fold in training. Use another protocol, or set data.allow_leak."
        )
    return whole


def load_training_data(recipe: Recipe, data_dir: str | Path) -> TrainingData:
    """Read the corpus and divide it by the recipe.

    Raises:
        UnknownNameError: no such corpus or split.
        CorpusError: the data are not laid out as the corpus is, or hold classes that the recipe neither names nor drops.
        LeakError: a subject or a picture is on both sides, and the recipe does not allow it.
    """
    corpus = plugins.corpus(recipe.data.corpus).declared_in(data_dir, **recipe.data.options)
    splits = corpus.load(data_dir, **recipe.data.options)
    division = _divide(splits, recipe.data)
    task, labelled = _label(corpus, recipe, division.train, division.validation)
    # two leak checks and a fingerprint look at the contents: read them once
    sides = [replace(side, dataset=with_content_hashes(side.dataset)) for side in labelled]
    leaks = _check_leaks(division, sides, recipe.data.allow_leak)
    if not leaks.clean:
        logger.warning("Training goes on with a leak, because the recipe allows it: %s", leaks)
    prints = {name: fingerprint(side.dataset) for name, side in zip(("train", "validation"), sides, strict=True)}
    beside = None
    if recipe.data.beside is not None:
        beside = _load_beside(recipe, recipe.data.beside, corpus, task, sides)
        prints["beside"] = fingerprint(beside.side.dataset)
    train, permutation = sides[0], None
    if recipe.data.permute_labels:
        permutation = draw_permutation(train, recipe.seed)
        train = permute(train, permutation)
    return TrainingData(corpus, task, train, sides[1], leaks, prints, beside, permutation)


def _load_beside(
    recipe: Recipe, wanted: BesideRecipe, first: Corpus, task: Task, sides: Sequence[LabelledSubset]
) -> Beside:
    """Read what is trained on of a second corpus, and compare it with the first one's validation side."""
    corpus = plugins.corpus(wanted.corpus).declared_in(wanted.data_dir, **wanted.options)
    if corpus.kind != first.kind or corpus.targets or first.targets:
        raise ConfigurationError(
            f"Recipe key 'data.beside.corpus' is {wanted.corpus!r}, of kind {corpus.kind}, and is to be trained on beside "
            f"{first.name}, of kind {first.kind}; expected two corpora of one kind, both with classes. Leave one of them out."
        )
    splits = corpus.load(wanted.data_dir, **wanted.options)
    chosen = take_folds(take_split(splits, wanted.train.split), wanted.train.folds)
    if wanted.train.without_content_of:
        chosen = without_content_of(chosen, *(take_split(splits, name) for name in wanted.train.without_content_of))
    side = map_labels(chosen, task.names, may_drop=recipe.data.drop_labels, purpose="the recipe")
    if sides[0].soft is not None:
        side = _with_shares(side, corpus, list(task.names), recipe)
    side = replace(side, dataset=with_content_hashes(side.dataset))
    leaks = leak_check(
        side.dataset, sides[1].dataset, names=("beside", "validation"), raises=not recipe.data.allow_leak
    )
    return Beside(corpus, Path(wanted.data_dir).name, side, leaks)


def _with_shares(side: LabelledSubset, corpus: Corpus, names: list[str], recipe: Recipe) -> LabelledSubset:
    """The samples with shares to train on: a checkpoint's answers, votes, or the whole of the label where nobody voted."""
    if recipe.soft_labels_of is not None:
        return with_answers(side, corpus, names, recipe.soft_labels_of)
    if COLUMN in side.dataset.column_names:
        return with_soft_labels(side, names)
    return replace(side, soft=np.eye(len(names), dtype=np.float32)[side.labels])


def _label(
    corpus: Corpus, recipe: Recipe, train: datasets.Dataset, validation: datasets.Dataset
) -> tuple[Task, list[LabelledSubset]]:
    """What is predicted, and both sides with their labels."""
    if corpus.targets:
        task = task_of_corpus(corpus, recipe.labels)
        return task, [map_targets(side, corpus, task) for side in (train, validation)]
    dropped = recipe.data.drop_labels
    names = list(recipe.labels) if recipe.labels else [name for name in label_names(train) if name not in dropped]
    sides = [map_labels(side, names, may_drop=dropped, purpose="the recipe") for side in (train, validation)]
    if recipe.soft_labels_of is not None:
        sides[0] = with_answers(sides[0], corpus, names, recipe.soft_labels_of)
    elif recipe.soft_label_weight or recipe.soft_label_head:
        sides[0] = with_soft_labels(sides[0], names)
    if len(names) < 2:
        raise ConfigurationError(
            f"There is one class only, {', '.join(names)}; expected two or more. Name more in `labels`."
        )
    absent = [name for index, name in enumerate(names) if not (sides[0].labels == index).any()]
    if absent:
        raise ConfigurationError(
            f"There is no training sample of {', '.join(absent)}. Take the class out of `labels`, or train on more data."
        )
    return Task(tuple(names)), sides


# --- Control ----------------------------------------------------------------------------------------------------------
# Permuted labels.

_STREAM = 7_214_331
"""Keeps these draws apart from others of the same seed."""


def draw_permutation(side: LabelledSubset, seed: int) -> NDArray[np.int64]:
    """(n,) for each row, the row whose ratings it gets: of another trial always, and all rows of a trial from the same.

    A trial is a subject's rows of one `trial`, or a row that belongs to none; rows of one trial of several classes count as
    a trial per class.
    """
    classes = side.labels.tolist() if side.labels.ndim == 1 else [None] * len(side.labels)
    trials = side.dataset["trial"][:] if "trial" in side.dataset.column_names else ()
    keys = trial_keys(len(classes), side.dataset["identity"][:], trials)
    joined = list(rows_by(zip(keys, classes, strict=True)).values())
    if len(joined) < 2:
        raise ConfigurationError(
            f"The training part is a single trial of {len(side.labels)} rows, so there is nobody to swap labels with. Leave "
            "data.permute_labels out, or train on more."
        )
    order = np.random.default_rng((_STREAM, seed)).permutation(len(joined))
    permutation = np.empty(len(side.labels), np.int64)
    for unit, other in zip(order, np.roll(order, -1), strict=True):
        given = joined[other]
        for place, row in enumerate(joined[unit]):
            permutation[row] = given[place % len(given)]
    return permutation


def permute(side: LabelledSubset, permutation: NDArray[np.int64]) -> LabelledSubset:
    """The same rows with others' classes or values; what runs over time is exchanged when it is read (`ExchangedRatings`)."""
    logger.warning(
        "The labels of %d training rows are permuted: this trains a control, and no model.", len(permutation)
    )
    return replace(side, labels=side.labels[permutation], soft=None if side.soft is None else side.soft[permutation])


class ExchangedRatings(RecordingRows):
    """Recordings with the ratings over time of others, laid to begin where the recording begins."""

    def __init__(
        self, corpus: Corpus, dataset: datasets.Dataset, permutation: Sequence[int] | NDArray[np.int64]
    ) -> None:
        super().__init__(corpus, dataset)
        self._permutation = permutation

    def _read(self, row: int) -> Any:
        own, other = super()._read(row), super()._read(int(self._permutation[row]))
        moved = {
            name: replace(stream, times=stream.times - other.start + own.start)
            for name, stream in other.annotations.items()
        }
        return replace(own, annotations=moved)


SYNTHETIC, PARTLY = "synthetic", "partly synthetic"
"""What a config's `training_data` says of weights that know drawn data, alone or also."""


def mark(model: PreTrainedModel, permuted: bool, synthetic: bool = False) -> None:
    """Make the config of a control say so, wherever its weights go; and that of a model not, whatever it started from.

    What learnt from synthetic data says that too, and goes on saying so after a training on real ones.
    """
    before = getattr(model.config, "training_data", None)
    if synthetic:
        model.config.training_data = SYNTHETIC
    elif before == SYNTHETIC:
        model.config.training_data = PARTLY
    if permuted:
        model.config.training_control = PERMUTED
    elif getattr(model.config, "training_control", None) is not None:
        model.config.training_control = None
