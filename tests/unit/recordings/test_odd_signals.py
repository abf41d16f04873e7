"""Signal files as other programs write them, and with one bad part: what can be read is read, and the rest is named."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from meco_hub.errors import RecordingError
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording
from meco_hub.recordings.signals import read_signals, to_recording
from xdf_files import xdf_stream

DRAW = np.random.default_rng(0)
EDA = np.round(3 + DRAW.normal(size=240) * 0.01, 4)
TIMES = np.arange(240) / 4


def codes(recording: SignalRecording) -> list[str]:
    return [one.code for one in recording.warnings]


# --- tables ---------------------------------------------------------------------------------------------------------


def table(
    path: Path, columns: dict[str, list[str]], *, sep: str = ",", above: str = "", encoding: str = "utf-8"
) -> Path:
    rows = "\n".join(sep.join(row) for row in zip(*columns.values(), strict=True))
    path.write_bytes((above + sep.join(columns) + "\n" + rows + "\n").encode(encoding))
    return path


SECONDS, VALUES = [f"{one:g}" for one in TIMES], [f"{one:.4f}" for one in EDA]
ISO = [f"2023-01-01 10:{int(one // 60):02d}:{one % 60:06.3f}" for one in TIMES]
TABLES = {
    "plain": ({"time": SECONDS, "eda": VALUES}, {}, []),
    "words": ({"time": SECONDS, "eda": VALUES, "label": ["rest"] * 240}, {}, ["part_left_out"]),
    "quoted": ({"time": SECONDS, "eda": [f'"{one}"' for one in VALUES]}, {}, []),
    "words with a semicolon": ({"time": SECONDS, "eda": VALUES, "note": ["a;b"] * 240}, {}, ["part_left_out"]),
    "quoted words": ({"time": SECONDS, "eda": VALUES, "note": ['"a, b"'] * 240}, {}, ["part_left_out"]),
    "comments": ({"time": SECONDS, "eda": VALUES}, {"above": "# device X\n# 4 Hz, µS\n"}, []),
    "header in a comment": ({"# time": SECONDS, "eda": VALUES}, {"above": "# device X\n"}, []),
    "decimal comma": (
        {"time": [one.replace(".", ",") for one in SECONDS], "eda": [one.replace(".", ",") for one in VALUES]},
        {"sep": ";"},
        [],
    ),
    "unit": ({"time (s)": SECONDS, "eda (µS)": VALUES}, {}, []),
    "unit in latin-1": ({"time [s]": SECONDS, "eda [µS]": VALUES}, {"encoding": "latin-1"}, []),
    "utf-16": ({"time": SECONDS, "eda": VALUES}, {"encoding": "utf-16"}, []),
    "milliseconds": ({"time_ms": [f"{1000 * one:g}" for one in TIMES], "eda": VALUES}, {}, []),
    "minutes": ({"time_min": [f"{one / 60:.12g}" for one in TIMES], "eda": VALUES}, {}, []),
    "pandas' row numbers": ({"": [str(one) for one in range(240)], "time": SECONDS, "eda": VALUES}, {}, []),
    "pandas' index of dates": ({"": ISO, "eda": VALUES}, {}, []),
    "time of day": ({"time": [one.split(" ")[1] for one in ISO], "eda": VALUES}, {}, []),
    "date beside the time of day": (
        {"Date": ["2023-01-01"] * 240, "Time": [one.split(" ")[1] for one in ISO], "eda": VALUES},
        {},
        [],
    ),
    "ISO 8601": ({"time": ISO, "eda": VALUES}, {}, []),
    "ISO 8601 with a zone": ({"timestamp": [one.replace(" ", "T") + "+02:00" for one in ISO], "eda": VALUES}, {}, []),
    "since 1970 in µs": (
        {"unix_timestamp": [f"{1_700_000_000_000_000 + round(1e6 * one)}" for one in TIMES], "eda": VALUES},
        {},
        ["time_unit_recognised"],
    ),
    "ISO 8601 with a comma": ({"time": [one.replace(".", ",") for one in ISO], "eda": VALUES}, {"sep": ";"}, []),
    "a comma in quotes": (
        {
            "time": [f'"{one}"' for one in (f"{time:.2f}".replace(".", ",") for time in TIMES)],
            "eda": [f'"{one}"'.replace(".", ",") for one in VALUES],
        },
        {},
        [],
    ),
    "Excel's first line": ({"time": SECONDS, "eda": VALUES}, {"sep": ";", "above": "sep=;\n"}, []),
    "unit in a row of its own": (
        {"time": ["ms", *(f"{1000 * one:g}" for one in TIMES)], "eda": ["µS", *VALUES]},
        {},
        [],
    ),
    "rows of nothing at the end": (
        {"time": [*SECONDS, "", "", ""], "eda": [*VALUES, "", " ", ""]},
        {"sep": ";"},
        [],
    ),
    "a comma at every end": ({"time": SECONDS, "eda": VALUES, "": [""] * 240}, {}, []),
    "a unit for a name": ({"milliseconds": [f"{1000 * one:g}" for one in TIMES], "eda": VALUES}, {}, []),
    "OpenBCI's comments": (
        {"time": SECONDS, "eda": VALUES},
        {"above": "%OpenBCI Raw EXG Data\n%Sample Rate = 4 Hz\n"},
        [],
    ),
    "lines about the device": (
        {"time": SECONDS, "eda": VALUES, "label": ["rest"] * 240},
        {"sep": ";", "above": "Device: X, wrist\nSerial;12\n\n"},
        ["part_left_out"],
    ),
    "lines about the device, decimal commas": (
        {"time": [one.replace(".", ",") for one in SECONDS], "eda": [one.replace(".", ",") for one in VALUES]},
        {"sep": ";", "above": "Device: X, wrist\nSerial: 12, 3\n"},
        [],
    ),
    "unit nobody knows, in a row of its own": (
        {
            "time": ["ms", *(f"{1000 * one:g}" for one in TIMES)],
            "eda": ["µS", *VALUES],
            "label": ["kOhm?", *["rest"] * 240],
        },
        {},
        ["part_left_out"],
    ),
    "a device's name for the clock": (
        {"X_12_Timestamp_Unix_CAL (ms)": [f"{1000 * one:g}" for one in TIMES], "eda": VALUES},
        {},
        [],
    ),
    "two clocks": (
        {"time": SECONDS, "unix_timestamp": [f"{1.7e9 + one:.2f}" for one in TIMES], "eda": VALUES},
        {},
        [],
    ),
    "a clock twice": (
        {"eda": VALUES, "Timestamp": SECONDS, "Timestamp (Formatted)": ISO},
        {},
        [],
    ),
    "a clock in UTC": ({"eda": VALUES, "Timestamp (UTC)": ISO}, {}, []),
    "time differences of pandas": (
        {"time": [f"0 days 00:{int(one // 60):02d}:{one % 60:09.6f}" for one in TIMES], "eda": VALUES},
        {},
        [],
    ),
    "time differences of Python": (
        {"time": [f"1 day, 0:{int(one // 60):02d}:{one % 60:05.2f}" for one in TIMES], "eda": VALUES},
        {"sep": ";"},
        [],
    ),
    "elapsed": ({"Elapsed Time (s)": SECONDS, "eda": VALUES}, {}, []),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_hand_hold_the_same(kind: str, tmp_path: Path) -> None:
    columns, form, expected = TABLES[kind]
    recording = read_signals(table(tmp_path / "S.csv", columns, **form))
    (stream,) = recording.streams.values()
    assert list(recording.streams) == ["eda"]
    np.testing.assert_array_equal(stream.values[:, 0], EDA)
    np.testing.assert_allclose(stream.times - stream.times[0], TIMES, atol=2e-6)
    assert stream.rate == pytest.approx(4, rel=1e-5)
    assert stream.units == (("µS",) if kind.startswith("unit") else ("",))
    assert codes(recording) == expected
    for one in recording.warnings:
        assert expected != ["part_left_out"] or "label" in one.message or "note" in one.message


@pytest.mark.parametrize("text", ["time\teda\tx\nms\t(µS)\tm/(s^2)\n", "time (ms)\teda [µS]\tx (m/(s^2))\n"])
def test_a_unit_may_have_brackets_in_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "S.csv").write_text(text + "".join(f"{250 * at}\t{at}\t{at}\n" for at in range(9)))
    streams = read_signals(tmp_path / "S.csv").streams
    assert {name: one.units for name, one in streams.items()} == {"eda": ("µS",), "x": ("m/s^2",)}
    assert streams["x"].times[-1] == 2.0


def test_text_is_a_table_whatever_its_ending(tmp_path: Path) -> None:
    recording = read_signals(table(tmp_path / "S.txt", {"time": SECONDS, "eda": VALUES}, sep="\t"))
    np.testing.assert_array_equal(recording.streams["eda"].values[:, 0], EDA)


def test_the_first_column_is_a_clock_only_where_nothing_else_is_one(tmp_path: Path) -> None:
    path = table(tmp_path / "S.csv", {"pulse transit time": ["0.25"] * 240, "time": SECONDS, "eda": VALUES})
    assert list(read_signals(path).streams) == ["pulse transit time", "eda"]
    path = table(tmp_path / "S.csv", {"Local time": SECONDS, "eda": VALUES})
    assert read_signals(path).streams["eda"].rate == 4


def test_lines_without_anything_between_rows_are_none(tmp_path: Path) -> None:
    path = table(tmp_path / "S.csv", {"time": SECONDS, "eda": VALUES})
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\r\n"))  # a line end that was translated twice
    np.testing.assert_array_equal(read_signals(path).streams["eda"].values[:, 0], EDA)
    path.write_text("eda\n1\n\n3\n")
    np.testing.assert_array_equal(read_signals(path, rates={"eda": 4.0}).streams["eda"].values[:, 0], [1, np.nan, 3])


def test_a_word_among_times_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "S.csv", {"time": [*SECONDS[:100], "pause", *SECONDS[101:]], "eda": VALUES})
    with pytest.raises(RecordingError, match="the time of sample 100 is 'pause', others are numbers"):
        read_signals(path)


def test_a_file_of_a_folder_that_is_no_table_is_left_out(tmp_path: Path) -> None:
    table(tmp_path / "eda.csv", {"time": SECONDS, "eda": VALUES})
    (tmp_path / "notes.csv").write_text("nothing,but,words\nhere,are,three\n")
    (tmp_path / "empty.csv").write_text("")
    recording = read_signals(tmp_path)
    assert list(recording.streams) == ["eda"]
    assert "notes.csv" in recording.warnings[0].message
    assert "empty.csv" in recording.warnings[0].message


def test_a_folder_of_tables_is_no_watch_s_whatever_its_files_are_called(tmp_path: Path) -> None:
    for name in ("eda", "temp", "acc", "bvp"):
        table(tmp_path / f"{name}.csv", {"time": SECONDS, name: VALUES})
    assert set(read_signals(tmp_path).streams) == {"eda", "temp", "acc", "bvp"}
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "EDA.csv").write_text("\n".join(["1700000000.0", "4.0", *VALUES]))
    recording = read_signals(tmp_path / "watch")
    np.testing.assert_allclose(recording.streams["eda"].values[:, 0], EDA, rtol=1e-6)
    assert recording.streams["eda"].rate == 4


def test_an_empty_column_makes_no_row_one_with_a_missing_value(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    table(tmp_path / "a" / "temp.csv", {"time": SECONDS, "temp": VALUES, "missing_value_reason": [""] * 240})
    several = table(tmp_path / "S.csv", {"time": SECONDS, "acc.x": VALUES, "acc.y": VALUES, "acc.z": [""] * 240})
    for path, name, channels in ((tmp_path / "a", "temp", ("temp",)), (several, "acc", ("x", "y"))):
        recording = read_signals(path)
        assert np.isfinite(recording.streams[name].values).all()
        assert recording.streams[name].channels == channels
        assert codes(recording) == ["part_left_out"]
        assert "no row has a value of" in recording.warnings[0].message


def test_a_comma_that_first_comes_late_is_a_decimal_one(tmp_path: Path) -> None:
    values = ["3"] * 60 + [one.replace(".", ",") for one in VALUES[60:]]
    path = table(tmp_path / "S.csv", {"time": [str(at) for at in range(240)], "eda": values}, sep=";")
    np.testing.assert_array_equal(read_signals(path).streams["eda"].values[60:, 0], EDA[60:])


def test_what_is_masked_is_missing_and_what_is_written_as_text_is_a_number() -> None:
    masked = np.ma.masked_where(EDA > 3, EDA)
    for values in (masked, EDA.astype(object), EDA.astype(str)):
        stream = to_recording({"eda": (values, 4.0)}).streams["eda"]
        np.testing.assert_array_equal(stream.values[:, 0], np.where((values is masked) & (EDA > 3), np.nan, EDA))
    with pytest.raises(RecordingError, match="could not convert"):
        to_recording({"eda": (np.array(["rest"] * 9, object), 4.0)})
    with pytest.raises(RecordingError, match="no sample at all"):
        SignalWindower({"eda": {"channels": 1, "sampling_rate": 4.0}}).read({"eda": (np.zeros(0), 4.0)})


def test_streams_within_a_stream_are_named() -> None:
    with pytest.raises(RecordingError, match="Stream 'signal' is a dict of chest, wrist; expected an array"):
        to_recording({"signal": {"chest": {"EDA": EDA}, "wrist": {"EDA": EDA}}})


def test_columns_of_pandas_name_channels() -> None:
    dates = pandas.date_range("2023-01-01T10:00", periods=240, freq="250ms")
    frame = pandas.DataFrame({"tonic": EDA, "phasic": -EDA}, index=dates)
    for source in (frame, (frame, 4.0)):
        assert to_recording({"eda": source}).streams["eda"].channels == ("tonic", "phasic")


def test_times_that_cannot_be_seconds_are_refused_or_named(tmp_path: Path) -> None:
    since, count = 1_700_000_000.0, np.arange(8)
    for factor in (1e3, 1e6, 1e9):
        recording = to_recording({"eda": (np.zeros(8), (since + count) * factor)})
        np.testing.assert_allclose(recording.streams["eda"].times, since + count, atol=1e-6)
        assert codes(recording) == ["time_unit_recognised"]
    with pytest.raises(RecordingError, match="no clock in seconds shows"):
        to_recording({"eda": (np.zeros(8), 5e13 + count)})


def test_dates_of_numpy_and_pandas_are_times() -> None:
    dates = pandas.date_range("2023-01-01T10:00", periods=240, freq="250ms")
    clocks = [
        dates,
        dates.tz_localize("Europe/Vienna"),
        dates.to_numpy(),
        dates - dates[0],
        list(dates.to_pydatetime()),
    ]
    sources = [(EDA, clock) for clock in clocks] + [pandas.Series(EDA, index=dates), (EDA, pandas.Series(dates))]
    for source in sources:
        stream = to_recording({"eda": source}).streams["eda"]
        np.testing.assert_allclose(stream.times - stream.times[0], TIMES, atol=1e-6)
        np.testing.assert_array_equal(stream.values[:, 0], EDA)
        assert stream.rate == pytest.approx(4)
        assert to_recording({"eda": source}).warnings == ()


# --- one bad part ---------------------------------------------------------------------------------------------------


BAD = {
    "objects": {"x_values": np.array([{}], object), "x_rate": 1.0},
    "text": {"x_values": np.array(["rest"] * 9), "x_rate": 1.0},
    "no clock": {"x_values": np.zeros(9)},
    "one time twice": {"x_values": np.zeros(3), "x_times": np.array([0.0, 5.0, 5.0])},
    "another rate": {"x_values": np.zeros(9), "x_times": np.arange(9.0), "x_rate": 64.0},
    "no rate": {"x_values": np.zeros(9), "x_rate": -1.0},
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_array_is_named_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "S.npz"
    np.savez(path, eda_values=EDA, eda_rate=4.0, **BAD[kind])  # pyright: ignore[reportArgumentType]
    recording = read_signals(path)
    assert list(recording.streams) == ["eda"]
    np.testing.assert_array_equal(recording.streams["eda"].values[:, 0], EDA)
    assert codes(recording) == ["part_left_out"]
    assert "'x" in recording.warnings[0].message
    np.savez(path, **BAD[kind])  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError):
        read_signals(path)


def test_of_two_streams_in_a_dict_the_bad_one_is_left_out() -> None:
    recording = to_recording({"eda": (EDA, 4.0), "x": (EDA, np.zeros(240))})
    assert list(recording.streams) == ["eda"]
    assert "stream 'x'" in recording.warnings[0].message


# --- XDF ------------------------------------------------------------------------------------------------------------


def xdf(path: Path, *streams: tuple[str, float, np.ndarray, np.ndarray]) -> Path:
    pytest.importorskip("pyxdf")
    chunks = [b"XDF:"]
    for number, (name, rate, values, times) in enumerate(streams, start=1):
        chunks += xdf_stream(number, name, "float32", rate, values.astype(np.float32)[:, None], times)
    path.write_bytes(b"".join(chunks))
    return path


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([1.0, 4.0, 32.0, 128.0]),
    at=st.floats(0.2, 0.8),
    gap=st.floats(5.0, 120.0),
    tremble=st.sampled_from([0.0, 0.02]),
)
def test_a_gap_of_an_xdf_stays_a_gap(
    rate: float, at: float, gap: float, tremble: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    times = 5000 + np.arange(600) / rate
    times[round(600 * at) :] += gap
    stamps = times + np.random.default_rng(0).uniform(-tremble, tremble, 600) / rate
    recording = read_signals(xdf(tmp_path_factory.mktemp("x") / "S.xdf", ("eda", rate, np.arange(600), stamps)))
    found = recording.streams["eda"]
    np.testing.assert_allclose(found.times - found.times[0], times - times[0], atol=3 * tremble / rate + 1e-6)
    assert np.diff(found.times).max() == pytest.approx(gap + 1 / rate, abs=2 * tremble / rate + 1e-6)


@pytest.mark.parametrize("burst", [4, 16, 64])
def test_packets_of_an_xdf_that_come_in_bursts_tick_at_their_rate(burst: int, tmp_path: Path) -> None:
    count = np.arange(1920)
    stamps = 5000 + (count // burst + 1) * burst / 64 + 1e-5 * (count % burst)
    stream = read_signals(xdf(tmp_path / "S.xdf", ("bvp", 64.0, count, stamps))).streams["bvp"]
    np.testing.assert_allclose(stream.times - stream.times[0], count / 64, atol=0.05)
    assert stream.rate == 64


@pytest.mark.parametrize("back", [1.0, 3.0, 60.0])
def test_a_clock_of_an_xdf_that_jumps_back_is_refused(back: float, tmp_path: Path) -> None:
    times = 5000 + np.arange(1200) / 4
    times[600:] -= back
    with pytest.raises(RecordingError, match=r"after sample 599 .* runs backwards"):
        read_signals(xdf(tmp_path / "S.xdf", ("eda", 4.0, np.arange(1200), times)))


@pytest.mark.parametrize(("rate", "stamps"), [(10_000.0, [10.0, 15.5, 40.0, 41.0, 70.0]), (0.0, [10.0, 10.0, 20.0])])
def test_numbers_that_mark_moments_spoil_no_signal(rate: float, stamps: list[float], tmp_path: Path) -> None:
    times = 5000 + TIMES
    markers = ("codes", rate, np.arange(len(stamps)), 5000 + np.array(stamps))
    recording = read_signals(xdf(tmp_path / "S.xdf", ("eda", 4.0, EDA, times), markers, ("temp", 4.0, EDA, times)))
    assert list(recording.streams) == ["eda", "temp"]
    assert codes(recording) == ["part_left_out"]
    assert "'codes'" in recording.warnings[0].message


# --- MAT ------------------------------------------------------------------------------------------------------------


def test_every_version_and_nesting_of_mat_holds_the_same(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    column = EDA[:, None]
    path = tmp_path / "S.mat"

    def nested(group, value) -> None:  # as MATLAB writes 7.3: turned round, and with its classes
        for name, one in value.items():
            if isinstance(one, dict):
                nested(group.create_group(name), one)
            else:
                group.create_dataset(name, data=np.atleast_2d(one).T).attrs["MATLAB_class"] = b"double"

    def hdf5(variables) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            nested(file, variables)
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))

    flat = {"eda_values": column, "eda_rate": 4.0}
    for variables in (
        flat,
        {"eda": {"data": column, "fs": 4.0}},
        {"eda": {"Data": column, "Fs": 4.0}},
        {"S": {"eda": {"data": column, "fs": 4.0}}},
        {"S": {"subject": {"eda": {"values": column, "times": TIMES[:, None]}}}},
    ):
        for write in (lambda one: savemat(path, one), lambda one: savemat(path, one, do_compression=True), hdf5):
            write(variables)
            (stream,) = read_signals(path).streams.values()
            np.testing.assert_array_equal(stream.values, column)
            assert (stream.rate, len(stream)) == (4.0, 240)
    savemat(path, flat, format="4")
    np.testing.assert_array_equal(read_signals(path).streams["eda"].values, column)


def test_of_an_array_of_structs_each_is_a_stream(tmp_path: Path) -> None:
    several = np.zeros((1, 2), [("name", "O"), ("data", "O"), ("fs", "O")])
    several[0] = [("eda", EDA, 4.0), ("temp", 30 + EDA, 4.0)]
    cells = np.array([{"name": "eda", "data": EDA, "fs": 4.0}, {"name": "temp", "data": 30 + EDA, "fs": 4.0}], object)
    for variables in ({"streams": several}, {"S": {"streams": several}}, {"C": cells}):
        savemat(tmp_path / "S.mat", variables)
        streams = read_signals(tmp_path / "S.mat").streams
        assert list(streams) == ["eda", "temp"]
        np.testing.assert_array_equal(streams["temp"].values[:, 0], 30 + EDA)


@settings(max_examples=20, deadline=None)
@given(step=st.sampled_from([(250.0, "ms"), (0.25, "s"), (0.25 / 60, "min")]), rows=st.integers(2, 9))
def test_what_acqknowledge_exports_is_read_channel_by_channel(
    step: tuple[float, str], rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, data = tmp_path_factory.mktemp("biopac") / "S.mat", np.stack([EDA[:rows], 30 + EDA[:rows]], axis=1)
    names, units = np.array(["EDA, X, PPGED-R", "SKT"]), np.array(["microsiemens", "Deg C"])
    savemat(path, {"data": data, "isi": step[0], "isi_units": step[1], "labels": names, "units": units})
    recording = read_signals(path)
    assert list(recording.streams) == list(names)
    for place, (name, unit) in enumerate(zip(names, units, strict=True)):
        stream = recording.streams[name]
        np.testing.assert_array_equal(stream.values[:, 0], data[:, place])
        assert stream.rate == pytest.approx(4)
        assert stream.units == (unit,)


def test_a_complex_matrix_of_version_4_spoils_no_other(tmp_path: Path) -> None:
    savemat(tmp_path / "S.mat", {"z": EDA + 1j, "eda_values": EDA, "eda_rate": 4.0}, format="4")
    np.testing.assert_array_equal(read_signals(tmp_path / "S.mat").streams["eda"].values[:, 0], EDA)


def test_a_matrix_of_characters_names_one_channel_a_row(tmp_path: Path) -> None:
    acc = {"data": DRAW.normal(size=(400, 3)), "fs": 32.0, "channels": np.array(["x", "y", "z"])}
    savemat(tmp_path / "S.mat", {"acc": acc})
    assert read_signals(tmp_path / "S.mat").streams["acc"].channels == ("x", "y", "z")


def test_cells_of_structs_are_named_by_what_they_hold(tmp_path: Path) -> None:
    people = np.empty(2, object)
    people[:] = [{"ECG": {"stimuli": EDA}}, {"ECG": {"stimuli": EDA}}]
    savemat(tmp_path / "S.mat", {"DREAMER": {"Data": people, "ECG_SamplingRate": 256.0}})
    with pytest.raises(RecordingError, match=r"holds 'DREAMER\.Data\.1\.ECG\.stimuli'"):
        read_signals(tmp_path / "S.mat")


def test_what_is_no_stream_is_named_by_its_path(tmp_path: Path) -> None:
    savemat(tmp_path / "S.mat", {"S": {"eda": {"samples": EDA, "fs": 4.0}}})
    with pytest.raises(RecordingError, match=r"holds 'S.eda.samples', 'S.eda.fs'. Expected"):
        read_signals(tmp_path / "S.mat")


def test_a_clock_of_the_day_goes_on_after_midnight(tmp_path: Path) -> None:
    clock = [
        f"{(86390 + one) // 3600 % 24:02.0f}:{(86390 + one) // 60 % 60:02.0f}:{(86390 + one) % 60:06.3f}"
        for one in TIMES
    ]
    read = read_signals(table(tmp_path / "night.csv", {"time": clock, "eda": VALUES})).streams["eda"]
    np.testing.assert_allclose(read.times, 86390 + TIMES)
    assert read.rate == 4.0


@pytest.mark.parametrize("form", ["parquet", "feather", "index.parquet", "csv.gz", "tsv.gz"])
def test_tables_that_pandas_wrote_are_read(tmp_path: Path, form: str) -> None:
    path, frame = tmp_path / f"one.{form}", pandas.DataFrame({"time": TIMES, "eda (µS)": EDA, "note": "rest"})
    if form == "index.parquet":
        frame.set_index(pandas.to_datetime("2023-01-01 10:00") + pandas.to_timedelta(TIMES, unit="s")).drop(
            columns="time"
        ).to_parquet(path)
    elif form.endswith(".gz"):
        frame.to_csv(path, index=False, sep="\t" if form == "tsv.gz" else ",")
    else:
        getattr(frame, f"to_{form}")(path)
    read = read_signals(path)
    (stream,) = read.streams.values()
    np.testing.assert_array_equal(stream.values[:, 0], EDA)
    np.testing.assert_allclose(stream.times - stream.times[0], TIMES, atol=2e-6)
    assert (stream.rate, stream.units) == (pytest.approx(4, rel=1e-5), ("µS",))
    assert codes(read) == ["part_left_out"]  # the notes
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordingError, match=path.name):
        read_signals(path)


def test_a_recording_in_bids_has_its_header_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_task-rest_physio.tsv.gz"
    rows = pandas.DataFrame({"a": EDA, "b": 33.0})
    rows.iloc[3, 0] = np.nan
    rows.to_csv(path, sep="\t", header=False, index=False, na_rep="n/a")
    beside = {"SamplingFrequency": 4, "StartTime": -2.5, "Columns": ["eda", "temp"], "eda": {"Units": "uS"}}
    path.with_name("sub-01_task-rest_physio.json").write_text(json.dumps(beside))
    read = read_signals(path)
    eda = read.streams["eda"]
    np.testing.assert_array_equal(eda.values[:, 0], np.delete(EDA, 3))
    np.testing.assert_allclose(eda.times, np.delete(TIMES, 3) - 2.5)
    assert (eda.rate, eda.units, read.streams["temp"].units) == (4.0, ("uS",), ("",))
    for key, value in {"SamplingFrequency": 0, "Columns": "eda", "StartTime": "now"}.items():
        path.with_name("sub-01_task-rest_physio.json").write_text(json.dumps({**beside, key: value}))
        with pytest.raises(RecordingError, match=r"expected names, samples per second, and seconds"):
            read_signals(path)
    path.with_name("sub-01_task-rest_physio.json").write_text(json.dumps({**beside, "Columns": ["eda"]}))
    with pytest.raises(RecordingError, match=r"line 1 has 2 cells\. Expected 1"):
        read_signals(path)


def test_packed_text_cannot_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meco_hub.reading.PLENTY", 10_000)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"time,eda\n" + b"0" * 10_000_000))
    with pytest.raises(RecordingError, match="more than a hundred times as many"):
        read_signals(path)


@given(st.sets(st.integers(1, 238), max_size=60))
def test_missing_cells_do_not_change_the_rate(missing: set[int]) -> None:
    kept = np.delete(TIMES, sorted(missing))
    assert to_recording({"eda": (np.delete(EDA, sorted(missing)), kept)}).streams["eda"].rate in (4.0, None)
