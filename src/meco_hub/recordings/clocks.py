"""What a clock must be before anything is computed from it, and how fast it ticks.

    check_stream(stream, "S01.edf, stream 'ecg'")       # raises RecordingError, or returns the samples per second

Samples are never sorted or dropped here: where two of them claim one moment, only who recorded them can say which is right.

This file knows clocks and rates; it knows no file and no processor.
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError
from .signal_recording import SignalRecording, Stream

_EVEN = 0.05
"""Half the steps may differ by this share of the median one in a stream that is called evenly spaced."""

_GAP = 2.5
"""A step longer than so many median ones is a gap."""

_LONGEST = 31 * 86400.0
"""Seconds from the first sample of a recording to its last, of whichever stream."""

_SAMPLE = 4096
"""Steps that are looked at to say how even a clock is."""


def check_clock(times: NDArray[np.float64], where: str) -> None:
    """Make sure that times are finite and strictly increasing.

    Args:
        times: (samples,) seconds.
        where: file and stream, for the message.

    Raises:
        RecordingError: a time that is no number, two that are the same, or a clock that runs backwards; says which sample.
    """
    # what increases from one number to another is finite; this takes a third of the time of finding out what is wrong
    if not len(times) or (np.isfinite(times[[0, -1]]).all() and (times[1:] > times[:-1]).all()):
        return
    finite = np.isfinite(times)
    if not finite.all():
        at = int(np.argmin(finite))
        raise RecordingError(
            f"{where}: the time of sample {at} is {times[at]}. Expected seconds that increase. Leave out samples without a time."
        )
    steps = np.diff(times)
    at = int(np.argmax(steps <= 0))
    twice = steps[at] == 0
    what = (
        "is there twice: a duplicate timestamp" if twice else f"is followed by {times[at + 1]:.6f} s: it runs backwards"
    )
    remedy = (
        "Keep one sample of each moment."
        if twice
        else "If clocks were reset, cut the recording there; if packets came out of order, sort them where they were received."
    )
    raise RecordingError(
        f"{where}: after sample {at} the clock, {times[at]:.6f} s, {what}. Expected times that increase. {remedy}"
    )


def estimate_rate(times: NDArray[np.float64]) -> float | None:
    """Samples per second, from the mean step without the gaps; None with fewer than two samples.

    The mean, because the clock may tick in whole milliseconds, and the steps of 128 Hz are then 7 or 8 of them.
    """
    if len(times) < 2:
        return None
    steps = np.diff(times)
    rate = 1 / float(steps[steps <= _GAP * np.median(steps)].mean())
    return float(round(rate)) if round(rate) and abs(rate - round(rate)) < 1e-6 * rate else rate


def even_rate(times: NDArray[np.float64]) -> float | None:
    """Samples per second of an evenly spaced stream, gaps allowed; None of an irregular one or of fewer than three samples."""
    if len(times) < 3:
        return None
    low, middle, high = _quartiles(times)
    return None if high - low > _EVEN * middle else estimate_rate(times)


def check_stream(stream: Stream, where: str) -> float | None:
    """Make sure that a stream's clock increases and ticks at the rate that it states.

    Returns:
        Samples per second: the stated rate, or the measured one; None with fewer than two samples and no rate.

    Raises:
        RecordingError: as `check_clock` says, or a stated rate that the times contradict.
    """
    check_clock(stream.times, where)
    if stream.rate is None:
        return estimate_rate(stream.times)
    if not stream.rate > 0 or not np.isfinite(stream.rate):
        raise RecordingError(
            f"{where}: the rate is {stream.rate} Hz. Expected a positive number, or None for an irregular stream."
        )
    if len(stream) < 3:
        return stream.rate
    low, middle, high = _quartiles(stream.times) * stream.rate
    # even steps must be what the rate says; those of a jittered clock scatter, and only their order of magnitude can be held to it
    tolerance = 1.05 if high - low <= _EVEN * middle else 3.0
    if not 1 / tolerance <= middle <= tolerance:
        raise RecordingError(
            f"{where}: the rate is given as {stream.rate:g} Hz, but its samples lie {middle / stream.rate:g} s apart, which is "
            f"{stream.rate / middle:g} Hz. Correct the rate, or leave it out."
        )
    return stream.rate


def check_span(recording: SignalRecording) -> None:
    """Make sure that a recording's clocks count in the same unit and from the same moment.

    Where one counts from 1970 and another from the start, or a single time is in the wrong unit, windows between the two would
    number thousands of millions.

    Raises:
        RecordingError: from the first sample to the last, of whichever stream, are more than 31 days.
    """
    spans = {name: (one.times[0], one.times[-1]) for name, one in recording.streams.items() if len(one)}
    if not spans:
        return
    first, last = min(spans, key=lambda name: spans[name][0]), max(spans, key=lambda name: spans[name][1])
    days = (spans[last][1] - spans[first][0]) / 86400
    if days * 86400 > _LONGEST:
        raise RecordingError(
            f"{recording.name or 'The recording'}: stream {first!r} begins at {spans[first][0]:g} s and stream {last!r} ends at "
            f"{spans[last][1]:g} s, {days:.0f} days later. Expected at most {_LONGEST / 86400:.0f}. Let all clocks count seconds "
            "from the same moment, or cut the recording."
        )


def _quartiles(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of some thousand of the steps between times, evenly taken: quartiles need no more."""
    every = max(1, (len(times) - 1) // _SAMPLE)
    return np.percentile(times[1::every] - times[:-1:every], [25, 50, 75])
