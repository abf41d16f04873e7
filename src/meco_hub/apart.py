"""Files read in a process of their own, by libraries that may crash or loop for ever on a damaged one: HDF5's is such a library.

    answers = read_apart("meco_hub.recordings.signal_files.mat:arrays_of_hdf5", path, RecordingError)
    for message, arrays in answers:          # what the function yields over there: a dict as JSON has it, and NumPy's arrays
        …

The process is started with the first file (some tenths of a second), serves one file after another, and ends with the program; it
is let go when a file has broken it, when it says nothing for `PATIENCE_S`, or when a file is left unread. What goes through the
pipes is a line of JSON, followed by the bytes of arrays where it announces them, so that a damaged process can send nothing worse
than wrong numbers.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from . import errors
from .errors import MecoError
from .reading import reason

PATIENCE_S = 60.0
"""Seconds without an answer after which a file is given up; reading one array, or a million events, takes well under one."""

Answer = tuple[dict[str, Any], list[NDArray[Any]]]
"""What a function yields over there, and `read_apart` here: a message, and arrays of plain numbers."""

_idle: list["_Reader"] = []


def read_apart(
    function: str, path: Path, kind: type[MecoError], arguments: dict[str, Any] | None = None, library: str = "HDF5"
) -> Generator[Answer, None, None]:
    """Call `function(path, **arguments)` in the other process, and give what it yields.

    Args:
        function: "package.module:name" of one of ours.
        path: of the file that it reads.
        kind: of the errors about the process itself.
        arguments: others, as JSON has them.
        library: that reads there, for messages.

    Raises:
        MecoError: as the function raised it; of that kind also where the process crashed or hung on this file.
    """
    reader = _Reader.take()
    finished = False
    try:
        reader.begin(function, path, arguments or {}, lambda how: kind(f"{path}: the {library} library {how}"))
        while True:
            message = reader.receive()
            if "error" in message:
                finished = True
                raise getattr(errors, message["error"], kind)(message["message"])
            if "end" in message:
                finished = True
                return
            yield message["message"], [reader.receive_array(*one) for one in message["arrays"]]
    finally:
        if finished:
            reader.put_back()
        else:
            reader.dismiss()


def _import_path() -> list[str]:
    """Where this process imports from, without the folder one stands in, which holds the recordings of anybody."""
    package = Path(__file__).parents[1]
    here = Path.cwd()
    return [path for path in sys.path if path and (Path(path).resolve() != here or here == package)]


class _Reader:
    """One reading process, and the pipes to it."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(_import_path())}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.problem: Callable[[str], MecoError] = MecoError
        self.gave_up = False
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

    def begin(self, function: str, path: Path, arguments: dict[str, Any], problem: Callable[[str], MecoError]) -> None:
        """Order a file to be read; `problem` makes an error of what the process does wrong."""
        assert self.process.stdin is not None
        self.problem = problem
        try:
            order = {"function": function, "path": os.fspath(path), "arguments": arguments}
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise problem(f"takes no orders: {reason(error)}. Try again.") from error

    def receive(self) -> dict[str, Any]:
        line = self._patiently(lambda stream: stream.readline())
        if not line.endswith(b"\n"):
            raise self._problem()
        return json.loads(line)

    def receive_array(self, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
        number = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        data = self._patiently(lambda stream: stream.read(number))
        if len(data) < number:
            raise self._problem()
        return np.frombuffer(data, dtype).reshape(shape)

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

    def _problem(self) -> MecoError:
        self.process.wait()
        how = f"did not answer for {PATIENCE_S:g} s" if self.gave_up else f"crashed (code {self.process.returncode})"
        return self.problem(f"{how} on this file, so the file is damaged. Copy it again, or make it again.")


def _end_in(seconds: float | None) -> None:
    """End this process then, by the system itself: nobody else will, where it hangs and who ordered was killed."""
    if hasattr(signal, "setitimer"):  # not of Windows
        signal.setitimer(signal.ITIMER_REAL, seconds or 0.0)


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Read one file after another, until there are no more orders; runs in the other process."""

    def answer(**message: Any) -> None:
        _end_in(None)
        answers.write(json.dumps(message).encode() + b"\n")

    for line in orders:
        order = json.loads(line)
        module, _, name = order["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        _end_in(2 * PATIENCE_S)
        try:
            for message, arrays in function(Path(order["path"]), **order["arguments"]):
                whole = [np.ascontiguousarray(one) for one in arrays]
                answer(message=message, arrays=[[one.dtype.str, one.shape] for one in whole])
                for one in whole:
                    answers.write(one.tobytes())
                answers.flush()
                _end_in(2 * PATIENCE_S)
            answer(end=True)
        except MecoError as error:
            answer(error=type(error).__name__, message=str(error))
        answers.flush()


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is asked to stop ends this process by closing its pipe
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, channel)
