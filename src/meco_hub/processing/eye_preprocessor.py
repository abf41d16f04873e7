"""From pictures of one eye to pixel tensors: the image processor that is saved beside the weights.

Notable:
- The shorter side is resized to `size`, keeping the proportions, by Pillow's bilinear filter, which averages when it makes a
  picture smaller; then the middle square is cut out. Both are what torchvision's Resize and CenterCrop do to a PIL image.
- Pictures become grey (ITU-R 601 luma), which changes nothing in grey ones, and the grey is repeated on three channels.
- 8-bit pixels go through a table of 256 entries, computed in float64: rescaling and normalising cost one look-up.
- One class serves the Auto classes' "pil" and "torchvision" backends alike; register it for both keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args

import numpy as np
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from ..configuration import NoRemoteCode
from ..errors import ConfigurationError, InputError, RecordingError, suggest
from ..recordings.eye_clips import EyeClip
from ..recordings.images import read_image
from .preprocessor import PublishedProcessor, check_pixel_fields, pixel_tables

FIELDS = ("size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "do_grayscale")
"""The fields of `EyePreprocessor`."""

# What transformers writes into a saved processor beside its fields.
_BOOKKEEPING = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map"}
# Fields of transformers' processors that would change the result and that this one does not have: the values it stands for.
_FIXED: dict[str, tuple[Any, ...]] = {
    "do_convert_rgb": (None, True),
    "do_resize": (None, True),
    "do_center_crop": (None, True),
    "do_pad": (None, False),
    "data_format": (None, "channels_first"),
    "input_data_format": (None,),
    "return_tensors": (None, "pt", "np"),
}


class EyePreprocessorKwargs(ImagesKwargs, total=False):
    """The field of `EyePreprocessor` beside those of transformers' image processors.

    Attributes:
        do_grayscale: make the picture grey and repeat it on three channels; else its three channels are kept.
    """

    do_grayscale: bool | None


class EyePreprocessor(PublishedProcessor, NoRemoteCode, PilBackend):
    """Pictures of eyes to `pixel_values` (pictures, 3, S, S), float32, where S is the size's shortest edge.

    Its fields are constructor arguments, are saved by `save_pretrained`, and can be overridden for one call.

    Raises:
        ConfigurationError: a field is unknown or makes no sense.
    """

    valid_kwargs = EyePreprocessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' own annotation-free convention)

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 100}  # noqa: RUF012
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    do_grayscale = True

    def __init__(self, **kwargs: Unpack[EyePreprocessorKwargs]) -> None:
        super().__init__(**self._checked(kwargs))
        self._check_values(**{key: getattr(self, key) for key in FIELDS})

    def preprocess(self, images: Any, *args: Any, **kwargs: Unpack[EyePreprocessorKwargs]) -> BatchFeature:
        """Turn one picture or a list of them into a batch.

        Args:
            images: what `read_image` reads, or a list of it.
            return_tensors: "pt" or "np"; None gives a list of arrays (3, S, S).
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
        return super().preprocess(images, **self._checked(given))

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[Image.Image]:
        sources = images if isinstance(images, list | tuple) else [images]
        if not sources:
            raise InputError("An empty list was given; expected at least one picture.")
        # what is grey already stays so: making three channels of it, and one of them again, gives the same numbers
        return [one if isinstance(one, Image.Image) and one.mode == "L" else read_image(one) for one in sources]

    def _preprocess(self, images: list[Image.Image], **kwargs: Any) -> BatchFeature:
        side = int(kwargs["size"].shortest_edge)
        tables = pixel_tables(kwargs)
        pixels = np.empty((len(images), 3, side, side), np.float32)
        for picture, planes in zip(images, pixels, strict=True):
            coloured = picture.convert("L") if kwargs["do_grayscale"] or picture.mode == "L" else picture
            values = np.atleast_3d(np.asarray(fit_square(coloured, side, kwargs["resample"])))  # (S, S, 1 or 3), uint8
            for channel, (table, plane) in enumerate(zip(tables, planes, strict=True)):
                # There is nothing to clip in 8 bits; the mode spares numpy a buffer.
                np.take(table, values[..., channel % values.shape[2]], out=plane, mode="clip")
        wanted = kwargs["return_tensors"]
        return BatchFeature({"pixel_values": pixels if wanted else list(pixels)}, tensor_type=wanted)

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given fields in the forms that transformers knows, or an error about the first that is unknown or mistyped."""
        schema: Any = self.valid_kwargs
        known = schema.__annotations__
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known and name not in _BOOKKEEPING:
                raise ConfigurationError(
                    f"{type(self).__name__} has no field {name!r}.{suggest(name, FIELDS)} It has {', '.join(FIELDS)}."
                )
            if isinstance(value, SizeDict):  # comes back when a processor is built from another one's fields
                value = {key: edge for key, edge in dict(value).items() if edge is not None}
            elif name in ("image_mean", "image_std", "rescale_factor") and value is not None:
                value = np.asarray(value, np.float64).tolist()  # transformers takes floats only, people write 0 and 1
            elif name == "size" and isinstance(value, int) and not isinstance(value, bool):
                value = {"shortest_edge": value}
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
                    f"{type(self).__name__} does not know {name}={value!r}: it gives the middle square of every picture, channels "
                    'first, as "pt", "np" or a list. Leave it out.'
                )
        self._check_values(**kwargs)

    def _check_values(self, **kwargs: Any) -> None:
        size = dict(kwargs["size"] or {})
        edge = size.get("shortest_edge")
        if (
            not isinstance(edge, int)
            or edge < 1
            or any(value is not None for key, value in size.items() if key != "shortest_edge")
        ):
            seen = {key: value for key, value in size.items() if value is not None}
            raise ConfigurationError(f'The size is {seen}; expected {{"shortest_edge": pixels}}.')
        check_pixel_fields(kwargs)


def fit_square(picture: Image.Image, side: int, resample: int = PILImageResampling.BILINEAR) -> Image.Image:
    """The middle square of a picture whose shorter side was made `side` pixels long; `picture` itself if it is that already."""
    width, height = picture.size
    short, long = sorted((width, height))
    if short != side:
        far = int(side * long / short)  # truncated, as torchvision does
        width, height = (side, far) if width <= height else (far, side)
        picture = picture.resize((width, height), Image.Resampling(int(resample)))
    if width == height:
        return picture
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture.crop((left, top, left + side, top + side))


# --- Clip sampling ----------------------------------------------------------------------------------------------------
# Which time steps of a clip are looked at: a few, evenly apart, from a random or a fixed start.
#
#     sampling = ClipSampling(num_frames=4, stride=4, sampling="legacy")
#     sampling(clip, generator)          # in training and in repeated evaluation: a random start, as a clip with `chosen` steps
#     sampling.centered(clip)            # where the answer must not depend on chance: the window in the middle
#
# "legacy" draws as the code does that the published figures come from, oddities included:
# - A phase is drawn from 0 … stride, inclusive, one value too many: phase `stride` is phase 0 without its first frame.
# - Of the n frames that phase keeps, the first of the window is drawn from 0 … max(0, n − num_frames − 1), inclusive: where there
#   is any choice, the last possible window is never drawn.
# - Where fewer than num_frames are kept, they are repeated from the beginning.
#
# "uniform" draws every window of num_frames frames, `stride` apart, with the same probability, and refuses clips that are
# too short.

Rule = Literal["legacy", "uniform", "center"]
RULES: tuple[str, ...] = get_args(Rule)


@dataclass(frozen=True)
class ClipSampling:
    """Chooses time steps of a clip: `sampling(clip, generator) -> clip`; usable as a recipe's augmentation.

    Attributes:
        num_frames: how many are chosen.
        stride: distance between two of them, in frames.
        sampling: "legacy" or "uniform", see the module; "center" chooses the middle window whatever the generator.

    Raises:
        ConfigurationError: a value makes no sense.
    """

    num_frames: int = 4
    stride: int = 4
    sampling: str = "legacy"

    def __post_init__(self) -> None:
        for key in ("num_frames", "stride"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"ClipSampling's {key} is {value!r}; expected a whole number from 1 on.")
        if self.sampling not in RULES:
            raise ConfigurationError(f"ClipSampling's sampling is {self.sampling!r}; expected {', '.join(RULES)}.")

    @property
    def span(self) -> int:
        """Frames from the first chosen one to the last, both included."""
        return (self.num_frames - 1) * self.stride + 1

    def __call__(self, clip: EyeClip, generator: np.random.Generator) -> EyeClip:
        """The clip with time steps chosen at random, the same for frames and events.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.draw(len(clip), generator, clip.called))

    def centered(self, clip: EyeClip) -> EyeClip:
        """The clip with its middle window chosen.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.center(len(clip), clip.called))

    def draw(self, length: int, generator: np.random.Generator, called: str = "the clip") -> list[int]:
        """Time steps of a clip of `length` steps, drawn by the rule.

        Raises:
            RecordingError: the clip is too short.
        """
        if self.sampling == "legacy":
            return self._draw_legacy(length, generator, called)
        if self.sampling == "center":
            return self.center(length, called)
        self._check(length, called)
        return self._window(int(generator.integers(0, length - self.span + 1)))

    def center(self, length: int, called: str = "the clip") -> list[int]:
        """Time steps of the middle window; half a step before the middle where it cannot be met.

        Raises:
            RecordingError: the clip is too short.
        """
        self._check(length, called)
        return self._window((length - self.span) // 2)

    def _draw_legacy(self, length: int, generator: np.random.Generator, called: str) -> list[int]:
        phase = int(generator.integers(0, self.stride + 1))
        kept = list(range(phase, length, self.stride))
        if not kept:
            raise RecordingError(
                f"{called} has {length} time steps; the sampler begins at step {phase}. Expected {self.stride + 1} or more. "
                "Record longer."
            )
        begin = int(generator.integers(0, max(0, len(kept) - self.num_frames - 1) + 1))
        window = kept[begin : begin + self.num_frames]
        return [window[place % len(window)] for place in range(self.num_frames)]

    def _window(self, start: int) -> list[int]:
        return list(range(start, start + self.span, self.stride))

    def _check(self, length: int, called: str) -> None:
        if length < self.span:
            raise RecordingError(
                f"{called} has {length} time steps; expected {self.span} or more, for {self.num_frames} frames that lie "
                f"{self.stride} apart. Record longer, or use a processor with a smaller stride."
            )
