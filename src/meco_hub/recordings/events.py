"""Reading event recordings: whatever file holds them becomes an `EventRecording`, or a `RecordingError` that says why not.

    recording = read_events("clip.aedat4")                       # whole, with the frames of a DAVIS camera
    for part in iterate_events("hours.raw", chunk=1_000_000):    # one part after another, in bounded memory
        ...

| file | what is in it | needs |
|---|---|---|
| .npy, .npz | a structured array, four arrays, or an (events, 4) table | |
| .csv, .txt | one event a line | |
| .h5, .hdf5 | DSEC, Metavision, MVSEC, rpg_e2vid and what is like them | h5py (extra "events") |
| .aedat4 | DAVIS events and frames by DV | lz4 or zstandard (extra "events") |
| .raw | Prophesee EVT 2.0, 2.1, 3.0 | |

What a file is, is seen from its first bytes, not from its name. What had to be assumed — a unit of time, an order of columns — is
in the recording's `notes` and in the log.

This file knows which reader is for which file and what a caller gets; each format is known in `event_files/`.
"""

import logging
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError, suggest
from .event_files import EventFile, ReadRequest
from .event_files.aedat4 import MAGIC, open_aedat4
from .event_files.hdf5 import open_hdf5
from .event_files.prophesee import open_prophesee
from .event_files.tables import open_npy, open_npz, open_text
from .event_recording import EventRecording

logger = logging.getLogger(__name__)

MAX_EVENTS = 200_000_000
"""Events that `read_events` holds at most, unless told otherwise: 2.6 GB."""

SUFFIXES = (".npy", ".npz", ".csv", ".txt", ".h5", ".hdf5", ".aedat4", ".raw")
"""What files of events are usually called."""

# What the libraries below raise on damaged files, by kind of damage.
_READER_ERRORS = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, EOFError, OverflowError, RuntimeError, MemoryError),
    *(
        AttributeError,
        SyntaxError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        ParseError,
        NotImplementedError,
    ),
)


@dataclass(frozen=True)
class EventSummary:
    """What one pass over a recording tells: how many events, from when to when (microseconds), and on what sensor."""

    events: int
    start_us: int
    end_us: int
    width: int | None
    height: int | None


def read_events(
    path: str | os.PathLike[str],
    *,
    columns: str | Mapping[str, str | int] | None = None,
    time_unit: str | None = None,
    stream: str | None = None,
    width: int | None = None,
    height: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    frames: bool = True,
    damaged: Literal["error", "keep"] = "error",
    max_events: int = MAX_EVENTS,
) -> EventRecording:
    """Read a whole recording, or a span of it, into memory.

    Args:
        path: the file.
        columns: for tables without names, "txyp" and the like in the order of the file; for others column → its name.
        time_unit: "s", "ms", "us" or "ns"; None takes what the format says or what the values look like.
        stream: which event stream, where a file has several: a data set or group (HDF5), an array (npz), a name or number (AEDAT4).
        width, height: pixels of the sensor where the file does not say.
        start_us, end_us: only what lies in start ≤ time < end, in microseconds on the recording's own clock.
        frames: also decode a DAVIS camera's frames.
        damaged: "keep" takes what comes before the damage, logs a warning, and notes it under "damaged".
        max_events: more than this is an error.

    Raises:
        RecordingError: the file cannot be read; the message names file and stream.
        DependencyError: an optional package is needed for it.
    """
    request = _request(path, 1 << 20, columns, time_unit, stream, start_us, end_us, frames)
    parts: list[EventRecording] = []
    total = 0
    file = EventFile(iter(()))
    for opened, part in _parts(request, width, height, damaged):
        file = opened
        total += len(part)
        if total > max_events:
            raise RecordingError(
                f"{path} holds more than {max_events} events, which are not read at once. Read a span (start_us, end_us), go "
                "through it with iterate_events, or raise max_events."
            )
        parts.append(part)
    pictures, times = _stack_frames(file, request)
    return replace(_join(parts), frames=pictures, frame_times=times, notes={**file.notes, **_count_reordered(parts)})


def iterate_events(
    path: str | os.PathLike[str],
    chunk: int = 1_000_000,
    *,
    columns: str | Mapping[str, str | int] | None = None,
    time_unit: str | None = None,
    stream: str | None = None,
    width: int | None = None,
    height: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    damaged: Literal["error", "keep"] = "error",
) -> Iterator[EventRecording]:
    """Go through a recording of any length: parts of at most `chunk` events, in order, without frames.

    Memory is bounded by some multiples of `chunk` and of a packet of the format. Within a part, time never decreases; a file whose
    time steps back may do so from part to part. The other arguments are those of `read_events`.

    Yields:
        parts with at least one event each.
    """
    if chunk < 1:
        raise RecordingError(f"chunk is {chunk}; expected at least one event.")
    request = _request(path, chunk, columns, time_unit, stream, start_us, end_us, False)
    waiting: list[EventRecording] = []
    held = 0
    for _, part in _parts(request, width, height, damaged):
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


