"""Tables with a column of times: one file with several streams, or a folder of text files with one each.

Text is separated by commas, semicolons or tabs, packed by gzip or not. Read besides plain tables: lines that begin with `#` or
`%`, or that tell of device and person, above the header; quoted cells, a comma for the decimal point, units in the header
(`eda (µS)`) or in a row below it, times in ISO 8601 or as the time of day, a date in a column of its own, the unnamed column in
which pandas writes an index; the recordings of BIDS (`*_physio.tsv.gz`), whose columns and rate are in the json file beside
them; and texts of recorders that say above their columns what these are (`recorder_texts`). Parquet and Feather have the columns
that pandas wrote, an index of dates among them. A column of words is left out and named; so is a file of a folder that is no such
table. Of several clocks the first is read.
"""

import contextlib
import csv
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, quote
from ...reading import check_packed, decode_text, ends_inside_line, most_unpacked, read_json, reading
from ..signal_names import is_unit
from ..signal_recording import Stream, StreamCollector, check_clock, even_rate
from ..signal_times import TIME_UNITS, as_seconds
from .frames import read_frame
from .recorder_texts import Told, counted_times, is_number, plain_table

_TIME = re.compile(
    r"(?:(?:unix|elapsed)[ _]?)?(?:time|times|timestamp|timestamps|date[ _]?time|t)(?:[ _]?(?:unix|utc|iso))?"
    r"(?:[ _]?[(\[]?(" + "|".join(TIME_UNITS) + r")[)\]]?)?|(\w{3,})",
    re.IGNORECASE,
)
"""What a column of times is called; or a unit of time in full, which `_time_unit` knows."""
_CLOCK_WORDS = frozenset(["timestamp", "timestamps", "datetime"])
"""Words of a longer name by which a column is a clock, such as a device's "Shimmer_1234_Timestamp_Unix_CAL"."""
_TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_NO_TABLE = ("#", "%", "sep=")
"""How lines begin that are no header: comments, of OpenBCI's too, and what Excel is told."""
_LOOKED_AT = 64
"""Lines."""
_INDEX = ("", "unnamed: 0", "index")
"""What the column is called in which pandas wrote its index."""
_UNIT = re.compile(r"(.+?)\s*[(\[]((?:[^()\[\]]|\([^()]*\))*)[)\]]")
_CHANNEL = re.compile(r"([^.(\[]*\w)\.(\w.*)")
"""A stream and its channel; a dot in brackets or beside a space is one of a filter's name, such as "ECG (.5 - 35 Hz)"."""
_ROUNDED = 1e-4
"""Share of the time from the first sample to the last by which an export's column of times may be off: it has few digits."""


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

    def stream(self, chosen: list[int], found: StreamCollector, rate: float | None = None) -> Stream:
        """These columns, without the rows in which none has a value: sensors that share a table need not share a rate.

        A column without any value is left out where others have some: it would make every row one with a missing value.
        """
        empty = [bool(np.isnan(self.values[:, index]).all()) for index in chosen]
        if any(empty) and not all(empty):
            names = ", ".join(self.names[index] for index, none in zip(chosen, empty, strict=True) if none)
            found.leave_out(f"{found.name}: no row has a value of {quote(names)}.")
            chosen = [index for index, none in zip(chosen, empty, strict=True) if not none]
        filled = ~np.isnan(self.values[:, chosen]).all(axis=1) if len(chosen) < len(self.names) else slice(None)
        clock, units = self.times[filled], tuple(self.units[index] for index in chosen)
        labels = tuple(_parts(self.names[index])[1] for index in chosen)
        return Stream(self.values[filled][:, chosen], clock, rate or even_rate(clock), labels, units)


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one csv file, or of all in a folder."""
    if path.is_file():
        _read_mixed(path, rates, found)
        return
    files = sorted(one for one in path.iterdir() if one.name.lower().endswith(_TEXTS) and one.is_file())
    if not files:
        held = ", ".join(sorted(one.name for one in path.iterdir())[:5]) or "nothing"
        raise RecordingError(
            f"{path} is a folder without csv files; it holds {held}. Expected one csv file a stream, or the files of an Empatica "
            "E4. Name the right folder."
        )
    for file in files:
        name = file.name.removesuffix(".gz").rpartition(".")[0]
        with found.part(name):
            table = _read_table(file, rates.get(name), found)
            check_clock(table.times, f"{file}, stream {name!r}")
            found.streams[name] = table.stream(list(range(len(table.names))), found, rates.get(name))


def _read_mixed(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of one file: columns `stream.channel`, or each a stream by itself."""
    table = _read_table(path, next(iter(rates.values())) if len(set(rates.values())) == 1 else None, found)
    check_clock(table.times, f"{path}, column of times")
    columns: dict[str, list[int]] = {}
    for index, name in enumerate(table.names):
        columns.setdefault(_parts(name)[0], []).append(index)
    for name, chosen in columns.items():
        with found.part(name):
            found.streams[name] = table.stream(chosen, found)


