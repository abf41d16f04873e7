"""What is evaluated, and how: the choices of one evaluation."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from .. import plugins
from ..corpora import Corpus
from ..corpora.leaks import fingerprint
from ..corpora.protocols import PROTOCOLS, folds
from ..errors import ConfigurationError, unknown_name
from ..loading import load_model, load_processor
from ..prediction import join_processes
from .calibration import Calibration, calibration_of, describe_calibration
from .clip_runs import check_runs, describe_runs, predict_runs, write_runs
from .conditions import AppliedCondition
from .degradation import (
    LAG_OPTIONS,
    ROUTER_OPTIONS,
    LagRecord,
    RoutedRows,
    RoutingRecord,
    choose_conditions,
    describe_routers,
    estimates_lags,
    sum_up,
    tables_by,
    try_conditions,
)
from .intervals import bootstrap, class_groups
from .metrics import compute_metrics, softmax
from .pictures import require_matplotlib
from .predict import Predictions, RecordingRows, predict_rows
from .references import plain_answers, reference_values
from .report import (
    Report,
    control_of,
    list_warnings,
    read_report,
    write_json,
    write_pictures,
    write_predictions,
    write_table,
    write_values,
)
from .series import rate_answers, score_answers, summarise
from .task import (
    LabelledSubset,
    Task,
    corpus_options,
    map_labels,
    map_targets,
    read_run,
    seen_people,
    summarise_run,
    take_folds,
    take_split,
    task_of_model,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        split: one split; None is all of them.
        folds: samples of these folds only; None is all of them.
        protocol: "P0" … "P4" instead of `folds`; see `corpora/protocols.py`.
        protocol_fold: which of its folds is tested, by name or number.
        protocol_folds, protocol_seed: how it is cut.
        batch_size: clips per forward pass.
        stride_s: seconds between the clips of a long recording; None: the processor's own.
        options: options of the corpus's `load`.
        exclude_unknown_labels: leave out samples of classes that the checkpoint lacks, and count them in the report, instead of
            stopping.
        conditions: names of conditions to answer the same rows under again: families, single ones, or "all"; see `conditions.py`.
        condition_seed: another one draws other faults.
        routing: tell which expert serves whom.
        pictures: draw what the report has, beside it.
        runs: answer every row so often, each time with another clip of it, and tell mean and spread; 1: the middle clip, once.
        workers: threads that read.
        progress: show progress bars.
    """

    split: str | None = None
    folds: Sequence[int] | None = None
    protocol: str | None = None
    protocol_fold: str | None = None
    protocol_folds: int = 5
    protocol_seed: int = 0
    batch_size: int = 32
    stride_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    exclude_unknown_labels: bool = False
    conditions: tuple[str, ...] = ()
    condition_seed: int = 0
    routing: bool = False
    pictures: bool = False
    runs: int = 1
    workers: int = 1
    progress: bool = True


# --- Trials -----------------------------------------------------------------------------------------------------------
# What a checkpoint is tried under beside the clean pass: conditions, with its routers watched throughout.


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


# --- Measuring --------------------------------------------------------------------------------------------------------
# One checkpoint on the rows of one corpus: answers, and the figures that a report makes of them.


