"""Recordings that are drawn for checks: faces, eye clips and signals of the kind that a processor says it reads.

What a processor reads is taken from fields that others read too: `num_frames` and `frame_stride` of eye clips;
`modalities`, `modality_names` and `window_s` of signals. Where a processor has none of them, its plugin hands the kit recordings.

This file knows how recordings are made to fit a processor; the drawing itself is in `meco_hub.corpora`.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..corpora.synthetic_eyes import EXPRESSIONS, draw_sequence
from ..corpora.synthetic_faces import draw_face
from ..recordings.event_recording import EventRecording
from ..recordings.eye_clips import EyeClip
from ..recordings.signal_recording import SignalRecording, Stream
from .check import NotConforming

__all__ = ["draw_recordings", "draw_signals", "with_raw_events"]

_FACES = ("neutral", "happiness", "surprise", "anger")
_SIDE = 48  # pixels of what is drawn; processors resize it


def draw_recordings(kind: str, processor: Any, number: int, seed: int) -> list[Any]:
    """That many recordings, all different, equal for equal arguments.

    Raises:
        NotConforming: the processor does not say what it reads.
    """
    if kind == "face":
        return [
            draw_face(_FACES[index % len(_FACES)], person=f"person {index}", take=index, seed=seed, size=_SIDE)
            for index in range(number)
        ]
    if kind == "eye":
        return [_draw_clip(processor, index, seed)[0] for index in range(number)]
    if kind == "signals":
        return [draw_signals(processor, index, seed) for index in range(number)]
    raise NotConforming(
        f"The architecture's kind is {kind!r}; recordings can be drawn of faces, eyes and signals only. Correct `kind`, or pass "
        "`recordings=` to the kit."
    )


def _draw_clip(processor: Any, index: int, seed: int) -> tuple[EyeClip, EventRecording]:
    steps = int(getattr(processor, "num_frames", 4)) * int(getattr(processor, "frame_stride", 4)) + 2
    drawn = draw_sequence(
        EXPRESSIONS[index % len(EXPRESSIONS)],
        person=f"person {index}",
        take=index,
        frames=max(steps, 8),
        seed=seed,
        size=_SIDE,
    )
    pictures = EyeClip(drawn.frames, drawn.event_pictures, drawn.frame_times, name=f"drawn clip {index}")  # pyright: ignore[reportArgumentType]
    events = EventRecording.from_arrays(drawn.x, drawn.y, drawn.t, drawn.p, width=_SIDE, height=_SIDE)
    return pictures, events


def with_raw_events(processor: Any, index: int, seed: int) -> EyeClip:
    """The clip of that number with its single events in place of event pictures."""
    clip, events = _draw_clip(processor, index, seed)
    return EyeClip(clip.frames, events, clip.frame_times, name=clip.name)


def _streams_of(processor: Any) -> dict[str, tuple[int, float]]:
    """Stream name → (channels, samples per second), in the processor's order."""
    if hasattr(processor, "modality_list"):
        return {one.name: (one.channels, one.sampling_rate) for one in processor.modality_list()}
    known = getattr(processor, "modalities", None)
    if not isinstance(known, Mapping) or not known:
        raise NotConforming(
            f"{type(processor).__name__} does not say which streams it reads, so none can be drawn for it. Give it `modalities` "
            "(name → channels and sampling_rate), `modality_names` and `window_s`, as SignalWindower has them, or pass "
            "`recordings=` to the kit."
        )
    names = getattr(processor, "modality_names", None) or list(known)
    return {name: (int(known[name]["channels"]), float(known[name]["sampling_rate"])) for name in names}


def draw_signals(processor: Any, index: int, seed: int) -> SignalRecording:
    """One window of every stream, each with rhythms and levels of its own; every third ends early."""
    window = float(getattr(processor, "window_s", 4.0))
    end = window * (0.75 if index % 3 == 2 else 1.0)
    streams, reference = {}, {}
    for name, (channels, rate) in _streams_of(processor).items():
        random = np.random.RandomState([zlib.crc32(name.encode()), index, seed])
        times = np.arange(max(2, round(end * rate)), dtype=np.float64) / rate
        pace, phase = random.uniform(0.1, 0.4, channels) * rate, random.uniform(0, 6, channels)
        waves = np.sin(2 * np.pi * times[:, None] * pace + phase)
        values = random.normal(0, 0.7, channels) + waves + 0.3 * random.normal(size=(len(times), channels))
        streams[name] = Stream(values, times, rate)
        reference[name] = np.stack([np.zeros(channels), np.ones(channels)])
    return SignalRecording(streams, start=0.0, end=end, name=f"drawn recording {index}", reference=reference)
