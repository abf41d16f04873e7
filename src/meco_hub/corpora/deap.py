"""DEAP: 32 people watch 40 one-minute music videos; EEG and peripheral signals, rated afterwards.

Koelstra et al. 2012, "DEAP: a database for emotion analysis using physiological signals", IEEE T-AFFC 3(1):18–31; under an
agreement with its owners. Read are the files of `data_preprocessed_python`, in a folder or a zip; or, where there are none, the
original BDF files, see below:

    s01.dat … s32.dat       a pickle of `data` (40 trials, 40 channels, 8064 samples) and `labels` (40, 4): valence, arousal,
                            dominance, liking, 1 to 9

8064 samples are 63 s at 128 Hz: 3 s before the video and 60 s of it. The owners have already removed eye movements, filtered
to 4–45 Hz, referenced to the average and sorted the trials by video, so trial n of everybody is video n: its number must
never be a feature. All channels share one clock; missing and shifted streams must be simulated. People 1–22 were recorded in
Twente, 23–32 in Geneva. The pickles are read without running anything.

A row is a trial. Its clock is 0 where the video begins; the 3 s before it lie in the streams at negative times. A person's
`reference` is median and scale of the seconds before all their videos: label-free, the person under test included.
"""

import io
import logging
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError, quote
from ..reading import reading
from ..recordings.signal_files.edf import EdfFile
from ..recordings.signal_recording import SignalRecording
from . import Corpus, Target
from .file_tree import open_tree, read_path, read_rows
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

logger = logging.getLogger(__name__)

_EEG = "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
EEG = tuple(_EEG.split())
PERIPHERAL = ("hEOG", "vEOG", "zEMG", "tEMG", "GSR", "RESP", "PPG", "TEMP")
CHANNELS = EEG + PERIPHERAL
RATE = 128.0
BASELINE, SAMPLES = 384, 8064
"""Samples before the video, and in all."""
TRIALS = 40
TARGETS = (Target("valence", 1.0, 9.0), Target("arousal", 1.0, 9.0), Target("dominance", 1.0, 9.0))

LAYOUTS: dict[str, Layout] = {
    "deap_4": {"eeg": EEG, "eye": PERIPHERAL[:2], "emg": PERIPHERAL[2:4], "ans": PERIPHERAL[4:]},
    "deap_7": {
        "eeg": EEG,
        "eye": PERIPHERAL[:2],
        "emg": PERIPHERAL[2:4],
        "gsr": ("GSR",),
        "resp": ("RESP",),
        "ppg": ("PPG",),
        "temp": ("TEMP",),
    },
    "deap_2": {"eeg": EEG, "peripheral": PERIPHERAL},
}

corpus = Corpus(
    name="deap",
    kind="signals",
    labels=None,
    description="DEAP: EEG and peripheral signals during 40 one-minute music videos, rated once per video. Everybody sees the "
    "same videos in the same order of files.",
    layout="data_preprocessed_python/ with s01.dat … s32.dat, or a folder with s01.bdf … s32.bdf and participant_ratings.csv",
    loader="meco_hub.corpora.deap:read",
    reader="meco_hub.corpora.deap:read_row",
    options={
        "modalities": f"which channels make a stream: {', '.join(LAYOUTS)}, or a mapping {{stream: [channel, …]}}; default deap_4",
        "folds": "what the column fold means: P1 (everybody's own trials), P2 (one person each), P3 (groups of people, both "
        "sites in each; the default) or P0 (random, leaky)",
    },
    targets=TARGETS,
    streams=tuple(LAYOUTS["deap_4"]),
    nuisances=("stimulus", "identity"),
    groups=("site",),
    suspicious_above=0.6,
    citation='Koelstra et al. 2012, "DEAP: a database for emotion analysis using physiological signals", IEEE T-AFFC 3(1)',
    licence="End user licence agreement with Queen Mary University of London; no redistribution.",
)


def read(
    path: Path, modalities: str | Mapping[str, Sequence[str]] = "deap_4", folds: str = "P3"
) -> "datasets.DatasetDict":
    """Read the preprocessed files, or the original BDF files where there are no others; see `Corpus.load` for the columns.
    Further columns: `liking`, `site`, `modalities`.

    Every file is opened once, for its ratings and the hashes of its trials; samples are read again with each row.
    """
    extras = {"liking": "float32", "site": "string", LAYOUT_COLUMN: "string"}
    splits = build_recordings(_read(path, modalities), extras=extras, address=str(path))
    return with_folds(splits, folds, str(path), stratify_by="site" if folds == "P3" else None)


