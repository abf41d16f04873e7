"""The bundled checkpoints: small, trained as their recipes say, and of use from any folder on files they have not seen."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import meco_hub
from meco_hub.corpora.synthetic.signals import write_case_npz, write_stress_predict
from meco_hub.errors import RecordingError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.training.recipes import load_recipe

NAMES = ["meco-himoe-case", "meco-himoe-stress"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_small_and_trained_by_its_recipe(name: str) -> None:
    folder = Path(meco_hub.checkpoint(name))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    recipe = load_recipe(f"meco_himoe/{ {'case': 'case', 'stress': 'stress_predict'}[name.rpartition('-')[2]] }")
    trained = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert trained["model"] == recipe.model
    assert trained["augmentation"] == recipe.augmentation
    assert (run["epochs"], run["selection"]["criterion"]) == (recipe.num_train_epochs, "last")
    assert run["data"]["leak_check"]["clean"]


def test_stress_is_told_of_other_people_in_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_stress_predict(tmp_path / "others.zip", seed=3, people=2, tasks=1)
    settings = EvaluationSettings(progress=False)
    evaluate_checkpoint(
        Path(meco_hub.checkpoint("meco-himoe-stress")),
        "stress_predict",
        tmp_path / "others.zip",
        tmp_path / "out",
        settings,
    )
    metrics = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["metrics"]
    assert 0 <= metrics["balanced_accuracy"] <= 1
    assert 0 <= metrics["auroc"] <= 1
    assert metrics["n"] > 20


def test_stress_is_told_of_a_folder_of_the_watch_minute_by_minute(tmp_path: Path) -> None:
    from transformers import pipeline

    write_stress_predict(tmp_path / "data", seed=4, people=1, tasks=1)
    watch = tmp_path / "data" / "Raw_data" / "S01"
    recognise = pipeline("emotion-recognition", model=str(meco_hub.checkpoint("meco-himoe-stress")))
    answers = recognise(str(watch))
    text = json.dumps(answers)
    assert "baseline" in text
    assert "stress" in text
    (watch / "IBI.csv").unlink()
    shutil.rmtree(tmp_path / "data" / "Processed_data")
    without = json.dumps(recognise(str(watch)))
    assert "ibi" in without  # named as missing
    for file in watch.iterdir():
        file.unlink()
    with pytest.raises(RecordingError):
        recognise(str(watch))


def test_case_is_told_of_other_people_in_an_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_case_npz(tmp_path / "others.npz", seed=3)
    settings = EvaluationSettings(progress=False)
    evaluate_checkpoint(
        Path(meco_hub.checkpoint("meco-himoe-case")), "case", tmp_path / "others.npz", tmp_path / "out", settings
    )
    metrics = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["rmse"] == pytest.approx((metrics["rmse_valence"] + metrics["rmse_arousal"]) / 2, abs=0.05)
    assert {"ccc_valence", "ccc_arousal"} <= set(metrics)
