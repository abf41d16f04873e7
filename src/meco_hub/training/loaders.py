"""The loaders of a run: recordings read, cut, drawn, augmented and collated into batches.

This file knows how the parts of `data.py`, `examples.py` and `sampling.py` are put together.
"""

import logging
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..evaluation.predict import accepted_inputs
from ..evaluation.rows import RecordingRows
from ..evaluation.task import Task
from .data import TrainingData
from .examples import Collate, Examples, build_augmentation, check_labels
from .interruption import ignore_in_worker
from .losses import ClassificationLoss, RegressionLoss
from .permutation import ExchangedRatings
from .recipes import Recipe
from .sampling import EpochSampler, RecordingSampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    """Batches of training, and the recordings of validation.

    Attributes:
        train: prepared by Accelerate.
        sampler: the order of the training examples; tell it the epoch.
        examples: what is trained on.
        train_rows, validation_rows: the recordings of either side.
        readable, judged: rows of training, and of validation, that can be read.
    """

    train: Any
    sampler: EpochSampler | RecordingSampler
    examples: Examples
    train_rows: RecordingRows
    validation_rows: RecordingRows
    readable: list[int]
    judged: list[int]

    def class_counts(self, classes: int) -> NDArray[np.int64]:
        """(classes,) examples of each class as they are shown in an epoch."""
        drawn = [draw.index for draw in self.sampler]
        return np.bincount(self.examples.labels[drawn], minlength=classes)

    def unreadable(self) -> dict[str, dict[str, str]]:
        """Side → sample_id → why it was left out."""
        return {"train": self.train_rows.unreadable, "validation": self.validation_rows.unreadable}


def build_criterion(recipe: Recipe, task: Task, loaders: Loaders) -> ClassificationLoss | RegressionLoss:
    """The label loss; that of classes knows how often each is shown."""
    if task.regression:
        return RegressionLoss(recipe.mse_weight, recipe.ccc_weight)
    shown = loaders.class_counts(len(task.names)).astype(np.float64)
    return ClassificationLoss(recipe.label_smoothing, shown / shown.sum(), recipe.logit_adjustment)


def build_loaders(
    recipe: Recipe,
    data: TrainingData,
    model: PreTrainedModel,
    processor: Any,
    accelerator: Accelerator,
    progress: bool,
) -> Loaders:
    """Read the recordings, fit what the processor must know of them, and prepare the loader.

    Raises:
        InputError: not one recording of a side can be read.
        ConfigurationError: the augmentation does not exist or does not take its options, or the processor does not fit the corpus.
    """
    check_labels(processor, data.task, data.corpus.time_continuous)
    cache = int(recipe.cache_gb * 1e9)
    if data.donors is not None and data.corpus.time_continuous:
        train_rows: RecordingRows = ExchangedRatings(data.corpus, data.train.dataset, data.donors)
    else:
        train_rows = RecordingRows(data.corpus, data.train.dataset)
    validation_rows = RecordingRows(data.corpus, data.validation.dataset)
    readable = train_rows.survey(cache, progress, "training samples")
    judged = validation_rows.survey(cache, progress, "validation samples")
    if hasattr(processor, "fit") and recipe.model_name_or_path is None:
        # what normalises a signal is learnt from the training part alone, and saved with the processor
        processor.fit([train_rows[row] for row in readable])
    examples = Examples(
        train_rows,
        data.train,
        cut=getattr(processor, "cut", None),
        augmentation=build_augmentation(recipe.augmentation),
        seed=recipe.seed,
        readable=readable,
        cache_bytes=cache,
    )
    if recipe.clips_per_recording is not None:
        sampler: EpochSampler | RecordingSampler = RecordingSampler(
            examples.owners, recipe.clips_per_recording, recipe.seed
        )
    elif data.task.regression:
        sampler = EpochSampler(np.zeros(len(examples), np.int64), 1, 0.0, recipe.seed)
    else:
        sampler = EpochSampler(examples.labels, len(data.names), recipe.class_balance, recipe.seed)
    batch = recipe.per_device_train_batch_size
    train = DataLoader(
        cast(Any, examples),
        batch_size=batch,
        sampler=sampler,
        collate_fn=Collate(
            processor,
            data.task,
            accepted_inputs(model),
            recipe.channels_last,
            data.corpus.time_continuous,
            has_stimuli=bool(examples.stimuli),
        ),
        num_workers=recipe.dataloader_num_workers,
        worker_init_fn=ignore_in_worker,
        # a last batch of one sample would make BatchNorm fail, a small one would make it noisy
        drop_last=recipe.dataloader_drop_last and len(sampler) >= batch * accelerator.num_processes,
        # an own generator: the loader's seed must not come out of the stream that dropout draws from
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    return Loaders(accelerator.prepare(train), sampler, examples, train_rows, validation_rows, readable, judged)
