"""From a model's outputs to named scores: what predicting, evaluation and training alike mean by an answer.

    classes   [{"label": "happiness", "score": 0.93}, …]                     most probable first
    values    [{"label": "valence", "score": 6.1}, …]                         native units, in the model's own order
    over time [{"label": "valence", "score": 6.1, "times": […], "scores": […]}, …]

A recording of several clips has one answer: `combine_clips` joins what the model says of each, and a calibration, which was fitted
on such joined outputs, is applied to the result. The pipeline and an evaluation both go this way, so a figure in a report is about
the scores that a user sees. Where a checkpoint holds a calibration, each entry says so under "calibration". Where its config says
what its weights were trained on (`training_data: synthetic`), each entry says that too, so that no such answer passes for more
than it is.

Nothing here needs a corpus, so predicting imports this module and not the evaluation.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from .errors import CheckpointError, ConfigurationError, InputError, quote

METHODS = ("temperature", "affine")

SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.1, 10.0
"""Between which a temperature is fitted. By a smaller one every answer would be certain, whatever was seen."""


def accepted_inputs(model: PreTrainedModel) -> frozenset[str]:
    """Names of the tensors that a model's forward takes; a processor may give more than the model wants."""
    return frozenset(inspect.signature(type(model).forward).parameters)


def mirrored_too(model: Any, inputs: dict[str, Any], logits: torch.Tensor) -> torch.Tensor:
    """The mean of a model's answer and of its answer to the same pictures mirrored, as logits; values are averaged as they are.

    It costs a second forward pass, and makes the answer the same for a picture and its mirror image.

    Args:
        model: a head that takes `pixel_values`.
        inputs: what it was given.
        logits: (batch, outputs) what it answered.

    Raises:
        ConfigurationError: the model takes no single pictures, (batch, channels, height, width).
    """
    pixels = inputs.get("pixel_values")
    if pixels is None or pixels.ndim != 4:
        raise ConfigurationError(
            f"{type(model).__name__} was to answer for mirrored pictures too, and takes {', '.join(inputs)}. Expected a model of "
            "single pictures. Leave mirror out."
        )
    other = model(**{**inputs, "pixel_values": pixels.flip(-1)}).logits.float()
    if getattr(model.config, "problem_type", None) == "regression":
        return (logits.float() + other) / 2
    both = torch.stack([logits.float().log_softmax(dim=-1), other.log_softmax(dim=-1)])
    return both.logsumexp(dim=0) - math.log(2)


@dataclass(frozen=True)
class Task:
    """The outputs of a head.

    Attributes:
        names: of classes or targets, in the order of the logits.
        regression: values rather than classes.
        center, halfrange: of each target: native = center + halfrange · output; empty for classes.
    """

    names: tuple[str, ...]
    regression: bool = False
    center: tuple[float, ...] = ()
    halfrange: tuple[float, ...] = ()

    def scale(self, native: NDArray[np.floating]) -> NDArray[np.float32]:
        """(…, targets) native values → the scale on which models answer."""
        return ((np.asarray(native, np.float32) - self._row(self.center)) / self._row(self.halfrange)).astype(
            np.float32
        )

    def native(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, targets) outputs of a model → native values."""
        return self._row(self.center).astype(np.float64) + self._row(self.halfrange) * np.asarray(outputs, np.float64)

    @staticmethod
    def _row(values: tuple[float, ...]) -> NDArray[np.float32]:
        return np.asarray(values, np.float32)


def task_of_model(model: PreTrainedModel) -> Task:
    """What a head answers, as its config says.

    Raises:
        ConfigurationError: a head of values that does not name them.
    """
    config: Any = model.config
    if config.problem_type != "regression":
        return Task(tuple(config.id2label[index] for index in range(len(config.id2label))))
    names = getattr(config, "target_names", None)
    if not names:
        raise ConfigurationError(
            f"The config of {type(model).__name__} says problem_type 'regression' and no target_names; expected the names "
            "of its values in order. Add them to config.json."
        )
    count = len(names)
    return Task(
        tuple(names),
        regression=True,
        center=tuple(getattr(config, "target_center", None) or [0.0] * count),
        halfrange=tuple(getattr(config, "target_halfrange", None) or [1.0] * count),
    )


def require_finite(values: NDArray[np.floating], whose: str) -> None:
    """Refuse an answer that is no number.

    Args:
        values: outputs or scores, in any shape.
        whose: what answered, as the beginning of a sentence.

    Raises:
        CheckpointError: one of them is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{whose} answers {np.count_nonzero(~np.isfinite(values))} of {values.size} values that are no numbers (NaN or "
            "infinite); expected finite ones. Its weights are damaged, or too large for their dtype: copy the checkpoint again, or "
            "load it in float32."
        )


