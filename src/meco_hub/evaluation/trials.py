"""What a checkpoint is tried under beside the clean pass: conditions, with its routers watched throughout.

This file knows the order of passes and who is told of them; conditions, curves and routing have files of their own.
"""

from typing import TYPE_CHECKING, Any

from .conditions import AppliedCondition
from .degradation import choose_conditions, sum_up, try_conditions
from .lags import LAG_OPTIONS, LagRecord, estimates_lags
from .predict import Predictions
from .routing import ROUTER_OPTIONS, RoutedRows, RoutingRecord, describe_routers, tables_by

if TYPE_CHECKING:
    from .measuring import Evaluation


class Trials:
    """The passes of an evaluation.

    Args:
        evaluation: whose settings say what is wanted.

    Raises:
        UnknownNameError, ConfigurationError: conditions that do not exist or fit, or routing of a model without routers: before
            anything is computed, because a wrong name must not cost a night.
    """

    def __init__(self, evaluation: "Evaluation") -> None:
        self._evaluation, self._settings = evaluation, evaluation.settings
        self._signals = evaluation.corpus.kind == "signals"
        self._conditions = choose_conditions(evaluation.corpus.kind, self._settings.conditions, evaluation.processor)
        self._routed: dict[str, RoutedRows] = {}
        if self._settings.routing:
            RoutingRecord(evaluation.model)

    def predict(self) -> Predictions:
        """Answers for every row as it is."""
        return self._watched("clean")

    def _watched(self, name: str, *, lags: LagRecord | None = None, **more: Any) -> Predictions:
        """Answers, with routers and lags looked at as they pass."""
        record = RoutingRecord(self._evaluation.model) if self._settings.routing else None
        watchers = [one for one in (record, lags) if one is not None]

        def observe(output: Any, owners: list[int]) -> None:
            for one in watchers:
                one.observe(output, owners)

        options = {**(ROUTER_OPTIONS if record else {}), **(LAG_OPTIONS if lags else {})}
        predictions = self._evaluation.predict(observe=observe if watchers else None, options=options, **more)
        if record is not None:
            self._routed[name] = record.finish(predictions.positions)
        return predictions

    def _lag_record(self, applied: AppliedCondition) -> LagRecord | None:
        """What compares lags with delays, where the condition makes some and the model may find them."""
        evaluation = self._evaluation
        if not (self._signals and applied.delays and estimates_lags(evaluation.model)):
            return None
        return LagRecord(applied, evaluation.rows.sample_ids, evaluation.processor.modality_names)

    def degrade(self, predictions: Predictions) -> dict[str, Any]:
        """Figures under every condition; `predictions` are the clean ones. Gives what `Report` takes."""
        if not self._conditions:
            return {}
        evaluation = self._evaluation

        def answer(applied: AppliedCondition) -> tuple[dict[str, float | None], Predictions]:
            record = self._lag_record(applied)
            found = self._watched(applied.name, **applied.hooks, lags=record, progress=False)
            if record is not None and (lags := record.finish()):
                applied.notes["lags"] = lags
            return evaluation.headline(found), found

        identities = evaluation.subset.dataset["identity"][:]
        known = {
            "dataset": evaluation.corpus.name,
            "protocol": self._settings.protocol or "",
            "seed": self._settings.condition_seed,
            "subjects": dict(zip(evaluation.rows.sample_ids, identities, strict=True)),
        }
        clean, metric = evaluation.headline(predictions), "ccc" if evaluation.task.regression else "uar"
        entries = try_conditions(
            self._conditions,
            answer,
            clean,
            metric,
            known=known,
            streams=list(evaluation.processor.modality_names) if self._signals else [],
            progress=self._settings.progress,
        )
        return {"conditions": entries, "condition_families": sum_up(entries, clean, metric)}

    def routing(self, predictions: Predictions) -> dict[str, Any] | None:
        """Routers and tables of what was answered; None where nobody watched."""
        if not self._routed:
            return None
        evaluation, clean, tables = self._evaluation, self._routed["clean"], []
        if not evaluation.task.regression:
            names = evaluation.task.names
            tables += tables_by("class", clean, [names[label] for label in evaluation.labels(predictions)], names)
        columns = evaluation.columns(predictions)
        for name in evaluation.corpus.groups:
            if name in columns:
                tables += tables_by(name, clean, columns[name])
        if len(self._routed) > 1:
            tables += tables_by("condition", list(self._routed.items()))
        return {"routers": describe_routers(clean), "tables": tables}
