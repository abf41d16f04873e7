"""Events in tables: NumPy's files and text; which column is which, and in what unit time is, where the file does not say.

Nothing is guessed silently: what was found goes into the recording's notes and the log, and where two readings are possible
that differ, the error asks for `columns=` or `time_unit=`.
"""

import contextlib
import gzip
import itertools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from ...answer_warnings import AnswerWarning
from ...errors import RecordingError, quote
from ...reading import check_packed, ends_inside_line
from ..event_clock import SAMPLE
from ..event_recording import chosen_columns, column_of, find_columns, guess_order, unit_of
from . import EventColumns, EventFile, ReadRequest, on_one_clock


def table_places(
    request: ReadRequest, first: Callable[[], NDArray[Any]], usual: str, file: EventFile
) -> dict[str, int]:
    """Column → position in a table without names, by the caller's word or its first rows; a guess is noted.

    Raises:
        RecordingError: as of `chosen_columns` and `guess_order`.
    """
    places = chosen_columns(request.columns, None, str(request.path))
    if places is None:
        places = guess_order(first(), usual, str(request.path))
        file.notes["columns"] = f"{''.join(sorted(places, key=places.__getitem__))} (detected)"
    return places


# Events in NumPy's own files: .npy and .npz with a structured array, four arrays, or an (events, 4) table.
#
# Files are read as streams, also inside an .npz, so that a recording larger than memory can be iterated over. Nothing is ever
# unpickled, and a header that promises more than the file holds is an error before memory is asked for.

_SIZES = {"width": ("width", "w", "sensor_width"), "height": ("height", "h", "sensor_height")}


class _ArrayStream:
    """One array of a file, read row by row."""

    def __init__(self, source: BinaryIO, called: str, size: int, damaged: str) -> None:
        self.source, self.called = source, called
        self.problem: RecordingError | None = None  # said when what is there has been read
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
        self.rows = self.shape[0] if self.shape else 1
        self.row_shape = self.shape[1:]
        if promised > size - self.header:
            self.problem = RecordingError(
                f"{called} promises {promised} bytes of shape {self.shape} and holds {max(size - self.header, 0)}; it is cut "
                'short or damaged. Copy it again, or read what there is with damaged="keep".'
            )
            if damaged != "keep" or not self.shape:
                raise self.problem
            self.rows = max(size - self.header, 0) // (promised // self.rows)
        if self.fortran and len(self.shape) == 2 and (isinstance(source, zipfile.ZipExtFile) or self.problem):
            raise RecordingError(f"{called} is stored column by column; save it with np.ascontiguousarray first.")
        self.at = 0

    def read(self, rows: int) -> NDArray:
        """The next rows; fewer at the end, and there the error of a file that was cut short."""
        if self.at == self.rows and self.problem is not None:
            raise self.problem
        rows = min(rows, self.rows - self.at)
        if self.fortran and len(self.shape) == 2:  # column by column, as the transpose of stacked columns is saved
            starts = self.header + (np.arange(self.shape[1]) * self.rows + self.at) * self.dtype.itemsize
            self.at += rows
            return np.stack([self._entries(rows, int(start)) for start in starts], axis=1)
        self.at += rows
        return self._entries(rows * int(np.prod(self.row_shape, dtype=np.int64))).reshape(rows, *self.row_shape)

    def _entries(self, number: int, start: int | None = None) -> NDArray:
        """The next entries, or those from some byte on."""
        if start is not None:
            self.source.seek(start)
        wanted = number * self.dtype.itemsize
        data = self.source.read(wanted)
        if len(data) != wanted:
            raise RecordingError(f"{self.called} ends after {len(data)} of {wanted} bytes; it is cut short or damaged.")
        return np.frombuffer(data, self.dtype)


