"""Comma-, semicolon- or tab-separated tables with a column of times: one file with several streams, or a folder with one each.

Read besides plain tables: lines that begin with `#` before the header, quoted cells, a comma for the decimal point, units in the
header (`eda (µS)`), times in ISO 8601. A column of words is left out and named; so is a file of a folder that is no such table.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, quote
from ...reading import ends_inside_line, reading
from ..signal_recording import Stream, StreamCollector, check_clock, even_rate
from ..signal_times import TIME_UNITS, as_seconds

_TIME = re.compile(
    r"(?:unix[ _]?)?(?:time|times|timestamp|timestamps|date[ _]?time|t|seconds)(?:[ _]?(?:unix|utc|iso))?"
    r"(?:[ _]?[(\[]?(" + "|".join(TIME_UNITS) + r")[)\]]?)?",
    re.IGNORECASE,
)
_UNIT = re.compile(r"(.+?)\s*[(\[]([^()\[\]]*)[)\]]")


@dataclass(frozen=True)
class _Table:
    """One file.

    Attributes:
        names, units: of the columns, without that of times.
        times: (rows,) seconds.
        values: (rows, columns).
    """

    names: list[str]
    units: list[str]
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    def stream(self, chosen: list[int], labels: list[str], rate: float | None = None) -> Stream:
        """These columns, without the rows in which none has a value: sensors that share a table need not share a rate."""
        filled = ~np.isnan(self.values[:, chosen]).all(axis=1) if len(chosen) < len(self.names) else slice(None)
        clock, units = self.times[filled], tuple(self.units[index] for index in chosen)
        return Stream(self.values[filled][:, chosen], clock, rate or even_rate(clock), tuple(labels), units)


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one csv file, or of all in a folder."""
    if path.is_file():
        _read_mixed(path, rates, found)
        return
    files = sorted(one for one in path.iterdir() if one.suffix.lower() in (".csv", ".tsv") and one.is_file())
    if not files:
        held = ", ".join(sorted(one.name for one in path.iterdir())[:5]) or "nothing"
        raise RecordingError(
            f"{path} is a folder without csv files; it holds {held}. Expected one csv file a stream, or the files of an Empatica "
            "E4. Name the right folder."
        )
    for file in files:
        with found.part(file.stem):
            table = _read_table(file, rates.get(file.stem), found)
            check_clock(table.times, f"{file}, stream {file.stem!r}")
            found.streams[file.stem] = table.stream(list(range(len(table.names))), table.names, rates.get(file.stem))


