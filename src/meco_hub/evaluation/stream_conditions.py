"""Conditions of eye clips (those of pictures, on the frames; a camera that fails or lags) and, below, of signals.

    conditions = clip_conditions()
    worse = conditions["hdr/4"].apply(clip, np.random.default_rng(0))

An event camera sees changes of light and not light, so that what spoils frames leaves events as they are. Pictures are changed
when they are decoded; what happens to a time step depends on its number and not on which others are read.

Families, beside those of `image_conditions.py`: `missing` (frames, events: the clip has no such stream; a model that needs both has
no answer then, which is reported), `frames_missing` and `events_missing` (share of the time steps at which that camera delivered
nothing: a black frame, a picture without events; 1 is a camera that fails, unnoticed), `event_noise` (share of the pixels with a
false event, per time step), `time_offset` (time steps by which the events are late).
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigurationError
from ..processing.signal_augmentation import arrive_late, jitter, lose_between, slow_down
from ..recordings.event_recording import EventRecording
from ..recordings.eye_clips import STREAMS, EyeClip
from ..recordings.pictures import Pictures
from ..recordings.signal_recording import SignalRecording
from .image_conditions import FAULTS, Condition, Random, spoil

MISSING_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FALSE_EVENT_SHARES = (0.0, 0.005, 0.02, 0.05, 0.1)
OFFSET_STEPS = (0.0, 1.0, 2.0, 4.0, 8.0)


def clip_conditions() -> dict[str, Condition]:
    """All conditions for eye clips, by name."""
    found: list[Condition] = []

    def add(family: str, unit: str, value: float | str, apply: Callable[..., EyeClip]) -> None:
        found.append(Condition(family, value, unit, _leave if value == 0 else apply, unchanged=value == 0))

    for family, fault in FAULTS.items():
        for value in () if fault.of_faces else fault.values:
            add(family, fault.unit, value, partial(_spoil_frames, change=fault.change, value=value))
    for stream in STREAMS:
        add("missing", "", stream, partial(_without, stream=stream))
    for value in MISSING_SHARES:
        add("frames_missing", "share of the time steps", value, partial(_lose_frames, share=value))
        add("events_missing", "share of the time steps", value, partial(_lose_events, share=value))
    for value in FALSE_EVENT_SHARES:
        add("event_noise", "share of the pixels", value, partial(_add_events, share=value))
    for value in OFFSET_STEPS:
        add("time_offset", "time steps", value, partial(_delay_events, steps=int(value)))
    return {one.name: one for one in found}


# What a time step suffers is drawn from the seed and its number, and so does not depend on the order of reading.


def _seed(generator: Random) -> int:
    return int(generator.integers(2**63))


def _spoil_frames(clip: EyeClip, generator: Random, change: Callable[..., Image.Image], value: float) -> EyeClip:
    return clip.change_frames(partial(_spoil_one, seed=_seed(generator), change=change, value=value))


def _spoil_one(
    picture: Image.Image, step: int, seed: int, change: Callable[..., Image.Image], value: float
) -> Image.Image:
    scene, sensor = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1, step])
    return spoil(picture, scene, sensor, change, value)


def _leave(clip: EyeClip, generator: Random) -> EyeClip:
    return clip


def _without(clip: EyeClip, generator: Random, stream: str) -> EyeClip:
    return clip.without([stream])


def _lose_frames(clip: EyeClip, generator: Random, share: float) -> EyeClip:
    lost = generator.random(len(clip)) < share
    return clip.change_frames(partial(_black_where, lost=lost))


def _lose_events(clip: EyeClip, generator: Random, share: float) -> EyeClip:
    lost = generator.random(len(clip)) < share
    if isinstance(clip.events, EventRecording):
        # every event belongs to the next frame, those after the last one to the last
        owner = np.minimum(np.searchsorted(_times(clip), clip.events.t, side="right"), len(clip) - 1)
        keep = ~lost[owner]
        # without a single event it would be no recording; one, on the frames' clock, is as near as can be
        if not keep.any():
            keep[min(int(np.searchsorted(clip.events.t, _times(clip)[0])), len(keep) - 1)] = True
        kept = {axis: getattr(clip.events, axis)[keep] for axis in "xytp"}
        return replace(clip, events=replace(clip.events, **kept))
    return clip.change_events(partial(_empty_where, lost=lost))


def _add_events(clip: EyeClip, generator: Random, share: float) -> EyeClip:
    seed = _seed(generator)
    if isinstance(clip.events, EventRecording):
        return replace(clip, events=_with_false_events(clip, clip.events, np.random.default_rng(seed), share))
    return clip.change_events(partial(_sprinkle, seed=seed, share=share))


def _delay_events(clip: EyeClip, generator: Random, steps: int) -> EyeClip:
    if clip.events is None:
        return clip
    if isinstance(clip.events, EventRecording):
        step_us = round(float(np.median(np.diff(_times(clip))))) if len(clip) > 1 else 0
        # no further than the clocks still overlap
        most = max(0, int(_times(clip)[-1]) - int(clip.events.t[0]))
        return replace(clip, events=clip.events.shift(min(steps * step_us, most)))
    return replace(clip, events=_Late(clip.events, steps))


class _Late(Pictures):
    """Each picture some steps later; until the first one comes, it stands there already."""

    def __init__(self, inner: Pictures, steps: int) -> None:
        self._inner, self._steps = inner, steps

    def __len__(self) -> int:
        return len(self._inner)

    def read(self, places: Sequence[int]) -> list[Image.Image]:
        self._check(places)
        return self._inner.read([max(0, place - self._steps) for place in places])


def _times(clip: EyeClip) -> NDArray[np.int64]:
    return np.asarray(clip.frame_times)


def _black_where(picture: Image.Image, step: int, lost: NDArray[np.bool_]) -> Image.Image:
    return Image.new(picture.mode, picture.size) if lost[step] else picture


def _empty_where(picture: Image.Image, step: int, lost: NDArray[np.bool_]) -> Image.Image:
    """Nothing but the ground: events are few, so the median is what no event looks like."""
    if not lost[step]:
        return picture
    values = np.asarray(picture)
    ground = np.median(values, axis=(0, 1)).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(ground, values.shape).copy())


def _sprinkle(picture: Image.Image, step: int, seed: int, share: float) -> Image.Image:
    """False events in the colours that true ones have here; of a picture without any, black and white."""
    generator = np.random.default_rng([seed, step])
    values = np.array(picture)
    flat = values.reshape(-1, values.shape[-1] if values.ndim == 3 else 1)
    away = np.abs(flat.astype(np.int16) - np.median(flat, axis=0)).max(axis=1)
    seen = flat[away > 64]
    colours = seen if len(seen) else np.array([[0], [255]], np.uint8).repeat(flat.shape[1], axis=1)
    struck = np.flatnonzero(generator.random(len(flat)) < share)
    flat[struck] = colours[generator.integers(len(colours), size=len(struck))]
    return Image.fromarray(flat.reshape(values.shape))


def _with_false_events(clip: EyeClip, events: EventRecording, generator: Random, share: float) -> EventRecording:
    """As many per time step as the share of the sensor's pixels says, anywhere, at any time, of either polarity."""
    width, height = events.width or int(events.x.max()) + 1, events.height or int(events.y.max()) + 1
    count = round(share * width * height * len(clip))
    first, last = int(events.t[0]), int(events.t[-1])
    x = np.concatenate([events.x, generator.integers(width, size=count).astype(np.uint16)])
    y = np.concatenate([events.y, generator.integers(height, size=count).astype(np.uint16)])
    t = np.concatenate([events.t, generator.integers(first, last + 1, size=count)])
    p = np.concatenate([events.p, generator.integers(2, size=count).astype(np.uint8)])
    order = np.argsort(t, kind="stable")
    return replace(events, x=x[order], y=y[order], t=t[order], p=p[order])


