"""Reading eye clips: every pair in which the two streams occur, and what is said where one is missing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from meco_hub.corpora.synthetic.eyes import FRAME_US, DrawnSequence, draw_sequence
from meco_hub.errors import MecoError, RecordingError, UnknownNameError
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.events import OPTIONS, read_events
from meco_hub.recordings.eye_clips import EyeClip, _natural, read_eye_clip
from meco_hub.recordings.pictures import Pictures


@pytest.fixture(scope="module")
def drawn() -> DrawnSequence:
    return draw_sequence("surprise", person="p", frames=14, size=32)


@pytest.fixture
def folders(tmp_path: Path, drawn: DrawnSequence) -> Path:
    """…/SEE with one sequence, as PNG so that nothing is lost."""
    for stream, pictures in (("frame", drawn.frames), ("event", drawn.event_pictures)):
        folder = tmp_path / "SEE" / stream / "surprise" / "sequence"
        folder.mkdir(parents=True)
        for place, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{place:05d}.png")
    return tmp_path / "SEE"


def pixels(stream: object, place: int) -> np.ndarray:
    assert isinstance(stream, Pictures)
    return np.asarray(stream.read([place])[0].convert("L"))


def recording(drawn: DrawnSequence) -> EventRecording:
    return EventRecording(drawn.x, drawn.y, drawn.t, drawn.p, 32, 32, "camera")


def test_a_sequence_finds_its_partner_in_the_other_tree(folders: Path, drawn: DrawnSequence) -> None:
    for tree in ("frame", "event"):
        clip = read_eye_clip(folders / tree / "surprise" / "sequence")
        assert (clip.name, len(clip), clip.is_raw) == ("sequence", 14, False)
        np.testing.assert_array_equal(pixels(clip.frames, 3), drawn.frames[3])
        np.testing.assert_array_equal(pixels(clip.events, 3), drawn.event_pictures[3])
    pair = {
        stream: str(folders / tree / "surprise" / "sequence")
        for stream, tree in (("frames", "frame"), ("events", "event"))
    }
    assert len(read_eye_clip(pair)) == 14


def test_a_folder_that_holds_both_is_read(tmp_path: Path, drawn: DrawnSequence) -> None:
    for stream, pictures in (("frames", drawn.frames), ("events", drawn.event_pictures)):
        (tmp_path / "clip" / stream).mkdir(parents=True)
        for place, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / "clip" / stream / f"{place}.png")  # 10 must not stand before 2
    clip = read_eye_clip(tmp_path / "clip")
    np.testing.assert_array_equal(pixels(clip.frames, 10), drawn.frames[10])


def test_a_folder_of_frames_and_one_file_of_events_is_read(tmp_path: Path, drawn: DrawnSequence) -> None:
    clip = tmp_path / "clip"
    (clip / "frames").mkdir(parents=True)
    for place, picture in enumerate(drawn.frames):
        Image.fromarray(picture).save(clip / "frames" / f"{place}.png")
    times = FRAME_US * (1 + np.arange(len(drawn.frames)))
    np.savez(clip / "recorded.npz", x=drawn.x, y=drawn.y, t=drawn.t, p=drawn.p, width=32, height=32)
    with pytest.raises(RecordingError, match="frame_times"):
        read_eye_clip(clip)
    for place in (clip, clip / "frames"):
        file = place / "timestamps.txt"
        file.write_text("# us\n" + "\n".join(map(str, times)) + "\n")
        found, given = read_eye_clip(clip), {"frames": clip / "frames", "events": clip / "recorded.npz"}
        expected = read_eye_clip({**given, "frame_times": times})
        assert (found.name, len(found), found.is_raw) == ("clip", len(drawn.frames), True)
        np.testing.assert_array_equal(found.frame_times, times)
        assert isinstance(found.events, EventRecording)
        assert isinstance(expected.events, EventRecording)
        np.testing.assert_array_equal(found.events.t, expected.events.t)
        for encoding in ("utf-8-sig", "utf-16"):  # as editors of Windows save them
            file.write_text("\r\n".join(map(str, times)), encoding, newline="")
            np.testing.assert_array_equal(read_eye_clip(clip).frame_times, times)
        file.write_bytes(b"1\n\xb5s\n")
        with pytest.raises(RecordingError, match=r"timestamps\.txt is no text .*expected UTF-8"):
            read_eye_clip(clip)
        file.write_text("0.1\n0.2\n")
        with pytest.raises(RecordingError, match=r"timestamps\.txt holds 0\.1; expected .*whole microseconds"):
            read_eye_clip(clip)
        file.unlink()
    (clip / "labels.csv").touch()
    with pytest.raises(RecordingError, match=r"several .*: labels\.csv, recorded\.npz; expected one of each"):
        read_eye_clip(clip)


def test_frames_without_events_and_the_reverse(folders: Path, tmp_path: Path) -> None:
    (folders / "event" / "surprise" / "sequence" / "00004.png").unlink()
    with pytest.raises(RecordingError, match=r"1 frames have no events: .*lacks 00004"):
        read_eye_clip(folders / "frame" / "surprise" / "sequence")
    (folders / "frame" / "surprise" / "sequence").rename(tmp_path / "moved")
    with pytest.raises(RecordingError, match="has events without frames: there is no folder"):
        read_eye_clip(folders / "event" / "surprise" / "sequence")
    with pytest.raises(RecordingError, match="a folder without a second stream"):
        read_eye_clip(tmp_path / "moved")
    video = tmp_path / "eye.mp4"
    video.touch()
    with pytest.raises(RecordingError, match=r"eye\.mp4 is a video: frames without events"):
        read_eye_clip(video)
    with pytest.raises(RecordingError, match="There is no file or folder"):
        read_eye_clip(tmp_path / "nothing")


def test_arrays_and_raw_events_and_their_clocks(drawn: DrawnSequence, tmp_path: Path) -> None:
    columns = {"x": drawn.x, "y": drawn.y, "t": drawn.t, "p": drawn.p}
    clip = read_eye_clip({"frames": drawn.frames, "events": columns, "frame_times": drawn.frame_times, "name": "mine"})
    assert (clip.name, clip.is_raw) == ("mine", True)
    np.savez(tmp_path / "events.npz", **columns)
    late = read_eye_clip(
        {"frames": drawn.frames, "events": tmp_path / "events.npz", "frames_per_second": 30, "offset_us": -FRAME_US}
    )
    assert isinstance(late.events, EventRecording)
    assert late.frame_times is not None
    assert int(late.events.t[0]) == int(drawn.t[0]) - FRAME_US
    assert late.frame_times[:3].tolist() == [0, 33_333, 66_667]
    with pytest.raises(RecordingError, match="clocks do not overlap"):
        read_eye_clip({"frames": drawn.frames, "events": columns, "frames_per_second": 30, "offset_us": 10**9})
    with pytest.raises(RecordingError, match="the frames have no times"):
        read_eye_clip({"frames": drawn.frames, "events": columns})
    alone = read_eye_clip({"events": columns})
    assert alone.frames is None
    assert len(alone) >= 12


def test_a_camera_that_records_both_needs_frames(drawn: DrawnSequence) -> None:
    both = recording(drawn)
    with pytest.raises(RecordingError, match="camera holds events without frames"):
        read_eye_clip(both)
    clip = read_eye_clip(
        EventRecording(both.x, both.y, both.t, both.p, 32, 32, "davis", drawn.frames, drawn.frame_times)
    )
    assert (len(clip), clip.name, clip.is_raw) == (14, "davis", True)
    assert read_eye_clip(clip) is clip


def test_damaged_files_and_unknown_keys_are_errors_of_ours(tmp_path: Path, drawn: DrawnSequence) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(RecordingError, match=r"broken\.npz"):
        read_eye_clip({"frames": drawn.frames, "events": broken, "frame_times": drawn.frame_times})
    with pytest.raises(UnknownNameError, match="Did you mean 'frames'"):
        read_eye_clip({"frame": drawn.frames})
    with pytest.raises(RecordingError, match="no event file"):
        read_eye_clip({"frames": drawn.frames, "events": tmp_path / "none.raw"})
    for nothing in (None, 3, b"bytes"):
        with pytest.raises(MecoError):
            read_eye_clip(nothing)
    with pytest.raises(RecordingError, match="frames_per_second is -1"):
        read_eye_clip({"frames": drawn.frames, "events": drawn.event_pictures, "frames_per_second": -1})


def test_what_is_read_can_be_sampled(folders: Path) -> None:
    clip = read_eye_clip(folders / "frame" / "surprise" / "sequence").at([0, 4, 8, 12])
    assert isinstance(clip, EyeClip)
    assert clip.chosen == (0, 4, 8, 12)


def test_pictures_go_in_natural_order(tmp_path: Path) -> None:
    """frame_10 after frame_9, in both folders, with and without a partner."""
    for stream in ("frame", "event"):
        (tmp_path / "clip" / stream).mkdir(parents=True)
        for place in range(60):
            Image.fromarray(np.full((8, 8), place, np.uint8)).save(tmp_path / "clip" / stream / f"frame_{place}.png")
    for clip in (read_eye_clip(tmp_path / "clip"), read_eye_clip({"frames": tmp_path / "clip" / "frame"})):
        for pictures in filter(None, (clip.frames, clip.events)):
            assert [int(pixels(pictures, place)[0, 0]) for place in range(60)] == list(range(60))


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.sets(st.integers(0, 2000), min_size=2),
    before=st.text("ab_-.", max_size=4),
    after=st.text("ab_-", max_size=4),
)
def test_numbers_in_names_count_as_numbers(numbers: set[int], before: str, after: str) -> None:
    names = [f"{before}{number}{after}" for number in sorted(numbers)]
    assert sorted(sorted(names), key=_natural) == names


HOW = {
    "columns": {"x": "a", "y": "b", "t": "c", "p": "d"},
    "time_unit": "ns",
    "width": 32,
    "height": 32,
    "start_us": 100_000,
    "end_us": 300_000,
    "max_events": 10**6,
    "out_of_bounds": "drop",
    "damaged": "keep",
}


def test_a_clip_takes_every_option_that_reading_events_takes(drawn: DrawnSequence, tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    np.savez(path, a=drawn.x, b=drawn.y, c=drawn.t * 1000, d=drawn.p)
    columns = {"a": drawn.x, "b": drawn.y, "c": drawn.t * 1000, "d": drawn.p}
    assert {*HOW, "stream"} == set(OPTIONS)
    expected = read_events(path, **HOW)
    inside = (drawn.t >= 100_000) & (drawn.t < 300_000)
    np.testing.assert_array_equal(expected.t, drawn.t[inside])
    frames = {"frames": drawn.frames, "frame_times": drawn.frame_times}
    for source in ({"events": path, **HOW}, {"events": columns, **HOW}, {"events": {"events": path, **HOW}}):
        clip = read_eye_clip({**frames, **source}).events
        assert isinstance(clip, EventRecording)
        again = read_events(source)
        for found in (clip, again):
            assert all(np.array_equal(getattr(found, one), getattr(expected, one)) for one in "xytp")
            assert (found.width, found.height, found.out_of_bounds) == (32, 32, "drop")
    with pytest.raises(RecordingError, match="more than 5 events"):
        read_eye_clip({**frames, "events": path, **HOW, "max_events": 5})
    with pytest.raises(RecordingError, match="stream='left'"):
        read_eye_clip({**frames, "events": columns, **HOW, "stream": "left"})
    for key, value, said in (
        *(
            ("time_unit", "min", "no unit of time"),
            ("start_us", "5", "expected a whole number"),
            ("width", 2.5, "whole"),
        ),
        *(
            ("damaged", "maybe", "expected"),
            ("out_of_bounds", "clip", "expected one of error, drop"),
            ("columns", "xy", "name"),
        ),
    ):
        for source in (path, columns):
            with pytest.raises(RecordingError, match=said):
                read_eye_clip({**frames, "events": source, **HOW, key: value})
            with pytest.raises(RecordingError, match=said):
                read_events({"events": source, **HOW, key: value})
    with pytest.raises(UnknownNameError, match=r"'time_units'\. Did you mean 'time_unit'"):
        read_events(path, time_units="ns")
    with pytest.raises(UnknownNameError, match="'time_units'"):
        read_events({"events": path, "time_units": "ns"})
    with pytest.raises(RecordingError, match="time_unit was said of a clip without single events"):
        read_eye_clip({"frames": drawn.frames, "events": drawn.event_pictures, "time_unit": "ns"})


def test_of_a_file_only_what_lies_around_the_frames_is_kept(tmp_path: Path) -> None:
    """Windows of the frames find every event of theirs, whatever the offset of the clocks."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 60_000_000, 60_000))
    path = tmp_path / "events.npz"
    np.savez(path, x=rng.integers(0, 32, 60_000), y=rng.integers(0, 32, 60_000), t=t, p=rng.integers(0, 2, 60_000))
    times = 30_000_000 + 33_000 * np.arange(14)
    for offset in (0, 7_000_000):
        clip = read_eye_clip(
            {
                "frames": np.zeros((14, 32, 32), np.uint8),
                "events": path,
                "frame_times": times + offset,
                "offset_us": offset,
            }
        )
        assert isinstance(clip.events, EventRecording)
        assert 600 < len(clip.events) < 1000
        for start, end in clip.event_spans(range(14), 33_000).tolist():
            whole = t[(t + offset >= start) & (t + offset < end)] + offset
            np.testing.assert_array_equal(clip.events.between(start, end).t, whole)
    with pytest.raises(RecordingError, match=r"frames from 90000000 to 90429000 µs, events from \d+ to 599\d+ µs"):
        read_eye_clip({"frames": np.zeros((14, 32, 32), np.uint8), "events": path, "frame_times": times + 60_000_000})


