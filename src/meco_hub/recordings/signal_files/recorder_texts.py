"""Texts of recorders that say above their columns what these are, as plain tables.

Of AcqKnowledge, LabChart, OpenBCI's GUI and OpenSignals.

A stamp that is written where samples arrive in packets is not the time of a sample. Where a recorder counts its samples and states
their rate, that is their clock: a number that is left out is a sample that was lost.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...csv_files import line_of
from ...errors import RecordingError, quote
from ...reading import reading
from ..signal_names import kinds_of
from ..signal_recording import StreamCollector
from ..signal_times import TIME_UNITS

_LOOKED_AT = 64
"""Lines."""

_EXPORT = re.compile(r'^[ "]*([\d.,]+) ?(\w+)/sample.*\n[ "]*(\d+) channels?[\s",;]*$', re.IGNORECASE | re.MULTILINE)
_OPENBCI = re.compile(r"^%\s*Sample Rate\s*=\s*(\d+(?:\.\d+)?)\s*(?:Hz)?\s*$", re.IGNORECASE | re.MULTILINE)
_LABCHART = re.compile(r"Interval=\t([\d.,]+) ?(\w+)")
_OPENSIGNALS = "# OpenSignals Text File Format"
_RAW = "ADC counts"
"""The unit of what OpenSignals writes: it depends on the sensor, by a formula of its maker's, what they stand for."""
_SENSORS = {"xyz": "acc"}
"""OpenSignals' sensors whose kind their names do not tell."""

_CONFIRMED_S = 10.0
"""Seconds of samples by which a late packet must not have been made up for, to be one before which some were lost."""
_PAUSE_S = 0.5
"""Seconds by which stamps may lag for a while."""
_OFF = 0.05
"""Share by which the stated rate and the stamps may differ."""
_SHORT_TURN_S = 2.0
"""Seconds; a counter that turns over more slowly does not say after which turn it goes on."""


@dataclass(frozen=True)
class Told:
    """What a recorder says of its table.

    Attributes:
        rate: samples per second; None: it does not say.
        even: a column of times, if there is one, is the rate's clock with fewer digits.
        counters: columns that count samples, the first of which is the clock.
        turn: so many numbers a counter has; None: as it shows.
        left_out: columns that are no signals.
    """

    rate: float | None = None
    even: bool = False
    counters: tuple[str, ...] = ()
    turn: int | None = None
    left_out: tuple[str, ...] = ()


def plain_table(path: Path, lines: list[str], found: StreamCollector) -> tuple[list[str], Told]:
    """The lines with a plain header, and what was told above it; those of any other text as they are.

    Raises:
        RecordingError: a recorder's header that does not fit the columns.
    """
    top = "\n".join(lines[:_LOOKED_AT])
    if lines and lines[0].lstrip("\ufeff").startswith(_OPENSIGNALS):
        return _of_opensignals(path, lines)
    if (export := _EXPORT.search(top)) is not None:
        return _of_acqknowledge(path, lines, found, export, top)
    if (interval := _LABCHART.match(top)) is not None:
        return _of_labchart(path, lines, interval)
    if top.startswith("%OpenBCI") and (stated := _OPENBCI.search(top)) is not None and float(stated[1]) > 0:
        return lines, Told(float(stated[1]), counters=("Sample Index",), left_out=("Sample Index",))
    return lines, Told()


