"""Signal files of every format, whole and damaged: what was written comes back, and damage is an error that names the file."""

import gzip
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from meco_hub.errors import DependencyError, RecordingError
from meco_hub.recordings.signal_files.edf import EdfFile
from meco_hub.recordings.signal_recording import SignalRecording, Stream
from meco_hub.recordings.signals import read_signals, to_recording
from xdf_files import xdf_chunk, xdf_stream

RANDOM = np.random.default_rng(0)
ECG = RANDOM.normal(size=(512, 2)).astype(np.float32)
EDA = RANDOM.normal(size=(16, 1)).astype(np.float32)
BEATS = np.cumsum(RANDOM.uniform(0.6, 1.1, 5))


def write_npz(folder: Path) -> Path:
    path = folder / "S01.npz"
    np.savez(
        path,
        ecg_values=ECG,
        ecg_rate=128.0,
        ecg_channels=np.array(["I", "II"]),
        eda_values=EDA[:, 0],
        eda_rate=4,
        eda_start=0.5,
        ibi_values=BEATS * 2,
        ibi_times=BEATS,
    )
    return path


def write_csv(folder: Path) -> Path:
    path = folder / "S01.csv"
    lines = ["time_ms,ecg.I,ecg.II,eda"]
    for index, row in enumerate(ECG):
        eda = f"{EDA[index // 32, 0]:.9g}" if index % 32 == 0 else ""
        lines.append(f"{index * 1000 / 128},{row[0]:.9g},{row[1]:.9g},{eda}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_csv_folder(folder: Path) -> Path:
    path = folder / "S02"
    path.mkdir()
    rows = "\n".join(f"{index / 128};{row[0]:.9g};{row[1]:.9g}" for index, row in enumerate(ECG))
    (path / "ecg.csv").write_text(f"time;I;II\n{rows}\n")
    (path / "ibi.csv").write_text("t,interval\n" + "\n".join(f"{beat},{beat * 2}" for beat in BEATS))
    return path


def write_edf(folder: Path, suffix: str = ".edf") -> Path:
    pyedflib = pytest.importorskip("pyedflib", reason='the extra "signals" is not installed')
    path = folder / f"S01{suffix}"
    kind = pyedflib.FILETYPE_EDFPLUS if suffix == ".edf" else pyedflib.FILETYPE_BDFPLUS
    with pyedflib.EdfWriter(str(path), 4, file_type=kind) as writer:
        limit = 32767 if suffix == ".edf" else 8388607
        for index, (label, rate) in enumerate([("ECG I", 128), ("ECG II", 128), ("GSR", 4), ("Oddity", 4)]):
            writer.setSignalHeader(
                index,
                {
                    "label": label,
                    "dimension": "mV",
                    "sample_frequency": rate,
                    "physical_max": 8.0,
                    "physical_min": -8.0,
                    "digital_max": limit,
                    "digital_min": -limit - 1,
                    "transducer": "",
                    "prefilter": "",
                },
            )
        columns = [ECG[:, 0], ECG[:, 1], EDA[:, 0], EDA[:, 0]]
        writer.writeSamples([np.ascontiguousarray(one, np.float64) for one in columns])
    return path


def write_mat(folder: Path) -> Path:
    path = folder / "S01.mat"
    savemat(
        path,
        {
            "ecg_values": ECG.astype(np.float64),
            "ecg_rate": 128.0,
            "eda": {"data": EDA.astype(np.float64), "fs": 4.0},
            "ibi": {"values": BEATS * 2, "times": BEATS},
            "comment": "by hand",
        },
        do_compression=True,
    )
    return path


def xdf_content() -> bytes:
    parts = [b"XDF:", xdf_chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    parts += xdf_stream(1, "ecg", "float32", 128.0, ECG, 100 + np.arange(512) / 128)
    parts += xdf_stream(2, "ibi", "double64", 0.0, BEATS[:, None] * 2, 100.5 + BEATS)
    parts += xdf_stream(
        3, "markers", "string", 0.0, np.array([[b"start"], [b"stop"]], object), np.array([100.0, 103.0])
    )
    return b"".join(parts)


def write_xdf(folder: Path) -> Path:
    pytest.importorskip("pyxdf", reason='the extra "signals" is not installed')
    path = folder / "S01.xdf"
    path.write_bytes(xdf_content())
    return path


def write_empatica(folder: Path) -> Path:
    path = folder / "S01.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rate, columns, count in (("ACC", 32, 3, 320), ("BVP", 64, 1, 640), ("EDA", 4, 1, 40)):
            rows = [",".join([cell] * columns) for cell in ("1700000000.0", f"{rate}.0", *["1.5"] * count)]
            archive.writestr(f"S01/{name}.csv", "\n".join(rows) + "\n")
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "npz": write_npz,
    "csv": write_csv,
    "edf": write_edf,
    "bdf": lambda folder: write_edf(folder, ".bdf"),
    "mat": write_mat,
    "xdf": write_xdf,
    "empatica": write_empatica,
}


# ---------------------------------------------------------------------------------------------------------------
# whole files


@pytest.mark.parametrize("kind", ["npz", "csv", "mat", "xdf"])
def test_what_was_written_comes_back(kind, tmp_path):
    recording = read_signals(WRITERS[kind](tmp_path))
    ecg = recording.streams["ecg"]
    assert ecg.rate == 128.0
    np.testing.assert_allclose(ecg.values, ECG, rtol=1e-6)
    np.testing.assert_allclose(ecg.times - ecg.times[0], np.arange(512) / 128, atol=1e-9)
    if kind != "csv":
        ibi = recording.streams["ibi"]
        assert ibi.rate is None
        np.testing.assert_allclose(ibi.values[:, 0], BEATS * 2)
        np.testing.assert_allclose(np.diff(ibi.times), np.diff(BEATS))
    assert recording.name.endswith(f"S01.{kind}")


def test_names_and_starts(tmp_path):
    npz = read_signals(write_npz(tmp_path)).streams
    assert npz["ecg"].channels == ("I", "II")
    assert npz["eda"].times[0] == 0.5
    assert npz["eda"].values.shape == (16, 1)
    mat = read_signals(write_mat(tmp_path)).streams
    assert mat["eda"].rate == 4.0
    assert list(mat) == ["ecg", "eda", "ibi"]


def test_a_table_of_sensors_with_different_rates(tmp_path):
    streams = read_signals(write_csv(tmp_path)).streams
    assert streams["ecg"].channels == ("I", "II")
    assert streams["eda"].rate == 4.0
    np.testing.assert_allclose(streams["eda"].values, EDA, rtol=1e-6)


def test_a_folder_of_tables(tmp_path):
    streams = read_signals(write_csv_folder(tmp_path)).streams
    assert set(streams) == {"ecg", "ibi"}
    np.testing.assert_allclose(streams["ecg"].values, ECG, rtol=1e-6)
    assert streams["ibi"].rate is None
    np.testing.assert_allclose(streams["ibi"].times, BEATS)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_edf_groups_what_belongs_together(suffix, tmp_path):
    streams = read_signals(write_edf(tmp_path, suffix)).streams
    assert set(streams) == {"ecg", "gsr", "Oddity"}
    assert streams["ecg"].channels == ("ECG I", "ECG II")
    assert streams["ecg"].rate == 128.0
    np.testing.assert_allclose(streams["ecg"].values, ECG, atol=16 / 65535)
    np.testing.assert_allclose(streams["gsr"].values, EDA, atol=16 / 65535)


def test_xdf_puts_streams_on_one_clock_and_leaves_markers_out(tmp_path):
    recording = read_signals(write_xdf(tmp_path))
    assert set(recording.streams) == {"ecg", "ibi"}
    assert recording.streams["ecg"].channels == ("ecg0", "ecg1")
    assert recording.start == 0.0
    assert recording.streams["ibi"].times[0] == pytest.approx(0.5 + BEATS[0])
    packed = tmp_path / "S01.xdfz"
    packed.write_bytes(gzip.compress(xdf_content()))
    np.testing.assert_array_equal(read_signals(packed).streams["ecg"].values, recording.streams["ecg"].values)


def test_empatica_sessions(tmp_path):
    path = write_empatica(tmp_path)
    assert set(read_signals(path).streams) == {"acc", "bvp", "eda"}
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "watch")
    assert read_signals(tmp_path / "watch" / "S01").streams["bvp"].rate == 64.0


