"""What the corpora of signals share: presets of channels, the table of their recordings, and the checks of samples and ratings.

A corpus of signals names its channels and offers presets; the option `modalities` takes a preset's name, or
{modality: [channel, …]}, so that recipes can cut a corpus differently without code. The choice travels in a column, as JSON.

A table holds what is known of each recording and where it lies; the samples stay on disk until a row is read. Where a file
must be parsed to be divided at all, its rows carry the hash of the samples, so that the leak check parses nothing again.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, unknown_name
from ..recordings.signal_recording import Stream
from .tables import make_split

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

Layout = Mapping[str, tuple[str, ...]]
"""Modality → its channels, in order."""

LAYOUT_COLUMN = "modalities"
"""Column that holds a row's layout as JSON."""


def choose_layout(
    choice: str | Mapping[str, Sequence[str]], presets: Mapping[str, Layout], channels: Sequence[str]
) -> str:
    """The chosen layout, as JSON."""
    if isinstance(choice, str):
        if choice not in presets:
            raise unknown_name("preset of modalities", choice, presets, "A mapping {modality: [channel, …]} works too.")
        return json.dumps(presets[choice])
    if (
        not isinstance(choice, Mapping)
        or not choice
        or not all(isinstance(one, list | tuple) for one in choice.values())
    ):
        raise ConfigurationError(
            f"modalities is {choice!r}. Expected {' or '.join(presets)}, or a mapping {{modality: [channel, …]}}."
        )
    named = [channel for group in choice.values() for channel in group]
    unknown = [channel for channel in named if channel not in channels]
    if unknown or len(set(named)) != len(named) or not all(choice.values()):
        wrong = (
            f"unknown are {', '.join(map(str, unknown))}"
            if unknown
            else "a channel is named twice, or a stream has none"
        )
        raise ConfigurationError(
            f"modalities is {dict(choice)}: {wrong}. Expected each stream to name some of {', '.join(channels)}, each once."
        )
    return json.dumps({name: list(group) for name, group in choice.items()})


def layout_of(row: Mapping[str, Any]) -> Layout:
    """The layout that a row was loaded with."""
    return {name: tuple(group) for name, group in json.loads(row[LAYOUT_COLUMN]).items()}


def corpus_streams(
    declared: Sequence[str], dataset: "datasets.Dataset", own: Sequence[str]
) -> tuple[list[str], frozenset[str]]:
    """All streams of a corpus, whichever of them a model reads, and those of them that the rows were loaded without.

    Args:
        declared: as of `Corpus.streams`.
        dataset: the rows, of which some corpora say with which layout they were loaded.
    """
    chosen = len(dataset) and LAYOUT_COLUMN in dataset.column_names
    loaded = set(json.loads(dataset[0][LAYOUT_COLUMN])) if chosen else set(declared)
    if not loaded <= set(declared):  # cut otherwise, under other names: then these are its streams
        return sorted({*loaded, *own}), frozenset()
    return sorted({*declared, *own}), frozenset(declared) - loaded


def pick_streams(
    row: Mapping[str, Any],
    channels: Sequence[str],
    samples: NDArray[np.floating],
    times: NDArray[np.float64],
    rate: float,
    reference: NDArray[np.float64],
) -> tuple[dict[str, Stream], dict[str, NDArray[np.float64]]]:
    """The streams of a row's layout out of (samples, channels) on one clock, and their parts of the (2, channels) reference."""
    places = {name: [channels.index(one) for one in chosen] for name, chosen in layout_of(row).items()}
    streams = {
        name: Stream(np.ascontiguousarray(samples[:, at]), times, rate, tuple(channels[one] for one in at))
        for name, at in places.items()
    }
    return streams, {name: reference[:, at] for name, at in places.items()}


_ROBUST_SD = 1.349  # interquartile range of a normal distribution of unit variance


