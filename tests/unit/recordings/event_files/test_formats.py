"""Every format: what was written is what is read, whole and in parts of any size, and in bounded memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.events import iterate_events, read_events

FORMATS = (
    *("evt3", "evt2", "evt21", "aedat4", "aedat4_lz4", "aedat4_zstd"),
    *("text", "csv", "npy", "npz", "hdf5"),
)


def _assert_same(recording, events) -> None:
    for column in "xytp":
        np.testing.assert_array_equal(getattr(recording, column), getattr(events, column), err_msg=column)


def test_every_format_is_tested(makers) -> None:
    assert set(FORMATS) == set(makers.formats)


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_written_is_read(form: str, makers, tmp_path: Path) -> None:
    events = makers.events()
    path = makers.write(form, tmp_path, events)
    recording = read_events(path)
    _assert_same(recording, events)
    assert recording.name == str(path)
    if form not in ("text", "csv", "npy", "hdf5"):
        assert (recording.width, recording.height) == (346, 260)
    else:
        assert (recording.width, recording.height) == (None, None)
        assert read_events(path, width=346, height=260).width == 346


@pytest.mark.parametrize("form", FORMATS)
def test_parts_together_are_the_whole(form: str, makers, tmp_path: Path) -> None:
    events = makers.events()
    path = makers.write(form, tmp_path, events)
    for chunk in (7, 999, 5000):
        parts = list(iterate_events(path, chunk))
        assert [len(part) for part in parts[:-1]] == [chunk] * (len(parts) - 1)
        assert 0 < len(parts[-1]) <= chunk
        for column in "xytp":
            together = np.concatenate([getattr(part, column) for part in parts])
            np.testing.assert_array_equal(together, getattr(events, column))


@pytest.mark.parametrize("form", FORMATS)
def test_a_span_is_read_alone(form: str, makers, tmp_path: Path) -> None:
    events = makers.events()
    path = makers.write(form, tmp_path, events)
    part = read_events(path, start_us=12_000, end_us=20_000)
    inside = (events.t >= 12_000) & (events.t < 20_000)
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_array_equal(part.t, events.t[inside])
    np.testing.assert_array_equal(part.x, events.x[inside])


@pytest.mark.parametrize("form", ["evt3", "evt2", "aedat4", "npy", "npz", "hdf5", "csv"])
def test_memory_is_bounded_by_the_part_and_not_by_the_file(form: str, makers, tmp_path: Path) -> None:
    events = makers.events(150_000, span_us=2_000_000)
    path = makers.write(form, tmp_path, events)
    next(iterate_events(path, 2000))  # imports, once
    tracemalloc.start()
    seen = sum(len(part) for part in iterate_events(path, 2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 150_000
    # a block of raw words is fixed at 2¹⁷ words; the others follow the chunk, and text has 65,536 lines at most
    assert peak < (24e6 if form.startswith("evt") else 2e6)


@pytest.mark.parametrize("form", ["evt3", "evt2", "aedat4", "npy", "npz", "hdf5", "csv"])
def test_a_span_keeps_no_more_than_it_holds(form: str, makers, tmp_path: Path) -> None:
    events = makers.events(150_000, span_us=2_000_000)
    path = makers.write(form, tmp_path, events)
    span = {"start_us": 1_000_000, "end_us": 1_020_000}
    read_events(path, **span)  # imports, once
    tracemalloc.start()
    part = read_events(path, **span)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 1000 < len(part) < 2000
    assert kept < 3 * part.nbytes + 200_000  # all of it takes 2 MB
    assert peak < 32e6  # a block of 65,536 lines
    whole = read_events(path)
    np.testing.assert_array_equal(part.t, whole.between(*span.values()).t)


def test_more_than_max_events_is_an_error(makers, tmp_path: Path) -> None:
    path = makers.write("npy", tmp_path, makers.events())
    with pytest.raises(RecordingError, match=r"more than 2999 events.*iterate_events"):
        read_events(path, max_events=2999)
    assert len(read_events(path, max_events=3000)) == 3000


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_without_events(form: str, makers, tmp_path: Path) -> None:
    path = makers.write(form, tmp_path, makers.events(0))
    if form == "text":
        with pytest.raises(RecordingError, match="empty"):
            read_events(path)
        return
    if form == "csv":
        assert len(read_events(path)) == 0
        return
    assert len(read_events(path)) == 0
    assert list(iterate_events(path)) == []


def test_wrong_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "clip.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RecordingError, match=r"There is no file .*clap.npy. Did you mean 'clip.npy'"):
        read_events(tmp_path / "clap.npy")
    with pytest.raises(RecordingError, match="is a folder"):
        read_events(tmp_path)
    (tmp_path / "nothing.raw").touch()
    with pytest.raises(RecordingError, match="empty"):
        read_events(tmp_path / "nothing.raw")
    (tmp_path / "old.aedat").write_bytes(b"#!AER-DAT3.1\r\n#Format: RAW\r\n")
    with pytest.raises(RecordingError, match=r"AEDAT 3\.1; 4\.0 is read"):
        read_events(tmp_path / "old.aedat")
    (tmp_path / "what.bin").write_bytes(bytes(range(256)))
    with pytest.raises(RecordingError, match="no file of events that is read"):
        read_events(tmp_path / "what.bin")
