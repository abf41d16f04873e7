"""A study of one's own: from csv files, by a training that checks for leaks, to a report, a card, and answers, all synthetic."""

import json
from pathlib import Path

import pytest

import meco_hub
from meco_hub.cli import main
from meco_hub.corpora.synthetic.marker import MARKER
from meco_hub.corpora.synthetic.signals import write_signal_folder
from meco_hub.evaluation.report_file import read_report

RECIPE = """
model_type: meco_himoe
data:
  corpus: signal_folder
  train: {split: all, folds: [0]}
  validation: {split: all, folds: [1]}
model:
  modalities:
    eda: {channels: 1, sampling_rate: 4, patch_s: 2.0, stem: statistics}
    ecg: {channels: 1, sampling_rate: 64, patch_s: 2.0, stem: statistics}
  modality_names: [eda, ecg]
  window_s: 8.0
  grid_step_s: 2.0
  use_alignment: false
  d_model: 8
  stem_channels: 4
  encoder_layers: 0
  num_heads: 2
processor: {normalization: reference, on_missing_reference: recording}
num_train_epochs: 1
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, the recipe and the checkpoint, made by the commands that users type."""
    root = tmp_path_factory.mktemp("own")
    write_signal_folder(root / "study", seed=0, people=3, intervals=4, interval_s=8)
    study = (root / "study" / "study.yaml").read_text(encoding="utf-8")
    (root / "study" / "study.yaml").write_text(study + "folds: 3\n", encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    data = ["--data_dir", str(root / "study"), "--output_dir", str(root / "model")]
    assert main(["train", "--recipe", str(root / "recipe.yaml"), *data, "--no_progress"]) == 0
    assert main(["evaluate", str(root / "model"), "--dataset", "signal_folder", *data, "--folds", "2"]) == 0
    return root


def test_own_recordings_become_a_table_that_was_checked(trained: Path) -> None:
    run = json.loads((trained / "model" / "run.json").read_text(encoding="utf-8"))
    report = read_report(trained / "model" / "report.json")
    assert run["data"]["leak_check"]["clean"]
    assert set(run["data"]["leak_check"]["looked_for"]) >= {"identity", "trial", "time", "content"}
    assert report["data"]["seen"] == {"people": 1, "trained_on": 0, "selected_by": 0}
    assert report["data"]["identities"] == 1
    assert report["confidence_intervals"]["uar"] is None  # over one person there is none
    assert {"training_prior", "session_minute_oracle", "logistic_regression"} <= set(report["references"])
    assert report["confusion_matrix"]["labels"] == ["rest", "task"]


def test_what_learnt_from_drawn_data_says_so_everywhere(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = trained / "model", read_report(trained / "model" / "report.json")
    assert json.loads((model / "config.json").read_text(encoding="utf-8"))["training_data"] == "synthetic"
    assert json.loads((model / "run.json").read_text(encoding="utf-8"))["data"]["synthetic"] is True
    assert (model / "recipe.yaml").read_text(encoding="utf-8").startswith("# Trained on synthetic data")
    assert report["data"]["synthetic"] is True
    assert report["checkpoint"]["training_data"] == "synthetic"
    assert main(["card", str(model)]) == 0
    card = capsys.readouterr().out
    assert "# model, trained on synthetic data" in card
    assert "drawn people of synthetic corpus `signal_folder`" in card
    answers = meco_hub.recogniser(str(model))(str(trained / "study" / "recordings" / "drawn_01"))
    assert {answer["training_data"] for answer in answers} == {"synthetic"}
    (model / "card.yaml").write_text("training_data: {synthetic: false}\n", encoding="utf-8")
    assert main(["card", str(model)]) == 1
    assert "says `synthetic: false`, and the weights were trained on synthetic data" in capsys.readouterr().err
    (model / "card.yaml").unlink()


def test_data_without_the_mark_are_not_called_synthetic(trained: Path, tmp_path: Path) -> None:
    (trained / "study" / MARKER).rename(tmp_path / "away")
    asked = ["--dataset", "signal_folder", "--data_dir", str(trained / "study"), "--folds", "2"]
    assert main(["evaluate", str(trained / "model"), *asked, "--output_dir", str(tmp_path / "out")]) == 0
    (tmp_path / "away").rename(trained / "study" / MARKER)
    data = read_report(tmp_path / "out" / "report.json")["data"]
    assert data["synthetic"] is False
    assert data["seen"] == {"people": 1, "trained_on": 0, "selected_by": 0}
