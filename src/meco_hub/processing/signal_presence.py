"""What of a stream no sensor gave that was on and worn: it is masked as missing, or said.

    a constant stream                    left out                       sensor_flat
    a stretch that stands still          masked                         sensor_flat_in_part
    drops to exactly 0                   masked                         sensor_flat_in_part
    one channel that stands still        said, as the others measure    channel_flat
    values held at one end of the range  said                           sensor_saturated
    values that no worn sensor has       said                           sensor_unworn

How long a stretch must be depends on the stream: a temperature in steps of 0.02 °C stands still for seconds, a heart rate in whole
beats a minute too. Of the 27 people of Stress-Predict and the 24 of CASE nothing is masked; their longest stretch lasts 17 s.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..recordings.large_arrays import blocks_of, in_blocks
from ..recordings.signal_recording import Stream
from .signal_modalities import Modality

FEWEST = 16
"""Samples from which on a constant one is a sensor that is off, and a range is one."""

_ENOUGH = 4096
"""Samples that a level is measured on."""

_STILL_S, _SHORTEST_STILL_S = 30.0, 10.0
"""Seconds for which a stream stands still that no longer measures: a tenth of a short recording, within these two."""

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

_SPARE = 0.05
"""Of the range of training, beyond it."""

_FINEST = 1e-12


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


def mask_unmeasured(stream: Stream, modality: Modality, where: str) -> tuple[Stream, list[AnswerWarning]]:
    """The stream with NaN where it stands still or drops to 0, and what is said of it.

    Args:
        stream: as it was recorded, in the modality's channels and units.
        modality: that it is for.
        where: what warnings call it.
    """
    if len(stream) < FEWEST:
        return stream, []
    changed = _changes(stream.values)
    zeros = float((some_of(stream.values)[:, 0] == 0).mean())
    if len(changed) - np.count_nonzero(changed) < FEWEST - 1 and zeros < _DROPS / 2:
        return stream, []  # as most are, and a day is long
    still = _still(stream, changed)
    gone = [*still, *(one for one in _drops(stream, modality, changed) if not any(a <= one[0] < b for a, b in still))]
    doubts = []
    if gone:
        values = in_blocks(stream.values, lambda rows: rows)
        for first, last in gone:
            values[first:last] = np.nan
        count = sum(last - first for first, last in gone)
        shown = ", ".join(
            f"at {', '.join(f'{value:g}' for value in stream.values[first])} from {stream.times[first]:.1f} to "
            f"{stream.times[last - 1]:.1f} s"
            for first, last in sorted(gone)[:3]
        )
        more = f" and {len(gone) - 3} times more" if len(gone) > 3 else ""
        text = f"{where} stands still {shown}{more}, which no worn sensor gives; {count} of its {len(stream)} samples are masked."
        doubts.append(AnswerWarning("sensor_flat_in_part", text))
        stream = replace(stream, values=values)
    return stream, doubts


def doubt_presence(stream: Stream, modality: Modality, where: str) -> list[AnswerWarning]:
    """What else is said of a whole stream, of which `mask_unmeasured` has masked what it must."""
    return [
        *_still_channels(stream, modality, where),
        *_saturation(stream, where),
        *_unworn(stream, modality, where),
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


def _still(stream: Stream, changed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last + 1) sample of stretches in which nothing changes for so long that nothing was measured."""
    begins, lengths = _stretches(changed)
    seconds = float(stream.times[-1] - stream.times[0])
    shortest = min(_STILL_S, max(_SHORTEST_STILL_S, seconds / 10))
    long = np.flatnonzero(lengths >= max(FEWEST, _USUAL_TIMES * _usual(lengths)))
    ends = begins[long] + lengths[long]
    kept = stream.times[ends - 1] - stream.times[begins[long]] >= shortest
    return list(zip(begins[long][kept].tolist(), ends[kept].tolist(), strict=True))


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


def _still_channels(stream: Stream, modality: Modality, where: str) -> list[AnswerWarning]:
    """Channels that stand still for a good part of the time while others move."""
    count = stream.values.shape[1]
    if count == 1:
        return []
    said = []
    for channel in range(count):
        one = replace(stream, values=stream.values[:, channel : channel + 1], channels=(), units=())
        finite = np.isfinite(one.values[:, 0])
        share = sum(last - first for first, last in _still(one, _changes(one.values))) / max(1, int(finite.sum()))
        constant = constant_of(one.values)
        if constant is not None or share >= _CHANNEL_STILL:
            name = modality.channel_names[channel] if modality.channel_names else f"channel {channel}"
            said.append(f"{name} stands still {'all the time' if constant is not None else f'for {share:.0%} of it'}")
    if not said or len(said) == count:
        return []
    text = f"{where}: {'; '.join(said)}, while other channels move, as of a sensor that is off. Leave the stream out."
    return [AnswerWarning("channel_flat", text)]


def _saturation(stream: Stream, where: str) -> list[AnswerWarning]:
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
    if not far.any():
        return []
    return [
        AnswerWarning(
            "sensor_saturated",
            f"{where}: {shares[far].max():.0%} of its samples are at one end of its range, or at 0; a sensor at its limit, or not "
            "worn, gives this. Leave those samples out (NaN).",
        )
    ]


def _unworn(stream: Stream, modality: Modality, where: str) -> list[AnswerWarning]:
    """A good part of the samples is where no worn sensor has them."""
    said = []
    values = some_of(stream.values)
    for channel in range(values.shape[1]):
        name = modality.channel_names[channel] if modality.channel_names else modality.name
        limits = _limits(modality, channel, values.shape[1])
        column = values[np.isfinite(values[:, channel]), channel]
        if limits is None or len(column) < FEWEST:
            continue
        outside = float(((column < limits[0]) | (column > limits[1])).mean())
        if outside >= _UNWORN:
            said.append(
                f"{outside:.0%} of {name} is not between {limits[0]:g} and {limits[1]:g} {modality.units[channel]}"
            )
    if not said:
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
        limits[0] if low >= limits[0] else low - spare,
        limits[1] if high <= limits[1] else high + spare,
    )