# --- Signal conditions ------------------------------------------------------------------------------------------------
# Conditions under which answers to signals are tried: missing sensors, gaps, delays, slow and trembling clocks.
#
#     conditions = signal_conditions(["eeg", "eye", "emg", "ans"])
#     one = conditions["delay-unknown/all/1"]
#     worse = one.apply(recording, one.generator(dataset="deap", protocol="P2", seed=0, subject="s01", trial="7"))
#
# What is wrong with a sensor or its clock is wrong throughout a recording, before it is filtered, put on a grid and cut:
# delays, slow and trembling clocks change the recording, and what a model is shown of it follows. Missing sensors and gaps
# come and go: they are drawn window by window, and taken from the clips.


MISSING_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BLOCK_RATES = (0.0, 0.1, 0.3, 0.5, 0.7)
BLOCK_S = 0.5
DELAYS_S = (0.0, 0.25, 0.5, 1.0, 2.0)
DECIMATIONS = (1, 2, 4, 8)
JITTERS_S = (0.0, 0.010, 0.050)

_BLOCKS_AROUND_S = 4.0
"""Gaps are drawn so far beyond a window too, for models that look at its surroundings."""


def signal_conditions(streams: Sequence[str], corpus: Sequence[str] = ()) -> dict[str, Condition]:
    """All conditions for recordings of these streams, by name.

    What goes missing, gets gaps or comes late is drawn over the corpus's streams, whichever of them a model reads: two models lose
    the same sensors in the same windows, and one that reads a single sensor loses it as often as another loses that sensor.

    Families: `present` (every subset of the model's), `without` (one of the corpus's), `missing` and `blocks` (rate) of clips;
    `delay-unknown/…` and `delay-known/…` (seconds; of all streams, and of each by itself), `decimation` (factor) and `jitter`
    (seconds) of recordings; `combined` of both.

    Args:
        corpus: the streams of the corpus; none: it has those of the model.
    """
    names = list(streams)
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(f"streams is {names}; expected the name of each modality once.")
    # so that faults depend neither on the order in which a method takes its modalities, nor on how many it takes
    drawn = sorted({*names, *corpus})
    found: list[Condition] = []
    for size in range(len(names), 0, -1):
        for chosen in itertools.combinations(names, size):
            keep = partial(_keep_only, names=chosen)
            found.append(Condition("present", "+".join(chosen), apply_to_clip=keep, unchanged=size == len(names)))
    for name in ("nothing", *drawn):
        lose = partial(_lose_one, name=name)
        found.append(Condition("without", name, apply_to_clip=lose, unchanged=name == "nothing"))
    for rate in MISSING_RATES:
        drop = partial(_drop_streams, names=drawn, rate=rate)
        found.append(Condition("missing", rate, "share of the streams", apply_to_clip=drop, unchanged=rate == 0))
    for rate in BLOCK_RATES:
        drop = partial(_drop_blocks, names=drawn, rate=rate)
        found.append(Condition("blocks", rate, "share of the time", apply_to_clip=drop, unchanged=rate == 0))
    for delay, whose, known in itertools.product(DELAYS_S, ("all", *names), (False, True)):
        late = partial(_delay, names=drawn if whose == "all" else [whose], seconds=delay, known=known)
        family, draws = f"delay-{'known' if known else 'unknown'}/{whose}", f"delay/{whose}"
        found.append(Condition(family, delay, "s", late, unchanged=delay == 0, draws=draws, delays=not known))
    for factor in DECIMATIONS:
        slow = partial(_slow, names=drawn, factor=factor)
        found.append(Condition("decimation", factor, "factor", slow, unchanged=factor == 1))
    for deviation in JITTERS_S:
        shake = partial(_jitter_clocks, names=drawn, deviation=deviation)
        found.append(Condition("jitter", deviation, "s", shake, unchanged=deviation == 0))
    drops = (partial(_drop_streams, names=drawn, rate=0.5), partial(_drop_blocks, names=drawn, rate=0.3))
    found.append(
        Condition(
            "combined",
            "missing 0.5, blocks 0.3, delay 1",
            apply=partial(_delay_apart, names=drawn, seconds=1.0),
            apply_to_clip=partial(_apply_in_turn, parts=drops),
            delays=True,
        )
    )
    return {one.name: one for one in found}


