"""A recording of physiological signals: streams, each with its own clock and rate, and what is known about them.

    recording = SignalRecording({"eda": Stream(values, times, rate=4.0), "ecg": Stream(…)}, name="S01")
    recording.clip(10.0, 14.0).shift({"ecg": 0.5}).without(["eda"])

Nothing here changes a sample: clips are views, shifts move clocks, missing samples are NaN. Conditions and augmentations
are functions from recording to recording, so that training, evaluation and the pipeline all see the same kind of thing.

`check_stream` and `check_span` say what a clock must be before anything is computed from it. Samples are never sorted or dropped:
where two of them claim one moment, only who recorded them can say which is right.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, joined_by_code
from ..errors import RecordingError, quote
from ..reading import reading

_EVEN = 0.05
"""Half the steps may differ by this share of the median one in a stream that is called evenly spaced."""

_GAP = 2.5
"""A step longer than so many median ones is a gap."""

_NEAR = 0.1
"""A step over a missing sample may be off by this share of the median one."""

_LONGEST = 31 * 86400.0
"""Seconds from the first sample of a recording to its last, of whichever stream."""

_COVERED = 0.01
"""Of a stream of days, what its samples must cover at least: a single late time would make it millions of empty windows."""

_COARSE = 0.05
"""Share of times that are those of the sample before, from which on the clock is coarse, and no packet came twice."""

_HOUR, _NEAR_HOUR = 3600.0, 10.0
"""Seconds."""

_AT_ONCE = 2**16
"""Rows."""

_SAMPLE = 4096
"""Steps that are looked at to say how even a clock is."""


def _in_seconds(time: float) -> str:
    """To the millisecond, as short as that goes; seconds since 1970 keep all their digits."""
    return f"{round(float(time), 3):.15g}"


@dataclass(frozen=True)
class Stream:
    """One sensor's samples.

    Attributes:
        values: (samples, channels) floating point; NaN where a sample is missing.
        times: (samples,) float64 seconds on the recording's own clock, strictly increasing; need not be evenly spaced.
        rate: nominal samples per second; None for an irregular stream (beat-to-beat intervals, say).
        channels: names of the channels, as many as `values` has columns.
        units: their units as the file names them, likewise; "" or nothing where it names none.
        kind: what the file says that this measures, such as LSL's type; "" where it says nothing.
    """

    values: NDArray[np.floating]
    times: NDArray[np.float64]
    rate: float | None = None
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.times.shape != self.values.shape[:1]:
            raise RecordingError(
                f"A stream has values of shape {self.values.shape} and times of shape {self.times.shape}; expected "
                "(samples, channels) and (samples,). Give one time per row of values."
            )
        if self.channels and len(self.channels) != self.values.shape[1]:
            raise RecordingError(
                f"A stream has {self.values.shape[1]} channels and the names {', '.join(self.channels)}. Name each once."
            )

    def __len__(self) -> int:
        return len(self.times)

    @staticmethod
    def regular(
        values: NDArray[np.floating],
        rate: float,
        *,
        start: float = 0.0,
        channels: tuple[str, ...] = (),
        units: tuple[str, ...] = (),
    ) -> "Stream":
        """A stream whose samples lie 1/rate seconds apart; (samples,) values are taken as one channel."""
        columns = values[:, None] if values.ndim == 1 else values
        return Stream(columns, start + np.arange(len(columns), dtype=np.float64) / rate, rate, channels, units)

    def __repr__(self) -> str:
        ticks = f"{self.rate:.6g} Hz" if self.rate else "no fixed rate"
        units = self.units or ("",) * len(self.channels)
        named = ", ".join(f"{name} {unit}".strip() for name, unit in zip(self.channels, units, strict=False))
        span = f", {_in_seconds(self.times[0])} to {_in_seconds(self.times[-1])} s" if len(self) else ""
        kind = f", kind {quote(self.kind)!r}" if self.kind else ""
        wide = f"{len(self)} samples of {self.values.shape[1]} channel{'s' if self.values.shape[1] != 1 else ''}"
        return f"Stream({wide} ({quote(named) or 'unnamed'}){span}, {ticks}{kind})"

    def between(self, start: float, end: float) -> "Stream":
        """The samples with start ≤ time < end, as views."""
        first, last = self.times.searchsorted((start, end))
        return replace(self, values=self.values[first:last], times=self.times[first:last])

    def around(self, start: float, end: float) -> "Stream":
        """The samples with start ≤ time < end and the next one on either side, as views: for interpolation up to both ends."""
        first, last = self.times.searchsorted((start, end))
        first = max(0, first - 1)
        return replace(self, values=self.values[first : last + 1], times=self.times[first : last + 1])


@dataclass(frozen=True)
class SignalRecording:
    """Streams that were recorded together.

    Attributes:
        streams: name → stream; a sensor that is missing is an absent key.
        start, end: seconds on the recording's clock between which it is asked about; by default the first and just after the last
            sample of any stream. Streams may reach beyond, which gives filters and shifts real samples to draw on.
        name: what errors call it.
        annotations: target name → stream of ground truth over time. Never handed to a model.
        reference: stream name → (2, channels) centre and scale of this person's own signals, from label-free baseline segments or
            from all that person's recordings; what `normalization="reference"` of a windower uses. Levels of a stream's summaries,
            mean and standard deviation, stand beside it under `processing.resampling.summary_key`.
        known_lags: stream name → seconds by which its content is known to be late, as training's delays are; NaN unknown.
        prepared: which processor has filtered these streams and put them on its grids already; "" as they were recorded.
        silent: of one that was prepared, whether nothing was measured between start and end; None: as its streams show.
        warnings: what its reader doubts.
    """

    streams: Mapping[str, Stream]
    start: float = float("nan")
    end: float = float("nan")
    name: str = ""
    annotations: Mapping[str, Stream] = field(default_factory=dict)
    reference: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    known_lags: Mapping[str, float] = field(default_factory=dict)
    prepared: str = ""
    silent: bool | None = None
    warnings: tuple[AnswerWarning, ...] = ()

    def __post_init__(self) -> None:
        if self.start == self.start and self.end == self.end:  # neither is NaN, as in every clip
            return
        start, end = _span(self.streams.values())
        if np.isnan(self.start):
            object.__setattr__(self, "start", start)
        if np.isnan(self.end):
            object.__setattr__(self, "end", max(end, self.start))

    def __repr__(self) -> str:
        title = f"SignalRecording({self.name!r}, {_in_seconds(self.start)} to {_in_seconds(self.end)} s"
        streams = [f"  {quote(name)}: {stream!r}" for name, stream in self.streams.items()]
        truth = [f"  annotation {quote(name)}: {stream!r}" for name, stream in self.annotations.items()]
        doubts = [f"  warning: {doubt.message} [{doubt.code}]" for doubt in self.warnings]
        return "\n".join([title, *streams, *truth, *doubts]) + ")"

    @property
    def seconds(self) -> float:
        """Duration that is asked about."""
        return self.end - self.start

    @property
    def nbytes(self) -> int:
        """Memory of the samples."""
        return sum(one.values.nbytes + one.times.nbytes for one in [*self.streams.values(), *self.annotations.values()])

    def clip(self, start: float, end: float, margin: float = 0.0) -> "SignalRecording":
        """The part from `start` to `end`, with `margin` seconds more of every stream on both sides where there are any.

        Annotations keep the next sample on either side, so that their value at any moment of the part can be interpolated.
        """
        streams = {name: one.between(start - margin, end + margin) for name, one in self.streams.items()}
        annotations = {name: one.around(start, end) for name, one in self.annotations.items()}
        silent = self.silent if (start, end) == (self.start, self.end) else None
        return replace(self, streams=streams, annotations=annotations, start=start, end=end, silent=silent)

    def spanned_by(self, names: Iterable[str]) -> "SignalRecording":
        """The recording, asked about while these streams were recorded, whatever others there are.

        A span that was chosen, one that is not from the first sample of any stream to the last, is kept.
        """
        wanted = set(names)
        own = [one for name, one in self.streams.items() if name in wanted]
        if len(own) == len(self.streams) or (self.start, self.end) != _span(self.streams.values()):
            return self
        start, end = _span(own)
        return replace(self, start=start, end=end)

    def is_silent(self, names: Iterable[str], start: float, end: float) -> bool:
        """Whether none of these streams has a sample with start ≤ time < end of which every channel is a number."""
        parts = [self.streams[name].between(start, end).values for name in names if name in self.streams]
        return not any(np.isfinite(one).all(axis=1).any() for one in parts)

    def without(self, names: Iterable[str]) -> "SignalRecording":
        """The recording as if these sensors had not been worn."""
        gone = set(names)
        return replace(self, streams={name: one for name, one in self.streams.items() if name not in gone})

    def shift(self, seconds: Mapping[str, float], *, known: bool = False) -> "SignalRecording":
        """Streams whose content is found `seconds` later than it happened; their time stamps do not say so.

        Args:
            seconds: stream name → delay; positive: late.
            known: also remember the delays in `known_lags`, as supervision for lag estimation.
        """
        moved = {
            name: replace(one, times=one.times + seconds[name]) if seconds.get(name) else one
            for name, one in self.streams.items()
        }
        lags = {name: self.known_lags.get(name, 0.0) + seconds.get(name, 0.0) for name in self.streams}
        return replace(self, streams=moved, known_lags=lags if known else self.known_lags)


class StreamCollector:
    """The streams of one source, gathered part by part. A part that cannot be used is named and left out, and spoils no other.

        with found.part("eda"):
            found.streams["eda"] = make_stream(…)
        return found.recording()

    Args:
        name: of the source.

    Attributes:
        streams: those that can be used.
        warnings: what is in doubt about them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, Stream] = {}
        self.warnings: list[AnswerWarning] = []
        self._failures: list[RecordingError] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done to read the stream of that name, which is checked afterwards."""
        where = f"{self.name}, stream '{quote(name)}'"
        try:
            with reading(f"{where} cannot be read", RecordingError):
                yield
                if name in self.streams:
                    check_stream(self.streams[name], where)
                    _check_gaps(self.streams[name].times, where)
        except RecordingError as error:
            self.streams.pop(name, None)
            self._failures.append(error)

    def leave_out(self, reason: str) -> None:
        """Name a part that is no stream."""
        self._failures.append(RecordingError(reason))

    def doubt(self, code: str, message: str) -> None:
        """Warn of something; what is said under one code becomes one warning."""
        self.warnings.append(AnswerWarning(code, message))

    def distinct(self, names: Sequence[str], what: str, numbers: Sequence[object] = ()) -> list[str]:
        """The names, each with its number behind it where another is the same, which is said.

        Args:
            names: of streams or channels; one that is empty is called by its number.
            what: they are.
            numbers: of each; by default counted from 1.
        """
        numbers = numbers or range(1, len(names) + 1)
        named = [name or str(number) for name, number in zip(names, numbers, strict=True)]
        made = [f"{n}#{number}" if named.count(n) > 1 else n for n, number in zip(named, numbers, strict=True)]
        for name, short in zip(named, map(quote, made), strict=True):
            if named.count(name) > 1:
                said = f"{self.name}: {named.count(name)} {what} are called '{quote(name)}'; this one is {short}."
                self.doubt("stream_name_twice", f"{said} Choose by streams={{'{quote(name)}': [it]}}.")
        return made

    def recording(self) -> SignalRecording:
        """What was gathered.

        Raises:
            RecordingError: no part could be used, for the reason that the first one has; or there was none; or their clocks do not
                belong together; or all samples are missing.
        """
        if not self.streams and self._failures:
            raise self._failures[0]
        if not self.streams:
            raise RecordingError(
                f"{self.name} holds no signal. Expected at least one stream of numbers. Check that it is the right file."
            )
        if self._failures:
            self.doubt("part_left_out", " ".join(f"Left out: {error}" for error in self._failures))
        recording = SignalRecording(self.streams, name=self.name, warnings=tuple(joined_by_code(self.warnings)))
        check_span(recording)
        return recording


def _span(streams: Iterable[Stream]) -> tuple[float, float]:
    """Times of the first sample of any and of the end, which in a regular stream comes one period after the last sample."""
    filled = [one for one in streams if len(one)]
    start = min((float(one.times[0]) for one in filled), default=0.0)
    return start, max((float(one.times[-1]) + (1 / one.rate if one.rate else 0.0) for one in filled), default=start)


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
    raise RecordingError(
        f"{where}: after sample {at} the clock, {times[at]:.6f} s, {what}. Expected times that increase. "
        f"{_remedy(steps, float(steps[at]))}"
    )


def _remedy(steps: NDArray[np.float64], first: float) -> str:
    """What to do about a clock of these steps, the first of which that does not increase is `first`."""
    again = np.count_nonzero(steps == 0)
    if first == 0 and again > _COARSE * len(steps):
        return (
            f"{again} of {len(steps) + 1} times are those of the sample before, as of a clock in whole seconds, of 32-bit floats, "
            "or of one stamp a packet. Write times with all their digits; or leave them out, and pass the rate."
        )
    if first == 0:
        return "Keep one sample of each moment."
    if abs(first + _HOUR) < _NEAR_HOUR:
        return "It falls by an hour, as local time does when summer time ends: write times in UTC, or with their zone."
    return "If clocks were reset, cut the recording there; if packets came out of order, sort them where they were received."


def estimate_rate(times: NDArray[np.float64]) -> float | None:
    """Samples per second, from the mean step without the gaps; None with fewer than two samples.

    The mean, because the clock may tick in whole milliseconds, and the steps of 128 Hz are then 7 or 8 of them. A step over a
    sample or two that are missing counts as many.
    """
    if len(times) < 2:
        return None
    steps = np.diff(times)
    middle = np.median(steps)
    kept = steps[steps <= _GAP * middle]
    counts = np.rint(kept / middle)
    counts[(counts < 2) | (np.abs(kept / middle - counts) > _NEAR)] = 1
    rate = float(counts.sum() / kept.sum())
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


def _check_gaps(times: NDArray[np.float64], where: str) -> None:
    """Refuse days of which there are samples for minutes."""
    span = float(times[-1] - times[0]) if len(times) else 0.0
    if span < 86400:
        return
    steps = np.diff(times)
    usual = np.sort(steps)[(len(steps) - 1) // 2] if len(steps) > 1 else 0.0  # two times say nothing of what is usual
    covered = float(steps[steps <= 10 * usual].sum())
    if covered < _COVERED * span:
        at = int(np.argmax(steps))
        raise RecordingError(
            f"{where}: it runs over {span / 86400:.1f} days, of which its samples cover {covered:.0f} s; after sample {at}, at "
            f"{times[at]:g} s, the next is at {times[at + 1]:g} s. Expected one recording without such gaps. A time is damaged, or "
            "it is several recordings: cut it there."
        )


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


def has_sample(values: NDArray[np.floating]) -> bool:
    """Whether any of (samples, channels) is a number; a part at a time, because a day of 32 channels is large."""
    return any(np.isfinite(values[first : first + _AT_ONCE]).any() for first in range(0, len(values), _AT_ONCE))


def _quartiles(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of some thousand of the steps between times, evenly taken: quartiles need no more."""
    every = max(1, (len(times) - 1) // _SAMPLE)
    return np.percentile(times[1::every] - times[:-1:every], [25, 50, 75])
