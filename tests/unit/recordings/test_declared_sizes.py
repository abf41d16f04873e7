"""Small files that stand for very much: refused by what they say, before anything of that size is made."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub import reading
from meco_hub.errors import MecoError, RecordingError
from meco_hub.recordings.events import read_events
from meco_hub.recordings.picture_tables import picture_rows
from meco_hub.recordings.signals import read_signals
from xdf_files import xdf_chunk

ROWS = 200_000


@pytest.fixture(autouse=True)
def a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be unpacked in any case, here, so that the files of these tests need no gigabytes."""
    monkeypatch.setattr(reading, "PLENTY", 2**20)


def _mat73(path: Path, fill: Callable[[Any], None]) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        fill(file)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))


def feather(path: Path) -> None:
    from pandas import DataFrame

    DataFrame({"time": np.zeros(ROWS), "eda": np.zeros(ROWS)}).to_feather(path, compression="zstd", chunksize=ROWS)


def parquet(path: Path) -> None:
    from pandas import DataFrame

    DataFrame({f"c{at}": np.zeros(10_000) for at in range(40)} | {"time": np.zeros(10_000)}).to_parquet(path)


def parquet_list(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    values = pyarrow.ListArray.from_arrays(pyarrow.array([0, ROWS]), pyarrow.array(np.zeros(ROWS, np.int8)))
    parquet.write_table(pyarrow.table({"time": [0.0], "eda": values}), path)


def parquet_words(path: Path) -> None:
    from pandas import DataFrame

    DataFrame({"time": np.arange(5000) / 4, "eda": ["x" * 10_000] * 5000}).to_parquet(path)


def arrays(path: Path) -> None:
    zeros: Any = {f"{name}_values": np.zeros(60_000) for name in "abc"}
    np.savez_compressed(path, **zeros)


def variables(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {f"{name}_values": np.zeros(60_000) for name in "abc"}, do_compression=True)


def cells(path: Path) -> None:
    import h5py

    def fill(file: Any) -> None:
        large = file.create_dataset("large", (100_000,), "f8", chunks=(1000,), compression="gzip")
        named = file.create_dataset("cells", (20, 1), h5py.ref_dtype)
        for at in range(20):
            named[at, 0] = large.ref

    _mat73(path, fill)


def chunk(path: Path) -> None:
    _mat73(
        path,
        lambda file: file.create_dataset(
            "a_values", data=np.zeros(9), chunks=(10**6,), maxshape=(None,), compression="gzip"
        ),
    )


def events_chunk(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", (1000,), "i8", chunks=(10**7,), maxshape=(None,), compression="gzip")


def channels(path: Path) -> None:
    said = {"name": "a", "type": "a", "channel_count": 10**9, "nominal_srate": 4, "channel_format": "double64"}
    head = f"<info>{''.join(f'<{name}>{value}</{name}>' for name, value in said.items())}<desc/></info>"
    samples = struct.pack("<BI", 4, 3) + bytes(27)
    path.write_bytes(b"XDF:" + xdf_chunk(2, head.encode(), 1) + xdf_chunk(3, samples, 1))


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("a.feather", feather, "more than a hundred times"),
        ("a.parquet", parquet, "more than a hundred times"),
        ("b.parquet", parquet_list, "more than a hundred times|lists in its rows"),
        ("c.parquet", parquet_words, "more than a hundred times"),
        ("a.npz", arrays, "more than a hundred times"),
        ("a.mat", variables, "more than a hundred times"),
        ("b.mat", cells, "more than a hundred times"),
        ("c.mat", chunk, "more than a hundred times"),
        ("a.h5", events_chunk, "more than a hundred times"),
        ("a.xdf", channels, "claims 3 samples of 8000000000 bytes"),
    ],
)
def test_more_than_such_a_file_can_hold(name: str, make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    for module in ("pandas", "scipy", "h5py", "pyxdf", "pyarrow"):
        pytest.importorskip(module)
    make(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 2**18
    # what is read in another process, whose limit is the usual one, is called here
    read = _of_other_process(make is events_chunk) if make in (cells, chunk, events_chunk) else read_signals
    with pytest.raises(RecordingError, match=said):
        read(tmp_path / name)


def _of_other_process(events: bool) -> Callable[[Path], Any]:
    from meco_hub.recordings.event_files import hdf5
    from meco_hub.recordings.signal_files.mat import arrays_of_hdf5

    return (lambda path: list(hdf5.answer(path, chunk=1000))) if events else (lambda path: list(arrays_of_hdf5(path)))


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_a_data_set_lies_in_the_file_that_was_named(kind: str, tmp_path: Path) -> None:
    """HDF5 would read any file of the machine that the one of a stranger names."""
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(800))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("v", data=np.arange(100.0))

    def fill(file: Any) -> None:
        if kind == "external":
            file.create_dataset("a_values", (100,), "f8", external=[(str(tmp_path / "secret"), 0, 800)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((100,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "v", (100,))
            file.create_virtual_dataset("a_values", layout)
        else:
            file["a_values"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "v")

    _mat73(tmp_path / "a.mat", fill)
    with pytest.raises(RecordingError, match="lies in another file"):
        list(_of_other_process(False)(tmp_path / "a.mat"))


def test_a_table_of_one_picture_a_million_times(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pictures = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(10**6, np.int32)), pyarrow.array([b"PNG"]))
    parquet.write_table(pyarrow.table({"image": pictures.cast(pyarrow.binary())}), tmp_path / "a.parquet")
    with pytest.raises(MecoError, match="more than it has bytes"):
        picture_rows(tmp_path / "a.parquet")


def test_events_are_numbers_before_a_row_is_read(tmp_path: Path) -> None:
    """A word of a megabyte in each of a million rows takes a few kilobytes."""
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"x": ["x" * 10**6] * 100, "y": 1, "t": 1, "p": 1}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(RecordingError, match=r"x \(.*string\) holds no numbers"):
        read_events(tmp_path / "a.parquet")
