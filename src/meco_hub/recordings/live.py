"""Recordings of events and signals that go on: a file that grows, a TCP socket, Lab Streaming Layer; as pieces for `stream`.

    for piece in pieces_of("session.csv"):              # a table that a recorder appends rows to
    for piece in pieces_of("events.npy"):               # a file onto which `np.save` appends arrays
    for piece in pieces_of("tcp://127.0.0.1:5555"):     # the same arrays, one after the other
    for piece in pieces_of("lsl://EDA,BVP"):            # LSL streams by name; needs pylsl (extra `live`; MIT)

Framing of sockets and .npy files: arrays as `np.save` writes them, version 1.0 to 3.0 of NumPy's format, nothing between them. Each
has named fields, which say what it is:

    x, y, t, p           events: t in whole microseconds, p 0 and 1, or −1 and 1
    t, frame             frames of an eye: t in whole microseconds, frame (H, W) or (H, W, 3) uint8
    time, <stream>, …    signals: time in seconds; each other field a stream, of one number or of (channels,)

A piece is a mapping of `events`, or of `frames` and `frame_times`, or a `SignalRecording`. Tables have a header: x, y, t, p, or
what `read_signals` reads. Half a row or array is waited for. Nothing is unpickled, and what an array promises is limited before
anything of it is read.
"""

import io
import math
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import RecordingError, import_optional, quote
from ..reading import reading
from .event_recording import COLUMN_NAMES
from .events import read_events
from .left_out import MOST_BAD
from .signal_recording import SignalRecording, Stream
from .signals import as_columns, read_signals

T = TypeVar("T")

MAX_ARRAY = 1 << 26
"""Bytes of one array of a socket or growing file: 64 MB."""

IDLE_S = 10.0
"""Seconds without anything new, after which a source has ended, unless somebody says otherwise."""

_POLL_S = 0.05
_BLOCK = 1 << 22  # bytes of a table that are parsed at once
_HEADER = 10_000  # bytes of an array's own header
_LSL_SAMPLES = 4096  # of one stream, taken at once
_LSL_S = 360  # seconds that LSL keeps for whoever is slow; what is older it drops


def is_live_address(source: Any) -> bool:
    """Whether something is the address of a socket or of LSL streams."""
    return isinstance(source, str) and source.partition("://")[0].lower() in ("tcp", "lsl")


def pieces_of(source: str | os.PathLike[str], *, idle_s: float | None = IDLE_S) -> Iterator[Any]:
    """The pieces of a recording that goes on, as they come.

    Args:
        source: a path or an address, as in the module's examples.
        idle_s: seconds without anything new, after which it has ended; None waits for ever. A socket also ends when it is closed.

    Raises:
        RecordingError: there is no such file, nobody answers there, nothing comes at all, what comes is not what is described
            above, or a file is replaced or cut short meanwhile.
        DependencyError: pylsl is not installed.
    """
    return _some(_open(source, idle_s), os.fspath(source), idle_s)


def _some(pieces: Iterator[Any], called: str, idle_s: float | None) -> Iterator[Any]:
    """These pieces, of which there must be one: who sees no answer at all is told why."""
    first = next(pieces, None)
    if first is None:
        silent = "" if idle_s is None else f", or was silent for {idle_s:g} seconds,"
        raise RecordingError(
            f"{called} ended{silent} before a whole row or array had come; expected some. Start what sends them, or wait longer "
            "(idle_s=)."
        )
    yield first
    yield from pieces


def _open(source: str | os.PathLike[str], idle_s: float | None) -> Iterator[Any]:
    if is_live_address(source):
        return _lsl(str(source), idle_s) if str(source).lower().startswith("lsl") else _socket(str(source), idle_s)
    path = Path(source)
    if not path.is_file():
        raise RecordingError(f"There is no file {path}; expected one that a recorder appends to. Check the path.")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _table(path, idle_s)
    if path.suffix.lower() == ".npy":
        return _growing_arrays(path, idle_s)
    raise RecordingError(
        f"{path} cannot be followed while it grows; expected .csv, .tsv, .txt or .npy. Pass pieces of it, or the finished file."
    )


