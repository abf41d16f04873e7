"""What `meco evaluate` does: a checkpoint answers the rows of a corpus, and a report says how well.

evaluate_checkpoint           the model and its processor; choose_rows, label_rows: which rows, and what is true of them
  write_evaluation
    Evaluation.predict                      answers to the rows as they are
    Evaluation.predict_under_conditions     answers to the same rows, degraded
    Evaluation.report                       metrics, intervals, groups, references → report.json, predictions.csv
    Evaluation.repeat                       answers to other clips of the same rows, several times
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import plugins
from ..answers import Calibration, Task, calibration_of, task_of_model
from ..corpora import Corpus
from ..corpora.leaks import fingerprint
from ..corpora.recording_rows import corpus_streams
from ..corpora.splits import PROTOCOLS, find_fold
from ..durable import files_together, refuse_filled, refuse_overwriting, refuse_unwritable, write_json
from ..errors import ConfigurationError, InputError, require_count
from ..loading import load_model, load_processor
from ..processing.picture_processor import recording_processor
from ..shards import join_processes
from ..weight_files import hash_weights
from . import degradation
from .calibration import describe_calibration, describe_selection, fit_affine, fit_temperature, write_calibration
from .conditions import AppliedCondition, Condition, conditions_for
from .intervals import class_groups, class_intervals
from .metrics import compute_metrics, rows_by, softmax
from .nuisances import Within, classes_within, values_within
from .pictures import FORMATS, require_matplotlib
from .predict import Predictions, RecordingRows, check_runs, describe_runs, predict_rows, predict_runs, write_runs
from .references import PlainPredictor, nuisance_answers, reference_values, row_answers, row_ratings, window_statistics
from .report import build_report, list_warnings, write_people, write_pictures, write_predictions, write_values
from .report_file import control_of, read_report
from .series import AlignedPredictions, align_predictions, score_answers, scored_moments, summarise
from .task import (
    LabelledSubset,
    corpus_options,
    map_labels,
    map_targets,
    read_run,
    seen_people,
    summarise_run,
    take_folds,
    take_split,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        split: one split; None is all of them.
        folds: samples of these folds only; None is all of them.
        protocol: "P0" … "P4" instead of `folds`; see `corpora/splits.py`.
        protocol_fold: which of its folds is tested, by name or number.
        protocol_folds, protocol_seed: how it is cut.
        batch_size: clips per forward pass.
        stride_s: seconds between the clips of a long recording; None: the processor's own.
        options: options of the corpus's `load`.
        exclude_unknown_labels: leave out samples of classes that the checkpoint lacks, and count them in the report, instead of
            stopping.
        conditions: names of conditions to answer the same rows under again: families, single ones, or "all"; see `conditions.py`.
        condition_seed: another one draws other faults.
        routing: report which expert serves whom.
        pictures: draw the pictures of the report beside it: as PNG, or what they are to be, "svg" or "pdf".
        mirror: of pictures, average with the answer to the mirrored picture: twice the time.
        runs: answer every row so often, each time with another clip of it, and report mean and spread; 1: the middle clip, once.
        workers: threads that read.
        people: write `people.csv` too, the headline metrics of every person; names stand in it, so it is for this machine.
        overwrite: replace the report, and what belongs to it, of an earlier evaluation in the same folder.
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
    conditions: Sequence[str] = ()
    condition_seed: int = 0
    routing: bool = False
    pictures: bool | str = False
    mirror: bool = False
    runs: int = 1
    workers: int = 1
    people: bool = False
    overwrite: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("protocol_folds", "batch_size", "runs"):
            require_count(name, getattr(self, name))
        require_count("workers", self.workers, most=256)


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
        ConfigurationError: an option or fold that does not exist, a model and a corpus that do not fit each other, or a folder that
            holds what would be written.
        InputError: not one sample could be read.
    """
    state, settings = join_processes(), settings or EvaluationSettings()
    source = plugins.locate_checkpoint(str(checkpoint))
    _check_output(Path(output_dir), settings)
    evaluation, chosen, run = _prepare(source, dataset, data_dir, settings)
    model = evaluation.model
    cast(Any, model).to(device=state.device, memory_format=torch.channels_last)
    described = describe_checkpoint(model, source) | {"control": control_of(model.config, run)}
    return write_evaluation(evaluation, chosen, run, Path(output_dir), described)


