"""EDF, EDF+ and BDF through pyedflib."""

import re
from pathlib import Path

import numpy as np

from ...errors import RecordingError, import_optional
from ..signal_recording import Stream

_KINDS = frozenset(
    ["EEG", "ECG", "EOG", "ERG", "EMG", "MEG", "MCG", "EP", "TEMP", "RESP", "SAO2", "GSR", "EDA", "PPG", "BVP", "ACC"]
)
"""Labels begin so in EDF+ ("EEG Fpz-Cz"); the last ones are not in its list but in use."""


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of an EDF or BDF file; the header says all rates."""
    pyedflib = import_optional("pyedflib", f"Reading {path}", "signals")
    check_size(path)
    try:
        with pyedflib.EdfReader(str(path), annotations_mode=pyedflib.DO_NOT_READ_ANNOTATIONS) as file:
            labels = [str(label).strip() for label in file.getSignalLabels()]
            hertz = [float(file.getSampleFrequency(index)) for index in range(file.signals_in_file)]
            samples = [file.readSignal(index) for index in range(file.signals_in_file)]
    except (OSError, ValueError, IndexError, RuntimeError, MemoryError, ArithmeticError, UnicodeError) as error:
        raise RecordingError(
            f"{path} cannot be read as EDF or BDF ({error}). Expected a whole, continuous recording. Copy or export it again."
        ) from error
    groups: dict[tuple[str, float], list[int]] = {}
    for index, label in enumerate(labels):
        kind = re.split(r"[\s_-]", label, maxsplit=1)[0]
        name = kind.lower() if kind.upper() in _KINDS else label
        groups.setdefault((name, hertz[index]), []).append(index)
    found: dict[str, Stream] = {}
    for (name, rate), chosen in sorted(groups.items(), key=lambda one: -len(one[1])):
        # a kind recorded at two rates: the larger group keeps the plain name
        name = f"{name}@{rate:g}" if name in found else name
        if not rate > 0 or len({len(samples[index]) for index in chosen}) != 1:
            raise RecordingError(
                f"{path}, stream {name!r}: the rate is {rate:g} Hz. Expected a positive one. Export it again."
            )
        values = np.stack([samples[index] for index in chosen], axis=1).astype(np.float32)
        if not len(values):
            raise RecordingError(f"{path}, stream {name!r} holds no sample. Expected a whole recording. Copy it again.")
        found[name] = Stream.regular(values, rate, channels=tuple(labels[index] for index in chosen))
    return found


def check_size(path: Path) -> None:
    """Compare a file's size with what its header promises, which names what is missing better than a library's code does.

    Raises:
        RecordingError: it is too short, or longer by records, which a wrong rate in the header makes it; or has no such header.

    Sizes are read from the fixed header: 256 bytes, then 256 per signal, of which 8 each say the samples in a record.
    """
    with path.open("rb") as file:
        head = file.read(256)
        wide = 3 if head[:1] == b"\xff" else 2
        try:
            header, records, signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
            if signals < 1 or header != 256 * (signals + 1):
                raise ValueError(f"{signals} signals and a header of {header} bytes")
            file.seek(256 + 216 * signals)
            counts = [int(file.read(8)) for _ in range(signals)]
        except ValueError as error:
            raise RecordingError(
                f"{path} has no EDF or BDF header ({error}). Expected a whole recording. It may be cut off: copy it again."
            ) from error
    size, expected = path.stat().st_size, header + records * sum(counts) * wide
    if records < 1 or min(counts) < 1 or size < expected:
        raise RecordingError(
            f"{path}: the header promises {records} records of {len(counts)} signals, {expected} bytes; the file has "
            f"{size}. It was cut off, or never closed: copy or export it again."
        )
    over, record = size - expected, sum(counts) * wide
    # a wrong rate is the same number of samples too few in every record; less than that may be padding
    if over >= record or (over and over % (records * wide) == 0):
        raise RecordingError(
            f"{path}: the header promises {records} records of {len(counts)} signals, {expected} bytes; the file has {size}. "
            f"Expected as many. The number of records in the header is wrong, or a rate ({', '.join(map(str, counts[:8]))} "
            "samples a record), by which one signal's samples are read as another's: export it again."
        )