class Newest(Generic[T]):
    """What a source gives that does not wait: read by a thread of its own, of which only the newest is kept.

    Whoever iterates gets what is no older than the last answer took; what came in between is dropped.

    Args:
        items: what is read; not before somebody iterates.
        merge: (what is dropped, what comes after it) → what is kept.

    Attributes:
        dropped: how many nobody saw.
    """

    def __init__(self, items: Iterator[T], merge: Callable[[T, T], T] | None = None) -> None:
        self._items, self._merge = items, merge
        self._ready = threading.Condition()
        self._newest: list[T] = []
        self._error: BaseException | None = None
        self._ended = False
        self.dropped = 0

    def __iter__(self) -> Iterator[T]:
        threading.Thread(target=self._read, name="live source", daemon=True).start()
        try:
            while True:
                with self._ready:
                    self._ready.wait_for(lambda: bool(self._newest) or self._ended)
                    found, self._newest = self._newest, []
                if not found:
                    break
                yield found[0]
        finally:
            self._ended = True  # the thread ends at its next item
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._ready:
                    if self._ended:
                        return
                    if self._newest:
                        self.dropped += 1
                        item = item if self._merge is None else self._merge(self._newest[0], item)
                    self._newest = [item]
                    self._ready.notify()
        except BaseException as error:  # noqa: BLE001 (whoever iterates gets it)
            self._error = error
        finally:
            with self._ready:
                self._ended = True
                self._ready.notify()


# --- Arrays, one after the other --------------------------------------------------------------------------------------


def _arrays(read: Callable[[int], bytes], called: str) -> Iterator[Any]:
    """The arrays of a source, whose `read` gives so many bytes, or none at its end."""
    while head := read(8):
        with reading(f"{called} sends what is no array", RecordingError, "Send each piece by np.save."):
            if head[:6] != np.lib.format.MAGIC_PREFIX or tuple(head[6:]) not in ((1, 0), (2, 0), (3, 0)):
                raise RecordingError(
                    f"{called} sends {head!r}; expected arrays as np.save writes them, with nothing between."
                )
            size = read(2 if head[6] == 1 else 4)
            length = int.from_bytes(size, "little")
            if length > _HEADER:
                raise RecordingError(
                    f"{called} sends an array with a header of {length} bytes; expected {_HEADER} at most."
                )
            parse = np.lib.format.read_array_header_1_0 if head[6] == 1 else np.lib.format.read_array_header_2_0
            shape, _, dtype = parse(io.BytesIO(size + read(length)))
        count = math.prod(shape)
        if dtype.hasobject or dtype.names is None or len(shape) != 1 or count * dtype.itemsize > MAX_ARRAY:
            raise RecordingError(
                f"{called} sends an array of shape {shape} and type {quote(dtype, 80)}; expected one row of named fields, no "
                f"Python objects, {MAX_ARRAY} bytes at most. Send smaller pieces."
            )
        if count:
            yield _piece(np.frombuffer(read(count * dtype.itemsize), dtype), called)


def _piece(rows: NDArray[Any], called: str) -> Any:
    names = list(rows.dtype.names or ())
    if {"x", "y", "t", "p"} <= set(names):
        return {"events": read_events({"events": rows[["x", "y", "t", "p"]], "time_unit": "us"})}
    if {"t", "frame"} <= set(names):
        return {"frames": rows["frame"], "frame_times": rows["t"].astype(np.int64)}
    if "time" in names and len(names) > 1:
        times = rows["time"].astype(np.float64)
        values = {name: as_columns(rows[name], f"{called}, {quote(name)!r}") for name in names if name != "time"}
        return SignalRecording({name: Stream(np.asarray(one, np.float64), times) for name, one in values.items()})
    raise RecordingError(
        f"{called} sends fields named {quote(', '.join(names))}; expected x, y, t and p, or t and frame, or time and streams."
    )


