"""Reading in another process: what is sent comes back as it was, and nothing that happens over there happens here."""

import sys
from pathlib import Path

import numpy as np
import pytest

from meco_hub import apart
from meco_hub.errors import ConversionError, DependencyError, MecoError, RecordingError

pytestmark = pytest.mark.processes

THERE = """
import os, signal, sys, time
import numpy as np
from meco_hub.errors import ConversionError, DependencyError

def arrays(path, forms=()):
    for dtype, shape in forms:
        whole = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        yield {"name": path.name, "where": os.getpid()}, [whole, whole.T]
    print("noise of a library"); sys.stdout.flush()
    yield {"end of": [forms, None, "\\udcff"]}, []

def raises(path, kind):
    yield {}, [np.ones(3)]
    raise {"ours": ConversionError, "needs": DependencyError, "others": ZeroDivisionError}[kind]("because")

def crashes(path):
    yield {}, [np.ones(3)]
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(path):
    yield {}, [np.ones(3)]
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "over_there.py").write_text(THERE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(apart, "_idle", [])


def test_arrays_come_back_as_they_were() -> None:
    forms = [
        (dtype, shape) for dtype in ("<f4", ">f8", "i1", ">u2", "?", "<c16") for shape in ([3], [2, 3], [0], [4, 0], [])
    ]
    path = Path("a\udcff\n.h5")  # a name that is no UTF-8
    *answers, last = apart.read_apart("over_there:arrays", path, RecordingError, {"forms": forms})
    for (dtype, shape), (message, (whole, turned)) in zip(forms, answers, strict=True):
        expected = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        assert whole.dtype == dtype
        assert message["name"] == path.name
        np.testing.assert_array_equal(whole.reshape(shape), expected)
        np.testing.assert_array_equal(turned.reshape(expected.T.shape), expected.T)
    assert last == ({"end of": [[list(one) for one in forms], None, "\udcff"]}, [])


def test_one_process_reads_one_file_after_another_unless_it_is_left() -> None:
    def where(forms: list[list[object]]) -> int:
        message, _ = next(
            iter(list(apart.read_apart("over_there:arrays", Path("x"), RecordingError, {"forms": forms})))
        )
        return message["where"]

    forms: list[list[object]] = [["<f4", [2]]] * 2
    first = where(forms)
    assert where(forms) == first
    left = apart.read_apart("over_there:arrays", Path("x"), RecordingError, {"forms": forms})
    assert next(left)[0]["where"] == first
    left.close()  # what it would have sent must not be taken for an answer about another file
    assert where(forms) != first


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "said"),
    [
        ("raises", {"kind": "ours"}, ConversionError, "because"),
        ("raises", {"kind": "needs"}, DependencyError, "because"),
        ("raises", {"kind": "others"}, RecordingError, r"x\.h5: the HDF5 library crashed \(code 1\)"),
        ("crashes", {}, RecordingError, r"x\.h5: the HDF5 library crashed \(code -11\)"),
        ("hangs", {}, RecordingError, r"x\.h5: the HDF5 library did not answer for 3 s"),
    ],
)
def test_what_goes_wrong_there_is_an_error_here(
    function: str, arguments: dict[str, str], kind: type[MecoError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = apart.read_apart(f"over_there:{function}", Path("x.h5"), RecordingError, arguments)
    assert next(answers)[1][0].tolist() == [1, 1, 1]  # the process has started, which may take longer on a busy machine
    if function == "hangs":
        monkeypatch.setattr(apart, "PATIENCE_S", 3.0)
    with pytest.raises(kind, match=said):
        next(answers)
    monkeypatch.setattr(apart, "PATIENCE_S", 60.0)
    assert len(list(apart.read_apart("over_there:arrays", Path("x"), RecordingError))) == 1  # and the next one is read
