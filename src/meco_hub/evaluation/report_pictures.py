"""The pictures of a report: whatever it has, as PNG files beside it.

    write_pictures(read_report("out/report.json"), "out")

This file knows the keys of report.json; how pictures look is in `pictures.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .pictures import draw_bars, draw_confusion, draw_degradation, draw_reliability, draw_routing


def write_pictures(report: Mapping[str, Any], folder: str | Path, *, metric: str = "") -> list[Path]:
    """Draw whatever a report has: `confusion.png`, `reliability.png`, `degradation_<family>.png`, `routing_<table>.png`.

    Args:
        report: as `report.json` holds it.
        folder: where to.
        metric: the figure of degradation curves; by default UAR for classes and CCC for values.

    Raises:
        DependencyError: matplotlib is missing.
    """
    target, written = Path(folder), []
    name = str(report.get("checkpoint", {}).get("name", ""))
    matrix, reliability = report.get("confusion_matrix"), report.get("reliability")
    if matrix:
        written.append(draw_confusion(matrix["counts"], matrix["labels"], target / "confusion.png", title=name))
    if reliability:
        ece = report["metrics"].get("ece")
        written.append(draw_reliability(reliability["bins"], target / "reliability.png", ece=ece, title=name))
    written += _draw_conditions(
        report, target, metric or ("ccc" if report.get("kind") == "regression" else "uar"), name
    )
    for table in (report.get("routing") or {}).get("tables", ()):
        file = target / f"routing_{_file_name(table['router'])}_{_file_name(table['by'])}.png"
        written.append(
            draw_routing(
                table["shares"],
                table["rows"],
                table["experts"],
                file,
                what=table.get("what", "share of the weight"),
                by=table["by"],
                title=f"{name}: {table['router']}",
            )
        )
    return written


def _draw_conditions(report: Mapping[str, Any], folder: Path, metric: str, name: str) -> list[Path]:
    """One picture per family of conditions, "delay/eda" being the curve "eda" in the picture "delay"; values in words are bars."""
    pictures: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for entry in report.get("conditions") or ():
        family, _, curve = entry["family"].partition("/")
        pictures.setdefault(family, {}).setdefault(curve or family, []).append(entry)
    clean, written = report["metrics"].get(metric), []
    for family, curves in pictures.items():
        entries = [entry for own in curves.values() for entry in own]
        file, title = folder / f"degradation_{_file_name(family)}.png", f"{name}: {family}"
        if any(isinstance(entry["value"], str) for entry in entries):
            values = {str(entry["value"]): entry["metrics"].get(metric) for entry in entries}
            written.append(draw_bars(values, file, metric=metric.upper(), clean=clean, title=title))
            continue
        drawn = {}
        for curve, own in curves.items():
            rising = sorted(own, key=lambda entry: entry.get("realised", entry["value"]))
            levels = [entry.get("realised", entry["value"]) for entry in rising]
            if len(levels) > 1:
                drawn[curve] = {"levels": levels, "values": [entry["metrics"].get(metric) for entry in rising]}
        if drawn:
            unit = entries[0].get("unit")
            level = f"{family} ({unit})" if unit else family
            written.append(draw_degradation(drawn, file, metric=metric.upper(), level=level, clean=clean, title=title))
    return written


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text.lower())
