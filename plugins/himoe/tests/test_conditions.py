"""CASE's windower under faults of sensors: what is late in the recording is late in the array that a model is handed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

import meco_hub
from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
from meco_himoe.processing_himoe import HiMoESignalWindower
from meco_hub import plugins
from meco_hub.corpora.synthetic.signals import write_case_npz, write_deap
from meco_hub.evaluation.conditions import AppliedCondition, conditions_for
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint

CHECKPOINT = "meco-himoe-case"

SHOW = """
import hashlib
from pathlib import Path
from transformers import AutoFeatureExtractor
import meco_hub
from meco_hub import plugins
from meco_hub.evaluation.conditions import AppliedCondition, conditions_for
windower = AutoFeatureExtractor.from_pretrained(meco_hub.checkpoint({checkpoint!r}))
corpus = plugins.corpus("case")
row = corpus.load(Path({file!r}))["all"][0]
(one,) = conditions_for("signals", ["delay-unknown/all/2"], streams=windower.modality_names)
applied = AppliedCondition(one, dataset="case", protocol="", seed=0, subjects={{}}, streams=())
batch = windower(windower.cut(applied(corpus.read(row), row["sample_id"])))
print(hashlib.sha256(b"".join(batch["inputs"][name].tobytes() for name in windower.modality_names)).hexdigest())
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("case") / "drawn.npz"
    write_case_npz(file, seed=3, people=2, films=2, folds=1)
    return file


@pytest.fixture(scope="module")
def windower() -> Any:
    return AutoFeatureExtractor.from_pretrained(meco_hub.checkpoint(CHECKPOINT))


def show(drawn: Path, windower: Any, name: str) -> tuple[Any, Any]:
    """What a model is handed of the first recording under a condition, and the truth on its grid."""
    corpus = plugins.corpus("case")
    row = corpus.load(drawn)["all"][0]
    (one,) = conditions_for("signals", [name], streams=windower.modality_names)
    applied = AppliedCondition(one, dataset="case", protocol="", seed=0, subjects={}, streams=())
    clips = windower.cut(applied(corpus.read(row), row["sample_id"]))
    return windower(clips), windower.targets(list(clips), ["valence", "arousal"])


def test_a_late_sensor_is_late_in_the_array(drawn: Path, windower: Any) -> None:
    clean, (truth, known) = show(drawn, windower, "delay-unknown/all/0")
    late, (moved, still) = show(drawn, windower, "delay-unknown/all/2")
    right, _ = show(drawn, windower, "delay-known/all/2")
    wrong, mended = [], []
    for name in windower.modality_names:
        assert np.abs(late["inputs"][name] - clean["inputs"][name]).max() > 1e-3, name
        both = late["step_mask"][name] & right["step_mask"][name] & clean["step_mask"][name]
        wrong.append(np.abs(late["inputs"][name] - clean["inputs"][name])[both].mean())
        mended.append(np.abs(right["inputs"][name] - clean["inputs"][name])[both].mean())
    assert sum(mended) < 0.5 * sum(wrong)
    np.testing.assert_array_equal(moved, truth)
    np.testing.assert_array_equal(still, known)
    assert truth.shape[-1] == 2
    assert known.all()
    assert set(np.abs(late["lag_targets"]).ravel()) == {2.0}
    again, _ = show(drawn, windower, "delay-known/all/0")
    for name in windower.modality_names:
        np.testing.assert_array_equal(again["inputs"][name], clean["inputs"][name])


@pytest.mark.processes
def test_it_is_as_late_in_every_process(drawn: Path, windower: Any) -> None:
    late, _ = show(drawn, windower, "delay-unknown/all/2")
    ours = hashlib.sha256(b"".join(late["inputs"][name].tobytes() for name in windower.modality_names)).hexdigest()
    code = SHOW.format(checkpoint=CHECKPOINT, file=str(drawn))
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert theirs.strip().splitlines()[-1] == ours


def test_delays_move_answers_and_not_the_truth(drawn: Path, tmp_path: Path) -> None:
    settings = EvaluationSettings(progress=False, conditions=("delay-unknown/all/0", "delay-unknown/all/2", "combined"))
    evaluate_checkpoint(Path(meco_hub.checkpoint(CHECKPOINT)), "case", drawn, tmp_path / "out", settings)
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    entries = {one["condition"]: one["metrics"] for one in report["conditions"]}
    assert entries["delay-unknown/all/0"]["rmse"] == report["metrics"]["rmse"]
    assert entries["delay-unknown/all/2"]["rmse"] != report["metrics"]["rmse"]
    assert {one["n"] for one in entries.values()} == {report["metrics"]["n"]}


def test_reports_say_how_well_lags_were_found(drawn: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = HiMoEConfig.small("deap_4", d_model=16, encoder_layers=0, eeb_layers=1, stem_channels=8)
    HiMoEForEmotionRecognition(config).save_pretrained(tmp_path / "model")
    HiMoESignalWindower.for_config(config, normalization="reference").save_pretrained(tmp_path / "model")
    write_deap(tmp_path / "data", seed=0, people=1, trials=2)
    names = ("delay-unknown/all/1", "delay-known/all/1", "combined", "missing/0.5")
    settings = EvaluationSettings(progress=False, conditions=names, routing=True)
    evaluate_checkpoint(tmp_path / "model", "deap", tmp_path / "data", tmp_path / "out", settings)
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    found = {one["condition"]: one.get("lags") for one in report["conditions"]}
    unknown = found["delay-unknown/all/1"]
    assert unknown["n"] == 30  # two minutes by windows of four seconds
    assert 0 <= unknown["mae_s"] < 2  # untrained
    assert unknown["correlation"] is None or -1 <= unknown["correlation"] <= 1
    together = next(value for name, value in found.items() if name.startswith("combined"))
    assert 0 < together["n"] < 30  # where all sensors but one are missing there is nothing to compare
    assert found["delay-known/all/1"] is found["missing/0.5"] is None
    assert report["routing"] is not None
    # CASE's recipe estimates none
    settings = EvaluationSettings(progress=False, conditions=("delay-unknown/all/2",))
    evaluate_checkpoint(Path(meco_hub.checkpoint(CHECKPOINT)), "case", drawn, tmp_path / "case", settings)
    report = json.loads((tmp_path / "case" / "report.json").read_text(encoding="utf-8"))
    assert [("lags" in one) for one in report["conditions"]] == [False]
