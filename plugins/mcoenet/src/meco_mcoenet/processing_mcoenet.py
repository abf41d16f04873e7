"""The processor of MCO-E Net: frames and events of one clip, sampled together, each normalised by its own mean and deviation.

Notable:
- Event pictures as SEE stores them and raw events enter alike: raw events are accumulated, by the event voxelizer, into the same
  grey pictures (33 ms each), and everything after that is one path.
- In training and in repeated evaluation `processor.clip_sampling` draws the start of the clip; called on a clip whose time steps
  nobody has chosen, the processor takes the middle window, so that an answer never depends on chance.
- The published code draws by the rule "legacy", oddities included; "uniform" draws every window alike (the core's
  `ClipSampling`).
- A stream that `streams` leaves out is given as zeros, which is the mean picture, so that a model of one stream can be trained.
- A stream that a clip lacks is an error, unless `missing_modality` says "zeros", as the network's config may: then
  `modality_presence` marks it, and the answer says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from meco_hub.answer_warnings import AnswerWarning
from meco_hub.configuration import NoRemoteCode
from meco_hub.errors import ConfigurationError, InputError, RecordingError
from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.processing.eye_preprocessor import ClipSampling, EyePreprocessor, describe_steps, doubt_events, doubt_rate
from meco_hub.processing.eye_stream import EyeStream
from meco_hub.processing.face_eyes import EyeFollower
from meco_hub.processing.preprocessor import RecordingProcessor
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import ALIGNMENTS, MARGIN_US, STREAMS, EyeClip, read_eye_clip
from meco_hub.recordings.pictures import PictureArray, Pictures

from .configuration_mcoenet import MCOENetConfig

FRAME_MEAN, FRAME_STD = 0.22616537, 0.118931554
"""Of the frames of SEE's training part, on the scale from 0 to 1, as the published code has them."""

EVENT_MEAN, EVENT_STD = 0.504413, 0.06928615
"""Of its event pictures."""

OUTPUTS = {"frames": "pixel_values", "events": "event_values"}
PRESENCE = "modality_presence"


class MCOENetImageProcessor(EyePreprocessor):
    """Grey pictures, 100 by 100, normalised as SEE's frames; `MCOENetProcessor` gives it event pictures too."""

    size = {"shortest_edge": 100}  # noqa: RUF012 (transformers' own annotation-free convention)
    image_mean = (FRAME_MEAN,) * 3
    image_std = (FRAME_STD,) * 3


