"""What the corpus tests share: decoding a cell, and the real faces where they are at hand."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from meco_hub.corpora import image_folder
from meco_hub.corpora.file_tree import read_cell

FACES = Path(__file__).parents[3].parent / "shared" / "data" / "faces" / "lfw_expressions.zip"


@pytest.fixture
def pixels() -> Callable[[Mapping[str, Any]], np.ndarray]:
    """Decode one cell of the column `image`."""

    def decode(cell: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(read_cell(cell))))

    return decode


@pytest.fixture(scope="session")
def lfw_zip() -> Path:
    if not FACES.is_file():
        pytest.skip(f"{FACES} is not there: the real faces are not part of the project")
    return FACES


@pytest.fixture(scope="session")
def lfw(lfw_zip: Path) -> datasets.Dataset:
    """The real faces, read once for all tests."""
    return image_folder.corpus.load(lfw_zip)["all"]
