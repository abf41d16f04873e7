"""Reading recordings of signals: npz, csv, EDF and BDF, MAT, XDF, Empatica E4 and EmbracePlus; or arrays that are at hand already.

    recording = read_signals("S01.edf")                                  # streams named as the file names them
    recording = read_signals("S01.bdf", streams={"eeg": ["Fp1", "AF3"], "ecg": ["EXG1"]})
    recording = to_recording({"eda": (values, times), "bvp": Stream.regular(samples, 64.0)})

    *.npz           for each stream `<stream>_values` (samples,) or (samples, channels), and `<stream>_times` in seconds or
                    `<stream>_rate` in Hz; optionally `<stream>_start` (seconds, with a rate), `<stream>_channels` (names) and
                    `<stream>_units`
    *.csv, *.tsv, *.txt    a header; a column `time` (seconds, ISO 8601 or the time of day; or `time_ms`, `time_us`, `time_ns`,
                    `time_min`); columns `stream.channel`, and others, each a stream of one channel; `eda (µS)` has a unit. Empty
                    cells are missing samples. Also *.csv.gz and *.tsv.gz, what BIDS calls *_physio.tsv.gz, with its json file, and
                    texts of AcqKnowledge, LabChart, OpenBCI's GUI and OpenSignals with their headers
    *.parquet, *.feather    the same columns, or an index of dates, as pandas writes them
    folder of csv   one such file a stream, named after it; its columns are channels of that stream
    *.edf, *.bdf    signals; those whose labels start with a kind known to EDF+ ("EEG Fp1", "ECG") become one stream of that
                    kind ("eeg"); an interrupted file keeps its gaps
    *.mat           versions 4 to 7.3: variables named as in npz, or structs with `values`, and `times` or `rate`, at any depth,
                    in arrays and cells too; what AcqKnowledge exports and Ledalab saves; EEGLAB's *.set, with its *.fdt
    *.xdf, *.xdfz   numeric streams under their own names, on one clock by XDF's own offsets. Needs the extra "signals"
    Empatica E4     folder or *.zip: acc, bvp, eda, temp, hr, ibi
    EmbracePlus     *.avro, or a folder or *.zip of them: acc, bvp, eda, temp, ibi. Needs the extra "signals"

Every file is checked before it is believed: a truncated one, a clock that stands still or runs backwards, a rate that the times
contradict are errors that name file and stream; where other streams are whole, that one is left out and named in the recording's
warnings. Nothing is executed, and no pickle is opened.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError, quote, suggest
from ..reading import reading, refuse_special
from .signal_recording import SignalRecording, Stream, StreamCollector, check_clock, even_rate, has_sample
from .signal_times import as_seconds

SignalSource = SignalRecording | str | PathLike[str] | Mapping[str, Any]

_READERS = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".parquet", ".feather"), "tables"),
    **dict.fromkeys((".edf", ".bdf"), "edf"),
    **dict.fromkeys((".xdf", ".xdfz"), "xdf"),
    ".npz": "npz",
    ".avro": "embraceplus",
    **dict.fromkeys((".mat", ".set"), "mat"),
}
"""Ending → module in `signal_files` that reads it."""


def read_signals(
    path: str | PathLike[str],
    *,
    streams: Mapping[str, Sequence[str]] | None = None,
    rates: Mapping[str, float] | None = None,
) -> SignalRecording:
    """Read a recording.

    Args:
        path: file or folder, as listed above.
        streams: which channels make up which stream: stream name → labels, or `stream.channel`, of channels as the file names
            them. Others are left out. Default: as the list says.
        rates: samples per second of streams for which the file says neither times nor a rate.

    Raises:
        RecordingError: it cannot be read; names file and stream.
        DependencyError: the format needs an extra that is not installed.
    """
    where = Path(path).expanduser()
    found = StreamCollector(str(path))
    with reading(f"{path} cannot be read", RecordingError, "Expected a whole recording. Copy it again."):
        _reader(where)(where, dict(rates or {}), found)
        recording = found.recording()
    if streams is not None:
        recording = regroup(recording, streams)
    if not any(has_sample(stream.values) for stream in recording.streams.values()):
        raise RecordingError(
            f"{path} holds no sample of {', '.join(map(repr, recording.streams))}: nothing, or nothing but NaN. Expected numbers. "
            "It may be cut off: copy or export it again."
        )
    return recording


def to_recording(source: SignalSource, *, rates: Mapping[str, float] | None = None) -> SignalRecording:
    """A recording from whatever is at hand.

    Args:
        source: a recording, which is returned as it is; a path, for `read_signals`; or a dict of streams: a `Stream`; an array
            (samples,) or (samples, channels) of a stream in `rates`; a pair (array, times in seconds) or (array, rate in Hz).
        rates: samples per second of arrays without times.

    Raises:
        RecordingError: none of these, or with a broken clock.
    """
    if isinstance(source, SignalRecording):
        return source
    if isinstance(source, str | PathLike):
        return read_signals(fspath(source), rates=rates)
    if not isinstance(source, Mapping) or not all(isinstance(name, str) for name in source):
        raise RecordingError(
            f"A {type(source).__name__} is no recording; expected a path, a SignalRecording, or a dict from names of "
            "streams to arrays."
        )
    found = StreamCollector("The recording")
    for name, one in source.items():
        with found.part(name):
            found.streams[name] = _to_stream(name, one, rates or {}, found)
    return replace(found.recording(), name="")


def regroup(
    recording: SignalRecording, streams: Mapping[str, str | Sequence[str]], *, keep_others: bool = False
) -> SignalRecording:
    """Streams made of chosen channels, which must share a clock.

    Args:
        recording: that has them.
        streams: name → channels, `stream.channel`, or a whole stream by its name.
        keep_others: streams of which nothing was chosen stay.

    Raises:
        RecordingError: no such channel, or two that do not share a clock.
    """
    columns = channel_columns(recording)
    chosen = {name: [given] if isinstance(given, str) else list(given) for name, given in streams.items()}
    made: dict[str, Stream] = {}
    for name, labels in chosen.items():
        whole = recording.streams.get(labels[0]) if len(labels) == 1 else None
        if whole is not None:
            made[name] = whole
            continue
        for label in labels:
            if label not in columns:
                plain = [one for one in columns if "." not in one] or list(columns)
                listed = ", ".join(plain[:12]) + (f" and {len(plain) - 12} more" if len(plain) > 12 else "")
                raise RecordingError(
                    f"{recording.name or 'The recording'} has no channel {label!r}, of which stream {name!r} is to be made."
                    f"{suggest(label, columns)} It has {listed}."
                )
        parts = [columns[label] for label in labels]
        first = parts[0][0]
        for label, (stream, _) in zip(labels, parts, strict=True):
            if stream.rate != first.rate or not np.array_equal(stream.times, first.times):
                raise RecordingError(
                    f"{recording.name}: channels {labels[0]!r} and {label!r} do not share a clock, so they cannot make up stream "
                    f"{name!r}. Make a stream of each."
                )
        values = np.stack([stream.values[:, index] for stream, index in parts], axis=1)
        units = tuple(stream.units[index] if stream.units else "" for stream, index in parts)
        made[name] = Stream(values, first.times, first.rate, tuple(labels), units)
    used = {one for labels in chosen.values() for label in labels for one in (label, label.partition(".")[0])}
    used |= {name for name, stream in recording.streams.items() if used & set(stream.channels)}
    others = {name: one for name, one in recording.streams.items() if name not in used and name not in made}
    made = {**others, **made} if keep_others else made
    return SignalRecording(made, name=recording.name, annotations=recording.annotations, warnings=recording.warnings)


def channel_columns(recording: SignalRecording) -> dict[str, tuple[Stream, int]]:
    """Every name by which `regroup` finds a channel → its stream, and its column there."""
    columns: dict[str, tuple[Stream, int]] = {}
    for name, stream in recording.streams.items():
        labels = stream.channels or tuple(str(index) for index in range(stream.values.shape[1]))
        for index, label in enumerate(labels):
            columns.setdefault(label, (stream, index))
            columns[f"{name}.{label}"] = (stream, index)
        if len(labels) == 1:
            columns.setdefault(name, (stream, 0))
    return columns


def _reader(path: Path) -> Callable[[Path, dict[str, float], StreamCollector], None]:
    """The function that reads such a file."""
    import importlib

    if not path.exists():
        raise RecordingError(f"There is no {path}. Expected a file or a folder of signals. Check the path.")
    refuse_special(path, RecordingError, "a file or a folder of signals")
    if path.is_dir():
        from .signal_files.empatica import is_empatica

        module = "empatica" if is_empatica(path) else "tables"
        module = "embraceplus" if module == "tables" and next(path.rglob("*.avro"), None) else module
    elif path.suffix.lower() == ".zip":
        from .signal_files.embraceplus import holds_avro

        with zipfile.ZipFile(path) as archive:
            module = "embraceplus" if holds_avro(archive.namelist()) else "empatica"
    elif path.name.lower().endswith(".xdf.gz"):
        module = "xdf"
    elif path.name.lower().endswith((".csv.gz", ".tsv.gz")):
        module = "tables"
    else:
        module = _READERS.get(path.suffix.lower(), "")
    if not module:
        raise RecordingError(
            f"{path}: files of type {path.suffix or '(none)'!r} are not read. Expected one of {', '.join(_READERS)}, "
            "an Empatica E4 or EmbracePlus folder or zip, or a folder of csv files. Convert it, or hand over arrays."
        )
    return importlib.import_module(f".signal_files.{module}", __package__).read


def _to_stream(name: str, source: Any, rates: Mapping[str, float], found: StreamCollector) -> Stream:
    if isinstance(source, Stream):
        return source
    if isinstance(source, Mapping):
        raise RecordingError(
            f"Stream {name!r} is a dict of {quote(', '.join(map(str, source)))}; expected an array, and times or a rate. Hand over "
            "the streams inside of it by themselves, each with its clock."
        )
    where = f"stream {name!r}"
    columns, clock, channels = take_apart(source, rates.get(name), where)
    clock = check_rate(clock, where) if np.ndim(clock) == 0 else clock
    return make_stream(columns, where, clock=clock, channels=channels, found=found)


def take_apart(source: Any, rate: float | None, where: str) -> tuple[NDArray[np.floating], Any, tuple[str, ...]]:
    """(samples, channels), their times or rate, and the channels' names, of an array, a pair, or pandas with its own times.

    Raises:
        RecordingError: as of `as_columns`.
    """
    if getattr(getattr(getattr(source, "index", None), "dtype", None), "kind", None) in ("M", "m"):
        source = (source, source.index)
    pair: Any = source if is_pair(source) else (source, rate)
    values, clock = pair
    columns = as_columns(values, where)
    named = tuple(getattr(values, "columns", ()))  # of pandas
    channels = named if len(named) == columns.shape[1] and all(isinstance(one, str) for one in named) else ()
    return columns, clock, channels


def is_pair(source: Any) -> bool:
    """Whether these are samples and their clock, rather than samples alone."""
    return isinstance(source, tuple | list) and len(source) == 2 and np.ndim(source[0]) > 0


def check_rate(clock: Any, where: str) -> float:
    """The rate by which samples tick that have no times.

    Raises:
        RecordingError: there is none, or it is no positive number.
    """
    if clock is None:
        raise RecordingError(
            f"{where.capitalize()} is an array without a clock; expected (array, times) or (array, rate). Say how fast it was "
            "sampled."
        )
    rate = np.asarray(clock)
    if rate.dtype.kind not in "iuf" or not rate > 0 or not np.isfinite(rate):
        raise RecordingError(
            f"{where}: the rate is {clock}. Expected samples per second, a positive number. Correct it."
        )
    return float(rate)


def as_columns(values: Any, where: str) -> NDArray[np.floating]:
    """(samples, channels) floating point of an array of numbers (samples,) or (samples, channels).

    Raises:
        RecordingError: it is none.
    """
    with reading(f"{where} is not made of numbers", RecordingError, "Expected (samples,) or (samples, channels)."):
        if np.ma.isMaskedArray(values):  # what is masked is missing, and no number that lies behind it
            values = np.ma.filled(values.astype(np.float64), np.nan)
        array = np.asarray(values)
        if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
            written = array.dtype.kind in "OUS"  # numbers as objects or as text
            array = array.astype(np.float64, casting="unsafe" if written else "same_kind")
    if array.ndim not in (1, 2) or (len(array) and not array.size):
        raise RecordingError(f"{where} has the shape {array.shape}; expected (samples,) or (samples, channels).")
    return array[:, None] if array.ndim == 1 else array


def make_stream(
    values: NDArray[np.floating],
    where: str,
    *,
    clock: Any,
    start: float = 0.0,
    channels: tuple[str, ...] = (),
    units: tuple[str, ...] = (),
    found: StreamCollector | None = None,
) -> Stream:
    """A stream of (samples, channels) and either one time per sample, as `as_seconds` takes them, or one rate.

    Raises:
        RecordingError: the clock fits neither, or channels were put in rows.
    """
    ticks = np.asarray(clock)
    if ticks.size == 1 and (ticks.ndim == 0 or len(values) != 1):
        rate = check_rate(ticks.reshape(()), where)
        if 0 < values.shape[0] < values.shape[1]:
            raise RecordingError(
                f"{where} has {values.shape[0]} samples of {values.shape[1]} channels. Expected one row a sample; it "
                "seems to have one row a channel. Transpose it."
            )
        return Stream.regular(values, rate, start=start, channels=channels, units=units)
    times = as_seconds(ticks.reshape(-1) if ticks.dtype.kind in "iufMm" else clock, where, found)
    if len(times) != len(values):
        turned = " It seems to have one row a channel: transpose it." if len(times) == values.shape[1] else ""
        raise RecordingError(
            f"{where} has {len(values)} samples and {len(times)} times. Expected one time per sample.{turned}"
        )
    check_clock(times, where)
    return Stream(values, times, even_rate(times), channels, units)
