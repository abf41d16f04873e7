"""Tables and sentences of a card, out of a report and a run's record."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.report_file import METRIC_NAMES
from ..plugins import Architecture
from .card_notes import CardNotes, Figures, Source

_HEADLINE = ("uar", "war", "macro_f1", "auroc", "macro_auroc", "ovo_auroc", "rmse", "mae", "ccc", "pcc")
_GAPS = ("uar", "macro_auroc", "rmse", "ccc")
_SOURCES = {
    "model_name_or_path": "started from",
    "backbone_weights": "backbone started from",
    "soft_labels_of": "learnt from the answers of",
}
"""Recipe key → how a card names what a training was given beside data."""

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
    drawn = "synthetic " if data.get("synthetic") and "synthetic" not in dataset.lower() else ""
    text = f"{dataset[:1].upper()}{dataset[1:]}, {tested_split(data)}: {number(data['samples'])} {drawn}samples"
    if data.get("identities"):
        text += f" of {number(data['identities'])} {'drawn ' if data.get('synthetic') else ''}people"
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
    if selective := report.get("selective"):
        half = next(one for one in selective["curve"] if one["coverage"] >= 0.5)
        sentences.append(
            f"Answering only for the surest {half['coverage']:.0%} leaves {half['risk']:.3f} of the answers wrong, instead of "
            f"{selective['curve'][-1]['risk']:.3f}; area under the risk–coverage curve (AURC) {selective['aurc']:.3f}."
        )
        if known := selective.get("with_warnings"):
            sentences.append(_sentence_of_warnings(known, report["metrics"]["n"]))
    return sentences


def _sentence_of_warnings(known: Mapping[str, Any], samples: int) -> str:
    """What answering last for inputs that have a warning does to selective answers."""
    if not known["warned"]:
        return f"None of the {samples} inputs has a warning."
    codes = ", ".join(f"`{code}` {count}" for code, count in known["codes"].items())
    return (
        f"{known['warned']} of {samples} inputs have a warning ({codes}), and {known['warned_risk']:.3f} of the answers to them "
        f"are wrong; with these answered last, AURC is {known['aurc']:.3f}."
    )


def figures_table(report: Mapping[str, Any]) -> str:
    """Every figure of the headline, with its interval where there is one."""
    intervals = report.get("confidence_intervals") or {}
    rows = []
    for key, value in report["metrics"].items():
        if value is None:  # undefined here, or not in an older report
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
    within = dict.fromkeys(key for row in named.values() for key in row if "_within_" in key)
    keys = [key for key in ("n", *_HEADLINE, *within) if any(row.get(key) is not None for row in named.values())]
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
        if any(one.get("same_label") is not None for one in report["conditions"]):
            head = [*head, "same label"]
            rows = [[*row, number(one.get("same_label"))] for row, one in zip(rows, report["conditions"], strict=True)]
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
    for side, words in (("train", "Training"), ("beside", "Training, too"), ("validation", "Validation")):
        part = data.get(side)
        if not part:
            continue
        source = part if "corpus" in part else data
        drawn = "drawn " if source.get("synthetic") else ""
        people = f" of {number(part['identities'])} {drawn}people" if part.get("identities") else ""
        classes = ", ".join(f"{name} {number(count)}" for name, count in (part.get("classes") or {}).items())
        corpus = f"{'synthetic ' if drawn else ''}corpus `{source['corpus']}` (`{source.get('name')}`)"
        lines.append(
            f"{words}: {number(part['samples'])} samples{people} of {corpus}" + (f": {classes}." if classes else ".")
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
    start = [f"{words} `{recipe[key]}`" for key, words in _SOURCES.items() if recipe.get(key) not in _NOT_ASKED]
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
    figures = ", ".join(
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
    return f"On the {samples} that the training left out as validation, {worth}: {figures} (`run.json`)."


# The head of a card that the Hub reads: licence, tags, data, and every figure of the report as `model-index`.
#
#     metrics, per_class     of the whole data
#     groups                 `dataset_config`: "lighting = Low"
#     conditions             `dataset_config`: "condition: blur/2"
#     levels, runs           `dataset_config`: "level: window, pooled", "mean of 20 runs"
#
# References (the training mean, an oracle) are figures of other predictors and stay out: `model-index` is about this model.

TAGS = ("emotion-recognition", "meco")

_NATIVE_TAGS = {
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForVideoClassification": "video-classification",
    "AutoModelForAudioClassification": "audio-classification",
}

_HUB_NAMES = {
    "uar": "recall",
    "war": "accuracy",
    "macro_f1": "f1",
    "auroc": "roc_auc",
    "macro_auroc": "roc_auc",
    "ovo_auroc": "roc_auc",
    "brier": "brier_score",
    "pcc": "pearsonr",
}
_DATA = ("picture", "image", "frame", "event", "video", "clip", "signal", "recording")
"""Words in the role of a source that make it the data set itself, rather than its labels or what helped."""


def metric_name(key: str) -> str:
    """How a metric's key is written: "RMSE, valence" for "rmse_valence"."""
    if key in METRIC_NAMES:
        return METRIC_NAMES[key]
    stem, within, place = key.partition("_within_")
    if within and stem in METRIC_NAMES:
        return f"{METRIC_NAMES[stem]} within one {place.replace('_', ' ')}"
    stem, _, target = key.partition("_")
    return f"{METRIC_NAMES[stem]}, {target}" if stem in METRIC_NAMES and target else key.replace("_", " ")


def pipeline_tag(entry: Architecture, regression: bool) -> str:
    """The Hub's own task that comes nearest. For signals it has none; their samples are columns of numbers."""
    for head in entry.native_heads:
        if head in _NATIVE_TAGS:
            return _NATIVE_TAGS[head]
    return "tabular-regression" if regression else "tabular-classification"


