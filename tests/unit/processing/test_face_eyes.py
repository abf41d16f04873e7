"""The eyes of a film of faces: which one, cut out where, in which frames; with a finder that knows where the faces are."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from meco_hub.errors import FaceNotFoundError, RecordingError
from meco_hub.processing.eye_preprocessor import ClipSampling
from meco_hub.processing.face_eyes import REACH, EyeFollower
from meco_hub.processing.face_finder import Face
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.video import Frame

SAMPLING = ClipSampling(num_frames=4, stride=4, sampling="uniform")
APART = 60.0


class Finder:
    """Knows where one face is: its eyes' middle in each frame, in the order of frames."""

    def __init__(self, middles: list[tuple[float, float]], tilt: float = 0.0, yaw: float = 0.0) -> None:
        self._middles, self._tilt, self._yaw = iter(middles), tilt, yaw

    def find(self, image: Image.Image, **options: Any) -> list[Face]:
        if not options.get("upright"):
            return []
        x, y = next(self._middles)
        return [Face((x - 70, y - 60, x + 70, y + 90), 0.9)]

    def find_again(self, picture: Image.Image, before: list[Face], **options: Any) -> None:
        """It has to look all over."""

    def look_closer(self, picture: Image.Image, face: Face) -> Face:
        x, y = (face.box[0] + face.box[2]) / 2, face.box[1] + 60
        across, down = (APART / 2 * turn(math.radians(self._tilt)) for turn in (math.cos, math.sin))
        eyes = ((x - across, y - down), (x + across, y + down))
        return replace(face, tilt=self._tilt, yaw=self._yaw, close_score=0.9, eyes=eyes)


def shown(middle: tuple[float, float], right: bool = True) -> np.ndarray:
    """A frame with a dark spot where the right eye is, and a paler one where the left eye is."""
    picture = Image.new("L", (320, 240), 160)
    draw = ImageDraw.Draw(picture)
    for side, grey in ((-1, 20), (1, 90)):
        x, y = middle[0] + side * APART / 2, middle[1]
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=grey)
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2)


def clips(middles: list[tuple[float, float]], rate: float, finder: Finder | None = None, **options: Any) -> list[Any]:
    follower = EyeFollower(SAMPLING, 48, finder=finder or Finder(middles), **options)  # type: ignore[arg-type]
    frames = (Frame(shown(middle), step / rate) for step, middle in enumerate(middles))
    return [found for frame in frames for found in follower(frame, "talk.mp4")]


@pytest.mark.parametrize("rate", [12.0, 25.0, 30.0, 60.0])
def test_the_clip_looks_at_moments_as_far_apart_as_at_thirty_frames_a_second(rate: float) -> None:
    found = clips([(160.0, 120.0)] * round(1.6 * rate), rate)
    assert [person for person, _ in found] == [0, 0]  # one a second: the second ends after 1.43 s
    for _, clip in found:
        looked_at = clip.frame_times[list(clip.chosen)]
        assert np.diff(looked_at) == pytest.approx([133_333] * 3, abs=1.01e6 / rate)
        assert clip.frame_times[0] <= looked_at[0] - 33_000  # what happened before the first of them is there too
        assert ("frame_rate_low" in {one.code for one in clip.warnings}) == (rate < 20)
    assert "events_simulated" in {one.code for one in found[0][1].warnings}


def test_the_crop_stands_on_the_right_eye_and_moves_along_with_it() -> None:
    middles = [(100.0 + 3 * step, 120.0) for step in range(30)]
    ((person, clip),) = clips(middles, 30)
    assert (person, clip.seen_at["looked_at"]) == (0, "right eye")
    side = REACH * APART
    box = list(clip.seen_at["box"].values())
    assert box[2] - box[0] == pytest.approx(side, abs=0.11)
    spots = [np.argwhere(np.asarray(one.convert("L")) < 60).mean(axis=0) for one in clip.frames.read(range(len(clip)))]
    # 0.1 of the side below the crop's middle, and still there while the face moves by 39 pixels
    assert np.ptp(spots, axis=0).max() < 1
    assert np.mean(spots, axis=0) == pytest.approx([23.5 + 4.8, 23.5], abs=1)


