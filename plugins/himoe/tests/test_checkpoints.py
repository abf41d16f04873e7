"""The bundled checkpoints: small, trained as their recipes say, and of use from any folder on files they have not seen."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import meco_hub
from meco_hub.corpora.synthetic.signals import write_case_npz, write_stress_predict
from meco_hub.errors import RecordingError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.training.recipes import load_recipe

RECIPES = {
    "meco-himoe-case": "case",
    "meco-himoe-stress": "stress_predict",
    "meco-himoe-stress-live": "stress_predict_live",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_bundle_is_small_and_trained_by_its_recipe(name: str) -> None:
    folder = Path(meco_hub.checkpoint(name))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    recipe = load_recipe(f"meco_himoe/{RECIPES[name]}")
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


def test_live_answers_at_each_minute_s_end_and_nothing_later_changes_it() -> None:
    random, minutes = np.random.default_rng(0), 10
    eda = 2 + 0.01 * random.normal(size=240 * minutes).cumsum()
    acc = random.normal(size=(1920 * minutes, 3))
    live = meco_hub.recogniser("meco-himoe-stress-live", on_warning="ignore")
    level = live.feature_extractor.measure({"eda": (eda, 4.0), "acc": (acc, 32.0)})

    def answers(name: str, eda: np.ndarray) -> dict[float, tuple[float, float]]:
        """Start of a minute → score of stress, and by how many seconds it was late."""
        recognise, heard, found = meco_hub.recogniser(name, on_warning="ignore"), [0.0], {}

        def pieces() -> Iterator[dict[str, Any]]:
            for at in range(0, 60 * minutes, 5):
                heard[0] = at + 5.0
                yield {
                    "eda": (eda[4 * at : 4 * at + 20], at + np.arange(20) / 4),
                    "acc": (acc[32 * at : 32 * at + 160], at + np.arange(160) / 32),
                }

        for answer in recognise.stream(pieces(), reference=level):
            (entry,) = (one for one in answer if one["label"] == "stress")
            found[entry["start"]] = entry["score"], heard[0] - entry["end"]
        return found

    now, both_sides = answers("meco-himoe-stress-live", eda), answers("meco-himoe-stress", eda)
    assert list(now) == [60.0 * minute for minute in range(minutes)]
    assert max(late for _, late in now.values()) <= 10
    assert both_sides[0.0][1] >= 360
    changed = np.where(np.arange(len(eda)) < 4 * 300, eda, 3 * eda)  # from the sixth minute on
    other = answers("meco-himoe-stress-live", changed)
    for time in now:
        assert (abs(other[time][0] - now[time][0]) < 1e-6) == (time < 300), time
    recording = live.feature_extractor.read({"eda": (eda, 4.0), "acc": (acc, 32.0)})
    (whole,) = (one for one in live(replace(recording, reference=level)) if one["label"] == "stress")
    assert whole["scores"] == pytest.approx([score for score, _ in now.values()], abs=1e-5)


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
