"""From a clip of one eye to pixel tensors: which time steps are looked at, and what becomes of their pictures.

The image processor, which is saved beside the weights:
- The shorter side is resized to `size`, keeping the proportions, by Pillow's bilinear filter, which averages when it makes a
  picture smaller; then the middle square is cut out. Both are what torchvision's Resize and CenterCrop do to a PIL image.
- Pictures become grey (ITU-R 601 luma), which changes nothing in grey ones, and the grey is repeated on three channels.

The sampling, for a few time steps, evenly apart, from a random or a fixed start:

    sampling = ClipSampling(num_frames=4, stride=4, sampling="legacy")
    sampling(clip, generator)          # in training and in repeated evaluation: a random start, as a clip with `chosen` steps
    sampling.centered(clip)            # where the answer must not depend on chance: the window in the middle

"legacy" draws as the code does that the published figures come from, oddities included:
- A phase is drawn from 0 … stride, inclusive, one value too many: phase `stride` is phase 0 without its first frame.
- Of the n frames that phase keeps, the first of the window is drawn from 0 … max(0, n − num_frames − 1), inclusive: where there
  is any choice, the last possible window is never drawn.
- Where fewer than num_frames are kept, they are repeated from the beginning.

"uniform" draws every window of num_frames frames, `stride` apart, with the same probability, and refuses clips that are too short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs

from ..answer_warnings import AnswerWarning
from ..errors import ConfigurationError, InputError, RecordingError, require_count
from ..recordings.event_recording import EventRecording
from ..recordings.eye_clips import FRAMES_PER_SECOND, EyeClip
from ..recordings.images import read_image
from .pixel_preprocessor import PixelPreprocessor

GREY = (118.0, 138.0)
"""Between which grey levels the median of an event picture lies; SEE's stand on 128."""

_ENOUGH_EVENTS = 100
"""From which on a camera that is in order has seen both brighter and darker."""

SLOW = 20.0
"""Frames a second, below which an eye's movements between two frames are guessed rather than seen."""

LONG = 300
"""Time steps, up to which a clip is one answer: ten seconds at 30 frames a second, as long as sequences of an experiment are."""

EVERY = 30
"""Time steps from one window of a longer clip to the next: a second, at 30 frames a second."""

SAMPLING_RULES = ("legacy", "uniform", "center")


class EyePreprocessorKwargs(ImagesKwargs, total=False):
    """The field of `EyePreprocessor` beside those of transformers' image processors.

    Attributes:
        do_grayscale: make the picture grey and repeat it on three channels; else its three channels are kept.
    """

    do_grayscale: bool | None


class EyePreprocessor(PixelPreprocessor):
    """Pictures of eyes to `pixel_values` (pictures, 3, S, S), float32, where S is the size's shortest edge."""

    valid_kwargs = EyePreprocessorKwargs

    size = {"shortest_edge": 100}  # noqa: RUF012 (transformers' own annotation-free convention)
    default_to_square = False
    do_center_crop = True
    do_normalize = True
    do_grayscale = True

    fixed_fields: ClassVar[dict[str, tuple[Any, ...]]] = {
        **PixelPreprocessor.fixed_fields,
        "do_resize": (None, True),
        "do_center_crop": (None, True),
    }
    fixed_because = 'it gives the middle square of every picture, channels first, as "pt", "np" or a list'

    def _validate_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        size = given.get("size")
        side = isinstance(size, int) and not isinstance(size, bool)
        return super()._validate_fields({**given, "size": {"shortest_edge": size}} if side else given)

    def _check_values(self, **kwargs: Any) -> None:
        size = {key: value for key, value in dict(kwargs["size"] or {}).items() if value is not None}
        edge = size.get("shortest_edge")
        if list(size) != ["shortest_edge"] or not isinstance(edge, int) or edge < 1:
            raise ConfigurationError(f'The size is {size}; expected {{"shortest_edge": pixels}}.')
        super()._check_values(**kwargs)

    def _prepare_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> list[Image.Image]:
        sources = images if isinstance(images, list | tuple) else [images]
        if not sources:
            raise InputError("An empty list was given; expected at least one picture.")
        # what is grey already stays so: making three channels of it, and one of them again, gives the same numbers
        return [one if isinstance(one, Image.Image) and one.mode == "L" else read_image(one) for one in sources]

    def _preprocess(self, images: list[Image.Image], **kwargs: Any) -> BatchFeature:
        side, resample = int(kwargs["size"].shortest_edge), kwargs["resample"]
        coloured = [picture.convert("L") if kwargs["do_grayscale"] else picture for picture in images]
        return self._to_batch([fit_square(picture, side, resample) for picture in coloured], **kwargs)


