"""A recording of an event camera: where, when and in which direction the brightness changed; for DAVIS cameras also frames.

    recording = EventRecording.from_arrays(x, y, t, p, width=346, height=260)
    recording.between(0, 33_000).p            # the first 33 ms, as views
    recording.slice(0, 10_000)                # the first ten thousand events

Time is int64 microseconds on the recording's own clock and never decreases: events that come unsorted are put in order once,
stably, and `notes["reordered"]` says how many came late. Coordinates are kept as they were recorded, also where they lie
outside the sensor: whether that is an error is for the one to say who lays them on a grid.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import RecordingError

logger = logging.getLogger(__name__)

MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
"""Time unit → microseconds in it."""

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "x": ("x", "xs", "x_pos", "x_position"),
    "y": ("y", "ys", "y_pos", "y_position"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
"""What people call the four columns, in lower case."""

_LAST_MICROSECOND = 2**62  # what lies beyond is damage, and would overflow when differences are taken


@dataclass(frozen=True, eq=False)
class EventRecording:
    """Events in the order of time, and the frames that were taken beside them.

    Attributes:
        x, y: (events,) uint16 column and row, from the upper left corner.
        t: (events,) int64 microseconds, never decreasing.
        p: (events,) uint8; 1 where it became brighter (ON), 0 where it became darker (OFF).
        width, height: pixels of the sensor; None where neither the file nor the caller said.
        name: what errors call it.
        frames: (frames, height, width) uint8 grey pictures, or None where there are none.
        frame_times: (frames,) int64 microseconds on the same clock, or None.
        notes: what was found or done on reading: "reordered", "unknown_words", "time_unit" …
        warnings: what its reader doubts.

    Raises:
        RecordingError: columns of different lengths or wrong types; use `from_arrays` for whatever is not in this form yet.
    """

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.uint8]
    width: int | None = None
    height: int | None = None
    name: str = ""
    frames: NDArray[np.uint8] | None = None
    frame_times: NDArray[np.int64] | None = None
    notes: Mapping[str, int | str] = field(default_factory=dict)
    warnings: tuple[AnswerWarning, ...] = ()

    def __post_init__(self) -> None:
        expected = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
        for column, dtype in expected.items():
            values = getattr(self, column)
            if values.shape != self.t.shape or values.ndim != 1 or values.dtype != dtype:
                raise RecordingError(
                    f"{self._called}: {column} has shape {values.shape} and dtype {values.dtype}; expected ({len(self.t)},) and "
                    f"{np.dtype(dtype)}. Build it with EventRecording.from_arrays, which converts."
                )
        if (self.frames is None) != (self.frame_times is None) or (
            self.frames is not None and self.frame_times is not None and len(self.frames) != len(self.frame_times)
        ):
            raise RecordingError(f"{self._called}: frames and frame_times must be given together, one time per frame.")
        if len(self.t) > 1:
            late = int(np.count_nonzero(self.t[1:] < self.t[:-1]))
            if late:
                self._sort(late)

    def _sort(self, late: int) -> None:
        order = np.argsort(self.t, kind="stable")
        for column in ("x", "y", "t", "p"):
            object.__setattr__(self, column, getattr(self, column)[order])
        already = self.notes.get("reordered", 0)
        object.__setattr__(
            self, "notes", {**self.notes, "reordered": late + (already if isinstance(already, int) else 0)}
        )
        logger.warning("%s: time steps back %d times; the events were put in order.", self._called, late)

    @property
    def _called(self) -> str:
        return self.name or "the event recording"

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        span = f", {self.t[0]}…{self.t[-1]} µs" if len(self) else ""
        frames = "" if self.frames is None else f", {len(self.frames)} frames"
        return f"EventRecording({self.name!r}, {len(self)} events, {self.width}×{self.height}{span}{frames})"

    @property
    def nbytes(self) -> int:
        """Memory of the events and frames."""
        frames = 0 if self.frames is None else self.frames.nbytes
        return self.x.nbytes + self.y.nbytes + self.t.nbytes + self.p.nbytes + frames

    @staticmethod
    def from_arrays(
        x: Any,
        y: Any,
        t: Any,
        p: Any,
        *,
        width: int | None = None,
        height: int | None = None,
        name: str = "",
        time_unit: str = "us",
        frames: NDArray[np.uint8] | None = None,
        frame_times: NDArray[np.int64] | None = None,
        notes: Mapping[str, int | str] | None = None,
    ) -> "EventRecording":
        """A recording from four columns of any numeric type; columns that have the right type are not copied.

        Args:
            x, y: whole numbers from 0 to 65535.
            t: time in `time_unit` ("s", "ms", "us" or "ns"); floating point is rounded to whole microseconds.
            p: 0 and 1, or −1 and 1, or booleans; where −1 occurs, 0 is refused.

        Raises:
            RecordingError: a column is not one-dimensional, not numeric, of another length, holds NaN, negative or huge values, or
                polarities of three kinds; the message names the column.
        """
        called = name or "the event recording"
        columns = {key: _column(values, key, called) for key, values in (("x", x), ("y", y), ("t", t), ("p", p))}
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise RecordingError(
                f"{called}: the columns have different lengths, {lengths}; expected one entry per event."
            )
        return EventRecording(
            _coordinates(columns["x"], "x", called),
            _coordinates(columns["y"], "y", called),
            to_microseconds(columns["t"], time_unit, called),
            _polarities(columns["p"], called),
            width,
            height,
            name,
            frames,
            frame_times,
            notes or {},
        )

    @staticmethod
    def from_any(
        events: Any, *, width: int | None = None, height: int | None = None, name: str = "", time_unit: str = "us"
    ) -> "EventRecording":
        """A recording from a recording, a structured array, a mapping of four columns, or an (events, 4) array of x, y, t, p.

        `width`, `height` and `name` hold where the recording does not say.

        Raises:
            RecordingError: none of these, or a column is missing or unusable.
        """
        if isinstance(events, EventRecording):
            own = (events.width or width, events.height or height, events.name or name)
            if own == (events.width, events.height, events.name):
                return events
            return replace(events, width=own[0], height=own[1], name=own[2])
        called = name or "the events"
        if isinstance(events, Mapping):
            columns = find_columns(events.keys(), called)
            arrays = {column: events[key] for column, key in columns.items()}
        elif isinstance(events, np.ndarray) and events.dtype.names:
            columns = find_columns(events.dtype.names, called)
            arrays = {column: events[key] for column, key in columns.items()}
        elif isinstance(events, np.ndarray) and events.ndim == 2 and events.shape[1] == 4:
            arrays = {column: events[:, index] for index, column in enumerate("xytp")}  # as MVSEC has it
        else:
            seen = f"an array of shape {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
            raise RecordingError(
                f"{called}: {seen} is no event recording. Expected an EventRecording, a structured array or a mapping with x, y, "
                "t and p, or an (events, 4) array with these columns."
            )
        x, y, t, p = (arrays[column] for column in "xytp")
        return EventRecording.from_arrays(x, y, t, p, width=width, height=height, name=name, time_unit=time_unit)

    def slice(self, first: int, last: int) -> "EventRecording":
        """Events `first` to `last` (exclusive) as views; frames are left out, since they are not counted in events."""
        cut = np.s_[first:last]
        return replace(self, x=self.x[cut], y=self.y[cut], t=self.t[cut], p=self.p[cut], frames=None, frame_times=None)

    def between(self, start_us: int, end_us: int) -> "EventRecording":
        """Events and frames with start ≤ time < end, as views; the clock is kept."""
        first, last = np.searchsorted(self.t, [start_us, end_us], side="left")
        part = self.slice(int(first), int(last))
        if self.frames is None or self.frame_times is None:
            return part
        inside = (self.frame_times >= start_us) & (self.frame_times < end_us)
        return replace(part, frames=self.frames[inside], frame_times=self.frame_times[inside])

    def shift(self, microseconds: int) -> "EventRecording":
        """The same recording on a clock that shows `microseconds` more."""
        times = None if self.frame_times is None else self.frame_times + microseconds
        return replace(self, t=self.t + microseconds, frame_times=times)


def find_columns(names: Any, called: str) -> dict[str, str]:
    """Column ("x", "y", "t", "p") → what it is called among `names`.

    Raises:
        RecordingError: a column is not among them, or stands there twice.
    """
    names = [str(name) for name in names]
    found: dict[str, str] = {}
    for column, known in COLUMN_NAMES.items():
        fitting = [name for name in names if name.lower() in known]
        if len(fitting) != 1:
            problem = "none of them can be" if not fitting else f"{' and '.join(fitting)} could each be"
            raise RecordingError(
                f"{called} has the columns {', '.join(names) or 'none'}; {problem} {column}. Expected x, y, t and p (or xs, ys, "
                "ts, ps; timestamp; polarity), each once. Rename them, or say columns={…} when reading."
            )
        found[column] = fitting[0]
    return found


def to_microseconds(values: NDArray[Any], unit: str, called: str) -> NDArray[np.int64]:
    """Time as int64 microseconds.

    Raises:
        RecordingError: an unknown unit, or times that are NaN, infinite or beyond any clock.
    """
    if unit not in MICROSECONDS:
        raise RecordingError(f"{called}: {unit!r} is no unit of time; expected one of {', '.join(MICROSECONDS)}.")
    if values.dtype == np.int64 and unit == "us":
        times = values
    elif values.dtype.kind in "iu" and unit in ("us", "ns"):  # in integers, where float64 would lose digits
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
            raise RecordingError(f"{called}: t reaches {values.max()}, which no clock shows. The file is damaged.")
        times = values.astype(np.int64) if unit == "us" else values.astype(np.int64) // 1000
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values.astype(np.float64) * MICROSECONDS[unit]
        bad = ~(np.abs(scaled) < _LAST_MICROSECOND)  # NaN, too
        if bad.any():
            raise RecordingError(
                f"{called}: t is {values[bad][0]} at event {int(np.argmax(bad))}; expected finite times in {unit}."
            )
        times = np.rint(scaled).astype(np.int64)
    if len(times) and (int(times.min()) <= -_LAST_MICROSECOND or int(times.max()) >= _LAST_MICROSECOND):
        raise RecordingError(f"{called}: t runs from {times.min()} to {times.max()} µs, which no clock shows.")
    return times


def _column(values: Any, column: str, called: str) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64) if array.dtype.kind not in "iufb" else array
    if array.ndim != 1 or array.dtype.kind not in "iufb":
        raise RecordingError(
            f"{called}: {column} has shape {array.shape} and dtype {array.dtype}; expected one number per event."
        )
    return array


def _coordinates(values: NDArray[Any], column: str, called: str) -> NDArray[np.uint16]:
    if values.dtype == np.uint16 or not len(values):
        return values.astype(np.uint16, copy=False)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # NaN, too
        fault = f"NaN at event {int(np.argmax(np.isnan(values)))}" if np.isnan(low) else f"values from {low} to {high}"
        raise RecordingError(
            f"{called}: {column} holds {fault}; expected whole pixels from 0 to 65535, counted from the upper left corner."
        )
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        raise RecordingError(
            f"{called}: {column} holds fractions of a pixel, such as {values[values != np.floor(values)][0]}; expected whole "
            "pixels. Undo the rectification, or round."
        )
    return values.astype(np.uint16)


def _polarities(values: NDArray[Any], called: str) -> NDArray[np.uint8]:
    """0 and 1; from 0/1, −1/1 or booleans."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if not len(values):
        return values.astype(np.uint8)
    low, high = values.min(), values.max()
    if not (low >= -1 and high <= 1) or (values.dtype.kind == "f" and (values != np.rint(values)).any()):
        fault = "NaN" if np.isnan(low) else f"values from {low} to {high}"
        raise RecordingError(f"{called}: p holds {fault}; expected polarities 0 and 1, or −1 and 1.")
    if low < 0 and (values == 0).any():
        raise RecordingError(
            f"{called}: p holds −1 and 0, and perhaps 1; expected 0 and 1, or −1 and 1. Say which 0 is."
        )
    if values.dtype == np.uint8:
        return values
    return (values > 0).astype(np.uint8)
