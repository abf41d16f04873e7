"""Random changes to a picture of a face that leave its expression what it is.

One affine map (mirror, turn, zoom, stretch, shift), one table of grey values (gamma, contrast, brightness), a mild blur, and a
covered patch, each with a documented range and each off at 0. The picture keeps its size and mode, so that the checkpoint's
processor follows as it does everywhere else. PIL and numpy only; about a millisecond for 112×112 pixels.

All numbers are drawn from the generator that is handed in, and always in the same order and number, so that switching one change
off leaves the others as they were.

This file knows pictures and chance; it knows no model, no label and no data set.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from ..errors import ConfigurationError, InputError

_MIDDLE_GREY = 127.5


@dataclass(frozen=True)
class FaceAugmentation:
    """Changes a picture at random: `augmentation(image, generator) -> image` of the same size and mode.

    Each range is symmetric and drawn uniformly; 0 switches the change off. The defaults suit faces cropped already, with the
    little room around them that a detector's box leaves.

    Attributes:
        mirror: chance of a left-right flip, 0 to 1.
        rotation: largest turn either way, in degrees, 0 to 180.
        zoom: largest zoom either way, as an exponent: exp(±zoom); 0.15 is 0.86 to 1.16.
        stretch: largest change of width over height, likewise: exp(±stretch).
        shift: largest shift along each axis, as a share of the side, 0 to 0.5. What comes in from outside is the reflection.
        gamma: largest exponent of the grey values, as an exponent itself: values ** exp(±gamma).
        contrast: largest relative change of the distance to middle grey, 0 to 1.
        brightness: largest change of all values, as a share of the range, 0 to 1.
        blur: chance of a box blur, 0 to 1.
        blur_radius: largest radius of that blur, in pixels of a picture 112 wide; scaled with the width.
        erase: chance that one rectangle is covered with one random grey, 0 to 1.
        erase_side: largest side of that rectangle, as a share of the picture's, 0 to 1; the smallest is a third of it.

    Raises:
        ConfigurationError: a value is outside its range.

    Example:
        >>> FaceAugmentation()(Image.new("RGB", (112, 112)), np.random.default_rng(0)).size
        (112, 112)
    """

    mirror: float = 0.5
    rotation: float = 12.0
    zoom: float = 0.12
    stretch: float = 0.06
    shift: float = 0.06
    gamma: float = 0.35
    contrast: float = 0.25
    brightness: float = 0.1
    blur: float = 0.15
    blur_radius: float = 1.2
    erase: float = 0.0
    erase_side: float = 0.35

    def __post_init__(self) -> None:
        largest = {"rotation": 180.0, "zoom": 2.0, "stretch": 1.0, "shift": 0.5, "gamma": 3.0, "blur_radius": 20.0}
        for one in fields(self):
            value, limit = getattr(self, one.name), largest.get(one.name, 1.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
                raise ConfigurationError(
                    f"FaceAugmentation's {one.name} is {value!r}; expected a number from 0 to {limit:g}. 0 switches it off."
                )

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Change `image` (mode L or RGB, any size); the picture given is left as it is.

        Raises:
            InputError: the picture has another mode.
        """
        if image.mode not in ("L", "RGB"):
            raise InputError(
                f"FaceAugmentation was given a picture of mode {image.mode!r}; expected 'L' or 'RGB'. Read it with read_image."
            )
        # drawn together: see the module's docstring
        chance = generator.random(3)
        around = generator.uniform(-1.0, 1.0, 8)
        inside = generator.random(6)

        image = self._move(image, mirrored=bool(chance[0] < self.mirror), around=around[:5])
        image = self._retouch(image, around[5:])
        if chance[1] < self.blur:
            image = image.filter(ImageFilter.BoxBlur(float(inside[0]) * self.blur_radius * image.width / 112))
        if chance[2] < self.erase:
            self._cover(image, inside[1:])
        return image

    def _move(self, image: Image.Image, *, mirrored: bool, around: np.ndarray) -> Image.Image:
        """The affine map about the centre; a new picture in any case."""
        width, height = image.size
        turn = math.radians(self.rotation) * around[0]
        size, wider = math.exp(self.zoom * around[1]), math.exp(0.5 * self.stretch * around[2])
        across, down = self.shift * around[3] * width, self.shift * around[4] * height
        if not any((self.rotation, self.zoom, self.stretch, self.shift)):
            return ImageOps.mirror(image) if mirrored else image.copy()
        # PIL wants the map from the new picture to the old one. Reflection comes from a margin, since PIL only fills.
        rows = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) / size
        rows = rows @ np.diag([(-1 if mirrored else 1) / wider, wider])
        reach = np.abs(rows) @ [width / 2, height / 2] + np.abs([across, down]) - [width / 2, height / 2]
        wide = _reflect(image, max(0, math.ceil(reach.max())) + 1)
        centre, old = np.array([width, height]) / 2, np.array(wide.size) / 2
        offset = old + np.array([across, down]) - rows @ centre
        map_to_old = (*rows[0], offset[0], *rows[1], offset[1])
        return wide.transform(image.size, Image.Transform.AFFINE, map_to_old, Image.Resampling.BILINEAR)

    def _retouch(self, image: Image.Image, around: np.ndarray) -> Image.Image:
        """Gamma, contrast and brightness in one look-up."""
        if not any((self.gamma, self.contrast, self.brightness)):
            return image
        values = 255 * np.linspace(0, 1, 256) ** math.exp(self.gamma * around[0])
        values = (values - _MIDDLE_GREY) * (1 + self.contrast * around[1]) + _MIDDLE_GREY
        values += 255 * self.brightness * around[2]
        table = np.clip(np.rint(values), 0, 255).astype(int).tolist()
        return image.point(table * len(image.getbands()))

    def _cover(self, image: Image.Image, inside: np.ndarray) -> None:
        """Cover a rectangle of the (already new) picture."""
        whole = np.array(image.size)
        sides = np.maximum(1, np.rint(self.erase_side * (1 + 2 * inside[:2]) / 3 * whole)).astype(int)
        corner = np.rint(inside[2:4] * (whole - sides)).astype(int)
        grey = int(255 * inside[4])
        colour = (grey, grey, grey) if image.mode == "RGB" else grey
        image.paste(colour, (*corner.tolist(), *(corner + sides).tolist()))


def _reflect(image: Image.Image, margin: int) -> Image.Image:
    """The picture with a reflected margin all around."""
    pixels = np.asarray(image)
    around = ((margin, margin), (margin, margin), (0, 0))[: pixels.ndim]
    return Image.fromarray(np.pad(pixels, around, mode="symmetric"))
