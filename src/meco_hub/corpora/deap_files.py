"""Reading DEAP's preprocessed files; `deap.py` says what is in them.

This file knows DEAP's preprocessed files; it does not know windows or models.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorpusError
from ..recordings.signal_recording import SignalRecording, Stream
from . import deap_bdf
from .contents import PictureBytes
from .deap import BASELINE, CHANNELS, LAYOUTS, RATE, SAMPLES, TRIALS, corpus
from .file_tree import open_tree
from .modalities import LAYOUT_COLUMN, choose_layout, layout_of
from .numpy_pickles import load_arrays
from .protocols import number_folds
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

logger = logging.getLogger(__name__)


def read(
    path: Path, modalities: str | Mapping[str, Sequence[str]] = "deap_4", folds: str = "P3"
) -> "datasets.DatasetDict":
    """Read the preprocessed files, or the original BDF files where there are no others; see `Corpus.load` for the columns.
    Further columns: `liking`, `site`, `modalities`.

    Every file is opened once, for its ratings and the hashes of its trials; samples are read again with each row.

    Raises:
        CorpusError: no such files, a pickle that is not arrays only (nothing of it is run), another shape, ratings off their scale
            (of BDF, see `deap_bdf.rows_of`); the message names the file.
        ConfigurationError, UnknownNameError: an option makes no sense.
    """
    import datasets

    rows = _read(path, modalities)
    text = datasets.Value("string")
    extras = {"liking": datasets.Value("float32"), "site": text, LAYOUT_COLUMN: text}
    splits = build_recordings(rows, extras=extras, address=str(path))
    table = splits["all"]
    people = len({row.identity for row in rows})
    if folds == "P3" and people < 5:
        logger.warning("%s: %d people make no 5 folds; the column fold is −1.", path, people)
        return splits
    return datasets.DatasetDict({"all": number_folds(table, folds, stratify_by="site" if folds == "P3" else None)})


def _read(path: Path, modalities: str | Mapping[str, Sequence[str]]) -> list[RecordingRow]:
    """The rows of the preprocessed files, or of the original ones where there are no others."""
    from tqdm.auto import tqdm

    layout = choose_layout(modalities, LAYOUTS, CHANNELS)
    with open_tree(path) as tree:
        files = sorted(
            (name for name in tree.names if re.search(r"(^|/)s\d\d\.dat$", name)),
            key=lambda name: name.rpartition("/")[2],
        )
        if not files and any(re.search(r"(^|/)s\d\d\.bdf$", name) for name in tree.names):
            return deap_bdf.rows_of(path, modalities)
        if not files or len({name.rpartition("/")[2] for name in files}) < len(files):
            raise CorpusError(
                f"{path} holds {len(files)} files s<nn>.dat, or one of them twice. Expected {corpus.layout}."
            )
        rows: list[RecordingRow] = []
        for name in tqdm(files, desc="DEAP", unit=" people", disable=None):
            rows += _trials(tree.image_path(name), name.rpartition("/")[2][:3], layout)
        return rows


def _trials(address: str, person: str, layout: str) -> list[RecordingRow]:
    data, labels, _ = _load(address)
    return [
        RecordingRow(
            sample_id=f"{person}_{trial + 1:02d}",
            identity=person,
            source=f"{address}#{trial}",
            content_sha256=hash_arrays([data[trial]]),
            targets=[float(one) for one in labels[trial, :3]],
            trial=f"{person}_{trial + 1:02d}",
            stimulus=f"video_{trial + 1:02d}",
            extras={
                "liking": float(labels[trial, 3]),
                "site": "twente" if int(person[1:]) <= 22 else "geneva",
                LAYOUT_COLUMN: layout,
            },
        )
        for trial in range(len(data))
    ]


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one trial: streams by modality at 128 Hz from −3 s to 60 s, asked about from 0 to 60 s; of the original
    files, at 512 Hz."""
    address, _, trial = row["source"].rpartition("#")
    if address.endswith(".bdf"):
        return deap_bdf.read_row(row)
    data, _, centre = _load(address)
    times = (np.arange(SAMPLES) - BASELINE) / RATE
    streams, reference = {}, {}
    for name, channels in layout_of(row).items():
        places = [CHANNELS.index(channel) for channel in channels]
        streams[name] = Stream(np.ascontiguousarray(data[int(trial)][places].T), times, RATE, channels)
        reference[name] = centre[:, places]
    return SignalRecording(streams, 0.0, (SAMPLES - BASELINE) / RATE, row["sample_id"], reference=reference)


@lru_cache(maxsize=4)
def _load(address: str) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """(data (trials, 40, 8064), labels (trials, 4), reference (2, 40)) of a person; 52 MB, hence the small cache."""
    with PictureBytes() as contents:
        arrays = load_arrays(contents.read({"bytes": None, "path": address}), address)
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
