"""The processor of MCO-E Net: frames and events of one clip, sampled together, each normalised by its own mean and deviation.

Notable:
- Event pictures as SEE stores them and raw events enter alike: raw events are accumulated, by the event voxelizer, into the same
  grey pictures (33 ms each), and everything after that is one path.
- In training and in repeated evaluation `processor.clip_sampling` draws the start of the clip; called on a clip whose time steps
  nobody has chosen, the processor takes the middle window, so that an answer never depends on chance.
- The published code draws by the rule "legacy", oddities included; "uniform" draws every window alike (the core's
  `clip_sampling.py`).
- A stream that `streams` leaves out is given as zeros, which is the mean picture, so that a model of one stream can be trained.

This file knows what the network wants to see of a clip; it does not know the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from meco_hub.errors import ConfigurationError, InputError, RecordingError
from meco_hub.processing.clip_sampling import ClipSampling
from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.processing.eye_preprocessor import EyePreprocessor
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clip_files import read_eye_clip
from meco_hub.recordings.eye_clips import ALIGNMENTS, STREAMS, EyeClip
from meco_hub.recordings.pictures import Pictures

FRAME_MEAN, FRAME_STD = 0.22616537, 0.118931554
"""Of the frames of SEE's training part, on the scale from 0 to 1, as the published code has them."""

EVENT_MEAN, EVENT_STD = 0.504413, 0.06928615
"""Of its event pictures."""

OUTPUTS = {"frames": "pixel_values", "events": "event_values"}


class MCOENetImageProcessor(EyePreprocessor):
    """Grey pictures, 100 by 100, normalised as SEE's frames; `MCOENetProcessor` gives it event pictures too."""

    size = {"shortest_edge": 100}  # noqa: RUF012 (transformers' own annotation-free convention)
    image_mean = (FRAME_MEAN,) * 3
    image_std = (FRAME_STD,) * 3


class MCOENetProcessor(ProcessorMixin):
    """Eye clips to `pixel_values` and `event_values`, both (batch, T, 3, S, S) float32.

    Args:
        feature_extractor: makes event pictures from raw events; a mapping gives its fields. Default: SEE's pictures.
        image_processor: resizes and normalises; a mapping gives its fields.
        num_frames: time steps of a clip, T.
        frame_stride: frames between two of them; 4 of 30 frames a second.
        sampling: how `clip_sampling` draws: "legacy" as published, or "uniform".
        streams: which of "frames" and "events" the network is shown; the published one sees both.
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
        self.streams = list(streams)
        self.event_mean, self.event_std = float(event_mean), float(event_std)
        self.event_alignment = event_alignment
        self._check()

    def _check(self) -> None:
        _ = self.clip_sampling  # which checks its own values
        if not self.streams or not set(self.streams) <= set(STREAMS) or len(set(self.streams)) != len(self.streams):
            raise ConfigurationError(f"streams is {self.streams}; expected {list(STREAMS)}, or one of them.")
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
        return list(OUTPUTS.values())

    def read(self, source: Any) -> EyeClip:
        """One clip from whatever `read_eye_clip` reads: a SEE sequence's folder, {"frames": …, "events": …}, an AEDAT4 file."""
        return read_eye_clip(source)

    def __call__(self, clips: Any, **kwargs: Any) -> BatchFeature:
        """Turn one clip, or a list of them, into a batch.

        Args:
            clips: `EyeClip`, or what `read` takes; or a list of these.
            return_tensors: "pt" or "np"; None gives lists of arrays (T, 3, S, S).

        Raises:
            RecordingError: a stream that `streams` asks for is missing or too short, or frames and events differ in size.
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
        shown: dict[str, list[Image.Image]] = {stream: [] for stream in STREAMS}
        for source in sources:
            for stream, pictures in self._pictures(self.read(source)).items():
                shown[stream] += pictures
        batch = {OUTPUTS[stream]: self._values(stream, pictures, len(sources)) for stream, pictures in shown.items()}
        if wanted is None:
            return BatchFeature({key: list(values) for key, values in batch.items()})
        return BatchFeature(batch, tensor_type=wanted)

    def _pictures(self, clip: EyeClip) -> dict[str, list[Image.Image]]:
        """The chosen pictures of each stream that is shown."""
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
        if "events" in self.streams:
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
        grey = self.feature_extractor(events, windows=spans, return_tensors="np")["event_values"][0]  # (T, H, W)
        return [Image.fromarray(np.rint(one * 255).astype(np.uint8)) for one in grey]

    def _values(self, stream: str, pictures: list[Image.Image], clips: int) -> NDArray[np.float32]:
        """(clips, T, 3, S, S) float32."""
        side = int(self.image_processor.size.shortest_edge)
        shape = (clips, self.num_frames, 3, side, side)
        if stream not in self.streams:
            return np.zeros(shape, np.float32)
        own = {} if stream == "frames" else {"image_mean": [self.event_mean] * 3, "image_std": [self.event_std] * 3}
        return self.image_processor(pictures, return_tensors="np", **own)["pixel_values"].reshape(shape)