def _socket(called: str, idle_s: float | None) -> Iterator[Any]:
    try:
        address = urlsplit(called)
        host, port = address.hostname, address.port
    except ValueError:  # no number, one that is no port's, half a bracket
        host = port = None
    if not host or not port:
        raise RecordingError(f"{called} names no host and port; expected an address such as tcp://127.0.0.1:5555.")
    try:
        connection = socket.create_connection((host, port), timeout=idle_s)
    except OSError as error:
        raise RecordingError(
            f"Nobody answers at {called}: {error}. Start what sends first, and check the port."
        ) from error

    def read(count: int) -> bytes:
        parts: list[bytes] = []
        missing = count
        while missing:
            try:
                part = connection.recv(min(missing, 1 << 20))
            except TimeoutError:
                part = b""
            except OSError as error:
                raise RecordingError(f"The connection to {called} broke: {error}. Start what sends again.") from error
            if not part:
                return _end_of(parts, count, called)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def run() -> Iterator[Any]:
        with connection:
            yield from _arrays(read, called)

    return run()


def _growing_arrays(path: Path, idle_s: float | None) -> Iterator[Any]:
    with path.open("rb") as file:
        follow = _Follower(file, path, idle_s)

        def read(count: int) -> bytes:
            parts: list[bytes] = []
            while (missing := count - sum(map(len, parts))) > 0:
                part = follow(missing)
                if not part:
                    return _end_of(parts, count, str(path))
                parts.append(part)
            return b"".join(parts)

        yield from _arrays(read, str(path))


def _end_of(parts: list[bytes], count: int, called: str) -> bytes:
    """Nothing, where a source ends between two arrays; `count` is of what was to come."""
    if parts or count != 8:
        raise RecordingError(f"{called} ends inside an array; expected whole ones. What came before it was answered.")
    return b""


class _Follower:
    """Reads on in a file that grows: the next bytes, up to so many; none after `idle_s` seconds without any.

    Raises:
        RecordingError: when called, another file lies there now, or one of which bytes that were read are gone.
    """

    def __init__(self, file: Any, path: Path, idle_s: float | None) -> None:
        self._file, self._path, self._idle = file, path, math.inf if idle_s is None else idle_s

    def __call__(self, most: int) -> bytes:
        since = time.monotonic()
        while True:
            self._check()
            if part := self._file.read(most):
                return part
            if time.monotonic() - since >= self._idle:
                return b""
            time.sleep(_POLL_S)

    def _check(self) -> None:
        opened = os.fstat(self._file.fileno())
        try:
            same = os.path.samestat(opened, self._path.stat())
        except OSError:  # put elsewhere by whoever has finished it
            same = True
        if not same or opened.st_size < self._file.tell():
            what = "was cut short" if same else "was replaced"
            raise RecordingError(
                f"{self._path} {what} while it was followed; expected a file that rows or arrays are only appended to. What came "
                "before was answered. Follow the new file by another call."
            )


# --- Tables -----------------------------------------------------------------------------------------------------------


def _table(path: Path, idle_s: float | None) -> Iterator[Any]:
    """Rows as they come, whole lines at a time, by the readers of whole files: each block is one of them, below the header."""
    with path.open("rb") as file, tempfile.TemporaryDirectory() as place:
        follow, head, rest = _Follower(file, path, idle_s), b"", b""
        block = Path(place, f"block{path.suffix.lower()}")
        while part := follow(_BLOCK):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > _BLOCK:
                raise RecordingError(
                    f"{path} has a line of more than {_BLOCK} bytes; expected rows, each of which ends with a newline. Write it so."
                )
            if not head:
                above = next(
                    (number for number, line in enumerate(lines) if not line.startswith(b"#") and line.strip()), None
                )
                if above is None:
                    rest = b"\n".join([*lines, rest])
                    continue
                head, lines = lines[above], lines[above + 1 :]
            rows = [line for line in lines if line.strip()]
            if rows:
                yield from _read_rows(block, head, rows, str(path))


