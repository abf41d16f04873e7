"""Events in HDF5 files, in the layouts in use.

| layout | where | time |
|---|---|---|
| DSEC | events/x, y, t, p, with t_offset and ms_to_idx beside them | microseconds; t_offset is added |
| Metavision | CD/events, a compound of x, y, p, t; the root's attribute "geometry" | microseconds |
| MVSEC | davis/left/events and davis/right/events, tables (events, 4) of x, y, t, p | seconds |
| rpg_e2vid | events/xs, ys, ts, ps; the attribute "sensor_resolution" | seconds |
| others | any one group with four such columns, any compound with such fields, any table called "events" | looked at |

Where there are several, `stream=` names the group or data set. A span of time is found by bisection, so that a part of a long
recording costs little. Compressed files may need h5py's plugins (package hdf5plugin: Blosc for DSEC), which are loaded when a
data set asks for one.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...answer_warnings import AnswerWarning
from ...apart import Answer, read_apart
from ...errors import DependencyError, RecordingError, import_optional, quote
from ...reading import check_dataset, reading
from ..event_clock import SAMPLE, EventClock
from ..event_recording import chosen_columns, column_of, find_columns, unit_of
from . import EventColumns, EventFile, ReadRequest, on_one_clock
from .tables import table_places

logger = logging.getLogger(__name__)

_ECF = 0x8ECF  # registered by Prophesee
MAX_OBJECTS = 10_000  # in a file; a damaged one may seem to hold endlessly many


@dataclass
class _Layout:
    """Where the columns are: `read(column, first, last)` gives a part of one."""

    name: str
    length: int
    read: Callable[[str, int, int], Any]
    offset_us: int = 0
    group: Any = None
    unit: str | None = None  # of time, where the layout says it


def read_hdf5(request: ReadRequest) -> EventFile:
    """Open an HDF5 file of events.

    Raises:
        DependencyError: h5py, or the compression plugin that a data set needs, is not installed.
        RecordingError: no events are found in it, or several kinds of them and none was chosen.
    """
    h5py = import_optional("h5py", f"Reading {request.path}", "events")
    handle = h5py.File(request.path, "r")
    file = EventFile(iter(()))
    try:
        layout = _find_layout(handle, request, file)
        file.width, file.height = _geometry(handle, layout)
    except BaseException:
        handle.close()
        raise
    file.notes["stream"] = layout.name

    def blocks() -> Iterator[EventColumns]:
        with handle:
            yield from _blocks(layout, request, file)

    file.blocks = blocks()
    return file


def _find_layout(handle: Any, request: ReadRequest, file: EventFile) -> _Layout:
    import h5py

    found: dict[str, Callable[[], _Layout]] = {}
    seen: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        seen.append(name)
        if len(seen) > MAX_OBJECTS:
            return True
        if isinstance(item, h5py.Group):
            members = [key for key in map(str, item) if column_of(key)]
            if len(members) >= 4:
                found[name] = lambda: _of_group(name, item, find_columns(members, f"{request.path}, {name}"), request)
        elif len([key for key in item.dtype.names or () if column_of(key)]) >= 4 and item.ndim == 1:
            found[name] = lambda: _of_compound(name, item, request)
        elif item.ndim == 2 and item.shape[1] == 4 and name.rpartition("/")[2].lower() in ("events", "event", "data"):
            found[name] = lambda: _of_table(name, item, request, file)
        return None

    visit("", handle)
    handle.visititems(visit)
    choice = _choose(list(found), seen, request)
    return found[choice]()


def _choose(found: list[str], seen: list[str], request: ReadRequest) -> str:
    if request.stream is not None:
        wanted = request.stream.strip("/")
        if wanted not in found:
            raise RecordingError(
                f"{request.path} has no events in {request.stream!r}; there are {quote(', '.join(found)) or 'none anywhere'}."
            )
        return wanted
    if len(found) == 1:
        return found[0]
    if not found:
        raise RecordingError(
            f"{request.path} holds {quote(', '.join(seen[1:9])) or 'nothing'}; expected a group with x, y, t and p, a "
            "compound data set "
            "with such fields, or a table (events, 4) called events. Say stream= and columns= if they have other names."
        )
    raise RecordingError(
        f"{request.path} holds several event streams: {quote(', '.join(found))}. Say stream=, one of them."
    )


def _of_group(name: str, group: Any, columns: Mapping[str, str], request: ReadRequest) -> _Layout:
    sets = {column: group[key] for column, key in columns.items()}
    shapes = {column: data.shape for column, data in sets.items()}
    if len(set(shapes.values())) != 1 or len(shapes["t"]) != 1:
        raise RecordingError(f"{request.path}, {name}: the columns have the shapes {shapes}; expected (events,) each.")
    beside = [where.get("t_offset") for where in (group, group.parent) if where is not None]
    offsets = [int(np.asarray(data[()]).reshape(-1)[0]) for data in beside if data is not None]
    unit = "us" if offsets else unit_of(columns["t"])  # offsets are DSEC's
    for data in sets.values():
        _load_filters(data, request)
    return _Layout(name, shapes["t"][0], lambda c, a, b: sets[c][a:b], offsets[0] if offsets else 0, group, unit)


def _of_compound(name: str, data: Any, request: ReadRequest) -> _Layout:
    names = list(data.dtype.names)
    fields = {
        column: names[place]
        for column, place in (chosen_columns(request.columns, names, str(request.path)) or {}).items()
    }
    _load_filters(data, request)
    last: dict[tuple[int, int], Any] = {}

    def read(column: str, first: int, end: int) -> Any:
        if (first, end) not in last:  # the four columns of a block are asked for in turn, and lie together
            last.clear()
            last[first, end] = data[first:end]
        return last[first, end][fields[column]]

    unit = "us" if name == "CD/events" else unit_of(fields.get("t"))  # Metavision's are microseconds
    return _Layout(name, len(data), read, group=data, unit=unit)


def _of_table(name: str, data: Any, request: ReadRequest, file: EventFile) -> _Layout:
    _load_filters(data, request)
    places = table_places(request, lambda: data[:SAMPLE], "xytp", file)
    return _Layout(name, len(data), lambda c, a, b: data[a:b, places[c]], group=data)


def _load_filters(data: Any, request: ReadRequest) -> None:
    """Make the compression that a data set asks for available, or say which package has it."""
    import h5py

    check_dataset(data, request.path, RecordingError)
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(index) for index in range(plist.get_nfilters())]
    missing = [(code, label) for code, _, _, label in filters if not h5py.h5z.filter_avail(code)]
    if not missing:
        return
    try:
        import hdf5plugin  # noqa: F401 — importing it is what registers the plugins

        missing = [(code, label) for code, label in missing if not h5py.h5z.filter_avail(code)]
    except ImportError as error:
        raise DependencyError(
            f"{request.path}, {data.name} is compressed with {_label(missing[0])}, which h5py does not have by itself. Run `pip "
            "install meco-hub[events]`, which brings hdf5plugin."
        ) from error
    if missing and missing[0][0] == _ECF:
        raise DependencyError(
            f"{request.path}, {data.name} is compressed with filter {_ECF}, Prophesee's ECF codec, which neither h5py nor "
            "hdf5plugin has. Install the HDF5 plugin hdf5_ecf (github.com/prophesee-ai/hdf5_ecf; Metavision SDK and OpenEB bring "
            "it), and name the folder of its library in HDF5_PLUGIN_PATH; or repack the file where it is installed: "
            "h5repack -f GZIP=1 IN OUT."
        )
    if missing:
        raise DependencyError(
            f"{request.path}, {data.name} is compressed with {_label(missing[0])}, which neither h5py nor hdf5plugin has. The "
            "file is damaged, or needs its writer's plugin on HDF5_PLUGIN_PATH; or repack it there (`h5repack -f GZIP=1`)."
        )


def _label(missing: tuple[int, bytes]) -> str:
    code, label = missing
    return f"filter {code} ({label.decode('utf-8', 'replace') or 'without a name'})"


def _geometry(handle: Any, layout: _Layout) -> tuple[int | None, int | None]:
    for place in (layout.group, handle):
        attributes = getattr(place, "attrs", {})
        text = attributes.get("geometry")
        if text is not None:
            match = re.search(r"(\d{1,5})\s*x\s*(\d{1,5})", text.decode() if isinstance(text, bytes) else str(text))
            if match:
                return int(match[1]), int(match[2])
        size = attributes.get("sensor_resolution")
        if size is not None and np.size(size) >= 2:  # rpg_e2vid: height first
            height, width = (int(side) for side in np.asarray(size).reshape(-1)[:2])
            return width, height
    return None, None


def _blocks(layout: _Layout, request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    if not layout.length:
        return
    first, last = 0, layout.length
    file.events = layout.length
    if request.start_us is not None or request.end_us is not None:
        first, last = _span(layout, request, file)

    def raw() -> Iterator[EventColumns]:
        for start in range(first, last, request.chunk):
            end = min(start + request.chunk, last)
            x, y, t, p = (layout.read(column, start, end) for column in "xytp")
            yield x, y, t, p

    for x, y, t, p in on_one_clock(raw(), request, file, unit=layout.unit):
        yield x, y, t + layout.offset_us, p


def _span(layout: _Layout, request: ReadRequest, file: EventFile) -> tuple[int, int]:
    """Between which events the wanted span lies; all of them where time does not rise throughout."""
    places = np.unique(np.linspace(0, layout.length - 1, 64).astype(np.int64)).tolist()
    seen = np.concatenate([np.asarray(layout.read("t", place, place + 1)) for place in places])
    if (seen[1:] < seen[:-1]).any():
        return 0, layout.length
    clock = EventClock(str(request.path), request.time_unit or layout.unit)
    sides = (file.width or request.width, file.height or request.height)
    opening = [np.asarray(layout.read(column, 0, min(SAMPLE, layout.length))) for column in "xyt"]
    pixels = sides[0] * sides[1] if sides[0] and sides[1] else None
    clock.settle(*opening, pixels=pixels, events=layout.length)
    file.notes.update(clock.notes)

    def time_at(index: int) -> int:
        return int(clock(np.asarray(layout.read("t", index, index + 1)))[0]) + layout.offset_us

    first, last = 0, layout.length
    if request.start_us is not None:
        first = _bisect(time_at, request.start_us, first, last)
    if request.end_us is not None:
        last = _bisect(time_at, request.end_us, first, last)
    return first, last


def _bisect(time_at: Callable[[int], int], wanted: int, first: int, last: int) -> int:
    """The first index whose time is not before `wanted`."""
    while first < last:
        middle = (first + last) // 2
        if time_at(middle) < wanted:
            first = middle + 1
        else:
            last = middle
    return first


# HDF5 files are read in a process of their own, because the HDF5 library may crash or loop for ever on a damaged file.


def open_hdf5(request: ReadRequest) -> EventFile:
    """Open an HDF5 file of events; the errors are those of `read_hdf5`.

    Raises:
        RecordingError: also, the reading process crashed or hung on this file.
    """
    fields = {name: value for name, value in asdict(request).items() if name != "path"}
    answers = read_apart(f"{__name__}:answer", request.path, RecordingError, fields)
    opened, _ = next(answers)
    file = EventFile(iter(()), opened["width"], opened["height"], opened["notes"])

    def blocks() -> Iterator[EventColumns]:
        with contextlib.closing(answers):
            for message, columns in answers:
                if columns:
                    x, y, t, p = columns
                    yield x, y, t.astype(np.int64, copy=False), p
                else:
                    file.notes.update(message["notes"])
                    file.warnings.extend(AnswerWarning(**one) for one in message["warnings"])

    file.blocks = blocks()
    return file


def answer(path: Path, **fields: Any) -> Iterator[Answer]:
    """What `open_hdf5` is told by the other process: of the file, then its blocks, then its notes and warnings."""
    request = ReadRequest(path=path, **fields)
    remedy = 'It is cut short or damaged; copy it again, or read what there is with damaged="keep".'
    with reading(f"{path} cannot be read to its end", RecordingError, remedy):
        file = read_hdf5(request)
        yield {"width": file.width, "height": file.height, "notes": file.notes}, []
        for block in file.blocks:
            columns = [np.ascontiguousarray(column) for column in block]
            if any(column.dtype.kind not in "biuf" or column.shape != columns[0].shape for column in columns):
                raise RecordingError(f"{path}: a column of its events is not one number per event.")
            yield {}, columns
        yield {"notes": file.notes, "warnings": [one.to_dict() for one in file.warnings]}, []
