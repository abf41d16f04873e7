"""CASE: 30 people watch eight films and steer valence and arousal with a joystick, all the while.

Sharma et al. 2019, "A dataset of continuous affect annotations and physiological signals for emotion analysis", Scientific
Data 6:196; CC BY 4.0. Two forms are read:

    case_20hz.npz       arrays signals (n, 1000, 9) at 20 Hz, channels, affect (n, 1000, 2), fold, subject, video, stimulus,
                        time_ms: 50-s windows of the EPiC 2023 challenge, scenario 2 (folds disjoint in subjects), the
                        signals already turned into heart rate, pulse transit time, skin conductance's parts and so on
    published csv       data/interpolated/physiological/sub_<n>.csv and …/annotations/sub_<n>.csv; see below

A row of the npz is one person watching one film for 50 s. The challenge's metric is the RMSE per file on seconds 10 to 40,
averaged over the files of a fold and then over folds. Everybody sees the same eight films: a model may win by recognising
the film, so report a predictor that knows the film beside the figure. The signals hold the artefacts of splines, values far
out of any body's range; nothing is clipped here.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError, RecordingError
from ..reading import reading
from ..recordings.signal_files.npz import read_npz
from ..recordings.signal_recording import SignalRecording, Stream
from . import Corpus, Target
from .file_tree import FileTree, open_tree, read_path
from .recording_rows import (
    LAYOUT_COLUMN,
    Layout,
    RecordingRow,
    build_recordings,
    check_samples,
    check_targets,
    choose_layout,
    hash_arrays,
    pick_streams,
    robust_reference,
)
from .splits import with_folds

if TYPE_CHECKING:
    import datasets

CHANNELS = ("IHR", "PTT", "EDAPh", "EDATon", "RESP", "TEMP", "TEMGEnv", "ZEMGEnv", "CEMGEnv")
TARGETS = (Target("valence", 0.5, 9.5), Target("arousal", 0.5, 9.5))
RATE = 20.0
"""Hz of signals and ratings in the npz."""

LAYOUTS: dict[str, Layout] = {
    "case_5": {
        "cardiac": ("IHR", "PTT"),
        "eda": ("EDAPh", "EDATon"),
        "resp": ("RESP",),
        "temp": ("TEMP",),
        "emg": ("TEMGEnv", "ZEMGEnv", "CEMGEnv"),
    },
    "case_6": {
        "cardiac": ("IHR", "PTT"),
        "eda": ("EDAPh", "EDATon"),
        "resp": ("RESP",),
        "temp": ("TEMP",),
        "face": ("ZEMGEnv", "CEMGEnv"),
        "shoulder": ("TEMGEnv",),
    },
    "case_9": {channel.lower(): (channel,) for channel in CHANNELS},
}
"""Presets of the npz: the sensors, the sensors with face and shoulder apart, every channel by itself."""

corpus = Corpus(
    name="case",
    kind="signals",
    labels=None,
    description="CASE: valence and arousal steered with a joystick while eight films are watched, with eight physiological "
    "sensors. Time-continuous; everybody sees the same films.",
    layout="case_20hz.npz (signals, channels, affect, fold, subject, video, stimulus, time_ms), or the published folders "
    "data/interpolated/physiological/ and data/interpolated/annotations/ with sub_<n>.csv",
    loader="meco_hub.corpora.case:read",
    reader="meco_hub.corpora.case:read_row",
    options={
        "modalities": f"which channels make a stream: {', '.join(LAYOUTS)} (npz) or case_raw_6 (csv), or a mapping "
        "{stream: [channel, …]}. Default: case_5, case_raw_6"
    },
    targets=TARGETS,
    streams=tuple(LAYOUTS["case_5"]),
    time_continuous=True,
    scored_seconds=(10.0, 40.0),
    nuisances=("stimulus",),
    citation='Sharma et al. 2019, "A dataset of continuous affect annotations and physiological signals for emotion '
    'analysis", Scientific Data 6:196',
    licence="CC BY 4.0",
)


def read(path: Path, modalities: str | Mapping[str, Sequence[str]] | None = None) -> "datasets.DatasetDict":
    """Read CASE from the npz (or a folder with one), or from the published csv; see `Corpus.load` for the columns.

    Further columns: `modalities` (JSON) and `annotations_sha256`.
    """
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
    return build_recordings(
        rows, extras={LAYOUT_COLUMN: "string", "annotations_sha256": "string"}, address=str(files[0])
    )


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one row: streams by modality, ratings in `annotations`, and this person's own `reference`.

    The reference is median and scale of all that person's recordings in the file, without their ratings.
    """
    file, _, number = row["source"].rpartition("#")
    if not file.endswith(".npz"):
        return recording_of_piece(row)
    held, index = _open(Path(file)), int(number)
    centre = held.references[held.subjects[index]]
    streams, reference = pick_streams(row, held.channels, held.signals[index], held.times, RATE, centre)
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
        arrays = read_npz(path)
    except RecordingError as error:
        raise CorpusError(f"{error} Expected {corpus.layout}.") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CorpusError(
            f"{path} has the arrays {', '.join(arrays)}; {', '.join(missing)} are missing. Expected {corpus.layout}."
        )
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