@pytest.mark.parametrize("step", [33, 33_000_000])
def test_frame_times_in_another_unit_are_in_doubt(step: int, drawn: DrawnSequence) -> None:
    times = int(drawn.t[0]) + step * np.arange(14)
    clip = read_eye_clip({"frames": drawn.frames, "events": recording(drawn), "frame_times": times})
    assert [one.code for one in clip.warnings] == ["time_unit_doubtful"]
    fine = read_eye_clip({"frames": drawn.frames, "events": recording(drawn), "frame_times": drawn.frame_times})
    assert fine.warnings == ()


def test_doubts_about_events_stand_on_the_clip(drawn: DrawnSequence) -> None:
    whole = np.arange(3000)
    burst = {"x": whole % 30, "y": 0 * whole, "t": 5 * whole, "p": whole % 2}  # 15 ms, or 15 s
    times = drawn.frame_times - drawn.frame_times[0]
    clip = read_eye_clip({"frames": drawn.frames, "events": burst, "frame_times": times})
    assert [one.code for one in clip.warnings] == ["time_unit_doubtful"]


def test_a_stereo_recording_is_read_by_its_stream(tmp_path: Path) -> None:
    cases = Path(__file__).parents[3].parent / "shared" / "cases" / "events" / "stereo_davis.aedat4"
    if not cases.is_file():
        pytest.skip("../shared/cases/events is not here")
    clip = read_eye_clip({"frames": cases, "events": cases, "stream": "4"})
    assert (pixels(clip.frames, 0) == 200).all()
    assert len(clip) == 16