def summarise_events(parts: Iterator[EventRecording]) -> EventSummary:
    """Count the events of `iterate_events` and find the first and last time, in one pass.

    Raises:
        RecordingError: there are none.
    """
    events, start, end, width, height = 0, None, None, None, None
    for part in parts:
        if len(part):
            events += len(part)
            start = int(part.t[0]) if start is None else min(start, int(part.t[0]))
            end = int(part.t[-1]) if end is None else max(end, int(part.t[-1]))
        width, height = part.width, part.height
    if start is None or end is None:
        raise RecordingError("The recording holds no events; expected at least one.")
    return EventSummary(events, start, end, width, height)


def _request(
    path: str | os.PathLike[str],
    chunk: int,
    columns: str | Mapping[str, str | int] | None,
    time_unit: str | None,
    stream: str | None,
    start_us: int | None,
    end_us: int | None,
    frames: bool,
) -> ReadRequest:
    return ReadRequest(Path(path), chunk, columns, time_unit, stream, frames, start_us, end_us)


def _parts(
    request: ReadRequest, width: int | None, height: int | None, damaged: str
) -> Iterator[tuple[EventFile, EventRecording]]:
    """Every block of a file as a recording; the first comes also where it is empty."""
    file = EventFile(iter(()))
    given = 0
    try:
        file = _opener(request)(request)
        size = (file.width or width, file.height or height)
        for x, y, t, p in file.blocks:
            part = EventRecording.from_arrays(x, y, t, p, width=size[0], height=size[1], name=str(request.path))
            if request.start_us is not None or request.end_us is not None:
                part = _within(part, request)
            given += 1
            yield file, part
    except RecordingError as error:
        _raise_or_keep(error, request, file, damaged, given)
    except _READER_ERRORS as error:
        problem = RecordingError(
            f"{request.path} cannot be read to its end: {error or type(error).__name__}. It is cut short or damaged; copy it "
            'again, or read what there is with damaged="keep".'
        )
        problem.__cause__ = error
        _raise_or_keep(problem, request, file, damaged, given)
    if not given:
        none = np.empty(0, np.int64)
        yield (
            file,
            EventRecording.from_arrays(
                none, none, none, none, width=file.width or width, height=file.height or height, name=str(request.path)
            ),
        )


def _raise_or_keep(error: RecordingError, request: ReadRequest, file: EventFile, damaged: str, given: int) -> None:
    if damaged != "keep" or not given:
        raise error
    logger.warning("%s; what comes before is kept.", error)
    file.notes["damaged"] = str(error)


def _within(part: EventRecording, request: ReadRequest) -> EventRecording:
    low = np.iinfo(np.int64).min if request.start_us is None else request.start_us
    high = np.iinfo(np.int64).max if request.end_us is None else request.end_us
    return part.between(low, high)


def _opener(request: ReadRequest) -> Callable[[ReadRequest], EventFile]:
    """The reader for a file, by its first bytes."""
    path = request.path
    if not path.exists():
        raise RecordingError(f"There is no file {path}.{_nearest(path)}")
    if path.is_dir():
        raise RecordingError(f"{path} is a folder; expected one file of events.")
    if not path.is_file():
        raise RecordingError(f"{path} is a device or pipe; expected a file of events.")
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
    text = path.suffix.lower() in (".csv", ".txt", ".tsv")
    if head.startswith(b"% ") and not text:
        return open_prophesee
    if text or not _looks_binary(head):
        return open_text
    raise RecordingError(
        f"{path} begins with {head[:12]!r}, which is no file of events that is read; expected one of {', '.join(SUFFIXES)}. A raw "
        "file without its header cannot be told from others."
    )


def _looks_binary(head: bytes) -> bool:
    return any(byte < 9 or 13 < byte < 32 for byte in head)


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Its folder {path.parent} does not exist either."
    return suggest(path.name, [entry.name for entry in path.parent.iterdir()][:20_000])


def _join(parts: list[EventRecording]) -> EventRecording:
    if len(parts) == 1:
        return parts[0]
    x, y, t, p = (np.concatenate([getattr(part, column) for part in parts]) for column in ("x", "y", "t", "p"))
    return replace(parts[0], x=x, y=y, t=t, p=p, notes=_count_reordered(parts))


def _count_reordered(parts: list[EventRecording]) -> dict[str, int]:
    late = sum(int(part.notes.get("reordered", 0)) for part in parts)
    return {"reordered": late} if late else {}


def _stack_frames(file: EventFile, request: ReadRequest) -> tuple[NDArray[np.uint8] | None, NDArray[np.int64] | None]:
    wanted = [
        (time, picture)
        for time, picture in file.frames
        if (request.start_us is None or time >= request.start_us) and (request.end_us is None or time < request.end_us)
    ]
    if not wanted:
        return None, None
    sizes = {picture.shape for _, picture in wanted}
    if len(sizes) > 1:
        raise RecordingError(
            f"{request.path}: its frames have different sizes, {sorted(sizes)}; read with frames=False."
        )
    wanted.sort(key=lambda pair: pair[0])
    return np.stack([picture for _, picture in wanted]), np.array([time for time, _ in wanted], np.int64)
