"""Reading CASE's npz; `case.py` says what is in it.

This file knows CASE's npz; it does not know windows or models.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError
from ..recordings.signal_recording import SignalRecording, Stream
from .case import CHANNELS, LAYOUTS, RATE, TARGETS, corpus
from .case_csv import read_published, recording_of_piece
from .modalities import LAYOUT_COLUMN, choose_layout, layout_of
from .recording_rows import (
    RecordingRow,
    build_recordings,
    check_samples,
    check_targets,
    hash_arrays,
    robust_reference,
)

if TYPE_CHECKING:
    import datasets


def read(path: Path, modalities: str | Mapping[str, Sequence[str]] | None = None) -> "datasets.DatasetDict":
    """Read CASE from the npz (or a folder with one), or from the published csv; see `Corpus.load` for the columns.

    Further columns: `modalities` (JSON) and `annotations_sha256`.

    Raises:
        CorpusError: another layout, a clock that is not 20 Hz, ratings off their scale; the message names file and array.
        ConfigurationError, UnknownNameError: `modalities` makes no sense.
    """
    import datasets

    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if (path.is_dir() and not files) or path.suffix.lower() == ".zip":
        return read_published(path, modalities, corpus.layout)
    if len(files) != 1 or files[0].suffix.lower() != ".npz":
        raise CorpusError(
            f"{path}: {len(files)} files, {files[0].name} first. Expected one npz. Expected {corpus.layout}."
        )
    layout = choose_layout("case_5" if modalities is None else modalities, LAYOUTS, CHANNELS)
    held = _open(files[0])
    times: dict[str, int] = {}
    rows = []
    for number in range(len(held.signals)):
        trial = f"sub_{held.subjects[number]}_vid_{held.videos[number]}"
        times[trial] = times.get(trial, -1) + 1  # a file may hold several windows of one film
        rows.append(
            RecordingRow(
                sample_id=f"{trial}_{times[trial]}" if times[trial] else trial,
                identity=f"sub_{held.subjects[number]}",
                source=f"{files[0]}#{number}",
                content_sha256=hash_arrays([held.signals[number]]),
                fold=int(held.folds[number]),
                trial=trial,
                stimulus=str(held.stimuli[number]),
                extras={LAYOUT_COLUMN: layout, "annotations_sha256": hash_arrays([held.affect[number]])},
            )
        )
    text = datasets.Value("string")
    return build_recordings(rows, extras={LAYOUT_COLUMN: text, "annotations_sha256": text}, address=str(files[0]))


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one row: streams by modality, ratings in `annotations`, and this person's own `reference`.

    The reference is median and scale of all that person's recordings in the file, without their ratings.
    """
    file, _, number = row["source"].rpartition("#")
    if not file.endswith(".npz"):
        return recording_of_piece(row)
    held, index = _open(Path(file)), int(number)
    streams, reference = {}, {}
    for name, channels in layout_of(row).items():
        places = [held.channels.index(channel) for channel in channels]
        streams[name] = Stream(held.signals[index][:, places], held.times, RATE, channels)
        reference[name] = held.references[held.subjects[index]][:, places]
    annotations = {
        target.name: Stream(held.affect[index][:, place : place + 1], held.times, RATE, (target.name,))
        for place, target in enumerate(TARGETS)
    }
    return SignalRecording(streams, name=row["sample_id"], annotations=annotations, reference=reference)


@dataclass(frozen=True)
class _Arrays:
    """The npz, checked."""

    signals: NDArray[np.float32]
    channels: list[str]
    affect: NDArray[np.float32]
    folds: NDArray[np.int64]
    subjects: list[str]
    videos: list[str]
    stimuli: list[str]
    times: NDArray[np.float64]
    references: dict[str, NDArray[np.float64]]


def _open(path: Path) -> _Arrays:
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> _Arrays:
    """Read and check the npz; `changed` makes a file written anew another one."""
    names = ("signals", "channels", "affect", "fold", "subject", "video", "stimulus", "time_ms")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise CorpusError(
                    f"{path} has the arrays {', '.join(archive.files)}; {', '.join(missing)} are missing. Expected {corpus.layout}."
                )
            arrays = {name: archive[name] for name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(
            f"{path} cannot be read as an npz ({error}). Expected {corpus.layout}. Copy it again."
        ) from error
    signals, affect, clock = arrays["signals"], arrays["affect"], arrays["time_ms"]
    channels = [str(channel) for channel in arrays["channels"]]
    lacking = [channel for channel in CHANNELS if channel not in channels]
    if lacking or signals.ndim != 3 or signals.shape[2] != len(channels):
        raise CorpusError(
            f"{path}, array signals: shape {signals.shape} with the channels {', '.join(channels)}. Expected (windows, samples, "
            f"{len(CHANNELS)}) and {', '.join(CHANNELS)}. Write the file anew with every channel."
        )
    windows, samples = signals.shape[:2]
    shapes = {"affect": (windows, samples, len(TARGETS)), "time_ms": (samples,)}
    shapes |= dict.fromkeys(("fold", "subject", "video", "stimulus"), (windows,))
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise CorpusError(f"{path}, array {name}: shape {arrays[name].shape}. Expected {shape}, as signals has it.")
    for name in ("signals", "affect", "time_ms", "fold"):
        if arrays[name].dtype.kind not in "fiu":
            raise CorpusError(f"{path}, array {name}: {arrays[name].dtype}. Expected numbers. Write the file anew.")
    folds = arrays["fold"].astype(np.float64)
    if not ((folds >= -1) & (folds < 2**31) & (folds == np.round(folds))).all():
        raise CorpusError(
            f"{path}, array fold: {folds.tolist()[:8]}. Expected whole numbers from 0, or −1 for unknown."
        )
    for number, window in enumerate(signals):
        check_samples([window], f"{path}, array signals, window {number}")
    steps = np.diff(clock.astype(np.float64))
    if (steps <= 0).any():
        raise CorpusError(
            f"{path}, array time_ms: the clock stands still or runs backwards. Expected times that increase."
        )
    if len(steps) and not np.allclose(steps, 1000 / RATE, atol=1.0):
        raise CorpusError(
            f"{path}, array time_ms: steps of {steps.min():g} to {steps.max():g} ms. Expected {1000 / RATE:g} ({RATE:g} Hz)."
        )
    for place, target in enumerate(TARGETS):
        check_targets(affect[:, :, place], target.low, target.high, f"{path}, array affect, {target.name}")
    subjects = [str(one) for one in arrays["subject"]]
    signals = signals.astype(np.float32, copy=False)
    references = {
        who: robust_reference(signals[[n for n, one in enumerate(subjects) if one == who]].reshape(-1, len(channels)))
        for who in set(subjects)
    }
    return _Arrays(
        signals,
        channels,
        affect.astype(np.float32, copy=False),
        arrays["fold"].astype(np.int64),
        subjects,
        [str(one) for one in arrays["video"]],
        [str(one) for one in arrays["stimulus"]],
        clock.astype(np.float64) / 1000.0,
        references,
    )
