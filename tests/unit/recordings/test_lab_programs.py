"""What programs of laboratories save under names of their own: values, names, units, rates and pauses come back."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from meco_hub.errors import RecordingError
from meco_hub.recordings.signals import read_signals

LABELS, TYPES = ("Fz", "ECG I", "Cz", "GSR"), ("EEG", "", "", "eda")
GROUPS = {"eeg": (["Fz", "Cz"], "µV", [0, 2]), "ecg": (["ECG I"], "", [1]), "eda": (["GSR"], "", [3])}


# --- AcqKnowledge's text --------------------------------------------------------------------------------------------


def write_export(path: Path, values: np.ndarray, step: str, clock: str, delimiter: str, *, promised: int = 0) -> Path:
    """As AcqKnowledge writes it: `clock` is the unit of a column of times, or nothing."""
    names = ["EDA (.5 - 35 Hz)\nmicrosiemens", "ECG, EBI100C\nmV", "Exp. CO2\n"][: values.shape[1]]
    cells = [f"CH{at}" for at in range(1, 1 + len(names))]
    rows = [[f"{one:.6f}" for one in row] for row in values]
    if clock:
        number, unit = float(step.split()[0]), {"msec": 1e-3, "sec": 1.0}[step.split()[1]]
        factor = {"min": 60.0, "sec": 1.0, "ms": 1e-3, "milliSec": 1e-3}[clock]
        rows = [[f"{at * number * unit / factor:.5g}", *row] for at, row in enumerate(rows)]  # few digits
    head = (
        [*([clock] if clock else []), *cells],
        [*([""] if clock else []), *[str(promised or len(values))] * len(cells)],
    )
    table = "\n".join(delimiter.join([*row, ""]) for row in [*head, *rows])
    text = "\n".join([r"C:\S01.acq", f"{step}/sample", f"{len(names)} channels", *names, table]) + "\n"
    path.write_text(text.replace(".", ",") if delimiter == ";" else text, encoding="utf-8")
    return path


@settings(max_examples=25, deadline=None)
@given(
    columns=st.integers(1, 3),
    count=st.integers(2, 300),
    step=st.sampled_from([("1 msec", 1000.0), ("0.5 msec", 2000.0), ("31.25 msec", 32.0), ("2.000000 sec", 0.5)]),
    clock=st.sampled_from(["", "min", "sec", "ms", "milliSec"]),
    delimiter=st.sampled_from(["\t", ","]),
)
def test_text_that_acqknowledge_exports(
    columns: int,
    count: int,
    step: tuple[str, float],
    clock: str,
    delimiter: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    values = np.round(np.random.default_rng(count).normal(size=(count, columns)), 6)
    path = write_export(tmp_path_factory.mktemp("drawn") / "S.txt", values, step[0], clock, delimiter)
    recording = read_signals(path)
    assert recording.warnings == ()
    assert list(recording.streams) == ["EDA (.5 - 35 Hz)", "ECG, EBI100C", "Exp. CO2"][:columns]
    for at, stream in enumerate(recording.streams.values()):
        np.testing.assert_array_equal(stream.values[:, 0], values[:, at])
        np.testing.assert_allclose(stream.times, np.arange(count) / step[1], atol=1e-9)
        assert stream.rate in (pytest.approx(step[1]), None if count < 3 else step[1])
        assert stream.units == (["microsiemens", "mV", ""][at],)


def test_an_export_in_german_of_one_channel_twice_or_cut_off(tmp_path: Path) -> None:
    values = np.round(np.random.default_rng(0).normal(size=(50, 2)), 6)
    path = write_export(tmp_path / "S.txt", values, "1 msec", "sec", ";", promised=80)
    recording = read_signals(path)
    np.testing.assert_array_equal(recording.streams["ECG, EBI100C"].values[:, 0], values[:, 1])
    (doubt,) = recording.warnings
    assert doubt.code == "file_ends_early"
    assert "promises 80 samples; it has 50 rows" in doubt.message
    text = write_export(tmp_path / "S.txt", values, "1 msec", "sec", "\t").read_text(encoding="utf-8")
    path.write_text(text.replace("EDA (.5 - 35 Hz)", "ECG, EBI100C"), encoding="utf-8")
    recording = read_signals(path)
    assert list(recording.streams) == ["ECG, EBI100C#1", "ECG, EBI100C#2"]
    assert [one.code for one in recording.warnings] == ["stream_name_twice"]


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("clock", ["", "sec"])
def test_rows_without_any_value_keep_their_time(delimiter: str, clock: str, tmp_path: Path) -> None:
    values = np.round(np.random.default_rng(0).normal(size=(50, 2)), 6)
    path = write_export(tmp_path / "S.txt", values, "1 sec", clock, delimiter)
    lines = path.read_text(encoding="utf-8").split("\n")
    first = len(lines) - 51
    for row in (10, 11, 12):
        cells = lines[first + row].split(delimiter)
        lines[first + row] = delimiter.join([*cells[: len(clock) > 0], *[""] * (len(cells) - (len(clock) > 0))])
    path.write_text("\n".join(lines), encoding="utf-8")
    recording = read_signals(path)
    for at, stream in enumerate(recording.streams.values()):
        np.testing.assert_allclose(stream.times, np.delete(np.arange(50.0), [10, 11, 12]))
        np.testing.assert_array_equal(stream.values[:, 0], np.delete(values[:, at], [10, 11, 12]))


@pytest.mark.parametrize(
    ("old", "new"),
    [("msec/", "parsec/"), ("1 msec", "0 msec"), ("2 channels", "3 channels"), ("sec\tCH1", "km\tCH1")],
)
def test_exports_of_another_kind_are_refused(old: str, new: str, tmp_path: Path) -> None:
    path = write_export(tmp_path / "S.txt", np.ones((20, 2)), "1 msec", "sec", "\t")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(RecordingError, match=r"S\.txt: AcqKnowledge's header says .* Expected a time between samples"):
        read_signals(path)


# --- MAT files ------------------------------------------------------------------------------------------------------


def write_eeglab(path: Path, values: np.ndarray, rate: float, *, form: str, pause: tuple[int, float] | None) -> Path:
    """A *.set: `form` says which version, whether in a struct, and whether with a *.fdt."""
    places = np.zeros(len(LABELS), [("labels", object), ("type", object)])
    places["labels"], places["type"] = LABELS, TYPES
    own: dict[str, Any] = {"srate": rate, "nbchan": len(values), "pnts": values.shape[1], "trials": 1, "xmin": 0.0}
    own |= {"chanlocs": places, "data": values, "setname": "drawn", "event": np.zeros((0, 0))}
    if pause is not None:
        event = np.zeros(2, [("type", object), ("latency", object), ("duration", object)])
        event["type"], event["latency"] = ("square", "boundary"), (3.0, pause[0] + 0.5)
        event["duration"] = (0.0, pause[1])
        own["event"] = event
    if "fdt" in form:
        values.astype("<f4").T.tofile(path.with_name("elsewhere.fdt"))
        own["data"] = r"D:\study\elsewhere.fdt"
    if "7.3" not in form:
        savemat(path, {"EEG": own} if "struct" in form else own)
        return path
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as opened:
        kept, group = opened.create_group("#refs#"), opened.create_group("EEG") if "struct" in form else opened

        def put(place: Any, key: str, value: Any) -> Any:
            numbers = (
                np.array([[ord(one)] for one in value], "u2") if isinstance(value, str) else np.atleast_2d(value).T
            )
            made = place.create_dataset(key, data=numbers)
            made.attrs["MATLAB_class"] = np.bytes_("char" if isinstance(value, str) else "double")
            return made

        for key, value in own.items():
            if getattr(value, "dtype", np.dtype(float)).names is None:
                if np.size(value):
                    put(group, key, value)
                continue
            inner = group.create_group(key)
            for field in value.dtype.names:
                refs = [put(kept, str(len(kept)), one if one != "" else np.zeros(2)).ref for one in value[field]]
                inner.create_dataset(field, data=np.array([refs], h5py.ref_dtype).T)
    with path.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))
    return path


@pytest.mark.parametrize("form", ["", "struct", "fdt", "struct fdt", "7.3", "7.3 struct", "7.3 fdt"])
@settings(max_examples=6, deadline=None)
@given(
    count=st.integers(20, 300),
    rate=st.sampled_from([64.0, 250.0, 512.0]),
    pause=st.none() | st.tuples(st.integers(5, 15), st.floats(1, 5000)),
)
def test_what_eeglab_saves(
    form: str,
    count: int,
    rate: float,
    pause: tuple[int, float] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    values = np.random.default_rng(count).normal(size=(4, count)).astype(np.float32).astype(np.float64)
    path = write_eeglab(tmp_path_factory.mktemp("drawn") / "S.set", values, rate, form=form, pause=pause)
    recording = read_signals(path)
    assert recording.warnings == ()
    times = np.arange(count) + (0 if pause is None else pause[1] * (np.arange(count) >= pause[0]))
    assert set(recording.streams) == set(GROUPS)
    for name, (labels, unit, rows) in GROUPS.items():
        stream = recording.streams[name]
        np.testing.assert_array_equal(stream.values, values[rows].T)
        np.testing.assert_allclose(stream.times, times / rate, rtol=1e-9)
        assert stream.rate == rate
        assert (stream.channels, stream.units) == (tuple(labels), (unit,) * len(rows))


def test_what_eeglab_saves_of_another_kind_is_refused(tmp_path: Path) -> None:
    def saved(**changed: Any) -> Path:
        own = {
            "srate": 64.0,
            "nbchan": 2,
            "pnts": 30,
            "trials": 1,
            "data": np.zeros((2, 30)),
            "chanlocs": np.zeros((0, 0)),
        }
        savemat(tmp_path / "S.set", {**own, **changed})
        return tmp_path / "S.set"

    joined = np.array([("boundary", 9.5, np.nan)], [("type", object), ("latency", object), ("duration", object)])
    (tmp_path / "short.fdt").write_bytes(bytes(100))
    for changed, said in (
        ({"data": np.zeros((2, 30, 4)), "trials": 4}, r"in 4 epochs.* before it is cut into epochs"),
        ({"srate": 0.0}, "srate 0"),
        ({"nbchan": 3}, "data has 2 channels, chanlocs 2, nbchan is 3"),
        ({"data": "gone.fdt"}, "has its samples in 'gone.fdt'.* Copy both"),
        ({"data": "short.fdt"}, r"short.fdt has 100 bytes; .* 1 epochs of 2 channels and 30 samples"),
        ({"event": joined}, "a boundary in it does not say how long"),
    ):
        with pytest.raises(RecordingError, match=said):
            read_signals(saved(**changed))
    joined["latency"] = 1.0  # many files begin with one
    assert read_signals(saved(event=joined, data=np.ones((2, 30)))).streams["eeg"].channels == ("1", "2")


def test_what_ledalab_saves(tmp_path: Path) -> None:
    eda, times = np.random.default_rng(0).uniform(2, 5, 200), np.arange(200) / 10 + 2.5
    event = {"time": 4.0, "nid": 1, "name": "tone", "userdata": np.zeros((0, 0))}
    data = {"conductance": eda, "time": times, "timeoff": 0.0, "event": event}
    savemat(tmp_path / "S.mat", {"data": data, "fileinfo": {"version": 3.49}})
    (item,) = read_signals(tmp_path / "S.mat").streams.items()
    name, stream = item
    np.testing.assert_array_equal(stream.values[:, 0], eda)
    np.testing.assert_allclose(stream.times, times)
    assert (name, stream.rate, stream.units) == ("eda", 10.0, ("µS",))
    savemat(tmp_path / "S.mat", {"data": {**data, "time": times[:-1]}})
    with pytest.raises(RecordingError, match="200 samples and 199 times"):
        read_signals(tmp_path / "S.mat")


def test_two_channels_of_one_name_that_acqknowledge_exports_to_matlab_are_both_there(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 2))
    own = {"data": values, "isi": 10.0, "isi_units": "ms", "labels": np.array(["EMG", "EMG"])}
    savemat(tmp_path / "S.mat", {**own, "units": np.array(["mV", "mV"])})
    recording = read_signals(tmp_path / "S.mat")
    for at, name in enumerate(["EMG#1", "EMG#2"]):
        np.testing.assert_array_equal(recording.streams[name].values[:, 0], values[:, at])
    assert [one.code for one in recording.warnings] == ["stream_name_twice"]


@pytest.mark.parametrize(("kind", "duration", "gap"), [(-99.0, 30.0, 3.0), (-99.0, 0.0, 0.0), (-98.0, 30.0, 0.0)])
def test_where_types_of_events_are_numbers_a_boundary_has_one_too(
    kind: float, duration: float, gap: float, tmp_path: Path
) -> None:
    event = np.zeros(1, [("type", object), ("latency", object), ("duration", object)])
    event[0] = (kind, 50.5, duration)
    values = np.random.default_rng(0).normal(size=(2, 100))
    own = {"srate": 10.0, "nbchan": 2, "pnts": 100, "trials": 1, "xmin": 0.0, "chanlocs": np.zeros((0, 0))}
    savemat(tmp_path / "S.set", own | {"data": values, "event": event})
    times = read_signals(tmp_path / "S.set").streams["eeg"].times
    np.testing.assert_allclose(times, np.arange(100) / 10 + gap * (np.arange(100) >= 50))
