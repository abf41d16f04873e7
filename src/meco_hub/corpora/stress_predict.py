"""Stress-Predict: about an hour of an Empatica E4 wristband on each of 35 people, with baseline and stress tasks.

Iqbal et al. 2022, "Stress monitoring using wearable sensors: a pilot study and Stress-Predict dataset", Sensors 22(21):8135;
MIT. A folder or a zip of it:

    Raw_data/S<nn>/                 ACC, BVP, EDA, TEMP, HR, IBI .csv, as the watch writes them (`signal_files/empatica.py`)
    Processed_data/<any>.csv        Participant, Time(sec) since 1970, Label, …: for every second 0 (baseline) or 1 (stress task)

A row is a window of 60 s; windows begin every 30 s from a person's first labelled second on, and one is kept when every second
of it is labelled and at least 80 % of them alike. The six streams keep clocks and rates of their own, and what the watch missed
is missing: intervals between beats are absent from a good part of the windows. Folds are five groups of people
(`assign_folds` with seed 0: labels kept in proportion). People whose labels are missing are left out, and said so.

The label says that a stress task was on. Tasks move the body (hyperventilation, for one), so a model detects the task as much as
stress. Everybody did the same tasks in the same order, so the minute of the session (`session_minute`, of a window's middle, since
the first labelled second) tells most labels by itself. The labels' file stamps every heart rate one second earlier than the watch
does; at 60 s that is nothing.
"""

import json
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, RecordingError
from ..labels import LabelSpace
from ..recordings.signal_files.empatica import E4_STREAMS, EmpaticaSession, parse_empatica
from ..recordings.signal_recording import SignalRecording
from . import Corpus
from .file_tree import FileTree, first_few, open_tree, read_rows
from .recording_rows import RecordingRow, build_recordings, hash_arrays, robust_reference
from .splits import with_folds

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

LABELS = LabelSpace(
    name="stress_predict",
    names=("baseline", "stress"),
    source="column `Label` of Processed_data/*.csv, 0 and 1 (Iqbal et al. 2022)",
)
FOLDS = 5

corpus = Corpus(
    name="stress_predict",
    kind="signals",
    labels=LABELS,
    description="Stress-Predict: 60-s windows of an Empatica E4 wristband, stress task or baseline; six streams with clocks of "
    "their own, natively incomplete. It is task detection as much as stress.",
    layout="Raw_data/S<nn>/ with the csv files of an Empatica E4, and Processed_data/*.csv with Participant, Time(sec), Label",
    loader="meco_hub.corpora.stress_predict:read",
    reader="meco_hub.corpora.stress_predict:read_row",
    options={
        "window_s": "length of a window in seconds, whole; default 60",
        "stride_s": "seconds from one window to the next, whole; default 30",
        "purity": "share of a window's seconds that must have one label; default 0.8",
        "margin_s": "seconds of the sensors to keep before and after a window, for filters and shifts; default 10",
        "after_s": "seconds to keep after a window, where they are not margin_s; 0 shows nothing of the session's future",
        "level_minutes": "first minutes of a session that the person's own level is of; all of it by default",
    },
    streams=E4_STREAMS,
    nuisances=("session_minute",),
    citation='Iqbal et al. 2022, "Stress monitoring using wearable sensors: a pilot study and Stress-Predict dataset", '
    "Sensors 22(21):8135",
    licence="MIT",
)


_PERSON = re.compile(r"^S(\d+)$")
_COLUMNS = ("participant", "time(sec)", "label")


