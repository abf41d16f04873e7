"""Drawn faces: eight expressions that a small network can tell apart, no two people alike.

A face is a handful of ellipses and lines. The expression moves mouth, brows and lids; the person sets proportions, skin,
hair and background; the take moves and turns things a little, and adds light and noise. Everything follows from names and
a seed, so a face can be drawn again and compared pixel by pixel.

What is trained on these faces knows nothing about people: the word "synthetic" must stand wherever its name does.
"""

import io
import math
import random
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...durable import files_together, whole_file
from ...errors import CorpusError, unknown_name
from .marker import marker

_OVERSAMPLING = 4  # PIL's lines are not smoothed; drawing large and averaging is


@dataclass(frozen=True)
class _Pose:
    """What an expression does to a face; 0 is at rest, 1 is much."""

    mouth_corners: float = 0.0  # up is positive
    mouth_open: float = 0.0
    inner_brows: float = 0.0  # up is positive
    brows: float = 0.0  # up is positive
    lids: float = 1.0  # 1 is normally open
    nose_wrinkle: float = 0.0
    one_sided: bool = False  # only one corner of the mouth moves


_POSES = {
    "neutral": _Pose(),
    "happiness": _Pose(mouth_corners=1.0, mouth_open=0.25, brows=0.1, lids=0.7),
    "sadness": _Pose(mouth_corners=-0.9, inner_brows=0.8, lids=0.6),
    "surprise": _Pose(mouth_open=1.0, brows=1.0, lids=1.5),
    "fear": _Pose(mouth_corners=-0.6, mouth_open=0.5, inner_brows=0.8, brows=0.7, lids=1.4),
    "disgust": _Pose(mouth_corners=-0.6, brows=-0.4, lids=0.4, nose_wrinkle=1.0),
    "anger": _Pose(mouth_corners=-0.5, inner_brows=-1.0, brows=-0.5, lids=0.9),
    "contempt": _Pose(mouth_corners=1.0, lids=0.6, one_sided=True),
}


def draw_face(
    expression: str, *, person: str, take: int = 0, seed: int = 0, size: int = 96, gray: bool = False
) -> Image.Image:
    """Draw one face.

    Args:
        person: whose face; the same name gives the same proportions and colours.
        take: number of the picture of this person; another take is another pose, light and noise.
        gray: mode L in place of RGB.
    """
    if expression not in _POSES:
        raise unknown_name("expression", expression, _POSES)
    pose = _POSES[expression]
    whose = random.Random(f"{seed}/{person}")
    moment = random.Random(f"{seed}/{person}/{take}/{expression}")
    side = size * _OVERSAMPLING
    canvas = Image.new("RGB", (side, side), _colour(whose, 60, 200))
    _Sketch(canvas, whose, moment).face(pose)
    small = canvas.reduce(_OVERSAMPLING)
    # RandomState and not default_rng: its stream is frozen for all versions of NumPy
    noise = np.random.RandomState(moment.getrandbits(32)).randint(-8, 9, (size, size, 1))
    pixels = np.asarray(small, dtype=np.int64) * moment.randint(85, 110) // 100 + noise
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture.convert("L") if gray else picture


def _colour(rng: random.Random, low: int, high: int) -> tuple[int, int, int]:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


