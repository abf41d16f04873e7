"""A training on permuted labels: the control that must not learn anything.

Every trial gets the ratings of another one, drawn by the recipe's seed, in a single round, so that none keeps its own. All parts of
a trial get the same, and ratings over time change hands as whole series. Signals, people, sampling and validation stay as they are.
What such a checkpoint still gets right on strangers, the evaluation gives away: its CCC is about 0 and its balanced accuracy one in
the number of classes, or something leaks.

This file knows who gets whose labels, and where a checkpoint says so.
"""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..corpora import Corpus
from ..errors import ConfigurationError
from ..evaluation.cautions import PERMUTED
from ..evaluation.rows import RecordingRows
from ..evaluation.subset import LabelledSubset

logger = logging.getLogger(__name__)

_STREAM = 7_214_331
"""Keeps these draws apart from others of the same seed."""


def draw_donors(side: LabelledSubset, seed: int) -> NDArray[np.int64]:
    """(n,) for each row, the row whose ratings it gets: of another trial always, and all rows of a trial from the same.

    A trial is a person's rows of one `trial`, or a row that belongs to none; rows of one trial that are of several classes count as
    a trial per class.

    Raises:
        ConfigurationError: there is one trial only.
    """
    units: dict[Hashable, list[int]] = {}
    for row, key in enumerate(_trials(side.dataset)):
        kind = int(side.labels[row]) if side.labels.ndim == 1 else None
        units.setdefault((key, kind), []).append(row)
    if len(units) < 2:
        raise ConfigurationError(
            f"The training part is a single trial of {len(side.labels)} rows, so there is nobody to swap labels with. Leave "
            "data.permute_labels out, or train on more."
        )
    joined = list(units.values())
    order = np.random.default_rng((_STREAM, seed)).permutation(len(joined))
    donors = np.empty(len(side.labels), np.int64)
    for unit, other in zip(order, np.roll(order, -1), strict=True):
        given = joined[other]
        for place, row in enumerate(joined[unit]):
            donors[row] = given[place % len(given)]
    return donors


def _trials(dataset: datasets.Dataset) -> list[Hashable]:
    if "trial" not in dataset.column_names:
        return list(range(len(dataset)))
    people, trials = dataset["identity"][:], dataset["trial"][:]
    return [(who, trial) if trial else row for row, (who, trial) in enumerate(zip(people, trials, strict=True))]


def permute(side: LabelledSubset, donors: NDArray[np.int64]) -> LabelledSubset:
    """The same rows with others' classes or values; what runs over time is exchanged when it is read (`ExchangedRatings`)."""
    logger.warning("The labels of %d training rows are permuted: this trains a control, and no model.", len(donors))
    return replace(side, labels=side.labels[donors])


class ExchangedRatings(RecordingRows):
    """Recordings with the ratings over time of others, laid to begin where the recording begins.

    Args:
        corpus, dataset: as of `RecordingRows`.
        donors: (n,) as of `draw_donors`.
    """

    def __init__(self, corpus: Corpus, dataset: datasets.Dataset, donors: Sequence[int] | NDArray[np.int64]) -> None:
        super().__init__(corpus, dataset)
        self._donors = donors

    def _read(self, row: int) -> Any:
        own, other = super()._read(row), super()._read(int(self._donors[row]))
        moved = {
            name: replace(stream, times=stream.times - other.start + own.start)
            for name, stream in other.annotations.items()
        }
        return replace(own, annotations=moved)


def mark(model: PreTrainedModel, permuted: bool) -> None:
    """Make the config of a control say so, wherever its weights go; and that of a model not, whatever it started from."""
    if permuted:
        model.config.training_control = PERMUTED
    elif getattr(model.config, "training_control", None) is not None:
        model.config.training_control = None