def test_the_real_watch():
    archive = Path(__file__).parents[4] / "shared" / "data" / "stress_predict" / "stress_predict.zip"
    if not archive.is_file():
        pytest.skip("the Stress-Predict recordings are not beside the project")
    from meco_hub.recordings.signal_files.empatica import read_empatica

    streams = read_empatica(archive, folder="Raw_data/S01").recording.streams
    assert {"acc", "bvp", "eda", "temp", "hr"} <= set(streams)


def test_channels_are_gathered_on_request(tmp_path):
    path = write_edf(tmp_path)
    chosen = {"heart": ["ECG II", "ECG I"], "skin": ["gsr"], "both": ["GSR", "Oddity"]}
    streams = read_signals(path, streams=chosen).streams
    assert list(streams) == ["heart", "skin", "both"]
    np.testing.assert_allclose(streams["heart"].values, ECG[:, ::-1], atol=16 / 65535)
    with pytest.raises(RecordingError, match=r"S01.edf has no channel 'Fp1', of which stream 'eeg'"):
        read_signals(path, streams={"eeg": ["Fp1"]})
    with pytest.raises(RecordingError, match="'ECG I' and 'GSR' do not share a clock"):
        read_signals(path, streams={"mix": ["ECG I", "GSR"]})


def test_a_channel_that_none_of_very_many_is_called_by_is_refused_in_a_line(tmp_path):
    edfio = pytest.importorskip("edfio", reason='the extra "signals" is not installed')
    path = tmp_path / "S01.edf"
    edfio.Edf([edfio.EdfSignal(np.arange(16.0), 16, label=f"EEG {place}") for place in range(139)]).write(path)
    with pytest.raises(
        RecordingError, match=r"S01.edf has no channel 'GSR', .* It has EEG 0, .*EEG 11 and 127 more\."
    ) as error:
        read_signals(path, streams={"eda": ["GSR"]})
    assert len(str(error.value)) < 400