def fit_square(picture: Image.Image, side: int, resample: int = PILImageResampling.BILINEAR) -> Image.Image:
    """The middle square of a picture whose shorter side was made `side` pixels long; `picture` itself if it is that already."""
    width, height = picture.size
    short, long = sorted((width, height))
    if short != side:
        far = int(side * long / short)  # truncated, as torchvision does
        width, height = (side, far) if width <= height else (far, side)
        picture = picture.resize((width, height), Image.Resampling(int(resample)))
    if width == height:
        return picture
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture.crop((left, top, left + side, top + side))


def describe_steps(clip: EyeClip, steps: Sequence[int], window_us: int, alignment: str) -> dict[str, Any]:
    """What is looked at of a clip, as answers hold it; None for what the clip has not.

    Args:
        clip, steps: the time steps that were chosen.
        window_us, alignment: of raw events, as of `EyeClip.event_spans`.

    Returns:
        `start` and `end`, seconds on the clip's clock, of the frames and windows; `frames`, how many; `events`, how many raw ones
        lie in the windows; and of an eye in a film, where it was.
    """
    spans = None
    if clip.frame_times is not None and len(steps):
        spans = np.stack([clip.frame_times[list(steps)]] * 2, axis=1)
    counts = None
    if clip.is_raw and len(steps):
        spans = clip.event_spans(steps, window_us, alignment)
        counts = events_in(clip, spans)
    return {
        "start": None if spans is None else int(spans.min()) / 1e6,
        "end": None if spans is None else int(spans.max()) / 1e6,
        "frames": None if clip.frames is None else len(steps),
        "events": None if counts is None else int(counts.sum()),
        **clip.seen_at,
    }


