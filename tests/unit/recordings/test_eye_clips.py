"""Eye clips: two streams that must fit together, and pictures that are decoded when asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import ConfigurationError, ImageError, RecordingError
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import EyeClip
from meco_hub.recordings.pictures import PictureArray, PictureFiles, as_pictures

GREY = np.arange(6 * 16 * 12, dtype=np.uint8).reshape(6, 16, 12)


def events(start: int = 0, end: int = 200_000, count: int = 50) -> EventRecording:
    t = np.linspace(start, end, count).astype(np.int64)
    return EventRecording.from_arrays(t % 12, t % 16, t, t % 2, width=12, height=16, name="camera")


def times(count: int = 6, start: int = 33_000) -> np.ndarray:
    return start + np.arange(count, dtype=np.int64) * 33_000


def test_pictures_come_from_files_arrays_and_images_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = []
    for place, values in enumerate(GREY):
        paths.append(tmp_path / f"{place}.png")
        Image.fromarray(values).save(paths[-1])
    for source in (paths, list(GREY), [Image.fromarray(one) for one in GREY], GREY, GREY[..., None]):
        pictures = as_pictures(source, "frames")
        assert len(pictures) == 6
        read = [np.asarray(one.convert("L")) for one in pictures.read([4, 0, 4])]
        np.testing.assert_array_equal(read, GREY[[4, 0, 4]])
    colour = np.stack([GREY, GREY[::-1], GREY], axis=-1)
    np.testing.assert_array_equal(np.asarray(as_pictures(colour, "frames").read([2])[0]), colour[2])
    halves = as_pictures(GREY / np.float32(255), "frames").read([1])[0]
    np.testing.assert_array_equal(np.asarray(halves.convert("L")), GREY[1])


def test_nothing_is_read_before_it_is_asked_for() -> None:
    pictures = PictureFiles(["/nowhere/00000.jpg", "/nowhere/00001.jpg"])
    clip = EyeClip(pictures, pictures, name="lazy")
    assert len(clip) == 2
    assert clip.nbytes == 0
    with pytest.raises(ImageError, match=r"/nowhere/00001\.jpg"):
        pictures.read([1])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "frames are empty"),
        ("one.jpg", "one.jpg; expected pictures in a row"),
        (np.zeros((4, 4), np.uint8), r"frames cannot be used: array of shape \(4, 4\)"),
        (np.zeros((4, 16, 16, 2), np.uint8), "frames cannot be used"),
        (None, "neither frames nor events"),
    ],
)
def test_what_is_no_row_of_pictures_is_refused_by_the_name_of_its_stream(source: object, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        EyeClip(frames=source)  # pyright: ignore[reportArgumentType]


def test_a_place_outside_is_refused() -> None:
    with pytest.raises(RecordingError, match="Picture 6 was asked for; the sequence has 6"):
        PictureArray(GREY).read([0, 6])
    with pytest.raises(RecordingError, match="time step 6 was chosen; there are 6"):
        EyeClip(GREY, GREY).at([6])  # pyright: ignore[reportArgumentType]


def test_loading_keeps_grey_small_and_colour_whole() -> None:
    clip = EyeClip(list(GREY), [np.stack([one, one // 2, one], axis=-1) for one in GREY]).loaded()  # pyright: ignore[reportArgumentType]
    assert isinstance(clip.frames, PictureArray)
    assert isinstance(clip.events, PictureArray)
    np.testing.assert_array_equal(clip.frames.values, GREY)
    assert clip.events.values.shape == (6, 16, 12, 3)
    assert clip.nbytes == GREY.nbytes * 4
    uneven = [*GREY[:5], GREY[5, :10]]
    with pytest.raises(RecordingError, match=r"The frames have the sizes \[\(12, 10\), \(12, 16\)\]"):
        EyeClip(uneven, name="uneven").loaded()  # pyright: ignore[reportArgumentType]


def test_streams_of_different_lengths_name_the_shorter_one() -> None:
    with pytest.raises(RecordingError, match=r"see has 6 frames and 5 event pictures.*The event pictures lack 1"):
        EyeClip(GREY, GREY[:5], name="see")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match=r"6 pictures and 4 frame times.*The frame times lack 2"):
        EyeClip(GREY, events(), times(4))  # pyright: ignore[reportArgumentType]


def test_one_stream_without_the_other_is_told_by_its_name() -> None:
    frames, recorded = EyeClip(GREY, name="a"), EyeClip(None, GREY, name="b")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="a has frames without events"):
        frames.require(["frames", "events"])
    with pytest.raises(RecordingError, match="b has events without frames"):
        recorded.require(["frames", "events"])
    frames.require(["frames"])
    with pytest.raises(ConfigurationError, match="no stream 'event'"):
        frames.without(["event"])
    with pytest.raises(RecordingError, match="neither frames nor events"):
        frames.without(["frames"])


def test_clocks_must_be_there_increase_and_overlap() -> None:
    clip = EyeClip(GREY, events(), times())  # pyright: ignore[reportArgumentType]
    assert clip.is_raw
    with pytest.raises(RecordingError, match="the frames have no times"):
        EyeClip(GREY, events())  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        RecordingError, match="clocks do not overlap: frames from 33000 to 198000 µs, events from 5000000"
    ):
        EyeClip(GREY, events(5_000_000, 6_000_000), times())  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="frame_times does not increase, from 66000 to 66000"):
        EyeClip(GREY, events(), np.minimum(times(), 66_000))  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match=r"shape \(6,\) and dtype float64; expected \(T,\) whole microseconds"):
        EyeClip(GREY, events(), times() / 1e6)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="the events are empty"):
        EyeClip(GREY, events(count=0), times())  # pyright: ignore[reportArgumentType]


def test_event_spans_lie_where_the_alignment_says() -> None:
    clip = EyeClip(GREY, events(), times())  # pyright: ignore[reportArgumentType]
    assert clip.event_spans([0, 2], 33_000).tolist() == [[0, 33_000], [66_000, 99_000]]
    assert clip.event_spans([0], 10_000, "around").tolist() == [[28_000, 38_000]]
    assert clip.event_spans([0], 10_000, "after").tolist() == [[33_000, 43_000]]
    with pytest.raises(ConfigurationError, match="'middle'"):
        clip.event_spans([0], 10_000, "middle")
    with pytest.raises(RecordingError, match="no single events"):
        EyeClip(GREY, GREY).event_spans([0], 10_000)  # pyright: ignore[reportArgumentType]


def test_changes_happen_when_a_picture_is_read_and_only_to_their_stream() -> None:
    changed: list[int] = []

    def invert(picture: Image.Image, step: int) -> Image.Image:
        changed.append(step)
        return Image.fromarray(255 - np.asarray(picture))

    clip = EyeClip(GREY, GREY).change_frames(invert).at([3])  # pyright: ignore[reportArgumentType]
    assert changed == []
    assert clip.frames is not None
    assert isinstance(clip.events, PictureArray)
    np.testing.assert_array_equal(np.asarray(clip.frames.read([3])[0]), 255 - GREY[3])
    assert changed == [3]
    np.testing.assert_array_equal(np.asarray(clip.events.read([3])[0]), GREY[3])
    with pytest.raises(RecordingError, match="the events are raw"):
        EyeClip(GREY, events(), times()).change_events(invert)  # pyright: ignore[reportArgumentType]
