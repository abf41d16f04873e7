"""Choosing samples of a corpus: by split, by fold, by class; and what is to be predicted of each.

This file knows the columns `fold`, `label` and `targets` of a corpus; it does not know any corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ..corpora import Corpus
from ..corpora.splits import by_fold
from ..errors import CorpusError, unknown_name
from ..labels import index_map
from .task import Task

EVERY_SPLIT = "all"
"""Name that joins every split, unless the corpus has a split of that name already."""


def take_split(splits: datasets.DatasetDict, split: str | None) -> datasets.Dataset:
    """One split, or all of them joined when `split` is None or "all".

    Raises:
        UnknownNameError: the corpus has no such split; the message lists those it has.
    """
    if split is not None and split in splits:
        return splits[split]
    if split is None or split == EVERY_SPLIT:
        parts = list(splits.values())
        return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    raise unknown_name("split", split, [*map(str, splits), EVERY_SPLIT])


def take_folds(dataset: datasets.Dataset, folds: Sequence[int] | None) -> datasets.Dataset:
    """The samples of these folds; all of them when `folds` is None. Errors as of `by_fold`."""
    return dataset if folds is None else by_fold(dataset, folds)[1]


def label_names(dataset: datasets.Dataset) -> list[str]:
    """Class names of the `label` column, in the order of its indices."""
    return list(dataset.features["label"].names)


@dataclass(frozen=True)
class LabelledSubset:
    """Samples together with what is to be predicted of them.

    Attributes:
        dataset: the samples kept.
        labels: (n,) class indices in the target space; or (n, targets) native values, NaN where a value is unknown or runs over
            time and stands in the recording itself.
        excluded: class name → number of samples left out because the target space lacks the class.
    """

    dataset: datasets.Dataset
    labels: NDArray[Any]
    excluded: dict[str, int]


def map_labels(
    dataset: datasets.Dataset, names: Sequence[str], *, may_drop: Sequence[str] | None = (), purpose: str
) -> LabelledSubset:
    """Translate labels by name into the label space `names`.

    Args:
        dataset: samples of a corpus.
        names: classes of the target space in order.
        may_drop: classes whose samples may be left out; None allows any.
        purpose: whose label space it is, for the message.

    Raises:
        CorpusError: samples of a class that the target lacks and that may not be dropped.
    """
    own = label_names(dataset)
    target = np.asarray(index_map(own, names))
    raw = np.asarray(dataset["label"], dtype=np.int64)
    if len(raw) and raw.min() < 0:
        raise CorpusError(f"{int((raw < 0).sum())} samples have no label. Leave them out of the folder or its index.")
    present = {own[index]: int(count) for index, count in enumerate(np.bincount(raw, minlength=len(own))) if count}
    lacking = {name: count for name, count in present.items() if target[own.index(name)] < 0}
    # −1 among `may_drop` names nothing here; index_map gives the spellings of one class one key
    droppable = (
        set(lacking)
        if may_drop is None
        else {name for name, place in zip(lacking, index_map(list(lacking), list(may_drop)), strict=True) if place >= 0}
    )
    refused = [f"{name} ({count} samples)" for name, count in lacking.items() if name not in droppable]
    if refused:
        raise CorpusError(
            f"The samples have classes that {purpose} lacks: {', '.join(refused)}; it knows {', '.join(names)}. "
            "Leave these classes out on purpose (drop_labels in a recipe, the corpus's own options in an evaluation), "
            "or use a checkpoint that knows them."
        )
    mapped = target[raw] if len(raw) else raw
    keep = np.flatnonzero(mapped >= 0)
    kept = dataset if len(keep) == len(raw) else dataset.select(keep)
    return LabelledSubset(kept, mapped[keep], lacking)


def map_targets(dataset: datasets.Dataset, corpus: Corpus, task: Task) -> LabelledSubset:
    """The values of every sample, in the order of the task.

    Raises:
        CorpusError: the corpus has no value of that name.
    """
    own = [target.name for target in corpus.targets]
    lacking = [name for name in task.names if name not in own]
    if lacking:
        raise CorpusError(
            f"The corpus {corpus.name!r} has no {', '.join(lacking)}; it has {', '.join(own) or 'classes, not values'}. "
            "Use a corpus that was rated on what the model answers."
        )
    if corpus.time_continuous:
        return LabelledSubset(dataset, np.full((len(dataset), len(task.names)), np.nan, np.float32), {})
    columns = [own.index(name) for name in task.names]
    values = np.asarray(dataset["targets"][:], np.float32).reshape(len(dataset), len(own))[:, columns]
    keep = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(keep):
        raise CorpusError(f"None of {len(dataset)} samples of {corpus.name!r} has a value for {', '.join(task.names)}.")
    excluded = {} if len(keep) == len(values) else {"without a value": len(values) - len(keep)}
    return LabelledSubset(dataset if not excluded else dataset.select(keep), values[keep], excluded)