def _of_acqknowledge(
    path: Path, lines: list[str], found: StreamCollector, told: re.Match[str], top: str
) -> tuple[list[str], Told]:
    """Of a text that AcqKnowledge exported.

    Above its columns stand a title, the time between samples ("0.5 msec/sample"), "3 channels", the name and the unit of each, one
    a line; then what the columns are called, first a unit of time if there is a column of times; then how many samples each has.
    """
    above, number, count = top.count("\n", 0, told.start()), told[1].replace(",", "."), int(told[3])
    step = float(number) * TIME_UNITS.get(told[2].lower(), 0.0) if is_number(number) else 0.0
    below = above + 2 + 2 * count
    columns = "".join(lines[below : below + 1])
    delimiter = max("\t,;", key=columns.count)
    cells = [cell.strip() for cell in columns.split(delimiter)]
    spare = len(cells) - count - (count > 0 and not cells[-1])
    odd = any(map(is_number, cells)) or (spare == 1 and cells[0].lower() not in TIME_UNITS)
    if not step > 0 or spare not in (0, 1) or odd:
        raise RecordingError(
            f"{path}: AcqKnowledge's header says '{quote(' '.join(told[0].split()))}', and the columns are "
            f"'{quote(', '.join(cells))}'. Expected a time between samples, such as 1 msec/sample, and a column a channel, perhaps "
            "with one of times. Export it again, with its header."
        )
    names = found.distinct([line.strip() for line in lines[above + 2 : below : 2]], "channels")
    units = [re.sub(r"[()\[\]]", "", line).strip() for line in lines[above + 3 : below : 2]]
    header = [f"time ({cells[0]})"] * spare + [f"{name} ({unit})" for name, unit in zip(names, units, strict=True)]
    line = line_of(header + [""] * (len(cells) - len(header)), delimiter, quoted=delimiter)
    counts = [cell for cell in "".join(lines[below + 1 : below + 2]).split(delimiter) if cell.strip()]
    if len(counts) == count and all(cell.strip().isdigit() for cell in counts):
        below, promised = below + 1, max(map(int, counts))
        if len(lines) - below - 1 < promised:
            there = f"the header promises {promised} samples; it has {len(lines) - below - 1} rows"
            found.doubt("file_ends_early", f"{path}: {there}. It may have been cut off: copy it again.")
    return ["#"] * below + [line, *lines[below + 1 :]], Told(1 / step, even=True)


def _of_labchart(path: Path, lines: list[str], told: re.Match[str]) -> tuple[list[str], Told]:
    """Of a text that LabChart exported: lines such as "ChannelTitle=" and "UnitName=", then times, if any, and channels.

    A comment stands behind a row. A block of samples that was recorded later has a header of its own, and perhaps times of its own.
    """
    below = next(
        (number for number, line in enumerate(lines) if "=\t" not in line and not line.endswith("=")), len(lines)
    )
    head = {name: rest.split("\t") for name, _, rest in (line.partition("=\t") for line in lines[:below])}
    names, units = [name.strip() for name in head.get("ChannelTitle", [])], head.get("UnitName", [])
    units = [re.sub(r"[()\[\]*]", "", unit) for unit in units] if len(units) == len(names) else [""] * len(names)
    rows = [line.partition("\t#")[0] for line in lines[below:]]
    step = (
        float(told[1].replace(",", ".")) * TIME_UNITS.get(told[2].lower(), 0.0)
        if is_number(told[1].replace(",", "."))
        else 0.0
    )
    again = next((below + number for number, line in enumerate(rows) if line.startswith("Interval=")), None)
    if again is not None:
        raise RecordingError(
            f"{path}: line {again + 1} begins another block, as where LabChart was started anew. Expected one recording. Export "
            "each block into a file of its own."
        )
    spare = (rows[0].count("\t") + 1 if rows else len(names)) - len(names)
    if not step > 0 or not names or spare not in (0, 1):
        raise RecordingError(
            f"{path}: LabChart's header says '{quote(told[0])}' and names the channels '{quote(', '.join(names))}'; line "
            f"{below + 1} has {spare + len(names)} cells. Expected an interval such as 0.001 s, and a column a channel, perhaps "
            "with one of times."
        )
    header = ["time"] * spare + [
        f"{name or number} ({unit})" if unit else name or str(number)
        for number, (name, unit) in enumerate(zip(names, units, strict=True), 1)
    ]
    return ["#"] * below + [line_of(header, "\t", quoted="\t"), *rows], Told(1 / step, even=True)


