"""What is chosen on validation once the weights are: the operating point, and the calibration; both are written into the model.

This file knows the order of these choices; each is explained where it is made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..evaluation.calibration import Calibration, fit_affine, fit_temperature, write_calibration
from ..evaluation.metrics import ClassificationFigures, figures
from ..evaluation.operating_point import OperatingPoint, correct, write_operating_point
from .recipes import Recipe
from .record import describe_figures
from .validation import Judgement, Validator


@dataclass(frozen=True)
class Settlement:
    """What was chosen, and the validation figures with it.

    Attributes:
        validation: figures of the weights as they are saved, and "before_operating_point" where one was chosen.
        operating_point, calibration: None where the recipe asks for none.
    """

    validation: dict[str, Any]
    operating_point: OperatingPoint | None
    calibration: Calibration | None


def settle(model: PreTrainedModel, judgement: Judgement, validator: Validator, recipe: Recipe) -> Settlement:
    """Choose by the recipe and write into the model.

    The operating point moves the bias and so the logits; the temperature is fitted to those.
    """
    named = validator.named
    if not isinstance(judgement.figures, ClassificationFigures):
        validation = describe_figures(judgement.figures)
        if not recipe.calibrate or judgement.rated is None:
            return Settlement(validation, None, None)
        rated = judgement.rated
        parts = [course.between(validator.scored_seconds) for course in rated.courses]
        answers = [one.predictions for one in parts] or [one.mean(axis=0, keepdims=True) for one in rated.windows]
        truth = [one.truth for one in parts] or [rated.truth]
        fitted = fit_affine(np.concatenate(answers), np.concatenate(truth), validator.names, fitted_on=named)
        write_calibration(model, fitted)
        return Settlement(validation, None, fitted)
    logits, final, validation = judgement.outputs, judgement.figures, {}
    point = validator.choose_point(judgement)
    if point is not None and validator.prior is not None:
        write_operating_point(model, point)
        validation = {"before_operating_point": describe_figures(final)}
        logits = correct(logits, validator.prior, point.tau)
        final = figures(judgement.labels, logits, validator.names)
    calibration = fit_temperature(logits, judgement.labels, fitted_on=named) if recipe.calibrate else None
    if calibration is not None:
        write_calibration(model, calibration)
    return Settlement(describe_figures(final) | validation, point, calibration)
