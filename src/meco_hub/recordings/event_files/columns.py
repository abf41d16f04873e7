"""Which column of a table of events is which, and in what unit its time is, where the file does not say.

Nothing is guessed silently: what was found goes into the recording's notes and the log, and where two readings are possible
that differ, the error asks for `columns=` or `time_unit=`.

This file knows tables of four columns; it does not know where they come from.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..event_recording import find_columns, to_microseconds
from . import EventColumns, EventFile, ReadRequest

logger = logging.getLogger(__name__)

_ORDERS = {
    "txyp": "as the Robotics and Perception Group writes text",
    "xytp": "as MVSEC does",
    "xypt": "as Metavision's CSV",
}
_BEYOND_MICROSECONDS = 10**17  # 3,170 years of microseconds; what is larger counts nanoseconds since 1970


def chosen_columns(request: ReadRequest, names: list[str] | None) -> dict[str, int] | None:
    """Column → position among the table's columns, by the caller's word or the table's header; None where neither tells.

    Raises:
        RecordingError: a column is missing, unknown or ambiguous.
    """
    wish = request.columns
    if wish is None:
        if names is None:
            return None
        found = find_columns(names, str(request.path))
        return {column: names.index(name) for column, name in found.items()}
    places: Mapping[str, str | int] = {letter: wish.index(letter) for letter in wish} if isinstance(wish, str) else wish
    if set(places) != set("xytp") or (isinstance(wish, str) and len(wish) != 4):
        raise RecordingError(
            f'{request.path}: columns={wish!r} does not name x, y, t and p once each; expected "txyp" in the order of the file, '
            'or {"x": name or position, …}.'
        )
    if isinstance(wish, str) and names is not None:
        found = find_columns(names, str(request.path))
        if {column: names.index(name) for column, name in found.items()} != dict(places):
            raise RecordingError(
                f"{request.path}: columns={wish!r} contradicts its header {', '.join(names)}. Leave it out, or give a mapping."
            )
    result: dict[str, int] = {}
    for column, place in places.items():
        if isinstance(place, str):
            if names is None or place not in names:
                listing = ", ".join(names) if names else "no names"
                raise RecordingError(
                    f"{request.path}: there is no column {place!r} for {column}; the file has {listing}."
                )
            place = names.index(place)
        result[column] = place
    return result


def guess_order(request: ReadRequest, first: NDArray[np.float64], prefer: str, file: EventFile) -> dict[str, int]:
    """Column → position in an (events, 4) table without names, from its first rows.

    An order is possible where p has only two or three values among −1, 0 and 1, time never decreases, and x and y are pixels.

    Raises:
        RecordingError: no order is possible.
    """
    possible = [order for order in _ORDERS if _fits(order, first)]
    if not possible:
        raise RecordingError(
            f"{request.path} is a table of four columns without names that fit none of the usual orders ({', '.join(_ORDERS)}): "
            f'its first row is {first[0].tolist() if len(first) else []}. Say columns="txyp", or whatever it is.'
        )
    order = prefer if prefer in possible else possible[0]
    file.notes["columns"] = f"{order} (detected)"
    logger.info("%s: the columns are taken as %s, %s.", request.path, order, _ORDERS[order])
    return {column: order.index(column) for column in "xytp"}


def _fits(order: str, rows: NDArray[np.float64]) -> bool:
    columns = {column: rows[:, order.index(column)] for column in "xytp"}
    pixels = np.concatenate([columns["x"], columns["y"]])
    return bool(
        np.isin(columns["p"], (-1, 0, 1)).all()
        and (columns["t"][1:] >= columns["t"][:-1]).all()
        and ((pixels >= 0) & (pixels <= 65535) & (pixels == np.floor(pixels))).all()
    )


def detect_time_unit(request: ReadRequest, first: NDArray[Any], file: EventFile) -> str:
    """The caller's unit; else seconds where there are fractions, nanoseconds where whole numbers are huge, else microseconds."""
    if request.time_unit is not None:
        return request.time_unit
    finite = first[np.isfinite(first)] if first.dtype.kind == "f" else first
    if finite.dtype.kind == "f" and (finite != np.floor(finite)).any():
        unit = "s"
    elif len(finite) and np.abs(finite[[0, -1]].astype(np.float64)).max() > _BEYOND_MICROSECONDS:
        unit = "ns"
    else:
        unit = "us"
    file.notes["time_unit"] = f"{unit} (detected)"
    logger.info("%s: time is taken to be in %s; say time_unit= where it is not.", request.path, unit)
    return unit


def take_columns(table: NDArray[Any], places: Mapping[str, int], unit: str, request: ReadRequest) -> EventColumns:
    """x, y, t and p out of a plain (events, columns) table."""
    x, y, t, p = (table[:, places[column]] for column in "xytp")
    return x, y, to_microseconds(t, unit, str(request.path)), p
