"""Empatica EmbracePlus: raw data in Avro, one file or a folder or zip of the files of one session, a quarter of an hour each.

    rawData.accelerometer    x, y, z as whole numbers, and what one of them is in g         acc, g
    rawData.eda              µS                                                             eda
    rawData.temperature      °C                                                             temp
    rawData.bvp              photoplethysmogram, no unit                                    bvp
    rawData.systolicPeaks    nanoseconds since 1970 of each pulse: the time between two     ibi, s

Each sensor has `timestampStart` (microseconds since 1970), `samplingFrequency` and `values`; one that was off has none. Times
become seconds since the earliest start, and what lies between two files stays a gap. Gyroscope, steps and tags are not read.
Records are decoded by fastavro (MIT); the blocks of a file (https://avro.apache.org/docs/1.12.0/specification/) are unpacked here.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, import_optional, quote
from ...reading import check_packed, read_bytes, read_member, reading
from ..signal_recording import Stream, StreamCollector, even_rate

MAX_BYTES = 2**27
"""Of one file; a quarter of an hour has some megabytes."""

_SENSORS = {"eda": ("eda", "µS"), "temperature": ("temp", "°C"), "bvp": ("bvp", "")}
"""Sensor in the file → name and unit of its stream."""

_PRIMITIVES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
"""Bytes of each at least."""

_DEEPEST = 32
"""Types within each other; Empatica's are five deep."""

_BEAT_S = (0.3, 2.0)
"""Of peaks that lie further apart one was missed."""

_REMEDY = "Expected an EmbracePlus' raw data as Empatica hands them out. It may be cut off: copy it again."


def holds_avro(names: Iterable[str]) -> bool:
    """Whether one of these files is in Avro."""
    return any(name.lower().endswith(".avro") for name in names)


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one session."""
    parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float32]]]] = {}
    peaks: list[NDArray[np.float64]] = []
    devices: set[str] = set()
    for name, take in _files(path):
        with found.part(name):
            for record in _records(take(), name):
                devices.add(str(record.get("deviceSn", "")))
                _take(record.get("rawData") or {}, parts, peaks)
    if len(devices) > 1:
        raise RecordingError(
            f"{path} holds files of {len(devices)} devices: {quote(', '.join(sorted(devices)))}. Expected those of one session. "
            "Put those of each device into a folder of its own."
        )
    _join(parts, peaks, found)


def _files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(name, what reads its content) of every Avro file of a file, a folder or a zip."""
    if path.is_dir():
        for file in sorted(path.rglob("*.avro")):
            yield str(file), partial(read_bytes, file, RecordingError, MAX_BYTES)
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda one: one.filename):
                if holds_avro([info.filename]) and "__MACOSX" not in info.filename:
                    name = f"{path}!/{quote(info.filename)}"
                    yield name, partial(read_member, archive, info, name, RecordingError, MAX_BYTES)
    else:
        yield str(path), partial(read_bytes, path, RecordingError, MAX_BYTES)


def _records(content: bytes, name: str) -> Iterator[Mapping[str, Any]]:
    """The records of one file.

    Raises:
        RecordingError: it is no Avro, packed in a way that is not read, damaged, or of another schema.
    """
    fastavro = import_optional("fastavro", f"Reading {name}, an EmbracePlus' file,", "signals")
    with reading(f"{name} cannot be read as Avro", RecordingError, _REMEDY):
        source = io.BytesIO(content)
        if source.read(4) != b"Obj\x01":
            raise RecordingError(f"{name} does not begin as Avro does. {_REMEDY}")
        told = dict(_metadata(source))
        codec, schema = told.get("avro.codec", b"null").decode(), json.loads(told["avro.schema"])
        if codec not in ("null", "deflate"):
            raise RecordingError(f"{name} is packed by {quote(codec)}. Expected deflate, or nothing. Write it anew.")
        fields = {one.get("name") for one in schema.get("fields", ())} if isinstance(schema, dict) else set()
        if "rawData" not in fields:
            raise RecordingError(
                f"{name} has the fields {quote(', '.join(map(str, fields)), 80)}. Expected rawData. {_REMEDY}"
            )
        _least_bytes(schema, {}, 0)
        parsed, mark = fastavro.parse_schema(schema), _exactly(source, 16)
        while source.tell() < len(content):
            count, block = _number(source), _exactly(source, _number(source))
            if codec == "deflate":
                unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
                limit = max(2**24, 100 * len(block))
                packed, block = len(block), unpacker.decompress(block, limit + 1)
                check_packed(len(block) if len(block) <= limit else 2**40, packed, name, RecordingError)
            if _exactly(source, 16) != mark:
                raise RecordingError(f"{name}: a block does not end where it should. {_REMEDY}")
            records = io.BytesIO(block)
            for _ in range(min(count, len(block))):  # a record has a byte at least
                yield fastavro.schemaless_reader(records, parsed, None)


