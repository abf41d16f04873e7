"""Engines that hold a model in parts: what they cannot do is refused, and their way through the loop ends with the same weights.

Their way is taken here by a model that is whole; two processes take it with FSDP in tests/journeys/test_any_architecture.py.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file

import tiny_networks
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import ConfigurationError
from meco_hub.training import engine, loop, validation
from meco_hub.training.arguments import RunOptions
from meco_hub.training.recipes import recipe_from_dict

BASE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "model": {
        **tiny_networks.FACE,
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0, 1]}, "validation": {"folds": [2]}},
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
    "operating_point": {"rule": "max_uar"},
}


def configured(kind: DistributedType, fsdp2: bool = True) -> Any:
    return SimpleNamespace(distributed_type=kind, is_fsdp2=fsdp2)


def test_what_an_engine_cannot_do_is_refused() -> None:
    plain, averaged = recipe_from_dict(BASE), recipe_from_dict({**BASE, "ema_decay": 0.9})
    for kind in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.FSDP, DistributedType.DEEPSPEED):
        engine.check_engine(configured(kind), plain)
    engine.check_engine(configured(DistributedType.MULTI_GPU), averaged)
    with pytest.raises(ConfigurationError, match=r"ema_decay.*cannot be combined"):
        engine.check_engine(configured(DistributedType.FSDP), averaged)
    with pytest.raises(ConfigurationError, match="fsdp_version: 2"):
        engine.check_engine(configured(DistributedType.FSDP, fsdp2=False), plain)
    with pytest.raises(ConfigurationError, match="language models only"):
        engine.check_engine(configured(DistributedType.MEGATRON_LM), plain)


def test_a_model_that_cannot_be_divided_is_refused() -> None:
    model, recipe = torch.nn.Linear(2, 2), recipe_from_dict(BASE)
    engine.check_model(configured(DistributedType.FSDP), model, recipe)
    model.gain = torch.nn.Parameter(torch.ones(()))
    engine.check_model(configured(DistributedType.MULTI_GPU), model, recipe)
    with pytest.raises(ConfigurationError, match=r"shape \(\): gain\. .*shape \(1,\)"):
        engine.check_model(configured(DistributedType.FSDP), model, recipe)


def test_deepspeed_on_cpus_wants_gloo_and_no_use_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    state = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, mixed_precision="no", deepspeed_plugin=None)
    engine.prepare_engine(cast(Any, SimpleNamespace(state=state)))
    assert not engine.process_groups()
    assert caplog.text == ""
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert [cast(Any, one).backend for one in engine.process_groups()] == ["gloo"]
    engine.prepare_engine(cast(Any, SimpleNamespace(state=state)))
    assert "DeepSpeed is configured, and so is use_cpu, with which Accelerate trains by MULTI_CPU" in caplog.text
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not engine.process_groups()


def test_gathered_weights_make_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    write_image_folder(tmp_path / "faces", seed=1, labels=("neutral", "happiness"), people=9, takes=1, folds=3, size=32)
    asked: list[str] = []
    prepared: list[tuple[Any, ...]] = []
    prepare = Accelerator.prepare
    monkeypatch.setattr(Accelerator, "prepare", lambda self, *given: prepared.append(given) or prepare(self, *given))

    def run(name: str) -> dict[str, torch.Tensor]:
        loop.train(recipe_from_dict(BASE), RunOptions(tmp_path / "faces", tmp_path / name, progress=False))
        return load_file(tmp_path / name / "model.safetensors")

    whole = run("whole")
    # at once, and the loader as it was made: DeepSpeed reads the batch off it
    ((loader, model, *rest),) = prepared
    assert loader.batch_size == BASE["per_device_train_batch_size"]
    assert isinstance(model, torch.nn.Module)
    assert len(rest) == 2
    for module in (engine, validation):
        monkeypatch.setattr(module, "in_parts", lambda accelerator: asked.append("asked") or True)
    parts = run("parts")
    assert asked
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
