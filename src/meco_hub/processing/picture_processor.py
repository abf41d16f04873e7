"""Pictures as recordings: the contract of a processor for any image processor, ours or transformers' own.

Which faces of a picture are looked at is decided here: the picture itself, the most prominent face, or all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from transformers import FeatureExtractionMixin, ProcessorMixin

from ..answer_warnings import AnswerWarning
from ..errors import ConfigurationError, FaceNotFoundError
from ..recordings.images import describe_source, read_image
from .face_finder import Face
from .face_preprocessor import FacePreprocessor
from .preprocessor import RecordingProcessor

MODES = ("cropped", "largest", "all")
"""The picture is one face already; the most prominent face; every face."""


@dataclass(frozen=True)
class Picture:
    """A picture, or the part of it that shows one face.

    Attributes:
        image: RGB.
        name: what errors call it.
        face: where in the whole picture it lies; None for the whole.
        warnings: what is in doubt about it.
    """

    image: Image.Image
    name: str = ""
    face: Face | None = None
    warnings: tuple[AnswerWarning, ...] = ()


class PictureProcessor(RecordingProcessor):
    """Makes a recording processor of an image processor: a picture is a recording, and its clips are its faces.

    Args:
        processor: ours, whose finder and margins are used; or transformers' own, which knows nothing of faces, and for which ours
            with its defaults finds them.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._ours = processor if isinstance(processor, FacePreprocessor) else FacePreprocessor()

    @property
    def cuts(self) -> bool:
        return False  # training and evaluation take pictures as they are

    @property
    def default_mode(self) -> str:
        """What the preprocessor asks for."""
        return "largest" if self._ours.do_find_face else "cropped"

    def __call__(self, clips: Sequence[Any], return_tensors: str | None = None) -> Any:
        images = [clip.image if isinstance(clip, Picture) else clip for clip in clips]
        # the faces of a picture were cut out of it by `cut`; ours must not look for them again
        found = bool(clips) and isinstance(clips[0], Picture) and self._ours is self._processor
        once = {"do_find_face": False} if found else {}
        return self._processor(images, return_tensors=return_tensors, **once)

    def read(self, source: Any) -> Picture:
        return Picture(read_image(source), describe_source(source))

    def blank(self) -> Picture:
        return Picture(Image.new("RGB", (64, 64)))

    def cut(self, recording: Picture, *, stride_s: float | None = None, faces: str | None = None) -> list[Picture]:
        """The faces of a picture, most prominent first, each with where it was; the picture itself where it is the face.

        Args:
            recording: the picture.
            stride_s: has no meaning here.
            faces: one of `MODES`; what the preprocessor asks for by default.

        Raises:
            FaceNotFoundError: there is no face in it.
        """
        mode, image = faces or self.default_mode, recording.image
        if mode == "cropped":
            return [recording]
        finder = self._ours.face_finder
        found = finder.find(image)
        if not found:
            raise FaceNotFoundError(
                f"No face was found in {recording.name} ({image.width}×{image.height} pixels); expected at least one of score "
                f'{finder.threshold}. If the picture is a cropped face already, pass faces="cropped".'
            )
        chosen = found[:1] if mode == "largest" else found
        return [Picture(self._ours.crop_to_face(image, face), recording.name, face) for face in chosen]

    def locate(self, clip: Picture) -> dict[str, Any]:
        """What was looked at, as every answer holds it; None for what nobody looked for or found.

        `box`: where the face is, in pixels of the picture; `face_score`: the finder's confidence, 0…1; `face_side`: longer side of
        the box in pixels; `tilt`: degrees clockwise by which the face leans.
        """
        face = clip.face
        if face is None:
            return {"box": None, "face_score": None, "face_side": None, "tilt": None}
        tilt = None if face.tilt is None else round(face.tilt, 1)
        return {"box": describe_box(face), "face_score": face.score, "face_side": round(face.side, 1), "tilt": tilt}


def recording_processor(processor: Any) -> RecordingProcessor:
    """The contract of a checkpoint's processor, whatever kind it is.

    Raises:
        ConfigurationError: it is no image processor, and does not derive from `RecordingProcessor`.
    """
    if isinstance(processor, RecordingProcessor):
        return processor
    if isinstance(processor, ProcessorMixin | FeatureExtractionMixin):
        raise ConfigurationError(
            f"{type(processor).__name__} does not say how it reads recordings; expected a class that derives from "
            "meco_hub.processing.preprocessor.RecordingProcessor. Put it in front of transformers' base."
        )
    return PictureProcessor(processor)


def describe_box(face: Face | None) -> dict[str, float] | None:
    """Where a face is, as answers give it; None without a face."""
    if face is None:
        return None
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(float(edge), 1) for edge in face.box), strict=True))
