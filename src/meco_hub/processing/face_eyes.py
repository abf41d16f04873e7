"""One eye of each person in a film of faces, as the clips that networks of eyes take: `EyeFollower`.

    follower = EyeFollower(processor.clip_sampling, side=64)
    for frame in film:
        for person, clip in follower(frame): …          # an `EyeClip`, about one a second and person

Where an eye is, YuNet's landmarks say (`FaceFinder.look_closer`). The crop is what SEE's frames and our drawn eyes show: the eye
with its brow, a square of `REACH` distances between the eyes whose middle lies above the eye by `RAISED` of its side, turned level.
Through the landmarks of a clip's frames a straight line is laid, and the crop moves along it: landmarks shake by a pixel, which an
event camera in front of the eye would not.

SEE's eyes are right ones, with the nose to the right. So the right eye is taken; of who turns it away in the first clip, the left
one, mirrored. Which it was stands in the answer, under `looked_at`.

A clip is chosen by time and not by number: its time steps lie as far apart as at `FRAMES_PER_SECOND`, whatever the film's rate is.
There was no event camera: events are simulated from the crops (`event_simulation`), with the warning `events_simulated`.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..answer_warnings import AnswerWarning
from ..errors import FaceNotFoundError, InputError, RecordingError
from ..recordings.eye_clips import FRAMES_PER_SECOND, EyeClip
from ..recordings.pictures import PictureArray
from ..recordings.video import Frame
from .event_simulation import THRESHOLD, simulate_events
from .eye_preprocessor import EVERY, SLOW, ClipSampling, fit_square, slow_frames
from .face_finder import Face, FaceFinder, cut_square
from .face_tracks import PATIENCE_S, FilmFaces
from .picture_processor import TURNED_YAW, describe_box

REACH = 0.8
"""Side of the crop, in distances of the two eyes: an eye is then 0.6 of the crop wide, as drawn eyes are."""

RAISED = 0.1
"""Of the crop's side, by which its middle lies above the eye, so that the brow is in it."""

EYE_SMALL = 32.0
"""Pixels of the crop's side, below which a lid moves by less than a pixel; half of what the bundled network is shown."""

_KEPT = 2.0  # sides of the crop that are kept of a frame, so that it can still be moved
_TRIES = 5  # clips that fail, one after another and before any succeeded, until a film is given up


@dataclass
class _Look:
    """One frame's view of an eye."""

    time: float
    region: Image.Image  # grey
    corner: tuple[int, int]  # of the region, in the frame
    face: Face | None  # None: the frame is the eye


@dataclass
class _Watch:
    """One person, as far as the next clip needs."""

    begin: float  # seconds, of the next clip
    right: bool | None = None
    looks: deque[_Look] = field(default_factory=deque)
    seen: float = 0.0