def test_landmarks_that_shake_do_not_shake_the_crop() -> None:
    random = np.random.default_rng(0)
    truth = [(160.0, 120.0)] * 20
    shaken = [(x + random.normal(0, 0.7), y + random.normal(0, 0.7)) for x, y in truth]
    follower = EyeFollower(SAMPLING, 48, finder=Finder(shaken))  # type: ignore[arg-type]
    ((_, found),) = [one for step in range(20) for one in follower(Frame(shown(truth[0]), step / 30))]
    assert isinstance(found.events, EventRecording)
    still = clips(truth, 30)[0][1]
    assert len(still.events) == 0
    assert 0 < len(found.events) < 200  # of 2,304 pixels in 13 steps


def test_who_turns_the_right_eye_away_is_seen_by_the_left_one_mirrored() -> None:
    middles = [(160.0, 120.0)] * 20
    ((_, clip),) = clips(middles, 30, Finder(middles, yaw=-0.6))
    assert clip.seen_at["looked_at"] == "left eye, mirrored"
    assert 60 < np.asarray(clip.frames.read([0])[0].convert("L"))[28, 24] < 120
    assert "face_turned" not in {one.code for one in clip.warnings}
    ((_, right),) = clips(middles, 30, Finder(middles, yaw=0.6))
    assert right.seen_at["looked_at"] == "right eye"


def test_a_leaning_face_is_turned_level() -> None:
    middles = [(160.0, 120.0)] * 20
    ((_, clip),) = clips(middles, 30, Finder(middles, tilt=90.0))
    left, upper, right, lower = clip.seen_at["box"].values()
    # the right eye is above the middle, and its brow to the right of it
    assert ((left + right) / 2, (upper + lower) / 2) == pytest.approx((160 + 4.8, 120 - 30), abs=0.2)


def test_a_cut_begins_anew_and_small_eyes_are_told() -> None:
    follower = EyeFollower(SAMPLING, 48, finder=Finder([(160.0, 120.0)] * 40))  # type: ignore[arg-type]
    found = [
        (step, person)
        for step in range(40)
        for person, _ in follower(Frame(shown((160, 120)), step / 30, cut=step == 10))
    ]
    assert found == [(23, 1)]
    middles = [(160.0, 120.0)] * 20
    far = Finder(middles)
    far.look_closer = lambda picture, face: replace(face, eyes=((150.0, 120.0), (170.0, 120.0)), yaw=0.0)  # type: ignore[method-assign]
    ((_, clip),) = clips(middles, 30, far)
    assert "eye_small" in {one.code for one in clip.warnings}


def test_frames_may_be_of_an_eye_already() -> None:
    found = clips([(160.0, 120.0)] * 20, 30, faces="cropped")
    assert [(person, clip.seen_at["looked_at"]) for person, clip in found] == [(0, "eye")]
    assert found[0][1].frames.read([0])[0].size == (48, 48)


def test_why_there_is_no_clip_is_told() -> None:
    none = Finder([(160.0, 120.0)] * 40)
    none.find = lambda image, **options: []  # type: ignore[method-assign]
    blind = Finder([(160.0, 120.0)] * 40)
    blind.look_closer = lambda picture, face: face  # type: ignore[method-assign]
    for finder, count, error, words in (
        (none, 20, FaceNotFoundError, "No face was found in talk.mp4"),
        (blind, 20, FaceNotFoundError, "no eyes in them"),
        (Finder([(160.0, 120.0)]), 1, RecordingError, "shows no eye for 0.43 seconds"),
        (Finder([(160.0, 120.0)] * 3), 3, RecordingError, "Record longer"),
    ):
        follower = EyeFollower(SAMPLING, 48, finder=finder)  # type: ignore[arg-type]
        assert [one for step in range(count) for one in follower(Frame(shown((160, 120)), step / 30))] == []
        said = follower.nothing("talk.mp4", count / 30)
        assert isinstance(said, error)
        assert words in str(said)
    with pytest.raises(RecordingError, match=r"an eye every 0\.2 seconds; expected a frame every 0\.133"):
        clips([(160.0, 120.0)] * 40, 5)
