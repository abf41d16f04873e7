"""A comparison as a table that can be read or printed: terminal, csv, Markdown, LaTeX with booktabs; and its curves.

Every form but csv holds the same cells: mean ± SD, difference with interval, p. csv holds the numbers, a column each. The
caption says what the figures are of: corpus, protocol, folds, people, samples, seeds, and what is tested.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from ..csv_files import write_rows
from ..evaluation.pictures import draw_bars, draw_degradation
from ..evaluation.report_file import METRIC_NAMES
from .plan import file_name
from .statistics import Figure, Row, Summary

_LATEX = {mark: f"\\{mark}" for mark in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "…": r"\ldots{}"}
_LATEX |= {"±": r"$\pm$", "−": r"$-$", "<": r"$<$", "Δ": r"$\Delta$"}


def metric_name(metric: str) -> str:
    """A metric's name for people: "AUROC within session minute"."""
    stem, _, rest = metric.partition("_within_")
    words = METRIC_NAMES.get(stem, stem.replace("_", " ")).partition(" (")[0]
    return f"{words} within {rest.replace('_', ' ')}" if rest else words


def escape(text: str) -> str:
    """A text as LaTeX prints it."""
    return text.translate(str.maketrans(_LATEX))


def caption(summary: Summary) -> str:
    """What the figures of a table are of, in sentences."""
    division, fold_count = summary.division, len(summary.division["folds"])
    unit = division["claims"]["unit"] if division["claims"] else ""
    protocol = f"protocol {division['protocol']}" + (f" ({unit})" if unit else "")
    seeds = division["seeds"]
    told = [
        f"{division['corpus']}, {protocol}, {fold_count} fold{'s' if fold_count > 1 else ''}: "
        f"n = {summary.people} people, {summary.samples} samples.",
        f"Mean over folds{'; ± SD over the seeds ' + ', '.join(map(str, seeds)) if len(seeds) > 1 else f', seed {seeds[0]}'}.",
    ]
    if division["claims"] and division["claims"]["leaky"]:
        told.append("The protocol is leaky: figures are a diagnosis only.")
    if any(row.difference for row in summary.rows) and summary.compared is not None:
        told.append(
            f"Δ: {metric_name(summary.compared)} minus that of {division['reference']}, mean over people with its 95 % interval "
            "(jackknife, t); p of the Wilcoxon signed-rank test over people, Holm-corrected."
        )
    return " ".join(told)


def cells(summary: Summary) -> list[list[str]]:
    """The table as text, its first row the heads."""
    compares = any(row.difference for row in summary.rows)
    notes = any(row.notes for row in summary.rows)
    heads = ["model", *map(metric_name, summary.metrics)]
    heads += ["Δ [95 %]", "p"] if compares else []
    table = [heads + (["note"] if notes else [])]
    for row in summary.rows:
        line = [row.model, *(_mean(row.figures[metric]) for metric in summary.metrics)]
        line += _difference(row) if compares else []
        table.append(line + (["; ".join(row.notes)] if notes else []))
    return table


def _mean(figure: Figure) -> str:
    if figure.mean is None:
        return "–"
    spread = "" if figure.sd is None else f" ± {figure.sd:.3f}"
    return f"{_number(figure.mean)}{spread}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


def _difference(row: Row) -> list[str]:
    found = row.difference
    if found is None:
        return ["", ""]
    if found.mean is None:
        return ["–", "–"]
    between = ""
    if found.low is not None and found.high is not None:
        between = f" [{_number(found.low, '+')}, {_number(found.high, '+')}]"
    p = "–" if found.p_holm is None else "<0.001" if found.p_holm < 0.001 else f"{found.p_holm:.3f}"
    return [_number(found.mean, "+") + between, p]


def terminal(summary: Summary) -> list[str]:
    """Lines with columns of even width, the caption last."""
    table = cells(summary)
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return [*lines, "", caption(summary)]


def markdown(summary: Summary) -> str:
    """A table of Markdown, the caption below it."""
    table = [[cell.replace("|", r"\|") for cell in line] for line in cells(summary)]
    rows = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([rows[0], "|" + "---|" * len(table[0]), *rows[1:], "", caption(summary), ""])


def latex(summary: Summary) -> str:
    r"""A `table` with booktabs; the document needs \usepackage{booktabs}."""
    table = [[escape(cell) for cell in line] for line in cells(summary)]
    rows = [" & ".join(line) + r" \\" for line in table]
    label = file_name(f"{summary.division['corpus']}-{summary.division['protocol']}").lower()
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption(summary))}}}",
            rf"\label{{tab:{label.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{'l' * len(table[0])}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv_text(summary: Summary) -> str:
    """The numbers, a row a model; an empty cell where there is none."""
    stream = io.StringIO(newline="")
    parts = [f"{metric}_{part}" for metric in summary.metrics for part in ("mean", "sd")]
    compared = ["metric", "people", "mean", "low", "high", "p", "p_holm"]
    head = ["model", "runs", *parts, *(f"difference_{part}" for part in compared), "note"]
    lines = []
    for row in summary.rows:
        numbers = [getattr(row.figures[metric], part) for metric in summary.metrics for part in ("mean", "sd")]
        differences = [getattr(row.difference, part) if row.difference else None for part in compared]
        lines.append([row.model, row.cells, *numbers, *differences, "; ".join(row.notes)])
    write_rows(stream, head, lines)
    return stream.getvalue()


def draw_curves(summary: Summary, folder: Path) -> list[Path]:
    """One picture for each family of conditions, all models in it; a picture a model where the conditions have no order."""
    written, metric = [], summary.curve_metric.upper()
    title = f"{summary.division['corpus']}, n = {summary.people} people"
    for family, models in summary.curves.items():
        name = file_name(family)
        if any(isinstance(level, str) for own in models.values() for level in own["levels"]):
            for model, own in models.items():
                values = dict(zip(map(str, own["levels"]), own["values"], strict=True))
                file = folder / f"{name}_{file_name(model)}.png"
                written.append(draw_bars(values, file, metric=metric, title=f"{title}: {model}"))
            continue
        curves = {model: _rising(own) for model, own in models.items()}
        level = f"{family} ({summary.units[family]})" if family in summary.units else family
        written.append(draw_degradation(curves, folder / f"{name}.png", metric=metric, level=level, title=title))
    return written


def _rising(curve: dict[str, list]) -> dict[str, Sequence]:
    pairs = sorted(zip(curve["levels"], curve["values"], strict=True), key=lambda pair: pair[0])
    return {"levels": [level for level, _ in pairs], "values": [value for _, value in pairs]}
