"""Files of events, one module a format: each opens a file and gives its events block by block, in bounded memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...answer_warnings import AnswerWarning
from ...errors import RecordingError
from ..event_clock import SAMPLE, EventClock

__all__ = ["EventColumns", "EventFile", "ReadRequest", "longest_good", "on_one_clock"]

EventColumns: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[Any]]
"""x, y, t in microseconds, p; each (events,), x, y and p of any numeric type, not yet checked."""


@dataclass(frozen=True)
class ReadRequest:
    """What is wanted of a file.

    Attributes:
        path: the file.
        chunk: most events to hold at once, where the format leaves a choice.
        columns: "txyp" and the like for files that do not name their columns, or column → name or position.
        time_unit: "s", "ms", "us" or "ns"; None: what the format says, or what `EventClock` tells from the values.
        stream: which of several event streams; None: the only one.
        frames: also decode frames.
        start_us, end_us: a hint that only this span is wanted; a reader that cannot seek gives everything.
        width, height: pixels of the sensor, where the file does not say.
        damaged: "keep" asks for what is whole of a damaged file; see `events.EventOptions`.
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
        warnings: what is in doubt.
        unknown_types: of words, where the format has types of words.
        time_unit: of t, where the name of its column says it.
        events: how many it holds, about, where that is known beforehand.
    """

    blocks: Iterator[EventColumns]
    width: int | None = None
    height: int | None = None
    notes: dict[str, int | str] = field(default_factory=dict)
    frames: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    warnings: list[AnswerWarning] = field(default_factory=list)
    unknown_types: set[int] = field(default_factory=set)
    time_unit: str | None = None
    events: int | None = None

    def count(self, what: str, number: int) -> None:
        """Add to a note that counts."""
        if number:
            before = self.notes.get(what, 0)
            self.notes[what] = number + (before if isinstance(before, int) else 0)


def on_one_clock(
    blocks: Iterator[EventColumns],
    request: ReadRequest,
    file: EventFile,
    *,
    unit: str | None = None,
    point: bool = False,
) -> Iterator[EventColumns]:
    """Blocks whose t is as recorded, with t in microseconds; the first `SAMPLE` events are held until its unit is told.

    Args:
        blocks: x, y, t and p.
        request, file: what is read; the file gets the clock's notes and warnings.
        unit: of t, where the format says it.
        point: t is written with a decimal point.

    Raises:
        RecordingError: what `EventClock` refuses.
    """
    held: list[EventColumns] = []
    problem: Exception | None = None
    try:
        while sum(len(block[2]) for block in held) < SAMPLE:
            held.append(next(blocks))
    except StopIteration:
        pass
    except Exception as error:  # noqa: BLE001 — raised below, after what came before it
        problem = error
    if not held:
        if problem is not None:
            raise problem
        return
    clock = EventClock(str(request.path), request.time_unit or unit or file.time_unit)
    sides = (file.width or request.width, file.height or request.height)
    x, y, t = (np.concatenate([block[column][:SAMPLE] for block in held]) for column in range(3))
    pixels = sides[0] * sides[1] if sides[0] and sides[1] else None
    clock.settle(x, y, t, pixels=pixels, point=point, events=file.events)
    file.notes.update(clock.notes)
    file.warnings.extend(clock.warnings)
    clock.warnings = file.warnings  # where what later blocks make it doubt stands, too

    def timed(block: EventColumns) -> Iterator[EventColumns]:
        x, y, t, p = block
        try:
            yield x, y, clock(t), p
        except RecordingError:
            if request.damaged == "keep":
                good = longest_good(len(t), lambda last: clock(t[:last]))
                yield x[:good], y[:good], clock(t[:good]), p[:good]
            raise

    while held:
        yield from timed(held.pop(0))
    if problem is not None:
        raise problem
    for block in blocks:
        yield from timed(block)


def longest_good(length: int, attempt: Callable[[int], object]) -> int:
    """How many of the first entries can be used: the largest n for which `attempt(n)` raises no RecordingError."""
    low, high = 0, length
    while low < high:
        middle = (low + high + 1) // 2
        try:
            attempt(middle)
            low = middle
        except RecordingError:
            high = middle - 1
    return low