_NOTHING = r"[\W_]+"
"""What has neither a letter nor a digit is no number: programs write "-", ".", "?", "*" where they have no sample."""


def _parts(name: str) -> tuple[str, str]:
    """The stream and the channel of a column called `stream.channel`; of any other its name for both."""
    match = _CHANNEL.fullmatch(name)
    return (match[1], match[2]) if match else (name, name)


def _read_table(path: Path, rate: float | None, found: StreamCollector) -> _Table:
    start, told = 0.0, Told()
    if path.suffix.lower() in (".parquet", ".feather"):
        header, columns, first = *read_frame(path, found), 1
    elif (beside := _bids_columns(path)) is not None:
        header, rate, start = beside
        lines, first = _lines(path), 1
        columns = _parse(path, "\n".join(lines), header, _form(path, header, lines, 1, "\t"))
    else:
        lines, told = plain_table(path, _lines(path), found)
        rate = told.rate or rate
        header, body, first, form = open_table(path, lines)
        columns = _parse(path, body, header, form)
        if path.suffix.lower() != ".gz" and ends_inside_line(path):
            found.doubt(
                "file_ends_early", f"{path} ends inside a line, whose last number may be cut off. Copy it again."
            )
    if not header[-1] and len(header) > 1 and _is_empty(columns[-1]):  # every line ends with a delimiter
        header, columns = header[:-1], columns[:-1]
    header, columns = _without_index(header, columns)
    names, units = _names_and_units(header)
    twice = {name for name in names if names.count(name) > 1}
    if not all(names) or any(map(_is_time, twice)) or any(is_number(cell) for cell in names):
        of_watch = " If it is of an Empatica E4, name the folder, in which it is EDA.csv or the like."
        watch = of_watch if _is_watch_header(names) else ""
        raise RecordingError(
            f"{path}: the first line is '{quote(', '.join(header), 120)}'. Expected a header that names every column once, "
            f"one of them 'time'. Add it.{watch}"
        )
    names = found.distinct(names, "columns")
    clocks = [index for index, cell in enumerate(header) if _is_time(cell)]
    others = [index for index, cell in enumerate(header) if index not in clocks and _says_time(cell)]
    likely = others or ([0] if "time" in header[0].lower().split() else [])
    clock = next(iter(clocks or (likely if rate is None else ())), None)
    date = next((index for index, cell in enumerate(header) if cell.lower() == "date"), None)
    if clock is not None:
        where, unit = (
            f"{path}, column {header[clock]!r}",
            _time_unit(header[clock]) or _time_unit(f"t ({units[clock]})"),
        )
        written = columns[clock]
        _check_one_header(path, written, (header[clock], names[clock]), first)
        if date is not None and _holds_words(written):
            written = [
                f"{str(day).strip()}T{str(time).strip()}" for day, time in zip(columns[date], written, strict=True)
            ]
        times = as_seconds(written, where, found, unit=unit)
        if told.even and rate and len(times):
            even = times[0] + np.arange(len(times)) / rate
            times = even if np.abs(times - even).max() <= 1 / rate + _ROUNDED * np.ptp(even) else times
    elif rate is not None:
        times = start + np.arange(len(columns[0])) / rate
    else:
        raise RecordingError(
            f"{path} has the columns {quote(', '.join(header[:8]))} and no column of times. Expected one named 'time', in seconds, "
            f"or 'time_ms'.{_likely_clock(header, columns)} Name it so, or pass rates={{stream: samples per second}}."
        )
    counting = [index for index, cell in enumerate(header) if cell in told.counters]
    if rate is not None and counting:
        counters = [
            _numbers(columns[index], f"{path}: line {{line}}, column {header[index]!r}", first) for index in counting
        ]
        times = counted_times(counters, None if clock is None else times, rate, told.turn, found)
    kept: dict[int, NDArray[np.float64]] = {}
    for index, name in enumerate(names):
        another = index in others or (index in clocks and len(name) > 1)  # a second clock; "T" may be a temperature
        counts = bool(counting) and header[index] in told.left_out
        if index != clock and not counts and (clock is None or (index != date and not another)):
            with found.part(""):
                kept[index] = _numbers(columns[index], f"{path}: line {{line}}, column {name!r}", first)
    values = np.stack(list(kept.values()), axis=1) if kept else np.empty((len(times), 0))
    return _Table([names[index] for index in kept], [units[index] for index in kept], times, values)


