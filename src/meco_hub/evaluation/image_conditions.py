"""Conditions under which answers to pictures are tried: light, focus, movement, noise, compression, covered parts.

A condition is a function from recording to recording: one of whole recordings, one of the clips that are cut from them, or both.
What it does to one of either follows from the names in `Condition.generator` alone: every process, machine and method sees the
same faults.

    conditions = image_conditions()
    worse = conditions["low_light/3"].apply(image, np.random.default_rng(0))

Each is a curve from 0, which leaves the picture as it is to the bit, to where little can be seen. Pictures keep size and mode (L or
RGB). What follows physics is computed in linear light (IEC 61966-2-1, "sRGB"): exposure, and the noise of a sensor whose brightest
pixel holds `FULL_WELL` electrons. Lengths are shares of the picture's width, so that a picture suffers alike at any size.

There are two sets of random numbers: those of the scene (from where the light comes, what is covered), which stay while a film
runs, and those of the sensor, which are new in every picture.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..errors import InputError

# --- How a picture of a face came about --------------------------------------------------------------------------------
# How a picture of a face came about: cropped a little aside, turned, mirrored, framed, darkened, scaled down.
#
# A person reads the same expression all the same, so these tell how steady a network is. They are families of
# `image_conditions.py`, of faces alone. Shift and size count pixels of the picture, because that is how crops and cameras
# differ. What comes in from outside repeats the edge. Value 0 leaves a picture as it is; `size` has no such value, its
# curve is over the pixels that are left.

SHIFT_PIXELS = (0.0, 1.0, 2.0, 4.0, 8.0)
ROTATION_DEGREES = (0.0, 5.0, 10.0, 20.0, 30.0)
BORDER_SHARES = (0.0, 0.05, 0.1, 0.2)
BRIGHTNESS_TAKEN = (0.0, 0.2, 0.4, 0.6, 0.8)
SIZE_PIXELS = (48.0, 40.0, 32.0, 24.0, 16.0)


def handling_faults() -> dict[str, tuple[str, tuple[float, ...], Callable[..., Image.Image]]]:
    """Family → unit, values, and the fault that takes a value before picture and random numbers."""
    return {
        "shift": ("pixels", SHIFT_PIXELS, _shift),
        "rotation": ("degrees", ROTATION_DEGREES, _rotate),
        "mirror": ("1: left and right exchanged", (0.0, 1.0), _mirror),
        "border": ("share of the width, on each side", BORDER_SHARES, _frame),
        "brightness": ("share taken away", BRIGHTNESS_TAKEN, _dim),
        "size": ("pixels of width", SIZE_PIXELS, _scale),
    }


def _moved(image: Image.Image, margin: int, map_to_old: Callable[[float, float], tuple[float, ...]]) -> Image.Image:
    """The picture with repeated edges under an affine map, given for a centre (x, y) in the widened picture."""
    pixels = np.asarray(image)
    around = ((margin, margin), (margin, margin), (0, 0))[: pixels.ndim]
    wide = Image.fromarray(np.pad(pixels, around, mode="edge"))
    coefficients = map_to_old(wide.width / 2, wide.height / 2)
    return wide.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _shift(pixels: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """By whole pixels in a random one of eight directions."""
    across, down = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))[int(scene.integers(8))]
    if pixels == 0:
        return image
    margin = round(pixels)
    wide = np.pad(
        np.asarray(image), ((margin, margin), (margin, margin), (0, 0))[: np.asarray(image).ndim], mode="edge"
    )
    top, left = margin - down * margin, margin - across * margin
    return Image.fromarray(wide[top : top + image.height, left : left + image.width])


def _rotate(degrees: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """About the centre, to either side."""
    turn = np.radians(degrees) * (1 if scene.random() < 0.5 else -1)
    if degrees == 0:
        return image
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    x, y = image.width / 2, image.height / 2

    def to_old(centre_x: float, centre_y: float) -> tuple[float, ...]:
        return (
            cosine, -sine, centre_x - cosine * x + sine * y,
            sine, cosine, centre_y - sine * x - cosine * y,
        )  # fmt: skip

    return _moved(image, max(image.size), to_old)


def _mirror(value: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Left and right exchanged."""
    return image if value == 0 else image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _frame(share: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Made smaller, with one grey all around."""
    grey = int(256 * scene.random())
    if share == 0:
        return image
    inner = [max(1, round(side * (1 - 2 * share))) for side in image.size]
    framed = Image.new(image.mode, image.size, grey if image.mode == "L" else (grey, grey, grey))
    small = image.resize((inner[0], inner[1]), Image.Resampling.BILINEAR)
    framed.paste(small, ((image.width - inner[0]) // 2, (image.height - inner[1]) // 2))
    return framed


def _dim(share: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Every value times 1 − share, as an editor does it, not a camera."""
    if share == 0:
        return image
    return image.point([round((1 - share) * value) for value in range(256)] * len(image.getbands()))


def _scale(pixels: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Averaged down to so many pixels of width, and enlarged again; left alone where it has no more than that."""
    if image.width <= pixels:
        return image
    small = (round(pixels), max(1, round(image.height * pixels / image.width)))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


# --- Conditions of pictures --------------------------------------------------------------------------------------------

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
        apply_to_clip: the change of each of its clips, drawn clip by clip, after `apply`. None: there is none.
        unchanged: the change is none, so that clean answers are its answers.
        draws: the name under which random numbers are drawn, by default the family's; conditions share it that differ in what is
            known of the same faults.
        delays: recordings come out with `known_lags`, which estimates of lags can be held to.
    """

    family: str
    value: float | str
    unit: str = ""
    apply: Change | None = None
    apply_to_clip: Change | None = None
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


PictureFault = Callable[[Image.Image, np.random.Generator, np.random.Generator], Image.Image]
"""(picture, the scene's random numbers, the sensor's) → a new picture of the same size and mode."""

LOW_LIGHT_STOPS = (0.0, 2.0, 4.0, 6.0, 8.0)
OVEREXPOSURE_STOPS = (0.0, 1.0, 2.0, 3.0, 4.0)
HDR_STOPS = (0.0, 2.0, 4.0, 6.0, 8.0)
BLUR_PERCENT = (0.0, 1.0, 2.0, 4.0, 6.0)
MOTION_PERCENT = (0.0, 3.0, 6.0, 12.0, 20.0)
NOISE_LEVELS = (0.0, 8.0, 16.0, 32.0, 64.0)
JPEG_LOSS = (0.0, 50.0, 75.0, 90.0, 97.0)
SLIGHT_NOISE_LEVELS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
SLIGHT_JPEG_LOSS = (0.0, 50.0, 70.0, 85.0, 90.0, 95.0)
HALVINGS = (0.0, 1.0, 2.0, 3.0, 4.0)
COVERED_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4)

FULL_WELL = 4000.0
"""Electrons of the brightest pixel: of the order of a webcam's or telephone's small pixels."""

READ_NOISE = 5.0
"""Standard deviation of what is read from a dark pixel, electrons."""

_REGAINED = (
    0.5  # of the stops that are missing, how many the camera makes up for by amplifying: what remains stays dark
)
_EYES, _MOUTH = 0.38, 0.76  # of the height, in a picture cropped to a face


def image_conditions() -> dict[str, Condition]:
    """All conditions for pictures, by name.

    Families, with the unit of their value: `low_light`, `overexposure`, `hdr` (stops), `blur`, `motion_blur` (% of the width),
    `noise` (grey levels of 255), `jpeg` (100 − quality), `low_resolution` (halvings of the sides), `occlusion/random`,
    `occlusion/eyes` and `occlusion/mouth` (share of the picture that is covered, which is cropped to a face), `slight_noise`,
    `slight_jpeg`, and the families of the section below: `shift`, `rotation`, `mirror`, `border`, `brightness`, `size`.
    """
    found = [
        Condition(family, value, unit, partial(_apply, fault=partial(fault, value)), unchanged=value == 0)
        for family, (unit, values, fault) in picture_faults(faces=True).items()
        for value in values
    ]
    return {one.name: one for one in found}


def picture_faults(*, faces: bool) -> dict[str, tuple[str, tuple[float, ...], Callable[..., Image.Image]]]:
    """Family → unit, values, and the fault that takes a value before picture and random numbers; `faces`: cropped to a face."""
    covered = {"random": _cover_somewhere, "eyes": partial(_cover_band, _EYES), "mouth": partial(_cover_band, _MOUTH)}
    if not faces:
        del covered["eyes"], covered["mouth"]
    return {
        "low_light": ("stops", LOW_LIGHT_STOPS, _darken),
        "overexposure": ("stops", OVEREXPOSURE_STOPS, _overexpose),
        "hdr": ("stops between the sides", HDR_STOPS, _light_unevenly),
        "blur": ("% of the width", BLUR_PERCENT, _blur),
        "motion_blur": ("% of the width", MOTION_PERCENT, _move),
        "noise": ("grey levels", NOISE_LEVELS, _add_noise),
        "jpeg": ("100 − quality", JPEG_LOSS, _compress),
        "low_resolution": ("halvings", HALVINGS, _coarsen),
        **{f"occlusion/{where}": ("share", COVERED_SHARES, fault) for where, fault in covered.items()},
        **({**_slight_faults(), **handling_faults()} if faces else {}),
    }


def _slight_faults() -> dict[str, tuple[str, tuple[float, ...], Callable[..., Image.Image]]]:
    """Noise and compression of which a person sees little or nothing, where a network may stumble already."""
    return {
        "slight_noise": ("grey levels", SLIGHT_NOISE_LEVELS, _add_noise),
        "slight_jpeg": ("100 − quality", SLIGHT_JPEG_LOSS, _compress),
    }


def _apply(image: Image.Image, generator: np.random.Generator, fault: PictureFault) -> Image.Image:
    return spoil(image, generator, generator, fault)


def spoil(
    image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator, fault: PictureFault
) -> Image.Image:
    """Apply a fault to one picture.

    Raises:
        InputError: the picture has another mode than L or RGB.
    """
    if image.mode not in ("L", "RGB"):
        raise InputError(
            f"A condition was given a picture of mode {image.mode!r}; expected 'L' or 'RGB'. Use read_image."
        )
    return fault(image, scene, sensor)


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


def _darken(stops: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """2^−stops of the light, counted photon by photon, read with noise, and amplified by a camera that wants to see something."""
    if stops == 0:
        return image
    electrons = sensor.poisson(_linear(image) * (FULL_WELL * 2.0**-stops)).astype(np.float32)
    electrons += sensor.normal(0, READ_NOISE, electrons.shape).astype(np.float32)
    return _picture(electrons * (2.0 ** (_REGAINED * stops) / FULL_WELL))


def _overexpose(
    stops: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """2^stops of the light; what is too much is white."""
    return image if stops == 0 else _picture(_linear(image) * 2.0**stops)


def _light_unevenly(
    stops: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """Light from one side: half the stops too much there, half too little opposite; both ends clip."""
    angle = scene.uniform(0, 2 * np.pi)
    if stops == 0:
        return image
    width, height = image.size
    across = np.linspace(-1, 1, width)[None, :] * np.cos(angle) + np.linspace(-1, 1, height)[:, None] * np.sin(angle)
    across /= np.abs(across).max()
    light = _linear(image) * (2.0 ** (stops / 2 * across)).astype(np.float32)[..., None]
    return _picture(light)


def _blur(percent: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Out of focus: a Gaussian whose standard deviation is a share of the width."""
    return image if percent == 0 else image.filter(ImageFilter.GaussianBlur(percent / 100 * image.width))


def _move(percent: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Moved along a line while the shutter was open; what comes in from outside repeats the edge."""
    angle = scene.uniform(0, np.pi)
    if percent == 0:
        return image
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


def _add_noise(
    levels: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """Gaussian noise on every value."""
    if levels == 0:
        return image
    pixels = np.atleast_3d(np.asarray(image, np.float32))
    return _from_levels(pixels + sensor.normal(0, levels, pixels.shape).astype(np.float32))


def _compress(loss: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator) -> Image.Image:
    """Through JPEG and back."""
    if loss == 0:
        return image
    packed = io.BytesIO()
    image.save(packed, format="JPEG", quality=round(100 - loss))
    with Image.open(packed) as opened:
        return opened.convert(image.mode)


def _coarsen(
    halvings: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """Averaged down to fewer pixels and enlarged again."""
    if halvings == 0:
        return image
    small = [max(1, round(side / 2.0**halvings)) for side in image.size]
    return image.resize((small[0], small[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def _cover(image: Image.Image, corner: tuple[int, int], sides: tuple[int, int], grey: int) -> Image.Image:
    covered = image.copy()
    colour = grey if image.mode == "L" else (grey, grey, grey)
    covered.paste(colour, (*corner, corner[0] + sides[0], corner[1] + sides[1]))
    return covered


def _cover_somewhere(
    share: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """One box of the picture's shape, anywhere."""
    across, down, shade = scene.random(3)
    if share == 0:
        return image
    sides = (max(1, round(image.width * share**0.5)), max(1, round(image.height * share**0.5)))
    corner = (int(across * (image.width - sides[0] + 1)), int(down * (image.height - sides[1] + 1)))
    return _cover(image, corner, sides, int(256 * shade))


def _cover_band(
    where: float, share: float, image: Image.Image, scene: np.random.Generator, sensor: np.random.Generator
) -> Image.Image:
    """A band across the whole width, as glasses or a mask would be."""
    shade = scene.random()
    if share == 0:
        return image
    high = max(1, round(image.height * share))
    top = min(max(0, round(where * image.height - high / 2)), image.height - high)
    return _cover(image, (0, top), (image.width, high), int(256 * shade))
