"""A clip of one eye: frames and events side by side, decoded when they are asked for.

    clip = EyeClip(frames=["frame/00000.jpg", …], events=["event/00000.jpg", …])          # one event picture per frame
    clip = EyeClip(frames=array, events=event_recording, frame_times=times)               # raw events, one clock for both
    clip.at([0, 4, 8, 12])                                                                # these time steps, and no others
    clip.without(["events"]).change_frames(darken)                                        # conditions; nothing is decoded yet

    read_eye_clip("SEE/frame/happiness/1_001_man_…")                  # event pictures in SEE/event/happiness/1_001_man_…
    read_eye_clip("recording/")                                       # holds frame/ and event/, or frames/ and events/
    read_eye_clip("recording/")                                       # or a video, or frames/ with times, and a file of events
    read_eye_clip("davis.aedat4")                                     # a camera that records both into one file
    read_eye_clip({"frames": "eye.mp4", "events": "eye.raw"})         # video and event file; offset_us where their clocks differ
    read_eye_clip({"frames": "eye.mp4", "events": "eye.csv", "time_unit": "ns", "columns": "txyp"})  # options of `read_events`
    read_eye_clip({"frames": array, "events": events, "frame_times": times})

Both streams describe the same `len(clip)` time steps. Event pictures belong to the frame of the same number; raw events are cut
into the windows that `event_spans` documents. Of a file of events only what lies around the frames is kept. Where something is
wrong with one stream, the error names that stream.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, once_a_code
from ..errors import ConfigurationError, RecordingError, quote, unknown_name
from ..reading import MAX_JSON, decode_text, read_bytes, reading
from .event_recording import EventRecording, column_labels
from .events import OPTIONS, SUFFIXES, iterate_events, read_events
from .images import PICTURE_SUFFIXES, describe_source
from .pictures import (
    VIDEO_SUFFIXES,
    PictureArray,
    PictureChange,
    PictureFiles,
    Pictures,
    VideoPictures,
    as_pictures,
    read_video,
)

FOLDERS = (("frame", "event"), ("frames", "events"))
"""Names of the two folders in which pictures of a recording lie."""
TIMES = ("frame_times.txt", "timestamps.txt")
"""Names of a file of the frames' times, in the recording's folder or among the frames."""

KEYS = ("frames", "events", "frame_times", "frames_per_second", "offset_us", "name", *OPTIONS)
MARGIN_US = 200_000
"""What is read of a file of events before the first frame and after the last, microseconds."""

_OF_WHOLE = ("max_events", "out_of_bounds")  # of OPTIONS, what `iterate_events` does not know
_FRAME_STEPS_US = (300, 10_000_000)  # between two frames of any camera
FRAMES_PER_SECOND = 30.0
"""What event cameras' frames are put on where a recording of single events alone is read."""

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
        warnings: what its reader doubts; those of an `EventRecording` are taken over.
        seen_at: of an eye in a film, where it was, as answers hold it: `looked_at`, `box` and so on.

    Raises:
        RecordingError: no stream at all, streams of different lengths, raw events without frame times, clocks that do not overlap,
            or time steps that do not exist.
    """

    frames: Pictures | None = None
    events: Pictures | EventRecording | None = None
    frame_times: NDArray[np.int64] | None = None
    name: str = ""
    chosen: tuple[int, ...] | None = None
    warnings: tuple[AnswerWarning, ...] = ()
    seen_at: Mapping[str, Any] = field(default_factory=dict)

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
            found = [*self.warnings, *self.events.warnings, *self._check_clocks(self.events)]
            object.__setattr__(self, "warnings", tuple(once_a_code(found)))
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

    def _check_clocks(self, events: EventRecording) -> list[AnswerWarning]:
        if self.frame_times is None or not len(self.frame_times):
            raise RecordingError(
                f"{self.called}: the frames have no times, so it is unknown which events belong to which frame. Give frame_times, "
                "or timestamps.txt in the folder, in microseconds on the clock of the events."
            )
        if {"simulated", "live"} & events.notes.keys():  # on the frames' own clock, and none where nothing moved
            return []
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
        step = float(np.median(np.diff(self.frame_times))) if len(self.frame_times) > 1 else _FRAME_STEPS_US[1]
        if _FRAME_STEPS_US[0] <= step <= _FRAME_STEPS_US[1]:
            return []
        seen = f"{self.called}: frames follow each other after {step:.4g} µs, {1e6 / step:.4g} a second"
        return [AnswerWarning("time_unit_doubtful", f"{seen}. Check that frame_times are microseconds.")]


def read_eye_clip(source: Any, *, margin_us: int = MARGIN_US) -> EyeClip:
    """Read one clip.

    Args:
        source: an `EyeClip`, which is given back; the path of a folder or file, as in the module's examples; or a mapping with

            - `frames`: a folder of pictures, a video file, or what `as_pictures` takes,
            - `events`: a folder of event pictures, an event file, an `EventRecording`, a structured array, a table or mapping of x,
              y, t, p,
            - `frame_times`: (T,) microseconds, where the frames do not bring theirs; or `frames_per_second`,
            - `offset_us`: added to the clock of raw events,
            - `name`: what errors call the clip,
            - how raw events are read: the options of `read_events`, such as `time_unit`, `stream`, `columns` and `width`.
        margin_us: how far around its frames windows may reach; what a file of events has beyond is not kept.

    Raises:
        RecordingError: a stream is missing or cannot be read, or the two do not fit together; the message names the stream.
        ImageError: later, when a picture is decoded that is none.
        UnknownNameError: the mapping has a key that means nothing.
    """
    if isinstance(source, EyeClip):
        return source
    with reading(f"{describe_source(source)} cannot be read as an eye clip", RecordingError):
        if isinstance(source, EventRecording):
            return _from_camera(source)
        if isinstance(source, Mapping):
            return _from_mapping(source, margin_us)
        if isinstance(source, str | os.PathLike):
            return _from_path(Path(source), margin_us)
    raise RecordingError(
        f"{describe_source(source)} is no eye clip; expected an EyeClip, a path, or a mapping with frames and events."
    )


def _from_path(path: Path, margin_us: int) -> EyeClip:
    if path.is_dir():
        return _from_folder(path, margin_us)
    if not path.is_file():
        raise RecordingError(f"There is no file or folder {path}. Check the path.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise RecordingError(
            f"{path} is a video: frames without events. Pass a folder with it and the file of events, or "
            '{"frames": video, "events": event file}; or, of faces, the film to the pipeline, which simulates events.'
        )
    return _from_camera(read_events(path))


def _from_camera(recording: EventRecording) -> EyeClip:
    """The clip of a camera that takes frames and events on one clock."""
    name = recording.name or "the event recording"
    if recording.frames is None or recording.frame_times is None or not len(recording.frames):
        raise RecordingError(
            f'{name} holds events without frames; expected both. Pass {{"frames": video or pictures, "events": this file}}, '
            'a folder with frame/ and event/, or {"events": this file} to a processor that reads events alone.'
        )
    return EyeClip(PictureArray(recording.frames), recording, recording.frame_times, name=name)


def _from_folder(path: Path, margin_us: int) -> EyeClip:
    for first, second in FOLDERS:
        if (path / first).is_dir() and (path / second).is_dir():
            return _paired(path / first, path / second, path.name)
        # …/frame/<emotion>/<sequence>, or the same place in the tree of event pictures
        parts = path.absolute().parts
        for own, other in ((first, second), (second, first)):
            if own in parts[-3:-1]:
                place = len(parts) - 1 - parts[::-1].index(own)
                partner = Path(*parts[:place], other, *parts[place + 1 :])
                if not partner.is_dir():
                    has, lacks = ("frames", "events") if own == first else ("events", "frames")
                    raise RecordingError(
                        f"{path} has {has} without {lacks}: there is no folder {partner}. Copy it there."
                    )
                frames, events = (path, partner) if own == first else (partner, path)
                return _paired(frames, events, path.name)
    return _from_mapping(_one_of_each(path), margin_us)


def _one_of_each(path: Path) -> dict[str, Any]:
    """What lies in a folder, as a mapping: a video or a folder of frames, perhaps with their times, and a file of events."""
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(".")]
    names = [first for first, _ in FOLDERS]
    frames = [one for one in inside if (one.name in names if one.is_dir() else one.suffix.lower() in VIDEO_SUFFIXES)]
    events = [one for one in inside if one.is_file() and one.suffix.lower() in SUFFIXES and one.name not in TIMES]
    if len(frames) == len(events) == 1:
        times = [one / name for one in (path, frames[0]) for name in TIMES if (one / name).is_file()]
        found = {"frames": frames[0], "events": events[0], "name": path.name}
        return found | ({"frame_times": _read_times(times[0])} if times else {})
    if frames and events:
        several = quote(", ".join(one.name for one in (frames if len(frames) > 1 else events)))
        problem = f"{path} holds several videos, folders of frames or files of events: {several}; expected one of each."
    else:
        problem = (
            f"{path} is a folder without a second stream; expected one that holds frame/ and event/, or that lies below one of "
            "them, as SEE/frame/<emotion>/<sequence>; or a video, or frames/, and one file of events."
        )
    raise RecordingError(f'{problem} Or pass {{"frames": video or folder, "events": folder or event file}}.')


def _read_times(file: Path) -> NDArray[np.int64]:
    """Times of frames, one a line, whole microseconds, as DSEC writes them."""
    try:
        text = decode_text(read_bytes(file, RecordingError, MAX_JSON))
    except UnicodeDecodeError as error:
        raise RecordingError(f"{file} is no text ({error}); expected UTF-8 or UTF-16. Save it as UTF-8.") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    wrong = [line for line in lines if not re.fullmatch(r"-?[0-9]{1,18}", line)]
    if wrong:
        raise RecordingError(
            f"{file} holds {quote(wrong[0])}; expected the time of one frame a line, in whole microseconds."
        )
    return np.array(lines, np.int64)


def _paired(frames: Path, events: Path, name: str) -> EyeClip:
    """Pictures of two folders, of which each has its partner by name."""
    sides = {"frames": _pictures_in(frames, "frames"), "events": _pictures_in(events, "events")}
    stems = {stream: {path.stem for path in paths} for stream, paths in sides.items()}
    for stream, other, folder in (("frames", "events", events), ("events", "frames", frames)):
        alone = sorted(stems[stream] - stems[other])
        if alone:
            raise RecordingError(
                f"{name}: {len(alone)} {stream} have no {other}: {folder} lacks {alone[0]}. Copy it again, or leave both out."
            )
    return EyeClip(PictureFiles(sides["frames"]), PictureFiles(sides["events"]), name=name)


def _pictures_in(folder: Path, stream: str) -> list[Path]:
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise RecordingError(f"{folder} holds no picture; expected {stream} as 00000.jpg, 00001.jpg, …")
    return sorted(found, key=lambda path: (_natural(path.stem), path.name))


def _natural(name: str) -> list[str | int]:
    """frame_9 stands before frame_10; what is no number follows the alphabet."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _from_mapping(source: Mapping[str, Any], margin_us: int) -> EyeClip:
    for key in source:
        if key not in KEYS:
            raise unknown_name("part of an eye clip", str(key), KEYS)
    frames, events = source.get("frames"), source.get("events")
    name = str(source.get("name") or _name_of(frames) or _name_of(events))
    how = {key: source[key] for key in OPTIONS if source.get(key) is not None}
    if frames is not None and events is not None and _is_folder(frames) and _is_folder(events):
        _refuse_options(source, name)
        clip = _paired(Path(frames), Path(events), name)
        times = _given_times(source, len(clip), name)
        return EyeClip(clip.frames, clip.events, times, name=name)
    if frames is not None and _is_path(frames) and _is_path(events) and Path(frames) == Path(events):
        return replace(_from_camera(read_events({"events": events, **how})), name=name)
    pictures = _frames(frames)
    times = None if pictures is None else _given_times(source, len(pictures), name)
    if times is None and isinstance(pictures, VideoPictures):
        times = pictures.times
    recorded = _events(source, how, name, times if times is not None and times.size else None, margin_us)
    if pictures is None:
        times = _given_times(source, len(recorded) if isinstance(recorded, Pictures) else None, name)
    if times is None and pictures is None and isinstance(recorded, EventRecording) and len(recorded):
        period = 1e6 / FRAMES_PER_SECOND
        count = max(1, int((recorded.t[-1] - recorded.t[0]) / period))
        times = recorded.t[0] + np.rint(np.arange(1, count + 1) * period).astype(np.int64)
    return EyeClip(pictures, recorded, times, name=name)


