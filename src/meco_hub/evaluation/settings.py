"""What is evaluated, and how: the choices of one evaluation.

This file knows names and defaults; what they do is written where they are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        split: one split; None is all of them.
        folds: samples of these folds only; None is all of them.
        protocol: "P0" … "P4" instead of `folds`; see `corpora/protocols.py`.
        protocol_fold: which of its folds is tested, by name or number.
        protocol_folds, protocol_seed: how it is cut.
        batch_size: clips per forward pass.
        stride_s: seconds between the clips of a long recording; None: the processor's own.
        options: options of the corpus's `load`.
        exclude_unknown_labels: leave out samples of classes that the checkpoint lacks, and count them in the report, instead of
            stopping.
        conditions: names of conditions to answer the same rows under again: families, single ones, or "all"; see `conditions.py`.
        condition_seed: another one draws other faults.
        routing: tell which expert serves whom.
        pictures: draw what the report has, beside it.
        runs: answer every row so often, each time with another clip of it, and tell mean and spread; 1: the middle clip, once.
        workers: threads that read.
        progress: show progress bars.
    """

    split: str | None = None
    folds: Sequence[int] | None = None
    protocol: str | None = None
    protocol_fold: str | None = None
    protocol_folds: int = 5
    protocol_seed: int = 0
    batch_size: int = 32
    stride_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    exclude_unknown_labels: bool = False
    conditions: tuple[str, ...] = ()
    condition_seed: int = 0
    routing: bool = False
    pictures: bool = False
    runs: int = 1
    workers: int = 1
    progress: bool = True
