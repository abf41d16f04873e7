"""AEDAT 4 files, as iniVation's DV software writes them for DAVIS cameras: events and frames, decoded without a copy per event.

A file is the line "#!AER-DAT4.0", a header that names the streams in XML, and packets: eight bytes of stream number and size,
then a FlatBuffer, compressed as a whole with LZ4 or Zstandard or not at all. Where the header says so, an index of the packets
stands at the end; it is not needed here, and its place tells where the packets end.

Of FlatBuffers only what these tables need is decoded, and every offset is checked against the packet, so that a damaged file
gives an error and nothing else. Written from iniVation's public description of the format.
"""

import io
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...answer_warnings import AnswerWarning
from ...errors import RecordingError, import_optional, quote
from ...reading import check_packed
from ..flatbuffers import Table
from . import EventColumns, EventFile, ReadRequest

MAGIC = b"#!AER-DAT4.0\r\n"
MAX_PACKET = 1 << 28  # bytes, decompressed; the largest packets in use have a few million
MAX_FRAMES = 1 << 32  # bytes of decoded frames in one recording

_EVENT = np.dtype(
    {"names": list("txyp"), "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
_NONE, _LZ4, _LZ4_HIGH, _ZSTD, _ZSTD_HIGH = range(5)
_CHANNELS = {0: 1, 16: 3, 24: 4}  # OpenCV's codes for 8-bit grey, BGR and BGRA


@dataclass(frozen=True)
class _Stream:
    number: int
    kind: str
    name: str
    width: int | None
    height: int | None
    source: str  # the camera


def open_aedat4(request: ReadRequest) -> EventFile:
    """Open an AEDAT 4 file.

    Raises:
        DependencyError: it is compressed with what is not installed.
        RecordingError: it is damaged, or holds no events, or several event streams and none was chosen.
    """
    stream = request.path.open("rb")
    try:
        size = request.path.stat().st_size
        stream.seek(len(MAGIC))
        length = _unpack("<I", _take(stream, 4, request))
        if length > min(size, MAX_PACKET):
            raise RecordingError(f"{request.path}: the header claims {length} bytes of {size}; the file is damaged.")
        header = Table.root(_take(stream, length, request), b"IOHE", f"{request.path}, header")
        compression, table_at = header.scalar(0, "<i", 0), header.scalar(1, "<q", -1)
        decompress = _decompressor(compression, request)
        streams = _parse_streams(header.text(2), request)
        start = stream.tell()
        end = size if table_at < 0 else table_at
        problem = None  # said when the packets that are there have been read
        if not start <= end <= size:
            problem = RecordingError(
                f"{request.path}: its packets should end at byte {end} of {size}; the file was cut short or damaged. Copy "
                'it again, or read what there is with damaged="keep".'
            )
            if request.damaged != "keep" or end < start:
                raise problem
            end = size
        events = _choose(streams, request)
    except BaseException:
        stream.close()
        raise
    file = EventFile(iter(()), events.width, events.height, {"stream": events.name})
    pictures = [one for one in streams if one.kind == "FRME"]
    if (
        len(pictures) > 1 or sum(one.kind == "EVTS" for one in streams) > 1
    ):  # of several cameras: those of the events' own
        pictures = [one for one in pictures if one.source and one.source == events.source]
    frames = pictures[0] if pictures and request.frames else None

    def blocks() -> Iterator[EventColumns]:
        decoded = unpacked = 0

        def unpack(length: int) -> bytes:
            nonlocal unpacked
            data = decompress(_take(stream, length, request))
            unpacked += len(data)
            check_packed(unpacked, size, str(request.path), RecordingError)
            return data

        with stream:
            stream.seek(start)
            while stream.tell() < end:
                number, length = struct.unpack("<ii", _take(stream, 8, request))
                if length < 0 or stream.tell() + length > end:
                    raise RecordingError(
                        f"{request.path}: a packet of {length} bytes at byte {stream.tell() - 8} does not fit into it; it was "
                        'cut short or damaged. Copy it again, or read what there is with damaged="keep".'
                    )
                if number == events.number:
                    yield _read_events(unpack(length), f"{request.path}, {events.name}")
                elif frames is not None and number == frames.number:
                    frame = _read_frame(unpack(length), f"{request.path}, {frames.name}")
                    decoded += frame[1].nbytes
                    if decoded > MAX_FRAMES:
                        raise RecordingError(
                            f"{request.path}: the frames need more than {MAX_FRAMES >> 30} GiB; read with frames=False."
                        )
                    file.frames.append(frame)
                else:
                    stream.seek(length, io.SEEK_CUR)
        if problem is not None:
            raise problem
        if table_at < 0:
            said = f"{request.path}: the recorder did not write the index, which comes last; all packets that are there are read."
            file.warnings.append(AnswerWarning("recording_unfinished", said))

    file.blocks = blocks()
    return file


def _take(stream: BinaryIO, length: int, request: ReadRequest) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise RecordingError(
            f"{request.path} ends {length - len(data)} bytes too early; it was cut short. Copy it again, or read what there is "
            'with damaged="keep".'
        )
    return data


def _unpack(form: str, data: bytes) -> int:
    return int(struct.unpack(form, data)[0])


def _decompressor(code: int, request: ReadRequest) -> Callable[[bytes], bytes]:
    def limited(data: bytes) -> bytes:
        if len(data) > MAX_PACKET:
            raise RecordingError(
                f"{request.path}: a packet decompresses to more than {MAX_PACKET >> 20} MiB; it is damaged."
            )
        return data

    if code == _NONE:
        return limited
    if code in (_LZ4, _LZ4_HIGH):
        lz4_frame = import_optional("lz4.frame", f"Reading {request.path}", "events")

        def of_lz4(data: bytes) -> bytes:
            stream = lz4_frame.LZ4FrameDecompressor()
            result = limited(stream.decompress(data, max_length=MAX_PACKET + 1))
            if not stream.eof:
                raise RecordingError(f"{request.path}: a packet's LZ4 frame does not end; the file is damaged.")
            return result

        return of_lz4
    if code in (_ZSTD, _ZSTD_HIGH):
        zstandard = import_optional("zstandard", f"Reading {request.path}", "events")

        def of_zstd(data: bytes) -> bytes:
            try:
                with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
                    return limited(stream.read(MAX_PACKET + 1))
            except zstandard.ZstdError as error:
                raise RecordingError(
                    f"{request.path}: a packet cannot be decompressed: {error}. It is damaged."
                ) from error

        return of_zstd
    raise RecordingError(
        f"{request.path}: compression {code} is unknown; none, LZ4 and Zstandard are read. It may be damaged."
    )


def _parse_streams(text: str, request: ReadRequest) -> list[_Stream]:
    """The streams that the header's XML names."""
    if "<!" in text:  # DV writes no document type; entities could be made to grow without bound
        raise RecordingError(
            f"{request.path}: the header's XML declares entities or a document type; it is no header of DV's."
        )
    root = ElementTree.fromstring(text)
    streams = []
    for node in root.iterfind("./node[@name='outInfo']/node"):
        attributes = {item.get("key", ""): (item.text or "") for item in node.iterfind("attr")}
        info = {item.get("key", ""): (item.text or "") for item in node.iterfind("node[@name='info']/attr")}
        sides = [int(info[side]) if info.get(side, "").isdecimal() else None for side in ("sizeX", "sizeY")]
        number = node.get("name", "")
        if number.isdecimal():
            name = attributes.get("originalOutputName") or f"stream {number}"
            kind, camera = attributes.get("typeIdentifier", ""), info.get("source", "")
            streams.append(_Stream(int(number), kind, name, *sides, source=camera))
    return streams


def _choose(streams: list[_Stream], request: ReadRequest) -> _Stream:
    events = [one for one in streams if one.kind == "EVTS"]
    if request.stream is not None:
        events = [one for one in events if request.stream in (one.name, str(one.number))]
    if len(events) != 1:
        listing = ", ".join(f"{one.number} {one.name} ({one.kind})" for one in streams) or "none"
        wish = "one event stream" if request.stream is None else f"the event stream {request.stream!r}"
        raise RecordingError(
            f"{request.path} holds the streams {quote(listing)}; expected {wish}. Say stream=, by name or number, "
            "where there are several."
        )
    return events[0]


def _read_events(data: bytes, called: str) -> EventColumns:
    table = Table.root(_strip_size(data, called), b"EVTS", called)
    events = table.vector(0, _EVENT)
    return events["x"], events["y"], events["t"].astype(np.int64), events["p"]


def _read_frame(data: bytes, called: str) -> tuple[int, NDArray[np.uint8]]:
    table = Table.root(_strip_size(data, called), b"FRME", called)
    form, width, height = table.scalar(5, "<b", 0), table.scalar(6, "<h", 0), table.scalar(7, "<h", 0)
    pixels = table.vector(10, np.dtype(np.uint8))
    channels = _CHANNELS.get(form)
    if channels is None or width < 1 or height < 1 or len(pixels) != width * height * channels:
        raise RecordingError(
            f"{called}: a frame has format {form}, {width}×{height} pixels and {len(pixels)} bytes; expected 8-bit grey, BGR or "
            "BGRA."
        )
    if channels == 1:
        grey = pixels.reshape(height, width).copy()
    else:  # ITU-R 601 luma, as everywhere else here
        colour = pixels.reshape(height, width, channels)[..., 2::-1]
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))
    return table.scalar(0, "<q", 0), grey


def _strip_size(data: bytes, called: str) -> bytes:
    if len(data) < 4 or _unpack("<I", data[:4]) > len(data) - 4:
        raise RecordingError(f"{called}: a packet is shorter than it says; the file is damaged.")
    return data[4:]