def test_rates_that_the_file_does_not_say(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, eda_values=np.zeros(9))
    with pytest.raises(RecordingError, match=r"x.npz, stream 'eda': there is neither eda_times nor eda_rate"):
        read_signals(path)
    assert read_signals(path, rates={"eda": 4.0}).streams["eda"].rate == 4.0
    table = tmp_path / "y.csv"
    table.write_text("eda,temp\n1,2\n3,4\n5,6\n")
    with pytest.raises(RecordingError, match=r"y.csv has the columns eda, temp and no column of times"):
        read_signals(table)
    assert read_signals(table, rates={"eda": 4.0, "temp": 4.0}).streams["temp"].rate == 4.0


# ---------------------------------------------------------------------------------------------------------------
# damaged files


@pytest.mark.parametrize("kind", WRITERS)
def test_truncated_files_are_refused_wherever_they_were_cut(kind, tmp_path):
    path = WRITERS[kind](tmp_path)
    content = path.read_bytes()
    began = time.monotonic()
    cuts = sorted({*range(0, min(300, len(content)), 7), *np.linspace(0, len(content) - 2, 60).astype(int).tolist()})
    if kind == "csv":  # a table that was cut between two lines, or inside its last number, is a table
        cuts = [
            cut for cut in cuts if content[cut - 1 : cut] != b"\n" and content[:cut].rsplit(b"\n")[-1].count(b",") < 3
        ]
    said: list[str] = []
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:  # of an XDF that was cut off between two chunks, what is there is read, and that is said
            found = read_signals(path).warnings
            said.append("" if [(kind, one.code) for one in found] != [("xdf", "recording_unfinished")] else path.name)
        except RecordingError as error:
            said.append(str(error))
    assert all(path.name in one for one in said)
    assert len(cuts) > 15
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("kind", WRITERS)
def test_flipped_bytes_never_raise_anything_else_or_hang(kind, tmp_path):
    path = WRITERS[kind](tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(1)
    refused: list[str] = []
    for _ in range(60):
        broken = bytearray(content)
        where = random.integers(0, min(len(content), 3000 if random.random() < 0.7 else len(content)), 3)
        for at in where:
            broken[at] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_signals(path)
        except RecordingError as error:
            refused.append(str(error))
    assert refused
    assert all(path.name in message for message in refused)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".edf", ".bdf", ".mat", ".xdf", ".zip"])
