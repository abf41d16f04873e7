"""Comma-, semicolon- or tab-separated tables with a column of times: one file with several streams, or a folder with one each."""

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..signal_recording import Stream, check_clock, even_rate

_TIME = re.compile(
    r"(time|timestamp|timestamps|t|seconds)(?:[ _]?[(\[]?(s|sec|seconds|ms|us|µs|ns)[)\]]?)?", re.IGNORECASE
)
_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of one csv file, or of all in a folder."""
    if path.is_file():
        return _read_mixed(path, rates)
    files = sorted(one for one in path.iterdir() if one.suffix.lower() in (".csv", ".tsv") and one.is_file())
    if not files:
        raise RecordingError(
            f"{path} is a folder without csv files. Expected one csv file a stream. Name the right folder."
        )
    found = {}
    for file in files:
        names, times, values = _read_table(file, rates.get(file.stem))
        where = f"{file}, stream {file.stem!r}"
        check_clock(times, where)
        found[file.stem] = Stream(values, times, rates.get(file.stem) or even_rate(times), tuple(names))
    return found


def _read_mixed(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of one file: columns `stream.channel`, or each a stream by itself."""
    names, times, values = _read_table(path, next(iter(rates.values())) if len(set(rates.values())) == 1 else None)
    check_clock(times, f"{path}, column of times")
    columns: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        columns.setdefault(name.split(".", 1)[0] if "." in name else name, []).append(index)
    found = {}
    for name, chosen in columns.items():
        # sensors that share a table but not a rate leave most of their cells empty
        filled = ~np.isnan(values[:, chosen]).all(axis=1)
        part, clock = values[filled][:, chosen], times[filled]
        labels = tuple(names[index].split(".", 1)[-1] for index in chosen)
        found[name] = Stream(part, clock, even_rate(clock), labels)
    return found


def _read_table(path: Path, rate: float | None) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """(names of the columns other than time, (rows,) seconds, (rows, columns) values) of one file."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path} cannot be read ({error}). Expected text in UTF-8. Save it as such.") from error
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise RecordingError(
            f"{path} is empty. Expected a header and rows of numbers. It may be cut off: copy it again."
        )
    delimiter = max(",;\t", key=lines[0].count)
    header = [cell.strip().strip('"').strip() for cell in lines[0].split(delimiter)]
    for number, line in enumerate(lines[1:], start=2):
        if line.count(delimiter) != len(header) - 1:
            raise RecordingError(
                f"{path}: line {number} has {line.count(delimiter) + 1} cells. Expected {len(header)}, as in the header: "
                f"{', '.join(header[:8])}. It may be cut off: copy it again."
            )
    if not all(header) or len(set(header)) != len(header) or any(_is_number(cell) for cell in header):
        raise RecordingError(
            f"{path}: the first line is {lines[0][:120]!r}. Expected a header that names every column once, one of "
            "them 'time'. Add it."
        )
    values = _parse(path, "\n".join(lines[1:]), header, delimiter)
    for index, name in enumerate(header):
        match = _TIME.fullmatch(name)
        if match:
            times = values[:, index] * _UNITS.get((match[2] or "s").lower(), 1.0)
            return header[:index] + header[index + 1 :], times, np.delete(values, index, axis=1)
    if rate is None:
        raise RecordingError(
            f"{path} has the columns {', '.join(header[:8])} and no column of times. Expected one named 'time', in seconds, or "
            "'time_ms'. Name it so, or pass rates={stream: samples per second}."
        )
    return header, np.arange(len(values)) / rate, values


def _parse(path: Path, body: str, header: list[str], delimiter: str) -> NDArray[np.float64]:
    import pandas

    if not body:
        return np.empty((0, len(header)))
    try:
        table = pandas.read_csv(
            io.StringIO(body),
            sep=delimiter,
            names=header,
            header=None,
            index_col=False,
            skip_blank_lines=False,
            quoting=3,
        )
    except (ValueError, pandas.errors.ParserError, OverflowError) as error:
        raise RecordingError(
            f"{path} cannot be read as a table ({error}). Expected rows of numbers. Save it again."
        ) from error
    for name in header:
        column = table[name]
        if column.dtype.kind in "iuf":
            continue
        # as text: whole numbers of hundreds of digits are objects by now, and no float
        numbers = np.asarray(pandas.to_numeric(column.astype("string"), errors="coerce"), np.float64)
        bad = np.isnan(numbers) & np.asarray(column.notna())
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordingError(
                f"{path}: line {row + 2}, column {name!r} is {str(column.iloc[row])[:40]!r}. Expected a number, or "
                "nothing where a sample is missing. Correct it."
            )
        table[name] = numbers
    return table.to_numpy(np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
