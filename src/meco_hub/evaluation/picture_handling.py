"""How a picture of a face came about: cropped a little aside, turned, mirrored, framed, darkened, scaled down.

A person reads the same expression all the same, so these tell how steady a network is. They are families of `image_conditions.py`,
of faces alone. Shift and size count pixels of the picture, because that is how crops and cameras differ. What comes in from
outside repeats the edge. Value 0 leaves a picture as it is; `size` has no such value, its curve is over the pixels that are left.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

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