class MCOENetProcessor(RecordingProcessor, NoRemoteCode, ProcessorMixin):
    """Eye clips to `pixel_values` and `event_values`, both (batch, T, 3, S, S) float32.

    Args:
        feature_extractor: makes event pictures from raw events; a mapping gives its fields. Default: SEE's pictures.
        image_processor: resizes and normalises; a mapping gives its fields.
        num_frames: time steps of a clip, T.
        frame_stride: frames between two of them; 4 of 30 frames a second.
        sampling: how `clip_sampling` draws: "legacy" as published, or "uniform".
        streams: which of "frames" and "events" the network is shown; the published one sees both.
        missing_modality: what becomes of a stream that is shown and that a clip lacks: "error", or "zeros" for a network whose
            config says so too; `for_config` takes it from there.
        event_mean, event_std: of event pictures, on the scale from 0 to 1.
        event_alignment: where the window of an event picture lies, seen from its frame: "before", "around" or "after". SEE's makers
            do not say; its length is the feature extractor's `window_us`.

    Raises:
        ConfigurationError: a value makes no sense.
    """

    def __init__(
        self,
        feature_extractor: EventVoxelizer | Mapping[str, Any] | None = None,
        image_processor: MCOENetImageProcessor | Mapping[str, Any] | None = None,
        num_frames: int = 4,
        frame_stride: int = 4,
        sampling: str = "legacy",
        streams: Sequence[str] = STREAMS,
        missing_modality: str = "error",
        event_mean: float = EVENT_MEAN,
        event_std: float = EVENT_STD,
        event_alignment: str = "before",
    ) -> None:
        if feature_extractor is None or isinstance(feature_extractor, Mapping):
            fields: dict[str, Any] = {"representation": "event_frame", **(feature_extractor or {})}
            feature_extractor = EventVoxelizer(**fields)
        if image_processor is None or isinstance(image_processor, Mapping):
            own: dict[str, Any] = dict(image_processor or {})
            image_processor = MCOENetImageProcessor(**own)
        super().__init__(feature_extractor, image_processor)
        self.num_frames, self.frame_stride, self.sampling = num_frames, frame_stride, sampling
        self.streams, self.missing_modality = list(streams), missing_modality
        self.event_mean, self.event_std = float(event_mean), float(event_std)
        self.event_alignment = event_alignment
        self._check()

    @classmethod
    def for_config(cls, config: MCOENetConfig, **settings: Any) -> Self:
        """A processor of clips as long and pictures as large as a model takes them, which lacks what the model can do without.

        Args:
            config: the model's.
            settings: any argument; `image_processor` here adds fields to those that the config decides.
        """
        pictures = settings.pop("image_processor", None)
        if pictures is None or isinstance(pictures, Mapping):
            pictures = {"size": {"shortest_edge": config.image_size}, **(pictures or {})}
        decided = {"num_frames": config.num_frames, "missing_modality": config.missing_modality}
        return cls(**{"image_processor": pictures, **decided, **settings})

    def _check(self) -> None:
        _ = self.clip_sampling  # which checks its own values
        if not self.streams or not set(self.streams) <= set(STREAMS) or len(set(self.streams)) != len(self.streams):
            raise ConfigurationError(f"streams is {self.streams}; expected {list(STREAMS)}, or one of them.")
        if self.missing_modality not in ("error", "zeros"):
            raise ConfigurationError(f"missing_modality is {self.missing_modality!r}; expected 'error' or 'zeros'.")
        if not (np.isfinite([self.event_mean, self.event_std]).all() and self.event_std > 0):
            raise ConfigurationError(
                f"event_mean {self.event_mean} and event_std {self.event_std} must be finite, and the latter positive."
            )
        if self.event_alignment not in ALIGNMENTS:
            raise ConfigurationError(f"event_alignment is {self.event_alignment!r}; expected {', '.join(ALIGNMENTS)}.")
        grids = self.feature_extractor
        if grids.representation != "event_frame" or grids.window_us is None or grids.size or grids.normalize != "none":
            raise ConfigurationError(
                f"The feature extractor gives {grids.representation}, window_us {grids.window_us}, size {grids.size}, normalize "
                f"{grids.normalize!r}; expected event_frame in windows of time, neither resized nor normalised: both are done "
                "here, as with event pictures."
            )

    @property
    def clip_sampling(self) -> ClipSampling:
        """Draws the time steps of a clip at random: `clip_sampling(clip, generator) -> clip`."""
        return ClipSampling(self.num_frames, self.frame_stride, self.sampling)

    @property
    def model_input_names(self) -> list[str]:
        return [*OUTPUTS.values(), *([PRESENCE] if self.missing_modality == "zeros" else [])]

    def read(self, source: Any) -> EyeClip:
        """One clip from whatever `read_eye_clip` reads: a SEE sequence's folder, {"frames": …, "events": …}, an AEDAT4 file."""
        return read_eye_clip(source, margin_us=max(MARGIN_US, self.feature_extractor.window_us))

    def follow(self, *, faces: str | None = None, min_face: float | None = None) -> EyeFollower:
        """One eye of everybody in a film of faces, with simulated events; see `EyeFollower`."""
        side, window_us = int(self.image_processor.size.shortest_edge), int(self.feature_extractor.window_us or 0)
        return EyeFollower(self.clip_sampling, side, window_us=window_us, faces=faces, min_face=min_face)

    def stream(self, *, reference: Any = None) -> EyeStream:
        """Clips of a recording that is still going on, as they are complete; `reference` has no meaning here."""
        window = int(self.feature_extractor.window_us or 0)
        after = {"before": 0, "around": window - window // 2, "after": window}[self.event_alignment]
        return EyeStream(self.clip_sampling, self.streams, before_us=window, after_us=after)

    @property
    def cuts(self) -> bool:
        return False  # training and evaluation draw by `clip_sampling`

    def cut(self, recording: EyeClip, *, stride_s: float | None = None) -> Sequence[EyeClip]:
        """A clip of more than ten seconds as windows over its whole length, one a second; a shorter one as it is.

        See `ClipSampling.windows`; `stride_s` has no meaning here, because frames need not have times.
        """
        return self.clip_sampling.windows(recording)

    def blank(self) -> EyeClip:
        """A clip in which nothing is to be seen, for places in a batch whose clip cannot be used."""
        side = int(self.image_processor.size.shortest_edge)
        black, grey = np.zeros((1, side, side), np.uint8), np.full((1, side, side), 128, np.uint8)
        return EyeClip(PictureArray(black), PictureArray(grey), name="a blank clip").at([0] * self.num_frames)

    def report(self, clip: EyeClip) -> dict[str, Any]:
        """What became of each stream: `used` {stream: how}, and `missing` [stream], in whose place stands the mean picture."""
        window = f"single events of {self.feature_extractor.window_us} µs each"
        ways = {"frames": "frames", "events": window if clip.is_raw else "event pictures"}
        there = [stream for stream in self.streams if getattr(clip, stream) is not None]
        return {
            "used": {stream: ways[stream] for stream in there},
            "missing": [one for one in self.streams if one not in there],
        }

    def locate(self, clip: EyeClip) -> dict[str, Any]:
        """What is looked at: `start` and `end` in seconds, `frames` and `events`; see `describe_steps`."""
        return describe_steps(*self._looked_at(clip))

    def check(self, recording: EyeClip, clips: Sequence[EyeClip]) -> list[AnswerWarning]:
        found: list[AnswerWarning] = []
        for clip in clips:
            looked_at = self._looked_at(clip)
            found += doubt_rate(*looked_at[:2])
            found += doubt_events(*looked_at) if "events" in self.streams else []
        return found

    def _looked_at(self, clip: EyeClip) -> tuple[EyeClip, Sequence[int], int, str]:
        chosen = clip if clip.chosen is not None else self.clip_sampling.centered(clip)
        return clip, chosen.chosen or (), int(self.feature_extractor.window_us or 0), self.event_alignment

    def __call__(self, clips: Any, **kwargs: Any) -> BatchFeature:
        """Turn one clip, or a list of them, into a batch.

        Args:
            clips: `EyeClip`, or what `read` takes; or a list of these.
            return_tensors: "pt" or "np"; None gives lists of arrays (T, 3, S, S).

        Raises:
            RecordingError: a stream that `streams` asks for is missing (see `missing_modality`) or too short, or frames and events
                differ in size.
            ImageError: a picture cannot be read; the message names it.
            InputError: an empty list.
            ConfigurationError: another keyword argument.
        """
        wanted = kwargs.pop("return_tensors", None)
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} has no option {next(iter(kwargs))!r}; it has return_tensors."
            )
        sources = clips if isinstance(clips, list | tuple) else [clips]
        if not sources:
            raise InputError("An empty list was given; expected at least one eye clip.")
        shown = [self._pictures(self.read(source)) for source in sources]
        batch = {OUTPUTS[stream]: self._values(stream, [found.get(stream) for found in shown]) for stream in STREAMS}
        if self.missing_modality == "zeros":
            batch[PRESENCE] = np.array([[stream in found for stream in STREAMS] for found in shown])
        if wanted is None:
            return BatchFeature({key: list(values) for key, values in batch.items()})
        return BatchFeature(batch, tensor_type=wanted)

    def _pictures(self, clip: EyeClip) -> dict[str, list[Image.Image]]:
        """The chosen pictures of each stream that is shown and there."""
        if self.missing_modality == "error" or not any(getattr(clip, stream) is not None for stream in self.streams):
            clip.require(self.streams)
        chosen = clip if clip.chosen is not None else self.clip_sampling.centered(clip)
        steps = list(chosen.chosen or ())
        if len(steps) != self.num_frames:
            raise RecordingError(
                f"{clip.called}: {len(steps)} time steps were chosen; expected {self.num_frames}. Draw them by the processor's "
                "clip_sampling."
            )
        found: dict[str, list[Image.Image]] = {}
        if "frames" in self.streams and isinstance(clip.frames, Pictures):
            found["frames"] = clip.frames.read(steps)
        if "events" in self.streams and clip.events is not None:
            events = clip.events
            pictures = events.read(steps) if isinstance(events, Pictures) else self._accumulate(clip, steps, found)
            found["events"] = pictures
        self._check_sizes(clip, {stream: {picture.size for picture in pictures} for stream, pictures in found.items()})
        return found

    @staticmethod
    def _check_sizes(clip: EyeClip, sizes: Mapping[str, set[tuple[int, int]]]) -> None:
        for stream, different in sizes.items():
            if len(different) > 1:
                raise RecordingError(
                    f"{clip.called}: the {stream} have the sizes {sorted(different)} (width, height); expected one."
                )
        if len(set[tuple[int, int]]().union(*sizes.values())) > 1:
            (frames,), (events,) = sizes["frames"], sizes["events"]
            raise RecordingError(
                f"{clip.called}: the events have {events[0]}×{events[1]} pixels, the frames {frames[0]}×{frames[1]}; expected the "
                "same view at the same resolution. Register one to the other and crop or scale it before."
            )

    def _accumulate(self, clip: EyeClip, steps: list[int], found: Mapping[str, list[Image.Image]]) -> list[Image.Image]:
        """Event pictures of raw events, 8 bits deep as SEE's are."""
        spans = clip.event_spans(steps, self.feature_extractor.window_us, self.event_alignment)
        events = clip.events
        if isinstance(events, EventRecording) and events.width is None and "frames" in found:
            # both show the same view, so the sensor is as large as the frames; what lies outside is still an error
            width, height = found["frames"][0].size
            events = replace(events, width=width, height=height)
        try:
            grey = self.feature_extractor(events, windows=spans, return_tensors="np")["event_values"][0]  # (T, H, W)
        except RecordingError as error:
            sensor = " The sensor is taken to be as large as the frames." if events is not clip.events else ""
            raise RecordingError(
                f"{clip.called}: the events cannot be shown beside the frames: {error}{sensor}"
            ) from error
        return [Image.fromarray(np.rint(one * 255).astype(np.uint8)) for one in grey]

    def _values(self, stream: str, shown: Sequence[list[Image.Image] | None]) -> NDArray[np.float32]:
        """(clips, T, 3, S, S) float32, zeros where a clip has no pictures."""
        side = int(self.image_processor.size.shortest_edge)
        values = np.zeros((len(shown), self.num_frames, 3, side, side), np.float32)
        there = [place for place, pictures in enumerate(shown) if pictures is not None]
        if there:
            own = {} if stream == "frames" else {"image_mean": [self.event_mean] * 3, "image_std": [self.event_std] * 3}
            flat = [picture for pictures in shown if pictures is not None for picture in pictures]
            made = self.image_processor(flat, return_tensors="np", **own)["pixel_values"]
            values[there] = made.reshape(len(there), *values.shape[1:])
        return values
