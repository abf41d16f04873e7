"""What a run ends with: the folder that the Auto classes load, and `run.json`, the record of how it came about.

`run.json` stands beside the weights, so that a figure can always be traced to its recipe, data and versions. Everything is written
under a name of its own and moved when it is whole, `run.json` last: while that is there, the rest fits it.
"""

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel

from ..durable import files_together, remove, write_json
from ..evaluation.predict import RecordingRows
from ..evaluation.references import STATISTICS, fit_logistic, fit_ridge, window_statistics
from ..evaluation.report import library_versions
from ..evaluation.report_file import control_of
from ..evaluation.series import mean_ratings
from ..weight_files import hash_weights
from .arguments import save_model
from .checkpoints import BEST, limit_checkpoints, list_checkpoints
from .data import TrainingData
from .recipes import recipe_to_dict
from .validation import PostTrainingChoices

if TYPE_CHECKING:
    from .loop import TrainingRun

logger = logging.getLogger(__name__)

SCHEMA, SCHEMA_VERSION = "meco_hub/run", 1


def describe_hardware(accelerator: Accelerator) -> dict[str, Any]:
    """The machine, as far as it explains speed and rounding."""
    device = accelerator.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": accelerator.num_processes,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def write_result(run: "TrainingRun", model: PreTrainedModel, choices: PostTrainingChoices) -> dict[str, Any]:
    """Write weights, config, processor and record into the run's folder; called by the main process."""
    recipe, options, data, progress = run.recipe, run.options, run.data, run.progress
    folder = options.output_dir
    described = data.describe()
    if run.reference is not None:
        described["train"]["reference"] = run.reference
    record = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "model_type": recipe.model_type,
        "class": type(model).__name__,
        "weights_sha256": None,  # known when they are written
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": data.names,
        "control": control_of(model.config, None),
        "data": {
            "corpus": recipe.data.corpus,
            "name": options.data_dir.name,  # the last part only: a path says nothing to others
            **described,
            "unreadable": run.loaders.unreadable(),
        },
        "epochs": progress.epoch,
        "steps": progress.step,
        "selection": {"criterion": recipe.selection, "best_epoch": progress.best_epoch, "value": progress.best},
        **({"average_with_start": dict(choices.means)} if choices.means else {}),
        "validation": choices.validation,
        "operating_point": choices.operating_point.to_dict() if choices.operating_point else None,
        "calibration": choices.calibration.to_dict() if choices.calibration else None,
        "seed": recipe.seed,
        "energy": progress.energy or None,
        "seconds": round(progress.seconds, 1),
        "hardware": describe_hardware(run.accelerator),
        "versions": library_versions(),
        "recipe": recipe_to_dict(recipe),
        "history": progress.history,
    }
    numbers = {f"eval_{key}": value for key, value in choices.validation.items() if isinstance(value, int | float)}
    with files_together(folder, "run.json", lambda: None) as written:
        save_model(model, run.processor, written)
        record["weights_sha256"] = hash_weights(written)
        write_json(record, written / "run.json")
        write_json({"epoch": progress.epoch, **numbers}, written / "all_results.json")
    # a kill may have come between the last checkpoint and the removal of those beyond the limit
    limit_checkpoints(folder, options.checkpoints_total_limit)
    if not list_checkpoints(folder):  # whoever resumes one may want to look at the kept weights
        remove(folder / BEST)
    return record


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; trackers take scalars only."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat


def fit_reference(
    data: TrainingData, rows: RecordingRows, readable: Sequence[int], *, progress: bool = True
) -> dict[str, Any] | None:
    """Fit a ridge (values) or a logistic regression (classes) on plain statistics of the training part, and on nothing else.

    Its coefficients stand in `run.json`, so that an evaluation of the checkpoint can say how well a straight line does on its rows.
    A rating over time counts as its mean on the scored seconds, and is answered by one value that holds throughout.

    Returns:
        What run.json keeps; None for recordings that are no signals, and where there are too few labels.
    """
    if data.corpus.kind != "signals":
        return None
    known = describe_training(data, rows, readable, progress=progress)
    fit = fit_ridge if data.task.regression else fit_logistic
    fitted = fit(*known, data.task.names)
    if fitted is None:
        logger.warning("Too few labels for a reference predictor; the run goes on without one.")
        return None
    return fitted.to_dict()


class DescribedTraining(NamedTuple):
    """A training part of signals as plain predictors see it.

    Attributes:
        statistics: (n, numbers) as `window_statistics` gives them for `channels`.
        people: (n,) subject of each row.
        labels: (n,) class indices, or (n, targets) native values, over time their mean on the scored seconds.
        channels: stream → number of its channels, of all that any row has.
    """

    statistics: NDArray[np.float64]
    people: list[str]
    labels: NDArray[Any]
    channels: dict[str, int]


def describe_training(
    data: TrainingData, rows: RecordingRows, readable: Sequence[int], *, progress: bool = True
) -> DescribedTraining:
    """Statistics and labels of the training part, of the rows that can be read."""
    task, corpus, channels = data.task, data.corpus, dict[str, int]()
    described, ratings = [], []
    for row in tqdm(readable, desc="reference", unit="rec", delay=1, disable=not progress):
        recording = rows[row]
        own = {name: stream.values.shape[1] for name, stream in recording.streams.items()}
        channels |= {name: max(count, channels.get(name, 0)) for name, count in own.items()}
        described.append((own, window_statistics(recording, own)))
        if corpus.time_continuous:
            ratings.append(mean_ratings(recording, task.names, corpus.scored_seconds))
    channels = dict(sorted(channels.items()))
    statistics = np.stack([_arrange(numbers, own, channels) for own, numbers in described])
    people = data.train.dataset.select(readable)["identity"][:]
    labels = np.stack(ratings) if corpus.time_continuous else data.train.labels[np.asarray(readable)]
    return DescribedTraining(statistics, people, labels, channels)


def _arrange(numbers: NDArray[np.float64], own: Mapping[str, int], channels: Mapping[str, int]) -> NDArray[np.float64]:
    """Statistics of a recording's own streams in the places that everybody's have; NaN for those it lacks."""
    size = len(STATISTICS)
    cuts = np.cumsum([size * count for count in own.values()])[:-1]
    found = dict(zip(own, np.split(numbers, cuts), strict=True))
    parts = []
    for name, count in channels.items():
        part = np.full(size * count, np.nan)
        part[: size * own.get(name, 0)] = found.get(name, ())
        parts.append(part)
    return np.concatenate(parts)
