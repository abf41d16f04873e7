"""What a model answers: classes or values, by name, in order, on which scale.

Models answer values on the scale [−1, 1] of their targets' range; people rate and read native units. Everything outside a model
is in native units, and this is the one place where the two are turned into each other.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ..answers import Task
from ..corpora import Corpus
from ..corpora.splits import by_fold
from ..errors import CheckpointError, ConfigurationError, CorpusError, unknown_name
from ..labels import index_map
from ..reading import read_json

logger = logging.getLogger(__name__)


def task_of_corpus(corpus: Corpus, wanted: list[str] | None = None) -> Task:
    """The values that a corpus has been rated on.

    Args:
        wanted: some of its targets, in the order of the outputs; all of them when None.
    """
    known = {target.name: target for target in corpus.targets}
    names = wanted or list(known)
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{name!r} is no target of the corpus {corpus.name!r}; it has {', '.join(known)}. Correct `labels`."
            )
    return Task(
        tuple(names),
        regression=True,
        center=tuple(known[name].center for name in names),
        halfrange=tuple(known[name].halfrange for name in names),
    )


# --- Subset -----------------------------------------------------------------------------------------------------------
# Choosing samples of a corpus: by split, by fold, by class; and what is to be predicted of each.

EVERY_SPLIT = "all"
"""Name that joins every split, unless the corpus has a split of that name already."""


def take_split(splits: datasets.DatasetDict, split: str | None) -> datasets.Dataset:
    """One split, or all of them joined when `split` is None or "all"."""
    if split is not None and split in splits:
        return splits[split]
    if split is None or split == EVERY_SPLIT:
        parts = list(splits.values())
        return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    raise unknown_name("split", split, dict.fromkeys([*map(str, splits), EVERY_SPLIT]))


def take_folds(dataset: datasets.Dataset, folds: Sequence[int] | None) -> datasets.Dataset:
    """The samples of these folds; all of them when `folds` is None."""
    return dataset if folds is None else by_fold(dataset, folds)[1]


def label_names(dataset: datasets.Dataset) -> list[str]:
    """Class names of the `label` column, in the order of its indices."""
    return list(dataset.features["label"].names)


@dataclass(frozen=True)
class LabelledSubset:
    """Samples together with what is to be predicted of them.

    Attributes:
        labels: (n,) class indices in the target space; or (n, targets) native values, NaN where a value is unknown or runs over
            time and stands in the recording itself.
        excluded: class name → number of samples left out because the target space lacks the class.
        soft: (n, classes) target probabilities to train on in place of the labels; None where the labels are all there is.
    """

    dataset: datasets.Dataset
    labels: NDArray[Any]
    excluded: dict[str, int]
    soft: NDArray[np.float32] | None = None


def map_labels(
    dataset: datasets.Dataset, names: Sequence[str], *, may_drop: Sequence[str] | None = (), purpose: str
) -> LabelledSubset:
    """Translate labels by name into the label space `names`.

    Args:
        may_drop: classes whose samples may be left out; None allows any.
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
    """The values of every sample, in the order of the task."""
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


# --- Provenance -------------------------------------------------------------------------------------------------------
# Where a checkpoint's weights come from, as its run.json says, and whom they have seen.
#
# A figure on people that the weights were trained on says nothing about strangers. The run's record therefore keeps a
# fingerprint of every person on either side of the training, and an evaluation says how many of its people are among them.

_KEPT = (
    "control",
    "epochs",
    "steps",
    "selection",
    "validation",
    "seed",
    "seconds",
    "energy",
    "hardware",
    "versions",
    "recipe",
)


def read_run(checkpoint: str) -> dict[str, Any] | None:
    """What the checkpoint's run.json says of where the weights come from; None when there is none."""
    file = Path(checkpoint) / "run.json"
    if not file.is_file():
        return None
    try:
        run = read_json(file, CheckpointError, "Expected what a training wrote.")
    except CheckpointError as error:
        logger.warning("%s The report goes without it.", error)
        return None
    if not isinstance(run, dict) or not isinstance(run.get("data", {}), dict):
        logger.warning("%s holds no mapping with data; the report goes without it.", file)
        return None
    return run


def summarise_run(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a report says of the training: recipe, data and machine, without the history and without lists of people."""
    if run is None:
        return None
    data = {
        name: {key: value for key, value in part.items() if key != "people"} if isinstance(part, Mapping) else part
        for name, part in run.get("data", {}).items()
    }
    return {"data": data, **{key: run[key] for key in _KEPT if key in run}}


def hash_people(corpus: str, identities: Iterable[str]) -> list[str]:
    """Fingerprints of persons, sorted: enough to know one again, and no list of names."""
    return sorted(hash_person(corpus, name) for name in {name for name in identities if name})


def hash_person(corpus: str, name: str) -> str:
    """The fingerprint of one person."""
    return hashlib.sha256(f"{corpus}/{name}".encode()).hexdigest()[:16]


def corpus_options(run: Mapping[str, Any] | None, corpus: str) -> dict[str, Any]:
    """The options that training read the same corpus with; none for another corpus or without a record."""
    data = ((run or {}).get("recipe") or {}).get("data") or {}
    return dict(data.get("options") or {}) if data.get("corpus") == corpus else {}


def seen_people(run: Mapping[str, Any] | None, corpus: Corpus, identities: Sequence[str]) -> dict[str, Any] | None:
    """How many of these persons the weights were trained on, or selected by. A drawn one is no real one of the same number.

    Returns:
        {"people", "trained_on", "selected_by"}; None without a record of them, for another corpus, or where nobody is named here
        or was in training: not knowing whom the weights have seen is not having seen nobody.
    """
    data = (run or {}).get("data") or {}
    own = hash_people(corpus.namespace, identities)
    beside = data.get("beside") or {}
    known = data.get("corpus") == corpus.name
    sides = {
        key: (data.get(name) or {}).get("people") if known else []
        for key, name in (("trained_on", "train"), ("selected_by", "validation"))
    }
    if beside.get("corpus") == corpus.name:  # nothing of it selected anything
        sides["trained_on"] = [*(sides["trained_on"] or ()), *(beside.get("people") or ())]
    if not own or not sides["trained_on"] or sides["selected_by"] is None:
        return None
    return {"people": len(own), **{key: len(set(own) & set(side or ())) for key, side in sides.items()}}
