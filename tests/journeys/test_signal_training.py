"""A training on signals: what normalises them is learnt from the people trained on, and from nobody else."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoFeatureExtractor

from meco_hub import plugins
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.synthetic.signals import write_case_npz, write_stress_predict
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import train
from meco_hub.training.recipes import load_recipe


def test_levels_are_those_of_the_training_part(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "drawn.npz", seed=0, people=6, films=1, folds=3)
    with np.load(tmp_path / "drawn.npz") as archive:
        arrays = dict(archive)
    # the people of every fold on a level of their own, so that who was measured shows
    arrays["signals"] = arrays["signals"] + 1000.0 * arrays["fold"][:, None, None].astype(np.float32)
    np.savez(tmp_path / "drawn.npz", **arrays)
    changes = {
        "data.train.folds": [0],
        "data.validation": {"folds": [1]},
        "processor": {"normalization": "population"},
        "num_train_epochs": 1,
    }
    train(load_recipe("meco_himoe/case", changes), RunOptions(tmp_path / "drawn.npz", tmp_path / "out", progress=False))
    windower = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    corpus = plugins.corpus("case")
    table = corpus.load(tmp_path / "drawn.npz")["all"]
    seen = [corpus.read(row) for row in by_fold(table, [0])[1]]
    assert len(seen) == 2
    for name, level in windower.measure(seen).items():
        np.testing.assert_allclose(windower.statistics[name]["center"], level[0], rtol=1e-6)
        np.testing.assert_allclose(windower.statistics[name]["scale"], level[1], rtol=1e-6)
        assert np.max(np.abs(level[0])) < 500  # nobody of the other folds
    run = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert run["data"]["leak_check"]["clean"]


def test_weights_are_chosen_by_what_the_films_cannot_give(tmp_path: Path) -> None:
    """The criterion is the very figure that an evaluation of the same people reports, and not the best of another one."""
    write_case_npz(tmp_path / "drawn.npz", seed=0, people=9, films=3, folds=3)
    changes = {
        "data.train.folds": [0, 2],
        "data.validation": {"folds": [1]},
        "model.num_members": 1,
        "clips_per_recording": 2,
        "num_train_epochs": 3,
        "selection": "within_nuisances",
    }
    out = tmp_path / "out"
    train(load_recipe("meco_himoe/case", changes), RunOptions(tmp_path / "drawn.npz", out, progress=False))
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    settings = EvaluationSettings(folds=[1], progress=False)
    report = evaluate_checkpoint(out, "case", tmp_path / "drawn.npz", tmp_path / "test", settings)
    assert run["selection"]["value"] == pytest.approx(report["metrics"]["pcc_within_stimulus"], abs=1e-4)


def test_nothing_is_chosen_where_nobody_can_be_compared(tmp_path: Path) -> None:
    write_stress_predict(tmp_path / "drawn.zip", seed=0)  # in which everybody does the same in the same minute
    changes = {"selection": "within_nuisances", "num_train_epochs": 1, "data.validation": {"by_identity": 0.4}}
    with pytest.raises(ConfigurationError, match="within_nuisances is undefined on this validation set"):
        train(
            load_recipe("meco_himoe/stress_predict", changes),
            RunOptions(tmp_path / "drawn.zip", tmp_path / "out", progress=False),
        )
