"""Empatica E4: one session as the watch writes it, a folder of csv files, or the same in a zip.

    ACC.csv     line 1: start (seconds since 1970, UTC), line 2: rate, then x,y,z in 1/64 g        32 Hz
    BVP.csv     likewise, one column: photoplethysmogram, no unit                                  64 Hz
    EDA.csv     likewise, µS                                                                        4 Hz
    TEMP.csv    likewise, °C                                                                        4 Hz
    HR.csv      likewise, beats per minute, averaged over 10 s: starts 10 s after the others        1 Hz
    IBI.csv     line 1: start and the word IBI, then time since the start, interval; both seconds   irregular
    tags.csv    seconds since 1970 of each press of the button; optional, `tags_<name>.csv` in some data sets

(`info.txt`, which lies beside them, says so.) Every file brings a clock of its own, and so does every stream here: seconds since
the earliest start of any of them. A file that is not there is a stream that was not worn.
"""

import contextlib
import io
import math
import statistics
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, quote
from ...reading import read_bytes, read_member, reading
from ..signal_recording import SignalRecording, Stream, StreamCollector, check_clock

E4_STREAMS = ("acc", "bvp", "eda", "temp", "hr", "ibi")
"""Names of the streams; the file of "acc" is ACC.csv."""

_FILES = frozenset(f"{name.upper()}.CSV" for name in E4_STREAMS)

E4_CHANNELS: dict[str, tuple[str, ...]] = {"acc": ("x", "y", "z")} | {name: (name,) for name in E4_STREAMS[1:]}

E4_UNITS = {"acc": ("g",) * 3, "eda": ("µS",), "temp": ("°C",), "hr": ("bpm",), "ibi": ("s",)}

E4_RATES = {"acc": 32.0, "bvp": 64.0, "eda": 4.0, "temp": 4.0, "hr": 1.0}
"""Hz, fixed in the watch."""

_ACC_PER_G = 64.0
MAX_BYTES = 2**27
"""Of one file: what the battery lasts for has 90 MB at most, of the pulse's 64 Hz."""

_APART = 60.0
"""Sensors start and stop together, within seconds; a file that ends so much before the others was cut off, or its sensor failed."""


@dataclass(frozen=True)
class EmpaticaSession:
    """One session.

    Attributes:
        recording: streams acc (g), bvp, eda (µS), temp (°C), hr (beats per minute), ibi (s), those that were there.
        started: seconds since 1970, UTC, at which the recording's clock is 0.
        tags: (presses,) seconds on the recording's clock.
    """

    recording: SignalRecording
    started: float
    tags: NDArray[np.float64]


