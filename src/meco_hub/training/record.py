"""The record of a run: what was trained, on what, with what, how long, and what came out.

`run.json` stands beside the weights, so that a figure can always be traced to its recipe, data and versions.

This file knows what is written about a run; it computes nothing.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..evaluation.cautions import control_of
from ..evaluation.metrics import ClassificationFigures
from ..evaluation.report import library_versions, write_json
from ..evaluation.series import ValueFigures
from .checkpoints import Progress
from .data import TrainingData
from .recipe_files import recipe_to_dict
from .recipes import Recipe

SCHEMA_VERSION = 1


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


def describe_figures(figures: ClassificationFigures | ValueFigures) -> dict[str, Any]:
    """The figures of a validation as plain numbers."""
    if isinstance(figures, ValueFigures):
        return asdict(figures)
    return {
        "n": figures.n,
        "uar": figures.uar,
        "war": figures.war,
        "macro_f1": figures.macro_f1,
        "macro_auroc": figures.macro_auroc,
        "ece": figures.ece,
        "cross_entropy": figures.loss,
        "recall": {name: one.recall for name, one in figures.per_class.items()},
        "confusion": figures.confusion.tolist(),
    }


def write_record(
    file: Path,
    *,
    accelerator: Accelerator,
    model: PreTrainedModel,
    recipe: Recipe,
    data: TrainingData,
    data_dir: Path,
    progress: Progress,
    validation: Mapping[str, Any],
    operating_point: Mapping[str, Any] | None,
    calibration: Mapping[str, Any] | None,
    unreadable: Mapping[str, Sequence[str] | Mapping[str, str]],
    reference: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write `run.json` and give back what it says."""
    described = data.describe()
    if reference is not None:
        described["train"]["reference"] = dict(reference)
    record = {
        "schema": "meco_hub/run",
        "schema_version": SCHEMA_VERSION,
        "model_type": recipe.model_type,
        "class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": data.names,
        "control": control_of(model.config, None),
        "data": {
            "corpus": recipe.data.corpus,
            "name": data_dir.name,  # the last part only: a path says nothing to others
            **described,
            "unreadable": dict(unreadable),
        },
        "epochs": progress.epoch,
        "steps": progress.step,
        "selection": {"criterion": recipe.selection, "best_epoch": progress.best_epoch, "value": progress.best},
        "validation": dict(validation),
        "operating_point": dict(operating_point) if operating_point else None,
        "calibration": dict(calibration) if calibration else None,
        "seed": recipe.seed,
        "energy": progress.energy or None,
        "seconds": round(progress.seconds, 1),
        "hardware": describe_hardware(accelerator),
        "versions": library_versions(),
        "recipe": recipe_to_dict(recipe),
        "history": progress.history,
    }
    write_json(record, file)
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
