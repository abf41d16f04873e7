"""Events of an event camera that was not there: simulated from frames, by the model that simulators share.

    simulate_events(frames, times)          # (T, H, W) uint8 grey frames, (T,) int64 µs → EventRecording

Each pixel follows the logarithm of its brightness, and gives an event whenever that has moved by a threshold since the pixel's last
event. Between two frames the logarithm is taken to run straight, so an event's time is interpolated there. After Rebecq, Gehrig,
Scaramuzza: ESIM, an open event camera simulator (CoRL 2018), section 3; without its choice of when to render, as a film has the
frames that it has. Below `LINEAR_BELOW` of 255 the logarithm continues as a straight line through 0, as of Hu, Liu, Delbruck: v2e
(CVPR workshops 2021), section 4.1: steps of one level in the dark would otherwise be events.

There is no noise, no mismatch of thresholds, no refractory period. What is faster than the frames is not in the events, and what
a film's compression does to brightness is.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError
from ..recordings.event_recording import EventRecording

THRESHOLD = 0.2
"""Change of the logarithm of brightness that makes an event, of either direction: what v2e takes by default."""

LINEAR_BELOW = 20.0


def log_brightness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logarithm of grey values 0…255, continued as a line below `LINEAR_BELOW`; of the same shape."""
    levels = np.arange(256, dtype=np.float64)
    table = np.where(
        levels < LINEAR_BELOW, levels * math.log(LINEAR_BELOW) / LINEAR_BELOW, np.log(np.maximum(levels, 1))
    )
    return table.astype(np.float32)[frames]


def simulate_events(
    frames: NDArray[np.uint8], times: NDArray[np.int64], *, threshold: float = THRESHOLD, name: str = ""
) -> EventRecording:
    """The events between frames of a camera that stands where the event camera would.

    Args:
        frames: (T, H, W) uint8, grey.
        times: (T,) int64 microseconds, increasing.
        threshold: positive; see `THRESHOLD`.
        name: what errors call the recording.

    Returns:
        A recording of H×W pixels, empty where nothing changes; `notes["simulated"]` says by which threshold.

    Raises:
        RecordingError: the frames are of another form, or the times do not belong to them or do not increase.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8 or times.shape != frames.shape[:1] or (np.diff(times) <= 0).any():
        raise RecordingError(
            f"Events cannot be simulated from frames of shape {frames.shape} and dtype {frames.dtype} with times of shape "
            f"{times.shape}; expected (T, H, W) uint8, and (T,) microseconds that increase."
        )
    height, width = frames.shape[1:]
    brightness = log_brightness(frames).reshape(len(frames), -1)
    columns: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    level = brightness[0].astype(np.float64)  # at each pixel's last event
    for (before, after), (start, end) in zip(pairwise(brightness), pairwise(times), strict=True):
        moved = after - level
        count = np.floor(np.abs(moved) / threshold).astype(np.int64)
        pixels = np.flatnonzero(count)
        which = np.repeat(pixels, count[pixels])
        first = np.repeat(np.cumsum(count[pixels]) - count[pixels], count[pixels])
        crossed = level[which] + np.sign(moved[which]) * threshold * (np.arange(len(which)) - first + 1)
        share = np.clip((crossed - before[which]) / (after[which] - before[which]), 0, 1)
        columns.append((which, np.rint(start + share * (end - start)).astype(np.int64), moved[which] > 0))
        level = level + np.sign(moved) * threshold * count
    if not columns:
        columns.append((np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)))
    which, moments, up = (np.concatenate(one) for one in zip(*columns, strict=True))
    order = np.argsort(moments, kind="stable")
    row, column = np.divmod(which[order], max(width, 1))
    return EventRecording(
        column.astype(np.uint16),
        row.astype(np.uint16),
        moments[order],
        up[order].astype(np.uint8),
        width=width,
        height=height,
        name=name,
        notes={"simulated": f"threshold {threshold:g}"},
    )
