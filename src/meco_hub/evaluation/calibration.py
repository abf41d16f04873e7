"""Calibration: one temperature for classes, a slope and an intercept for each value; fitted on validation, and on nothing else.

    calibration = fit_temperature(logits, labels, fitted_on="validation part of case, 480 samples")
    write_calibration(model, calibration)                          config.calibration, saved with the weights
    calibration_of(model.config).apply(logits)                     what the pipeline and an evaluation do

**Temperature** (Guo et al. 2017, arXiv 1706.04599): logits / T, T minimising the cross-entropy of validation. That is convex in
1/T, so T is where its derivative crosses zero, found by bisection, which unlike L-BFGS cannot miss it. T stays within [0.1, 10]:
where validation is separated without an error the optimum is 0, and certainty from a few hundred samples is no knowledge; where the
model knows nothing it is infinite. `at_bound` says that it stopped there. The order of the classes, and so every figure that counts
hits, stays as it was.

**Affine**: intercept + slope · value for every target, minimising the squared error of validation in closed form, with slope ≥ 0. A
model that runs against the truth on validation gets slope 0, the mean: turning it round would claim to know what it has just been
shown not to know. Answers without spread get slope 1. It lowers RMSE by drawing values towards their mean, which can cost CCC.

Neither is worse on the fitting data than doing nothing, by the criterion that it minimises. Both records hold the figures before
and after; those are of validation and flatter.

This file knows how answers are corrected and where that is written; it knows no architecture and no metric of reports.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, InputError
from .probabilities import calibration_error, cross_entropy, softmax

logger = logging.getLogger(__name__)

METHODS = ("temperature", "affine")
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.1, 10.0
_SMALLEST_SD = 1e-8


@dataclass(frozen=True)
class Calibration:
    """A correction, and how it was found.

    Attributes:
        method: "temperature" or "affine".
        fitted_on: which samples, in words.
        n: how many.
        temperature: logits are divided by it.
        names, slope, intercept: of every target: calibrated = intercept + slope · native value.
        at_bound: the best temperature, or a slope, lies outside what is allowed.
        before, after: figures on the fitting data: "cross_entropy" and "ece", or "rmse_<target>".
    """

    method: str
    fitted_on: str
    n: int
    temperature: float = 1.0
    names: tuple[str, ...] = ()
    slope: tuple[float, ...] = ()
    intercept: tuple[float, ...] = ()
    at_bound: bool = False
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)

    def apply(self, outputs: Any) -> Any:
        """Correct (…, classes) logits or (…, targets) native values; arrays of numpy or torch, and the same comes back.

        Raises:
            InputError: other targets than it was fitted for, by their number.
        """
        if self.method == "temperature":
            return outputs / self.temperature
        if outputs.shape[-1] != len(self.slope):
            raise InputError(
                f"Values of shape {tuple(outputs.shape)} were passed; the calibration is for {', '.join(self.names)}. Pass one "
                "column for each."
            )
        if isinstance(outputs, np.ndarray):
            return np.asarray(self.intercept) + np.asarray(self.slope) * outputs
        return outputs.new_tensor(self.intercept) + outputs.new_tensor(self.slope) * outputs

    def to_dict(self) -> dict[str, Any]:
        """As `config.json` and reports hold it; only what the method has."""
        own = (
            {"temperature": self.temperature}
            if self.method == "temperature"
            else {"names": list(self.names), "slope": list(self.slope), "intercept": list(self.intercept)}
        )
        return {
            "method": self.method,
            **own,
            "fitted_on": self.fitted_on,
            "n": self.n,
            "at_bound": self.at_bound,
            "before": dict(self.before),
            "after": dict(self.after),
        }

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> "Calibration":
        """Read what `to_dict` wrote.

        Raises:
            CheckpointError: it is no calibration, or one that makes no sense.
        """
        found = dict(value) if isinstance(value, Mapping) else {}
        problem = _problem(found)
        if problem:
            raise CheckpointError(
                f"config.calibration {problem}: {str(value)[:200]}. Expected what meco_hub's calibration writes. Remove the key, "
                "or calibrate again."
            )
        known = {one.name for one in fields(Calibration)}
        own = {key: tuple(item) if isinstance(item, list) else item for key, item in found.items() if key in known}
        return Calibration(**{"fitted_on": "", "n": 0, **own})

    def __str__(self) -> str:
        """One sentence for an answer or a card."""
        if self.method == "temperature":
            how = f"probabilities calibrated by temperature {self.temperature:.3g}"
        else:
            lines = zip(self.names, self.slope, self.intercept, strict=True)
            how = "values calibrated by " + ", ".join(f"{name}: {b:+.3g} {a:+.3g}·value" for name, a, b in lines)
        return f"{how}, fitted on {self.fitted_on}"


def _problem(found: Mapping[str, Any]) -> str:
    """What is wrong with a stored calibration, in words; "" when it can be used."""

    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    if found.get("method") not in METHODS:
        return f"has the method {found.get('method')!r}"
    if found["method"] == "temperature":
        temperature = found.get("temperature")
        return "" if number(temperature) and temperature > 0 else "has no positive temperature"  # pyright: ignore[reportOptionalOperand]
    columns = [found.get(key) for key in ("names", "slope", "intercept")]
    if not all(isinstance(one, list | tuple) and one and len(one) == len(columns[0] or ()) for one in columns):
        return "needs names, slope and intercept of one length"
    return "" if all(number(value) for one in columns[1:] for value in one or ()) else "has slopes that are no numbers"


def fit_temperature(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, fitted_on: str = "validation"
) -> Calibration:
    """Find the temperature on validation samples.

    Args:
        logits, labels: (n, classes) scores before softmax, and (n,) class indices.
        fitted_on: which samples these are, in words.

    Raises:
        InputError: no sample, shapes that do not fit, or scores that are not finite.
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
        low = high = 1.0
    elif slope(low) >= 0:
        high, at_bound = low, True
    elif slope(high) <= 0:
        low, at_bound = high, True
    for _ in range(60):
        if high - low <= 1e-9 * low:
            break
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    temperature = 1 / math.sqrt(low * high)
    before, after = cross_entropy(labels, logits), cross_entropy(labels, logits / temperature)
    if after > before:  # rounding at an optimum of 1
        temperature, after = 1.0, before
    if at_bound:
        logger.warning("The best temperature on %s lies beyond %.3g and is held there.", fitted_on, temperature)
    return Calibration(
        method="temperature",
        fitted_on=fitted_on,
        n=len(labels),
        temperature=float(temperature),
        at_bound=at_bound,
        before={"cross_entropy": before, "ece": calibration_error(labels, softmax(logits))},
        after={"cross_entropy": after, "ece": calibration_error(labels, softmax(logits / temperature))},
    )


