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

This file knows HDF5 and these layouts; it does not know what events mean, nor that it runs in a process of its own.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DependencyError, RecordingError
from ..event_recording import COLUMN_NAMES, MICROSECONDS, find_columns, to_microseconds
from . import EventColumns, EventFile, ReadRequest
from .columns import chosen_columns, detect_time_unit, guess_order

logger = logging.getLogger(__name__)

MAX_OBJECTS = 10_000  # in a file; a damaged one may seem to hold endlessly many


@dataclass
class _Layout:
    """Where the columns are: `read(column, first, last)` gives a part of one."""

    name: str
    length: int
    read: Callable[[str, int, int], Any]
    offset_us: int = 0
    group: Any = None


def read_hdf5(request: ReadRequest) -> EventFile:
    """Open an HDF5 file of events.

    Raises:
        DependencyError: h5py, or the compression plugin that a data set needs, is not installed.
        RecordingError: no events are found in it, or several kinds of them and none was chosen.
    """
    try:
        import h5py
    except ImportError as error:
        raise DependencyError(
            f"Reading {request.path} needs h5py, which is not installed. Run `pip install meco-hub[events]`."
        ) from error
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
    known = {alias for aliases in COLUMN_NAMES.values() for alias in aliases}
    seen: list[str] = []

    def visit(name: str, item: Any) -> bool | None:
        seen.append(name)
        if len(seen) > MAX_OBJECTS:
            return True
        if isinstance(item, h5py.Group):
            members = [key for key in map(str, item) if key.lower() in known]
            if len(members) >= 4:
                found[name] = lambda: _of_group(name, item, find_columns(members, f"{request.path}, {name}"), request)
        elif len({key.lower() for key in item.dtype.names or ()} & known) >= 4 and item.ndim == 1:
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
                f"{request.path} has no events in {request.stream!r}; there are {', '.join(found) or 'none anywhere'}."
            )
        return wanted
    if len(found) == 1:
        return found[0]
    if not found:
        raise RecordingError(
            f"{request.path} holds {', '.join(seen[1:9]) or 'nothing'}; expected a group with x, y, t and p, a compound data set "
            "with such fields, or a table (events, 4) called events. Say stream= and columns= if they have other names."
        )
    raise RecordingError(f"{request.path} holds several event streams: {', '.join(found)}. Say stream=, one of them.")


def _of_group(name: str, group: Any, columns: Mapping[str, str], request: ReadRequest) -> _Layout:
    sets = {column: group[key] for column, key in columns.items()}
    shapes = {column: data.shape for column, data in sets.items()}
    if len(set(shapes.values())) != 1 or len(shapes["t"]) != 1:
        raise RecordingError(f"{request.path}, {name}: the columns have the shapes {shapes}; expected (events,) each.")
    beside = [where.get("t_offset") for where in (group, group.parent) if where is not None]
    offsets = [int(np.asarray(data[()]).reshape(-1)[0]) for data in beside if data is not None]
    for data in sets.values():
        _load_filters(data, request)
    return _Layout(name, shapes["t"][0], lambda c, a, b: sets[c][a:b], offsets[0] if offsets else 0, group)


def _of_compound(name: str, data: Any, request: ReadRequest) -> _Layout:
    names = list(data.dtype.names)
    fields = {column: names[place] for column, place in (chosen_columns(request, names) or {}).items()}
    _load_filters(data, request)
    last: dict[tuple[int, int], Any] = {}

    def read(column: str, first: int, end: int) -> Any:
        if (first, end) not in last:  # the four columns of a block are asked for in turn, and lie together
            last.clear()
            last[first, end] = data[first:end]
        return last[first, end][fields[column]]

    return _Layout(name, len(data), read, group=data)


def _of_table(name: str, data: Any, request: ReadRequest, file: EventFile) -> _Layout:
    _load_filters(data, request)
    places = chosen_columns(request, None) or guess_order(request, data[:4096].astype(np.float64), "xytp", file)
    return _Layout(name, len(data), lambda c, a, b: data[a:b, places[c]], group=data)


def _load_filters(data: Any, request: ReadRequest) -> None:
    """Make the compression that a data set asks for available, or say which package has it."""
    import h5py

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
    called = f"{request.path}, {layout.name}"
    ends = np.asarray([layout.read("t", at, at + 1)[0] for at in (0, layout.length - 1)])
    sample = layout.read("t", 0, min(layout.length, 4096))
    unit = detect_time_unit(request, np.concatenate([sample, ends]), file)
    if unit not in MICROSECONDS:
        to_microseconds(ends, unit, called)  # says so
    first, last = 0, layout.length

    def time_at(index: int) -> int:
        return int(to_microseconds(layout.read("t", index, index + 1), unit, called)[0]) + layout.offset_us

    if request.start_us is not None:
        first = _bisect(time_at, request.start_us, first, last)
    if request.end_us is not None:
        last = _bisect(time_at, request.end_us, first, last)
    for start in range(first, last, request.chunk):
        end = min(start + request.chunk, last)
        x, y, t, p = (layout.read(column, start, end) for column in "xytp")
        yield x, y, to_microseconds(t, unit, called) + layout.offset_us, p


def _bisect(time_at: Callable[[int], int], wanted: int, first: int, last: int) -> int:
    """The first index whose time is not before `wanted`."""
    while first < last:
        middle = (first + last) // 2
        if time_at(middle) < wanted:
            first = middle + 1
        else:
            last = middle
    return first
