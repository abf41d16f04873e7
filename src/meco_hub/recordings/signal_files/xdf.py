"""XDF, as the lab streaming layer's recorder writes it, through pyxdf.

pyxdf reads around damage and returns what it can. A recording that lost minutes without saying so is worse than an error, so the
chunks of a file are walked over first: all of them whole, and every stream closed by its footer.
"""

import gzip
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RecordingError, import_optional
from ..signal_recording import Stream, check_clock, even_rate

_FAILURES = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, MemoryError),
    *(OverflowError, struct.error, zlib.error, ElementTree.ParseError, np.linalg.LinAlgError, AssertionError),
)
_STREAM_HEADER, _STREAM_FOOTER = 2, 6


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Numeric streams of an XDF file, on one clock that starts at 0 with the earliest sample."""
    pyxdf = import_optional("pyxdf", f"Reading {path}", "signals")
    try:
        _check_chunks(path)
        streams, _ = pyxdf.load_xdf(path)
    except _FAILURES as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"{path} cannot be read as XDF ({type(error).__name__}: {error}). Expected a whole recording. Copy it again."
        ) from error
    numeric = [one for one in streams if one["info"]["channel_format"][0] != "string" and len(one["time_stamps"])]
    origin = min((float(one["time_stamps"][0]) for one in numeric), default=0.0)
    found: dict[str, Stream] = {}
    for one in numeric:
        name = one["info"]["name"][0] or "stream"
        name = f"{name}#{one['info']['stream_id']}" if name in found else name
        values = np.asarray(one["time_series"])
        values = values if values.dtype == np.float32 else values.astype(np.float64)
        times = np.asarray(one["time_stamps"], np.float64) - origin
        check_clock(times, f"{path}, stream {name!r}")
        nominal = float(one["info"]["nominal_srate"][0])
        labels = _labels(one["info"])
        if len(labels) != values.shape[1]:
            labels = ()
        found[name] = Stream(values, times, nominal if nominal > 0 else even_rate(times), labels)
    return found


def _labels(information: dict[str, Any]) -> tuple[str, ...]:
    """Names of channels, where the stream's description has them."""
    try:
        channels = information["desc"][0]["channels"][0]["channel"]
        return tuple(str(one["label"][0]) for one in channels)
    except (KeyError, IndexError, TypeError):
        return ()


def _check_chunks(path: Path) -> None:
    """Make sure that every chunk is whole and every stream has its footer."""
    packed = path.suffix.lower() in (".xdfz", ".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        if file.read(4) != b"XDF:":
            raise RecordingError(f"{path} does not begin with 'XDF:'. Expected an XDF file. Name the right one.")
        open_streams: dict[int, str] = {}
        while prefix := file.read(1):
            width = prefix[0]
            if width not in (1, 4, 8):
                raise RecordingError(
                    f"{path}: at byte {file.tell() - 1} no chunk begins. Expected whole chunks. Copy it again."
                )
            length = int.from_bytes(_exactly(file, width, path), "little")
            kind = int.from_bytes(_exactly(file, 2, path), "little")
            stream = int.from_bytes(_exactly(file, 4, path), "little") if kind in (2, 3, 4, 6) else 0
            head = 6 if kind in (2, 3, 4, 6) else 2
            if kind == _STREAM_HEADER:
                text = _exactly(file, length - head, path)
                open_streams[stream] = ElementTree.fromstring(text.decode()).findtext("name") or str(stream)
                continue
            if kind == _STREAM_FOOTER:
                open_streams.pop(stream, None)
            _skip(file, length - head, path)
    if open_streams:
        raise RecordingError(
            f"{path}: stream{'s' if len(open_streams) > 1 else ''} {', '.join(map(repr, open_streams.values()))} "
            "never ended. Expected a "
            "footer for each. The recorder was stopped before it closed the file, or the file was cut off: copy it again."
        )


def _exactly(file: Any, count: int, path: Path) -> bytes:
    content = file.read(count) if count >= 0 else b""
    if count < 0 or len(content) != count:
        raise RecordingError(
            f"{path} ends inside a chunk, at byte {file.tell()}. Expected whole chunks. It was cut off: copy it again."
        )
    return content


def _skip(file: Any, count: int, path: Path) -> None:
    while count > 0:
        step = min(count, 2**22)
        _exactly(file, step, path)
        count -= step
    if count < 0:
        _exactly(file, count, path)
