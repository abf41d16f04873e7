"""What the cells of a comparison say together: means and SD over seeds, and what a difference is worth over people.

**Figures.** A figure of a report is averaged over the folds of a seed; mean and standard deviation (n − 1) are over the seeds'
means. Where there is one seed there is no SD. A fold in which a figure is undefined (AUROC of one class) is left out, and
counted.

**Differences.** Everybody who is tested has a figure of their own (`people.csv` of each cell), averaged over the cells they are
in. Per person, the model's figure minus that of the model it is compared with: the mean over people, its 95 % interval by the
jackknife over people with Student's t (`evaluation/intervals.py`), and the two-sided Wilcoxon signed-rank test over people
(Wilcoxon 1945; zeros left out), whose p values are corrected over the comparisons of the table by Holm's step-down method (Holm
1979). Runs with other seeds and samples of one person are no people, and make no difference surer.

**One answer.** A model whose answers are one class throughout, or one value, is called so: its accuracy is the share of that
class.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..errors import ConfigurationError, InputError
from ..evaluation.intervals import mean_intervals
from .cells import REPORT
from .plan import Cell, Plan

CLASSES = ("balanced_accuracy", "macro_f1", "auroc")
VALUES = ("rmse", "ccc")
"""Columns of the table where none are named; figures that a nuisance cannot give follow."""


@dataclass(frozen=True)
class Figure:
    """One figure of one model.

    Attributes:
        mean: over seeds of the means over folds; None where no fold has it.
        undefined: cells that do not have it.
    """

    mean: float | None
    sd: float | None
    by_seed: list[float]
    by_fold: dict[str, float]
    undefined: int


@dataclass(frozen=True)
class Difference:
    """A model's figure minus another's, over people.

    Attributes:
        mean, low, high: over people, with the bounds of the 95 % interval; None where nothing can be said.
    """

    metric: str
    people: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Row:
    """One model in the table.

    Attributes:
        difference: from the model that all are compared with; None of that one, and where nobody is known by name.
    """

    model: str
    figures: dict[str, Figure]
    difference: Difference | None
    cells: int
    wanted: int
    notes: list[str]


@dataclass(frozen=True)
class Summary:
    """A comparison's table.

    Attributes:
        compared: the metric that differences are of; None where people are unknown.
        curves: family of conditions → model → {"levels", "values"}, of `curve_metric`.
        units: family of conditions → unit of its levels, where it has one.
    """

    division: dict[str, Any]
    metrics: list[str]
    compared: str | None
    rows: list[Row]
    people: int
    samples: int
    curves: dict[str, dict[str, dict[str, list[Any]]]]
    curve_metric: str
    units: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As comparison.json holds it."""
        return asdict(self)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number by Holm's step-down method, in the order they came; None stays and is not counted."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected


