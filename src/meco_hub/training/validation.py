"""Validation: one exact pass after every epoch, one criterion to select by, and what is chosen once the weights are.

The pass is the one that `meco evaluate` makes: the same reading, cutting, processing and arithmetic, so that what is selected by is
what is reported. After training, the operating point and the calibration are chosen on the same samples and written into the model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..answers import Calibration
from ..errors import ConfigurationError
from ..evaluation.calibration import (
    OperatingPoint,
    choose_operating_point,
    correct,
    fit_affine,
    fit_temperature,
    write_calibration,
    write_operating_point,
)
from ..evaluation.metrics import ClassificationMetrics, compute_metrics
from ..evaluation.nuisances import classes_within, values_within
from ..evaluation.predict import Predictions, predict_rows
from ..evaluation.references import row_answers, row_ratings
from ..evaluation.series import AlignedPredictions, ValueMetrics, align_predictions, scored_moments, summarise
from .data import TrainingData
from .engine import in_parts
from .loaders import Loaders
from .recipes import CRITERIA_OF_BOTH, REGRESSION_CRITERIA, Recipe

_MINIMISED = ("loss", "rmse", "mae")


@dataclass(frozen=True)
class ValidationResult:
    """What validation says about some weights.

    Attributes:
        outputs: (n, outputs) class scores, or native values averaged over each recording.
        labels: (n,) class indices, or (n, targets) native values of every validation sample.
        aligned: values laid beside their ratings, for what is fitted on them; None for classes.
        within: mean of the figures that the corpus's nuisances cannot give; None where nobody selects by it.
    """

    outputs: NDArray[np.floating]
    labels: NDArray[Any]
    metrics: ClassificationMetrics | ValueMetrics
    aligned: AlignedPredictions | None = None
    within: float | None = None

    def summary(self) -> dict[str, float | None]:
        """The metrics of a line of the history."""
        values = isinstance(self.metrics, ValueMetrics)
        keys = REGRESSION_CRITERIA if values else ("loss", "uar", "war", "macro_f1", "macro_auroc")
        return {"validation_loss" if key == "loss" else key: getattr(self.metrics, key) for key in keys}


class Validator:
    """Validates weights on the validation samples. `prior`: (classes,) class shares of the training samples; None for values."""

    def __init__(
        self,
        accelerator: Accelerator,
        recipe: Recipe,
        data: TrainingData,
        loaders: Loaders,
        processor: Any,
        prior: NDArray[np.floating] | None,
    ) -> None:
        self._accelerator, self.recipe, self.data = accelerator, recipe, data
        self._loaders, self._processor, self.prior = loaders, processor, prior
        if recipe.selection == "within_nuisances" and not data.corpus.nuisances:
            raise ConfigurationError(
                f"Recipe key 'selection' is 'within_nuisances', and {data.corpus.name} declares none. Select by uar or rmse."
            )
        of_values, values = recipe.selection in REGRESSION_CRITERIA, data.task.regression
        if recipe.selection not in CRITERIA_OF_BOTH and of_values != values:
            kind, fitting = ("values", "rmse, mae, ccc or pcc") if values else ("classes", "uar, war, loss, …")
            raise ConfigurationError(
                f"Recipe key 'selection' is {recipe.selection!r}, and {data.corpus.name} is rated in {kind}. Select by {fitting}."
            )

    def validate(
        self,
        model: PreTrainedModel,
        observe: Callable[[Any, list[int]], None] | None = None,
        *,
        together: bool | None = None,
    ) -> ValidationResult:
        """One exact pass over validation; every process gets all of it.

        Args:
            observe: called after every forward pass, as `predict_rows` does; an error that it raises ends the pass.
            together: as of `predict_rows`; by default, where the engine holds the model in parts.
        """
        model.eval()
        if self._accelerator.num_processes > 1:
            # BatchNorm's statistics differ between processes; all must validate what the main one will save
            for buffer in model.buffers():
                buffer.copy_(cast(torch.Tensor, broadcast(buffer)))
        with self._accelerator.autocast():
            predictions = predict_rows(
                model,
                self._processor,
                self._loaders.validation_rows,
                chosen=self._loaders.validation_readable,
                batch_size=self.recipe.per_device_eval_batch_size,
                observe=observe,
                workers=max(1, self.recipe.dataloader_num_workers),
                together=in_parts(self._accelerator) if together is None else together,
                progress=False,
            )
        data, labels = self.data, self.data.validation.labels[predictions.positions]
        outputs = predictions.values() if data.task.regression else predictions.class_scores()
        if not np.isfinite(outputs).all():  # before metrics are made of them
            raise ConfigurationError(
                "The model gives scores that are not finite on validation: training diverged. Lower learning_rate, set "
                "max_grad_norm, or train with mixed_precision no."
            )
        if not data.task.regression:
            within = self._within(predictions, labels, outputs)
            return ValidationResult(outputs, labels, compute_metrics(labels, outputs, data.names), within=within)
        aligned = align_predictions(predictions, self._loaders.validation_rows, data.validation, data.corpus, data.task)
        seconds = data.corpus.scored_seconds
        within = self._within(predictions, row_ratings(aligned, seconds), row_answers(aligned, seconds))
        metrics = summarise(aligned, data.corpus, data.names)
        return ValidationResult(data.task.native(outputs), labels, metrics, aligned, within)

    def _within(self, predictions: Predictions, truth: Any, answers: Any) -> float | None:
        """The mean over nuisances of what a report calls `auroc_within_…` or `pcc_within_…`."""
        if self.recipe.selection != "within_nuisances":
            return None
        data, chosen = self.data, self.data.validation.dataset.select(predictions.positions)
        nuisances = [one for one in data.corpus.nuisances if one in chosen.column_names]
        shared = {one: chosen[one][:] for one in nuisances}, nuisances, chosen["identity"][:]
        if data.task.regression:
            kind, within = "pcc", values_within(truth, answers, data.names, *shared)
        else:
            kind, within = "auroc", classes_within(truth, answers, *shared)
        figures = within.figures()
        return float(np.mean([figures[f"{kind}_within_{one}"] for one in nuisances]))

    def value(self, result: ValidationResult, epoch: int = 0) -> float:
        """The recipe's selection criterion, signed so that larger is better.

        Args:
            epoch: after which it was made; for "last", of which a later one is better.
        """
        criterion, computed = self.recipe.selection, result.metrics
        if criterion == "last":
            return float(epoch)
        if criterion == "balanced_score" and isinstance(computed, ClassificationMetrics):
            return (computed.uar + computed.war) / 2
        if criterion == "operating_point":
            return _worth(self.choose_point(result))
        value = result.within if criterion == "within_nuisances" else getattr(computed, criterion)
        if value is None or math.isnan(value):
            raise ConfigurationError(
                f"{criterion} is undefined on this validation set, which has one class only, or nobody to compare. Select by "
                "another criterion, or hold more people out."
            )
        return -value if criterion in _MINIMISED else value

    def choose_point(self, result: ValidationResult) -> OperatingPoint | None:
        """The operating point by the recipe's rule; None when the rule is none, and for values."""
        rule = self.recipe.operating_point
        if rule.rule == "none" or self.prior is None:
            return None
        steps = math.floor((rule.tau_max - rule.tau_min) / rule.tau_step + 1e-9)
        return choose_operating_point(
            result.outputs,
            result.labels,
            self.prior,
            self.data.names,
            rule=rule.rule,
            taus=rule.tau_min + rule.tau_step * np.arange(steps + 1),
            war_floor=rule.war_floor,
            chosen_on=self.named,
        )

    @property
    def named(self) -> str:
        """The validation samples in words, for whatever is chosen on them."""
        return f"validation part of {self.recipe.data.corpus}, {len(self._loaders.validation_readable)} samples"


