"""Drawn eyes: seven expressions as movements, four lightings, and the events that an event camera would see of them.

A sequence is one right eye with lids, iris, brow and skin, drawn from a few numbers per frame. An expression moves lids, brow,
cheek and gaze from where this person holds them at rest to a peak and partly back; everybody blinks, looks about and shakes a
little besides. Light is what the frames suffer from: overexposed they are white, in low light they are black and noisy, in
high-contrast light one side is both. Events come from changes of the logarithm of brightness, in which a constant light cancels;
darkness adds noise to them and little else.

Everything follows from names and a seed. What is trained on these eyes knows nothing about people: the word "synthetic" must
stand wherever its name does.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import ConfigurationError, unknown_name
from ...processing.event_grids import EventPicture
from .faces import Drawn, encode, store

FRAME_US = 33_000
"""Microseconds between two frames."""

_THRESHOLD = 0.22  # change of log brightness that makes an event
_Plane = NDArray[np.float32]


@dataclass(frozen=True)
class _Pose:
    """What an expression does to an eye at its peak; 0 is as at rest."""

    upper: float = 0.0  # upper lid, up is positive
    lower: float = 0.0  # lower lid and cheek, up is positive
    brow: float = 0.0  # up is positive
    inner: float = 0.0  # the brow's inner end, up is positive
    look: float = 0.0  # gaze, down is positive
    crow: float = 0.0  # wrinkles at the outer corner
    nose: float = 0.0  # wrinkles at the inner corner


_POSES = {
    "happiness": _Pose(upper=-0.35, lower=0.9, crow=1.0, brow=0.1),
    "sadness": _Pose(upper=-0.45, inner=0.9, brow=0.1, look=0.8),
    "anger": _Pose(upper=0.05, lower=0.35, brow=-0.8, inner=-0.8),
    "disgust": _Pose(upper=-0.5, lower=0.8, brow=-0.5, nose=1.0),
    "surprise": _Pose(upper=0.8, brow=1.3, lower=-0.2),
    "fear": _Pose(upper=0.9, brow=0.3, inner=1.0, lower=0.35),
    "neutral": _Pose(),
}
EXPRESSIONS = tuple(_POSES)
LIGHTINGS = ("normal", "Overexposed", "Low", "HDR")


@dataclass(frozen=True)
class DrawnSequence:
    """A sequence of one eye.

    Attributes:
        frames: (T, S, S) uint8 grey frames.
        event_pictures: (T, S, S) uint8; what happened between a frame and the one before it, grey where nothing did.
        frame_times: (T,) int64 microseconds; the first frame is taken at `FRAME_US`, after one interval of events.
        x, y, t, p: the single events, in the order of time: uint16, uint16, int64 microseconds, uint8 (1: ON).
    """

    frames: NDArray[np.uint8]
    event_pictures: NDArray[np.uint8]
    frame_times: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.uint8]


def draw_sequence(
    expression: str,
    *,
    person: str,
    lighting: str = "normal",
    take: int = 0,
    frames: int = 40,
    seed: int = 0,
    size: int = 64,
) -> DrawnSequence:
    """Draw one sequence.

    Args:
        person: whose eye; the same name gives the same shape, skin and habits.
        take: number of the sequence; another one moves otherwise.
    """
    if expression not in _POSES:
        raise unknown_name("expression", expression, _POSES)
    if lighting not in LIGHTINGS:
        raise unknown_name("lighting", lighting, LIGHTINGS)
    whose = _random(f"{seed}/{person}")
    moment = _random(f"{seed}/{person}/{expression}/{lighting}/{take}")
    eye = _Eye(whose, size)
    # one picture before the first frame, so that the first event picture has something to differ from
    scene = eye.draw(_movement(_POSES[expression], frames + 1, whose, moment))
    light = _illumination(lighting, size, moment)
    events = _events(scene * light, lighting, moment)
    times = (np.arange(frames, dtype=np.int64) + 1) * FRAME_US
    return DrawnSequence(_expose(scene[1:], light, lighting, moment), _pictures(events, times, size), times, *events)


def _random(name: str) -> np.random.RandomState:
    # RandomState and not default_rng: its stream is frozen for all versions of NumPy
    return np.random.RandomState(np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32))


def _movement(
    pose: _Pose, steps: int, whose: np.random.RandomState, moment: np.random.RandomState
) -> dict[str, _Plane]:
    """(T, 1, 1) values of everything that moves, in units of the eye."""
    time = np.arange(steps, dtype=np.float32)
    begin = moment.uniform(-0.2, 0.3) * steps
    rise, strength = moment.uniform(4, 14), moment.uniform(0.6, 1.1)
    peak, fall = moment.uniform(0.6, 0.9) * steps, moment.uniform(0.0, 0.4)
    level = _smooth((time - begin) / rise) * (1 - fall * _smooth((time - peak) / (2 * rise)))
    level = strength * level * (1 + 0.08 * np.sin(time * moment.uniform(0.3, 0.8) + moment.uniform(0, 6)))
    rest = {
        name: whose.normal(0, spread)
        for name, spread in (("upper", 0.16), ("lower", 0.12), ("brow", 0.22), ("inner", 0.18))
    }
    moving = {name: rest.get(name, 0.0) + getattr(pose, name) * level for name in _Pose.__dataclass_fields__}
    # a face at rest is not still, and does not look the same twice
    for name, spread in (("upper", 0.1), ("lower", 0.1), ("brow", 0.15), ("inner", 0.12)):
        moving[name] = moving[name] + moment.normal(0, spread) + 0.5 * spread * _wander(steps, moment)
    moving["across"] = 0.5 * _glances(steps, moment)
    moving["look"] = moving["look"] + 0.35 * _glances(steps, moment)
    closed = np.zeros(steps, np.float32)
    for blink in moment.uniform(0, steps, moment.poisson(steps / 60)):
        closed = np.maximum(closed, np.exp(-0.5 * ((time - blink) / 1.6) ** 2))
    moving["closed"] = closed
    moving["shake_x"], moving["shake_y"] = 0.02 * _wander(steps, moment), 0.02 * _wander(steps, moment)
    return {name: np.asarray(value, np.float32)[:, None, None] for name, value in moving.items()}


def _smooth(x: NDArray[np.float32]) -> NDArray[np.float32]:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _wander(steps: int, moment: np.random.RandomState) -> NDArray[np.float64]:
    """Smooth noise of about unit size."""
    kernel = np.hanning(9)
    return np.convolve(moment.normal(0, 1, steps + 8), kernel / np.sqrt((kernel**2).sum()), "valid").astype(np.float64)


def _glances(steps: int, moment: np.random.RandomState) -> NDArray[np.float64]:
    """Gaze that jumps every now and then."""
    jumps = moment.uniform(size=steps) < 0.06
    places = moment.normal(0, 0.5, steps)
    held = np.maximum.accumulate(np.where(jumps, np.arange(steps), 0))
    return places[held]


class _Eye:
    """One person's eye: draws it in coordinates from −1 to 1, x to the right (towards the nose), y down."""

    def __init__(self, whose: np.random.RandomState, size: int) -> None:
        line = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        self._x, self._y = line[None, None, :], line[None, :, None]
        self._soft = np.float32(1.2 / size)
        draw = whose.uniform
        self._middle = (draw(-0.08, 0.08), draw(0.12, 0.26))
        self._half, self._open = draw(0.52, 0.66), draw(0.19, 0.26)
        self._slant, self._bend = draw(-0.12, 0.12), draw(0.75, 1.1)
        self._skin, self._iris, self._white = draw(0.35, 0.75), draw(0.08, 0.35), draw(0.8, 0.95)
        self._iris_size, self._pupil = draw(0.19, 0.24), draw(0.35, 0.5)
        self._brow = (
            draw(0.42, 0.56),
            draw(0.05, 0.1),
            draw(0.08, 0.5),
            draw(0.0, 0.15),
        )  # height, width, strength, arch
        self._lashes, self._crease = draw(0.2, 0.8), draw(0.1, 0.35)
        self._waves = [(draw(3, 14), draw(3, 14), draw(0, 6.3), draw(0.004, 0.015)) for _ in range(6)]
        self._hairs = (draw(40, 70), draw(-0.6, 0.6))

    def draw(self, moving: dict[str, _Plane]) -> NDArray[np.float32]:
        """(T, S, S) reflectance, from about 0.02 to 1."""
        x, y = self._x - moving["shake_x"], self._y - moving["shake_y"]
        ahead = x - np.float32(self._middle[0])
        across = ahead / np.float32(self._half)
        arch = np.maximum(0, 1 - across * across) ** np.float32(self._bend)
        corner = np.float32(self._middle[1]) + np.float32(self._slant) * ahead
        lid = np.maximum(self._open * (1 + 0.75 * moving["upper"]), 0.02) * (1 - moving["closed"])
        low = self._open * (0.62 - 0.45 * moving["lower"])
        upper, lower = corner - lid * arch, corner + np.maximum(low, -lid) * arch
        picture = self._draw_skin(x, y, moving, lower, ahead)
        inside = self._step(y - upper) * self._step(lower - y) * self._step(1 - np.abs(across))
        picture = picture + inside * (self._draw_ball(ahead, y - corner, moving, y - upper) - picture)
        lash = np.exp(-(((y - upper) / 0.028) ** 2)) * self._step(1.05 - np.abs(across))
        picture = picture * (1 - self._lashes * lash)
        fold = np.exp(-(((y - upper + 0.11 + 0.06 * moving["upper"]) / 0.022) ** 2)) * self._step(0.95 - np.abs(across))
        picture = picture * (1 - self._crease * fold)
        return np.clip(self._draw_brow(picture, ahead, y, moving), 0.02, 1).astype(np.float32)

    def _step(self, distance: Any) -> Any:
        """1 inside, 0 outside, smooth over about a pixel."""
        return np.clip(distance / (2 * self._soft) + np.float32(0.5), 0, 1)

    def _draw_skin(self, x: Any, y: Any, moving: dict[str, _Plane], lower: Any, ahead: Any) -> Any:
        skin = np.float32(self._skin) * (1 - 0.12 * x + 0.08 * y)
        for along, down, phase, depth in self._waves:
            skin = skin + np.float32(depth) * np.sin(np.float32(along) * x + np.float32(down) * y + np.float32(phase))
        bag = lower + 0.13 - 0.04 * moving["lower"]
        skin = skin * (1 - (0.08 + 0.16 * np.maximum(moving["lower"], 0)) * np.exp(-(((y - bag) / 0.05) ** 2)))
        level = y - np.float32(self._middle[1])
        for number in (-1, 0, 1):
            away = -ahead - np.float32(self._half + 0.04)  # beyond the outer corner
            line = level - number * (0.07 + 0.5 * away)
            near = self._step(away) * self._step(0.3 - away)
            skin = skin * (1 - 0.3 * moving["crow"] * near * np.exp(-((line / 0.02) ** 2)))
            line = level + 0.12 + 0.1 * number + 0.4 * (ahead - np.float32(self._half))
            near = self._step(ahead - np.float32(self._half - 0.08))
            skin = skin * (1 - 0.35 * moving["nose"] * near * np.exp(-((line / 0.025) ** 2)))
        return skin

    def _draw_ball(self, ahead: Any, level: Any, moving: dict[str, _Plane], below: Any) -> Any:
        across, down = ahead - 0.2 * moving["across"], level + 0.02 - 0.13 * moving["look"]
        radius = np.sqrt(across * across + down * down)
        ball = np.float32(self._white) * (1 - 0.25 * np.abs(ahead)) * (0.65 + 0.35 * np.clip(below / 0.12, 0, 1))
        rim = self._step(np.float32(self._iris_size) - radius)
        ball = ball + rim * (np.float32(self._iris) * (0.7 + 0.5 * radius / self._iris_size) - ball)
        ball = ball + self._step(np.float32(self._iris_size * self._pupil) - radius) * (0.03 - ball)
        glint = self._step(0.035 - np.hypot(across + 0.06, down + 0.07))
        return ball + glint * (1 - ball)

    def _draw_brow(self, picture: Any, ahead: Any, y: Any, moving: dict[str, _Plane]) -> Any:
        height, width, strength, arch = self._brow
        # the nose is to the right: raising the inner end lifts the right
        tilt = 0.16 * moving["inner"] * np.clip(ahead / self._half + 0.35, 0, None)
        line = (
            np.float32(self._middle[1] - height) - 0.13 * moving["brow"] - tilt - arch * (1 - (ahead / 0.8) ** 2) * 0.4
        )
        hairs = 0.75 + 0.25 * np.sin(np.float32(self._hairs[0]) * (ahead + np.float32(self._hairs[1]) * (y - line)))
        long = self._step(0.72 - np.abs(ahead))
        dark = np.exp(-(((y - line) / width) ** 2)) * long * hairs
        return picture * (1 - (0.35 + strength) * dark)


