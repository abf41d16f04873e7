"""Programs that keep signals in MAT files under names of their own, as a struct for each stream: values, and times or a rate.

AcqKnowledge    `data` (samples, channels), `isi` from one sample to the next, `labels`, `units`
EEGLAB          *.set: `data` (channels, samples), or the name of a *.fdt beside it that holds the same as 32-bit floats; `srate`,
                `chanlocs` with `labels` and `type`. By themselves, or in a struct `EEG`. Events called "boundary" say where
                samples were cut out, and how many
Ledalab         struct `data`: `conductance` (µS), `time` (s)
"""

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordingError, quote
from ...reading import refuse_special
from ..signal_names import kinds_of
from ..signal_recording import StreamCollector
from ..signal_times import TIME_UNITS

_BOUNDARY = -99


def arrange(variables: dict[str, Any], path: Path, found: StreamCollector) -> dict[str, Any]:
    """Stream name → struct, of the variables of a program that is known; those of others as they are."""
    inner = variables.get("EEG")
    if {"srate", "data", "nbchan"} <= (own := inner if isinstance(inner, dict) else variables).keys():
        return _eeglab(own, path)
    data = variables.get("data")
    if isinstance(data, dict) and {"conductance", "time"} <= data.keys():
        return {"eda": {"values": data["conductance"], "times": data["time"], "units": "µS"}}
    return _acqknowledge(variables, found)


def _acqknowledge(variables: dict[str, Any], found: StreamCollector) -> dict[str, Any]:
    data, labels = variables.get("data"), variables.get("labels")
    step = _number(variables.get("isi"))
    if not isinstance(data, np.ndarray) or not isinstance(labels, str) or step is None:
        return variables
    names, units = (str(text).split("\n") for text in (labels, variables.get("units", "")))
    unit = str(variables.get("isi_units", "s")).lower()
    if len(names) != data.shape[1] or unit not in TIME_UNITS or not step > 0:
        return variables
    rate = 1 / (step * TIME_UNITS[unit])
    units = units if len(units) == len(names) else [""] * len(names)
    return {
        name: {"values": data[:, place], "rate": np.array(rate), "units": units[place]}
        for place, name in enumerate(found.distinct([one.strip() for one in names], "channels"))
    }


def _eeglab(own: dict[str, Any], path: Path) -> dict[str, Any]:
    """A stream for each type of channel; where the type is not said, for the kind that its label begins with, or else "eeg"."""
    rate, trials = _number(own["srate"]), _number(own.get("trials", 1)) or 1
    values = _fdt(own, path) if isinstance(own["data"], str) else np.asarray(own["data"])
    if rate is None or not rate > 0 or values.ndim != 2 or values.dtype.kind not in "iuf":
        raise RecordingError(
            f"{path} is of EEGLAB; data is {values.shape}, in {trials:g} epochs, and srate {rate}. Expected one recording, "
            "(channels, samples), and samples per second. Save it before it is cut into epochs."
        )
    places = _rows(own.get("chanlocs")) or [{}] * len(values)
    if not len(places) == len(values) == _number(own["nbchan"]):
        raise RecordingError(
            f"{path} is of EEGLAB; data has {len(values)} channels, chanlocs {len(places)}, nbchan is {_number(own['nbchan'])}. "
            "Expected as many. Save it again."
        )
    labels = [str(one["labels"]) if isinstance(one.get("labels"), str) else str(at) for at, one in enumerate(places, 1)]
    groups: dict[str, list[int]] = {}
    for at, (label, one) in enumerate(zip(labels, places, strict=True)):
        said = one.get("type")
        first = re.split(r"[^a-z]", label.lower(), maxsplit=1)[0]
        name = said.strip().lower() if isinstance(said, str) else ""
        groups.setdefault(name or (first if kinds_of(first) else "eeg"), []).append(at)
    start = (_number(own.get("xmin")) or 0.0) + _pauses(own.get("event"), values.shape[1], path) / rate
    times = start + np.arange(values.shape[1]) / rate
    return {
        name: {
            "values": values[chosen].T,
            "times": times,
            "rate": np.array(rate),  # no measured one, which short pauses change
            "channels": [labels[at] for at in chosen],
            "units": ["µV" if name == "eeg" else ""] * len(chosen),
        }
        for name, chosen in groups.items()
    }


def _fdt(own: dict[str, Any], path: Path) -> NDArray[np.float32]:
    """(channels, samples) of the file beside it."""
    name = PureWindowsPath(own["data"]).name  # its folder is that of who saved it
    file = next((one for one in (path.with_name(name), path.with_suffix(".fdt")) if one.is_file()), None)
    channels, samples, trials = (_number(own.get(key, 1)) or 0.0 for key in ("nbchan", "pnts", "trials"))
    if file is None or file.suffix.lower() != ".fdt":
        raise RecordingError(
            f"{path} is of EEGLAB and has its samples in '{quote(name)}'. Expected that beside it, as *.fdt. Copy both."
        )
    refuse_special(file, RecordingError, "the samples of EEGLAB")
    size = file.stat().st_size
    if trials != 1 or size != 4 * channels * samples or not size:
        raise RecordingError(
            f"{file} has {size} bytes; by {path} it holds {trials:g} epochs of {channels:g} channels and {samples:g} samples. "
            "Expected one epoch, of 4 bytes a sample. Copy it again, or save it before it is cut into epochs."
        )
    return np.fromfile(file, "<f4").reshape(int(samples), int(channels)).T


def _pauses(events: Any, count: int, path: Path) -> NDArray[np.float64]:
    """(count,) how many samples were cut out before each."""
    missing = np.zeros(count)
    for one in _rows(events):
        at, length = (_number(one.get(key)) for key in ("latency", "duration"))
        # where all types are numbers, a boundary's is -99, which of no duration may be an event of one's own
        numbered = _number(one.get("type")) == _BOUNDARY and bool(length)
        if not (numbered or str(one.get("type")).strip() == "boundary") or (at is not None and at <= 1):  # it begins so
            continue
        if at is None or length is None or not np.isfinite([at, length]).all() or length < 0:
            raise RecordingError(
                f"{path} is of EEGLAB, and a boundary in it does not say how long the pause was: recordings were joined. Expected "
                "one recording. Save each by itself."
            )
        missing[int(np.ceil(at - 1)) :] += length  # the first sample is 1, and a boundary lies between two
    return missing


def _number(value: Any) -> float | None:
    """Of an array of one number."""
    array = np.asarray(value)
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "iuf" else None


def _rows(value: Any) -> Sequence[dict[str, Any]]:
    """The structs of an array, which of one is a struct."""
    return structs_of(value) or ([value] if isinstance(value, dict) and value else [])


def structs_of(value: Any) -> Sequence[dict[str, Any]]:
    """The structs of an array or a cell of them; version 7.3 keeps such an array as a struct of cells, one a field."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return value
    cells = list(value.values()) if isinstance(value, dict) else []
    if not cells or not all(isinstance(one, list) and len(one) == len(cells[0]) for one in cells):
        return []
    # fields that are arrays of structs themselves
    if all(isinstance(one, dict) for several in cells for one in several):
        return []
    return [dict(zip(value, one, strict=True)) for one in zip(*cells, strict=True)]
