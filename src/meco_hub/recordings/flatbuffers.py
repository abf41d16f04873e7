"""FlatBuffers (https://flatbuffers.dev/internals/): tables in a packet, in which every offset is checked before it is followed."""

import struct

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError


class Table:
    """A FlatBuffers table: fields by number, each at an offset that a small table of its own tells."""

    def __init__(self, data: bytes, at: int, called: str) -> None:
        self.data, self.at, self.called = data, at, called
        self.fields = at - self._number("<i", at)
        self.length = self._number("<H", self.fields)

    @staticmethod
    def root(data: bytes, identifier: bytes, called: str) -> "Table":
        if data[4:8] != identifier:
            raise RecordingError(
                f"{called}: expected a packet of kind {identifier.decode()}, saw {data[4:8]!r}; the file is damaged."
            )
        return Table(data, int.from_bytes(data[:4], "little"), called)

    @staticmethod
    def at_start(data: bytes, called: str) -> "Table":
        """The table of a packet that does not say its kind."""
        return Table(data, int.from_bytes(data[:4], "little"), called)

    def _number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            raise RecordingError(f"{self.called}: an offset points outside its packet; the file is damaged.")
        return int(struct.unpack_from(form, self.data, at)[0])

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = self._number("<H", self.fields + entry) if entry + 2 <= self.length else 0
        return self.at + offset if offset else None

    def scalar(self, field: int, form: str, default: int) -> int:
        place = self._place(field)
        return default if place is None else self._number(form, place)

    def table(self, field: int) -> "Table | None":
        """A table that a field refers to."""
        place = self._place(field)
        return None if place is None else Table(self.data, place + self._number("<I", place), self.called)

    def vector(self, field: int, dtype: np.dtype) -> NDArray:
        place = self._place(field)
        if place is None:
            return np.empty(0, dtype)
        start = place + self._number("<I", place)
        count = self._number("<I", start)
        if start + 4 + count * dtype.itemsize > len(self.data):
            raise RecordingError(
                f"{self.called}: a packet claims {count} entries and is too short for them; it is damaged."
            )
        return np.frombuffer(self.data, dtype, count, start + 4)

    def text(self, field: int) -> str:
        return self.vector(field, np.dtype(np.uint8)).tobytes().decode("utf-8")
