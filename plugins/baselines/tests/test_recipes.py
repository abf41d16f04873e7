"""The recipes: they validate, name what exists, and build a model and a windower that agree."""

from pathlib import Path

import pytest

from meco_hub import plugins
from meco_hub.answers import Task
from meco_hub.corpora.synthetic.signals import write_deap
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.task import task_of_corpus
from meco_hub.training.arguments import RunOptions
from meco_hub.training.construction import build
from meco_hub.training.loop import train
from meco_hub.training.recipes import load_recipe


@pytest.mark.parametrize("name", ["meco_gru/case", "meco_gru/stress_predict", "meco_eegnet/deap"])
def test_what_a_recipe_names_exists(name: str) -> None:
    recipe = load_recipe(name)
    corpus = plugins.corpus(recipe.data.corpus)
    assert set(recipe.data.options) <= set(corpus.options)
    model, windower = build(recipe, Task(corpus.labels.names) if corpus.labels else task_of_corpus(corpus))
    assert list(windower.modality_names) == list(model.config.modalities)
    assert corpus.time_continuous is (getattr(model.config, "prediction_mode", "window") == "sequence")


def test_eegnet_goes_from_raw_files_to_a_report(tmp_path: Path) -> None:
    write_deap(tmp_path / "deap", seed=1, people=3, trials=4)
    changes = {
        "data.options": {"folds": "P2"},
        "data.train.folds": [0, 1],
        "data.validation": {"by_trial": 0.3},
        "num_train_epochs": 1,
        "clips_per_recording": 1,
    }
    train(load_recipe("meco_eegnet/deap", changes), RunOptions(tmp_path / "deap", tmp_path / "out", progress=False))
    settings = EvaluationSettings(folds=[2], progress=False)
    report = evaluate_checkpoint(tmp_path / "out", "deap", tmp_path / "deap", tmp_path / "out" / "test", settings)
    assert report["metrics"]["n"] == 4
    assert report["checkpoint"]["model_type"] == "meco_eegnet"
