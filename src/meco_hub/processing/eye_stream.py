"""Clips of one eye whose recording is still going on: frames and events go in as they come, clips come out when they are complete.

    stream = EyeStream(processor.clip_sampling, streams=["frames", "events"])
    for piece in camera:                            # {"frames": (T, H, W), "frame_times": µs, "events": …}, either may be missing
        for clip in stream.push(piece):
            model(**processor(clip, return_tensors="pt"))

A clip begins about every second, and is as long as at `FRAMES_PER_SECOND`: its steps are chosen by time. It is complete when a
frame and an event have come that are later; a scene in which nothing moves gives no events, so these are waited for half a second
of the frames' clock at most. Of events alone, steps are every thirtieth of a second. What the next clip does not need is forgotten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RecordingError, unknown_name
from ..reading import reading
from ..recordings.event_recording import EventRecording
from ..recordings.events import read_events
from ..recordings.eye_clips import FRAMES_PER_SECOND, EyeClip
from ..recordings.left_out import PartsLeftOut
from ..recordings.pictures import as_pictures
from ..recordings.signal_times import check_pause
from .eye_preprocessor import EVERY, ClipSampling

KEYS = ("frames", "frame_times", "events")
PATIENCE_US = 500_000
"""How far the frames' clock may run ahead of the last event, until a clip does not wait for more."""

_NO_FRAMES_US = 2_000_000  # of events, after which no frames are waited for that ought to come beside them
_APART_US = 60_000_000  # of events, ahead of the frames: these have stopped, or each has a clock of its own
_TRIES = 5  # clips without frames enough, and none with, until the recording is given up