def events_in(clip: EyeClip, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """(windows,) how many raw events of a clip lie in each of (windows, 2) spans of microseconds."""
    times = clip.events.t if isinstance(clip.events, EventRecording) else np.empty(0, np.int64)
    return np.diff(np.searchsorted(times, spans), axis=1)[:, 0]


def doubt_rate(clip: EyeClip, steps: Sequence[int]) -> list[AnswerWarning]:
    """That frames lie far apart between the first and the last time step: a low rate, or a gap in the recording."""
    if (
        clip.frames is None or clip.frame_times is None or clip.seen_at or len(steps) < 2
    ):  # of a film its follower says so
        return []
    first, last = min(steps), max(steps)
    rate = (last - first) / max(int(clip.frame_times[last] - clip.frame_times[first]) / 1e6, 1e-6)
    return [slow_frames(rate)] if 0 < rate < SLOW else []


def slow_frames(rate: float) -> AnswerWarning:
    """The doubt about frames of so low a rate, a second."""
    return AnswerWarning(
        "frame_rate_low",
        f"{rate:.3g} frames a second show the eye; expected {SLOW:g} or more. What it did between them is guessed.",
    )


def doubt_events(clip: EyeClip, steps: Sequence[int], window_us: int, alignment: str) -> list[AnswerWarning]:
    """Doubts about the events at the time steps of a clip; arguments as of `describe_steps`."""
    if isinstance(clip.events, EventRecording):
        return [*_doubt_windows(clip, clip.events, steps, window_us, alignment), *_doubt_polarity(clip.events)]
    if clip.events is None:
        return []
    median = float(np.median([np.median(np.asarray(one.convert("L"))) for one in clip.events.read(steps)]))
    if GREY[0] <= median <= GREY[1]:
        return []
    return [
        AnswerWarning(
            "background_not_grey",
            f"The event pictures have the median grey {median:.0f}; expected {GREY[0]:.0f} to {GREY[1]:.0f}, with 128 where "
            "nothing happened. Draw them on middle grey, or pass the events themselves.",
        )
    ]


def _doubt_windows(
    clip: EyeClip, events: EventRecording, steps: Sequence[int], window_us: int, alignment: str
) -> list[AnswerWarning]:
    """That windows hold no event."""
    empty = int((events_in(clip, clip.event_spans(steps, window_us, alignment)) == 0).sum())
    if not empty:
        return []
    if {"simulated", "live"} & events.notes.keys():
        seen = f"{empty} of the {len(steps)} windows that are looked at hold no event: nothing was seen to move there."
        return [AnswerWarning("no_events_in_window", f"{seen} Check that the camera is not covered, or frozen.")]
    return [
        AnswerWarning(
            "no_events_in_window",
            f"{empty} of the {len(steps)} windows that are looked at hold no event; the recording has {len(events)}, from "
            f"{int(events.t[0])} to {int(events.t[-1])} µs, the frames run from {int(clip.frame_times[0])} to "  # type: ignore[index]
            f"{int(clip.frame_times[-1])} µs. Check that both are on one clock, or shift the events by offset_us.",  # type: ignore[index]
        )
    ]


def _doubt_polarity(events: EventRecording) -> list[AnswerWarning]:
    """That all events of a camera have one polarity; of simulated and live ones that may be so for a while."""
    if len(events) < _ENOUGH_EVENTS or {"simulated", "live"} & events.notes.keys() or events.p.min() < events.p.max():
        return []
    return [
        AnswerWarning(
            "one_polarity",
            f"All {len(events)} events have the polarity {int(events.p[0])}; expected both 0 (darker) and 1 (brighter). Check the "
            "column of polarity, or whether a filter left out half of the events.",
        )
    ]


@dataclass(frozen=True)
class ClipSampling:
    """Chooses time steps of a clip: `sampling(clip, generator) -> clip`; usable as a recipe's augmentation.

    Attributes:
        num_frames: how many are chosen.
        stride: distance between two of them, in frames.
        sampling: "legacy" or "uniform", as above; "center" chooses the middle window whatever the generator.

    Raises:
        ConfigurationError: a value makes no sense.
    """

    num_frames: int = 4
    stride: int = 4
    sampling: str = "legacy"

    def __post_init__(self) -> None:
        for key in ("num_frames", "stride"):
            require_count(f"ClipSampling's {key}", getattr(self, key))
        if self.sampling not in SAMPLING_RULES:
            raise ConfigurationError(
                f"ClipSampling's sampling is {self.sampling!r}; expected {', '.join(SAMPLING_RULES)}."
            )

    @property
    def span(self) -> int:
        """Frames from the first chosen one to the last, both included."""
        return (self.num_frames - 1) * self.stride + 1

    def __call__(self, clip: EyeClip, generator: np.random.Generator) -> EyeClip:
        """The clip with time steps chosen at random, the same for frames and events.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.draw(len(clip), generator, clip.called))

    def centered(self, clip: EyeClip) -> EyeClip:
        """The clip with its middle window chosen.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.center(len(clip), clip.called))

    def windows(self, clip: EyeClip) -> list[EyeClip]:
        """A long clip as windows over its whole length, `EVERY` steps apart and one at its end; a shorter one as it is.

        Up to `LONG` steps a clip is one answer, by its middle window, as the published figures are.
        """
        if len(clip) <= LONG or clip.chosen is not None:
            return [clip]
        last = len(clip) - self.span
        return [clip.at(self._window(start)) for start in [*range(0, last, max(EVERY, self.span)), last]]

    def nearest(self, times: NDArray[np.float64], begin: float) -> list[int] | None:
        """The frames nearest to a clip's time steps, which lie as far apart as at `FRAMES_PER_SECOND`.

        Args:
            times: (frames,) seconds, increasing.
            begin: of the clip, seconds.

        Returns:
            Places in `times`; None where two steps would be one frame, or a frame is nearer to another step.
        """
        wanted = begin + np.arange(self.num_frames) * self.stride / FRAMES_PER_SECOND
        if not len(times):
            return None
        places = np.abs(times[None, :] - wanted[:, None]).argmin(axis=1)
        far = np.abs(times[places] - wanted) > self.stride / FRAMES_PER_SECOND / 2 + 1e-6
        return None if far.any() or (np.diff(places) < 1).any() else places.tolist()

    def draw(self, length: int, generator: np.random.Generator, called: str = "the clip") -> list[int]:
        """Time steps of a clip of `length` steps, drawn by the rule.

        Raises:
            RecordingError: the clip is too short.
        """
        if self.sampling == "legacy":
            return self._draw_legacy(length, generator, called)
        if self.sampling == "center":
            return self.center(length, called)
        self._check(length, called)
        return self._window(int(generator.integers(0, length - self.span + 1)))

    def center(self, length: int, called: str = "the clip") -> list[int]:
        """Time steps of the middle window; half a step before the middle where it cannot be met.

        Raises:
            RecordingError: the clip is too short.
        """
        self._check(length, called)
        return self._window((length - self.span) // 2)

    def _draw_legacy(self, length: int, generator: np.random.Generator, called: str) -> list[int]:
        phase = int(generator.integers(0, self.stride + 1))
        kept = list(range(phase, length, self.stride))
        if not kept:
            raise RecordingError(
                f"{called} has {length} time steps; the sampler begins at step {phase}. Expected {self.stride + 1} or more. "
                "Record longer."
            )
        begin = int(generator.integers(0, max(0, len(kept) - self.num_frames - 1) + 1))
        window = kept[begin : begin + self.num_frames]
        return [window[place % len(window)] for place in range(self.num_frames)]

    def _window(self, start: int) -> list[int]:
        return list(range(start, start + self.span, self.stride))

    def _check(self, length: int, called: str) -> None:
        if length < self.span:
            raise RecordingError(
                f"{called} has {length} time steps; expected {self.span} or more, for {self.num_frames} frames that lie "
                f"{self.stride} apart. Record longer, or use a processor with a smaller stride."
            )