# The published files: one session of every person as two csv files.
#
#     data/interpolated/physiological/sub_<n>.csv     daqtime (ms), ecg (mV), bvp (%), gsr (µS), rsp (%), skt (°C),
#                                                     emg_zygo, emg_coru, emg_trap (µV), video; 1000 Hz
#     data/interpolated/annotations/sub_<n>.csv       jstime (ms, the same clock), valence, arousal (0.5 to 9.5), video; 20 Hz
#
# (The data set's own read-me files say so, but not whether there is a header: with and without are both read.) `video` is 1
# to 8 for the films; the blue screens between them and the films at either end have other numbers and are left out. Films
# last two to three minutes, so each is cut into pieces of 50 s from its beginning on, as long as the npz's windows, and
# what remains at its end is left out. A piece keeps 10 s of the sensors before and after it, as the challenge gave its
# teams. Folds are five groups of people (protocol P3): the challenge's own are known for the npz only.

CSV_CHANNELS = ("ecg", "bvp", "gsr", "rsp", "skt", "emg_zygo", "emg_coru", "emg_trap")
CSV_RATE = 1000.0
ANNOTATION_RATE = 20.0
PIECE_S = 50.0
MARGIN_S = 10.0
STIMULI = ("amusing-1", "amusing-2", "boring-1", "boring-2", "relaxing-1", "relaxing-2", "scary-1", "scary-2")
"""Films 1 to 8, named as in the npz."""

CSV_LAYOUTS: dict[str, Layout] = {
    "case_raw_6": {
        "ecg": ("ecg",),
        "bvp": ("bvp",),
        "eda": ("gsr",),
        "resp": ("rsp",),
        "temp": ("skt",),
        "emg": ("emg_zygo", "emg_coru", "emg_trap"),
    }
}

_PHYSIOLOGY = ("daqtime", *CSV_CHANNELS, "video")
_ANNOTATIONS = ("jstime", "valence", "arousal", "video")


def read_published(
    path: Path, modalities: str | Mapping[str, Sequence[str]] | None, expected: str
) -> "datasets.DatasetDict":
    """Read the published folders, or a zip of them. `path`: a folder anywhere above `physiological/`, or a zip."""
    from tqdm.auto import tqdm

    layout = choose_layout("case_raw_6" if modalities is None else modalities, CSV_LAYOUTS, CSV_CHANNELS)
    whole = open_tree(path)
    # beside interpolated/ lies non-interpolated/, whose clocks jitter
    above = whole.folders_above("physiological")
    roots = [root for root in above if PurePosixPath(root).name in ("", "interpolated")]
    if not roots:
        raise CorpusError(f"{path} holds no folder interpolated/physiological/. Expected {expected}.")
    tree = whole.below(roots[0])
    sessions = sorted(
        (int(found[1]), name) for name in tree.names if (found := re.fullmatch(r"physiological/sub_(\d+)\.csv", name))
    )
    rows = [
        row
        for person, name in tqdm(sessions, desc="CASE", unit=" people", disable=None)
        for row in _pieces(tree, person, name, layout)
    ]
    extras: dict[str, str] = dict.fromkeys((LAYOUT_COLUMN, "annotations_sha256", "annotations_file"), "string")
    return with_folds(build_recordings(rows, extras=extras, address=tree.where("")), "P3", str(path))


