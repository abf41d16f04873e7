"""An EmbracePlus' raw data, written in the schema of Empatica's files, are read: values, clocks, gaps between files, and damage."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.errors import RecordingError
from meco_hub.recordings.signals import read_signals

fastavro = pytest.importorskip("fastavro")

START = 1_709_287_200_000_000
"""Microseconds since 1970."""


def _record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in fields.items()]}


def _sensor(name: str, **fields: Any) -> dict[str, Any]:
    return _record(name, timestampStart="long", samplingFrequency="float", **fields)


def _array(items: str) -> dict[str, str]:
    return {"type": "array", "items": items}


INERTIAL = _record("ImuParams", physicalMin="int", physicalMax="int", digitalMin="int", digitalMax="int")
SCHEMA = _record(
    "empatica.format.avro.Session",
    schemaVersion=_record("Version", major="int", minor="int", patch="int"),
    deviceSn="string",
    deviceModel="string",
    timezone="int",
    rawData=_record(
        "RawData",
        accelerometer=_sensor("Accelerometer", imuParams=INERTIAL, **dict.fromkeys("xyz", _array("int"))),
        gyroscope=_sensor(
            "Gyroscope", imuParams="empatica.format.avro.ImuParams", **dict.fromkeys("xyz", _array("int"))
        ),
        eda=_sensor("Eda", values=_array("float")),
        temperature=_sensor("Temperature", values=_array("float")),
        tags=_record("Tags", tagsTimeMicros=_array("long")),
        bvp=_sensor("Bvp", values=_array("float")),
        systolicPeaks=_record("SystolicPeaks", peaksTimeNanos=_array("long")),
        steps=_sensor("Steps", values=_array("int")),
    ),
)
RATES = {"accelerometer": 64.0, "eda": 4.0, "temperature": 1.0, "bvp": 64.0}
OFF = {"timestampStart": 0, "samplingFrequency": 0.0}
NO_SCALE = dict.fromkeys(("physicalMin", "physicalMax", "digitalMin", "digitalMax"), 0)


def session(seed: int, seconds: int, late: float = 0.0, **changes: Any) -> dict[str, Any]:
    """One file's record, which begins `late` seconds after the session."""
    draw, start = np.random.default_rng(seed), START + round(late * 1e6)
    scale = {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32767}

    def clock(sensor: str) -> dict[str, Any]:
        return {"timestampStart": start, "samplingFrequency": RATES[sensor]}

    def values(sensor: str, centre: float) -> dict[str, Any]:
        count = int(seconds * RATES[sensor])
        return {**clock(sensor), "values": (centre + draw.normal(size=count)).astype(np.float32).tolist()}

    axes = {axis: draw.integers(-4000, 4000, int(seconds * 64)).tolist() for axis in "xyz"}
    beats = start * 1000 + (np.arange(0.4, seconds, 0.8) * 1e9).astype(np.int64)
    raw = {
        "accelerometer": {**clock("accelerometer"), "imuParams": scale, **axes},
        "gyroscope": {**OFF, "imuParams": NO_SCALE, "x": [], "y": [], "z": []},
        "eda": values("eda", 5),
        "temperature": values("temperature", 33),
        "tags": {"tagsTimeMicros": [start]},
        "bvp": values("bvp", 0),
        "systolicPeaks": {"peaksTimeNanos": beats.tolist()},
        "steps": {**OFF, "values": []},
        **changes,
    }
    version = {"major": 6, "minor": 5, "patch": 0}
    return {"schemaVersion": version, "deviceSn": "3YK0", "deviceModel": "EMBRACE+", "timezone": 0, "rawData": raw}


