"""How well the recipes for CASE and Stress-Predict do on people they have never seen, beside simpler predictors.

    python benchmarks/signals_folds.py case --data_dir case_20hz.npz --output_dir out/case
    python benchmarks/signals_folds.py stress_predict --data_dir stress_predict.zip --output_dir out/stress

Every fold is left out once and every seed trains anew, by `meco_hub.train` and the recipe as it is; nothing is chosen by the fold
left out. Beside each figure stand a predictor that is told the film or the minute of the session and nothing else, and the figure
that it cannot have (`meco_hub.evaluation.nuisances`). Each run is evaluated on its fold as it is, without each of its streams in
turn, and under growing shares of missing streams and growing delays. On CASE an attention-GRU is trained on the same batches with
the same augmentation, and evaluated the same way, alone and as many averaged as the recipe's model has members. Runs that are
finished already are not made again, so an interrupted benchmark goes on where it was.

`docs/case.md` and `docs/stress_predict.md` say what came of it.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import signals_gru
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from meco_hub import plugins
from meco_hub.answers import Task
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.metrics import compute_metrics
from meco_hub.evaluation.nuisances import classes_within
from meco_hub.evaluation.pictures import draw_degradation
from meco_hub.evaluation.references import scaled_within, window_statistics
from meco_hub.evaluation.series import mean_ratings
from meco_hub.training.arguments import RunOptions
from meco_hub.training.construction import build
from meco_hub.training.loop import train
from meco_hub.training.recipes import Recipe, load_recipe

CONDITIONS = ("missing", "delay-unknown/all")


@dataclass(frozen=True)
class Protocol:
    """What is done with one corpus: its recipe, its folds, the figures of a row, and streams whose absence is tried."""

    recipe: str
    folds: tuple[int, ...]
    metrics: tuple[str, ...]
    streams: tuple[str, ...]  # in the processor's order


PROTOCOLS = {
    "case": Protocol(
        "meco_himoe/case",
        (0, 1, 2, 3),
        ("rmse", "ccc", "pcc_within_stimulus", "ccc_within_recording"),
        ("cardiac", "eda", "resp", "temp", "emg"),
    ),
    "stress_predict": Protocol(
        "meco_himoe/stress_predict",
        (0, 1, 2, 3, 4),
        ("balanced_accuracy", "auroc", "auroc_within_session_minute"),
        ("acc", "bvp", "eda", "temp", "hr", "ibi"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=sorted(PROTOCOLS))
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--recipe", help="instead of the committed one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="+", help="some of them")
    parser.add_argument("--normalization", help="another one than the recipe's: population")
    parser.add_argument("--no_conditions", action="store_true", help="only the figures on everything as it is")
    parser.add_argument("--no_gru", action="store_true", help="leave the attention-GRU out")
    arguments = parser.parse_args()
    protocol = PROTOCOLS[arguments.corpus]
    if arguments.recipe:
        protocol = replace(protocol, recipe=arguments.recipe)
    if arguments.folds:
        protocol = replace(protocol, folds=tuple(arguments.folds))
    conditions = () if arguments.no_conditions else (*CONDITIONS, *_one_missing(protocol.streams))
    changes = {} if arguments.normalization is None else {"processor.normalization": arguments.normalization}

    rows = {name: [] for name in ("training mean", "stimulus oracle", "session minute oracle", "Hi-MoE")}
    reports: dict[str, list[dict[str, Any]]] = {"Hi-MoE": []}
    for fold in protocol.folds:
        for seed in arguments.seeds:
            folder = arguments.output_dir / f"fold{fold}_seed{seed}"
            report = _himoe(arguments.corpus, protocol, fold, seed, arguments.data_dir, folder, conditions, changes)
            reports["Hi-MoE"].append(report | {"fold": fold, "seed": seed})
            rows["Hi-MoE"].append(report["metrics"])
            for name in ("training mean", "stimulus oracle", "session minute oracle"):
                found = (report.get("references") or {}).get(name.replace(" ", "_"))
                if found is not None:
                    rows[name].append(found)
    rows |= _references(arguments.corpus, protocol, arguments.data_dir)
    if arguments.corpus == "case" and not arguments.no_gru:
        many = load_recipe(protocol.recipe, changes).model.get("num_members", 1)
        for count in sorted({1, many}):
            name = "attention-GRU" if count == 1 else f"attention-GRU, {count} averaged"
            reports[name] = []
            for fold in protocol.folds:
                for seed in arguments.seeds:
                    folder = arguments.output_dir / f"gru{count}_fold{fold}_seed{seed}"
                    if not (folder / "report.json").is_file():
                        fair = changes | (_for_one(protocol, many) if count == 1 else {})
                        recipe = load_recipe(protocol.recipe, _changes(arguments.corpus, protocol, fold, seed) | fair)
                        signals_gru.train_and_try(recipe, arguments.data_dir, folder, fold, conditions, count)
                    reports[name].append(json.loads((folder / "report.json").read_text(encoding="utf-8")))
                    print(folder.name, round(reports[name][-1]["metrics"]["rmse"], 4), flush=True)
            rows[name] = [one["metrics"] for one in reports[name]]
    summary = {"rows": _print_rows(rows, protocol, arguments.seeds)}
    if conditions:
        summary |= _print_conditions(reports, protocol, arguments.output_dir)
    (arguments.output_dir / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")


def _one_missing(streams: Sequence[str]) -> list[str]:
    """Names of the conditions in which one stream is gone; `signal_conditions` joins the others in the processor's order."""
    return [f"present/{'+'.join(one for one in streams if one != gone)}" for gone in streams]


