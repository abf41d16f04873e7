"""What is chosen on validation once the weights are: the operating point, and the calibration; both are written into the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..durable import begin, move_files, remove
from ..evaluation.calibration import (
    Calibration,
    OperatingPoint,
    correct,
    fit_affine,
    fit_temperature,
    write_calibration,
    write_operating_point,
)
from ..evaluation.metrics import ClassificationMetrics, compute_metrics
from ..evaluation.report import write_json
from .arguments import RunOptions, save_model
from .checkpoints import BEST, RESULT, Progress, limit_checkpoints, list_checkpoints
from .data import TrainingData
from .recipes import Recipe
from .record import describe_metrics, write_record
from .validation import ValidationResult, Validator


@dataclass(frozen=True)
class PostTrainingChoices:
    """What was chosen, and the validation figures with it.

    Attributes:
        validation: figures of the weights as they are saved, and "before_operating_point" where one was chosen.
        operating_point, calibration: None where the recipe asks for none.
    """

    validation: dict[str, Any]
    operating_point: OperatingPoint | None
    calibration: Calibration | None


def settle(
    model: PreTrainedModel, judgement: ValidationResult, validator: Validator, recipe: Recipe
) -> PostTrainingChoices:
    """Choose by the recipe and write into the model.

    The operating point moves the bias and so the logits; the temperature is fitted to those.
    """
    named = validator.named
    if not isinstance(judgement.figures, ClassificationMetrics):
        validation = describe_metrics(judgement.figures)
        if not recipe.calibrate or judgement.aligned is None:
            return PostTrainingChoices(validation, None, None)
        aligned = judgement.aligned
        parts = [course.between(validator.scored_seconds) for course in aligned.series]
        answers = [one.predictions for one in parts] or [one.mean(axis=0, keepdims=True) for one in aligned.windows]
        truth = [one.truth for one in parts] or [aligned.truth]
        fitted = fit_affine(np.concatenate(answers), np.concatenate(truth), validator.names, fitted_on=named)
        write_calibration(model, fitted)
        return PostTrainingChoices(validation, None, fitted)
    logits, final, validation = judgement.outputs, judgement.figures, {}
    point = validator.choose_point(judgement)
    if point is not None and validator.prior is not None:
        write_operating_point(model, point)
        validation = {"before_operating_point": describe_metrics(final)}
        logits = correct(logits, validator.prior, point.tau)
        final = compute_metrics(judgement.labels, logits, validator.names)
    calibration = fit_temperature(logits, judgement.labels, fitted_on=named) if recipe.calibrate else None
    if calibration is not None:
        write_calibration(model, calibration)
    return PostTrainingChoices(describe_metrics(final) | validation, point, calibration)


# --- Result -----------------------------------------------------------------------------------------------------------
# What a run ends with: the folder that the Auto classes load, and the record of how it came about.
#
# Everything is written under a name of its own and moved when it is whole, `run.json` last: while that is there, the rest
# fits it.


def write_result(
    model: PreTrainedModel,
    processor: Any,
    *,
    accelerator: Accelerator,
    recipe: Recipe,
    options: RunOptions,
    data: TrainingData,
    unreadable: dict[str, dict[str, str]],
    reference: dict[str, Any] | None,
    progress: Progress,
    settled: PostTrainingChoices,
) -> dict[str, Any]:
    """Write weights, config, processor and record into the run's folder; called by the main process.

    Returns:
        What `run.json` says.
    """
    folder = options.output_dir
    written = begin(folder / RESULT)
    save_model(model, processor, written)
    record = write_record(
        written / "run.json",
        accelerator=accelerator,
        model=model,
        recipe=recipe,
        data=data,
        data_dir=options.data_dir,
        progress=progress,
        validation=settled.validation,
        operating_point=settled.operating_point.to_dict() if settled.operating_point else None,
        calibration=settled.calibration.to_dict() if settled.calibration else None,
        unreadable=unreadable,
        reference=reference,
    )
    numbers = {f"eval_{key}": value for key, value in settled.validation.items() if isinstance(value, int | float)}
    write_json({"epoch": progress.epoch, **numbers}, written / "all_results.json")
    # a kill may have come between the last checkpoint and the removal of those beyond the limit
    limit_checkpoints(folder, options.checkpoints_total_limit)
    move_files(folder / RESULT, folder, last="run.json")
    if not list_checkpoints(folder):  # whoever resumes one may want to look at the kept weights
        remove(folder / BEST)
    return record
