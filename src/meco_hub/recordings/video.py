"""Films of faces, frame by frame: decoded as they are asked for, and forgotten; hours of film take the memory of one frame.

    film = Video("talk.mp4", fps=5)
    for frame in film:                  # frame.image (H, W, 3) uint8 RGB, frame.time in seconds, frame.cut
        …
    film.warnings                       # what was in doubt; whole once the film has been read

What is done on the way, and on purpose:
- PyAV decodes (extra `video`; BSD). Its wheels bring FFmpeg (LGPL) and, for encoding alone, x264 and x265 (GPL), which are loaded
  with it and never called; nothing of it is shipped here. A file may only be what its bytes say it is: playlists, and whatever else
  would make FFmpeg open another file or address, are refused.
- The size is judged by the header before a frame is decoded, and again by each frame.
- The rotation of the container is applied, by quarters, as players do; pixels that are not square are made so.
- A time is the frame's own time stamp, so a variable rate needs nothing; 0 is the first frame.
- Damaged frames are left out and counted. A film that breaks off ends there, with a warning.
- A cut is told from a small grey copy of every frame that is decoded, those too that nobody asked for.
"""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..answer_warnings import AnswerWarning, joined_by_code
from ..errors import ConfigurationError, InputError, RecordingError, import_optional
from ..reading import reading
from .images import describe_source, read_image
from .left_out import PartsLeftOut
from .pictures import CONTAINERS, MAX_FRAMES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

MAX_FRAME_PIXELS = 8192 * 4320
"""Of one frame, as declared or as decoded; a frame of 8K has as many."""

_SMALL = (32, 24)  # width and height, in pixels, of the copies that cuts are told from
_CUT = 0.1  # of the range of grey, by which two frames must differ on average to be of two shots
_SUDDEN = 4.0  # times as much as the frames before have differed from each other, so that fast motion is no cut
_RECENT = 12  # frames that this is about
_CAMERAS = 10_000  # beyond any number of a camera, those that OpenCV adds its backend's to among them
_GAP_S = 1.0  # seconds that a film may end before its declared end: clocks of sound and picture differ by less


@dataclass(frozen=True)
class Frame:
    """One frame of a film.

    Attributes:
        image: (H, W, 3) uint8, RGB, upright.
        time: seconds.
        cut: a new shot began since the frame before.
        warnings: what of those before it, since the last one that was handed out, could not be used.
    """

    image: NDArray[np.uint8]
    time: float
    cut: bool = False
    warnings: tuple[AnswerWarning, ...] = ()