def read(
    path: Path,
    window_s: int = 60,
    stride_s: int = 30,
    purity: float = 0.8,
    margin_s: float = 10.0,
    after_s: float | None = None,
    level_minutes: float | None = None,
) -> "datasets.DatasetDict":
    """Read Stress-Predict from a folder or a zip; see `Corpus.load` for the columns.

    Further columns: `session_minute`, and `margin_s`, `after_s` and `level_minutes` as the options say (0: the whole session).
    """
    from tqdm.auto import tqdm

    after, level = margin_s if after_s is None else after_s, level_minutes or 0.0
    whole_seconds = window_s >= 1 and stride_s >= 1 and not (window_s % 1 or stride_s % 1)
    if not (whole_seconds and 0.5 < purity <= 1 and margin_s >= 0 and after >= 0 and level >= 0):
        raise ConfigurationError(
            f"window_s is {window_s}, stride_s {stride_s}, purity {purity}, margin_s {margin_s}, after_s {after_s}, level_minutes "
            f"{level_minutes}. Expected whole seconds, a share above 0.5 and up to 1, and margins and minutes of 0 or more."
        )
    shown = {"margin_s": margin_s, "after_s": after, "level_minutes": level}
    whole = open_tree(path)
    roots = whole.folders_above("Raw_data")
    if not roots:
        raise CorpusError(f"{path} holds no folder Raw_data/. Expected {corpus.layout}.")
    tree = whole.below(roots[0])
    labels = _labels(tree)
    people = sorted(
        {name.split("/")[1] for name in tree.names if name.startswith("Raw_data/") and name.count("/") == 2}
    )
    people = [who for who in people if (number := _PERSON.match(who)) and int(number[1]) in labels]
    rows: list[RecordingRow] = []
    for who in tqdm(people, desc="Stress-Predict", unit=" people", disable=None):
        address = json.dumps([str(path.absolute()), f"{tree.base}Raw_data/{who}/"])
        rows += _windows(who, address, labels[int(who[1:])], int(window_s), int(stride_s), purity, shown)
    splits = build_recordings(
        rows,
        label_names=LABELS.names,
        extras=dict.fromkeys((*shown, "session_minute"), "float64"),
        address=tree.where(""),
    )
    _warn_of_absent(tree, people, labels)
    return with_folds(splits, None, str(path), n_folds=FOLDS)


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one window: streams acc, bvp, eda, temp, hr, ibi, its clock 0 where the window begins.

    A stream that has no sample there, nor in the margins, is absent. The reference is median and scale of all that this person's
    watch recorded, or of the first `level_minutes` of it, without labels; beside it the level of its summaries over stretches as
    long as a window.
    """
    start, end = float(row["start_s"]), float(row["end_s"])
    session, reference = _session(row["source"], round(end - start), row["level_minutes"])
    clip = session.recording.clip(start - row["margin_s"], end + row["after_s"])
    worn = {name: one for name, one in clip.streams.items() if len(one)}
    moved = SignalRecording(worn, start, end, row["sample_id"], reference=reference).shift(dict.fromkeys(worn, -start))
    return SignalRecording(moved.streams, 0.0, end - start, row["sample_id"], reference=reference)


def _labels(tree: FileTree) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Participant → (seconds since 1970, labels), each second once."""
    names = [name for name in tree.names if name.startswith("Processed_data/") and name.lower().endswith(".csv")]
    if len(names) != 1:
        found = f"{len(names)} csv files, {first_few(names)}" if names else "no csv"
        raise CorpusError(f"{tree.where('Processed_data/')} holds {found}. Expected one. Expected {corpus.layout}.")
    seconds_of: dict[int, list[tuple[int, int]]] = {}
    for row in read_rows(tree, names[0], _COLUMNS):
        try:
            who, second, label = (int(float(row[column])) for column in _COLUMNS)
        except (ValueError, OverflowError) as error:  # the latter: infinity
            raise CorpusError(
                f"{row.where}: {error}. Expected numbers for {', '.join(_COLUMNS)}. Correct the line."
            ) from error
        if label not in (0, 1):
            raise CorpusError(
                f"{row.where}: the label is {label}. Expected 0 (baseline) or 1 (stress). Correct the line."
            )
        seconds = seconds_of.setdefault(who, [])
        if seconds and second <= seconds[-1][0]:
            raise CorpusError(
                f"{row.where}: the clock of participant {who} stands still or runs backwards. Expected a later second than "
                f"{seconds[-1][0]}. Correct the line."
            )
        seconds.append((second, label))
    arrays = {who: np.asarray(seconds, dtype=np.int64) for who, seconds in seconds_of.items()}
    return {who: (array[:, 0], array[:, 1]) for who, array in arrays.items()}


