"""MATLAB files: versions 4 to 7, read with NumPy and zlib alone, and 7.3, which is HDF5.

    variables = read_mat("DREAMER.mat")        # {"DREAMER": {"Data": [...], "EEG_SamplingRate": array([[128.]]), …}}

SciPy's reader, which is made of C, brings the whole process down on some damaged files; a service that takes files from strangers
cannot have that. This one checks every length against what is there before it looks.

    numeric, logical    array of the shape that MATLAB shows, real or complex
    char                str, rows joined by newlines
    struct              dict; a struct array of another size than 1×1 is a list of dicts, in MATLAB's order
    cell                list, in MATLAB's order (columns first)
    anything else       left out (sparse arrays, objects, functions)
"""

import math
import struct
import zlib
from collections.abc import Generator, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...apart import Answer, read_apart
from ...errors import RecordingError, import_optional, quote
from ...reading import check_dataset, check_packed, read_bytes, reading
from ..signal_recording import StreamCollector
from .mat_programs import arrange, structs_of
from .npz import streams_of

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_ENCODINGS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32", 1: "latin-1", 3: "utf-16"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_DEEPEST = 32
_MOST_OBJECTS = 1_000_000
MAX_BYTES = 2**33
"""Of a file, which is read as a whole."""
_LEFT_OUT = object()


class _Damage(Exception):
    """What is wrong with a file, before it is known which one it is."""


def read_mat(path: str | PathLike[str], *, checksums: bool = True) -> dict[str, Any]:
    """All variables of a file.

    Args:
        path: of the file.
        checksums: compare those of compressed variables; False reads copies whose checksums are wrong, lengths being checked still.

    Raises:
        DependencyError: a file of version 7.3 needs h5py.
        RecordingError: no such file, or damaged; names the file, and the variable as far as it is known.
    """
    with reading(f"{path} cannot be read", RecordingError, "Expected a MAT file. Check the path."):
        content = read_bytes(Path(path), RecordingError, MAX_BYTES)
    if content.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return _read_hdf5(Path(path))
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        old = _read_version_4(content)
        if old is None:
            raise RecordingError(
                f"{path} has no header of a MAT file of version 5 to 7, and is none of version 4. It may be cut off: copy it again."
            )
        return old
    reader = _Reader("<" if content[126:128] == b"IM" else ">", checksums)
    variables: dict[str, Any] = {}
    last = "the first variable"
    elements = reader.elements(memoryview(content)[128:], top=True)
    while True:
        with reading(
            f"{path}: {last} cannot be read", RecordingError, "Expected a whole MAT file. Copy or save it again."
        ):
            kind, body = next(elements, (0, None))
            if body is None:
                return variables
            if kind == _COMPRESSED:
                kind, body = reader.inflate(body)
            if kind != _MATRIX:
                continue
            name, value = reader.matrix(body, 0)
            last = f"what follows '{quote(name)}'"
            if value is not _LEFT_OUT and name:
                variables[name] = value