def test_files_of_another_kind_are_refused(suffix, tmp_path):
    if suffix == ".xdf":
        pytest.importorskip("pyxdf")
    path = tmp_path / f"odd{suffix}"
    for content in (b"", b"\x00" * 500, b"GIF89a" + bytes(range(256)) * 4, b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=f"odd{suffix}"):
            read_signals(path)


def test_pickles_are_not_opened(tmp_path):
    path = tmp_path / "evil.npz"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    np.savez(path, eda_values=np.array([Evil()], object), eda_rate=4.0)
    with pytest.raises(RecordingError, match=r"evil.npz cannot be read as npz"):
        read_signals(path)
    assert not (tmp_path / "executed").exists()


def test_a_stream_that_never_ended_is_read_and_named(tmp_path):
    pytest.importorskip("pyxdf")
    path = tmp_path / "cut.xdf"
    markers = np.array([[b"start"]], object)
    parts = xdf_stream(3, "markers", "string", 0.0, markers, np.array([100.0]))
    path.write_bytes(
        b"".join([b"XDF:", *xdf_stream(1, "ecg", "float32", 128.0, ECG, np.arange(512) / 128), *parts[:-1]])
    )
    recording = read_signals(path)
    np.testing.assert_array_equal(recording.streams["ecg"].values, ECG)
    (doubt,) = recording.warnings
    assert doubt.code == "recording_unfinished"
    assert "'markers' never ended" in doubt.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,eda\n0,1\n1,2\n1,3\n", "S.csv, column of times: after sample 1 .* duplicate timestamp"),
        ("time,eda\n0,1\n2,2\n1,3\n", "S.csv, column of times: after sample 1 .* runs backwards"),
        ("time,eda\n0,1\n,2\n", "the time of sample 1 is nan"),
        ("time,eda\n0,1\n1,2,3\n", "S.csv: line 3 has 3 cells. Expected 2"),
        ("time,eda\n0,1\n1,two\n", "S.csv: line 3, column 'eda' is 'two'"),
        ("0,1\n1,2\n", "Expected a header"),
        ("time,time\n0,1\n", "names every column once"),
        ("time,eda\n0,1\n1,2\ntime,eda\n0,1\n", "S.csv: line 4 is the header again"),
        ("time,eda\ns,µS\n0,1\ntime,eda\n0,1\n", "S.csv: line 4 is the header again"),
        ("time,eda\n0,1\n1,2\n\0\0\0", "S.csv ends in 3 zero bytes"),
        ("time,\0eda\n0,1\n", "S.csv is no text"),
        ("Zeit,eda\n0,1.5\n0.25,1.25\n0.5,1.75\n", r"'time_ms'\. 'Zeit' may be it\. Name it so"),
        ("eda,at [Berlin]\n1.5,2024-01-01T10:00:00\n1.25,2024-01-01T10:00:01\n", r"'at \[Berlin\]' may be it"),
        ("sample,eda\n0,1.5\n1,1.25\n2,1.75\n", r"'time_ms'\. Name it so"),
        ("who,eda\na,1.5\nb,1.25\n", r"'time_ms'\. Name it so"),
        ("1600010000.0\n4.0\n1.5\n", "If it is of an Empatica E4, name the folder"),
        ("1600010000.0, IBI\n4.0,0.7\n", "If it is of an Empatica E4, name the folder"),
    ],
)
def test_tables_that_cannot_be_right(text, message, tmp_path):
    path = tmp_path / "S.csv"
    path.write_text(text)
    with pytest.raises(RecordingError, match=message):
        read_signals(path)


@pytest.mark.parametrize("nothing", ["-", "--", ".", "?", "*", "", "NaN", "n/a"])
def test_what_has_neither_letter_nor_digit_is_no_sample(nothing: str, tmp_path: Path) -> None:
    path = tmp_path / "S.csv"
    path.write_text(f"time,eda\n0,1.5\n1,{nothing}\n2,-2.5\n")
    recording = read_signals(path)
    np.testing.assert_array_equal(recording.streams["eda"].values[:, 0], [1.5, np.nan, -2.5])
    assert recording.warnings == ()


