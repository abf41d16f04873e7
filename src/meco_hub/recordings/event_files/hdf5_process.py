"""HDF5 files are read in a process of their own, because the HDF5 library may crash or loop for ever on a damaged file.

The process is started with the first file (some tenths of a second), serves one file after another, and ends with the program; it
is let go when a file has broken it, when it says nothing for `PATIENCE_S`, or when a file is left unread. What goes through the
pipes is a line of JSON, followed by the bytes of arrays where it announces them, so that a damaged process can send nothing worse
than wrong numbers.

This file knows processes and pipes; what is in the files is known in `hdf5.py`.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DependencyError, RecordingError
from . import EventColumns, EventFile, ReadRequest

PATIENCE_S = 60.0
"""Seconds without an answer after which a file is given up; a block of a million events takes well under one."""

_ERRORS = {"RecordingError": RecordingError, "DependencyError": DependencyError}
_idle: list["_Reader"] = []


def open_hdf5(request: ReadRequest) -> EventFile:
    """Open an HDF5 file of events; the errors are those of `hdf5.read_hdf5`.

    Raises:
        RecordingError: also, the reading process crashed or hung on this file.
    """
    reader = _Reader.take()
    try:
        reader.send(request)
        opened = reader.receive()
    except BaseException:
        reader.dismiss()
        raise
    if opened["kind"] == "error":
        reader.put_back()
        raise _ERRORS[opened["error"]](opened["message"])
    file = EventFile(iter(()), opened["width"], opened["height"], opened["notes"])

    def blocks() -> Iterator[EventColumns]:
        finished = False
        try:
            while True:
                answer = reader.receive()
                if answer["kind"] == "block":
                    x, y, t, p = (reader.receive_column(answer["events"], dtype) for dtype in answer["dtypes"])
                    yield x, y, t.astype(np.int64, copy=False), p
                    continue
                finished = True
                if answer["kind"] == "error":
                    raise _ERRORS[answer["error"]](answer["message"])
                file.notes.update(answer["notes"])
                return
        finally:
            if finished:
                reader.put_back()
            else:
                reader.dismiss()

    file.blocks = blocks()
    return file


class _Reader:
    """One reading process, and the pipes to it."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.path, self.gave_up = "", False
        self.owner = os.getpid()  # a forked worker has the same list and must not use its parent's pipes

    @classmethod
    def take(cls) -> "_Reader":
        while _idle:
            reader = _idle.pop()
            if reader.owner == os.getpid() and reader.process.poll() is None:
                return reader
        return cls()

    def put_back(self) -> None:
        _idle.append(self)

    def dismiss(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an order that was not taken any more
                    pipe.close()

    def send(self, request: ReadRequest) -> None:
        assert self.process.stdin is not None
        self.path = str(request.path)
        fields = asdict(request) | {"path": self.path}
        try:
            self.process.stdin.write(json.dumps(fields).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise RecordingError(
                f"{request.path}: the process that reads HDF5 does not take orders: {error}."
            ) from error

    def receive(self) -> dict[str, Any]:
        line = self._patiently(lambda stream: stream.readline())
        if not line.endswith(b"\n"):
            raise self._problem()
        return json.loads(line)

    def receive_column(self, events: int, dtype: str) -> NDArray[Any]:
        number = np.dtype(dtype).itemsize * events
        data = self._patiently(lambda stream: stream.read(number))
        if len(data) < number:
            raise self._problem()
        return np.frombuffer(data, dtype)

    def _patiently(self, read: Callable[[Any], bytes]) -> bytes:
        self.gave_up = False

        def give_up() -> None:
            self.gave_up = True
            self.process.kill()  # which ends the read below

        clock = threading.Timer(PATIENCE_S, give_up)
        clock.daemon = True
        clock.start()
        try:
            return read(self.process.stdout)
        finally:
            clock.cancel()

    def _problem(self) -> RecordingError:
        self.process.wait()
        how = f"did not answer for {PATIENCE_S:g} s" if self.gave_up else f"crashed (code {self.process.returncode})"
        return RecordingError(
            f"{self.path}: the HDF5 library {how} on this file, so the file is damaged. Copy it again, or make it again."
        )


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Read one file after another, until there are no more orders; runs in the other process."""
    from .hdf5 import read_hdf5

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    for line in orders:
        fields = json.loads(line)
        request = ReadRequest(**fields | {"path": Path(fields["path"])})
        try:
            file = read_hdf5(request)
            answer(kind="open", width=file.width, height=file.height, notes=file.notes)
            for block in file.blocks:
                columns = [np.ascontiguousarray(column) for column in block]
                if any(column.dtype.kind not in "biuf" or column.shape != columns[0].shape for column in columns):
                    raise RecordingError(f"{request.path}: a column of its events is not one number per event.")
                answer(kind="block", events=len(columns[0]), dtypes=[column.dtype.str for column in columns])
                for column in columns:
                    answers.write(column.tobytes())
                answers.flush()
            answer(kind="end", notes=file.notes)
        except (RecordingError, DependencyError) as error:
            answer(kind="error", error=type(error).__name__, message=str(error))
        except Exception as error:  # noqa: BLE001 — whatever h5py raises on damage; the other side says it in our words
            message = (
                f"{request.path} cannot be read to its end: {error or type(error).__name__}. It is cut short or damaged; copy it "
                'again, or read what there is with damaged="keep".'
            )
            answer(kind="error", error="RecordingError", message=message)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    serve(sys.stdin.buffer, channel)
