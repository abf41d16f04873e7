"""Reading eye clips: every pair in which the two streams occur, and what is said where one is missing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meco_hub.corpora.synthetic.eyes import FRAME_US, DrawnSequence, draw_sequence
from meco_hub.errors import MecoError, RecordingError, UnknownNameError
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import EyeClip, read_eye_clip
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