def _read(path: Path, modalities: str | Mapping[str, Sequence[str]]) -> list[RecordingRow]:
    """The rows of the preprocessed files, or of the original ones where there are no others."""
    from tqdm.auto import tqdm

    layout = choose_layout(modalities, LAYOUTS, CHANNELS)
    tree = open_tree(path)
    files = sorted(
        (name for name in tree.names if re.search(r"(^|/)s\d\d\.dat$", name)),
        key=lambda name: name.rpartition("/")[2],
    )
    if not files and any(re.search(r"(^|/)s\d\d\.bdf$", name) for name in tree.names):
        return rows_of(path, modalities)
    if not files or len({name.rpartition("/")[2] for name in files}) < len(files):
        raise CorpusError(f"{path} holds {len(files)} files s<nn>.dat, or one of them twice. Expected {corpus.layout}.")
    rows: list[RecordingRow] = []
    for name in tqdm(files, desc="DEAP", unit=" people", disable=None):
        address, person = tree.image_path(name), name.rpartition("/")[2][:3]
        data, labels, _ = _load(address)
        for trial, (samples, ratings) in enumerate(zip(data, labels.tolist(), strict=True)):
            rows.append(_row(person, trial + 1, f"{address}#{trial}", samples, ratings, layout))
    return rows


def _row(
    person: str, video: int, source: str, samples: NDArray[np.float32], ratings: list[float], layout: str
) -> RecordingRow:
    name = f"{person}_{video:02d}"
    site = "twente" if int(person[1:]) <= 22 else "geneva"
    return RecordingRow(
        sample_id=name,
        identity=person,
        source=source,
        content_sha256=hash_arrays([samples]),
        targets=ratings[:3],
        trial=name,
        stimulus=f"video_{video:02d}",
        extras={"liking": ratings[3], "site": site, LAYOUT_COLUMN: layout},
    )


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one trial: streams by modality at 128 Hz from −3 s to 60 s, its own time 0 to 60 s; of the original
    files, at 512 Hz."""
    address, _, trial = row["source"].rpartition("#")
    if address.endswith(".bdf"):
        return read_bdf_row(row)
    data, _, centre = _load(address)
    times = (np.arange(SAMPLES) - BASELINE) / RATE
    streams, reference = pick_streams(row, CHANNELS, data[int(trial)].T, times, RATE, centre)
    return SignalRecording(streams, 0.0, (SAMPLES - BASELINE) / RATE, row["sample_id"], reference=reference)


@lru_cache(maxsize=4)
def _load(address: str) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """(data (trials, 40, 8064), labels (trials, 4), reference (2, 40)) of a person; 52 MB, hence the small cache."""
    arrays = load_arrays(read_path(address), address)
    missing = [name for name in ("data", "labels") if name not in arrays]
    if missing:
        raise CorpusError(
            f"{address} holds {', '.join(arrays)}; {', '.join(missing)} is missing. Expected data and labels."
        )
    data, labels = arrays["data"], arrays["labels"]
    if data.ndim != 3 or data.shape[1:] != (len(CHANNELS), SAMPLES) or not len(data) or data.dtype.kind != "f":
        raise CorpusError(
            f"{address}, array data: shape {data.shape} of {data.dtype}. Expected ({TRIALS}, {len(CHANNELS)}, {SAMPLES}) floats: "
            f"{len(CHANNELS)} channels, 63 s at {RATE:g} Hz. Take the owners' preprocessed files."
        )
    if labels.shape != (len(data), 4):
        raise CorpusError(
            f"{address}, array labels: shape {labels.shape}. Expected ({len(data)}, 4), one row per trial."
        )
    if len(data) != TRIALS:
        logger.warning("%s holds %d trials; DEAP has %d.", address, len(data), TRIALS)
    check_targets(labels, 1.0, 9.0, f"{address}, array labels")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is missing
        data = data.astype(np.float32)
    for number, trial in enumerate(data, start=1):
        check_samples([trial], f"{address}, array data, trial {number}")
    before = data[:, :, :BASELINE].transpose(0, 2, 1).reshape(-1, len(CHANNELS))
    return data, labels.astype(np.float64), robust_reference(before)


# The original recordings, `data_original`: one BDF file a person at 512 Hz.
#
#     s01.bdf … s32.bdf            48 channels of a BioSemi: 32 EEG, EXG1 to EXG8 (pairs of eye and muscle electrodes), GSR1, GSR2,
#                                  Erg1, Erg2, Resp, Plet, Temp, Status
#     participant_ratings.csv      Participant_id, Trial, Experiment_id, Valence, Arousal, Dominance, Liking, …: trials in the
#                                  order in which they were shown, and which video each was
#
# A video begins where the lower eight bits of Status turn to 4. EEG is referenced to its average, as in the owners'
# preprocessed files, and eye and muscle channels are differences of their two electrodes; nothing is filtered and no eye
# movement removed. Skin conductance is in the site's own unit, which is not the same in Twente and Geneva. The order of
# electrodes differs between the sites; here channels go by name.
#
# Codes and channel names are those of DEAP's own description as far as it is quoted publicly; this reader has been tried on
# look-alikes only.

BDF_RATE = 512.0
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
    """A row for every video that somebody watched, in the order of people and videos."""
    from tqdm.auto import tqdm

    layout = choose_layout(modalities, LAYOUTS, CHANNELS)
    if not path.is_dir():
        raise CorpusError(
            f"{path} is no folder. Expected the folder with s<nn>.bdf: BDF is not read from archives. Unpack it."
        )
    ratings = _ratings(path)  # which refuses folders that cannot be read, where rglob passes over them
    files = sorted((one for one in path.rglob("s[0-9][0-9].bdf")), key=lambda one: one.name)
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
        for video, trial, values in sorted((video, trial, values) for trial, (video, values) in own.items()):
            check_targets(values, 1.0, 9.0, f"{file}, ratings of trial {trial}")
            source = f"{file.absolute()}#{trial - 1}"
            rows.append(_row(file.stem, video, source, _samples(str(file), trial - 1), values, layout))
    return rows


def read_bdf_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one video: streams by modality at 512 Hz from −3 s to 60 s, its own time 0 to 60 s."""
    file, _, trial = row["source"].rpartition("#")
    _, centre = _person(file, Path(file).stat().st_mtime_ns)
    data = _samples(file, int(trial))
    times = np.arange(len(data)) / BDF_RATE - BEFORE_S
    streams, reference = pick_streams(row, CHANNELS, data, times, BDF_RATE, centre)
    return SignalRecording(streams, 0.0, VIDEO_S, row["sample_id"], reference=reference)


