"""Tables and sentences of a card, out of a report and a run's record.

This file knows how figures are written in a card: three decimals, thousands separated, and nothing where nothing was measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .card_metadata import chose_nothing, metric_name, tested_split
from .card_notes import Figures, Source

_HEADLINE = ("uar", "war", "macro_f1", "auroc", "macro_auroc", "rmse", "mae", "ccc", "pcc")
_GAPS = ("uar", "macro_auroc", "rmse", "ccc")
_NOT_ASKED = (None, [], {}, "")


def number(value: Any) -> str:
    """A figure as a card writes it."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def one_item(text: str) -> str:
    """A list item's text, its further lines indented below its first."""
    return "\n  ".join(text.strip().splitlines())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )


def tested_sentence(report: Mapping[str, Any], dataset: str) -> str:
    """On what and on whom the figures of a report are."""
    data, intervals = report["data"], report.get("confidence_intervals")
    text = f"{dataset[:1].upper()}{dataset[1:]}, {tested_split(data)}: {number(data['samples'])} samples"
    if data.get("identities"):
        text += f" of {number(data['identities'])} people"
    seen = data.get("seen")
    if seen:
        text += f"; {seen['trained_on']} of these people were in training, {seen['selected_by']} in validation"
    text += "."
    if intervals:
        unit = "people" if intervals["unit"] == "identity" else f"{intervals['unit']}s"
        text += f" In brackets: {intervals['level']:.0%} intervals, {intervals['method']} over {number(intervals['units'])} {unit}."
    return f"{text} meco_hub {report['versions']['meco_hub']}."


def adjustment_sentences(report: Mapping[str, Any]) -> list[str]:
    """What was done to the answers after training, and on which data it was chosen."""
    sentences = []
    point, calibration = report["checkpoint"].get("operating_point"), report.get("calibration")
    if point:
        floor = f", WAR at least {point['war_floor']}" if point.get("war_floor") is not None else ""
        sentences.append(
            f"Operating point: prior correction tau = {point['tau']} by the rule `{point['rule']}`{floor}, chosen on the "
            f"{point['chosen_on']}; it is part of the classifier's bias."
        )
    if calibration:
        fitted = f", fitted on {calibration['fitted_on']}" if calibration.get("fitted_on") else ""
        sentences.append(f"Answers are calibrated ({calibration.get('method', 'see config.json')}{fitted}).")
    return sentences


def figures_table(report: Mapping[str, Any]) -> str:
    """Every figure of the headline, with its interval where there is one."""
    intervals = report.get("confidence_intervals") or {}
    rows = []
    for key, value in report["metrics"].items():
        if value is None:  # undefined here, or not told by an older report
            continue
        between = intervals.get(key)
        text = number(value) + (f" [{number(between[0])}, {number(between[1])}]" if between else "")
        rows.append((metric_name(key), text))
    return table(("figure", "value"), rows)


def class_table(report: Mapping[str, Any]) -> str:
    """Recall, precision, F1 and number of samples of every class; empty for values."""
    classes = report.get("per_class") or {}
    if not classes:
        return ""
    rows = [
        (key, *(f"{row[key]:.2f}" if row[key] is not None else "–" for row in classes.values()))
        for key in ("recall", "precision", "f1")
    ]
    rows.append(("samples", *(str(row["support"]) for row in classes.values())))
    return table(("", *classes), rows)


