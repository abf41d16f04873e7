"""Drawn recordings, written in every format and read again: values, clocks, gaps, names and units are those that were written."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from meco_hub.recordings.signals import read_signals
from xdf_files import xdf_stream

UNITS = ("µS", "°C", "mV", "g")


@dataclass(frozen=True)
class Drawn:
    """One stream."""

    name: str
    values: np.ndarray
    times: np.ndarray
    rate: float
    channels: tuple[str, ...]
    units: tuple[str, ...]


@st.composite
def drawn_streams(draw: st.DrawFn) -> list[Drawn]:
    streams = []
    for name in draw(st.lists(st.sampled_from(["ecg", "eda", "skin_temp", "A1"]), min_size=1, max_size=3, unique=True)):
        rate, count = draw(st.sampled_from([1.0, 4.0, 32.0, 100.0, 128.0])), draw(st.integers(8, 200))
        columns, seed = draw(st.integers(1, 3)), draw(st.integers(0, 99))
        times = np.arange(count) / rate
        if draw(st.booleans()):
            times = np.where(np.arange(count) >= count // 2, times + draw(st.integers(5, 90)), times)
        values = np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float32).astype(np.float64)
        labels = tuple(f"c{index}" for index in range(columns))
        streams.append(Drawn(name, values, times, rate, labels, tuple(UNITS[(seed + i) % 4] for i in range(columns))))
    return streams


def write_npz(path: Path, streams: list[Drawn]) -> Path:
    arrays: dict[str, object] = {}
    for one in streams:
        arrays |= {f"{one.name}_values": one.values, f"{one.name}_times": one.times}
        arrays |= {f"{one.name}_channels": list(one.channels), f"{one.name}_units": list(one.units)}
    np.savez(path / "S.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return path / "S.npz"


def write_mat(path: Path, streams: list[Drawn]) -> Path:
    def struct(one: Drawn) -> dict[str, object]:
        names = {key: np.array(getattr(one, key), object) for key in ("channels", "units")}
        return {"values": one.values, "times": one.times[:, None], **names}

    savemat(path / "S.mat", {"S": {one.name: struct(one) for one in streams}})
    return path / "S.mat"


def write_folder(path: Path, streams: list[Drawn]) -> Path:
    for one in streams:
        header = ["time", *(f"{name} [{unit}]" for name, unit in zip(one.channels, one.units, strict=True))]
        rows = [[repr(float(cell)) for cell in (time, *row)] for time, row in zip(one.times, one.values, strict=True)]
        text = "\n".join(";".join(row).replace(".", ",") for row in rows)  # as a spreadsheet in German
        (path / f"{one.name}.csv").write_text("# drawn\n" + ";".join(header) + "\n" + text + "\n", encoding="utf-8")
    return path


def write_table(path: Path, streams: list[Drawn]) -> Path:
    cells: dict[float, dict[str, str]] = {}
    header = [
        f"{one.name}.{name} ({unit})" for one in streams for name, unit in zip(one.channels, one.units, strict=True)
    ]
    for one in streams:
        for time, row in zip(one.times.tolist(), one.values, strict=True):
            named = zip(one.channels, one.units, row, strict=True)
            cells.setdefault(time, {}).update({f"{one.name}.{n} ({u})": repr(float(cell)) for n, u, cell in named})
    rows = [",".join([repr(time), *(cells[time].get(name, "") for name in header)]) for time in sorted(cells)]
    (path / "S.csv").write_text("\n".join([",".join(["time", *header]), *rows]) + "\n", encoding="utf-8")
    return path / "S.csv"


def write_xdf(path: Path, streams: list[Drawn]) -> Path:
    pytest.importorskip("pyxdf")
    chunks = [b"XDF:"]
    for number, one in enumerate(streams, start=1):
        chunks += xdf_stream(
            number, one.name, "float32", one.rate, one.values.astype(np.float32), 700 + one.times, one.units
        )
    (path / "S.xdf").write_bytes(b"".join(chunks))
    return path / "S.xdf"


def write_mat_7_3(path: Path, streams: list[Drawn]) -> Path:
    h5py = pytest.importorskip("h5py")
    file = path / "S.mat"
    with h5py.File(file, "w", userblock_size=512) as opened:  # as MATLAB writes: turned round, and with its classes
        kept = opened.create_group("#refs#")
        for one in streams:
            group = opened.create_group(f"S/{one.name}")
            for key, numbers in (("values", one.values), ("times", one.times[:, None])):
                group.create_dataset(key, data=numbers.T).attrs["MATLAB_class"] = b"double"
            for key in ("channels", "units"):
                cells = []
                for text in getattr(one, key):
                    letters = kept.create_dataset(
                        f"{len(kept)}", data=np.array([[ord(letter)] for letter in text], "u2")
                    )
                    letters.attrs["MATLAB_class"] = b"char"
                    cells.append(letters.ref)
                group.create_dataset(key, data=np.array([cells], h5py.ref_dtype).T).attrs["MATLAB_class"] = b"cell"
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))
    return file


def write_packed(path: Path, streams: list[Drawn]) -> Path:
    (path / "S.csv.gz").write_bytes(gzip.compress(write_table(path, streams).read_bytes()))
    return path / "S.csv.gz"


def write_frame(path: Path, streams: list[Drawn], suffix: str) -> Path:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(write_table(path, streams), float_precision="round_trip")
    if suffix == "parquet":
        frame.set_index("time").to_parquet(path / "S.parquet")
    else:
        frame.to_feather(path / "S.feather")
    return path / f"S.{suffix}"


def write_xdfz(path: Path, streams: list[Drawn]) -> Path:
    (path / "S.xdfz").write_bytes(gzip.compress(write_xdf(path, streams).read_bytes()))
    return path / "S.xdfz"


WRITERS: dict[str, Callable[[Path, list[Drawn]], Path]] = {
    "npz": write_npz,
    "mat": write_mat,
    "csv": write_table,
    "folder": write_folder,
    "xdf": write_xdf,
    "xdfz": write_xdfz,
    "mat 7.3": write_mat_7_3,
    "csv.gz": write_packed,
    "parquet": partial(write_frame, suffix="parquet"),
    "feather": partial(write_frame, suffix="feather"),
}


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=15, deadline=None)
@given(streams=drawn_streams())
def test_what_was_written_is_read(kind: str, streams: list[Drawn], tmp_path_factory: pytest.TempPathFactory) -> None:
    recording = read_signals(WRITERS[kind](tmp_path_factory.mktemp("drawn"), streams))
    assert recording.warnings == ()
    assert set(recording.streams) == {one.name for one in streams}
    for one in streams:
        found = recording.streams[one.name]
        np.testing.assert_array_equal(found.values, one.values)
        np.testing.assert_allclose(found.times, one.times, atol=1e-6)
        assert found.rate == pytest.approx(one.rate, rel=1e-4)
        assert found.units == one.units
        if kind.startswith("xdf"):
            assert found.kind == one.name
        else:
            assert found.channels == one.channels


@pytest.mark.parametrize("suffix", ["edf", "bdf"])
@settings(max_examples=8, deadline=None)
@given(
    rates=st.lists(st.sampled_from([1, 4, 32, 128]), min_size=1, max_size=4),
    seconds=st.integers(2, 20),
    seed=st.integers(0, 99),
)
def test_what_was_written_as_edf_is_read(
    suffix: str, rates: list[int], seconds: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path_factory.mktemp("drawn") / f"S.{suffix}"
    draw = np.random.default_rng(seed)
    signals = [draw.uniform(-8, 8, rate * seconds) for rate in rates]
    kind, largest = (pyedflib.FILETYPE_EDFPLUS, 32767) if suffix == "edf" else (pyedflib.FILETYPE_BDFPLUS, 8388607)
    with pyedflib.EdfWriter(str(path), len(rates), file_type=kind) as writer:
        for index, rate in enumerate(rates):
            limits = {"physical_max": 8.0, "physical_min": -8.0, "digital_max": largest, "digital_min": -largest - 1}
            header = {
                "label": f"Odd {index}",
                "dimension": "uS",
                "sample_frequency": rate,
                "transducer": "",
                "prefilter": "",
            }
            writer.setSignalHeader(index, {**header, **limits})
        writer.writeSamples(signals)
    recording = read_signals(path)
    for index, (rate, values) in enumerate(zip(rates, signals, strict=True)):
        stream = recording.streams[f"Odd {index}"]
        np.testing.assert_allclose(stream.values[:, 0], values, atol=8.5 / largest)
        assert (stream.rate, stream.channels, stream.units) == (rate, (f"Odd {index}",), ("uS",))


@settings(max_examples=10, deadline=None)
@given(
    seconds=st.integers(20, 90),
    late=st.integers(0, 40),
    seed=st.integers(0, 99),
    form=st.sampled_from(["folder", "zip", "folder in a zip"]),
    gone=st.sampled_from(["", "IBI.csv", "HR.csv", "ACC.csv"]),
)
def test_what_a_watch_wrote_is_read(
    seconds: int, late: int, seed: int, form: str, gone: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An E4's session, of which one file may be empty and the heart rate begins late."""
    draw, start = np.random.default_rng(seed), 1_675_000_000
    rates = {"ACC": 32, "BVP": 64, "EDA": 4, "TEMP": 4, "HR": 1}
    written, files = {}, {}
    for name, rate in rates.items():
        begin, columns = start + (late if name == "HR" else 0), 3 if name == "ACC" else 1
        values = draw.integers(-99, 99, (seconds * rate, columns)) / (1 if name == "ACC" else 4)
        written[name] = values / 64 if name == "ACC" else values
        head = [", ".join([f"{one:.6f}"] * columns) for one in (begin, rate)]
        files[f"{name}.csv"] = "\n".join([*head, *(",".join(f"{cell:g}" for cell in row) for row in values)]) + "\n"
    beats = np.cumsum(draw.uniform(0.5, 1.2, 20)).round(6)
    files["IBI.csv"] = "\n".join(
        [f"{start}, IBI", *(f"{time},{step}" for time, step in zip(beats, beats / 99, strict=True))]
    )
    files |= {gone: ""} if gone else {}
    path = tmp_path_factory.mktemp("watch")
    if form == "folder":
        for name, text in files.items():
            (path / name).write_text(text)
    else:
        with zipfile.ZipFile(path / "S.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(f"1675_A0/{name}" if form == "folder in a zip" else name, text)
        path = path / "S.zip"
    recording = read_signals(path)
    assert [one.code for one in recording.warnings if one.code != "stream_ends_early"] == ["part_left_out"] * bool(gone)
    assert set(recording.streams) == {name.lower() for name in (*rates, "IBI") if f"{name}.csv" != gone}
    for name, rate in rates.items():
        if f"{name}.csv" != gone:
            stream = recording.streams[name.lower()]
            np.testing.assert_array_equal(stream.values, written[name].astype(np.float32))
            first = late if name == "HR" else 0
            np.testing.assert_allclose(stream.times, first + np.arange(len(stream)) / rate, atol=1e-6)
            assert stream.rate == rate
    if gone != "IBI.csv":
        np.testing.assert_allclose(recording.streams["ibi"].times, beats, atol=1e-6)
