"""The clock of events: in what unit time is where nobody says so, counters that overflow, and clocks that start anew.

    clock = EventClock("clip.npz")
    clock.settle(x, y, t)          # looks at the first events, once; notes and warnings say what it took
    clock(t)                       # int64 microseconds, block after block

One rule for files and for arrays in memory. What the numbers look like proposes a unit: fractions are seconds, whole numbers
microseconds, and whole numbers beyond any clock of microseconds are nanoseconds since 1970. Then the events are counted: a unit
in which no event camera could have given so many, or so few, is not taken, and the error asks for `time_unit`. Where the proposed
unit could be, every unit is weighed by how busy a sensor it makes and how long a recording, and by how often people write it; with
one beside it that is not much less likely, the recording has the warning `time_unit_doubtful`.

A type holds so many digits and no more: where steps of floating point exceed a microsecond, the recording has the warning
`time_digits_lost`, and where they exceed a millisecond it is refused; so are small integers whose counter has overflowed.

Cameras count microseconds in 32 bits, which overflow after 71.6 minutes. A step back by more than half of that, in numbers that
fit into 32 bits, is an overflow, and time goes on. A step back within long stretches of rising time, as it comes from two
recordings in one file or from a clock that was reset, is an error; events that come late are put in order by whoever joins them.
"""

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import RecordingError

logger = logging.getLogger(__name__)

MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
"""Time unit → microseconds in it."""

SAMPLE = 8_192
"""Events that the unit is told from."""

# What a recording can be. The noise of a sensor alone is .05 to 1 event a second and pixel, half of it or less when it was
# filtered; at full load DAVIS 346 gives 130 events a second and pixel, and no sensor more than a thousand million a second.
_EVENTS_A_SECOND = (100.0, 2e9)
_EVENTS_A_SECOND_AND_PIXEL = (0.003, 500.0)
# What recordings usually are, as decades (log10) of events a second and pixel and of seconds: middle and standard deviation. Public
# sets run from 0.1 (a still scene) to 20 (driving) and from 0.3 s (N-MNIST) to some minutes.
_USUAL_ACTIVITY, _USUAL_SECONDS = (0.2, 0.8), (0.7, 0.9)
_WRITTEN = {False: {"us": 0.97, "ns": 0.015, "ms": 0.015}, True: {"s": 0.9, "ms": 0.08, "us": 0.02}}
"""With fractions or without → unit → share of files written so; nobody writes fractions of a nanosecond, or whole seconds."""
_DOUBTFUL = 0.03  # times as likely as the unit that is taken, from which on another one is a doubt
_ENOUGH_TO_JUDGE = 100  # events; fewer may be anything
_MIDDLE = (0.05, 0.95)  # what lies outside may be a burst on starting, or a damaged time
_HALF_A_DIGIT = 5e-4
_FINE_US, _COARSE_US = (
    1.0,
    1_000.0,
)  # between two neighbours of a type, from which on digits are missed, and nothing is left
_SMALLEST_SENSOR = 32 * 32

_BEYOND_MICROSECONDS = 10**17  # 3,170 years of microseconds; what is larger counts nanoseconds since 1970
_LAST_MICROSECOND = 2**62  # what lies beyond is damage, and would overflow when differences are taken
_PERIOD = 2**32
_LONGEST_PAUSE = 60_000_000
_LATE_SHARE = 0.01  # of events; where more come late, the events are not in the order of time at all
_FOLLOWING = 10  # events that tell a clock that starts anew from one that comes late
LONGEST_DELAY_US, _SHORTEST_RESTART_US = 1_000_000, 1_000
"""Microseconds that an event comes late at most."""