def _read_mixed(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one file: columns `stream.channel`, or each a stream by itself."""
    table = _read_table(path, next(iter(rates.values())) if len(set(rates.values())) == 1 else None, found)
    check_clock(table.times, f"{path}, column of times")
    columns: dict[str, list[int]] = {}
    for index, name in enumerate(table.names):
        columns.setdefault(name.split(".", 1)[0] if "." in name else name, []).append(index)
    for name, chosen in columns.items():
        with found.part(name):
            found.streams[name] = table.stream(chosen, [table.names[index].split(".", 1)[-1] for index in chosen])


def _read_table(path: Path, rate: float | None, found: StreamCollector) -> _Table:
    header, body, first, form = _open(path)
    names, units = zip(*(_split_unit(cell) for cell in header), strict=True)
    if not all(names) or len(set(names)) != len(names) or any(_is_number(cell) for cell in names):
        raise RecordingError(
            f"{path}: the first line is '{quote(form['sep'].join(header), 120)}'. Expected a header that names every column once, "
            "one of them 'time'. Add it."
        )
    columns = _parse(path, body, header, form)
    clock = next((index for index, cell in enumerate(header) if _TIME.fullmatch(cell)), None)
    if clock is not None:
        unit = (_TIME.fullmatch(header[clock]) or [None, None])[1]
        times = as_seconds(columns[clock], f"{path}, column {header[clock]!r}", found, unit=unit)
    elif rate is not None:
        times = np.arange(len(columns[0])) / rate
    else:
        raise RecordingError(
            f"{path} has the columns {quote(', '.join(header[:8]))} and no column of times. Expected one named 'time', in seconds, "
            "or 'time_ms'. Name it so, or pass rates={stream: samples per second}."
        )
    kept: dict[int, NDArray[np.float64]] = {}
    for index, name in enumerate(names):
        if index != clock:
            with found.part(""):
                kept[index] = _numbers(columns[index], f"{path}: line {{line}}, column {name!r}", first)
    values = np.stack(list(kept.values()), axis=1) if kept else np.empty((len(times), 0))
    if ends_inside_line(path):
        found.doubt("file_ends_early", f"{path} ends inside a line, whose last number may be cut off. Copy it again.")
    return _Table([names[index] for index in kept], [units[index] for index in kept], times, values)


def _open(path: Path) -> tuple[list[str], str, int, dict[str, Any]]:
    """(cells of the header, the lines below it, the number of the first of these, how they are written) of one file."""
    content = path.read_bytes()
    try:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # µ and ° of a spreadsheet's header
    if "\0" in text:
        raise RecordingError(f"{path} is no text. Expected a header and rows of numbers. Name the right file.")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    above = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if above == len(lines):
        raise RecordingError(
            f"{path} is empty. Expected a header and rows of numbers. It may be cut off: copy it again."
        )
    delimiter = max(",;\t", key=lines[above].count)
    rows = lines[above:]
    if above and all(_is_number(cell) for cell in rows[0].split(delimiter)):
        above, rows = above - 1, [lines[above - 1].lstrip("#"), *rows]  # the header is the last of the comments
    quoted = '"' in text
    cells = [len(row) for row in csv.reader(rows, delimiter=delimiter)] if quoted else None
    header = next(csv.reader(rows[:1], delimiter=delimiter))
    for number, line in enumerate(rows):
        count = line.count(delimiter) + 1 if cells is None or len(cells) != len(rows) else cells[number]
        if count != len(header):
            raise RecordingError(
                f"{path}: line {above + number + 1} has {count} cells. Expected {len(header)}, as in the header: "
                f"{quote(', '.join(header[:8]))}. It may be cut off: copy it again."
            )
    comma = delimiter != "," and any(re.search(r"\d,\d", line) for line in rows[1:20])
    form = {
        "sep": delimiter,
        "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        "decimal": "," if comma else ".",
    }
    return [cell.strip() for cell in header], "\n".join(rows[1:]), above + 2, form


def _split_unit(cell: str) -> tuple[str, str]:
    """(name, unit) of a column's header."""
    match = _UNIT.fullmatch(cell)
    return (match[1], match[2].strip()) if match else (cell, "")


def _parse(path: Path, body: str, header: list[str], form: dict[str, Any]) -> list[Any]:
    """The columns, of numbers or of text, as pandas has them."""
    import pandas

    if not body:
        return [pandas.Series([], dtype=float)] * len(header)
    with reading(f"{path} cannot be read as a table", RecordingError, "Expected rows of numbers. Save it again."):
        table = pandas.read_csv(
            io.StringIO(body), names=header, header=None, index_col=False, skip_blank_lines=False, **form
        )
    return [table[name] for name in header]


def _numbers(column: Any, where: str, first: int) -> NDArray[np.float64]:
    """(rows,) of a column of numbers; `where` has a place for the line at fault."""
    import pandas

    if column.dtype.kind in "iuf":
        return np.asarray(column, np.float64)
    # as text: whole numbers of hundreds of digits are objects by now, and no float
    text = column.astype("string").str.strip()
    numbers = np.asarray(pandas.to_numeric(text, errors="coerce"), np.float64)
    bad = np.isnan(numbers) & np.asarray(text.notna() & (text != "") & (text.str.lower() != "nan"), bool)
    if bad.any():
        row = int(np.argmax(bad))
        raise RecordingError(
            f"{where.format(line=first + row)} is {str(column.iloc[row])[:40]!r}. Expected a number, or nothing where a sample is "
            "missing. Correct it."
        )
    return numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
