"""The layers whose rows are a head's classes.

Most heads have one: the `nn.Linear` named `classifier`. A head whose answer is a mean of several layers' answers, as of experts,
says so by a method `output_layers() -> list[nn.Linear | nn.Conv1d]`; the weights of that mean must sum to one, so that what is
added to all their biases is added to the answer.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from torch import nn
from transformers import PreTrainedModel

from ..answers import LARGEST_TEMPERATURE, SMALLEST_TEMPERATURE, Calibration
from ..errors import ConfigurationError, InputError
from .metrics import Floats, Ints, calibration_error, count_confusion, cross_entropy, scores_of_confusion, softmax

logger = logging.getLogger(__name__)

OutputLayer = nn.Linear | nn.Conv1d


def output_layers(model: PreTrainedModel) -> list[OutputLayer]:
    """Layers that give one value per class, or target, each; empty where the head does not say which they are."""
    head: Any = model  # torch declares every unknown attribute a tensor or a module
    layers: list[Any] = head.output_layers() if hasattr(head, "output_layers") else [getattr(head, "classifier", None)]
    return layers if all(isinstance(layer, OutputLayer) for layer in layers) else []


# --- Operating point --------------------------------------------------------------------------------------------------
# The operating point: a class-prior correction chosen on validation and written into the checkpoint.
#
# A network trained on 53 % neutral faces answers "neutral" too often for one user and just right for another. Subtracting
# tau · log(prior) from the logits moves between the two (tau 0: as trained; larger: rarer classes are answered more often)
# without touching what the network has learnt. tau is one number, so that a small validation set can choose it.
#
# The correction is added to the bias of the head's last layer (`output_layers.py`): whoever loads the checkpoint has it,
# with no code of ours. `config.operating_point` records what was chosen, how and on what.

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
        tau: strength of the correction, logits − tau · log(prior).
        floor_met: False when no tau reached the floor, and the one with the highest WAR was taken instead.
        prior: class name → share of the training set, one added to each count.
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


def class_prior(labels: Ints, num_classes: int) -> Floats:
    """(classes,) share of each class, one added to each count so that an absent class has a logarithm."""
    counts = np.bincount(labels, minlength=num_classes) + 1.0
    return counts / counts.sum()


def correct(logits: Floats, prior: Floats, tau: float) -> Floats:
    """(n, classes) logits − tau · log(prior)."""
    return np.asarray(logits, np.float64) - tau * np.log(prior)


def choose_operating_point(
    logits: Floats,
    labels: Ints,
    prior: Floats,
    names: Sequence[str],
    *,
    rule: str,
    taus: Sequence[float] | Floats,
    war_floor: float | None = None,
    chosen_on: str = "validation",
) -> OperatingPoint:
    """Try every tau on validation and take the best by `rule`.

    Args:
        logits, labels: (n, classes) and (n,) of the validation samples.
        taus: strengths to try. Ties go to the smallest |tau|.
        war_floor: only taus with at least this WAR are taken; if there is none, the one with the highest WAR.
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
    """Add the correction to the bias of the head's output layers and record it in `model.config.operating_point`."""
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


# --- Calibration ------------------------------------------------------------------------------------------------------
# Calibration: one temperature for classes, a slope and an intercept for each value; fitted on validation, and on nothing
# else.
#
#     calibration = fit_temperature(logits, labels, fitted_on="validation part of case, 480 samples")
#     write_calibration(model, calibration)                          config.calibration, saved with the weights
#     calibration_of(model.config).apply(logits)                     what the pipeline and an evaluation do
#
# **Temperature** (Guo et al. 2017, arXiv 1706.04599): logits / T, T minimising the cross-entropy of validation. That is
# convex in 1/T, so T is where its derivative crosses zero, found between bounds, where unlike L-BFGS nothing misses it. T stays
# within [0.1, 10]: where validation is separated without an error the optimum is 0, and certainty from a few hundred
# samples is no knowledge; where the model knows nothing it is infinite. `at_bound` says that it stopped there. The order of
# the classes, and so every figure that counts hits, stays as it was.
#
# **Affine**: intercept + slope · value for every target, minimising the squared error of validation in closed form, with
# slope ≥ 0. A model that runs against the truth on validation gets slope 0, the mean: turning it round would claim to know
# what it has just been shown not to know. Answers without spread get slope 1. It lowers RMSE by drawing values towards
# their mean, which can cost CCC.
#
# Neither is worse on the fitting data than doing nothing, by the criterion that it minimises. Both records hold the figures
# before and after; those are of validation and flatter.

_SMALLEST_SD = 1e-8


