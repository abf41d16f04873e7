"""Two processes, and accumulated gradients, do what one process does: the same losses, the same figures, the same weights.

Equal means up to rounding, because sums are formed in another order: losses within 1e-5 (relative), weights within 1e-4 (Adam
divides small gradients by themselves), and every figure that counts samples exactly.
What differs between processes by its nature is switched off: dropout (each process draws its own), BatchNorm in training (each
normalises by its own batch), and a balance loss over the batch.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny_networks

RECIPE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "labels": ["surprise", "neutral", "happiness"],
    "model": {
        **tiny_networks.FACE,
        "fe2_channels": [8, 16],
        "conv_dropout": 0.0,
        "fe1_head_dropout": 0.0,
        "backbone_dropout": 0.0,
        "fusion_dropout": 0.0,
        "router_aux_loss_coef": 0.0,
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0, 1, 2]}, "validation": {"folds": [3]}},
    "augmentation": {"name": "face"},
    "class_balance": 0.5,
    "label_smoothing": 0.1,
    "ema_decay": 0.5,
    "max_grad_norm": 1.0,
    "weight_decay": 0.01,
    "warmup_ratio": 0.2,
    "learning_rate": 3e-3,
    "per_device_eval_batch_size": 5,  # of 24 samples
    "num_train_epochs": 3,
    "dataloader_drop_last": False,
}
SAMPLES = 72


@pytest.fixture(scope="module")
def still() -> list[str]:
    """The names of all BatchNorm layers."""
    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition

    model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(**RECIPE["model"]))
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]


def _compare(first: Path, second: Path) -> tuple[float, float]:
    """Assert that two runs are the same; gives the largest difference of a loss (relative) and of a weight."""
    runs = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (first, second)]
    loss = 0.0
    for one, other in zip(*(run["history"] for run in runs), strict=True):
        assert one["step"] == other["step"]
        for name in ("train_loss", "validation_loss"):
            loss = max(loss, abs(one[name] / other[name] - 1))
            assert one[name] == pytest.approx(other[name], rel=1e-5), name
        for name in ("uar", "war", "macro_f1"):
            assert one[name] == other[name], name
    assert runs[0]["validation"]["n"] == runs[1]["validation"]["n"] == 24
    assert runs[0]["validation"]["confusion"] == runs[1]["validation"]["confusion"]
    weights, others = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert weights.keys() == others.keys()
    weight = max(float((weights[name].double() - others[name].double()).abs().max()) for name in weights)
    assert weight < 1e-4
    return loss, weight


@pytest.mark.parametrize(
    ("batch", "accumulation"),
    [
        (20, 1),  # the last batch has 12 samples: 10 and 2
        (20, 2),
        (20, 3),  # and the last step one batch instead of three
        (10, 2),  # the last batch has 2 samples: the second process has nothing but fillers
    ],
)
def test_two_processes_are_one(
    training_server: Any, look_alike: Path, tmp_path: Path, still: list[str], batch: int, accumulation: int
) -> None:
    assert SAMPLES % batch
    told = []
    for ranks in (1, 2):
        recipe = RECIPE | {
            "frozen_modules": still,
            "per_device_train_batch_size": batch // ranks,
            "gradient_accumulation_steps": accumulation,
        }
        told.append(training_server.train(recipe, look_alike, tmp_path / str(ranks), ranks=ranks))
        assert told[-1]["codes"] == [0] * ranks, told[-1]["logs"]
    loss, weight = _compare(tmp_path / "1", tmp_path / "2")
    print(f"\nbatch {batch} × {accumulation}: losses differ by {loss:.1e} (relative), weights by {weight:.1e}")


@pytest.mark.parametrize(("batch", "accumulation"), [(10, 4), (5, 8)])
def test_accumulated_batches_are_one_large_batch(
    training_server: Any, look_alike: Path, tmp_path: Path, still: list[str], batch: int, accumulation: int
) -> None:
    # 72 samples are one step of 40 and one of 32, which falls into 10, 10, 10 and 2, or into 5, 5, 5, 5, 5, 5 and 2
    for name, size, times in (("large", 40, 1), ("small", batch, accumulation)):
        recipe = RECIPE | {
            "frozen_modules": still,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": times,
        }
        told = training_server.train(recipe, look_alike, tmp_path / name)
        assert told["codes"] == [0], told["logs"]
    loss, weight = _compare(tmp_path / "large", tmp_path / "small")
    print(f"\n{batch} × {accumulation}: losses differ by {loss:.1e} (relative), weights by {weight:.1e}")