def _is_path(source: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, str | os.PathLike)


def _is_folder(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) and Path(source).is_dir()


def _name_of(source: Any) -> str:
    if isinstance(source, EventRecording):
        return source.name
    return Path(source).name if _is_path(source) else ""


def _frames(source: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return None if source is None else as_pictures(source, "frames")
    path = Path(source)
    return PictureFiles(_pictures_in(path, "frames")) if path.is_dir() else read_video(path)


def _events(
    clip: Mapping[str, Any], how: Mapping[str, Any], name: str, times: NDArray[Any] | None, margin_us: int
) -> Pictures | EventRecording | None:
    """The clip's events; of a file, what lies within `margin_us` around the times of its frames."""
    source: Any = clip.get("events")
    path = Path(source) if _is_path(source) else None
    if path is not None and not path.exists():
        raise RecordingError(f"{name}: there is no event file {path}. Check the path.")
    rows = isinstance(source, EventRecording) or column_labels(source) is not None
    video = path is not None and path.suffix.lower() in VIDEO_SUFFIXES
    if video or (not rows if path is None else path.is_dir()):
        _refuse_options(clip, name)
        if path is not None:
            return read_video(path) if video else PictureFiles(_pictures_in(path, "events"))
        return None if source is None else as_pictures(source, "events")
    offset: Any = clip.get("offset_us")
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int | np.integer)):
        raise RecordingError(f"{name}: offset_us is {offset!r}; expected whole microseconds.")
    shift = int(offset or 0)
    known = path is not None and times is not None and times.ndim == 1 and times.dtype.kind in "iu"
    within = _around(times, shift, margin_us, how) if known and times is not None else {}
    recorded = read_events({"events": source, **how, **within}, frames=False)
    if within and not len(recorded) and times is not None:
        raise _beside_the_frames(source, how, name, times, shift)
    recorded = recorded if recorded.name else replace(recorded, name=name)
    return recorded.shift(shift) if shift else recorded