@pytest.mark.parametrize("units", ["s,µS,°C", "(s),(µS),(°C)", "[s],[µS],[°C]"])
def test_a_row_of_units_may_be_in_brackets(units: str, tmp_path: Path) -> None:
    path = tmp_path / "S.csv"
    path.write_text(f"time,eda,temp\n{units}\n0,1,33\n1,2,34\n")
    streams = read_signals(path).streams
    assert [(one.units, one.times.tolist()) for one in streams.values()] == [
        (("µS",), [0.0, 1.0]),
        (("°C",), [0.0, 1.0]),
    ]


@pytest.mark.parametrize(
    "header", ["# time eda temp\n", "time eda temp\n", "time   eda  temp\n", "# made by us\n# time  eda temp\n"]
)
def test_columns_may_stand_apart_by_spaces(header: str, tmp_path: Path) -> None:
    path = tmp_path / "S.txt"
    path.write_text(header + " 0.00  1.5   33\n 0.25 -2e0   33.5\n10.50  3     34\n")
    streams = read_signals(path).streams
    assert [one.times.tolist() for one in streams.values()] == [[0.0, 0.25, 10.5]] * 2
    np.testing.assert_array_equal(streams["eda"].values[:, 0], [1.5, -2, 3])
    np.testing.assert_array_equal(streams["temp"].values[:, 0], [33, 33.5, 34])


def test_columns_of_one_name_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "OpenBCI.txt"
    rows = "".join(f"{at}, {at + 0.5}, {10 + at}, 7, {1600000000 + at / 250}\n" for at in range(4))
    path.write_text(f"%OpenBCI Raw EXG Data\nSample Index, EXG Channel 0, Other, Other, Timestamp\n{rows}")
    recording = read_signals(path)
    assert list(recording.streams) == ["Sample Index", "EXG Channel 0", "Other#3", "Other#4"]
    assert recording.streams["Other#3"].values[:, 0].tolist() == [10, 11, 12, 13]
    assert recording.streams["Other#4"].values[:, 0].tolist() == [7, 7, 7, 7]
    assert [one.code for one in recording.warnings] == ["stream_name_twice"]


def test_arrays_that_cannot_be_right(tmp_path):
    path = tmp_path / "S.npz"
    cases = [
        ({"a_values": np.zeros((4, 100)), "a_rate": 10.0}, "one row a channel. Transpose it"),
        ({"a_values": np.zeros(5), "a_times": np.zeros(4)}, "5 samples and 4 times"),
        ({"a_values": np.zeros(5), "a_rate": 0.0}, "the rate is 0"),
        ({"a_values": np.zeros(5), "a_times": np.zeros(5)}, "stream 'a': after sample 0 .* duplicate"),
        ({"a_values": np.array(["x"]), "a_rate": 1.0}, "not made of numbers"),
        ({"a_values": np.zeros((2, 2, 2)), "a_rate": 1.0}, "has the shape"),
        ({"a_values": np.zeros((5, 2)), "a_rate": 1.0, "a_channels": np.array(["x"])}, "2 channels and 1 names"),
        ({"a": np.zeros(5)}, "Expected arrays named <stream>_values"),
        ({"a_values": np.zeros((5, 0)), "a_rate": 1.0}, r"stream 'a' has the shape \(5, 0\)"),
        ({"a_values": np.zeros(50), "a_times": np.arange(50) / 100, "a_rate": 10.0}, "given as 10 Hz, but .* 100 Hz"),
        ({"a_values": np.zeros(3), "a_times": np.arange(3.0), "a_rate": "ten"}, "a_rate is .*Expected one number"),
        ({"a_values": np.zeros(3), "a_times": np.array([0, np.nan, 2])}, "stream 'a': the time of sample 1 is nan"),
        ({"a_values": np.zeros(3), "a_times": np.array([0, 1, 1.7e9])}, "stream 'a': it runs over .* days, of which"),
        ({"a_values": np.zeros(3), "a_rate": 1e-9}, "stream 'a' begins at 0 s .* days later"),
        (
            {"a_values": np.zeros(9), "a_rate": 1.0, "b_values": np.zeros(9), "b_rate": 1.0, "b_start": 1.7e9},
            "stream 'a' begins at 0 s and stream 'b' ends",
        ),
    ]
    for arrays, message in cases:
        np.savez(path, **arrays)
        with pytest.raises(RecordingError, match=f"S.npz.*{message}"):
            read_signals(path)


