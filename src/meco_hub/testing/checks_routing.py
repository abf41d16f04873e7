"""What is asked of mixtures of experts: router logits are logits, shares sum to one, and no expert is dead.

This file knows what routing must look like from outside; architectures without `output_router_logits` are not asked.
"""

import inspect

import torch

from .check import require, rule
from .subject import Subject

_DRAWS = 4
_ALIVE = 0.2
"""Share of an even share (1 / experts) that an expert must reach for some input."""


def _has_router(subject: Subject) -> bool:
    return "output_router_logits" in inspect.signature(subject.load("head").forward).parameters


def _router_logits(subject: Subject, seed: int) -> tuple[torch.Tensor, ...]:
    model = subject.model(seed)
    found = subject.answer(model, subject.batch(8, seed), output_router_logits=True).router_logits
    require(
        isinstance(found, tuple) and len(found) > 0 and all(isinstance(one, torch.Tensor) for one in found),
        f"With output_router_logits=True, router_logits is {type(found).__name__} {found if found is None else len(found)}.",
        "Give a tuple with a tensor (batch, …, experts) for every mixture of experts.",
    )
    assert found is not None
    return found


@rule(_has_router)
def router_logits(subject: Subject) -> None:
    """Router logits are there on request and only then, before softmax, so that their softmax sums to one and means something."""
    plain = subject.answer(subject.shared_model, subject.batch(), output_router_logits=False)
    require(
        plain.router_logits is None,
        "router_logits are there although output_router_logits=False.",
        "Give them on request only.",
    )
    for index, one in enumerate(_router_logits(subject, 0)):
        require(
            one.shape[0] == 8 and one.ndim >= 2 and one.shape[-1] >= 2 and bool(torch.isfinite(one).all()),
            f"router_logits[{index}] has the shape {tuple(one.shape)}, finite: {bool(torch.isfinite(one).all())}.",
            "Expected finite (batch, …, experts), two experts or more.",
        )
        sums = one.float().sum(dim=-1)
        probabilities = bool((one >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
        require(
            not probabilities,
            f"router_logits[{index}] are probabilities already: not negative, each row summing to one.",
            "Give what goes into the softmax; whoever balances experts takes the softmax of them again.",
        )


@rule(_has_router)
def routing_sums_to_one(subject: Subject) -> None:
    """Shares that an output reports (…_gates, …_weights) sum to one, or to nothing where there is nothing to share out."""
    wanted = {name: True for name in ("output_router_logits", "output_routing") if name in subject.inputs}
    found = subject.answer(subject.shared_model, subject.batch(), **wanted)
    shares = {
        name: one
        for name, one in found.items()
        if name.endswith(("_gates", "_weights")) and isinstance(one, torch.Tensor)
    }
    shares |= {f"softmax(router_logits[{i}])": one.float().softmax(dim=-1) for i, one in enumerate(found.router_logits)}
    for name, one in shares.items():
        good = []
        for dim in range(1, one.ndim):
            sums = one.float().sum(dim=dim)
            good.append(bool((torch.minimum((sums - 1).abs(), sums.abs()) < 1e-3).all()))
        require(
            any(good) and bool((one > -1e-6).all()),
            f"{name} of shape {tuple(one.shape)} sums to one along none of its dimensions, or is negative somewhere.",
            "Normalise shares over what they are shares of; what has none of it gets zeros.",
        )


@rule(_has_router)
def no_dead_expert(subject: Subject) -> None:
    """Every expert can be chosen: over random inputs and initialisations its share is not next to nothing."""
    best: list[torch.Tensor] = []
    for seed in range(_DRAWS):
        for index, one in enumerate(_router_logits(subject, seed)):
            share = one.float().softmax(dim=-1).flatten(0, -2).amax(dim=0)  # (experts,)
            if index == len(best):
                best.append(share)
            best[index] = torch.maximum(best[index], share)
    for index, share in enumerate(best):
        dead = (share < _ALIVE / len(share)).nonzero().flatten().tolist()
        require(
            not dead,
            f"Mixture {index}: over {_DRAWS} initialisations of 8 inputs each, expert {', '.join(map(str, dead))} of {len(share)} "
            f"never gets {_ALIVE:g} of an even share.",
            "Initialise the router evenly: no bias and no mask may shut an expert out.",
        )
