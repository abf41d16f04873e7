"""What is asked of training: every parameter learns, a tiny set is learnt by heart, recomputed activations change nothing.

This file knows how a gradient and a step are looked at; the training loop itself is in `meco_hub.training`.
"""

from typing import Any

import torch
from torch import nn

from .check import require, rule
from .checks_numerics import distance, dropouts_off
from .subject import Subject, quiet

_BATCHES = 6
"""Freshly initialised models and batches over which a parameter may get its gradient: a router chooses others each time."""

_STEPS, _RATES = 120, (1e-2, 3e-3)
_LEARNT = 0.2
"""Share of the first loss at which a tiny set counts as learnt."""


def _loss(subject: Subject, model: Any, batch: dict[str, Any], labels: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor | None = model(**batch, labels=labels).loss
    require(
        loss is not None and loss.requires_grad,
        f"With labels, {type(model).__name__} gives the loss {loss}, through which nothing can be learnt.",
        "Compute the loss from the logits, without detaching them.",
    )
    assert loss is not None
    return loss


def _experts_of(model: nn.Module) -> list[str]:
    """Names of lists of modules that look like experts."""
    return [name for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and "expert" in name.lower()]


@rule()
def gradients(subject: Subject) -> None:
    """Every parameter gets a gradient from the loss, sooner or later."""
    waiting: set[str] = set()
    for seed in range(_BATCHES):
        model = subject.model(seed).train()
        dropouts_off(model)
        if seed == 0:
            waiting = {name for name, one in model.named_parameters() if one.requires_grad}
        batch = subject.process(subject.varied_clips(8, seed))
        with torch.no_grad():
            like = model(**batch).logits
        torch.manual_seed(seed)
        _loss(subject, model, batch, subject.labels(like, seed)).backward()
        waiting -= {name for name, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())}
        if not waiting:
            return
    experts = _experts_of(model)
    starved = sorted(name for name in waiting if any(name.startswith(f"{one}.") for one in experts))
    others = sorted(waiting - set(starved))
    require(
        not others,
        f"Over {_BATCHES} batches and initialisations, no gradient reaches {', '.join(others[:8])} ({len(others)} in all).",
        "Remove what the forward never uses; look for detach(), no_grad(), .item() and argmax on the way; mark what must not be "
        "trained by requires_grad=False.",
    )
    require(
        not starved,
        f"Over {_BATCHES} batches and initialisations, the router chose none of the experts that own {', '.join(starved[:8])}.",
        "Let the router's choice depend on its input from the start (small weights, no bias of its own); shut no expert out.",
    )


def _learn(subject: Subject, rate: float) -> tuple[float, float]:
    """Train a tiny model on one batch; gives the first loss and the least, above what no answer could go below."""
    model = subject.model(shaken=False).train()
    dropouts_off(model)
    for name in ("label_smoothing", "router_aux_loss_coef", "router_z_loss_coef"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    batch = subject.batch(6)
    with torch.no_grad():
        labels = subject.labels(model(**batch).logits)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=rate)
    first = least = float("inf")
    for step in range(_STEPS):
        torch.manual_seed(step)
        logits = model(**batch).logits
        if subject.is_regression:
            loss = nn.functional.mse_loss(logits, labels)
        else:
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = loss.item() if step == 0 else first
        least = min(least, loss.item())
        if least < _LEARNT * first:
            break
    return first, least


@rule()
def overfitting(subject: Subject) -> None:
    """Six recordings are learnt by heart in a few steps: what cannot do that cannot learn anything."""
    tried = []
    for rate in _RATES:
        first, least = _learn(subject, rate)
        if least < _LEARNT * first:
            return
        tried.append(f"from {first:.3g} to {least:.3g} at {rate:g}")
    require(
        False,
        f"On six recordings, {_STEPS} steps of Adam bring the loss {', '.join(tried)}; expected below a fifth.",
        "Look for logits that are bounded or normalised, features that are the same for every recording, and dead activations.",
    )


@rule(lambda subject: bool(getattr(subject.load("head"), "supports_gradient_checkpointing", False)))
def gradient_checkpointing(subject: Subject) -> None:
    """With activations recomputed in the backward pass, loss and gradients are the same."""
    results = []
    for checkpointing in (False, True):
        model = subject.model().train()
        dropouts_off(model)
        batch = subject.batch()
        with torch.no_grad():
            labels = subject.labels(model.eval()(**batch).logits)
        model.train()
        reached = _enable(model) if checkpointing else True
        require(
            reached,
            f"{type(model).__name__} supports gradient checkpointing, and no layer of it hears of it.",
            "Derive its layers from meco_hub.nn.checkpointed_layer.CheckpointedLayer, or say that it supports none.",
        )
        torch.manual_seed(0)
        loss = _loss(subject, model, batch, labels)
        loss.backward()
        results.append((loss.detach(), {name: one.grad for name, one in model.named_parameters()}))
    (plain, gradients_plain), (recomputed, gradients_recomputed) = results
    require(
        distance(plain, recomputed) <= 1e-5,
        f"Gradient checkpointing changes the loss from {plain:.6g} to {recomputed:.6g}.",
        "A layer that is computed twice must not keep state between calls.",
    )
    for name, one in gradients_plain.items():
        other = gradients_recomputed[name]
        same = (one is None) == (other is None) and (one is None or other is None or distance(one, other) <= 1e-4)
        require(
            same,
            f"Gradient checkpointing changes the gradient of {name}.",
            "Call checkpointed layers with tensors as positional arguments, undetached; no BatchNorm and no state inside.",
        )


def _enable(model: Any) -> bool:
    with quiet():
        model.gradient_checkpointing_enable()
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