class _Reader:
    """Elements, one inside the other, of one byte order."""

    def __init__(self, order: str, checksums: bool) -> None:
        self.order, self.checksums = order, checksums
        self.packed = self.unpacked = 0

    def elements(self, content: memoryview, *, top: bool = False) -> Iterator[tuple[int, memoryview]]:
        """(type, body) of one element after another; those that are not compressed are padded to eight bytes."""
        at = 0
        while at < len(content):
            if len(content) - at < 8:
                raise _Damage(f"{len(content) - at} bytes where an element should begin")
            first, second = struct.unpack_from(f"{self.order}II", content, at)
            if first >> 16:  # a small element: its length stands beside its type, its body where the length would be
                kind, length, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
                if length > 4:
                    raise _Damage(f"a small element of {length} bytes")
            else:
                kind, length, start = first, second, at + 8
                end = start + length if top and kind == _COMPRESSED else start + -(-length // 8) * 8
            if start + length > len(content):
                raise _Damage(f"an element of {length} bytes, of which {max(0, len(content) - start)} are there")
            yield kind, content[start : start + length]
            at = end

    def inflate(self, body: memoryview) -> tuple[int, memoryview]:
        """The one element inside a compressed one, whose length is known before it is unpacked."""
        # without zlib's own header, two bytes, zlib looks for no checksum either
        unpacker = zlib.decompressobj() if self.checksums else zlib.decompressobj(-zlib.MAX_WBITS)
        head = unpacker.decompress(body if self.checksums else body[2:], 8)
        if len(head) < 8:
            raise _Damage("an empty compressed element")
        kind, length = struct.unpack(f"{self.order}II", head)
        if length > 1032 * len(body) + 64:  # deflate cannot do better
            raise _Damage(f"a compressed element of {len(body)} bytes that claims {length}")
        self.packed, self.unpacked = self.packed + len(body), self.unpacked + length
        check_packed(self.unpacked, self.packed, "compressed elements", RecordingError)
        content = unpacker.decompress(unpacker.unconsumed_tail, length + 1)
        if len(content) != length or not unpacker.eof:
            raise _Damage(f"a compressed element of {length} bytes, of which {len(content)} are there")
        return kind, memoryview(content)

    def matrix(self, body: memoryview, depth: int) -> tuple[str, Any]:
        """(name, value) of one array."""
        if not len(body):
            return "", np.empty((0, 0))
        if depth > _DEEPEST:
            raise _Damage(f"more than {_DEEPEST} cells within cells")
        parts = self.elements(body)
        flags = self._next(parts, "array flags")
        if len(flags[1]) != 8:
            raise _Damage("array flags of another length than 8")
        word = struct.unpack(f"{self.order}I", flags[1][:4])[0]
        kind, is_complex, is_logical = word & 0xFF, bool(word & 0x800), bool(word & 0x200)
        if kind == 17:  # an opaque object has no shape
            return "", _LEFT_OUT
        shape = tuple(int(one) for one in self._numbers(*self._next(parts, "dimensions")))
        if len(shape) < 2 or min(shape) < 0:
            raise _Damage(f"the dimensions {shape}")
        size = math.prod(shape)
        name = bytes(self._next(parts, "name")[1]).decode("latin-1")
        if kind in _CLASSES:
            value: Any = self._array(parts, shape, size, "u1" if is_logical else _CLASSES[kind], is_complex)
            return name, value.astype(np.bool_) if is_logical else value
        if kind == _CHAR:
            return name, self._text(*self._next(parts, "text"), shape, size)
        if kind == _CELL:
            return name, [self._child(parts, depth) for _ in self._count(size, body)]
        if kind == _STRUCT:
            return name, self._struct(parts, size, depth, body)
        return name, _LEFT_OUT

    def _struct(self, parts: Iterator[tuple[int, memoryview]], size: int, depth: int, body: memoryview) -> Any:
        width = self._numbers(*self._next(parts, "length of field names"))
        names = bytes(self._next(parts, "field names")[1])
        if width.size != 1 or not 0 < width[0] <= max(1, len(names)) or len(names) % int(width[0]):
            raise _Damage("field names of another length than was said")
        step = int(width[0])
        fields = [names[at : at + step].split(b"\0")[0].decode("latin-1") for at in range(0, len(names), step)]
        found = []
        for _ in self._count(size * max(1, len(fields)), body, len(fields)):
            one = {field: self._child(parts, depth) for field in fields}
            found.append({field: value for field, value in one.items() if value is not _LEFT_OUT})
        return found[0] if size == 1 and found else found

    def _child(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Any:
        kind, body = self._next(parts, "element")
        if kind != _MATRIX:
            raise _Damage(f"an element of type {kind} inside a cell or struct")
        return self.matrix(body, depth + 1)[1]

    def _count(self, size: int, body: memoryview, group: int = 1) -> range:
        """As many rounds as there are elements, each of which takes eight bytes at least."""
        if size * 8 > len(body):
            raise _Damage(f"{size} elements in {len(body)} bytes")
        return range(size // max(1, group))

    def _array(
        self, parts: Iterator[tuple[int, memoryview]], shape: tuple[int, ...], size: int, target: str, is_complex: bool
    ) -> Any:
        columns = []
        for part in ("numbers", "imaginary numbers")[: 1 + is_complex]:
            stored = self._numbers(*self._next(parts, part))
            if stored.size != size:
                raise _Damage(f"{stored.size} numbers for the dimensions {shape}")
            with np.errstate(invalid="ignore"):  # a damaged number of a whole-number array
                columns.append(stored.astype(target).reshape(shape, order="F"))
        return columns[0] + 1j * columns[1] if is_complex else columns[0]

    def _text(self, kind: int, body: memoryview, shape: tuple[int, ...], size: int) -> str:
        if kind not in _ENCODINGS:
            raise _Damage(f"text of type {kind}")
        encoding = _ENCODINGS[kind] + (
            {"<": "-le", ">": "-be"}[self.order] if _ENCODINGS[kind][4:] in ("16", "32") else ""
        )
        text = bytes(body).decode(encoding, errors="replace")  # no signal, and no reason to refuse those beside it
        if len(shape) != 2 or shape[0] <= 1 or len(text) != size:
            return text
        return "\n".join(text[row :: shape[0]] for row in range(shape[0]))

    def _numbers(self, kind: int, body: memoryview) -> np.ndarray:
        if kind not in _NUMBERS:
            raise _Damage(f"numbers of type {kind}")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if len(body) % dtype.itemsize:
            raise _Damage(f"{len(body)} bytes of numbers of {dtype.itemsize} bytes")
        return np.frombuffer(body, dtype)

    @staticmethod
    def _next(parts: Iterator[tuple[int, memoryview]], what: str) -> tuple[int, memoryview]:
        try:
            return next(parts)
        except StopIteration:
            raise _Damage(f"no {what}") from None


# --- Version 4 --------------------------------------------------------------------------------------------------------
# Matrices one after the other, each with five whole numbers in front: type, rows, columns, imaginary part, length of its name.

_VERSION_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


def _read_version_4(content: bytes) -> dict[str, Any] | None:
    """All matrices of a file of version 4 but sparse ones; None where it is of another."""
    variables: dict[str, Any] = {}
    at = 0
    while at < len(content):
        if len(content) - at < 20:
            return None
        kind, rows, columns, imaginary, width = struct.unpack_from("<5i", content, at)
        order, kind = ("<", kind) if 0 <= kind < 100 else (">", kind)
        if order == ">":
            kind, rows, columns, imaginary, width = struct.unpack_from(">5i", content, at)
            kind -= 1000
        precision, matrix = divmod(kind, 10)
        sizes = (rows, columns, imaginary, width)
        if (
            not 0 <= precision < len(_VERSION_4)
            or matrix not in (0, 1, 2)
            or min(sizes) < 0
            or imaginary > 1
            or width < 2
        ):
            return None
        dtype = np.dtype(order + _VERSION_4[precision])
        start, size = at + 20 + width, rows * columns * dtype.itemsize
        if start + size * (1 + imaginary) > len(content):
            return None
        name = content[at + 20 : start].split(b"\0")[0].decode("latin-1")
        real, *others = (
            np.frombuffer(content, dtype, rows * columns, start + part * size).reshape((rows, columns), order="F")
            for part in range(1 + imaginary)
        )
        value: Any = real + 1j * others[0] if others else real
        if matrix == 1:
            value = "\n".join("".join(chr(int(code)) for code in row).rstrip() for row in value if (value < 256).all())
        if matrix != 2:
            variables[name] = value
        at = start + size * (1 + imaginary)
    return variables if at else None


# --- Version 7.3 ------------------------------------------------------------------------------------------------------
# HDF5: a struct is a group, a matrix a data set with its dimensions the other way round, a cell one of references. It is read in
# another process, which sends one array after the other, and at the end what they are of: a number for an array.


def _read_hdf5(path: Path) -> dict[str, Any]:
    arrays: list[np.ndarray] = []
    tree: Any = {}
    for message, sent in read_apart(f"{__name__}:arrays_of_hdf5", path, RecordingError):
        arrays += sent
        tree = message.get("tree", tree)

    def value(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: value(one) for name, one in node.items()}
        if isinstance(node, list):
            return [value(one) for one in node]
        return arrays[node] if isinstance(node, int) else _LEFT_OUT if node is None else node

    return value(tree)


def arrays_of_hdf5(path: Path) -> Iterator[Answer]:
    """What the other process yields of a file: its arrays, and their places."""
    h5py = import_optional("h5py", f"Reading {path}, a MAT file of version 7.3,", "signals")
    packed, unpacked, sent, seen = path.stat().st_size, 0, 0, 0

    def value(node: Any, depth: int = 0) -> Generator[Answer, None, Any]:
        nonlocal unpacked, sent, seen
        seen += 1
        if seen > _MOST_OBJECTS:
            raise RecordingError(f"{path} holds more than {_MOST_OBJECTS} arrays. It is damaged, or something else.")
        if depth > _DEEPEST:
            return None
        if isinstance(node, h5py.Group):
            found = {}
            for name in node:
                if not name.startswith("#") and (one := (yield from value(node[name], depth + 1))) is not None:
                    found[name] = one
            return found
        unpacked += check_dataset(node, path, RecordingError)  # of all, as cells may name one array a million times
        check_packed(unpacked, packed, str(path), RecordingError)
        kind = node.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if h5py.check_ref_dtype(node.dtype):
            cells = []
            for reference in np.ravel(node[()].T, order="F"):
                cells.append((yield from value(node.file[reference], depth + 1)))
            return cells
        if node.dtype.kind not in "iuf" or "MATLAB_empty" in node.attrs:
            return None
        array = np.asarray(node[()]).T
        if kind == "char":
            return "\n".join("".join(map(chr, row)).rstrip() for row in np.atleast_2d(array).tolist())
        yield {}, [array]
        sent += 1
        return sent - 1

    remedy = "Expected HDF5. It may be cut off: copy it again."
    with (
        reading(f"{path} cannot be read as a MAT file of version 7.3", RecordingError, remedy),
        h5py.File(path, "r") as file,
    ):
        tree = yield from value(file)
        yield {"tree": tree}, []


_PARTS = {
    "values": ("values", "data"),
    "times": ("times", "time"),
    "rate": ("rate", "fs", "sampling_rate", "samplingrate", "srate"),
    "start": ("start",),
    "channels": ("channels", "labels"),
    "units": ("units", "unit"),
}


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of a MAT file: variables named as in npz, structs with values and a clock at whatever depth, or a program's."""
    flat: dict[str, Any] = {}
    for name, value in arrange(read_mat(path), path, found).items():
        _flatten(name, value, flat)
    streams_of(flat, str(path), rates, found)


def _flatten(name: str, value: Any, flat: dict[str, Any]) -> None:
    """Structs as the variables that an npz has instead: those with values under their own name, the others under their path.

    Of an array or a cell of structs each is called by its field `name` or `type`, or else by its place.
    """
    several = structs_of(value)
    if several:
        for place, one in enumerate(several, start=1):
            told = next((one[key] for key in one if key.lower() in ("name", "type") and isinstance(one[key], str)), "")
            _flatten(f"{name}.{told.strip() or place}", one, flat)
        return
    if not isinstance(value, dict):
        flat[name] = _as_array(value)
        return
    lower = {key.lower(): key for key in value}
    found = {part: next((lower[one] for one in spellings if one in lower), None) for part, spellings in _PARTS.items()}
    if found["values"] is None or isinstance(value[found["values"]], dict) or structs_of(value[found["values"]]):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, flat)
        return
    short = name.rpartition(".")[2]
    name = name if f"{short}_values" in flat else short
    for part, key in found.items():
        if key is not None:
            flat[f"{name}_{part}"] = _as_array(value[key])


def _as_array(value: Any) -> np.ndarray:
    """Without the dimensions of size one that MATLAB gives to everything; a matrix of characters is one name a row."""
    if isinstance(value, str):
        return np.array([one.strip() for one in value.split("\n")])
    if isinstance(value, list):
        return np.array([str(one) for one in value])
    return np.squeeze(np.asarray(value))
