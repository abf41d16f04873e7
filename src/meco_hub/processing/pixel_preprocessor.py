"""`PixelPreprocessor`: what image processors of faces and of eyes have in common.

Notable:
- One class serves the Auto classes' "pil" and "torchvision" backends alike: it computes with Pillow and NumPy whether or not
  torchvision is installed, so a checkpoint sees the same pixels everywhere. Register it for both keys.
- 8-bit pixels go through a table of 256 entries per channel, computed in float64: rescaling and normalising cost one look-up.
- Fields are checked when they are set, those of one call too; a field that transformers knows and that would change nothing here is
  refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from ..configuration import NoRemoteCode
from ..errors import ConfigurationError, suggest
from .preprocessor import PublishedProcessor

# What transformers writes into a saved processor beside its fields.
_BOOKKEEPING = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map"}

_CONTRAST, _BRIGHTEST = 1e-3, 1e6
"""How far white lies above black at least, and how large a value is at most, where a network shall see a picture."""


class PixelPreprocessor(PublishedProcessor, NoRemoteCode, PilBackend):
    """Pictures to `pixel_values` (pictures, 3, height, width), float32.

    Its fields are constructor arguments, are saved by `save_pretrained`, and can be overridden for one call. A subclass reads
    pictures in `_prepare_image_like_inputs`, brings them to one size in `_preprocess`, and calls `_to_batch`.

    Attributes:
        fixed_fields: fields of transformers that would change the result and that this class does not have: the values that it
            stands for.
        fixed_because: what it does instead, for the message.

    Raises:
        ConfigurationError: a field is unknown or makes no sense.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' own annotation-free convention)

    do_convert_rgb = True
    do_resize = True
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)

    fixed_fields: ClassVar[dict[str, tuple[Any, ...]]] = {
        "do_convert_rgb": (None, True),
        "do_pad": (None, False),
        "data_format": (None, "channels_first"),
        "input_data_format": (None,),
        "return_tensors": (None, "pt", "np"),
    }
    fixed_because: ClassVar[str]

    def __init__(self, **kwargs: Unpack[ImagesKwargs]) -> None:
        super().__init__(**self._validate_fields(kwargs))
        self._check_values(**{key: getattr(self, key) for key in self._valid_kwargs_names})

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Turn one picture or a list of them into a batch.

        Args:
            images: what `read_image` reads, or a list of it.
            return_tensors: "pt" or "np"; None gives a list of arrays (3, height, width).
            kwargs: fields to override for this call.

        Raises:
            InputError: an empty list.
            ImageError: a picture that cannot be read; the message names it.
            ConfigurationError: an override is unknown or makes no sense.
        """
        if args:
            raise ConfigurationError(
                f"{type(self).__name__} takes pictures and keyword arguments; got {len(args)} more."
            )
        given = {name: value for name, value in kwargs.items() if value is not None}
        return super().preprocess(images, **self._validate_fields(given))

    def _validate_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given fields in the forms that transformers knows, or an error about the first that is unknown or mistyped."""
        schema: Any = self.valid_kwargs
        known = schema.__annotations__
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known and name not in _BOOKKEEPING:
                own = sorted(key for key in known if hasattr(type(self), key) and key not in self.fixed_fields)
                raise ConfigurationError(
                    f"{type(self).__name__} has no field {name!r}.{suggest(name, known, 1)} It has {', '.join(own)}."
                )
            if isinstance(value, SizeDict):  # comes back when a processor is built from another one's fields
                value = {key: edge for key, edge in dict(value).items() if edge is not None}
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
        for name, allowed in self.fixed_fields.items():
            value = kwargs.get(name)
            if getattr(value, "value", value) not in allowed:
                raise ConfigurationError(
                    f"{type(self).__name__} does not know {name}={value!r}: {self.fixed_because}. Leave it out."
                )
        self._check_values(**kwargs)

    def _check_values(self, **kwargs: Any) -> None:
        """Raise ConfigurationError where one of all fields makes no sense, by itself or beside another."""
        if kwargs["do_rescale"] and kwargs["rescale_factor"] is None:
            raise ConfigurationError("do_rescale is set and rescale_factor is None; expected a number, such as 1/255.")
        if kwargs["do_normalize"]:
            mean, std = _three(kwargs["image_mean"], "image_mean"), _three(kwargs["image_std"], "image_std")
            if not np.isfinite(mean).all() or not np.isfinite(std).all() or not (std > 0).all():
                raise ConfigurationError(
                    f"image_mean {mean} and image_std {std} must be finite, and the latter positive."
                )
        # any other factor or deviation shows the network one colour, for which it answers all the same
        with np.errstate(all="ignore"):
            black, white = _pixel_tables(kwargs)[:, [0, -1]].T
        if not (np.abs([black, white]) <= _BRIGHTEST).all() or not (white - black >= _CONTRAST).all():
            raise ConfigurationError(
                f"rescale_factor, image_mean and image_std make {black.max():g} of black and {white.min():g} of white; expected "
                f"finite numbers up to {_BRIGHTEST:g}, white the larger one by {_CONTRAST:g} at least. Correct them."
            )

    def _to_batch(self, pictures: Sequence[Image.Image], **kwargs: Any) -> BatchFeature:
        """Pictures of one size, in grey or RGB, to `pixel_values`; grey is repeated on three channels."""
        tables = _pixel_tables(kwargs)
        pixels = np.empty((len(pictures), 3, pictures[0].height, pictures[0].width), np.float32)
        for picture, planes in zip(pictures, pixels, strict=True):
            values = np.atleast_3d(np.asarray(picture))  # (H, W, 1 or 3), uint8
            for channel, (table, plane) in enumerate(zip(tables, planes, strict=True)):
                # There is nothing to clip in 8 bits; the mode spares numpy a buffer.
                np.take(table, values[..., channel % values.shape[2]], out=plane, mode="clip")
        wanted = kwargs["return_tensors"]
        return BatchFeature({"pixel_values": pixels if wanted else list(pixels)}, tensor_type=wanted)


def _pixel_tables(fields: Mapping[str, Any]) -> NDArray[np.float32]:
    """(3, 256) what each 8-bit value becomes in each channel."""
    table = np.broadcast_to(np.arange(256, dtype=np.float64), (3, 256))
    if fields["do_rescale"]:
        table = table * fields["rescale_factor"]
    if fields["do_normalize"]:
        mean, std = _three(fields["image_mean"], "image_mean"), _three(fields["image_std"], "image_std")
        table = (table - mean[:, None]) / std[:, None]
    return np.ascontiguousarray(table, np.float32)


def _three(values: Any, name: str) -> NDArray[np.float64]:
    """One value per channel."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    if array.shape not in ((1,), (3,)):
        raise ConfigurationError(f"{name} is {values}; expected one number or three, one per channel.")
    return np.broadcast_to(array, (3,))
