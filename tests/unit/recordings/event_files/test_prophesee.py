"""Prophesee's raw files, by real recordings where they are at hand, and word by word."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.recordings.event_files import EventFile, prophesee
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.events import iterate_events, read_events
from meco_hub.recordings.eye_clips import read_eye_clip

SAMPLES = Path(__file__).parents[4].parent / "shared" / "data" / "events"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/data/events is not here")


@needs_samples
def test_a_real_evt3_recording_decodes_as_the_vendors_software_does(caplog: pytest.LogCaptureFixture) -> None:
    recording = read_events(SAMPLES / "evt3_sample.raw")
    truth = np.load(SAMPLES / "evt3_sample.npy")  # what OpenEB decodes
    order = np.argsort(truth["t"], kind="stable")
    assert len(recording) == len(truth) == 219_596
    assert (recording.width, recording.height) == (1280, 720)  # by its sensor; the header has no geometry
    for column in "xytp":
        np.testing.assert_array_equal(getattr(recording, column), truth[column][order])
    assert recording.t[-1] - recording.t[0] == 8_801
    assert not caplog.records


@needs_samples
def test_every_door_reads_evt3_on_the_same_clock() -> None:
    path = SAMPLES / "evt3_sample.raw"
    whole = read_events(path)
    parts = list(iterate_events(path, chunk=50_000))
    np.testing.assert_array_equal(np.sort(np.concatenate([part.t for part in parts])), whole.t)
    frame = {"frames": np.zeros((1, 4, 4), np.uint8), "frame_times": [int(whole.t[-1])]}
    clip = read_eye_clip({"events": path, **frame})
    assert isinstance(clip.events, EventRecording)
    np.testing.assert_array_equal(clip.events.t, whole.t)
    grids = EventVoxelizer(bins=2, window_us=33_000)(path)
    np.testing.assert_array_equal(
        grids["event_values"], EventVoxelizer(bins=2, window_us=33_000)(whole)["event_values"]
    )


def test_a_new_high_part_sets_the_low_part_to_zero(makers, tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"

    def times(words: list[int]) -> list[int]:
        path.write_bytes(makers.raw_header("3.0", "EVT3") + np.array(words, "<u2").tobytes())
        return read_events(path).t.tolist()

    assert times([0x8001, 0x6FFF, 0x0001, 0x2001, 0x8002, 0x6001, 0x2002]) == [0x1FFF, 0x2001]
    assert times([0x8001, 0x6FFF, 0x0001, 0x2001, 0x8002, 0x2002]) == [0x1FFF, 0x2000]  # no low part came
    assert times([0x8001, 0x6009, 0x0001, 0x2001, 0x8001, 0x6007, 0x2002]) == [0x1007, 0x1009]  # put in order of time
    assert times([0x8FFF, 0x6001, 0x0001, 0x2001, 0x8000, 0x6002, 0x2002]) == [0xFFF001, 0x1000002]  # the 24 bits wrap


@needs_samples
def test_a_real_evt2_recording() -> None:
    recording = read_events(SAMPLES / "evt2_sample.raw")
    assert len(recording) == 539_481
    assert recording.t[-1] - recording.t[0] == 50_000
    assert (recording.width, recording.height) == (640, 480)
    assert recording.x.max() < 640
    assert recording.y.max() < 480
    assert not {"unknown_words", "reordered", "before_first_time"} & set(recording.notes)


@needs_samples
@pytest.mark.parametrize("words", [1, 97, 4096])
def test_blocks_do_not_matter(words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (SAMPLES / "evt3_sample.raw").read_bytes()
    start = data.index(b"\n", data.index(b"% system_ID")) + 1
    stream = np.frombuffer(data[start : start + 12_000], "<u2")
    whole = prophesee.Evt3(EventFile(iter(()))).decode(stream)
    decoder = prophesee.Evt3(EventFile(iter(())))
    parts = [decoder.decode(stream[at : at + words]) for at in range(0, len(stream), words)]
    for column, values in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[column] for part in parts]), values)


def _evt3(words: list[int], file: EventFile | None = None) -> list[tuple[int, int, int, int]]:
    x, y, t, p = prophesee.Evt3(file or EventFile(iter(()))).decode(np.array(words, "<u2"))
    return list(zip(x.tolist(), y.tolist(), t.tolist(), p.tolist(), strict=True))


def test_evt3_vectors_go_on_from_their_base() -> None:
    words = [0x8001, 0x6002, 0x0007, 0x3800 | 100, 0x4801, 0x5003, 0x2000 | 9, 0x4001]
    at = (1 << 12) + 2
    assert _evt3(words) == [
        *((100, 7, at, 1), (111, 7, at, 1)),  # bits 0 and 11 of twelve
        *((112, 7, at, 1), (113, 7, at, 1)),  # bits 0 and 1 of eight, twelve further
        (9, 7, at, 0),  # a single event leaves the base alone
        (120, 7, at, 1),  # eight further
    ]


def test_evt3_time_wraps_and_small_steps_back_do_not() -> None:
    words = [0x8FFF, 0x6FFF, 0x0001, 0x2001, 0x8000, 0x6000, 0x2002, 0x8005, 0x6000, 0x2003, 0x8004, 0x2004]
    times = [t for _, _, t, _ in _evt3(words)]
    assert times == [(1 << 24) - 1, 1 << 24, (1 << 24) + (5 << 12), (1 << 24) + (4 << 12)]


def test_evt3_counts_what_it_cannot_use() -> None:
    file = EventFile(iter(()))
    # an event before any time, one before any row, a word of type 1 (unknown), a trigger (known and skipped), one event
    assert _evt3([0x0001, 0x2001, 0x8001, 0x1234, 0xA001, 0x2005], file) == [(5, 1, 1 << 12, 0)]
    assert file.notes == {"unknown_words": 1, "before_first_time": 1}


def test_evt2_time_wraps() -> None:
    top = (1 << 28) - 1
    words = [0x8 << 28 | top, 1 << 28 | 63 << 22 | 5 << 11 | 6, 0x8 << 28, 0 << 28 | 1 << 22 | 7 << 11 | 8]
    x, y, t, p = prophesee.Evt2(EventFile(iter(()))).decode(np.array(words, "<u4"))
    assert (x.tolist(), y.tolist(), p.tolist()) == ([5, 7], [6, 8], [1, 0])
    assert t.tolist() == [(1 << 34) - 1, (1 << 34) + 1]


@pytest.mark.parametrize(("swapped", "say"), [(True, True), (True, False), (False, False)])
def test_evt21_in_both_orders_of_its_halves(swapped: bool, say: bool, makers, tmp_path: Path) -> None:
    events = makers.events(500)
    path = tmp_path / "clip.raw"
    makers.evt21(path, events, swapped=swapped, say=say)
    recording = read_events(path)
    for column in "xytp":
        np.testing.assert_array_equal(getattr(recording, column), getattr(events, column))


def test_headers(makers, tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"
    path.write_bytes(b"% evt 3.0\n% geometry 640x480\n" + np.array([0x8001, 0x0001, 0x2003], "<u2").tobytes())
    recording = read_events(path)  # without "% end"
    assert (recording.width, recording.height, len(recording)) == (640, 480, 1)
    path.write_bytes(b"% evt 3.0\n% end\n\x01")
    with pytest.raises(RecordingError, match="end within a word"):
        read_events(path)
    path.write_bytes(b"% evt 4.0\n% end\n")
    with pytest.raises(RecordingError, match=r"'evt 4\.0'; EVT2, EVT21 and EVT3 are read"):
        read_events(path)
    path.write_bytes(b"% format HISTO3D;width=3\n% evt 3.0\n% end\n")
    with pytest.raises(RecordingError, match="HISTO3D"):
        read_events(path)
    path.write_bytes(b"% evt 3.0")
    with pytest.raises(RecordingError, match="does not end"):
        read_events(path)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", [0, 12])
def test_dat_as_gen1_and_1_mpx_come_in(version: str, kind: int, makers, tmp_path: Path) -> None:
    events = makers.events(500, span_us=9_000_000_000)  # two and a half hours, on 32 bits
    x, y = events.x % 304, events.y % 240
    shifts = (0, 14, 28) if version == "2" else (0, 9, 17)
    words = np.zeros(500, [("t", "<u4"), ("data", "<u4")])
    words["t"] = events.t % 2**32
    words["data"] = sum(
        column.astype(np.uint32) << shift for column, shift in zip((x, y, events.p), shifts, strict=True)
    )
    header = f"% Data file containing CD events.\n% Version {version}\n% Date 2019-01-01 00:00:00\n% Height 240\n% Width 304\n"
    path = tmp_path / "clip_td.dat"
    path.write_bytes(header.encode() + bytes([kind, 8]) + words.tobytes())
    recording = read_events(path)
    for column, values in zip("xytp", (x, y, events.t, events.p), strict=True):
        np.testing.assert_array_equal(getattr(recording, column), values)
    assert (recording.width, recording.height, recording.notes["format"]) == (304, 240, "DAT")
    parts = list(iterate_events(path, 70, start_us=5_000_000_000))
    np.testing.assert_array_equal(np.concatenate([part.t for part in parts]), events.t[events.t >= 5_000_000_000])
    path.write_bytes(header.encode() + bytes([kind, 8]) + words.tobytes()[:-3])
    assert len(read_events(path, damaged="keep")) == 499
    path.write_bytes(header.encode() + bytes([14, 8]) + words.tobytes())
    with pytest.raises(RecordingError, match="holds events of type 14 with 8 bytes each"):
        read_events(path)


@pytest.mark.parametrize("padding", [0x9000, 0x9ABC, 0xB000, 0x1FFF])
def test_padding_is_no_damage(padding: int, makers, tmp_path: Path) -> None:
    events = makers.events(100)
    path = makers.write("evt3", tmp_path, events)
    path.write_bytes(path.read_bytes() + np.full(5000, padding, "<u2").tobytes())
    recording = read_events(path)
    np.testing.assert_array_equal(recording.t, events.t)
    assert recording.notes["unknown_words"] == 5000


def test_words_of_another_format_are_noticed(makers, tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"
    path.write_bytes(makers.raw_header("3.0", "EVT3") + b"\xff\x10" * 1000)
    with pytest.raises(RecordingError, match="1000 of 1000 words"):
        read_events(path)


def test_damage_can_be_kept_out(makers, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = makers.events(100)
    path = makers.write("evt3", tmp_path, events)
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(RecordingError, match='damaged="keep"'):
        read_events(path)
    recording = read_events(path, damaged="keep")
    np.testing.assert_array_equal(recording.t, events.t)
    assert "end within a word" in str(recording.notes["damaged"])
    assert "what comes before is kept" in caplog.text
