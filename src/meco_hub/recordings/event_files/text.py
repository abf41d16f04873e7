"""Events as text: one event a line, separated by commas, semicolons, tabs or blanks, with or without a line of names.

Without names the usual orders are tried (`columns.py`). Lines that begin with "#", "%" or "//" are comments; a first line of just
two whole numbers is the sensor's width and height, as some data sets of the Robotics and Perception Group have it. Time that is
written with a decimal point is seconds, unless `time_unit=` says otherwise.

This file knows lines and numbers; it does not know what events mean.
"""

import itertools
from collections.abc import Iterator
from typing import TextIO

import numpy as np

from ...errors import RecordingError
from ..event_recording import to_microseconds
from . import EventColumns, EventFile, ReadRequest
from .columns import chosen_columns, detect_time_unit, guess_order

_COMMENTS = ("#", "%", "//")
_BLOCK_LINES = 65536
MAX_LINE = 4096


def open_text(request: ReadRequest) -> EventFile:
    """Open a .csv or .txt file.

    Raises:
        RecordingError: no line of it is an event, or its columns cannot be told apart.
    """
    file = EventFile(iter(()))

    def blocks() -> Iterator[EventColumns]:
        with request.path.open(encoding="utf-8", errors="replace") as source:
            yield from _read(source, request, file)

    # The first block tells the sensor's size, which whoever opens the file wants to know at once.
    stream = blocks()
    first = next(stream, None)
    file.blocks = iter(()) if first is None else itertools.chain([first], stream)
    return file


def _lines(source: TextIO, request: ReadRequest) -> Iterator[tuple[int, str]]:
    """Number and content of every line that is neither empty nor a comment."""
    number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise RecordingError(
                f"{request.path}: line {number} is longer than {MAX_LINE} characters; expected one event a line. It is no text "
                "file of events, or it is damaged."
            )
        stripped = line.strip()
        if stripped and not stripped.startswith(_COMMENTS):
            yield number, stripped


def _read(source: TextIO, request: ReadRequest, file: EventFile) -> Iterator[EventColumns]:
    lines = _lines(source, request)
    opening = list(itertools.islice(lines, 2))
    if not opening:
        raise RecordingError(f"{request.path} has no line that could be an event; expected lines of x, y, t and p.")
    delimiter = next((mark for mark in ",;\t" if mark in opening[-1][1]), None)
    head = [field.strip().strip('"') for field in opening[0][1].split(delimiter)]
    names: list[str] | None = None
    if len(head) == 2 and all(field.isdecimal() for field in head):
        file.width, file.height = int(head[0]), int(head[1])
        opening = opening[1:]
    elif not all(_is_number(field) for field in head):
        names, opening = head, opening[1:]
    places = chosen_columns(request, names)
    unit = ""
    rest = itertools.chain(opening, lines)
    while block := list(itertools.islice(rest, min(_BLOCK_LINES, request.chunk))):
        if places is None:
            places = guess_order(request, _parse(block[:4096], delimiter, (0, 1, 2, 3), request), "txyp", file)
        order = ("x", "y", "t", "p")
        table = _parse(block, delimiter, tuple(places[column] for column in order), request)
        x, y, t, p = table.T
        if not unit:
            unit = detect_time_unit(request, t, file)
            # "0.000000" has no fraction, and yet its point says seconds
            written = block[0][1].split(delimiter)[places["t"]]
            if request.time_unit is None and unit == "us" and "." in written:
                unit = "s"
                file.notes["time_unit"] = "s (detected)"
        if (
            unit in ("us", "ns") and (np.abs(t) >= 2**53).any()
        ):  # float64 would lose digits: read that column as integers
            t = _parse(block, delimiter, (places["t"],), request, np.int64)[:, 0]
        yield x, y, to_microseconds(t, unit, str(request.path)), p


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(
    block: list[tuple[int, str]],
    delimiter: str | None,
    columns: tuple[int, ...],
    request: ReadRequest,
    dtype: type = np.float64,
) -> np.ndarray:
    """The chosen columns of some lines, (lines, columns)."""
    texts = [line for _, line in block]
    try:
        return np.loadtxt(texts, dtype, delimiter=delimiter, usecols=columns, ndmin=2, comments=None, quotechar='"')
    except (ValueError, OverflowError, IndexError) as error:
        for number, line in block:  # NumPy counts within the block; find the line of the file
            fields = line.split(delimiter)
            wrong = [
                column for column in columns if column >= len(fields) or not _is_number(fields[column].strip(' "'))
            ]
            if wrong:
                raise RecordingError(
                    f"{request.path}: line {number} is {line[:80]!r}; expected a number in each of {max(columns) + 1} columns. The "
                    "file is damaged or cut short there, or columns= names the wrong ones."
                ) from error
        raise RecordingError(
            f"{request.path}: lines {block[0][0]} to {block[-1][0]} cannot be read: {error}."
        ) from error