@dataclass(slots=True)
class RecordingRow:
    """One recording, or an officially defined part of one.

    Attributes:
        source: the physical recording that the row is (a part of).
        content_sha256: hash of the samples (`hash_arrays`); a corpus gives all of its rows this, or all of them `files`.
        files: files whose bytes, from `start_s` to `end_s`, are the row's content.
        fold: the fold, −1 where unknown.
        label: index into the label names; None where values are predicted.
        targets: values to predict, in native units, NaN unknown; None where classes are predicted or targets run over time.
        start_s, end_s: from when to when in the source; NaN: all of it.
    """

    sample_id: str
    identity: str
    source: str
    content_sha256: str = ""
    files: Sequence[str] = ()
    fold: int = -1
    label: int | None = None
    targets: Sequence[float] | None = None
    trial: str = ""
    stimulus: str = ""
    start_s: float = math.nan
    end_s: float = math.nan
    extras: Mapping[str, Any] = field(default_factory=dict)


def build_recordings(
    rows: Sequence[RecordingRow],
    *,
    label_names: Sequence[str] = (),
    extras: Mapping[str, Any] | None = None,
    address: str,
) -> "datasets.DatasetDict":
    """Build a DatasetDict with the one split "all". `extras`: type of each further column, as `tables.feature_of` takes it."""
    import datasets

    if not rows:
        raise CorpusError(f"{address} holds no recording that can be used. Check that data_dir names the right place.")
    features: dict[str, Any] = dict.fromkeys(("sample_id", "identity", "trial", "stimulus", "source"), "string")
    features |= {"fold": "int32", "start_s": "float64", "end_s": "float64"}
    hashed = bool(rows[0].content_sha256)
    features |= {"content_sha256": "string"} if hashed else {"files": datasets.List(datasets.Value("string"))}
    if label_names:
        features["label"] = datasets.ClassLabel(names=list(label_names))
    elif rows[0].targets is not None:
        features["targets"] = datasets.List(datasets.Value("float32"))
    columns = {name: [getattr(row, name) for row in rows] for name in features}
    columns |= {name: [row.extras[name] for row in rows] for name in extras or {}}
    logger.info("%s: %d rows of %d people", address, len(rows), len({row.identity for row in rows}))
    return datasets.DatasetDict({"all": make_split("all", {**features, **(extras or {})}, columns)})


def hash_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 (hex) of arrays: their types, shapes and values, the same on every platform."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(plain.data)
    return digest.hexdigest()


def robust_reference(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2, channels) median and IQR / 1.349 of (samples, channels), NaN left out: `SignalRecording.reference`.

    A channel whose middle half is constant gets its standard deviation as scale, and a constant or empty one gets 1, so that
    dividing by it is always defined.
    """
    reference = np.zeros((2, values.shape[1]))
    for channel in range(values.shape[1]):
        finite = values[np.isfinite(values[:, channel]), channel].astype(np.float64)
        if len(finite):
            low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75])
            reference[:, channel] = middle, (high - low) / _ROBUST_SD or finite.std()
        reference[1, channel] = reference[1, channel] or 1.0
    return reference


def check_targets(values: Sequence[float] | NDArray[Any], low: float, high: float, where: str) -> None:
    """Hold ratings to their scale; NaN is unknown."""
    given = np.asarray(values, dtype=np.float64)
    wrong = given[~(np.isnan(given) | ((given >= low - 1e-3) & (given <= high + 1e-3)))]
    if wrong.size:
        raise CorpusError(
            f"{where}: a rating is {wrong.flat[0]:g}. Expected {low:g} to {high:g}. Correct the file, or take the copy its "
            "owners give out."
        )


def check_samples(arrays: Iterable[NDArray[np.floating]], where: str) -> None:
    """Make sure that a recording holds a sample: single sensors may be missing, all of them are a file gone wrong."""
    if not any(np.isfinite(one).any() for one in arrays):
        raise CorpusError(
            f"{where}: no sample of any sensor is a number. Expected some. Take the copy of the file that its owners give out."
        )