def _read_rows(block: Path, head: bytes, rows: list[bytes], called: str) -> Iterator[Any]:
    """The rows, but for those that cannot be read: these are named in the warnings of what comes after them, if they are few.

    Raises:
        RecordingError: they are many, or there is no other row.
    """
    waiting, bad, left_out = [rows], 0, []
    while waiting:
        some = waiting.pop()
        block.write_bytes(b"\n".join([head, *some, b""]))
        try:
            found = _read_block(block, head, called)
        except RecordingError as error:
            bad += len(some) == 1
            if len(rows) == 1 or bad > MOST_BAD:
                raise
            if len(some) > 1:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
            else:
                left_out.append(AnswerWarning("part_left_out", f"Left out: {error}"))
            continue
        if isinstance(found, SignalRecording):
            yield replace(found, warnings=(*found.warnings, *left_out))
            left_out = []
        elif found is not None:
            yield found


def _read_block(block: Path, head: bytes, called: str) -> Any:
    names = {
        cell.strip().strip('"').lower()
        for cell in head.decode("utf-8-sig", "replace").replace(";", ",").replace("\t", ",").split(",")
    }
    try:
        if all(names & set(COLUMN_NAMES[column]) for column in "xytp"):
            return {"events": read_events(block, time_unit="us")}
        recording = read_signals(block)
    except RecordingError as error:
        if "holds no sample" in str(error):
            return None
        raise RecordingError(str(error).replace(str(block), called)) from error
    told = (AnswerWarning(one.code, one.message.replace(str(block), called)) for one in recording.warnings)
    return replace(recording, name=called, warnings=tuple(told))


# --- Lab Streaming Layer ----------------------------------------------------------------------------------------------


def _lsl(address: str, idle_s: float | None) -> Iterator[Any]:
    """The streams of these names, on this machine's clock, dejittered by LSL."""
    lsl: Any = import_optional("pylsl", "Reading Lab Streaming Layer", "live")
    names = [name for name in address.partition("://")[2].split(",") if name]
    if not names:
        raise RecordingError(f"{address} names no stream; expected an address such as lsl://EDA,BVP.")
    flags, latest = lsl.proc_clocksync | lsl.proc_dejitter, dict.fromkeys(names, -math.inf)
    inlets: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {}
    for name in names:
        found = lsl.resolve_byprop("name", name, 1, 5.0 if idle_s is None else min(idle_s, 5.0))
        if not found:
            raise RecordingError(
                f"There is no LSL stream named {name!r}. Start what sends it, and check the name and the network."
            )
        inlet = lsl.StreamInlet(found[0], max_buflen=_LSL_S, processing_flags=flags)
        info = inlet.info(timeout=5.0)
        labels = tuple(str(one) for one in info.get_channel_labels() or ())
        units = tuple(str(one) for one in info.get_channel_units() or ())
        count = info.channel_count()
        inlets[name] = inlet, labels if len(labels) == count else (), units if len(units) == count else ()
    since = time.monotonic()
    try:
        while idle_s is None or time.monotonic() - since < idle_s:
            streams: dict[str, Stream] = {}
            for name, (inlet, labels, units) in inlets.items():
                values, times = inlet.pull_chunk(timeout=0.0, max_samples=_LSL_SAMPLES)
                stamps = np.asarray(times, np.float64)
                rising = (
                    stamps > np.maximum.accumulate(np.concatenate([[latest[name]], stamps]))[:-1]
                )  # others came late
                if rising.any():
                    latest[name] = float(stamps[rising][-1])
                    array = as_columns(np.asarray(values, np.float64), f"LSL stream {name!r}")
                    streams[name] = Stream(array[rising], stamps[rising], channels=labels, units=units)
            if streams:
                since = time.monotonic()
                yield SignalRecording(streams)
            else:
                time.sleep(_POLL_S)
    finally:
        for inlet, _, _ in inlets.values():
            inlet.close_stream()