def write(path: Path, *records: dict[str, Any], codec: str = "deflate") -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(SCHEMA), records, codec=codec)
    return path


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    lengths=st.lists(st.integers(20, 60), min_size=1, max_size=3),
    gap=st.sampled_from([0, 7, 300]),
    form=st.sampled_from(["file", "folder", "zip"]),
    codec=st.sampled_from(["null", "deflate"]),
)
def test_what_was_written_is_read(
    seed: int, lengths: list[int], gap: int, form: str, codec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("session")
    late = np.cumsum([0, *[length + gap for length in lengths[:-1]]]).tolist()
    records = [session(seed + at, length, begin) for at, (length, begin) in enumerate(zip(lengths, late, strict=True))]
    if form == "file":
        path = write(folder / "1-1-1.avro", *records, codec=codec)
    else:
        inside = folder / "raw_data" / "v6"
        inside.mkdir(parents=True)
        files = [write(inside / f"1-1-{at}.avro", one, codec=codec) for at, one in enumerate(reversed(records))]
        path = folder
        if form == "zip":
            path = folder / "day.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for file in files:
                    archive.write(file, f"raw_data/v6/{file.name}")
    recording = read_signals(path)
    assert set(recording.streams) == {"acc", "eda", "temp", "bvp", "ibi"}
    assert [one.code for one in recording.warnings] == ["stream_derived"]
    names = {"eda": ("eda", ("µS",)), "temperature": ("temp", ("°C",)), "bvp": ("bvp", ())}
    for sensor, (name, units) in names.items():
        stream = recording.streams[name]
        expected = np.concatenate([one["rawData"][sensor]["values"] for one in records])
        times = np.concatenate(
            [
                begin + np.arange(length * RATES[sensor]) / RATES[sensor]
                for begin, length in zip(late, lengths, strict=True)
            ]
        )
        np.testing.assert_array_equal(stream.values[:, 0], expected.astype(np.float32))
        np.testing.assert_allclose(stream.times, times, atol=1e-6)
        assert (stream.rate, stream.channels, stream.units) == (pytest.approx(RATES[sensor]), (name,), units)
    acc = recording.streams["acc"]
    raw = np.concatenate(
        [np.stack([one["rawData"]["accelerometer"][axis] for axis in "xyz"], axis=1) for one in records]
    )
    np.testing.assert_allclose(acc.values, raw * 32 / 65535, rtol=1e-6)
    assert (acc.channels, acc.units) == (("x", "y", "z"), ("g",) * 3)
    ibi = recording.streams["ibi"]
    np.testing.assert_allclose(ibi.values, 0.8 if gap else ibi.values, atol=1e-5)
    assert ibi.times[0] == pytest.approx(1.2, abs=1e-5)


def test_a_damaged_member_of_a_zip_spoils_no_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{at}.avro", session(at, 20, 30.0 * at)) for at in range(2)]
    with zipfile.ZipFile(tmp_path / "day.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    content = bytearray((tmp_path / "day.zip").read_bytes())
    content[content.index(b"1.avro") + 200] ^= 255
    (tmp_path / "day.zip").write_bytes(content)
    found, whole = read_signals(tmp_path / "day.zip"), read_signals(paths[0])
    assert set(found.streams) == set(whole.streams)
    for name, stream in found.streams.items():
        np.testing.assert_array_equal(stream.values, whole.streams[name].values)
    (doubt,) = (one for one in found.warnings if one.code == "part_left_out")
    assert "1.avro" in doubt.message
    assert {one.code for one in found.warnings} - {"part_left_out"} == {one.code for one in whole.warnings}


def test_a_sensor_that_was_off_or_is_damaged_spoils_no_other(tmp_path: Path) -> None:
    off = write(tmp_path / "off.avro", session(0, 30, eda={**OFF, "values": []}))
    assert set(read_signals(off).streams) == {"acc", "temp", "bvp", "ibi"}
    folder = tmp_path / "raw_data"
    folder.mkdir()
    write(folder / "a.avro", session(1, 30))
    (folder / "b.avro").write_bytes(b"")
    recording = read_signals(folder)
    assert {"eda", "bvp"} <= set(recording.streams)
    assert "b.avro does not begin as Avro does" in " ".join(one.message for one in recording.warnings)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), codec=st.sampled_from(["null", "deflate"]))
def test_flipped_bytes_are_refused_by_name_or_leave_streams(
    data: st.DataObject, codec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("flipped") / "S.avro", session(0, 20), codec=codec)
    broken = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3), "flips")):
        at = data.draw(st.integers(0, min(len(broken) - 1, 3000)), "byte")
        broken[at] ^= data.draw(st.integers(1, 255), "by")
    path.write_bytes(broken)
    streams, said = [], ""
    try:
        streams = read_signals(path).streams.values()
    except RecordingError as error:
        said = str(error)
    assert streams or "S.avro" in said
    assert all((np.diff(stream.times) > 0).all() for stream in streams)


def test_what_is_no_session_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "S.avro", session(0, 30))
    content = path.read_bytes()
    for size in (3, 40, 900, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(RecordingError, match=r"S\.avro"):
            read_signals(path)
    other = {"type": "record", "name": "Weather", "fields": [{"name": "station", "type": "string"}]}
    with path.open("wb") as file:
        fastavro.writer(file, other, [{"station": "x"}])
    with pytest.raises(RecordingError, match=r"has the fields station\. Expected rawData"):
        read_signals(path)
    (tmp_path / "two").mkdir()
    for name in "ab":
        write(tmp_path / "two" / f"{name}.avro", {**session(0, 30), "deviceSn": name})
    with pytest.raises(RecordingError, match="files of 2 devices: a, b"):
        read_signals(tmp_path / "two")


EMPTY = {"type": "record", "name": "N", "fields": []}


@pytest.mark.parametrize(
    "values",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": EMPTY},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        {"type": "record", "name": "L", "fields": [{"name": "n", "type": "L"}]},
        {"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]},
        {"type": "record", "name": "x.F", "fields": [{"name": "n", "type": "bytes"}, {"name": "m", "type": "y.F"}]},
    ],
    ids=["nothing", "empty records", "empty words", "itself", "perhaps itself", "of another name"],
)
def test_a_schema_of_nothing_and_one_of_itself(values: Any, tmp_path: Path) -> None:
    """fastavro filled memory with items of no bytes, and went down with a segmentation fault along a type that holds itself."""
    schema = _record("S", rawData=_record("R", eda=_record("E", values=values)))
    long = b"\x80\x80\x80\x80\x80\x20"  # 2⁴⁰, as Avro writes it
    told = {"avro.schema": json.dumps(schema).encode(), "avro.codec": b"null"}
    head = b"".join(_sized(name.encode()) + _sized(value) for name, value in told.items())
    mark = bytes(16)
    (tmp_path / "a.avro").write_bytes(
        b"Obj\x01\x04" + head + b"\x00" + mark + b"\x02" + _sized(long + bytes(40)) + mark
    )
    with pytest.raises(RecordingError, match=r"its schema (has|uses)"):
        read_signals(tmp_path / "a.avro")


def _sized(content: bytes) -> bytes:
    number, written = 2 * len(content), b""
    while number > 127:
        number, written = number >> 7, written + bytes([number & 127 | 128])
    return written + bytes([number]) + content
