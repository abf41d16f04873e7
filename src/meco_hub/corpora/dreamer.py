"""DREAMER: 23 people watch 18 film clips; EEG and ECG of portable sensors, rated afterwards.

Katsigiannis & Ramzan 2018, "DREAMER: a database for emotion recognition through EEG and ECG signals from wireless low-cost
off-the-shelf devices", IEEE JBHI 22(1):98–107; restricted access. One file:

    DREAMER.mat     struct DREAMER: EEG_SamplingRate 128, ECG_SamplingRate 256, EEG_Electrodes (14), noOfSubjects,
                    noOfVideoSequences, Data {1×23}; Data{i}: ScoreValence, ScoreArousal, ScoreDominance (18×1, whole numbers 1 to
                    5), EEG and ECG, each with `baseline` and `stimuli` {18×1} of samples × channels (14 and 2)

A row is a person watching a clip, of which the last 60 s are used: clips differ in length, so length and absolute time would
tell which it is. The clock is 0 where these begin; up to 10 s before lie in the streams at negative times. EEG is unfiltered,
with a large offset; ECG may hold NaN, which stay. A person's `reference` is median and scale of all their baselines (61 s
before each clip): label-free, the person under test included.

Everything lies in the one file, 2 GB once opened: it is opened once per process, and a quarter of a GB is kept.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, RecordingError
from ..reading import reading
from ..recordings.signal_files.mat import read_mat
from ..recordings.signal_recording import SignalRecording, Stream
from . import Corpus, Target
from .recording_rows import (
    LAYOUT_COLUMN,
    Layout,
    RecordingRow,
    build_recordings,
    check_samples,
    check_targets,
    choose_layout,
    hash_arrays,
    layout_of,
    robust_reference,
)
from .splits import with_folds

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

ELECTRODES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
ECG = ("ECG1", "ECG2")
RATES = {"EEG": 128.0, "ECG": 256.0}
WIDTHS = {"EEG": len(ELECTRODES), "ECG": len(ECG)}
BASELINE_S = 61.0
USED_S, MARGIN_S = 60.0, 10.0
SCORES = ("ScoreValence", "ScoreArousal", "ScoreDominance")
TARGETS = (Target("valence", 1.0, 5.0), Target("arousal", 1.0, 5.0), Target("dominance", 1.0, 5.0))
LAYOUTS: dict[str, Layout] = {"dreamer_2": {"eeg": ELECTRODES, "ecg": ECG}}

corpus = Corpus(
    name="dreamer",
    kind="signals",
    labels=None,
    description="DREAMER: EEG and ECG during 18 film clips, rated once per clip; the last 60 s of each. Everybody sees the same "
    "clips.",
    layout="DREAMER.mat, or a folder that holds it",
    loader="meco_hub.corpora.dreamer:read",
    reader="meco_hub.corpora.dreamer:read_row",
    options={
        "modalities": "which channels make a stream: dreamer_2, or a mapping {stream: [channel, …]} in which EEG and ECG do not "
        "share a stream; default dreamer_2",
        "folds": "what the column fold means: P1 (everybody's own trials, 6 folds of 3), P2 (one person each), P3 (groups of "
        "people; the default) or P0 (random, leaky)",
    },
    targets=TARGETS,
    streams=tuple(LAYOUTS["dreamer_2"]),
    nuisances=("stimulus", "identity"),
    citation='Katsigiannis & Ramzan 2018, "DREAMER", IEEE JBHI 22(1):98–107',
    licence="By application to its owners (Zenodo record 546113); no redistribution.",
)


def read(
    path: Path, modalities: str | Mapping[str, Sequence[str]] = "dreamer_2", folds: str = "P3"
) -> "datasets.DatasetDict":
    """Read DREAMER.mat; see `Corpus.load` for the columns. Further column: `modalities`."""
    layout = choose_layout(modalities, LAYOUTS, ELECTRODES + ECG)
    for name, channels in json.loads(layout).items():
        if 0 < len(set(channels) & set(ECG)) < len(channels):
            raise ConfigurationError(
                f"modalities: the stream {name!r} has {', '.join(channels)}, EEG and ECG, whose rates differ. Expected one of "
                "the two. Keep them apart."
            )
    file = path / "DREAMER.mat" if path.is_dir() else path
    if not file.is_file():
        raise CorpusError(f"{path} holds no DREAMER.mat. Expected {corpus.layout}.")
    people = _open(file)
    rows = [
        RecordingRow(
            sample_id=f"{who}_{clip + 1:02d}",
            identity=who,
            source=f"{file}#{number}/{clip}",
            content_sha256=hash_arrays([person.clips["EEG"][clip], person.clips["ECG"][clip]]),
            targets=[float(one) for one in person.scores[clip]],
            trial=f"{who}_{clip + 1:02d}",
            stimulus=f"clip_{clip + 1:02d}",
            extras={LAYOUT_COLUMN: layout},
        )
        for number, person in enumerate(people)
        for who in [f"subject_{number + 1:02d}"]
        for clip in range(len(person.scores))
    ]
    splits = build_recordings(rows, extras={LAYOUT_COLUMN: "string"}, address=str(file))
    return with_folds(splits, folds, str(file), n_folds=6 if folds == "P1" else 5)


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one row: EEG at 128 Hz and ECG at 256 Hz of the last 60 s, and up to 10 s before at negative times."""
    file, _, place = row["source"].rpartition("#")
    number, clip = map(int, place.split("/"))
    person = _open(Path(file))[number]
    streams, reference = {}, {}
    for name, channels in layout_of(row).items():
        sensor = "EEG" if channels[0] in ELECTRODES else "ECG"
        names = ELECTRODES if sensor == "EEG" else ECG
        places, rate = [names.index(channel) for channel in channels], RATES[sensor]
        samples = person.clips[sensor][clip]
        times = np.arange(len(samples)) / rate + (USED_S - len(samples) / rate)
        streams[name] = Stream(samples[:, places], times, rate, channels)
        reference[name] = person.references[sensor][:, places]
    return SignalRecording(streams, 0.0, USED_S, row["sample_id"], reference=reference)


