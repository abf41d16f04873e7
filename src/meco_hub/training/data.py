"""The two sides of a training: divided before anything else, by whole recordings, and checked for leaks.

This file knows corpora and how a recipe divides them; `examples.py` knows what becomes of a recording.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from .. import plugins
from ..corpora import Corpus
from ..corpora.leaks import LeakReport
from ..corpora.splits import by_identity, fingerprint, leak_check, stratified
from ..errors import ConfigurationError
from ..evaluation.subset import LabelledSubset, label_names, map_labels, map_targets, take_folds, take_split
from ..evaluation.task import Task, task_of_corpus
from .recipes import DataRecipe, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The two sides of a training.

    Attributes:
        corpus: whose samples they are.
        task: what is predicted.
        train, validation: samples with their labels.
        leaks: what the leak check found.
        fingerprints: "train" and "validation" → fingerprint of the samples.
    """

    corpus: Corpus
    task: Task
    train: LabelledSubset
    validation: LabelledSubset
    leaks: LeakReport
    fingerprints: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Classes or targets in the order of the logits."""
        return list(self.task.names)

    def describe(self) -> dict[str, Any]:
        """Numbers of samples, persons and classes on both sides, for the run's record."""
        sides = {}
        for name, side in (("train", self.train), ("validation", self.validation)):
            sides[name] = {
                "samples": len(side.labels),
                "identities": len({identity for identity in side.dataset["identity"][:] if identity}),
            }
            if not self.task.regression:
                counts = np.bincount(side.labels, minlength=len(self.names))
                sides[name]["classes"] = {label: int(count) for label, count in zip(self.names, counts, strict=True)}
            sides[name] |= {"dropped": side.excluded, "fingerprint": self.fingerprints[name]}
        return {**sides, "leak_check": self.leaks.to_dict()}


def _divide(splits: datasets.DatasetDict, recipe: DataRecipe) -> tuple[datasets.Dataset, datasets.Dataset]:
    chosen = recipe.validation
    pool = take_split(splits, recipe.train.split)
    train = take_folds(pool, recipe.train.folds)
    if chosen.by_identity is not None:
        return by_identity(train, chosen.by_identity, seed=chosen.seed)
    if chosen.stratified is not None:
        return stratified(train, chosen.stratified, seed=chosen.seed)
    own = pool if chosen.split is None else take_split(splits, chosen.split)
    return train, take_folds(own, chosen.folds)


def load_training_data(recipe: Recipe, data_dir: str | Path) -> TrainingData:
    """Read the corpus and divide it by the recipe.

    Raises:
        UnknownNameError: no such corpus or split.
        CorpusError: the data are not laid out as the corpus is, or hold classes that the recipe neither names nor drops.
        LeakError: a person or a picture is on both sides, and the recipe does not allow it.
    """
    corpus = plugins.corpus(recipe.data.corpus)
    splits = corpus.load(data_dir, **recipe.data.options)
    train, validation = _divide(splits, recipe.data)
    task, sides = _label(corpus, recipe, train, validation)
    leaks = leak_check(
        sides[0].dataset, sides[1].dataset, names=("train", "validation"), raises=not recipe.data.allow_leak
    )
    if not leaks.clean:
        logger.warning("Training goes on with a leak, because the recipe allows it: %s", leaks)
    prints = {name: fingerprint(side.dataset) for name, side in zip(("train", "validation"), sides, strict=True)}
    return TrainingData(corpus, task, sides[0], sides[1], leaks, prints)


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
