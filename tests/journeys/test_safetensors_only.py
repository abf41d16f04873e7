"""Weights are safetensors or nothing, by whichever Auto class a folder is loaded."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForImageClassification

from meco_hub import AutoModelForEmotionRecognition
from meco_hub.errors import CheckpointError, ConfigurationError

DOORS = [AutoModel, AutoModelForImageClassification, AutoModelForEmotionRecognition]


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_a_pickle_is_refused_unread(door, folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    marker = folder / "code_ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save(Payload(), folder / name)
    with pytest.raises(CheckpointError, match=name):
        door.from_pretrained(folder)
    assert not marker.exists()


def test_a_folder_without_weights_or_config_says_what_it_holds(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no weights: it holds config\.json"):
        AutoModelForEmotionRecognition.from_pretrained(folder)


def test_asking_for_pickles_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="use_safetensors=False"):
        AutoModel.from_pretrained(folder, use_safetensors=False)


def test_weights_of_another_shape_do_not_load(folder: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"][:, :-1].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not fit .*ignore_mismatched_sizes"):
        AutoModelForEmotionRecognition.from_pretrained(folder)


def test_a_safetensors_file_that_is_none_says_so(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="cannot be read"):
        AutoModelForEmotionRecognition.from_pretrained(folder)
