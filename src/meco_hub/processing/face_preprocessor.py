"""From pictures of faces to pixel tensors, and random changes to such pictures for training.

The image processor, which is saved beside the weights:
- It takes whatever `read_image` reads, one or a list, nested or not, and raises our errors.
- Pictures are resized by Pillow's bilinear filter, which averages when it makes a picture smaller; OpenCV's, which many
  authors trained with, skips pixels then and aliases. Enlarging, the two agree to a grey level. Half a face's detail lies in
  edges that aliasing would invent, hence Pillow.
- The picture is taken for a face already unless `do_find_face` is set; then the most prominent face is cut out of it.

The augmentation, which leaves an expression what it is: one affine map (mirror, turn, zoom, stretch, shift), one table of grey
values (gamma, contrast, brightness), a mild blur, a covered patch, and what a poor camera adds (few pixels, noise, JPEG), each with
a documented range and each off at 0. The picture keeps its size and mode, so that the checkpoint's processor follows as it does
everywhere else. About a millisecond for 112×112 pixels. All numbers are drawn from the generator that is handed in, and always in
the same order and number (noise, which needs many, last), so that switching one change off leaves the others as they were.
"""

import functools
import io
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Unpack

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from transformers.image_processing_base import BatchFeature
from transformers.processing_utils import ImagesKwargs

from ..errors import ConfigurationError, FaceNotFoundError, ImageError, InputError
from ..recordings.images import ImageSource, describe_source, read_image
from .face_finder import DETECTORS, Face, FaceFinder, check_crop, crop_face
from .pixel_preprocessor import PixelPreprocessor

logger = logging.getLogger(__name__)

LEVEL_FROM = 12.0
"""Degrees: networks are trained with faces that lean so far; see `FaceAugmentation.rotation`."""

_ON_NO_FACE = ("error", "whole_image")
_MIDDLE_GREY = 127.5


class FacePreprocessorKwargs(ImagesKwargs, total=False):
    """The fields of `FacePreprocessor` beside those of transformers' image processors.

    Attributes:
        do_grayscale: make the picture grey (ITU-R 601 luma) and repeat it on three channels; for checkpoints trained on grey.
        do_find_face: find the most prominent face and cut it out first.
        face_margin: added to the found box on each side, as a fraction of it.
        face_square: cut a square; otherwise the box with its margins, whose proportions the resize does not keep.
        face_shift: moves the square down by this fraction of its side; negative moves it up.
        face_detector: name of the detector.
        detector_threshold: faces of a lower score do not count.
        on_no_face: "error", or "whole_image", which logs a warning and takes the picture as it is; holds with `do_find_face`, and
            in a pipeline without it too where it is not the default of its class.
        return_faces: when calling, add "faces" to the result: the `Face` that was cut out of each picture, None where none was.
    """

    do_grayscale: bool | None
    do_find_face: bool | None
    face_margin: float | int | None
    face_square: bool | None
    face_shift: float | int | None
    face_detector: str | None
    detector_threshold: float | int | None
    on_no_face: str | None
    return_faces: bool | None


