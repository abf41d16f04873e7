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
from typing import Any, Literal, TypedDict, Unpack
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError
from .event_files import EventFile, ReadRequest
from .event_files.aedat4 import MAGIC, open_aedat4
from .event_files.hdf5 import open_hdf5
from .event_files.prophesee import open_prophesee
from .event_files.tables import open_npy, open_npz, open_text
from .event_recording import EventRecording
from .images import nearest_file

logger = logging.getLogger(__name__)

MAX_EVENTS = 200_000_000
"""Events that `read_events` holds at most, unless told otherwise: 2.6 GB."""

SUFFIXES = (".npy", ".npz", ".csv", ".txt", ".h5", ".hdf5", ".aedat4", ".raw")
"""What files of events are usually called."""

# What the libraries below raise on damaged files, by kind of damage.
_READER_ERRORS = (
    *(OSError, ValueError, KeyError, TypeError, IndexError, EOFError, OverflowError, RuntimeError, MemoryError),
    *(AttributeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error, ParseError),
)


@dataclass(frozen=True)
class EventSummary:
    """What one pass over a recording tells: how many events, from when to when (microseconds), and on what sensor."""

    events: int
    start_us: int
    end_us: int
    width: int | None
    height: int | None


class EventOptions(TypedDict, total=False):
    """How a file of events is read, beyond what it says itself.

    Attributes:
        columns: for tables without names, "txyp" and the like in the order of the file; for others column → its name.
        time_unit: "s", "ms", "us" or "ns"; None takes what the format says or what the values look like.
        stream: which event stream, where a file has several: a data set or group (HDF5), an array (npz), a name or number (AEDAT4).
        width, height: pixels of the sensor where the file does not say.
        start_us, end_us: only what lies in start ≤ time < end, in microseconds on the recording's own clock.
        damaged: "error" (default), or "keep": takes what comes before the damage, logs a warning, and notes it under "damaged".
    """

    columns: str | Mapping[str, str | int] | None
    time_unit: str | None
    stream: str | None
    width: int | None
    height: int | None
    start_us: int | None
    end_us: int | None
    damaged: Literal["error", "keep"]


def read_events(
    path: str | os.PathLike[str],
    *,
    frames: bool = True,
    max_events: int = MAX_EVENTS,
    **options: Unpack[EventOptions],
) -> EventRecording:
    """Read a whole recording, or a span of it, into memory.

    Args:
        path: the file.
        frames: also decode a DAVIS camera's frames.
        max_events: more than this is an error.
        **options: see `EventOptions`.

    Raises:
        RecordingError: the file cannot be read; the message names file and stream.
        DependencyError: an optional package is needed for it.
    """
    request = ReadRequest(Path(path), 1 << 20, frames=frames, **options)
    parts: list[EventRecording] = []
    total = 0
    file = EventFile(iter(()))
    for opened, part in _parts(request):
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
    for _, part in _parts(ReadRequest(Path(path), chunk, **options)):
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


def _parts(request: ReadRequest) -> Iterator[tuple[EventFile, EventRecording]]:
    """Every block of a file as a recording; the first comes also where it is empty."""
    file = EventFile(iter(()))
    given = 0

    def recording(x: Any, y: Any, t: Any, p: Any) -> EventRecording:
        width, height = file.width or request.width, file.height or request.height
        return EventRecording.from_arrays(x, y, t, p, width=width, height=height, name=str(request.path))

    try:
        file = _opener(request)(request)
        for block in file.blocks:
            part = recording(*block)
            if request.start_us is not None or request.end_us is not None:
                part = part.between(*request.span)
            given += 1
            yield file, part
    except (RecordingError, *_READER_ERRORS) as error:
        problem = error
        if not isinstance(error, RecordingError):
            problem = RecordingError(
                f"{request.path} cannot be read to its end: {error or type(error).__name__}. It is cut short or damaged; copy "
                'it again, or read what there is with damaged="keep".'
            )
        if request.damaged != "keep" or not given:
            raise problem from error.__cause__ if problem is error else error
        logger.warning("%s; what comes before is kept.", problem)
        file.notes["damaged"] = str(problem)
    if not given:
        yield file, recording(*[np.empty(0, np.int64)] * 4)


def _opener(request: ReadRequest) -> Callable[[ReadRequest], EventFile]:
    """The reader for a file, by its first bytes."""
    path = request.path
    if not path.exists():
        raise RecordingError(f"There is no file {path}.{nearest_file(path)}")
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
