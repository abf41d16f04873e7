"""Video files as sequences of pictures with times.

    video = read_video("eye.mp4")
    len(video), video.times                   # how many frames; (T,) int64 µs, 0 is the file's own beginning
    video.read([0, 12])                       # two PIL images

OpenCV decodes (extra `video`; Apache-2.0, with FFmpeg under the LGPL). Files are read from their beginning in one go, because
seeking lands on other frames than asked for in many files. What a header says of its file's length is not believed; frames are
counted.

This file knows video files; it does not know what they show.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DependencyError, RecordingError
from .pictures import Pictures

__all__ = ["VIDEO_SUFFIXES", "VideoPictures", "read_video"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".m4v", ".mpeg", ".mpg", ".webm", ".wmv", ".ts"})
"""Endings, in lower case, by which a file counts as a video."""

MAX_FRAMES = 2_000_000
"""Eighteen hours at 30 frames a second; a file that goes on longer is not read to its end."""


class VideoPictures(Pictures):
    """The frames of a video file; made by `read_video`.

    Attributes:
        path: the file.
        times: (T,) int64 microseconds of each frame, increasing; 0 is the file's own beginning.
    """

    def __init__(self, path: str, times: NDArray[np.int64]) -> None:
        self.path = path
        self.times = times

    def __len__(self) -> int:
        return len(self.times)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        wanted = set(places)
        found: dict[int, Image.Image] = {}
        cv2 = _opencv()
        capture = _open(self.path)
        try:
            for place in range(max(wanted, default=-1) + 1):
                if not capture.grab():
                    raise RecordingError(
                        f"{self.path} ends before frame {place}, of {len(self)} counted before. Was it changed?"
                    )
                if place in wanted:
                    fine, pixels = capture.retrieve()
                    if not fine:
                        raise RecordingError(
                            f"Frame {place} of {self.path} cannot be decoded. Copy or export the video again."
                        )
                    grey = pixels.ndim == 2
                    found[place] = Image.fromarray(pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        finally:
            capture.release()
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
    if not Path(name).is_file():
        raise RecordingError(f"There is no video file {name}. Check the path.")
    cv2 = _opencv()
    capture = _open(name)
    seconds: list[float] = []
    try:
        while len(seconds) <= MAX_FRAMES and capture.grab():
            seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if not seconds:
        raise RecordingError(f"{name} holds no frame that can be decoded; expected a video. Copy or export it again.")
    if len(seconds) > MAX_FRAMES:
        raise RecordingError(f"{name} has more than {MAX_FRAMES} frames. Cut it into parts.")
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
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise RecordingError(
            f"{name} ({Path(name).stat().st_size} bytes) is not a video that can be read. Expected mp4, mkv, avi or another "
            "container that FFmpeg knows. Copy or export it again."
        )
    return capture


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DependencyError(
            "Reading video files needs OpenCV, which is not installed. Install it with `pip install meco-hub[video]`."
        ) from error
    return cv2
