"""Files that a reader once failed on otherwise than by an error of ours: the fuzzer's finds that no test writes by itself."""

from pathlib import Path

import pytest

from meco_hub import apart
from meco_hub.errors import RecordingError
from meco_hub.recordings.signals import read_signals

FOLDER = Path(__file__).parent / "past_failures"


@pytest.mark.processes
@pytest.mark.parametrize(("name", "said"), [("hdf5_crash", r"crashed \(code"), ("hdf5_hang", "did not answer for")])
def test_the_hdf5_library_does_not_take_us_with_it(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAT files of version 7.3: one brought the process down, one kept it for ever. A library without the fault may refuse them."""
    pytest.importorskip("h5py")
    monkeypatch.setattr(apart, "PATIENCE_S", 15.0)
    with pytest.raises(RecordingError, match=rf"{name}\.mat: .*({said}|cannot be read)"):
        read_signals(FOLDER / f"{name}.mat")