def _of_opensignals(path: Path, lines: list[str]) -> tuple[list[str], Told]:
    """Of a text that OpenSignals wrote, of one or several BITalino or biosignalsplux.

    Its second line is JSON: of each device the rate, the columns (a counter, digital lines, channels), and of the channels their
    numbers, labels and sensors. Below the comments stand the columns of all devices, with a tab at the end of each row.
    """
    wanted = "Expected JSON of devices, each with 'sampling rate', 'column' and 'sensor'. Export it again."
    below = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rows = lines[below : below + _LOOKED_AT]
    with reading(f"{path}: OpenSignals' header cannot be read", RecordingError, wanted):
        told: Any = json.loads(lines[1].lstrip("# "))
        devices = sorted(told.values(), key=lambda one: int(one.get("position", 0)))
        rates = {float(one["sampling rate"]) for one in devices}
        columns = [[" ".join(str(name).split()) for name in one["column"]] for one in devices]
        sensors = [[" ".join(str(name).split()) for name in one["sensor"]] for one in devices]
        bits = devices[0].get("resolution") or []
        turn = 2 ** int(bits[0]) if len(bits) == len(columns[0]) and 0 < int(bits[0]) < 64 else None
        labels = [
            [str(name) for name in one.get("label") or own[-len(of) :]]
            for one, own, of in zip(devices, columns, sensors, strict=True)
        ]
        numbers = [str(one) for one in devices[0].get("channels") or ()]
    cells = rows[0].count("\t") + (not rows[0].endswith("\t")) if rows else 0
    fits = all(len(label) == len(of) < len(own) for own, of, label in zip(columns, sensors, labels, strict=True))
    if len(rates) != 1 or not 0 < min(rates) < np.inf or not fits or (rows and cells != sum(map(len, columns))):
        raise RecordingError(
            f"{path}: OpenSignals' header states {sorted(rates)} Hz, the columns {quote(columns)} of the sensors {quote(sensors)}; "
            f"line {below + 1} has {cells} cells. {wanted}"
        )
    streams = [_sensor(*one) for of, label in zip(sensors, labels, strict=True) for one in zip(of, label, strict=True)]
    if len(devices) > 1 or len(numbers) != len(streams):
        numbers = [str(number) for number in range(1, len(streams) + 1)]
    channels = [
        name if streams.count(name) == 1 else f"{name}.ch{number}"
        for name, number in zip(streams, numbers, strict=True)
    ]
    # what was converted on export says so, or has fractions
    raw = not any(one.get("convertedValues") for one in devices) and not any("." in row for row in rows)
    header, beside, counters = [], [], []
    for place, (own, of) in enumerate(zip(columns, sensors, strict=True)):
        digital = [f"{name}#{place + 1}" for name in own[: -len(of)]]
        header += digital + [f"{name} ({_RAW})" if raw else name for name in channels[: len(of)]]
        beside, counters, channels = beside + digital, [*counters, digital[0]], channels[len(of) :]
    end = [""] * (len(rows[0].split("\t")) - len(header)) if rows else []
    line = line_of([*header, *end], "\t", quoted="\t")
    return ["#"] * below + [line, *lines[below:]], Told(
        min(rates), counters=tuple(counters), turn=turn, left_out=tuple(beside)
    )


def _sensor(sensor: str, label: str) -> str:
    """What the stream of a sensor is called: its kind, or its own name, or the channel's label where that says nothing."""
    plain = re.sub(r"BIT(REV)?$", "", sensor.strip(), flags=re.IGNORECASE)
    kinds = kinds_of(plain)
    if len(kinds) == 1:
        return min(kinds)
    return _SENSORS.get(plain.lower(), label if plain.lower() in ("", "raw", "other") or "/" in plain else plain)


