"""What of a recording fits a windower and what is in doubt: names of streams and channels, units, clocks, presence, range.

A modality that was trained says what its channels are called, in which units and at which rate they came, and how they ran
(`Modality.channel_names`, `units`, `trained_on`). A stream is brought into that order and those units where it names its own; where
it names none, that is said. What no sensor gives is refused or left out; what a checkpoint has not seen is answered with a warning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, joined_by_code
from ..errors import RecordingError
from ..recordings.large_arrays import in_blocks
from ..recordings.signal_names import are_names, channel_order, convert, how_to_name, offer, other_units
from ..recordings.signal_recording import SignalRecording, Stream, check_stream, has_sample
from .signal_modalities import Modality, TrainingRange, measure_level
from .signal_presence import FEWEST, doubt_presence, find_flat, mask_unmeasured, some_of

_FASTEST = 20_000.0
"""Hz; no signal of the body is sampled so fast, but any is whose days or hours were taken for seconds."""

_SLOWER, _FASTER = 50.0, 30.0
"""A stream that ticks so many times slower or faster than in training was timed in another unit."""


def fit_stream(stream: Stream, modality: Modality, where: str) -> tuple[Stream, list[AnswerWarning]]:
    """A stream with its modality's channels in the modality's order and units, and what is in doubt about them.

    Raises:
        RecordingError: channels that are named, and are others.
    """
    doubts: list[AnswerWarning] = []
    wanted = modality.channel_names
    if len(wanted) > 1 and stream.values.shape[1] == len(wanted) and stream.channels != wanted:
        order = channel_order(stream.channels, wanted, modality.name) if stream.channels else None
        if order is not None:
            if order != list(range(len(wanted))):
                stream = replace(
                    stream,
                    values=in_blocks(stream.values, lambda rows: rows[:, order]),
                    channels=tuple(stream.channels[place] for place in order),
                    units=tuple(stream.units[place] for place in order) if stream.units else (),
                )
        elif are_names(stream.channels, modality.name):
            raise RecordingError(
                f"{where} has the channels {', '.join(stream.channels)}; expected {', '.join(wanted)}. Name them so, or pass "
                f"streams={{{modality.name!r}: [the channels in that order]}}."
            )
        else:
            doubts.append(
                AnswerWarning(
                    "channels_unnamed",
                    f"{where} does not name its {len(wanted)} channels; they are taken for {', '.join(wanted)} in this order. Name "
                    "them, so that they cannot be mistaken.",
                )
            )
    if stream.units != modality.units and len(stream.units) == len(modality.units) == stream.values.shape[1]:
        units = []
        for unit, to in zip(stream.units, modality.units, strict=True):
            known = not unit or not to or convert(stream.values[:1, 0], unit, to) is not None
            units.append((to if known else unit) if unit else "")
            if not known:
                doubts.append(
                    AnswerWarning(
                        "unit_unknown",
                        f"{where} is in {unit!r}, which cannot be converted to {to}; it is taken as it is. Convert it.",
                    )
                )
        values, given = stream.values, stream.units
        if any(unit and to and _differ(unit, to) for unit, to in zip(given, units, strict=True)):
            values = in_blocks(values, lambda rows: np.stack(_converted(rows, given, units), axis=1))
        stream = replace(stream, values=values, units=tuple(units))
    return stream, doubts


def _converted(rows: NDArray[np.floating], given: Sequence[str], to: Sequence[str]) -> list[NDArray[np.floating]]:
    """The channels of (samples, channels), each in its new unit where both are known."""
    columns = [convert(column, unit, other) for column, unit, other in zip(rows.T, given, to, strict=True)]
    return [column if changed is None else changed for column, changed in zip(rows.T, columns, strict=True)]


def _differ(unit: str, other: str) -> bool:
    """Whether values change from one unit to the other."""
    one = np.ones(1)
    return not np.array_equal(one if (changed := convert(one, unit, other)) is None else changed, one)


def fit_recording(recording: SignalRecording, modalities: Sequence[Modality]) -> SignalRecording:
    """The recording with every modality's stream as `fit_stream` has it, flat ones left out, and its warnings more.

    Raises:
        RecordingError: as of `fit_stream`; a clock that counts in no seconds; no stream that is more than a constant; a
            recording that is too short for any answer.
    """
    if recording.prepared:  # fitted when it was
        return recording
    name = recording.name or "The recording"
    streams, doubts, flat = dict(recording.streams), [], []
    narrow = [
        one
        for one in modalities
        if one.name in streams and streams[one.name].values.shape[1] != one.stream_channels and len(streams[one.name])
    ]
    others = [one for one in modalities if one not in narrow and one.name in streams and len(streams[one.name])]
    if narrow and others:
        text = [
            f"{name}, stream {one.name!r} has {streams[one.name].values.shape[1]} channels, and {one.stream_channels} are read"
            f"{': ' + ', '.join(one.channel_names) if one.channel_names else ''}."
            for one in narrow
        ]
        doubts.append(AnswerWarning("part_left_out", f"Left out: {' '.join(text)}"))
        for one in narrow:
            del streams[one.name]
    for one in modalities:
        stream = streams.get(one.name)
        if stream is None or stream.values.dtype.kind != "f" or not len(stream) or one in narrow:
            continue  # of other channels than are read, which is refused later, nothing can be told
        where = f"{name}, stream {one.name!r}"
        streams[one.name], found = fit_stream(stream, one, where)
        doubts += found
        if text := find_flat(streams[one.name], where):
            flat.append(text)
            del streams[one.name]
            continue
        doubts += doubt_clock(streams[one.name], one, where)
        streams[one.name], found = mask_unmeasured(streams[one.name], one, where)
        doubts += [*found, *doubt_samples(streams[one.name], one, where), *_range(streams[one.name], one, where)]
    held = [one for one in modalities if one.name in streams and has_sample(streams[one.name].values)]
    if flat:
        doubts.append(AnswerWarning("sensor_flat", " ".join(flat)))
    if flat and not held:
        raise RecordingError(f"{' '.join(flat)} Expected a stream that moves. Check that the sensors were on and worn.")
    doubts += doubt_names(recording, modalities)
    _check_duration(replace(recording, streams=streams), held, name)
    return replace(recording, streams=streams, warnings=tuple(joined_by_code([*recording.warnings, *doubts])))


def doubt_clock(stream: Stream, modality: Modality, where: str) -> list[AnswerWarning]:
    """Doubt the unit of time by how fast the samples would come.

    Raises:
        RecordingError: nothing could be made of so slow a stream; or nothing of the body is sampled so fast.
    """
    rate = check_stream(stream, where)
    if rate is None or len(stream) < 3:
        return []
    known = modality.trained_on.rate if modality.trained_on else None
    slowest = modality.sampling_rate / 10 if modality.summary_s is None else 3 / modality.summary_s
    usual = known or (modality.sampling_rate if modality.summary_s is None else None)
    seen = f"{where}: {rate:g} Hz by its times"
    if modality.kind == "regular" and rate < slowest:
        raise RecordingError(
            f"{seen}, for a stream that is read at {usual or slowest:g} Hz. Expected times in seconds; in milliseconds it would be "
            f"{1000 * rate:g} Hz. Convert them, or name the unit (a column time_ms)."
        )
    if rate > _FASTEST:
        raise RecordingError(
            f"{seen}; no signal of the body comes so fast. Expected times in seconds; in minutes it would be {rate / 60:g} Hz, in "
            f"days (MATLAB's datenum) {rate / 86400:g} Hz. Convert them."
        )
    if usual and modality.kind == "regular" and rate < usual / _SLOWER:
        say = f"in milliseconds it would be {1000 * rate:g} Hz"
    elif known and len(stream) / rate < 60 and rate > _FASTER * known:
        say = f"in minutes it would be {rate / 60:g} Hz"
    else:
        return []
    text = f"{seen}, and {usual:g} Hz in training. Expected times in seconds; {say}. Check the unit."
    return [AnswerWarning("time_unit_unlikely", text)]


def range_distance(stream: Stream, trained: TrainingRange) -> NDArray[np.float64]:
    """(channels,) how far a stream's level lies from those of training: 0 within, 1 where the width of their range lies between.

    Spreads count too, by factors: 1 where a channel moves ten times less than any in training, or ten times more.
    """
    values = some_of(stream.values)
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) < FEWEST or values.shape[1] != len(trained.center):
        return np.zeros(len(trained.center))
    centre, scale = measure_level(values)
    low, high = np.array(trained.center).T
    narrow, wide = np.array(trained.scale).T
    level = np.maximum(low - centre, centre - high) / np.maximum(np.maximum(high - low, wide), 1e-12)
    spread = np.log10(np.maximum(np.maximum(narrow, 1e-12) / scale, scale / np.maximum(wide, 1e-12)))
    return np.maximum(np.maximum(level, spread), 0.0)


_FAR = 0.5
"""Distance from which on an input is said to be outside of what training had."""


def _range(stream: Stream, modality: Modality, where: str) -> list[AnswerWarning]:
    trained = modality.trained_on
    distances = np.zeros(1) if trained is None else range_distance(stream, trained)
    if trained is None or distances.max() < _FAR:
        return []
    stream = replace(stream, values=some_of(stream.values), times=some_of(stream.times))
    levels = measure_level(stream.values)
    names = modality.channel_names or tuple(map(str, range(len(distances))))
    units = modality.units or ("",) * len(names)
    far, other_unit = [], []
    for place in np.flatnonzero(distances >= _FAR):
        centre, scale = levels[:, place]
        (low, high), (narrow, wide) = trained.center[place], trained.scale[place]
        far.append(
            f"{names[place]} is at {centre:.3g} ± {scale:.2g}, in training between {low:.3g} and {high:.3g} ± {narrow:.2g} to "
            f"{wide:.2g} {units[place]}".rstrip()
        )
        named = stream.units[place] if stream.units else ""
        for unit in (
            other_units(units[place]) if named in ("", units[place]) else ()
        ):  # of one that nobody converts, say no other
            column = convert(stream.values[:, place], unit, units[place])
            if column is not None:
                values = stream.values.copy()
                values[:, place] = column
                if range_distance(replace(stream, values=values), trained)[place] < _FAR:
                    other_unit.append(f"{names[place]} may be in {unit} instead of {units[place]}")
    if other_unit:
        text = f"{where}: {'; '.join(far)}. {'; '.join(other_unit)}. Convert it, or name its unit."
        return [AnswerWarning("unit_unlikely", text)]
    text = f"{where}: {'; '.join(far)}. Nothing in training was like this. Check sensor, unit and scale."
    return [AnswerWarning("outside_training_range", text)]


def doubt_samples(
    stream: Stream, modality: Modality, where: str, asked: tuple[float, float] = (-np.inf, np.inf)
) -> list[AnswerWarning]:
    """What `doubt_presence` says of a stream; of one that fits in another unit no part need be unworn."""
    said = doubt_presence(stream, modality, where, asked)
    if any(one.code == "sensor_unworn" for one in said) and any(
        one.code == "unit_unlikely" for one in _range(stream, modality, where)
    ):
        said = [one for one in said if one.code != "sensor_unworn"]
    return said


def doubt_beginning(recording: SignalRecording, one: Modality) -> list[AnswerWarning]:
    """What can be told of a stream that goes on by its first samples: its clock, and a unit far from training's.

    How much it moves in one window says nothing of how much it moves in a session.

    Raises:
        RecordingError: as of `check_reference` and `doubt_clock`.
    """
    stream, where = recording.streams[one.name], f"{recording.name}, stream {one.name!r}"
    if find_flat(stream, where):  # of one that stands still there is no level
        return []
    check_reference(recording, [one])
    far = _range(stream, one, where)
    return [*doubt_clock(stream, one, where), *(doubt for doubt in far if doubt.code == "unit_unlikely")]


def doubt_names(recording: SignalRecording, modalities: Sequence[Modality]) -> list[AnswerWarning]:
    """For each stream that is missed, those that are not read and may be it."""
    names = {one.name for one in modalities}
    strange = {name: stream for name, stream in recording.streams.items() if name not in names and len(stream)}
    missing = [one.name for one in modalities if one.name not in recording.streams]
    pairs, silent = offer(missing, {name: (*stream.channels, stream.kind) for name, stream in strange.items()})
    offers = [f"{name!r} may be {one!r}, which is missing: {how_to_name({one: name})}." for name, one in pairs]
    if silent and missing:
        offers.append(
            f"What {', '.join(map(repr, silent))} {'is' if len(silent) == 1 else 'are'}, no name says, and "
            f"{', '.join(map(repr, missing))} {'is' if len(missing) == 1 else 'are'} missing: if one is the other, "
            f"{how_to_name({missing[0]: silent[0]})}, or likewise."
        )
    if not offers:
        return []
    return [AnswerWarning("stream_name_unknown", f"Not read: {', '.join(map(repr, strange))}. {' '.join(offers)}")]


def _check_duration(recording: SignalRecording, held: Sequence[Modality], name: str) -> None:
    """Make sure that some modality has enough of its stream for one value on its grid.

    Raises:
        RecordingError: none has; says how much is there, and how much is needed.
    """
    said = []
    for one in held:
        times = recording.streams[one.name].times
        fewest, needed = (2, 0.0) if one.summary_s is None else (3, one.summary_s / 2)
        rate = recording.streams[one.name].rate or 0.0
        span = len(times) / rate if rate else float(times[-1] - times[0])  # a pause holds nothing
        if len(times) >= fewest and span >= needed * (1 - 1e-6):
            return
        count = f"{len(times)} sample{'s' if len(times) != 1 else ''}"
        least = f"at least {fewest}" if one.summary_s is None else f"at least half of {2 * needed:g} s"
        said.append(f"{one.name} has {count} in {span:g} s, {least} needed")
    if said:
        raise RecordingError(f"{name} is too short: {'; '.join(said)}. Record longer, or check the unit of its times.")


def check_reference(recording: SignalRecording, modalities: Sequence[Modality]) -> None:
    """Make sure that a reference was measured in the units of the recording that it is for.

    Raises:
        RecordingError: in another unit the two would agree, and as they are they do not.
    """
    for one in modalities:
        stream, level = recording.streams.get(one.name), recording.reference.get(one.name)
        if stream is None or level is None or not len(stream):
            continue
        values = some_of(stream.values)
        for place, unit in enumerate(one.units):
            centre, scale = (float(row[place]) for row in np.asarray(level))  # of summaries, means come first
            if (
                one.summary_s is not None and np.shape(level)[1] == one.channels
            ):  # how means spread, and samples about them
                scale = float(np.hypot(scale, np.exp(level[0, 2 * one.stream_channels + place])))
            column = values[:, place : place + 1]
            if not _disagree(column, centre, scale):
                continue
            for other in other_units(unit):
                there, back = convert(column, other, unit), convert(column, unit, other)
                if (
                    there is None
                    or back is None
                    or (_disagree(there, centre, scale) and _disagree(back, centre, scale))
                ):
                    continue
                raise RecordingError(
                    f"{recording.name or 'The recording'}, stream {one.name!r}: its level is {measure_level(column)[0, 0]:.4g} and "
                    f"that of its reference {centre:.4g}; one of them seems to be in {other}. Expected both in {unit}. Measure the "
                    "reference on a recording in the same unit."
                )


def _disagree(values: NDArray[np.floating], centre: float, scale: float) -> bool:
    (own,), (spread,) = measure_level(values)
    factor = max(spread / scale, scale / spread) if scale > 0 else 1.0
    return abs(own - centre) > 5 * max(scale, spread) or factor > 100


def describe_range(recordings_of: Mapping[str, list[Stream]]) -> dict[str, dict[str, object]]:
    """What `Modality` keeps of the streams that it was trained on: `channel_names`, `units`, `trained_on`."""
    found: dict[str, dict[str, object]] = {}
    for name, streams in recordings_of.items():
        levels = np.array([measure_level(one.values) for one in streams])  # (recordings, 2, channels)
        rates = [one.rate for one in streams if one.rate]
        low, high = levels.min(axis=0), levels.max(axis=0)
        pairs = np.stack([low, high], axis=-1)  # (2, channels, 2)
        entry: dict[str, object] = {
            "trained_on": {
                "rate": float(np.median(rates)) if rates else None,
                "center": [[float(f"{end:.4g}") for end in pair] for pair in pairs[0]],
                "scale": [[float(f"{end:.4g}") for end in pair] for pair in pairs[1]],
            }
        }
        for key, values in (
            ("channel_names", {one.channels for one in streams}),
            ("units", {one.units for one in streams}),
        ):
            if len(values) == 1 and any(next(iter(values))):
                entry[key] = list(next(iter(values)))
        found[name] = entry
    return found