def _likely_clock(header: Sequence[str], columns: Sequence[Any]) -> str:
    """ " 'Zeit' may be it.", for the first column that goes up like a clock: dates, or numbers that do not count samples."""
    for name, column in zip(header, columns, strict=True):
        with contextlib.suppress(RecordingError):
            times = as_seconds(column, name, StreamCollector(name))
            steps = np.diff(times)
            if (
                len(steps)
                and (steps >= 0).all()
                and steps.any()
                and not (column.dtype.kind == "i" and (steps == 1).all())
            ):
                return f" {quote(name)!r} may be it."
    return ""


def _is_watch_header(names: Sequence[str]) -> bool:
    """Whether the first line is a moment of this century in every column, as in the files of an Empatica E4."""
    numbers = [float(cell) for cell in names if is_number(cell)]
    return bool(numbers) and 1e9 < numbers[0] < 1e10 and len(set(numbers)) == 1 and len(numbers) >= len(names) - 1


def _check_one_header(path: Path, column: Any, header: tuple[str, str], first: int) -> None:
    """Make sure that no line below is the header again, as where a recorder was started anew and went on in the same file.

    Raises:
        RecordingError: one is; names it.
    """
    if not _holds_words(column):
        return
    again = np.flatnonzero(np.asarray(column.astype("string").str.strip().isin(header), bool))
    if len(again):
        raise RecordingError(
            f"{path}: line {first + int(again[0])} is the header again, as where a recorder was started anew. Expected one "
            "recording. Make a file of each, or take the line out where the times go on."
        )


def _bids_columns(path: Path) -> tuple[list[str], float, float] | None:
    """(columns, rate, start) of a table without a header, from the json file beside it that BIDS asks for; None without one."""
    beside = path.with_name(path.name.split(".")[0] + ".json")
    if not path.name.lower().endswith((".tsv.gz", ".tsv")) or not beside.is_file():
        return None
    told = read_json(beside, RecordingError, "Expected the json file of a recording in BIDS.")
    if not isinstance(told, dict) or not {"Columns", "SamplingFrequency"} <= told.keys():
        return None
    columns, rate, start = told["Columns"], told["SamplingFrequency"], told.get("StartTime", 0.0)
    named = isinstance(columns, list) and bool(columns) and all(isinstance(one, str) and one for one in columns)
    numbers = all(isinstance(one, int | float) and np.isfinite(one) for one in (rate, start))
    if not named or not numbers or rate <= 0:
        raise RecordingError(
            f"{beside}: Columns is {quote(str(columns), 80)}, SamplingFrequency {quote(str(rate), 40)}, StartTime "
            f"{quote(str(start), 40)}; expected names, samples per second, and seconds. Correct it."
        )
    units = [told[name].get("Units", "") if isinstance(told.get(name), dict) else "" for name in columns]
    header = [f"{name} ({unit})" if unit else name for name, unit in zip(columns, units, strict=True)]
    return header, float(rate), float(start)