@pytest.mark.parametrize("worst", [np.nan, np.inf])
def test_a_file_of_nothing_but_missing_samples_holds_none(worst, tmp_path):
    nothing, times = np.full((100, 2), worst), np.arange(100.0)
    np.savez(tmp_path / "S.npz", eda_values=nothing, eda_rate=4.0, ecg_values=nothing, ecg_times=times)
    savemat(tmp_path / "S.mat", {"eda_values": nothing, "eda_rate": 4.0, "ecg": {"values": nothing, "times": times}})
    rows = "".join(f"{index},{worst},{worst}\n" for index in range(100))
    (tmp_path / "S.csv").write_text(f"time,eda,ecg\n{rows}")
    for suffix in ("npz", "mat", "csv"):
        with pytest.raises(
            RecordingError, match=rf"S\.{suffix} holds no sample of 'e(da|cg)', 'e(da|cg)': nothing, or nothing but"
        ):
            read_signals(tmp_path / f"S.{suffix}")
    (tmp_path / "S.csv").write_text("time,eda\n")
    with pytest.raises(RecordingError, match="holds no sample of 'eda'"):
        read_signals(tmp_path / "S.csv")
    # a sensor that fell silent beside one that did not is a stream of missing samples
    np.savez(tmp_path / "S.npz", eda_values=nothing, eda_rate=4.0, ecg_values=times, ecg_times=times)
    assert set(read_signals(tmp_path / "S.npz").streams) == {"eda", "ecg"}


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_edf_samples_are_those_that_pyedflib_reads(suffix, tmp_path):
    path = write_edf(tmp_path, suffix)
    import pyedflib

    mine, random = EdfFile(path), np.random.default_rng(0)
    with pyedflib.EdfReader(str(path)) as other:
        assert mine.labels == other.getSignalLabels()
        assert mine.rates == list(other.getSampleFrequencies())
        for index in range(len(mine.labels)):
            whole = other.readSignal(index)
            np.testing.assert_array_equal(mine.physical(index), whole)
            np.testing.assert_array_equal(mine.digital(index), other.readSignal(index, digital=True))
            for _ in range(5):
                first, last = sorted(random.integers(0, len(whole) + 1, 2).tolist())
                np.testing.assert_array_equal(mine.physical(index, first, last - first), whole[first:last])


