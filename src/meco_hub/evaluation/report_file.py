"""A report that was written: read with the keys of the newest version, and whether it is of a model or of a control.

Cards and pushes read reports, and need nothing of what computes them.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..reading import read_json, reading

SCHEMA = "meco_hub/report"

SCHEMA_VERSION = 2
"""2: `kind` may be "regression", and the keys in `_LATER` are there. Nothing that version 1 says changed its meaning."""

_LATER: dict[str, Any] = {
    "reliability": None,
    "groups": {},
    "references": {},
    "calibration": None,
    "selective": None,
    "conditions": [],
    "condition_families": {},
    "routing": None,
    "run": None,
    "warnings": [],
}

METRIC_NAMES = {
    "n": "answered samples",
    "uar": "UAR (mean recall of the classes)",
    "war": "WAR (accuracy)",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "ovo_auroc": "one-vs-one AUROC",
    "ece": "expected calibration error",
    "mce": "maximum calibration error",
    "brier": "Brier score",
    "cross_entropy": "cross-entropy (nats)",
    "rmse": "RMSE",
    "mae": "MAE",
    "ccc": "CCC",
    "pcc": "PCC",
}
"""Metric → how it is written for people."""

PERMUTED = "permuted_labels"
"""`training_control` in the config, and `control` in run.json and report, of a checkpoint whose training labels were permuted."""

_CONTROLS = {
    PERMUTED: "This checkpoint is a control, trained on permuted labels: it could learn nothing of what it is asked for. Its "
    "figures say what this evaluation finds where there is nothing to find, and nothing of its architecture."
}


def control_of(config: Any, run: Mapping[str, Any] | None) -> str | None:
    """Which control a checkpoint is, by its config (a mapping or a config) or else its run.json; None for a model."""
    stored = (
        config.get("training_control") if isinstance(config, Mapping) else getattr(config, "training_control", None)
    )
    return stored or (run or {}).get("control")


def describe_control(control: str | None) -> str:
    """In a sentence what a control is; empty for a model."""
    if control is None:
        return ""
    return _CONTROLS.get(control, f"This checkpoint is a control ({control}), and no model.")


def read_report(file: Path) -> dict[str, Any]:
    """Read a report.json of any version, with the keys of the newest: what an older one lacks is null or empty.

    Raises:
        InputError: it is no report, or of a version that this library does not know yet.
    """
    with reading(f"{file} cannot be read as a report", InputError, "Expected what `meco evaluate` writes."):
        return _read_report(file)


def _read_report(file: Path) -> dict[str, Any]:
    report = read_json(file, InputError, "Expected what `meco evaluate` writes.")
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise InputError(f"{file} is no report: it lacks schema {SCHEMA!r}. Expected what `meco evaluate` writes.")
    version = report.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema_version {version!r}; this library reads 1 to {SCHEMA_VERSION}. Update meco_hub to read it."
        )
    if version == 1:
        metrics = report["metrics"]
        metrics.setdefault("balanced_accuracy", metrics.get("uar"))
        metrics.setdefault("auroc", metrics.get("macro_auroc"))
        for key in ("brier", "mce"):
            metrics.setdefault(key, None)
        report["data"] = {"protocol": None, "leak_check": None, **report["data"]}
    for key, empty in _LATER.items():
        report.setdefault(key, copy.copy(empty))
    for key in ("checkpoint", "data", "metrics"):
        if not isinstance(report.get(key), dict):
            raise InputError(
                f"{file} has no {key}; expected what `meco evaluate` writes. Evaluate again, or take it away."
            )
    return report
