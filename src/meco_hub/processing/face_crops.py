"""Which faces of a picture are looked at: the picture itself, the most prominent one, or all.

This file knows how a face preprocessor's finder is asked; it knows neither models nor pipelines.
"""

from PIL import Image

from ..errors import FaceNotFoundError
from .face_finder import Face
from .face_preprocessor import FacePreprocessor

MODES = ("cropped", "largest", "all")
"""The picture is one face already; the most prominent face; every face."""


class FaceCrops:
    """Cuts faces out of pictures.

    Args:
        preprocessor: its finder and margins are used; None: our defaults, for processors that know nothing of faces.
    """

    def __init__(self, preprocessor: FacePreprocessor | None) -> None:
        self._preprocessor = preprocessor or FacePreprocessor()

    @property
    def default_mode(self) -> str:
        """What the preprocessor asks for."""
        return "largest" if self._preprocessor.do_find_face else "cropped"

    def take(self, image: Image.Image, mode: str, name: str) -> list[tuple[Image.Image, Face | None]]:
        """The faces of a picture, most prominent first, each with where it was; None where the picture is the face.

        Args:
            image: the picture.
            mode: one of `MODES`.
            name: what errors call the picture.

        Raises:
            FaceNotFoundError: there is no face in it.
        """
        if mode == "cropped":
            return [(image, None)]
        finder = self._preprocessor.face_finder
        found = finder.find(image)
        if not found:
            raise FaceNotFoundError(
                f"No face was found in {name} ({image.width}×{image.height} pixels); expected at least one of score "
                f'{finder.threshold}. If the picture is a cropped face already, pass faces="cropped".'
            )
        chosen = found[:1] if mode == "largest" else found
        return [(self._preprocessor.crop_to_face(image, face), face) for face in chosen]


def describe_box(face: Face | None) -> dict[str, float] | None:
    """Where a face is, as answers give it; None without a face."""
    if face is None:
        return None
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(float(edge), 1) for edge in face.box), strict=True))
