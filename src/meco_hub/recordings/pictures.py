"""Sequences of pictures that are decoded when they are asked for: files, zip members, arrays, videos.

    pictures = as_pictures(["00000.jpg", "00001.jpg", …], "frames")     # nothing is read
    pictures = as_pictures(array, "frames")                             # (T, H, W), (T, H, W, 3) or (T, H, W, 1)
    pictures = read_video("eye.mp4")                                    # with pictures.times, (T,) int64 µs since its beginning
    pictures.read([0, 12])                                              # two PIL images
    pictures.loaded("frames")                                           # all of them decoded, as one array

OpenCV decodes videos (extra `video`; Apache-2.0, with FFmpeg under the LGPL). They are read from their beginning in one go,
because seeking lands on other frames than asked for in many files. What a header says of its file's length is not believed;
frames are counted.
"""

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, RecordingError, import_optional
from ..reading import reading
from .images import RANGE, ImageSource, describe_source, read_image

logger = logging.getLogger(__name__)


_CAMERAS = {".3g2", ".3gp", ".f4v", ".flv", ".m2ts", ".m4v", ".mov", ".mp4", ".mts", ".vob"}
_COMPUTERS = {".asf", ".avi", ".mkv", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv", ".y4m"}

VIDEO_SUFFIXES = frozenset(_CAMERAS | _COMPUTERS)
"""Endings, in lower case, by which a file counts as a video."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg,mjpeg,h264,hevc,ivf,nut,yuv4mpegpipe"
)
"""Containers, by FFmpeg's names, that hold what they show; others (concat, hls, dash, …) name further files."""

_OPTIONS, _OPENING = "OPENCV_FFMPEG_CAPTURE_OPTIONS", threading.Lock()

MAX_FRAMES = 2_000_000
"""Eighteen hours at 30 frames a second; a file that goes on longer is not read to its end."""

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


def _read_frame(source: ImageSource) -> Image.Image:
    """One of several pictures, all of which must be as bright as they are in their files."""
    image = read_image(source)
    if RANGE in image.info:
        raise ImageError(
            f"{describe_source(source)}, a frame of several: {image.info[RANGE]} Scale all frames alike, as each by itself would "
            "flicker."
        )
    return image


class PictureFiles(Pictures):
    """Pictures that lie one by one: paths, zip members, encoded bytes, PIL images, arrays."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        return [_read_frame(self.sources[place]) for place in places]


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
        return [Image.fromarray(one) if grey else _read_frame(one) for one in (self.values[place] for place in places)]


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


class VideoPictures(Pictures):
    """The frames of a video file; made by `read_video`.

    Attributes:
        path: the file.
        times: (T,) int64 microseconds of each frame, increasing; 0 is the file's own beginning.
    """

    def __init__(self, path: str, times: NDArray[np.int64]) -> None:
        self.path = path
        self.times = times
        self._lock = threading.Lock()
        self._capture: Any = (
            None  # open, and about to give frame `_next`: windows of a long clip are read one after another
        )
        self._next = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "times": self.times}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __len__(self) -> int:
        return len(self.times)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        with reading(f"{self.path} cannot be read as a video", RecordingError, "Copy or export it again."):
            return self._decode(places)

    def _decode(self, places: Sequence[int]) -> list[Image.Image]:
        wanted = set(places)
        found: dict[int, Image.Image] = {}
        cv2 = _opencv()
        with self._lock:
            if self._capture is None or min(wanted, default=0) < self._next:
                self._capture, self._next = _open(self.path), 0
            for place in range(self._next, max(wanted, default=-1) + 1):
                if not self._capture.grab():
                    raise RecordingError(
                        f"{self.path} ends before frame {place}, of {len(self)} counted before. Was it changed?"
                    )
                self._next = place + 1
                if place in wanted:
                    fine, pixels = self._capture.retrieve()
                    if not fine:
                        raise RecordingError(
                            f"Frame {place} of {self.path} cannot be decoded. Copy or export the video again."
                        )
                    grey = pixels.ndim == 2
                    found[place] = Image.fromarray(pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            if self._next == len(self):
                self._capture = None  # read to its end, and closed
        return [found[place] for place in places]


def read_video(path: str | os.PathLike[str]) -> VideoPictures:
    """Count the frames of a video file and note their times; no picture is kept.

    Args:
        path: a file in any container that FFmpeg reads.

    Raises:
        RecordingError: there is no such file, it is no video, it has no frame, or it never ends.
        DependencyError: OpenCV is missing.
    """
    name = os.fspath(path)
    with reading(f"{name} cannot be read as a video", RecordingError, "Copy or export it again."):
        return _read_video(name)


def _read_video(name: str) -> VideoPictures:
    if not Path(name).is_file():
        raise RecordingError(f"There is no video file {name}. Check the path.")
    cv2 = _opencv()
    capture = _open(name)
    seconds: list[float] = []
    most = min(MAX_FRAMES, Path(name).stat().st_size)  # every frame takes a byte at least
    try:
        while len(seconds) <= most and capture.grab():
            seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if not seconds:
        raise RecordingError(f"{name} holds no frame that can be decoded; expected a video. Copy or export it again.")
    if len(seconds) > most:
        raise RecordingError(f"{name} has more than {most} frames, or bytes. Cut it into parts.")
    return VideoPictures(name, _times(seconds, rate, name))


def _times(seconds: list[float], rate: float, name: str) -> NDArray[np.int64]:
    times = np.rint(np.asarray(seconds) * 1e6)
    if np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times.astype(np.int64)
    # Some containers (raw streams, badly cut files) carry no time stamps or repeat them; a frame rate is all they have.
    if not 0 < rate < 100_000:
        raise RecordingError(f"{name} has neither usable time stamps nor a frame rate. Export it as mp4 or mkv.")
    logger.warning("%s has no increasing time stamps; its frames are taken as %.6g a second.", name, rate)
    return np.rint(np.arange(len(seconds)) * 1e6 / rate).astype(np.int64)


def _open(name: str) -> Any:
    cv2 = _opencv()
    # FFmpeg only: other back ends would take a pattern of file names, or a camera's number, for a file
    path = str(Path(name).absolute())  # of a bare name FFmpeg takes what stands before a colon for a protocol
    try:
        path.encode()
    except UnicodeEncodeError as error:  # at which OpenCV takes the whole process down
        raise RecordingError(f"{name} has a name that is no UTF-8, which OpenCV cannot open. Rename it.") from error
    with _OPENING:  # OpenCV takes FFmpeg's options from there alone
        before = os.environ.get(_OPTIONS)
        os.environ[_OPTIONS] = f"protocol_whitelist;file|format_whitelist;{CONTAINERS}"
        try:
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        finally:
            os.environ.pop(_OPTIONS)
            if before is not None:
                os.environ[_OPTIONS] = before
    if not capture.isOpened():
        capture.release()
        raise RecordingError(
            f"{name} ({Path(name).stat().st_size} bytes) is not a video that can be read. Expected mp4, mkv, avi or another "
            "container that FFmpeg knows. Copy or export it again."
        )
    return capture


def _opencv() -> Any:
    return import_optional("cv2", "Reading video files", "video", "OpenCV")
