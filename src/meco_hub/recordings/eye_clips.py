"""A clip of one eye: frames and events side by side, decoded when they are asked for.

    clip = EyeClip(frames=["frame/00000.jpg", …], events=["event/00000.jpg", …])          # one event picture per frame
    clip = EyeClip(frames=array, events=event_recording, frame_times=times)               # raw events, one clock for both
    clip.at([0, 4, 8, 12])                                                                # these time steps, and no others
    clip.without(["events"]).change_frames(darken)                                        # conditions; nothing is decoded yet

Both streams describe the same `len(clip)` time steps. Event pictures belong to the frame of the same number; raw events are cut
into the windows that `event_spans` documents. Where something is wrong with one stream, the error names that stream.

This file knows what an eye clip is and when its two streams fit together; it reads no file and knows no model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, RecordingError
from .event_recording import EventRecording
from .pictures import PictureArray, PictureChange, PictureFiles, Pictures, as_pictures

__all__ = ["ALIGNMENTS", "STREAMS", "EyeClip"]

STREAMS = ("frames", "events")
ALIGNMENTS = ("before", "around", "after")
"""Where the window of events that belongs to a frame lies, seen from the frame's time."""


@dataclass(frozen=True, eq=False)
class EyeClip:
    """Frames and events of one eye.

    Attributes:
        frames: what `as_pictures` takes: `Pictures`, a list of paths or images, an array (T, H, W[, 3]); None where there are none.
        events: event pictures in the same forms, one per frame, or an `EventRecording` on the clock of `frame_times`; None where
            there are none.
        frame_times: (T,) int64 microseconds, increasing; needed with an `EventRecording`, else optional.
        name: what errors call it.
        chosen: time steps that a processor shall take, in this order; None leaves the choice to it.

    Raises:
        RecordingError: no stream at all, streams of different lengths, raw events without frame times, clocks that do not overlap,
            or time steps that do not exist.
    """

    frames: Pictures | None = None
    events: Pictures | EventRecording | None = None
    frame_times: NDArray[np.int64] | None = None
    name: str = ""
    chosen: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.frames is None and self.events is None:
            raise RecordingError(f"{self.called} has neither frames nor events. Give both, or one of them.")
        for stream in STREAMS:
            given: Any = getattr(self, stream)
            if given is not None and not isinstance(given, EventRecording):
                try:
                    object.__setattr__(self, stream, as_pictures(given, stream))
                except RecordingError as error:
                    raise RecordingError(f"{self.called}: {error}") from error
        if self.frame_times is not None:
            object.__setattr__(self, "frame_times", self._checked_times(self.frame_times))
        if isinstance(self.frames, Pictures) and isinstance(self.events, Pictures):
            self._check_lengths(len(self.frames), "frames", len(self.events), "event pictures")
        if isinstance(self.events, EventRecording):
            self._check_clocks(self.events)
        outside = [step for step in self.chosen or () if not 0 <= step < len(self)]
        if outside:
            raise RecordingError(f"{self.called}: time step {outside[0]} was chosen; there are {len(self)}, from 0 on.")

    def __len__(self) -> int:
        """Number of time steps."""
        if isinstance(self.frames, Pictures):
            return len(self.frames)
        if isinstance(self.events, Pictures):
            return len(self.events)
        return 0 if self.frame_times is None else len(self.frame_times)

    def __repr__(self) -> str:
        events = "no events" if self.events is None else "raw events" if self.is_raw else "event pictures"
        frames = "no frames" if self.frames is None else "frames"
        chosen = "" if self.chosen is None else f", chosen {list(self.chosen)}"
        return f"EyeClip({self.name!r}, {len(self)} time steps, {frames}, {events}{chosen})"

    @property
    def called(self) -> str:
        """What errors call the clip."""
        return self.name or "the eye clip"

    @property
    def is_raw(self) -> bool:
        """Whether the events are single events and not pictures."""
        return isinstance(self.events, EventRecording)

    @property
    def nbytes(self) -> int:
        """Memory of what is held decoded: arrays and raw events, not files."""
        held = 0
        for stream in (self.frames, self.events):
            if isinstance(stream, EventRecording):
                held += stream.nbytes
            elif isinstance(stream, PictureArray):
                held += stream.values.nbytes
            elif isinstance(stream, PictureFiles):
                held += sum(one.nbytes for one in stream.sources if isinstance(one, np.ndarray))
        return held

    def at(self, steps: Iterable[int]) -> "EyeClip":
        """The same clip with these time steps chosen; a step may occur more than once."""
        return replace(self, chosen=tuple(int(step) for step in steps))

    def without(self, streams: Iterable[str]) -> "EyeClip":
        """The clip as if these streams ("frames", "events") had not been recorded.

        Raises:
            RecordingError: nothing would be left.
        """
        return replace(self, **dict.fromkeys(self._named(streams)))

    def require(self, streams: Iterable[str]) -> None:
        """Make sure that these streams are there.

        Raises:
            RecordingError: one is not; the message names it.
        """
        for stream in self._named(streams):
            if getattr(self, stream) is None:
                other = "events" if stream == "frames" else "frames"
                raise RecordingError(
                    f"{self.called} has {other} without {stream}; expected both. Give the {stream}, or use a checkpoint whose "
                    f"processor says streams: [{other}]."
                )

    def change_frames(self, change: PictureChange) -> "EyeClip":
        """The clip with every frame changed, as `change(picture, time step)`, when it is decoded."""
        return self if self.frames is None else replace(self, frames=self.frames.changed(change))

    def change_events(self, change: PictureChange) -> "EyeClip":
        """The clip with every event picture changed likewise; raw events are changed before they are put into a clip.

        Raises:
            RecordingError: the events are raw.
        """
        if isinstance(self.events, EventRecording):
            raise RecordingError(
                f"{self.called}: the events are raw; expected event pictures, which alone can be so changed."
            )
        return self if self.events is None else replace(self, events=self.events.changed(change))

    def loaded(self) -> "EyeClip":
        """The clip with every picture decoded and in memory, for whoever looks at it more than once; `nbytes` says what it takes.

        Raises:
            ImageError: a picture cannot be read; the message names it.
            RecordingError: the pictures of a stream differ in size.
        """
        decoded: dict[str, Any] = {}
        for stream in STREAMS:
            pictures = getattr(self, stream)
            if isinstance(pictures, Pictures) and not isinstance(pictures, PictureArray):
                try:
                    decoded[stream] = pictures.loaded(stream)
                except RecordingError as error:
                    raise RecordingError(f"{self.called}: {error}") from error
        return replace(self, **decoded)

    def event_spans(self, steps: Sequence[int], window_us: int, alignment: str = "before") -> NDArray[np.int64]:
        """From when to when the raw events happen that belong to these time steps: (steps, 2) microseconds, start ≤ t < end.

        Args:
            steps: time steps.
            window_us: length of the window in microseconds.
            alignment: "before": [t − window, t), what has happened when the frame is taken; "around": half before, half after;
                "after": [t, t + window).

        Raises:
            RecordingError: the events are not raw.
            ConfigurationError: no such alignment.
        """
        if alignment not in ALIGNMENTS:
            raise ConfigurationError(f"The alignment is {alignment!r}; expected one of {', '.join(ALIGNMENTS)}.")
        if not self.is_raw or self.frame_times is None:
            raise RecordingError(f"{self.called}: the events are no single events, so no window can be cut from them.")
        starts = self.frame_times[list(steps)] - {"before": window_us, "around": window_us // 2, "after": 0}[alignment]
        return np.stack([starts, starts + window_us], axis=1)

    def _named(self, streams: Iterable[str]) -> list[str]:
        named = list(streams)
        for stream in named:
            if stream not in STREAMS:
                raise ConfigurationError(
                    f"There is no stream {stream!r} in an eye clip; there are {', '.join(STREAMS)}."
                )
        return named

    def _checked_times(self, times: Any) -> NDArray[np.int64]:
        values = np.asarray(times)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise RecordingError(
                f"{self.called}: frame_times has shape {values.shape} and dtype {values.dtype}; expected (T,) whole microseconds."
            )
        values = values.astype(np.int64, copy=False)
        if (np.diff(values) <= 0).any():
            place = int(np.argmax(np.diff(values) <= 0))
            raise RecordingError(
                f"{self.called}: frame_times does not increase, from {values[place]} to {values[place + 1]} µs at frame "
                f"{place + 1}. Sort the frames, and give every one a time of its own."
            )
        steps = next((len(one) for one in (self.frames, self.events) if isinstance(one, Pictures)), len(values))
        self._check_lengths(steps, "pictures", len(values), "frame times")
        return values

    def _check_lengths(self, one: int, first: str, other: int, second: str) -> None:
        if one != other:
            few, many = (first, second) if one < other else (second, first)
            raise RecordingError(
                f"{self.called} has {one} {first} and {other} {second}; expected one for each time step. The {few} lack "
                f"{abs(one - other)}: complete them, or leave the same {many} out."
            )

    def _check_clocks(self, events: EventRecording) -> None:
        if self.frame_times is None or not len(self.frame_times):
            raise RecordingError(
                f"{self.called}: the frames have no times, so it is unknown which events belong to which frame. Give frame_times "
                "in microseconds on the clock of the events."
            )
        if not len(events):
            raise RecordingError(
                f"{self.called}: the events are empty; expected one event or more. Check the event file."
            )
        first, last = int(self.frame_times[0]), int(self.frame_times[-1])
        if events.t[-1] < first or events.t[0] > last:
            raise RecordingError(
                f"{self.called}: the clocks do not overlap: frames from {first} to {last} µs, events from {events.t[0]} to "
                f"{events.t[-1]} µs. Bring the events to the clock of the frames: EventRecording.shift, or offset_us when reading."
            )
