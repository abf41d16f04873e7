"""Optimiser, learning rates, schedule, what is frozen, gradient accumulation, and averaged weights.

By convention the pretrained part of a model is the `backbone` of its base model; it may have a learning rate of its own and be
frozen for the first epochs.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel, get_scheduler

from ..errors import ConfigurationError, suggest
from .recipes import Recipe


def _require_backbone(model: PreTrainedModel, key: str) -> nn.Module:
    backbone = getattr(model.base_model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigurationError(
            f"Recipe key {key!r} is set, but {type(model.base_model).__name__} has no `backbone`. Leave the key out."
        )
    return backbone


def rate_factors(model: PreTrainedModel, recipe: Recipe) -> dict[str, float]:
    """Parameter name → factor on its learning rate, by the longest module name of the recipe that it stands in."""
    modules = dict(model.named_modules())
    for module in recipe.learning_rate_factors:
        if module not in modules:
            raise ConfigurationError(
                f"Recipe key 'learning_rate_factors' names {module!r}, which the model lacks.{suggest(module, list(modules))}"
            )
    factors: dict[str, float] = {}
    for name, _ in model.named_parameters():
        fitting = [module for module in recipe.learning_rate_factors if f"{name}.".startswith(f"{module}.")]
        factors[name] = recipe.learning_rate_factors[max(fitting, key=len)] if fitting else 1.0
    return factors


def parameter_groups(model: PreTrainedModel, recipe: Recipe) -> list[dict]:
    """Trainable parameters, grouped by learning rate and by whether their weights decay.

    Vectors (biases, norms) do not decay, nor do the parameters that the model names by `no_weight_decay()`, as timm's do.
    """
    rate = recipe.backbone_learning_rate
    apart = set() if rate is None else set(_require_backbone(model, "backbone_learning_rate").parameters())
    named: Any = getattr(model, "no_weight_decay", None)
    exempt: set[str] = set(named()) if named is not None else set()
    factors = rate_factors(model, recipe)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = recipe.decay_everything or (parameter.ndim > 1 and name not in exempt)
        groups.setdefault((parameter in apart, factors[name], decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": factor * (rate if in_backbone and rate is not None else recipe.learning_rate),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_backbone, factor, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build_optimizer(model: PreTrainedModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW over `parameter_groups`."""
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(
        parameter_groups(model, recipe),
        lr=recipe.learning_rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, *, steps_per_epoch: int, total_steps: int, ticks: int = 1
) -> LRScheduler:
    """Learning rate over optimiser steps.

    Args:
        steps_per_epoch, total_steps: in optimiser steps.
        ticks: how often the schedule is advanced per optimiser step: Accelerate does so once per process.
    """
    warmup = recipe.num_warmup_steps if recipe.warmup_ratio is None else int(recipe.warmup_ratio * total_steps)
    if recipe.lr_scheduler_type not in ("exponential_per_epoch", "step_per_epoch"):
        return get_scheduler(
            recipe.lr_scheduler_type, optimizer, num_warmup_steps=warmup * ticks, num_training_steps=total_steps * ticks
        )

    first = 1 if recipe.lr_scheduler_type == "exponential_per_epoch" else 0

    def factor(tick: int) -> float:
        step = tick // ticks
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return rising * recipe.lr_decay ** (first + step // steps_per_epoch)

    return LambdaLR(optimizer, factor)


class BackboneFreeze:
    """Holds the backbone still, BatchNorm statistics included, for the first epochs."""

    def __init__(self, model: PreTrainedModel, epochs: int) -> None:
        self._epochs = epochs
        self._backbone = _require_backbone(model, "freeze_backbone_epochs") if epochs else None
        own = self._backbone.parameters() if self._backbone is not None else ()
        # what the model's own config froze must not be thawed later
        self._parameters = [parameter for parameter in own if parameter.requires_grad]

    def start_epoch(self, epoch: int) -> None:
        """Call after `model.train()` at the start of each epoch, counted from 0."""
        if self._backbone is None:
            return
        frozen = epoch < self._epochs
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        if frozen:
            self._backbone.eval()


class FrozenModules:
    """Holds named modules still throughout, BatchNorm statistics included: cheaper steps, and nothing learnt there is lost."""

    def __init__(self, model: PreTrainedModel, names: Sequence[str]) -> None:
        known = dict(model.named_modules())
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"Recipe key 'frozen_modules' names {name!r}, which the model lacks.{suggest(name, list(known))}"
                )
        self._modules = [known[name].requires_grad_(False) for name in names]

    def start_epoch(self) -> None:
        """Call after `model.train()`, which wakes BatchNorm up."""
        for module in self._modules:
            module.eval()


# --- Accumulation -----------------------------------------------------------------------------------------------------
# How much each batch weighs, so that an optimiser step is the mean over its samples.
#
# Accelerate divides every loss by `gradient_accumulation_steps` and averages over processes, which is right as long as all
# batches of a step are equally large and there are as many as expected. At the end of an epoch there may be fewer,
# and the last one may be smaller; and where a sample is lacking, Accelerate fills a process's batch up with samples from
# the beginning of the epoch. Here such fillers are cut off again, and every batch weighs as much as it has samples of its
# own.


@dataclass(frozen=True)
class EpochPlan:
    """What each batch of an epoch is worth.

    Attributes:
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
        """The sum of every process; every process must call it at the same time."""
        return cast(torch.Tensor, self._accelerator.gather(self._sum)).tolist()


# --- Ema --------------------------------------------------------------------------------------------------------------
# Averaged weights: a slow copy of the model that is validated and kept instead of it.
#
# The average is torch's own `AveragedModel`, with a warm-up of its decay (without it, a short run would still carry its random
# beginning): after n updates the decay is min(decay, (1 + n) / (10 + n)). The number of updates stays on the CPU, because an update
# asks for it at every step, and on a GPU the answer would wait for everything that is under way.


class AveragedCopy(AveragedModel):
    """An exponential moving average of `model`, buffers (BatchNorm statistics) included.

    Call `update_parameters(model)` after each optimiser step; the first call copies.

    Args:
        decay: largest share of the average that a step leaves.
    """

    def __init__(self, model: nn.Module, decay: float, device: torch.device) -> None:
        super().__init__(model, device, use_buffers=True)
        self.n_averaged = self.n_averaged.cpu()
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        count = int(self.n_averaged)
        weight = 1 - min(self.decay, (1 + count) / (10 + count))
        averages = itertools.chain(self.module.parameters(), self.module.buffers())
        for average, current in zip(averages, itertools.chain(model.parameters(), model.buffers()), strict=True):
            # counters, such as BatchNorm's number of batches, have no meaningful average
            if count and average.is_floating_point():
                average.lerp_(current.to(average.device), weight)
            else:
                average.copy_(current)
        self.n_averaged += 1
