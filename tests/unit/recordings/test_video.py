"""Video files: counted frames, their times, and damaged files that say so."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.eye_clips import read_eye_clip
from meco_hub.recordings.pictures import read_video

cv2 = pytest.importorskip("cv2", reason="OpenCV (extra video) decodes videos")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames at 25 a second, each of another grey, without loss."""
    path = tmp_path_factory.mktemp("film") / "eye.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 25.0, (32, 24))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write FFV1")
    for place in range(20):
        writer.write(np.full((24, 32, 3), place * 10, np.uint8))
    writer.release()
    return path


def test_frames_are_counted_timed_and_found(film: Path) -> None:
    video = read_video(film)
    assert len(video) == 20
    assert video.times.tolist() == [place * 40_000 for place in range(20)]
    assert [np.asarray(one).mean() for one in video.read([7, 0, 19])] == [70, 0, 190]
    assert video.read([3])[0].size == (32, 24)
    with pytest.raises(RecordingError, match="Picture 20 was asked for"):
        video.read([20])


def test_a_video_and_its_events_share_a_clock(film: Path) -> None:
    t = np.arange(0, 800_000, 1000)
    clip = read_eye_clip({"frames": film, "events": {"x": t % 32, "y": t % 24, "t": t, "p": t % 2}})
    assert (len(clip), clip.name, clip.is_raw) == (20, "eye.avi", True)
    assert clip.event_spans([1], 33_000).tolist() == [[7_000, 40_000]]


def test_damaged_and_missing_files_are_named(film: Path, tmp_path: Path) -> None:
    content = film.read_bytes()
    for length in (0, 10, len(content) // 3):
        damaged = tmp_path / f"cut{length}.avi"
        damaged.write_bytes(content[:length])
        try:
            video = read_video(damaged)
        except RecordingError as error:
            assert damaged.name in str(error)  # noqa: PT017 — a cut file may also hold some whole frames
        else:
            assert 0 < len(video) < 20
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes())
    with pytest.raises(RecordingError, match=r"noise\.mp4 \(5000 bytes\) is not a video"):
        read_video(noise)
    with pytest.raises(RecordingError, match="There is no video file"):
        read_video(tmp_path / "none.mp4")