def fit_temperature(logits: Floats, labels: Ints, *, fitted_on: str = "validation") -> Calibration:
    """Find the temperature on validation samples.

    Args:
        logits, labels: (n, classes) scores before softmax, and (n,) class indices.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels) or not np.isfinite(logits).all():
        raise InputError(
            f"Scores of shape {logits.shape} and labels of shape {labels.shape} were passed to calibrate on; expected finite "
            "(n, classes) and (n,), n ≥ 1. Check the validation part."
        )
    own = logits[np.arange(len(labels)), labels]

    def slope(sharpness: float) -> float:
        """Derivative of the cross-entropy by 1/T; it only rises."""
        return float(((softmax(logits * sharpness) * logits).sum(axis=1) - own).mean())

    low, high = 1 / LARGEST_TEMPERATURE, 1 / SMALLEST_TEMPERATURE
    spread = float(np.abs(logits - logits.max(axis=1, keepdims=True)).max())
    at_bound = False
    if spread < _SMALLEST_SD:  # equal scores stay equal, whatever they are divided by
        temperature = 1.0
    elif slope(low) >= 0 or slope(high) <= 0:
        temperature, at_bound = LARGEST_TEMPERATURE if slope(low) >= 0 else SMALLEST_TEMPERATURE, True
    else:
        temperature = 1 / root_scalar(slope, bracket=(low, high), method="brentq", xtol=1e-12).root
    before, after = cross_entropy(labels, logits), cross_entropy(labels, logits / temperature)
    if after > before:  # rounding at an optimum of 1
        temperature, after = 1.0, before
    if at_bound:
        logger.warning("The best temperature on %s lies beyond %.3g and is held there.", fitted_on, temperature)
    return Calibration(
        method="temperature",
        fitted_on=fitted_on,
        n=len(labels),
        temperature=temperature,
        least_scores=least_scores(labels, softmax(logits / temperature)),
        at_bound=at_bound,
        before={"cross_entropy": before, "ece": calibration_error(labels, softmax(logits))},
        after={"cross_entropy": after, "ece": calibration_error(labels, softmax(logits / temperature))},
    )


# --- Selective answers ------------------------------------------------------------------------------------------------
# Whoever answers only where the score of the first label is high is wrong less often (Geifman and El-Yaniv 2017, arXiv 1705.08500).
#
# **Risk** is the share of wrong answers among those given, **coverage** the share of inputs that are answered; AURC is the mean
# risk over all coverages 1/n, 2/n … 1, in order of falling score. Inputs of one score are answered together or not at all. With
# warnings, an answer that has any is given after all that have none, whatever its score.

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of wrong answers for which calibration stores the least score."""

_CONFIDENCE = 1.645  # standard deviations of a one-sided 95 % bound


def risk_coverage(
    labels: Ints, probabilities: Floats, warned: NDArray[np.bool_] | None = None
) -> tuple[Floats, Floats, Floats]:
    """How often the first label is wrong when only the surest inputs are answered.

    Args:
        labels, probabilities: (n,) and (n, classes), n ≥ 1.
        warned: (n,) of answers that come after all others.

    Returns:
        (k,) coverage, rising to 1; (k,) risk; and (k,) the least score that is answered, 1 less where it is of answers that are
        warned of: k ≤ n, one for each different score.
    """
    scores = np.asarray(probabilities, np.float64).max(axis=1)
    if warned is not None:
        scores = scores - warned
    wrong = np.asarray(probabilities).argmax(axis=1) != np.asarray(labels)
    order = np.argsort(-scores, kind="stable")
    ranked, count = scores[order], np.arange(1, len(scores) + 1)
    last = np.append(ranked[1:] < ranked[:-1], True)
    return count[last] / len(scores), (np.cumsum(wrong[order]) / count)[last], ranked[last]


def area_under_risk(coverage: Floats, risk: Floats) -> float:
    """AURC, of what `risk_coverage` gave: risk is that of the next point where coverage lies between two."""
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))


