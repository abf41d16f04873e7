"""Reading DEAP's original recordings, `data_original`: one BDF file a person at 512 Hz; `deap.py` says what DEAP is.

    s01.bdf … s32.bdf            48 channels of a BioSemi: 32 EEG, EXG1 to EXG8 (pairs of eye and muscle electrodes), GSR1, GSR2,
                                 Erg1, Erg2, Resp, Plet, Temp, Status
    participant_ratings.csv      Participant_id, Trial, Experiment_id, Valence, Arousal, Dominance, Liking, …: trials in the
                                 order in which they were shown, and which video each was

A video begins where the lower eight bits of Status turn to 4. EEG is referenced to its average, as in the owners' preprocessed
files, and eye and muscle channels are differences of their two electrodes; nothing is filtered and no eye movement removed. Skin
conductance is in the site's own unit, which is not the same in Twente and Geneva. The order of electrodes differs between the
sites; here channels go by name.

Codes and channel names are those of DEAP's own description as far as it is quoted publicly; this reader has been tried on
look-alikes only.

This file knows DEAP's original files; it does not know the preprocessed ones.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError, DependencyError
from ..recordings.signal_files.edf import check_size
from ..recordings.signal_recording import SignalRecording, Stream
from .csv_rows import read_rows
from .deap import CHANNELS, EEG, LAYOUTS, TRIALS
from .file_tree import open_tree
from .modalities import LAYOUT_COLUMN, choose_layout, layout_of
from .recording_rows import RecordingRow, check_targets, hash_arrays, robust_reference

if TYPE_CHECKING:
    import pyedflib

logger = logging.getLogger(__name__)

RATE = 512.0
BEFORE_S, VIDEO_S = 3.0, 60.0
VIDEO_BEGINS = 4
_PARTS = {
    "hEOG": ("EXG1", "EXG2"),
    "vEOG": ("EXG3", "EXG4"),
    "zEMG": ("EXG5", "EXG6"),
    "tEMG": ("EXG7", "EXG8"),
    "GSR": ("GSR1",),
    "RESP": ("Resp",),
    "PPG": ("Plet",),
    "TEMP": ("Temp",),
}
_COLUMNS = ("Participant_id", "Trial", "Experiment_id", "Valence", "Arousal", "Dominance", "Liking")


def rows_of(path: Path, modalities: str | Mapping[str, Sequence[str]]) -> list[RecordingRow]:
    """A row for every video that somebody watched, in the order of people and videos.

    Raises:
        CorpusError: a zip, which must be unpacked first; no ratings, other ratings than videos, ratings off their scale; a file
            laid out otherwise. The message names file and stream.
        RecordingError: a file that is cut off.
        DependencyError: pyedflib is not installed.
    """
    from tqdm.auto import tqdm

    layout = choose_layout(modalities, LAYOUTS, CHANNELS)
    if not path.is_dir():
        raise CorpusError(
            f"{path} is no folder. Expected the folder with s<nn>.bdf: BDF is not read from archives. Unpack it."
        )
    files = sorted((one for one in path.rglob("s[0-9][0-9].bdf")), key=lambda one: one.name)
    ratings = _ratings(path)
    rows: list[RecordingRow] = []
    for file in tqdm(files, desc="DEAP, BDF", unit=" people", disable=None):
        begins, _ = _person(str(file), file.stat().st_mtime_ns)
        own = ratings.get(int(file.stem[1:]), {})
        if sorted(own) != list(range(1, len(begins) + 1)):
            raise CorpusError(
                f"{file}, stream Status: {len(begins)} videos begin, and participant_ratings.csv has the trials "
                f"{', '.join(map(str, sorted(own))) or 'of nobody of that number'}. Expected a rating of every video."
            )
        if len(begins) != TRIALS:
            logger.warning("%s holds %d videos; DEAP has %d.", file, len(begins), TRIALS)
        rows += sorted((_row(file, trial, own[trial], layout) for trial in own), key=lambda one: one.sample_id)
    return rows


def _row(file: Path, trial: int, rating: tuple[int, list[float]], layout: str) -> RecordingRow:
    video, values = rating
    check_targets(values, 1.0, 9.0, f"{file}, ratings of trial {trial}")
    name = f"{file.stem}_{video:02d}"
    return RecordingRow(
        sample_id=name,
        identity=file.stem,
        source=f"{file.absolute()}#{trial - 1}",
        content_sha256=hash_arrays([_samples(str(file), trial - 1)]),
        targets=values[:3],
        trial=name,
        stimulus=f"video_{video:02d}",
        extras={"liking": values[3], "site": "twente" if int(file.stem[1:]) <= 22 else "geneva", LAYOUT_COLUMN: layout},
    )


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one video: streams by modality at 512 Hz from −3 s to 60 s, asked about from 0 to 60 s."""
    file, _, trial = row["source"].rpartition("#")
    _, centre = _person(file, Path(file).stat().st_mtime_ns)
    data = _samples(file, int(trial))
    times = np.arange(len(data)) / RATE - BEFORE_S
    streams, reference = {}, {}
    for name, channels in layout_of(row).items():
        places = [CHANNELS.index(channel) for channel in channels]
        streams[name] = Stream(np.ascontiguousarray(data[:, places]), times, RATE, channels)
        reference[name] = centre[:, places]
    return SignalRecording(streams, 0.0, VIDEO_S, row["sample_id"], reference=reference)


