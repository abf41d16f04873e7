"""Validation during training: one exact pass, one criterion.

This file knows how weights are judged; it changes none.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..errors import ConfigurationError
from ..evaluation.metrics import ClassificationFigures, figures
from ..evaluation.operating_point import OperatingPoint, choose_operating_point
from .recipes import Recipe


@dataclass(frozen=True)
class Judgement:
    """What validation says about some weights.

    Attributes:
        logits, labels: (n, classes) and (n,) of every validation sample.
        figures: of these.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    figures: ClassificationFigures


class Validator:
    """Judges weights on the validation samples.

    Args:
        accelerator: gathers what several processes computed.
        loader: the prepared loader of validation batches.
        recipe: selection criterion and rule of the operating point.
        names: class names in the order of the logits.
        prior: (classes,) class shares of the training samples.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        loader: DataLoader[Any],
        recipe: Recipe,
        names: list[str],
        prior: NDArray[np.floating],
    ) -> None:
        self._accelerator, self._loader, self._recipe = accelerator, loader, recipe
        self._names, self._prior = names, prior

    def judge(self, model: PreTrainedModel) -> Judgement:
        """One exact pass over validation; every process gets all of it."""
        model.eval()
        if self._accelerator.num_processes > 1:
            # BatchNorm's statistics differ between processes; all must judge what the main one will save
            for buffer in model.buffers():
                buffer.copy_(cast(torch.Tensor, broadcast(buffer)))
        logits: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        with torch.inference_mode():
            for batch in self._loader:
                inputs = {key: value for key, value in batch.items() if key != "labels"}
                with self._accelerator.autocast():
                    scores = model(**inputs).logits.float()
                # leaves out the samples that fill up the last batch when there are several processes
                scores, truth = self._accelerator.gather_for_metrics((scores, batch["labels"]))
                logits.append(scores.cpu())
                labels.append(truth.cpu())
        scores, truth = torch.cat(logits).numpy(), torch.cat(labels).numpy()
        if not np.isfinite(scores).all():
            raise ConfigurationError(
                "The model gives scores that are not finite on validation: training diverged. Lower learning_rate, set "
                "max_grad_norm, or train with mixed_precision no."
            )
        return Judgement(scores, truth, figures(truth, scores, self._names))

    def value(self, judgement: Judgement) -> float:
        """The recipe's selection criterion, signed so that larger is better.

        Raises:
            ConfigurationError: the criterion is undefined on this validation set.
        """
        criterion, computed = self._recipe.selection, judgement.figures
        if criterion == "loss":
            return -computed.loss
        if criterion == "balanced_score":
            return (computed.uar + computed.war) / 2
        if criterion == "operating_point":
            point = self.choose_point(judgement)
            # weights that miss the floor lose against any that meet it, whatever their objective
            return -math.inf if point is None else point.objective - (0 if point.floor_met else 1)
        value = getattr(computed, criterion)
        if value is None:
            raise ConfigurationError(
                f"{criterion} is undefined on this validation set, which has one class only. Select by another criterion."
            )
        return value

    def choose_point(self, judgement: Judgement) -> OperatingPoint | None:
        """The operating point by the recipe's rule; None when the rule is none."""
        rule = self._recipe.operating_point
        if rule.rule == "none":
            return None
        steps = math.floor((rule.tau_max - rule.tau_min) / rule.tau_step + 1e-9)
        return choose_operating_point(
            judgement.logits,
            judgement.labels,
            self._prior,
            self._names,
            rule=rule.rule,
            taus=rule.tau_min + rule.tau_step * np.arange(steps + 1),
            war_floor=rule.war_floor,
            chosen_on=f"validation part of {self._recipe.data.corpus}, {len(judgement.labels)} samples",
        )