def describe_metrics(metrics: ClassificationMetrics | ValueMetrics) -> dict[str, Any]:
    """The metrics of a validation as plain numbers."""
    if isinstance(metrics, ValueMetrics):
        return asdict(metrics)
    return {
        **{key: getattr(metrics, key) for key in ("n", "uar", "war", "macro_f1", "macro_auroc", "ece")},
        "cross_entropy": metrics.loss,
        "recall": {name: one.recall for name, one in metrics.per_class.items()},
        "confusion": metrics.confusion.tolist(),
    }


def _worth(point: OperatingPoint | None) -> float:
    """Its objective; weights that miss the floor lose against any that meet it, whatever theirs."""
    return -math.inf if point is None else point.objective - (0 if point.floor_met else 1)


@dataclass(frozen=True)
class PostTrainingChoices:
    """What was chosen, and the validation metrics with it; `means` as of `keep_best_mean`."""

    validation: dict[str, Any]
    operating_point: OperatingPoint | None
    calibration: Calibration | None
    means: Mapping[str, float] = field(default_factory=dict)


def keep_best_mean(
    model: PreTrainedModel, start: Mapping[str, torch.Tensor], validator: Validator
) -> tuple[ValidationResult, dict[str, float]]:
    """Give the model the best mean of its weights and those it started from, as the recipe's `average_with_start` says.

    Between two points that a training leads from one to the other, weights in the middle are often better than either.

    Returns:
        its result, and share → what it was chosen by: the operating point's objective, where there is a rule, or else the
        recipe's criterion, both larger where better. Of equal ones the larger share is kept.
    """
    trained = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    found: dict[float, tuple[float, ValidationResult]] = {}

    def take(share: float) -> None:
        # counters and other whole numbers are those of the training
        model.load_state_dict(
            {
                name: torch.lerp(start[name].to(weight), weight, share) if weight.is_floating_point() else weight
                for name, weight in trained.items()
            }
        )

    for share in sorted({1.0, *validator.recipe.average_with_start}):
        take(share)
        result = validator.validate(model, together=False)
        point = validator.choose_point(result)
        found[share] = (validator.value(result) if point is None else _worth(point), result)
    best = max(found, key=lambda share: (found[share][0], share))
    take(best)
    return found[best][1], {f"{share:g}": value for share, (value, _) in found.items()}


def choose_after_training(
    model: PreTrainedModel, result: ValidationResult, validator: Validator
) -> PostTrainingChoices:
    """Choose by the recipe and write into the model.

    The operating point moves the bias and so the logits; the temperature is fitted to those.
    """
    named, data, calibrate = validator.named, validator.data, validator.recipe.calibrate
    if not isinstance(result.metrics, ClassificationMetrics):
        validation = describe_metrics(result.metrics)
        if not calibrate or result.aligned is None:
            return PostTrainingChoices(validation, None, None)
        moments = scored_moments(result.aligned, data.corpus.scored_seconds)
        fitted = fit_affine(*moments, data.names, fitted_on=named)
        write_calibration(model, fitted)
        return PostTrainingChoices(validation, None, fitted)
    logits, final, validation = result.outputs, result.metrics, {}
    point = validator.choose_point(result)
    if point is not None and validator.prior is not None:
        write_operating_point(model, point)
        validation = {"before_operating_point": describe_metrics(final)}
        logits = correct(logits, validator.prior, point.tau)
        final = compute_metrics(result.labels, logits, data.names)
    calibration = fit_temperature(logits, result.labels, fitted_on=named) if calibrate else None
    if calibration is not None:
        write_calibration(model, calibration)
    return PostTrainingChoices(describe_metrics(final) | validation, point, calibration)
