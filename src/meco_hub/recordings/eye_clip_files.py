"""Reading eye clips: folders of pictures, video files, event files, arrays, in the pairs in which they occur.

    read_eye_clip("SEE/frame/happiness/1_001_man_…")                  # event pictures in SEE/event/happiness/1_001_man_…
    read_eye_clip("recording/")                                       # holds frame/ and event/, or frames/ and events/
    read_eye_clip("davis.aedat4")                                     # a camera that records both into one file
    read_eye_clip({"frames": "eye.mp4", "events": "eye.raw"})         # video and event file; offset_us where their clocks differ
    read_eye_clip({"frames": array, "events": events, "frame_times": times})

This file knows where the two streams of a clip lie; what makes them fit together is known in `eye_clips.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordingError, unknown_name
from .event_recording import EventRecording
from .events import read_events
from .eye_clips import EyeClip
from .images import describe_source
from .pictures import PictureArray, PictureFiles, Pictures, as_pictures
from .video import VIDEO_SUFFIXES, VideoPictures, read_video

__all__ = ["read_eye_clip"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm"})
FOLDERS = (("frame", "event"), ("frames", "events"))
"""Names of the two folders in which pictures of a recording lie."""

KEYS = ("frames", "events", "frame_times", "frames_per_second", "offset_us", "name")
FRAMES_PER_SECOND = 30.0
"""What event cameras' frames are put on where a recording of single events alone is read."""


def read_eye_clip(source: Any) -> EyeClip:
    """Read one clip.

    Args:
        source: an `EyeClip`, which is given back; the path of a folder or file, as in the module's examples; or a mapping with

            - `frames`: a folder of pictures, a video file, or what `as_pictures` takes,
            - `events`: a folder of event pictures, an event file, an `EventRecording`, a structured array, a mapping of x, y, t, p,
            - `frame_times`: (T,) microseconds, where the frames do not bring theirs; or `frames_per_second`,
            - `offset_us`: added to the clock of raw events,
            - `name`: what errors call the clip.

    Raises:
        RecordingError: a stream is missing or cannot be read, or the two do not fit together; the message names the stream.
        ImageError: later, when a picture is decoded that is none.
        UnknownNameError: the mapping has a key that means nothing.
    """
    if isinstance(source, EyeClip):
        return source
    if isinstance(source, EventRecording):
        return _from_camera(source)
    if isinstance(source, Mapping):
        return _from_mapping(source)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source))
    raise RecordingError(
        f"{describe_source(source)} is no eye clip; expected an EyeClip, a path, or a mapping with frames and events."
    )


def _from_path(path: Path) -> EyeClip:
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise RecordingError(f"There is no file or folder {path}. Check the path.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise RecordingError(
            f'{path} is a video: frames without events. Pass {{"frames": video, "events": event file}}.'
        )
    return _from_camera(read_events(path))


def _from_camera(recording: EventRecording) -> EyeClip:
    """The clip of a camera that takes frames and events on one clock."""
    name = recording.name or "the event recording"
    if recording.frames is None or recording.frame_times is None or not len(recording.frames):
        raise RecordingError(
            f'{name} holds events without frames; expected both. Pass {{"frames": video or pictures, "events": this file}}, or '
            '{"events": this file} to a processor that reads events alone.'
        )
    return EyeClip(PictureArray(recording.frames), recording, recording.frame_times, name=name)


def _from_folder(path: Path) -> EyeClip:
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
    raise RecordingError(
        f"{path} is a folder without a second stream; expected one that holds frame/ and event/, or that lies below one of them, "
        'as SEE/frame/<emotion>/<sequence>. Or pass {"frames": folder, "events": folder or event file}.'
    )


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
    # 9.png stands before 10.png; names without a number follow the alphabet
    return sorted(
        found, key=lambda path: (not path.stem.isdecimal(), int(path.stem) if path.stem.isdecimal() else 0, path.name)
    )


def _from_mapping(source: Mapping[str, Any]) -> EyeClip:
    for key in source:
        if key not in KEYS:
            raise unknown_name("part of an eye clip", str(key), KEYS)
    frames, events = source.get("frames"), source.get("events")
    name = str(source.get("name") or _name_of(frames) or _name_of(events))
    if frames is not None and events is not None and _is_folder(frames) and _is_folder(events):
        clip = _paired(Path(frames), Path(events), name)
        times = _given_times(source, len(clip), name)
        return EyeClip(clip.frames, clip.events, times, name=name)
    pictures = _frames(frames)
    recorded = _events(events, source.get("offset_us"), name)
    steps = None if pictures is None else len(pictures)
    if steps is None and isinstance(recorded, Pictures):
        steps = len(recorded)
    times = _given_times(source, steps, name)
    if times is None and isinstance(pictures, VideoPictures):
        times = pictures.times
    if times is None and pictures is None and isinstance(recorded, EventRecording) and len(recorded):
        period = 1e6 / FRAMES_PER_SECOND
        count = max(1, int((recorded.t[-1] - recorded.t[0]) / period))
        times = recorded.t[0] + np.rint(np.arange(1, count + 1) * period).astype(np.int64)
    return EyeClip(pictures, recorded, times, name=name)


def _is_folder(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) and Path(source).is_dir()


def _name_of(source: Any) -> str:
    if isinstance(source, EventRecording):
        return source.name
    return Path(source).name if isinstance(source, str | os.PathLike) else ""


def _frames(source: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return None if source is None else as_pictures(source, "frames")
    path = Path(source)
    return PictureFiles(_pictures_in(path, "frames")) if path.is_dir() else read_video(path)


def _events(source: Any, offset_us: Any, name: str) -> Any:
    if source is None or isinstance(source, Pictures):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            return PictureFiles(_pictures_in(path, "events"))
        if not path.is_file():
            raise RecordingError(f"{name}: there is no event file {path}. Check the path.")
        recorded = read_video(path) if path.suffix.lower() in VIDEO_SUFFIXES else read_events(path)
    elif isinstance(source, EventRecording | Mapping) or getattr(getattr(source, "dtype", None), "names", None):
        recorded = EventRecording.from_any(source, name=name)
    else:
        recorded = as_pictures(source, "events")
    if offset_us is not None and isinstance(recorded, EventRecording):
        return recorded.shift(int(offset_us))
    return recorded


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