def open_npy(request: ReadRequest) -> EventFile:
    """Open a .npy file with a structured array or an (events, 4) table."""
    file = EventFile(iter(()))
    size = request.path.stat().st_size

    def blocks() -> Iterator[EventColumns]:
        with request.path.open("rb") as source:
            yield from _one_array(_ArrayStream(source, str(request.path), size, request.damaged), request, file)

    file.blocks = on_one_clock(blocks(), request, file)
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
        return _ArrayStream(
            cast(BinaryIO, member), f"{request.path}, array {quote(name)}", members[name].file_size, "error"
        )

    with ExitStack() as stack:
        shapes = {name: stream(name, stack).shape for name in members}
        for side, names in _SIZES.items():
            found = next((name for name in names if shapes.get(name) == ()), None)
            if found is not None:
                setattr(file, side, int(stream(found, stack).read(1).reshape(-1)[0]))
    rows = [name for name, shape in shapes.items() if shape and (request.stream in (None, name))]
    if isinstance(request.columns, Mapping):
        columns = {column: str(name) for column, name in request.columns.items()}
        missing = [name for name in columns.values() if name not in shapes]
        if missing:
            raise RecordingError(
                f"{request.path} has no arrays {', '.join(missing)}; it has {quote(', '.join(shapes))}."
            )
    elif request.columns is not None and len(rows) != 1:
        raise RecordingError(
            f"{request.path} holds the arrays {quote(', '.join(shapes))}, which have no order, and "
            f"columns={request.columns!r} names one. "
            'Give {"x": name, "y": name, "t": name, "p": name}, or stream=.'
        )
    elif len([name for name in rows if column_of(name)]) >= 2:
        columns = find_columns([name for name in rows if column_of(name)], str(request.path))
    else:
        columns = {}
    if not columns and len(rows) != 1:
        raise RecordingError(
            f"{request.path} holds the arrays {quote(', '.join(shapes)) or 'none'}; expected x, y, t and p, or one array of "
            "events. Say "
            "stream= to choose one, or columns={…}."
        )

    def blocks() -> Iterator[EventColumns]:
        with archive, ExitStack() as stack:
            if not columns:
                yield from _one_array(stream(rows[0], stack), request, file)
                return
            yield from _four_arrays({column: stream(name, stack) for column, name in columns.items()}, request, file)

    file.time_unit = unit_of(columns.get("t"))
    file.blocks = on_one_clock(blocks(), request, file)
    return file


