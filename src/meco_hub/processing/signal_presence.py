"""What of a stream no sensor gave that was on and worn: it is masked as missing, or said.

    a constant stream                    left out                       sensor_flat
    a stretch that stands still          masked                         sensor_flat_in_part
    drops to exactly 0                   masked                         sensor_flat_in_part
    sentinels, far from the rest         masked                         sensor_flat_in_part
    one channel that stands still        said, as the others measure    channel_flat
    values held at one end of the range  said                           sensor_saturated
    values that no worn sensor has       said                           sensor_unworn

The last three are said of a recording that goes on by its last ten minutes, in windows that have such samples themselves.

How long a stretch must be depends on the stream: a temperature in steps of 0.02 °C stands still for seconds, a heart rate in whole
beats a minute too. Of the 27 people of Stress-Predict and the 24 of CASE nothing is masked; their longest stretch lasts 17 s.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, joined_by_code
from ..recordings.large_arrays import blocks_of, in_blocks
from ..recordings.signal_names import convert, other_units
from ..recordings.signal_recording import Stream
from .signal_modalities import Modality

FEWEST = 16
"""Samples from which on a constant one is a sensor that is off, and a range is one."""

_ENOUGH = 4096
"""Samples that a level is measured on."""

STILL_S, _SHORTEST_STILL_S = 30.0, 10.0
"""Seconds for which a stream stands still that no longer measures: a tenth of a short recording, within these two."""

_REMEMBERED, _REMEMBERED_S, _REMEMBERED_ROWS = 64, 600.0, 2**13
"""Of a stream that goes on: stretches; seconds, and about how many samples of them."""

_USUAL_TIMES = 10.0
"""A stretch, or a step down to 0, is unlike the others where it is so many times as long, or as high, as nearly all of them."""

_SHORTEST_DROP_S = 1.0
"""Of a stretch of zeros that is told by its length alone."""

_DROPS = 0.002
"""Share of samples that are 0 from which on they are looked at; a watch that starts gives some."""

_CHANNEL_STILL = 0.2
"""Share of a stream's time for which one channel stands still, in stretches: an arm lies still for minutes, too."""

_COARSE = 8
"""Different values; of fewer, many samples are at one end whatever was measured."""

_SATURATED, _SATURATED_TIMES = 0.02, 3.0
"""Share of samples at one end of the range, or at 0, and how many times the share of any value that must be."""

_UNWORN = 0.1
"""Share of samples."""

_WORN = {
    "eda": (0.05, 100.0),  # µS; the lower limit is that of Kleckner et al. 2018, IEEE Trans Biomed Eng 65(7)
    "tonic": (0.05, 100.0),
    "temp": (25.0, 45.0),  # °C; a room is colder
    "hr": (25.0, 250.0),
    "ihr": (25.0, 250.0),
    "ibi": (0.24, 2.4),
}
"""Modality or channel, in its usual unit → what a worn sensor gives."""

_SPARE = 0.2
"""Of the range of training, beyond it, where training itself was outside the limits: of 20 people one is beyond the 19 others. Of
CASE's 24, whose fingers have 22 to 35 °C, one has 20."""

_FINEST = 1e-12

_SENTINELS = np.array([-99999.0, -9999.0, -999.0, 9999.0, 99999.0])
"""What programs write where they have no value; in the unit of the file, which may have been converted since."""

_UNWORN_SENTINELS = np.array([-99.0, -1.0, 255.0, 999.0, 4095.0, 32767.0, -32768.0, 65535.0])
"""Likewise, of values that no worn sensor gives anyway."""

_SENTINEL_TIMES, _REPEATED_TIMES, _SINGLE_TIMES = 2.0, 10.0, 1000.0
"""How many times further from all other values than those are from each other: a signal that swings so far may be at -999. Of a
value that is no known sentinel, where it comes again; where it does not."""

_REPEATED, _FEWEST_OTHERS, _SENTINELS_AT_ONCE = 3, 3, 4
"""Samples of a value that nobody knows; others beside one that is known; different sentinels."""


