"""Events in tables: NumPy's files and text; which column is which, and in what unit time is, where the file does not say.

Nothing is guessed silently: what was found goes into the recording's notes and the log, and where two readings are possible
that differ, the error asks for `columns=` or `time_unit=`.
"""

import itertools
import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..event_recording import COLUMN_NAMES, find_columns, to_microseconds
from . import EventColumns, EventFile, ReadRequest

logger = logging.getLogger(__name__)

_ORDERS = {
    "txyp": "as the Robotics and Perception Group writes text",
    "xytp": "as MVSEC does",
    "xypt": "as Metavision's CSV",
}
_BEYOND_MICROSECONDS = 10**17  # 3,170 years of microseconds; what is larger counts nanoseconds since 1970


def chosen_columns(request: ReadRequest, names: list[str] | None) -> dict[str, int] | None:
    """Column → position among the table's columns, by the caller's word or the table's header; None where neither tells.

    Raises:
        RecordingError: a column is missing, unknown or ambiguous.
    """
    wish = request.columns
    if wish is None:
        if names is None:
            return None
        found = find_columns(names, str(request.path))
        return {column: names.index(name) for column, name in found.items()}
    places: Mapping[str, str | int] = {letter: wish.index(letter) for letter in wish} if isinstance(wish, str) else wish
    if set(places) != set("xytp") or (isinstance(wish, str) and len(wish) != 4):
        raise RecordingError(
            f'{request.path}: columns={wish!r} does not name x, y, t and p once each; expected "txyp" in the order of the file, '
            'or {"x": name or position, …}.'
        )
    if isinstance(wish, str) and names is not None:
        found = find_columns(names, str(request.path))
        if {column: names.index(name) for column, name in found.items()} != dict(places):
            raise RecordingError(
                f"{request.path}: columns={wish!r} contradicts its header {', '.join(names)}. Leave it out, or give a mapping."
            )
    result: dict[str, int] = {}
    for column, place in places.items():
        if isinstance(place, str):
            if names is None or place not in names:
                listing = ", ".join(names) if names else "no names"
                raise RecordingError(
                    f"{request.path}: there is no column {place!r} for {column}; the file has {listing}."
                )
            place = names.index(place)
        result[column] = place
    return result


def guess_order(request: ReadRequest, first: NDArray[np.float64], prefer: str, file: EventFile) -> dict[str, int]:
    """Column → position in an (events, 4) table without names, from its first rows.

    An order is possible where p has only two or three values among −1, 0 and 1, time never decreases, and x and y are pixels.

    Raises:
        RecordingError: no order is possible.
    """
    possible = [order for order in _ORDERS if _fits(order, first)]
    if not possible:
        raise RecordingError(
            f"{request.path} is a table of four columns without names that fit none of the usual orders ({', '.join(_ORDERS)}): "
            f'its first row is {first[0].tolist() if len(first) else []}. Say columns="txyp", or whatever it is.'
        )
    order = prefer if prefer in possible else possible[0]
    file.notes["columns"] = f"{order} (detected)"
    logger.info("%s: the columns are taken as %s, %s.", request.path, order, _ORDERS[order])
    return {column: order.index(column) for column in "xytp"}


def _fits(order: str, rows: NDArray[np.float64]) -> bool:
    columns = {column: rows[:, order.index(column)] for column in "xytp"}
    pixels = np.concatenate([columns["x"], columns["y"]])
    return bool(
        np.isin(columns["p"], (-1, 0, 1)).all()
        and (columns["t"][1:] >= columns["t"][:-1]).all()
        and ((pixels >= 0) & (pixels <= 65535) & (pixels == np.floor(pixels))).all()
    )


def detect_time_unit(request: ReadRequest, first: NDArray[Any], file: EventFile) -> str:
    """The caller's unit; else seconds where there are fractions, nanoseconds where whole numbers are huge, else microseconds."""
    if request.time_unit is not None:
        return request.time_unit
    finite = first[np.isfinite(first)] if first.dtype.kind == "f" else first
    if finite.dtype.kind == "f" and (finite != np.floor(finite)).any():
        unit = "s"
    elif len(finite) and np.abs(finite[[0, -1]].astype(np.float64)).max() > _BEYOND_MICROSECONDS:
        unit = "ns"
    else:
        unit = "us"
    file.notes["time_unit"] = f"{unit} (detected)"
    logger.info("%s: time is taken to be in %s; say time_unit= where it is not.", request.path, unit)
    return unit


