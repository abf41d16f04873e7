"""`meco compare`, end to end: baselines by one command; trainings killed, gone on with by two processes, none made twice."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.linear_model import RidgeCV
from sklearn.metrics import balanced_accuracy_score

import tiny_networks
from meco_hub import plugins
from meco_hub.cli import main
from meco_hub.comparison.compare import compare
from meco_hub.comparison.plan import comparison_from_dict
from meco_hub.corpora.synthetic.signals import write_case_npz, write_stress_predict
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.references import scaled_within
from meco_hub.evaluation.series import mean_ratings
from meco_hub.evaluation.task import task_of_corpus
from meco_hub.training.construction import build
from meco_hub.training.recipes import load_recipe


def read(folder: Path) -> dict[str, Any]:
    return json.loads(folder.read_text(encoding="utf-8"))


def test_baselines_on_signals_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stress_predict(tmp_path / "stress", seed=1, people=5)
    words = ["compare", "line=logistic_regression", "mean=training_mean", "minute=session_minute_oracle"]
    where = [
        "--dataset",
        "stress_predict",
        "--data_dir",
        str(tmp_path / "stress"),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    asked = [*words, *where, "--folds", "0", "1", "--reference", "mean"]
    tables = [
        "--csv",
        str(tmp_path / "t.csv"),
        "--latex",
        str(tmp_path / "t.tex"),
        "--markdown",
        str(tmp_path / "t.md"),
    ]
    assert main([*asked, *tables]) == 0
    said = capsys.readouterr().out
    assert "answers baseline alone throughout" in said
    assert "2 folds: n = 2 people" in said
    found = read(tmp_path / "out" / "comparison.json")
    line, mean, minute = found["rows"]
    assert mean["figures"]["balanced_accuracy"]["mean"] == 0.5
    assert minute["figures"]["auroc"]["mean"] > 0.95
    assert line["figures"]["balanced_accuracy"]["sd"] is None
    assert line["difference"]["people"] == 2
    # a person's figure is that of their own rows, and the difference that of the people's figures
    own = {}
    for fold in (0, 1):
        place = tmp_path / "out" / "line" / f"fold_{fold}_seed_0" / "test"
        (person,) = csv.DictReader((place / "people.csv").open())
        rows = list(csv.DictReader((place / "predictions.csv").open()))
        assert {row["sample_id"].split("_")[0] for row in rows} == {person["person"]}
        expected = balanced_accuracy_score([row["label"] for row in rows], [row["prediction"] for row in rows])
        assert float(person["balanced_accuracy"]) == pytest.approx(expected)
        own[fold] = float(person["balanced_accuracy"]) - 0.5
        report = read(place / "report.json")
        assert report["checkpoint"]["name"] == "logistic_regression"
        assert report["data"]["seen"]["trained_on"] == 0
        assert len(read(place / "run.json")["data"]["train"]["people"]) == 4  # nobody is held out: nothing is selected
        assert set(report["references"]) == {"training_prior", "session_minute_oracle"}
    assert line["difference"]["mean"] == pytest.approx(np.mean(list(own.values())))
    assert float(next(csv.DictReader((tmp_path / "t.csv").open()))["balanced_accuracy_mean"]) == pytest.approx(
        line["figures"]["balanced_accuracy"]["mean"]
    )
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    # nothing is made again, and no table is replaced unasked
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("report.json")}
    assert main([*asked, "--csv", str(tmp_path / "t.csv")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*asked, "--csv", str(tmp_path / "t.csv"), "--overwrite"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("report.json")} == before
    assert main([*asked, "--options", "stride_s=60"]) == 1
    assert "was made by something else" in capsys.readouterr().err


def test_values_over_time_under_conditions(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_case_npz(tmp_path / "case.npz", seed=0, people=6, films=3, folds=3)
    words = ["compare", "ridge", "random_forest", "training_mean", "stimulus_oracle", "--dataset", "case"]
    where = ["--data_dir", str(tmp_path / "case.npz"), "--output_dir", str(tmp_path / "out"), "--folds", "0"]
    assert main([*words, *where, "--seeds", "0", "1", "--conditions", "missing/0.2", "missing/0.6", "--pictures"]) == 0
    found = read(tmp_path / "out" / "comparison.json")
    ridge, forest, mean, _ = found["rows"]
    assert (ridge["cells"], forest["cells"]) == (1, 2)  # a straight line draws nothing
    assert len(set(forest["figures"]["rmse"]["by_seed"])) == 2
    assert forest["figures"]["rmse"]["sd"] == pytest.approx(np.std(forest["figures"]["rmse"]["by_seed"], ddof=1))
    assert ridge["figures"]["rmse"]["sd"] is None
    assert mean["notes"] == ["answers one value throughout"]
    assert mean["figures"]["ccc"]["mean"] == 0.0
    assert list(found["curves"]["missing"]) == ["ridge", "random_forest"]
    assert found["curve_metric"] == "rmse"  # the table's first
    assert found["curves"]["missing"]["ridge"]["asked"] == [0.2, 0.6]
    assert len(found["curves"]["missing"]["ridge"]["levels"]) == 2
    assert (tmp_path / "out" / "missing.png").stat().st_size > 5000


def test_a_baseline_may_see_what_a_recipe_s_network_is_given(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "case.npz", seed=0, people=6, films=3, folds=3)
    models = {"line": {"baseline": "ridge", "sees": "meco_himoe/case"}, "plain": {"baseline": "ridge"}}
    comparison = comparison_from_dict({"corpus": "case", "folds": [0], "models": models})
    compare(comparison, tmp_path / "out", data_dir=tmp_path / "case.npz", progress=False)

    # the same by hand: the recipe's own processor on every recording, and a straight line on the people of other folds
    recipe = load_recipe("meco_himoe/case", {})
    corpus = plugins.corpus("case")
    rows = corpus.load(tmp_path / "case.npz", **recipe.data.options)["all"]
    processor = build(recipe, task_of_corpus(corpus))[1]
    shown, ratings = [], []
    for row in rows:
        recording = corpus.read(row)
        inputs = processor([recording])["inputs"]
        shown.append(np.concatenate([inputs[name].ravel() for name in processor.modality_names]))
        ratings.append(mean_ratings(recording, ("valence", "arousal"), corpus.scored_seconds))
    people, seen = np.asarray(rows["identity"][:]), np.asarray(rows["fold"][:]) != 0
    statistics = scaled_within(np.stack(shown).astype(np.float64), people)
    unit = statistics[seen].std(axis=0)
    unit[unit == 0] = 1
    line = RidgeCV(np.logspace(0, 5, 26)).fit(statistics[seen] / unit, np.stack(ratings)[seen][:, 0])
    expected = dict(zip(np.asarray(rows["sample_id"][:])[~seen], line.predict(statistics[~seen] / unit), strict=True))

    def answered(model: str) -> dict[str, float]:
        place = tmp_path / "out" / model / "fold_0_seed_0" / "test" / "predictions.csv"
        return {row["sample_id"]: float(row["valence"]) for row in csv.DictReader(place.open())}

    assert answered("line") == pytest.approx(expected, abs=1e-3)
    assert answered("plain") != pytest.approx(expected, abs=1e-3)


FACES: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "model": tiny_networks.FACE,
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "validation": {"by_identity": 0.3}},
    "learning_rate": 3e-3,
    "num_train_epochs": 2,
}

KILLED = """
import os, signal, sys
from meco_hub.comparison import cells
from meco_hub.training import loop
made, close = [], loop.TrainingRun.close_epoch
def make(cell, *rest, original=cells._make):
    made.append(cell)
    original(cell, *rest)
