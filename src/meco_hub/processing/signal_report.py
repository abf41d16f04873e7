"""What became of each stream of a recording: which were used and how, which were missed, how much of them was there.

This file knows how to tell; what is done to streams, `signal_preparation.py` and `signal_levels.py` know.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..recordings.signal_recording import SignalRecording
from .filters import are_real
from .signal_levels import add_own_level
from .signal_modalities import Modality
from .signal_preparation import plan_stream


def describe_streams(
    recording: SignalRecording, modalities: Sequence[Modality], normalization: str, on_missing_reference: str
) -> dict[str, Any]:
    """See `SignalWindower.report`."""
    used, measured = {}, {}
    for one in modalities:
        stream = recording.streams.get(one.name)
        if stream is None or not are_real(stream.values).any():
            continue
        plan = plan_stream(stream, one, recording.start, name=recording.name)
        values = plan.apply(stream).between(recording.start, recording.end).values
        steps = max(1, round(recording.seconds * one.sampling_rate))
        used[one.name] = plan.describe()
        measured[one.name] = min(1.0, float(are_real(values).sum()) / steps)
    names = [one.name for one in modalities]
    return {
        "used": used,
        "missing": [name for name in names if name not in used],
        "ignored": sorted(name for name in recording.streams if name not in names),
        "measured": measured,
        "level": {
            one.name: _level_of(recording, one, normalization, on_missing_reference)
            for one in modalities
            if one.name in used
        },
    }


def _level_of(recording: SignalRecording, modality: Modality, normalization: str, on_missing_reference: str) -> str:
    """By whose level a stream is normalised."""
    if normalization != "reference" or on_missing_reference == "error":
        return normalization
    bare = replace(recording, streams={})
    return "reference" if modality.name in add_own_level(bare, [modality], "reference", "error") else "recording"