def _ratings(path: Path) -> dict[int, dict[int, tuple[int, list[float]]]]:
    """Person → trial → (video, [valence, arousal, dominance, liking])."""
    tree = open_tree(path)
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
            raise CorpusError(f"{row.where}: {error}. Expected numbers. Correct the line.") from error
        if trial in found.setdefault(person, {}):
            raise CorpusError(f"{row.where}: trial {trial} of participant {person} is there twice. Correct the line.")
        found[person][trial] = video, values
    return found


@lru_cache(maxsize=64)
def _person(file: str, changed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Samples at which videos begin, and the (2, 40) level of the seconds before them; `changed` makes a new file another."""
    opened = EdfFile(Path(file))
    labels = _labels(opened, file)
    status = opened.digital(labels["status"]).astype(np.int64) & 0xFF
    starts = np.flatnonzero((status == VIDEO_BEGINS) & (np.concatenate([[0], status[:-1]]) != VIDEO_BEGINS))
    if not len(starts) or starts[0] < BEFORE_S * BDF_RATE or starts[-1] + VIDEO_S * BDF_RATE > len(status):
        raise CorpusError(
            f"{file}, stream Status: {len(starts)} videos begin (code {VIDEO_BEGINS}), or one begins less than {BEFORE_S:g} s "
            f"after the recording or {VIDEO_S:g} s before its end. Expected {TRIALS} whole videos. Copy the file again."
        )
    before = [
        _read_channels(opened, labels, int(one - BEFORE_S * BDF_RATE), int(BEFORE_S * BDF_RATE)) for one in starts
    ]
    return starts, robust_reference(np.concatenate(before))


def _samples(file: str, trial: int) -> NDArray[np.float32]:
    """(samples, 40) of one video and the seconds before it."""
    starts, _ = _person(file, Path(file).stat().st_mtime_ns)
    opened, first = EdfFile(Path(file)), int(starts[trial] - BEFORE_S * BDF_RATE)
    return _read_channels(opened, _labels(opened, file), first, int((BEFORE_S + VIDEO_S) * BDF_RATE))


def _labels(opened: EdfFile, file: str) -> dict[str, int]:
    """Label in small letters → index, of a file that has all channels at 512 Hz."""
    labels = {one.lower(): index for index, one in reversed(list(enumerate(opened.labels)))}
    wanted = [*EEG, *(part for parts in _PARTS.values() for part in parts), "Status"]
    missing = [one for one in wanted if one.lower() not in labels]
    if missing:
        raise CorpusError(
            f"{file} lacks the channels {', '.join(missing)}. Expected the owners' original file with 48 channels."
        )
    for one in wanted:
        rate = opened.rates[labels[one.lower()]]
        if rate != BDF_RATE:
            raise CorpusError(f"{file}, stream {one}: the rate is {rate:g} Hz. Expected {BDF_RATE:g}.")
    return labels


def _read_channels(opened: EdfFile, labels: Mapping[str, int], first: int, count: int) -> NDArray[np.float32]:
    def one(name: str) -> NDArray[np.float64]:
        return opened.physical(labels[name.lower()], first, count)

    eeg = np.stack([one(name) for name in EEG], axis=1)
    eeg -= eeg.mean(axis=1, keepdims=True)
    rest = [one(parts[0]) - one(parts[1]) if len(parts) == 2 else one(parts[0]) for parts in _PARTS.values()]
    return np.concatenate([eeg, np.stack(rest, axis=1)], axis=1).astype(np.float32)


# Pickles that hold NumPy arrays, read without running anything.
#
# Unpickling runs whatever the file says. Some corpora nevertheless travel as pickles of a dict of arrays, so the unpickler
# here knows a handful of names, those by which NumPy writes an array, and puts its own classes behind them: NumPy's code
# for restoring arrays is not called either. Any other name is refused before it is imported, and with it the file. The
# instructions are counted before the first is followed: some dozen make an array, and a few bytes of others would take all
# memory or change the reader.

_MOST_INSTRUCTIONS = 10_000


def load_arrays(content: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of a pickled dict, by name.

    Returns:
        Read-only arrays of numbers, views of the bytes they were written with.

    Raises:
        CorpusError: the pickle names anything but NumPy's arrays, is no dict of such, or is cut off.
    """
    remedy = "It may be cut off: copy it again from its source."
    with reading(f"{where} cannot be read as a pickle of arrays", CorpusError, remedy):
        _count_instructions(content)
        loaded = _ArrayUnpickler(content, where).load()
    if not isinstance(loaded, dict) or not all(
        isinstance(value, _Array) and value.array is not None for value in loaded.values()
    ):
        raise CorpusError(
            f"{where} holds a {type(loaded).__name__}, not a dict of arrays. Take the file its owners give out."
        )
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value.array for key, value in loaded.items()}
    if not all(isinstance(name, str) for name in named):
        raise CorpusError(f"{where} names its arrays {quote(list(named))}. Expected names that are text.")
    return named


