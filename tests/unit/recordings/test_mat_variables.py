"""MATLAB variables: what SciPy writes comes back, and no damage brings the process down."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import eye

from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_files.mat import read_mat


@pytest.fixture
def variables() -> dict:
    random = np.random.default_rng(0)
    cells = np.empty((2, 2), object)
    cells[0, 0], cells[1, 0], cells[0, 1], cells[1, 1] = (
        random.normal(size=(3, 2)),
        "text",
        np.int16([1, 2]),
        np.zeros((0, 0)),
    )
    people = np.empty(2, object)
    people[0], people[1] = {"Age": 21.0, "EEG": {"stimuli": cells}}, {"Age": 33.0, "EEG": {"stimuli": cells}}
    return {
        "double": random.normal(size=(5, 3)),
        "cube": random.normal(size=(2, 3, 4)),
        "single": random.normal(size=(4, 1)).astype(np.float32),
        "small": np.array([[1, 2, 300]], np.uint16),
        "complex": random.normal(size=(2, 2)) + 1j * random.normal(size=(2, 2)),
        "logical": np.array([[True, False, True]]),
        "word": "Grüße",
        "words": np.array(["ab", "cd"]),
        "cells": cells,
        "DREAMER": {"Data": people, "rate": 128.0},
        "sparse": eye(3),
    }


@pytest.mark.parametrize("compressed", [True, False])
def test_what_was_written_comes_back(variables, compressed, tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, variables, do_compression=compressed)
    found = read_mat(path)
    scipys = loadmat(path)
    for name in ("double", "cube", "single", "small", "complex", "logical"):
        np.testing.assert_array_equal(found[name], scipys[name])
    assert found["double"].dtype == np.float64
    assert found["logical"].dtype == np.bool_
    assert (found["word"], found["words"]) == ("Grüße", "ab\ncd")
    np.testing.assert_array_equal(found["cells"][0], variables["cells"][0, 0])
    assert found["cells"][1] == "text"  # columns first
    assert found["cells"][3].shape == (0, 0)
    assert found["DREAMER"]["Data"][1]["Age"].item() == 33.0
    np.testing.assert_array_equal(found["DREAMER"]["Data"][0]["EEG"]["stimuli"][0], variables["cells"][0, 0])
    assert "sparse" not in found


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_an_error_of_ours(variables, compressed, tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, variables, do_compression=compressed)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        broken = bytearray(content)
        for at in random.integers(0, len(content), 3):
            broken[at] = random.integers(256)
        path.write_bytes(broken[: random.integers(len(broken))] if random.random() < 0.3 else broken)
        try:
            read_mat(path)
        except RecordingError as error:
            message = str(error)
            assert "x.mat" in message


def test_a_compressed_element_cannot_blow_up(tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"a": np.zeros(10)}, do_compression=True)
    content = bytearray(path.read_bytes())
    import struct
    import zlib

    packed = zlib.compress(struct.pack("<II", 14, 2**31) + b"\0" * 100)
    path.write_bytes(bytes(content[:128]) + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(
        RecordingError, match=r"x.mat: the first variable cannot be read \(a compressed element of .* that claims"
    ):
        read_mat(path)


def test_other_versions_are_named(tmp_path):
    odd = tmp_path / "odd.mat"
    odd.write_bytes(bytes(range(200)))
    with pytest.raises(
        RecordingError, match=r"odd.mat has no header of a MAT file of version 5 to 7, and is none of version 4"
    ):
        read_mat(odd)
    with pytest.raises(RecordingError, match=r"none.mat cannot be read"):
        read_mat(tmp_path / "none.mat")
