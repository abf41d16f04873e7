"""What the cells of a comparison say together: means and SD over seeds, and what a difference is worth over people.

**Figures.** A figure of a report is averaged over the folds of a seed; mean and standard deviation (n − 1) are over the seeds'
means. Where there is one seed there is no SD. A seed counts once all its folds are there, or the means would be of other folds from
seed to seed and from row to row. A fold in which a figure is undefined (AUROC of one class) is left out, and a note says so.

**Differences.** Everybody who is tested has a figure of their own (`people.csv` of each cell), averaged over the cells they are
in. Per person, the model's figure minus that of the model it is compared with: the mean over people, its 95 % interval by the
jackknife over people with Student's t (`evaluation/intervals.py`), and the two-sided Wilcoxon signed-rank test over people
(Wilcoxon 1945; zeros left out; exact with ties too), whose p values are corrected over the comparisons of the table by Holm's
step-down method (Holm 1979). Runs with other seeds and samples of one person are no people, and make no difference surer.

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
from ..evaluation.metrics import Floats
from ..evaluation.report_file import METRIC_NAMES
from .baselines import CONSTANT
from .cells import REPORT
from .plan import Cell, Plan

CLASSES = ("balanced_accuracy", "macro_f1", "auroc")
VALUES = ("rmse", "ccc")
"""Columns of the table where none are named; figures that a nuisance cannot give follow."""

DECIMALS = 12
"""Of differences of people; what is smaller is rounding."""

MOST_COUNTED = 300
"""People up to whom the signed-rank test is exact; of more, its normal approximation is."""


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
        cells, wanted: runs that the figures are of, and those that there are to be.
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
        curves: family of conditions → model → {"asked", "levels", "values"}, of `curve_metric`.
        curve_metric: the first of `metrics` where it is tried under conditions, or else UAR or CCC.
        units: family of conditions → unit of its levels, where it has one.
        chance: what `training_mean`, where it is compared, has in `curve_metric`.
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
    chance: float | None = None

    @property
    def corpus(self) -> str:
        """Whose figures these are: "case", of drawn data "case (synthetic)"."""
        return f"{self.division['corpus']}{' (synthetic)' if self.division['synthetic'] else ''}"

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


def signed_rank(differences: Floats) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros left out: of all signs that the ranks could have, ties sharing theirs."""
    kept = differences[differences != 0]
    if len(kept) > MOST_COUNTED:
        tested: Any = stats.wilcoxon(kept)
        return float(tested.pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(kept))).astype(np.int64)  # doubled, as ties have halves
    chance = np.zeros(int(ranks.sum()) + 1)  # of every sum of the positive ones
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    seen = int(min(ranks[kept > 0].sum(), ranks[kept < 0].sum()))
    return min(1.0, 2 * float(chance[: seen + 1].sum()))