def _count_instructions(content: bytes) -> None:
    """Make sure that there are no more than arrays need, every one whole, and no place in memory beyond their number."""
    for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name.startswith("EXT"):  # of which others in this process may have resolved some already
            raise ValueError("a name given by its number, where arrays spell theirs out")
        remembers = instruction.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if count > _MOST_INSTRUCTIONS or (remembers and not 0 <= int(argument or 0) <= _MOST_INSTRUCTIONS):
            raise ValueError(f"more than {_MOST_INSTRUCTIONS} instructions or objects, where arrays need some dozen")


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        # Python 2 wrote an array's bytes as text; "bytes" keeps them what they are, where latin1 would copy them twice
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        known = _NAMES.get((module, name))
        if known is None:
            raise CorpusError(
                f"{self._where} asks for {module}.{name}, which is no part of an array. Expected a pickle of NumPy arrays and "
                "nothing else; nothing of it was run. Do not trust its origin; take the file its owners give out."
            )
        return known

    def persistent_load(self, pid: object) -> Any:
        raise CorpusError(f"{self._where} refers to an object outside itself. Expected a pickle of NumPy arrays only.")


class _Dtype:
    """Stands for numpy.dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numbers(self) -> np.dtype[Any]:
        if (
            self.code not in {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}
            or self.order not in "<>=|"
        ):
            raise ValueError(f"an array of type {self.order}{self.code}, where numbers were expected")
        return np.dtype(f"{self.order}{self.code}")


class _ArrayType:
    """Stands for numpy.ndarray where a pickle names the class; never made."""

    def __new__(cls) -> "_ArrayType":
        raise ValueError("an array made without numpy's _reconstruct")

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state for the type of arrays")


class _Array:
    """Stands for an array that `_reconstruct` makes empty and a state fills."""

    __slots__ = ("array",)

    def __init__(self, array: Any = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.array = _from_bytes(raw, dtype, shape, bool(fortran))


class _Maker:
    """A function that a pickle may call and nothing else: of a plain one it could change the attributes."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise ValueError("a state for a function")


def _from_bytes(raw: object, dtype: object, shape: object, fortran: bool) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise ValueError("an array's state of other types than shape, dtype and bytes")
    numbers = dtype.numbers()
    if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) * numbers.itemsize != len(
        raw
    ):
        raise ValueError(f"an array of shape {shape} and type {numbers} in {len(raw)} bytes")
    return np.frombuffer(raw, numbers).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    """How NumPy writes an array into a pickle of protocol 5."""
    return _Array(_from_bytes(bytes(raw) if isinstance(raw, bytearray) else raw, dtype, shape, _text(order) == "F"))


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError(f"text encoded as {encoding!r}, where latin1 was expected")
    return text.encode("latin1")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a type's name was expected")
    return value


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Maker(_encode),
}
for _core in ("core", "_core"):  # before and since NumPy 2
    _NAMES[f"numpy.{_core}.multiarray", "_reconstruct"] = _Maker(_reconstruct)
    _NAMES[f"numpy.{_core}.numeric", "_frombuffer"] = _Maker(_frombuffer)
