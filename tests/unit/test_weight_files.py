"""Headers of safetensors that are cut off, lie or contradict themselves are refused, with the file named and what was seen."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from meco_hub.errors import CheckpointError
from meco_hub.weight_files import INDEX, WEIGHTS, TensorEntry, read_header, read_weights, require_finite_weights


@pytest.fixture
def file(tmp_path: Path) -> Path:
    target = tmp_path / WEIGHTS
    save_file({"a": np.ones((2, 3), np.float32), "b": np.arange(4)}, target, metadata={"format": "pt"})
    return target


def _rewrite(file: Path, header: Any, numbers: bytes | None = None) -> None:
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + (raw[8 + length :] if numbers is None else numbers))


def _header(file: Path) -> dict[str, Any]:
    raw = file.read_bytes()
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


def test_a_sound_file_says_what_it_holds(file: Path) -> None:
    assert read_header(file) == {"a": TensorEntry("F32", (2, 3), True), "b": TensorEntry("I64", (4,), False)}
    assert read_header(file)["a"].floating
    assert not read_header(file)["b"].floating


@pytest.mark.parametrize("kept", [0, 7, 8, 40, 150, -1])
def test_a_file_that_was_cut_off_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} cannot be read: .*Copy or download it again"):
        read_header(file)


def test_a_file_with_something_behind_its_numbers_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="not fully covered"):
        read_header(file)


@pytest.mark.parametrize("length", [2**63, 10**9, 10**6])
def test_a_huge_header_is_not_read(file: Path, length: int) -> None:
    file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(CheckpointError, match=r"header too large|invalid header length"):
        read_header(file)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a", {"dtype": "F64"}, "invalid shape, data type, or offset"),
        ("a", {"dtype": "F99"}, "unknown variant `F99`"),
        ("a", {"shape": [2, 2]}, "invalid shape, data type, or offset"),
        ("a", {"shape": [-2, -3]}, "invalid value: integer `-2`"),
        ("a", {"shape": "many"}, "expected a sequence"),
        ("a", {"data_offsets": [0, 10**9]}, "invalid offset for tensor `a`"),
        ("a", {"data_offsets": [40, 64]}, "invalid offset for tensor `a`"),  # behind the file's end
        ("a", {"data_offsets": [8, 32]}, "invalid offset for tensor `a`"),  # over its neighbour
        ("a", {"data_offsets": [-8, 16]}, "invalid value: integer `-8`"),
        ("b", {"data_offsets": None}, "expected a tuple of size 2"),
    ],
)
def test_a_header_that_lies_is_refused(file: Path, name: str, change: dict[str, Any], message: str) -> None:
    header = _header(file)
    header[name] |= change
    _rewrite(file, header)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", [b"[]", b"{", b"\xff\xfe", b'{"a": 1}', b"[" * 5000, b'{"a": {}, "a": {}}'])
def test_a_header_that_is_none_is_refused(file: Path, text: bytes) -> None:
    _rewrite(file, text)
    with pytest.raises(CheckpointError, match=WEIGHTS):
        read_header(file)


def test_a_pointer_of_git_lfs_is_named(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        read_header(file)


def test_whatever_is_damaged_nothing_else_is_raised(file: Path) -> None:
    sound, draw = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        file.write_bytes(damaged[: draw.randint(1, len(damaged))] if draw.random() < 0.3 else damaged)
        try:
            read_header(file)
        except CheckpointError:
            refused += 1
    assert refused > 150  # the others changed numbers or names, which no header can tell


def _shards(folder: Path) -> None:
    save_file({"a": np.ones(2, np.float32)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": np.ones(2, np.float32)}, folder / "model-00002-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    _shards(tmp_path)
    assert set(read_weights(tmp_path) or ()) == {"a", "b"}
    assert read_weights(tmp_path, "fp16") is None


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    _shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002\.safetensors is missing: .* 1 tensors are in it \(b"):
        read_weights(tmp_path)


def test_a_shard_of_another_index_is_named(tmp_path: Path) -> None:
    _shards(tmp_path)
    save_file({"c": np.ones(2, np.float32)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="do not agree on b, c"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        *("{}", "[]", "nothing", '{"weight_map": {"a": 3}}'),
        *(
            json.dumps({"weight_map": {"a": f"{name}.safetensors"}})
            for name in ("../../secret", "m" * 3000, "é" * 200, "\0", "\ud800")
        ),
    ],
)
def test_an_index_that_is_none_or_leads_elsewhere_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match=INDEX):
        read_weights(tmp_path)


_DTYPES = {one for one in vars(torch).values() if isinstance(one, torch.dtype)}
_FLOATS = sorted((one for one in _DTYPES if one.is_floating_point or one.is_complex), key=str)


@pytest.mark.parametrize("dtype", _FLOATS, ids=str)
def test_no_dtype_hides_what_is_no_number(dtype: torch.dtype) -> None:
    """Of some, torch cannot tell what is none; and networks compute in float32 with each."""

    def check(*values: float) -> None:
        require_finite_weights([("a", torch.tensor(values, dtype=torch.float64).to(dtype))], "They")

    if "float4" in str(dtype):  # two in a byte, which nothing is converted to
        with pytest.raises(CheckpointError, match="They: a cannot be looked at"):
            require_finite_weights([("a", torch.zeros(2, dtype=torch.uint8).view(dtype))], "They")
        return
    check(1.0, 0.5)
    for bad in (float("nan"), *([1e300] if dtype in (torch.float64, torch.complex128) else [])):
        with pytest.raises(CheckpointError, match="They: a holds NaN or infinity"):
            check(1.0, bad)