def _four_arrays(streams: Mapping[str, _ArrayStream], request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    shapes = {column: stream.shape for column, stream in streams.items()}
    file.events = streams["t"].rows
    if len(set(shapes.values())) != 1 or any(stream.row_shape for stream in streams.values()):
        raise RecordingError(
            f"{request.path}: the columns have the shapes {shapes}; expected one number per event in each."
        )
    for start in range(0, streams["t"].rows, request.chunk):
        parts = {column: stream.read(request.chunk) for column, stream in streams.items()}
        if start == 0:
            _require_numbers(parts["t"], f"{request.path}: t")
        yield parts["x"], parts["y"], parts["t"], parts["p"]


def _one_array(stream: _ArrayStream, request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    file.events = stream.rows
    if stream.dtype.names:
        names = list(stream.dtype.names)
        places = chosen_columns(request.columns, names, str(request.path)) or {}
        fields = {column: names[place] for column, place in places.items()}
        file.time_unit = unit_of(fields.get("t"))
        if len(stream.shape) != 1:
            raise RecordingError(f"{stream.called} has shape {stream.shape}; expected (events,) with x, y, t and p.")
        while stream.at < stream.rows or stream.problem:
            rows = stream.read(request.chunk)
            _require_numbers(rows[fields["t"]], f"{stream.called}: {fields['t']}")
            yield rows[fields["x"]], rows[fields["y"]], rows[fields["t"]], rows[fields["p"]]
        return
    lies = len(stream.shape) == 2 and stream.shape[0] == 4 < stream.shape[1]
    if (
        len(stream.shape) != 2
        or stream.shape[1] < 4
        or stream.dtype.kind not in "iuf"
        or (lies and not request.columns)
    ):
        raise RecordingError(
            f"{stream.called} has shape {stream.shape} and dtype {stream.dtype}; expected a structured array with x, y, t and p, "
            f"or a table (events, 4) of numbers.{' Transpose it: one row an event.' if lies else ''}"
        )
    held = stream.read(min(SAMPLE, stream.rows)) if stream.rows else stream.read(0)
    places = table_places(request, lambda: held, "xytp", file)
    if max(places.values()) >= stream.shape[1]:
        raise RecordingError(f"{stream.called} has {stream.shape[1]} columns; {places} asks for more.")
    while True:
        for start in range(0, len(held), request.chunk):
            x, y, t, p = (held[start : start + request.chunk, places[column]] for column in "xytp")
            yield x, y, t, p
        if stream.at >= stream.rows and not stream.problem:
            return
        held = stream.read(request.chunk)


def _require_numbers(values: NDArray, called: str) -> None:
    if values.dtype.kind not in "iufmM" or values.ndim != 1:
        raise RecordingError(
            f"{called} has dtype {values.dtype} and shape {values.shape}; expected one number per event."
        )


# Events as text: one event a line, separated by commas, semicolons, tabs or blanks, with or without a line of names.
#
# Without names the usual orders are tried. Lines that begin with "#", "%" or "//" are comments; a first line
# of just two whole numbers is the sensor's width and height, as some data sets of the Robotics and Perception Group have
# it. The file may be packed by gzip. Polarity may be True and False, as pandas writes it, or ON and OFF; between semicolons or
# tabs a comma is a decimal point, as Excel writes it where that is the custom. The column of times may name its unit: "t_us",
# "time [s]".

_COMMENTS = ("#", "%", "//")
_BLOCK_LINES = 65536
MAX_LINE = 4096
GZIP = b"\x1f\x8b"


def open_text(request: ReadRequest) -> EventFile:
    """Open a .csv or .txt file.

    Raises:
        RecordingError: no line of it is an event, or its columns cannot be told apart.
    """
    file = EventFile(iter(()))

    with request.path.open("rb") as raw:
        packed = raw.read(2) == GZIP
    opener: Any = gzip.open if packed else open
    with opener(request.path, "rb") as raw:
        wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")  # the mark that Excel's Unicode text begins with
    source = opener(request.path, "rt", encoding="utf-16" if wide else "utf-8-sig", errors="surrogateescape")
    problems: list[Exception] = []
    lines = _lines(source, request, problems)
    try:
        opening = list(itertools.islice(lines, 2))
        if not opening and problems:
            raise problems[0]
        if not opening:
            raise RecordingError(f"{request.path} has no line that could be an event; expected lines of x, y, t and p.")
        delimiter = next((mark for mark in ";\t," if mark in opening[-1][1]), None)
        if delimiter in (";", "\t") and "," in opening[-1][1]:
            opening = [(number, line.replace(",", ".")) for number, line in opening]
            lines = ((number, line.replace(",", ".")) for number, line in lines)
        head = [field.strip().strip('"') for field in _read_names(opening[0][1]).split(delimiter)]
        names: list[str] | None = None
        if len(head) == 2 and all(field.isdecimal() for field in head):
            file.width, file.height = int(head[0]), int(head[1])
            opening = opening[1:]
        elif not all(_is_number(field) for field in head):
            names, opening = head, opening[1:]
        places = chosen_columns(request.columns, names, str(request.path))
        file.time_unit = unit_of(names[places["t"]]) if names and places else None
    except BaseException:
        source.close()
        raise
    rest = itertools.chain(opening, lines)
    first = list(itertools.islice(rest, 1 if places is not None else SAMPLE))
    if places is None and first:
        places = table_places(request, lambda: _parse(first, delimiter, (0, 1, 2, 3), request)[0], "txyp", file)
    point = False
    if first and places is not None:
        fields = first[0][1].split(delimiter)
        written = fields[places["t"]] if places["t"] < len(fields) else ""
        point = "." in written and "e" not in written.lower()
        file.events = (
            None if packed else request.path.stat().st_size * len(first) // sum(len(line) + 1 for _, line in first)
        )

    def blocks() -> Iterator[EventColumns]:
        with source:
            yield from _read(itertools.chain(first, rest), delimiter, places or {}, request)
        if problems:
            raise problems[0]
        if not packed and ends_inside_line(request.path):
            problem = f"{request.path} ends inside a line, whose last number may be cut off. Copy it again."
            file.warnings.append(AnswerWarning("file_ends_early", problem))

    file.blocks = on_one_clock(blocks(), request, file, point=point)
    return file


def _lines(source: TextIO, request: ReadRequest, problems: list[Exception]) -> Iterator[tuple[int, str]]:
    """Number and content of every line that is neither empty nor a comment, to the first that cannot be read.

    `problems` gets what is wrong with that one, for when the lines before it have been used.
    """
    number, unpacked, size = 0, 0, request.path.stat().st_size
    try:
        while line := source.readline(MAX_LINE + 1):
            number += 1
            unpacked += len(line)
            if number % _BLOCK_LINES == 0:  # of a packed one
                check_packed(unpacked, size, str(request.path), RecordingError)
            if len(line) > MAX_LINE:
                raise RecordingError(
                    f"{request.path}: line {number} is longer than {MAX_LINE} characters; expected one event a line. It is no text "
                    "file of events, or it is damaged."
                )
            stripped = line.strip()
            if stripped and not stripped.startswith(_COMMENTS):
                yield number, stripped
    except Exception as error:  # noqa: BLE001 — whatever the packer's reader raises of a file that was cut off
        problems.append(error)


def _read_names(line: str) -> str:
    """A line of names; where it is no UTF-8 it is in a code of Western Europe, in which Excel writes the "µ" of "[µs]"."""
    return (
        line.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
        if re.search("[\udc80-\udcff]", line)
        else line
    )


def _read(
    lines: Iterator[tuple[int, str]], delimiter: str | None, places: Mapping[str, int], request: ReadRequest
) -> Iterator[EventColumns]:
    while block := list(itertools.islice(lines, min(_BLOCK_LINES, request.chunk))):
        table, problem = _parse(block, delimiter, tuple(places[column] for column in "xytp"), request)
        x, y, t, p = table.T
        if (np.abs(t) >= 2**53).any():  # float64 would lose digits
            with contextlib.suppress(RecordingError):  # they are not written as whole numbers
                t = _parse(block[: len(t)], delimiter, (places["t"],), request, np.int64)[0][:, 0]
        if len(t) or problem is None:
            yield x, y, t, p
        if problem is not None:
            raise problem


_TRUTH = re.compile(r"\b(true|false|on|off)\b", re.IGNORECASE)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return _TRUTH.fullmatch(text) is not None
    return True


def _parse(
    block: list[tuple[int, str]],
    delimiter: str | None,
    columns: tuple[int, ...],
    request: ReadRequest,
    dtype: type = np.float64,
) -> tuple[np.ndarray, RecordingError | None]:
    """The chosen columns of some lines, (lines, columns), up to the first that cannot be read; and what is wrong with that."""
    texts = [line for _, line in block]
    if _TRUTH.search(texts[0]):
        texts = [_TRUTH.sub(lambda found: "01"[found[0].lower() in ("true", "on")], line) for line in texts]

    def load(last: int) -> np.ndarray:
        return np.loadtxt(
            texts[:last], dtype, delimiter=delimiter, usecols=columns, ndmin=2, comments=None, quotechar='"'
        )

    try:
        return load(len(texts)), None
    except (ValueError, OverflowError, IndexError) as error:
        for place, line in enumerate(texts):  # NumPy does not say which line of the file it is
            fields = line.split(delimiter)
            if any(column >= len(fields) or not _is_number(fields[column].strip(' "')) for column in columns):
                problem = RecordingError(
                    f"{request.path}: line {block[place][0]} is {block[place][1][:80]!r}; expected a number in each of "
                    f"{max(columns) + 1} columns. The file is damaged or cut short there, or columns= names the wrong ones."
                )
                problem.__cause__ = error
                return load(place) if place else np.empty((0, len(columns)), dtype), problem
        raise RecordingError(
            f"{request.path}: lines {block[0][0]} to {block[-1][0]} cannot be read: {str(error).rstrip('.')}."
        ) from error