def _metric_rows(named: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    keys = [key for key in ("n", *_HEADLINE) if any(row.get(key) is not None for row in named.values())]
    return [metric_name(key) for key in keys], [
        [name, *(number(row.get(key)) for key in keys)] for name, row in named.items()
    ]


def report_tables(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Captions and tables of what a report has beyond its headline: groups, references, runs, conditions."""
    tables = []
    for column, group in (report.get("groups") or {}).items():
        head, rows = _metric_rows({value or "unknown": row for value, row in group["values"].items()})
        gaps = "; ".join(
            f"{metric_name(key)} {number(gap['gap'])} ({gap['highest']} over {gap['lowest']})"
            for key, gap in (group.get("gaps") or {}).items()
            if gap and key in _GAPS
        )
        tables.append((f"By {column}." + (f" Largest gaps: {gaps}." if gaps else ""), table((column, *head), rows)))
    if report.get("references"):
        head, rows = _metric_rows(report["references"])
        tables.append(
            ("For comparison, predictors that are no model, on the same data:", table(("predictor", *head), rows))
        )
    runs = report.get("runs") or {}
    if runs:
        rows = [
            (metric_name(key), number(value), number(runs["sd"].get(key)))
            for key, value in runs["mean"].items()
            if key != "n"
        ]
        tables.append(
            (
                f"Over {runs['count']} runs with other clips of the same recordings:",
                table(("figure", "mean", "sd"), rows),
            )
        )
    if report.get("conditions"):
        head, rows = _metric_rows({one["condition"]: one["metrics"] for one in report["conditions"]})
        tables.append(("Under conditions that it was not evaluated for above:", table(("condition", *head), rows)))
    return tables


def notes_table(figures: Figures) -> str:
    """A table of card.yaml; a column has as many decimals as the value in it that has most."""
    columns = []
    for place in range(len(figures.columns)):
        column = [row[place] for row in figures.rows.values()]
        decimals = max((len(repr(one).partition(".")[2]) for one in column if isinstance(one, float)), default=0)
        columns.append([f"{one:,.{decimals}f}" if isinstance(one, float) else number(one) for one in column])
    return table(("", *figures.columns), [(name, *row) for name, *row in zip(figures.rows, *columns, strict=True)])


def describe_source(source: Source) -> str:
    """A source in a table's cell."""
    name = f"[{source.name}]({source.url})" if source.url else source.name
    return f"{name} ({source.citation})" if source.citation else name


def data_lines(run: Mapping[str, Any] | None) -> list[str]:
    """What the run's record says of the data it was trained on."""
    if not run:
        return []
    data, lines = run["data"], []
    for side, words in (("train", "Training"), ("validation", "Validation")):
        part = data.get(side)
        if not part:
            continue
        people = f" of {number(part['identities'])} people" if part.get("identities") else ""
        classes = ", ".join(f"{name} {number(count)}" for name, count in (part.get("classes") or {}).items())
        lines.append(
            f"{words}: {number(part['samples'])} samples{people} of corpus `{data['corpus']}` (`{data.get('name')}`)"
            + (f": {classes}." if classes else ".")
        )
    check = data.get("leak_check")
    if check:
        found = (
            "nothing found" if check["clean"] else f"FOUND: {len(check['overlaps'])} kinds of overlap, see `run.json`"
        )
        shared = sorted({note["kind"] for note in check.get("notes") or []})
        lines.append(
            f"Looked for people, recordings and contents on both sides: {found}."
            + (f" Shared on purpose: {', '.join(shared)}." if shared else "")
        )
    return lines


def training_lines(run: Mapping[str, Any] | None) -> list[str]:
    """How it was trained, and the command that does so again."""
    if not run:
        return []
    selection, hardware, versions = run.get("selection") or {}, run.get("hardware") or {}, run.get("versions") or {}
    criterion = selection.get("criterion")
    kept = f"kept by {criterion} on validation, epoch {selection.get('best_epoch')}"
    if criterion == "last":
        kept = "the last weights were kept"
    recipe = run.get("recipe") or {}
    start = [
        f"{words} `{recipe[key]}`"
        for key, words in (("model_name_or_path", "started from"), ("backbone_weights", "backbone started from"))
        if recipe.get(key) not in _NOT_ASKED
    ]
    return [
        *([str(recipe["description"]).rstrip(".") + "."] if recipe.get("description") else []),
        f"{number(run.get('epochs'))} epochs, {number(run.get('steps'))} steps, seed {run.get('seed')}; {kept}"
        + (f"; {', '.join(start)}." if start else "."),
        f"{number(round(run.get('seconds') or 0))} seconds on {hardware.get('processes', 1)} × "
        f"{hardware.get('device', 'unknown')}; "
        + ", ".join(f"{name} {versions[name]}" for name in ("meco_hub", "torch", "transformers") if name in versions)
        + ".",
        f"Again: `accelerate launch -m meco_hub.train --recipe recipe.yaml --data_dir {run['data'].get('name')} "
        "--output_dir out`, with the `recipe.yaml` beside the weights; `run.json` records the run.",
    ]


def validation_sentence(run: Mapping[str, Any] | None) -> str:
    """The figures of validation, and what they are worth."""
    if not run or not run.get("validation"):
        return ""
    part = run["data"].get("validation") or {}
    told = ", ".join(
        f"{metric_name(key)} {number(run['validation'][key])}"
        for key in _HEADLINE
        if run["validation"].get(key) is not None
    )
    people = f" of {number(part['identities'])} people" if part.get("identities") else ""
    worth = (
        "which chose nothing"
        if chose_nothing(run)
        else "on which the weights or what is done to their answers were chosen: these figures flatter"
    )
    samples = f"{number(part.get('samples'))} samples{people}"
    return f"On the {samples} that the training left out as validation, {worth}: {told} (`run.json`)."
