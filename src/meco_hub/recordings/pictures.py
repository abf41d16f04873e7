"""Sequences of pictures that are decoded when they are asked for: files, zip members, arrays; video files in `video.py`.

    pictures = as_pictures(["00000.jpg", "00001.jpg", …], "frames")     # nothing is read
    pictures = as_pictures(array, "frames")                             # (T, H, W), (T, H, W, 3) or (T, H, W, 1)
    pictures.read([0, 12])                                              # two PIL images
    pictures.loaded("frames")                                           # all of them decoded, as one array

This file knows how pictures in a row are held; it does not know what they show or when they were taken.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, RecordingError
from .images import ImageSource, describe_source, read_image

__all__ = ["PictureArray", "PictureFiles", "Pictures", "as_pictures"]

PictureChange = Callable[[Image.Image, int], Image.Image]
"""Changes one picture, given its place in the sequence."""


class Pictures(ABC):
    """Pictures in a row, decoded on demand."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def read(self, places: Sequence[int]) -> list[Image.Image]:
        """The pictures at these places (0 ≤ place < len), in the order asked for; mode RGB, or L where that is known to be enough.

        Raises:
            ImageError: one cannot be read; the message names it.
            RecordingError: there is no such place, or the file that holds them all cannot be read.
        """

    def changed(self, change: PictureChange) -> "Pictures":
        """The same pictures, each changed when it is read."""
        return _ChangedPictures(self, change)

    def loaded(self, stream: str) -> "PictureArray":
        """The same pictures, decoded: (T, H, W) uint8 where all are grey, else (T, H, W, 3).

        Args:
            stream: what messages call them.

        Raises:
            ImageError: one cannot be read; the message names it.
            RecordingError: they differ in size.
        """
        pictures = self.read(range(len(self)))
        sizes = sorted({picture.size for picture in pictures})
        if len(sizes) > 1:
            raise RecordingError(f"The {stream} have the sizes {sizes} (width, height); expected one. Make them alike.")
        arrays = [np.asarray(picture) for picture in pictures]
        grey = all(one.ndim == 2 or (one == one[..., :1]).all() for one in arrays)
        if grey:
            return PictureArray(np.stack([one if one.ndim == 2 else one[..., 0] for one in arrays]))
        return PictureArray(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))

    def _check(self, places: Sequence[int]) -> None:
        outside = [place for place in places if not 0 <= place < len(self)]
        if outside:
            raise RecordingError(
                f"Picture {outside[0]} was asked for; the sequence has {len(self)}, counted from 0. Ask for one of these."
            )


class PictureFiles(Pictures):
    """Pictures that lie one by one: paths, zip members, encoded bytes, PIL images, arrays."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        return [read_image(self.sources[place]) for place in places]


class PictureArray(Pictures):
    """Pictures in one array: (T, H, W), (T, H, W, 1) or (T, H, W, 3), uint8 or floating point in [0, 1]."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
        if self.values.ndim not in (3, 4) or (self.values.ndim == 4 and self.values.shape[-1] != 3):
            raise ImageError(
                f"{describe_source(values)} is no sequence of pictures; expected (T, H, W), (T, H, W, 1) or (T, H, W, 3). "
                "Put time first and channels last."
            )

    def __len__(self) -> int:
        return len(self.values)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        grey = self.values.ndim == 3 and self.values.dtype == np.uint8 and min(self.values.shape[1:]) > 0
        return [Image.fromarray(one) if grey else read_image(one) for one in (self.values[place] for place in places)]


class _ChangedPictures(Pictures):
    def __init__(self, inner: Pictures, change: PictureChange) -> None:
        self._inner, self._change = inner, change

    def __len__(self) -> int:
        return len(self._inner)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        return [self._change(one, place) for one, place in zip(self._inner.read(places), places, strict=True)]


def as_pictures(source: Any, stream: str) -> Pictures:
    """Whatever holds pictures in a row, as `Pictures`.

    Args:
        source: `Pictures`; an array (T, H, W[, C]) or tensor; a sequence of what `read_image` reads.
        stream: what messages call it ("frames", "events").

    Raises:
        RecordingError: it is none of these, or empty.
    """
    if isinstance(source, Pictures):
        pictures = source
    elif hasattr(source, "shape") and hasattr(source, "dtype"):
        try:
            pictures = PictureArray(np.asarray(source))
        except ImageError as error:
            raise RecordingError(f"The {stream} cannot be used: {error}") from error
    elif isinstance(source, Sequence) and not isinstance(source, str | bytes | bytearray):
        pictures = PictureFiles(source)
    else:
        raise RecordingError(
            f"The {stream} are {describe_source(source)}; expected pictures in a row: a list of paths, of images or of arrays, "
            "or one array (T, H, W) or (T, H, W, 3)."
        )
    if not len(pictures):
        raise RecordingError(f"The {stream} are empty; expected one picture or more.")
    return pictures