def close_epoch(run):
    close(run)
    if len(made) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
cells._make, loop.TrainingRun.close_epoch = make, close_epoch
from meco_hub.cli import main
main(sys.argv[1:])
"""

COUNTED = """
import sys
from meco_hub.comparison import cells
from meco_hub.training import loop
def make(cell, *rest, original=cells._make):
    print("made", cell.folder, flush=True)
    original(cell, *rest)
def resume(run, original=loop.TrainingRun.resume):
    original(run)
    if run.progress.epoch:
        print("resumed", run.progress.epoch, flush=True)
cells._make, loop.TrainingRun.resume = make, resume
from meco_hub.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_gone_on_with_by_two_processes(look_alike: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text(yaml.safe_dump(FACES))
    file = tmp_path / "all.yaml"
    comparison = {
        "corpus": "image_folder", "protocol": "P3", "n_folds": 2, "seeds": [0, 1],
        "models": {"a": str(recipe), "b": {"recipe": str(recipe), "changes": {"learning_rate": 1e-9}}, "prior": "training_mean"},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(comparison))
    out = tmp_path / "out"
    words = ["compare", str(file), "--data_dir", str(look_alike), "--output_dir", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}

    def start(code: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    killed = start(KILLED)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("report.json")}
    assert len(finished) == 3  # a, b and prior on fold 0; the fourth cell had one epoch of two
    assert not list((out / "a" / "fold_1_seed_0" / "model").glob("run.json"))

    two = [start(COUNTED) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    made = [line for told, _ in said for line in told.splitlines() if line.startswith("made")]
    assert len(made) == len(set(made)) == 10 - 3  # 2 models × 2 folds × 2 seeds, and the constant once a fold
    assert "resumed 1" in [line for told, _ in said for line in told.splitlines()]
    for path, stamp in finished.items():
        assert path.stat().st_mtime_ns == stamp  # no cell is made again
    reports = {path.parts[-4:-2]: read(path) for path in out.rglob("report.json")}
    assert len(reports) == 10
    assert not list(out.rglob("epoch_*"))
    # both have waited for each other, and say the same
    tables = [[line for line in told.splitlines() if not line.startswith(("made", "resumed"))] for told, _ in said]
    assert tables[0] == tables[1]
    assert any(line.startswith("prior") and "throughout" in line for line in tables[0])
    found = read(out / "comparison.json")
    for row in found["rows"][:2]:
        values = [
            reports[row["model"], f"fold_{fold}_seed_{seed}"]["metrics"]["balanced_accuracy"]
            for seed in (0, 1)
            for fold in (0, 1)
        ]
        by_seed = np.mean(np.reshape(values, (2, 2)), axis=1)
        assert row["figures"]["balanced_accuracy"]["by_seed"] == pytest.approx(by_seed)
        assert row["figures"]["balanced_accuracy"]["sd"] == pytest.approx(by_seed.std(ddof=1))
    assert found["people"] == 16
    assert found["samples"] == 96
    # the killed cell is the one that would have come of it without a kill
    alone = tmp_path / "alone"
    cut = ["--dataset", "image_folder", "--protocol", "P3", "--n_folds", "2", "--folds", "1"]
    assert main(["compare", str(recipe), *words[2:-1], str(alone), *cut]) == 0
    again = read(alone / "a" / "fold_1_seed_0" / "test" / "report.json")
    assert again["checkpoint"]["weights_sha256"] == reports["a", "fold_1_seed_0"]["checkpoint"]["weights_sha256"]


def test_a_row_that_chooses_looks_at_the_validation_part_alone(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "case.npz", seed=0, people=6, films=3, folds=3)
    quick = {"num_train_epochs": 1, "clips_per_recording": 1, "selection": "rmse"}
    models = {
        "still": {"recipe": "meco_gru/case", "changes": {**quick, "learning_rate": 1e-9}},
        "learns": {"recipe": "meco_gru/case", "changes": {**quick, "learning_rate": 0.05}},
        "chosen": {"best_of": ["still", "learns"]},
    }
    wanted = {"corpus": "case", "folds": [0, 1], "models": models, "validation": {"by_identity": 0.3}}
    out = tmp_path / "out"
    summary = compare(comparison_from_dict(wanted), out, data_dir=tmp_path / "case.npz", progress=False)
    assert not (out / "chosen").exists()

    best, picked = [], []
    for fold in (0, 1):
        runs = {name: read(out / name / f"fold_{fold}_seed_0" / "model" / "run.json") for name in ("still", "learns")}
        picked.append(min(runs, key=lambda name: runs[name]["history"][0]["rmse"]))
        best.append(read(out / picked[-1] / f"fold_{fold}_seed_0" / "test" / "report.json")["metrics"]["rmse"])
    row = summary.rows[2]
    assert (row.cells, row.wanted) == (2, 2)
    assert row.figures["rmse"].mean == pytest.approx(np.mean(best))
    assert {f"{name} {picked.count(name)} ×" for name in picked} == set(row.notes[0].removeprefix("chose ").split(", "))

    # what the test folds say plays no part: the answers of the other one are made better than any
    for name in {"still", "learns"}:
        for fold, kept in zip((0, 1), picked, strict=True):
            file = out / name / f"fold_{fold}_seed_0" / "test" / "report.json"
            if name != kept:
                file.write_text(json.dumps(read(file) | {"metrics": read(file)["metrics"] | {"rmse": 0.0}}))
    again = compare(comparison_from_dict(wanted), out, data_dir=tmp_path / "case.npz", progress=False)
    assert again.rows[2].figures["rmse"].mean == pytest.approx(np.mean(best))

    with pytest.raises(ConfigurationError, match="recipes"):
        comparison_from_dict({**wanted, "models": {**models, "chosen": {"best_of": ["still", "another"]}}})
    models["learns"]["changes"]["data"] = {"validation": {"by_identity": 0.5}}
    with pytest.raises(ConfigurationError, match="different parts"):
        compare(comparison_from_dict({**wanted, "validation": None}), out, data_dir=tmp_path / "case.npz")
