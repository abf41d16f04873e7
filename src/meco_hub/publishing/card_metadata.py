"""The head of a card that the Hub reads: licence, tags, data, and every figure of the report as `model-index`.

    metrics, per_class     of the whole data
    groups                 `dataset_config`: "lighting = Low"
    conditions             `dataset_config`: "condition: blur/2"
    levels, runs           `dataset_config`: "level: window, pooled", "mean of 20 runs"

References (the training mean, an oracle) are figures of other predictors and stay out: `model-index` is about this model.

This file knows the Hub's metadata and the keys of a report; it writes no prose.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..plugins import Architecture
from .card_notes import CardNotes

TAGS = ("emotion-recognition", "meco")

_NATIVE_TAGS = {
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForVideoClassification": "video-classification",
    "AutoModelForAudioClassification": "audio-classification",
}

NAMES = {
    "n": "answered samples",
    "uar": "UAR (mean recall of the classes)",
    "war": "WAR (accuracy)",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "ece": "expected calibration error",
    "mce": "maximum calibration error",
    "brier": "Brier score",
    "cross_entropy": "cross-entropy (nats)",
    "rmse": "RMSE",
    "mae": "MAE",
    "ccc": "CCC",
    "pcc": "PCC",
}
"""Metric → how it is written in a card."""

_HUB_NAMES = {
    "uar": "recall",
    "war": "accuracy",
    "macro_f1": "f1",
    "auroc": "roc_auc",
    "macro_auroc": "roc_auc",
    "brier": "brier_score",
    "pcc": "pearsonr",
}
_DATA = ("picture", "image", "frame", "event", "video", "clip", "signal", "recording")
"""Words in the role of a source that make it the data set itself, rather than its labels or what helped."""


def metric_name(key: str) -> str:
    """How a metric's key is written: "RMSE, valence" for "rmse_valence"."""
    if key in NAMES:
        return NAMES[key]
    stem, _, target = key.partition("_")
    return f"{NAMES[stem]}, {target}" if stem in NAMES and target else key.replace("_", " ")


def pipeline_tag(entry: Architecture, regression: bool) -> str:
    """The Hub's own task that comes nearest. For signals it has none; their samples are columns of numbers."""
    for head in entry.native_heads:
        if head in _NATIVE_TAGS:
            return _NATIVE_TAGS[head]
    return "tabular-regression" if regression else "tabular-classification"


def _named(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The metrics of a row, without the counts and the words that stand among them."""
    return ((key, value) for key, value in row.items() if key in NAMES or key.partition("_")[0] in NAMES)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, str | None, dict[str, Any] | None]]:
    """(key, name, value, dataset_config, metric_args) of every figure that a report tells of the model."""
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
        if _number(value):  # an undefined figure (null) is no result
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
    *,
    regression: bool,
    synthetic: bool,
    control: str | None,
    report: Mapping[str, Any] | None,
    run: Mapping[str, Any] | None,
) -> ModelCardData:
    """The card's head.

    A control has no results here: whoever lists models by their figures would list it among them.

    `datasets` holds ids where card.yaml gives them, and otherwise the data's own names: they lie nowhere on the Hub.
    """
    tag = pipeline_tag(entry, regression)
    results = [] if control else eval_results(report, notes, run, tag)
    datasets = [
        source.hub_id or slug(source.name)
        for source in notes.training_data.sources
        if source.hub_id or any(word in source.role for word in _DATA)
    ]
    keys = [result.metric_type for result in results] + [slug(c) for figures in notes.figures for c in figures.columns]
    metrics = dict.fromkeys(_HUB_NAMES.get(key, key) for key in keys if key in NAMES and key != "n")
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
