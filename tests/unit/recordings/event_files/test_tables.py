"""Tables of events — NumPy's files, text, HDF5 — in the layouts and units that occur."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meco_hub.errors import DependencyError, RecordingError
from meco_hub.recordings.event_recording import EventRecording, column_of, unit_of
from meco_hub.recordings.events import iterate_events, read_events


def _same(recording, events) -> bool:
    return all(np.array_equal(getattr(recording, column), getattr(events, column)) for column in "xytp")


def test_names_of_arrays_in_an_npz(makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.npz"
    x, y, t, p = events
    np.savez(path, X=x, Y=y, Timestamp=t, Polarity=2 * p.astype(np.int8) - 1, other=np.zeros(3))
    assert _same(read_events(path), events)
    np.savez(path, column=x, row=y, when=t, sign=p)
    with pytest.raises(RecordingError, match=r"holds the arrays column, row, when, sign"):
        read_events(path)
    assert _same(read_events(path, columns={"x": "column", "y": "row", "t": "when", "p": "sign"}), events)
    np.savez(path, x=x, y=y[:-1], t=t, p=p)
    with pytest.raises(RecordingError, match="the columns have the shapes"):
        read_events(path)
    np.savez(path, x=x, y=y, t=t)
    with pytest.raises(RecordingError, match="none of them can be p"):
        read_events(path)


def test_a_structured_array_within_an_npz(makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.npz"
    rows = np.rec.fromarrays(list(events), names="x,y,t,p")
    np.savez(path, events=rows)
    assert _same(read_events(path), events)
    np.savez(path, left=rows[:50], right=rows)
    with pytest.raises(RecordingError, match="Say stream="):
        read_events(path)
    assert _same(read_events(path, stream="right"), events)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "clip.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="never unpickled"):
        read_events(path)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("suffix", [".npy", ".txt"])
def test_orders_of_nameless_tables(order: str, suffix: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / f"clip{suffix}"
    table = np.stack([getattr(events, column).astype(np.float64) for column in order], axis=1)
    if suffix == ".npy":
        np.save(path, table)
    else:
        np.savetxt(path, table, fmt="%d", delimiter=",")
    recording = read_events(path)
    assert _same(recording, events)
    assert recording.notes["columns"] == f"{order} (detected)"
    assert _same(read_events(path, columns=order), events)


def test_a_table_that_fits_no_order_asks(tmp_path: Path) -> None:
    path = tmp_path / "clip.txt"
    path.write_text("1 2 3 4\n5 6 7 8\n")
    with pytest.raises(RecordingError, match=r"fit none of the usual orders.*columns="):
        read_events(path)
    with pytest.raises(RecordingError, match="does not name x, y, t and p"):
        read_events(path, columns="xyt")


@pytest.mark.parametrize(
    ("unit", "factor", "told"),
    [("s", 1e-6, None), ("us", 1, None), ("ms", 1e-3, "ms"), ("ns", 1000, "ns"), ("s", 1e-6, "s")],
)
def test_units_of_time(unit: str, factor: float, told: str | None, makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.npz"
    times = events.t * factor if factor < 1 else events.t * int(factor)
    np.savez(path, x=events.x, y=events.y, t=times, p=events.p)
    recording = read_events(path, time_unit=told)
    np.testing.assert_array_equal(recording.t, events.t)
    assert (recording.notes.get("time_unit") == f"{unit} (detected)") == (told is None)


def test_nanoseconds_since_1970_are_seen_and_lose_no_digit(makers, tmp_path: Path) -> None:
    events, path = makers.events(100), tmp_path / "clip"
    since = 1_700_000_000_000_001
    np.savez(path.with_suffix(".npz"), x=events.x, y=events.y, t=(events.t + since) * 1000, p=events.p)
    path.with_suffix(".csv").write_text(
        "t,x,y,p\n" + "".join(f"{(t + since) * 1000},{x},{y},{p}\n" for x, y, t, p in zip(*events, strict=True))
    )
    for suffix in (".npz", ".csv"):
        recording = read_events(path.with_suffix(suffix))
        np.testing.assert_array_equal(recording.t, events.t + since)
        assert recording.notes["time_unit"] == "ns (detected)"


def test_text_in_the_forms_that_occur(makers, tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("240 180\n0.000000 33 39 1\n0.000011 158 145 1\n0.000050 88 143 0\n")  # as rpg's data sets
    recording = read_events(path)
    assert (recording.width, recording.height) == (240, 180)
    assert recording.t.tolist() == [0, 11, 50]
    path.write_text("# a comment\nx;y;polarity;timestamp\n1;2;-1;7\n\n3;4;1;9\n")
    recording = read_events(path)
    assert [column.tolist() for column in (recording.x, recording.y, recording.t, recording.p)] == [
        *([1, 3], [2, 4]),
        *([7, 9], [0, 1]),
    ]
    path.write_text("t x y p\n0.5 1 2 1\n0.6 1 2\n")
    with pytest.raises(RecordingError, match=r"events.txt: line 3 is '0.6 1 2'; expected a number"):
        read_events(path)
    path.write_text("t x y p\n0.5 1 2 1\n0.6 nan 2 1\n")
    with pytest.raises(RecordingError, match="x holds NaN at event 1"):
        read_events(path)
    path.write_text("0.5 1 2 1 " * 5000)
    with pytest.raises(RecordingError, match="line 1 is longer"):
        read_events(path)


@pytest.mark.parametrize("suffix", [".npy", ".txt", "memory"])
def test_ambiguous_orders_are_an_error(suffix: str, makers, tmp_path: Path) -> None:
    """An edge that moves slowly down: rows rise as time does, and time is as small as columns are."""
    t, x, y = np.arange(0, 900, 3), np.arange(300) * 7 % 64, np.arange(300) // 10
    table = np.stack([t, x, y, np.ones(300, int)], axis=1)
    path = tmp_path / f"clip{suffix}"
    if suffix == ".npy":
        np.save(path, table)
    else:
        np.savetxt(path, table, fmt="%d")
    source = table if suffix == "memory" else path
    with pytest.raises(RecordingError, match=r"fit txyp and xytp alike.*columns="):
        read_events(source)
    np.testing.assert_array_equal(read_events(source, columns="txyp").t, t)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.sampled_from(("txyp", "xytp", "xypt")),
    form=st.sampled_from((".npy", ".txt", "memory")),
    span_us=st.sampled_from((20_000, 1_000_000)),
    mixed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_nameless_table_is_read_or_asked_for(
    order: str, form: str, span_us: int, mixed: bool, seed: int, makers, tmp_path: Path
) -> None:
    events = makers.events(300, seed=seed, span_us=span_us)
    rows = np.stack([getattr(events, column).astype(np.int64) for column in order], axis=1)
    table = np.random.default_rng(seed).permutation(rows) if mixed else rows
    path = tmp_path / f"clip{form}"
    if form == ".npy":
        np.save(path, table)
    elif form == ".txt":
        np.savetxt(path, table, fmt="%d")
    found = read_events(table if form == "memory" else path)
    np.testing.assert_array_equal(found.t, events.t)
    if not mixed:
        assert _same(found, events)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("1", "0"), ("1", "-1")])
def test_text_of_pandas_and_of_excel(mark: str, words: tuple[str, str], makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.csv"
    rows = zip(*(column.tolist() for column in events), strict=True)
    lines = [f"{index},{x},{y},{t},{words[0] if p else words[1]}" for index, (x, y, t, p) in enumerate(rows)]
    path.write_text("\r\n".join([",x,y,t,p", *lines]), encoding=mark)
    assert _same(read_events(path), events)
    path.write_text("\n".join(line.partition(",")[2] for line in lines), encoding=mark)  # without names
    assert _same(read_events(path, columns="xytp"), events)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas(delimiter: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.csv"
    rows = zip(*(column.tolist() for column in events), strict=True)
    lines = [delimiter.join((f"{t / 1e6:.6f}".replace(".", ","), str(x), str(y), str(p))) for x, y, t, p in rows]
    path.write_text("\n".join([delimiter.join(("Timestamp", "X", "Y", "Polarity")), *lines]), encoding="utf-8-sig")
    assert _same(read_events(path), events)
    path.write_text("\n".join(lines))
    assert _same(read_events(path), events)


@pytest.mark.parametrize(("form", "fault"), [("%.18e", "e"), ("%d", "whole"), ("%.6f", "point")])
def test_numbers_say_their_unit_by_what_they_are_and_not_by_how_they_are_written(
    form: str, fault: str, makers, tmp_path: Path
) -> None:
    events, path = makers.events(300), tmp_path / "clip.txt"
    table = np.stack([events.t, events.x, events.y, events.p], axis=1).astype(np.float64)
    np.savetxt(path, table, fmt=form)
    if fault == "point":  # as seconds are written, and yet it cannot be
        with pytest.raises(RecordingError, match=r"time_unit=, perhaps .*us"):
            read_events(path)
    assert _same(read_events(path, time_unit="us" if fault == "point" else None), events)
    np.savetxt(path, table / [1e6, 1, 1, 1], fmt=form if fault == "e" else ["%.6f", "%d", "%d", "%d"])
    assert _same(read_events(path), events)


@pytest.mark.parametrize("form", ["csv", "npy", "structured"])
def test_what_is_whole_of_a_damaged_table_is_kept(form: str, makers, tmp_path: Path) -> None:
    events = makers.events(70_000)
    path = tmp_path / f"clip.{'csv' if form == 'csv' else 'npy'}"
    if form == "csv":
        rows = list(zip(*(column.tolist() for column in events), strict=True))
        path.write_text("x,y,t,p\n" + "".join(f"{x},{y},{t},{p}\n" for x, y, t, p in rows[:69_000]) + "12,3")
    else:
        columns = [column.astype(np.int64) for column in events]
        np.save(
            path, np.rec.fromarrays(columns, names="x,y,t,p") if form == "structured" else np.stack(columns, axis=1)
        )
        path.write_bytes(path.read_bytes()[: -32 * 1000 + 11])
    with pytest.raises(RecordingError, match="cut short"):
        read_events(path)
    kept = read_events(path, damaged="keep")
    np.testing.assert_array_equal(kept.t, events.t[:69_000])
    assert [warning.code for warning in kept.warnings] == ["damaged_file"]
    assert "69000 events" in kept.warnings[0].message
    np.testing.assert_array_equal(
        np.concatenate([part.x for part in iterate_events(path, 999, damaged="keep")]), events.x[:69_000]
    )


@pytest.mark.parametrize("fault", ["cut", "one long line"])
def test_what_comes_before_the_damage_of_a_packed_text_is_kept(fault: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(9000), tmp_path / "clip.csv.gz"
    lines = [f"{x},{y},{t},{p}\n" for x, y, t, p in zip(*(column.tolist() for column in events), strict=True)]
    if fault == "cut":
        whole = gzip.compress("".join(["x,y,t,p\n", *lines]).encode())
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(gzip.compress("".join([*lines[:8000], "1" * 5000, *lines[8000:]]).encode()))
    with pytest.raises(RecordingError, match=r"is cut short or damaged|longer than 4096"):
        read_events(path)
    kept = read_events(path, damaged="keep")
    assert 2000 < len(kept) <= 8000
    np.testing.assert_array_equal(kept.t, events.t[: len(kept)])
    assert [warning.code for warning in kept.warnings] == ["damaged_file"]


def test_a_packed_text_needs_no_second_ending(makers, tmp_path: Path) -> None:
    events = makers.events(100)
    lines = "".join(f"{x},{y},{t},{p}\n" for x, y, t, p in zip(*(column.tolist() for column in events), strict=True))
    for name in ("a.csv", "a.csv.gz", "a.txt"):
        (tmp_path / name).write_bytes(gzip.compress(b"x,y,t,p\n" + lines.encode()))
        np.testing.assert_array_equal(read_events(tmp_path / name).t, events.t)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_unit_of_time_is_read_in_any_code_that_excel_writes(encoding: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(100), tmp_path / "clip.csv"
    lines = "".join(f"{x},{y},{t},{p}\n" for x, y, t, p in zip(*(column.tolist() for column in events), strict=True))
    path.write_bytes(f"x,y,time [µs],p\n{lines}".encode(encoding))
    recording = read_events(path)
    np.testing.assert_array_equal(recording.t, events.t)
    assert "time_unit" not in recording.notes  # nothing was told from the numbers


@pytest.mark.parametrize("form", ["npy", "csv", "text", "evt3"])
def test_an_option_takes_effect_or_is_refused(form: str, makers, tmp_path: Path) -> None:
    path = makers.write(form, tmp_path, makers.events(100))
    with pytest.raises(RecordingError, match=r"stream='left' was said of .* holds one stream"):
        read_events(path, stream="left")
    with pytest.raises(RecordingError, match="from 9 to 5 µs; expected an end that comes after its start"):
        read_events(path, start_us=9, end_us=5)


@pytest.mark.parametrize("fault", ["x", "t", "p"])
def test_impossible_values_end_what_is_kept(fault: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(3000), tmp_path / "clip.npz"
    columns = {name: column.astype(np.float64) for name, column in zip("xytp", events, strict=True)}
    columns[fault][1234] = np.nan
    np.savez(path, **columns)
    with pytest.raises(RecordingError, match=f"{fault} (is|holds) (nan|NaN)"):
        read_events(path, time_unit="us")
    np.testing.assert_array_equal(read_events(path, time_unit="us", damaged="keep").t, events.t[:1234])


def test_hdf5_layouts(makers, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    events, path = makers.events(500), tmp_path / "clip.h5"
    x, y, t, p = events
    with h5py.File(path, "w") as file:  # Metavision
        rows = np.rec.fromarrays([x, y, p.astype(np.int16), t], names="x,y,p,t")
        file.create_dataset("CD/events", data=rows)
        file.create_dataset("CD/indexes", data=np.zeros(3))
        file.create_dataset("EXT_TRIGGER/events", data=np.zeros(2, [("p", "i2"), ("t", "i8"), ("id", "i2")]))
        file.attrs["geometry"] = "1280x720"
    recording = read_events(path)
    assert _same(recording, events)
    assert (recording.width, recording.height, recording.notes["stream"]) == (1280, 720, "CD/events")
    with h5py.File(path, "w") as file:  # MVSEC
        table = np.stack([x, y, 1.5e9 + t / 1e6, 2.0 * p - 1], axis=1)
        file.create_dataset("davis/left/events", data=table)
        file.create_dataset("davis/right/events", data=table[:100])
    with pytest.raises(RecordingError, match=r"several event streams: davis/left/events, davis/right/events"):
        read_events(path)
    recording = read_events(path, stream="davis/left/events")
    np.testing.assert_array_equal(recording.t - 1_500_000_000_000_000, t)
    np.testing.assert_array_equal(recording.p, p)
    with h5py.File(path, "w") as file:  # rpg_e2vid
        for name, values in (("xs", x), ("ys", y), ("ts", t / 1e6), ("ps", p.astype(bool))):
            file.create_dataset(f"events/{name}", data=values)
        file.attrs["sensor_resolution"] = (180, 240)
    recording = read_events(path)
    assert _same(recording, events)
    assert (recording.width, recording.height) == (240, 180)
    with h5py.File(path, "w") as file:
        file.create_dataset("pictures", data=np.zeros((3, 4)))
    with pytest.raises(RecordingError, match="holds pictures; expected a group"):
        read_events(path)


def test_dsec_times_have_their_offset(makers, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    events = makers.events(500)
    path = makers.write("hdf5", tmp_path, events)
    with h5py.File(path) as file:
        assert file["events/t"][0] != events.t[0]
    assert _same(read_events(path), events)


def test_a_missing_compression_is_named(makers, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "clip.h5"
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((8,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((8,))
        plist.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())  # Prophesee's own, which is in no package
        group = file.create_group("events")
        for name in "xytp":
            h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_INT32, space, plist)
    with pytest.raises(DependencyError, match=r"compressed with filter 36559"):
        read_events(path)


_NAMES = {
    "s": ("t_s", "Time [s]", "time(sec)"),
    "ms": ("t_ms", "time [ms]"),
    "us": ("ts_us", "timestamp (µs)"),
    "ns": ("Timestamp_ns",),
}
_WHOLE = {"us": 1, "ns": 1000}


@pytest.mark.parametrize(("unit", "name"), [(unit, name) for unit, names in _NAMES.items() for name in names])
@pytest.mark.parametrize("form", ["csv", "npy", "npz", "hdf5", "memory"])
def test_the_name_of_the_times_says_their_unit(makers, tmp_path: Path, unit: str, name: str, form: str) -> None:
    events, path = makers.events(200), tmp_path / f"clip.{form}"
    x, y, t, p = events
    times = t * _WHOLE[unit] if unit in _WHOLE else t / {"s": 1e6, "ms": 1e3}[unit]
    columns = {name: times, "x": x, "y": y, "p": p}
    if form == "csv":
        lines = (",".join(map(repr, row)) for row in zip(*(one.tolist() for one in columns.values()), strict=True))
        path.write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")
    elif form == "npy":
        np.save(path, np.rec.fromarrays(list(columns.values()), names=list(columns)))
    elif form == "npz":
        np.savez(path, **columns)
    elif form == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for key, values in columns.items():
                file.create_dataset(f"events/{key}", data=values)
    read = EventRecording.from_any(columns) if form == "memory" else read_events(path)
    assert _same(read, events)
    assert not read.warnings
    # whoever says another unit has the last word
    said = EventRecording.from_any(columns, time_unit="s") if form == "memory" else read_events(path, time_unit="s")
    assert said.t[-1] == round(float(times[-1]) * 1e6)


def test_a_name_that_only_ends_like_a_unit_says_none() -> None:
    assert [column_of(one) for one in ("ts", "times", "t", "xs", "x_s", "s", "plus_ns", "events")] == [
        *"tttx", None, None, None, None,
    ]  # fmt: skip
    assert [unit_of(one) for one in ("ts", "times", "x_us", "t_us", None)] == [None, None, None, "us", None]


@pytest.mark.parametrize("kind", ["datetime64[us]", "datetime64[ns]", "timedelta64[ns]", "timedelta64[us]"])
def test_dates_and_spans_of_time_say_their_unit(makers, tmp_path: Path, kind: str) -> None:
    events, path = makers.events(200), tmp_path / "clip.npz"
    x, y, t, p = events
    times = (t * (1000 if "ns" in kind else 1)).astype(kind)
    np.savez(path, x=x, y=y, t=times, p=p)
    assert _same(read_events(path), events)
    assert _same(EventRecording.from_any({"x": x, "y": y, "t": times, "p": p}), events)
    times[3] = "NaT"
    np.savez(path, x=x, y=y, t=times, p=p)
    with pytest.raises(RecordingError, match=r"event 3 has no time \(NaT\)"):
        read_events(path)


def test_polarity_may_be_on_and_off(makers, tmp_path: Path) -> None:
    events, path = makers.events(200), tmp_path / "clip.csv"
    x, y, t, p = events
    lines = [f"{a},{b},{c},{'ON' if d else 'off'}" for a, b, c, d in zip(t, x, y, p, strict=True)]
    path.write_text("\n".join(["t,x,y,polarity", *lines]) + "\n")
    assert _same(read_events(path), events)


@pytest.mark.parametrize(
    ("form", "dates"),
    [
        *((form, False) for form in ("parquet", "csv.gz", "txt.gz", "frame", "arrow")),
        *((form, True) for form in ("parquet", "frame", "arrow")),  # text has no dates of NumPy's
    ],
)
def test_tables_as_pandas_and_arrow_have_them(makers, tmp_path: Path, form: str, dates: bool) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    events = makers.events(3000)
    t = events.t.astype("datetime64[us]") if dates else events.t
    table = pandas.DataFrame({"polarity": events.p.astype(bool), "t_us": t, "x": events.x, "y": events.y})
    path: Any = tmp_path / f"clip.{form}"
    if form == "parquet":
        table.to_parquet(path, row_group_size=700)
    elif form == "frame":
        path = table
    elif form == "arrow":
        path = pyarrow.Table.from_pandas(table)
    else:
        table.to_csv(path, index=False)
    recording = read_events(path)
    assert _same(recording, events)
    assert recording.warnings == ()
    assert _same(read_events(path, start_us=int(events.t[0]), end_us=int(events.t[-1]) + 1), events)
    if isinstance(path, Path):
        parts = list(iterate_events(path, 500))
        assert {len(part) for part in parts} == {500}
        np.testing.assert_array_equal(np.concatenate([part.t for part in parts]), events.t)


def test_a_parquet_file_that_is_cut_short_is_an_error(makers, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "clip.parquet"
    pandas.DataFrame(makers.events(3000)._asdict()).to_parquet(path)
    whole = path.read_bytes()
    for damaged in (whole[:-200], whole[:4], whole[: len(whole) // 2] + whole[-300:]):
        path.write_bytes(damaged)
        with pytest.raises(RecordingError, match=r"clip\.parquet"):
            read_events(path)


@pytest.mark.parametrize("order", ["xytp", "txyp"])
def test_the_transpose_of_stacked_columns(order: str, makers, tmp_path: Path) -> None:
    events, path = makers.events(20_000), tmp_path / "clip.npy"
    np.save(path, np.stack([getattr(events, column).astype(np.int64) for column in order]).T)
    assert not np.load(path).flags.c_contiguous
    assert _same(read_events(path), events)
    parts = list(iterate_events(path, 3000))
    assert all(
        np.array_equal(np.concatenate([getattr(part, one) for part in parts]), getattr(events, one)) for one in "xytp"
    )


def test_a_table_that_lies_on_its_side_is_told_so(tmp_path: Path) -> None:
    np.save(tmp_path / "lying.npy", np.zeros((4, 5000), np.int64))
    with pytest.raises(RecordingError, match=r"Transpose it: one row an event\.$"):
        read_events(tmp_path / "lying.npy")
    np.save(tmp_path / "wide.npy", np.full((3000, 400), 7))
    with pytest.raises(RecordingError, match=r"fit none.*1200 characters\)") as error:
        read_events(tmp_path / "wide.npy")
    assert len(str(error.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("words", [("off", "ON"), ("False", "True"), (False, True)])
def test_polarity_in_memory_may_be_words(words: tuple[Any, Any], makers) -> None:
    events = makers.events(300)
    p = np.array(words, dtype=object)[events.p]
    assert _same(read_events({**events._asdict(), "p": p}), events)
    with pytest.raises(RecordingError, match="p has shape"):
        read_events({**events._asdict(), "p": np.where(events.p, "bright", "dark")})


def test_what_torch_and_numpy_cannot_give_is_an_error_of_ours(makers) -> None:
    import torch

    columns = makers.events(300)._asdict()
    rows = torch.as_tensor(np.stack([values.astype(np.int64) for values in columns.values()], axis=1))
    order = "".join(columns)
    assert _same(read_events(rows, columns=order), makers.events(300))
    for times in (
        torch.empty(300, device="meta"),
        torch.arange(300, dtype=torch.bfloat16),
        np.ma.masked_greater(columns["t"], int(columns["t"][5])),
        [[1], [2, 3]],
    ):
        with pytest.raises(RecordingError, match=r"t (cannot be read as an array|has masked entries)"):
            read_events({**columns, "t": times})
