"""In transformers' repository this finds pictures, videos and sounds on the Hub. Tests here ask nothing of the network."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_PICTURES = (".jpg", ".png")


def url_to_local_path(url: str) -> str:
    """A path to a picture of 640 by 480 smooth colours, whichever was asked for; other addresses come back unchanged."""
    if not url.endswith(_PICTURES):
        return url
    path = Path(tempfile.gettempdir()) / f"meco_external_picture_{Path(url).stem}.png"
    if not path.is_file():
        rows, columns = np.mgrid[0:480, 0:640]
        waves = [np.sin(rows / 37 + shift) * np.cos(columns / (23 + 10 * shift)) for shift in (0.0, 1.0, 2.0)]
        Image.fromarray(np.uint8(127 + 120 * np.stack(waves, axis=-1))).save(path)
    return str(path)
