"""Texts of OpenBCI's GUI and of OpenSignals: the recorder's rate and its count of samples are the clock, not when packets came."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_files.recorder_texts import count_on
from meco_hub.recordings.signals import read_signals

START = 1_600_000_000.0


def openbci(
    path: Path, number: np.ndarray, stamps: np.ndarray, rate: float = 250.0, first: str = "Sample Index"
) -> Path:
    rows = "".join(
        f"{at % 256}.0, {at}.5, 0, {time:.6f}, 2020-09-13 12:26:40.000\n"
        for at, time in zip(number, stamps, strict=True)
    )
    above = (
        f"%OpenBCI Raw EXG Data\n%Number of channels = 8\n%Sample Rate = {rate:g} Hz\n%Board = OpenBCI_GUI$BoardCyton\n"
    )
    path.write_text(f"{above}{first}, EXG Channel 0, Other, Timestamp, Timestamp (Formatted)\n{rows}")
    return path


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(30, 400), min_size=1, max_size=8),
    losses=st.lists(st.integers(1, 700), min_size=8, max_size=8),
    packet=st.integers(1, 40),
    turn=st.sampled_from([101, 256]),
    step=st.sampled_from([1, 2]),
    late=st.integers(0, 2**32 - 1),
)
def test_a_count_that_turns_over_finds_every_loss_by_the_stamps_of_packets(
    lengths: list[int], losses: list[int], packet: int, turn: int, step: int, late: int
) -> None:
    number = np.concatenate(
        [[0], np.cumsum([1 + gap for run, gap in zip(lengths, losses, strict=False) for gap in [0] * run + [gap]])]
    )
    number = np.concatenate([number, number[-1] + np.arange(1, 301)])
    number = np.unique(np.concatenate([np.arange(turn + 1), turn + 1 + number]))  # at first a whole turn
    rate = 250.0
    arrived = (number // packet + 1) * packet / rate + np.random.default_rng(late).uniform(0, 0.02)
    counter = (number * step) % (turn * step)
    np.testing.assert_array_equal(count_on(counter.astype(float), rate, arrived, None), number)


def test_samples_of_openbci_lie_at_the_stated_rate_whenever_their_packets_came(tmp_path: Path) -> None:
    number = np.delete(np.arange(2500), np.arange(700, 730))
    stamps = START + (number // 20 + 1) * 20 / 250
    hang = stamps.copy()
    hang[1000:1800] = stamps[1800]  # the computer was busy for three seconds
    for given_stamps in (stamps, hang):
        recording = read_signals(openbci(tmp_path / "OpenBCI.txt", number, given_stamps))
        assert list(recording.streams) == ["EXG Channel 0", "Other"]
        stream = recording.streams["EXG Channel 0"]
        np.testing.assert_allclose(stream.times - stamps[0], number / 250, atol=1e-6)
        assert stream.rate == 250.0
        (doubt,) = recording.warnings
        assert doubt.code == "samples_lost"
        assert "30 of 2500 samples" in doubt.message
        assert "after row 700" in doubt.message


def test_a_recorder_that_was_started_anew_goes_on_where_its_stamps_do(tmp_path: Path) -> None:
    number = np.concatenate([np.arange(1000), np.arange(1500)])
    stamps = START + (np.arange(2500) // 20 + 1) * 20 / 250 + np.where(np.arange(2500) < 1000, 0, 37)
    stream = read_signals(openbci(tmp_path / "S.txt", number, stamps)).streams["EXG Channel 0"]
    assert 36 < stream.times[1000] - stream.times[999] < 38


def test_stamps_that_another_rate_fits_are_refused_and_even_ones_change_nothing(tmp_path: Path) -> None:
    number = np.arange(2500)
    with pytest.raises(RecordingError, match=r"states 250 Hz, .* last 10\.0 s; by their stamps they last 12\.5 s"):
        read_signals(openbci(tmp_path / "S.txt", number, START + number / 200))
    even = START + number / 250
    for first in ("Sample Index", "Another Index"):  # without a count stamps are times
        stream = read_signals(openbci(tmp_path / "S.txt", number, even, first=first)).streams["EXG Channel 0"]
        np.testing.assert_allclose(stream.times, even, atol=1e-6)


def test_texts_of_a_recorder_may_be_cut_off_or_empty_and_their_counts_no_numbers(tmp_path: Path) -> None:
    number = np.arange(500)
    path = openbci(tmp_path / "S.txt", number, START + number // 10 * 0.04)
    text = path.read_text()
    head, rows = text[: text.index("0.0, 0.5")], text[text.index("0.0, 0.5") :]
    path.write_text(text[: text.rindex("0, 1600000001") + 6] + ", 2020")
    recording = read_signals(path)  # whose last stamp is 160
    np.testing.assert_allclose(recording.streams["Other"].times, START + number / 250)
    assert [one.code for one in recording.warnings] == ["file_ends_early"]
    for other, words in (
        ("", "holds no sample"),
        (rows.replace("\n7.0,", "\n,"), "has no number"),
        (rows.replace("\n7.0,", "\n1e300,"), "has no number"),
    ):
        path.write_text(head + other)
        with pytest.raises(RecordingError, match=words):
            read_signals(path)


# --- LabChart ---------------------------------------------------------------------------------------------------------

LABCHART = "Interval=\t0.25 s\nExcelDateTime=\t4.4957e+04\t31/01/2023 10:00:00.000000\nTimeFormat=\tStartOfBlock\nDateFormat=\t\n"


@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_labchart_is_read_by_its_header(clock: bool, encoding: str, tmp_path: Path) -> None:
    times, path = np.arange(40) / 4, tmp_path / "S.txt"
    head = LABCHART + "ChannelTitle=\tECG\tGSR\nRange=\t10.000 V\t40 µS\nUnitName=\tmV\tµS\n"
    rows = [
        f"{time:g}\t" * clock + f"{at}\t{at + 0.5}" + "\t#* rest begins" * (at == 7) for at, time in enumerate(times)
    ]
    path.write_bytes((head + "\n".join(rows) + "\n").encode(encoding))
    recording = read_signals(path)
    assert {name: one.units for name, one in recording.streams.items()} == {"ECG": ("mV",), "GSR": ("µS",)}
    np.testing.assert_array_equal(recording.streams["GSR"].values[:, 0], np.arange(40) + 0.5)
    np.testing.assert_allclose(recording.streams["ECG"].times, times)
    assert recording.streams["ECG"].rate == 4.0
    assert not recording.warnings
    path.write_bytes((head + "\n".join(rows) + "\n").encode(encoding) * 2)
    with pytest.raises(RecordingError, match="line 48 begins another block"):
        read_signals(path)
    path.write_text(LABCHART + "ChannelTitle=\tECG\n0\t1\t2\t3\n")
    with pytest.raises(RecordingError, match=r"LabChart's header says .* line 6 has 4 cells"):
        read_signals(path)


# --- OpenSignals ------------------------------------------------------------------------------------------------------

BITALINO = {
    "device": "bitalino_rev",
    "position": 0,
    "sampling rate": 1000,
    "column": ["nSeq", "I1", "I2", "O1", "O2", "A1", "A2", "A3"],
    "sensor": ["ECGBIT", "EDA", "RAW"],
    "label": ["A1", "A2", "A3"],
    "channels": [1, 2, 3],
    "resolution": [4, 1, 1, 1, 1, 10, 10, 10],
}
PLUX = {
    "device": "biosignalsplux",
    "sampling rate": 700,
    "column": ["nSeq", "DI", "CH1", "CH3", "CH4", "CH5", "CH8"],
    "sensor": ["ECG", "XYZ", "XYZ", "XYZ", "RESPIRATION"],
    "channels": [1, 3, 4, 5, 8],
    "resolution": [16] * 5,
}


def opensignals(path: Path, head: Any, rows: np.ndarray, end: str = "\t\n") -> Path:
    body = "".join("\t".join(f"{cell:g}" for cell in row) + end for row in rows)
    path.write_text(f"# OpenSignals Text File Format\n# {json.dumps(head)}\n# EndOfHeader\n{body}")
    return path


def rows_of(device: dict[str, Any], number: np.ndarray, turn: int) -> np.ndarray:
    return np.stack([number % turn, *([number * 0] * (len(device["column"]) - 1 - len(device["sensor"]))),
                     *(100 * place + number % 50 for place in range(len(device["sensor"])))], axis=1)  # fmt: skip


@pytest.mark.parametrize("end", ["\t\n", "\n"])
def test_opensignals_is_read_by_its_header_and_its_numbers_are_no_units(end: str, tmp_path: Path) -> None:
    number = np.delete(np.arange(900), np.arange(100, 109))
    recording = read_signals(opensignals(tmp_path / "S.txt", {"98:D3": BITALINO}, rows_of(BITALINO, number, 16), end))
    assert list(recording.streams) == ["ecg", "eda", "A3"]
    for place, stream in enumerate(recording.streams.values()):
        np.testing.assert_allclose(stream.times, number / 1000)
        np.testing.assert_array_equal(stream.values[:, 0], 100 * place + number % 50)
        assert stream.rate == 1000.0
        assert stream.units == ("ADC counts",)
    (doubt,) = recording.warnings
    assert doubt.code == "samples_lost"
    assert "9 of 900" in doubt.message
    assert "counts to 16 only" in doubt.message

    recording = read_signals(opensignals(tmp_path / "P.txt", {"x": PLUX}, rows_of(PLUX, np.arange(70), 2**16), end))
    assert {name: one.channels for name, one in recording.streams.items()} == {
        "ecg": ("ecg",),
        "acc": ("ch3", "ch4", "ch5"),
        "resp": ("resp",),
    }
    assert not recording.warnings


def test_two_devices_of_one_file_stand_beside_each_other_and_what_was_converted_has_no_counts(tmp_path: Path) -> None:
    number = np.arange(100)
    head = {"b": {**PLUX, "position": 1, "sampling rate": 1000}, "a": BITALINO}
    both = np.hstack([rows_of(BITALINO, number, 16), rows_of(PLUX, number, 2**16)])
    recording = read_signals(opensignals(tmp_path / "S.txt", head, both))
    assert list(recording.streams) == ["ecg", "eda", "A3", "acc", "resp"]
    assert recording.streams["ecg"].channels == ("ch1", "ch4")
    assert not recording.warnings
    np.testing.assert_array_equal(recording.streams["resp"].values[:, 0], 400 + number % 50)
    both[50:, 8] += 7
    (doubt,) = read_signals(opensignals(tmp_path / "S.txt", head, both)).warnings
    assert doubt.code == "samples_lost"
    assert "lost others than each other" in doubt.message

    rows = rows_of(PLUX, number, 2**16)
    told = read_signals(opensignals(tmp_path / "S.txt", {"x": {**PLUX, "convertedValues": 1}}, rows))
    fractions = read_signals(opensignals(tmp_path / "S.txt", {"x": PLUX}, rows + np.array([0, 0, 0.5, 0, 0, 0, 0])))
    assert [*told.streams["ecg"].units, *fractions.streams["ecg"].units] == ["", ""]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ([1], "OpenSignals' header cannot be read"),
        ({"x": {}}, "OpenSignals' header cannot be read"),
        ({"x": {**PLUX, "sampling rate": 0}}, r"states \[0\.0\] Hz"),
        ({"x": {**PLUX, "sensor": ["ECG"] * 9}}, "of the sensors"),
        ({"x": {**PLUX, "column": ["nSeq", *PLUX["column"]]}}, "line 4 has 7 cells"),
        ({"x": PLUX, "y": {**PLUX, "sampling rate": 100}}, r"\[100\.0, 700\.0\] Hz"),
    ],
)
def test_a_header_that_does_not_fit_its_columns_is_refused(head: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=words):
        read_signals(opensignals(tmp_path / "S.txt", head, rows_of(PLUX, np.arange(9), 2**16)))
