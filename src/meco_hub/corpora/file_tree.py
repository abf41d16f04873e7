"""The files of a corpus: a folder or a zip seen as one set of names, csv files read row by row, and the bytes behind a row.

Corpora travel as folders and as archives; readers get names and bytes and need not care which. Nothing is ever extracted.
Names are posix paths relative to the root; what operating systems leave behind (`.DS_Store`, `__MACOSX`, `Thumbs.db`) is not
listed.
"""

import csv
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from ..errors import CorpusError, InputError, quote
from ..reading import MAX_MEMBER, check_size, find_member, plain_name, reading, refuse_special
from ..recordings.images import CLUTTER, PICTURE_SUFFIXES, open_zip, read_image
from .tables import column, with_column

if TYPE_CHECKING:
    import datasets


def first_few(items: Iterable[object], limit: int = 5) -> str:
    """ "a, b, c, d, e, … (17 in all)"."""
    texts = list(map(quote, items))
    if len(texts) <= limit:
        return ", ".join(texts)
    return f"{', '.join(texts[:limit])}, … ({len(texts)} in all)"


_DRIVE = re.compile(r"^[A-Za-z]:")


class FileTree:
    """Files below one root, as `open_tree` lists them; each is opened by its path when it is read.

    Attributes:
        root: the folder or zip, as messages name it.
        names: every file's path relative to `base`, sorted.
        base: folder inside the root that names are relative to ("" or "some/folder/").
    """

    def __init__(self, root: Path, names: list[str], base: str = "", *, zipped: bool = False) -> None:
        self.root = root
        self.names = sorted(names)
        self.base = base
        self._zipped = zipped
        self._known = frozenset(names)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def images(self, folder: str = "") -> list[str]:
        """Names of all pictures below `folder` ("" or "some/folder/")."""
        return [n for n in self.names if n.startswith(folder) and PurePosixPath(n).suffix.lower() in PICTURE_SUFFIXES]

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
        """The same files, seen from `folder` ("" or "some/folder/")."""
        if not folder:
            return self
        names = [n[len(folder) :] for n in self.names if n.startswith(folder)]
        return FileTree(self.root, names, self.base + folder, zipped=self._zipped)

    def where(self, name: str) -> str:
        """A file's whole address, for messages."""
        return f"{self.root}{'!/' if self._zipped else '/'}{self.base}{name}"

    def image_path(self, name: str) -> str:
        """The path by which `datasets.Image` and `read_image` find a picture."""
        return f"zip://{self.base}{name}::{self.root}" if self._zipped else str(self.root / self.base / name)

    @contextmanager
    def open_text(self, name: str) -> Iterator[io.TextIOWrapper]:
        """Stream a file as UTF-8 text, with or without a byte-order mark."""
        with _opened(self.image_path(name), self.where(name)) as stream:
            try:
                with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                    yield text
            except UnicodeDecodeError as error:
                raise CorpusError(f"{self.where(name)} is not UTF-8 ({error}). Save it as UTF-8 text.") from error

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return read_path(self.image_path(name))


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
    remedy = "Expected a folder or a zip. Download it again, or unpack it and name the folder."
    with reading(f"{path} is a file that cannot be opened as a zip", CorpusError, remedy):
        archive = open_zip(str(path))
    return FileTree(path, _members(archive, path), zipped=True)


def _members(archive: zipfile.ZipFile, path: Path) -> list[str]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    names = [plain_name(info.filename) for info in infos]
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

    def refuse(error: OSError) -> None:
        # passed over, a class or a person would be missing, and nobody would know
        raise CorpusError(
            f"{error.filename} is a folder that cannot be read ({error.strerror}). Expected to read all of {root}. Ask its owner, "
            "or move it away."
        ) from error

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
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
    return any(part.startswith(".") or part in CLUTTER for part in parts)


class CsvRow(dict[str, str]):
    """One row: values by lower-case column name, stripped; `line` is its line in the file, `where` says so in words."""

    def __init__(self, values: dict[str, str], line: int, address: str) -> None:
        super().__init__(values)
        self.line = line
        self.where = f"{address}, line {line}"


