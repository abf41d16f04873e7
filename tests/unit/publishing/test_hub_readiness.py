"""A folder that a stranger could not load is refused before anything is sent."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from meco_hub import plugins
from meco_hub.errors import CardError, CheckpointError, MecoError, PublishingError
from meco_hub.evaluation.evaluate import evaluate_checkpoint
from meco_hub.loading import load_model
from meco_hub.pipeline import recogniser
from meco_hub.publishing.hub import check_destination, push_folder
from meco_hub.weight_files import read_index, require_finite_weights

if TYPE_CHECKING:
    from loopback_hub.server import LoopbackHub


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face model of a few thousand parameters, with its processor."""
    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
    from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor

    sizes: dict[str, Any] = {
        "fe1_channels": [4, 8],
        "fe1_kernel_sizes": [7, 3],
        "fe1_hidden_size": 16,
        "fusion_hidden_size": 16,
    }
    more: dict[str, Any] = {
        "fe2_channels": [4, 8],
        "fe2_kernel_sizes": [5, 3],
        "backbone_depths": [1, 1],
        "backbone_widths": [4, 8],
    }
    folder = tmp_path_factory.mktemp("folders") / "whole"
    ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(image_size=64, **sizes, **more)).save_pretrained(folder)
    ExpressNetMoEImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "mine"))


def _change(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def _shard(folder: Path) -> list[Path]:
    from meco_hub import AutoModelForEmotionRecognition

    model = AutoModelForEmotionRecognition.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("model-*.safetensors"))


def _shard_beside(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "x")
    _shard(folder)
    (folder / "x").rename(folder / "model.safetensors")


def _without_limits(folder: Path) -> None:
    text = "---\nlibrary_name: transformers\npipeline_tag: image-classification\nlicense: mit\n---\n# A\n\n## Limits\n\n## More\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


UNNAMED = {str(index): f"LABEL_{index}" for index in range(7)}

DAMAGES: dict[str, tuple[Callable[[Path], Any], type[MecoError], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), CheckpointError, "expected config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), PublishingError, "no weights; expected model.safetensors"),
    "cut off": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-8]),
        CheckpointError,
        "model.safetensors cannot be read",
    ),
    "a tensor missing": (lambda f: _weights(f, lambda w: w.pop("classifier.bias")), PublishingError, "missing classifier.bias"),
    "a tensor too many": (lambda f: _weights(f, lambda w: w.update(x=torch.zeros(1))), PublishingError, "unexpected x"),
    "another shape": (
        lambda f: _weights(f, lambda w: w.update({"classifier.bias": torch.zeros(99)})),
        PublishingError,
        "of another shape classifier.bias",
    ),
    "another architecture": (
        lambda f: _change(f / "config.json", lambda c: c.update(model_type="resnet")),
        MecoError,
        "resnet",
    ),
    "another class": (
        lambda f: _change(f / "config.json", lambda c: c.update(architectures=["SomethingElse"])),
        PublishingError,
        "its class is SomethingElse",
    ),
    "labels without names": (
        lambda f: _change(f / "config.json", lambda c: c.update(id2label=UNNAMED, label2id=None)),
        PublishingError,
        "expected a name of its own for each output",
    ),
    "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), PublishingError, "came without its processor"),
    "another processor": (
        lambda f: _change(f / "preprocessor_config.json", lambda c: c.update(image_processor_type="Unknown")),
        PublishingError,
        "cannot be loaded",
    ),
    "an unfilled card": (
        lambda f: (f / "README.md").write_text("# A\n\n[More Information Needed]\n", encoding="utf-8"),
        PublishingError,
        "expected a card that was filled in",
    ),
    "a card without limits": (_without_limits, CardError, "imits"),
    "shards and a whole": (_shard_beside, PublishingError, "expected one or the other"),
    "a shard missing": (lambda f: _shard(f)[0].unlink(), CheckpointError, "is missing"),
    "a shard too many": (
        lambda f: shutil.copy(_shard(f)[0], f / "model-00009-of-00009.safetensors"),
        PublishingError,
        "which model.safetensors.index.json does not name",
    ),
    "no index": (lambda f: (_shard(f), (f / "model.safetensors.index.json").unlink()), PublishingError, "expected model.saf"),
    "a pickle beside": (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), PublishingError, "named as a pickle"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(folder: Path, damage: str) -> None:
    harm, error, match = DAMAGES[damage]
    harm(folder)
    with pytest.raises(error, match=match) as caught:
        push_folder(folder, "me/mine", dry_run=True)
    assert "meco-push-" not in str(caught.value), "the folder that was handed in must be named"


