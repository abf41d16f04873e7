"""Films frame by frame: times, rotation, cuts, and files that are damaged or no films."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from films import noise, plain, write_film, write_sound
from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.recordings.video import Video, frame_step, is_video

UNEVEN = [0.0, 0.04, 0.045, 0.2, 1.0, 1.001, 3.0]


@pytest.mark.parametrize(("ending", "codec"), [(".mp4", "mpeg4"), (".mkv", "ffv1")])
def test_times_of_a_variable_rate_are_right_to_the_frame(tmp_path: Path, ending: str, codec: str) -> None:
    film = Video(write_film(tmp_path / f"film{ending}", plain(len(UNEVEN)), codec=codec, times=UNEVEN))
    assert [frame.time for frame in film] == pytest.approx(UNEVEN, abs=1e-6)
    assert film.warnings == ()


@pytest.mark.parametrize(("said", "expected"), [({"every": 0.5}, [0.0, 0.52, 1.0, 1.52]), ({"fps": 25 / 12}, None)])
def test_frames_that_are_looked_at_do_not_drift(tmp_path: Path, said: dict[str, float], expected: object) -> None:
    film = Video(write_film(tmp_path / "film.mp4", plain(50)), **said)
    times = [frame.time for frame in film]
    assert times == pytest.approx([0.0, 0.48, 0.96, 1.44, 1.92] if expected is None else expected)


def test_how_often_is_one_positive_number() -> None:
    assert frame_step(None, None) == 0
    for every, fps in ((1, 1), (0, None), (None, -1), (None, True), (float("inf"), None), ("1", None)):
        with pytest.raises(ConfigurationError, match="expected"):
            frame_step(every, fps)  # type: ignore[arg-type]


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_the_rotation_of_the_container_is_applied(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    frames = plain(2, 48, 64)
    for frame in frames:
        frame[:12, :12] = 255
    film = Video(write_film(tmp_path / "film.mp4", frames, rotation=degrees))
    image = next(iter(film)).image
    assert image.shape == ((64, 48, 3) if degrees % 180 else (48, 64, 3))
    bright = {place for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if image[place].mean() > 128}
    assert bright == {corner}


@pytest.mark.parametrize(("ending", "rotation"), [(".mp4", 0), (".mkv", 0), (".mp4", 90)])
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, ending: str, rotation: int) -> None:
    film = Video(write_film(tmp_path / f"film{ending}", plain(2, 48, 32), aspect=2, rotation=rotation))
    assert next(iter(film)).image.shape == ((64, 48, 3) if rotation else (48, 64, 3))


def test_of_several_streams_of_pictures_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        streams: list[Any] = [container.add_stream("mpeg4", rate=5) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place in range(4):
            for stream, level in zip(streams, (50, 200), strict=True):
                picture = np.full((48, 64, 3), level + place, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    film = Video(tmp_path / "film.mkv")
    assert [round(float(frame.image.mean()), -1) for frame in film] == [50] * 4
    assert [one.code for one in film.warnings] == ["first_of_several"]
    assert "2 streams of pictures" in film.warnings[0].message


def test_a_cut_is_seen_though_nobody_asked_for_its_frame(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [*plain(20), *noise(1, same=25)])
    cuts = [frame.time for frame in Video(path) if frame.cut]
    assert cuts == pytest.approx([0.8])
    assert [frame.time for frame in Video(path, every=0.5) if frame.cut] == pytest.approx([1.0])


def test_light_and_motion_are_no_cut(tmp_path: Path) -> None:
    picture = noise(1)[0].repeat(8, 0).repeat(8, 1)
    lit = [np.roll((picture * (0.5 + place / 100)).astype(np.uint8), 6 * place, 1) for place in range(50)]
    assert not any(frame.cut for frame in Video(write_film(tmp_path / "film.mp4", lit)))


def _halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _scratched(data: bytes) -> bytes:
    values, generator = bytearray(data), np.random.default_rng(0)
    for place in generator.integers(len(data) // 4, len(data) // 2, 200):
        values[place] = generator.integers(0, 256)
    return bytes(values)


@pytest.mark.parametrize(
    ("ending", "damage", "code", "frames"),
    [
        (".mkv", _halved, "damaged_file", (35, 50)),
        ("fast.mp4", _halved, "damaged_file", (35, 50)),
        (".avi", _halved, "frames_left_out", (35, 50)),
        (".mkv", _scratched, "frames_left_out", (60, 99)),
        (".mp4", _scratched, "frames_left_out", (60, 99)),
        (".ts", _scratched, "frames_left_out", (60, 99)),
    ],
)
def test_what_is_whole_of_a_damaged_film_is_kept(
    tmp_path: Path, ending: str, damage: Callable[[bytes], bytes], code: str, frames: tuple[int, int]
) -> None:
    path = write_film(tmp_path / f"film{ending}", noise(100), fast_start="fast" in ending)
    path.write_bytes(damage(path.read_bytes()))
    film = Video(path)
    times = [frame.time for frame in film]
    assert frames[0] <= len(times) <= frames[1]
    assert (np.diff(times) > 0).all()
    assert code in {one.code for one in film.warnings}


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\ngood.ts\n#EXT-X-ENDLIST\n"
LIST = b"ffconcat version 1.0\nfile good.mp4\n"


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 20, PLAYLIST, LIST])
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("good.mp4", "good.ts"):
        write_film(tmp_path / name, plain(3))
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(RecordingError, match=r"bad\.mp4 .*is not a video that can be read"):
        list(Video(tmp_path / "bad.mp4"))


def test_sound_alone_a_lost_index_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds audio and no pictures"):
        list(Video(write_sound(tmp_path / "sound.mp4")))
    path = write_film(tmp_path / "film.mp4", noise(20))  # whose index stands at its end
    path.write_bytes(_halved(path.read_bytes()))
    with pytest.raises(RecordingError, match="the index of some files stands at their end"):
        list(Video(path))
    with pytest.raises(RecordingError, match="There is no video file"):
        list(Video(tmp_path / "nothing.mp4"))


def test_a_film_of_absurd_size_is_refused_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meco_hub.recordings.video.MAX_FRAME_PIXELS", 48 * 64 - 1)
    with pytest.raises(RecordingError, match="64×48 pixels"):
        list(Video(write_film(tmp_path / "film.mp4", plain(3, 48, 64))))


def test_films_are_known_by_their_endings(tmp_path: Path) -> None:
    names: Sequence[object] = ["a.mp4", Path("b.MOV"), b"a.mp4", "a.jpg", 3, Video("c")]
    assert [is_video(name) for name in names] == [True, True, False, False, False, True]
    for ending, codec in (
        (".3gp", "mpeg4"),
        (".flv", "flv"),
        (".m2ts", "mpeg2video"),
        (".vob", "mpeg2video"),
        (".wmv", "wmv2"),
    ):
        path = write_film(tmp_path / f"x{ending}", plain(4), codec=codec)
        assert is_video(os.fspath(path))
        assert len(list(Video(path))) == 4
