"""Whether faces can be found in pictures here.

This file knows what the face finder needs.
"""

import importlib.util
import traceback

import numpy as np

from ..errors import MecoError
from .finding import Finding

_MEND = 'pip install "meco-hub[faces]"'


def examine_face_finder() -> list[Finding]:
    """Try the face finder on a black picture."""
    if importlib.util.find_spec("cv2") is None:
        return [
            Finding("face finder", "OpenCV is not installed: faces must be cropped already", _MEND, level="warning")
        ]
    try:
        from ..processing.face_finder import FaceFinder

        FaceFinder().find(np.zeros((64, 64, 3), np.uint8))
    except MecoError as error:  # its message holds the line that mends it
        return [Finding("face finder", str(error), _MEND)]
    except Exception as error:  # noqa: BLE001 — whatever a broken OpenCV raises is the finding
        problem = f"does not work: {type(error).__name__}: {error}"
        return [Finding("face finder", problem, f"{_MEND} --force-reinstall", traceback.format_exc())]
    return []
