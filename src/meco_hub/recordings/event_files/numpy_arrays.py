"""Events in NumPy's own files: .npy and .npz with a structured array, four arrays, or an (events, 4) table.

Files are read as streams, also inside an .npz, so that a recording larger than memory can be iterated over. Nothing is ever
unpickled, and a header that promises more than the file holds is an error before memory is asked for.

This file knows NumPy's format and the layouts in use; it does not know what events mean.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..event_recording import COLUMN_NAMES, find_columns, to_microseconds
from . import EventColumns, EventFile, ReadRequest
from .columns import chosen_columns, detect_time_unit, guess_order, take_columns

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

        def of_structure(rows: NDArray, unit: str) -> EventColumns:
            time = to_microseconds(rows[fields["t"]], unit, stream.called)
            return rows[fields["x"]], rows[fields["y"]], time, rows[fields["p"]]

        if len(stream.shape) != 1:
            raise RecordingError(f"{stream.called} has shape {stream.shape}; expected (events,) with x, y, t and p.")
        unit = ""
        while stream.at < stream.rows:
            rows = stream.read(request.chunk)
            if not unit:
                _require_numbers(rows[fields["t"]], f"{stream.called}: {fields['t']}")
                unit = detect_time_unit(request, rows[fields["t"]], file)
            yield of_structure(rows, unit)
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