def combine_clips(
    outputs: NDArray[np.floating], link: str | None, times: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """One answer for a recording, before calibration, from what the model says of its clips.

    Args:
        outputs: (clips, outputs), or (clips, steps, outputs) when they run over time, of which every step counts alike.
        times: (clips, steps) seconds at which they hold; NaN for a step that counts for nothing.
        link: "softmax" or "sigmoid" for classes, whose probabilities are averaged; None for values, which are averaged themselves.

    Returns:
        (outputs,): class scores whose probabilities are the mean ones, or mean values.
    """
    rows = np.asarray(outputs, np.float64).reshape(-1, outputs.shape[-1])
    if times is not None:
        rows = rows[np.isfinite(times).reshape(-1)]
    if len(rows) == 1:
        return rows[0]
    if link is None:
        return rows.mean(axis=0)
    here = -np.logaddexp(0, -rows) if link == "sigmoid" else rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    mean = np.logaddexp.reduce(here, axis=0) - math.log(len(rows))
    if link == "softmax":
        return mean
    return mean - (np.logaddexp.reduce(-np.logaddexp(0, rows), axis=0) - math.log(len(rows)))


@dataclass(frozen=True)
class Calibration:
    """A correction, and how it was found.

    Attributes:
        method: "temperature" or "affine".
        fitted_on: which samples, in words.
        n: how many.
        temperature: logits are divided by it.
        least_scores: risk → the least score of the first label at which answers are wrong no more often than that; a risk that no
            score keeps is missing. `evaluation.calibration.least_scores` found it.
        names, slope, intercept: of every target: calibrated = intercept + slope · native value.
        at_bound: the best temperature, or a slope, lies outside what is allowed.
        before, after: figures on the fitting data: "cross_entropy" and "ece", or "rmse_<target>".
    """

    method: str
    fitted_on: str
    n: int
    temperature: float = 1.0
    least_scores: Mapping[str, float] = field(default_factory=dict)
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
            {"temperature": self.temperature, "least_scores": dict(self.least_scores)}
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
        temperature, least = found.get("temperature"), found.get("least_scores", {})
        if not isinstance(least, Mapping) or not all(number(one) and 0 <= one <= 1 for one in least.values()):
            return "has least_scores that are no scores"
        fitted = number(temperature) and SMALLEST_TEMPERATURE <= float(temperature or 0) <= LARGEST_TEMPERATURE
        return "" if fitted else f"has no temperature from {SMALLEST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}"
    columns = [found.get(key) for key in ("names", "slope", "intercept")]
    if not all(isinstance(one, list | tuple) and one and len(one) == len(columns[0] or ()) for one in columns):
        return "needs names, slope and intercept of one length"
    if not all(number(value) for one in columns[1:] for value in one or ()):
        return "has slopes that are no numbers"
    return "" if min(columns[1] or ()) >= 0 else "has a slope below 0, which turns answers round"


def calibration_of(config: Any) -> Calibration | None:
    """The calibration that a checkpoint's config holds; None when there is none.

    Raises:
        CheckpointError: there is one, and it makes no sense, or is for other answers than this head's.
    """
    stored = getattr(config, "calibration", None)
    if not stored:
        return None
    found = Calibration.from_dict(stored)
    problem, targets = getattr(config, "problem_type", None), tuple(getattr(config, "target_names", None) or ())
    of_values = found.method == "affine"
    if (problem is not None and of_values != (problem == "regression")) or (
        of_values and targets and targets != found.names
    ):
        own = f"the values {', '.join(targets)}" if problem == "regression" else "classes"
        raise CheckpointError(
            f"config.calibration is {'of the values ' + quote(', '.join(map(str, found.names))) if of_values else 'of classes'}; "
            f"expected one for what this head answers, {own}, in this order. Remove the key, or calibrate again."
        )
    return found


# --- Over time --------------------------------------------------------------------------------------------------------
# Where windows overlap, their answers are averaged; between the times of the line, values are interpolated linearly; before its
# first and after its last time the nearest value holds, because nothing else is known there. Where the grids coincide nothing is
# interpolated: what comes out are the very values that went in, or their mean.

SAME_TIME_S = 1e-6
"""Times closer than this, in seconds, are one time: clocks are sums of floating-point steps."""


def merge_times(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) times → (t,) different ones, rising, and (n,) the place of each time among them."""
    order = np.argsort(times, kind="stable")
    ranked = times[order]
    begins = np.concatenate([[True], np.diff(ranked) > SAME_TIME_S])
    place = np.empty(len(times), np.int64)
    place[order] = np.cumsum(begins) - 1
    return ranked[begins], place


def stitch(
    times: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lay the answers of windows onto one line.

    Windows whose steps fall between each other's (a stride that is no multiple of the step) are each read at all times of the line
    that they span, by linear interpolation, before they are averaged: the line does not jump to and fro between them.

    Args:
        times: (windows, steps) seconds at which answers hold, rising within each window; NaN for a step without an answer.
        values: (windows, steps, targets) answers; NaN in any target makes a step one without an answer.

    Returns:
        (t,) rising seconds, every time at which some window answers; and (t, targets) the means over the windows that span it.

    Raises:
        InputError: shapes that do not fit, times that do not rise, or no answer at all.
    """
    times, values = np.asarray(times, np.float64), np.asarray(values, np.float64)
    if times.ndim != 2 or values.ndim != 3 or values.shape[:2] != times.shape:
        raise InputError(
            f"Window times have shape {times.shape} and answers {values.shape}; expected (windows, steps) and "
            "(windows, steps, targets)."
        )
    answered = np.isfinite(times) & np.isfinite(values).all(axis=-1)
    if not answered.any():
        raise InputError(
            "No window has an answer at a known time; expected one at least. Check step_times of the processor."
        )
    line, place = merge_times(times[answered])
    total, count = np.zeros((len(line), values.shape[-1])), np.zeros(len(line))
    ends = np.cumsum(answered.sum(axis=1))
    for window, places in enumerate(np.split(place, ends[:-1])):
        if not len(places):
            continue
        if (np.diff(places) <= 0).any():
            raise InputError(f"The times of window {window} do not rise; expected each step later than the one before.")
        own = values[window][answered[window]]
        # read at the line's own times, a window's knots are met exactly and its values come back unchanged
        spanned = slice(int(places[0]), int(places[-1]) + 1)
        total[spanned] += read_off(line[places], own, line[spanned])
        count[spanned] += 1
    return line, total / count[:, None]


def read_off(
    times: NDArray[np.floating], values: NDArray[np.floating], at: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Values of a line at other times.

    Args:
        times: (t,) rising seconds.
        values: (t, targets).
        at: (n,) seconds; before the first and after the last time the nearest value holds.

    Returns:
        (n, targets): the line's own values where times agree within `SAME_TIME_S`, linear interpolation elsewhere. A NaN on the
        line is NaN between its neighbours too.

    Raises:
        InputError: shapes that do not fit, or a line without times.
    """
    times, values, at = np.asarray(times, np.float64), np.asarray(values, np.float64), np.asarray(at, np.float64)
    if times.ndim != 1 or values.ndim != 2 or len(values) != len(times) or not len(times):
        raise InputError(
            f"A line has times of shape {times.shape} and values {values.shape}; expected (t,) and (t, targets), t ≥ 1."
        )
    near = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1)) if len(times) > 1 else np.zeros(len(at), int)
    if len(times) > 1:
        near = np.where(np.abs(times[near - 1] - at) <= np.abs(times[near] - at), near - 1, near)
    met = np.abs(times[near] - at) <= SAME_TIME_S
    read = np.stack([np.interp(at, times, column) for column in values.T], axis=1)
    return np.where(met[:, None], values[near], read)


# --- Entries -----------------------------------------------------------------------------------------------------------

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
        self._whose = type(model).__name__
        self._problem: str | None = model.config.problem_type
        self._calibration: Calibration | None = calibration_of(model.config)
        self._training_data: str | None = getattr(model.config, "training_data", None)

    @property
    def names(self) -> tuple[str, ...]:
        """Of classes or targets, in the order of the outputs."""
        return self._task.names

    @property
    def regression(self) -> bool:
        """Values rather than classes."""
        return self._task.regression

    def least_score(self, abstain_below: float | str) -> float:
        """The score of the first label from which on an answer is given.

        Args:
            abstain_below: that score, 0 to 1; or "risk 0.05", for the one that calibration stored for this share of wrong answers.

        Raises:
            ConfigurationError: neither of them, a risk that nothing is stored for, or a checkpoint that answers values.
        """
        if self._task.regression:
            raise ConfigurationError(
                "abstain_below was passed; the checkpoint answers values, whose scores are no probabilities."
            )
        if isinstance(abstain_below, int | float) and not isinstance(abstain_below, bool) and 0 <= abstain_below <= 1:
            return float(abstain_below)
        words = abstain_below.split() if isinstance(abstain_below, str) else []
        stored = {} if self._calibration is None else self._calibration.least_scores
        if len(words) == 2 and words[0] == "risk" and words[1] in stored:
            return stored[words[1]]
        kept = ", ".join(f'"risk {risk}"' for risk in stored) or "no risk: it was calibrated without, or not at all"
        raise ConfigurationError(
            f"abstain_below={abstain_below!r} was passed; expected a score from 0 to 1, or a risk that the checkpoint's "
            f"calibration keeps. This one keeps {kept}."
        )

    def scores(self, logits: torch.Tensor | NDArray[np.floating], function: str | None = None) -> NDArray[np.float64]:
        """(…, outputs) probabilities or native values of outputs of the same shape.

        Args:
            logits: the model's.
            function: "softmax", "sigmoid" or "none"; by default what `problem_type` calls for. "none" gives the logits themselves,
                uncalibrated.

        Raises:
            ConfigurationError: a function of probabilities for values.
            CheckpointError: an output, or what becomes of it, is no number.
        """
        raw = torch.as_tensor(logits).double()
        require_finite(raw.cpu().numpy(), self._whose)
        scores = self._scores(raw, function)
        require_finite(scores, self._whose)
        return scores

    def _scores(self, raw: torch.Tensor, function: str | None) -> NDArray[np.float64]:
        if function == "none":
            return raw.cpu().numpy()
        link = self._link(function)
        if link is None:
            native = self._task.native(raw.cpu().numpy())
            return native if self._calibration is None else self._calibration.apply(native)
        if self._calibration is not None:
            raw = self._calibration.apply(raw)
        return (raw.sigmoid() if link == "sigmoid" else raw.softmax(-1)).cpu().numpy()

    def _link(self, function: str | None) -> str | None:
        """The function that makes probabilities of class scores; None where the outputs are averaged as they are."""
        if function == "none":
            return None
        if not self._task.regression:
            return function or ("sigmoid" if self._problem == "multi_label_classification" else "softmax")
        if function is not None:
            raise ConfigurationError(
                f"function_to_apply={function!r} was passed; the checkpoint answers values ({', '.join(self._task.names)}), "
                'which are no probabilities. Leave it out, or pass "none" for the outputs before they get their scale.'
            )
        return None

    def entries(
        self, scores: NDArray[np.float64], top_k: int | None = None, function: str | None = None
    ) -> list[Entry]:
        """(outputs,) scores with their names."""
        entries = [{"label": name, "score": float(score)} for name, score in zip(self._task.names, scores, strict=True)]
        return self._finish(entries, top_k, function)

    def over_time(
        self,
        logits: NDArray[np.floating],
        times: NDArray[np.float64],
        top_k: int | None = None,
        function: str | None = None,
        *,
        silent: Sequence[bool] = (),
    ) -> list[Entry]:
        """The answer for a recording, and how it runs over time.

        Args:
            logits: (clips, steps, outputs), the model's; where clips overlap their scores are averaged.
            times: (clips, steps) seconds at which they hold; NaN for a step behind the recording's end.
            top_k, function: as above; classes are ranked by the score of the recording.
            silent: of each clip, whether it cannot be answered for; none by default.

        Returns:
            `score` of the recording, and `scores` at `times`: None where no clip is answered.
        """
        answered = ~np.asarray(silent, bool) if silent else np.ones(len(logits), bool)
        total, line, values = np.full(len(self._task.names), np.nan), np.empty(0), np.empty((0, len(self._task.names)))
        if answered.any():
            total = self.scores(combine_clips(logits[answered], self._link(function), times[answered]), function)
            line, values = stitch(times[answered], self.scores(logits[answered], function))
        if not answered.all():
            lost = times[~answered]
            every, places = merge_times(np.concatenate([line, lost[np.isfinite(lost)]]))
            whole = np.full((len(every), len(total)), np.nan)
            whole[places[: len(line)]] = values
            line, values = every, whole
        entries: list[Entry] = [
            {
                "label": name,
                "score": None if np.isnan(total[place]) else float(total[place]),
                "times": [round(float(time), 3) for time in line],
                "scores": [None if np.isnan(value) else float(value) for value in values[:, place]],
            }
            for place, name in enumerate(self._task.names)
        ]
        return self._finish(entries, top_k, function)

    def _finish(self, entries: list[Entry], top_k: int | None, function: str | None) -> list[Entry]:
        for entry in entries:
            if self._calibration is not None and function != "none":
                entry["calibration"] = str(self._calibration)
            if self._training_data is not None:
                entry["training_data"] = self._training_data
        if not self._task.regression:  # valence stays before arousal, whatever their values
            entries.sort(key=lambda entry: -math.inf if entry["score"] is None else entry["score"], reverse=True)
        return entries[:top_k]


def abstain(answer: list[Entry], least: float | None) -> None:
    """Say in each entry whether the best score is below `least`, so that no label should be used; with None nothing is said.

    Nor should one be used where there is no score, because nothing was measured.
    """
    if least is None or not answer:
        return
    for entries in [one["expressions"] for one in answer] if "expressions" in answer[0] else [answer]:
        for entry in entries:
            entry["abstained"] = entries[0]["score"] is None or entries[0]["score"] < least
