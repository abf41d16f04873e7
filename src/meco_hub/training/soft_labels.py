"""Training targets that are shares: what several people said about a sample, beside its one label.

A corpus gives them as the column `soft_label`, one share for each class of its `label`. A recipe says how much of the target they
are (`soft_label_weight`), or has a second layer foresee them (`soft_label_head`). Validation and reports keep the label.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import ConfigurationError
from ..evaluation.task import LabelledSubset, label_names
from ..labels import index_map

COLUMN = "soft_label"


def blend(labels: torch.Tensor, shares: torch.Tensor | None, weight: float) -> torch.Tensor:
    """The training target (1 − weight) · label + weight · shares.

    Args:
        labels: (batch,) class indices, or values that have no shares.
        shares: (batch, classes), or None.
        weight: from 0 to 1.

    Returns:
        (batch, classes) probabilities, or the labels themselves where there is nothing to blend.
    """
    if shares is None or not weight:
        return labels
    return torch.lerp(F.one_hot(labels, shares.shape[1]).to(shares), shares, weight)


def with_soft_labels(side: LabelledSubset, names: Sequence[str]) -> LabelledSubset:
    """The samples with the shares of their votes.

    Shares of classes that are not trained are left out and the others are scaled to 1; where none is left, the label has it all.

    Args:
        side: what is trained on.
        names: classes in the order of the logits.

    Raises:
        ConfigurationError: the corpus has no such column, or one of another width.
    """
    if COLUMN not in side.dataset.column_names:
        raise ConfigurationError(
            f"The recipe trains on shares of votes, and the corpus has no column {COLUMN}. Expected one share per class: use a "
            "corpus that gives them (ferplus, or fer2013 with data.options.votes: true and fer2013new.csv beside it), or leave "
            "soft_label_weight and soft_label_head out."
        )
    own = label_names(side.dataset)
    rows = side.dataset.with_format(None)[:][COLUMN]
    if any(len(row) != len(own) for row in rows):
        raise ConfigurationError(
            f"The corpus's {COLUMN} has rows of {sorted({len(row) for row in rows})} shares; expected {len(own)}, one for each of "
            f"{', '.join(own)}. Correct the corpus's reader."
        )
    given = np.asarray(rows, np.float32).reshape(-1, len(own))
    shares = np.zeros((len(given), len(names)), np.float32)
    for column, place in enumerate(index_map(own, names)):
        if place >= 0:
            shares[:, place] += given[:, column]
    hard = np.eye(len(names), dtype=np.float32)[side.labels]
    total = shares.sum(axis=1, keepdims=True)
    soft = np.where(total > 0, shares / np.where(total > 0, total, 1), hard)
    return replace(side, soft=soft.astype(np.float32))
