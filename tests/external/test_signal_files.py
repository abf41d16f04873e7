"""Files that other programs wrote, which scipy and pyedflib bring for their own tests, are read as these two read them.

scipy's are of MATLAB 4.2 to 7.4 on Solaris, Linux and Windows (BSD); pyedflib's of the generator of EDFbrowser and others (BSD).
They lie where the packages are installed; a distribution without them skips.
"""

import contextlib
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyedflib
import pytest
import scipy.io
from scipy.sparse import issparse

from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_files.edf import EdfFile
from meco_hub.recordings.signal_files.mat import read_mat
from meco_hub.recordings.signals import read_signals

_OBJECTS = (scipy.io.matlab.MatlabFunction, scipy.io.matlab.MatlabOpaque, scipy.io.matlab.MatlabObject)


def _files(package: Any, *suffixes: str) -> list[Any]:
    """Test files of an installed package, as parameters; one that skips where it has none."""
    folder = Path(package.__file__).parent
    found = sorted(path for path in folder.rglob("tests/**/data/*") if path.suffix in suffixes)
    missing = pytest.param(None, marks=pytest.mark.skip(f"{package.__name__} is installed without its tests' files"))
    return [pytest.param(path, id=path.name) for path in found] or [missing]


def _check_same(mine: Any, theirs: Any, where: str) -> None:
    """Numbers, text, cells and structs of MATLAB, one inside the other."""
    if isinstance(theirs, np.ndarray) and theirs.dtype.names is not None:
        several = [mine] if theirs.size == 1 else mine
        for one, other in zip(several, theirs.ravel(order="F"), strict=True):
            for name in theirs.dtype.names:
                if name in one:  # what is left out of a struct is no number, text, cell or struct
                    _check_same(one[name], other[name], f"{where}.{name}")
    elif isinstance(mine, list):
        for place, (one, other) in enumerate(zip(mine, theirs.ravel(order="F"), strict=True)):
            _check_same(one, other, f"{where}{{{place}}}")
    elif isinstance(mine, str):
        rows = [str(row).rstrip() for row in theirs.ravel()]
        assert mine.rstrip() == "".join(rows) or [row.rstrip() for row in mine.split("\n")] == rows, where
    elif isinstance(mine, np.ndarray):
        np.testing.assert_array_equal(mine, theirs, err_msg=where)
    else:
        assert not mine, where  # a struct without fields, which scipy gives as None


@pytest.mark.parametrize("path", _files(scipy.io.matlab, ".mat"))
def test_what_matlab_wrote_is_read_as_scipy_reads_it(path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = {name: one for name, one in scipy.io.loadmat(path).items() if not name.startswith("__")}
    except (ValueError, NotImplementedError, zlib.error):  # damaged, or of version 7.3
        with contextlib.suppress(RecordingError):
            assert read_mat(path)
        return
    mine = read_mat(path)
    readable = [name for name, one in theirs.items() if not issparse(one) and not isinstance(one, _OBJECTS)]
    assert set(readable) >= set(mine)
    for name in readable:
        if theirs[name].dtype.kind in "iufcUb":
            assert name in mine
        if name in mine:
            _check_same(mine[name], theirs[name], f"{path.name}: {name}")


@pytest.mark.parametrize("path", _files(pyedflib, ".edf", ".bdf"))
def test_what_others_wrote_as_edf_is_read_as_pyedflib_reads_it(path: Path) -> None:
    mine = EdfFile(path)
    with pyedflib.EdfReader(str(path)) as theirs:
        labels = [one.strip() for one in theirs.getSignalLabels()]
        kept = [index for index, label in enumerate(labels) if label != "EDF Annotations"]  # a signal, of plain EDF
        assert mine.labels == [labels[index] for index in kept]
        assert mine.units == [theirs.getPhysicalDimension(index).strip() for index in kept]
        np.testing.assert_allclose(mine.rates, theirs.getSampleFrequencies()[kept])
        for index in kept:
            np.testing.assert_array_equal(mine.digital(index), theirs.readSignal(index, digital=True))
            np.testing.assert_allclose(mine.physical(index), theirs.readSignal(index), atol=1e-9, rtol=1e-12)
        channels = sum(len(stream.channels) for stream in read_signals(path).streams.values())
        assert channels == len(kept)
