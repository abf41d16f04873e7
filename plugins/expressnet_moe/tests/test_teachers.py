"""The teacher's reader, on random weights in TensorFlow.js's format; the real weights are not part of this project."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from meco_expressnet_moe import teachers
from meco_expressnet_moe.teachers import FaceApiExpressions
from meco_hub.errors import CheckpointError, InputError


def layout() -> dict[str, list[int]]:
    """Names and shapes as in the package's manifest."""
    shapes: dict[str, list[int]] = {}
    inputs = 3
    for block, width in enumerate((32, 64, 128, 256)):
        for index in range(4):
            name = f"dense{block}/conv{index}"
            if (block, index) == (0, 0):
                shapes[f"{name}/filters"] = [3, 3, inputs, width]
            else:
                shapes[f"{name}/depthwise_filter"] = [3, 3, inputs, 1]
                shapes[f"{name}/pointwise_filter"] = [1, 1, inputs, width]
            shapes[f"{name}/bias"] = [width]
            inputs = width
    return {**shapes, "fc/weights": [256, 7], "fc/bias": [7]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights: kernels as bytes with scale and minimum, biases as float32."""
    generator = np.random.default_rng(0)
    entries, content = [], b""
    for name, shape in layout().items():
        entry: dict = {"name": name, "shape": shape, "dtype": "float32"}
        if name.endswith("bias"):
            content += generator.normal(0, 0.1, shape).astype("<f4").tobytes()
        else:
            content += generator.integers(0, 256, shape, dtype=np.uint8).tobytes()
            spread = 2.0 / np.sqrt(np.prod(shape[:3]))
            entry["quantization"] = {"dtype": "uint8", "scale": spread / 255, "min": -spread / 2}
        entries.append(entry)
    manifest = json.dumps([{"weights": entries, "paths": ["face_expression_model.bin"]}])
    (tmp_path / "face_expression_model.bin").write_bytes(content)
    (tmp_path / "face_expression_model-weights_manifest.json").write_text(manifest, encoding="utf-8")
    monkeypatch.setattr(teachers, "_SHA256", hashlib.sha256(content).hexdigest())
    return tmp_path


def test_logits_of_seven_expressions_whatever_the_size(folder: Path) -> None:
    teacher = FaceApiExpressions(str(folder))
    assert len(teacher.outputs) == 7
    small = torch.rand(2, 3, 56, 56)
    logits = teacher(small)
    assert logits.shape == (2, 7)
    resized = F.interpolate(small, size=(112, 112), mode="bilinear", antialias=True)
    torch.testing.assert_close(logits, teacher(resized))
    assert logits.std() > 0


def test_the_last_layer_is_what_the_file_says(folder: Path) -> None:
    teacher = FaceApiExpressions(str(folder))
    content = (folder / "face_expression_model.bin").read_bytes()
    np.testing.assert_array_equal(teacher.get_buffer("fc_bias").numpy(), np.frombuffer(content[-28:], "<f4"))
    packed = np.frombuffer(content[-28 - 256 * 7 : -28], np.uint8).reshape(256, 7).astype(np.float32)
    spread = np.float32(2.0 / np.sqrt(256 * 7))
    expected = (packed * (spread / 255) - spread / 2).T
    np.testing.assert_allclose(teacher.get_buffer("fc_weights").numpy(), expected, atol=1e-6)


def test_a_kernel_sees_what_tensorflow_shows_it(folder: Path) -> None:
    """The first convolution's corner, by hand: 'same' with stride 2 begins at the very first pixel."""
    teacher = FaceApiExpressions(str(folder))
    pixels = torch.rand(1, 3, 112, 112)
    kernel = teacher.get_buffer("dense0_conv0_filters")
    got = teacher._convolve(pixels, "dense0_conv0_filters", stride=2)
    assert got.shape == (1, 32, 56, 56)
    torch.testing.assert_close(got[0, :, 0, 0], (kernel * pixels[:, :, :3, :3]).sum(dim=(1, 2, 3)))


def test_nothing_is_trained(folder: Path) -> None:
    assert not list(FaceApiExpressions(str(folder)).parameters())


def test_missing_and_other_weights_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="npm install"):
        FaceApiExpressions(str(folder / "nowhere"))
    monkeypatch.setattr(teachers, "_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="SHA-256"):
        FaceApiExpressions(str(folder))


def test_other_inputs_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="batch, 3"):
        FaceApiExpressions(str(folder))(torch.rand(2, 1, 112, 112))
