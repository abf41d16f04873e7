"""Conditions under which answers to pictures are tried: light, focus, movement, noise, compression, covered parts.

A condition is a function from recording to recording: one of whole recordings, one of the clips that are cut from them, or both.
What it does to one of either follows from the names in `Condition.generator` alone: every process, machine and method sees the
same faults.

    conditions = image_conditions()
    worse = conditions["low_light/3"].apply(image, np.random.default_rng(0))

Each is a curve from 0, which leaves the picture as it is to the bit, to where little can be seen. Pictures keep size and mode (L or
RGB). What follows physics is computed in linear light (IEC 61966-2-1, "sRGB"): exposure, and the noise of a sensor whose brightest
pixel holds `FULL_WELL` electrons. Lengths are shares of the picture's width, so that a picture suffers alike at any size.

Of faces there are families of how the picture came about, too: cropped a little aside, turned, mirrored, framed, darkened, scaled
down. A person reads the same expression all the same, so these show how steady a network is. Shift and size count pixels, because
that is how crops and cameras differ; `size` has no value 0, its curve is over the pixels that are left.

There are two sets of random numbers: those of the scene (from where the light comes, what is covered), which stay while a film
runs, and those of the sensor, which are new in every picture.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..errors import InputError

Random = np.random.Generator

# --- Conditions --------------------------------------------------------------------------------------------------------

Change = Callable[[Any, np.random.Generator], Any]
"""(recording, random numbers) → the changed recording; the one given is left as it is."""


@dataclass(frozen=True)
class Condition:
    """One point of a grid.

    Attributes:
        family: what varies; conditions of one family are a curve.
        value: where on the curve: a rate, seconds, a factor; or the streams that are left, joined by "+".
        unit: of `value`, in words; "" for those in words.
        apply: the change of a whole recording, before it is cut into clips; deterministic given the generator. None: there is none.
        apply_to_clip: the change of each of its clips, drawn clip by clip, after `apply`; it is told, thirdly, which streams the
            whole recording has, of which a clip holds those that a model reads. None: there is none.
        unchanged: the change is none, so that clean answers are its answers.
        draws: the name under which random numbers are drawn, by default the family's; conditions share it that differ in what is
            known of the same faults.
        delays: recordings come out with `known_lags`, which estimates of lags can be held to.
    """

    family: str
    value: float | str
    unit: str = ""
    apply: Change | None = None
    apply_to_clip: Callable[..., Any] | None = None
    unchanged: bool = False
    draws: str = ""
    delays: bool = False

    @property
    def name(self) -> str:
        """ "family/value", unique in its grid."""
        return f"{self.family}/{self.value if isinstance(self.value, str) else format(self.value, 'g')}"

    def generator(
        self, *, dataset: str, protocol: str, seed: int, subject: str, trial: str, window: int = 0
    ) -> np.random.Generator:
        """Random numbers of one window, of a whole recording those of window 0; they depend on these names and on nothing else."""
        value = float(self.value) if isinstance(self.value, int | float) else self.value
        names = [dataset, protocol, self.draws or self.family, value, int(seed), str(subject), str(trial), int(window)]
        digest = hashlib.sha256(json.dumps(names).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))


# --- Pictures ----------------------------------------------------------------------------------------------------------

FULL_WELL = 4000.0
"""Electrons of the brightest pixel: of the order of a webcam's or telephone's small pixels."""

READ_NOISE = 5.0
"""Standard deviation of what is read from a dark pixel, electrons."""

_REGAINED = 0.5
"""Of the stops that are missing, how many the camera makes up for by amplifying: what remains stays dark."""
_COVERED = (0.0, 0.1, 0.2, 0.3, 0.4)
_EYES, _MOUTH = 0.38, 0.76  # of the height, in a picture cropped to a face


def _linear(image: Image.Image) -> NDArray[np.float32]:
    """Light in [0, 1], (H, W, 1 or 3)."""
    encoded = np.asarray(image, np.float32) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.atleast_3d(light).astype(np.float32)


def _picture(light: NDArray[np.floating]) -> Image.Image:
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return _from_levels(255 * encoded)


def _from_levels(levels: NDArray[np.floating]) -> Image.Image:
    values = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def _darken(stops: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """2^−stops of the light, counted photon by photon, read with noise, and amplified by a camera that wants to see something."""
    electrons = sensor.poisson(_linear(image) * (FULL_WELL * 2.0**-stops)).astype(np.float32)
    electrons += sensor.normal(0, READ_NOISE, electrons.shape).astype(np.float32)
    return _picture(electrons * (2.0 ** (_REGAINED * stops) / FULL_WELL))


def _overexpose(stops: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """2^stops of the light; what is too much is white."""
    return _picture(_linear(image) * 2.0**stops)


def _light_unevenly(stops: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Light from one side: half the stops too much there, half too little opposite; both ends clip."""
    angle = scene.uniform(0, 2 * np.pi)
    width, height = image.size
    across = np.linspace(-1, 1, width)[None, :] * np.cos(angle) + np.linspace(-1, 1, height)[:, None] * np.sin(angle)
    across /= np.abs(across).max()
    light = _linear(image) * (2.0 ** (stops / 2 * across)).astype(np.float32)[..., None]
    return _picture(light)