def test_a_whole_folder_goes_as_it_is_with_card_and_stub(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    planned = push_folder(folder, "me/mine", dry_run=True)
    assert {*before, "README.md", "meco_stub.py"} == set(planned.files)
    assert planned.commit is None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_shards_go_whole(folder: Path) -> None:
    shards = _shard(folder)
    assert len(shards) > 1
    assert set(read_index(folder / "model.safetensors.index.json")) == {path.name for path in shards}
    planned = push_folder(folder, "me/mine", dry_run=True)
    assert {path.name for path in shards} <= set(planned.files)


@pytest.mark.parametrize("name", ["mine", "me/mine/more", "me/", "../mine", "me/a b"])
def test_a_name_that_is_none(folder: Path, name: str) -> None:
    with pytest.raises(PublishingError, match=r"names no repository.*expected owner/name. Nothing was sent"):
        push_folder(folder, name, dry_run=True)


def test_where_no_push_could_go_is_said_before_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PublishingError, match="HF_HUB_OFFLINE"):
        check_destination("me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(PublishingError, match="Nobody is logged in"):
        check_destination("me/mine")
    monkeypatch.setenv("HF_TOKEN", "a word that is long enough")
    check_destination("me/mine")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_are_no_numbers_pass_no_door(folder: Path, value: float, sharded: bool) -> None:
    """Whoever loads or publishes them hears the same, with or without a record of what they were."""
    if sharded:
        _shard(folder)
    for file in sorted(folder.glob("model*.safetensors"))[-1:]:
        weights = load_file(file)
        weights[min(weights)].view(-1)[0] = value
        save_file(weights, file, metadata={"format": "pt"})
    doors: list[Callable[[], Any]] = [
        lambda: push_folder(folder, "me/model", dry_run=True),
        lambda: load_model(str(folder)),
        lambda: load_model(str(folder)).base_model.from_pretrained(folder),
        lambda: recogniser(folder),
        lambda: evaluate_checkpoint(folder, "image_folder", folder, folder / "out"),
    ]
    for door in doors:
        with pytest.raises(CheckpointError, match=f"{min(weights)} holds NaN or infinity"):
            door()


def test_weights_are_those_of_their_record_when_they_are_pushed(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"data": {}, "weights_sha256": 64 * "0"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="has SHA-256"):
        push_folder(folder, "me/model", dry_run=True)


def test_large_weights_are_numbers() -> None:
    """Their sum is none."""
    largest = torch.full((4,), torch.finfo(torch.float32).max)
    require_finite_weights(
        [("a", largest), ("b", torch.ones(3, dtype=torch.int64)), ("c", largest.half().clamp(max=6e4))], "x"
    )


def test_no_hash_of_a_person_is_published(folder: Path, hub: "LoopbackHub") -> None:
    """Whoever can count to S99 knows a name by its hash."""
    side = {"samples": 3, "people": ["0123456789abcdef"]}
    record = {"data": {"corpus": "case", "train": side, "validation": side, "people": 2}, "history": []}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    push_folder(folder, "me/model")
    sent = json.loads(hub.repositories["me/model"].tree("main")["run.json"].content)
    assert sent == {**record, "data": {**record["data"], "train": {"samples": 3}, "validation": {"samples": 3}}}
    assert "0123456789abcdef" in (folder / "run.json").read_text(encoding="utf-8")  # at home it stays


def test_no_hash_of_a_person_is_bundled() -> None:
    for name, bundled in plugins.checkpoints().items():
        record = json.loads((bundled / "run.json").read_text(encoding="utf-8"))
        people = [side["people"] for side in record["data"].values() if isinstance(side, dict) and side.get("people")]
        assert not people or record["data"]["corpus"].startswith("see"), name  # drawn by a program