def take_columns(table: NDArray[Any], places: Mapping[str, int], unit: str, request: ReadRequest) -> EventColumns:
    """x, y, t and p out of a plain (events, columns) table."""
    x, y, t, p = (table[:, places[column]] for column in "xytp")
    return x, y, to_microseconds(t, unit, str(request.path)), p


# Events in NumPy's own files: .npy and .npz with a structured array, four arrays, or an (events, 4) table.
#
# Files are read as streams, also inside an .npz, so that a recording larger than memory can be iterated over. Nothing is ever
# unpickled, and a header that promises more than the file holds is an error before memory is asked for.

_SIZES = {"width": ("width", "w", "sensor_width"), "height": ("height", "h", "sensor_height")}


class _ArrayStream:
    """One array of a file, read row by row."""

    def __init__(self, source: BinaryIO, called: str, size: int) -> None:
        self.source, self.called = source, called
        version = np.lib.format.read_magic(source)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise RecordingError(f"{called} is of version {version} of NumPy's format; 1.0 to 3.0 are read.")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, self.fortran, self.dtype = read_header(source)
        if self.dtype.hasobject:
            raise RecordingError(
                f"{called} holds Python objects, which are never unpickled; expected numbers. Save the columns as numbers."
            )
        promised = self.dtype.itemsize
        for length in self.shape:  # Python's integers: a damaged header cannot overflow them
            promised *= length
        self.header = source.tell()
        if promised > size - self.header:
            raise RecordingError(
                f"{called} promises {promised} bytes of shape {self.shape} and holds {max(size - self.header, 0)}; it is cut "
                "short or damaged. Copy it again."
            )
        if self.fortran and len(self.shape) == 2:
            raise RecordingError(f"{called} is stored column by column; save it with np.ascontiguousarray first.")
        self.rows = self.shape[0] if self.shape else 1
        self.row_shape = self.shape[1:]
        self.at = 0

    def read(self, rows: int) -> NDArray:
        """The next rows; fewer at the end."""
        rows = min(rows, self.rows - self.at)
        self.at += rows
        wanted = rows * int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize
        data = self.source.read(wanted)
        if len(data) != wanted:
            raise RecordingError(f"{self.called} ends after {len(data)} of {wanted} bytes; it is cut short or damaged.")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.row_shape)


def open_npy(request: ReadRequest) -> EventFile:
    """Open a .npy file with a structured array or an (events, 4) table."""
    file = EventFile(iter(()))
    size = request.path.stat().st_size

    def blocks() -> Iterator[EventColumns]:
        with request.path.open("rb") as source:
            yield from _one_array(_ArrayStream(source, str(request.path), size), request, file)

    file.blocks = blocks()
    return file