def test_a_long_edf_takes_little_memory(tmp_path, monkeypatch):
    """Its samples lie on disk, and few at a time are on their way there."""
    import tracemalloc

    from meco_hub.recordings import large_arrays

    pyedflib = pytest.importorskip("pyedflib")
    path, channels, count = tmp_path / "long.edf", 8, 256 * 3600
    with pyedflib.EdfWriter(str(path), channels, file_type=pyedflib.FILETYPE_EDF) as writer:
        for index in range(channels):
            limits = {"physical_max": 8.0, "physical_min": -8.0, "digital_max": 32767, "digital_min": -32768}
            more = {"dimension": "uV", "transducer": "", "prefilter": ""}
            writer.setSignalHeader(index, {"label": f"EEG {index}", "sample_frequency": 256, **limits, **more})
        writer.writeSamples([np.tile(np.linspace(-7, 7, 3600), 256)] * channels)
    expected = read_signals(path).streams["eeg"]
    monkeypatch.setattr(large_arrays, "MOST_IN_MEMORY", 2**20)
    tracemalloc.start()
    stream = read_signals(path).streams["eeg"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert expected.values.nbytes == 4 * channels * count
    assert peak < 8 * count * 4, "its clock, and what is made of it in passing, however many channels there are"
    np.testing.assert_array_equal(stream.values, expected.values)


def test_the_gap_of_an_interrupted_edf_stays(tmp_path):
    path = write_edf(tmp_path)
    clean, whole = read_signals(path), path.read_bytes()
    assert whole[192:197] == b"EDF+C"
    later = whole.replace(b"+2\x14\x14", b"+9\x14\x14").replace(b"+3\x14\x14", b"+10\x14\x14")
    path.write_bytes(later[:192] + b"EDF+D" + later[197:])
    assert len(later) == len(whole) + 1, "onsets of another length"
    path.write_bytes((later[:192] + b"EDF+D" + later[197:]).replace(b"+10\x14\x14\0\0", b"+10\x14\x14\0"))
    torn = read_signals(path)
    for name, stream in clean.streams.items():
        np.testing.assert_array_equal(torn.streams[name].values, stream.values)
        np.testing.assert_allclose(torn.streams[name].times, stream.times + 7 * (stream.times >= 2))
    path.write_bytes(whole[:192] + b"EDF+D" + whole[197:].replace(b"+1\x14\x14", b"?1\x14\x14"))
    with pytest.raises(RecordingError, match=r"interrupted .EDF.D., and record 1 does not say when"):
        read_signals(path)


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_a_header_that_the_file_contradicts(suffix, tmp_path):
    path = write_edf(tmp_path, suffix)
    whole = path.read_bytes()
    samples = 256 + 216 * int(whole[252:256])  # where the header says how many samples of each signal a record has
    for at, text, message in (
        (
            samples,
            b"64      ",
            r"Expected as many.*or a rate \(64, 128, 4, 4",
        ),  # a rate of 64 Hz, where 128 were written
        (samples, b"256     ", "It was cut off"),
        (236, b"2       ", "the header promises 2 records"),
        (244, b"0       ", "the rate is 0 Hz"),  # records that last no time
        (252, b"3   ", "has no EDF or BDF header"),
    ):
        path.write_bytes(whole[:at] + text + whole[at + len(text) :])
        with pytest.raises(RecordingError, match=rf"S01\{suffix}.*{message}"):
            read_signals(path)
    path.write_bytes(whole[:236] + b"-1      " + whole[244:])  # as before the recorder stops
    assert [one.code for one in read_signals(path).warnings] == ["recording_unfinished"]
    path.write_bytes(whole + b"\0" * 50)  # padded: nothing is missing, and nothing is read of it
    assert set(read_signals(path).streams) == {"ecg", "gsr", "Oddity"}


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([100.0, 101.0, 101.0, 102.0], "after sample 1 .* duplicate timestamp"),
        ([100.0, 102.0, 101.0, 103.0], "after sample 1 .* runs backwards"),
        ([100.0, np.nan, 102.0, 103.0], "the time of sample 1 is nan"),
    ],
)
def test_clocks_of_xdf_that_cannot_be_right(times, message, tmp_path):
    pytest.importorskip("pyxdf")
    path = tmp_path / "S.xdf"
    chunks = xdf_stream(1, "ecg", "float32", 0.0, np.zeros((4, 1), np.float32), np.array(times))
    path.write_bytes(b"".join([b"XDF:", *chunks]))
    with pytest.raises(RecordingError, match=rf"S\.xdf, stream 'ecg': {message}"):
        read_signals(path)


def test_numbers_too_long_for_any_type_are_infinite_and_so_missing(tmp_path):
    path = tmp_path / "S.csv"
    path.write_text("time,eda\n0," + "9" * 400 + "\n1,2\n2,3\n")
    assert np.isfinite(read_signals(path).streams["eda"].values[:, 0]).tolist() == [False, True, True]


def test_what_says_to_be_matlab_s_hdf5_and_is_not_is_refused(tmp_path):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 600)
    with pytest.raises(RecordingError, match=r"cannot be read as a MAT file of version 7.3"):
        read_signals(path)


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(RecordingError, match="There is no"):
        read_signals(tmp_path / "none.edf")
    (tmp_path / "notes.doc").write_text("x")
    with pytest.raises(RecordingError, match=r"files of type '.doc' are not read"):
        read_signals(tmp_path / "notes.doc")
    with pytest.raises(RecordingError, match="folder without csv files"):
        read_signals(tmp_path)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    import sys

    for suffix, package in ((".xdf", "pyxdf"),):
        monkeypatch.setitem(sys.modules, package, None)
        (tmp_path / f"S{suffix}").write_bytes(b"x")
        with pytest.raises(DependencyError, match=rf"{package}, which is not installed.*meco-hub\[signals\]"):
            read_signals(tmp_path / f"S{suffix}")


