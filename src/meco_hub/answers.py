"""From a model's outputs to named scores: the form in which every answer is given.

    classes   [{"label": "happiness", "score": 0.93}, …]                     most probable first
    values    [{"label": "valence", "score": 6.1}, …]                         native units, in the model's own order
    over time [{"label": "valence", "score": 6.1, "times": […], "scores": […]}, …]

Where a checkpoint holds a calibration it is applied, and each entry says so under "calibration". Where its config says what its
weights were trained on (`training_data: synthetic`), each entry says that too, so that no such answer passes for more than it is.

This file knows forms of answers; it knows neither recordings nor pipelines.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from .errors import ConfigurationError
from .evaluation.calibration import Calibration, calibration_of
from .evaluation.task import task_of_model
from .evaluation.timeline import stitch

Entry = dict[str, Any]
"""{"label", "score", …} of one class or target."""


class Answers:
    """Gives answers in the form that a checkpoint's config calls for.

    Args:
        model: the head whose outputs are named.

    Raises:
        CheckpointError: its config holds a calibration that makes no sense.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._task = task_of_model(model)
        self._problem: str | None = model.config.problem_type
        self._calibration: Calibration | None = calibration_of(model.config)
        self._training_data: str | None = getattr(model.config, "training_data", None)

    @property
    def regression(self) -> bool:
        """Values rather than classes."""
        return self._task.regression

    def scores(self, logits: torch.Tensor, function: str | None = None) -> NDArray[np.float64]:
        """(…, outputs) probabilities or native values of outputs of the same shape.

        Args:
            logits: the model's.
            function: "softmax", "sigmoid" or "none"; by default what `problem_type` calls for. "none" gives the logits themselves,
                uncalibrated.

        Raises:
            ConfigurationError: a function of probabilities for values.
        """
        raw = logits.double()
        if function == "none":
            return raw.cpu().numpy()
        if self._task.regression:
            if function is not None:
                raise ConfigurationError(
                    f"function_to_apply={function!r} was passed; the checkpoint answers values ({', '.join(self._task.names)}), "
                    'which are no probabilities. Leave it out, or pass "none" for the outputs before they get their scale.'
                )
            native = self._task.native(raw.cpu().numpy())
            return native if self._calibration is None else self._calibration.apply(native)
        if self._calibration is not None:
            raw = self._calibration.apply(raw)
        chosen = function or ("sigmoid" if self._problem == "multi_label_classification" else "softmax")
        return (raw.sigmoid() if chosen == "sigmoid" else raw.softmax(-1)).cpu().numpy()

    def entries(
        self, scores: NDArray[np.float64], top_k: int | None = None, function: str | None = None
    ) -> list[Entry]:
        """(outputs,) scores with their names."""
        entries = [{"label": name, "score": float(score)} for name, score in zip(self._task.names, scores, strict=True)]
        self._mark(entries, function)
        if not self._task.regression:  # valence stays before arousal, whatever their values
            entries.sort(key=lambda entry: entry["score"], reverse=True)
        return entries[:top_k]

    def over_time(
        self,
        scores: NDArray[np.float64],
        times: NDArray[np.float64],
        top_k: int | None = None,
        function: str | None = None,
    ) -> list[Entry]:
        """Scores that run over time.

        Args:
            scores: (clips, steps, outputs); overlapping clips are averaged.
            times: (clips, steps) seconds at which they hold.
            top_k, function: as above; classes are ranked by their mean score.
        """
        line, values = stitch(times, scores)
        entries = [
            {
                "label": name,
                "score": float(values[:, place].mean()),
                "times": [round(float(time), 3) for time in line],
                "scores": [float(value) for value in values[:, place]],
            }
            for place, name in enumerate(self._task.names)
        ]
        self._mark(entries, function)
        if not self._task.regression:
            entries.sort(key=lambda entry: entry["score"], reverse=True)
        return entries[:top_k]

    def _mark(self, entries: Sequence[Entry], function: str | None) -> None:
        for entry in entries:
            if self._calibration is not None and function != "none":
                entry["calibration"] = str(self._calibration)
            if self._training_data is not None:
                entry["training_data"] = self._training_data