def count_on(
    counter: NDArray[np.float64], rate: float, stamps: NDArray[np.float64] | None, turn: int | None
) -> NDArray[np.int64]:
    """(rows,) the number of each sample, from 0 on, by a counter that begins anew after some turn and leaves out what was lost.

    Args:
        counter: (rows,) whole numbers; rows of one packet may share one.
        rate: samples per second.
        stamps: (rows,) seconds at which somebody wrote the rows, late by what packets come late; they tell whole turns, and where
            a recorder was started anew.
        turn: so many numbers the counter has; None: as it shows.
    """
    jumps = np.diff(counter)
    begins = np.flatnonzero(jumps)  # the last row of every packet but the last one
    number = np.arange(len(counter), dtype=np.int64)
    if not len(begins):
        return number
    packet = int(_most_frequent(np.diff(begins)))
    if packet == 1:  # one number twice is a whole turn later
        begins = np.arange(len(jumps))
    jumps = jumps[begins]
    usual = _most_frequent(jumps[jumps > 0])
    turn = turn or int(np.ptp(counter) + usual)
    short = turn / usual * packet <= _SHORT_TURN_S * rate
    lost = np.where(jumps > 0, np.maximum(jumps - usual, 0), np.mod(jumps - usual, turn) if short else 0)
    lost = np.rint(lost / usual).astype(np.int64) * packet
    number[begins[0] + 1 :] += np.repeat(np.cumsum(lost), np.diff(np.append(begins, len(counter) - 1)))
    if stamps is None:
        return number
    unit, window = (round(turn / usual * packet) if short else 1), round(_CONFIRMED_S * rate)
    least = unit / 2 if short else _PAUSE_S * rate
    late = stamps * rate - number
    for last in np.flatnonzero(np.diff(late) > least / 2):
        # a packet that merely came late is followed by others that did not
        for_good = late[last + 1 : last + 1 + window].min() - late[max(0, last + 1 - window) : last + 1].min()
        if for_good > least:
            missed = round(for_good / unit) * unit
            number[last + 1 :] += missed
            late[last + 1 :] -= missed
    return number


def _most_frequent(values: NDArray[Any]) -> float:
    """Of what there is; 1 of nothing."""
    found, counts = np.unique(values, return_counts=True)
    return float(found[np.argmax(counts)]) if len(found) else 1.0


def counted_times(
    counters: Sequence[NDArray[np.float64]],
    stamps: NDArray[np.float64] | None,
    rate: float,
    turn: int | None,
    found: StreamCollector,
) -> NDArray[np.float64]:
    """(rows,) seconds by the first counter of a recorder, and what was lost in the recording's warnings.

    Raises:
        RecordingError: a row without a number, or stamps that another rate fits.
    """
    if not len(counters[0]):
        return np.empty(0)
    if not all((np.abs(one) < 2**53).all() for one in counters) or (
        stamps is not None and not np.isfinite(stamps).all()
    ):
        raise RecordingError(
            f"{found.name}: a row has no number by which the recorder counts its samples, or no time. Expected both in each row. "
            "Take the row out."
        )
    if stamps is not None:
        stamps = np.append(stamps[:-1], stamps[-2:].max())  # the last line may be cut off
        stamps = stamps if np.ptp(stamps) else None
    number, *others = (count_on(one, rate, stamps, turn) for one in counters)
    start = 0.0 if stamps is None else float(stamps[0])
    if stamps is not None:
        spans = number[-1] / rate, float(stamps[-1]) - start
        if abs(spans[0] - spans[1]) > 1.0 + _OFF * max(spans):
            raise RecordingError(
                f"{found.name}: the recorder states {rate:g} Hz, by which its {len(number)} samples last {spans[0]:.1f} s; by "
                f"their stamps they last {spans[1]:.1f} s. Expected one clock. Correct the rate, or take out the column of counts."
            )
    lost = int(number[-1]) + 1 - len(number)
    if lost or any(not np.array_equal(number, one) for one in others):
        first = int(np.argmax(np.diff(number) > 1)) if lost else 0
        turns = (
            f" It counts to {turn} only: whole turns of it are not seen." if turn is not None and stamps is None else ""
        )
        beside = (
            " The devices of the file lost others than each other; the first one's clock is taken for all."
            if others
            else ""
        )
        found.doubt(
            "samples_lost",
            f"{found.name}: by the recorder's own count {lost} of {lost + len(number)} samples were lost, the first after row "
            f"{first + 1} of samples; their time has a gap.{turns}{beside} Check what may have been in the way of the radio.",
        )
    return start + number / rate


def is_number(cell: str) -> bool:
    """Whether a cell of a text holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
