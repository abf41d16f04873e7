"""A training on signals: what normalises them is learnt from the people trained on, and from nobody else."""

import json
from pathlib import Path

import numpy as np
from transformers import AutoFeatureExtractor

from meco_hub import plugins
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.synthetic.signals import write_case_npz
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