def _fit_line(truth: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float, bool]:
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
    predictions: NDArray[np.floating],
    truth: NDArray[np.floating],
    names: Sequence[str],
    *,
    fitted_on: str = "validation",
) -> Calibration:
    """Find slope and intercept of every target on validation items.

    Args:
        predictions, truth: (n, targets) native values; NaN in `truth` where unknown. A target without any keeps its values.
        names: target names in order.
        fitted_on: which items these are, in words.

    Raises:
        InputError: no item, shapes that do not fit, or predictions that are not finite.
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


def calibration_of(config: Any) -> Calibration | None:
    """The calibration that a checkpoint's config holds; None when there is none.

    Raises:
        CheckpointError: there is one, and it makes no sense.
    """
    stored = getattr(config, "calibration", None)
    return Calibration.from_dict(stored) if stored else None


def write_calibration(model: Any, calibration: Calibration) -> None:
    """Put a calibration into `model.config`, which is saved with the weights; an earlier one is no part of them and is replaced."""
    model.config.calibration = calibration.to_dict()


def describe_calibration(
    calibration: Calibration | None, uncalibrated: Mapping[str, float] | None = None
) -> dict[str, Any] | None:
    """What a report says of it.

    Args:
        calibration: the one that was applied; None: none was.
        uncalibrated: figures of the same data without it ("ece", "cross_entropy", "rmse", …), as far as they were computed.
    """
    if calibration is None:
        return None
    return {**calibration.to_dict(), "uncalibrated": dict(uncalibrated or {})}