class CutFinder:
    """Tells where one shot ends and the next begins: `finder(grey)` is True for the first frame of the new one.

    A frame begins a shot when it differs from the one before by a tenth of the range of grey on average, and by several times as
    much as the frames before it did. A dissolve is not seen; a flash is taken for a cut.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._steps: deque[float] = deque(maxlen=_RECENT)

    def __call__(self, grey: NDArray[np.uint8]) -> bool:
        """Whether this frame begins a shot; (h, w) uint8, a small copy, of one size each time."""
        values = np.asarray(grey, np.float32) / np.float32(255)
        last, self._last = self._last, values
        if last is None:
            return False
        step = float(np.abs(values - last).mean())
        usual = float(np.median(self._steps)) if self._steps else 0.0
        if step > _CUT and step > _SUDDEN * usual:
            self._steps.clear()
            return True
        self._steps.append(step)
        return False

    def see(self, image: NDArray[np.uint8]) -> bool:
        """The same for a whole frame, (H, W, 3) uint8, of any size."""
        rows = np.linspace(0, image.shape[0] - 1, 2 * _SMALL[1]).astype(int)
        columns = np.linspace(0, image.shape[1] - 1, 2 * _SMALL[0]).astype(int)
        grey = image[np.ix_(rows, columns)].mean(axis=2)
        return self(grey.reshape(_SMALL[1], 2, _SMALL[0], 2).mean(axis=(1, 3)).astype(np.uint8))


def frame_step(every: float | None, fps: float | None) -> float:
    """Seconds between two frames that are looked at, from the one or the other way of saying so; 0 for every frame.

    Raises:
        ConfigurationError: both were said, or one that is no positive number.
    """
    if every is not None and fps is not None:
        raise ConfigurationError(f"every={every!r} and fps={fps!r} were passed; expected one of them.")
    for name, value in (("every", every), ("fps", fps)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise ConfigurationError(f"{name} is {value!r}; expected a positive number. Leave it out for every frame.")
    return every or (1 / fps if fps else 0.0)


def is_video(source: Any) -> bool:
    """Whether something is a film: a `Video`, or a path with the ending of one."""
    if isinstance(source, str | os.PathLike):
        return Path(os.fsdecode(source)).suffix.lower() in VIDEO_SUFFIXES
    return isinstance(source, Video)


class Video:
    """A film in a file; iterating decodes it from its beginning, as often as it is done.

    Args:
        path: of the file.
        every: seconds between two frames that are given; by default each is.
        fps: how many are given a second, instead.
        after: seconds; frames up to this time are decoded, and not given, by whoever goes on with a film.
        progress: show how far it is on a terminal, in seconds of film, with the rate and the time left.

    Attributes:
        warnings: what is in doubt; complete when the film has been read.
        duration: seconds, as the file declares it; None where it does not.
        read_until: seconds, the time of the last frame that was decoded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: float | None = None,
        fps: float | None = None,
        after: float | None = None,
        progress: bool = False,
    ) -> None:
        self.name, self.after = os.fsdecode(path), after
        self._step, self._progress = frame_step(every, fps), progress
        self.warnings: tuple[AnswerWarning, ...] = ()
        self._beside: tuple[AnswerWarning, ...] = ()
        self.duration: float | None = None
        self.read_until = 0.0

    def __iter__(self) -> Iterator[Frame]:
        """Its frames, one at a time.

        Raises:
            RecordingError: no such file, no film, none with a picture that can be decoded, or one of absurd size.
            DependencyError: PyAV is not installed.
        """
        av: Any = import_optional("av", "Reading films", "video", "PyAV")
        if not Path(self.name).is_file():
            raise RecordingError(f"There is no video file {self.name}. Check the path.")
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        try:
            container = av.open(str(Path(self.name).absolute()), options=options, metadata_errors="replace")
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise RecordingError(
                f"{self.name} ({Path(self.name).stat().st_size} bytes) is not a video that can be read: {_plain(error)}. Expected "
                "mp4, mkv, avi or another container that holds its own frames, whole: the index of some files stands at their end. "
                "Copy or export it again."
            ) from error
        with container:
            stream = self._stream(av, container)
            total = None if self.duration is None else round(self.duration, 1)
            # None: on a terminal alone
            hidden = None if self._progress else True
            with tqdm(total=total, desc=Path(self.name).name, unit="s", leave=False, disable=hidden) as bar:
                for frame in self._frames(av, container, stream):
                    yield frame
                    bar.update(round(frame.time - bar.n, 3))

    def _frames(self, av: Any, container: Any, stream: Any) -> Iterator[Frame]:
        self.warnings, self.read_until = (), 0.0
        seen, whole = CutFinder(), _Damage()
        clock = _Clock(stream)
        given, cut, decoded = -1, False, 0
        for one in self._decoded(av, container, stream, whole):
            self._check_size(one.width, one.height)
            time = clock(one)
            decoded += 1
            if decoded > MAX_FRAMES:
                raise RecordingError(f"{self.name} has more than {MAX_FRAMES} frames. Cut it into parts.")
            self.read_until = time
            small = one.reformat(width=_SMALL[0], height=_SMALL[1], format="gray", interpolation="AREA").to_ndarray()
            cut = seen(small) or cut
            place = math.floor(time / self._step + 1e-6) if self._step else decoded
            if place > given:
                if self.after is None or time > self.after:
                    yield Frame(self._upright(one, stream.sample_aspect_ratio), time, cut)
                given, cut = place, False
        if not decoded:
            raise RecordingError(
                f"{self.name} holds no frame that can be decoded; expected a video. Copy or export it again."
            )
        self.warnings = (*self._beside, *whole.warnings(self.read_until + clock.period, self.duration))

    def _stream(self, av: Any, container: Any) -> Any:
        """The first stream of pictures; the cover of a song is none."""
        covers = getattr(av.stream.Disposition, "attached_pic", 0)
        found = [one for one in container.streams.video if not one.disposition & covers]
        if not found:
            others = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            raise RecordingError(f"{self.name} holds {others} and no pictures; expected a video. Name another file.")
        stream = found[0]
        if len(found) > 1:
            self._beside = (
                AnswerWarning(
                    "first_of_several",
                    f"{self.name} holds {len(found)} streams of pictures, as of several cameras; the first one was looked at. "
                    "Export the others as files of their own.",
                ),
            )
        if stream.codec_context is None:
            raise RecordingError(
                f"{self.name} is coded in a way that FFmpeg does not know. Export it as H.264, in an mp4 file."
            )
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        stream.thread_type = "AUTO"
        if stream.duration:
            self.duration = float(stream.duration * stream.time_base)
        elif container.duration:
            self.duration = container.duration / 1e6
        return stream

    def _upright(self, frame: Any, ratio: Fraction | None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, RGB, as a player shows it: of square pixels, turned as the container says."""
        width = frame.width
        if ratio and 0.2 < ratio < 5:
            width = max(1, round(frame.width * float(ratio)))
            self._check_size(width, frame.height)
        image = frame.reformat(width=width, format="rgb24").to_ndarray()
        quarters = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_FRAME_PIXELS:
            raise RecordingError(
                f"{self.name} has frames of {width}×{height} pixels; expected {MAX_FRAME_PIXELS} pixels at most. Scale it down."
            )

    def _decoded(self, av: Any, container: Any, stream: Any, damage: "_Damage") -> Iterator[Any]:
        """Every frame that is whole, and at the end of the file those that the decoder held back."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:  # PyAV's, of a stream that damage seems to open in the middle of a file
                packets = container.demux(stream)
                continue
            except av.error.FFmpegError as error:
                damage.broke_off = _plain(error)
                return
            damage.packets += packet.size > 0
            damage.corrupt += bool(getattr(packet, "is_corrupt", False))
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                damage.corrupt += 1
                continue
            for one in frames:
                if one.is_corrupt:
                    damage.corrupt += 1
                else:
                    yield one


@dataclass
class _Damage:
    """What was wrong with a file that could be opened."""

    packets: int = 0
    corrupt: int = 0
    broke_off: str = ""

    def warnings(self, end: float, declared: float | None) -> tuple[AnswerWarning, ...]:
        found = []
        if self.corrupt:
            found.append(
                AnswerWarning(
                    "frames_left_out",
                    f"{self.corrupt} of about {self.packets} frames cannot be decoded and were left out. Copy the file again.",
                )
            )
        short = declared is not None and declared - end > max(_GAP_S, 0.02 * declared)
        if self.broke_off or short:
            length = f" of {declared:.1f} seconds" if declared else ""
            why = f": {self.broke_off}" if self.broke_off else ""
            found.append(
                AnswerWarning(
                    "damaged_file",
                    f"The film breaks off after {end:.1f} seconds{length}{why}. Copy the file again, whole.",
                )
            )
        return tuple(found)


class _Clock:
    """The time of each frame, in seconds from the first, always later than the one before."""

    def __init__(self, stream: Any) -> None:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.period = float(1 / rate) if rate > 0 else 0.04
        self._offset = math.nan
        self._last = -self.period

    def __call__(self, frame: Any) -> float:
        own: float | None = frame.time
        if math.isnan(self._offset):
            self._offset = -(own or 0.0)
        time = self._last + self.period if own is None else own + self._offset
        if time <= self._last:  # joined parts, each with a clock that starts anew; or no clock at all
            time = self._last + self.period
            self._offset += 0.0 if own is None else time - own - self._offset
        self._last = time
        return round(time, 9)


def _plain(error: BaseException) -> str:
    """What FFmpeg says, without number and path."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


# --- Sources that go on -----------------------------------------------------------------------------------------------


def frames_of(source: Any, *, every: float | None = None, fps: float | None = None) -> tuple[Iterator[Frame], bool]:
    """The frames of whatever shows some, and whether it goes on whether or not somebody looks.

    Args:
        source: a `Video` or the path of one; the number of a webcam or the address of a camera, which OpenCV reads; or an iterable
            of `Frame`, of (picture, seconds), or of pictures that are of the moment at which they come.
        every, fps: as of `Video`.

    Raises:
        RecordingError: it is none of these, or later, a camera that gives nothing, or times that do not rise.
    """
    step = frame_step(every, fps)
    if isinstance(source, Video):
        return iter(source), False
    address = isinstance(source, str) and "://" in source
    number = source if isinstance(source, int) and not isinstance(source, bool) else None
    if number is not None and not 0 <= number < _CAMERAS:  # OpenCV 4.14 crashes at some negative ones
        raise RecordingError(f"There is no camera {source}; expected its number, 0 for the first. Check it.")
    if address or number is not None:
        return _sparse(_camera(source), step), True
    if isinstance(source, str | os.PathLike):
        return iter(Video(source, every=every, fps=fps)), False
    if isinstance(source, Iterable):
        return _sparse(_given(source), step), False
    raise RecordingError(
        f"{describe_source(source)} shows no frames; expected a video file, a webcam's number, or an iterable of frames."
    )


def _camera(source: Any) -> Iterator[Frame]:
    cv2 = import_optional("cv2", "Reading a camera", "video", "OpenCV")
    capture = cv2.VideoCapture(source)
    try:
        seen, begin = CutFinder(), None
        while True:
            fine, pixels = capture.read()
            if not fine:
                if begin is None:
                    raise RecordingError(
                        f"The camera {source!r} gives no picture. Check its number, and who else uses it."
                    )
                logger.warning(
                    "The camera %r gives no more pictures, after %.1f seconds.", source, time.monotonic() - begin
                )
                return
            begin = time.monotonic() if begin is None else begin
            image = np.ascontiguousarray(pixels[..., ::-1])
            yield Frame(image, time.monotonic() - begin, seen.see(image))
    finally:
        capture.release()


def _given(source: Iterable[Any]) -> Iterator[Frame]:
    seen, begin, last, left_out = CutFinder(), time.monotonic(), -math.inf, PartsLeftOut("frames_left_out")
    for place, one in enumerate(source):
        try:
            with reading(f"Frame {place} cannot be used", RecordingError, "Expected a picture, or (picture, seconds)."):
                if isinstance(one, Frame):
                    frame = one
                else:
                    picture, moment = one if isinstance(one, tuple) else (one, time.monotonic() - begin)
                    frame = Frame(np.asarray(read_image(picture)), float(moment))
                if not last < frame.time < math.inf:
                    raise RecordingError(
                        f"Frame {place} is of {frame.time!r} seconds, after one of {last!r}; expected times that rise. Sort the "
                        "frames."
                    )
        except InputError as error:
            left_out.note({"": error}, used=False)
            continue
        left_out.note({}, used=True)
        cut = frame.cut if frame is one else seen.see(frame.image)
        last = frame.time
        yield replace(frame, cut=cut, warnings=(*frame.warnings, *left_out.warnings()))
    if last == -math.inf:
        raise RecordingError(
            "No frame came; expected some, each a picture or (picture, seconds). Check what gives them."
        )


def _sparse(frames: Iterator[Frame], step: float) -> Iterator[Frame]:
    """One frame in every `step` seconds, each knowing of cuts, and of frames that could not be used, in between."""
    given, passed = -math.inf, None
    for frame in frames:
        passed = frame if passed is None else drop_frame(passed, frame)
        place = math.floor(frame.time / step + 1e-6) if step else math.inf
        if place > given or not step:
            yield passed
            given, passed = place, None


def drop_frame(dropped: Frame, newer: Frame) -> Frame:
    """A frame that knows of the cut at one before it, which nobody saw, and of what could not be used."""
    return replace(
        newer, cut=newer.cut or dropped.cut, warnings=tuple(joined_by_code([*dropped.warnings, *newer.warnings]))
    )