def read_rows(
    tree: FileTree, name: str, required: Sequence[str], headerless: Sequence[str] | None = None
) -> Iterator[CsvRow]:
    """Stream the rows of a csv, which may have what breaks naive readers: a byte-order mark, spaces around names, no header.

    Args:
        required: columns (lower case) that must be there.
        headerless: columns of a file without header, where such copies are known; recognised by the first row having as many
            cells and none of the required names.

    Raises:
        CorpusError: not readable, not UTF-8, a column missing or named twice, a row with more or fewer cells than columns.
    """
    address = tree.where(name)
    with tree.open_text(name) as text:
        reader = csv.reader(text, strict=True)
        try:
            first = next(reader, None)
            if first is None:
                raise CorpusError(f"{address} is empty. Expected a csv with the columns {', '.join(required)}.")
            columns = [cell.strip().lower() for cell in first]
            has_header = not headerless or len(columns) != len(headerless) or any(c in required for c in columns)
            if not has_header and headerless:
                columns = list(headerless)
                yield CsvRow(_cells(columns, first, address, 1), 1, address)
            _check_columns(columns, required, address)
            for cells in reader:
                if cells:  # a blank line at the end is no row
                    yield CsvRow(_cells(columns, cells, address, reader.line_num), reader.line_num, address)
        except csv.Error as error:
            raise CorpusError(
                f"{address}, line {reader.line_num}: not a csv row ({error}). Correct the line."
            ) from error


def _check_columns(columns: list[str], required: Sequence[str], address: str) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise CorpusError(
            f"{address} has the columns {', '.join(columns)}; {', '.join(missing)} is missing. "
            f"Expected a header with {', '.join(required)}."
        )
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise CorpusError(f"{address} names the columns {', '.join(sorted(twice))} twice. Remove one of each.")


def _cells(columns: list[str], cells: list[str], address: str, line: int) -> dict[str, str]:
    if len(cells) != len(columns):
        raise CorpusError(
            f"{address}, line {line}: {len(cells)} cells where the header has {len(columns)}. Correct the line."
        )
    return {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}


# A row says where its content lies in one of three ways, looked for in this order: `content_sha256`, which its reader
# computed; `files`, the files whose bytes it is (with `start_s` and `end_s`, when it is a part of them); or `image`, a cell
# as `datasets.Image(decode=False)` gives it: {"bytes", "path"}. A path may be `zip://inner/name.jpg::/abs/outer.zip`.
# Hashes are SHA-256 of the encoded bytes: the same file twice is found, the same picture encoded anew is not.

HASH_COLUMN = "content_sha256"
"""Column in which readers and `with_content_hashes` keep the hashes."""

LOOK_COLUMN = "look"
"""Column in which `with_content_hashes` keeps what pictures look like."""

FILES_COLUMN = "files"
"""Column of lists of paths whose bytes are the row's content."""


def read_cell(cell: Mapping[str, Any]) -> bytes:
    """The encoded bytes of one cell.

    Raises:
        CorpusError: neither bytes nor path, or the file or zip member cannot be read; the message names it.
    """
    if cell["bytes"] is not None:
        return cell["bytes"]
    if not cell["path"]:
        raise CorpusError("A picture has neither bytes nor a path. Expected one of them; load the corpus again.")
    return read_path(cell["path"])


def read_path(path: str) -> bytes:
    """The bytes of a file or zip member; errors as of `read_cell`."""
    with _opened(path) as stream:
        # of a member not more than it declares, which was checked: read() without a number unpacks all before it counts
        return stream.read(MAX_MEMBER) if path.startswith("zip://") else stream.read()


def hash_path(path: str) -> str:
    """SHA-256 (hex) of a file or zip member of any size; errors as of `read_cell`."""
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


@contextmanager
def _opened(path: str, called: str = "") -> Iterator[IO[bytes]]:
    inner, _, outer = path.removeprefix("zip://").rpartition("::")
    with reading(f"{called or path} cannot be read", CorpusError):
        if not path.startswith("zip://"):
            refuse_special(Path(path), CorpusError, "a file")
            with Path(path).open("rb") as stream:
                yield stream
            return
        archive = open_zip(outer)
        member = find_member(archive, inner)
        check_size(member.file_size, called or path, CorpusError, MAX_MEMBER)
        with archive.open(member) as stream:
            yield stream


