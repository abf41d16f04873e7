"""The report of an evaluation: `report.json` for programs, `predictions.csv` to look again, pictures; and its warnings.

Warnings are what must be said beside the metrics, or they mislead: controls, people seen in training, values too good to be true.
"""

import csv
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import accelerate
import datasets
import numpy as np
import pyarrow
import sklearn
import torch
import transformers
from numpy.typing import NDArray
from pyarrow import parquet

from ..corpora import Corpus
from ..csv_files import write_rows
from ..durable import whole_file
from ..version import __version__
from .intervals import Intervals
from .metrics import ClassificationMetrics, softmax
from .pictures import (
    draw_bars,
    draw_confusion,
    draw_degradation,
    draw_over_time,
    draw_people,
    draw_reliability,
    draw_routing,
    draw_scatter,
)
from .report_file import SCHEMA, SCHEMA_VERSION, describe_control
from .series import AlignedPredictions, ValueScores


def list_warnings(report: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """Sentences without which the metrics of a report must not be quoted; none is good news."""
    found = [describe_control(report["checkpoint"].get("control"))]
    seen = report["data"].get("seen")
    if seen and seen["trained_on"]:
        found.append(
            f"{seen['trained_on']} of {seen['people']} people were trained on: the figures do not hold for strangers."
        )
    found += _given_away(report, corpus)
    limit = corpus.suspicious_above
    high = {
        key: value
        for key, value in report["metrics"].items()
        if limit is not None and key.split("_")[0] == "ccc" and value is not None and value > limit
    }
    if high:
        listed = ", ".join(f"{key} {value:.2f}" for key, value in high.items())
        found.append(
            f"{listed} on {corpus.name}: above {limit:g} this is a bug or a leak until it is proved otherwise. Look at "
            "data.protocol, data.seen, data.leak_check and the references, and train a control (data.permute_labels)."
        )
    return [sentence for sentence in found if sentence]


def _given_away(report: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """A nuisance oracle that does as well as the model, by the figures that people quote."""
    found = []
    for column in corpus.nuisances:
        oracle = report["references"].get(f"{column}_oracle") or {}
        for key, sign in (("auroc", 1), ("balanced_accuracy", 1), ("ccc", 1), ("rmse", -1)):
            ours, theirs = report["metrics"].get(key), oracle.get(key)
            if ours is not None and theirs is not None and math.isfinite(ours) and sign * (theirs - ours) >= 0:
                words = column.replace("_", " ")
                found.append(
                    f"Told only the {words}, and no sensor, a predictor fitted on the training part has {key} {theirs:.3f}; the "
                    f"model has {ours:.3f}. Quote what the {words} cannot give beside it: *_within_{column}."
                )
                break
    return found


# --- Report -----------------------------------------------------------------------------------------------------------
# The schema is described in `docs/report.md`; `SCHEMA_VERSION` goes up whenever a key changes its meaning or vanishes, or
# `kind` gains a value.


def library_versions() -> dict[str, str]:
    """Versions of what a metric depends on."""
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


def build_report(
    metrics: ClassificationMetrics | ValueScores,
    intervals: Intervals,
    names: Sequence[str],
    *,
    checkpoint: Mapping[str, Any],
    data: Mapping[str, Any],
    seconds: float,
    within: Mapping[str, float] | None = None,
    groups: Mapping[str, Any] | None = None,
    references: Mapping[str, Mapping[str, Any]] | None = None,
    calibration: Mapping[str, Any] | None = None,
    selective: Mapping[str, Any] | None = None,
    conditions: Sequence[Mapping[str, Any]] = (),
    condition_families: Mapping[str, Mapping[str, Any]] | None = None,
    per_person: Mapping[str, Any] | None = None,
    routing: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An evaluation, complete, as `report.json` holds it."""
    if isinstance(metrics, ValueScores):
        figures = {
            "targets": list(metrics.names),
            "headline": metrics.headline,
            "metrics": {**metrics.metrics, **(within or {})},
            "levels": dict(metrics.levels),
        }
    else:
        counts = metrics.confusion.tolist()
        figures = {
            "metrics": {"n": metrics.n, **metrics.flat(), **(within or {})},
            "per_class": {name: asdict(one) for name, one in metrics.per_class.items()},
            "confusion_matrix": {"labels": list(names), "rows": "true", "columns": "predicted", "counts": counts},
            "reliability": {"of": "top label", "bins": [asdict(one) for one in metrics.bins]},
        }
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "kind": "regression" if isinstance(metrics, ValueScores) else "classification",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": dict(checkpoint),
        "data": {"protocol": None, "leak_check": None, **data},
        **figures,
        "confidence_intervals": intervals.to_dict(),
        "groups": dict(groups or {}),
        "references": dict(references or {}),
        "calibration": calibration,
        "selective": selective,
        "conditions": list(conditions),
        "condition_families": dict(condition_families or {}),
        "per_person": per_person,
        "routing": routing,
        "run": run,
        "warnings": [],
        "seconds": round(seconds, 3),
        "versions": library_versions(),
    }


def write_predictions(
    folder: Path,
    names: Sequence[str],
    sample_ids: Sequence[str],
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
) -> None:
    """`predictions.csv` and `predictions.parquet`, a line per sample: sample_id, label, prediction, probability of each class.

    The csv has six decimals, under the classes' names; Parquet has every digit, in float32, under `score_<class>`.
    """
    probabilities = softmax(logits)
    truth = [names[label] for label in labels]
    predicted = [names[index] for index in logits.argmax(axis=1)]  # as the metrics take it
    shown = ([f"{value:.6f}" for value in row] for row in probabilities)
    lines = ([*one, *cells] for *one, cells in zip(sample_ids, truth, predicted, shown, strict=True))
    _write_csv(folder / "predictions.csv", ["sample_id", "label", "prediction", *names], lines)
    columns: dict[str, Any] = {"sample_id": list(sample_ids), "label": truth, "prediction": predicted}
    for name, column in zip(names, probabilities.T, strict=True):
        columns[f"score_{name}"] = np.ascontiguousarray(column, np.float32)
    with whole_file(folder / "predictions.parquet") as partial:
        parquet.write_table(pyarrow.table(columns), partial)


def write_values(file: Path, names: Sequence[str], sample_ids: Sequence[str], aligned: AlignedPredictions) -> None:
    """One line per value: sample_id, time_s or window, and per target `<target>_true` and `<target>`, in native units.

    An unknown truth (NaN) is an empty cell. Where a window reaches behind its recording's end, a last column `share` says how much
    of each window is answered.

    Args:
        aligned: their values; those that run over time stand beside seconds, others beside the number of their window.
    """
    parts: list[tuple[Any, Any, Any]] = [
        ([f"{time:.6g}" for time in one.times], one.truth, one.predictions) for one in aligned.series
    ] or [
        (range(len(windows)), np.broadcast_to(truth, windows.shape), windows)
        for truth, windows in zip(aligned.truth, aligned.windows, strict=True)
    ]
    shares = [[[f"{share:.6g}"] for share in own] for own in aligned.shares]

    def lines() -> Iterator[list[Any]]:
        for row, (sample, (places, true, predicted)) in enumerate(zip(sample_ids, parts, strict=True)):
            last = shares[row] if shares else [[]] * len(predicted)
            for place, own, answer, share in zip(places, true, predicted, last, strict=True):
                pairs = zip(own, answer, strict=True)
                cells = [cell for a, b in pairs for cell in ("" if math.isnan(a) else f"{a:.6g}", f"{b:.6g}")]
                yield [sample, place, *cells, *share]

    columns = [column for name in names for column in (f"{name}_true", name)] + ["share"] * bool(shares)
    _write_csv(file, ["sample_id", "time_s" if aligned.series else "window", *columns], lines())


def write_people(file: Path, figures: Mapping[str, Mapping[str, float | None]]) -> None:
    """One line per person: `person` and the headline metrics of their rows, an empty cell where one is undefined."""
    keys = list(next(iter(figures.values()), {}))
    cells = ([own[key] for key in keys] for own in figures.values())
    known = (["" if one is None or not math.isfinite(one) else repr(one) for one in row] for row in cells)
    _write_csv(file, ["person", *keys], ([who, *row] for who, row in zip(figures, known, strict=True)))


def _write_csv(file: Path, head: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    with whole_file(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        write_rows(stream, head, lines)


def write_pictures(report: Mapping[str, Any], folder: str | Path, suffix: str = "png") -> list[Path]:
    """Draw whatever a report has; `docs/report.md` lists the files.

    Args:
        folder: where to, and where its predictions.csv lies, of which ratings over time are drawn.
    """
    target, written = Path(folder), []
    title = str(report.get("checkpoint", {}).get("name", ""))
    told: dict[str, Any] = {"title": title, "note": _note(report)}
    matrix, reliability = report.get("confusion_matrix"), report.get("reliability")
    metric, chance = ("ccc", 0.0) if report.get("kind") == "regression" else ("uar", None)
    if matrix:
        chance = 1 / len(matrix["labels"])
        file = target / f"confusion.{suffix}"
        written.append(draw_confusion(matrix["counts"], matrix["labels"], file, **told))
    if reliability:
        ece = report["metrics"].get("ece")
        written.append(draw_reliability(reliability["bins"], target / f"reliability.{suffix}", ece=ece, **told))
    intervals = report.get("confidence_intervals") or {}
    people = report.get("per_person") or {}
    if len([value for value in people.get("values", ()) if value is not None]) > 1:
        whole = {"whole": report["metrics"].get(metric), "interval": intervals.get(metric), "chance": chance}
        file = target / f"people.{suffix}"
        written.append(draw_people(people["values"], file, metric=people["metric"].upper(), **whole, **told))
    written += _draw_values(report, target, suffix, told)
    written += _draw_conditions(report, target, suffix, metric, chance, told)
    for table in (report.get("routing") or {}).get("tables", ()):
        file = target / f"routing_{_file_name(table['router'])}_{_file_name(table['by'])}.{suffix}"
        said = {"what": table.get("what", "share of the weight"), "by": table["by"], "note": told["note"]}
        said["title"] = f"{title}: {table['router']}"
        written.append(draw_routing(table["shares"], table["rows"], table["experts"], file, **said))
    return written


def _note(report: Mapping[str, Any]) -> str:
    """On what and on how many the pictures of a report are: "n = 60, 10 people, image_folder (synthetic)"."""
    data = report.get("data") or {}
    parts = [f"n = {report['metrics']['n']}"] if report["metrics"].get("n") is not None else []
    parts += [f"{data['identities']} people"] if data.get("identities") else []
    parts += [f"{data['corpus']}{' (synthetic)' if data.get('synthetic') else ''}"] if data.get("corpus") else []
    if origin := (report.get("checkpoint") or {}).get("training_data"):
        parts.append(f"trained on {origin} data")
    return ", ".join(parts)


def _draw_values(report: Mapping[str, Any], folder: Path, suffix: str, told: Mapping[str, Any]) -> list[Path]:
    """Answers over ratings, and, of ratings over time, the recording whose error is the median of all, with its band."""
    file = folder / "predictions.csv"
    names = [str(name) for name in report.get("targets") or ()]
    if report.get("kind") != "regression" or not names or not file.is_file():
        return []
    rows: dict[str, list[list[float]]] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        columns = next(reader)
        for sample, *cells in reader:
            rows.setdefault(sample, []).append([float(cell) if cell else math.nan for cell in cells])
    over_time = columns[1] == "time_s"
    parts = [np.asarray(own, np.float64) for own in rows.values()]
    if not over_time:  # windows of a recording that has one rating: their mean is its answer
        shares = [part[:, -1] if len(columns) % 2 else None for part in parts]
        parts = [np.average(part, axis=0, weights=own, keepdims=True) for part, own in zip(parts, shares, strict=True)]
    whole, written = np.concatenate(parts), []
    errors: dict[str, tuple[float, float]] = {}
    for place, name in enumerate(names):
        truth, answers = whole[:, 1 + 2 * place], whole[:, 2 + 2 * place]
        known = np.isfinite(truth)
        if not known.any():
            continue
        low, high = np.quantile((truth - answers)[known], [0.025, 0.975])
        errors[name] = (float(low), float(high))
        key = f"ccc_{name}" if f"ccc_{name}" in report["metrics"] else "ccc"
        figure = {"ccc": report["metrics"].get(key), "interval": (report.get("confidence_intervals") or {}).get(key)}
        place_of = folder / f"scatter_{_file_name(name)}.{suffix}"
        written.append(draw_scatter(truth, answers, place_of, target=name, **figure, **told))
    if over_time and errors:
        sizes = [
            float(np.nanmean((part[:, 1::2] - part[:, 2::2]) ** 2)) if len(part) > 1 else math.nan for part in parts
        ]
        order = [place for place in np.argsort(sizes) if np.isfinite(sizes[place])]
        if order:
            middle = int(order[len(order) // 2])
            shown, name = parts[middle], list(rows)[middle]
            places = {one: place for place, one in enumerate(names) if one in errors}
            rated, answered = ({one: shown[:, at + 2 * place] for one, place in places.items()} for at in (1, 2))
            said = {**told, "title": f"{told['title']}: {name}, of median error"}
            file = folder / f"over_time.{suffix}"
            written.append(draw_over_time(shown[:, 0], rated, answered, file, errors=errors, **said))
    return written


def _draw_conditions(
    report: Mapping[str, Any], folder: Path, suffix: str, metric: str, chance: float | None, told: Mapping[str, Any]
) -> list[Path]:
    """One picture per family of conditions, "delay/eda" being the curve "eda" in the picture "delay"; values in words are bars."""
    pictures: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for entry in report.get("conditions") or ():
        family, _, curve = entry["family"].partition("/")
        pictures.setdefault(family, {}).setdefault(curve or family, []).append(entry)
    clean, written = report["metrics"].get(metric), []
    for family, curves in pictures.items():
        entries = [entry for own in curves.values() for entry in own]
        file = folder / f"degradation_{_file_name(family)}.{suffix}"
        said = {"metric": metric.upper(), "clean": clean, "title": f"{told['title']}: {family}", "note": told["note"]}
        if any(isinstance(entry["value"], str) for entry in entries):
            values = {str(entry["value"]): entry["metrics"].get(metric) for entry in entries}
            written.append(draw_bars(values, file, **said))
            continue
        drawn = {}
        for curve, own in curves.items():
            rising = sorted(own, key=lambda entry: entry.get("realised", entry["value"]))
            levels = [entry.get("realised", entry["value"]) for entry in rising]
            if len(levels) > 1:
                values = [entry["metrics"].get(metric) for entry in rising]
                drawn[curve] = {
                    "levels": levels,
                    "values": values,
                    "intervals": [one.get("interval") for one in rising],
                }
        if drawn:
            unit = entries[0].get("unit")
            level = f"{family} ({unit})" if unit else family
            written.append(draw_degradation(drawn, file, level=level, chance=chance, **said))
    return written


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text.lower())