def _without_index(header: Sequence[str], columns: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """The columns but for pandas' row numbers; an index of dates is called the time, where nothing else is."""
    if len(header) < 2 or header[0].strip().lower() not in _INDEX:
        return list(header), list(columns)
    first = columns[0]
    if first.dtype.kind in "iuf" and np.array_equal(first, np.arange(len(first))):
        return list(header[1:]), list(columns[1:])
    if (first.dtype.kind in "Mm" or _holds_words(first)) and not any(map(_is_time, header)):
        return ["time", *header[1:]], list(columns)
    return list(header), list(columns)


def _is_time(cell: str) -> bool:
    """Whether a column of that name holds the times."""
    match = _TIME.fullmatch(cell)
    return match is not None and (match[2] is None or match[2].lower() in TIME_UNITS)


def _says_time(cell: str) -> bool:
    """Whether the name of a column says that it is a clock, whatever else it says."""
    return not _CLOCK_WORDS.isdisjoint(re.split(r"[^a-z]+", cell.lower()))


def _time_unit(cell: str) -> str | None:
    """The unit that the name of a column of times states."""
    match = _TIME.fullmatch(cell)
    return None if match is None else match[1] or match[2]


def _is_empty(column: Any) -> bool:
    """Whether there is nothing in any row, though there are rows."""
    return len(column) > 0 and bool(column.isna().all())


def _holds_words(column: Any) -> bool:
    return getattr(column, "dtype", np.dtype(float)).kind not in "iufbMm"


def _lines(path: Path) -> list[str]:
    """A text's lines, without empty ones at the end."""
    packed = path.suffix.lower() == ".gz"
    with reading(f"{path} cannot be read", RecordingError, "Expected a whole file. Copy it again."):
        content = path.read_bytes()
        if packed:
            size = len(content)
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(most_unpacked(size) + 1)
            check_packed(len(content), size, str(path), RecordingError)
    try:
        text = decode_text(content)
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # µ and ° of a spreadsheet's header
    if "\0" in text:
        if "\0" not in (whole := text.rstrip("\0")) and whole:
            raise RecordingError(
                f"{path} ends in {len(text) - len(whole)} zero bytes, as where the power failed while it was written. Expected "
                "rows of numbers. Cut them off, and the line before them."
            )
        raise RecordingError(f"{path} is no text. Expected a header and rows of numbers. Name the right file.")
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def open_table(path: Path, lines: Sequence[str] | None = None) -> tuple[list[str], str, int, dict[str, Any]]:
    """(cells of the header, the lines below it, the number of the first of these, how they are written) of one file.

    Its lines may have been read already. How: `sep`, `quoting` and `decimal`, as `pandas.read_csv` takes them.

    Raises:
        RecordingError: no text, empty, or a line with more or fewer cells than the header.
    """
    lines = _with_tabs(_lines(path) if lines is None else lines)
    above = next((number for number, line in enumerate(lines) if not line.startswith(_NO_TABLE)), len(lines))
    if above == len(lines):
        raise RecordingError(
            f"{path} is empty. Expected a header and rows of numbers. It may be cut off: copy it again."
        )
    above = _skip_words(lines, above)
    delimiter = max(",;\t", key=lines[above].count)
    rows = lines[above:]
    if above and all(is_number(cell) for cell in rows[0].split(delimiter)):
        above, rows = above - 1, [lines[above - 1].lstrip("#%"), *rows]  # the header is the last of the comments
    header = [cell.strip() for cell in next(csv.reader(rows[:1], delimiter=delimiter))]
    if len(header) > 1:  # of one column, an empty line is a missing sample
        clocked = any(
            _is_time(cell) or _says_time(cell) for cell in header
        )  # of others, a row of empty cells has its time
        nothing = f"{delimiter} " if clocked else ""
        rows = [line for line in rows if line.strip(nothing or None) or (delimiter in line and not clocked)]
    form = _form(path, header, rows, above + 1, delimiter)
    units = [
        re.sub(r"^[(\[](.*)[)\]]$", r"\1", cell.strip())
        for cell in next(csv.reader(rows[1:2], delimiter=delimiter), [])
    ]
    known = any(is_unit(unit) or unit.lower() in TIME_UNITS for unit in units)
    if known and not any(map(is_number, units)):  # others may be of units that nobody converts
        header = [f"{name} ({unit})" if unit else name for name, unit in zip(header, units, strict=True)]
        above, rows = above + 1, rows[1:]
    return header, "\n".join(rows[1:]), above + 2, form


def _with_tabs(lines: Sequence[str]) -> Sequence[str]:
    """The lines, with tabs for runs of spaces where nothing else stands between the numbers, as NumPy's `savetxt` writes them."""
    some = [line for line in lines[:_LOOKED_AT] if line.strip() and not line.startswith(_NO_TABLE)]
    cells = some[-1].split() if some else []
    if len(cells) < 2 or not all(map(is_number, cells)) or any(mark in line for line in some for mark in ",;\t"):
        return lines
    return [line[: len(line) - len(bare)] + "\t".join(bare.split()) for line in lines for bare in [line.lstrip("#%")]]


def _skip_words(lines: Sequence[str], above: int) -> int:
    """The number of the header's line: the first; or, below lines about device and person, that with as many cells as the rows.

    Args:
        lines: of the whole text.
        above: how many comments it begins with.
    """
    some = lines[above : above + _LOOKED_AT]
    for delimiter in "\t;,":  # the last may be a decimal comma
        counts = [line.count(delimiter) for line in some]
        usual = max(set(counts), key=counts.count)
        first = counts.index(usual)
        rows = [[cell.strip().replace(",", ".") for cell in line.split(delimiter)] for line in some[first:]]
        if usual and len(set(counts[first:])) == 1 and any(map(is_number, rows[-1])):
            return above if any(map(is_number, rows[0])) else above + first
    return above


def _form(path: Path, header: Sequence[str], rows: Sequence[str], first: int, delimiter: str) -> dict[str, Any]:
    """How rows are written that have as many cells as the header; `first` is the number of the first of them."""
    quoted = any('"' in line for line in rows)
    cells = [len(row) for row in csv.reader(rows, delimiter=delimiter)] if quoted else None
    for number, line in enumerate(rows):
        count = line.count(delimiter) + 1 if cells is None or len(cells) != len(rows) else cells[number]
        if count != len(header):
            raise RecordingError(
                f"{path}: line {first + number} has {count} cells. Expected {len(header)}, as in the header: "
                f"{quote(', '.join(header[:8]))}. It may be cut off: copy it again."
            )
    comma = any(re.search(r'"-?\d+,\d+"' if delimiter == "," else r"\d,\d", line) for line in rows[1:] if "," in line)
    return {
        "sep": delimiter,
        "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        "decimal": "," if comma else ".",
    }


def _names_and_units(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of the columns. What stands in brackets is no unit where it alone tells two columns apart."""
    found = [
        (match[1], re.sub(r"[()]", "", match[2]).strip()) if (match := _UNIT.fullmatch(cell)) else (cell, "")
        for cell in header
    ]
    names = [name for name, _ in found]
    found = [one if names.count(one[0]) == 1 else (cell, "") for one, cell in zip(found, header, strict=True)]
    return [name for name, _ in found], [unit for _, unit in found]


def _parse(path: Path, body: str, header: list[str], form: dict[str, Any]) -> list[Any]:
    """The columns, of numbers or of text, as pandas has them."""
    import pandas

    if not body:
        return [pandas.Series([], dtype=float)] * len(header)
    with reading(f"{path} cannot be read as a table", RecordingError, "Expected rows of numbers. Save it again."):
        table = pandas.read_csv(
            io.StringIO(body), names=range(len(header)), header=None, index_col=False, skip_blank_lines=False, **form
        )
    return [table[place] for place in range(len(header))]


def _numbers(column: Any, where: str, first: int) -> NDArray[np.float64]:
    """(rows,) of a column of numbers; `where` has a place for the line at fault."""
    import pandas

    if column.dtype.kind in "iuf":
        return np.asarray(column, np.float64)
    # as text: whole numbers of hundreds of digits are objects by now, and no float
    text = column.astype("string").str.strip()
    numbers = np.asarray(pandas.to_numeric(text, errors="coerce"), np.float64)
    missing = text.isna() | (text == "") | (text.str.lower() == "nan") | text.str.fullmatch(_NOTHING)
    bad = np.isnan(numbers) & ~np.asarray(missing, bool)
    if bad.any():
        row = int(np.argmax(bad))
        raise RecordingError(
            f"{where.format(line=first + row)} is {str(column.iloc[row])[:40]!r}. Expected a number, or nothing where a sample is "
            "missing. Correct it."
        )
    return numbers