def content_hashes(dataset: "datasets.Dataset") -> list[str]:
    """SHA-256 (hex) of each row's content, in the order of the rows; from `HASH_COLUMN` where it is there."""
    names = dataset.column_names
    if HASH_COLUMN in names:
        return column(dataset, HASH_COLUMN)
    if FILES_COLUMN in names:
        return _file_hashes(dataset)
    if "image" in names:
        return _picture_hashes(dataset.with_format(None))
    raise CorpusError(
        f"The rows have the columns {', '.join(names)}, none of which says what their content is. Expected one of "
        f"{HASH_COLUMN}, {FILES_COLUMN}, image. Correct the corpus's reader."
    )


def _file_hashes(plain: "datasets.Dataset") -> list[str]:
    """A row's hash is that of its files' hashes and of the part of them that it is."""
    from tqdm.auto import tqdm

    rows: list[Sequence[str]] = column(plain, FILES_COLUMN)
    parts: list[list[Any]] = [column(plain, bound) for bound in ("start_s", "end_s") if bound in plain.column_names]
    known: dict[str, str] = {}
    hashes = []
    for number, files in enumerate(tqdm(rows, desc="hashing files", unit=" rows", disable=None)):
        if not files:
            raise CorpusError(f"Row {number} names no file in the column {FILES_COLUMN}. Correct the corpus's reader.")
        for path in files:
            if path not in known:  # rows that are parts of one file have it hashed once
                known[path] = hash_path(path)
        text = "\0".join([*(known[path] for path in files), *(repr(part[number]) for part in parts)])
        hashes.append(hashlib.sha256(text.encode()).hexdigest())
    return hashes


def _picture_hashes(plain: "datasets.Dataset") -> list[str]:
    from tqdm.auto import tqdm

    hashes: list[str] = []
    with tqdm(total=len(plain), desc="hashing pictures", disable=None) as bar:
        for batch in undecoded(plain).select_columns(["image"]).iter(batch_size=256):
            cells = cast(Mapping[str, Any], batch)["image"]
            hashes.extend(hashlib.sha256(read_cell(cell)).hexdigest() for cell in cells)
            bar.update(len(cells))
    return hashes


@dataclass(frozen=True)
class Look:
    """A decoded picture: `pixels`, the SHA-256 (hex) of its RGB values, and `gradient`, 256 bits (hex) of where it brightens."""

    pixels: str = ""
    gradient: str = ""


def looks(dataset: "datasets.Dataset") -> list[Look]:
    """Each row's picture as it is decoded, from `LOOK_COLUMN` where it is there; empty where none is, or none that decodes."""
    from concurrent.futures import ThreadPoolExecutor

    from tqdm.auto import tqdm

    if LOOK_COLUMN in dataset.column_names:
        return [Look(*one.split("/")) for one in column(dataset, LOOK_COLUMN)]
    if "image" not in dataset.column_names:
        return [Look()] * len(dataset)
    found: list[Look] = []
    cells = undecoded(dataset.with_format(None)).select_columns(["image"])
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(dataset), desc="looking at pictures", disable=None) as bar,
    ):
        for batch in cells.iter(batch_size=256):
            found.extend(pool.map(_look, cast(Mapping[str, Any], batch)["image"]))
            bar.update(len(found) - bar.n)
    return found


def _look(cell: Mapping[str, Any]) -> Look:
    import numpy as np

    try:
        picture = read_image(cell)
    except InputError:  # whoever reads the row says so; its bytes are compared all the same
        return Look()
    digest = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    grey = np.asarray(picture.convert("L").resize((17, 16)), np.int16)
    return Look(digest, np.packbits(np.diff(grey, axis=1) > 0).tobytes().hex())


def with_content_hashes(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """The data set with the columns `content_sha256` and, of pictures, `look`, so that a large corpus is read once."""
    if "image" in dataset.column_names and LOOK_COLUMN not in dataset.column_names:
        told = [f"{one.pixels}/{one.gradient}" for one in looks(dataset)]
        dataset = with_column(dataset, LOOK_COLUMN, told, "string")
    if HASH_COLUMN in dataset.column_names:
        return dataset
    return with_column(dataset, HASH_COLUMN, content_hashes(dataset), "string")


def undecoded(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """The data set with its pictures as cells, whether or not it was cast to decode them."""
    import datasets

    if getattr(dataset.features["image"], "decode", False):
        return dataset.cast_column("image", datasets.Image(decode=False))
    return dataset
