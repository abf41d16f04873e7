"""From pictures of faces to pixel tensors: the image processor that is saved beside the weights.

Notable:
- One class serves the Auto classes' "pil" and "torchvision" backends alike: it computes with Pillow and NumPy whether or not
  torchvision is installed, so a checkpoint sees the same pixels everywhere. Register it for both keys.
- It takes whatever `read_image` reads, one or a list, nested or not, and raises our errors.
- Pictures are resized by Pillow's bilinear filter, which averages when it makes a picture smaller; OpenCV's, which many
  authors trained with, skips pixels then and aliases. Enlarging, the two agree to a grey level. Half a face's detail lies in
  edges that aliasing would invent, hence Pillow.
- 8-bit pixels go through a table of 256 entries per channel, computed in float64: rescaling and normalising cost one look-up.
- The picture is taken for a face already unless `do_find_face` is set; then the most prominent face is cut out of it.

This file knows how a face becomes numbers; it does not know which network reads them.
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import numpy as np
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from ..errors import ConfigurationError, FaceNotFoundError, ImageError, InputError
from ..installed_code import InstalledSettings
from ..recordings.images import ImageSource, describe_source, read_image
from .face_finder import DETECTORS, Face, FaceFinder, check_crop, crop_face
from .pixel_tables import check_pixel_fields, pixel_tables
from .publication import PublishedProcessor

logger = logging.getLogger(__name__)

_ON_NO_FACE = ("error", "whole_image")
# What transformers writes into a saved processor beside its fields.
_BOOKKEEPING = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map"}
# Fields of transformers' processors that would change the result and that this one does not have: the value it stands for.
_FIXED: dict[str, tuple[Any, ...]] = {
    "do_convert_rgb": (None, True),
    "do_center_crop": (None, False),
    "do_pad": (None, False),
    "data_format": (None, "channels_first"),
    "input_data_format": (None,),
    "return_tensors": (None, "pt", "np"),
}


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
        on_no_face: "error", or "whole_image", which logs a warning and takes the picture as it is.
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


class FacePreprocessor(PublishedProcessor, InstalledSettings, PilBackend):
    """Pictures of faces to `pixel_values` (batch, 3, height, width), float32, RGB.

    Its fields are constructor arguments, are saved by `save_pretrained`, and can be overridden for one call.

    Raises:
        ConfigurationError: a field is unknown or makes no sense.
    """

    valid_kwargs = FacePreprocessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' own annotation-free convention)

    do_convert_rgb = True
    do_resize = True
    size = {"height": 224, "width": 224}  # noqa: RUF012
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = False
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    do_grayscale = False
    do_find_face = False
    face_margin = 0.1
    face_square = True
    face_shift = 0.0
    face_detector = "yunet"
    detector_threshold = 0.7
    on_no_face = "error"

    def __init__(self, **kwargs: Unpack[FacePreprocessorKwargs]) -> None:
        super().__init__(**self._checked(kwargs))
        self._check_values(**{key: getattr(self, key) for key in self._valid_kwargs_names})
        self._finder: FaceFinder | None = None

    @property
    def face_finder(self) -> FaceFinder:
        """The finder that `do_find_face` uses. Assign another one to use another model file; it is not saved."""
        if self._finder is None:
            self._finder = FaceFinder(str(self.face_detector), threshold=float(self.detector_threshold))
        return self._finder

    @face_finder.setter
    def face_finder(self, finder: FaceFinder | None) -> None:
        self._finder = finder

    def crop_to_face(self, image: Image.Image, face: Face) -> Image.Image:
        """The part of a picture that this processor's network wants to see of a face: `crop_face` with its fields."""
        return crop_face(image, face.box, self.face_margin, square=self.face_square, shift=self.face_shift)

    def preprocess(self, images: Any, *args: Any, **kwargs: Unpack[FacePreprocessorKwargs]) -> BatchFeature:
        """Turn one picture, or any nesting of lists of them, or a 4-D array or tensor, into a batch.

        Args:
            images: what `read_image` reads, or lists of it.
            return_tensors: "pt" or "np"; None gives a list of arrays (3, height, width).
            kwargs: fields to override for this call.

        Returns:
            BatchFeature with `pixel_values`, and "faces" when `return_faces` is set.

        Raises:
            InputError: an empty list, or pictures that differ in size while `do_resize` is off.
            ImageError: a picture that cannot be read; the message names it.
            FaceNotFoundError: `do_find_face` is set and there is none.
            ConfigurationError: an override is unknown or makes no sense.
        """
        if args:
            raise ConfigurationError(
                f"{type(self).__name__} takes pictures and keyword arguments; got {len(args)} more."
            )
        given = {name: value for name, value in kwargs.items() if value is not None}
        return super().preprocess(images, **self._checked(given))

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
        if kwargs["do_resize"]:
            height, width = kwargs["size"].height, kwargs["size"].width
        else:
            width, height = pictures[0].size
            if any(picture.size != (width, height) for picture in pictures):
                raise InputError(
                    f"The pictures have the sizes {sorted({picture.size for picture in pictures})} (width, height), which no "
                    "batch can hold. Set do_resize=True, or pass pictures of one size."
                )
        tables = pixel_tables(kwargs)
        pixels = np.empty((len(pictures), 3, height, width), np.float32)
        for picture, planes in zip(pictures, pixels, strict=True):
            grey = picture.convert("L") if kwargs["do_grayscale"] else picture
            if grey.size != (width, height):
                grey = grey.resize((width, height), kwargs["resample"])
            values = np.atleast_3d(np.asarray(grey))  # (H, W, 1 or 3), uint8
            for channel, (table, plane) in enumerate(zip(tables, planes, strict=True)):
                # There is nothing to clip in 8 bits; the mode spares numpy a buffer.
                np.take(table, values[..., channel % values.shape[2]], out=plane, mode="clip")
        wanted = kwargs["return_tensors"]
        batch = BatchFeature({"pixel_values": pixels if wanted else list(pixels)}, tensor_type=wanted)
        if kwargs["return_faces"]:
            batch["faces"] = faces
        return batch

    def _cut_out(self, picture: Image.Image, name: str, **kwargs: Any) -> tuple[Image.Image, Face | None]:
        detector, threshold = str(kwargs["face_detector"]), float(kwargs["detector_threshold"])
        own = (detector, threshold) == (self.face_detector, self.detector_threshold)
        finder = self.face_finder if own else FaceFinder(detector, threshold=threshold)
        try:
            face = finder.find_largest(picture, name)
        except FaceNotFoundError:
            if kwargs["on_no_face"] != "whole_image":
                raise
            logger.warning("No face was found in %s; the whole picture is taken for one.", name)
            return picture, None
        crop = crop_face(
            picture, face.box, kwargs["face_margin"], square=kwargs["face_square"], shift=kwargs["face_shift"]
        )
        return crop, face

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given fields in the forms that transformers knows, or an error about the first that is unknown or mistyped."""
        schema: Any = self.valid_kwargs
        known = schema.__annotations__
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known and name not in _BOOKKEEPING:
                near = difflib.get_close_matches(name, known, n=1)
                offer = f" Did you mean {near[0]!r}?" if near else ""
                listing = ", ".join(sorted(field for field in known if hasattr(type(self), field)))
                raise ConfigurationError(f"{type(self).__name__} has no field {name!r}.{offer} It has {listing}.")
            if isinstance(value, SizeDict):  # comes back when a processor is built from another one's fields
                value = dict(value)
            elif name in ("image_mean", "image_std", "rescale_factor") and value is not None:
                value = np.asarray(value, np.float64).tolist()  # transformers takes floats only, people write 0 and 1
            fields[name] = value
        try:
            validate_typed_dict(schema, {name: value for name, value in fields.items() if name in known})
        except StrictDataclassError as error:
            raise ConfigurationError(f"A field of {type(self).__name__} has a wrong value. {error}") from error
        return fields

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        """Called by transformers with the fields and the call's overrides together."""
        for name, allowed in _FIXED.items():
            value = kwargs.get(name)
            if getattr(value, "value", value) not in allowed:
                raise ConfigurationError(
                    f"{type(self).__name__} does not know {name}={value!r}: it gives RGB, channels first, resized as a whole, "
                    'as "pt", "np" or a list, and reads the layout of arrays from their shape. Leave it out.'
                )
        self._check_values(**kwargs)

    def _check_values(self, **kwargs: Any) -> None:
        size = kwargs["size"]
        if kwargs["do_resize"] and (not size or not size.height or not size.width or min(size.height, size.width) < 1):
            seen = size and {key: value for key, value in dict(size).items() if value is not None}
            raise ConfigurationError(f'The size is {seen}; expected {{"height": pixels, "width": pixels}}.')
        check_pixel_fields(kwargs)
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

    def to_dict(self) -> dict[str, Any]:
        fields = super().to_dict()
        fields.pop("_finder", None)
        return fields


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
