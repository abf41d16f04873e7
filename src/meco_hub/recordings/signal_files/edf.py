"""EDF, EDF+ and BDF: the European data format's signals (https://www.edfplus.info/specs/); annotations in it are not read.

A header of 256 bytes, 256 more per signal, then records: of each signal in turn so many samples, as integers of 2 bytes (BDF: 3),
little-endian. Samples are read from the file when they are asked for, so that a minute of an hour costs a minute.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError
from ..signal_recording import Stream

_KINDS = frozenset(
    ["EEG", "ECG", "EOG", "ERG", "EMG", "MEG", "MCG", "EP", "TEMP", "RESP", "SAO2", "GSR", "EDA", "PPG", "BVP", "ACC"]
)
"""Labels begin so in EDF+ ("EEG Fpz-Cz"); the last ones are not in its list but in use."""


class EdfFile:
    """The signals of an EDF or BDF file.

    Args:
        path: of the file.

    Attributes:
        labels: of the signals, in the order of the file, without those that hold annotations.
        rates: samples per second of each.

    Raises:
        RecordingError: no such header, or one that makes no sense; a recording with gaps (EDF+D); a file that is too short, or
            longer by records, which a wrong rate in the header makes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            head = file.read(256)
            self._wide = 3 if head[:1] == b"\xff" else 2
            try:
                header, records, count = int(head[184:192]), int(head[236:244]), int(head[252:256])
                if count < 1 or header != 256 * (count + 1):
                    raise ValueError(f"{count} signals and a header of {header} bytes")
                fields = file.read(256 * count)

                def column(start: int, width: int) -> list[str]:
                    cells = (fields[start * count + width * index :][:width] for index in range(count))
                    return [cell.decode("latin-1").strip(" \0") for cell in cells]

                sizes = [int(cell) for cell in column(216, 8)]
                if records < 1 or min(sizes) < 1:
                    raise ValueError(f"{records} records of {sizes} samples")
                labels = column(0, 16)
                signals = [index for index, label in enumerate(labels) if not label.endswith(" Annotations")]
                lows, highs, smallest, largest = (
                    [float(cell or "nan") for cell in column(at, 8)] for at in (104, 112, 120, 128)
                )
                seconds = float(head[244:252]) if signals else 1.0
            except ValueError as error:
                raise RecordingError(
                    f"{path} has no EDF or BDF header ({error}). Expected a whole recording. It may be cut off: copy it again."
                ) from error
        self._check_size(header, records, sizes)
        steps = [(highs[at] - lows[at]) / (largest[at] - smallest[at] or np.nan) for at in signals]
        if head[192:197] in (b"EDF+D", b"BDF+D") or not np.all(np.abs(steps) > 0) or not np.isfinite(steps).all():
            raise RecordingError(
                f"{path} cannot be read as EDF or BDF: it is interrupted, or a signal has no scale. Expected a whole, continuous "
                "recording. Copy or export it again."
            )
        starts = np.cumsum([0, *sizes[:-1]])
        self.labels = [labels[at] for at in signals]
        self.rates = [sizes[at] / seconds if seconds > 0 else 0.0 for at in signals]
        self._columns = [(int(starts[at]), sizes[at]) for at in signals]
        self._scales = [(step, highs[at] / step - largest[at]) for at, step in zip(signals, steps, strict=True)]
        shape = (records, sum(sizes) * self._wide)
        self._records = np.memmap(path, np.uint8, "r", header, shape)

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
        """The same in physical units."""
        step, offset = self._scales[signal]
        return np.asarray(step * (offset + self.digital(signal, first, count)), np.float64)


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of an EDF or BDF file; the header says all rates."""
    file = EdfFile(path)
    groups: dict[tuple[str, float], list[int]] = {}
    for index, label in enumerate(file.labels):
        kind = re.split(r"[\s_-]", label, maxsplit=1)[0]
        name = kind.lower() if kind.upper() in _KINDS else label
        groups.setdefault((name, file.rates[index]), []).append(index)
    found: dict[str, Stream] = {}
    for (name, rate), chosen in sorted(groups.items(), key=lambda one: -len(one[1])):
        # a kind recorded at two rates: the larger group keeps the plain name
        name = f"{name}@{rate:g}" if name in found else name
        if not rate > 0:
            raise RecordingError(
                f"{path}, stream {name!r}: the rate is {rate:g} Hz. Expected a positive one. Export it again."
            )
        values = np.stack([file.physical(index).astype(np.float32) for index in chosen], axis=1)
        found[name] = Stream.regular(values, rate, channels=tuple(file.labels[index] for index in chosen))
    return found