class _Sketch:
    """Draws in units of the picture's width: x to the right, y down, (0.5, 0.5) the middle."""

    def __init__(self, canvas: Image.Image, person: random.Random, moment: random.Random) -> None:
        self._pen = ImageDraw.Draw(canvas)
        self._width = canvas.width
        self._dx, self._dy = moment.uniform(-0.03, 0.03), moment.uniform(-0.03, 0.03)
        self._turn = moment.uniform(-0.08, 0.08)  # radians
        self._half_width, self._half_height = person.uniform(0.3, 0.38), person.uniform(0.38, 0.45)
        self._eye_gap, self._eye_size = person.uniform(0.13, 0.17), person.uniform(0.045, 0.06)
        self._mouth_width, self._thickness = person.uniform(0.12, 0.16), person.uniform(0.018, 0.028)
        tone = person.randint(110, 220)
        self._skin = (tone, tone * 4 // 5, tone * 2 // 3)
        self._shade = (tone * 3 // 5, tone * 2 // 5, tone // 3)
        self._hair = _colour(person, 10, 90)

    def face(self, pose: _Pose) -> None:
        self._ellipse(0.5, 0.44, self._half_width * 1.08, self._half_height * 1.05, self._hair)
        self._ellipse(0.5, 0.52, self._half_width, self._half_height, self._skin)
        for side in (-1, 1):
            self._eye(side, pose)
            self._brow(side, pose)
        self._line([(0.5, 0.47), (0.48, 0.58), (0.52, 0.58)], self._shade, 0.012)
        if pose.nose_wrinkle:
            for y in (0.45, 0.48):
                self._line([(0.45, y + 0.015), (0.5, y), (0.55, y + 0.015)], self._shade, 0.014)
        self._mouth(pose)

    def _eye(self, side: int, pose: _Pose) -> None:
        x, height = 0.5 + side * self._eye_gap, self._eye_size * 0.7 * pose.lids
        self._ellipse(x, 0.43, self._eye_size, height, (245, 245, 245))
        self._ellipse(x, 0.43, min(height, 0.025), min(height, 0.025), (20, 20, 30))

    def _brow(self, side: int, pose: _Pose) -> None:
        y = 0.345 - 0.05 * pose.brows
        inner, outer = 0.5 + side * (self._eye_gap - 0.065), 0.5 + side * (self._eye_gap + 0.065)
        self._line(
            [(inner, y - 0.04 * pose.inner_brows), (outer, y + 0.02 * pose.inner_brows)], self._hair, self._thickness
        )

    def _mouth(self, pose: _Pose) -> None:
        points = []
        for step in range(-8, 9):
            x = step / 8  # −1 … 1 from corner to corner
            lift = pose.mouth_corners if not pose.one_sided or x > 0 else 0.0
            points.append((0.5 + x * self._mouth_width, 0.72 - 0.07 * lift * (x * x - 0.3)))
        if pose.mouth_open:
            opening = [(x, y + 0.13 * pose.mouth_open * (1 - ((x - 0.5) / self._mouth_width) ** 2)) for x, y in points]
            self._pen.polygon([self._place(*point) for point in points + opening[::-1]], fill=(70, 15, 20))
        self._line(points, (140, 40, 50), self._thickness)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        cos, sin = math.cos(self._turn), math.sin(self._turn)
        x, y = x - 0.5, y - 0.5
        return (
            round((0.5 + self._dx + x * cos - y * sin) * self._width),
            round((0.5 + self._dy + x * sin + y * cos) * self._width),
        )

    def _ellipse(self, x: float, y: float, half_width: float, half_height: float, fill: tuple[int, int, int]) -> None:
        outline = [
            self._place(x + half_width * math.cos(angle), y + half_height * math.sin(angle))
            for angle in (2 * math.pi * step / 48 for step in range(48))
        ]
        self._pen.polygon(outline, fill=fill)

    def _line(self, points: list[tuple[float, float]], fill: tuple[int, int, int], thickness: float) -> None:
        placed = [self._place(*point) for point in points]
        self._pen.line(placed, fill=fill, width=max(1, round(thickness * self._width)), joint="curve")


# Seeded look-alikes: each corpus in its on-disk layout, with drawn faces in place of people.
#
# The corpora may not be copied, so their readers and everything behind them are tested on these. A look-alike has the layout,
# file names, picture sizes and label codes of its original, and none of its content. The same arguments write the same bytes.
#
# Whatever was trained on a look-alike must say "synthetic" wherever its name or a figure of it appears: the figures measure
# whether the programs run, not whether they recognise anybody.
#
# Every writer takes a folder that is new or empty, or a path ending in `.zip`, and returns what it drew.

FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
_IN_FER2013 = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
_VALENCE = {"happiness": 0.8, "surprise": 0.2, "neutral": 0.0}


@dataclass(frozen=True)
class Drawn:
    """One picture, clip or recording of a look-alike: the truth that a reader must find.

    Attributes:
        sample_id: the name under which the reader gives it.
        person, take, lighting, frames: arguments by which `draw_face`, or with `person=identity` `draw_sequence`, draws it again,
            with the corpus's seed.
        identity, fold: where the layout says so; else "" and −1.
        targets: ratings in native units, where a recording has one each; else empty.
    """

    sample_id: str
    label: str = ""
    split: str = ""
    person: str = ""
    take: int = 0
    identity: str = ""
    fold: int = -1
    lighting: str = ""
    frames: int = 0
    targets: tuple[float, ...] = ()


def write_image_folder(
    target: str | Path,
    *,
    seed: int,
    labels: Sequence[str] = ("neutral", "happiness", "surprise"),
    people: int = 12,
    takes: int = 2,
    folds: int = 4,
    index: bool = True,
    size: int = 64,
) -> list[Drawn]:
    """`<label>/<Person>_<n>.jpg`, every person with every label, and an index.csv with identities and folds."""
    drawn, files = [], []
    for number in range(people):
        person = f"Synthetic_Person_{number:03d}"
        for position, label in enumerate(labels):
            for take in range(takes):
                name = f"{label}/{person}_{position * takes + take:04d}.jpg"
                identity, fold = (person, number % folds) if index else ("", -1)
                drawn.append(Drawn(name, label, "all", person, take, identity, fold))
                files.append((name, encode(draw_face(label, person=person, take=take, seed=seed, size=size), "JPEG")))
    if index:
        lines = ["file,label,identity,fold", *(f"{d.sample_id},{d.label},{d.identity},{d.fold}" for d in drawn)]
        files.append(("index.csv", text(lines)))
    store(Path(target), files)
    return drawn


def write_fer2013_folders(
    target: str | Path, *, seed: int, train_per_class: int = 4, public_per_class: int = 2, private_per_class: int = 2
) -> list[Drawn]:
    """train/<emotion>/Training_<n>.jpg, and test/<emotion>/ with PublicTest_<n>.jpg and PrivateTest_<n>.jpg."""
    drawn, files = [], []
    for number, (usage, label, person) in enumerate(
        fer_pictures(seed, train_per_class, public_per_class, private_per_class)
    ):
        split = "train" if usage == "Training" else "test"
        name = f"{split}/{_IN_FER2013.get(label, label)}/{usage}_{number:08d}.jpg"
        drawn.append(Drawn(name, label, split, person))
        files.append((name, encode(draw_face(label, person=person, seed=seed, size=48, gray=True), "JPEG")))
    store(Path(target), files)
    return drawn


def fer_pictures(seed: int, train: int, public: int, private: int) -> Iterator[tuple[str, str, str]]:
    """(usage, label, person) in a mixed order within each usage, as in the original."""
    for usage, per_class in (("Training", train), ("PublicTest", public), ("PrivateTest", private)):
        for label, person in mixed(FER2013, per_class, seed, usage):
            yield usage, label, person


def write_raf_db(target: str | Path, *, seed: int, train_per_class: int = 4, test_per_class: int = 2) -> list[Drawn]:
    """RAF-DB's basic set: basic/EmoLabel and basic/Image."""
    drawn, files, partition = [], [], []
    for split, per_class, digits in (("train", train_per_class, 5), ("test", test_per_class, 4)):
        for number, (label, person) in enumerate(mixed(RAF_DB, per_class, seed, split), start=1):
            stem = f"{split}_{number:0{digits}d}"
            name = f"Image/aligned/{stem}_aligned.jpg"
            partition.append(f"{stem}.jpg {RAF_DB.index(label) + 1}")
            for size, path in ((100, f"basic/{name}"), (160, f"basic/Image/original/{stem}.jpg")):
                files.append((path, encode(draw_face(label, person=person, seed=seed, size=size), "JPEG")))
            drawn.append(Drawn(name, label, split, person))
    files.append(("basic/EmoLabel/list_patition_label.txt", text(partition)))
    store(Path(target), files)
    return drawn


def write_affectnet(
    target: str | Path, *, seed: int, train_per_class: int = 4, validation_per_class: int = 2
) -> list[Drawn]:
    """AffectNet as it is given out since 2021: {train,val}_set/images and annotations."""
    drawn, files = [], []
    for split, folder, per_class in (
        ("train", "train_set", train_per_class),
        ("validation", "val_set", validation_per_class),
    ):
        for number, (label, person) in enumerate(mixed(AFFECTNET, per_class, seed, split)):
            name = f"{folder}/images/{number}.jpg"
            drawn.append(Drawn(name, label, split, person))
            files.append((name, encode(draw_face(label, person=person, seed=seed, size=224), "JPEG")))
            valence, arousal = affect_of(label)
            # the release stores text ('<U1'); a few copies hold numbers, so both occur here
            code = AFFECTNET.index(label)
            values = {"exp": np.array(str(code) if number % 2 == 0 else code), "val": np.array(str(valence))}
            values |= {"aro": np.array(arousal), "lnd": np.zeros(136)}
            for kind, value in values.items():
                stream = io.BytesIO()
                np.save(stream, value, allow_pickle=False)
                files.append((f"{folder}/annotations/{number}_{kind}.npy", stream.getvalue()))
    store(Path(target), files)
    return drawn


def affect_of(label: str) -> tuple[float, float]:
    """(valence, arousal) that the look-alike of AffectNet writes for a label."""
    return _VALENCE.get(label, -0.5), 0.0 if label == "neutral" else 0.5


def mixed(labels: Sequence[str], per_class: int, seed: int, part: str) -> list[tuple[str, str]]:
    """(label, person) in a mixed order, another person in every picture."""
    pictures = [(label, f"{part}/{label}/{number}") for label in labels for number in range(per_class)]
    random.Random(f"{seed}/{part}").shuffle(pictures)
    return pictures


def encode(picture: Image.Image, format: str) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, format=format, **({"quality": 92} if format == "JPEG" else {}))
    return stream.getvalue()


def text(lines: Iterable[str]) -> bytes:
    """Lines as the bytes of a file."""
    return ("\n".join(lines) + "\n").encode()


def store(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip or a folder, marked as synthetic; never into something that is there, which might be the real corpus."""
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise CorpusError(
            f"{target} exists and is not empty. Expected a new place for synthetic data. Name another path."
        )
    mark = marker()
    if target.suffix.lower() == ".zip":
        with (
            whole_file(target, overwrite=False) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
        ):
            for name, content in chain(files, [mark]):  # a fixed date, or the same seed would give other bytes tomorrow
                archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)
        return
    with files_together(target, mark[0]) as staged:
        for name, content in chain(files, [mark]):
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
