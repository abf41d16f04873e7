"""Faces of a film: who is who from frame to frame, and what is said of them while single frames waver.

    follower = FaceFollower(processor)                  # of pictures
    smoothing = Smoothing(seconds=0.5, margin=0.1)      # one for each person
    for frame in film:
        for person, clip in follower(frame): …          # clip is a `Picture`, as of a photograph

A face is associated with the person whose box it overlaps or comes close to, where that box is expected by its motion so far. The
pairs are taken in the order of how well they fit. That is boxes alone, nobody is recognised: who leaves for longer than
`PATIENCE_S`, or is seen again after a cut, is another person.

A frame is searched all over at a cut, while nobody or not everybody is seen, and `SEARCH_S` after the last such search. In between
the smallest scale is looked at, and of others the surroundings of the faces of the frame before; what is found so counts where
it is the same faces.

Smoothing is a mean of the network's outputs, weighted by e^(−age / seconds), of the past alone, so it is the same in a film and
live: an answer comes late by about `seconds`. Of classes the label changes when another's smoothed probability is larger by
`margin`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..answer_warnings import AnswerWarning
from ..errors import ConfigurationError, FaceNotFoundError
from ..recordings.video import Frame
from .face_finder import Face, FaceFinder, is_certain
from .picture_processor import LYING, Picture, PictureProcessor

PATIENCE_S = 2.0
"""Seconds, or three frames where that is longer, for which a face may go unseen, behind another for example."""

SEARCH_S = 0.2
"""Seconds from which on after a search all over a frame the next one follows: who comes in is found as much later at most. Films of
which no more than five frames a second are looked at are searched all over in each."""

HALF_S = 1.0
"""Seconds from which on a person who may be the half of a face is looked at again; in between what was seen then is said."""

SMOOTH_S = 0.5
"""Seconds of smoothing by default."""

MARGIN = 0.1
"""Of probability, by default."""

_NEAR = 1.0  # sides of a face, between its middle and where it was expected, from which on it is another's
_GROWN = 2.0  # a face is not twice as large as a frame before
_CROWDED = (
    1.5  # sides, between two faces, below which one may hide a part of the other, whose box then moves as nobody does
)
_QUICK = 0.4  # of what a frame says of the motion, the rest is what was known: boxes shake by a few pixels


@dataclass
class _Track:
    """One person as far as seen: middle and side of the box, and how they change a second."""

    person: int
    state: NDArray[np.float64]  # x, y, side
    time: float
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    learnt: int = 0

    def expected(self, time: float) -> NDArray[np.float64]:
        ahead = self.state + self.speed * min(time - self.time, PATIENCE_S)
        ahead[2] = min(max(ahead[2], self.state[2] / _GROWN), self.state[2] * _GROWN)
        return ahead

    def update(self, state: NDArray[np.float64], time: float, crowded: bool) -> None:
        if not crowded:
            share = _QUICK if self.learnt else 1.0
            self.speed += share * ((state - self.state) / max(time - self.time, 1e-6) - self.speed)
            self.learnt += 1
        self.state, self.time = state, time


class FaceTracker:
    """Gives each face of a frame the number of its person, counted from 0 in the order of appearance."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._persons = 0
        self._last: float | None = None
        self._step = 0.0

    def __call__(self, boxes: Sequence[Sequence[float]], time: float, cut: bool = False) -> list[int]:
        """The person of each face.

        Args:
            boxes: left, upper, right, lower edge of the faces of one frame, in pixels.
            time: of the frame, seconds, later than the one before.
            cut: a new shot begins with it, so nobody is who was there before.
        """
        if self._last is not None:
            self._step = time - self._last
        self._last = time
        patience = max(PATIENCE_S, 3 * self._step)
        self._tracks = [] if cut else [one for one in self._tracks if time - one.time <= patience + 1e-9]
        states = [_state(box) for box in boxes]
        pairs = sorted(
            (cost, face, place)
            for place, track in enumerate(self._tracks)
            for face, state in enumerate(states)
            if (cost := _distance(track.expected(time), state)) is not None
        )
        found: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, face, place in pairs:
            if face not in found and place not in taken:
                taken.add(place)
                found[face] = self._tracks[place]
        for face, state in enumerate(states):
            if face in found:
                crowded = any(
                    float(np.hypot(*(state - other)[:2])) < _CROWDED * (state[2] + other[2]) / 2
                    for other in states
                    if other is not state
                )
                found[face].update(state, time, crowded)
            else:
                found[face] = _Track(self._persons, state, time)
                self._tracks.append(found[face])
                self._persons += 1
        return [found[face].person for face in range(len(states))]

    @property
    def complete(self) -> bool:
        """Whether everybody who is known was seen in the latest frame, and somebody was."""
        return bool(self._tracks) and all(one.time == self._last for one in self._tracks)

    def state(self) -> dict[str, Any]:
        """All that it knows, as JSON has it."""
        tracks = [{**vars(one), "state": one.state.tolist(), "speed": one.speed.tolist()} for one in self._tracks]
        return {"tracks": tracks, "persons": self._persons, "last": self._last, "step": self._step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` is of."""
        self._tracks = [
            _Track(**{**one, "state": np.array(one["state"]), "speed": np.array(one["speed"])})
            for one in state["tracks"]
        ]
        self._persons, self._last, self._step = state["persons"], state["last"], state["step"]


def _state(box: Sequence[float]) -> NDArray[np.float64]:
    x0, y0, x1, y1 = box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0, 1e-6)])


def _distance(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float | None:
    """How badly a face fits to where one was expected, 0 at best: what squares around both do not share, how far their middles are
    apart, in sides, and how their sizes differ; None where it can be no match."""
    side = (expected[2] + seen[2]) / 2
    gap = np.abs(expected[:2] - seen[:2])
    apart, grown = float(np.hypot(*gap)) / side, abs(math.log(seen[2] / expected[2]))
    if apart > _NEAR or grown > math.log(_GROWN):
        return None
    smaller = min(expected[2], seen[2])
    common = float(np.prod(np.clip(side - gap, 0, smaller)))
    overlap = common / (expected[2] ** 2 + seen[2] ** 2 - common)
    return (1 - overlap) + apart + grown


class Stance:
    """Whether a film stands upright: `stance.see(image, faces)` of every frame, then `stance.doubts`.

    Films are searched for upright faces alone. Now and then, in the frames 0, 1, 3, 7, 15, …, this one looks as into a photograph,
    which is turned where no upright face is certain. It counts what it found there.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder
        self._frames = self._upright = self._lying = 0
        self._tilt = 0.0

    def see(self, image: Image.Image, faces: Sequence[Face]) -> None:
        """Look at a frame, RGB, if it is one of those; `faces` are its upright ones."""
        self._frames += 1
        if self._frames & (self._frames - 1):
            return
        for face in faces[:1] if is_certain(faces) else self._finder.find(image)[:1]:
            lies = abs(face.tilt) > LYING
            self._lying, self._upright = self._lying + lies, self._upright + (not lies)
            self._tilt = face.tilt if lies else self._tilt

    @property
    def doubts(self) -> tuple[AnswerWarning, ...]:
        """That it does not, where most of those faces lie on their side or stand on their head."""
        if self._lying <= self._upright:
            return ()
        turned = round(self._tilt / 90) * 90 % 360
        return (
            AnswerWarning(
                "face_turned",
                f"Faces of the film are turned by about {turned} degrees clockwise, and films are not turned back. Turn it "
                "upright: a camera may have lain on its side, or a program have lost the rotation that the camera wrote.",
            ),
        )


class FilmFaces:
    """The faces of a film's frames, each with the number of its person: `film_faces(picture, time, cut)`, frame by frame.

    Args:
        finder: of faces.
        min_face: as of `FaceFinder.find`.
    """

    def __init__(self, finder: FaceFinder, min_face: float | None = None) -> None:
        self._finder, self._min_face = finder, min_face
        self._tracker, self._stance = FaceTracker(), Stance(finder)
        self._faces: list[Face] = []  # of the frame before
        self._searched = 0.0  # when a frame was searched all over

    def __call__(self, picture: Image.Image, time: float, cut: bool = False) -> list[tuple[int, Face]]:
        """(person, face) of everybody in a frame, the most prominent face first.

        Args:
            picture: RGB.
            time, cut: as of `FaceTracker`.
        """
        faces = None
        if self._tracker.complete and not cut and time - self._searched < SEARCH_S - 1e-6:
            faces = self._finder.find_again(picture, self._faces, min_face=self._min_face)
        if faces is None:
            faces = self._finder.find(picture, min_face=self._min_face, upright=True)
            self._searched = time
        self._stance.see(picture, faces)
        self._faces = faces
        return list(zip(self._tracker([face.box for face in faces], time, cut), faces, strict=True))

    @property
    def doubts(self) -> tuple[AnswerWarning, ...]:
        """That the film does not stand upright, where it seems so."""
        return self._stance.doubts

    def state(self) -> dict[str, Any]:
        """Who is who and where, as JSON has it."""
        faces = [[list(face.box), face.score] for face in self._faces]
        return {**self._tracker.state(), "faces": faces, "searched": self._searched}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` is of."""
        self._tracker.restore(state)
        self._faces = [Face(tuple(box), score) for box, score in state["faces"]]
        self._searched = state["searched"]


class FaceFollower:
    """The faces of a film's frames, cut out, each with the number of its person: `follower(frame)`.

    Args:
        processor: of pictures; its finder and its way of cutting faces out are used.
        faces: "all" or "auto", every face; "largest", in each frame the most prominent one; "cropped", the frame as it is, as
            person 0. A frame without a face has none.
        min_face: as of `FaceFinder.find`.
    """

    counted = "frames"

    def __init__(self, processor: PictureProcessor, *, faces: str | None = None, min_face: float | None = None) -> None:
        self._processor, self._mode = processor, faces or "all"
        self._faces = FilmFaces(processor.face_finder, min_face)
        self._halves: dict[int, tuple[float, tuple[AnswerWarning, ...]]] = {}  # of a person: when looked at, and said

    def __call__(self, frame: Frame, name: str = "") -> list[tuple[int, Picture]]:
        picture = Picture(Image.fromarray(frame.image), name)
        if self._mode == "cropped":
            return [(0, picture)]
        shown = self._faces(picture.image, frame.time, frame.cut)[: 1 if self._mode == "largest" else None]
        now, doubts = frame.time, self._faces.doubts
        self._halves = {person: seen for person, seen in self._halves.items() if now - seen[0] < HALF_S - 1e-6}
        return [
            (person, self._processor.show(picture, face, doubts, partial(self._doubt_half, person, now)))
            for person, face in shown
        ]

    def _doubt_half(self, person: int, now: float, image: Image.Image, face: Face) -> tuple[AnswerWarning, ...]:
        if person not in self._halves:
            self._halves[person] = now, self._processor.doubt_half(image, face)
        return self._halves[person][1]

    def state(self) -> dict[str, Any]:
        """Who is who and where, as JSON has it."""
        halves = [[person, time, [one.to_dict() for one in said]] for person, (time, said) in self._halves.items()]
        return {**self._faces.state(), "halves": halves}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` is of."""
        self._faces.restore(state)
        halves = state.get("halves", ())
        self._halves = {person: (time, tuple(AnswerWarning(**one) for one in said)) for person, time, said in halves}

    def nothing(self, name: str, seconds: float) -> FaceNotFoundError:
        """Why a film that ended gave no face."""
        lies = "".join(f" {one.message}" for one in self._faces.doubts)
        return FaceNotFoundError(
            f"No face was found in {name or 'the film'} ({seconds:.1f} seconds); expected at least one. If every frame is a "
            f'cropped face already, pass faces="cropped".{lies}'
        )


@dataclass
class Smoothing:
    """What a network says of one person over time, smoothed: `push(time, outputs)`, then `choose(scores)`.

    Attributes:
        seconds: time constant; 0 for none.
        margin: of probability, by which another label must lead before it is the person's; 0 for none.
        time: of the latest output, in seconds.

    Raises:
        ConfigurationError: one of them is no such number.
    """

    seconds: float = SMOOTH_S
    margin: float = MARGIN
    _sum: Any = field(default=0.0, repr=False)
    _weight: float = field(default=0.0, repr=False)
    time: float = field(default=0.0, repr=False)
    _label: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value, most in (("smooth", self.seconds, math.inf), ("label_margin", self.margin, 1.0)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 <= value < most):
                raise ConfigurationError(
                    f"{name} is {value!r}; expected {'seconds, 0' if most > 1 else 'a probability, 0'} or more. Pass 0 for none."
                )

    def anew(self) -> "Smoothing":
        """One like it, that has seen nothing."""
        return Smoothing(self.seconds, self.margin)

    def state(self) -> dict[str, Any]:
        """What it knows of its person, as JSON has it."""
        return {"sum": np.asarray(self._sum).tolist(), "weight": self._weight, "time": self.time, "label": self._label}

    def restore(self, state: Mapping[str, Any]) -> "Smoothing":
        """One like it, that goes on as the one that `state` is of."""
        return Smoothing(
            self.seconds, self.margin, np.array(state["sum"]), state["weight"], state["time"], state["label"]
        )

    def push(self, time: float, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """(outputs,) the network's at this time, in seconds → (outputs,) smoothed."""
        kept = math.exp(-max(time - self.time, 0.0) / self.seconds) if self.seconds else 0.0
        self._sum = self._sum * kept + np.asarray(outputs, np.float64)
        self._weight = self._weight * kept + 1.0
        self.time = time
        return self._sum / self._weight

    def choose(self, scores: NDArray[np.floating]) -> int:
        """The place of the person's label among (classes,) smoothed probabilities."""
        best = int(np.argmax(scores))
        if self._label is None or scores[best] > scores[self._label] + self.margin:
            self._label = best
        return self._label