def is_empatica(folder: Path) -> bool:
    """Whether a file of a folder is called as the watch's and begins with its start, as they do; tables have a header."""
    for file in folder.iterdir():
        if file.name.upper() in _FILES and file.is_file():
            with file.open("rb") as content:
                start = content.readline(64).partition(b",")[0]
            with contextlib.suppress(ValueError):
                return float(start) > 0
    return False


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one session."""
    recording = read_empatica(path).recording
    found.streams.update(recording.streams)
    found.warnings += recording.warnings


def read_empatica(source: str | PathLike[str], *, folder: str = "") -> EmpaticaSession:
    """Read one session.

    Args:
        source: folder with the csv files, or a zip.
        folder: of a zip, the folder inside it; may be left out when the zip holds one session.

    Raises:
        RecordingError: nothing there, or a file that breaks the format; the message names file and stream.
    """
    path = Path(source)
    remedy = "Expected a folder or a zip of an Empatica E4 session. Copy it again."
    contents: dict[str, bytes] = {}
    seen: set[str] = set()
    unread = []
    with reading(f"{path} cannot be read", RecordingError, remedy):
        for file, take in _folder_files(path) if path.is_dir() else _zip_files(path, folder):
            if file.upper() in seen:  # nobody can say which of them it is
                contents.pop(file.upper(), None)
                unread.append(f"{path} has two files called {quote(file)}. Expected one. Take the other away.")
                continue
            seen.add(file.upper())
            try:
                with reading(f"{path}, {quote(file)}, cannot be read", RecordingError, remedy):
                    contents[file.upper()] = take()
            except RecordingError as error:  # the others may be whole
                unread.append(str(error))
    return parse_empatica(contents, name=f"{path}{'!/' + folder if folder else ''}", unread=unread)


def parse_empatica(files: Mapping[str, bytes], *, name: str, unread: Sequence[str] = ()) -> EmpaticaSession:
    """Make a session of the files' contents.

    Args:
        files: file name without folder ("ACC.csv") → content; others than those named above are ignored.
        name: what errors and the recording call it.
        unread: why others have no content.

    Raises:
        RecordingError: no stream at all that can be used. A file that is truncated, not numbers, of another rate or with a clock
            that stands still or runs backwards is left out; the recording's warnings name it.

    Of a file that was cut off between two lines nobody can tell, and of beats (IBI.csv) never.
    """
    contents = {file.upper(): content for file, content in files.items()}
    present = {
        stream: contents[f"{stream.upper()}.CSV"] for stream in E4_STREAMS if f"{stream.upper()}.CSV" in contents
    }
    if not present and not unread:
        raise RecordingError(
            f"{name} holds none of {', '.join(stream.upper() + '.csv' for stream in E4_STREAMS)}. Expected the files of an "
            "Empatica E4 session. Name the folder that holds them."
        )
    found, starts = StreamCollector(name), {}
    for reason in unread:
        found.leave_out(reason)
    for stream, content in present.items():
        with found.part(stream):
            starts[stream], found.streams[stream] = _parse(stream, content, name)
    spans = {
        stream: (starts[stream], starts[stream] + (float(one.times[-1]) if len(one) else 0.0))
        for stream, one in found.streams.items()
    }
    usual = statistics.median_low(start for start, _ in spans.values()) if spans else 0.0
    last = max((end for start, end in spans.values() if abs(start - usual) <= _APART), default=0.0)
    for stream, (start, end) in spans.items():
        if start > last + _APART or end < usual - _APART:
            del found.streams[stream]
            with found.part(stream):
                raise RecordingError(
                    f"{name}, stream {stream!r}: {stream.upper()}.csv lasts from {start:.0f} to {end:.0f} and other files from "
                    f"{usual:.0f} to {last:.0f} seconds since 1970. Expected the files of one session. Put those of one session "
                    "together."
                )
    started = min((starts[stream] for stream in found.streams), default=0.0)
    for stream, one in found.streams.items():
        found.streams[stream] = replace(one, times=one.times + (starts[stream] - started))
    ends = {stream: float(one.times[-1]) for stream, one in found.streams.items() if len(one) and one.rate}
    for stream in ends:
        with found.part(stream):
            _check_end(stream, ends, present[stream], found)
    presses = np.empty(0)
    with found.part("tags"):
        tags = next((one for file, one in contents.items() if file.startswith("TAGS") and file.endswith(".CSV")), b"")
        presses = _numbers(tags, 1, f"{name}, tags.csv")[:, 0] - started
    return EmpaticaSession(found.recording(), started, presses)


def _parse(stream: str, content: bytes, name: str) -> tuple[float, Stream]:
    """(start in seconds since 1970, the stream with times since then)."""
    where = f"{name}, stream {stream!r} ({stream.upper()}.csv)"
    channels = E4_CHANNELS[stream]
    lines = content.split(b"\n", 2)
    first = _header(lines[0] if lines else b"", where, "the start in seconds since 1970")
    if stream == "ibi":
        beats = _numbers(content.partition(b"\n")[2], 2, where)
        check_clock(beats[:, 0], where)
        return first, Stream(beats[:, 1:].astype(np.float32), beats[:, 0], None, channels, E4_UNITS["ibi"])
    rate = _header(lines[1] if len(lines) > 1 else b"", where, "the rate in Hz")
    if rate != E4_RATES[stream]:
        raise RecordingError(
            f"{where}: the rate is {rate:g} Hz. The watch records {stream} at {E4_RATES[stream]:g} Hz. Correct the header, or "
            "hand the samples over as arrays with their own times."
        )
    values = _numbers(lines[2] if len(lines) > 2 else b"", len(channels), where)
    if stream == "acc":
        values = values / _ACC_PER_G
    units = E4_UNITS.get(stream, ())
    return first, Stream.regular(values.astype(np.float32), rate, channels=channels, units=units)


def _header(line: bytes, where: str, what: str) -> float:
    """The number that a header line repeats for every column."""
    text = line.decode("ascii", errors="replace").strip()
    cells = [cell.strip() for cell in text.split(",") if cell.strip() and cell.strip().upper() != "IBI"]
    try:
        values = {float(cell) for cell in cells}
    except ValueError:
        values = set()
    value = values.pop() if len(values) == 1 else math.nan  # "1,6E+09" is a decimal comma of a spreadsheet
    if not math.isfinite(value) or value <= 0:
        raise RecordingError(f"{where}: the header says '{quote(text)}'. Expected {what}. Copy the file again.")
    return value


def _numbers(content: bytes, columns: int, where: str) -> NDArray[np.float64]:
    """(rows, columns) of a csv without header."""
    if not content.strip():
        return np.empty((0, columns))
    import pyarrow as pa
    from pyarrow import csv

    names = [str(column) for column in range(columns)]
    remedy = "Expected the file as the watch wrote it. It may be cut off: copy it again."
    with reading(f"{where}: not {columns} numbers in every line", RecordingError, remedy):
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[]),
        )
    return np.stack([table[column].to_numpy() for column in names], axis=1)


def _check_end(stream: str, ends: Mapping[str, float], content: bytes, found: StreamCollector) -> None:
    """Where a csv of numbers was cut off inside its last line, what is left is a csv of numbers; beside the others it shows."""
    last = max(ends, key=lambda other: ends[other])
    if ends[stream] > ends[last] - _APART:
        return
    file, other = f"{stream.upper()}.csv", f"{last.upper()}.csv"
    problem = (
        f"{found.name}, stream {stream!r} ({file}): ends at {ends[stream]:.0f} s, and {other} at {ends[last]:.0f} s"
    )
    if not content.endswith((b"\n", b"\r")):
        raise RecordingError(
            f"{problem}, inside a line. Expected sensors that stop together, as the watch's do. It was cut off: copy it again, "
            "or leave it out."
        )
    found.doubt(
        "stream_ends_early", f"{problem}. It may have been cut off between two lines; what is not there is missing."
    )


def _folder_files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for one in sorted(path.iterdir()):
        # what has such a name and is no file, is said
        if one.name.upper() in _FILES or (one.is_file() and one.name.lower().startswith("tags")):
            yield one.name, partial(read_bytes, one, RecordingError, MAX_BYTES)


def _zip_files(path: Path, folder: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        names = [(PurePosixPath(info.filename), info) for info in archive.infolist()]
        files = [name for name, info in names if not info.is_dir()]
        sessions = sorted(
            {str(name.parent) for name in files if name.name.upper() in _FILES and "__MACOSX" not in name.parts}
        )
        chosen = folder.strip("/") if folder else (sessions[0] if len(sessions) == 1 else "")
        if not folder and len(sessions) > 1:
            raise RecordingError(
                f"{path} holds {len(sessions)} sessions: {quote(', '.join(sessions[:5]))}. Expected one. Name the folder inside it."
            )
        inside = str(PurePosixPath(chosen or "."))
        for name, info in names:
            if str(name.parent) == inside and (name.name.upper() in _FILES or name.name.upper().startswith("TAGS")):
                yield (
                    name.name,
                    partial(read_member, archive, info, f"{path}!/{quote(name)}", RecordingError, MAX_BYTES),
                )