def _windows(
    who: str,
    address: str,
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    length: int,
    stride: int,
    purity: float,
    shown: Mapping[str, float],
) -> list[RecordingRow]:
    session, _ = _session(address, length, shown["level_minutes"])
    seconds, values = labels
    rows = []
    for begin in range(int(seconds[0]), int(seconds[-1]) - length + 2, stride):
        inside = values[(seconds >= begin) & (seconds < begin + length)]
        if len(inside) < length:  # a second without a label
            continue
        stress = float(inside.mean())
        if max(stress, 1 - stress) < purity:
            continue
        start = begin - session.started
        clip = session.recording.clip(start, start + length)
        if start < 0 or not any(len(one) for one in clip.streams.values()):
            raise CorpusError(
                f"{address}: labels at {begin} seconds since 1970, where the watch recorded nothing. Expected both clocks to "
                "agree. Check that the person's folder is the one labelled."
            )
        # how many times the label had changed by the middle: the number of the task that was on
        task = np.count_nonzero(np.diff(values[seconds <= begin + length // 2]))
        samples = [clip.streams[name].values for name in E4_STREAMS if name in clip.streams]
        rows.append(
            RecordingRow(
                sample_id=f"{who}_{begin - int(seconds[0]):05d}",
                identity=who,
                source=address,
                content_sha256=hash_arrays(samples),
                label=int(stress > 0.5),
                trial=f"{who}_{LABELS.names[stress > 0.5]}_{task}",
                start_s=start,
                end_s=start + length,
                extras={**shown, "session_minute": (begin - int(seconds[0]) + length / 2) / 60},
            )
        )
    return rows


def _warn_of_absent(tree: FileTree, people: list[str], labels: Mapping[int, object]) -> None:
    there = {name.split("/")[1] for name in tree.names if name.startswith("Raw_data/")}
    unlabelled = sorted(there.difference(people))
    unworn = sorted(set(labels).difference(int(who[1:]) for who in people))
    if unlabelled:
        logger.warning("%s: no labels for %s; left out.", tree.where(""), first_few(unlabelled))
    if unworn:
        logger.warning("%s: no recording of the participants %s; left out.", tree.where(""), first_few(unworn))


@lru_cache(maxsize=64)
def _session(
    address: str, summary_s: int, level_minutes: float
) -> tuple[EmpaticaSession, dict[str, NDArray[np.float64]]]:
    """A person's session and label-free reference; an hour takes 4 MB. `address`: JSON of [root, folder inside]."""
    from ..processing.resampling import session_level, summary_key  # which imports scipy

    root, folder = json.loads(address)
    whole = open_tree(Path(root))
    tree = whole.below(folder)
    if not tree.names:
        raise RecordingError(f"{root}: {folder} holds no file any more. Load the corpus again.")
    session = parse_empatica({n: tree.read(n) for n in tree.names if "/" not in n}, name=tree.where(""))
    for one in session.recording.warnings:
        if one.code == "part_left_out":  # which an answer may do without, and a training would learn from
            raise RecordingError(one.message)
        logger.warning("%s", one.message)
    known = session.recording
    if level_minutes:
        known = known.clip(known.start, known.start + 60 * level_minutes)
    streams = {name: one for name, one in known.streams.items() if len(one)}
    reference = {name: robust_reference(one.values) for name, one in streams.items()}
    reference |= {summary_key(name, summary_s): session_level(one, summary_s) for name, one in streams.items()}
    return session, reference
