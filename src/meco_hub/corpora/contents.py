"""The bytes of pictures, and their hashes.

A picture's cell is what `datasets.Image(decode=False)` gives: {"bytes", "path"}, where the path may be
`zip://inner/name.jpg::/abs/outer.zip`. Hashes are SHA-256 of the encoded bytes: the same file twice is found, the same
picture encoded anew is not.

This file knows where a picture's bytes are; it does not decode them.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from ..errors import CorpusError
from .file_tree import READ_ERRORS
from .tables import with_column

if TYPE_CHECKING:
    import datasets

HASH_COLUMN = "content_sha256"
"""Column in which `with_content_hashes` keeps the hashes."""


class PictureBytes:
    """Reads cells and keeps the archives open that they lie in; a context manager.

    Opening a zip parses its whole directory, which costs more than reading a picture, hence one handle per archive. The
    handles must not be shared with forked workers: they would share one position in the file.
    """

    def __init__(self) -> None:
        self._archives: dict[str, zipfile.ZipFile] = {}

    def __enter__(self) -> "PictureBytes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            archive.close()

    def read(self, cell: Mapping[str, Any]) -> bytes:
        """The encoded bytes of one cell.

        Raises:
            CorpusError: neither bytes nor path, or the file or zip member cannot be read; the message names it.
        """
        if cell["bytes"] is not None:
            return cell["bytes"]
        path = cell["path"]
        if not path:
            raise CorpusError("A picture has neither bytes nor a path. Expected one of them; load the corpus again.")
        try:
            if not path.startswith("zip://"):
                return Path(path).read_bytes()
            inner, _, outer = path.removeprefix("zip://").partition("::")
            if outer not in self._archives:
                self._archives[outer] = zipfile.ZipFile(outer)
            return self._archives[outer].read(inner)
        except (*READ_ERRORS, KeyError) as error:  # KeyError: the zip has no such member any more
            raise CorpusError(f"{path} cannot be read ({error}). Copy it again from its source.") from error


def content_hashes(dataset: "datasets.Dataset") -> list[str]:
    """SHA-256 (hex) of each row's encoded picture, in the order of the rows; from `HASH_COLUMN` where it is there."""
    from tqdm.auto import tqdm

    plain = dataset.with_format(None)
    if HASH_COLUMN in plain.column_names:
        return list(plain.select_columns([HASH_COLUMN])[:][HASH_COLUMN])
    hashes: list[str] = []
    with PictureBytes() as pictures, tqdm(total=len(plain), desc="hashing pictures", disable=None) as bar:
        for batch in undecoded(plain).select_columns(["image"]).iter(batch_size=256):
            cells = cast(Mapping[str, Any], batch)["image"]
            hashes.extend(hashlib.sha256(pictures.read(cell)).hexdigest() for cell in cells)
            bar.update(len(cells))
    return hashes


def with_content_hashes(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """The data set with a column `content_sha256`, so that a large corpus is read once for all checks."""
    if HASH_COLUMN in dataset.column_names:
        return dataset
    import datasets

    return with_column(dataset, HASH_COLUMN, content_hashes(dataset), datasets.Value("string"))


def undecoded(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """The data set with its pictures as cells, whether or not it was cast to decode them."""
    import datasets

    if getattr(dataset.features["image"], "decode", False):
        return dataset.cast_column("image", datasets.Image(decode=False))
    return dataset
