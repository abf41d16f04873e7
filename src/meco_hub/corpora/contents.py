"""The bytes behind a row, and their hashes.

A row says where its content lies in one of three ways, looked for in this order: `content_sha256`, which its reader computed;
`files`, the files whose bytes it is (with `start_s` and `end_s`, when it is a part of them); or `image`, a cell as
`datasets.Image(decode=False)` gives it: {"bytes", "path"}. A path may be `zip://inner/name.jpg::/abs/outer.zip`. Hashes are
SHA-256 of the encoded bytes: the same file twice is found, the same picture encoded anew is not.

This file knows where a row's bytes are; it does not decode them.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from ..errors import CorpusError
from .file_tree import READ_ERRORS
from .tables import with_column

if TYPE_CHECKING:
    import datasets

HASH_COLUMN = "content_sha256"
"""Column in which readers and `with_content_hashes` keep the hashes."""

FILES_COLUMN = "files"
"""Column of lists of paths whose bytes are the row's content."""


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
            with self._open(path) as stream:
                return stream.read()
        except (*READ_ERRORS, KeyError) as error:  # KeyError: the zip has no such member any more
            raise _unreadable(path, error) from error

    def hash(self, path: str) -> str:
        """SHA-256 (hex) of a file or zip member of any size; errors as of `read`."""
        try:
            with self._open(path) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except (*READ_ERRORS, KeyError) as error:
            raise _unreadable(path, error) from error

    def _open(self, path: str) -> IO[bytes]:
        if not path.startswith("zip://"):
            return Path(path).open("rb")
        inner, _, outer = path.removeprefix("zip://").partition("::")
        if outer not in self._archives:
            self._archives[outer] = zipfile.ZipFile(outer)
        return self._archives[outer].open(inner)


def _unreadable(path: str, error: Exception) -> CorpusError:
    return CorpusError(f"{path} cannot be read ({error}). Copy it again from its source.")


def content_hashes(dataset: "datasets.Dataset") -> list[str]:
    """SHA-256 (hex) of each row's content, in the order of the rows; from `HASH_COLUMN` where it is there.

    Raises:
        CorpusError: a file cannot be read, or no column says what a row's content is.
    """
    plain = dataset.with_format(None)
    names = plain.column_names
    if HASH_COLUMN in names:
        return _column(plain, HASH_COLUMN)
    if FILES_COLUMN in names:
        return _file_hashes(plain)
    if "image" in names:
        return _picture_hashes(plain)
    raise CorpusError(
        f"The rows have the columns {', '.join(names)}, none of which says what their content is. Expected one of "
        f"{HASH_COLUMN}, {FILES_COLUMN}, image. Mend the corpus's reader."
    )


def _column(dataset: "datasets.Dataset", name: str) -> list[Any]:
    return list(dataset.select_columns([name])[:][name])


def _file_hashes(plain: "datasets.Dataset") -> list[str]:
    """A row's hash is that of its files' hashes and of the part of them that it is."""
    from tqdm.auto import tqdm

    rows: list[Sequence[str]] = _column(plain, FILES_COLUMN)
    parts: list[list[Any]] = [_column(plain, bound) for bound in ("start_s", "end_s") if bound in plain.column_names]
    known: dict[str, str] = {}
    hashes = []
    with PictureBytes() as contents:
        for number, files in enumerate(tqdm(rows, desc="hashing files", unit=" rows", disable=None)):
            if not files:
                raise CorpusError(f"Row {number} names no file in the column {FILES_COLUMN}. Mend the corpus's reader.")
            for path in files:
                if path not in known:  # rows that are parts of one file have it hashed once
                    known[path] = contents.hash(path)
            text = "\0".join([*(known[path] for path in files), *(repr(part[number]) for part in parts)])
            hashes.append(hashlib.sha256(text.encode()).hexdigest())
    return hashes


def _picture_hashes(plain: "datasets.Dataset") -> list[str]:
    from tqdm.auto import tqdm

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
