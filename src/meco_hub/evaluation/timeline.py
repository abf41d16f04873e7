"""Answers of overlapping windows, laid onto one line of time, and read off at the times that are asked for.

Where windows overlap, their answers are averaged; between the times of the line, values are interpolated linearly; before its first
and after its last time the nearest value holds, because nothing else is known there. Where the grids coincide nothing is
interpolated: what comes out are the very values that went in, or their mean.

This file knows times and values; it knows no recording.
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

SAME_TIME_S = 1e-6
"""Times closer than this, in seconds, are one time: clocks are sums of floating-point steps."""


def _merge(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) times → (t,) different ones, rising, and (n,) the place of each time among them."""
    order = np.argsort(times, kind="stable")
    ranked = times[order]
    begins = np.concatenate([[True], np.diff(ranked) > SAME_TIME_S])
    place = np.empty(len(times), np.int64)
    place[order] = np.cumsum(begins) - 1
    return ranked[begins], place


def stitch(
    times: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lay the answers of windows onto one line.

    Windows whose steps fall between each other's (a stride that is no multiple of the step) are each read at all times of the line
    that they span, by linear interpolation, before they are averaged: the line does not jump to and fro between them.

    Args:
        times: (windows, steps) seconds at which answers hold, rising within each window; NaN for a step without an answer.
        values: (windows, steps, targets) answers; NaN in any target makes a step one without an answer.

    Returns:
        (t,) rising seconds, every time at which some window answers; and (t, targets) the means over the windows that span it.

    Raises:
        InputError: shapes that do not fit, times that do not rise, or no answer at all.
    """
    times, values = np.asarray(times, np.float64), np.asarray(values, np.float64)
    if times.ndim != 2 or values.ndim != 3 or values.shape[:2] != times.shape:
        raise InputError(
            f"Window times have shape {times.shape} and answers {values.shape}; expected (windows, steps) and "
            "(windows, steps, targets)."
        )
    answered = np.isfinite(times) & np.isfinite(values).all(axis=-1)
    if not answered.any():
        raise InputError(
            "No window has an answer at a known time; expected one at least. Check step_times of the processor."
        )
    line, place = _merge(times[answered])
    total, count = np.zeros((len(line), values.shape[-1])), np.zeros(len(line))
    ends = np.cumsum(answered.sum(axis=1))
    for window, places in enumerate(np.split(place, ends[:-1])):
        if not len(places):
            continue
        if (np.diff(places) <= 0).any():
            raise InputError(f"The times of window {window} do not rise; expected each step later than the one before.")
        own = values[window][answered[window]]
        # read at the line's own times, a window's knots are met exactly and its values come back unchanged
        spanned = slice(int(places[0]), int(places[-1]) + 1)
        total[spanned] += read_off(line[places], own, line[spanned])
        count[spanned] += 1
    return line, total / count[:, None]


def read_off(
    times: NDArray[np.floating], values: NDArray[np.floating], at: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Values of a line at other times.

    Args:
        times: (t,) rising seconds.
        values: (t, targets).
        at: (n,) seconds; before the first and after the last time the nearest value holds.

    Returns:
        (n, targets): the line's own values where times agree within `SAME_TIME_S`, linear interpolation elsewhere. A NaN on the
        line is NaN between its neighbours too.

    Raises:
        InputError: shapes that do not fit, or a line without times.
    """
    times, values, at = np.asarray(times, np.float64), np.asarray(values, np.float64), np.asarray(at, np.float64)
    if times.ndim != 1 or values.ndim != 2 or len(values) != len(times) or not len(times):
        raise InputError(
            f"A line has times of shape {times.shape} and values {values.shape}; expected (t,) and (t, targets), t ≥ 1."
        )
    near = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1)) if len(times) > 1 else np.zeros(len(at), int)
    if len(times) > 1:
        near = np.where(np.abs(times[near - 1] - at) <= np.abs(times[near] - at), near - 1, near)
    met = np.abs(times[near] - at) <= SAME_TIME_S
    read = np.stack([np.interp(at, times, column) for column in values.T], axis=1)
    return np.where(met[:, None], values[near], read)