def open_npz(request: ReadRequest) -> EventFile:
    """Open a .npz file: x, y, t and p as arrays, or one structured array or table; `width` and `height` may stand beside them.

    Raises:
        RecordingError: it is damaged, or holds no array that can be events.
    """
    archive = zipfile.ZipFile(request.path)
    members = {Path(info.filename).stem: info for info in archive.infolist() if info.filename.endswith(".npy")}
    file = EventFile(iter(()))

    def stream(name: str, stack: ExitStack) -> _ArrayStream:
        member = stack.enter_context(archive.open(members[name]))
        return _ArrayStream(cast(BinaryIO, member), f"{request.path}, array {name}", members[name].file_size)

    with ExitStack() as stack:
        shapes = {name: stream(name, stack).shape for name in members}
        for side, names in _SIZES.items():
            found = next((name for name in names if shapes.get(name) == ()), None)
            if found is not None:
                setattr(file, side, int(stream(found, stack).read(1).reshape(-1)[0]))
    rows = [name for name, shape in shapes.items() if shape and (request.stream in (None, name))]
    known = {alias for aliases in COLUMN_NAMES.values() for alias in aliases}
    if isinstance(request.columns, Mapping):
        columns = {column: str(name) for column, name in request.columns.items()}
        missing = [name for name in columns.values() if name not in shapes]
        if missing:
            raise RecordingError(f"{request.path} has no arrays {', '.join(missing)}; it has {', '.join(shapes)}.")
    elif len([name for name in rows if name.lower() in known]) >= 2:
        columns = find_columns([name for name in rows if name.lower() in known], str(request.path))
    else:
        columns = {}
    if not columns and len(rows) != 1:
        raise RecordingError(
            f"{request.path} holds the arrays {', '.join(shapes) or 'none'}; expected x, y, t and p, or one array of events. Say "
            "stream= to choose one, or columns={…}."
        )

    def blocks() -> Iterator[EventColumns]:
        with archive, ExitStack() as stack:
            if not columns:
                yield from _one_array(stream(rows[0], stack), request, file)
                return
            yield from _four_arrays({column: stream(name, stack) for column, name in columns.items()}, request, file)

    file.blocks = blocks()
    return file


