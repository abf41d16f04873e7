"""XDF, as the lab streaming layer's recorder writes it, through pyxdf.

pyxdf reads around damage and returns what it can. A recording that lost minutes without saying so is worse than an error, so the
chunks of a file are walked over first: all of them must be whole. Time stamps are checked as they were recorded; those of a clock
that trembles are then smoothed between its gaps, never across one.
"""

import gzip
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, import_optional, quote
from ...reading import check_packed, reading
from ..signal_recording import Stream, StreamCollector, check_clock, even_rate

_STREAM_HEADER, _SAMPLES, _STREAM_FOOTER = 2, 3, 6
_GAP_S, _GAP_SAMPLES = 1.0, 4
"""A step of a trembling clock is a gap when it is longer than so many seconds and so many samples."""

_BURST = 2.0
"""Stamps that lie so many times closer than the rate says are those of packets that waited for each other."""

_WIDTHS = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "double64": 8}
"""Bytes of a value; of a text two at least, its length and how that is written."""

_LONGEST_PART = 2**24
"""Bytes of a stream's header, and of what is read at once."""

_LATE_S = 0.25
"""Packets overtake each other by no more."""


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Numeric streams of an XDF file, on one clock that starts at 0 with the earliest sample."""
    pyxdf = import_optional("pyxdf", f"Reading {path}", "signals")
    with reading(f"{path} cannot be read as XDF", RecordingError, "Expected a whole recording. Copy it again."):
        never_ended = _check_chunks(path)
        # as stamped: pyxdf's smoothing runs across gaps, and closes them
        streams, _ = pyxdf.load_xdf(path, dejitter_timestamps=False)
    if never_ended:
        found.doubt(
            "recording_unfinished",
            f"{path}: {quote(', '.join(map(repr, never_ended)))} never ended. Expected a footer for each stream. The "
            "recorder was stopped "
            "before it closed the file, or the file was cut off; what is there is read.",
        )
    numeric = [one for one in streams if one["info"]["channel_format"][0] != "string" and len(one["time_stamps"])]
    origin = min((float(np.nanmin(one["time_stamps"])) for one in numeric), default=0.0)
    named = [one["info"]["name"][0] or "stream" for one in numeric]
    names = found.distinct(named, "streams", [one["info"]["stream_id"] for one in numeric])
    for one, name in zip(numeric, names, strict=True):
        with found.part(name):
            found.streams[name] = _stream(one, origin, f"{path}, stream '{quote(name)}'")


def _stream(one: dict[str, Any], origin: float, where: str) -> Stream:
    information = one["info"]
    values = np.asarray(one["time_series"])
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    nominal = float(information["nominal_srate"][0])
    times = np.asarray(one["time_stamps"], np.float64) - origin
    times = _smooth(times, nominal, where) if nominal > 0 else times
    check_clock(times, where)
    labels, units = _described(information, "label"), _described(information, "unit")
    columns = values.shape[1]
    return Stream(
        values,
        times,
        nominal if nominal > 0 else even_rate(times),
        labels if len(labels) == columns else (),
        units if len(units) == columns else (),
        str((information.get("type") or [""])[0] or ""),
    )


def _smooth(times: NDArray[np.float64], rate: float, where: str) -> NDArray[np.float64]:
    """Stamps of a clock that trembles as the straight lines that fit them best, one between two gaps and the next; even ones stay.

    Packets may come in bursts, whose stamps are even at a rate of their own: only those at about the stated one stay.

    A step is a gap where it is longer than a trembling packet makes it, and backwards where no packet comes so late: then the
    stamps stay as they are, and are refused.
    """
    even = even_rate(times)
    if (even is not None and even < _BURST * rate) or not np.isfinite(times).all():
        return times
    steps = np.diff(times)
    gaps = np.flatnonzero(steps > max(_GAP_S, _GAP_SAMPLES / rate)) + 1
    if not len(times) or steps.min(initial=0.0) < -max(_LATE_S, 1 / rate):
        return times
    smooth = times.copy()
    for first, last in zip([0, *gaps], [*gaps, len(times)], strict=True):
        if last - first > 2:
            index = np.arange(first, last)
            smooth[first:last] = np.polyval(np.polyfit(index - first, times[first:last], 1), index - first)
    return smooth


def _described(information: dict[str, Any], what: str) -> tuple[str, ...]:
    """Names or units of channels, where the stream's description has them."""
    try:
        channels = information["desc"][0]["channels"][0]["channel"]
        return tuple(str(one[what][0]) for one in channels)
    except (KeyError, IndexError, TypeError):
        return ()


def _check_chunks(path: Path) -> list[str]:
    """Make sure that every chunk is whole; the streams that have no footer."""
    packed = path.suffix.lower() in (".xdfz", ".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        if file.read(4) != b"XDF:":
            raise RecordingError(f"{path} does not begin with 'XDF:'. Expected an XDF file. Name the right one.")
        open_streams: dict[int, str] = {}
        widths: dict[int, int] = {}  # bytes of a sample at least
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
            check_packed(file.tell() + length, path.stat().st_size, str(path), RecordingError)
            if kind == _STREAM_HEADER:
                told = ElementTree.fromstring(_exactly(file, length - head, path).decode())
                open_streams[stream] = told.findtext("name") or str(stream)
                width = _WIDTHS.get(told.findtext("channel_format") or "", 2)
                widths[stream] = width * int(told.findtext("channel_count") or 0)
                continue
            if kind == _STREAM_FOOTER:
                open_streams.pop(stream, None)
            if kind == _SAMPLES:
                head += _check_count(file, length - head, widths.get(stream, 0), path)
            _skip(file, length - head, path)
    return list(open_streams.values())


def _check_count(file: Any, length: int, sample: int, path: Path) -> int:
    """Compare how many samples a chunk claims with its bytes, as pyxdf makes room for all of them; how many bytes that took."""
    width = _exactly(file, 1, path)[0]
    count = int.from_bytes(_exactly(file, width, path), "little") if width in (1, 4, 8) else length + 1
    if count * (1 + max(sample, 0)) > length:  # each begins with a byte that says whether a time follows
        raise RecordingError(
            f"{path}: a chunk of {length} bytes claims {count} samples of {sample} bytes. It is damaged: copy it again."
        )
    return 1 + width


def _exactly(file: Any, count: int, path: Path) -> bytes:
    content = file.read(min(count, _LONGEST_PART)) if count >= 0 else b""
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
