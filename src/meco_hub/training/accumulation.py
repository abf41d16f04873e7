"""How much each batch weighs, so that an optimiser step is the mean over its samples.

Accelerate divides every loss by `gradient_accumulation_steps` and averages over processes, which is right as long as all batches
of a step are equally large and there are as many as were asked for. At the end of an epoch there may be fewer, and the last one
may be smaller; and where a sample is lacking, Accelerate fills a process's batch up with samples from the beginning of the epoch.
Here such fillers are cut off again, and every batch weighs as much as it has samples of its own.

This file knows numbers of samples, batches and processes; it knows no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator


@dataclass(frozen=True)
class EpochPlan:
    """What each batch of an epoch is worth.

    Attributes:
        samples: drawn in an epoch, by all processes.
        batch_size: samples per process and batch.
        batches: per process and epoch.
        processes: how many train together; batch b of process p holds samples (b · processes + p) · batch_size and on.
        accumulation: batches per optimiser step; what is left over at the end of an epoch makes a step of its own.
    """

    samples: int
    batch_size: int
    batches: int
    processes: int = 1
    accumulation: int = 1

    def own(self, batch: int, process: int) -> int:
        """Samples of a process's batch that are no fillers."""
        first = (batch * self.processes + process) * self.batch_size
        return min(max(self.samples - first, 0), self.batch_size)

    def all(self, batch: int) -> int:
        """Samples of a batch over all processes."""
        return sum(self.own(batch, process) for process in range(self.processes))

    def weight(self, batch: int, process: int) -> float:
        """Factor of a batch's mean loss; 1 in every step whose batches are all full."""
        first = batch - batch % self.accumulation
        step = range(first, min(first + self.accumulation, self.batches))
        total = sum(self.all(one) for one in step)
        return self.own(batch, process) * self.accumulation * self.processes / total


def take_first(batch: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The first `count` samples of a batch, of every tensor in it, nested or not."""
    return {
        key: take_first(value, count) if isinstance(value, Mapping) else value[:count] for key, value in batch.items()
    }


class LossSum:
    """The sum of the losses of an epoch's samples, process by process.

    Summed in double precision, one after the other, and never over processes before the epoch ends: a run that is resumed in the
    middle comes to the same sum to the last bit.

    Args:
        accelerator: of the run.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.begin([])

    def begin(self, sums: Sequence[float]) -> None:
        """Go on from what `of_all` gave; from nothing when it is empty."""
        device = self._accelerator.device
        own = sums[self._accelerator.process_index] if sums else 0.0
        # Apple's GPUs have no double precision
        self._sum = torch.tensor([own], dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def add(self, loss: torch.Tensor, samples: int) -> None:
        """Count the mean loss of so many samples."""
        self._sum += samples * loss.detach()

    def of_all(self) -> list[float]:
        """The sum of every process; every process must ask at the same time."""
        return cast(torch.Tensor, self._accelerator.gather(self._sum)).tolist()
