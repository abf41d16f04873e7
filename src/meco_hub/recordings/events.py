"""Reading event recordings: whatever file holds them becomes an `EventRecording`, or a `RecordingError` that says why not.

    recording = read_events("clip.aedat4")                       # whole, with the frames of a DAVIS camera
    for part in iterate_events("hours.raw", chunk=1_000_000):    # one part after another, in bounded memory
        ...

| file | what is in it | needs |
|---|---|---|
| .npy, .npz | a structured array, four arrays, or an (events, 4) table | |
| .csv, .txt, also .gz | one event a line | |
| .parquet | a column each for x, y, t and p | |
| .h5, .hdf5 | DSEC, Metavision, MVSEC, rpg_e2vid and what is like them | h5py (extra "events") |
| .aedat4 | DAVIS events and frames by DV | lz4 or zstandard (extra "events") |
| .raw, .dat | Prophesee EVT 2.0, 2.1, 3.0, and DAT | |

What a file is, is seen from its first bytes, not from its name. What had to be assumed — a unit of time, an order of columns — is
in the recording's `notes` and in the log; what is in doubt is in its `warnings`.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import RecordingError, UnknownNameError, unknown_name
from ..reading import reading, reason, refuse_special
from .event_clock import LONGEST_DELAY_US, OneClock
from .event_files import EventColumns, EventFile, ReadRequest, longest_good
from .event_files.aedat4 import MAGIC, open_aedat4
from .event_files.hdf5 import open_hdf5
from .event_files.parquet import MAGIC as PARQUET
from .event_files.parquet import open_parquet
from .event_files.prophesee import open_prophesee
from .event_files.tables import GZIP, open_npy, open_npz, open_text
from .event_recording import EventRecording, settle_columns
from .images import nearest_file

logger = logging.getLogger(__name__)

MAX_EVENTS = 200_000_000
"""Events that `read_events` holds at most, unless told otherwise: 2.6 GB."""

SUFFIXES = (".npy", ".npz", ".csv", ".txt", ".parquet", ".h5", ".hdf5", ".aedat4", ".raw", ".dat")
"""What files of events are usually called."""


_ONE_STREAM = (open_npy, open_text, open_parquet, open_prophesee)
"""Readers of formats in which a file is one stream."""


class EventOptions(TypedDict, total=False):
    """How a file of events is read, beyond what it says itself.

    Attributes:
        columns: for tables without names, "txyp" and the like in the order of the file; for others column → its name.
        time_unit: "s", "ms", "us" or "ns"; None takes what the format says, or what `EventClock` tells from the values.
        stream: which event stream, where a file has several: a data set or group (HDF5), an array (npz), a name or number (AEDAT4).
        width, height: pixels of the sensor where the file does not say.
        start_us, end_us: only what lies in start ≤ time < end, in microseconds on the recording's own clock.
        damaged: "error" (default), or "keep": takes what comes before the damage, and notes and warns of it.
    """

    columns: str | Mapping[str, str | int] | None
    time_unit: str | None
    stream: str | None
    width: int | None
    height: int | None
    start_us: int | None
    end_us: int | None
    damaged: Literal["error", "keep"]


OPTIONS = (*EventOptions.__annotations__, "max_events", "out_of_bounds")
"""What may be said of how events are read: options of `read_events`, and keys of the mappings that it and `read_eye_clip` take."""


def read_events(
    source: Any,
    *,
    frames: bool = True,
    max_events: int = MAX_EVENTS,
    out_of_bounds: str | None = None,
    **options: Unpack[EventOptions],
) -> EventRecording:
    """Read a whole recording, or a span of it, into memory.

    Args:
        source: a file; what `EventRecording.from_any` takes; or a mapping with `events`, one of these, and any of `OPTIONS`. A
            mapping of the four columns may hold options as well.
        frames: also decode a DAVIS camera's frames.
        max_events: more than this is an error.
        out_of_bounds: "error" or "drop": what becomes of events outside the sensor when they are laid on a grid; None leaves it to
            the one who does.
        **options: see `EventOptions`.

    Raises:
        RecordingError: it cannot be read; the message names file and stream.
        UnknownNameError: there is no such option.
        DependencyError: an optional package is needed for it.
    """
    if isinstance(source, Mapping):
        own = {key: value for key, value in source.items() if key in OPTIONS}
        columns = {key: value for key, value in source.items() if key not in OPTIONS}
        given: dict[str, Any] = {"max_events": max_events, "out_of_bounds": out_of_bounds, **options, **own}
        if "events" not in columns:
            return _from_memory(columns, **given)
        inner = columns.pop("events")
        if columns:
            raise unknown_name("part of a recording of events", str(next(iter(columns))), ("events", *OPTIONS))
        return read_events(inner, frames=frames, **given)
    if not isinstance(source, str | os.PathLike):
        return _from_memory(source, max_events=max_events, out_of_bounds=out_of_bounds, **options)
    request = _request(source, 1 << 18, options, frames=frames)
    parts: list[EventRecording] = []
    total = 0
    file = EventFile(iter(()))
    with reading(f"{source} cannot be read", RecordingError):
        for opened, part in _parts(request):
            file = opened
            total += len(part)
            if total > max_events:
                raise _too_many(source, max_events)
            parts.append(part)
        pictures, times = _stack_frames(file, request)
        return replace(
            _join(parts),
            frames=pictures,
            frame_times=times,
            notes={**file.notes, **_count_reordered(parts)},
            warnings=tuple(file.warnings),
            out_of_bounds=out_of_bounds,
        )


def _from_memory(
    source: Any, *, max_events: int = MAX_EVENTS, out_of_bounds: str | None = None, **options: Any
) -> EventRecording:
    request = _request("the events", 1, options)
    if request.stream is not None:
        raise RecordingError(f"stream={request.stream!r} was said of events in memory; expected a file. Leave it out.")
    recording = EventRecording.from_any(
        source,
        width=request.width,
        height=request.height,
        time_unit=request.time_unit,
        columns=request.columns,
        out_of_bounds=out_of_bounds,
    )
    if request.start_us is not None or request.end_us is not None:
        recording = recording.between(*request.span)
    if len(recording) > max_events:
        raise _too_many(recording.name or "The recording", max_events)
    return recording


def _too_many(name: Any, max_events: int) -> RecordingError:
    return RecordingError(
        f"{name} holds more than {max_events} events, which are not read at once. Read a span (start_us, end_us), go through it "
        "with iterate_events, or raise max_events."
    )


def _request(
    path: str | os.PathLike[str], chunk: int, options: Mapping[str, Any], *, frames: bool = False
) -> ReadRequest:
    """The options in their types.

    Raises:
        UnknownNameError: there is no such option.
        RecordingError: an option has a value that means nothing.
    """
    for key, value in options.items():
        if key not in EventOptions.__annotations__:
            raise unknown_name("option of reading events", key, OPTIONS)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and key in ("start_us", "end_us", "width", "height") and not whole:
            raise RecordingError(f"{path}: {key} is {value!r}; expected a whole number.")
    numbers: dict[str, Any] = {
        key: int(value) if isinstance(value, np.integer) else value for key, value in options.items()
    }
    if numbers.get("damaged", "error") not in ("error", "keep"):
        raise RecordingError(f'{path}: damaged is {numbers["damaged"]!r}; expected "error" or "keep".')
    start, end = numbers.get("start_us"), numbers.get("end_us")
    if start is not None and end is not None and start >= end:
        raise RecordingError(
            f"{path}: the span runs from {start} to {end} µs; expected an end that comes after its start."
        )
    return ReadRequest(Path(path), chunk, frames=frames, **numbers)


def iterate_events(
    path: str | os.PathLike[str], chunk: int = 1_000_000, **options: Unpack[EventOptions]
) -> Iterator[EventRecording]:
    """Go through a recording of any length: parts of at most `chunk` events, in order, without frames.

    Memory is bounded by some multiples of `chunk` and of a packet of the format. Within a part, time never decreases; a file whose
    time steps back may do so from part to part. The options are those of `read_events`.

    Yields:
        parts with at least one event each.
    """
    if chunk < 1:
        raise RecordingError(f"chunk is {chunk}; expected at least one event.")
    waiting: list[EventRecording] = []
    held = 0
    for _, part in _parts(_request(path, chunk, options)):
        waiting.append(part)
        held += len(part)
        while held >= chunk:
            whole = _join(waiting)
            for first in range(0, held - chunk + 1, chunk):
                yield whole.slice(first, first + chunk)
            rest = held % chunk
            waiting, held = [whole.slice(len(whole) - rest, len(whole))], rest
    if held:
        yield _join(waiting)


def _parts(request: ReadRequest) -> Iterator[tuple[EventFile, EventRecording]]:
    """Every block of a file as a recording, as far as it lies in the span; one that is empty where none has events."""
    file = EventFile(iter(()))
    watch = OneClock(str(request.path))
    seen = given = 0

    def recording(*columns: Any) -> EventRecording:
        width, height = file.width or request.width, file.height or request.height
        part = EventRecording(*columns, width=width, height=height, name=watch.called)
        if request.start_us is None and request.end_us is None:
            return part
        inside = part.between(*request.span)
        if len(inside) < len(part):  # what is not wanted must not stay in memory behind a view
            inside = replace(inside, **{column: getattr(inside, column).copy() for column in "xytp"})
        return inside

    def whole(block: EventColumns) -> tuple[EventColumns, RecordingError | None]:
        """The events of a block that can be used, and what is wrong with the rest."""

        def settle(last: int) -> EventColumns:
            return settle_columns(*(column[:last] for column in block), called=watch.called)

        length = len(block[2])
        try:
            settled = settle(length)
            watch.see(*settled)
        except RecordingError as error:
            before = None if watch.restart is None else max(watch.restart - seen, 0)
            return settle(longest_good(length, settle) if before is None else before), error
        return settled, None

    try:
        opener = _opener(request)
        if request.stream is not None and opener in _ONE_STREAM:
            raise RecordingError(
                f"stream={request.stream!r} was said of {request.path}, which holds one stream of events; expected HDF5, AEDAT4 or "
                "npz. Leave it out."
            )
        file = opener(request)
        for block in file.blocks:
            usable, problem = whole(block)
            if problem is not None and request.damaged != "keep":
                raise problem
            seen += len(usable[2])
            part = recording(*usable)
            if len(part):
                given += 1
                yield file, part
            if problem is not None:
                raise problem
            after = request.end_us is not None and len(usable[2]) and int(usable[2].min()) - request.end_us
            if after and after > LONGEST_DELAY_US and watch.in_order:
                break
    except (ImportError, UnknownNameError):
        raise
    except Exception as error:  # noqa: BLE001 — the net, as of `reading`; what came before the damage may be wanted
        problem = error
        if not isinstance(error, RecordingError):
            problem = RecordingError(
                f"{request.path} cannot be read to its end: {reason(error)}. It is cut short or damaged; copy "
                'it again, or read what there is with damaged="keep".'
            )
        if request.damaged != "keep" or not seen:
            raise problem from error.__cause__ if problem is error else error
        logger.warning("%s; what comes before is kept.", problem)
        file.notes["damaged"] = str(problem)
        file.warnings.append(
            AnswerWarning("damaged_file", f"{problem} What comes before is kept: {seen} events, to {watch.highest} µs.")
        )
    if not given:
        yield file, recording(*settle_columns(*[np.empty(0, np.int64)] * 4, called=watch.called))


def _opener(request: ReadRequest) -> Callable[[ReadRequest], EventFile]:
    """The reader for a file, by its first bytes."""
    path = request.path
    if not path.exists():
        raise RecordingError(f"There is no file {path}.{nearest_file(path)}")
    if path.is_dir():
        raise RecordingError(f"{path} is a folder; expected one file of events.")
    refuse_special(path, RecordingError, "a file of events")
    with path.open("rb") as source:
        head = source.read(4096)
    if not head:
        raise RecordingError(f"{path} is empty (0 bytes); expected events. Copy it again.")
    if head.startswith(b"\x93NUMPY"):
        return open_npy
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return open_npz
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return open_hdf5
    if head.startswith(MAGIC):
        return open_aedat4
    if head.startswith(b"#!AER-DAT"):
        version = head[9:12].decode("ascii", "replace")
        raise RecordingError(f"{path} is AEDAT {version}; 4.0 is read. Convert it with iniVation's DV software.")
    if head.startswith(PARQUET):
        return open_parquet
    packed = [Path(path.stem).suffix] if head.startswith(GZIP) else []
    text = any(ending.lower() in (".csv", ".txt", ".tsv") for ending in (path.suffix, *packed))
    if head.startswith(b"% ") and not text:
        return open_prophesee
    if text or not any(byte < 9 or 13 < byte < 32 for byte in head):
        return open_text
    raise RecordingError(
        f"{path} begins with {head[:12]!r}, which is no file of events that is read; expected one of {', '.join(SUFFIXES)}. A raw "
        "file without its header cannot be told from others."
    )


def _join(parts: list[EventRecording]) -> EventRecording:
    if len(parts) == 1:
        return parts[0]
    x, y, t, p = (np.concatenate([getattr(part, column) for part in parts]) for column in ("x", "y", "t", "p"))
    return replace(parts[0], x=x, y=y, t=t, p=p, notes=_count_reordered(parts))


def _count_reordered(parts: list[EventRecording]) -> dict[str, int]:
    late = sum(int(part.notes.get("reordered", 0)) for part in parts)
    return {"reordered": late} if late else {}


def _stack_frames(file: EventFile, request: ReadRequest) -> tuple[NDArray[np.uint8] | None, NDArray[np.int64] | None]:
    start, end = request.span
    wanted = [(time, picture) for time, picture in file.frames if start <= time < end]
    if not wanted:
        return None, None
    sizes = {picture.shape for _, picture in wanted}
    if len(sizes) > 1:
        raise RecordingError(
            f"{request.path}: its frames have different sizes, {sorted(sizes)}; read with frames=False."
        )
    wanted.sort(key=lambda pair: pair[0])
    return np.stack([picture for _, picture in wanted]), np.array([time for time, _ in wanted], np.int64)
