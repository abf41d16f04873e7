"""Pickles that hold NumPy arrays, read without running anything.

Unpickling runs whatever the file says. Some corpora nevertheless travel as pickles of a dict of arrays, so the unpickler here
knows a handful of names, those by which NumPy writes an array, and puts its own classes behind them: NumPy's code for restoring
arrays is not called either. Any other name is refused before it is imported, and with it the file. The instructions are counted
before the first is followed: some dozen make an array, and a few bytes of others would take all memory or change the reader.

This file knows how a pickle writes an array; it does not know what any array means.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    MemoryError,
    UnicodeError,
)
"""What the standard library raises on a pickle that is cut off or was never one."""

_MOST_INSTRUCTIONS = 10_000


def load_arrays(content: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of a pickled dict, by name.

    Args:
        content: the pickle, of Python 2 or 3.
        where: the file, for messages.

    Returns:
        Read-only arrays of numbers, views of the bytes they were written with.

    Raises:
        CorpusError: the pickle names anything but NumPy's arrays, is no dict of such, or is cut off.
    """
    try:
        _count_instructions(content)
        loaded = _ArrayUnpickler(content, where).load()
    except _BROKEN as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(
            f"{where} cannot be read as a pickle of arrays ({type(error).__name__}: {error}). It may be cut off: copy it "
            "again from its source."
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(value, _Array) and value.array is not None for value in loaded.values()
    ):
        raise CorpusError(
            f"{where} holds a {type(loaded).__name__}, not a dict of arrays. Take the file its owners give out."
        )
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value.array for key, value in loaded.items()}
    if not all(isinstance(name, str) for name in named):
        raise CorpusError(f"{where} names its arrays {list(named)}. Expected names that are text.")
    return named


def _count_instructions(content: bytes) -> None:
    """Make sure that there are no more than arrays need, every one whole, and no place in memory beyond their number.

    Raises:
        ValueError: there are, or it is cut off.
    """
    for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name.startswith("EXT"):  # of which others in this process may have resolved some already
            raise ValueError("a name given by its number, where arrays spell theirs out")
        remembers = instruction.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if count > _MOST_INSTRUCTIONS or (remembers and not 0 <= int(argument or 0) <= _MOST_INSTRUCTIONS):
            raise ValueError(f"more than {_MOST_INSTRUCTIONS} instructions or objects, where arrays need some dozen")


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        # Python 2 wrote an array's bytes as text; "bytes" keeps them what they are, where latin1 would copy them twice
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        known = _NAMES.get((module, name))
        if known is None:
            raise CorpusError(
                f"{self._where} asks for {module}.{name}, which is no part of an array. Expected a pickle of NumPy arrays and "
                "nothing else; nothing of it was run. Do not trust its origin; take the file its owners give out."
            )
        return known

    def persistent_load(self, pid: object) -> Any:
        raise CorpusError(f"{self._where} refers to an object outside itself. Expected a pickle of NumPy arrays only.")


class _Dtype:
    """Stands for numpy.dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numbers(self) -> np.dtype[Any]:
        if (
            self.code not in {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}
            or self.order not in "<>=|"
        ):
            raise ValueError(f"an array of type {self.order}{self.code}, where numbers were expected")
        return np.dtype(f"{self.order}{self.code}")


class _ArrayType:
    """Stands for numpy.ndarray where a pickle names the class; never made."""

    def __new__(cls) -> "_ArrayType":
        raise ValueError("an array made without numpy's _reconstruct")

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state for the type of arrays")


class _Array:
    """Stands for an array that `_reconstruct` makes empty and a state fills."""

    __slots__ = ("array",)

    def __init__(self, array: Any = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.array = _from_bytes(raw, dtype, shape, bool(fortran))


class _Maker:
    """A function that a pickle may call and nothing else: of a plain one it could change the attributes."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state for a function")


def _from_bytes(raw: object, dtype: object, shape: object, fortran: bool) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise ValueError("an array's state of other types than shape, dtype and bytes")
    numbers = dtype.numbers()
    if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) * numbers.itemsize != len(
        raw
    ):
        raise ValueError(f"an array of shape {shape} and type {numbers} in {len(raw)} bytes")
    return np.frombuffer(raw, numbers).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    """How NumPy writes an array into a pickle of protocol 5."""
    return _Array(_from_bytes(bytes(raw) if isinstance(raw, bytearray) else raw, dtype, shape, _text(order) == "F"))


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError(f"text encoded as {encoding!r}, where latin1 was expected")
    return text.encode("latin1")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a type's name was expected")
    return value


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Maker(_encode),
}
for _core in ("core", "_core"):  # before and since NumPy 2
    _NAMES[f"numpy.{_core}.multiarray", "_reconstruct"] = _Maker(_reconstruct)
    _NAMES[f"numpy.{_core}.numeric", "_frombuffer"] = _Maker(_frombuffer)