def _blur(percent: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Out of focus: a Gaussian whose standard deviation is a share of the width."""
    return image.filter(ImageFilter.GaussianBlur(percent / 100 * image.width))


def _move(percent: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Moved along a line while the shutter was open; what comes in from outside repeats the edge."""
    angle = scene.uniform(0, np.pi)
    length = percent / 100 * image.width
    pixels = np.atleast_3d(np.asarray(image, np.float32))
    margin = int(np.ceil(length / 2)) + 1
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    total = np.zeros_like(pixels)
    for (down, right), weight in _line(length, angle).items():
        total += weight * wide[margin + down :, margin + right :][: image.height, : image.width]
    return _from_levels(total)


def _line(length: float, angle: float) -> dict[tuple[int, int], float]:
    """A line through the origin laid on pixels: (down, right) → weight, by linear interpolation; the weights sum to one."""
    steps = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(length)) + 1)
    kernel: dict[tuple[int, int], float] = {}
    for step in steps:
        down, right = step * np.sin(angle), step * np.cos(angle)
        top, left = int(np.floor(down)), int(np.floor(right))
        for row, high in ((top, top + 1 - down), (top + 1, down - top)):
            for column, share in ((left, left + 1 - right), (left + 1, right - left)):
                kernel[row, column] = kernel.get((row, column), 0.0) + high * share / len(steps)
    return {place: float(weight) for place, weight in kernel.items() if weight > 0}


def _add_noise(levels: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Gaussian noise on every value."""
    pixels = np.atleast_3d(np.asarray(image, np.float32))
    return _from_levels(pixels + sensor.normal(0, levels, pixels.shape).astype(np.float32))


def _compress(loss: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Through JPEG and back."""
    packed = io.BytesIO()
    image.save(packed, format="JPEG", quality=round(100 - loss))
    with Image.open(packed) as opened:
        return opened.convert(image.mode)


def _coarsen(halvings: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Averaged down to fewer pixels and enlarged again."""
    small = [max(1, round(side / 2.0**halvings)) for side in image.size]
    return image.resize((small[0], small[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def _cover(image: Image.Image, corner: tuple[int, int], sides: tuple[int, int], grey: int) -> Image.Image:
    covered = image.copy()
    colour = grey if image.mode == "L" else (grey, grey, grey)
    covered.paste(colour, (*corner, corner[0] + sides[0], corner[1] + sides[1]))
    return covered


def _cover_somewhere(share: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """One box of the picture's shape, anywhere."""
    across, down, shade = scene.random(3)
    sides = (max(1, round(image.width * share**0.5)), max(1, round(image.height * share**0.5)))
    corner = (int(across * (image.width - sides[0] + 1)), int(down * (image.height - sides[1] + 1)))
    return _cover(image, corner, sides, int(256 * shade))


def _cover_band(where: float, share: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """A band across the whole width, as glasses or a mask would be."""
    shade = scene.random()
    high = max(1, round(image.height * share))
    top = min(max(0, round(where * image.height - high / 2)), image.height - high)
    return _cover(image, (0, top), (image.width, high), int(256 * shade))


def _widened(image: Image.Image, margin: int) -> Image.Image:
    """The picture with its edges repeated so far in every direction."""
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0))[: pixels.ndim], mode="edge"))


def _shift(pixels: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """By whole pixels in a random one of eight directions."""
    across, down = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))[int(scene.integers(8))]
    margin = round(pixels)
    top, left = margin - down * margin, margin - across * margin
    return _widened(image, margin).crop((left, top, left + image.width, top + image.height))