class EyeStream:
    """See the module; `push` and `flush` are those of `WindowStream`.

    Args:
        sampling: of a clip's time steps.
        streams: those that the network is shown.
        before_us, after_us: of events, how far a step's window reaches back from its frame and on.
    """

    def __init__(self, sampling: ClipSampling, streams: Sequence[str], *, before_us: int, after_us: int = 0) -> None:
        self._sampling, self._streams = sampling, tuple(streams)
        self._before, self._after = before_us, after_us
        self._every = round(max(EVERY, sampling.span) * 1e6 / FRAMES_PER_SECOND)
        self._span = round((sampling.span - 1) * 1e6 / FRAMES_PER_SECOND)
        self._begin: int | None = None
        self._frames: list[NDArray[np.uint8]] = []
        self._times = np.empty(0, np.int64)
        self._events: EventRecording | None = None
        self._alone = 0  # microseconds of events since the last frame
        self._made = self._failed = 0
        self._left_out = PartsLeftOut()

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return sum(one.nbytes for one in self._frames) + (0 if self._events is None else self._events.nbytes)

    def push(self, piece: Mapping[str, Any] | EyeClip) -> list[EyeClip]:
        """Take frames and events, and hand out the clips that they complete.

        Args:
            piece: a mapping of `frames` (what `as_pictures` takes) with `frame_times` ((T,) int64 µs), and of `events` (what
                `read_events` takes); or a clip. Both are on one clock.

        What cannot be used, frames without times or times that do not rise from piece to piece, is left out, and the next clip has
        the warning `part_left_out`.

        Raises:
            RecordingError: such parts from the first, or very many after each other; too few frames a second for any clip; or
                events without frames for a minute.
            UnknownNameError: the mapping has a key that means nothing.
        """
        failed: dict[str, InputError] = {}
        if isinstance(piece, EyeClip):
            piece = {"frames": piece.frames, "frame_times": piece.frame_times, "events": piece.events}
        if not isinstance(piece, Mapping):
            said = f"A piece is a {type(piece).__name__}; expected a mapping of frames with frame_times, or of events, or of both."
            piece, failed = {}, {"": RecordingError(said)}
        for key in piece:
            if key not in KEYS:
                raise unknown_name("part of a piece of an eye clip", str(key), KEYS)
        given = [name for name in self._streams if piece.get(name) is not None]
        for name in given:
            try:
                with reading(f"{name} of a piece cannot be read", RecordingError, "Check what sends them."):
                    if name == "frames":
                        self._take_frames(piece["frames"], piece.get("frame_times"))
                    else:
                        self._take_events(piece["events"])
            except InputError as error:
                failed[name] = error
        self._left_out.note(failed, used=any(name not in failed for name in given))
        self._check_clocks()
        self._begin = self._first_begin() if self._begin is None else self._begin
        return self._complete(waits=True)

    def flush(self) -> list[EyeClip]:
        """The clips that have all their frames, when no more events come; half a clip is none."""
        return self._complete(waits=False)

    def _complete(self, waits: bool) -> list[EyeClip]:
        found: list[EyeClip] = []
        while self._begin is not None:
            frame, event = self._clock()
            end = self._begin + self._span
            if frame < end or (waits and event < end + self._after):
                break
            clip = self._clip(self._begin)
            found += [] if clip is None else [clip]
            self._begin += self._every
            self._forget(self._begin - 2 * self._before)
        return found

    def _take_frames(self, frames: Any, times: Any) -> None:
        if isinstance(frames, Sequence | np.ndarray) and not len(frames):
            return
        pictures = as_pictures(frames, "frames")
        stamps = np.asarray([] if times is None else times)
        if stamps.shape != (len(pictures),) or stamps.dtype.kind not in "iu":
            raise RecordingError(
                f"{len(pictures)} frames came with {len(stamps)} times of type {stamps.dtype}; expected frame_times in whole "
                "microseconds, one for each."
            )
        rising = np.concatenate([self._times[-1:], stamps.astype(np.int64)])
        if (np.diff(rising) <= 0).any():
            raise RecordingError(
                f"The frames' clock does not rise between {rising[0]} and {rising[-1]} µs. Leave late frames out."
            )
        check_pause(self._times[-1] / 1e6 if len(self._times) else None, stamps / 1e6, "a frame")
        self._frames += [np.asarray(one) for one in pictures.read(range(len(pictures)))]
        self._times = np.concatenate([self._times, stamps.astype(np.int64)])
        self._alone = (
            max(0, int(self._events.t[-1] - stamps[-1])) if self._events is not None and len(self._events) else 0
        )

    def _take_events(self, events: Any) -> None:
        new = events if isinstance(events, EventRecording) else read_events({"events": events, "time_unit": "us"})
        old = self._events
        check_pause(old.t[-1] / 1e6 if old is not None and len(old) else None, new.t / 1e6, "an event")
        if old is not None and len(old) and len(new) and new.t[0] < old.t[-1]:
            raise RecordingError(
                f"Events of {new.t[0]} µs came after some of {old.t[-1]} µs; expected times that rise from piece to piece."
            )
        self._alone += int(new.t[-1] - new.t[0]) if len(new) and len(self._times) else 0
        if old is None or not len(new):
            self._events = new if old is None else old
            return
        x, y, t, p = (np.concatenate([getattr(old, column), getattr(new, column)]) for column in "xytp")
        self._events = EventRecording(
            x, y, t, p, new.width or old.width, new.height or old.height, warnings=old.warnings
        )

    def _check_clocks(self) -> None:
        """Refuse what would be kept for ever, because no frame comes beside it."""
        if self._alone > _APART_US and self._events is not None:
            raise RecordingError(
                f"Events have come up to {self._events.t[-1]} µs, and frames up to {self._times[-1]} µs; expected both on one "
                "clock, as they come. Check whether the camera still sends frames."
            )

    def _first_begin(self) -> int | None:
        """When the first clip begins: as soon as what happened before its first frame is known. None before there is one."""
        events = self._events.t if self._events is not None else np.empty(0, np.int64)
        if len(self._times):
            return int(self._times[0]) + self._before
        alone = "frames" not in self._streams or (len(events) and events[-1] - events[0] > _NO_FRAMES_US)
        return int(events[0]) + self._before if alone and len(events) else None

    def _clock(self) -> tuple[int, int]:
        """The latest frame, and the latest event that is known of: microseconds."""
        event = int(self._events.t[-1]) if self._events is not None and len(self._events) else -(1 << 62)
        frame = int(self._times[-1]) if len(self._times) else event
        return frame, max(event, frame - PATIENCE_US) if "events" in self._streams else frame

    def _clip(self, begin: int) -> EyeClip | None:
        """The clip from `begin` on; None where frames are missing."""
        events, times = self._events, self._times
        if not len(times):
            times = begin + np.rint(np.arange(self._sampling.span) * 1e6 / FRAMES_PER_SECOND).astype(np.int64)
        chosen = self._sampling.nearest(times / 1e6, begin / 1e6)
        if chosen is None:
            self._failed += 1
            if self._failed >= _TRIES and not self._made:
                gap = float(np.diff(times).max(initial=0)) / 1e6
                raise RecordingError(
                    f"Frames come {gap:.3g} seconds apart; expected one every "
                    f"{self._sampling.stride / FRAMES_PER_SECOND:.3g} seconds or more often. Record more a second."
                )
            return None
        self._made += 1
        within = (
            None if events is None else events.between(begin - 2 * self._before, begin + self._span + 2 * self._before)
        )
        if within is not None:  # there may be none, where nothing moved
            within = replace(within, notes={"live": "while it was recorded"})
        frames: Any = [self._frames[place] for place in range(len(times))] if self._frames else None
        doubts = tuple(self._left_out.warnings())
        return EyeClip(frames, within, times, name="the eye", warnings=doubts).at(chosen)

    def _forget(self, before: int) -> None:
        first = int(np.searchsorted(self._times, before))
        self._frames, self._times = self._frames[first:], self._times[first:].copy()
        if self._events is not None:
            kept = self._events.slice(int(np.searchsorted(self._events.t, before)), len(self._events))
            columns = {
                column: getattr(kept, column).copy() for column in "xytp"
            }  # so that the forgotten part is let go
            self._events = EventRecording(**columns, width=kept.width, height=kept.height, warnings=kept.warnings)
