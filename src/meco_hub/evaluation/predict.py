"""From samples of a corpus to logits.

Pictures are read while the model computes, one batch ahead. What cannot be read is reported by its sample_id and left out; it
never stops the others and never becomes a guess.

This file knows batches of recordings; it knows no metric and no architecture.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel

from ..errors import InputError
from ..recordings.images import read_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """Scores of a set of samples, in the order of the data set.

    Attributes:
        sample_ids: names of the samples that were answered.
        positions: (n,) their rows in the data set.
        logits: (n, classes) float32 scores before softmax.
        unreadable: sample_id → why it could not be used.
        seconds: wall time.
    """

    sample_ids: list[str]
    positions: NDArray[np.int64]
    logits: NDArray[np.float32]
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class _Batch:
    rows: list[int]
    inputs: dict[str, torch.Tensor] | None
    failures: list[tuple[int, str]]


def _prepare(processor: Any, rows: Sequence[int], sources: Sequence[Any]) -> _Batch:
    """Read and process some pictures, setting aside those that cannot be used."""
    good: list[int] = []
    images: list[Any] = []
    failures: list[tuple[int, str]] = []
    for row, source in zip(rows, sources, strict=True):
        try:
            images.append(read_image(source))
            good.append(row)
        except InputError as error:
            failures.append((row, str(error)))
    if not images:
        return _Batch([], None, failures)
    try:
        return _Batch(good, dict(processor(images, return_tensors="pt")), failures)
    except InputError:
        if len(images) == 1:
            raise
    # The processor refused the batch because of one picture; find out which by asking for each alone.
    parts: list[dict[str, torch.Tensor]] = []
    fine: list[int] = []
    for row, image in zip(good, images, strict=True):
        try:
            parts.append(dict(processor([image], return_tensors="pt")))
            fine.append(row)
        except InputError as error:
            failures.append((row, str(error)))
    inputs = {key: torch.cat([part[key] for part in parts]) for key in parts[0]} if parts else None
    return _Batch(fine, inputs, failures)


def _batches(processor: Any, dataset: datasets.Dataset, batch_size: int) -> Iterator[_Batch]:
    """Batches in order, each prepared in a thread while its predecessor is being used."""
    images = dataset.select_columns(["image"])

    def load(start: int) -> _Batch:
        sources = images[start : start + batch_size]["image"]
        try:
            return _prepare(processor, range(start, start + len(sources)), sources)
        except InputError as error:  # a batch of one that the processor refuses
            return _Batch([], None, [(start, str(error))])

    with ThreadPoolExecutor(max_workers=1) as pool:
        starts = range(0, len(dataset), batch_size)
        ahead = pool.submit(load, starts[0])
        for following in [*starts[1:], None]:
            current = ahead.result()
            if following is not None:
                ahead = pool.submit(load, following)
            yield current


def predict_dataset(
    model: PreTrainedModel,
    processor: Any,
    dataset: datasets.Dataset,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> Predictions:
    """Answer for every sample of `dataset` that can be read.

    Args:
        model: a head whose output has `logits`; put into evaluation mode and left there.
        processor: the checkpoint's processor, called as `processor(list of images, return_tensors="pt")`.
        dataset: has the columns `image` (undecoded) and `sample_id`.
        batch_size: pictures per forward pass.
        progress: show a progress bar.

    Raises:
        InputError: there is no sample, or not one that can be read.
    """
    if not len(dataset):
        raise InputError("There is no sample to predict. Check the split and the folds.")
    began = time.perf_counter()
    model.eval()
    identifiers = dataset["sample_id"][:]
    logits: list[torch.Tensor] = []
    positions: list[int] = []
    unreadable: dict[str, str] = {}
    with torch.inference_mode(), tqdm(total=len(dataset), unit="sample", disable=not progress, desc="predict") as bar:
        for batch in _batches(processor, dataset, batch_size):
            for row, reason in batch.failures:
                unreadable[identifiers[row]] = reason
                logger.warning("%s is left out: %s", identifiers[row], reason)
            if batch.inputs is not None:
                inputs = {
                    key: value.to(model.device, memory_format=torch.channels_last)
                    if value.ndim == 4
                    else value.to(model.device)
                    for key, value in batch.inputs.items()
                }
                logits.append(model(**inputs).logits.float().cpu())
                positions.extend(batch.rows)
            bar.update(len(batch.rows) + len(batch.failures))
    if not logits:
        name, reason = next(iter(unreadable.items()))
        raise InputError(f"None of {len(dataset)} samples can be used; the first, {name}: {reason}")
    return Predictions(
        sample_ids=[identifiers[row] for row in positions],
        positions=np.asarray(positions, dtype=np.int64),
        logits=torch.cat(logits).numpy(),
        unreadable=unreadable,
        seconds=time.perf_counter() - began,
    )
