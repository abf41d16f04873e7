"""The report of an evaluation: `report.json` for programs, `predictions.csv` for whoever wants to look again.

The schema is described in `docs/report.md`; `SCHEMA_VERSION` goes up whenever a key changes its meaning or vanishes.

This file knows how figures are written down; it computes none.
"""

import csv
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import accelerate
import datasets
import numpy as np
import sklearn
import torch
import transformers
from numpy.typing import NDArray

from .. import __version__
from .bootstrap import Intervals
from .metrics import ClassificationFigures, softmax

SCHEMA = "meco_hub/report"
SCHEMA_VERSION = 1


def library_versions() -> dict[str, str]:
    """Versions of what a figure depends on."""
    return {
        "meco_hub": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "datasets": datasets.__version__,
        "numpy": np.__version__,
        "scikit_learn": sklearn.__version__,
    }


@dataclass(frozen=True)
class Report:
    """An evaluation, complete.

    Attributes:
        figures: metrics; see `metrics.py` for the conventions.
        intervals: confidence intervals.
        names: class names in the order of the logits.
        checkpoint: what was evaluated: name, model_type, parameters, weights_sha256, operating_point.
        data: on what: corpus, split, folds, fingerprint, numbers of samples, persons, what was left out.
        seconds: wall time of reading and predicting.
    """

    figures: ClassificationFigures
    intervals: Intervals
    names: Sequence[str]
    checkpoint: Mapping[str, Any]
    data: Mapping[str, Any]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as `report.json` holds it."""
        f = self.figures
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "kind": "classification",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "checkpoint": dict(self.checkpoint),
            "data": dict(self.data),
            "metrics": {
                "n": f.n,
                "uar": f.uar,
                "war": f.war,
                "macro_f1": f.macro_f1,
                "macro_auroc": f.macro_auroc,
                "ece": f.ece,
                "cross_entropy": f.loss,
            },
            "confidence_intervals": {
                **{name: list(bounds) for name, bounds in self.intervals.bounds.items()},
                "level": self.intervals.level,
                "method": "percentile bootstrap",
                "unit": self.intervals.unit,
                "units": self.intervals.units,
                "resamples": self.intervals.resamples,
                "seed": self.intervals.seed,
            },
            "per_class": {name: asdict(one) for name, one in f.per_class.items()},
            "confusion_matrix": {
                "labels": list(self.names),
                "rows": "true",
                "columns": "predicted",
                "counts": f.confusion.tolist(),
            },
            "seconds": round(self.seconds, 3),
            "versions": library_versions(),
        }


def _plain(value: Any) -> Any:
    """JSON has no NaN; what is undefined is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(value: Any, file: Path) -> None:
    """Write strict, readable JSON: undefined numbers as null, keys in their own order, a line feed at the end."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # a row of a confusion matrix is read as a row; no bracket inside, so strings with brackets keep their lines
    text = re.sub(r"\[\n\s*([^][{}]*?)\n\s*\]", lambda found: "[" + re.sub(r"\n *", " ", found[1]) + "]", text)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")


def write_predictions(
    file: Path,
    names: Sequence[str],
    sample_ids: Sequence[str],
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
) -> None:
    """One line per sample: sample_id, label, prediction, and the probability of each class under its name."""
    probabilities = softmax(logits)
    predictions = probabilities.argmax(axis=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["sample_id", "label", "prediction", *names])
        for sample, label, prediction, row in zip(sample_ids, labels, predictions, probabilities, strict=True):
            writer.writerow([sample, names[label], names[prediction], *(f"{value:.6f}" for value in row)])
