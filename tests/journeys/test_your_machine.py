"""Training on a machine that nobody prepared: each way works, or ends in one line that says what to do.

Elsewhere: a changed recipe, changed data and another number of processes between kill and resume (`test_checkpoints.py`), kills
(`test_resume.py`), FSDP (`test_any_architecture.py`), own pictures with rubbish among them (`docs/own_pictures.md`).
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification

import full_disk
import tiny_networks
from meco_hub.train import main
from meco_hub.training import loop
from meco_hub.training.arguments import LOCK
from meco_hub.training.checkpoints import BEST, list_checkpoints

RECIPE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "model": tiny_networks.FACE,
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0]}, "validation": {"folds": [1]}},
    "per_device_train_batch_size": 8,
    "num_train_epochs": 1,
}


def _words(folder: Path, data_dir: Path, output_dir: Path, *more: str) -> list[str]:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return ["--recipe", str(file), "--data_dir", str(data_dir), "--output_dir", str(output_dir), "--no_progress", *more]


def test_two_trainings_into_one_folder(look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code = f"import fcntl; f = open({str(out / LOCK)!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert main(_words(tmp_path, look_alike, out)) == 1
        (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco train:")]
        assert "Another training is writing to" in line
        assert "name another output_dir" in line
        other.kill()  # and with it goes its claim
    assert main(_words(tmp_path, look_alike, out)) == 0
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_a_folder_that_cannot_be_written(look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(_words(tmp_path, look_alike, tmp_path / "file" / "out")) == 1
    assert "cannot be written" in capsys.readouterr().err
    shut = tmp_path / "shut"
    shut.mkdir()
    shut.chmod(0o500)
    try:
        (shut / "probe").touch()
    except PermissionError:
        assert main(_words(tmp_path, look_alike, shut)) == 1
        assert "Name another output_dir" in capsys.readouterr().err
    finally:
        shut.chmod(0o700)


def test_a_full_disk_while_a_checkpoint_is_written(
    look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(_words(tmp_path, look_alike, out, "--checkpointing_steps", "epoch")) == 0
    first = list_checkpoints(out)
    weights = (out / "model.safetensors").stat().st_size
    longer = ["--num_train_epochs", "2", "--checkpointing_steps", "epoch", "--resume_from_checkpoint", "auto"]
    # for the weights, and none for the optimiser's state, which is twice as large
    with full_disk.room(weights + 20_000):
        assert main(_words(tmp_path, look_alike, out, *longer)) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco train:")]
    assert "epoch_2 cannot be written" in line
    assert "Make room, and go on by the same command" in line
    assert list_checkpoints(out) == first
    assert not list(out.glob(".*.partial"))
    assert main(_words(tmp_path, look_alike, out, *longer)) == 0
    assert len(list_checkpoints(out)) == 2


def test_a_full_disk_at_the_end_of_a_training(
    look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", loop.write_result

    def write_without_room(*everything: Any) -> Any:
        with full_disk.room(20_000):
            return write(*everything)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "write_result", write_without_room)
        assert main(_words(tmp_path, look_alike, out)) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco train:")]
    assert "run.json cannot be written" in line
    assert not (out / "run.json").exists()
    assert sorted(path.name for path in out.iterdir()) == [BEST, "recipe.yaml"]  # its room is free again
    assert main(_words(tmp_path, look_alike, out, "--resume_from_checkpoint", "auto")) == 0
    assert (out / "run.json").is_file()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_cpu(precision: str, training_server: Any, look_alike: Path, tmp_path: Path) -> None:
    told = training_server.train({**RECIPE, "mixed_precision": precision}, look_alike, tmp_path)
    assert told["codes"] == [0], told["logs"]
    assert all(torch.isfinite(one).all() for one in load_file(tmp_path / "model.safetensors").values())


def test_what_accelerate_cannot_begin_with_is_said(
    look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = AcceleratorState(mixed_precision="no")  # of this process, and it can have one only
    assert main(_words(tmp_path, look_alike, tmp_path / "out", "--mixed_precision", "bf16")) == 1
    assert state.mixed_precision == "no"
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco train:")]
    assert "Accelerate cannot begin" in line
    assert "Change mixed_precision in the recipe" in line


def test_an_engine_that_is_not_all_installed_is_said(
    look_alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(**_: Any) -> None:
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr("meco_hub.training.loop.Accelerator", begin)
    assert main(_words(tmp_path, look_alike, tmp_path / "out")) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco train:")]
    assert "No module named 'einops'" in line
    assert "Install what is missing, or choose another engine" in line
    assert "mixed_precision" not in line


@pytest.mark.slow
def test_a_file_of_accelerate_config(look_alike: Path, tmp_path: Path) -> None:
    file = tmp_path / "accelerate.yaml"
    said = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "NO",
        "use_cpu": True,
        "mixed_precision": "bf16",
    }
    file.write_text(yaml.safe_dump({**said, "num_processes": 1, "num_machines": 1}), encoding="utf-8")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), "-m", "meco_hub.train"]
    words = _words(tmp_path, look_alike, tmp_path / "out")
    done = subprocess.run([*launch, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "configuration says mixed_precision bf16 and the recipe no; the recipe holds" in done.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()


# --- what others bring ------------------------------------------------------------------------------------------------


class _Pictures(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, folder: Path, processor: Any) -> None:
        names = ("happiness", "neutral", "surprise")
        found = [(file, names.index(file.parent.name)) for file in sorted(folder.glob("*/*.jpg"))[::6]]
        self.items = [
            {**{key: one[0] for key, one in processor(Image.open(file), return_tensors="pt").items()}, "labels": label}
            for file, label in found
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def test_transformers_own_trainer(tiny_checkpoint: Path, look_alike: Path, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model = AutoModelForImageClassification.from_pretrained(tiny_checkpoint, num_labels=3, ignore_mismatched_sizes=True)
    processor = AutoImageProcessor.from_pretrained(tiny_checkpoint)
    options: dict[str, Any] = {"use_cpu": True, "report_to": [], "max_steps": 3, "save_steps": 2, "disable_tqdm": True}
    rows = _Pictures(look_alike, processor)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(tmp_path / "run"), **options),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=processor,
    )
    assert trainer.train().global_step == 3
    assert trainer.evaluate()["eval_loss"] > 0
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert type(again) is type(model)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


@pytest.mark.parametrize("place", ["auto", "cpu", {"": "cpu"}], ids=["auto", "cpu", "whole"])
def test_device_map(tiny_checkpoint: Path, place: Any) -> None:
    model = AutoModelForImageClassification.from_pretrained(tiny_checkpoint, device_map=place)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(model.device)
    plain = AutoModelForImageClassification.from_pretrained(tiny_checkpoint).eval()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(pixels).logits.cpu(), plain(pixels.cpu()).logits, atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_is_refused_where_it_would_count_twice(tiny_checkpoint: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(tiny_checkpoint)
    with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
        model.gradient_checkpointing_enable()


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")
@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")
def test_lora_on_a_backbone_of_timm(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model  # pyright: ignore[reportMissingImports]

    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition

    config = ExpressNetMoEConfig(**{**tiny_networks.FACE, "image_size": 64}, backbone="tf_efficientnet_lite0")
    ExpressNetMoEForEmotionRecognition(config).save_pretrained(tmp_path / "base")
    model = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path / "base")
    heads = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    pointwise = r".*backbone\.model\.blocks\..*conv_pwl?"
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=pointwise, modules_to_save=heads))
    optimizer = torch.optim.AdamW([one for one in tuned.parameters() if one.requires_grad], lr=0.01)
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        tuned(pixel_values=pixels, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.save_pretrained(tmp_path / "adapter")
    base = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path / "base")
    again = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        again.eval()
        merged = again.merge_and_unload()
        assert torch.isfinite(merged(pixels).logits).all()
    merged.save_pretrained(tmp_path / "merged")
    whole = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        torch.testing.assert_close(whole(pixels).logits, merged.eval()(pixels).logits)
