"""What a report says beside a model's figures: predictors that are no model, which know what they are said to know."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from meco_hub.cli import main
from meco_hub.corpora.synthetic.signals import write_case_npz, write_deap, write_stress_predict
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.report_file import read_report
from meco_hub.publishing.card import render_card
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import train
from meco_hub.training.recipes import load_recipe

SMALL = {"num_train_epochs": 1, "ema_decay": None}
CASE = SMALL | {
    "data.train.folds": [0, 1],
    "data.validation": {"by_identity": 0.2},
    "model.num_members": 1,
    "clips_per_recording": 1,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def write_planted(file: Path) -> None:
    """Nine people and six films; valence and arousal rest at a level per film that EDA and respiration show in a straight line."""
    write_case_npz(file, seed=0, people=9, films=6, folds=3)
    with np.load(file) as archive:
        arrays = dict(archive)
    draw = np.random.default_rng(0)
    signals = draw.normal(size=arrays["signals"].shape).astype(np.float32)
    names = arrays["channels"].tolist()
    for person in np.unique(arrays["subject"]):
        own = np.flatnonzero(arrays["subject"] == person)
        for target, channel in enumerate(("EDATon", "RESP")):
            level = draw.permutation(np.linspace(-1, 1, len(own)))
            arrays["affect"][own, :, target] = 5 + 3 * level[:, None]
            signals[own, :, names.index(channel)] += 40 * draw.uniform(0.5, 2) * level[:, None] + draw.normal(0, 99)
    arrays["signals"] = signals
    np.savez(file, **arrays)


def train_and_test(name: str, changes: dict[str, Any], data: Path, out: Path, **settings: Any) -> dict[str, Any]:
    train(load_recipe(f"meco_himoe/{name}", changes), RunOptions(data, out, progress=False))
    return evaluate_checkpoint(
        out, name, data, out / "test", EvaluationSettings(progress=False, overwrite=True, **settings)
    )


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_ridge_over_time_knows_the_training_people_alone(tmp_path: Path) -> None:
    data = tmp_path / "case.npz"
    write_planted(data)
    report = train_and_test("case", CASE, data, tmp_path / "a", folds=[2])
    references = report["references"]
    assert list(references) == ["training_mean", "stimulus_oracle", "subject_oracle", "ridge"]
    assert references["stimulus_oracle"]["pcc_within_stimulus"] == 0.0 < references["ridge"]["pcc_within_stimulus"]
    assert references["ridge"]["rmse"] < 0.4 * references["training_mean"]["rmse"]
    assert references["ridge"]["ccc"] > 0.9
    # levels of films differ within each person and not between people, so that knowing either brings nothing
    assert references["subject_oracle"]["ccc"] < 0.1
    assert references["subject_oracle"]["rmse"] == pytest.approx(references["training_mean"]["rmse"], rel=0.05)
    known = record(tmp_path / "a")["data"]["train"]["reference"]
    assert (known["method"], known["names"], known["rows"]) == ("ridge", ["valence", "arousal"], 30)  # 5 of 6 people
    assert report["run"]["data"]["train"]["reference"] == known

    with np.load(data) as archive:
        arrays = dict(archive)
    test = arrays["fold"] == 2
    arrays["signals"][test] = 1000 * np.random.default_rng(1).normal(size=arrays["signals"][test].shape)
    arrays["affect"][test] = 1.0
    np.savez(tmp_path / "other.npz", **arrays)
    again = train_and_test("case", CASE, tmp_path / "other.npz", tmp_path / "b", folds=[2])
    assert record(tmp_path / "b")["data"]["train"]["reference"] == known  # to the last bit
    assert again["references"]["ridge"]["rmse"] != references["ridge"]["rmse"]


def test_ridge_of_one_value_per_trial(tmp_path: Path) -> None:
    write_deap(tmp_path / "deap", seed=1, people=3, trials=6)
    changes = SMALL | {
        "data.options": {"modalities": {"eye": ["hEOG", "vEOG"], "emg": ["zEMG", "tEMG"]}, "folds": "P2"},
        "data.train.folds": [0, 1],
        "data.validation": {"by_trial": 0.34},
        "model": {"modalities": {"eye": {"channels": 2, "sampling_rate": 32.0}, "emg": {"channels": 2, "sampling_rate": 32.0}},
                  "modality_names": ["eye", "emg"], "d_model": 16, "num_heads": 2},
        "clips_per_recording": 1,
    }  # fmt: skip
    report = train_and_test("deap", changes, tmp_path / "deap", tmp_path / "out", folds=[2])
    references = report["references"]
    # trials held out for validation leave no stimulus that everything is known of
    assert set(references) == {"training_mean", "subject_oracle", "ridge"}
    assert set(references["ridge"]) == set(report["metrics"]) - {"n"}
    assert references["training_mean"]["ccc"] == references["subject_oracle"]["ccc"] == 0.0  # of one person
    assert references["ridge"]["ccc"] != 0.0
    assert len(record(tmp_path / "out")["data"]["train"]["reference"]["coefficients"]) == 3


def test_logistic_regression_of_classes_and_the_switch(tmp_path: Path) -> None:
    write_stress_predict(tmp_path / "stress", seed=1, people=5)
    changes = SMALL | {"data.train.folds": [0, 1, 2, 3], "data.validation": {"by_identity": 0.25}}
    report = train_and_test("stress_predict", changes, tmp_path / "stress", tmp_path / "a", folds=[4])
    found = report["references"]
    assert list(found) == ["training_prior", "session_minute_oracle", "logistic_regression"]
    assert all(set(one) == set(report["metrics"]) - {"n"} for one in found.values())
    assert found["logistic_regression"]["auroc"] > 0.5
    # everybody does the same in the same minute, so the minute is enough, and within it there is nobody to tell apart
    assert found["session_minute_oracle"]["auroc"] > 0.95
    assert found["training_prior"]["uar"] == found["training_prior"]["auroc"] == 0.5
    assert any("session minute" in sentence for sentence in report["warnings"])
    train(
        load_recipe("meco_himoe/stress_predict", changes | {"fit_reference": False}),
        RunOptions(tmp_path / "stress", tmp_path / "b", progress=False),
    )
    assert "reference" not in record(tmp_path / "b")["data"]["train"]


def test_a_control_on_permuted_labels_learns_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "case.npz"
    write_planted(data)
    learning = CASE | {
        "num_train_epochs": 8,
        "clips_per_recording": 5,
        "per_device_train_batch_size": 50,
        "augmentation": None,
        "model.dropout": 0.0,
    }
    real = train_and_test("case", learning, data, tmp_path / "real", folds=[2])
    train(
        load_recipe("meco_himoe/case", learning | {"data.permute_labels": True}),
        RunOptions(data, tmp_path / "control", progress=False),
    )
    asked = ["evaluate", str(tmp_path / "control"), "--dataset", "case", "--data_dir", str(data)]
    assert main([*asked, "--folds", "2", "--output_dir", str(tmp_path / "out")]) == 0
    assert "WARNING: This checkpoint is a control, trained on permuted labels" in capsys.readouterr().out
    control = read_report(tmp_path / "out" / "report.json")
    assert real["metrics"]["ccc"] > 0.75
    assert abs(control["metrics"]["ccc"]) < 0.4  # 30 trials; what permuted ones correlate by chance has an SD of 0.18
    assert abs(control["references"]["ridge"]["ccc"]) < 0.2 < real["references"]["ridge"]["ccc"]
    assert control["references"]["ridge"]["rmse"] > 0.9 * control["references"]["training_mean"]["rmse"]
    assert control["references"]["training_mean"] == real["references"]["training_mean"]
    assert "stimulus_oracle" not in control["references"]

    assert control["checkpoint"]["control"] == control["run"]["control"] == "permuted_labels"
    assert real["checkpoint"]["control"] is real["run"]["control"] is None
    assert real["warnings"] == []
    assert "is a control" in control["warnings"][0]
    config = json.loads((tmp_path / "control" / "config.json").read_text(encoding="utf-8"))
    assert config["training_control"] == "permuted_labels"
    assert "training_control" not in json.loads((tmp_path / "real" / "config.json").read_text(encoding="utf-8"))
    # config.json says so too where weights travel without their record
    (tmp_path / "control" / "run.json").unlink()
    settings = EvaluationSettings(progress=False, folds=[2])
    alone = evaluate_checkpoint(tmp_path / "control", "case", data, tmp_path / "alone", settings)
    assert alone["checkpoint"]["control"] == "permuted_labels"
    assert alone["run"] is None

    (tmp_path / "control" / "report.json").write_bytes((tmp_path / "out" / "report.json").read_bytes())
    card = ModelCard(render_card(tmp_path / "control"), ignore_metadata_errors=False)
    assert "a control that learnt nothing" in card.text.strip().splitlines()[0]
    assert (
        card.text.strip().splitlines()[2].startswith("**This is no model of emotions.** This checkpoint is a control")
    )
    assert "control" in (card.data.tags or [])
    assert not card.data.eval_results
    shutil.copy(tmp_path / "real" / "test" / "report.json", tmp_path / "real")
    card = ModelCard(render_card(tmp_path / "real"), ignore_metadata_errors=False)
    assert "control" not in (card.data.tags or [])
    assert "no model of emotions" not in card.text
    assert card.data.eval_results