@dataclass(frozen=True)
class _Person:
    """What is kept of a person.

    Attributes:
        scores: (clips, 3) valence, arousal, dominance.
        clips: sensor → for every clip its end, (samples, channels).
        references: sensor → (2, channels) of the baselines.
    """

    scores: NDArray[np.float64]
    clips: dict[str, list[NDArray[np.float32]]]
    references: dict[str, NDArray[np.float64]]


def _open(path: Path) -> list[_Person]:
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _load(path: Path, changed: int) -> list[_Person]:
    """Open and check the file; `changed` makes a file written anew another one."""
    from tqdm.auto import tqdm

    remedy = "Expected a MAT file of version 5 with the struct DREAMER. It may be cut off: copy it again."
    with reading(f"{path} cannot be read as DREAMER.mat", CorpusError, remedy):
        try:
            # some copies of the file are whole and fail their checksums
            whole = read_mat(path, checksums=False)["DREAMER"]
        except RecordingError as error:
            raise CorpusError(f"{path} cannot be read as DREAMER.mat ({error}). {remedy}") from error
        rates = {sensor: float(whole[f"{sensor}_SamplingRate"].item()) for sensor in RATES}
        electrodes = tuple(str(one) for one in whole["EEG_Electrodes"])
        counts = [int(whole[name].item()) for name in ("noOfSubjects", "noOfVideoSequences")]
        cells = whole["Data"] if isinstance(whole["Data"], list) else [whole["Data"]]
    for sensor, rate in RATES.items():
        found = rates[sensor]
        if found != rate:
            raise CorpusError(f"{path}, stream {sensor}: the rate is {found:g} Hz. Expected {rate:g}.")
    if electrodes != ELECTRODES:
        raise CorpusError(
            f"{path}, stream EEG: the electrodes are {', '.join(electrodes)}. Expected {', '.join(ELECTRODES)}."
        )
    if len(cells) != counts[0]:
        raise CorpusError(
            f"{path}: {len(cells)} people in Data, where noOfSubjects says {counts[0]}. Copy the file again."
        )
    if counts != [23, 18]:
        logger.warning("%s holds %d people and %d clips; DREAMER has 23 and 18.", path, *counts)
    return [
        _person(cell, f"{path}, Data{{{number}}}", counts[1])
        for number, cell in enumerate(tqdm(cells, desc="DREAMER", unit=" people", disable=None), start=1)
    ]


