"""Recipes and flags: every key checked, nearest names offered, flags over recipe, written and read again."""

import dataclasses
import json
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meco_hub import plugins
from meco_hub.errors import ConfigurationError, UnknownNameError
from meco_hub.train import main
from meco_hub.training.arguments import build_parser, parse_arguments
from meco_hub.training.recipes import (
    AUGMENTATIONS,
    Recipe,
    check_recipe_code,
    find_recipe,
    load_recipe,
    override,
    recipe_from_dict,
    recipe_to_dict,
    write_recipe,
)

BASE: dict[str, Any] = {"model_type": "meco_some", "data": {"validation": {"by_identity": 0.2}}}


def build(**changes: Any) -> Any:
    return recipe_from_dict(override(BASE, changes))


def test_a_recipe_survives_writing_and_reading(tmp_path: Path) -> None:
    recipe = build(learning_rate=3e-4, labels=["neutral", "anger"], augmentation={"name": "face"}, mixed_precision="no")
    write_recipe(recipe, tmp_path / "r.yaml")
    assert load_recipe(str(tmp_path / "r.yaml")) == recipe
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


def test_keys_that_are_numbers_survive_json() -> None:
    recipe = build(image_sizes={0: 64, 12: 96})
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))).image_sizes == {0: 64, 12: 96}


_STEPS = ("max_train_steps", "num_warmup_steps")


def _counted(before: str, part: type = Recipe) -> Iterator[str]:
    """Every key of a recipe that is a whole number, but for those with bounds of their own."""
    hints = typing.get_type_hints(part)
    for one in dataclasses.fields(part):
        if dataclasses.is_dataclass(kind := hints[one.name]):
            yield from _counted(f"{before}{one.name}.", typing.cast("type", kind))
        elif kind in (int, int | None) and one.name not in ("seed", "dataloader_num_workers"):
            yield before + one.name


