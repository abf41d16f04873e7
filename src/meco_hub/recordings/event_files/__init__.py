"""Files of events, one module a format: each opens a file and gives its events block by block, in bounded memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["EventColumns", "EventFile", "ReadRequest"]

EventColumns: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[Any]]
"""x, y, t in microseconds, p; each (events,), x, y and p of any numeric type, not yet checked."""


@dataclass(frozen=True)
class ReadRequest:
    """What is wanted of a file.

    Attributes:
        path: the file.
        chunk: most events to hold at once, where the format leaves a choice.
        columns: "txyp" and the like for files that do not name their columns, or column → name or position.
        time_unit: "s", "ms", "us" or "ns"; None: what the format says, or what the values look like.
        stream: which of several event streams; None: the only one.
        frames: also decode frames.
        start_us, end_us: a hint that only this span is wanted; a reader that cannot seek gives everything.
        width, height, damaged: not for the reader; see `events.EventOptions`.
    """

    path: Path
    chunk: int
    columns: str | Mapping[str, str | int] | None = None
    time_unit: str | None = None
    stream: str | None = None
    frames: bool = False
    start_us: int | None = None
    end_us: int | None = None
    width: int | None = None
    height: int | None = None
    damaged: str = "error"

    @property
    def span(self) -> tuple[int, int]:
        """The span that is wanted, start ≤ time < end, in microseconds."""
        limits = np.iinfo(np.int64)
        return (
            int(limits.min) if self.start_us is None else self.start_us,
            int(limits.max) if self.end_us is None else self.end_us,
        )


@dataclass
class EventFile:
    """An opened file. Its blocks can be taken once; notes and frames fill up meanwhile.

    Attributes:
        blocks: the events, one block after another in the order of the file.
        width, height: pixels of the sensor, None where the file does not say.
        notes: what a reader found or had to assume.
        frames: (time in microseconds, (height, width) uint8), where they were asked for.
    """

    blocks: Iterator[EventColumns]
    width: int | None = None
    height: int | None = None
    notes: dict[str, int | str] = field(default_factory=dict)
    frames: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)

    def count(self, what: str, number: int) -> None:
        """Add to a note that counts."""
        if number:
            before = self.notes.get(what, 0)
            self.notes[what] = number + (before if isinstance(before, int) else 0)