class FacePreprocessor(PixelPreprocessor):
    """Pictures of faces to `pixel_values` (batch, 3, height, width), float32, RGB.

    Pictures may also come as any nesting of lists, or as a 4-D array or tensor. With `return_faces`, a batch has "faces" too.

    Raises:
        InputError: when called, also for pictures that differ in size while `do_resize` is off.
        FaceNotFoundError: when called, `do_find_face` is set and there is none.
    """

    valid_kwargs = FacePreprocessorKwargs

    size = {"height": 224, "width": 224}  # noqa: RUF012 (transformers' own annotation-free convention)
    do_normalize = False
    do_grayscale = False
    do_find_face = False
    face_margin = 0.1
    face_square = True
    face_shift = 0.0
    face_detector = "yunet"
    detector_threshold = 0.7
    on_no_face = "error"

    fixed_fields: ClassVar[dict[str, tuple[Any, ...]]] = {
        **PixelPreprocessor.fixed_fields,
        "do_center_crop": (None, False),
    }
    fixed_because = (
        'it gives RGB, channels first, resized as a whole, as "pt", "np" or a list, and reads the layout of arrays from their '
        "shape"
    )

    def __init__(self, **kwargs: Unpack[FacePreprocessorKwargs]) -> None:
        super().__init__(**kwargs)
        self._finder: FaceFinder | None = None

    @property
    def face_finder(self) -> FaceFinder:
        """The finder that `do_find_face` uses. Assign another one to use another model file; it is not saved."""
        return self._finder or _finder(str(self.face_detector), float(self.detector_threshold))

    @face_finder.setter
    def face_finder(self, finder: FaceFinder | None) -> None:
        self._finder = finder

    def cut_out(self, image: Image.Image, face: Face, **fields: Any) -> tuple[Image.Image, Face]:
        """A face as this processor's network wants to see it, upright; and the face as a closer look shows it.

        A face that leans by more than `LEVEL_FROM` degrees is turned level.

        Args:
            image: the picture.
            face: one that `face_finder` found in it.
            fields: `face_margin`, `face_square` and `face_shift`, where they are others than this processor's.
        """
        margin, square, shift = (
            fields.get(name, getattr(self, name)) for name in ("face_margin", "face_square", "face_shift")
        )
        face = self.face_finder.look_closer(image, face)
        if abs(face.tilt) > LEVEL_FROM:
            reach = 1 + 2 * max(0.0, margin) + 2 * abs(shift)
            levelled = self.face_finder.level(image, face, reach)
            if levelled is not None:
                level, inside = levelled
                upright = replace(face, tilt=inside.tilt, yaw=inside.yaw, turn=inside.turn)
                return crop_face(level, inside.box, margin, square=square, shift=shift), upright
        return crop_face(image, face.box, margin, square=square, shift=shift), face

    def _check_values(self, **kwargs: Any) -> None:
        size = kwargs["size"]
        if kwargs["do_resize"] and (not size or not size.height or not size.width or min(size.height, size.width) < 1):
            seen = size and {key: value for key, value in dict(size).items() if value is not None}
            raise ConfigurationError(f'The size is {seen}; expected {{"height": pixels, "width": pixels}}.')
        super()._check_values(**kwargs)
        check_crop(kwargs["face_margin"], kwargs["face_shift"])
        if kwargs["face_detector"] not in DETECTORS:
            raise ConfigurationError(
                f"There is no face detector {kwargs['face_detector']!r}; there is {', '.join(DETECTORS)}."
            )
        if not 0 < kwargs["detector_threshold"] < 1:
            raise ConfigurationError(f"detector_threshold is {kwargs['detector_threshold']}; expected between 0 and 1.")
        if kwargs["on_no_face"] not in _ON_NO_FACE:
            raise ConfigurationError(
                f"on_no_face is {kwargs['on_no_face']!r}; expected one of {', '.join(_ON_NO_FACE)}."
            )

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[tuple[Image.Image, str]]:
        """Read all pictures; each with what messages call it."""
        sources = list(_flatten(images))
        if not sources:
            raise InputError("An empty list was given; expected at least one picture.")
        return [(read_image(source), describe_source(source)) for source in sources]

    def _preprocess(self, images: list[tuple[Image.Image, str]], **kwargs: Any) -> BatchFeature:
        faces: list[Face | None] = [None] * len(images)
        pictures = [picture for picture, _ in images]
        if kwargs["do_find_face"]:
            for index, (picture, name) in enumerate(images):
                pictures[index], faces[index] = self._cut_out(picture, name, **kwargs)
        if kwargs["do_grayscale"]:
            pictures = [picture.convert("L") for picture in pictures]
        if kwargs["do_resize"]:
            size = (kwargs["size"].width, kwargs["size"].height)
            pictures = [one if one.size == size else one.resize(size, kwargs["resample"]) for one in pictures]
        elif len(sizes := {picture.size for picture in pictures}) > 1:
            raise InputError(
                f"The pictures have the sizes {sorted(sizes)} (width, height), which no batch can hold. Set do_resize=True, or "
                "pass pictures of one size."
            )
        batch = self._to_batch(pictures, **kwargs)
        if kwargs["return_faces"]:
            batch["faces"] = faces
        return batch

    def _cut_out(self, picture: Image.Image, name: str, **kwargs: Any) -> tuple[Image.Image, Face | None]:
        detector, threshold = str(kwargs["face_detector"]), float(kwargs["detector_threshold"])
        own = (detector, threshold) == (self.face_detector, self.detector_threshold)
        finder = self.face_finder if own else _finder(detector, threshold)
        try:
            face = finder.find_largest(picture, name)
        except FaceNotFoundError:
            if kwargs["on_no_face"] != "whole_image":
                raise
            logger.warning("No face was found in %s; the whole picture is taken for one.", name)
            return picture, None
        return self.cut_out(picture, face, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        fields = super().to_dict()
        fields.pop("_finder", None)
        return fields


@functools.cache
def _finder(detector: str, threshold: float) -> FaceFinder:
    """One finder for all processors of the same settings; its network is loaded once."""
    return FaceFinder(detector, threshold=threshold)


def _flatten(images: Any) -> Iterable[ImageSource]:
    """One picture after another, out of nested lists and batches of arrays."""
    if isinstance(images, list | tuple):
        for item in images:
            yield from _flatten(item)
    elif getattr(images, "ndim", 0) == 4 and hasattr(images, "dtype"):
        yield from images
    elif images is None or isinstance(images, bool | int | float):
        raise ImageError(
            f"{images!r} is no picture; expected a path, bytes, a PIL image, an array, a tensor, or a list of them."
        )
    else:
        yield images


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
        coarse: chance that the picture is made smaller and enlarged again, 0 to 1.
        coarse_side: smallest size that it is made, as a share of its own, above 0 to 1.
        noise: chance of Gaussian noise, the same on all channels, 0 to 1.
        noise_sigma: largest standard deviation of that noise, in grey levels, 0 to 100.
        jpeg: chance that the picture is compressed as a JPEG, 0 to 1.
        jpeg_quality: lowest quality of that JPEG, 1 to 95; the highest is 95.

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
    coarse: float = 0.0
    coarse_side: float = 0.4
    noise: float = 0.0
    noise_sigma: float = 20.0
    jpeg: float = 0.0
    jpeg_quality: float = 10.0

    def __post_init__(self) -> None:
        largest = {"rotation": 180.0, "zoom": 2.0, "stretch": 1.0, "shift": 0.5, "gamma": 3.0, "blur_radius": 20.0}
        largest |= {"noise_sigma": 100.0, "jpeg_quality": 95.0}
        for one in fields(self):
            value, limit = getattr(self, one.name), largest.get(one.name, 1.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
                raise ConfigurationError(
                    f"FaceAugmentation's {one.name} is {value!r}; expected a number from 0 to {limit:g}. 0 switches it off."
                )
        if (self.coarse and not self.coarse_side) or (self.jpeg and self.jpeg_quality < 1):
            raise ConfigurationError(
                f"FaceAugmentation's coarse_side is {self.coarse_side!r} and jpeg_quality {self.jpeg_quality!r}; expected more "
                "than 0, and 1 or more. Set coarse or jpeg to 0 to switch them off."
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
        poor = generator.random(6)

        image = self._move(image, mirrored=bool(chance[0] < self.mirror), around=around[:5])
        image = self._retouch(image, around[5:])
        if chance[1] < self.blur:
            image = image.filter(ImageFilter.BoxBlur(float(inside[0]) * self.blur_radius * image.width / 112))
        if chance[2] < self.erase:
            self._cover(image, inside[1:])
        return self._degrade(image, poor, generator)

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

    def _degrade(self, image: Image.Image, poor: np.ndarray, generator: np.random.Generator) -> Image.Image:
        """Few pixels, noise, compression: in the order in which a camera does it. Noise is drawn last of all."""
        if poor[0] < self.coarse:
            share = self.coarse_side + (1 - self.coarse_side) * poor[1]
            small = image.resize([max(1, round(share * side)) for side in image.size], Image.Resampling.BOX)
            image = small.resize(image.size, Image.Resampling.BILINEAR)
        if poor[2] < self.noise:
            pixels = np.asarray(image, np.float32)
            drawn = generator.standard_normal(pixels.shape[:2], np.float32) * np.float32(self.noise_sigma * poor[3])
            pixels = pixels + (drawn if pixels.ndim == 2 else drawn[..., None])
            image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        if poor[4] < self.jpeg:
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=round(self.jpeg_quality + (95 - self.jpeg_quality) * poor[5]))
            image = Image.open(stream)
            image.load()
        return image

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
