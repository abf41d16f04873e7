"""A comparison as a table that can be read or printed: terminal, csv, Markdown, LaTeX with booktabs; and its curves.

Every form but csv holds the same cells: mean ± SD, difference with interval, p; and a table below for each family of conditions, by
model and strength. csv holds the numbers, a column each. The caption says what the figures are of: corpus, protocol, folds, people,
samples, seeds, and what is tested.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from ..csv_files import write_rows
from ..evaluation.pictures import draw_bars, draw_degradation
from .plan import file_name
from .statistics import Figure, Row, Summary, metric_name

_LATEX = {mark: f"\\{mark}" for mark in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "…": r"\ldots{}"}
_LATEX |= {"±": r"$\pm$", "−": r"$-$", "<": r"$<$", ">": r"$>$", "Δ": r"$\Delta$", "|": r"\textbar{}"}
_LATEX |= {"[": "{[}", "*": "{*}"}  # at the beginning of a line they would be read with the end of the one above


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
        f"{summary.corpus}, {protocol}, {fold_count} fold{'s' if fold_count > 1 else ''}: "
        f"n = {summary.people} people, {summary.samples} samples.",
        f"Mean over folds{'; ± SD over the seeds ' + ', '.join(map(str, seeds)) if len(seeds) > 1 else f', seed {seeds[0]}'}.",
    ]
    if division["claims"] and division["claims"]["leaky"]:
        told.append("The protocol is leaky: figures are a diagnosis only.")
    if division["leaks"]:
        told.append(f"The folds leak, and figures may be too good: {'; '.join(division['leaks'])}.")
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


def condition_tables(summary: Summary) -> list[tuple[str, list[list[str]]]]:
    """Caption and cells of each family of conditions: a row a model, a column a strength as it was asked for."""
    found = []
    for family, models in summary.curves.items():
        asked = list(dict.fromkeys(level for own in models.values() for level in own["asked"]))
        table = [["model", *(level if isinstance(level, str) else f"{level:g}" for level in asked)]]
        for model, own in models.items():
            known = dict(zip(own["asked"], own["values"], strict=True))
            values = [known.get(level) for level in asked]
            table.append([model, *("–" if value is None else _number(value) for value in values)])
        unit = f" ({summary.units[family]})" if family in summary.units else ""
        metric = metric_name(summary.curve_metric)
        found.append((f"{metric[0].upper()}{metric[1:]} under {family}{unit}; means as above.", table))
    return found


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of even width."""
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def terminal(summary: Summary) -> list[str]:
    """Lines with columns of even width, captions below."""
    lines = [*_columns(cells(summary)), "", caption(summary)]
    for said, table in condition_tables(summary):
        lines += ["", *_columns(table), "", said]
    return lines


def markdown(summary: Summary) -> str:
    """Tables of Markdown, captions below them."""
    lines = []
    for said, table in [(caption(summary), cells(summary)), *condition_tables(summary)]:
        rows = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in table]
        lines += [rows[0], "|" + "---|" * len(table[0]), *rows[1:], "", said, ""]
    return "\n".join(lines)


def latex(summary: Summary) -> str:
    r"""A `table` with booktabs for each; the document needs \usepackage{booktabs}."""
    label = f"{summary.division['corpus']}-{summary.division['protocol']}"
    parts = ["% needs \\usepackage{booktabs}", _latex_table(cells(summary), caption(summary), label)]
    for family, (said, table) in zip(summary.curves, condition_tables(summary), strict=True):
        parts.append(_latex_table(table, said, f"{label}-{family}"))
    return "\n".join([*parts, ""])


def _latex_table(table: Sequence[Sequence[str]], said: str, label: str) -> str:
    rows = [" & ".join(map(escape, line)) + r" \\" for line in table]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(said)}}}",
            rf"\label{{tab:{file_name(label).lower().replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{'l' * len(table[0])}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def csv_text(summary: Summary) -> str:
    """The numbers, a row a model; an empty cell where there is none."""
    stream = io.StringIO(newline="")
    parts = [f"{metric}_{part}" for metric in summary.metrics for part in ("mean", "sd")]
    compared = ["metric", "people", "mean", "low", "high", "p", "p_holm"]
    head = ["model", "runs", *parts, *(f"difference_{part}" for part in compared), "note"]
    lines = []
    drawn = ["synthetic rows"] * summary.division["synthetic"]  # a csv has no caption that would say so
    for row in summary.rows:
        numbers = [getattr(row.figures[metric], part) for metric in summary.metrics for part in ("mean", "sd")]
        differences = [getattr(row.difference, part) if row.difference else None for part in compared]
        lines.append([row.model, row.cells, *numbers, *differences, "; ".join([*drawn, *row.notes])])
    write_rows(stream, head, lines)
    return stream.getvalue()


def draw_curves(summary: Summary, folder: Path, suffix: str = "png") -> list[Path]:
    """One picture for each family of conditions, all models in it; a picture a model where the conditions have no order."""
    written, metric = [], metric_name(summary.curve_metric)
    title = f"{summary.corpus}, n = {summary.people} people"
    for family, models in summary.curves.items():
        name = file_name(family)
        if any(isinstance(level, str) for own in models.values() for level in own["levels"]):
            for model, own in models.items():
                values = dict(zip(map(str, own["levels"]), own["values"], strict=True))
                file = folder / f"{name}_{file_name(model)}.{suffix}"
                written.append(draw_bars(values, file, metric=metric, title=f"{title}: {model}"))
            continue
        curves = {model: _rising(own) for model, own in models.items()}
        level = f"{family} ({summary.units[family]})" if family in summary.units else family
        said = {"metric": metric, "level": level, "chance": summary.chance, "title": title}
        written.append(draw_degradation(curves, folder / f"{name}.{suffix}", **said))
    return written


def _rising(curve: dict[str, list]) -> dict[str, Sequence]:
    pairs = sorted(zip(curve["levels"], curve["values"], strict=True), key=lambda pair: pair[0])
    return {"levels": [level for level, _ in pairs], "values": [value for _, value in pairs]}
