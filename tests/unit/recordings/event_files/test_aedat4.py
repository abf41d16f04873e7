"""AEDAT 4: frames, streams, damage, and files that iniVation's own library wrote."""

import struct
from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.event_files import aedat4
from meco_hub.recordings.events import iterate_events, read_events


def test_frames_come_with_the_events(makers, tmp_path: Path) -> None:
    events = makers.events(2500)
    frames = np.random.default_rng(1).integers(0, 255, (3, 260, 346), dtype=np.uint8)
    path = tmp_path / "clip.aedat4"
    makers.aedat4(path, events, frames)
    recording = read_events(path)
    assert recording.frames is not None
    assert recording.frame_times is not None
    np.testing.assert_array_equal(recording.frames, frames)
    assert recording.frame_times.tolist() == [events.t[0] + 10_000 * number for number in range(3)]
    assert read_events(path, frames=False).frames is None
    cut = read_events(path, start_us=int(events.t[0]) + 1, end_us=int(events.t[0]) + 10_001)
    assert cut.frame_times is not None
    assert len(cut.frame_times) == 1
    part = recording.between(int(events.t[0]) + 10_000, int(events.t[0]) + 20_001)
    assert part.frames is not None
    np.testing.assert_array_equal(part.frames, frames[1:])
    assert all(part.frames is None for part in iterate_events(path))


def test_without_an_index_as_after_an_interruption(makers, tmp_path: Path) -> None:
    events = makers.events(1500)
    path = tmp_path / "clip.aedat4"
    makers.aedat4(path, events, index=False)
    recording = read_events(path)
    assert (len(recording), [one.code for one in recording.warnings]) == (1500, ["recording_unfinished"])
    path.write_bytes(path.read_bytes()[:-3])  # the last packet was being written
    with pytest.raises(RecordingError, match="does not fit"):
        read_events(path)
    assert len(read_events(path, damaged="keep")) == 1000


def test_a_file_cut_before_its_index_is_noticed(makers, tmp_path: Path) -> None:
    path = makers.write("aedat4", tmp_path, makers.events(1500))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(RecordingError, match=r"its packets should end at byte \d+ of 9000"):
        read_events(path)
    whole = makers.write("aedat4", tmp_path, makers.events(1500)).read_bytes()
    path.write_bytes(whole[:20_000])
    kept = read_events(path, damaged="keep")
    assert (len(kept), [warning.code for warning in kept.warnings]) == (1000, ["damaged_file"])


def test_streams_are_chosen_by_name_or_number(makers, tmp_path: Path) -> None:
    path = makers.write("aedat4", tmp_path, makers.events(10))
    assert len(read_events(path, stream="events")) == len(read_events(path, stream="0")) == 10
    with pytest.raises(RecordingError, match=r"0 events \(EVTS\); expected the event stream 'left'"):
        read_events(path, stream="left")


def test_no_entities_in_the_header(makers, tmp_path: Path) -> None:
    path = makers.write("aedat4", tmp_path, makers.events(10))
    data = path.read_bytes()
    bomb = b'<!DOCTYPE dv [<!ENTITY a "aaaa">]>'
    path.write_bytes(data.replace(b'<dv version="2.0"><node name="outInfo" path="/outInfo/">'[: len(bomb)], bomb, 1))
    with pytest.raises(RecordingError, match="entities"):
        read_events(path)


def test_a_packet_that_swells_is_refused(makers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aedat4, "MAX_PACKET", 4000)
    for form in ("aedat4_lz4", "aedat4_zstd"):
        path = makers.write(form, tmp_path, makers.events(1000))
        with pytest.raises(RecordingError, match="decompresses to more"):
            read_events(path)


def test_negative_coordinates_are_named(makers, tmp_path: Path) -> None:
    events = makers.events(10)
    path = makers.write("aedat4", tmp_path, events)
    data = bytearray(path.read_bytes())
    first = data.index(struct.pack("<qhh", *(int(column[0]) for column in (events.t, events.x, events.y))))
    data[first + 8 : first + 10] = struct.pack("<h", -2)
    path.write_bytes(bytes(data))
    with pytest.raises(RecordingError, match=r"x holds values from -2"):
        read_events(path)


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"])
def test_what_the_makers_of_the_camera_write(compression: str, tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing", reason="iniVation's library is not installed")
    rng = np.random.default_rng(0)
    path = tmp_path / "davis.aedat4"
    start = 1_600_000_000_000_000
    config = dv.io.MonoCameraWriter.Config("DAVIS346", getattr(dv.CompressionType, compression))
    config.addEventStream((346, 260))
    config.addFrameStream((346, 260))
    writer = dv.io.MonoCameraWriter(str(path), config)
    t = np.sort(rng.integers(0, 99_000, 600)) + start
    x, y, p = rng.integers(0, 346, 600), rng.integers(0, 260, 600), rng.integers(0, 2, 600)
    frames = rng.integers(0, 255, (3, 260, 346), dtype=np.uint8)
    for step in range(3):
        store = dv.EventStore()
        for index in range(200 * step, 200 * step + 200):
            store.push_back(int(t[index]), int(x[index]), int(y[index]), bool(p[index]))
        writer.writeEvents(store)
        writer.writeFrame(dv.Frame(start + 33_000 * step, frames[step]))
    del writer  # which closes the file
    recording = read_events(path)
    for column, values in zip("xytp", (x, y, t, p), strict=True):
        np.testing.assert_array_equal(getattr(recording, column), values)
    assert recording.frames is not None
    assert recording.frame_times is not None
    np.testing.assert_array_equal(recording.frames, frames)
    assert recording.frame_times.tolist() == [start, start + 33_000, start + 66_000]
    assert (recording.width, recording.height) == (346, 260)