def some_of(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Some thousand rows, evenly taken: levels need no more."""
    return values[:: max(1, len(values) // _ENOUGH)]


def constant_of(values: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """(channels,) the one value of each channel; None where one moves, or there are too few samples to say."""
    for some in (some_of(values), values):  # most move, and a day is long
        real = some[np.isfinite(some).all(axis=1)]
        if len(real) < min(FEWEST, len(values)) or not (real == real[0]).all():
            return None
    return real[0] if len(real) >= FEWEST else None


@dataclass(frozen=True)
class Past:
    """What a stream that goes on was like before the samples that are kept of it.

    Attributes:
        began: time of its very first sample; None: nothing is forgotten.
        since, count: from when on, and for how many samples that are forgotten, it has had the value of the first that is kept.
        lengths: samples of the latest stretches of one value before that.
        values: (2, channels) smallest and largest value of all that is forgotten.
        seen: some samples of the last minutes that are forgotten, evenly taken, NaN where they were masked.
    """

    began: float | None = None
    since: float = 0.0
    count: int = 0
    lengths: tuple[int, ...] = ()
    values: NDArray[np.floating] | None = None
    seen: Stream | None = None

    def seen_with(self, measured: Stream) -> Stream:
        """What is remembered of the last minutes, and what comes next of the stream, NaN where it is masked."""
        if not len(measured):
            return self.seen or measured
        span = max(float(measured.times[-1] - measured.times[0]), 1e-9)
        every = max(1, int(_REMEMBERED_S / span * len(measured)) // _REMEMBERED_ROWS)
        some = replace(measured, values=measured.values[::every], times=measured.times[::every])
        if self.seen is None:
            return some
        before = self.seen.between(measured.times[-1] - _REMEMBERED_S, np.inf)
        values = before.values.copy()
        if self.count and not np.isfinite(measured.values[0]).all():  # it stood still before it was known to
            values[before.times >= self.since] = np.nan
        return replace(
            some, values=np.concatenate([values, some.values]), times=np.concatenate([before.times, some.times])
        )

    def forgetting(self, stream: Stream, measured: Stream, first: int) -> "Past":
        """The same once the samples before `first` are forgotten of what is kept, `measured` where it is masked."""
        if not first:
            return self
        begins, lengths = _stretches(_changes(stream.values))
        at = int(np.searchsorted(begins, first, side="right")) - 1
        started = self.since if at == 0 and self.count else float(stream.times[begins[at]])
        before = [*self.lengths, *([int(lengths[0]) + self.count] if at else []), *lengths[1:at].tolist()]
        gone = stream.values[:first]
        gone = gone[np.isfinite(gone).all(axis=1)]
        ends = [
            *([] if self.values is None else [self.values]),
            *([gone.min(axis=0), gone.max(axis=0)] if len(gone) else []),
        ]
        known = np.vstack(ends) if ends else None
        return Past(
            float(stream.times[0]) if self.began is None else self.began,
            started,
            first - int(begins[at]) + (self.count if at == 0 else 0),
            tuple(before[-_REMEMBERED:]),
            None if known is None else np.stack([known.min(axis=0), known.max(axis=0)]),
            self.seen_with(replace(measured, values=measured.values[:first], times=measured.times[:first])),
        )


def find_flat(stream: Stream, where: str, past: Past | None = None, enough: float = 0.0) -> str:
    """What is said of a stream that is constant all the time; nothing of any other.

    Args:
        stream: what is kept of it.
        where: what the text calls it.
        past: of a stream that goes on, what is forgotten.
        enough: seconds that it must have lasted.
    """
    constant = constant_of(stream.values)
    past = past or Past()
    if constant is None or (past.values is not None and not (past.values == constant).all()):
        return ""
    if stream.times[-1] - (stream.times[0] if past.began is None else past.began) < enough:
        return ""
    return f"{where} is {', '.join(f'{value:g}' for value in constant)} all the time, which no worn sensor gives; it is left out."


def mask_unmeasured(
    stream: Stream, modality: Modality, where: str, past: Past | None = None
) -> tuple[Stream, list[AnswerWarning]]:
    """The stream with NaN where it stands still, drops to 0 or is a sentinel, and what is said of it.

    Args:
        stream: as it was recorded, in the modality's channels and units.
        modality: that it is for.
        where: what warnings call it.
        past: of a stream that goes on, what is forgotten.
    """
    past = past or Past()
    if not len(stream):
        return stream, []
    stream, said = _mask_sentinels(stream, modality, where)
    if len(stream) + past.count < FEWEST:
        return stream, said
    if not np.isfinite(stream.values[0]).all():  # what is forgotten was a sentinel, too
        past = replace(past, count=0)
    still, more = _mask_still(stream, modality, where, past)
    return still, joined_by_code([*said, *more])


def _mask_sentinels(stream: Stream, modality: Modality, where: str) -> tuple[Stream, list[AnswerWarning]]:
    """Samples at which a channel has a value that stands for none, and that lies far from all that it has otherwise."""
    units = modality.units if len(modality.units) == stream.values.shape[1] else ("",) * stream.values.shape[1]
    masked = np.zeros(len(stream), np.bool_)
    seen: set[float] = set()
    for channel, (column, unit) in enumerate(zip(stream.values.T, units, strict=True)):
        limits = _limits(modality, channel, stream.values.shape[1])
        ends = np.array([np.fmin.reduce(column), np.fmax.reduce(column)])
        some = some_of(column[:, None])
        some = some[np.isfinite(some) & ~np.isin(some, ends)]
        if len(some):
            least = min(_needed(float(one), unit, limits) for one in ends)
            if not (np.abs(ends - np.median(some)) > least * np.ptp(some)).any():  # as nearly always, and a day is long
                continue
        rest = column[np.isfinite(column)]
        for _ in range(_SENTINELS_AT_ONCE):
            if not len(rest):  # of a channel that nothing measured
                break
            gone = [one for one in (rest.min(), rest.max()) if _stands_for_none(float(one), rest, unit, limits)]
            if not gone:
                break
            seen |= set(map(float, gone))
            masked |= np.isin(column, gone)
            rest = rest[~np.isin(rest, gone)]
    if not seen:
        return stream, []
    values = in_blocks(stream.values, lambda rows: rows)
    values[masked] = np.nan
    text = (
        f"{where} is {', '.join(f'{one:g}' for one in sorted(seen))} in {int(masked.sum())} of its {len(stream)} samples, far from "
        "all others, as where a program had no value; they are masked."
    )
    return replace(stream, values=values), [AnswerWarning("sensor_flat_in_part", text)]


def _needed(value: float, unit: str, limits: tuple[float, float] | None) -> float:
    """How many times further than all others are from each other a value must lie from them to stand for none."""
    in_others = (convert(np.array([value]), unit, other) for other in other_units(unit))
    written = [value, *(float(one[0]) for one in in_others if one is not None)]
    unworn = limits is not None and not limits[0] <= value <= limits[1]
    for known, times in ((_SENTINELS, _SENTINEL_TIMES), (_UNWORN_SENTINELS if unworn else (), 0.0)):
        if any(np.isclose(one, known, rtol=1e-6, atol=0).any() for one in written):
            return times
    return _REPEATED_TIMES


def _stands_for_none(value: float, values: NDArray[np.floating], unit: str, limits: tuple[float, float] | None) -> bool:
    """Whether the least or the greatest of the values is none."""
    needed, rest = _needed(value, unit, limits), values[values != value]
    for end in (float(values.min()), float(values.max())):  # of two that are known, each would hide the other
        others = rest[rest != end]
        if len(others) >= _FEWEST_OTHERS and _needed(end, unit, limits) != _REPEATED_TIMES:
            rest = others
    if len(rest) < (FEWEST if needed == _REPEATED_TIMES else _FEWEST_OTHERS):
        return False
    low, high = float(rest.min()), float(rest.max())
    gap = max(low - value, value - high)
    if needed == _REPEATED_TIMES:  # of a value that nobody knows, the others must be a signal
        needed = _REPEATED_TIMES if np.count_nonzero(values == value) >= _REPEATED else _SINGLE_TIMES
        if len(np.unique(some_of(rest[:, None]))) <= _COARSE:
            return False
    return gap > needed * (high - low)


def _mask_still(stream: Stream, modality: Modality, where: str, past: Past) -> tuple[Stream, list[AnswerWarning]]:
    """Stretches that stand still or drop to exactly 0."""
    changed = _changes(stream.values)
    zeros = float((some_of(stream.values)[:, 0] == 0).mean())
    if len(changed) - np.count_nonzero(changed) + past.count < FEWEST - 1 and zeros < _DROPS / 2:
        return stream, []  # as most are, and a day is long
    still = _still(stream, changed, past)
    gone = [*still, *(one for one in _drops(stream, modality, changed) if not any(a <= one[0] < b for a, b in still))]
    doubts = []
    if gone:
        values = in_blocks(stream.values, lambda rows: rows)
        for first, last in gone:
            values[first:last] = np.nan
        count = sum(last - first for first, last in gone)
        shown = ", ".join(
            f"at {', '.join(f'{value:g}' for value in stream.values[first])} from "
            f"{past.since if past.count and not first else stream.times[first]:.1f} to "
            f"{stream.times[last - 1]:.1f} s"
            for first, last in sorted(gone)[:3]
        )
        more = f" and {len(gone) - 3} times more" if len(gone) > 3 else ""
        text = f"{where} stands still {shown}{more}, which no worn sensor gives; {count} of its {len(stream)} samples are masked."
        doubts.append(AnswerWarning("sensor_flat_in_part", text))
        stream = replace(stream, values=values)
    return stream, doubts


def doubt_presence(
    stream: Stream, modality: Modality, where: str, asked: tuple[float, float] = (-np.inf, np.inf)
) -> list[AnswerWarning]:
    """What else is said of a whole stream, of which `mask_unmeasured` has masked what it must.

    Args:
        stream, modality, where: as above.
        asked: seconds from which to which there must be some of it, too.
    """
    concerned = slice(*stream.times.searchsorted(asked))
    return [
        *_still_channels(stream, modality, where, concerned),
        *_saturation(stream, where, concerned),
        *_unworn(stream, modality, where, concerned),
    ]


def _changes(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(samples + 1,) of (samples, channels): whether a row differs from the one before it; so do missing ones, and both ends."""
    changed = np.zeros(len(values) + 1, np.bool_)
    changed[[0, -1]] = True
    for rows in blocks_of(values):
        first = max(1, rows.start)
        changed[first : rows.stop] = (values[first : rows.stop] != values[first - 1 : rows.stop - 1]).any(axis=1)
    return changed


def _stretches(changed: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where stretches of one value begin, and how many samples they have; `changed` is (samples + 1,)."""
    begins = np.flatnonzero(changed)
    return begins[:-1], np.diff(begins)


def _usual(lengths: NDArray[np.int64]) -> float:
    return float(np.percentile(lengths, 90, method="lower"))


def _still(stream: Stream, changed: NDArray[np.bool_], past: Past) -> list[tuple[int, int]]:
    """(first, last + 1) sample of stretches in which nothing changes for so long that nothing was measured."""
    begins, lengths = _stretches(changed)
    ends, starts = begins + lengths, stream.times[begins]
    seconds = float(stream.times[-1] - (stream.times[0] if past.began is None else past.began))
    shortest = min(STILL_S, max(_SHORTEST_STILL_S, seconds / 10))
    if past.count:  # the first stretch began before what is kept
        starts[0] = past.since
        lengths[0] += past.count
    usual = _usual(np.concatenate([np.array(past.lengths, np.int64), lengths]))
    kept = (lengths >= max(FEWEST, _USUAL_TIMES * usual)) & (stream.times[ends - 1] - starts >= shortest)
    return list(zip(begins[kept].tolist(), ends[kept].tolist(), strict=True))


def _drops(stream: Stream, modality: Modality, changed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last + 1) sample of stretches of exactly 0 that are too long, too far from what lies beside them, or never measured.

    Several channels are never all 0 at once; nor is what has a lower limit above 0.
    """
    begins, lengths = _stretches(changed)
    zero = (stream.values[begins] == 0).all(axis=1)
    if not zero.any() or zero.all() or lengths[zero].sum() < _DROPS * len(stream):
        return []
    long = lengths >= max(FEWEST, _SHORTEST_DROP_S * (stream.rate or 0.0), _USUAL_TIMES * _usual(lengths[~zero]))
    rest = stream.values[begins[~zero]]
    rest = rest[np.isfinite(rest).all(axis=1)]
    usual = np.percentile(np.abs(np.diff(_in_a_row(rest), axis=0)), 99, axis=0) if len(rest) > FEWEST else np.inf
    edges = np.flatnonzero(zero[1:] & ~zero[:-1])
    fall = np.abs(stream.values[begins[edges]])
    fall = fall[np.isfinite(fall).all(axis=1)]
    far = bool(len(fall)) and bool((np.median(fall, axis=0) > _USUAL_TIMES * np.maximum(usual, _FINEST)).any())
    never = stream.values.shape[1] > 1 or (_limits(modality, 0, 1) or (0.0,))[0] > 0
    chosen = np.flatnonzero(zero & (long | far | never))
    return [(int(begins[at]), int(begins[at] + lengths[at])) for at in chosen]


def _in_a_row(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Some thousand rows that follow each other, from the middle."""
    first = max(0, (len(values) - _ENOUGH) // 2)
    return values[first : first + _ENOUGH]


def _still_channels(stream: Stream, modality: Modality, where: str, concerned: slice) -> list[AnswerWarning]:
    """Channels that stand still for a good part of the time while others move."""
    count = stream.values.shape[1]
    if count == 1:
        return []
    said, here = [], False
    for channel in range(count):
        one = replace(stream, values=stream.values[:, channel : channel + 1], channels=(), units=())
        finite = np.isfinite(one.values[:, 0])
        still = _still(one, _changes(one.values), Past())
        share = sum(last - first for first, last in still) / max(1, int(finite.sum()))
        constant = constant_of(one.values)
        if constant is not None or share >= _CHANNEL_STILL:
            name = modality.channel_names[channel] if modality.channel_names else f"channel {channel}"
            said.append(f"{name} stands still {'all the time' if constant is not None else f'for {share:.0%} of it'}")
            here |= constant is not None or any(a < concerned.stop and b > concerned.start for a, b in still)
    if not here or len(said) == count:
        return []
    text = f"{where}: {'; '.join(said)}, while other channels move, as of a sensor that is off. Leave the stream out."
    return [AnswerWarning("channel_flat", text)]


def _saturation(stream: Stream, where: str, concerned: slice) -> list[AnswerWarning]:
    column = some_of(stream.values)
    column = column[np.isfinite(column).all(axis=1)]
    if len(column) < FEWEST:
        return []
    held = [column.min(axis=0), column.max(axis=0)]
    held += [np.zeros(1)] if column.shape[1] == 1 else []  # an axis at rest is at 0 for long
    shares = np.max([(column == one).mean(axis=0) for one in held], axis=0)
    different = np.array([len(np.unique(one)) for one in column.T])
    far = (shares >= np.maximum(max(_SATURATED, _COARSE / len(column)), _SATURATED_TIMES / different)) & (
        different > _COARSE
    )
    if not any((far & (stream.values[concerned] == one)).any() for one in held):
        return []
    return [
        AnswerWarning(
            "sensor_saturated",
            f"{where}: {shares[far].max():.0%} of its samples are at one end of its range, or at 0; a sensor at its limit, or not "
            "worn, gives this. Leave those samples out (NaN).",
        )
    ]


def _unworn(stream: Stream, modality: Modality, where: str, concerned: slice) -> list[AnswerWarning]:
    """A good part of the samples is where no worn sensor has them."""
    said, here = [], False
    values = some_of(stream.values)
    for channel in range(values.shape[1]):
        name = modality.channel_names[channel] if modality.channel_names else modality.name
        limits = _limits(modality, channel, values.shape[1])
        column = values[np.isfinite(values[:, channel]), channel]
        other_unit = bool(modality.units and stream.units) and stream.units[channel] not in (
            "",
            modality.units[channel],
        )
        if limits is None or other_unit or len(column) < FEWEST:
            continue
        outside = float(((column < limits[0]) | (column > limits[1])).mean())
        if outside >= _UNWORN:
            asked = stream.values[concerned, channel]
            here |= bool(((asked < limits[0]) | (asked > limits[1])).any())
            said.append(
                f"{outside:.0%} of {name} is not between {limits[0]:g} and {limits[1]:g} {modality.units[channel]}"
            )
    if not here:
        return []
    return [
        AnswerWarning(
            "sensor_unworn",
            f"{where}: {'; '.join(said)}, as of a sensor that is not worn. Leave those samples out (NaN).",
        )
    ]


def _limits(modality: Modality, channel: int, channels: int) -> tuple[float, float] | None:
    """What a worn sensor gives, of a channel whose unit is known; training may have been outside."""
    name = modality.channel_names[channel] if modality.channel_names else modality.name
    limits = _WORN.get(name.lower(), _WORN.get(modality.name) if channels == 1 else None)
    if limits is None or not modality.units:
        return None
    if modality.trained_on is None:
        return limits
    low, high = modality.trained_on.center[channel]
    spare = _SPARE * (high - low)
    return (
        limits[0] if low >= limits[0] else max(low - spare, min(low, low / 2)),  # what is never below 0 stays above it
        limits[1] if high <= limits[1] else high + spare,
    )
