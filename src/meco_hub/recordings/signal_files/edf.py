"""EDF, EDF+ and BDF: the European data format's signals (https://www.edfplus.info/specs/).

Of annotations only the times of records are read, which an interrupted file (EDF+D, BDF+D) has there: its gaps stay gaps.

A header of 256 bytes, 256 more per signal, then records: of each signal in turn so many samples, as integers of 2 bytes (BDF: 3),
little-endian. Samples are read from the file when they are asked for, so that a minute of an hour costs a minute.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ...reading import refuse_special
from ..large_arrays import make_room
from ..signal_recording import Stream, StreamCollector

_KINDS = frozenset(
    ["EEG", "ECG", "EOG", "ERG", "EMG", "MEG", "MCG", "EP", "TEMP", "RESP", "SAO2", "GSR", "EDA", "PPG", "BVP", "ACC"]
)
"""Labels begin so in EDF+ ("EEG Fpz-Cz"); the last ones are not in its list but in use."""


_AT_ONCE = 2**18
"""Samples."""


class EdfFile:
    """The signals of an EDF or BDF file.

    Args:
        path: of the file.

    Attributes:
        labels: of the signals, in the order of the file, without those that hold annotations.
        units: the physical dimension of each.
        rates: samples per second of each.
        starts: (records,) seconds at which the records of an interrupted file begin; None of a continuous one.
        is_open: the header does not say how many records there are: the recorder was stopped before it wrote that.

    Raises:
        RecordingError: no such header, or one that makes no sense; a file that is too short, or longer by records, which a wrong
            rate in the header makes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        refuse_special(path, RecordingError, "an EDF or BDF file")
        with path.open("rb") as file:
            head = file.read(256)
            self._wide = 3 if head[:1] == b"\xff" else 2
            try:
                header, records, count = (int(_clean(head[at:end])) for at, end in ((184, 192), (236, 244), (252, 256)))
                if count < 1 or header != 256 * (count + 1):
                    raise ValueError(f"{count} signals and a header of {header} bytes")
                fields = file.read(256 * count)

                def column(start: int, width: int) -> list[str]:
                    return [_clean(fields[start * count + width * index :][:width]) for index in range(count)]

                sizes = [int(cell) for cell in column(216, 8)]
                self.is_open = records == -1 and min(sizes) > 0
                if self.is_open:
                    records = (path.stat().st_size - header) // (sum(sizes) * self._wide)
                if records < 1 or min(sizes) < 1:
                    raise ValueError(f"{records} records of {sizes} samples")
                labels, units = column(0, 16), column(96, 8)
                signals = [index for index, label in enumerate(labels) if not label.endswith(" Annotations")]
                lows, highs, smallest, largest = (
                    [float(cell.replace(",", ".") or "nan") for cell in column(at, 8)] for at in (104, 112, 120, 128)
                )
                seconds = float(_clean(head[244:252]).replace(",", ".")) if signals else 1.0
            except ValueError as error:
                raise RecordingError(
                    f"{path} has no EDF or BDF header ({error}). Expected a whole recording. It may be cut off: copy it again."
                ) from error
        self._check_size(header, records, sizes)
        steps = [(highs[at] - lows[at]) / (largest[at] - smallest[at] or np.nan) for at in signals]
        starts = np.cumsum([0, *sizes[:-1]])
        self.labels, self.units = [labels[at] for at in signals], [units[at] for at in signals]
        self.rates = [sizes[at] / seconds if seconds > 0 else 0.0 for at in signals]
        self._columns = [(int(starts[at]), sizes[at]) for at in signals]
        self._scales = [
            (step, highs[at] / step - largest[at] if step else np.nan) for at, step in zip(signals, steps, strict=True)
        ]
        shape = (records, sum(sizes) * self._wide)
        self._records = np.memmap(path, np.uint8, "r", header, shape)
        self.starts: NDArray[np.float64] | None = None
        if head[192:197] in (b"EDF+D", b"BDF+D"):
            notes = next((index for index in range(count) if index not in signals), None)
            if notes is None:
                raise RecordingError(
                    f"{path} is interrupted (EDF+D) and has no annotations, which would say where. Convert it to EDF+C."
                )
            first = int(starts[notes]) * self._wide
            self.starts = self._onsets(first, first + sizes[notes] * self._wide)

    def _onsets(self, first: int, last: int) -> NDArray[np.float64]:
        """(records,) seconds at which the records begin: the first annotation in these bytes of each."""
        found = []
        for number, record in enumerate(self._records):
            onset = re.match(rb"([+-]\d+(?:\.\d*)?)\x14", record[first:last].tobytes())
            if onset is None:
                raise RecordingError(
                    f"{self._path} is interrupted (EDF+D), and record {number} does not say when it begins. Convert it to EDF+C."
                )
            found.append(float(onset[1]))
        return np.array(found) - found[0]

    def times(self, signal: int) -> NDArray[np.float64]:
        """(samples,) seconds from the beginning."""
        if self.starts is None:
            return np.arange(self.count(signal), dtype=np.float64) / self.rates[signal]
        size = self._columns[signal][1]
        return (self.starts[:, None] + np.arange(size) / self.rates[signal]).reshape(-1)

    @property
    def nbytes(self) -> int:
        """Of all samples, as streams hold them."""
        return 4 * sum(self.count(signal) for signal in range(len(self.labels)))

    def count(self, signal: int) -> int:
        """Samples of a signal."""
        return len(self._records) * self._columns[signal][1]

    def _check_size(self, header: int, records: int, sizes: list[int]) -> None:
        """Compare the file's size with what its header promises."""
        record = sum(sizes) * self._wide
        size, expected = self._path.stat().st_size, header + records * record
        promise = f"{self._path}: the header promises {records} records of {len(sizes)} signals, {expected} bytes; it has {size}."
        if size < expected:
            raise RecordingError(f"{promise} It was cut off, or never closed: copy or export it again.")
        over = size - expected
        # a wrong rate is the same number of samples too few in every record; less than that may be padding
        if over >= record or (over and over % (records * self._wide) == 0):
            raise RecordingError(
                f"{promise} Expected as many. The number of records in the header is wrong, or a rate "
                f"({', '.join(map(str, sizes[:8]))} samples a record), by which one signal's samples are read as another's: export "
                "it again."
            )

    def digital(self, signal: int, first: int = 0, count: int | None = None) -> NDArray[np.int32]:
        """Samples of one signal as they are stored: `count` of them from `first` on; by default all."""
        start, size = self._columns[signal]
        count = len(self._records) * size - first if count is None else count
        records = self._records[first // size : -(-(first + count) // size)]
        raw = np.ascontiguousarray(records[:, start * self._wide : (start + size) * self._wide]).reshape(-1, self._wide)
        if self._wide == 2:
            values = raw.view("<i2")[:, 0].astype(np.int32)
        else:  # the third byte, shifted to the top, brings its sign down again
            values = (raw.astype(np.int32) << np.array([8, 16, 24], np.int32)).sum(axis=1, dtype=np.int32) >> 8
        return values[first % size :][:count]

    def physical(self, signal: int, first: int = 0, count: int | None = None) -> NDArray[np.float64]:
        """The same in physical units.

        Raises:
            RecordingError: the header gives the signal no scale.
        """
        step, offset = self._scales[signal]
        if not step or not np.isfinite(step):
            raise RecordingError(
                f"{self._path}, signal {self.labels[signal]!r}: the header gives it no scale, where physical or digital "
                "smallest and largest value are one. Export it again."
            )
        return np.asarray(step * (offset + self.digital(signal, first, count)), np.float64)


def _clean(cell: bytes) -> str:
    """A field of a header, whichever end it is padded at, and in whichever of the two usual code pages its accents are."""
    try:
        text = cell.decode("utf-8")
    except UnicodeDecodeError:
        text = cell.decode("latin-1")
    return text.strip(" \0\t\r\n")


def read(path: Path, rates: dict[str, float], found: StreamCollector) -> None:
    """Streams of an EDF or BDF file; the header says all rates."""
    file = EdfFile(path)
    if file.is_open:
        found.doubt(
            "recording_unfinished", f"{path}: the header does not say how many records there are; all are read."
        )
    groups: dict[tuple[str, float], list[int]] = {}
    clocks: dict[float, NDArray[np.float64]] = {}  # streams of one rate share theirs
    for index, label in enumerate(file.labels):
        kind = re.split(r"[\s_-]", label, maxsplit=1)[0]
        name = kind.lower() if kind.upper() in _KINDS else label
        groups.setdefault((name, file.rates[index]), []).append(index)
    for (name, rate), chosen in sorted(groups.items(), key=lambda one: -len(one[1])):
        # a kind recorded at two rates: the larger group keeps the plain name
        name = f"{name}@{rate:g}" if name in found.streams else name
        with found.part(name):
            if not rate > 0:
                raise RecordingError(
                    f"{path}, stream {name!r}: the rate is {rate:g} Hz. Expected a positive one. Export it again."
                )
            found.streams[name] = _stream(file, chosen, rate, clocks, found)


def _stream(
    file: EdfFile, chosen: list[int], rate: float, clocks: dict[float, NDArray[np.float64]], found: StreamCollector
) -> Stream:
    kept = []
    for index in chosen:
        try:
            file.physical(index, 0, 1)
            kept.append(index)
        except RecordingError as error:  # of one channel
            found.leave_out(str(error))
    if not kept:
        raise RecordingError(
            f"{found.name}: no signal of {', '.join(file.labels[index] for index in chosen)} has a scale."
        )
    channels, units = (tuple(of[index] for index in kept) for of in (file.labels, file.units))
    values = _samples(file, kept)
    if rate not in clocks:
        clocks[rate] = file.times(kept[0])
    return Stream(values, clocks[rate], rate, channels, units)


def _samples(file: EdfFile, signals: list[int]) -> NDArray[np.floating]:
    """(samples, signals), some at a time, because they are four times as large on their way; a large array lies on disk."""
    shape = (file.count(signals[0]), len(signals))
    whole = make_room(shape, beside=file.nbytes - 4 * shape[0] * shape[1])
    for first in range(0, shape[0], _AT_ONCE):
        count = min(_AT_ONCE, shape[0] - first)
        for column, signal in enumerate(signals):
            whole[first : first + count, column] = file.physical(signal, first, count)
    return whole