def write_evaluation(
    evaluation: "Evaluation",
    chosen: datasets.Dataset,
    run: Mapping[str, Any] | None,
    folder: Path,
    described: Mapping[str, Any],
) -> dict[str, Any]:
    """Answer, and write `report.json` with all that belongs beside it."""
    corpus, settings = evaluation.corpus, evaluation.settings
    predictions = evaluation.predict(doubts=not evaluation.task.regression)
    under_conditions = evaluation.predict_under_conditions(predictions)
    main = _is_main_process()

    def check() -> None:
        _check_output(folder, settings)  # somebody else may have written there meanwhile

    # a former evaluation of more runs would be averaged in
    together = files_together(folder, "report.json", check, stale=["runs/run_*.json"])
    with together if main else nullcontext(folder) as place:
        report = evaluation.report(
            predictions,
            place,
            checkpoint=described,
            data=evaluation.describe_data(chosen, predictions, run),
            run=summarise_run(run),
            routing=evaluation.describe_routing(predictions),
            **under_conditions,
        )
        report["warnings"] = list_warnings(report, corpus)
        for sentence in report["warnings"]:
            logger.warning("%s", sentence)
        if settings.runs > 1:
            report["runs"] = evaluation.repeat(place / "runs")
        if main:
            if settings.people:
                write_people(place / "people.csv", evaluation.by_person(predictions))
            write_json(report, place / "report.json")
    if main and settings.pictures:
        ending = settings.pictures if isinstance(settings.pictures, str) else FORMATS[0]
        write_pictures(read_report(folder / "report.json"), folder, ending)
    if predictions.unreadable:
        logger.warning(
            "%d of %d samples could not be used; report.json names them.", len(predictions.unreadable), len(chosen)
        )
    return report


def _prepare(
    checkpoint: str, dataset: str, data_dir: str | Path, settings: EvaluationSettings
) -> tuple["ModelEvaluation", datasets.Dataset, dict[str, Any] | None]:
    """The evaluation of the rows that were chosen, all rows that were, and the checkpoint's run."""
    model, processor, run = load_model(checkpoint), load_processor(checkpoint), read_run(checkpoint)
    # a corpus that was divided otherwise for training would bring people of the training back among those who are tested
    settings = replace(settings, options={**corpus_options(run, dataset), **settings.options})
    corpus = plugins.corpus(dataset).declared_in(data_dir, **settings.options)
    chosen = choose_rows(corpus.load(data_dir, **settings.options), settings)
    subset = label_rows(model, corpus, chosen, checkpoint, settings.exclude_unknown_labels)
    return ModelEvaluation(model, processor, corpus, subset, settings), chosen, run


def calibrate_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    dataset: str,
    data_dir: str | Path,
    settings: EvaluationSettings | None = None,
) -> Calibration:
    """Fit a calibration to rows of a corpus, and write a copy of the checkpoint that holds it; the weights stay as they are.

    Args:
        dataset, data_dir, settings: which rows, as of `evaluate_checkpoint`. Choose rows that the weights were not trained on, and
            report on others.
    """
    folder = Path(output)
    refuse_filled(folder)
    source = plugins.locate_checkpoint(str(checkpoint))
    evaluation, _, run = _prepare(source, dataset, data_dir, settings or EvaluationSettings())
    calibration = evaluation.calibrate(evaluation.predict())
    seen = seen_people(run, evaluation.corpus, evaluation.subset.dataset["identity"][:])
    if seen is not None and seen["trained_on"]:
        said = "%d of %d people were trained on; a calibration fitted to them promises too much. Choose other rows."
        logger.warning(said, seen["trained_on"], seen["people"])
    write_calibration(evaluation.model, calibration)
    with files_together(folder, "config.json") as staged:
        evaluation.model.save_pretrained(staged)
        evaluation.processor.save_pretrained(staged)
        for name in ("card.yaml", "recipe.yaml", "run.json"):  # not the report, which is of the answers before
            if Path(source, name).is_file():
                shutil.copyfile(Path(source, name), staged / name)
    return calibration


