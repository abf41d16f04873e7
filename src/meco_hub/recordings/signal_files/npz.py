"""NumPy archives: `<stream>_values`, and `<stream>_times` or `<stream>_rate`; no pickles."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import RecordingError, quote
from ...reading import check_packed, check_size, reading
from ..signal_recording import Stream, StreamCollector

MAX_BYTES = 2**34
"""An archive that claims to hold more is refused."""


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of an npz file."""
    objects: list[str] = []
    variables = read_npz(path, objects=objects)
    for name in objects:
        found.leave_out(
            f"{path} cannot be read as npz in full: the array '{quote(name)}' holds objects. Expected numbers."
        )
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
    remedy = "Expected numpy.savez's format without pickled objects. It may be cut off: copy it again."
    with reading(f"{path} cannot be read as npz", RecordingError, remedy):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
            check_size(unpacked, str(path), RecordingError, MAX_BYTES)
            check_packed(unpacked, path.stat().st_size, str(path), RecordingError)
            for member in archive.infolist():
                with archive.open(member) as source:
                    check_promise(source, f"{path}, array '{quote(member.filename)}'", member.file_size)
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    arrays[name] = archive[name]
                except ValueError as error:
                    if objects is None or "allow_pickle" not in str(error):
                        raise
                    objects.append(name)
    return arrays


def check_promise(source: IO[bytes], name: str, size: int) -> None:
    """Compare what an array's header promises with the size of its member: NumPy makes room for all of it first."""
    head = source.read(np.lib.format.MAGIC_LEN)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        return  # no array, which NumPy gives as bytes
    wide = head[-2] > 1
    shape, _, dtype = (np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0)(source)
    if math.prod(shape) * dtype.itemsize > size and not dtype.hasobject:
        raise RecordingError(
            f"{name} promises the shape {shape} of {dtype} and holds {size} bytes. It is damaged: copy it again."
        )


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
            f"{path} holds {quote(', '.join(map(repr, variables))) or 'nothing'}. Expected arrays named <stream>_values, "
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
