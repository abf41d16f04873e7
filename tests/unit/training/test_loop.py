"""The loop on a look-alike: it learns, repeats itself, resumes exactly, and leaves a folder that the Auto classes load."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

import tiny_networks
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import ConfigurationError, LeakError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.train import main
from meco_hub.training import loop
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import TrainingRun, train
from meco_hub.training.recipes import Recipe, load_recipe, override, recipe_from_dict, write_recipe

NAMES = ["surprise", "neutral", "happiness"]
BASE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "labels": NAMES,
    "model": {
        **tiny_networks.FACE,
        "fe2_channels": [8, 16],
        "conv_dropout": 0.0,
        "fe1_head_dropout": 0.1,
        "backbone_dropout": 0.1,
        "fusion_dropout": 0.1,
        "router_aux_loss_coef": 0.01,
        "batch_norm_momentum": 0.2,  # the published 0.01 needs hundreds of steps before evaluation means anything
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0, 1, 2]}, "validation": {"folds": [3]}},
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
}
EVERYTHING = {
    "augmentation": {"name": "face"},
    "mixup_alpha": 0.3,
    "class_balance": 0.5,
    "logit_adjustment": 0.5,
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "max_grad_norm": 1.0,
    "gradient_accumulation_steps": 2,
    "freeze_backbone_epochs": 1,
    "backbone_learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup_ratio": 0.1,
    "operating_point": {"rule": "max_mean"},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "faces"
    write_image_folder(folder, seed=1, labels=("neutral", "happiness", "surprise"), people=16, takes=2, size=32)
    return folder


def recipe(**changes: Any) -> Recipe:
    return recipe_from_dict(override(BASE, changes))


def run(corpus: Path, out: Path, settings: Recipe, **options: Any) -> dict[str, Any]:
    record = train(settings, RunOptions(corpus, out, progress=False, **options))
    assert record is not None
    return record


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained")
    settings = recipe(num_train_epochs=10, learning_rate=0.01, operating_point={"rule": "max_uar"}, label_smoothing=0.1)
    run(corpus, out, settings)
    return out


def test_it_learns_what_can_be_seen(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert record["validation"]["uar"] > 0.6  # chance is 0.33
    assert record["history"][-1]["train_loss"] < 0.8 * record["history"][0]["train_loss"]
    best = max(record["history"], key=lambda row: row["uar"])
    assert record["selection"]["best_epoch"] == best["epoch"]
    assert record["selection"]["value"] == best["uar"]
    assert record["validation"]["before_operating_point"]["uar"] == pytest.approx(best["uar"])


def test_the_folder_is_a_checkpoint(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "recipe.yaml", "run.json"}
    assert expected <= names
    assert not {"best"} & names
    config: Any = AutoConfig.from_pretrained(trained)
    assert config.id2label == dict(enumerate(NAMES))
    assert config.operating_point["rule"] == "max_uar"
    assert set(config.operating_point["prior"]) == set(NAMES)
    assert config.label_smoothing == 0.1
    processor = AutoImageProcessor.from_pretrained(trained)
    assert dict(processor.size) == {"height": 32, "width": 32}
    model = AutoModelForImageClassification.from_pretrained(trained)
    assert all(torch.equal(value, weights(trained)[key]) for key, value in model.state_dict().items())


def test_evaluating_the_checkpoint_gives_the_run_s_own_figures(trained: Path, corpus: Path, tmp_path: Path) -> None:
    report = evaluate_checkpoint(trained, "image_folder", corpus, tmp_path, EvaluationSettings(folds=[3]))
    record = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    for name in ("uar", "war", "macro_f1"):
        assert report["metrics"][name] == pytest.approx(record["validation"][name])
    assert report["metrics"]["cross_entropy"] == pytest.approx(record["validation"]["cross_entropy"], rel=1e-4)
    assert report["confusion_matrix"]["counts"] == record["validation"]["confusion"]
    assert report["data"]["fingerprint"] == record["data"]["validation"]["fingerprint"]


def test_the_record_says_what_was_done(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert record["data"]["train"]["classes"] == {"surprise": 24, "neutral": 24, "happiness": 24}
    assert record["data"]["validation"]["samples"] == 24
    assert record["data"]["validation"]["identities"] == 4
    assert record["data"]["leak_check"]["clean"] is True
    assert record["seed"] == 0
    assert record["seconds"] > 0
    assert load_recipe(str(trained / "recipe.yaml")).num_train_epochs == 10
    assert record["recipe"] == json.loads(json.dumps(record["recipe"]))
    assert recipe_from_dict(record["recipe"]) == load_recipe(str(trained / "recipe.yaml"))


def test_the_same_seed_gives_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    settings = override(BASE, EVERYTHING | {"num_train_epochs": 1})
    run(corpus, tmp_path / "a", recipe_from_dict(settings))
    run(corpus, tmp_path / "b", recipe_from_dict(settings))
    run(corpus, tmp_path / "c", recipe_from_dict(settings | {"seed": 1}))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("every", [3, "epoch"])
def test_a_resumed_run_is_the_uninterrupted_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | str
) -> None:
    settings = recipe_from_dict(override(BASE, EVERYTHING | {"num_train_epochs": 3}))
    whole = run(corpus, tmp_path / "whole", settings)
    steps = whole["steps"]
    original, calls = TrainingRun._train_batch, 0

    def interrupt(self: TrainingRun, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 * (steps - 2):  # two batches make a step; this is inside the last epoch
            raise Interrupted
        return original(self, batch)

    monkeypatch.setattr(TrainingRun, "_train_batch", interrupt)
    with pytest.raises(Interrupted):
        run(corpus, tmp_path / "cut", settings, checkpointing_steps=every)
    monkeypatch.setattr(TrainingRun, "_train_batch", original)
    kept = sorted(path.name for path in (tmp_path / "cut").glob("*_*") if path.is_dir())
    assert kept
    resumed = run(corpus, tmp_path / "cut", settings, checkpointing_steps=every, resume_from_checkpoint="auto")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for first, second in zip(whole["history"], resumed["history"], strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-6)
        assert first["uar"] == second["uar"]


def test_checkpoints_beyond_the_limit_go(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, recipe(max_train_steps=8), checkpointing_steps=2, checkpoints_total_limit=2)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_6", "step_8"]
    assert not list(tmp_path.glob(".*partial"))


def test_auto_without_a_checkpoint_begins_at_the_beginning(corpus: Path, tmp_path: Path) -> None:
    record = run(corpus, tmp_path, recipe(max_train_steps=2), resume_from_checkpoint="auto")
    assert record["steps"] == 2


def test_learning_rates_of_the_published_schedule(corpus: Path, tmp_path: Path) -> None:
    changes = {"lr_scheduler_type": "exponential_per_epoch", "learning_rate": 1e-4, "num_train_epochs": 3}
    record = run(corpus, tmp_path, recipe(**changes))
    assert [row["learning_rate"] for row in record["history"]] == pytest.approx([9.5e-5, 9.025e-5, 8.57375e-5])


def test_early_stopping_and_best_weights_share_one_criterion(corpus: Path, tmp_path: Path) -> None:
    settings = recipe(num_train_epochs=20, early_stopping_patience=1, selection="loss", learning_rate=0.03)
    record = run(corpus, tmp_path, settings)
    losses = [row["validation_loss"] for row in record["history"]]
    best = int(np.argmin(losses)) + 1
    assert record["selection"]["best_epoch"] == best
    assert record["epochs"] in (20, best + 1)
    assert record["validation"]["cross_entropy"] == pytest.approx(min(losses), rel=1e-5)


def test_last_keeps_the_final_weights_whatever_validation_says(corpus: Path, tmp_path: Path) -> None:
    record = run(corpus, tmp_path, recipe(num_train_epochs=3, selection="last", learning_rate=0.03))
    assert record["selection"]["best_epoch"] == 3
    assert [row["best"] for row in record["history"]] == [True] * 3
    assert record["validation"]["cross_entropy"] == pytest.approx(record["history"][-1]["validation_loss"], rel=1e-5)


def test_a_finished_run_is_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, recipe(max_train_steps=1))
    with pytest.raises(ConfigurationError, match="overwrite_output_dir"):
        run(corpus, tmp_path, recipe(max_train_steps=1))
    run(corpus, tmp_path, recipe(max_train_steps=1), overwrite_output_dir=True)


def test_a_person_on_both_sides_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    leaky = {"data.validation.folds": [2], "max_train_steps": 1}
    with pytest.raises(LeakError, match="people"):
        run(corpus, tmp_path / "a", recipe(**leaky))
    record = run(corpus, tmp_path / "b", recipe(**leaky, **{"data.allow_leak": True}))
    assert record["data"]["leak_check"]["clean"] is False


def test_persons_held_out_of_training(corpus: Path, tmp_path: Path) -> None:
    changes = {"data.validation": {"by_identity": 0.25, "seed": 3}, "max_train_steps": 1}
    record = run(corpus, tmp_path, recipe(**changes))
    sides = record["data"]
    assert sides["train"]["identities"] + sides["validation"]["identities"] == 12
    assert sides["train"]["samples"] + sides["validation"]["samples"] == 72
    assert 12 <= sides["validation"]["samples"] <= 24


def test_bad_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    write_image_folder(folder, seed=2, people=8, takes=1, size=32)
    victim = next((folder / "happiness").glob("*_000_*"))
    victim.write_bytes(victim.read_bytes()[:100])
    record = run(folder, tmp_path / "out", recipe(max_train_steps=1))
    assert list(record["data"]["unreadable"]["train"]) == [f"happiness/{victim.name}"]


def test_classes_are_left_out_on_purpose_only(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    write_image_folder(folder, seed=2, labels=("neutral", "happiness", "fear"), people=8, takes=1, size=32)
    few = {"labels": ["neutral", "happiness"], "max_train_steps": 1}
    with pytest.raises(ValueError, match="fear"):
        run(folder, tmp_path / "a", recipe(**few))
    record = run(folder, tmp_path / "b", recipe(**few, **{"data.drop_labels": ["Fear"]}))
    assert record["data"]["train"]["dropped"] == {"fear": 6}
    assert record["labels"] == ["neutral", "happiness"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.image_sise": 32}, "'image_size'"),
        ({"processor.siz": 3}, "'size'"),
        ({"model.label_smoothing": 0.2}, "label_smoothing"),
        ({"augmentation": {"name": "face", "rotaton": 3}}, "rotaton"),
        ({"augmentation": {"rotation": 3}}, "name"),
        ({"learning_rate": 1e30}, "finite"),
        ({"labels": [*NAMES, "fear"]}, "fear"),
    ],
)
def test_what_does_not_fit_is_said(corpus: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        run(corpus, tmp_path, recipe(**changes, num_train_epochs=1))


def test_training_goes_on_from_a_checkpoint_with_other_labels(trained: Path, corpus: Path, tmp_path: Path) -> None:
    values = override(BASE, {"model_name_or_path": str(trained), "max_train_steps": 1, "learning_rate": 1e-9})
    for key in ("model", "processor"):
        values.pop(key)
    run(corpus, tmp_path / "same", recipe_from_dict(values))
    before, after = weights(trained), weights(tmp_path / "same")
    assert all(torch.allclose(before[key], after[key], atol=1e-5) for key in before if "norm" not in key)
    config: Any = AutoConfig.from_pretrained(tmp_path / "same")
    assert config.operating_point is None
    # the same classes in another order, and a new one: rows follow their names
    folder = tmp_path / "more"
    write_image_folder(folder, seed=2, labels=("happiness", "fear", "surprise"), people=8, takes=1, size=32)
    run(folder, tmp_path / "other", recipe_from_dict(values | {"labels": ["happiness", "fear", "surprise"]}))
    rows, others = before["classifier.weight"], weights(tmp_path / "other")["classifier.weight"]
    assert torch.allclose(others[0], rows[NAMES.index("happiness")], atol=1e-5)
    assert torch.allclose(others[2], rows[NAMES.index("surprise")], atol=1e-5)
    assert not torch.allclose(others[1], rows[NAMES.index("neutral")], atol=1e-2)
    renamed: Any = AutoConfig.from_pretrained(tmp_path / "other")
    assert renamed.id2label == {0: "happiness", 1: "fear", 2: "surprise"}


def test_the_door(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(recipe(), tmp_path / "r.yaml")
    flags = ["--recipe", str(tmp_path / "r.yaml"), "--data_dir", str(corpus), "--no_progress"]
    assert main([*flags, "--output_dir", str(tmp_path / "out"), "--max_train_steps", "2", "--seed", "4"]) == 0
    assert "validation  uar 0." in capsys.readouterr().out
    saved = load_recipe(str(tmp_path / "out" / "recipe.yaml"))
    assert (saved.max_train_steps, saved.seed) == (2, 4)
    assert main([*flags, "--output_dir", str(tmp_path / "no"), "--set", "data.corpus=image_foldr"]) == 1
    assert "image_folder" in capsys.readouterr().err


def test_resuming_by_another_recipe_is_noticed(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(corpus, tmp_path, recipe(max_train_steps=2), checkpointing_steps=1)
    with caplog.at_level(logging.WARNING, logger=loop.__name__.rpartition(".")[0]):
        run(corpus, tmp_path, recipe(max_train_steps=3), resume_from_checkpoint="step_2")
    assert "max_train_steps" in caplog.text