_WRITTEN = (
    "report.json",
    "predictions.*",
    "people.csv",
    *(
        f"{picture}.{ending}"
        for picture in ("confusion", "reliability", "people", "over_time", "scatter_*", "degradation_*", "routing_*")
        for ending in FORMATS
    ),
    "runs/run_*.json",
)


def _check_output(folder: Path, settings: EvaluationSettings) -> None:
    """Refuse a folder that holds what would be written, unless it is of an earlier evaluation that may go."""
    refuse_unwritable(folder / "report.json")
    if (folder / "runs").is_symlink():
        raise ConfigurationError(
            f"{folder / 'runs'} is a link; expected a folder, or nothing, because files in it are written and replaced. Name "
            "another folder."
        )
    there = sorted(path for pattern in _WRITTEN for path in folder.glob(pattern))
    refuse_overwriting(there, overwrite=settings.overwrite)
    if there:
        try:
            read_report(folder / "report.json")
        except InputError as error:
            raise ConfigurationError(
                f"{there[0]} is there, and no report of an evaluation beside it; expected a folder of an earlier one, as overwrite "
                f"was asked for. Name another folder. ({error})"
            ) from error


def choose_rows(splits: datasets.DatasetDict, settings: EvaluationSettings) -> datasets.Dataset:
    """The rows that are evaluated."""
    pool = take_split(splits, settings.split)
    if settings.protocol is None:
        return take_folds(pool, settings.folds)
    if settings.folds is not None or settings.protocol_fold is None:
        raise ConfigurationError(
            f"The protocol {settings.protocol} was requested with folds {settings.folds} and protocol_fold "
            f"{settings.protocol_fold}. Expected protocol_fold, one of the protocol's own, and no folds."
        )
    fold = find_fold(
        pool, settings.protocol, settings.protocol_fold, n_folds=settings.protocol_folds, seed=settings.protocol_seed
    )
    return fold.take(pool)[1]


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


def describe_checkpoint(model: PreTrainedModel, checkpoint: str) -> dict[str, Any]:
    """What identifies the weights that were evaluated; names, never paths."""
    return {
        # a Hub id is its own name; of a folder only the last part says anything to others
        "name": Path(checkpoint).resolve().name if Path(checkpoint).exists() else checkpoint,
        "model_type": model.config.model_type,
        "class": type(model).__name__,
        "distribution": plugins.architectures().distributions.get(model.config.model_type),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_sha256": hash_weights(Path(checkpoint)),
        "operating_point": getattr(model.config, "operating_point", None),
        "training_data": getattr(model.config, "training_data", None),
    }


