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

import io
import logging
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..signal_recording import SignalRecording, Stream, check_clock

logger = logging.getLogger(__name__)

E4_STREAMS = ("acc", "bvp", "eda", "temp", "hr", "ibi")
"""Names of the streams; the file of "acc" is ACC.csv."""

E4_CHANNELS: dict[str, tuple[str, ...]] = {"acc": ("x", "y", "z")} | {name: (name,) for name in E4_STREAMS[1:]}

E4_RATES = {"acc": 32.0, "bvp": 64.0, "eda": 4.0, "temp": 4.0, "hr": 1.0}
"""Hz, fixed in the watch."""

_ACC_PER_G = 64.0
_LONGEST = 30 * 86400.0
"""The battery lasts two days, so clocks that lie a month apart are not of one session."""

_APART = 60.0
"""Sensors stop together, within seconds; a file that ends so much before the others was cut off, or its sensor failed."""


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


def is_empatica(names: list[str]) -> bool:
    """Do these file names (without folders) look like a session?"""
    found = {name.upper() for name in names}
    return {"ACC.CSV", "BVP.CSV"} <= found or {"EDA.CSV", "TEMP.CSV"} <= found


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of one session."""
    return dict(read_empatica(path).recording.streams)


def read_empatica(source: str | PathLike[str], *, folder: str = "") -> EmpaticaSession:
    """Read one session.

    Args:
        source: folder with the csv files, or a zip.
        folder: of a zip, the folder inside it; may be left out when the zip holds one session.

    Raises:
        RecordingError: nothing there, or a file that breaks the format; the message names file and stream.
    """
    path = Path(source)
    try:
        files = _folder_files(path) if path.is_dir() else _zip_files(path, folder)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordingError(
            f"{path} cannot be read ({error}). Expected a folder or a zip of an Empatica E4 session. Copy it again."
        ) from error
    return parse_empatica(files, name=f"{path}{'!/' + folder if folder else ''}")


def parse_empatica(files: Mapping[str, bytes], *, name: str) -> EmpaticaSession:
    """Make a session of the files' contents.

    Args:
        files: file name without folder ("ACC.csv") → content; others than those named above are ignored.
        name: what errors and the recording call it.

    Raises:
        RecordingError: no stream at all; a file that is truncated, not numbers, of another rate or with a clock that stands
            still or runs backwards. The message names file and stream.

    Of a file that was cut off between two lines nobody can tell, and of beats (IBI.csv) never.
    """
    contents = {file.upper(): content for file, content in files.items()}
    present = {
        stream: contents[f"{stream.upper()}.CSV"] for stream in E4_STREAMS if f"{stream.upper()}.CSV" in contents
    }
    if not present:
        raise RecordingError(
            f"{name} holds none of {', '.join(stream.upper() + '.csv' for stream in E4_STREAMS)}. Expected the files of an "
            "Empatica E4 session. Name the folder that holds them."
        )
    parsed = {stream: _parse(stream, content, name) for stream, content in present.items()}
    started = min(start for start, _ in parsed.values())
    streams = {}
    for stream, (start, one) in parsed.items():
        if start - started > _LONGEST:
            raise RecordingError(
                f"{name}, stream {stream!r}: {stream.upper()}.csv starts at {start:.0f} and another file at {started:.0f} "
                "seconds since 1970. Expected the files of one session. Put those of one session together."
            )
        streams[stream] = Stream(one.values, one.times + (start - started), one.rate, one.channels)
    _check_ends(streams, {stream for stream, one in present.items() if not one.endswith((b"\n", b"\r"))}, name)
    tags = next((one for file, one in contents.items() if file.startswith("TAGS") and file.endswith(".CSV")), b"")
    presses = _numbers(tags, 1, f"{name}, tags.csv")[:, 0] - started
    return EmpaticaSession(SignalRecording(streams, name=name), started, presses)


def _parse(stream: str, content: bytes, name: str) -> tuple[float, Stream]:
    """(start in seconds since 1970, the stream with times since then)."""
    where = f"{name}, stream {stream!r} ({stream.upper()}.csv)"
    channels = E4_CHANNELS[stream]
    lines = content.split(b"\n", 2)
    first = _header(lines[0] if lines else b"", where, "the start in seconds since 1970")
    if stream == "ibi":
        beats = _numbers(content.partition(b"\n")[2], 2, where)
        check_clock(beats[:, 0], where)
        return first, Stream(beats[:, 1:].astype(np.float32), beats[:, 0], None, channels)
    rate = _header(lines[1] if len(lines) > 1 else b"", where, "the rate in Hz")
    if rate != E4_RATES[stream]:
        raise RecordingError(
            f"{where}: the rate is {rate:g} Hz. The watch records {stream} at {E4_RATES[stream]:g} Hz. Correct the header, or "
            "hand the samples over as arrays with their own times."
        )
    values = _numbers(lines[2] if len(lines) > 2 else b"", len(channels), where)
    if stream == "acc":
        values = values / _ACC_PER_G
    return first, Stream.regular(values.astype(np.float32), rate, channels=channels)


def _header(line: bytes, where: str, what: str) -> float:
    """The number that a header line repeats for every column."""
    cells = line.decode("ascii", errors="replace").split(",")
    try:
        value = float(cells[0])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise RecordingError(f"{where}: the header says {cells[0].strip()!r}. Expected {what}. Copy the file again.")
    return value


def _numbers(content: bytes, columns: int, where: str) -> NDArray[np.float64]:
    """(rows, columns) of a csv without header."""
    if not content.strip():
        return np.empty((0, columns))
    import pyarrow as pa
    from pyarrow import csv

    names = [str(column) for column in range(columns)]
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise RecordingError(
            f"{where}: not {columns} numbers in every line ({error}). Expected the file as the watch wrote it. It may be cut "
            "off: copy it again."
        ) from error
    return np.stack([table[column].to_numpy() for column in names], axis=1)


def _check_ends(streams: Mapping[str, Stream], unfinished: set[str], name: str) -> None:
    """Where a csv of numbers was cut off inside its last line, what is left is a csv of numbers; beside the others it shows."""
    ends = {stream: float(one.times[-1]) for stream, one in streams.items() if len(one) and one.rate}
    last = max(ends, key=lambda stream: ends[stream], default="")
    for stream, end in ends.items():
        if end > ends[last] - _APART:
            continue
        file, other = f"{stream.upper()}.csv", f"{last.upper()}.csv"
        problem = f"{name}, stream {stream!r} ({file}): ends at {end:.0f} s, and {other} at {ends[last]:.0f} s"
        if stream in unfinished:
            raise RecordingError(
                f"{problem}, inside a line. Expected sensors that stop together, as the watch's do. It was cut off: copy it again, "
                "or leave it out."
            )
        logger.warning("%s. It may have been cut off between two lines; what is not there is missing.", problem)


def _folder_files(path: Path) -> dict[str, bytes]:
    wanted = {f"{stream.upper()}.CSV" for stream in E4_STREAMS}
    return {
        one.name: one.read_bytes()
        for one in sorted(path.iterdir())
        if one.is_file() and (one.name.upper() in wanted or one.name.lower().startswith("tags"))
    }


def _zip_files(path: Path, folder: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
        sessions = sorted({str(name.parent) for name in names if name.name.upper() == "ACC.CSV"})
        chosen = folder.strip("/") if folder else (sessions[0] if len(sessions) == 1 else "")
        if not folder and len(sessions) > 1:
            raise RecordingError(
                f"{path} holds {len(sessions)} sessions: {', '.join(sessions[:5])}. Expected one. Name the folder inside it."
            )
        inside = str(PurePosixPath(chosen or "."))
        return {name.name: archive.read(str(name)) for name in names if str(name.parent) == inside}
