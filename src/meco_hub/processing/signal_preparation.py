"""A recording's streams, checked and put on the grids of their modalities.

This file knows which streams are whose and what is wrong with them; it does not know what becomes of them.
"""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError
from ..recordings.clocks import check_stream
from ..recordings.signal_recording import SignalRecording, Stream
from .filters import are_real
from .resampling import LONGEST_STEP, GridPlan, interpolate, is_on_grid, plan_grid
from .signal_modalities import Modality


@lru_cache(maxsize=64)
def fingerprint(modalities: tuple[Modality, ...]) -> str:
    """What `SignalRecording.prepared` says of streams on these modalities' grids, whatever the order of the modalities."""
    settings = sorted(json.dumps(asdict(one), sort_keys=True) for one in modalities)
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]


def prepare(recording: SignalRecording, modalities: Sequence[Modality]) -> SignalRecording:
    """The recording with the modalities' streams, filtered and on their grids, and no others.

    What is on its grids already, a clip that was cut before, is not filtered again; only streams that were changed since come
    back onto a grid.

    Raises:
        RecordingError: the wrong number of channels, a broken clock, a wrong rate; or prepared for other modalities.
    """
    mark = fingerprint(tuple(modalities))
    if recording.prepared not in ("", mark):
        raise RecordingError(
            f"{recording.name or 'The recording'} was cut by a windower with other modalities. Expected a recording "
            "as it was read, or a clip that this windower cut. Cut the recording again."
        )
    streams = {}
    for one in modalities:
        stream = recording.streams.get(one.name)
        if stream is not None and len(stream):
            # what was prepared is filtered, and summaries already
            as_it_is = bool(recording.prepared) or not (one.summary_s or one.highpass_hz or one.lowpass_hz)
            if as_it_is and is_on_grid(stream, one.sampling_rate):
                check_channels(stream, one.name, one.channels, recording.name)
                streams[one.name] = stream
                continue
            now = replace(one, summary_s=None, highpass_hz=None, lowpass_hz=None) if recording.prepared else one
            streams[one.name] = plan_stream(stream, now, recording.start, name=recording.name).apply(stream)
    same = len(streams) == len(recording.streams) and all(recording.streams[name] is streams[name] for name in streams)
    if recording.prepared and same:
        return recording
    return replace(recording, streams=streams, prepared=mark)


def plan_stream(stream: Stream, modality: Modality, anchor: float, *, name: str = "") -> GridPlan:
    """Check a stream, and decide how it comes onto the grid of its modality."""
    check_channels(stream, modality.name, modality.stream_channels, name)
    check_stream(stream, f"{name or 'recording'}, stream {modality.name!r}")
    return plan_grid(
        stream,
        modality.sampling_rate,
        anchor,
        bands=modality.bands,
        max_gap=modality.max_gap,
        summary=modality.summary_s is not None,
    )


def check_channels(stream: Stream, modality: str, expected: int, name: str) -> None:
    """Make sure that a stream has its modality's channels, `expected` in number, as values that can be missing."""
    if stream.values.dtype.kind != "f":
        raise RecordingError(
            f"{name or 'recording'}, stream {modality!r} holds {stream.values.dtype}; expected floating point, "
            "in which NaN says what is missing. Convert it: values.astype(np.float32)."
        )
    found = stream.values.shape[1]
    if found != expected:
        named = f" ({', '.join(stream.channels)})" if stream.channels else ""
        turned = " It seems to have channels in rows: transpose it." if stream.values.shape[0] == expected else ""
        raise RecordingError(
            f"{name or 'recording'}, stream {modality!r} has {found} channel{'s' if found != 1 else ''}{named}; expected "
            f"{expected}. Give all channels, NaN where one was not recorded.{turned}"
        )


def check_any(recording: SignalRecording, names: Sequence[str]) -> None:
    """Make sure that a recording holds a sample of at least one of these streams.

    Raises:
        RecordingError: it does not; offers near names.
    """
    held = [name for name, stream in recording.streams.items() if are_real(stream.values).any()]
    if any(name in names for name in held):
        return
    near = [close[0] for name in held if (close := difflib.get_close_matches(name.lower(), names, n=1))]
    offer = f" Did you mean {', '.join(near)}?" if near else ""
    raise RecordingError(
        f"{recording.name or 'The recording'} holds {', '.join(map(repr, held)) or 'no sample at all'}; expected at "
        f"least one of the streams {', '.join(map(repr, names))}.{offer} Name its streams so."
    )


def read_annotations(
    clips: Sequence[SignalRecording], times: Sequence[NDArray[np.float64]], names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Ground truth of each clip at its (S,) moments, interpolated between two real samples.

    Returns:
        (B, S, D) values, 0 where unknown, and (B, S, D) bool: known. Nothing is known beyond a clip's end.
    """
    steps = len(times[0]) if times else 0
    values = np.zeros((len(clips), steps, len(names)), np.float32)
    known = np.zeros(values.shape, np.bool_)
    for row, (clip, moments) in enumerate(zip(clips, times, strict=True)):
        for column, name in enumerate(names):
            truth = clip.annotations.get(name)
            if truth is None or not len(truth):
                continue
            where = f"{clip.name or 'recording'}, annotation {name!r}"
            if truth.values.shape[1] != 1:
                raise RecordingError(
                    f"{where} has {truth.values.shape[1]} channels; expected one. Name each by itself."
                )
            rate = check_stream(truth, where) or 1.0  # of a single sample, which is exact or nothing
            found = interpolate(truth, moments, rate, LONGEST_STEP / rate).values[:, 0]
            good = np.isfinite(found) & (moments < clip.end)
            values[row, good, column], known[row, good, column] = found[good], True
    return values, known