def _around(times: NDArray[Any], shift: int, margin_us: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """The span of a file of events that windows around these frames may reach, within the one that was asked for."""
    span: dict[str, Any] = {
        "start_us": int(times[0]) - shift - margin_us,
        "end_us": int(times[-1]) - shift + margin_us + 1,
    }
    for side, narrower in (("start_us", max), ("end_us", min)):
        asked = how.get(side, span[side])
        span[side] = narrower(span[side], int(asked)) if isinstance(asked, int | np.integer) else asked
    return span


def _beside_the_frames(
    source: Any, how: Mapping[str, Any], name: str, times: NDArray[Any], offset: int
) -> RecordingError:
    """The error of a file that has no event around its frames, which says where it has some."""
    first, last = None, None
    for part in iterate_events(source, **{key: value for key, value in how.items() if key not in _OF_WHOLE}):
        first, last = int(part.t[0]) if first is None else first, int(part.t[-1])
    if first is None or last is None:
        return RecordingError(f"{name}: {source} holds no events; expected one event or more. Check the event file.")
    return RecordingError(
        f"{name}: the clocks do not overlap: frames from {times[0]} to {times[-1]} µs, events from {first + offset} to "
        f"{last + offset} µs, and none of them near a frame. Bring the events to the clock of the frames by offset_us, and check "
        "time_unit."
    )


def _refuse_options(clip: Mapping[str, Any], name: str) -> None:
    """What is said of single events means nothing for pictures of them."""
    said = [key for key in (*OPTIONS, "offset_us") if clip.get(key) is not None]
    if said:
        raise RecordingError(
            f"{name}: {said[0]} was said of a clip without single events; it has a meaning for these alone. Leave it out."
        )


def _given_times(source: Mapping[str, Any], steps: int | None, name: str) -> NDArray[np.int64] | None:
    times, rate = source.get("frame_times"), source.get("frames_per_second")
    if times is not None:
        return np.asarray(times)
    if rate is None:
        return None
    if not isinstance(rate, int | float) or not 0 < rate < 1e6 or steps is None:
        raise RecordingError(
            f"{name}: frames_per_second is {rate!r}; expected a positive number, and frames beside it."
        )
    return np.rint(np.arange(steps) * 1e6 / rate).astype(np.int64)