def compare_people(metric: str, own: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    """The difference over those people who have both figures; person → figure of either model."""
    both = sorted(own.keys() & other.keys())
    # a mean over three seeds may differ from the same figure of one by rounding, which is no sign of anything
    differences = np.array([own[who] - other[who] for who in both], np.float64).round(DECIMALS)
    if len(both) < 2:
        return Difference(metric, len(both), float(differences[0]) if both else None, None, None, None)
    mean = float(differences.mean())
    bounds = mean_intervals([{"difference": value} for value in differences.tolist()], both).bounds["difference"]
    low, high = bounds or (None, None)  # people who all differ by the same say nothing of their spread
    return Difference(metric, len(both), mean, low, high, signed_rank(differences))


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


def metric_name(metric: str) -> str:
    """A metric's name for people: "AUROC within session minute"."""
    stem, _, rest = metric.partition("_within_")
    words = METRIC_NAMES.get(stem, stem.replace("_", " ")).partition(" (")[0]
    return f"{words} within {rest.replace('_', ' ')}" if rest else words


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
    metrics = _columns(plan, reports)
    compared = metrics[0] if any(report["data"]["identities"] for report in reports.values()) else None
    runs = {model: _whole_seeds(plan, model, reports) for model in plan.comparison.models}
    people = {
        model: _mean_of_people([output_dir / cell.folder / REPORT.parent / "people.csv" for cell in own], compared)
        for model, own in runs.items()
        if compared is not None
    }
    against, rows = plan.comparison.compared_with, []
    for model, own in runs.items():
        figures = {
            metric: figure({(cell.seed, cell.fold): report["metrics"].get(metric) for cell, report in own.items()})
            for metric in metrics
        }
        difference = None
        if compared is not None and model != against:
            difference = compare_people(compared, people[model], people[against])
        chosen = Counter(cell.chosen for cell in own if cell.chosen is not None)
        notes = [f"chose {', '.join(f'{name} {times} ×' for name, times in chosen.most_common())}"] if chosen else []
        notes += _notes(list(own.values())) + _gaps(figures, len(own))
        finished, wanted = sum(cell.model == model for cell in reports), len(plan.cells_of(model))
        if finished < wanted:
            notes.append(f"{finished} of {wanted} runs are finished; {len(own)} of them, of whole seeds, count")
        rows.append(Row(model, figures, difference, len(own), wanted, notes))
    corrected = iter(holm([row.difference.p for row in rows if row.difference]))
    rows = [
        replace(row, difference=replace(row.difference, p_holm=next(corrected))) if row.difference else row
        for row in rows
    ]
    counted = {cell: report for own in runs.values() for cell, report in own.items()}
    entries = [entry for report in counted.values() for entry in report["conditions"]]
    shared = all(metrics[0] in entry["metrics"] for entry in entries)
    first = next(iter(reports.values()))
    metric = metrics[0] if shared else "ccc" if first["kind"] == "regression" else "uar"
    constant = {
        (cell.seed, cell.fold): report["metrics"].get(metric)
        for cell, report in counted.items()
        if cell.choice.baseline == CONSTANT
    }
    return Summary(
        division=plan.describe(),
        metrics=metrics,
        compared=compared,
        rows=rows,
        people=len({who for own in people.values() for who in own}),
        samples=sum({cell.fold: int(report["data"]["samples"]) for cell, report in counted.items()}.values()),
        curves=_curves(counted, metric),
        curve_metric=metric,
        chance=figure(constant).mean if constant else None,
        units={entry["family"]: entry["unit"] for entry in entries if entry.get("unit")},
    )


def _whole_seeds(plan: Plan, model: str, reports: Mapping[Cell, Mapping[str, Any]]) -> dict[Cell, Mapping[str, Any]]:
    """A model's reports of those seeds of which all folds are there."""
    own = {cell: report for cell, report in reports.items() if cell.model == model}
    folds = Counter(cell.seed for cell in own)
    return {cell: report for cell, report in own.items() if folds[cell.seed] == len(plan.folds)}


def _gaps(figures: Mapping[str, Figure], runs: int) -> list[str]:
    """Where a figure is a mean of fewer runs than the others of its row."""
    return [
        f"{metric_name(metric)} of {runs - own.undefined} of {runs} runs, undefined in the others"
        for metric, own in figures.items()
        if 0 < own.undefined < runs
    ]


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


def _notes(reports: Sequence[Mapping[str, Any]]) -> list[str]:
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
    origins = {report["checkpoint"].get("training_data") for report in reports} - {None}
    notes += [f"trained on {origin} data" for origin in sorted(origins)]
    controls = {report["checkpoint"].get("control") for report in reports} - {None}
    if controls:
        notes.append("a control: trained on permuted labels")
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
    """Family → model → `asked` and realised `levels`, and `values`, means over the cells.

    A level that some cell cannot answer has no value.
    """
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
                figures = [figure for _, figure in found if figure is not None]
                words = isinstance(value, str) or any(level is None for level, _ in found)
                levels.append(value if words else float(np.mean([level for level, _ in found])))
                values.append(float(np.mean(figures)) if len(figures) == len(found) else None)
            curves.setdefault(family, {})[model] = {"asked": list(own), "levels": levels, "values": values}
    return curves