def _least_bytes(schema: Any, named: dict[str, int], depth: int) -> int:
    """Bytes that a value of a schema takes at least.

    A file brings its own schema, and fastavro follows it: into types that hold themselves until the stack ends, and along arrays
    of items that take no bytes, of which eight bytes can promise 2⁶³.

    Args:
        schema: a type, as JSON has it.
        named: of the types met so far; one that is not known when it is used holds itself, or is none.
        depth: types around it.

    Raises:
        ValueError: such a type.
    """
    if depth > _DEEPEST:
        raise ValueError(f"its schema has types within each other, more than {_DEEPEST}")
    if isinstance(schema, list):
        return 1 + min((_least_bytes(one, named, depth + 1) for one in schema), default=0)
    if isinstance(schema, str):
        if schema in _PRIMITIVES:
            return _PRIMITIVES[schema]
        if schema.rpartition(".")[2] not in named:
            raise ValueError(f"its schema uses {quote(schema, 40)} within itself, or before it says what that is")
        return named[schema.rpartition(".")[2]]
    kind, inner = schema["type"], depth + 1
    if kind in ("array", "map"):
        if not _least_bytes(schema["items" if kind == "array" else "values"], named, inner) and kind == "array":
            raise ValueError("its schema has arrays of what takes no bytes")
        return 1
    if kind in ("record", "error"):
        least = sum(_least_bytes(field["type"], named, inner) for field in schema["fields"])
    elif kind in ("enum", "fixed"):
        least = int(schema["size"]) if kind == "fixed" else 1
    else:
        return _least_bytes(kind, named, inner)
    name = str(schema["name"]).rpartition(".")[2]
    named[name] = min(least, named.get(name, least))  # of two in other namespaces, which nobody here tells apart
    return least


def _number(source: io.BytesIO) -> int:
    """A whole number: seven bits a byte, the least first, positive ones at even places."""
    value = 0
    for place in range(10):
        byte = _exactly(source, 1)[0]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value >> 1 if value % 2 == 0 else -(value >> 1) - 1
    raise ValueError("a number of more than ten bytes")


def _exactly(source: io.BytesIO, count: int) -> bytes:
    content = source.read(count) if count >= 0 else b""
    if count < 0 or len(content) != count:
        raise EOFError(f"{count} bytes were promised and {len(content)} are there")
    return content


def _metadata(source: io.BytesIO) -> Iterator[tuple[str, bytes]]:
    """The header's names and values, in groups; one of negative size says how many bytes it has, too."""
    while count := _number(source):
        if count < 0:
            _number(source)
        for _ in range(abs(count)):
            yield _exactly(source, _number(source)).decode(), _exactly(source, _number(source))


def _take(
    raw: Mapping[str, Any],
    parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float32]]]],
    peaks: list[NDArray[np.float64]],
) -> None:
    """Add what one record has of each sensor."""
    for sensor, (name, _) in _SENSORS.items():
        one = raw.get(sensor) or {}
        _add(parts, name, one, np.asarray(one.get("values") or [], np.float32)[:, None])
    acc = raw.get("accelerometer") or {}
    axes = [np.asarray(acc.get(axis) or [], np.float64) for axis in "xyz"]
    if len({len(one) for one in axes}) != 1:
        raise RecordingError(f"The accelerometer's axes have {', '.join(str(len(one)) for one in axes)} samples.")
    if len(axes[0]):
        told = acc["imuParams"]
        step = (told["physicalMax"] - told["physicalMin"]) / (told["digitalMax"] - told["digitalMin"])
        _add(parts, "acc", acc, (np.stack(axes, axis=1) * step).astype(np.float32))
    nanoseconds = (raw.get("systolicPeaks") or {}).get("peaksTimeNanos") or []
    peaks.append(np.asarray(nanoseconds, np.float64) / 1e9)


def _add(
    parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float32]]]],
    name: str,
    sensor: Mapping[str, Any],
    values: NDArray[np.float32],
) -> None:
    if not len(values):  # off: its start and rate are 0
        return
    rate = float(sensor["samplingFrequency"])
    if not rate > 0:
        raise RecordingError(f"The rate of {name!r} is {rate:g} Hz. Expected a positive one. Copy the file again.")
    times = int(sensor["timestampStart"]) / 1e6 + np.arange(len(values)) / rate
    parts.setdefault(name, []).append((times, values))


def _join(
    parts: Mapping[str, list[tuple[NDArray[np.float64], NDArray[np.float32]]]],
    peaks: list[NDArray[np.float64]],
    found: StreamCollector,
) -> None:
    """Each sensor's parts, one after the other, on a clock that starts with the earliest."""
    origin = min((part[0][0] for several in parts.values() for part in several), default=0.0)
    units = {name: (unit,) for name, unit in _SENSORS.values() if unit} | {"acc": ("g",) * 3}
    for name, several in parts.items():
        with found.part(name):
            ordered = sorted(several, key=lambda part: part[0][0])
            times = np.concatenate([part[0] for part in ordered]) - origin
            values = np.concatenate([part[1] for part in ordered])
            channels = ("x", "y", "z") if name == "acc" else (name,)
            found.streams[name] = Stream(values, times, even_rate(times), channels, units.get(name, ()))
    beats = np.unique(np.concatenate([np.empty(0), *peaks])) - origin
    steps = np.diff(beats)
    good = (steps > _BEAT_S[0]) & (steps < _BEAT_S[1])
    if good.any():
        found.streams["ibi"] = Stream(steps[good][:, None].astype(np.float32), beats[1:][good], None, ("ibi",), ("s",))
        found.doubt("stream_derived", f"{found.name}: 'ibi' is the time between two systolic peaks.")
