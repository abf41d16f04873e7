"""Learning rates, decay groups, frozen parts, averaged weights."""

from typing import Any

import pytest
import torch
from torch import nn

from meco_hub.errors import ConfigurationError
from meco_hub.training.optimization import (
    AveragedCopy,
    BackboneFreeze,
    build_optimizer,
    build_schedule,
    parameter_groups,
)
from meco_hub.training.recipes import Recipe, recipe_from_dict


class Base(nn.Module):
    def __init__(self, backbone: bool) -> None:
        super().__init__()
        if backbone:
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.stem = nn.Linear(4, 4)


class Head(nn.Module):
    def __init__(self, backbone: bool = True) -> None:
        super().__init__()
        self.base_model = Base(backbone)
        self.classifier = nn.Linear(4, 3)


def recipe(**changes: Any) -> Recipe:
    return recipe_from_dict({"model_type": "m", "data": {"validation": {"by_identity": 0.1}}, **changes})


def rates(settings: Recipe, steps_per_epoch: int, total: int, ticks: int = 1) -> list[float]:
    optimizer = build_optimizer(Head(), settings)  # pyright: ignore[reportArgumentType]
    schedule = build_schedule(optimizer, settings, steps_per_epoch=steps_per_epoch, total_steps=total, ticks=ticks)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for _ in range(ticks):
            schedule.step()
    return seen


@pytest.mark.parametrize("ticks", [1, 2])
def test_published_sequence_of_learning_rates(ticks: int) -> None:
    settings = recipe(learning_rate=1e-4, lr_scheduler_type="exponential_per_epoch", lr_decay=0.95)
    seen = rates(settings, steps_per_epoch=3, total=15, ticks=ticks)
    assert seen[::3] == pytest.approx([9.5e-5, 9.025e-5, 8.57375e-5, 8.1450625e-5, 7.737809375e-5])
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("ticks", [1, 2])
def test_warm_up_and_cosine(ticks: int) -> None:
    seen = rates(recipe(learning_rate=1.0, warmup_ratio=0.2), steps_per_epoch=5, total=10, ticks=ticks)
    assert seen[0] == 0.0
    assert seen[1] == pytest.approx(0.5)
    assert seen[2] == pytest.approx(1.0)
    assert seen[2:] == sorted(seen[2:], reverse=True)
    assert seen[-1] < 0.05


def test_groups_by_backbone_and_decay() -> None:
    head = Head()
    groups = parameter_groups(head, recipe(learning_rate=1e-3, backbone_learning_rate=1e-4, weight_decay=0.05))  # pyright: ignore[reportArgumentType]
    by_parameter = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(by_parameter) == len(list(head.parameters()))
    assert by_parameter[id(head.classifier.weight)] == (1e-3, 0.05)
    assert by_parameter[id(head.classifier.bias)] == (1e-3, 0.0)
    assert by_parameter[id(head.base_model.backbone[0].weight)] == (1e-4, 0.05)
    assert by_parameter[id(head.base_model.backbone[1].weight)] == (1e-4, 0.0)


@pytest.mark.parametrize("key", ["backbone_learning_rate", "freeze_backbone_epochs"])
def test_a_model_without_backbone_is_told_so(key: str) -> None:
    settings, head = recipe(**{key: 1}), Head(backbone=False)

    def prepare() -> None:
        parameter_groups(head, settings)  # pyright: ignore[reportArgumentType]
        BackboneFreeze(head, settings.freeze_backbone_epochs)  # pyright: ignore[reportArgumentType]

    with pytest.raises(ConfigurationError, match=key):
        prepare()


def test_optimizer_takes_its_settings() -> None:
    adam = build_optimizer(Head(), recipe(optimizer="adam", adam_epsilon=1e-7, adam_beta2=0.99))  # pyright: ignore[reportArgumentType]
    assert type(adam) is torch.optim.Adam
    assert (adam.defaults["eps"], adam.defaults["betas"]) == (1e-7, (0.9, 0.99))
    assert type(build_optimizer(Head(), recipe())) is torch.optim.AdamW  # pyright: ignore[reportArgumentType]


