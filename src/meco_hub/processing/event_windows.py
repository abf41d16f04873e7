"""Cutting event recordings: what lies on the sensor, and which events belong to which window.

Windows of time follow one another without gaps; one without events is a window all the same, in which nothing happened. Windows
of events hold the same number each, but for the last.

This file knows when and where events are; it does not know what is made of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import ConfigurationError, InputError, RecordingError
from ..recordings.event_recording import EventRecording

MAX_WINDOWS = 200_000
"""In one recording; more come from a damaged time stamp, or from a window that was meant in another unit."""

Span = tuple[int, int]


def find_sensor(recording: EventRecording, told: Mapping[str, int] | None) -> tuple[int, int]:
    """Height and width of the sensor, by the recording or by what was `told`.

    Raises:
        RecordingError: neither says it, or they disagree.
    """
    called = recording.name or "The recording"
    own = (recording.height, recording.width)
    given = (told["height"], told["width"]) if told else (None, None)
    height, width = own[0] or given[0], own[1] or given[1]
    if height is None or width is None:
        raise RecordingError(
            f"{called} does not say how many pixels its sensor has. Give width= and height= when reading, or sensor_size={{…}}."
        )
    if None not in own and None not in given and own != given:
        raise RecordingError(
            f"{called} is of a sensor with {own[1]}×{own[0]} pixels; expected {given[1]}×{given[0]}. Change sensor_size, or use "
            "the recording of the right camera."
        )
    return height, width


def keep_inside(recording: EventRecording, sensor: tuple[int, int], out_of_bounds: str) -> tuple[EventRecording, int]:
    """The events on a sensor of (height, width), and how many were not.

    Raises:
        RecordingError: `out_of_bounds` is "error" and there is one outside.
    """
    height, width = sensor
    if not len(recording) or (int(recording.x.max()) < width and int(recording.y.max()) < height):
        return recording, 0
    keep = (recording.x < width) & (recording.y < height)
    lost = int(np.count_nonzero(~keep))
    if out_of_bounds == "error":
        first = int(np.argmin(keep))
        raise RecordingError(
            f"{recording.name or 'The recording'}: {lost} of {len(recording)} events lie outside the sensor of {width}×{height} "
            f"pixels, the first (number {first}) at x = {recording.x[first]}, y = {recording.y[first]}. Correct the size, or "
            'set out_of_bounds="drop".'
        )
    columns = [getattr(recording, column)[keep] for column in ("x", "y", "t", "p")]
    return EventRecording(*columns, width=recording.width, height=recording.height, name=recording.name), lost


def cut_windows(
    recording: EventRecording,
    *,
    windows: Any = None,
    window_us: int | None = None,
    window_events: int | None = None,
    start_us: int | None = None,
) -> Iterator[tuple[EventRecording, Span]]:
    """Every window's events, with the time from which and to which it runs.

    Raises:
        InputError: `windows` is not (W, 2) whole microseconds.
        RecordingError: there would be more than `MAX_WINDOWS`.
    """
    beginning = start_us or 0
    first, last = (int(recording.t[0]), int(recording.t[-1])) if len(recording) else (beginning, beginning)
    if windows is not None:
        pairs = np.asarray(windows)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or (pairs[:, 0] > pairs[:, 1]).any():
            raise InputError(
                f"windows has shape {pairs.shape} and dtype {pairs.dtype}; expected (W, 2) whole µs, start ≤ end."
            )
        for start, end in pairs.tolist():
            yield recording.between(start, end), (start, end)
    elif window_us is not None:
        start = first if start_us is None else start_us
        check_number(recording.name, start, last, window_us)
        for begin in range(start, max(last, start) + 1, window_us):
            yield recording.between(begin, begin + window_us), (begin, begin + window_us)
    elif window_events is not None:
        for index in range(0, max(len(recording), 1), window_events):
            part = recording.slice(index, index + window_events)
            yield part, (int(part.t[0]), int(part.t[-1])) if len(part) else (first, last)
    else:
        yield recording, (first, last)


def follow_windows(
    parts: Iterable[EventRecording], *, window_us: int | None, start_us: int | None, end_us: int | None
) -> Iterator[tuple[EventRecording, Span, bool]]:
    """Pieces of consecutive parts, none of which crosses a window's border: events, the window's span, whether it is its last.

    Raises:
        ConfigurationError: there is one window only, and nobody said from when to when.
        RecordingError: a part reaches back behind a border that was passed, or out of the only window.
    """
    if window_us is None and (start_us is None or end_us is None):
        raise ConfigurationError("Without windows, start_us and end_us are needed; summarise_events finds them.")
    start, end = start_us, end_us
    piece: EventRecording | None = None
    for part in parts:
        if piece is not None and start is not None and end is not None:
            yield piece, (start, end), False
        piece = part
        if not len(part):
            continue
        if start is None:
            start = int(part.t[0])
        if window_us is not None and (end is None or end == end_us):
            end = start + window_us
        assert end is not None
        if part.t[0] < start or (window_us is None and part.t[-1] > end):
            raise RecordingError(
                f"{part.name or 'The recording'}: a part runs from {part.t[0]} to {part.t[-1]} µs, and the window from {start} to "
                f"{end} µs; time steps back between parts, or the span is wrong. Read it whole, which sorts it."
            )
        if window_us is not None:
            check_number(part.name, start, int(part.t[-1]), window_us)
        while window_us is not None and len(piece) and piece.t[-1] >= end:
            now = piece.between(start, end)
            yield now, (start, end), True
            piece = piece.slice(len(now), len(piece))
            start, end = end, end + window_us
    if piece is not None and start is not None and end is not None:
        yield piece, (start, end), True


def follow_counts(parts: Iterable[EventRecording], number: int) -> Iterator[EventRecording]:
    """Consecutive parts, cut anew into pieces of `number` events; the last may have fewer."""
    held: list[EventRecording] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= number:
            whole = _concatenate(held)
            yield whole.slice(0, number)
            held = [whole.slice(number, len(whole))]
    if held and any(map(len, held)):
        yield _concatenate(held)


def check_number(name: str, start: int, last: int, window_us: int) -> None:
    """An error where the windows from `start` to `last` would be absurdly many."""
    if (last - start) // window_us >= MAX_WINDOWS:
        raise RecordingError(
            f"{name or 'The recording'} runs from {start} to {last} µs, {(last - start) // window_us} windows of {window_us} µs; "
            f"at most {MAX_WINDOWS} are made. A time stamp is damaged, or the unit of time is wrong."
        )


def _concatenate(parts: list[EventRecording]) -> EventRecording:
    if len(parts) == 1:
        return parts[0]
    columns = [np.concatenate([getattr(part, column) for part in parts]) for column in ("x", "y", "t", "p")]
    return EventRecording(*columns, width=parts[0].width, height=parts[0].height, name=parts[0].name)
