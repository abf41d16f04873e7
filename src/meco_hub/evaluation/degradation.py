"""How figures fall as recordings get worse: a model answers the same rows again under every condition.

This file knows how conditions are run and curves summed up; what a condition does is in `conditions.py`.
"""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from ..errors import ConfigurationError, InputError
from .conditions import AppliedCondition, Condition, conditions_for
from .predict import Predictions

logger = logging.getLogger(__name__)

Metrics = Mapping[str, Any]
Answer = Callable[[AppliedCondition], tuple[Metrics, Predictions]]
"""A condition → the figures under it, and the answers they are of."""


def choose_conditions(kind: str, names: Sequence[str], processor: Any) -> list[Condition]:
    """`conditions_for` a checkpoint's processor.

    Raises:
        UnknownNameError, ConfigurationError: as of `conditions_for`; a processor of signals that does not name its streams.
    """
    if not names:
        return []
    if kind != "signals":
        return conditions_for(kind, names)
    streams = getattr(processor, "modality_names", None)
    if not streams:
        raise ConfigurationError(
            f"Conditions of signals need the names of the streams, and {type(processor).__name__} has no `modality_names`; "
            "expected them in the order of the model's inputs. Save the checkpoint with a processor that has them."
        )
    return conditions_for(kind, names, streams=list(streams))


def try_conditions(
    conditions: Sequence[Condition],
    answer: Answer,
    clean: Metrics,
    metric: str,
    *,
    known: Mapping[str, Any],
    streams: Sequence[str] = (),
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One entry of `report.json` for every condition, in their order.

    Args:
        conditions: which.
        answer: gives figures and answers under one.
        clean: the figures without any; those of conditions that change nothing.
        metric: the figure whose fall is told.
        known: arguments of `AppliedCondition` that are the same for all.
        streams: of signals, the modalities.
        progress: show a progress bar.
    """
    show = progress and PartialState().is_local_main_process
    entries = []
    for condition in tqdm(conditions, desc="conditions", unit="cond", disable=not show):
        entry: dict[str, Any] = {"condition": condition.name, "family": condition.family, "value": condition.value}
        if condition.unit:
            entry["unit"] = condition.unit
        if condition.unchanged:
            metrics, realised = dict(clean), 0.0
        else:
            applied = AppliedCondition(condition, **known, streams=streams)
            metrics, unreadable = _answer(applied, answer, clean, condition.name)
            if unreadable:
                entry["unreadable"] = unreadable
            realised = _missing(applied)
            entry.update(applied.notes)
        # one stream always stays, so that what is missing in the end is less than what was asked for
        if streams and condition.family == "missing":
            entry["realised"] = realised
        entries.append(
            {**entry, "metrics": metrics, "relative_drop": relative_drop(clean.get(metric), metrics.get(metric))}
        )
    return entries


def _answer(
    applied: AppliedCondition, answer: Answer, clean: Metrics, name: str
) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        metrics, predictions = answer(applied)
    except InputError as error:
        # that a model has no answer without one of its sensors is a finding, and the other conditions go on
        logger.warning("Nothing can be answered under %s: %s", name, error)
        return {key: 0 if key == "n" else None for key in clean}, {"*": str(error)}
    return dict(metrics), predictions.unreadable


def _missing(applied: AppliedCondition) -> float | None:
    pairs = gather_object([(applied.present, applied.possible)])
    present, possible = (sum(column) for column in zip(*pairs, strict=True))
    return 1.0 - present / possible if possible else None


def relative_drop(clean: float | None, value: float | None) -> float | None:
    """(clean − value) / clean; None where there is nothing to fall from."""
    if clean is None or value is None or clean <= 0:
        return None
    return (clean - value) / clean


def sum_up(entries: Sequence[Mapping[str, Any]], clean: Metrics, metric: str) -> dict[str, Any]:
    """What remains of a figure over each family's curve.

    Returns:
        family → `metric`; `clean`; `points`; `area`: the area under the curve over the strengths (the realised ones, where told)
        by the trapezoid rule, divided by their range, which is the mean height of the curve; of values in words their mean;
        `mean_relative_drop`: of the area from clean; `worst`: the lowest figure, and `worst_relative_drop`. Null where a point is.
    """
    families: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        families.setdefault(entry["family"], []).append(entry)
    found = {}
    for family, own in families.items():
        values = [entry["metrics"].get(metric) for entry in own]
        whole = all(value is not None for value in values)
        area = _area(own, values) if whole else None
        worst = min(values) if whole else None
        found[family] = {
            "metric": metric,
            "clean": clean.get(metric),
            "points": len(own),
            "area": area,
            "mean_relative_drop": relative_drop(clean.get(metric), area),
            "worst": worst,
            "worst_relative_drop": relative_drop(clean.get(metric), worst),
        }
    return found


def _area(entries: Sequence[Mapping[str, Any]], values: Sequence[float]) -> float:
    levels = [entry.get("realised", entry["value"]) for entry in entries]
    if any(isinstance(level, str) or level is None for level in levels) or len(set(levels)) < 2:
        return sum(values) / len(values)
    points = sorted(zip(levels, values, strict=True))
    area = sum((right - left) * (low + high) / 2 for (left, low), (right, high) in itertools.pairwise(points))
    return area / (points[-1][0] - points[0][0])
