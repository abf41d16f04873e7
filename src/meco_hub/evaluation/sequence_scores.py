"""Figures of many runs of one test set, and the row that they print.

    Ha Sa An Di Su Fe Ne | Nor Over Low HDR | WAR UAR        ×100, one decimal

The expressions have their recall, the lights their accuracy; WAR is accuracy, UAR the mean recall of the expressions that occur,
which is told for each light too, below the row. A figure is computed in every run and then averaged over them; the standard
deviation over the runs (n − 1) tells how much the choice of clips matters, and nothing about training again.

This file knows answers and truths of runs; it reads no file.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT_NAMES = {
    "happiness": "Ha",
    "sadness": "Sa",
    "anger": "An",
    "disgust": "Di",
    "surprise": "Su",
    "fear": "Fe",
    "neutral": "Ne",
}
"""Classes in the order in which the tables print them, and how they are headed."""

SHORT_LIGHTINGS = {"normal": "Nor", "Overexposed": "Over", "Low": "Low", "HDR": "HDR"}
"""Lights in the order in which the tables print them, and how they are headed."""


@dataclass(frozen=True)
class SequenceScores:
    """Figures of the runs of one test set, all as shares of 1.

    Attributes:
        runs: names of the files, in order.
        sequences: how many each run answers.
        recall: class → (runs,) recall; NaN where no sequence is of it.
        lighting: light → (runs,) accuracy; NaN where no sequence has it.
        war, uar: (runs,).
        lighting_uar: light → (runs,) mean recall of the expressions that occur in it; NaN where no sequence has it.
        support: class or light → sequences.
        confusion: (classes, classes) counts summed over the runs, rows true, in the order of `recall`.
        ignored: files of the folder that hold no predictions.
    """

    runs: tuple[str, ...]
    sequences: int
    recall: dict[str, NDArray[np.float64]]
    lighting: dict[str, NDArray[np.float64]]
    war: NDArray[np.float64]
    uar: NDArray[np.float64]
    support: dict[str, int]
    confusion: NDArray[np.int64]
    lighting_uar: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Heading → (runs,) values, in the order of the tables."""
        return {
            **{SHORT_NAMES.get(name, name): values for name, values in self.recall.items()},
            **{SHORT_LIGHTINGS.get(name, name): values for name, values in self.lighting.items()},
            "WAR": self.war,
            "UAR": self.uar,
        }

    def to_dict(self) -> dict[str, Any]:
        """Means, standard deviations (n − 1; NaN for one run) and every run, as plain types."""

        def described(values: NDArray[np.float64]) -> dict[str, Any]:
            return {
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "runs": values.tolist(),
            }

        return {
            "schema": "meco_hub/sequence_scores",
            "schema_version": 1,
            "runs": list(self.runs),
            "sequences": self.sequences,
            "war": described(self.war),
            "uar": described(self.uar),
            "recall": {name: described(values) for name, values in self.recall.items()},
            "lighting": {name: described(values) for name, values in self.lighting.items()},
            "lighting_uar": {name: described(values) for name, values in self.lighting_uar.items()},
            "support": self.support,
            "confusion_matrix": {"labels": list(self.recall), "counts": self.confusion.tolist()},
            "ignored": list(self.ignored),
        }

    def __str__(self) -> str:
        """Heading, means and standard deviations over the runs, ×100, one decimal."""
        return table({"": self})


def table(sets: Mapping[str, SequenceScores]) -> str:
    """Rows of several test sets or models under one heading: means, and standard deviations over the runs, ×100, one decimal.

    Args:
        sets: what a row is called → its scores; they are told in the columns of the first.
    """
    first = next(iter(sets.values()))
    headings = list(first.columns())
    bars = {len(first.recall), len(first.recall) + len(first.lighting)}
    width = max(4, *(len(name) + 5 for name in sets if name)) if any(sets) else 4

    def line(name: str, cells: Iterable[str]) -> str:
        parts = [("| " if index in bars else "") + f"{cell:>5}" for index, cell in enumerate(cells)]
        return f"{name:<{width}} " + " ".join(parts)

    def percent(value: float) -> str:
        return "–" if math.isnan(value) else f"{100 * value:.1f}"

    lines = [line("", headings)]
    for name, scores in sets.items():
        own = scores.columns()
        values = [own.get(heading, np.full(len(scores.runs), np.nan)) for heading in headings]
        lines.append(line(f"{name} mean".strip(), [percent(float(one.mean())) for one in values]))
        if len(scores.runs) > 1:
            lines.append(line(f"{name} sd".strip(), [percent(float(one.std(ddof=1))) for one in values]))
    for name, scores in sets.items():
        runs = "1 run" if len(scores.runs) == 1 else f"{len(scores.runs)} runs"
        each = [f"{SHORT_LIGHTINGS.get(one, one)} {percent(float(v.mean()))}" for one, v in scores.lighting_uar.items()]
        lights = f"; UAR by light: {', '.join(each)}" if each else ""
        lines.append(f"{name}: {runs} of {scores.sequences} sequences{lights}".removeprefix(": "))
    return "\n".join(lines)


def score_runs(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    light: NDArray[np.str_],
    order: Sequence[str],
    groups: Sequence[str],
    runs: tuple[str, ...],
    ignored: tuple[str, ...] = (),
) -> SequenceScores:
    """Score runs over the same sequences.

    Args:
        truth: (n,) class indices into `order`.
        predicted: (runs, n) class indices.
        light: (n,) value of the group; "" where unknown.
        order: classes, in the order in which they are told.
        groups: values of the group that are told, in order; others that occur follow.
        runs: names of the runs.
        ignored: names of files that hold none.
    """
    hits = predicted == truth

    def share(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        return hits[:, rows].mean(axis=1) if rows.any() else np.full(len(hits), np.nan)

    lights = [*groups, *sorted(set(light.tolist()) - set(groups) - {""})]
    recall = {name: share(truth == index) for index, name in enumerate(order)}
    present = np.stack([values for values in recall.values() if not np.isnan(values).any()])
    lighting = {
        name: share(light == name)
        for name in lights
        if (light == name).any() or (name in groups and (light != "").any())
    }
    lighting_uar = {
        name: np.mean(
            [share(own) for index in range(len(order)) if (own := (light == name) & (truth == index)).any()], axis=0
        )
        if (light == name).any()
        else np.full(len(hits), np.nan)
        for name in lighting
    }
    confusion = np.zeros((len(order), len(order)), np.int64)
    np.add.at(confusion, (np.broadcast_to(truth, predicted.shape), predicted), 1)
    return SequenceScores(
        runs=runs,
        sequences=len(truth),
        recall=recall,
        lighting=lighting,
        war=hits.mean(axis=1),
        uar=present.mean(axis=0),
        support={
            **{name: int((truth == index).sum()) for index, name in enumerate(order)},
            **{name: int((light == name).sum()) for name in lighting},
        },
        confusion=confusion,
        lighting_uar=lighting_uar,
        ignored=ignored,
    )