def _pieces(tree: FileTree, person: int, name: str, layout: str) -> list[RecordingRow]:
    own = f"annotations/sub_{person}.csv"
    if own not in tree:
        raise CorpusError(f"{tree.where(own)} is missing beside {name}. Expected annotations for every person.")
    table = _annotations(tree.image_path(own))
    rows = []
    borders = np.flatnonzero(np.diff(table[:, 3])) + 1
    for first, last in zip([0, *borders], [*borders, len(table)], strict=True):
        film = int(table[first, 3])
        if not 1 <= film <= len(STIMULI):
            continue
        begins = float(table[first, 0])
        for piece in range(int((last - first) / ANNOTATION_RATE / PIECE_S)):
            start = begins + piece * PIECE_S
            inside = (table[:, 0] >= start) & (table[:, 0] < start + PIECE_S)
            trial = f"sub_{person}_vid_{film}"
            rows.append(
                RecordingRow(
                    sample_id=f"{trial}_{piece}",
                    identity=f"sub_{person}",
                    source=tree.image_path(name),
                    files=(tree.image_path(name),),
                    trial=trial,
                    stimulus=STIMULI[film - 1],
                    start_s=start,
                    end_s=start + PIECE_S,
                    extras={
                        LAYOUT_COLUMN: layout,
                        "annotations_sha256": hash_arrays([table[inside, 1:3]]),
                        "annotations_file": tree.image_path(own),
                    },
                )
            )
    return rows


def recording_of_piece(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one piece, its clock 0 where the piece begins."""
    start, end = row["start_s"], row["end_s"]
    times, values, centre = _physiology(row["source"])
    ratings = _annotations(row["annotations_file"])
    if times[0] > start + 1.0 or times[-1] < end - 1.0:
        raise CorpusError(
            f"{row['source']}, stream {_PHYSIOLOGY[0]!r}: samples from {times[0]:.1f} to {times[-1]:.1f} s, and "
            f"{row['sample_id']} is rated from {start:.1f} to {end:.1f} s. Expected samples throughout. It may be cut off: copy "
            "it again from its source."
        )
    first, last = np.searchsorted(times, [start - MARGIN_S, end + MARGIN_S])
    clock = times[first:last] - start
    streams, reference = pick_streams(row, CSV_CHANNELS, values[first:last], clock, CSV_RATE, centre)
    inside = (ratings[:, 0] >= start) & (ratings[:, 0] < end)
    annotations = {
        target: Stream(
            ratings[inside, place : place + 1].astype(np.float32),
            ratings[inside, 0] - start,
            ANNOTATION_RATE,
            (target,),
        )
        for place, target in ((1, "valence"), (2, "arousal"))
    }
    return SignalRecording(streams, 0.0, end - start, row["sample_id"], annotations, reference)


@lru_cache(maxsize=2)
def _physiology(address: str) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """(times in seconds, (samples, 8) values, their reference) of one session: 100 MB, hence the small cache."""
    table = _table(address, _PHYSIOLOGY, CSV_RATE)
    values = table[:, 1:-1].astype(np.float32)
    return table[:, 0].copy(), values, robust_reference(values[::10])  # a tenth of the samples says the same


@lru_cache(maxsize=64)
def _annotations(address: str) -> NDArray[np.float64]:
    """(samples, 4): time in seconds, valence, arousal, video."""
    table = _table(address, _ANNOTATIONS, ANNOTATION_RATE)
    for place in (1, 2):
        check_targets(table[:, place], 0.5, 9.5, f"{address}, {_ANNOTATIONS[place]}")
    if not np.isfinite(table[:, 3]).all():
        line = int(np.argmax(~np.isfinite(table[:, 3]))) + 1
        raise CorpusError(
            f"{address}, column video, sample {line}: no number. Expected which film is on. Correct the file."
        )
    return table


def _table(address: str, columns: Sequence[str], rate: float) -> NDArray[np.float64]:
    """(rows, columns) of a csv with or without header, the first column in seconds."""
    import pyarrow as pa
    from pyarrow import csv

    content = read_path(address)
    head = content[:4096].split(b"\n", 1)[0].decode("utf-8", errors="replace").strip().lower().split(",")
    has_header = columns[0] in [cell.strip().strip('"') for cell in head]
    remedy = "It may be cut off: copy it again from its source."
    with reading(f"{address}: not the columns {', '.join(columns)}", CorpusError, remedy):
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(column_names=list(columns), skip_rows=int(has_header)),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.float64())),
        )
    numbers = np.stack([table[column].to_numpy() for column in columns], axis=1)
    numbers[:, 0] /= 1000.0
    steps = np.diff(numbers[:, 0])
    if not (steps > 0).all():
        line = int(np.argmax(~(steps > 0))) + 2 + has_header
        raise CorpusError(
            f"{address}, line {line}, stream {columns[0]!r}: the clock stands still, runs backwards or is not a number. "
            "Expected times that increase. Correct the file."
        )
    if len(steps) and abs(float(np.median(steps)) * rate - 1) > 0.05:
        raise CorpusError(
            f"{address}, stream {columns[0]!r}: {1 / float(np.median(steps)):g} samples per second. Expected {rate:g}, as "
            "the interpolated files have. Take data/interpolated/."
        )
    return numbers