class EyeFollower:
    """One eye of everybody in a film: `follower(frame)` gives (person, clip) of each clip that this frame completes.

    Args:
        sampling: whose `num_frames`, `stride` frames apart, a clip has.
        side: pixels of a crop.
        window_us: of events that belong to a frame, and lie before it.
        faces: "all" or "auto", everybody; "largest", in each frame the most prominent face; "cropped", each frame is a picture of
            one eye already, of person 0.
        min_face: as of `FaceFinder.find`.
        finder: of faces.
    """

    counted = "clips"
    """What answers count, beside frames of faces."""

    def __init__(
        self,
        sampling: ClipSampling,
        side: int,
        *,
        window_us: int = 33_000,
        faces: str | None = None,
        min_face: float | None = None,
        finder: FaceFinder | None = None,
    ) -> None:
        self._sampling, self._side, self._mode = sampling, side, faces or "all"
        self._steps = np.arange(sampling.num_frames) * (sampling.stride / FRAMES_PER_SECOND)
        self._near = sampling.stride / FRAMES_PER_SECOND / 2  # a step that is farther from its frame is another
        self._lead = window_us / 1e6
        self._before = 2 * max(self._lead, self._near)  # seconds before a clip, from which on frames are kept
        self._every = max(EVERY, sampling.span) / FRAMES_PER_SECOND
        self._finder = finder or FaceFinder()
        self._film_faces = FilmFaces(self._finder, min_face)
        self._watches: dict[int, _Watch] = {}
        self._made = self._failed = self._faces = self._eyes = 0
        self._gap = 0.0  # seconds between frames, where the last clip failed for it

    def __call__(self, frame: Frame, name: str = "") -> list[tuple[int, EyeClip]]:
        """The clips that end with this frame.

        Raises:
            RecordingError: there are too few frames a second for any.
        """
        if frame.cut:
            self._watches.clear()
        found: list[tuple[int, EyeClip]] = []
        for person, look in self._look(frame):
            watch = self._watches[person]
            watch.looks.append(look)
            if len(watch.looks) == 2:  # no events are known before the second frame
                watch.begin = max(watch.begin, look.time)
            if frame.time < watch.begin + self._steps[-1] - 1e-3:
                continue
            clip = self._clip(watch, name)
            if clip is not None:
                found.append((person, clip))
                watch.begin += self._every
            else:
                watch.begin = frame.time + self._lead
            while watch.looks and watch.looks[0].time < watch.begin - self._before:
                watch.looks.popleft()
        gone = [person for person, one in self._watches.items() if frame.time - one.seen > 10 * PATIENCE_S]
        for person in gone:
            del self._watches[person]
        if self._failed >= _TRIES and not self._made:
            raise self.nothing(name, frame.time)
        return found

    def state(self) -> dict[str, Any]:
        """Who is who and by which eye, as JSON has it; not the frames of clips that have begun."""
        eyes = [[person, one.right, one.seen] for person, one in self._watches.items()]
        return {"people": self._film_faces.state(), "eyes": eyes, "counts": [self._made, self._faces, self._eyes]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` is of, with new clips."""
        self._film_faces.restore(state["people"])
        self._made, self._faces, self._eyes = state["counts"]
        self._watches = {person: _Watch(seen + self._lead, right, seen=seen) for person, right, seen in state["eyes"]}

    def nothing(self, name: str, seconds: float) -> InputError:
        """Why a film that ended gave no clip."""
        called = name or "The film"
        if not self._faces:
            lies = "".join(f" {one.message}" for one in self._film_faces.doubts)
            return FaceNotFoundError(
                f"No face was found in {called} ({seconds:.1f} seconds); expected at least one. If every frame shows one eye, pass "
                f'faces="cropped".{lies}'
            )
        if not self._eyes:
            return FaceNotFoundError(
                f"Faces were found in {called}, and no eyes in them; expected a face that looks towards the camera. Name another."
            )
        length = self._steps[-1] + self._lead
        if self._failed:
            return RecordingError(
                f"{called} shows an eye every {self._gap:.3g} seconds; expected a frame every {2 * self._near:.3g} seconds or "
                f"more often, for {length:.2f} seconds at a time. Look at more frames (fps=, every=), or record more a second."
            )
        return RecordingError(
            f"{called} shows no eye for {length:.2f} seconds without a cut ({self._eyes} frames in all); expected as much, for one "
            "clip. Record longer."
        )

    def _look(self, frame: Frame) -> list[tuple[int, _Look]]:
        """The eyes of a frame that a clip needs, with the number of their person."""
        if self._mode == "cropped":
            self._faces += 1
            self._eyes += 1
            self._watch(0, frame.time)
            picture = fit_square(Image.fromarray(frame.image).convert("L"), self._side)
            return [(0, _Look(frame.time, picture, (0, 0), None))]
        picture = Image.fromarray(frame.image)
        people = self._film_faces(picture, frame.time, frame.cut)
        looks: list[tuple[int, _Look]] = []
        for person, face in people[: 1 if self._mode == "largest" else None]:
            self._faces += 1
            watch = self._watch(person, frame.time)
            if frame.time < watch.begin - self._before:
                continue  # between two clips
            closer = self._finder.look_closer(picture, face)
            if closer.eyes is None:
                continue
            if watch.right is None:
                watch.right = (closer.yaw or 0.0) > -TURNED_YAW
            self._eyes += 1
            side = REACH * _apart(closer)
            x, y = closer.eyes[0 if watch.right else 1]
            wide = max(4, round(_KEPT * side))
            corner = round(x - wide / 2), round(y - RAISED * side - wide / 2)
            looks.append((person, _Look(frame.time, cut_square(picture, *corner, wide).convert("L"), corner, closer)))
        return looks

    def _watch(self, person: int, time: float) -> _Watch:
        watch = self._watches.setdefault(person, _Watch(begin=time + self._lead))
        watch.seen = time
        return watch

    def _clip(self, watch: _Watch, name: str) -> EyeClip | None:
        """The clip that begins at `watch.begin`; None where frames are missing."""
        looks = list(watch.looks)
        if len(looks) < 2:  # somebody who was away
            return None
        times = np.array([look.time for look in looks])
        steps = self._sampling.nearest(times[1:], watch.begin)  # of the first frame no events are known
        if steps is None:
            self._failed += 1
            self._gap = float(np.diff(times).max(initial=0.0)) or float(self._steps[-1])
            return None
        self._made += 1
        nearest = [step + 1 for step in steps]
        doubts, where = [_simulated(), *self._film_faces.doubts], {"looked_at": "eye", "box": None}
        pictures = [look.region for look in looks]
        if looks[0].face is not None:
            pictures, where, more = self._cut(looks, bool(watch.right), nearest)
            doubts += more
        rate = 1 / float(np.median(np.diff(times)))
        if rate < SLOW:
            doubts.append(slow_frames(rate))
        frames = np.stack([np.asarray(one) for one in pictures])
        stamps = np.rint(times * 1e6).astype(np.int64)
        events = simulate_events(frames, stamps, name=name)
        clip = EyeClip(PictureArray(frames), events, stamps, name=name, warnings=tuple(doubts), seen_at=where)
        return clip.at(nearest)

    def _cut(
        self, looks: list[_Look], right: bool, chosen: list[int]
    ) -> tuple[list[Image.Image], dict[str, Any], list[AnswerWarning]]:
        """The crops, where they are, and what is in doubt about them."""
        faces = [look.face for look in looks if look.face is not None]
        times = np.array([look.time for look in looks])
        eyes = np.array([face.eyes[0 if right else 1] for face in faces if face.eyes is not None])
        x, y = (np.polyval(np.polyfit(times - times[0], line, 1), times - times[0]) for line in eyes.T)
        side = REACH * float(np.median([_apart(face) for face in faces]))
        tilt = float(np.median([face.tilt for face in faces]))
        turn = np.deg2rad(tilt)
        x, y = x + RAISED * side * np.sin(turn), y - RAISED * side * np.cos(turn)  # the middle of the crop
        pictures = [
            _view(look.region, (x[place] - look.corner[0], y[place] - look.corner[1]), side, tilt, self._side)
            for place, look in enumerate(looks)
        ]
        if not right:
            pictures = [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in pictures]
        middle = chosen[len(chosen) // 2]
        half = side / 2
        edges = (x[middle] - half, y[middle] - half, x[middle] + half, y[middle] + half)
        where = {
            "looked_at": "right eye" if right else "left eye, mirrored",
            "box": describe_box(Face(edges, 1.0)),
            "face_score": float(np.median([face.score for face in faces])),
            "face_side": round(float(np.median([face.side for face in faces])), 1),
            "tilt": round(tilt, 1),
        }
        return pictures, where, _doubts(side, float(np.median([face.yaw or 0.0 for face in faces])), right)


def _apart(face: Face) -> float:
    """Pixels between the eyes."""
    assert face.eyes is not None
    (x0, y0), (x1, y1) = face.eyes
    return max(float(np.hypot(x1 - x0, y1 - y0)), 1.0)


def _view(region: Image.Image, middle: tuple[float, float], side: float, tilt: float, pixels: int) -> Image.Image:
    """The square of `side` around a point of a picture, turned level, to a fraction of a pixel: one that moves does not jump."""
    finer = max(1, int(np.ceil(side / pixels)))  # so that nothing is skipped where the picture has more pixels
    step, turn = side / (pixels * finer), np.deg2rad(tilt)
    across, down = step * np.cos(turn), step * np.sin(turn)
    half = pixels * finer / 2
    where = (
        *(across, -down, middle[0] - (across - down) * half),
        *(down, across, middle[1] - (down + across) * half),
    )
    seen = region.transform((pixels * finer, pixels * finer), Image.Transform.AFFINE, where, Image.Resampling.BILINEAR)
    return seen.reduce(finer) if finer > 1 else seen


def _simulated() -> AnswerWarning:
    return AnswerWarning(
        "events_simulated",
        f"There was no event camera: events were simulated from the frames, one for every {THRESHOLD:g} of the logarithm of "
        "brightness. Record events to be sure.",
    )


def _doubts(side: float, yaw: float, right: bool) -> list[AnswerWarning]:
    found = []
    if side < EYE_SMALL:
        found.append(
            AnswerWarning(
                "eye_small",
                f"The eye and its brow are {side:.0f} pixels wide; expected {EYE_SMALL:.0f} or more. Film it from nearer.",
            )
        )
    if (yaw if right else -yaw) < -TURNED_YAW:
        found.append(
            AnswerWarning(
                "face_turned",
                f"The eye is turned away: the nose lies {abs(yaw):.2f} distances of the eyes beside their middle; "
                f"expected {TURNED_YAW:g} or less. Film the face from the front.",
            )
        )
    return found