def _four_arrays(streams: Mapping[str, _ArrayStream], request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    shapes = {column: stream.shape for column, stream in streams.items()}
    if len(set(shapes.values())) != 1 or any(stream.row_shape for stream in streams.values()):
        raise RecordingError(
            f"{request.path}: the columns have the shapes {shapes}; expected one number per event in each."
        )
    unit = ""
    for start in range(0, streams["t"].rows, request.chunk):
        parts = {column: stream.read(request.chunk) for column, stream in streams.items()}
        unit = unit or detect_time_unit(request, parts["t"], file)
        if start == 0:
            _require_numbers(parts["t"], f"{request.path}: t")
        yield parts["x"], parts["y"], to_microseconds(parts["t"], unit, str(request.path)), parts["p"]


def _one_array(stream: _ArrayStream, request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    if stream.dtype.names:
        names = list(stream.dtype.names)
        places = chosen_columns(request, names) or {}
        fields = {column: names[place] for column, place in places.items()}

        if len(stream.shape) != 1:
            raise RecordingError(f"{stream.called} has shape {stream.shape}; expected (events,) with x, y, t and p.")
        unit = ""
        while stream.at < stream.rows:
            rows = stream.read(request.chunk)
            if not unit:
                _require_numbers(rows[fields["t"]], f"{stream.called}: {fields['t']}")
                unit = detect_time_unit(request, rows[fields["t"]], file)
            time = to_microseconds(rows[fields["t"]], unit, stream.called)
            yield rows[fields["x"]], rows[fields["y"]], time, rows[fields["p"]]
        return
    if len(stream.shape) != 2 or stream.shape[1] < 4 or stream.dtype.kind not in "iuf":
        raise RecordingError(
            f"{stream.called} has shape {stream.shape} and dtype {stream.dtype}; expected a structured array with x, y, t and p, "
            "or a table (events, 4) of numbers."
        )
    places, unit = None, ""
    while stream.at < stream.rows:
        rows = stream.read(request.chunk)
        if not unit:
            places = chosen_columns(request, None) or guess_order(request, rows.astype(np.float64), "xytp", file)
            if max(places.values()) >= stream.shape[1]:
                raise RecordingError(f"{stream.called} has {stream.shape[1]} columns; {places} asks for more.")
            unit = detect_time_unit(request, rows[:, places["t"]], file)
        yield take_columns(rows, places or {}, unit, request)


def _require_numbers(values: NDArray, called: str) -> None:
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise RecordingError(
            f"{called} has dtype {values.dtype} and shape {values.shape}; expected one number per event."
        )


# Events as text: one event a line, separated by commas, semicolons, tabs or blanks, with or without a line of names.
#
# Without names the usual orders are tried. Lines that begin with "#", "%" or "//" are comments; a first line
# of just two whole numbers is the sensor's width and height, as some data sets of the Robotics and Perception Group have
# it. Time that is written with a decimal point is seconds, unless `time_unit=` says otherwise.

_COMMENTS = ("#", "%", "//")
_BLOCK_LINES = 65536
MAX_LINE = 4096


def open_text(request: ReadRequest) -> EventFile:
    """Open a .csv or .txt file.

    Raises:
        RecordingError: no line of it is an event, or its columns cannot be told apart.
    """
    file = EventFile(iter(()))

    def blocks() -> Iterator[EventColumns]:
        with request.path.open(encoding="utf-8", errors="replace") as source:
            yield from _read(source, request, file)

    # The first block tells the sensor's size, which whoever opens the file wants to know at once.
    stream = blocks()
    first = next(stream, None)
    file.blocks = iter(()) if first is None else itertools.chain([first], stream)
    return file


def _lines(source: TextIO, request: ReadRequest) -> Iterator[tuple[int, str]]:
    """Number and content of every line that is neither empty nor a comment."""
    number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise RecordingError(
                f"{request.path}: line {number} is longer than {MAX_LINE} characters; expected one event a line. It is no text "
                "file of events, or it is damaged."
            )
        stripped = line.strip()
        if stripped and not stripped.startswith(_COMMENTS):
            yield number, stripped


def _read(source: TextIO, request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    lines = _lines(source, request)
    opening = list(itertools.islice(lines, 2))
    if not opening:
        raise RecordingError(f"{request.path} has no line that could be an event; expected lines of x, y, t and p.")
    delimiter = next((mark for mark in ",;\t" if mark in opening[-1][1]), None)
    head = [field.strip().strip('"') for field in opening[0][1].split(delimiter)]
    names: list[str] | None = None
    if len(head) == 2 and all(field.isdecimal() for field in head):
        file.width, file.height = int(head[0]), int(head[1])
        opening = opening[1:]
    elif not all(_is_number(field) for field in head):
        names, opening = head, opening[1:]
    places = chosen_columns(request, names)
    unit = ""
    rest = itertools.chain(opening, lines)
    while block := list(itertools.islice(rest, min(_BLOCK_LINES, request.chunk))):
        if places is None:
            places = guess_order(request, _parse(block[:4096], delimiter, (0, 1, 2, 3), request), "txyp", file)
        order = ("x", "y", "t", "p")
        table = _parse(block, delimiter, tuple(places[column] for column in order), request)
        x, y, t, p = table.T
        if not unit:
            unit = detect_time_unit(request, t, file)
            # "0.000000" has no fraction, and yet its point says seconds
            written = block[0][1].split(delimiter)[places["t"]]
            if request.time_unit is None and unit == "us" and "." in written:
                unit = "s"
                file.notes["time_unit"] = "s (detected)"
        if (
            unit in ("us", "ns") and (np.abs(t) >= 2**53).any()
        ):  # float64 would lose digits: read that column as integers
            t = _parse(block, delimiter, (places["t"],), request, np.int64)[:, 0]
        yield x, y, to_microseconds(t, unit, str(request.path)), p


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(
    block: list[tuple[int, str]],
    delimiter: str | None,
    columns: tuple[int, ...],
    request: ReadRequest,
    dtype: type = np.float64,
) -> np.ndarray:
    """The chosen columns of some lines, (lines, columns)."""
    texts = [line for _, line in block]
    try:
        return np.loadtxt(texts, dtype, delimiter=delimiter, usecols=columns, ndmin=2, comments=None, quotechar='"')
    except (ValueError, OverflowError, IndexError) as error:
        for number, line in block:  # NumPy counts within the block; find the line of the file
            fields = line.split(delimiter)
            wrong = [
                column for column in columns if column >= len(fields) or not _is_number(fields[column].strip(' "'))
            ]
            if wrong:
                raise RecordingError(
                    f"{request.path}: line {number} is {line[:80]!r}; expected a number in each of {max(columns) + 1} columns. The "
                    "file is damaged or cut short there, or columns= names the wrong ones."
                ) from error
        raise RecordingError(
            f"{request.path}: lines {block[0][0]} to {block[-1][0]} cannot be read: {error}."
        ) from error