class EventClock:
    """Turns the times of one recording into microseconds.

    Args:
        called: what errors call the recording.
        unit: one of `MICROSECONDS`; None leaves it to `settle`.

    Attributes:
        notes: "time_unit", where it was told from the numbers.
        warnings: what is in doubt.
    """

    def __init__(self, called: str, unit: str | None = None) -> None:
        if unit is not None and unit not in MICROSECONDS:
            raise RecordingError(f"{called}: {unit!r} is no unit of time; expected one of {', '.join(MICROSECONDS)}.")
        self.called, self.unit = called, unit
        self.notes: dict[str, int | str] = {}
        self.warnings: list[AnswerWarning] = []
        self._last: int | None = None
        self._turns, self._counter = 0, True
        self._pause = float(_LONGEST_PAUSE)  # over an overflow, at most: little longer than where nothing overflows

    def settle(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        t: NDArray[Any],
        *,
        pixels: int | None = None,
        point: bool = False,
        events: int | None = None,
    ) -> None:
        """Tell the unit from the first events, `SAMPLE` of them or all.

        Args:
            x, y, t: (events,) as recorded.
            pixels: of the sensor, where it is known.
            point: the numbers are written with a decimal point, which says seconds even where no fraction follows.
            events: of the whole recording, about, where it is longer than what is given here.

        Raises:
            RecordingError: no event camera can have given them in the unit that they look like; the message asks for `time_unit`.
        """
        whole = max(events or 0, len(t))
        t = self._as_numbers(t[:SAMPLE])
        steps = np.diff(t.astype(np.float64)) if t.dtype.kind in "iuf" else np.zeros(0)
        self._overflows(steps)  # which looks at the pauses, before the first block is counted on
        in_order = int(np.count_nonzero(steps < 0)) <= max(1, _LATE_SHARE * len(steps))
        self._counter = in_order and _fits_counter(t)
        if self.unit is not None:
            return
        wraps = self._counter and bool(self._overflows(steps).any())
        self.unit = "us" if wraps else self._tell(x[:SAMPLE], y[:SAMPLE], t, pixels, point, whole)
        self.notes["time_unit"] = f"{self.unit} (detected)"

    def __call__(self, t: NDArray[Any]) -> NDArray[np.int64]:
        """The times of the next block, in microseconds.

        Raises:
            RecordingError: times that are NaN, infinite or beyond any clock, or of a type that does not hold them.
        """
        numbers = self._as_numbers(t)
        self._check_type(numbers)
        return to_microseconds(self._count_on(numbers), self.unit or "us", self.called)

    def _as_numbers(self, t: NDArray[Any]) -> NDArray[Any]:
        """NumPy's dates and spans of time as microseconds since 1970 or the beginning; numbers as they are."""
        if t.dtype.kind not in "mM":
            return t
        if np.isnat(t).any():
            raise RecordingError(
                f"{self.called}: event {int(np.isnat(t).argmax())} has no time (NaT); expected one each. Leave it out."
            )
        self.unit = "us"
        return t.astype(f"{t.dtype.kind}8[us]").astype(np.int64)

    def _check_type(self, t: NDArray[Any]) -> None:
        """Doubt or refuse times whose type is too short for them."""
        if not len(t) or t.dtype.itemsize > (4 if t.dtype.kind == "f" else 2):
            return
        if t.dtype.kind != "f":
            if (t[1:] < t[:-1]).any():
                raise RecordingError(
                    f"{self.called}: time goes back, and is written in {t.dtype}, which overflows after {np.iinfo(t.dtype).max}; "
                    "expected integers of 32 bits or more. Write the times anew from the source."
                )
            return
        largest = np.abs(t[np.isfinite(t)]).max(initial=0)
        step_us = float(np.spacing(largest)) * MICROSECONDS[self.unit or "us"]
        if step_us <= _FINE_US:
            return
        said = (
            f"{self.called}: t reaches {largest:.10g} {self.unit} in {t.dtype}, whose numbers are {step_us:.3g} µs apart there; "
            "expected int64, or float64. Write the times anew from the source."
        )
        if step_us > _COARSE_US:
            raise RecordingError(said)
        if all(one.code != "time_digits_lost" for one in self.warnings):
            self.warnings.append(AnswerWarning("time_digits_lost", said))

    def _tell(
        self, x: NDArray[Any], y: NDArray[Any], t: NDArray[Any], pixels: int | None, point: bool, events: int
    ) -> str:
        values = t[np.isfinite(t)].astype(np.float64) if t.dtype.kind in "iuf" else np.zeros(0)
        seconds = bool((values != np.floor(values)).any()) or (point and t.dtype.kind == "f")
        if not seconds and len(values) and abs(np.median(values)) > _BEYOND_MICROSECONDS:
            return "ns"
        unit = "s" if seconds else "us"
        if len(values) < _ENOUGH_TO_JUDGE:
            return unit
        low, high = np.quantile(values, _MIDDLE)
        # events of one time came within one step of the clock
        span = max(float(high - low), 0.0 if seconds else 1.0) / (_MIDDLE[1] - _MIDDLE[0])
        if span == 0:
            return unit
        sensor = max(pixels or _sides(x) * _sides(y), _SMALLEST_SENSOR)
        rates = {one: len(values) / (span * scale / 1e6) for one, scale in MICROSECONDS.items()}
        few, many = _rates(sensor)
        others = [one for one in _WRITTEN[seconds] if one != unit and few <= rates[one] <= many]
        counted = (
            f"time runs from {values.min():.10g} to {values.max():.10g} in {len(values)} events, "
            f"{rates[unit]:.3g} events a second if it is in {unit}"
        )
        if not few <= rates[unit] <= many:
            fitting = " or ".join(f"{one} ({rates[one]:.3g} a second)" for one in others)
            raise RecordingError(
                f"{self.called}: {counted}, which no event camera with {sensor} pixels gives; expected "
                f"{few:.3g} to {many:.3g} a second. Say "
                f"time_unit={'…' if not fitting else f', perhaps {fitting}'}."
            )
        likely = {
            one: math.log(_WRITTEN[seconds][one])
            + _likelihood(rates[one] / sensor, _USUAL_ACTIVITY)
            + _likelihood(events / rates[one], _USUAL_SECONDS)
            for one in (unit, *others)
        }
        finer = "ms" if seconds else "ns"
        if finer in others:
            # the last three digits are never used, as where a clock of microseconds is written in nanoseconds
            steps = values * 1000 if seconds else values / 1000
            if bool((np.abs(steps - np.rint(steps)) < _HALF_A_DIGIT).all()):
                likely[finer] = math.inf
        other = max(likely, key=lambda one: -math.inf if one == unit else likely[one])
        if other != unit and likely[other] - likely[unit] > math.log(_DOUBTFUL):
            self.warnings.append(
                AnswerWarning(
                    "time_unit_doubtful",
                    f"{self.called}: {counted}, and {rates[other]:.3g} if in {other}; it was taken to be in {unit}. Say time_unit.",
                )
            )
        return unit

    def _count_on(self, t: NDArray[Any]) -> NDArray[Any]:
        """The same times, going on where a counter of 32 bits overflows."""
        if not len(t) or not self._counter:
            return t
        if not _fits_counter(t):
            self._counter = not np.isfinite(t).all()  # of NaN the conversion tells
            return t
        before = int(t[0]) if self._last is None else self._last
        self._last = int(t[-1])
        if not self._turns and max(int(t.max()), before) - min(int(t.min()), before) <= _PERIOD // 2:
            return t
        values = t.astype(np.int64)
        steps = np.diff(values, prepend=before)
        turns = np.cumsum(self._overflows(steps)) + self._turns
        turns -= np.cumsum(
            (steps > _PERIOD // 2) & (turns > 0)
        )  # an event from before the overflow that comes after it
        self._turns = int(turns[-1])
        return values + _PERIOD * turns

    def _overflows(self, steps: NDArray[Any]) -> NDArray[np.bool_]:
        """Where a counter of 32 bits overflowed: far back, and after a pause like others of this recording."""
        pauses = steps[(steps > 0) & (steps <= _PERIOD // 2)]
        self._pause = max(self._pause, 2 * float(pauses.max(initial=0)))
        return (steps < -_PERIOD // 2) & (steps + _PERIOD <= self._pause)


def _likelihood(value: float, usual: tuple[float, float]) -> float:
    """Logarithm of how likely a value is whose decades are normally distributed, but for a constant."""
    middle, deviation = usual
    return -0.5 * ((math.log10(value) - middle) / deviation) ** 2


def _fits_counter(t: NDArray[Any]) -> bool:
    """Whole numbers that 32 bits can hold."""
    whole = t.dtype.kind in "iu" or (t.dtype.kind == "f" and bool((t == np.floor(t)).all()))
    # half precision knows no number of 32 bits
    return bool(whole and len(t) and float(t.min()) >= -_PERIOD // 2 and float(t.max()) < _PERIOD)


def _sides(places: NDArray[Any]) -> int:
    """Pixels of one side of the sensor at least, as far as events tell."""
    finite = places[np.isfinite(places)] if places.dtype.kind == "f" else places
    return int(np.clip(finite.max(initial=0), 0, 65535)) + 1 if places.dtype.kind in "iuf" else 1


def _rates(pixels: int) -> tuple[float, float]:
    """The fewest and the most events a second of a sensor."""
    low, high = _EVENTS_A_SECOND
    few, many = _EVENTS_A_SECOND_AND_PIXEL
    return max(low, few * pixels), min(high, many * pixels)


class OneClock:
    """Watches that a recording is on one clock: looks at its blocks in the order of the file, before events are put in order.

    Args:
        called: what errors call the recording.

    Attributes:
        in_order: few events come late, if any.
        highest: the latest time, in microseconds.
        restart: which event, counted from the first, was the first after the clock had started anew, where an error says so.
    """

    def __init__(self, called: str) -> None:
        self.called, self.in_order = called, True
        self.restart: int | None = None
        self._events, self._late = 0, 0
        self._first = self.highest = self._last = 0
        self._suspect: tuple[int, int, int] | None = None  # from and to when time went back, and at which event

    def see(self, x: NDArray[Any], y: NDArray[Any], t: NDArray[np.int64], p: NDArray[Any]) -> None:
        """Look at the next block.

        Raises:
            RecordingError: the clock starts anew in it.
        """
        if not len(t):
            return
        if not self._events:
            self._first = self.highest = self._last = int(t[0])
        late = np.flatnonzero(t[1:] < t[:-1]) + 1
        if t[0] < self._last:
            late = np.concatenate([[0], late])
        before, top = self._events, self.highest
        self._events, self._last, self._late = before + len(t), int(t[-1]), self._late + len(late)
        self.highest = max(top, int(t.max()))
        self.in_order = self._late <= max(1, _LATE_SHARE * self._events)
        if not self.in_order:
            self._suspect = None
            return
        self._follow(t, 0)
        if not len(late):
            return
        highest = np.maximum.accumulate(np.concatenate([[top], t]))[late]
        back = highest - t[late]
        far = np.maximum(_SHORTEST_RESTART_US, np.minimum(LONGEST_DELAY_US, (highest - self._first) // 2))
        for number in np.flatnonzero((back >= far) & (before + late >= _FOLLOWING)).tolist():
            place = int(late[number])
            if not _is_ordered_by_another((x, y, p), place):
                self._suspect = (int(highest[number]), int(t[place]), before + place)
                self._follow(t, place)

    def _follow(self, t: NDArray[np.int64], place: int) -> None:
        """Single events come late, and those after them do not; where a clock starts anew, all that follow seem late."""
        if self._suspect is None:
            return
        then, now, event = self._suspect
        seen = _FOLLOWING - (self._events - len(t) + place - event)
        if (t[place : place + max(seen, 0)] >= then).any():
            self._suspect = None
        elif self._events - event >= _FOLLOWING:
            self.restart = event
            raise RecordingError(
                f"{self.called}: time goes back from {then} to {now} µs at event {event} and rises again from there: the clock "
                "was set anew, or several recordings lie in one. Cut it there, and read each by itself."
            )


def _is_ordered_by_another(columns: tuple[NDArray[Any], ...], place: int) -> bool:
    """The table is in the order of another column first, such as all OFF events before all ON."""
    return (
        len(columns[0]) >= _ENOUGH_TO_JUDGE
        and place > 0
        and any(
            bool(column[place] > column[place - 1]) and bool((column[1:] >= column[:-1]).all()) for column in columns
        )
    )


def to_microseconds(values: NDArray[Any], unit: str, called: str) -> NDArray[np.int64]:
    """Time as int64 microseconds.

    Raises:
        RecordingError: an unknown unit, or times that are NaN, infinite or beyond any clock.
    """
    if unit not in MICROSECONDS:
        raise RecordingError(f"{called}: {unit!r} is no unit of time; expected one of {', '.join(MICROSECONDS)}.")
    if values.dtype == np.int64 and unit == "us":
        times = values
    elif values.dtype.kind in "iu" and unit in ("us", "ns"):  # in integers, where float64 would lose digits
        if values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63:
            raise RecordingError(f"{called}: t reaches {values.max()}, which no clock shows. The file is damaged.")
        times = values.astype(np.int64) if unit == "us" else values.astype(np.int64) // 1000
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values.astype(np.float64) * MICROSECONDS[unit]
        bad = ~(np.abs(scaled) < _LAST_MICROSECOND)  # NaN, too
        if bad.any():
            raise RecordingError(
                f"{called}: t is {values[bad][0]} at event {int(np.argmax(bad))}; expected finite times in {unit}."
            )
        times = np.rint(scaled).astype(np.int64)
    if len(times) and (int(times.min()) <= -_LAST_MICROSECOND or int(times.max()) >= _LAST_MICROSECOND):
        raise RecordingError(f"{called}: t runs from {times.min()} to {times.max()} µs, which no clock shows.")
    return times