def _person(cell: Any, where: str, clips: int) -> _Person:
    remedy = f"Expected {', '.join(SCORES)}, EEG and ECG with baseline and stimuli. Take the file its owners give out."
    with reading(f"{where}: not laid out as DREAMER's people are", CorpusError, remedy):
        scores = np.stack([cell[name].reshape(-1).astype(np.float64) for name in SCORES], axis=1)
        parts = {
            (sensor, part): [np.asarray(one) for one in cell[sensor][part]]
            for sensor in RATES
            for part in ("baseline", "stimuli")
        }
    if len(scores) != clips:
        raise CorpusError(f"{where}: {len(scores)} scores, where noOfVideoSequences says {clips}. Copy the file again.")
    for place, target in enumerate(TARGETS):
        check_targets(scores[:, place], target.low, target.high, f"{where}, {SCORES[place]}")
    for (sensor, part), recorded in parts.items():
        if len(recorded) != clips:
            raise CorpusError(f"{where}, stream {sensor}: {len(recorded)} clips in {part}. Expected {clips}.")
        for clip, samples in enumerate(recorded, start=1):
            _check(samples, sensor, part, f"{where}, stream {sensor}, {part}{{{clip}}}")
    kept, references = {}, {}
    for sensor, rate in RATES.items():
        last = round((USED_S + MARGIN_S) * rate)
        kept[sensor] = [np.asarray(samples[-last:], dtype=np.float32) for samples in parts[sensor, "stimuli"]]
        references[sensor] = robust_reference(np.concatenate(parts[sensor, "baseline"]))
    for clip, (eeg, ecg) in enumerate(zip(parts["EEG", "stimuli"], parts["ECG", "stimuli"], strict=True), start=1):
        apart = abs(len(eeg) / RATES["EEG"] - len(ecg) / RATES["ECG"])
        if apart > 1.0:
            raise CorpusError(
                f"{where}, stimuli{{{clip}}}: EEG and ECG differ by {apart:.1f} s. Expected the same length."
            )
        check_samples([kept[sensor][clip - 1] for sensor in RATES], f"{where}, stimuli{{{clip}}}, streams EEG and ECG")
    return _Person(scores, kept, references)


def _check(samples: NDArray[Any], sensor: str, part: str, where: str) -> None:
    if samples.ndim != 2 or samples.shape[1] != WIDTHS[sensor] or samples.dtype.kind not in "fiu":
        raise CorpusError(
            f"{where}: shape {samples.shape} of {samples.dtype}. Expected (samples, {WIDTHS[sensor]}) numbers."
        )
    seconds = len(samples) / RATES[sensor]
    if part == "baseline" and abs(seconds - BASELINE_S) > 1.0:
        raise CorpusError(f"{where}: {seconds:.1f} s. Expected {BASELINE_S:g} s at {RATES[sensor]:g} Hz.")
    if part == "stimuli" and seconds < USED_S:
        raise CorpusError(
            f"{where}: {seconds:.1f} s. Expected {USED_S:g} s or more, of which the last {USED_S:g} s are used."
        )
