"""A folder or a zip, seen as one set of files.

Corpora travel as folders and as archives; readers ask for names and bytes and need not care which. Nothing is ever
extracted. Names are posix paths relative to the root; what operating systems leave behind (`.DS_Store`, `__MACOSX`,
`Thumbs.db`) is not listed.

This file knows where bytes lie; it does not know what they mean.
"""

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

from ..errors import CorpusError
from .wording import first_few

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".avif",
        ".jp2",
    }
)
"""Endings, in lower case, by which a file counts as a picture."""

READ_ERRORS = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What the standard library raises on a file or zip member that cannot be read (RuntimeError: encrypted)."""

_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_DRIVE = re.compile(r"^[A-Za-z]:")


class FileTree:
    """Files below one root; open with `open_tree`, use as a context manager.

    Attributes:
        root: the folder or zip, as messages name it.
        names: every file's path relative to `base`, sorted.
        base: folder inside the root that names are relative to ("" or "some/folder/").
    """

    def __init__(self, root: Path, names: list[str], archive: zipfile.ZipFile | None = None, base: str = "") -> None:
        self.root = root
        self.names = sorted(names)
        self.base = base
        self._archive = archive
        self._known = frozenset(names)

    def __enter__(self) -> "FileTree":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def images(self, folder: str = "") -> list[str]:
        """Names of all pictures below `folder` ("" or "some/folder/")."""
        return [n for n in self.names if n.startswith(folder) and PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES]

    def folders_with(self, name: str) -> list[str]:
        """Every folder ("" or "some/folder/") that holds the relative path `name`, shallowest first."""
        found = [n[: -len(name)] for n in self.names if n == name or n.endswith("/" + name)]
        return sorted(found, key=lambda folder: (folder.count("/"), folder))

    def folders_above(self, name: str) -> list[str]:
        """Every folder ("" or "some/folder/") that holds a folder called `name`, shallowest first."""
        inner = f"/{name}/"
        found = {("/" + n)[1 : ("/" + n).index(inner) + 1] for n in self.names if inner in "/" + n}
        return sorted(found, key=lambda folder: (folder.count("/"), folder))

    def below(self, folder: str) -> "FileTree":
        """The same files, seen from `folder` ("" or "some/folder/"); shares the archive, which the original closes."""
        if not folder:
            return self
        names = [n[len(folder) :] for n in self.names if n.startswith(folder)]
        return FileTree(self.root, names, self._archive, self.base + folder)

    def where(self, name: str) -> str:
        """A file's whole address, for messages."""
        return f"{self.root}{'!/' if self._archive else '/'}{self.base}{name}"

    def image_path(self, name: str) -> str:
        """The path by which `datasets.Image` and `read_image` find a picture."""
        if self._archive is None:
            return str(self.root / self.base / name)
        return f"zip://{self.base}{name}::{self.root}"

    @contextmanager
    def open_text(self, name: str) -> Iterator[io.TextIOWrapper]:
        """Stream a file as UTF-8 text, with or without a byte-order mark.

        Raises:
            CorpusError: it cannot be read, or is not UTF-8.
        """
        try:
            stream = (
                self._archive.open(self.base + name) if self._archive else (self.root / self.base / name).open("rb")
            )
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                yield text
        except UnicodeDecodeError as error:
            raise CorpusError(f"{self.where(name)} is not UTF-8 ({error}). Save it as UTF-8 text.") from error
        except READ_ERRORS as error:
            raise self._unreadable(name, error) from error

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            CorpusError: it cannot be read.
        """
        try:
            return (
                self._archive.read(self.base + name) if self._archive else (self.root / self.base / name).read_bytes()
            )
        except READ_ERRORS as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> CorpusError:
        return CorpusError(f"{self.where(name)} cannot be read ({error}). Copy it again from its source.")


def open_tree(path: Path) -> FileTree:
    """List a folder or a zip.

    Raises:
        CorpusError: neither a folder nor a zip, or a zip that is broken, encrypted or has unsafe member names.
    """
    path = path.absolute()
    if path.is_dir():
        return FileTree(path, list(_walk(path)))
    if not path.is_file():
        raise CorpusError(f"{path} does not exist. Expected a folder or a zip. Check the path.")
    try:
        archive = zipfile.ZipFile(path)
    except READ_ERRORS as error:
        raise CorpusError(
            f"{path} is a file that cannot be opened as a zip ({error}). Expected a folder or a zip. "
            "Download it again, or unpack it and name the folder."
        ) from error
    try:
        return FileTree(path, _members(archive, path), archive)
    except CorpusError:
        archive.close()
        raise


def _members(archive: zipfile.ZipFile, path: Path) -> list[str]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    names = [info.filename for info in infos]
    unsafe = [
        n for n in names if n.startswith("/") or "\\" in n or "::" in n or _DRIVE.match(n) or ".." in n.split("/")
    ]
    if unsafe:
        raise CorpusError(
            f"{path} has unsafe member names: {first_few(unsafe)}. Expected relative paths with forward slashes, "
            "without '..' and '::'. Do not trust the archive's origin; zip the folder again."
        )
    encrypted = [info.filename for info in infos if info.flag_bits & 0x1]
    if encrypted:
        raise CorpusError(f"{path} is encrypted: {first_few(encrypted)}. Unpack it with its password, name the folder.")
    seen: set[str] = set()
    twice = [n for n in names if n in seen or seen.add(n)]
    if twice:
        raise CorpusError(f"{path} holds members twice: {first_few(twice)}. Zip the folder again.")
    return [n for n in names if not _is_clutter(n.split("/"))]


def _walk(root: Path) -> Iterator[str]:
    visited: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a symbolic link that leads back up would be walked for ever
            folders.clear()
            continue
        visited.add(real)
        inner = Path(folder).relative_to(root).as_posix()
        prefix = "" if inner == "." else inner + "/"
        folders[:] = sorted(name for name in folders if not _is_clutter([name]))
        yield from (prefix + name for name in files if not _is_clutter([name]))


def _is_clutter(parts: list[str]) -> bool:
    return any(part.startswith(".") or part in _CLUTTER for part in parts)
