"""The event voxelizer: events of a recording become tensors, the same way in training, evaluation and the pipeline.

    voxelizer = EventVoxelizer(representation="voxel_grid", bins=5, sensor_size={"height": 260, "width": 346})
    voxelizer(recording)["event_values"]                        # (1, 5, 260, 346)
    EventVoxelizer(representation="event_frame")(recording)     # (1, T, H, W): one grey picture per 33 ms

| representation | channels | value |
|---|---|---|
| voxel_grid | bins | signed polarity, shared linearly between the nearest of `bins` instants |
| polarity_counts | 2: OFF, ON | number of events |
| time_surface | 2: OFF, ON | exp(−(end − t)/decay_us) of the last event |
| event_frame | 1 | grey picture in [0, 1]: 128/255 where nothing happened, white brighter, black darker |

An event frame is computed as the 8-bit picture that a file would hold, resized as Pillow resizes pictures, and divided by
255: a recording and its event pictures differ by what the JPEG lost, and by nothing else.

Time runs from the first to the last event of a recording or of a window of so many events; in a window of so many
microseconds it runs from the window's beginning to its end. Windows of time follow one another without gaps from the first event
(or `start_us`) on; one without events is a window all the same, and the last may be filled in part. A recording without events
gives one window in which nothing happened. Windows of events hold the same number each, but for the last.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature, FeatureExtractionMixin

from ..configuration import NoRemoteCode
from ..errors import ConfigurationError, InputError, RecordingError, suggest
from ..recordings.event_recording import OUT_OF_BOUNDS, EventRecording
from ..recordings.events import read_events
from .event_grids import BACKGROUND, EventGrid, EventPicture, LastEventPicture, PolarityCounts, TimeSurface, VoxelGrid
from .preprocessor import RecordingProcessor

REPRESENTATIONS = ("voxel_grid", "polarity_counts", "time_surface", "event_frame")
NORMALIZATIONS = ("none", "nonzero_std", "mean_std")
SEE_WINDOW_US = 33_000
"""What the event pictures of the SEE data set accumulate, microseconds."""

MAX_WINDOWS = 200_000
"""In one recording; more come from a damaged time stamp, or from a window that was meant in another unit."""

_BOOKKEEPING = {"feature_extractor_type", "processor_class", "auto_map"}  # what transformers writes beside the fields
_SIDES = ("height", "width")
_CORNER = ("top", "left")

Span = tuple[int, int]


class EventVoxelizer(RecordingProcessor, NoRemoteCode, FeatureExtractionMixin):
    """Events to `event_values`, float32.

    Args:
        representation: one of `REPRESENTATIONS`.
        bins: instants of a voxel grid.
        decay_us: time constant of a time surface, microseconds.
        contribution: what one event adds to or takes from the middle grey of an event frame.
        last_event_decides: instead, each pixel of an event frame is white or black by its last event.
        window_us: cut into windows of so many microseconds; event frames have 33,000 where neither this nor the next is given.
        window_events: cut into windows of so many events.
        sensor_size: {"height", "width"} in pixels; None where recordings know theirs; where both say it, they must agree.
        crop: {"top", "left", "height", "width"} in sensor pixels; what lies outside is left out, and is no error.
        size: {"height", "width"} to which the grid is resized, bilinear and antialiased as Pillow does it.
        normalize: "nonzero_std": per window, values that are not 0 get mean 0 and standard deviation 1; "mean_std": all values, by
            `mean` and `std`; "none".
        mean, std: numbers for "mean_std".
        out_of_bounds: "error", or "drop": events outside the sensor are left out and counted in `dropped_events`; a recording may
            say otherwise of itself.

    Raises:
        ConfigurationError: an argument is unknown or makes no sense.
    """

    model_input_names = ["event_values"]  # noqa: RUF012 (transformers' own annotation-free convention)

    def __init__(
        self,
        representation: str = "voxel_grid",
        bins: int = 5,
        decay_us: float = 50_000.0,
        contribution: float = 0.5,
        last_event_decides: bool = False,
        window_us: int | None = None,
        window_events: int | None = None,
        sensor_size: Mapping[str, int] | None = None,
        crop: Mapping[str, int] | None = None,
        size: Mapping[str, int] | None = None,
        normalize: str = "none",
        mean: float = 0.0,
        std: float = 1.0,
        out_of_bounds: str = "error",
        **kwargs: Any,
    ) -> None:
        fields = [name for name in EventVoxelizer.__init__.__annotations__ if name not in ("kwargs", "return")]
        if unknown := next((name for name in kwargs if name not in _BOOKKEEPING), None):
            raise ConfigurationError(
                f"EventVoxelizer has no field {unknown!r}.{suggest(unknown, fields, 1)} It has {', '.join(fields)}."
            )
        super().__init__(**kwargs)
        self.representation = representation
        self.bins = bins
        self.decay_us = decay_us
        self.contribution = contribution
        self.last_event_decides = last_event_decides
        if representation == "event_frame" and window_us is None and window_events is None:
            window_us = SEE_WINDOW_US
        self.window_us, self.window_events = window_us, window_events
        self.sensor_size = None if sensor_size is None else dict(sensor_size)
        self.crop = None if crop is None else dict(crop)
        self.size = None if size is None else dict(size)
        self.normalize, self.mean, self.std = normalize, mean, std
        self.out_of_bounds = out_of_bounds
        self._check_values()

    def _check_values(self) -> None:
        """Raise ConfigurationError where a field has a value that makes no sense, by itself or beside another."""
        choices = (
            ("representation", REPRESENTATIONS),
            ("normalize", NORMALIZATIONS),
            ("out_of_bounds", OUT_OF_BOUNDS),
            ("last_event_decides", (False, True)),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(map(repr, known))}."
                )
        for name in ("bins", "window_us", "window_events"):
            value = getattr(self, name)
            optional = name != "bins"
            if not (optional and value is None) and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise ConfigurationError(f"{name} is {value!r}; expected a whole number from 1 on.")
        for name in ("decay_us", "contribution", "std"):
            if not _is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; expected a positive number.")
        if not _is_number(self.mean):
            raise ConfigurationError(f"mean is {self.mean!r}; expected a number.")
        for name, wanted in (("sensor_size", _SIDES), ("size", _SIDES), ("crop", (*_CORNER, *_SIDES))):
            value = getattr(self, name)
            if value is not None and (
                set(value) != set(wanted)
                or not all(
                    isinstance(part, int) and part >= (0 if key in _CORNER else 1) for key, part in value.items()
                )
            ):
                raise ConfigurationError(
                    f"{name} is {value}; expected whole numbers for {', '.join(wanted)}, in pixels."
                )
        if self.window_us is not None and self.window_events is not None:
            raise ConfigurationError(
                "window_us and window_events are both given; expected one: windows of time or of events."
            )
        if self.normalize == "nonzero_std" and self.representation == "event_frame":
            raise ConfigurationError(
                'An event frame has no zeros to leave out; expected normalize="mean_std" or "none".'
            )

    @property
    def padding_value(self) -> float:
        """What stands where nothing happened, and in windows that only fill up a batch."""
        value = BACKGROUND if self.representation == "event_frame" else 0.0
        return (value - self.mean) / self.std if self.normalize == "mean_std" else value

    def read(self, source: Any) -> EventRecording:
        """A recording from a path, or from anything else that `read_events` knows."""
        return read_events(source, frames=False)

    def __call__(
        self, events: Any, *, windows: Any = None, start_us: int | None = None, return_tensors: str | None = None
    ) -> BatchFeature:
        """Lay one recording or a list of them on grids.

        Args:
            events: what `read_events` takes: a path, a recording, a structured array, an (events, 4) array, a mapping of x, y, t
                and p or of `events`, with options where there are any; or a list of these.
            windows: (W, 2) int64 microseconds, start ≤ t < end, instead of the configured windows; or a list, one per recording.
            start_us: where windows of time begin; None: at each recording's first event.
            return_tensors: "pt" or "np"; None gives NumPy arrays.

        Returns:
            BatchFeature with
            - `event_values`: (B, channels, H, W) float32 where there are no windows; (B, W, channels, H, W) where there are, and
              (B, W, H, W) for event frames.
            - `window_mask`: (B, W) bool, where there are windows; False where a recording had fewer and `padding_value` fills up.
            - `dropped_events`: (B,) int64, events outside the sensor.

        Raises:
            RecordingError: a recording cannot be used; the message names it.
            InputError: an empty list, or grids of different sizes without `size`.
        """
        recordings = (
            [self.read(source) for source in events] if isinstance(events, list | tuple) else [self.read(events)]
        )
        if not recordings:
            raise InputError("An empty list was given; expected at least one event recording.")
        per_recording = isinstance(windows, list | tuple) and np.ndim(windows[0]) == 2
        spans = list(windows) if per_recording else [windows] * len(recordings)
        if len(spans) != len(recordings):
            raise InputError(
                f"{len(spans)} sets of windows were given for {len(recordings)} recordings; expected one each."
            )
        grids, dropped = [], []
        for recording, span in zip(recordings, spans, strict=True):
            outside = recording.out_of_bounds or self.out_of_bounds
            kept, lost = _keep_inside(recording, _find_sensor(recording, self.sensor_size), outside)
            parts = _cut_windows(
                kept, windows=span, window_us=self.window_us, window_events=self.window_events, start_us=start_us
            )
            grids.append([self._make_grid(part, *times) for part, times in parts])
            dropped.append(lost)
        return self._batch(grids, dropped, windows is not None or self._windowed, return_tensors)

    @property
    def _windowed(self) -> bool:
        return self.window_us is not None or self.window_events is not None

    def _new_grid(self, recording: EventRecording, start: int, end: int) -> EventGrid:
        height, width = _find_sensor(recording, self.sensor_size)
        if self.crop:
            if self.crop["top"] + self.crop["height"] > height or self.crop["left"] + self.crop["width"] > width:
                raise RecordingError(
                    f"{recording.name or 'The recording'}: the crop {self.crop} does not lie on the sensor of {width}×{height} "
                    "pixels. Change the crop."
                )
            height, width = self.crop["height"], self.crop["width"]
        if self.representation == "voxel_grid":
            return VoxelGrid(height, width, bins=self.bins, start_us=start, end_us=end)
        if self.representation == "polarity_counts":
            return PolarityCounts(height, width)
        if self.representation == "time_surface":
            return TimeSurface(height, width, end_us=end, decay_us=self.decay_us)
        if self.last_event_decides:
            return LastEventPicture(height, width)
        return EventPicture(height, width, contribution=self.contribution)

    def _columns(self, part: EventRecording) -> tuple[NDArray, NDArray, NDArray[np.int64], NDArray[np.uint8]]:
        if not self.crop:
            return part.x, part.y, part.t, part.p
        # unsigned: what lies left of or above the crop becomes huge
        x, y = part.x - np.uint16(self.crop["left"]), part.y - np.uint16(self.crop["top"])
        keep = (x < self.crop["width"]) & (y < self.crop["height"])
        return x[keep], y[keep], part.t[keep], part.p[keep]

    def _make_grid(self, part: EventRecording, start: int, end: int) -> NDArray[np.float32]:
        grid = self._new_grid(part, start, end)
        grid.add(*self._columns(part))
        return self._finish(grid)

    def _finish(self, grid: EventGrid) -> NDArray[np.float32]:
        """(channels, height, width), resized and normalised."""
        if isinstance(grid, EventPicture | LastEventPicture) and self.size:
            picture = Image.fromarray(grid.picture()).resize(
                (self.size["width"], self.size["height"]), Image.Resampling.BILINEAR
            )
            values = np.asarray(picture, np.float32)[None] / np.float32(255)
        else:
            values = grid.finish()
            if self.size:
                where = (self.size["width"], self.size["height"])
                resized = [Image.fromarray(plane).resize(where, Image.Resampling.BILINEAR) for plane in values]
                values = np.stack([np.asarray(plane, np.float32) for plane in resized])
        if self.normalize == "mean_std":
            values = (values - np.float32(self.mean)) / np.float32(self.std)
        elif self.normalize == "nonzero_std":
            filled = values != 0
            if filled.any():
                some = values[filled].astype(np.float64)
                deviation = some.std()
                values[filled] = (some - some.mean()) / deviation if deviation > 0 else 0.0
        return values

    def _batch(
        self, grids: list[list[NDArray[np.float32]]], dropped: list[int], windowed: bool, return_tensors: str | None
    ) -> BatchFeature:
        shapes = {grid.shape for windows in grids for grid in windows}
        if len(shapes) > 1:
            raise InputError(
                f"The recordings give grids of the shapes {sorted(shapes)} (channels, height, width), which no batch can hold. Set "
                "size, or pass recordings of one sensor."
            )
        shape = next(iter(shapes), None)
        if shape is None:
            raise InputError("There are no windows in what was given; expected at least one.")
        most = max(map(len, grids))
        values = np.full((len(grids), most, *shape), self.padding_value, np.float32)
        mask = np.zeros((len(grids), most), np.bool_)
        for row, windows in enumerate(grids):
            for column, grid in enumerate(windows):
                values[row, column] = grid
            mask[row, : len(windows)] = True
        data: dict[str, Any] = {"event_values": values}
        if self.representation == "event_frame":
            data["event_values"] = values[:, :, 0]  # the one channel gives way to the windows
        elif not windowed:
            data["event_values"] = values[:, 0]
        if windowed:
            data["window_mask"] = mask
        data["dropped_events"] = np.asarray(dropped, np.int64)
        return BatchFeature(data, tensor_type=return_tensors)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _find_sensor(recording: EventRecording, configured: Mapping[str, int] | None) -> tuple[int, int]:
    """Height and width of the sensor, by the recording or by the `configured` size.

    Raises:
        RecordingError: neither is known, or they disagree.
    """
    called = recording.name or "The recording"
    own = (recording.height, recording.width)
    given = (configured["height"], configured["width"]) if configured else (None, None)
    height, width = own[0] or given[0], own[1] or given[1]
    if height is None or width is None:
        raise RecordingError(
            f"{called} does not say how many pixels its sensor has. Give width= and height= when reading, or sensor_size={{…}}."
        )
    if None not in own and None not in given and own != given:
        raise RecordingError(
            f"{called} is of a sensor with {own[1]}×{own[0]} pixels; expected {given[1]}×{given[0]}. Change sensor_size, or use "
            "the recording of the right camera."
        )
    return height, width


def _keep_inside(recording: EventRecording, sensor: tuple[int, int], out_of_bounds: str) -> tuple[EventRecording, int]:
    """The events on a sensor of (height, width), and how many were not.

    Raises:
        RecordingError: `out_of_bounds` is "error" and there is one outside.
    """
    height, width = sensor
    if not len(recording) or (int(recording.x.max()) < width and int(recording.y.max()) < height):
        return recording, 0
    keep = (recording.x < width) & (recording.y < height)
    lost = int(np.count_nonzero(~keep))
    if out_of_bounds == "error":
        first = int(np.argmin(keep))
        raise RecordingError(
            f"{recording.name or 'The recording'}: {lost} of {len(recording)} events lie outside the sensor of {width}×{height} "
            f"pixels, the first (number {first}) at x = {recording.x[first]}, y = {recording.y[first]}. Correct the size, or "
            'set out_of_bounds="drop".'
        )
    columns = [getattr(recording, column)[keep] for column in ("x", "y", "t", "p")]
    return EventRecording(*columns, width=recording.width, height=recording.height, name=recording.name), lost


def _cut_windows(
    recording: EventRecording,
    *,
    windows: Any = None,
    window_us: int | None = None,
    window_events: int | None = None,
    start_us: int | None = None,
) -> Iterator[tuple[EventRecording, Span]]:
    """Every window's events, with the time from which and to which it runs.

    Raises:
        InputError: `windows` is not (W, 2) whole microseconds.
        RecordingError: there would be more than `MAX_WINDOWS`.
    """
    beginning = start_us or 0
    first, last = (int(recording.t[0]), int(recording.t[-1])) if len(recording) else (beginning, beginning)
    if windows is not None:
        pairs = np.asarray(windows)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or (pairs[:, 0] > pairs[:, 1]).any():
            raise InputError(
                f"windows has shape {pairs.shape} and dtype {pairs.dtype}; expected (W, 2) whole µs, start ≤ end."
            )
        for start, end in pairs.tolist():
            yield recording.between(start, end), (start, end)
    elif window_us is not None:
        start = first if start_us is None else start_us
        _check_number(recording.name, start, last, window_us)
        for begin in range(start, max(last, start) + 1, window_us):
            yield recording.between(begin, begin + window_us), (begin, begin + window_us)
    elif window_events is not None:
        for index in range(0, max(len(recording), 1), window_events):
            part = recording.slice(index, index + window_events)
            yield part, (int(part.t[0]), int(part.t[-1])) if len(part) else (first, last)
    else:
        yield recording, (first, last)


def _check_number(name: str, start: int, last: int, window_us: int) -> None:
    """An error where the windows from `start` to `last` would be absurdly many."""
    if (last - start) // window_us >= MAX_WINDOWS:
        raise RecordingError(
            f"{name or 'The recording'} runs from {start} to {last} µs, {(last - start) // window_us} windows of {window_us} µs; "
            f"at most {MAX_WINDOWS} are made. A time stamp is damaged, or the unit of time is wrong."
        )