def _changes(corpus: str, protocol: Protocol, fold: int, seed: int) -> dict[str, Any]:
    """What departs from the recipe: which fold is left out, and the seed."""
    everything = PROTOCOLS[corpus].folds
    return {"data.train.folds": [one for one in everything if one != fold], "seed": seed, "data.validation.seed": seed}


def _for_one(protocol: Protocol, members: int) -> dict[str, Any]:
    """Batches and passes of one network where the recipe's are for several, so that it sees what each of those sees."""
    recipe = load_recipe(protocol.recipe, {})
    whole = {
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "clips_per_recording": recipe.clips_per_recording or 1,
    }
    return {name: max(1, count // members) for name, count in whole.items()}


def _himoe(
    corpus: str,
    protocol: Protocol,
    fold: int,
    seed: int,
    data_dir: Path,
    folder: Path,
    conditions: Iterable[str],
    changes: dict[str, Any],
) -> dict[str, Any]:
    """Train and evaluate one run, unless it is there."""
    if not (folder / "run.json").is_file():
        print(f"training {folder.name}", flush=True)
        recipe = load_recipe(protocol.recipe, _changes(corpus, protocol, fold, seed) | changes)
        train(recipe, RunOptions(data_dir, folder, overwrite_output_dir=True, progress=False))
    file = folder / "test" / "report.json"
    if not file.is_file():
        settings = EvaluationSettings(folds=[fold], batch_size=128, conditions=tuple(conditions), progress=False)
        evaluate_checkpoint(folder, corpus, data_dir, folder / "test", settings)
    report = json.loads(file.read_text(encoding="utf-8"))
    print(folder.name, {key: round(report["metrics"][key], 4) for key in protocol.metrics}, flush=True)
    return report


def _references(name: str, protocol: Protocol, data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Plain predictors on mean, spread and slope of every channel, scaled within each person without labels; of classes also on
    what the model sees."""
    corpus = plugins.corpus(name)
    rows = next(iter(corpus.load(data_dir).values()))
    folds, people = np.asarray(rows["fold"][:]), rows["identity"][:]
    recordings = [corpus.read(row) for row in rows]
    channels: dict[str, int] = {}
    for recording in recordings:
        channels |= {stream: one.values.shape[1] for stream, one in recording.streams.items()}
    statistics = scaled_within(
        np.stack([window_statistics(one, dict(sorted(channels.items()))) for one in recordings]), people
    )
    shown = statistics if corpus.targets else _shown(load_recipe(protocol.recipe, {}), corpus, data_dir)
    found: dict[str, list[dict[str, Any]]] = {}
    for fold in protocol.folds:
        test = folds == fold
        seen = np.isin(folds, PROTOCOLS[name].folds) & ~test
        if corpus.targets:
            names = tuple(target.name for target in corpus.targets)
            means = np.stack([mean_ratings(one, names, corpus.scored_seconds) for one in recordings])
            model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 20))).fit(statistics[seen], means[seen])
            answers = model.predict(statistics[test])
            score = [
                _rmse(recordings[row], corpus, names, own)
                for row, own in zip(np.flatnonzero(test), answers, strict=True)
            ]
            found.setdefault("ridge on window statistics", []).append({"rmse": float(np.mean(score))})
            continue
        labels = np.asarray(rows["label"][:])
        for told, inputs in {"": statistics, " on what the model sees": shown}.items():
            for which, model in _opponents().items():
                shares = model.fit(inputs[seen], labels[seen]).predict_proba(inputs[test])
                logits = np.log(shares + 1e-9)
                own = compute_metrics(labels[test], logits, rows.features["label"].names).flat()
                columns = {one: np.asarray(rows[one][:])[test].tolist() for one in corpus.nuisances}
                within = classes_within(
                    labels[test], logits, columns, corpus.nuisances, np.asarray(people)[test].tolist()
                )
                found.setdefault(which + told, []).append({**own, **within.figures()})
    return found


def _opponents() -> dict[str, Any]:
    return {
        "logistic regression": make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        ),
        "random forest": RandomForestClassifier(
            300, min_samples_leaf=5, class_weight="balanced_subsample", random_state=0
        ),
    }


def _shown(recipe: Recipe, corpus: Any, data_dir: Path) -> np.ndarray:
    """(windows, numbers): what the recipe's processor gives the model of every window, neighbours included, side by side."""
    rows = next(iter(corpus.load(data_dir, **recipe.data.options).values()))
    _, processor = build(recipe, Task(tuple(rows.features["label"].names)))
    parts = []
    for row in rows:
        batch = processor(processor.cut(corpus.read(row))[:1])
        parts.append(np.concatenate([one.ravel() for one in batch["inputs"].values()]))
    return np.stack(parts)


def _rmse(recording: Any, corpus: Any, names: Sequence[str], answer: np.ndarray) -> float:
    """The official figure of one recording, of an answer that holds throughout."""
    start, end = corpus.scored_seconds
    errors = []
    for place, name in enumerate(names):
        truth = recording.annotations[name]
        inside = (truth.times >= start - 1e-6) & (truth.times <= end + 1e-6)
        errors.append(np.sqrt(np.mean((truth.values[inside, 0] - answer[place]) ** 2)))
    return float(np.mean(errors))


def _print_rows(rows: dict[str, list[dict[str, float]]], protocol: Protocol, seeds: Sequence[int]) -> dict[str, Any]:
    """Means over folds and seeds, and the spread of the seeds' means."""
    print("\n| predictor | " + " | ".join(f"{one} | SD over seeds" for one in protocol.metrics) + " |")
    print("|---|" + "---|---|" * len(protocol.metrics))
    told = {}
    for name, own in rows.items():
        if not own:
            continue
        cells = []
        for metric in protocol.metrics:
            values = np.asarray([one.get(metric, np.nan) for one in own], np.float64).reshape(len(protocol.folds), -1)
            means = values.mean(axis=0)
            told.setdefault(name, {})[metric] = {
                "mean": float(means.mean()),
                "by_seed": means.tolist(),
                "by_fold": values.mean(axis=1).tolist(),
            }
            cells += [f"{means.mean():.4f}", f"{means.std():.4f}" if len(means) > 1 else ""]
        print(f"| {name} | " + " | ".join(cells) + " |")
    return told


def _print_conditions(reports: dict[str, list[dict[str, Any]]], protocol: Protocol, folder: Path) -> dict[str, Any]:
    """Each stream missing, and the curves; the latter as pictures too."""
    metric = protocol.metrics[0]
    key = {"balanced_accuracy": "uar"}.get(metric, metric)
    curves: dict[str, dict[str, dict[str, list[float]]]] = {}
    without: dict[str, dict[str, float]] = {}
    for name, own in reports.items():
        entries: dict[str, list[dict[str, Any]]] = {}
        for report in own:
            for entry in report["conditions"]:
                entries.setdefault(entry["condition"], []).append(entry)
        for condition, points in entries.items():
            value = float(np.mean([point["metrics"][key] for point in points]))
            family, level = points[0]["family"], points[0]["value"]
            if family == "present":
                gone = set(protocol.streams) - set(level.split("+"))
                without.setdefault(name, {})["+".join(sorted(gone))] = value
                continue
            at = float(np.mean([point["realised"] for point in points])) if family == "missing" else float(level)
            curve = curves.setdefault(family, {}).setdefault(name, {"levels": [], "values": []})
            curve["levels"].append(at)
            curve["values"].append(value)
            print(f"{condition}: {name}: {metric} {value:.4f} at {at:.3f} {condition}")
    for name, own in without.items():
        print(f"{name}, one stream missing:", {gone: round(value, 4) for gone, value in sorted(own.items())})
    units = {"missing": "share of streams missing", "delay-unknown/all": "delay of every stream, seconds, unknown"}
    for family, own in curves.items():
        file = folder / f"{family.partition('/')[0]}.png"
        draw_degradation(own, file, metric=metric, level=units.get(family, family))
    return {"without": without, "curves": curves}


if __name__ == "__main__":
    main()
