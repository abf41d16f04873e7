"""What else an evaluation watches: metrics under conditions, estimates of lags, and which expert serves whom."""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel

from ..answers import accepted_inputs
from ..errors import ConfigurationError, InputError
from .conditions import AppliedCondition, Condition
from .predict import Predictions

logger = logging.getLogger(__name__)

Metrics = Mapping[str, Any]
Answer = Callable[[AppliedCondition], tuple[Metrics, Predictions]]
"""A condition → the metrics under it, and the predictions they are of."""


def degrade(
    conditions: Sequence[Condition],
    answer: Answer,
    clean: Metrics,
    metric: str,
    *,
    known: Mapping[str, Any],
    streams: Sequence[str] = (),
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One entry of `report.json` for every condition, in their order."""
    show = progress and PartialState().is_local_main_process
    entries = []
    for condition in tqdm(conditions, desc="conditions", unit="cond", disable=not show):
        entry: dict[str, Any] = {"condition": condition.name, "family": condition.family, "value": condition.value}
        if condition.unit:
            entry["unit"] = condition.unit
        if condition.unchanged:
            metrics, realised = clean, 0.0
        else:
            applied = AppliedCondition(condition, **known, streams=streams)
            try:
                metrics, predictions = answer(applied)
                unreadable = predictions.unreadable
            except InputError as error:
                # that a model has no answer without one of its sensors is a finding, and the other conditions go on
                logger.warning("Nothing can be answered under %s: %s", condition.name, error)
                metrics, unreadable = {key: 0 if key == "n" else None for key in clean}, {"*": str(error)}
            if unreadable:
                entry["unreadable"] = unreadable
            pairs = gather_object([(applied.present, applied.possible)])
            present, possible = (sum(column) for column in zip(*pairs, strict=True))
            realised = 1.0 - present / possible if possible else None
            entry.update(applied.notes)
        # one stream always stays, so that less is missing than the condition's rate says
        if streams and condition.family == "missing":
            entry["realised"] = realised
        entry["metrics"] = dict(metrics)
        entry["relative_drop"] = relative_drop(clean.get(metric), metrics.get(metric))
        entries.append(entry)
    return entries


def same_label(clean: Predictions, found: Predictions) -> float | None:
    """Share of the rows answered both times whose top class stayed; None where there is no such row."""
    first, second = (
        dict(zip(one.sample_ids, one.class_scores().argmax(axis=1), strict=True)) for one in (clean, found)
    )
    both = first.keys() & second.keys()
    return sum(int(first[name] == second[name]) for name in both) / len(both) if both else None


def relative_drop(clean: float | None, value: float | None) -> float | None:
    """(clean − value) / clean; None where there is nothing to fall from."""
    if clean is None or value is None or clean <= 0:
        return None
    return (clean - value) / clean


def summarise_families(entries: Sequence[Mapping[str, Any]], clean: Metrics, metric: str) -> dict[str, Any]:
    """What remains of a metric over each family's curve."""
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


# --- Lags -------------------------------------------------------------------------------------------------------------
# How well a model finds out by how much each sensor is late, where a condition has made them late and knows by how much.
#
# A model that estimates lags gives them with `output_routing=True`: `lags`, (B, M) seconds, positive where a modality is
# late, and `availability`, (B, M, S), which modality is there at which step. Signals show only differences between sensors,
# so estimates and delays are compared relative to their means over the modalities that are there, where two or more are.

LAG_OPTIONS = {"output_routing": True}
"""Arguments of the model's forward."""


def estimates_lags(model: PreTrainedModel) -> bool:
    """Whether a model may say how late each modality is; its output shows whether it does."""
    return "output_routing" in accepted_inputs(model)


class LagRecord:
    """Collects lags, clip by clip."""

    def __init__(self, applied: AppliedCondition, sample_ids: Sequence[str], streams: Sequence[str]) -> None:
        self._applied, self._sample_ids, self._streams = applied, sample_ids, tuple(streams)
        self._pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def observe(self, output: Any, owners: Sequence[int]) -> None:
        """Take the lags of a batch: what `predict_rows` calls."""
        found, available = getattr(output, "lags", None), getattr(output, "availability", None)
        if found is None or available is None:
            return
        there: NDArray[np.bool_] = available.any(dim=-1).cpu().numpy()
        estimates = found.detach().double().cpu().numpy()
        for place, row in enumerate(owners):
            known = self._applied.lags.get(self._sample_ids[row], {})
            delays = np.array([known.get(name, np.nan) for name in self._streams])
            both = there[place] & np.isfinite(delays)
            if both.sum() >= 2:
                mine, theirs = estimates[place][both], delays[both]
                self._pairs.append((mine - mine.mean(), theirs - theirs.mean()))

    def finish(self) -> dict[str, Any] | None:
        """Of all processes: `n` clips, `mae_s` mean absolute error in seconds, `correlation` (None without spread in either).

        None where no lag was estimated: none was given, or nothing but zeros.
        """
        pairs = gather_object(self._pairs)
        if not pairs:
            return None
        estimates, delays = (np.concatenate(column) for column in zip(*pairs, strict=True))
        if not estimates.any():
            return None
        spread = min(estimates.std(), delays.std()) > 1e-8
        return {
            "n": len(pairs),
            "mae_s": float(np.abs(estimates - delays).mean()),
            "correlation": float(np.corrcoef(estimates, delays)[0, 1]) if spread else None,
        }


# --- Routing ----------------------------------------------------------------------------------------------------------
# Which expert serves whom: the routers of a mixture of experts, watched while a model answers.
#
# A router's logits become shares of the weight: softmax (at `config.router_temperature`, where there is one), what is not
# among the `config.top_k` best set to zero, the rest divided by its sum. Steps and clips of a recording are averaged. Where
# routing is done for several streams, (batch, streams, steps, experts), every stream counts as a router of its own.


ROUTER_OPTIONS = {"output_router_logits": True}
"""Arguments of the model's forward."""

_WEIGHT, _BEST, _CHOSEN = range(3)


@dataclass(frozen=True)
class RoutedRows:
    """Routing of the rows that were answered, in their order.

    Attributes:
        weights: for each router (n, experts) shares of the weight.
        best: for each router (n, experts) share of the steps at which an expert had the largest weight.
        chosen: for each router (n, experts) share of the steps at which an expert was among the chosen.
        entropies: for each router (n,) entropy of the router's probabilities, over that of knowing nothing: 0 sure, 1 undecided.
        top_k: for each router how many experts answer.
    """

    weights: list[NDArray[np.float64]]
    best: list[NDArray[np.float64]]
    chosen: list[NDArray[np.float64]]
    entropies: list[NDArray[np.float64]]
    top_k: list[int]


class RoutingRecord:
    """Collects what routers say, row by row."""

    def __init__(self, model: PreTrainedModel) -> None:
        if "output_router_logits" not in accepted_inputs(model):
            raise ConfigurationError(
                f"Routing was requested of {type(model).__name__}, which has no routers: its forward takes no "
                "output_router_logits. Leave routing out, or use a checkpoint of a mixture of experts."
            )
        config: Any = model.config
        self._name = type(model).__name__
        self._top_k: int | None = getattr(config, "top_k", None)
        self._temperature = float(getattr(config, "router_temperature", 1.0))
        self._rows: dict[int, list[tuple[NDArray[np.float64], ...]]] = {}

    def observe(self, output: Any, owners: Sequence[int]) -> None:
        """Take the routing of a batch: what `predict_rows` calls."""
        if output.router_logits is None:
            raise ConfigurationError(
                f"{self._name} takes output_router_logits and gave none; expected one tensor per mixture. Its config may have "
                "switched its mixtures off; leave routing out."
            )
        parts = [part for logits in output.router_logits for part in self._read(logits)]
        for place, row in enumerate(owners):
            self._rows.setdefault(row, []).append(tuple(part[place] for part in parts))

    def _read(self, logits: torch.Tensor) -> list[NDArray[np.float64]]:
        """One array (batch, 4, experts) per router: weight, best, chosen, and the entropy repeated."""
        values = logits.detach().double().cpu() / self._temperature
        if values.ndim == 2:
            values = values[:, None]  # one step
        values = values[:, None] if values.ndim == 3 else values.flatten(2, -2)  # (B, routers, steps, E)
        experts = values.shape[-1]
        probabilities = values.softmax(-1)
        top_k = min(self._top_k or experts, experts)
        order = probabilities.argsort(dim=-1, descending=True, stable=True)  # among equals the lower index wins
        rank = order.argsort(dim=-1)
        chosen = (rank < top_k).double()
        weights = probabilities * chosen
        weights = weights / weights.sum(-1, keepdim=True)
        entropy = torch.special.entr(probabilities).sum(-1, keepdim=True) / max(np.log(experts), 1e-12)
        read = torch.stack([weights, (rank == 0).double(), chosen, entropy.expand_as(weights)], dim=2).mean(3)
        return [read[:, router].numpy() for router in range(read.shape[1])]

    def finish(self, positions: Sequence[int] | NDArray[np.int64]) -> RoutedRows:
        """What was seen of these rows, by all processes."""
        own = {row: [np.mean(part, axis=0) for part in zip(*seen, strict=True)] for row, seen in self._rows.items()}
        whole = dict(gather_object(list(own.items())))
        rows = [whole[int(row)] for row in positions]
        routers = [np.stack([row[index] for row in rows]) for index in range(len(rows[0]))]  # (n, 4, experts) each
        return RoutedRows(
            weights=[one[:, _WEIGHT] for one in routers],
            best=[one[:, _BEST] for one in routers],
            chosen=[one[:, _CHOSEN] for one in routers],
            entropies=[one[:, 3, 0] for one in routers],
            top_k=[min(self._top_k or one.shape[-1], one.shape[-1]) for one in routers],
        )


def _router(index: int) -> str:
    return f"router {index + 1}"


def _experts(count: int) -> list[str]:
    return [str(index + 1) for index in range(count)]


def describe_routers(routed: RoutedRows) -> list[dict[str, Any]]:
    """Every router over all rows: load of its experts, how sure it is, and who never answers."""
    described = []
    for index, weights in enumerate(routed.weights):
        names, load, chosen = _experts(weights.shape[1]), weights.mean(axis=0), routed.chosen[index].mean(axis=0)
        carried = load[load > 0]
        entropy = float(-(carried * np.log(carried)).sum() / max(np.log(len(load)), 1e-12))
        described.append(
            {
                "router": _router(index),
                "experts": names,
                "top_k": routed.top_k[index],
                "mean_weight": load.tolist(),
                "top_1_share": routed.best[index].mean(axis=0).tolist(),
                "chosen_share": chosen.tolist(),
                "entropy": float(routed.entropies[index].mean()),
                "load_entropy": entropy,
                "dead": [name for name, share in zip(names, chosen, strict=True) if share == 0],
            }
        )
    return described


def tables_by(
    by: str, routed: RoutedRows | Sequence[tuple[str, RoutedRows]], keys: Sequence[str] = (), names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Mean shares of the weight, one table per router.

    Args:
        routed: one routing, whose rows are divided by `keys`; or (row of the table, routing) for each.
        keys: for each row that was answered, the row of the table that it belongs to.
        names: rows of the table in order; by default those that occur, sorted.
    """
    if isinstance(routed, RoutedRows):
        column = np.asarray(keys, dtype=object)
        order = list(names) or sorted(set(keys))
        parts = [[weights[column == name] for weights in routed.weights] for name in order]
    else:
        order = [name for name, _ in routed]
        parts = [one.weights for _, one in routed]
    tables = []
    for index in range(len(parts[0])):
        own = [part[index] for part in parts]
        tables.append(
            {
                "router": _router(index),
                "by": by,
                "rows": order,
                "n": [len(one) for one in own],
                "experts": _experts(own[0].shape[1]),
                "shares": [(one.mean(axis=0) if len(one) else np.full(one.shape[1], np.nan)).tolist() for one in own],
                "what": "share of the weight",
            }
        )
    return tables
