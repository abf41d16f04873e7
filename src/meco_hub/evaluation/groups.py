"""The same figures for every value of a group: lighting, sex, fold, whatever the rows say of themselves.

A group's UAR averages over the classes that occur in it; `classes` says how many, because two groups with other classes are not
alike. A gap is the highest minus the lowest figure among the values with enough samples; with few persons in a group, read its
interval before its gap.

This file knows how rows are grouped; the figures are computed elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bootstrap import bootstrap, bootstrap_values
from .metrics import figures
from .regression import regression_figures

SMALLEST_GROUP = 10
"""Samples that a value needs to take part in a gap."""

Score = Callable[[NDArray[np.int64]], Mapping[str, Any]]
"""Row numbers of one value → its figures; what is no number (recalls by class, say) takes no part in gaps."""


def _gaps(table: Mapping[str, Mapping[str, Any]], minimum: int) -> dict[str, Any]:
    large = {value: entry for value, entry in table.items() if value and entry["n"] >= minimum}
    keys = [key for entry in large.values() for key, figure in entry.items() if isinstance(figure, int | float)]
    gaps = {}
    for key in dict.fromkeys(keys):
        found = {value: entry[key] for value, entry in large.items() if entry.get(key) is not None}
        found = {value: figure for value, figure in found.items() if np.isfinite(figure)}
        if key not in ("n", "classes", "constant", "units") and len(found) > 1:
            highest, lowest = max(found, key=found.__getitem__), min(found, key=found.__getitem__)
            gaps[key] = {"gap": found[highest] - found[lowest], "highest": highest, "lowest": lowest}
    return gaps


def group_figures(
    columns: Mapping[str, Sequence[str]],
    score: Score,
    *,
    expected: Mapping[str, Sequence[str]] | None = None,
    minimum: int = SMALLEST_GROUP,
) -> dict[str, Any]:
    """Figures for every value of every column.

    Args:
        columns: column → the value of each row; "" where it is unknown, which is listed and takes no part in gaps.
        score: gives the figures of some rows.
        expected: column → values that are listed even when no row has them.
        minimum: samples that a value needs to take part in gaps.

    Returns:
        column → {"values": {value: {"n", figures…}}, "gaps": {figure: {"gap", "highest", "lowest"}}, "smallest": minimum}; a value
        without rows has n 0 and null for every figure of the others.

    Raises:
        InputError: columns of different lengths.
    """
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"The group columns have {lengths} rows; expected as many in each as there are samples.")
    report: dict[str, Any] = {}
    for column, values in columns.items():
        rows: dict[str, list[int]] = {value: [] for value in (expected or {}).get(column, ())}
        for index, value in enumerate(values):
            rows.setdefault(value, []).append(index)
        # known values in the order given or alphabetical, the unknown last
        order = sorted(rows, key=lambda value: (value == "", value)) if not (expected or {}).get(column) else list(rows)
        scored = {value: dict(score(np.asarray(rows[value], np.int64))) for value in order if rows[value]}
        keys = [key for entry in scored.values() for key, figure in entry.items() if isinstance(figure, int | float)]
        empty = dict.fromkeys(keys)
        table = {value: {"n": len(rows[value]), **(scored[value] if rows[value] else empty)} for value in order}
        report[column] = {"values": table, "gaps": _gaps(table, minimum), "smallest": minimum}
    return report


def class_groups(
    columns: Mapping[str, Sequence[str]],
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    names: Sequence[str],
    identities: Sequence[str] = (),
    *,
    expected: Mapping[str, Sequence[str]] | None = None,
    minimum: int = SMALLEST_GROUP,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """`group_figures` for classes: every figure of `metrics.py`, recall by class, and intervals over persons.

    Args:
        columns, expected, minimum: as of `group_figures`.
        labels, logits, names: as of `metrics.figures`.
        identities: (n,) persons, "" where unknown.
        resamples, seed: of the intervals.
    """

    def score(rows: NDArray[np.int64]) -> dict[str, Any]:
        own = figures(labels[rows], logits[rows], names)
        people = [identities[int(row)] for row in rows] if identities else []
        intervals = bootstrap(
            labels[rows], logits[rows].argmax(axis=1), len(names), people, resamples=resamples, seed=seed
        )
        return {
            "classes": sum(one.support > 0 for one in own.per_class.values()),
            **own.flat(),
            "recall": {name: one.recall if one.support else None for name, one in own.per_class.items()},
            "confidence_intervals": intervals.to_dict(),
        }

    for column in columns:
        _check_length(column, len(columns[column]), len(labels))
    return group_figures(columns, score, expected=expected, minimum=minimum)


def value_groups(
    columns: Mapping[str, Sequence[str]],
    truth: NDArray[np.floating],
    predictions: NDArray[np.floating],
    names: Sequence[str],
    identities: Sequence[str] = (),
    *,
    expected: Mapping[str, Sequence[str]] | None = None,
    minimum: int = SMALLEST_GROUP,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """`group_figures` for values: pooled figures of `regression.py`, and intervals over persons.

    Args:
        columns, expected, minimum: as of `group_figures`.
        truth, predictions, names: as of `regression.regression_figures`.
        identities: (n,) persons, "" where unknown.
        resamples, seed: of the intervals.
    """

    def score(rows: NDArray[np.int64]) -> dict[str, Any]:
        people = [identities[int(row)] for row in rows] if identities else []
        intervals = bootstrap_values(truth[rows], predictions[rows], names, people, resamples=resamples, seed=seed)
        own = regression_figures(truth[rows], predictions[rows], names)
        return {**own.to_dict(), "confidence_intervals": intervals.to_dict()}

    for column in columns:
        _check_length(column, len(columns[column]), len(truth))
    return group_figures(columns, score, expected=expected, minimum=minimum)


def _check_length(column: str, length: int, rows: int) -> None:
    if length != rows:
        raise InputError(
            f"The group column {column!r} has {length} rows and there are {rows} samples; expected as many."
        )
