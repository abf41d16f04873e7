"""numpy_pickles: arrays come out as they went in, and nothing that a pickle asks for is run."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub.corpora.deap import load_arrays
from meco_hub.corpora.synthetic.signals import python2_pickle
from meco_hub.errors import CorpusError

ARRAYS = {"labels": np.linspace(1, 9, 8).reshape(2, 4), "data": np.arange(24.0).reshape(2, 3, 4)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5, "python 2"])
def test_arrays_round_trip(protocol: Any) -> None:
    content = python2_pickle(ARRAYS) if protocol == "python 2" else pickle.dumps(ARRAYS, protocol=protocol)
    found = load_arrays(content, "a.dat")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(found[name], array)


def test_our_writer_writes_what_numpy_reads() -> None:
    theirs = pickle.loads(python2_pickle(ARRAYS), encoding="latin1")  # ours, so it may run
    assert all(np.array_equal(theirs[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2", "u1", "i8"])
def test_types_and_orders(dtype: str) -> None:
    array = np.asfortranarray(np.arange(12).reshape(3, 4).astype(dtype))
    for protocol in range(6):
        found = load_arrays(pickle.dumps({"x": array, "y": array[::2]}, protocol=protocol), "a.dat")
        assert np.array_equal(found["x"], array)
        assert np.array_equal(found["y"], array[::2])
        assert not found["x"].flags.writeable


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "run")


@pytest.mark.parametrize("protocol", range(6))
def test_a_payload_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "run.txt"
    content = pickle.dumps({"data": ARRAYS["data"], "labels": Payload(target)}, protocol=protocol)
    with pytest.raises(CorpusError, match=r"s01.dat asks for \S+, which is no part of an array.*nothing of it was run"):
        load_arrays(content, "s01.dat")
    assert not target.exists()
    pickle.loads(content)
    assert target.exists(), "the payload is one that runs"


class Shell:
    """Runs a command when it is unpickled, as the plainest attack does."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class TypeOfAShell(Shell):
    """An array's type whose name is a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, (Shell(self.target), False, True)


@pytest.mark.parametrize("protocol", range(6))
def test_payloads_in_odd_places_are_not_run_either(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    inside = np.empty(1, dtype=object)
    inside[0] = Shell(target)
    for planted in (
        Shell(target),
        TypeOfAShell(target),
        inside,
        [Shell(target)],
        pickle.dumps(Shell(target), protocol),
    ):
        with pytest.raises(CorpusError, match=r"s01\.dat"):
            load_arrays(pickle.dumps({"data": planted, "labels": ARRAYS["labels"]}, protocol=protocol), "s01.dat")
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["__defaults__", "__new__", "__setstate__", "__call__", "numbers", "_make", "__dict__"]
)
@pytest.mark.parametrize(
    "whose", ["numpy.core.multiarray\n_reconstruct", "numpy\nndarray", "numpy\ndtype", "_codecs\nencode"]
)
def test_a_pickle_cannot_change_the_reader(whose: str, name: str) -> None:
    """What a pickle may set on an object, it could set on ours, and the next file would be read by what it left there."""
    key = b"X" + struct.pack("<I", len(name)) + name.encode()
    for state in (b"}" + key + b"K\x01s", b"N}" + key + b"K\x01s\x86"):
        with pytest.raises(CorpusError, match=r"s01\.dat"):
            load_arrays(b"\x80\x02}c" + whose.encode() + b"\n" + state + b"b0.", "s01.dat")
    assert np.array_equal(load_arrays(python2_pickle(ARRAYS), "good.dat")["data"], ARRAYS["data"])


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # would reserve a place for two thousand million objects
        b"}p268435456\n.",
        b"(" * 100_000 + b"0" * 100_000 + b".",
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
    ],
)
def test_a_few_bytes_cannot_take_the_memory(content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"s01\.dat cannot be read.*(instructions|expected \d+ bytes)"):
        load_arrays(content, "s01.dat")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
    ],
)
def test_the_global_is_named(content: bytes, name: str) -> None:
    with pytest.raises(CorpusError, match=f"s01.dat asks for {name},"):
        load_arrays(content, "s01.dat")


@pytest.mark.parametrize(
    "content",
    [
        python2_pickle(ARRAYS)[:-40],
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": [1.0, 2.0]}),
        pickle.dumps({"data": np.array(["text"])}, protocol=2),
        pickle.dumps({"data": np.array([{}], dtype=object)}, protocol=2),
        python2_pickle(ARRAYS).replace(b"J\x02\x00\x00\x00J\x04", b"J\x03\x00\x00\x00J\x04"),
        python2_pickle(ARRAYS).replace(b"J\x02\x00\x00\x00J\x04", b"J\xff\xff\xff\x7fJ\x04"),
        b"cnumpy\nndarray\n(tR.",
        b"\x80\x02}U\x01aPid\n.",
        b"\x80\x02}U\x01a\x82\x01s.",
    ],
)
def test_what_is_no_dict_of_arrays(content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"s01\.dat"):
        load_arrays(content, "s01.dat")
