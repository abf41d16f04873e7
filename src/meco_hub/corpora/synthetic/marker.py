"""The mark of synthetic data: what `meco synthetic` writes says so in a file of its own, and whoever reads the data says it on.

    SYNTHETIC.json                 in the folder or zip of every look-alike
    array `synthetic`              in an npz that stands by itself

`Corpus.declared_in` asks `is_synthetic`, and from there it goes into the config (`training_data`), run.json, recipe.yaml, report,
card and every answer. A mark is found in the folder itself, above it and up to three levels below it, because a corpus may be read
from any of them, and drawn data may have been laid among real ones.
"""

import json
import zipfile
from pathlib import Path

MARKER = "SYNTHETIC.json"
ARRAY = "synthetic"
SAID = "Drawn by a program of meco_hub, of nobody. What is trained or measured on it says synthetic."

_BELOW = 3
_ABOVE = 6
"""Folders above the one that is read: a session of one person lies that deep in its corpus."""


def marker() -> tuple[str, bytes]:
    """Name and content of the file."""
    return MARKER, (json.dumps({"synthetic": True, "what": SAID}, indent=2) + "\n").encode()


def is_synthetic(path: Path) -> bool:
    """Whether the data in this folder or file are marked."""
    path = path.absolute()
    if any((folder / MARKER).is_file() for folder in [path, *path.parents[:_ABOVE]]):
        return True
    if path.is_dir():
        below = ("*/" * depth + MARKER for depth in range(1, _BELOW + 1))
        return any(any(path.glob(pattern)) for pattern in below) or any(
            _in_archive(file) for file in sorted(path.glob("*.npz"))
        )
    return _in_archive(path)


def _in_archive(file: Path) -> bool:
    """Whether a zip, or an npz, which is one, has the mark among its members."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(Path(name).name in (MARKER, f"{ARRAY}.npy") for name in archive.namelist())
