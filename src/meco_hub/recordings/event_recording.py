"""A recording of an event camera: where, when and in which direction the brightness changed; for DAVIS cameras also frames.

    recording = EventRecording.from_arrays(x, y, t, p, width=346, height=260)
    recording.between(0, 33_000).p            # the first 33 ms, as views
    recording.slice(0, 10_000)                # the first ten thousand events

Time is int64 microseconds on the recording's own clock and never decreases: events that come unsorted are put in order once,
stably, and `notes["reordered"]` says how many came late. In what unit the times of arrays are is told as for files, see
`event_clock`. Coordinates are kept as they were recorded, also where they lie outside the sensor: whether that is an error is for
the recording's `out_of_bounds` to say, or for the one who lays them on a grid.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import RecordingError, quote
from ..reading import reading
from .event_clock import SAMPLE, EventClock, OneClock

logger = logging.getLogger(__name__)

OUT_OF_BOUNDS = ("error", "drop")
"""What may become of events outside the sensor."""

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "x": ("x", "xs", "x_pos", "x_position"),
    "y": ("y", "ys", "y_pos", "y_position"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
"""What people call the four columns, in lower case."""

_UNIT_BEHIND = re.compile(
    r"(?P<name>.+?)\s*[\s_(\[]\s*(?:(?P<s>s|secs?|seconds?)|(?P<ms>ms|msecs?|milliseconds?)"
    r"|(?P<us>[uµμ]s|usecs?|microseconds?)|(?P<ns>ns|nsecs?|nanoseconds?))\s*[)\]]?",
    re.IGNORECASE,
)

_ORDERS = {
    "txyp": "as the Robotics and Perception Group writes text",
    "xytp": "as MVSEC does",
    "xypt": "as Metavision's CSV",
}
_POLARITY_WORDS = ("on", "off", "true", "false")
LARGEST_SENSOR = 4096  # pixels; the largest event cameras have 1,280 in a row, and formats leave room for 2,048
_ENOUGH_ROWS = 20  # to tell the order of columns from


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
        out_of_bounds: what becomes of events outside the sensor: "error", "drop", or None for whoever lays them on a grid to say.

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
    out_of_bounds: str | None = None

    def __post_init__(self) -> None:
        if self.out_of_bounds not in (None, *OUT_OF_BOUNDS):
            raise RecordingError(
                f"{self._called}: out_of_bounds is {self.out_of_bounds!r}; expected one of {', '.join(OUT_OF_BOUNDS)}."
            )
        for side in ("width", "height"):
            pixels = getattr(self, side)
            if pixels is not None and not 1 <= pixels <= LARGEST_SENSOR:  # grids of that size are drawn
                raise RecordingError(
                    f"{self._called}: the sensor's {side} is {quote(pixels, 20)} pixels; expected 1 to {LARGEST_SENSOR}. The file "
                    "is damaged, or width= and height= are wrong."
                )
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
        time_unit: str | None = None,
        frames: NDArray[np.uint8] | None = None,
        frame_times: NDArray[np.int64] | None = None,
        out_of_bounds: str | None = None,
    ) -> "EventRecording":
        """A recording from four columns of any numeric type; columns that have the right type are not copied.

        Args:
            x, y: whole numbers from 0 to 65535.
            t: time in `time_unit` ("s", "ms", "us" or "ns"; None: what `EventClock` tells from the numbers); floating point is
                rounded to whole microseconds. NumPy's dates and spans of time say their unit themselves.
            p: 0 and 1, or −1 and 1, or booleans; where −1 occurs, 0 is refused.

        Raises:
            RecordingError: a column is not one-dimensional, not numeric, of another length, holds NaN, negative or huge values, or
                polarities of three kinds; the message names the column. Or no event camera gives so many events in that unit, or
                the clock starts anew.
        """
        called = name or "the event recording"
        columns = {key: _column(values, key, called) for key, values in (("x", x), ("y", y), ("t", t), ("p", p))}
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise RecordingError(
                f"{called}: the columns have different lengths, {lengths}; expected one entry per event."
            )
        clock = EventClock(called, time_unit)
        clock.settle(columns["x"], columns["y"], columns["t"], pixels=width * height if width and height else None)
        settled = settle_columns(columns["x"], columns["y"], clock(columns["t"]), columns["p"], called)
        OneClock(called).see(*settled)
        notes = clock.notes if clock.unit != "us" else {}
        warnings = tuple(clock.warnings)
        return EventRecording(
            *settled,
            width=width,
            height=height,
            name=name,
            frames=frames,
            frame_times=frame_times,
            notes=notes,
            warnings=warnings,
            out_of_bounds=out_of_bounds,
        )

    @staticmethod
    def from_any(
        events: Any,
        *,
        width: int | None = None,
        height: int | None = None,
        name: str = "",
        time_unit: str | None = None,
        columns: str | Mapping[str, str | int] | None = None,
        out_of_bounds: str | None = None,
    ) -> "EventRecording":
        """A recording from a recording, a structured array, four named columns, or an (events, 4) array of x, y, t, p.

        Args:
            events: as said. Named columns are those of a mapping, or of a table of pandas, polars or Arrow; an (events, 4) array
                may have other orders, which `columns` names or its values show.
            width, height, name, out_of_bounds: hold where the recording does not say.
            time_unit: as of `from_arrays`.
            columns: column → its name or position, or "txyp" and the like.

        Raises:
            RecordingError: none of these, or a column is missing, unusable or one of several that could be meant.
        """
        if isinstance(events, EventRecording):
            own = {"width": events.width or width, "height": events.height or height, "name": events.name or name}
            own["out_of_bounds"] = events.out_of_bounds or out_of_bounds
            return (
                events if all(getattr(events, key) == value for key, value in own.items()) else replace(events, **own)
            )
        called = name or "the events"
        labels = column_labels(events)
        names = None if labels is None else [str(label) for label in labels]
        if labels is None and hasattr(events, "cpu"):
            events = _as_array(events, called)
        if labels is None and not (isinstance(events, np.ndarray) and events.ndim == 2 and events.shape[1] == 4):
            seen = f"an array of shape {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
            raise RecordingError(
                f"{called}: {seen} is no event recording. Expected an EventRecording, a structured array, table or mapping with x, "
                "y, t and p, or an (events, 4) array with these columns."
            )
        places = chosen_columns(columns, names, called)
        if labels is None or names is None:
            places = places or guess_order(events[:SAMPLE], "xytp", called)
            arrays = {column: events[:, place] for column, place in places.items()}
        else:
            arrays = {column: events[labels[place]] for column, place in (places or {}).items()}
            time_unit = time_unit or unit_of(names[places["t"]] if places else None)
        x, y, t, p = (arrays[column] for column in "xytp")
        return EventRecording.from_arrays(
            x, y, t, p, width=width, height=height, name=name, time_unit=time_unit, out_of_bounds=out_of_bounds
        )

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


def column_labels(source: Any) -> list[Any] | None:
    """What a mapping, structured array, or table of pandas, polars or Arrow calls its columns; None: it is none of these."""
    if isinstance(source, Mapping):
        return list(source)
    if isinstance(source, np.ndarray):
        return list(source.dtype.names) if source.dtype.names else None
    named = getattr(source, "column_names", None)  # of Arrow, whose `columns` are the values
    named = getattr(source, "columns", None) if named is None else named
    return None if named is None else list(named)


def column_of(name: str) -> str | None:
    """Which of x, y, t and p a name means, if any; that of t may end in its unit: "t_us", "time [s]", "Timestamp(ns)"."""
    found = next((column for column, known in COLUMN_NAMES.items() if name.strip().lower() in known), None)
    if found is None and (parts := _UNIT_BEHIND.fullmatch(name.strip())):
        return "t" if column_of(parts["name"]) == "t" else None
    return found


def unit_of(name: str | None) -> str | None:
    """The unit of time that the name of the column t says, if it says one."""
    parts = _UNIT_BEHIND.fullmatch((name or "").strip())
    return parts.lastgroup if parts and column_of(parts["name"]) == "t" else None


def find_columns(names: Any, called: str) -> dict[str, str]:
    """Column ("x", "y", "t", "p") → what it is called among `names`.

    Raises:
        RecordingError: a column is not among them, or stands there twice.
    """
    names = [str(name) for name in names]
    found: dict[str, str] = {}
    for column in COLUMN_NAMES:
        fitting = [name for name in names if column_of(name) == column]
        if len(fitting) != 1:
            problem = "none of them can be" if not fitting else f"{' and '.join(fitting)} could each be"
            raise RecordingError(
                f"{called} has the columns {quote(', '.join(names)) or 'none'}; {quote(problem)} {column}. Expected "
                "x, y, t and p (or xs, ys, "
                "ts, ps; timestamp; polarity), each once. Rename them, or say columns={…} when reading."
            )
        found[column] = fitting[0]
    return found


def chosen_columns(
    wish: str | Mapping[str, str | int] | None, names: list[str] | None, called: str
) -> dict[str, int] | None:
    """Column → position among a table's columns, by the caller's word or the table's names; None where neither tells.

    Raises:
        RecordingError: a column is missing, unknown or ambiguous.
    """
    if wish is None:
        if names is None:
            return None
        found = find_columns(names, called)
        return {column: names.index(name) for column, name in found.items()}
    places: Mapping[str, str | int] = {letter: wish.index(letter) for letter in wish} if isinstance(wish, str) else wish
    if set(places) != set("xytp") or (isinstance(wish, str) and len(wish) != 4):
        raise RecordingError(
            f'{called}: columns={wish!r} does not name x, y, t and p once each; expected "txyp" in the order of the file, '
            'or {"x": name or position, …}.'
        )
    if isinstance(wish, str) and names is not None:
        found = find_columns(names, called)
        if {column: names.index(name) for column, name in found.items()} != dict(places):
            raise RecordingError(
                f"{called}: columns={wish!r} contradicts its header {', '.join(names)}. Leave it out, or give a mapping."
            )
    result: dict[str, int] = {}
    for column, place in places.items():
        if isinstance(place, str):
            if names is None or place not in names:
                listing = ", ".join(names) if names else "no names"
                raise RecordingError(f"{called}: there is no column {place!r} for {column}; it has {listing}.")
            place = names.index(place)
        result[column] = place
    return result


def guess_order(rows: NDArray[Any], usual: str, called: str) -> dict[str, int]:
    """Column → position in an (events, 4) table without names, from its first rows.

    An order is possible where p has only two or three values among −1, 0 and 1, and x and y are pixels of an event camera; among
    those, one in which time never decreases stands before one in which it does.

    Args:
        rows: (rows, 4).
        usual: the order that holds where rows are too few to tell.
        called: what errors call the table.

    Raises:
        RecordingError: no order is possible, or several are.
    """
    values = rows.astype(np.float64)
    possible = [order for order in _ORDERS if _fits(order, values)]
    rising = [order for order in possible if (np.diff(values[:, order.index("t")]) >= 0).all()]
    chosen = [usual] if len(rows) < _ENOUGH_ROWS and usual in possible else rising or possible
    if len(chosen) != 1:
        seen = f"fit {' and '.join(chosen)} alike" if chosen else f"fit none of the usual orders ({', '.join(_ORDERS)})"
        raise RecordingError(
            f"{called} is a table of four columns without names that {seen}: its first row is "
            f'{quote(rows[0].tolist() if len(rows) else [])}. Say columns="txyp", or whatever it is.'
        )
    logger.info("%s: the columns are taken as %s, %s.", called, chosen[0], _ORDERS[chosen[0]])
    return {column: chosen[0].index(column) for column in "xytp"}


def _fits(order: str, rows: NDArray[np.float64]) -> bool:
    columns = {column: rows[:, order.index(column)] for column in "xytp"}
    pixels = np.concatenate([columns["x"], columns["y"]])
    return bool(
        np.isin(columns["p"], (-1, 0, 1)).all()
        and ((pixels >= 0) & (pixels < LARGEST_SENSOR) & (pixels == np.floor(pixels))).all()
    )


def settle_columns(
    x: NDArray[Any], y: NDArray[Any], t: NDArray[np.int64], p: NDArray[Any], called: str
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64], NDArray[np.uint8]]:
    """The four columns in the types of a recording; those that have them are not copied.

    Raises:
        RecordingError: a column is not numeric, or holds what it cannot; the message names it.
    """
    return (
        _coordinates(_column(x, "x", called), "x", called),
        _coordinates(_column(y, "y", called), "y", called),
        t,
        _polarities(_column(p, "p", called), called),
    )


def _column(values: Any, column: str, called: str) -> NDArray[Any]:
    array = _as_array(values, f"{called}: {column}")
    if column == "p" and array.ndim == 1 and array.dtype.kind in "OU":
        words = np.char.lower(array.astype(str))
        array = np.isin(words, ("on", "true")) if np.isin(words, _POLARITY_WORDS).all() else array
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64) if array.dtype.kind not in "iufb" else array
    if array.ndim != 1 or array.dtype.kind not in ("iufmM" if column == "t" else "iufb"):
        raise RecordingError(
            f"{called}: {column} has shape {array.shape} and dtype {array.dtype}; expected one number per event."
        )
    return array


def _as_array(values: Any, called: str) -> NDArray[Any]:
    """Numbers of NumPy, torch, pandas or a list as an array."""
    if np.ma.is_masked(values):
        raise RecordingError(f"{called} has masked entries; expected a number for each event. Leave those events out.")
    # bfloat16, meta tensors, lists of lists
    with reading(f"{called} cannot be read as an array", RecordingError, "Expected one number per event."):
        return values.detach().cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


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
