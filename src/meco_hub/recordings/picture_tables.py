"""Pictures that lie as rows of Parquet files, as data sets on the Hub hold them: shards with a column of encoded pictures.

    picture_rows("train-00000-of-00004.parquet")          # 25,000: what its footer says, nothing is read; None: no pictures there
    read_picture_row("parquet://17::train-00000-of-00004.parquet")     # the bytes of row 17

The column holds bytes, or structs with "bytes" as `datasets.Image` writes them; where there are several it is the one called image.
A file is read forwards in small batches, whatever the size of its row groups, so rows that are asked for in order cost one pass.
"""

import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ImageError, import_optional
from ..reading import reading

SCHEME = "parquet://"

_BATCH, _ROOM = 16, 2**28
"""Rows that are decoded at once: pictures may have megabytes. Where a row group has so many bytes, any one may have them all."""

_AGAIN = "Copy or download it again."


def picture_rows(path: str | Path) -> int | None:
    """How many rows of pictures a Parquet file holds; None where it holds no pictures.

    Raises:
        ImageError: it cannot be read.
        DependencyError: pyarrow is missing.
    """
    with reading(f"{path} cannot be read as Parquet", ImageError, _AGAIN):
        file = _open(str(path))
        if not _columns(file):
            return None
        if file.metadata.num_rows > Path(path).stat().st_size:  # a list of them alone would fill memory
            raise ImageError(
                f"{path} says that it holds {file.metadata.num_rows} rows of pictures, more than it has bytes. It is damaged, or "
                "one picture over and over. Make it again."
            )
        return file.metadata.num_rows


def read_picture_row(name: str) -> bytes:
    """The encoded picture behind `parquet://ROW::PATH`.

    Raises:
        ImageError: there is no such file, row or picture in it; the message names it.
    """
    row, separator, path = name.removeprefix(SCHEME).partition("::")
    if not separator or not row.isdecimal() or not path:
        raise ImageError(f"{name} is no row of a Parquet file; expected parquet://17::/path/shard.parquet.")
    if not Path(path).is_file():
        raise ImageError(f"There is no file {path} for row {row}. Check the path.")
    with reading(f"Row {row} of {path} cannot be read", ImageError, _AGAIN):
        stat = Path(path).stat()
        # the key holds time and size, for a file that was written anew, and the process, because forks would share one place in it
        value = _reader(path, stat.st_mtime_ns, stat.st_size, os.getpid()).value(int(row))
        if isinstance(value, dict):
            value = value.get("bytes")
        if not value:
            raise ImageError(f"Row {row} of {path} has no picture; expected its bytes. Embed the pictures in the file.")
        return bytes(value)


def _open(path: str) -> Any:
    parquet = import_optional("pyarrow.parquet", "Reading pictures from Parquet files", "train", "pyarrow")
    # page by page, not a row group's column at once; a page of which a damaged file says that it is huge fills nothing so
    return parquet.ParquetFile(path, memory_map=True, pre_buffer=False)


def _columns(file: Any) -> list[str]:
    """The columns that may hold pictures, the one called image first."""
    types = import_optional("pyarrow", "Reading pictures from Parquet files", "train", "pyarrow").types

    def holds_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    found = []
    for field in file.schema_arrow:
        inner = [one for one in field.type if one.name == "bytes"] if types.is_struct(field.type) else []
        if holds_bytes(field.type) or any(holds_bytes(one.type) for one in inner):
            found.append(field.name)
    return sorted(found, key=lambda name: (name != "image", found.index(name)))


class _Reader:
    """One file, read forwards; backwards it begins again."""

    def __init__(self, path: str) -> None:
        self._file = _open(path)
        columns = _columns(self._file)
        told = self._file.metadata
        largest = max((told.row_group(group).total_byte_size for group in range(told.num_row_groups)), default=0)
        self._batch = _BATCH if largest < _ROOM else 1
        if not columns:
            raise ImageError(f"{path} has no column of encoded pictures; expected one, such as `image`.")
        if len(columns) > 1 and columns[0] != "image":
            raise ImageError(f"{path} has several: {', '.join(columns)}; expected one called image. Rename it.")
        self._path, self._column = path, columns[0]
        self._lock = threading.Lock()
        self._groups = [
            self._file.metadata.row_group(index).num_rows for index in range(self._file.metadata.num_row_groups)
        ]
        self._begin(0)

    def _begin(self, row: int) -> None:
        """Stand at the beginning of the row group that holds a row."""
        first = group = 0
        while group < len(self._groups) and row >= first + self._groups[group]:
            first, group = first + self._groups[group], group + 1
        self._batches: Iterator[Any] = self._file.iter_batches(
            batch_size=self._batch, row_groups=list(range(group, len(self._groups))), columns=[self._column]
        )
        self._values, self._first = None, first

    def value(self, row: int) -> Any:
        if row >= sum(self._groups):
            raise ImageError(f"{self._path} has {sum(self._groups)} rows, and row {row} was asked for.")
        with self._lock:
            return self._read(row)

    def _read(self, row: int) -> Any:
        if row < self._first or row >= self._first + 4 * max(self._groups):  # far ahead: other groups need not be read
            self._begin(row)
        while self._values is None or row >= self._first + len(self._values):
            self._first += 0 if self._values is None else len(self._values)
            self._values = next(self._batches).column(0)
        return self._values[row - self._first].as_py()


@functools.lru_cache(maxsize=4)
def _reader(path: str, mtime_ns: int, size: int, process: int) -> _Reader:
    return _Reader(path)