# What follows is bound to its parameters by functools.partial and not by closures, which no other process could be handed.


def _keep_only(
    recording: SignalRecording, generator: Random, there: Collection[str] | None = None, *, names: Sequence[str]
) -> SignalRecording:
    return recording.without(set(recording.streams) - set(names))


def _lose_one(
    recording: SignalRecording, generator: Random, there: Collection[str] | None = None, *, name: str
) -> SignalRecording:
    return recording.without([name])


def _drop_streams(
    recording: SignalRecording,
    generator: Random,
    there: Collection[str] | None = None,
    *,
    names: Sequence[str],
    rate: float,
) -> SignalRecording:
    """Every stream missing with one chance, and one kept of those that are there, which a model need not read."""
    draw, order = generator.random(len(names)), generator.permutation(len(names))
    gone = {name for name, one in zip(names, draw, strict=True) if one < rate}
    recorded = recording.streams if there is None else there
    kept = [names[index] for index in order if names[index] in recorded]
    if kept and gone.issuperset(kept):
        gone.discard(kept[0])
    return recording.without(gone)


def _drop_blocks(
    recording: SignalRecording,
    generator: Random,
    there: Collection[str] | None = None,
    *,
    names: Sequence[str],
    rate: float,
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
    recording: SignalRecording, generator: Random, names: Sequence[str], seconds: float, known: bool = False
) -> SignalRecording:
    """Each stream late or early by that much. Unknown: time stamps are wrong, and only `known_lags` remembers, for scoring."""
    signs = np.where(generator.random(len(names)) < 0.5, -1.0, 1.0)
    lags = {name: float(sign) * seconds for name, sign in zip(names, signs, strict=True)}
    return arrive_late(recording, lags, corrected=known)


def _delay_apart(
    recording: SignalRecording, generator: Random, names: Sequence[str], seconds: float
) -> SignalRecording:
    """`_delay` by numbers other than those by which the first clip's streams fall: the two would go together."""
    return _delay(recording, generator.spawn(1)[0], names, seconds)


def _slow(recording: SignalRecording, generator: Random, names: Sequence[str], factor: int) -> SignalRecording:
    return slow_down(recording, dict.fromkeys(names, factor))


def _jitter_clocks(
    recording: SignalRecording, generator: Random, names: Sequence[str], deviation: float
) -> SignalRecording:
    """Every stream's time stamps with noise."""
    streams = dict(recording.streams)
    for name in names:
        if name in streams:
            streams[name] = jitter(streams[name], deviation, generator)
    return replace(recording, streams=streams)


def _apply_in_turn(
    recording: SignalRecording,
    generator: Random,
    there: Collection[str] | None = None,
    *,
    parts: Iterable[Callable[..., SignalRecording]],
) -> SignalRecording:
    for part in parts:
        recording = part(recording, generator, there)
    return recording
