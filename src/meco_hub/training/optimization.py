"""Optimiser, learning rates, schedule, and what stands still.

By convention the pretrained part of a model is the `backbone` of its base model; it may have a learning rate of its own and be
frozen for the first epochs.

This file knows parameters by where they stand and how many dimensions they have; it knows no architecture.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel, get_scheduler

from ..errors import ConfigurationError
from .recipes import Recipe


def find_backbone(model: PreTrainedModel) -> nn.Module | None:
    """The base model's `backbone`, if it has one."""
    backbone = getattr(model.base_model, "backbone", None)
    return backbone if isinstance(backbone, nn.Module) else None


def _require_backbone(model: PreTrainedModel, key: str) -> nn.Module:
    backbone = find_backbone(model)
    if backbone is None:
        raise ConfigurationError(
            f"Recipe key {key!r} is set, but {type(model.base_model).__name__} has no `backbone`. Leave the key out."
        )
    return backbone


def _offer(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def rate_factors(model: PreTrainedModel, recipe: Recipe) -> dict[str, float]:
    """Parameter name → factor on its learning rate, by the longest module name of the recipe that it stands in.

    Raises:
        ConfigurationError: the model has no such module.
    """
    modules = dict(model.named_modules())
    for module in recipe.learning_rate_factors:
        if module not in modules:
            raise ConfigurationError(
                f"Recipe key 'learning_rate_factors' names {module!r}, which the model lacks.{_offer(module, list(modules))}"
            )
    factors: dict[str, float] = {}
    for name, _ in model.named_parameters():
        fitting = [module for module in recipe.learning_rate_factors if _inside(name, module)]
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
        optimizer: what is scheduled.
        recipe: schedule, decay and warm-up.
        steps_per_epoch, total_steps: in optimiser steps.
        ticks: how often the schedule is advanced per optimiser step: Accelerate does so once per process.
    """
    warmup = recipe.num_warmup_steps if recipe.warmup_ratio is None else int(recipe.warmup_ratio * total_steps)
    if recipe.lr_scheduler_type not in ("exponential_per_epoch", "step_per_epoch"):
        return get_scheduler(
            recipe.lr_scheduler_type,
            optimizer,
            num_warmup_steps=warmup * ticks,
            num_training_steps=total_steps * ticks,
        )

    first = 1 if recipe.lr_scheduler_type == "exponential_per_epoch" else 0

    def factor(tick: int) -> float:
        step = tick // ticks
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return rising * recipe.lr_decay ** (first + step // steps_per_epoch)

    return LambdaLR(optimizer, factor)


class BackboneFreeze:
    """Holds the backbone still, BatchNorm statistics included, for the first epochs.

    Args:
        model: the head.
        epochs: how many; 0 does nothing at all.

    Raises:
        ConfigurationError: epochs are asked for and the model has no backbone.
    """

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


class StillModules:
    """Holds named modules still throughout, BatchNorm statistics included: cheaper steps, and nothing learnt there is lost.

    Args:
        model: the head.
        names: modules, as `model.named_modules()` names them.

    Raises:
        ConfigurationError: the model has no such module.
    """

    def __init__(self, model: PreTrainedModel, names: Sequence[str]) -> None:
        known = dict(model.named_modules())
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"Recipe key 'frozen_modules' names {name!r}, which the model lacks.{_offer(name, list(known))}"
                )
        self._modules = [known[name].requires_grad_(False) for name in names]

    def start_epoch(self) -> None:
        """Call after `model.train()`, which wakes BatchNorm up."""
        for module in self._modules:
            module.eval()
