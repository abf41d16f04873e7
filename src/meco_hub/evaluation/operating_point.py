"""The operating point: a class-prior correction chosen on validation and written into the checkpoint.

A network trained on 53 % neutral faces answers "neutral" too often for one user and just right for another. Subtracting
tau · log(prior) from the logits moves between the two (tau 0: as trained; larger: rarer classes are answered more often)
without touching what the network has learnt. tau is one number, so that a small validation set can choose it.

The correction is added to the bias of the head's last layer (`output_layers.py`): whoever loads the checkpoint has it, with no code
of ours. `config.operating_point` records what was chosen, how and on what.

This file knows the rule and where it is written; it knows no architecture.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..errors import ConfigurationError
from .metrics import count_confusion, scores_of_confusion
from .output_layers import output_layers

OBJECTIVES = {
    "max_uar": lambda scores: scores["uar"],
    "max_war": lambda scores: scores["war"],
    "max_macro_f1": lambda scores: scores["macro_f1"],
    "max_mean": lambda scores: (scores["uar"] + scores["war"]) / 2,
}
"""Rule → what it maximises."""


@dataclass(frozen=True)
class OperatingPoint:
    """What was chosen, and the validation figures it was chosen by.

    Attributes:
        rule: a key of `OBJECTIVES`.
        tau: strength of the correction, logits − tau · log(prior).
        objective: value of the rule on validation.
        war_floor: smallest WAR that was allowed; None: any.
        floor_met: False when no tau reached the floor, and the one with the highest WAR was taken instead.
        uar, war, macro_f1: on validation, at this point.
        prior: class name → share of the training set, one added to each count.
        chosen_on: which samples, in words.
    """

    rule: str
    tau: float
    objective: float
    war_floor: float | None
    floor_met: bool
    uar: float
    war: float
    macro_f1: float
    prior: dict[str, float]
    chosen_on: str = "validation"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def class_prior(labels: NDArray[np.integer], num_classes: int) -> NDArray[np.float64]:
    """(classes,) share of each class, one added to each count so that an absent class has a logarithm."""
    counts = np.bincount(labels, minlength=num_classes) + 1.0
    return counts / counts.sum()


def correct(logits: NDArray[np.floating], prior: NDArray[np.floating], tau: float) -> NDArray[np.float64]:
    """(n, classes) logits − tau · log(prior)."""
    return np.asarray(logits, np.float64) - tau * np.log(prior)


def choose_operating_point(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    prior: NDArray[np.floating],
    names: Sequence[str],
    *,
    rule: str,
    taus: Sequence[float] | NDArray[np.floating],
    war_floor: float | None = None,
    chosen_on: str = "validation",
) -> OperatingPoint:
    """Try every tau on validation and take the best by `rule`.

    Args:
        logits, labels: (n, classes) and (n,) of the validation samples.
        prior: (classes,) class shares of the training set; see `class_prior`.
        names: class names in order.
        rule: a key of `OBJECTIVES`.
        taus: strengths to try. Ties go to the smallest |tau|.
        war_floor: only taus with at least this WAR are taken; if there is none, the one with the highest WAR.

    Raises:
        ConfigurationError: an unknown rule, or no tau to try.
    """
    if rule not in OBJECTIVES:
        raise ConfigurationError(f"The operating point's rule is {rule!r}; expected one of {', '.join(OBJECTIVES)}.")
    tried = np.asarray(sorted((float(tau) for tau in taus), key=abs))
    if not len(tried):
        raise ConfigurationError("There is no tau to try for the operating point. Widen tau_min and tau_max.")
    confusions = [count_confusion(labels, correct(logits, prior, tau).argmax(axis=1), len(names)) for tau in tried]
    scores = scores_of_confusion(np.stack(confusions))
    objective = OBJECTIVES[rule](scores)
    allowed = scores["war"] >= war_floor if war_floor is not None else np.ones(len(tried), bool)
    floor_met = bool(allowed.any())
    # `tried` is sorted by |tau| and argmax returns the first of equals, so ties go to the gentlest correction
    best = int(np.argmax(np.where(allowed, objective, -np.inf) if floor_met else scores["war"]))
    return OperatingPoint(
        rule=rule,
        tau=round(float(tried[best]), 6),
        objective=float(objective[best]),
        war_floor=war_floor,
        floor_met=floor_met,
        uar=float(scores["uar"][best]),
        war=float(scores["war"][best]),
        macro_f1=float(scores["macro_f1"][best]),
        prior={name: float(share) for name, share in zip(names, prior, strict=True)},
        chosen_on=chosen_on,
    )


def write_operating_point(model: PreTrainedModel, point: OperatingPoint) -> None:
    """Add the correction to the bias of the head's output layers and record it in `model.config.operating_point`.

    Raises:
        ConfigurationError: the head has no such layer with a bias, the classes differ, or a point was written before.
    """
    biases = [layer.bias for layer in output_layers(model) if layer.bias is not None]
    if not biases or len(biases) != len(output_layers(model)):
        raise ConfigurationError(
            f"{type(model).__name__} has no `classifier` that is a Linear layer with a bias, and no `output_layers` that have one, "
            "where the operating point could be written. Name the head's last layer so, or set operating_point.rule to none."
        )
    id2label: Any = model.config.id2label
    names = [id2label[index] for index in range(biases[0].shape[0])]
    if names != list(point.prior):
        raise ConfigurationError(f"The operating point is for {list(point.prior)}; the model's classes are {names}.")
    if getattr(model.config, "operating_point", None):
        raise ConfigurationError("The model has an operating point already; a second one would be added on top of it.")
    shift = torch.tensor([point.tau * np.log(share) for share in point.prior.values()])
    with torch.no_grad():
        for bias in biases:
            bias -= shift.to(bias)
    model.config.operating_point = point.to_dict()
