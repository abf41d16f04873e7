"""Evaluating one checkpoint on one corpus: what `meco evaluate` runs.

This file knows the steps and their order; each step is a file of its own.
"""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import datasets
import torch
from transformers import PreTrainedModel

from .. import plugins
from ..corpora import Corpus
from ..corpora.protocols import PROTOCOLS, folds
from ..corpora.splits import fingerprint
from ..errors import ConfigurationError, unknown_name
from ..loading import load_model, load_processor
from .cautions import cautions, control_of
from .measuring import Evaluation, is_main
from .processes import join_processes
from .provenance import corpus_options, read_run, seen_people, summarise_run
from .report import read_report, write_json
from .report_pictures import write_pictures
from .settings import EvaluationSettings
from .subset import LabelledSubset, map_labels, map_targets, take_folds, take_split
from .task import task_of_model

logger = logging.getLogger(__name__)


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
    report["warnings"] = cautions(report, corpus)
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