def _illumination(lighting: str, size: int, moment: np.random.RandomState) -> NDArray[np.float32]:
    """(1, S, S) light on the scene; 1 is what the frames are exposed for."""
    level = {"normal": 1.0, "Overexposed": 3.0, "Low": 0.07, "HDR": 1.0}[lighting] * np.exp(moment.normal(0, 0.15))
    angle = moment.uniform(0, 2 * np.pi)
    line = (np.arange(size) + 0.5) / size * 2 - 1
    slope = np.cos(angle) * line[None, :] + np.sin(angle) * line[:, None]
    contrast = 2.6 if lighting == "HDR" else 0.2
    return (level * np.exp(contrast * slope))[None].astype(np.float32)


def _expose(
    scene: NDArray[np.float32], light: NDArray[np.float32], lighting: str, moment: np.random.RandomState
) -> NDArray[np.uint8]:
    """(T, S, S) uint8 frames: the sensor's noise is added, and what is too bright is white."""
    photons = scene * light
    noise = moment.standard_normal(scene.shape).astype(np.float32)
    read = 0.03 if lighting == "Low" else 0.01
    seen = photons + noise * np.sqrt(read**2 + 0.0006 * photons)
    return np.clip(np.rint(seen * 255), 0, 255).astype(np.uint8)


