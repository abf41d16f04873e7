"""The loaders of a run: samples decoded, drawn, augmented and collated into batches.

This file knows how the parts of `data.py` and `sampling.py` are put together.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from .data import Collate, DecodedSamples, TrainingData, build_augmentation
from .recipes import Recipe
from .sampling import EpochSampler


@dataclass(frozen=True)
class Loaders:
    """Batches of both sides.

    Attributes:
        train, validation: prepared by Accelerate.
        sampler: the order of the training samples; tell it the epoch.
        train_samples, validation_samples: what can be read of either side.
    """

    train: Any
    validation: Any
    sampler: EpochSampler
    train_samples: DecodedSamples
    validation_samples: DecodedSamples

    def unreadable(self) -> dict[str, dict[str, str]]:
        """Side → sample_id → why it was left out."""
        return {"train": self.train_samples.unreadable, "validation": self.validation_samples.unreadable}


def build_loaders(
    recipe: Recipe, data: TrainingData, processor: Any, accelerator: Accelerator, progress: bool
) -> Loaders:
    """Decode the samples and prepare both loaders.

    Raises:
        InputError: not one sample of a side can be read.
        ConfigurationError: the augmentation does not exist or does not take its options.
    """
    train_samples = DecodedSamples(data.train, build_augmentation(recipe.augmentation), recipe.seed)
    validation_samples = DecodedSamples(data.validation)
    cache = int(recipe.image_cache_gb * 1e9)
    train_samples.survey(cache, progress, "training samples")
    validation_samples.survey(cache, progress, "validation samples")
    sampler = EpochSampler(train_samples.labels, len(data.names), recipe.class_balance, recipe.seed)
    batch = recipe.per_device_train_batch_size
    collate = Collate(processor, recipe.channels_last)
    train = DataLoader(
        cast(Any, train_samples),
        batch_size=batch,
        sampler=sampler,
        collate_fn=collate,
        num_workers=recipe.dataloader_num_workers,
        # a last batch of one sample would make BatchNorm fail, a small one would make it noisy
        drop_last=len(train_samples) >= batch * accelerator.num_processes,
        # an own generator: the loader's seed must not come out of the stream that dropout draws from
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    validation = DataLoader(
        cast(Any, validation_samples),
        batch_size=recipe.per_device_eval_batch_size,
        collate_fn=collate,
        num_workers=recipe.dataloader_num_workers,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    train, validation = accelerator.prepare(train, validation)
    return Loaders(train, validation, sampler, train_samples, validation_samples)
