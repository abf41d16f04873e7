"""NumPy archives: `<stream>_values`, and `<stream>_times` or `<stream>_rate`; no pickles."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RecordingError
from ..signal_recording import Stream, StreamCollector

MAX_BYTES = 2**34
"""An archive that claims to hold more is refused."""

_FAILURES = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, SyntaxError, MemoryError, OverflowError, TypeError),
    *(AttributeError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of an npz file."""
    objects: list[str] = []
    variables = read_npz(path, objects=objects)
    for name in objects:
        found.leave_out(f"{path} cannot be read as npz in full: the array {name!r} holds objects. Expected numbers.")
    streams_of(variables, str(path), rates, found)


def read_npz(path: Path, *, objects: list[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file, by name.

    Args:
        path: of the file.
        objects: where the names of arrays of objects are put, which are left out; without it they are an error.

    Raises:
        RecordingError: it is none, is damaged, holds objects, or more than `MAX_BYTES`.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise RecordingError(
                f"{path} says that it holds {size >> 30} GiB; at most {MAX_BYTES >> 30} are read. Split it."
            )
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    if objects is None or "allow_pickle" not in str(error):
                        raise
                    objects.append(name)
    except _FAILURES as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"{path} cannot be read as npz ({type(error).__name__}: {error}). Expected numpy.savez's format without "
            "pickled objects. It may be cut off: copy it again."
        ) from error
    return arrays


def streams_of(variables: Mapping[str, Any], path: str, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of named arrays `<stream>_values`, `<stream>_times`, `<stream>_rate`, `<stream>_start`, `_channels`, `_units`.

    Raises:
        RecordingError: no array is named so.
    """
    names = [key.removesuffix("_values") for key in variables if key.endswith("_values") and key != "_values"]
    for name in names:
        with found.part(name):
            found.streams[name] = _stream(name, variables, f"{path}, stream {name!r}", rates, found)
    if not names and not found.streams:
        found.leave_out(
            f"{path} holds {', '.join(map(repr, variables)) or 'nothing'}. Expected arrays named <stream>_values, "
            "with <stream>_times or <stream>_rate. Rename them."
        )


def _stream(
    name: str, variables: Mapping[str, Any], where: str, rates: dict[str, float], found: StreamCollector
) -> Stream:
    from ..signals import as_columns, make_stream

    values = as_columns(variables[f"{name}_values"], where)
    rate = variables.get(f"{name}_rate", rates.get(name))
    clock = variables.get(f"{name}_times", rate)
    if clock is None:
        raise RecordingError(f"{where}: there is neither {name}_times nor {name}_rate. Expected one of them. Add it.")
    labels, units = (
        tuple(str(one).strip() for one in np.ravel(variables.get(f"{name}_{part}", ())))
        for part in ("channels", "units")
    )
    units = units * values.shape[1] if len(units) == 1 else units
    start = np.asarray(variables.get(f"{name}_start", 0.0))
    if start.size != 1 or start.dtype.kind not in "iuf" or not np.isfinite(start).all():
        raise RecordingError(f"{where}: {name}_start is {start!r}. Expected one number of seconds.")
    for what, given in (("names", labels), ("units", units)):
        if given and len(given) != values.shape[1]:
            raise RecordingError(
                f"{where} has {values.shape[1]} channels and {len(given)} {what}. Name each channel once."
            )
    made = make_stream(
        values, where, clock=clock, start=float(start.reshape(())), channels=labels, units=units, found=found
    )
    if f"{name}_times" in variables and f"{name}_rate" in variables:
        # both are kept, and held to each other when the stream is checked
        nominal = np.asarray(variables[f"{name}_rate"])
        if nominal.size != 1 or nominal.dtype.kind not in "iuf":
            raise RecordingError(f"{where}: {name}_rate is {nominal!r}. Expected one number, samples per second.")
        made = replace(made, rate=float(nominal.reshape(())))
    return made