class Evaluation:
    """Whoever answers the rows of one corpus, and the metrics that a report makes of the answers.

    Args:
        streams: of signals, those that conditions may take away.

    Raises:
        UnknownNameError, ConfigurationError: conditions that do not exist or do not fit: before anything is computed, because a
            wrong name must not cost a night.
    """

    def __init__(
        self,
        task: Task,
        corpus: Corpus,
        subset: LabelledSubset,
        settings: EvaluationSettings,
        *,
        streams: Sequence[str] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.task, self.calibration = task, calibration
        self.corpus, self.subset, self.settings = corpus, subset, settings
        self.rows = RecordingRows(corpus, subset.dataset)
        self._streams = list(streams)
        self._unread, self._conditions = frozenset[str](), list[Condition]()
        if settings.conditions:
            worn = corpus.streams or self._first_streams()
            everything, self._unread = corpus_streams(worn, subset.dataset, self._streams)
            self._conditions = conditions_for(
                corpus.kind, settings.conditions, streams=self._streams, corpus_streams=everything
            )
        self._routed: dict[str, degradation.RoutedRows] = {}
        self._aligned: tuple[Predictions, bool, AlignedPredictions] | None = None
        if settings.pictures:
            if settings.pictures is not True and settings.pictures not in FORMATS:
                raise ConfigurationError(f"pictures is {settings.pictures!r}; expected True, or {', '.join(FORMATS)}.")
            require_matplotlib()

    def predict(
        self, name: str = "clean", *, lags: degradation.LagRecord | None = None, doubts: bool = False, **options: Any
    ) -> Predictions:
        """Answers for every row.

        Args:
            lags: compares a model's lags with known ones.
            doubts: also find of what the pipeline's answers would warn.
        """
        raise NotImplementedError

    def repeat(self, folder: Path) -> dict[str, Any]:
        """Other clips of the same recordings, `settings.runs` times: mean and spread of the headline, and a file per run."""
        raise ConfigurationError(f"runs is {self.settings.runs}; what answers here draws no clips. Evaluate once.")

    def _record_lags(self, applied: AppliedCondition) -> degradation.LagRecord | None:
        """What compares estimates of lags with the condition's; None where there are none to compare."""
        return None

    def predict_under_conditions(self, clean_predictions: Predictions) -> dict[str, Any]:
        """The headline metrics under every condition, beside the clean ones; what `build_report` takes of them."""
        if not self._conditions:
            return {}

        def answer(applied: AppliedCondition) -> tuple[dict[str, float | None], Predictions]:
            lags = self._record_lags(applied)
            hooks: dict[str, Any] = applied.hooks
            predictions = self.predict(applied.name, lags=lags, progress=False, **hooks)
            if lags is not None and (found := lags.finish()):
                applied.notes["lags"] = found
            if not self.task.regression:
                applied.notes["same_label"] = degradation.same_label(clean_predictions, predictions)
            applied.notes["interval"] = self._interval(predictions, metric)
            return self.headline(predictions), predictions

        known = {
            "dataset": self.corpus.name,
            "protocol": self.settings.protocol or "",
            "seed": self.settings.condition_seed,
            "subjects": dict(zip(self.rows.sample_ids, self.subset.dataset["identity"][:], strict=True)),
            "unread": self._unread,
        }
        clean, metric = self.headline(clean_predictions), "ccc" if self.task.regression else "uar"
        entries = degradation.degrade(
            self._conditions, answer, clean, metric, known=known, streams=self._streams, progress=self.settings.progress
        )
        untouched = {one.name for one in self._conditions if one.unchanged}
        as_clean = {"interval": self._interval(clean_predictions, metric)}
        as_clean |= {} if self.task.regression else {"same_label": 1.0}
        entries = [{**one, **as_clean} if one["condition"] in untouched else one for one in entries]
        return {"conditions": entries, "condition_families": degradation.summarise_families(entries, clean, metric)}

    def _first_streams(self) -> tuple[str, ...]:
        """Of a corpus of signals that does not say which streams it has, those of its first recording that can be read."""
        for row in range(len(self.rows) if self._streams else 0):
            try:
                return tuple(self.rows[row].streams)
            except InputError:  # whoever answers it says so
                continue
        return ()

    def _interval(self, predictions: Predictions, metric: str) -> list[float] | None:
        """(low, high) of one metric of the headline, over people."""
        columns = self._columns(predictions)
        if self.task.regression:
            aligned = self._align(predictions)
            found = score_answers(aligned, self.corpus, self.task, columns).intervals
        else:
            best = self._scores(predictions).argmax(axis=1)
            found = class_intervals(self._labels(predictions), best, len(self.task.names), columns["identity"])
        bounds = found.bounds.get(metric)
        return None if bounds is None else list(bounds)

    def describe_routing(self, predictions: Predictions) -> dict[str, Any] | None:
        """Which expert served whom; None where routing is not wanted."""
        if not self._routed:
            return None
        clean, names, tables = self._routed["clean"], self.task.names, []
        if not self.task.regression:
            tables += degradation.tables_by(
                "class", clean, [names[label] for label in self._labels(predictions)], names
            )
        for name, values in self._groups(self._columns(predictions)).items():
            tables += degradation.tables_by(name, clean, values)
        if len(self._routed) > 1:
            tables += degradation.tables_by("condition", list(self._routed.items()))
        return {"routers": degradation.describe_routers(clean), "tables": tables}

    def headline(self, predictions: Predictions) -> dict[str, float | None]:
        """The report's `metrics`, without intervals: what a curve over conditions is drawn of."""
        if self.task.regression:
            found = summarise(self._align(predictions), self.corpus, self.task.names)
            return {"n": found.n, "rmse": found.rmse, "mae": found.mae, "ccc": found.ccc, "pcc": found.pcc}
        metrics = compute_metrics(self._labels(predictions), self._scores(predictions), self.task.names)
        return {"n": metrics.n, **metrics.flat()}

    def by_person(self, predictions: Predictions) -> dict[str, dict[str, float | None]]:
        """The headline of every person by themselves, over the classes that they have; nobody where people are unknown."""
        places = rows_by(self._columns(predictions)["identity"])
        known = sorted(item for item in places.items() if item[0])  # a corpus may have "" or None for nobody
        return {who: self.headline(predictions.take(own)) for who, own in known}

    def report(self, predictions: Predictions, folder: Path, **parts: Any) -> dict[str, Any]:
        """Metrics, intervals, groups and references; writes the predictions beside the report. `parts` go to `build_report`."""
        columns = self._columns(predictions)
        plain = self._plain_answers(parts["run"], predictions, columns["identity"])
        known = nuisance_answers(parts["run"], columns, self.corpus, self.task.names)
        parts["per_person"] = self._per_person(predictions)
        make = self._report_values if self.task.regression else self._report_classes
        made = make(predictions, columns, known, plain, folder)
        return build_report(**made, names=self.task.names, seconds=predictions.seconds, **parts)

    def _plain_answers(
        self, run: Mapping[str, Any] | None, predictions: Predictions, people: Sequence[str]
    ) -> dict[str, Any]:
        """What the straight line of the training says: its name → (n, outputs); empty where there is none for these data.

        Each recording is read once more, and described as a whole, however many clips the model makes of it. All rows of a person
        set their scale, without their ratings.
        """
        data = (run or {}).get("data") or {}
        stored = (data.get("train") or {}).get("reference")
        if not stored or data.get("corpus") != self.corpus.name or tuple(stored["names"]) != self.task.names:
            return {}
        line, show = PlainPredictor.from_dict(stored), self.settings.progress and _is_main_process()
        bar = tqdm(predictions.positions, line.method.replace("_", " "), unit="rec", delay=1, disable=not show)
        statistics = np.stack([window_statistics(self.rows[int(row)], line.channels) for row in bar])
        return {line.method: line.answer(statistics, people)}

    def describe_data(
        self, chosen: datasets.Dataset, predictions: Predictions, run: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What was evaluated on: the rows, how they were chosen, and which of their people the weights have seen."""
        corpus, settings = self.corpus, self.settings
        # of what was answered: a file that cannot be read is listed, and must not lose the finished evaluation here
        answered = self.subset.dataset.select(predictions.positions)
        people = answered["identity"][:]
        if settings.protocol is None:
            own = corpus.own_protocol(settings.options)
            protocol = own.to_dict() if own is not None else None
        else:
            cut = {"fold": settings.protocol_fold, "n_folds": settings.protocol_folds, "seed": settings.protocol_seed}
            protocol = {**PROTOCOLS[settings.protocol].to_dict(), **cut}
        return {
            "corpus": corpus.name,
            "synthetic": corpus.synthetic,
            "options": dict(settings.options),
            "split": settings.split,
            "folds": list(settings.folds) if settings.folds is not None else None,
            "protocol": protocol,
            "leak_check": (run or {}).get("data", {}).get("leak_check"),
            "seen": seen_people(run, corpus, people),
            "fingerprint": fingerprint(answered),
            "samples": len(chosen),
            "identities": len({name for name in people if name}),
            "excluded_labels": self.subset.excluded,
            "unreadable": predictions.unreadable,
            "mirrored": settings.mirror,
        }

    def _per_person(self, predictions: Predictions) -> dict[str, Any] | None:
        """`by_person` without names, best first; None where nobody is named."""
        metric = "ccc" if self.task.regression else "uar"
        found = [(own[metric], own["n"]) for own in self.by_person(predictions).values()]
        if not found:
            return None
        known = [(value if value is not None and np.isfinite(value) else None, n) for value, n in found]
        known.sort(key=lambda one: np.inf if one[0] is None else -one[0])
        return {"metric": metric, "values": [value for value, _ in known], "n": [n for _, n in known]}

    def calibrate(self, predictions: Predictions) -> Calibration:
        """The calibration that fits these answers, as they are without the checkpoint's own."""
        chosen = [
            f"{key} {value}" for key in ("split", "folds", "protocol_fold") if (value := getattr(self.settings, key))
        ]
        named = f"{self.corpus.name}{', ' if chosen else ''}{', '.join(chosen)}, {len(predictions.positions)} samples"
        if not self.task.regression:
            return fit_temperature(predictions.class_scores(), self._labels(predictions), fitted_on=named)
        moments = scored_moments(self._align(predictions, calibrated=False), self.corpus.scored_seconds)
        return fit_affine(*moments, self.task.names, fitted_on=named)

    def _report_classes(
        self,
        predictions: Predictions,
        columns: dict[str, list[Any]],
        known: Mapping[str, Any],
        plain: Mapping[str, Any],
        folder: Path,
    ) -> dict[str, Any]:
        names, labels, scores = self.task.names, self._labels(predictions), self._scores(predictions)
        uncalibrated = compute_metrics(labels, predictions.class_scores(), names)
        if _is_main_process():
            write_predictions(folder, names, predictions.sample_ids, labels, scores)
        people = columns["identity"]

        def within(logits: Any) -> Within:
            return classes_within(labels, logits, columns, self.corpus.nuisances, people)

        model = within(scores)
        intervals = class_intervals(labels, scores.argmax(axis=1), len(names), people, logits=scores)
        return {
            "metrics": compute_metrics(labels, scores, names),
            "within": model.figures(),
            "intervals": replace(intervals, bounds={**intervals.bounds, **model.intervals().bounds}),
            "references": {
                name: {**compute_metrics(labels, own, names).flat(), **within(own).figures()}
                for name, own in {**known, **plain}.items()
            },
            "groups": class_groups(self._groups(columns), labels, scores, names, people),
            "selective": describe_selection(labels, softmax(scores), [one.doubts for one in predictions.answers]),
            "calibration": describe_calibration(
                self.calibration, {"ece": uncalibrated.ece, "cross_entropy": uncalibrated.loss}
            ),
        }

    def _report_values(
        self,
        predictions: Predictions,
        columns: dict[str, list[Any]],
        known: Mapping[str, Any],
        plain: Mapping[str, Any],
        folder: Path,
    ) -> dict[str, Any]:
        names, aligned, seconds = self.task.names, self._align(predictions), self.corpus.scored_seconds
        references = reference_values(known, aligned, columns, seconds) | {k: list(own) for k, own in plain.items()}
        folds = columns["fold"] if min(columns["fold"]) >= 0 else ()
        scores = score_answers(aligned, self.corpus, self.task, columns, folds=folds, references=references)
        uncalibrated: dict[str, float] = {}
        if self.calibration is not None:
            found = summarise(self._align(predictions, calibrated=False), self.corpus, names)
            uncalibrated = {"rmse": found.rmse, "ccc": found.ccc}
        ratings, answers = row_ratings(aligned, seconds), row_answers(aligned, seconds)

        def within(own: Any) -> Within:
            return values_within(ratings, own, names, columns, self.corpus.nuisances, columns["identity"])

        model = within(answers)
        if _is_main_process():
            write_values(folder / "predictions.csv", names, predictions.sample_ids, aligned)
        return {
            "metrics": scores,
            "within": model.figures(),
            "intervals": replace(scores.intervals, bounds={**scores.intervals.bounds, **model.intervals().bounds}),
            "references": {
                name: {**own, **within(np.stack(references[name])).figures()} for name, own in scores.references.items()
            },
            "groups": scores.groups,
            "calibration": describe_calibration(self.calibration, uncalibrated),
        }

    def _labels(self, predictions: Predictions) -> Any:
        """(n,) true classes of the rows that were answered."""
        return self.subset.labels[predictions.positions]

    def _scores(self, predictions: Predictions) -> Any:
        scores = predictions.class_scores()
        return scores if self.calibration is None else self.calibration.apply(scores)

    def _align(self, predictions: Predictions, *, calibrated: bool = True) -> AlignedPredictions:
        if self._aligned is None or self._aligned[0] is not predictions or self._aligned[1] is not calibrated:
            calibration = self.calibration if calibrated else None
            found = align_predictions(predictions, self.rows, self.subset, self.corpus, self.task, calibration)
            self._aligned = (predictions, calibrated, found)  # which reads every recording
        return self._aligned[2]

    def _columns(self, predictions: Predictions) -> dict[str, list[Any]]:
        """What is known of the rows that were answered, column by column."""
        dataset = self.subset.dataset
        optional = (
            name for name in ("trial", *self.corpus.nuisances, *self.corpus.groups) if name in dataset.column_names
        )
        whole = {name: dataset[name][:] for name in ("identity", "fold", *optional)}
        return {name: [column[row] for row in predictions.positions] for name, column in whole.items()}

    def _groups(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return {name: columns[name] for name in self.corpus.groups if name in columns}


class ModelEvaluation(Evaluation):
    """A checkpoint on the rows of one corpus."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        corpus: Corpus,
        subset: LabelledSubset,
        settings: EvaluationSettings,
    ) -> None:
        self.model, self.processor = model, processor
        streams = list(recording_processor(processor).modality_names) if corpus.kind == "signals" else []
        super().__init__(
            task_of_model(model), corpus, subset, settings, streams=streams, calibration=calibration_of(model.config)
        )
        if settings.routing:
            degradation.RoutingRecord(model)
        if settings.runs != 1:
            check_runs(processor, settings.runs)

    def predict(
        self, name: str = "clean", *, lags: degradation.LagRecord | None = None, doubts: bool = False, **options: Any
    ) -> Predictions:
        """Answers for every row, with routers and lags watched on the way; arguments as of `Evaluation.predict`."""
        settings = self.settings
        routing = degradation.RoutingRecord(self.model) if settings.routing else None
        records = [record for record in (routing, lags) if record is not None]

        def observe(output: Any, owners: list[int]) -> None:
            for record in records:
                record.observe(output, owners)

        predictions = predict_rows(
            self.model,
            self.processor,
            self.rows,
            batch_size=settings.batch_size,
            stride_s=settings.stride_s,
            workers=settings.workers,
            mirror=settings.mirror,
            observe=observe if records else None,
            options={**(degradation.ROUTER_OPTIONS if routing else {}), **(degradation.LAG_OPTIONS if lags else {})},
            doubts=doubts,
            **{"progress": settings.progress, **options},
        )
        if routing is not None:
            self._routed[name] = routing.finish(predictions.positions)
        return predictions

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
        if _is_main_process():
            write_runs(folder, runs, self.task.names)
        return describe_runs([self.headline(one) for one in runs])

    def _record_lags(self, applied: AppliedCondition) -> degradation.LagRecord | None:
        if not (self._streams and applied.delays and degradation.estimates_lags(self.model)):
            return None
        return degradation.LagRecord(applied, self.rows.sample_ids, self._streams)


def _is_main_process() -> bool:
    return PartialState().is_main_process
