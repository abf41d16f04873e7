"""The clips that a recording is cut into: each is made when it is asked for, so that all of them together cost nothing.

    clips = windower.cut(recording)
    clips[3], clips[:8], len(clips)                       # a recording, clips again, how many

This file knows where clips begin and end; it does not know what becomes of them.
"""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, RecordingError
from ..recordings.signal_recording import SignalRecording
from .signal_modalities import Modality

EDGE = 1e-3
"""Seconds by which clocks may miss the end of a recording or a window."""


class SignalClips(Sequence[SignalRecording]):
    """Parts of one recording, in any order; they may overlap.

    Args:
        recording: that they are parts of.
        starts, ends: (n,) seconds on its clock.
        margin: seconds of every stream that a clip keeps on both sides.
    """

    def __init__(
        self, recording: SignalRecording, starts: NDArray[np.float64], ends: NDArray[np.float64], margin: float
    ) -> None:
        self.recording, self.starts, self.ends, self.margin = recording, starts, ends, margin

    @property
    def seconds(self) -> float:
        """Duration of the longest."""
        return float((self.ends - self.starts).max(initial=0.0))

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> SignalRecording: ...

    @overload
    def __getitem__(self, index: slice) -> "SignalClips": ...

    def __getitem__(self, index: int | slice) -> "SignalRecording | SignalClips":
        if isinstance(index, slice):
            return SignalClips(self.recording, self.starts[index], self.ends[index], self.margin)
        return self.recording.clip(float(self.starts[index]), float(self.ends[index]), self.margin)

    def __add__(self, other: Iterable[SignalRecording]) -> list[SignalRecording]:
        return [*self, *other]

    def __radd__(self, other: Iterable[SignalRecording]) -> list[SignalRecording]:
        return [*other, *self]

    def __repr__(self) -> str:
        return f"<{len(self)} clips of {self.recording.name or 'a recording'}>"


def check_length(clip: SignalRecording, window: float) -> None:
    """Make sure that a clip is at most one window long."""
    if clip.seconds > window + EDGE:
        raise RecordingError(
            f"{clip.name or 'The recording'} lasts {clip.seconds:.3f} s; expected at most one window of {window:g} s. "
            "Cut it first: windower(windower.cut(recording))."
        )


def check_stride(stride: float, modalities: Sequence[Modality]) -> None:
    """Make sure that windows can be so far apart."""
    if not stride > 0:
        raise ConfigurationError(f"stride_s is {stride}; expected a positive number of seconds.")
    for one in modalities:
        if one.summary_s is not None and abs(stride / one.summary_s - round(stride / one.summary_s)) > 1e-6:
            raise ConfigurationError(
                f"stride_s is {stride:g} and {one.name!r} is summarised by {one.summary_s:g} s; expected whole summaries from "
                "one window to the next. Take a multiple of that."
            )


def find_starts(start: float, end: float, *, window: float, stride: float, last_window: str) -> list[float]:
    """When the windows of a recording from `start` to `end` begin; `last_window` as a `SignalWindower` has it."""
    rest = end - start - window - EDGE
    starts = [start + index * stride for index in range(1 + max(0, int(np.ceil(rest / stride))))]
    if len(starts) > 1 and starts[-1] + window > end + EDGE:
        if last_window == "drop":
            starts.pop()
        elif last_window == "align":
            starts[-1] = end - window
    return starts