def _events(
    brightness: NDArray[np.float32], lighting: str, moment: np.random.RandomState
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """x, y, t, p of the events between the pictures, in the order of time."""
    shape = brightness.shape[1:]
    threshold = (_THRESHOLD * (1 + 0.12 * moment.standard_normal(shape))).clip(0.1).astype(np.float32)
    logarithm = np.log(
        brightness + np.float32(0.012)
    )  # the offset is the dark current, which drowns small changes in the dark
    rate = 0.012 if lighting == "Low" else 0.003  # noise events per pixel and frame
    reference = logarithm[0] + threshold * moment.uniform(-0.5, 0.5, shape).astype(np.float32)
    parts: list[tuple[NDArray[Any], ...]] = []
    for step in range(1, len(brightness)):
        change = logarithm[step] - reference
        fired = np.trunc(change / threshold)
        reference = reference + fired * threshold
        noise = (moment.uniform(size=shape) < rate) * moment.choice([-1, 1], shape)
        for number in (fired, noise):
            parts.append(_spread(number.astype(np.int64), step - 1, moment))
    x, y, t, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t, kind="stable")
    return x[order], y[order], t[order], p[order]


def _pictures(events: tuple[NDArray[Any], ...], times: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """(T, S, S) what happened before each frame since the one before it, as event pictures are accumulated everywhere."""
    bounds = np.searchsorted(events[2], [times[0] - FRAME_US, *times])
    pictures = []
    for first, last in pairwise(bounds.tolist()):
        picture = EventPicture(size, size)
        picture.add(*(column[first:last] for column in events))
        pictures.append(picture.picture())
    return np.stack(pictures)


def _spread(fired: NDArray[np.int64], interval: int, moment: np.random.RandomState) -> tuple[NDArray[Any], ...]:
    """The events of one interval, at random times within it."""
    rows, columns = np.nonzero(fired)
    many = np.abs(fired[rows, columns])
    times = interval * FRAME_US + moment.randint(0, FRAME_US, int(many.sum()))
    polarity = np.repeat(fired[rows, columns] > 0, many).astype(np.uint8)
    return (
        np.repeat(columns, many).astype(np.uint16),
        np.repeat(rows, many).astype(np.uint16),
        times.astype(np.int64),
        polarity,
    )


# A seeded look-alike of SEE: its layout, names and annotations, with drawn eyes in place of people.
#
#     write_see("see_synthetic.zip", seed=0)                    # 20 people, 7 expressions, 2 takes: 280 sequences
#     write_see(folder, seed=0, people=3, takes=1, size=32, frames=(18, 20))
#
# As in the original, the split of `emotion.json` has the same people on both sides, and the order of its `labels` is no
# alphabet's. Whatever was trained on a look-alike must say "synthetic" wherever its name or a figure of it appears.

SEE = ("happiness", "sadness", "anger", "disgust", "surprise", "fear", "neutral")
"""Canonical expressions in the order of the look-alike's `labels`."""

TOKENS = {"anger": "angry"}
"""What the original calls expressions, where it is not the canonical name."""

TEST_SHARE = 0.32


def write_see(
    target: str | Path,
    *,
    seed: int,
    people: int = 20,
    takes: int = 2,
    size: int = 64,
    frames: tuple[int, int] = (18, 60),
) -> list[Drawn]:
    """Write SEE/{event,frame}/<emotion>/<sequence>/00000.jpg … and SEE/emotion.json.

    Args:
        target: a folder that is new or empty, or a path that ends in .zip.
        takes: sequences of each volunteer and expression; the lightings take turns.
        frames: shortest and longest sequence.

    Returns:
        What was drawn, in the order of emotion.json.
    """
    if min(people, takes, frames[0]) < 1 or frames[1] < frames[0] or size < 16:
        raise ConfigurationError(
            f"people={people}, takes={takes}, frames={frames}, size={size}: expected one or more of each, frames in order, and "
            "16 pixels or more."
        )
    drawn = _plan(seed, people, takes, frames)
    store(Path(target), _files(drawn, seed, size))
    return drawn


def _plan(seed: int, people: int, takes: int, frames: tuple[int, int]) -> list[Drawn]:
    chance = random.Random(f"{seed}/see")
    drawn: list[Drawn] = []
    for who in range(people):
        sex, age = chance.choice(("man", "woman")), chance.randint(19, 28)
        degree = chance.choice(("undergraduate", "Master", "Doctor"))
        for place, label in enumerate(SEE):
            for take in range(takes):
                lighting = LIGHTINGS[(who + place + take) % len(LIGHTINGS)]
                length, test = chance.randint(*frames), chance.random() < TEST_SHARE
                person, token = f"{who + 1:03d}", TOKENS.get(label, label)
                name = f"{len(drawn) + 1}_{person}_{sex}_{age}_{degree}_{lighting}_{token}_{length}_take{take:03d}"
                split = "test" if test else "train"
                clip = Drawn(name, label, split, take=take, identity=person, lighting=lighting, frames=length)
                drawn.append(clip)
    return drawn


def _files(drawn: list[Drawn], seed: int, size: int) -> Iterator[tuple[str, bytes]]:
    from tqdm.auto import tqdm

    yield "SEE/emotion.json", _annotations(drawn)
    for one in tqdm(drawn, desc="drawing eyes", unit="seq", disable=None):
        sequence = draw_sequence(
            one.label,
            person=one.identity,
            lighting=one.lighting,
            take=one.take,
            frames=one.frames,
            seed=seed,
            size=size,
        )
        folder = TOKENS.get(one.label, one.label)
        for stream, pictures in (("frame", sequence.frames), ("event", sequence.event_pictures)):
            for place, picture in enumerate(pictures):
                yield f"SEE/{stream}/{folder}/{one.sample_id}/{place:05d}.jpg", encode(Image.fromarray(picture), "JPEG")


def _annotations(drawn: list[Drawn]) -> bytes:
    subsets = {"train": "training", "test": "testing"}
    database = {
        one.sample_id: {
            "subset": subsets[one.split],
            "annotations": {"label": TOKENS.get(one.label, one.label), "segment": [0, one.frames]},
        }
        for one in drawn
    }
    labels = [TOKENS.get(label, label) for label in SEE]
    return json.dumps({"labels": labels, "database": database}, indent=1).encode()
