"""Times of samples, whatever they were written as, in seconds.

A unit that is not stated is seconds. Only times that count from 1970 say themselves what they count: then, and nowhere else, they
are converted unasked, and the recording's warnings say so. Times that no clock in seconds can show are an error.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError
from .signal_recording import StreamCollector

TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisec", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsec", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minutes"), 60.0),
    **dict.fromkeys(("h", "hours"), 3600.0),
    **dict.fromkeys(("d", "days"), 86400.0),
}
"""Name of a unit of time → seconds."""

_SINCE_1970 = {"milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
_YEARS_2001_2100 = (9.8e8, 4.2e9)
"""Seconds since 1970."""

_TIME_OF_DAY = re.compile(r"\d{1,2}:[0-5]\d:[0-5]\d(?:[.,]\d+)?")

_SPAN = re.compile(r"-?\d+ days?(?:,? \+?\d{1,2}:[0-5]\d:[0-5]\d(?:\.\d+)?)?")
"""A time difference as pandas and Python write it."""

_LATEST = 1e11
"""No clock in seconds shows more: it is the year 5138."""

_HOUR = 3600.0

_ZONE = re.compile(r"(?:Z|UTC|GMT|[+-]\d\d:?\d\d)$", re.IGNORECASE)
"""How a date with a zone ends."""

_LONGEST_PAUSE_S = 86_400.0
"""Seconds; what pauses for longer begins anew."""


def as_seconds(
    values: Any,
    where: str,
    found: StreamCollector | None = None,
    *,
    unit: str | None = None,
    after: float | None = None,
) -> NDArray[np.float64]:
    """(samples,) times in seconds.

    Args:
        values: numbers; ISO 8601; times of day, which become seconds since the first midnight; datetimes or time differences of
            NumPy, pandas or Python, the latter also as text. Dates become seconds since 1970, in UTC where they name no zone.
        where: what errors call them.
        found: where a unit that was recognised is noted.
        unit: of numbers, a key of `TIME_UNITS`; None: not stated.
        after: seconds of the time before the first, of a recording that goes on.

    Raises:
        RecordingError: they are no times; or numbers that cannot be seconds and are nothing else for certain.
    """
    column = np.asarray(values)
    if column.dtype.kind not in "iufMm":
        column = _dates(values, where, after)
    if column.dtype.kind in "Mm":
        missing = np.isnat(column)
        seconds = np.where(missing, np.nan, column.astype(f"{column.dtype.kind}8[ns]").astype(np.int64) / 1e9)
        if found is not None and column.dtype.kind == "M":
            _doubt_summer_time(seconds, values, where, found)
        return seconds
    numbers = column.astype(np.float64)
    if unit:
        return numbers * TIME_UNITS[unit.lower()]
    largest = float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))
    if largest <= _LATEST:
        return numbers
    for name, factor in _SINCE_1970.items():
        if found is not None and _YEARS_2001_2100[0] < largest * factor < _YEARS_2001_2100[1]:
            found.doubt(
                "time_unit_recognised",
                f"{where}: the times reach {largest:.0f}, which no clock in seconds shows; they are taken for {name} since 1970. "
                "If they are not, convert them to seconds.",
            )
            return numbers * factor
    raise RecordingError(
        f"{where}: the times reach {largest:.6g}, which no clock in seconds shows; milli-, micro- or nanoseconds may be meant. "
        "Expected seconds. Convert them, or name the unit: time_ms, time_us, time_ns."
    )


def _doubt_summer_time(seconds: NDArray[np.float64], values: Any, where: str, found: StreamCollector) -> None:
    """Say where dates without a zone leave out one hour of a Sunday's night: local time does where summer time begins."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if not 0 < usual < _HOUR / 10 or _ZONE.search(str(np.asarray(values, dtype=object).reshape(-1)[0]).strip()):
        return
    late = seconds[1:] % 86400.0
    begins = (late >= _HOUR) & (late < 4 * _HOUR) & (late % _HOUR < usual) & ((seconds[1:] // 86400.0 + 4) % 7 == 0)
    jumps = np.flatnonzero((np.abs(steps - usual - _HOUR) <= usual) & begins)
    if len(jumps):
        at = int(jumps[0])
        found.doubt(
            "summer_time_unclear",
            f"{where}: after sample {at} an hour is left out in the night of a Sunday, as where local time changes to summer time; "
            "it is taken for an hour without samples. Write times in UTC, or with their zone.",
        )


def _dates(values: Any, where: str, after: float | None) -> NDArray[Any]:
    """Text or objects as datetime64, or as numbers where they are numbers after all."""
    import pandas

    text: Any = pandas.Series(np.asarray(values, dtype=object).reshape(-1))
    if len(text) and text.map(lambda one: hasattr(one, "isoformat")).all():  # dates of Python
        return np.asarray(pandas.to_datetime(text, utc=True).dt.tz_localize(None))
    numbers: Any = pandas.to_numeric(text, errors="coerce")
    words = np.asarray(numbers.isna() & text.notna())
    if not words.all() or not len(text):
        if words.any():
            at = int(np.argmax(words))
            raise RecordingError(
                f"{where}: the time of sample {at} is {str(text.iloc[at])[:40]!r}, others are numbers. Expected seconds, all "
                "written in one way. Write them so."
            )
        return np.asarray(numbers, np.float64)
    if text.map(lambda one: bool(_TIME_OF_DAY.fullmatch(str(one).strip()))).all():
        return _since_midnight(pandas.to_timedelta(text.map(_trimmed)), after)
    try:
        if text.map(lambda one: hasattr(one, "total_seconds") or bool(_SPAN.fullmatch(str(one).strip()))).all():
            return np.asarray(pandas.to_timedelta(text))
        dates: Any = pandas.to_datetime(text.map(_trimmed), format="ISO8601", utc=True, errors="coerce")
    except (ValueError, TypeError, OverflowError) as error:
        raise RecordingError(f"{where} holds no times ({error}). Expected seconds, or dates in ISO 8601.") from error
    bad = np.asarray(dates.isna() & text.notna())
    if bad.any():
        at = int(np.argmax(bad))
        raise RecordingError(
            f"{where}: the time of sample {at} is {str(text.iloc[at])[:40]!r}. Expected seconds, or dates in ISO 8601 such as "
            "2023-01-31T10:00:00.250. Write them so."
        )
    return np.asarray(dates.dt.tz_localize(None))


def _since_midnight(times: Any, after: float | None) -> NDArray[Any]:
    """Times of day since the midnight before the first; where they fall by more than half a day, another day has begun."""
    clock, day = np.asarray(times).astype("m8[ns]"), np.timedelta64(1, "D")
    first = clock[:1] if after is None else np.array([round(after * 1e9)], "m8[ns]")
    days = np.cumsum(np.diff(clock, prepend=first % day) < -np.timedelta64(12, "h"))
    return clock + (days + (0 if after is None else first // day)) * day


def _trimmed(one: Any) -> Any:
    """Without space around it, and with a point before its fraction, where ISO 8601 has a comma as well."""
    return one.strip().replace(",", ".") if isinstance(one, str) else one


def check_pause(before: float | None, times: NDArray[np.float64], what: str) -> None:
    """Refuse a day without a sample of a recording that goes on: each of its windows would be handed out.

    Args:
        before: when it ended so far, or begins; None where nobody knows.
        times: (samples,) seconds, in order, of what comes now.
        what: there was none of.

    Raises:
        RecordingError: so long a pause; it is mostly a clock in another unit, or with another beginning.
    """
    steps = np.diff(times if before is None else np.concatenate([[before], times]))
    if len(steps) and steps.max() > _LONGEST_PAUSE_S:
        after = times[-len(steps) :][int(np.argmax(steps))]
        raise RecordingError(
            f"After {steps.max() / 86400:.1f} days without {what}, the next is at {after:.3f} s; expected one clock for all that "
            "comes, and for its start. Correct the times, or begin another stream there."
        )
