"""Drawn recordings, written in every format and read again: values, clocks, gaps, names and units are those that were written."""

from collections.abc import Callable
from dataclasses import dataclass
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


WRITERS: dict[str, Callable[[Path, list[Drawn]], Path]] = {
    "npz": write_npz,
    "mat": write_mat,
    "csv": write_table,
    "folder": write_folder,
    "xdf": write_xdf,
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
        if kind == "xdf":
            assert found.kind == one.name
        else:
            assert found.channels == one.channels


@settings(max_examples=15, deadline=None)
@given(
    rates=st.lists(st.sampled_from([1, 4, 32, 128]), min_size=1, max_size=4),
    seconds=st.integers(2, 20),
    seed=st.integers(0, 99),
)
def test_what_was_written_as_edf_is_read(
    rates: list[int], seconds: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path_factory.mktemp("drawn") / "S.edf"
    draw = np.random.default_rng(seed)
    signals = [draw.uniform(-8, 8, rate * seconds) for rate in rates]
    with pyedflib.EdfWriter(str(path), len(rates), file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        for index, rate in enumerate(rates):
            limits = {"physical_max": 8.0, "physical_min": -8.0, "digital_max": 32767, "digital_min": -32768}
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
        np.testing.assert_allclose(stream.values[:, 0], values, atol=16 / 65535)
        assert (stream.rate, stream.channels, stream.units) == (rate, (f"Odd {index}",), ("uS",))