def _named(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The metrics of a row, without the counts and the words that stand among them."""
    return ((key, value) for key, value in row.items() if key in METRIC_NAMES or key.partition("_")[0] in METRIC_NAMES)


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, str | None, dict[str, Any] | None]]:
    """(key, name, value, dataset_config, metric_args) of every figure of the model in a report."""
    intervals = report.get("confidence_intervals") or {}
    how = {key: intervals[key] for key in ("level", "method", "unit") if key in intervals}
    for key, value in report["metrics"].items():
        given = intervals.get(key)
        yield key, metric_name(key), value, None, {"confidence_interval": given, **how} if given else None
    for label, row in (report.get("per_class") or {}).items():
        for key, value in row.items():
            yield key, f"{key} of {label}", value, f"class: {label}", None
    for column, group in (report.get("groups") or {}).items():
        for value, row in group["values"].items():
            for key, number in _named(row):
                yield key, metric_name(key), number, f"{column} = {value or 'unknown'}", None
    for one in report.get("conditions") or []:
        for key, number in one["metrics"].items():
            yield key, metric_name(key), number, f"condition: {one['condition']}", None
    for level, aggregates in (report.get("levels") or {}).items():
        for aggregate, row in (aggregates or {}).items():
            for key, number in _named(row if isinstance(row, Mapping) else {}):
                yield key, metric_name(key), number, f"level: {level}, {aggregate}", None
    runs = report.get("runs") or {}
    for key, number in (runs.get("mean") or {}).items():
        spread = {"standard_deviation": (runs.get("sd") or {}).get(key)}
        yield key, metric_name(key), number, f"mean of {runs['count']} runs with other clips", spread


def tested_split(data: Mapping[str, Any]) -> str:
    """Which part of a corpus a report is about, in words."""
    folds, split, protocol = data.get("folds"), data.get("split"), data.get("protocol") or {}
    parts = [f"split {split}"] if split else []
    if folds:
        parts.append(f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}")
    if protocol.get("fold") is not None:
        parts.append(f"fold {protocol['fold']} of protocol {protocol['name']}")
    return ", ".join(parts) or "all of it"


def eval_results(
    report: Mapping[str, Any] | None, notes: CardNotes, run: Mapping[str, Any] | None, tag: str
) -> list[EvalResult]:
    """Every figure of these weights, as the Hub's metadata has them; figures of other weights of the recipe are not among them."""
    results = []

    def add(key: str, name: str, value: Any, **where: Any) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):  # an undefined figure (null) is no result
            task = {"task_type": tag, "task_name": "Emotion recognition"}
            results.append(EvalResult(metric_type=key, metric_name=name, metric_value=value, **task, **where))

    if report is not None:
        corpus = report["data"]["corpus"]
        where = {
            "dataset_type": corpus,
            "dataset_name": (notes.evaluation.dataset if notes.evaluation else "") or corpus,
            "dataset_split": tested_split(report["data"]),
        }
        for key, name, value, config, extra in _figures(report):
            add(key, name, value, dataset_config=config, metric_args=extra, **where)
    if run is not None and chose_nothing(run):
        for key, value in run["validation"].items():
            corpus = run["data"]["corpus"]
            add(
                key, metric_name(key), value, dataset_type=corpus, dataset_name=run["data"].get("name") or corpus,
                dataset_split="left out of training, chose nothing",
            )  # fmt: skip
    for figures in notes.figures:
        if figures.of == "checkpoint":
            for name, row in figures.rows.items():
                for column, value in zip(figures.columns, row, strict=True):
                    add(
                        slug(column), column, value, dataset_type=slug(figures.dataset), dataset_name=figures.dataset,
                        dataset_config=f"{figures.title}: {name}",
                    )  # fmt: skip
    return results


def chose_nothing(run: Mapping[str, Any]) -> bool:
    """The people left out of a training decided neither which weights were kept nor anything about their answers."""
    return (
        bool(run.get("validation"))
        and (run.get("selection") or {}).get("criterion") == "last"
        and not run.get("operating_point")
        and not run.get("calibration")
    )


def slug(text: str) -> str:
    """A name as the Hub likes them: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def build_metadata(
    entry: Architecture,
    notes: CardNotes,
    name: str,
    config: Mapping[str, Any],
    synthetic: bool,
    control: str | None,
    report: Mapping[str, Any] | None,
    run: Mapping[str, Any] | None,
) -> ModelCardData:
    """The card's head.

    A control has no results here: whoever lists models by their figures would list it among them.

    `datasets` holds ids where card.yaml gives them, and otherwise the data's own names: they lie nowhere on the Hub.
    """
    tag = pipeline_tag(entry, config.get("problem_type") == "regression")
    results = [] if control else eval_results(report, notes, run, tag)
    datasets = [
        source.hub_id or slug(source.name)
        for source in notes.training_data.sources
        if source.hub_id or any(word in source.role for word in _DATA)
    ]
    keys = [result.metric_type for result in results] + [slug(c) for figures in notes.figures for c in figures.columns]
    metrics = dict.fromkeys(_HUB_NAMES.get(key, key) for key in keys if key in METRIC_NAMES and key != "n")
    tags = [*TAGS, *(["synthetic"] if synthetic else []), *(["control"] if control else []), *notes.tags]
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag=tag,
        license=notes.licence or None,
        license_name=notes.licence_name or None,
        license_link=notes.licence_link or None,
        base_model=list(notes.base_model) or None,
        datasets=list(dict.fromkeys(datasets)) or None,
        metrics=list(metrics) or None,
        tags=list(dict.fromkeys(tags)),
        eval_results=results or None,
    )
