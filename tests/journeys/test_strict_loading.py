"""Weights fit the model or are refused, by whichever door a folder is loaded; only a head may be new or left over, on purpose."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, pipeline

import meco_hub
from meco_hub import AutoModelForEmotionRecognition
from meco_hub.errors import CheckpointError, ConfigurationError
from meco_hub.loading import load_model


def _by_pipeline(folder: Path) -> Any:
    return pipeline("emotion-recognition", model=str(folder))


HEADS: dict[str, Callable[[Path], Any]] = {
    "AutoModelForEmotionRecognition": AutoModelForEmotionRecognition.from_pretrained,
    "AutoModelForImageClassification": AutoModelForImageClassification.from_pretrained,
    "pipeline": _by_pipeline,
    "load_model": lambda folder: load_model(str(folder)),
}
DOORS = {**HEADS, "AutoModel": AutoModel.from_pretrained}
HEAD_KEY = "classifier.weight"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


@pytest.fixture
def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _save(weights: dict[str, torch.Tensor], folder: Path) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _base_key(weights: dict[str, torch.Tensor]) -> str:
    return next(name for name in weights if name.startswith("expressnet.") and name.endswith(".weight"))


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_missing_weight_is_refused(door, folder: Path, weights) -> None:
    key = _base_key(weights)
    del weights[key]
    _save(weights, folder)
    with pytest.raises(CheckpointError, match=rf"lack 1 of the \d+ .*{key.removeprefix('expressnet.')}"):
        door(folder)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("key", ["something.else", "expressnet.another.weight"])
def test_a_weight_too_many_is_refused(door, folder: Path, weights, key: str) -> None:
    _save(weights | {key: torch.ones(2)}, folder)
    with pytest.raises(CheckpointError, match=f"no place for: .*{key.removeprefix('expressnet.')}"):
        door(folder)


@pytest.mark.parametrize("door", HEADS.values(), ids=HEADS)
def test_a_head_that_the_checkpoint_claims_to_have_must_be_there(door, folder: Path, weights) -> None:
    for key in [name for name in weights if not name.startswith("expressnet.")]:
        del weights[key]
    _save(weights, folder)
    with pytest.raises(CheckpointError, match=HEAD_KEY):
        door(folder)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_whole_numbers_in_place_of_weights_are_refused(door, folder: Path, weights) -> None:
    key = _base_key(weights)
    _save(weights | {key: weights[key].view(torch.int32)}, folder)
    with pytest.raises(CheckpointError, match="the dtype I32"):
        door(folder)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_weights_of_another_model_are_refused(door, folder: Path) -> None:
    shutil.copy(meco_hub.checkpoint("meco-himoe-case") / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match=str(folder)):
        door(folder)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_file_that_was_cut_off_is_refused_by_name(door, folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: .*file not fully covered"):
        door(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    model = AutoModelForEmotionRecognition.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert isinstance(AutoModelForEmotionRecognition.from_pretrained(folder), type(model))
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} is missing"):
        AutoModel.from_pretrained(folder)


def test_a_new_head_on_a_base_model_is_allowed_and_said(folder: Path, tmp_path: Path) -> None:
    base = AutoModel.from_pretrained(folder)
    base.save_pretrained(tmp_path / "base")
    model, info = AutoModelForEmotionRecognition.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    ours, theirs = base.state_dict(), model.base_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_base_model_comes_out_of_a_checkpoint_with_a_head(folder: Path, weights) -> None:
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert all(torch.equal(weights[f"expressnet.{name}"], value) for name, value in model.state_dict().items())


def test_another_number_of_classes_is_a_choice(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="ignore_mismatched_sizes=True"):
        AutoModelForEmotionRecognition.from_pretrained(folder, num_labels=3)
    model = AutoModelForEmotionRecognition.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    assert model.classifier.out_features == 3


def test_saving_writes_neither_auto_map_nor_sources(folder: Path, tmp_path: Path) -> None:
    recognise = _by_pipeline(folder)
    model = recognise.model
    model.config.auto_map = {"AutoModel": "stub.Model"}
    type(model).register_for_auto_class("AutoModel")
    type(model.config).register_for_auto_class()
    model.config.save_pretrained(tmp_path / "config")
    recognise.save_pretrained(tmp_path / "all")
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["config.json"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json"
    ]  # fmt: skip
    for file in tmp_path.glob("*/*.json"):
        assert "auto_map" not in json.loads(file.read_text(encoding="utf-8")), file
    assert AutoConfig.from_pretrained(tmp_path / "all").model_type == model.config.model_type


def test_pushing_weights_alone_is_refused(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForEmotionRecognition.from_pretrained(folder)
    with pytest.raises(ConfigurationError, match="Call push_to_hub"):
        model.save_pretrained(tmp_path / "saved", push_to_hub=True)