class Evaluation:
    """One checkpoint on the rows of one corpus.

    Args:
        model, processor: a loaded checkpoint.
        corpus: whose rows.
        subset: the rows, with what is to be predicted of them.
        settings: how they are read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        corpus: Corpus,
        subset: LabelledSubset,
        settings: EvaluationSettings,
    ) -> None:
        self.model, self.processor, self.corpus = model, processor, corpus
        self.subset, self.settings = subset, settings
        self.task: Task = task_of_model(model)
        self.calibration: Calibration | None = calibration_of(model.config)
        self.rows = RecordingRows(corpus, subset.dataset)
        # before anything is computed: a wrong name must not cost a night
        self.trials = Trials(self)
        if settings.runs != 1:
            check_runs(processor, settings.runs)
        if settings.pictures:
            require_matplotlib()

    def predict(self, **more: Any) -> Predictions:
        """Answers for every row; more arguments as of `predict_rows`."""
        settings = self.settings
        return predict_rows(
            self.model,
            self.processor,
            self.rows,
            batch_size=settings.batch_size,
            stride_s=settings.stride_s,
            workers=settings.workers,
            **{"progress": settings.progress, **more},
        )

    def repeat(self, folder: Path) -> dict[str, Any]:
        """Other clips of the same recordings, `settings.runs` times: mean and spread of the headline, and a file per run."""
        runs = predict_runs(
            self.model,
            self.processor,
            self.rows,
            runs=self.settings.runs,
            batch_size=self.settings.batch_size,
            progress=self.settings.progress,
        )
        if is_main():
            write_runs(folder, runs, self.task.names)
        return describe_runs([self.headline(one) for one in runs])

    def headline(self, predictions: Predictions) -> dict[str, float | None]:
        """The figures of `metrics`, without intervals: what a curve over conditions is drawn of."""
        if self.task.regression:
            rated = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task, self.calibration)
            found = summarise(rated, self.corpus, self.task.names)
            return {"n": found.n, "rmse": found.rmse, "mae": found.mae, "ccc": found.ccc, "pcc": found.pcc}
        return {
            "n": len(predictions.positions),
            **compute_metrics(self.labels(predictions), self._scores(predictions), self.task.names).flat(),
        }

    def labels(self, predictions: Predictions) -> Any:
        """(n,) true classes of the rows that were answered."""
        return self.subset.labels[predictions.positions]

    def columns(self, predictions: Predictions) -> dict[str, list[Any]]:
        """What is known of the rows that were answered, column by column."""
        subset = self.subset
        optional = (name for name in ("trial", "stimulus", *self.corpus.groups) if name in subset.dataset.column_names)
        whole = {name: subset.dataset[name][:] for name in ("identity", "fold", *optional)}
        return {name: [column[row] for row in predictions.positions] for name, column in whole.items()}

    def _scores(self, predictions: Predictions) -> Any:
        scores = predictions.class_scores()
        return scores if self.calibration is None else self.calibration.apply(scores)

    def report(self, predictions: Predictions, folder: Path, **parts: Any) -> Report:
        """Figures, intervals and groups; writes the predictions beside the report. `parts` are handed to `Report`."""
        columns = self.columns(predictions)
        known = {"names": self.task.names, "seconds": predictions.seconds, **parts}
        if self.task.regression:
            return self._values(predictions, columns, folder, known)
        labels, scores = self.labels(predictions), self._scores(predictions)
        computed = compute_metrics(labels, scores, self.task.names)
        groups = {name: columns[name] for name in self.corpus.groups if name in columns}
        if is_main():
            write_predictions(folder / "predictions.csv", self.task.names, predictions.sample_ids, labels, scores)
            write_table(folder / "predictions.parquet", self.task.names, predictions.sample_ids, labels, scores)
        plain = compute_metrics(labels, predictions.class_scores(), self.task.names)
        lines = self._plain_answers(predictions, columns, known["run"])
        return Report(
            figures=computed,
            intervals=bootstrap(
                labels,
                scores.argmax(axis=1),
                len(self.task.names),
                columns["identity"],
                probabilities=softmax(scores),
            ),
            references={name: compute_metrics(labels, own, self.task.names).flat() for name, own in lines.items()},
            groups=class_groups(groups, labels, scores, self.task.names, columns["identity"]) if groups else {},
            calibration=describe_calibration(self.calibration, {"ece": plain.ece, "cross_entropy": plain.loss}),
            **known,
        )

    def _plain_answers(
        self, predictions: Predictions, columns: dict[str, list[Any]], run: dict[str, Any] | None
    ) -> dict[str, Any]:
        people, show = columns["identity"], self.settings.progress and is_main()
        return plain_answers(run, self.rows, predictions.positions, people, self.corpus, self.task, progress=show)

    def _values(
        self, predictions: Predictions, columns: dict[str, list[Any]], folder: Path, known: dict[str, Any]
    ) -> Report:
        rated = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task, self.calibration)
        numbers = columns["fold"] if min(columns["fold"]) >= 0 else ()
        references = reference_values(known["run"], rated, columns, self.task.names, self.corpus.scored_seconds)
        references |= {name: list(own) for name, own in self._plain_answers(predictions, columns, known["run"]).items()}
        scored = score_answers(rated, self.corpus, self.task, columns, folds=numbers, references=references)
        plain: dict[str, float] = {}
        if self.calibration is not None:
            raw = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task)
            found = summarise(raw, self.corpus, self.task.names)
            plain = {"rmse": found.rmse, "ccc": found.ccc}
        if is_main():
            truth = [one.truth for one in rated.courses] or [
                np.repeat(own[None], len(windows), axis=0)
                for own, windows in zip(rated.truth, rated.windows, strict=True)
            ]
            write_values(
                folder / "predictions.csv",
                self.task.names,
                predictions.sample_ids,
                truth,
                [one.predictions for one in rated.courses] or rated.windows,
                [one.times for one in rated.courses] or None,
            )
        return Report(
            figures=scored, intervals=None, calibration=describe_calibration(self.calibration, plain), **known
        )


def is_main() -> bool:
    return PartialState().is_main_process


# --- Run --------------------------------------------------------------------------------------------------------------
# Evaluating one checkpoint on one corpus: what `meco evaluate` runs.


def describe_checkpoint(model: PreTrainedModel, checkpoint: str) -> dict[str, Any]:
    """What identifies the weights that were evaluated; names, never paths."""
    weights = Path(checkpoint) / "model.safetensors"
    digest = None
    if weights.is_file():
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        # a Hub id is its own name; of a folder only the last part says anything to others
        "name": Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint,
        "model_type": model.config.model_type,
        "class": type(model).__name__,
        "distribution": plugins.architectures().distributions.get(model.config.model_type),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_sha256": digest,
        "operating_point": getattr(model.config, "operating_point", None),
    }


def choose_rows(splits: datasets.DatasetDict, settings: EvaluationSettings) -> datasets.Dataset:
    """The rows that are evaluated.

    Raises:
        UnknownNameError: no such split, protocol, or fold of the protocol.
        ConfigurationError: folds and a protocol at once.
        CorpusError: rows without what the protocol cuts by.
    """
    pool = take_split(splits, settings.split)
    if settings.protocol is None:
        return take_folds(pool, settings.folds)
    if settings.folds is not None or settings.protocol_fold is None:
        raise ConfigurationError(
            f"The protocol {settings.protocol} was asked for with folds {settings.folds} and protocol_fold "
            f"{settings.protocol_fold}. Expected protocol_fold, one of the protocol's own, and no folds."
        )
    made = {
        one.name: one
        for one in folds(pool, settings.protocol, n_folds=settings.protocol_folds, seed=settings.protocol_seed)
    }
    if settings.protocol_fold not in made:
        raise unknown_name(f"fold of {settings.protocol}", settings.protocol_fold, made)
    return made[settings.protocol_fold].take(pool)[1]


def _describe_protocol(corpus: Corpus, settings: EvaluationSettings) -> dict[str, Any] | None:
    if settings.protocol is None:
        own = corpus.own_protocol(settings.options)
        return own.to_dict() if own is not None else None
    cut = {"fold": settings.protocol_fold, "n_folds": settings.protocol_folds, "seed": settings.protocol_seed}
    return {**PROTOCOLS[settings.protocol].to_dict(), **cut}


def label_rows(
    model: PreTrainedModel, corpus: Corpus, rows: datasets.Dataset, checkpoint: str, exclude_unknown_labels: bool
) -> LabelledSubset:
    """The rows with what the model shall say of them."""
    task = task_of_model(model)
    if task.regression:
        return map_targets(rows, corpus, task)
    if corpus.targets:
        raise ConfigurationError(
            f"The corpus {corpus.name!r} is rated in values ({', '.join(one.name for one in corpus.targets)}), and {checkpoint} "
            "answers classes. Use a corpus of classes, or a checkpoint that answers values."
        )
    may_drop = None if exclude_unknown_labels else ()
    return map_labels(rows, task.names, may_drop=may_drop, purpose=f"the checkpoint {checkpoint}")


def evaluate_model(
    model: PreTrainedModel,
    processor: Any,
    dataset: str,
    data_dir: str | Path,
    output_dir: str | Path,
    settings: EvaluationSettings,
    *,
    checkpoint: str,
) -> dict[str, Any]:
    """Evaluate a loaded model; arguments and errors as of `evaluate_checkpoint`, `checkpoint` being its name or folder."""
    corpus = plugins.corpus(dataset)
    run = read_run(checkpoint)
    # a corpus that was divided otherwise for training would bring people of the training back among those who are tested
    settings = replace(settings, options={**corpus_options(run, dataset), **settings.options})
    splits = corpus.load(data_dir, **settings.options)
    chosen = choose_rows(splits, settings)
    subset = label_rows(model, corpus, chosen, checkpoint, settings.exclude_unknown_labels)
    evaluation = Evaluation(model, processor, corpus, subset, settings)
    predictions = evaluation.trials.predict()
    under_conditions = evaluation.trials.degrade(predictions)
    answered = subset.dataset.select(predictions.positions)
    data = {
        "corpus": dataset,
        "options": dict(settings.options),
        "split": settings.split,
        "folds": list(settings.folds) if settings.folds is not None else None,
        "protocol": _describe_protocol(corpus, settings),
        "leak_check": (run or {}).get("data", {}).get("leak_check"),
        "seen": seen_people(run, dataset, answered["identity"][:]),
        # of what was answered: a file that cannot be read was reported above, and must not lose the finished run here
        "fingerprint": fingerprint(answered),
        "samples": len(chosen),
        "identities": len({name for name in answered["identity"][:] if name}),
        "excluded_labels": subset.excluded,
        "unreadable": predictions.unreadable,
    }
    folder = Path(output_dir)
    built = evaluation.report(
        predictions,
        folder,
        checkpoint=describe_checkpoint(model, checkpoint) | {"control": control_of(model.config, run)},
        data=data,
        run=summarise_run(run),
        **under_conditions,
        routing=evaluation.trials.routing(predictions),
    )
    report = built.to_dict()
    report["warnings"] = list_warnings(report, corpus)
    for sentence in report["warnings"]:
        logger.warning("%s", sentence)
    if settings.runs > 1:
        report["runs"] = evaluation.repeat(folder / "runs")
    if is_main():
        write_json(report, folder / "report.json")
        if settings.pictures:
            write_pictures(read_report(folder / "report.json"), folder)
    if predictions.unreadable:
        logger.warning(
            "%d of %d samples could not be used; report.json names them.", len(predictions.unreadable), len(chosen)
        )
    return report


def evaluate_checkpoint(
    checkpoint: str | Path,
    dataset: str,
    data_dir: str | Path,
    output_dir: str | Path,
    settings: EvaluationSettings | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint on a corpus and write `report.json` and `predictions.csv`.

    Args:
        checkpoint: folder, bundled checkpoint's name, or Hub id.
        dataset: name of a registered corpus.
        data_dir: its folder or zip.
        output_dir: folder to write to; created when missing.
        settings: which samples, and how; by default all of them.

    Returns:
        The report as written; `docs/report.md` describes it.

    Raises:
        UnknownNameError: no such checkpoint, corpus, split or protocol.
        CheckpointError: incomplete or unsafe checkpoint.
        CorpusError: the data are not laid out as the corpus is, or have classes that the checkpoint lacks.
        ConfigurationError: an option or fold that does not exist, or a model and a corpus that do not fit each other.
        InputError: not one sample could be read.
    """
    state = join_processes()
    source = plugins.locate_checkpoint(str(checkpoint))
    model = load_model(source)
    processor = load_processor(source)
    cast(Any, model).to(device=state.device, memory_format=torch.channels_last)
    return evaluate_model(
        model, processor, dataset, data_dir, output_dir, settings or EvaluationSettings(), checkpoint=source
    )
