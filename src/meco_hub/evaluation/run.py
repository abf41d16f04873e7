"""Evaluating one checkpoint on one corpus: what `meco evaluate` runs.

This file knows the steps and their order; each step is a file of its own.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from .. import plugins
from ..corpora.splits import fingerprint
from ..errors import ConfigurationError
from ..loading import load_model, load_processor
from .bootstrap import bootstrap
from .metrics import figures
from .predict import predict_rows
from .report import Report, write_json, write_predictions
from .rows import RecordingRows
from .subset import map_labels, take_folds, take_split

logger = logging.getLogger(__name__)


def class_names(model: PreTrainedModel) -> list[str]:
    """Class names of a head in the order of its logits.

    Raises:
        ConfigurationError: the model gives values, not classes.
    """
    if model.config.problem_type == "regression":
        raise ConfigurationError(
            f"{type(model).__name__} gives values (problem_type is 'regression'); expected classes. Evaluate a classifier."
        )
    id2label: Any = model.config.id2label
    return [id2label[index] for index in range(len(id2label))]


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


def evaluate_model(
    model: PreTrainedModel,
    processor: Any,
    corpus: str,
    data_dir: str | Path,
    output_dir: str | Path,
    *,
    checkpoint: str,
    split: str | None = None,
    folds: Sequence[int] | None = None,
    batch_size: int = 32,
    options: Mapping[str, Any] | None = None,
    exclude_unknown_labels: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a loaded model; arguments and errors as of `evaluate_checkpoint`."""
    names = class_names(model)
    source = plugins.corpus(corpus)
    splits = source.load(data_dir, **(options or {}))
    chosen = take_folds(take_split(splits, split), folds)
    subset = map_labels(
        chosen, names, may_drop=None if exclude_unknown_labels else (), purpose=f"the checkpoint {checkpoint}"
    )
    rows = RecordingRows(source, subset.dataset)
    predictions = predict_rows(model, processor, rows, batch_size=batch_size, progress=progress)
    logits, labels = predictions.class_scores(), subset.labels[predictions.positions]
    everyone = subset.dataset["identity"][:]
    identities = [everyone[row] for row in predictions.positions]
    computed = figures(labels, logits, names)
    intervals = bootstrap(labels, logits.argmax(axis=1), len(names), identities)
    report = Report(
        figures=computed,
        intervals=intervals,
        names=names,
        checkpoint=describe_checkpoint(model, checkpoint),
        data={
            "corpus": corpus,
            "options": dict(options or {}),
            "split": split,
            "folds": list(folds) if folds is not None else None,
            # of what was answered: a file that cannot be read was reported above, and must not lose the finished run here
            "fingerprint": fingerprint(subset.dataset.select(predictions.positions)),
            "samples": len(chosen),
            "identities": len({name for name in identities if name}),
            "excluded_labels": subset.excluded,
            "unreadable": predictions.unreadable,
        },
        seconds=predictions.seconds,
    ).to_dict()
    folder = Path(output_dir)
    write_predictions(folder / "predictions.csv", names, predictions.sample_ids, labels, logits)
    write_json(report, folder / "report.json")
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
    *,
    split: str | None = None,
    folds: Sequence[int] | None = None,
    batch_size: int = 32,
    options: Mapping[str, Any] | None = None,
    exclude_unknown_labels: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a checkpoint on a corpus and write `report.json` and `predictions.csv`.

    Args:
        checkpoint: folder, bundled checkpoint's name, or Hub id.
        dataset: name of a registered corpus.
        data_dir: its folder or zip.
        output_dir: folder to write to; created when missing.
        split: one split; None is all of them.
        folds: samples of these folds only; None is all of them.
        batch_size: pictures per forward pass.
        options: options of the corpus's `load`.
        exclude_unknown_labels: leave out samples of classes that the checkpoint lacks, and count them in the report,
            instead of stopping.
        progress: show a progress bar.

    Returns:
        The report as written; `docs/report.md` describes it.

    Raises:
        UnknownNameError: no such checkpoint, corpus or split.
        CheckpointError: incomplete or unsafe checkpoint.
        CorpusError: the data are not laid out as the corpus is, or have classes that the checkpoint lacks.
        ConfigurationError: an option or fold that does not exist, or a model that gives no classes.
        InputError: not one sample could be read.
    """
    source = plugins.locate_checkpoint(str(checkpoint))
    model = load_model(source)
    processor = load_processor(source)
    cast(Any, model).to(device=PartialState().device, memory_format=torch.channels_last)
    return evaluate_model(
        model,
        processor,
        dataset,
        data_dir,
        output_dir,
        checkpoint=str(checkpoint),
        split=split,
        folds=folds,
        batch_size=batch_size,
        options=options,
        exclude_unknown_labels=exclude_unknown_labels,
        progress=progress,
    )
