"""Conditions under which answers to signals are tried: missing sensors, gaps, delays, slow and trembling clocks.

    conditions = signal_conditions(["eeg", "eye", "emg", "ans"])
    one = conditions["delay-unknown/all/1"]
    worse = one.apply(recording, one.generator(dataset="deap", protocol="P2", seed=0, subject="s01", trial="7"))

What is wrong with a sensor or its clock is wrong throughout a recording, before it is filtered, put on a grid and cut: delays, slow
and trembling clocks change the recording, and what a model is shown of it follows. Missing sensors and gaps come and go: they are
drawn window by window, and taken from the clips. See `condition_draws.py` for the random numbers.

This file knows the grids of conditions; `processing/signal_changes.py` knows what the faults are.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..errors import ConfigurationError
from ..processing.signal_changes import arrive_late, jitter, lose_between, slow_down
from ..recordings.signal_recording import SignalRecording
from .condition_draws import Change, Condition, condition_generator

__all__ = ["Condition", "condition_generator", "realised_missing_rate", "signal_conditions"]

MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BLOCK_RATES = (0.0, 0.1, 0.3, 0.5, 0.7)
BLOCK_S = 0.5
DELAYS_S = (0.0, 0.25, 0.5, 1.0, 2.0)
DECIMATIONS = (1, 2, 4, 8)
JITTERS_S = (0.0, 0.010, 0.050)

_BLOCKS_AROUND_S = 4.0
"""Gaps are drawn so far beyond a window too, for models that look at its surroundings."""


def signal_conditions(streams: Sequence[str]) -> dict[str, Condition]:
    """All conditions for recordings of these streams, by name.

    Families: `present` (every subset), `missing` and `blocks` (rate) of clips; `delay-unknown/…` and `delay-known/…` (seconds;
    of all streams, and of each by itself), `decimation` (factor) and `jitter` (seconds) of recordings; `combined` of both.

    Args:
        streams: the modalities, in the windower's order.

    Raises:
        ConfigurationError: no stream, or one twice.
    """
    names = list(streams)
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(f"streams is {names}; expected the name of each modality once.")
    drawn = sorted(names)  # so that faults do not depend on the order in which a method takes its modalities
    found: list[Condition] = []

    def add(
        family: str,
        value: float | str,
        *,
        apply: Change | None = None,
        to_clip: Change | None = None,
        draws: str = "",
        unit: str = "",
        unchanged: bool = False,
        delays: bool = False,
    ) -> None:
        text = f"{value:g}" if isinstance(value, int | float) else value
        found.append(
            Condition(f"{family}/{text}", family, value, apply, draws or family, unit, unchanged, to_clip, delays)
        )

    for size in range(len(names), 0, -1):
        for chosen in itertools.combinations(names, size):
            add("present", "+".join(chosen), to_clip=partial(_keep_only, names=chosen), unchanged=size == len(names))
    for rate in MISSING_RATES:
        missing = partial(_miss, names=drawn, rate=rate)
        add("missing", rate, to_clip=missing, unit="share of the streams", unchanged=rate == 0)
    for rate in BLOCK_RATES:
        torn = partial(_tear, names=drawn, rate=rate)
        add("blocks", rate, to_clip=torn, unit="share of the time", unchanged=rate == 0)
    for delay in DELAYS_S:
        for whose in ("all", *names):
            for known in (False, True):
                late = partial(_delay, names=drawn if whose == "all" else [whose], seconds=delay, known=known)
                family = f"delay-{'known' if known else 'unknown'}/{whose}"
                draws = f"delay/{whose}"
                add(family, delay, apply=late, draws=draws, unit="s", unchanged=delay == 0, delays=not known)
    for factor in DECIMATIONS:
        slow = partial(_slow, names=drawn, factor=factor)
        add("decimation", factor, apply=slow, unit="factor", unchanged=factor == 1)
    for deviation in JITTERS_S:
        trembling = partial(_tremble, names=drawn, deviation=deviation)
        add("jitter", deviation, apply=trembling, unit="s", unchanged=deviation == 0)
    add(
        "combined",
        "missing 0.5, blocks 0.3, delay 1",
        delays=True,
        apply=partial(_delay_apart, names=drawn, seconds=1.0),
        to_clip=partial(_chain, parts=(partial(_miss, names=drawn, rate=0.5), partial(_tear, names=drawn, rate=0.3))),
    )
    return {one.name: one for one in found}


def realised_missing_rate(recordings: Iterable[SignalRecording], streams: Sequence[str]) -> float:
    """Share of streams that are absent: what to write on the axis, since one stream always stays."""
    present = [sum(name in one.streams for name in streams) / len(streams) for one in recordings]
    return 1.0 - float(np.mean(present)) if present else 0.0


# What follows is bound to its parameters by functools.partial and not by closures, which no other process could be handed.


def _keep_only(recording: SignalRecording, generator: np.random.Generator, names: Sequence[str]) -> SignalRecording:
    return recording.without(set(recording.streams) - set(names))


def _miss(
    recording: SignalRecording, generator: np.random.Generator, names: Sequence[str], rate: float
) -> SignalRecording:
    """Every stream missing with one chance, and one kept of those that are there."""
    draw, order = generator.random(len(names)), generator.permutation(len(names))
    gone = {name for name, one in zip(names, draw, strict=True) if one < rate}
    there = [names[index] for index in order if names[index] in recording.streams]
    if there and gone.issuperset(there):
        gone.discard(there[0])
    return recording.without(gone)


def _tear(
    recording: SignalRecording, generator: np.random.Generator, names: Sequence[str], rate: float
) -> SignalRecording:
    """Every half second of every stream lost with one chance."""
    around = round(_BLOCKS_AROUND_S / BLOCK_S)
    inside = int(np.ceil(recording.seconds / BLOCK_S - 1e-6))
    lost = generator.random((len(names), inside + 2 * around)) < rate
    starts = recording.start + BLOCK_S * (np.arange(lost.shape[1]) - around)
    gaps = {
        name: [(float(start), float(start) + BLOCK_S) for start in starts[row]]
        for name, row in zip(names, lost, strict=True)
    }
    return lose_between(recording, gaps)


def _delay(
    recording: SignalRecording,
    generator: np.random.Generator,
    names: Sequence[str],
    seconds: float,
    known: bool = False,
) -> SignalRecording:
    """Each stream late or early by that much. Unknown: time stamps are wrong, and only `known_lags` remembers, for scoring."""
    signs = np.where(generator.random(len(names)) < 0.5, -1.0, 1.0)
    lags = {name: float(sign) * seconds for name, sign in zip(names, signs, strict=True)}
    return arrive_late(recording, lags, corrected=known)


def _delay_apart(
    recording: SignalRecording, generator: np.random.Generator, names: Sequence[str], seconds: float
) -> SignalRecording:
    """`_delay` by numbers other than those by which the first clip's streams fall: the two would go together."""
    return _delay(recording, generator.spawn(1)[0], names, seconds)


def _slow(
    recording: SignalRecording, generator: np.random.Generator, names: Sequence[str], factor: int
) -> SignalRecording:
    return slow_down(recording, dict.fromkeys(names, factor))


def _tremble(
    recording: SignalRecording, generator: np.random.Generator, names: Sequence[str], deviation: float
) -> SignalRecording:
    """Every stream's time stamps with noise."""
    streams = dict(recording.streams)
    for name in names:
        if name in streams:
            streams[name] = jitter(streams[name], deviation, generator)
    return replace(recording, streams=streams)


def _chain(recording: SignalRecording, generator: np.random.Generator, parts: Iterable[Change]) -> SignalRecording:
    for part in parts:
        recording = part(recording, generator)
    return recording