def test_frozen_epochs_leave_the_backbone_as_it_was() -> None:
    head = Head()
    head.base_model.backbone[0].bias.requires_grad_(False)  # frozen by its own config: must never be thawed
    freeze = BackboneFreeze(head, 1)  # pyright: ignore[reportArgumentType]
    head.train()
    freeze.start_epoch(0)
    assert not any(p.requires_grad for p in head.base_model.backbone.parameters())
    assert not head.base_model.backbone[1].training
    assert head.classifier.weight.requires_grad
    head.train()
    freeze.start_epoch(1)
    assert head.base_model.backbone[0].weight.requires_grad
    assert not head.base_model.backbone[0].bias.requires_grad
    assert head.base_model.backbone[1].training


def test_average_follows_its_formula() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedCopy(model, 0.9, torch.device("cpu"))
    values, expected = [], None
    for step in range(30):
        with torch.no_grad():
            model[0].weight.fill_(float(step))
            model[1].running_mean.fill_(float(step))
            model[1].num_batches_tracked.fill_(step)
        average.update_parameters(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = float(step) if step == 0 else decay * expected + (1 - decay) * step  # pyright: ignore[reportOperatorIssue]
        values.append(average.module[0].weight[0, 0].item())
        assert values[-1] == pytest.approx(expected, rel=1e-5)
        assert average.module[1].running_mean[0].item() == pytest.approx(expected, rel=1e-5)
        assert average.module[1].num_batches_tracked.item() == step
    assert model[0].weight[0, 0].item() == 29.0


def test_rates_by_module_and_the_longest_name_counts() -> None:
    settings = recipe(learning_rate=1.0, learning_rate_factors={"base_model": 0.1, "base_model.stem": 0.5})
    model = Head()
    rate_of = {p: group["lr"] for group in parameter_groups(model, settings) for p in group["params"]}  # pyright: ignore[reportArgumentType]
    assert {rate_of[p] for p in model.base_model.backbone.parameters()} == {0.1}
    assert {rate_of[p] for p in model.base_model.stem.parameters()} == {0.5}
    assert {rate_of[p] for p in model.classifier.parameters()} == {1.0}
    with pytest.raises(ConfigurationError, match="Did you mean 'classifier'"):
        parameter_groups(model, recipe(learning_rate_factors={"clasifier": 0.1}))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="zero or a positive"):
        recipe(learning_rate_factors={"classifier": -1})


def test_what_a_model_exempts_does_not_decay_unless_everything_does() -> None:
    class Prototypes(Head):
        def no_weight_decay(self) -> set[str]:
            return {"base_model.stem.weight"}

    def decaying(model: nn.Module, **changes: Any) -> set[str]:
        names = {p: name for name, p in model.named_parameters()}
        groups = parameter_groups(model, recipe(weight_decay=0.1, **changes))  # pyright: ignore[reportArgumentType]
        return {names[p] for group in groups if group["weight_decay"] for p in group["params"]}

    assert decaying(Head()) == {"base_model.backbone.0.weight", "base_model.stem.weight", "classifier.weight"}
    assert decaying(Prototypes()) == {"base_model.backbone.0.weight", "classifier.weight"}
    assert decaying(Prototypes(), decay_everything=True) == {name for name, _ in Head().named_parameters()}


def test_steps_per_epoch_counted_from_zero() -> None:
    # MCO-E style: 3e-4 · 0.94^epoch, 6.6e-7 in the hundredth
    settings = recipe(learning_rate=3e-4, lr_scheduler_type="step_per_epoch", lr_decay=0.94)
    seen = rates(settings, steps_per_epoch=1, total=100)
    assert seen[0] == pytest.approx(3e-4)
    assert seen[-1] == pytest.approx(6.6e-7, rel=0.01)