def _ratings(path: Path) -> dict[int, dict[int, tuple[int, list[float]]]]:
    """Person → trial → (video, [valence, arousal, dominance, liking])."""
    with open_tree(path) as tree:
        names = [name for name in tree.names if re.search(r"(^|/)participant_ratings\.csv$", name)]
        if len(names) != 1:
            raise CorpusError(
                f"{path} holds {len(names)} files participant_ratings.csv. Expected one, of DEAP's metadata, with "
                f"{', '.join(_COLUMNS)}."
            )
        found: dict[int, dict[int, tuple[int, list[float]]]] = {}
        for row in read_rows(tree, names[0], tuple(one.lower() for one in _COLUMNS)):
            try:
                person, trial, video = (int(row[column.lower()]) for column in _COLUMNS[:3])
                values = [float(row[column.lower()]) for column in _COLUMNS[3:]]
            except ValueError as error:
                raise CorpusError(f"{row.where}: {error}. Expected numbers. Mend the line.") from error
            if trial in found.setdefault(person, {}):
                raise CorpusError(f"{row.where}: trial {trial} of participant {person} is there twice. Mend the line.")
            found[person][trial] = video, values
    return found


def _open(file: str) -> "pyedflib.EdfReader":
    try:
        import pyedflib
    except ImportError as error:
        raise DependencyError(
            f'{file}: BDF is read by pyedflib, which is not installed. Install it: pip install "meco-hub[signals]".'
        ) from error
    check_size(Path(file))
    try:
        return pyedflib.EdfReader(file, annotations_mode=pyedflib.DO_NOT_READ_ANNOTATIONS)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{file} cannot be read as BDF ({error}). Expected a whole recording. Copy it again."
        ) from error


@lru_cache(maxsize=64)
def _person(file: str, changed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Samples at which videos begin, and the (2, 40) level of the seconds before them; `changed` makes a new file another."""
    with _open(file) as opened:
        labels = _labels(opened, file)
        status = np.asarray(opened.readSignal(labels["status"], digital=True), np.int64) & 0xFF
    starts = np.flatnonzero((status == VIDEO_BEGINS) & (np.concatenate([[0], status[:-1]]) != VIDEO_BEGINS))
    if not len(starts) or starts[0] < BEFORE_S * RATE or starts[-1] + VIDEO_S * RATE > len(status):
        raise CorpusError(
            f"{file}, stream Status: {len(starts)} videos begin (code {VIDEO_BEGINS}), or one begins less than {BEFORE_S:g} s "
            f"after the recording or {VIDEO_S:g} s before its end. Expected {TRIALS} whole videos. Copy the file again."
        )
    with _open(file) as opened:
        before = [_take(opened, labels, int(one - BEFORE_S * RATE), int(BEFORE_S * RATE)) for one in starts]
    return starts, robust_reference(np.concatenate(before))


def _samples(file: str, trial: int) -> NDArray[np.float32]:
    """(samples, 40) of one video and the seconds before it."""
    starts, _ = _person(file, Path(file).stat().st_mtime_ns)
    with _open(file) as opened:
        return _take(
            opened, _labels(opened, file), int(starts[trial] - BEFORE_S * RATE), int((BEFORE_S + VIDEO_S) * RATE)
        )


def _labels(opened: "pyedflib.EdfReader", file: str) -> dict[str, int]:
    """Label in small letters → index, of a file that has all channels at 512 Hz."""
    labels = {str(one).strip().lower(): index for index, one in reversed(list(enumerate(opened.getSignalLabels())))}
    wanted = [*EEG, *(part for parts in _PARTS.values() for part in parts), "Status"]
    missing = [one for one in wanted if one.lower() not in labels]
    if missing:
        raise CorpusError(
            f"{file} lacks the channels {', '.join(missing)}. Expected the owners' original file with 48 channels."
        )
    for one in wanted:
        rate = float(opened.getSampleFrequency(labels[one.lower()]))
        if rate != RATE:
            raise CorpusError(f"{file}, stream {one}: the rate is {rate:g} Hz. Expected {RATE:g}.")
    return labels


def _take(opened: "pyedflib.EdfReader", labels: Mapping[str, int], first: int, count: int) -> NDArray[np.float32]:
    def one(name: str) -> NDArray[np.float64]:
        return np.asarray(opened.readSignal(labels[name.lower()], first, count), np.float64)

    eeg = np.stack([one(name) for name in EEG], axis=1)
    eeg -= eeg.mean(axis=1, keepdims=True)
    rest = [one(parts[0]) - one(parts[1]) if len(parts) == 2 else one(parts[0]) for parts in _PARTS.values()]
    return np.concatenate([eeg, np.stack(rest, axis=1)], axis=1).astype(np.float32)
