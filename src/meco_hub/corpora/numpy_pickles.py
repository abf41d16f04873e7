"""Pickles that hold NumPy arrays, read without running anything.

Unpickling runs whatever the file says. Some corpora nevertheless travel as pickles of a dict of arrays, so the unpickler here
knows three names, those by which NumPy writes an array, and puts its own classes behind them: NumPy's code for restoring
arrays is not called either. Any other name is refused before it is imported, and with it the file.

This file knows how a pickle writes an array; it does not know what any array means.
"""

import io
import math
import pickle
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


class _Array:
    """Stands for an array that `_reconstruct` makes empty and a state fills."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            raise ValueError("an array's state of other types than shape, dtype and bytes")
        numbers = dtype.numbers()
        if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) * numbers.itemsize != len(
            raw
        ):
            raise ValueError(f"an array of shape {shape} and type {numbers} in {len(raw)} bytes")
        self.array = np.frombuffer(raw, numbers).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


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
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