def least_scores(labels: Ints, probabilities: Floats) -> dict[str, float]:
    """Risk → the least score at which the true risk is no larger, with 95 % confidence (Wilson's bound); for each of `RISKS`.

    Args:
        labels, probabilities: (n,) and (n, classes) of the samples to choose on. A risk that no score keeps is left out.
    """
    coverage, risk, scores = risk_coverage(labels, probabilities)
    n, z = coverage * len(labels), _CONFIDENCE
    bound = (risk + z * z / (2 * n) + z * np.sqrt(risk * (1 - risk) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    kept = {f"{allowed:g}": np.flatnonzero(bound <= allowed) for allowed in RISKS}
    return {allowed: float(scores[places[-1]]) for allowed, places in kept.items() if len(places)}


def describe_selection(labels: Ints, probabilities: Floats, doubts: Sequence[Sequence[str] | None]) -> dict[str, Any]:
    """What a report says of answers that are given only from some score on.

    Args:
        labels, probabilities: (n,) and (n, classes), n ≥ 1.
        doubts: (n,) codes of the warnings that each answer has; None where nobody asked.
    """
    coverage, risk, scores = risk_coverage(labels, probabilities)
    tenths = np.arange(1, 11) / 10 - 1e-9
    curve = [
        {"coverage": float(coverage[one]), "risk": float(risk[one]), "least_score": float(scores[one])}
        for one in np.searchsorted(coverage, tenths)
    ]
    asked = [one for one in doubts if one is not None]
    found = {"aurc": area_under_risk(coverage, risk), "curve": curve, "with_warnings": None}
    if len(asked) < len(doubts):
        return found
    warned = np.asarray([bool(one) for one in asked])
    wrong = np.asarray(probabilities).argmax(axis=1) != np.asarray(labels)
    known, known_risk, _ = risk_coverage(labels, probabilities, warned)
    found["with_warnings"] = {
        "warned": int(warned.sum()),
        "warned_risk": float(wrong[warned].mean()) if warned.any() else None,
        "codes": dict(sorted(Counter(code for one in asked for code in one).items())),
        "aurc": area_under_risk(known, known_risk),
        "curve": [
            {"coverage": float(known[one]), "risk": float(known_risk[one])} for one in np.searchsorted(known, tenths)
        ],
    }
    return found


def _fit_line(truth: Floats, values: Floats) -> tuple[float, float, bool]:
    """Slope ≥ 0, intercept, and whether the slope was held at 0; two (n,) arrays."""
    if not len(truth):
        return 1.0, 0.0, False
    deviation = values - values.mean()
    variance = float(np.mean(deviation**2))
    slope = float(np.mean(deviation * (truth - truth.mean())) / variance) if variance > _SMALLEST_SD**2 else 1.0
    held = slope < 0
    slope = max(slope, 0.0)
    return slope, float(truth.mean() - slope * values.mean()), held


def fit_affine(
    predictions: Floats, truth: Floats, names: Sequence[str], *, fitted_on: str = "validation"
) -> Calibration:
    """Find slope and intercept of every target on validation items.

    Args:
        predictions, truth: (n, targets) native values; NaN in `truth` where unknown. A target without any keeps its values.
    """
    predictions, truth = np.asarray(predictions, np.float64), np.asarray(truth, np.float64)
    fits = predictions.ndim == 2 and predictions.shape == truth.shape and predictions.shape[1] == len(names)
    if not fits or not len(predictions) or not np.isfinite(predictions).all():
        raise InputError(
            f"Values of shape {predictions.shape} and truth of shape {truth.shape} were passed to calibrate on; expected finite "
            f"(n, {len(names)}) for both, n ≥ 1. Check the validation part."
        )
    slopes, intercepts, held = [], [], []
    before, after = {}, {}
    for column, name in enumerate(names):
        known = np.isfinite(truth[:, column])
        own, true = predictions[known, column], truth[known, column]
        slope, intercept, stopped = _fit_line(true, own)
        if len(true):
            before[f"rmse_{name}"] = float(np.sqrt(np.mean((own - true) ** 2)))
            after[f"rmse_{name}"] = float(np.sqrt(np.mean((intercept + slope * own - true) ** 2)))
            if after[f"rmse_{name}"] > before[f"rmse_{name}"]:  # rounding at an optimum of 1 and 0
                slope, intercept, after[f"rmse_{name}"] = 1.0, 0.0, before[f"rmse_{name}"]
        slopes.append(slope)
        intercepts.append(intercept)
        held.append(stopped)
    if any(held):
        against = ", ".join(name for name, stopped in zip(names, held, strict=True) if stopped)
        logger.warning("Answers run against the truth of %s on %s; their mean is answered instead.", against, fitted_on)
    return Calibration(
        method="affine",
        fitted_on=fitted_on,
        n=int(np.isfinite(truth).any(axis=1).sum()),
        names=tuple(names),
        slope=tuple(slopes),
        intercept=tuple(intercepts),
        at_bound=any(held),
        before=before,
        after=after,
    )


def write_calibration(model: Any, calibration: Calibration) -> None:
    """Put a calibration into `model.config`, which is saved with the weights; an earlier one is no part of them and is replaced."""
    model.config.calibration = calibration.to_dict()


def describe_calibration(
    calibration: Calibration | None, uncalibrated: Mapping[str, float] | None = None
) -> dict[str, Any] | None:
    """What a report says of it.

    Args:
        uncalibrated: figures of the same data without it ("ece", "cross_entropy", "rmse", …), as far as they were computed.
    """
    if calibration is None:
        return None
    return {**calibration.to_dict(), "uncalibrated": dict(uncalibrated or {})}
