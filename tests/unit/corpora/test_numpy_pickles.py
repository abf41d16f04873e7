"""numpy_pickles: arrays come out as they went in, and nothing that a pickle asks for is run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub.corpora.numpy_pickles import load_arrays
from meco_hub.corpora.synthetic_signals import python2_pickle
from meco_hub.errors import CorpusError

ARRAYS = {"labels": np.linspace(1, 9, 8).reshape(2, 4), "data": np.arange(24.0).reshape(2, 3, 4)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, "python 2"])
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
    assert np.array_equal(load_arrays(pickle.dumps({"x": array}, protocol=2), "a.dat")["x"], array)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "run")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_payload_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "run.txt"
    content = pickle.dumps({"data": ARRAYS["data"], "labels": Payload(target)}, protocol=protocol)
    with pytest.raises(CorpusError, match=r"s01.dat asks for \S+, which is no part of an array.*nothing of it was run"):
        load_arrays(content, "s01.dat")
    assert not target.exists()
    pickle.loads(content)
    assert target.exists(), "the payload is one that runs"


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
    ],
)
def test_what_is_no_dict_of_arrays(content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"s01\.dat"):
        load_arrays(content, "s01.dat")
