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
from ..signal_recording import Stream

MAX_BYTES = 2**34
"""An archive that claims to hold more is refused."""

_FAILURES = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, SyntaxError, MemoryError, OverflowError, TypeError),
    *(AttributeError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of an npz file."""
    return streams_of(read_npz(path), str(path), rates)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, by name.

    Raises:
        RecordingError: it is none, is damaged, holds objects, or more than `MAX_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise RecordingError(
                f"{path} says that it holds {size >> 30} GiB; at most {MAX_BYTES >> 30} are read. Split it."
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _FAILURES as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"{path} cannot be read as npz ({type(error).__name__}: {error}). Expected numpy.savez's format without "
            "pickled objects. It may be cut off: copy it again."
        ) from error


def streams_of(variables: Mapping[str, Any], path: str, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of named arrays `<stream>_values`, `<stream>_times`, `<stream>_rate`, `<stream>_start`, `<stream>_channels`."""
    from ..signals import as_columns, make_stream

    found = {}
    for key in variables:
        name = key.removesuffix("_values")
        if not name or name == key:
            continue
        where = f"{path}, stream {name!r}"
        values = as_columns(variables[key], where)
        rate = variables.get(f"{name}_rate", rates.get(name))
        clock = variables.get(f"{name}_times", rate)
        if clock is None:
            raise RecordingError(
                f"{where}: there is neither {name}_times nor {name}_rate. Expected one of them. Add it."
            )
        labels = tuple(str(one).strip() for one in np.ravel(variables.get(f"{name}_channels", ())))
        start = np.asarray(variables.get(f"{name}_start", 0.0))
        if start.size != 1 or start.dtype.kind not in "iuf" or not np.isfinite(start).all():
            raise RecordingError(f"{where}: {name}_start is {start!r}. Expected one number of seconds.")
        if labels and len(labels) != values.shape[1]:
            raise RecordingError(
                f"{where} has {values.shape[1]} channels and {len(labels)} names. Name each channel once."
            )
        made = make_stream(values, where, clock=clock, start=float(start.reshape(())), channels=labels)
        if f"{name}_times" in variables and f"{name}_rate" in variables:
            # both are kept, and held to each other when the stream is checked
            nominal = np.asarray(variables[f"{name}_rate"])
            if nominal.size != 1 or nominal.dtype.kind not in "iuf":
                raise RecordingError(f"{where}: {name}_rate is {nominal!r}. Expected one number, samples per second.")
            made = replace(made, rate=float(nominal.reshape(())))
        found[name] = made
    if not found:
        raise RecordingError(
            f"{path} holds {', '.join(map(repr, variables)) or 'nothing'}. Expected arrays named <stream>_values, "
            "with <stream>_times or <stream>_rate. Rename them."
        )
    return found
