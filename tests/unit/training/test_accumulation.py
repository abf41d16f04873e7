"""Weights of batches: an optimiser step is the mean over its samples, however they fall into batches and processes."""

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler

from meco_hub.training.optimization import EpochPlan, take_first


@pytest.mark.parametrize("samples", [1, 3, 7, 8, 16, 17, 23, 24, 25, 40])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_fillers_are_where_accelerate_puts_them(samples: int, processes: int) -> None:
    batches = BatchSampler(SequentialSampler(range(samples)), batch_size=4, drop_last=False)
    shards = [list(BatchSamplerShard(batches, processes, process)) for process in range(processes)]
    if processes == 1:
        shards = [list(batches)]
    plan = EpochPlan(samples, 4, len(shards[0]), processes)
    seen = []
    for process, shard in enumerate(shards):
        for number, batch in enumerate(shard):
            own = plan.own(number, process)
            first = (number * processes + process) * 4
            assert batch[:own] == list(range(first, first + own))
            seen += batch[:own]
    assert sorted(seen) == list(range(samples))


@pytest.mark.parametrize("samples", [5, 12, 33, 37, 40])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_a_step_is_the_mean_over_its_samples(samples: int, processes: int, accumulation: int) -> None:
    losses = torch.arange(samples, dtype=torch.float64) ** 2
    size = 8 // processes
    batches = -(-samples // (size * processes))
    plan = EpochPlan(samples, size, batches, processes, accumulation)
    for start in range(0, batches, accumulation):
        step = 0.0  # what Accelerate and DDP make of the losses: a mean over processes, divided by the accumulation
        for number in range(start, min(start + accumulation, batches)):
            for process in range(processes):
                first, own = (number * processes + process) * size, plan.own(number, process)
                mean = float(losses[first : first + own].mean()) if own else 123.0
                step += mean * plan.weight(number, process) / accumulation / processes
        window = losses[start * size * processes : (start + accumulation) * size * processes]
        assert step == pytest.approx(float(window.mean()))


def test_full_steps_are_left_as_they_are_to_the_last_bit() -> None:
    plan = EpochPlan(samples=96, batch_size=8, batches=6, processes=2, accumulation=3)
    assert {plan.weight(number, process) for number in range(6) for process in range(2)} == {1.0}


def test_the_first_samples_of_nested_tensors() -> None:
    batch = {"labels": torch.arange(4), "streams": {"ecg": torch.zeros(4, 9), "mask": torch.ones(4)}}
    taken = take_first(batch, 3)
    assert len(taken["labels"]) == len(taken["streams"]["ecg"]) == len(taken["streams"]["mask"]) == 3
