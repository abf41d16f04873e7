"""CASE as its authors publish it: one session of every person as two csv files.

    data/interpolated/physiological/sub_<n>.csv     daqtime (ms), ecg (mV), bvp (%), gsr (µS), rsp (%), skt (°C),
                                                    emg_zygo, emg_coru, emg_trap (µV), video; 1000 Hz
    data/interpolated/annotations/sub_<n>.csv       jstime (ms, the same clock), valence, arousal (0.5 to 9.5), video; 20 Hz

(The data set's own read-me files say so, but not whether there is a header: with and without are both read.) `video` is 1 to 8
for the films; the blue screens between them and the films at either end have other numbers and are left out. Films last two to
three minutes, so each is cut into pieces of 50 s from its beginning on, as long as the npz's windows, and what remains at its
end is left out. A piece keeps 10 s of the sensors before and after it, as the challenge gave its teams. Folds are five groups of
people (protocol P3): the challenge's own are known for the npz only.

This file knows CASE's csv; it does not know its npz.
"""

import io
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError
from ..recordings.signal_recording import SignalRecording, Stream
from .contents import PictureBytes
from .file_tree import FileTree, open_tree
from .modalities import LAYOUT_COLUMN, Layout, choose_layout, layout_of
from .protocols import number_folds
from .recording_rows import RecordingRow, build_recordings, check_targets, hash_arrays, robust_reference

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

CHANNELS = ("ecg", "bvp", "gsr", "rsp", "skt", "emg_zygo", "emg_coru", "emg_trap")
RATE = 1000.0
ANNOTATION_RATE = 20.0
PIECE_S = 50.0
MARGIN_S = 10.0
STIMULI = ("amusing-1", "amusing-2", "boring-1", "boring-2", "relaxing-1", "relaxing-2", "scary-1", "scary-2")
"""Films 1 to 8, named as in the npz."""

LAYOUTS: dict[str, Layout] = {
    "case_raw_6": {
        "ecg": ("ecg",),
        "bvp": ("bvp",),
        "eda": ("gsr",),
        "resp": ("rsp",),
        "temp": ("skt",),
        "emg": ("emg_zygo", "emg_coru", "emg_trap"),
    }
}

_PHYSIOLOGY = ("daqtime", *CHANNELS, "video")
_ANNOTATIONS = ("jstime", "valence", "arousal", "video")


def read_published(
    path: Path, modalities: str | Mapping[str, Sequence[str]] | None, expected: str
) -> "datasets.DatasetDict":
    """Read the published folders, or a zip of them.

    Args:
        path: a folder anywhere above `physiological/`, or a zip.
        modalities: option of the corpus.
        expected: the corpus's layout in words.

    Raises:
        CorpusError: files missing; a clock that stands still, runs backwards or has another rate; ratings off their scale.
    """
    import datasets
    from tqdm.auto import tqdm

    layout = choose_layout("case_raw_6" if modalities is None else modalities, LAYOUTS, CHANNELS)
    with open_tree(path) as whole:
        # beside interpolated/ lies non-interpolated/, whose clocks jitter
        above = whole.folders_above("physiological")
        roots = [root for root in above if PurePosixPath(root).name in ("", "interpolated")]
        if not roots:
            raise CorpusError(f"{path} holds no folder interpolated/physiological/. Expected {expected}.")
        tree = whole.below(roots[0])
        sessions = sorted(
            (int(found[1]), name)
            for name in tree.names
            if (found := re.fullmatch(r"physiological/sub_(\d+)\.csv", name))
        )
        rows = [
            row
            for person, name in tqdm(sessions, desc="CASE", unit=" people", disable=None)
            for row in _pieces(tree, person, name, layout)
        ]
        text = datasets.Value("string")
        extras = {LAYOUT_COLUMN: text, "annotations_sha256": text, "annotations_file": text}
        splits = build_recordings(rows, extras=extras, address=tree.where(""))
        if len(sessions) < 5:
            logger.warning("%s: %d people make no 5 folds; the column fold is −1.", path, len(sessions))
            return splits
        return datasets.DatasetDict({"all": number_folds(splits["all"], "P3")})


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
    streams, reference = {}, {}
    for name, channels in layout_of(row).items():
        places = [CHANNELS.index(channel) for channel in channels]
        streams[name] = Stream(values[first:last, places], times[first:last] - start, RATE, channels)
        reference[name] = centre[:, places]
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
    table = _table(address, _PHYSIOLOGY, RATE)
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
            f"{address}, column video, sample {line}: no number. Expected which film is on. Mend the file."
        )
    return table


def _table(address: str, columns: Sequence[str], rate: float) -> NDArray[np.float64]:
    """(rows, columns) of a csv with or without header, the first column in seconds."""
    import pyarrow as pa
    from pyarrow import csv

    with PictureBytes() as contents:
        content = contents.read({"bytes": None, "path": address})
    head = content[:4096].split(b"\n", 1)[0].decode("utf-8", errors="replace").strip().lower().split(",")
    has_header = columns[0] in [cell.strip().strip('"') for cell in head]
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(column_names=list(columns), skip_rows=int(has_header)),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.float64())),
        )
    except pa.ArrowInvalid as error:
        raise CorpusError(
            f"{address}: not the columns {', '.join(columns)} ({error}). It may be cut off: copy it again from its source."
        ) from error
    numbers = np.stack([table[column].to_numpy() for column in columns], axis=1)
    numbers[:, 0] /= 1000.0
    steps = np.diff(numbers[:, 0])
    if not (steps > 0).all():
        line = int(np.argmax(~(steps > 0))) + 2 + has_header
        raise CorpusError(
            f"{address}, line {line}, stream {columns[0]!r}: the clock stands still, runs backwards or is not a number. "
            "Expected times that increase. Mend the file."
        )
    if len(steps) and abs(float(np.median(steps)) * rate - 1) > 0.05:
        raise CorpusError(
            f"{address}, stream {columns[0]!r}: {1 / float(np.median(steps)):g} samples per second. Expected {rate:g}, as "
            "the interpolated files have. Take data/interpolated/."
        )
    return numbers