# ---------------------------------------------------------------------------------------------------------------
# what is at hand already


def test_recordings_from_arrays(tmp_path):
    values = np.arange(8.0)
    recording = to_recording(
        {
            "rate": (values, 4.0),
            "times": (values[:, None], np.arange(8) / 2),
            "events": (values, BEATS.repeat(2)[:8] + np.arange(8)),
            "whole": (np.arange(8), 4),
            "stream": Stream.regular(values, 2.0),
            "bare": values,
        },
        rates={"bare": 8.0},
    )
    assert [stream.rate for stream in recording.streams.values()] == [4.0, 2.0, None, 4.0, 2.0, 8.0]
    assert to_recording(recording) is recording
    assert to_recording(write_npz(tmp_path)).streams["ecg"].rate == 128.0
    for source, message in (
        ([1, 2], "A list is no recording"),
        ({"a": np.zeros(4)}, "'a' is an array without a clock"),
        ({"a": (np.zeros(4), np.array([0, 1, 1, 2]))}, "stream 'a': after sample 1"),
        ({"a": (np.zeros(4), np.array([0, 2, 1, 3]))}, "stream 'a': after sample 1 .* runs backwards"),
        (
            {"a": (np.zeros(4), 1.0), "b": (np.zeros(4), 1.7e9 + np.arange(4))},
            "stream 'b' ends at .* from the same moment",
        ),
        ({"a": Stream(np.zeros((9, 1)), np.arange(9) / 20, 40.0)}, "given as 40 Hz, but .* 20 Hz"),
        ({"a": "text"}, "'a' is"),
    ):
        with pytest.raises(RecordingError, match=message):
            to_recording(source)  # pyright: ignore[reportArgumentType]


def test_the_parts_of_a_recording_keep_their_clocks():
    truth = Stream.regular(np.arange(10.0), 1.0)
    recording = SignalRecording(
        {"x": Stream.regular(np.arange(100.0), 10.0)}, annotations={"v": truth}, prepared="by me"
    )
    clip = recording.clip(3.5, 5.5, margin=0.5)
    np.testing.assert_allclose(clip.streams["x"].times[[0, -1]], [3.0, 5.9])
    np.testing.assert_array_equal(clip.annotations["v"].times, [3, 4, 5, 6])  # one more on either side, to interpolate
    assert (clip.start, clip.end, clip.prepared) == (3.5, 5.5, "by me")
    assert len(truth.around(-5, -1)) <= 1
    assert len(truth.around(20, 30)) == 1


def test_npz_is_bounded(tmp_path, monkeypatch):
    from meco_hub.recordings.signal_files import npz

    monkeypatch.setattr(npz, "MAX_BYTES", 100)
    with pytest.raises(RecordingError, match=r"S01.npz says that it holds"):
        read_signals(write_npz(tmp_path))


def test_a_recording_shows_what_it_holds_in_a_line_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "S.csv"
    path.write_text("time,eda (µS),words\n" + "".join(f"{1711842600 + at / 4},{at % 7},a\n" for at in range(100_000)))
    shown = repr(read_signals(path)).splitlines()
    assert shown[0] == f"SignalRecording({str(path)!r}, 1711842600 to 1711867600 s"
    assert shown[1] == "  eda: Stream(100000 samples of 1 channel (eda µS), 1711842600 to 1711867599.75 s, 4 Hz)"
    assert "column 'words' is 'a'" in shown[2]
    assert shown[2].endswith("[part_left_out])")
    assert len(shown) == 3
    assert "\x1b" not in repr(read_signals(path).streams["eda"]) + repr(
        SignalRecording({"a\x1b[2J": Stream(np.zeros((0, 1)), np.zeros(0), None, ("b\x1b[2J",), (), "c\x1b[2J")})
    )
