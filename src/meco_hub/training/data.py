"""From a corpus to batches: divided before anything else, checked for leaks, decoded once, processed by the checkpoint's own
processor.

Augmentation changes the decoded picture before the processor sees it, so that training and everyone after it share one
processor call. What happens to a sample depends on (seed, epoch, place in the epoch) alone, whatever the number of workers.

This file knows corpora and pictures; it does not know how a model is trained.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from .. import plugins
from ..corpora.leaks import LeakReport
from ..corpora.splits import by_identity, fingerprint, leak_check, stratified
from ..errors import ConfigurationError, InputError
from ..evaluation.subset import LabelledSubset, label_names, map_labels, take_folds, take_split
from ..recordings.images import read_image
from .recipes import DataRecipe, Recipe
from .sampling import Draw

logger = logging.getLogger(__name__)

Augmentation = Callable[[Image.Image, np.random.Generator], Image.Image]

AUGMENTATIONS = {"face": "meco_hub.processing.face_augmentation:FaceAugmentation"}
"""Short names for `augmentation.name`; any other is a dotted path "package.module:Class"."""


@dataclass(frozen=True)
class TrainingData:
    """The two sides of a training.

    Attributes:
        train, validation: samples with labels in `names`.
        names: class names in the order of the logits.
        leaks: what the leak check found.
        fingerprints: "train" and "validation" → fingerprint of the samples.
    """

    train: LabelledSubset
    validation: LabelledSubset
    names: list[str]
    leaks: LeakReport
    fingerprints: dict[str, str]

    def describe(self) -> dict[str, Any]:
        """Numbers of samples, persons and classes on both sides, for the run's record."""
        sides = {}
        for name, side in (("train", self.train), ("validation", self.validation)):
            counts = np.bincount(side.labels, minlength=len(self.names))
            sides[name] = {
                "samples": len(side.labels),
                "identities": len({identity for identity in side.dataset["identity"][:] if identity}),
                "classes": {label: int(count) for label, count in zip(self.names, counts, strict=True)},
                "dropped": side.excluded,
                "fingerprint": self.fingerprints[name],
            }
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
    dropped = recipe.data.drop_labels
    names = list(recipe.labels) if recipe.labels else [name for name in label_names(train) if name not in dropped]
    sides = [map_labels(side, names, may_drop=dropped, purpose="the recipe") for side in (train, validation)]
    leaks = leak_check(
        sides[0].dataset, sides[1].dataset, names=("train", "validation"), raises=not recipe.data.allow_leak
    )
    if not leaks.clean:
        logger.warning("Training goes on with a leak, because the recipe allows it: %s", leaks)
    absent = [name for index, name in enumerate(names) if not (sides[0].labels == index).any()]
    if absent:
        raise ConfigurationError(
            f"There is no training sample of {', '.join(absent)}. Take the class out of `labels`, or train on more data."
        )
    prints = {name: fingerprint(side.dataset) for name, side in zip(("train", "validation"), sides, strict=True)}
    return TrainingData(sides[0], sides[1], names, leaks, prints)


def build_augmentation(options: dict[str, Any] | None) -> Augmentation | None:
    """The augmentation that a recipe asks for.

    Raises:
        ConfigurationError: it has no name, or its options do not fit.
    """
    if options is None:
        return None
    rest = {key: value for key, value in options.items() if key != "name"}
    name = options.get("name")
    if not isinstance(name, str):
        raise ConfigurationError(
            f"Recipe key 'augmentation' is {options}; expected a `name`: {', '.join(AUGMENTATIONS)} or 'package.module:Class'."
        )
    kind = plugins.load_dotted(AUGMENTATIONS.get(name, name))
    try:
        return kind(**rest)
    except TypeError as error:
        raise ConfigurationError(f"The augmentation {name!r} does not take {rest}: {error}.") from error


@dataclass
class DecodedSamples(Dataset):
    """Samples as pictures, decoded once and kept when they fit into memory.

    Attributes:
        subset: samples and labels.
        augmentation: changes a picture; None leaves it.
        seed: of the augmentation.
        unreadable: sample_id → reason, of samples that were left out by `survey`.
    """

    subset: LabelledSubset
    augmentation: Augmentation | None = None
    seed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._images = self.subset.dataset.select_columns(["image"])
        self._rows = np.arange(len(self.subset.labels))
        self._decoded: list[NDArray[np.uint8]] | None = None

    def survey(self, cache_bytes: int, progress: bool = True, name: str = "samples") -> None:
        """Decode every picture once: leaves out, and reports, what cannot be read, and keeps the rest if it fits.

        Args:
            cache_bytes: memory that decoded pictures may take; when they need more, none is kept.
            progress: show a progress bar.
            name: what the bar says.

        Raises:
            InputError: not one picture can be read.
        """
        kept: list[NDArray[np.uint8]] | None = []
        rows: list[int] = []
        used = 0
        reason = ""
        identifiers = self.subset.dataset["sample_id"][:]
        for row in tqdm(range(len(identifiers)), desc=f"decode {name}", unit="img", disable=not progress):
            try:
                image = read_image(self._images[row]["image"])
            except InputError as error:
                reason = str(error)
                self.unreadable[identifiers[row]] = reason
                logger.warning("%s is left out: %s", identifiers[row], reason)
                continue
            rows.append(row)
            if kept is not None:
                kept.append(np.asarray(image))
                used += kept[-1].nbytes
                if used > cache_bytes:
                    kept = None
                    logger.info(
                        "The decoded %s need more than %.1f GB and are read anew each time.", name, cache_bytes / 1e9
                    )
        if not rows:
            raise InputError(f"None of {len(identifiers)} {name} can be read; the last: {reason}")
        self._rows, self._decoded = np.asarray(rows), kept

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class indices of the samples that are left."""
        return self.subset.labels[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, draw: Draw | int) -> tuple[Image.Image, int]:
        index = draw.index if isinstance(draw, Draw) else draw
        row = int(self._rows[index])
        image = (
            Image.fromarray(self._decoded[index])
            if self._decoded is not None
            else read_image(self._images[row]["image"])
        )
        if self.augmentation is not None and isinstance(draw, Draw):
            image = self.augmentation(image, np.random.default_rng((self.seed, draw.epoch, draw.place)))
        return image, int(self.subset.labels[row])


@dataclass(frozen=True)
class Collate:
    """Makes a batch: `processor(images)` plus `labels`.

    Attributes:
        processor: the checkpoint's processor.
        channels_last: lay 4-dimensional inputs out channels_last.
    """

    processor: Any
    channels_last: bool

    def __call__(self, samples: Sequence[tuple[Image.Image, int]]) -> dict[str, torch.Tensor]:
        images, labels = zip(*samples, strict=True)
        batch = dict(self.processor(list(images), return_tensors="pt"))
        if self.channels_last:
            batch = {
                key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
                for key, value in batch.items()
            }
        return {**batch, "labels": torch.tensor(labels, dtype=torch.int64)}