def compare_people(metric: str, own: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    """The difference over those people who have both figures; person → figure of either model."""
    both = sorted(own.keys() & other.keys())
    differences = np.array([own[who] - other[who] for who in both], np.float64)
    if len(both) < 2:
        return Difference(metric, len(both), float(differences[0]) if both else None, None, None, None)
    mean = float(differences.mean())
    bounds = mean_intervals([{"difference": value} for value in differences.tolist()], both).bounds["difference"]
    low, high = bounds or (mean, mean)
    tested: Any = stats.wilcoxon(differences) if np.any(differences != 0) else None
    return Difference(metric, len(both), mean, low, high, 1.0 if tested is None else float(tested.pvalue))


def figure(values: Mapping[tuple[int, str], float | None]) -> Figure:
    """A figure of every cell as one; (seed, fold) → value."""
    known = {key: float(value) for key, value in values.items() if value is not None and np.isfinite(value)}
    seeds = sorted({seed for seed, _ in known})
    by_seed = [float(np.mean([value for (own, _), value in known.items() if own == seed])) for seed in seeds]
    by_fold = {
        fold: float(np.mean([value for (_, own), value in known.items() if own == fold]))
        for fold in dict.fromkeys(fold for _, fold in known)
    }
    return Figure(
        mean=float(np.mean(by_seed)) if by_seed else None,
        sd=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        by_seed=by_seed,
        by_fold=by_fold,
        undefined=len(values) - len(known),
    )


def read_people(file: Path, metric: str) -> dict[str, float]:
    """Person → their figure, of a cell's people.csv; those without one are left out."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if rows and metric not in rows[0]:
        raise ConfigurationError(
            f"{metric} is no figure of single people; they have {', '.join(key for key in rows[0] if key != 'person')}. Put one of "
            "these first among the metrics."
        )
    return {row["person"]: float(row[metric]) for row in rows if row[metric]}


def _mean_of_people(files: Sequence[Path], metric: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for file in files:
        for who, value in read_people(file, metric).items():
            found.setdefault(who, []).append(value)
    return {who: float(np.mean(values)) for who, values in found.items()}


def summarise_cells(plan: Plan, reports: Mapping[Cell, Mapping[str, Any]], output_dir: Path) -> Summary:
    """The table of the cells that are finished."""
    if not reports:
        raise InputError(f"No cell of the comparison is finished in {output_dir}. Run it first.")
    first = next(iter(reports.values()))
    metrics = _columns(plan, reports)
    compared = metrics[0] if any(report["data"]["identities"] for report in reports.values()) else None
    people = {
        model: _mean_of_people(
            [output_dir / cell.folder / REPORT.parent / "people.csv" for cell in reports if cell.model == model],
            compared,
        )
        for model in plan.comparison.models
        if compared is not None
    }
    against, rows = plan.comparison.compared_with, []
    for model in plan.comparison.models:
        own = {cell: report for cell, report in reports.items() if cell.model == model}
        figures = {
            metric: figure({(cell.seed, cell.fold): report["metrics"].get(metric) for cell, report in own.items()})
            for metric in metrics
        }
        difference = None
        if compared is not None and model != against:
            difference = compare_people(compared, people[model], people[against])
        wanted = len(plan.cells_of(model))
        chosen = Counter(cell.chosen for cell in own if cell.chosen is not None)
        notes = [f"chose {', '.join(f'{name} {times} ×' for name, times in chosen.most_common())}"] if chosen else []
        rows.append(Row(model, figures, difference, len(own), wanted, notes + _notes(list(own.values()), wanted)))
    corrected = iter(holm([row.difference.p for row in rows if row.difference]))
    rows = [
        replace(row, difference=replace(row.difference, p_holm=next(corrected))) if row.difference else row
        for row in rows
    ]
    tested = {cell.fold: report for cell, report in reports.items()}
    metric = "ccc" if first["kind"] == "regression" else "uar"
    return Summary(
        division=plan.describe(),
        metrics=metrics,
        compared=compared,
        rows=rows,
        people=len({who for own in people.values() for who in own}),
        samples=sum(int(report["data"]["samples"]) for report in tested.values()),
        curves=_curves(reports, metric),
        curve_metric=metric,
        units={
            entry["family"]: entry["unit"]
            for report in reports.values()
            for entry in report["conditions"]
            if entry.get("unit")
        },
    )


def _columns(plan: Plan, reports: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    known = list(dict.fromkeys(key for report in reports.values() for key in report["metrics"]))
    wanted = plan.comparison.metrics
    if wanted is None:
        values = next(iter(reports.values()))["kind"] == "regression"
        within = [f"{'pcc' if values else 'auroc'}_within_{column}" for column in plan.corpus.nuisances]
        return [*(VALUES if values else CLASSES), *(name for name in within if name in known)]
    for name in wanted:
        if name not in known:
            raise ConfigurationError(
                f"The metric {name!r} stands in no report of the comparison; they have {', '.join(known)}. Correct `metrics`."
            )
    return list(wanted)


def _notes(reports: Sequence[Mapping[str, Any]], wanted: int) -> list[str]:
    """What must be said beside a model's figures."""
    notes = []
    constant = [answer for report in reports if (answer := _only_answer(report)) is not None]
    if constant:
        which = " or ".join(sorted(set(constant)))
        always = "throughout" if len(constant) == len(reports) else f"in {len(constant)} of {len(reports)} runs"
        notes.append(f"answers {which} {always}")
    seen = [own for report in reports if (own := report["data"].get("seen")) and own["trained_on"]]
    if seen:
        most = max(seen, key=lambda own: own["trained_on"])
        notes.append(f"was trained on {most['trained_on']} of {most['people']} people of a fold")
    controls = {report["checkpoint"].get("control") for report in reports} - {None}
    if controls:
        notes.append("a control: trained on permuted labels")
    if len(reports) < wanted:
        notes.append(f"{len(reports)} of {wanted} runs are finished")
    return notes


def _only_answer(report: Mapping[str, Any]) -> str | None:
    """The class, or "one value", that all answers of a report are; None where they differ."""
    matrix = report.get("confusion_matrix")
    if matrix is None:
        metrics = report["metrics"]
        return "one value" if metrics.get("pcc") == metrics.get("ccc") == 0.0 else None
    answered = np.asarray(matrix["counts"]).sum(axis=0)
    return f"{matrix['labels'][int(answered.argmax())]} alone" if np.count_nonzero(answered) == 1 else None


def _curves(reports: Mapping[Cell, Mapping[str, Any]], metric: str) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Family → model → levels and values, means over the cells; a level that some cell cannot answer has no value."""
    points: dict[str, dict[str, dict[Any, list[tuple[float, float | None]]]]] = {}
    for cell, report in reports.items():
        for entry in report["conditions"]:
            level = entry.get("realised", entry["value"])
            own = points.setdefault(entry["family"], {}).setdefault(cell.model, {})
            own.setdefault(entry["value"], []).append((level, entry["metrics"].get(metric)))
    curves: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for family, models in points.items():
        for model, own in models.items():
            levels, values = [], []
            for value, found in own.items():
                figures = [figure for _, figure in found]
                words = isinstance(value, str) or any(level is None for level, _ in found)
                levels.append(value if words else float(np.mean([level for level, _ in found])))
                values.append(
                    None if any(one is None for one in figures) else float(np.mean([one or 0.0 for one in figures]))
                )
            curves.setdefault(family, {})[model] = {"levels": levels, "values": values}
    return curves