def test_settings_that_count_are_seen() -> None:
    assert {*_STEPS, "num_train_epochs", "per_device_eval_batch_size", "clips_per_recording"} < {*_counted("")}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("learning_rat", 1, "'learning_rate'"),
        ("data.trian", {}, "'train'"),
        ("data.validation.by_identiy", 0.1, "'by_identity'"),
        ("operating_point.rul", "none", "'rule'"),
        ("selection", "uarr", "'uar'"),
        ("lr_scheduler_type", "cosin", "'cosine'"),
        ("learning_rate", "fast", "float"),
        ("learning_rate", -1, "positive"),
        ("learning_rate", True, "float"),
        ("learning_rate", 10**400, "float"),
        ("learning_rate", math.inf, "finite"),
        ("learning_rate_factors", {"head": math.inf}, "positive"),
        ("seed", 1.5, "int"),
        *((key, value, "4294967295") for key in ("seed", "data.validation.seed") for value in (-1, 2**32, 2**70)),
        ("dataloader_num_workers", 10**6, "256"),
        *((key, 10**12, "up to 1048576") for key in _counted("") if key not in _STEPS),
        *((key, 10**12, "up to 1000000000") for key in _STEPS),
        ("data.protocol", {"name": "P3", "fold": "1", "n_folds": 10**12}, "up to 1048576"),
        ("data.train.folds", [0, 10**12], "up to 1048576"),
        ("image_sizes", {0: 10**12}, "up to 1048576"),
        ("model", {"image_size": 10**12}, "up to 1048576"),
        ("per_device_train_batch_size", 0, "positive"),
        ("class_balance", 1.5, "from 0 to 1"),
        ("ema_decay", 1.0, "below 1"),
        ("labels", [], "each once"),
        ("labels", ["a", "a"], "each once"),
        ("labels", "abc", "list"),
        ("data", [], "mapping"),
        ("data.validation.split", "test", "exactly one"),
        ("data.validation.by_identity", None, "exactly one"),
        ("selection", "operating_point", "operating_point.rule"),
        ("soft_labels_of", "x", "soft_label_weight or soft_label_head beside it"),
        ("operating_point.tau_min", 5.0, "no more than tau_max"),
        ("average_with_start", [0.5], "model_name_or_path"),
        ("average_with_start", [1.5], "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        recipe_from_dict(override(BASE, {key: value}))
    assert says in str(caught.value)
    assert key.rsplit(".", 1)[-1] in str(caught.value)


def test_a_checkpoint_brings_its_own_backbone() -> None:
    with pytest.raises(ConfigurationError, match="brings its own"):
        build(model_name_or_path="x", backbone_weights="package:y")


@pytest.mark.parametrize("code", ["subprocess:Popen", "os:system", "builtins:eval", "meco_hub.plugins:load_dotted"])
@pytest.mark.parametrize("key", ["augmentation", "distillation"])
def test_a_recipe_runs_no_program(key: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {"augmentation": {"name": code, "args": ["touch", "x"]}, "distillation": {"teacher": code}}[key]
    recipe = build(**{key: named})
    with pytest.raises(ConfigurationError, match=rf"{key}.*no installed plugin declares.*--trust_recipe_code"):
        check_recipe_code(recipe)
    check_recipe_code(recipe, trusted=True)
    write_recipe(recipe, tmp_path / "r.yaml")
    assert (
        main(["--recipe", str(tmp_path / "r.yaml"), "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o")])
        == 1
    )
    assert "Nothing of it was run" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_is_installed_for_recipes_is_known_by_name() -> None:
    for name in (*AUGMENTATIONS, *AUGMENTATIONS.values()):
        check_recipe_code(build(augmentation={"name": name}))
    for name in plugins.recipes():
        check_recipe_code(load_recipe(name))


def test_a_recipe_needs_an_architecture() -> None:
    with pytest.raises(ConfigurationError, match="model_type"):
        recipe_from_dict({"learning_rate": 1.0})


def test_numbers_in_yaml_without_a_dot_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model_type: m\nlearning_rate: 1e-4\nmixed_precision: no\ndata: {validation: {folds: [2]}}\n")
    recipe = load_recipe(str(file))
    assert recipe.learning_rate == 1e-4
    assert recipe.mixed_precision == "no"


def test_broken_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1")
    with pytest.raises(ConfigurationError, match=r"broken\.yaml"):
        load_recipe(str(file))
    file.write_text("- 1\n")
    with pytest.raises(ConfigurationError, match="mapping"):
        load_recipe(str(file))


def test_unknown_recipes_offer_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "raf_db.yaml"
    file.write_text("model_type: m\n")
    monkeypatch.setattr("meco_hub.plugins.recipes", lambda: {"meco_some/raf_db": file})
    assert find_recipe("meco_some/raf_db") == file
    with pytest.raises(UnknownNameError, match="'meco_some/raf_db'"):
        find_recipe("meco_some/rafdb")
    with pytest.raises(UnknownNameError, match=r"There is no file mine\.yaml\."):
        find_recipe("mine.yaml")
    for name in ("a" * 5000, "a\0b"):  # of a comparison that a stranger wrote
        with pytest.raises(UnknownNameError):
            find_recipe(name)


def write(tmp_path: Path) -> list[str]:
    file = tmp_path / "r.yaml"
    file.write_text(
        "model_type: meco_some\nlearning_rate: 1.0e-4\nearly_stopping_patience: 5\ndescription: as it was\n"
        "data: {train: {folds: [0, 1]}, validation: {by_identity: 0.2, seed: 7}}\n"
    )
    return ["--recipe", str(file), "--data_dir", "data", "--output_dir", "out"]


def test_flags_override_the_recipe_and_nothing_else(tmp_path: Path) -> None:
    plain, options = parse_arguments(write(tmp_path))
    assert (plain.learning_rate, plain.early_stopping_patience, plain.seed) == (1e-4, 5, 0)
    assert options.checkpointing_steps is None
    changed, options = parse_arguments(
        [*write(tmp_path), "--learning_rate", "3e-4", "--early_stopping_patience", "null", "--labels", "a", "b",
         "--seed", "3", "--channels_last", "false", "--set", "data.validation.seed=9", "data.train.folds=[2]",
         "--checkpointing_steps", "epoch", "--report_to", "tensorboard", "--dataset", "raf_db",
         "--description", "2024"]
    )  # fmt: skip
    assert (changed.learning_rate, changed.early_stopping_patience, changed.seed) == (3e-4, None, 3)
    assert changed.labels == ["a", "b"]
    assert changed.channels_last is False
    assert (changed.data.corpus, changed.data.validation.seed, changed.data.train.folds) == ("raf_db", 9, [2])
    assert changed.data.validation.by_identity == 0.2
    assert changed.description == "2024"
    assert (options.checkpointing_steps, options.report_to) == ("epoch", ("tensorboard",))


def test_wrong_flags_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments([*write(tmp_path), "--learning_rat", "1"])
    assert "--learning_rat" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="KEY=VALUE"):
        parse_arguments([*write(tmp_path), "--set", "seed"])
    with pytest.raises(ConfigurationError, match="learning_rate"):
        parse_arguments([*write(tmp_path), "--learning_rate", "fast"])
    with pytest.raises(ConfigurationError, match="--model_type"):
        parse_arguments(["--data_dir", "d", "--output_dir", "o"])


def test_every_key_explains_itself() -> None:
    text = build_parser().format_help()
    for word in ("--learning_rate", "--per_device_train_batch_size", "--resume_from_checkpoint", "--ema_decay"):
        assert word in text


def test_what_a_config_says_of_a_recipe_is_one_error_of_ours() -> None:
    from meco_hub.answers import Task
    from meco_hub.training import construction

    modalities = {"eda": {"channels": 1, "sampling_rate": 4, "patch_s": 1.0}}
    settings = build(model_type="meco_himoe", model={"modalities": modalities, "modality_names": ["edaa"]})
    with pytest.raises(ConfigurationError, match=r"^Recipe key 'model': modality_names are \['edaa'\]"):
        construction.build(settings, Task(("calm", "tense")))