def _rotate(degrees: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """About the centre, to either side."""
    turn = np.radians(degrees) * (1 if scene.random() < 0.5 else -1)
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    x, y, wide = image.width / 2, image.height / 2, _widened(image, max(image.size))
    to_old = (
        cosine, -sine, wide.width / 2 - cosine * x + sine * y,
        sine, cosine, wide.height / 2 - sine * x - cosine * y,
    )  # fmt: skip
    return wide.transform(image.size, Image.Transform.AFFINE, to_old, Image.Resampling.BILINEAR)


def _mirror(value: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Left and right exchanged."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _frame(share: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Made smaller, with one grey all around."""
    grey = int(256 * scene.random())
    inner = [max(1, round(side * (1 - 2 * share))) for side in image.size]
    framed = Image.new(image.mode, image.size, grey if image.mode == "L" else (grey, grey, grey))
    small = image.resize((inner[0], inner[1]), Image.Resampling.BILINEAR)
    framed.paste(small, ((image.width - inner[0]) // 2, (image.height - inner[1]) // 2))
    return framed


def _dim(share: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Every value times 1 − share, as an editor does it, not a camera."""
    return image.point([round((1 - share) * value) for value in range(256)] * len(image.getbands()))


def _scale(pixels: float, image: Image.Image, scene: Random, sensor: Random) -> Image.Image:
    """Averaged down to so many pixels of width, and enlarged again; left alone where it has no more than that."""
    if image.width <= pixels:
        return image
    small = (round(pixels), max(1, round(image.height * pixels / image.width)))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


class Fault(NamedTuple):
    """A family of conditions of pictures.

    Attributes:
        values: from weak to strong; 0 leaves the picture as it is.
        change: (value, picture, the scene's random numbers, the sensor's) → a new picture of the same size and mode.
        of_faces: makes sense for pictures that are cropped to a face only.
    """

    unit: str
    values: tuple[float, ...]
    change: Callable[[float, Image.Image, Random, Random], Image.Image]
    of_faces: bool = False


FAULTS = {
    "low_light": Fault("stops", (0.0, 2.0, 4.0, 6.0, 8.0), _darken),
    "overexposure": Fault("stops", (0.0, 1.0, 2.0, 3.0, 4.0), _overexpose),
    "hdr": Fault("stops between the sides", (0.0, 2.0, 4.0, 6.0, 8.0), _light_unevenly),
    "blur": Fault("% of the width", (0.0, 1.0, 2.0, 4.0, 6.0), _blur),
    "motion_blur": Fault("% of the width", (0.0, 3.0, 6.0, 12.0, 20.0), _move),
    "noise": Fault("grey levels", (0.0, 8.0, 16.0, 32.0, 64.0), _add_noise),
    "jpeg": Fault("100 − quality", (0.0, 50.0, 75.0, 90.0, 97.0), _compress),
    "low_resolution": Fault("halvings", (0.0, 1.0, 2.0, 3.0, 4.0), _coarsen),
    "occlusion/random": Fault("share", _COVERED, _cover_somewhere),
    "occlusion/eyes": Fault("share", _COVERED, partial(_cover_band, _EYES), of_faces=True),
    "occlusion/mouth": Fault("share", _COVERED, partial(_cover_band, _MOUTH), of_faces=True),
    # of which a person sees little or nothing, where a network may stumble already
    "slight_noise": Fault("grey levels", (0.0, 1.0, 2.0, 5.0, 10.0, 20.0), _add_noise, of_faces=True),
    "slight_jpeg": Fault("100 − quality", (0.0, 50.0, 70.0, 85.0, 90.0, 95.0), _compress, of_faces=True),
    "shift": Fault("pixels", (0.0, 1.0, 2.0, 4.0, 8.0), _shift, of_faces=True),
    "rotation": Fault("degrees", (0.0, 5.0, 10.0, 20.0, 30.0), _rotate, of_faces=True),
    "mirror": Fault("1: left and right exchanged", (0.0, 1.0), _mirror, of_faces=True),
    "border": Fault("share of the width, on each side", (0.0, 0.05, 0.1, 0.2), _frame, of_faces=True),
    "brightness": Fault("share taken away", (0.0, 0.2, 0.4, 0.6, 0.8), _dim, of_faces=True),
    "size": Fault("pixels of width", (48.0, 40.0, 32.0, 24.0, 16.0), _scale, of_faces=True),
}
"""Family → what it does to a picture."""


def image_conditions() -> dict[str, Condition]:
    """All conditions for pictures of faces, by name: every family of `FAULTS` at every value."""
    found = [
        Condition(family, value, fault.unit, partial(_apply, change=fault.change, value=value), unchanged=value == 0)
        for family, fault in FAULTS.items()
        for value in fault.values
    ]
    return {one.name: one for one in found}


def _apply(image: Image.Image, generator: Random, change: Callable[..., Image.Image], value: float) -> Image.Image:
    return spoil(image, generator, generator, change, value)


def spoil(
    image: Image.Image, scene: Random, sensor: Random, change: Callable[..., Image.Image], value: float
) -> Image.Image:
    """Apply the fault `change` to one picture; 0 leaves it as it is."""
    if image.mode not in ("L", "RGB"):
        raise InputError(
            f"A condition was given a picture of mode {image.mode!r}; expected 'L' or 'RGB'. Use read_image."
        )
    return image if value == 0 else change(value, image, scene, sensor)
