"""From recordings of signals to windows on even grids: the feature extractor that is saved beside the weights.

    windower = SignalWindower({"ecg": {"channels": 2, "sampling_rate": 256.0}, "eda": {"channels": 1, "sampling_rate": 4.0}})
    clips = windower.cut(recording)                       # a long recording, once through all filters
    batch = windower(clips, return_tensors="pt")          # inputs, step_mask, timestamps, modality_presence

Notable:
- What a window shows of a stream is decided by `resampling.py`: real samples as they are where the rate fits, filtered and
  thinned ones of a faster stream, interpolated ones of a slower stream; and a mask that says where nothing was measured.
- `cut` does the expensive part once and returns views; windows that overlap cost no more than those that do not.
- The order of modalities is a field of its own, `modality_names`: transformers sorts the keys of what it saves.
- Values behind a False mask are 0, timestamps too, and every key is there whatever is missing.
- Times inside a window count from its start; nothing tells a model where in the recording it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..answer_warnings import AnswerWarning
from ..configuration import NoRemoteCode
from ..errors import ConfigurationError, RecordingError
from ..recordings.signal_recording import SignalRecording, Stream
from ..recordings.signals import SignalSource, regroup, to_recording
from .preprocessor import RecordingProcessor
from .raw_sensors import derive_streams
from .signal_doubts import check_reference, describe_range, fit_recording
from .signal_modalities import (
    LevelSample,
    Modality,
    add_own_level,
    check_fields,
    levels_of,
    parse_modality,
    refuse_field,
)
from .signal_preparation import (
    EDGE,
    SignalBatch,
    SignalClips,
    check_any,
    check_length,
    check_stride,
    collect,
    describe_streams,
    find_starts,
    fingerprint,
    prepare,
    read_annotations,
)

if TYPE_CHECKING:
    from .signal_stream import WindowStream

_OF_EACH = 512
"""Samples of a recording that its level is measured on."""

_FEW = 10
"""Windows; the level of fewer minutes says little of a person."""

_BOOKKEEPING = {"feature_extractor_type", "processor_class", "auto_map"}


class SignalWindower(RecordingProcessor, NoRemoteCode, FeatureExtractionMixin):
    """Clips of recordings to batches of windows.

    Args:
        modalities: stream name → settings, see `signal_modalities.Modality`.
        modality_names: their order in a batch; by default that of `modalities`.
        window_s: length of a window.
        stride_s: from the start of one window to the next; default: the window's length.
        context_margin_s: real samples that a window shows on either side of it, if there are any.
        context_after_s: of these, how many seconds after it; default: as many as before. With 0 a recording that goes on is
            answered at once, and nothing that comes later changes the answer.
        grid_step_s: step of the grid on which a model predicts over time; None when it answers once a window.
        spare_s: real samples that clips keep beyond that, invisible, for delays to draw on.
        last_window: what `cut` does with a rest shorter than a window: "pad" it behind masks; "align" the window with the end,
            where the recording is as long as one; or "drop" it unless it is all there is.
        normalization: centre and scale per channel: "population", those that `fit` found; "reference", the recording's own
            `reference`; "recording", median and IQR of the whole recording that was cut (each clip's own, uncut); "none".
        on_missing_reference: with "reference", for a stream that has none: "error", or "recording".
        clip_at: values beyond this many scales are cut back to it; None lets them be. Not with "none".
        statistics: modality → {"center": […], "scale": […]}, what `fit` found.
        target_names: annotations that `targets` reads when it is not told.

    Raises:
        ConfigurationError: a field is unknown or makes no sense.
    """

    model_input_names = ["inputs", "step_mask", "timestamps", "modality_presence"]  # noqa: RUF012 (transformers' convention)
    clips_at_once = 64

    def __init__(
        self,
        modalities: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        modality_names: Sequence[str] | None = None,
        window_s: float = 4.0,
        stride_s: float | None = None,
        context_margin_s: float = 0.0,
        context_after_s: float | None = None,
        grid_step_s: float | None = None,
        spare_s: float = 2.0,
        last_window: str = "pad",
        normalization: str = "population",
        on_missing_reference: str = "error",
        clip_at: float | None = 10.0,
        statistics: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
        target_names: Sequence[str] = (),
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        given = {name: dict(settings) for name, settings in (modalities or {}).items()}
        self.modalities = given
        self.modality_names = list(modality_names if modality_names is not None else given)
        self.window_s, self.stride_s = window_s, stride_s
        self.context_margin_s, self.context_after_s = context_margin_s, context_after_s
        self.grid_step_s, self.spare_s = grid_step_s, spare_s
        self.last_window, self.normalization = last_window, normalization
        self.on_missing_reference, self.clip_at = on_missing_reference, clip_at
        self.statistics = {name: {k: list(v) for k, v in one.items()} for name, one in (statistics or {}).items()}
        self.target_names = list(target_names)
        self.padding_value = padding_value  # pipelines ask for it when they collate
        for name in kwargs:
            if name not in _BOOKKEEPING:
                refuse_field(name, [field for field in vars(self) if field != "padding_value"])
        super().__init__(**kwargs)
        check_fields(self)

    # -----------------------------------------------------------------------------------------------------------
    # what follows from the fields

    def modality_list(self) -> list[Modality]:
        """The modalities in the order of a batch."""
        return [parse_modality(name, self.modalities[name]) for name in self.modality_names]

    @property
    def shown_after_s(self) -> float:
        """Seconds after a window of which it shows real samples."""
        return self.context_margin_s if self.context_after_s is None else self.context_after_s

    @property
    def num_steps(self) -> int:
        """Steps of the grid on which a model predicts."""
        if self.grid_step_s is None:
            raise ConfigurationError("This windower has no grid_step_s, so nothing is predicted over time. Set it.")
        return round(self.window_s / self.grid_step_s)

    # -----------------------------------------------------------------------------------------------------------
    # windows

    def __call__(
        self, recordings: SignalRecording | Sequence[SignalRecording], return_tensors: str | None = None
    ) -> SignalBatch:
        """Turn clips, each at most one window long, into a batch.

        What `cut` gives, or a slice of it, is done at once, which is faster than a list of the same clips and gives the same.

        Returns:
            `inputs` {name: (B, T_m, C_m) float32}, `step_mask` {name: (B, T_m) bool}, `timestamps` {name: (B, T_m) float32
            seconds from the window's start}, `modality_presence` (B, M) bool: anything measured in this window; and, when a
            clip says by how much its streams are late, `lag_targets` (B, M) float32 seconds, NaN unknown.

        Raises:
            RecordingError: a clip longer than a window; a stream with the wrong number of channels, a broken clock or a wrong
                rate; no `reference` where one is needed.
            ConfigurationError: `fit` was not called.
        """
        modalities = self.modality_list()
        settings: dict[str, Any] = {
            "window": self.window_s,
            "margin": self.context_margin_s,
            "after": self.shown_after_s,
            "clip_at": None if self.normalization == "none" else self.clip_at,
        }
        parts = self._parts(recordings, modalities)
        levels = levels_of([clips.recording for clips in parts], self.normalization, self.statistics)
        return collect(parts, levels, modalities, **settings).as_type(return_tensors)

    def _parts(
        self, recordings: SignalRecording | Sequence[SignalRecording], modalities: Sequence[Modality]
    ) -> list[SignalClips]:
        """Clips, checked and on their grids: all of a recording that was cut at once, others one by one."""
        if isinstance(recordings, SignalClips) and recordings.seconds <= self.window_s + EDGE:
            own = recordings.recording.prepared == fingerprint(tuple(modalities))
            shown = recordings.shown(modalities) if own else None
            if shown is not None:
                return [SignalClips(shown, recordings.starts, recordings.ends, recordings.margin)]
        clips = [recordings] if isinstance(recordings, SignalRecording) else list(recordings)
        for clip in clips:
            check_length(clip, self.window_s)
        return [SignalClips.of(self._prepare(clip, modalities)) for clip in clips]

    def cut(self, recording: SignalRecording, *, stride_s: float | None = None) -> SignalClips:
        """Cut a recording into clips that cover it from `start` to `end`.

        Its streams are filtered and put on their grids once, as a whole; the clips are views of that, with `context_margin_s`
        and `spare_s` of real samples on both sides. The last one ends with the recording: see `last_window`.

        Returns:
            A sequence that makes a clip when it is asked for one.
        """
        whole = self._prepare(recording, self.modality_list())
        starts = np.array(self.window_starts(recording.start, recording.end, stride_s), np.float64)
        ends = np.minimum(starts + self.window_s, recording.end)
        return SignalClips(whole, starts, ends, self.context_margin_s + self.spare_s + EDGE)

    def window_starts(self, start: float, end: float, stride_s: float | None = None) -> list[float]:
        """When the windows of a recording begin, on its own clock."""
        stride = next(one for one in (stride_s, self.stride_s, self.window_s) if one is not None)
        check_stride(stride, self.modality_list())
        return find_starts(start, end, window=self.window_s, stride=stride, last_window=self.last_window)

    def stream(
        self,
        *,
        start: float | None = None,
        stride_s: float | None = None,
        expected: Iterable[str] | None = None,
        timeout_s: float = 2.0,
        reference: Mapping[str, NDArray[np.floating]] | None = None,
        wait_for_filters: bool = True,
    ) -> "WindowStream":
        """Windows of a recording that is still going on, as they fill; see `signal_stream.WindowStream`."""
        from .signal_stream import WindowStream

        return WindowStream(
            self,
            start=start,
            stride_s=stride_s,
            expected=expected,
            timeout_s=timeout_s,
            reference=reference or {},
            wait_for_filters=wait_for_filters,
        )

    def _prepare(self, recording: SignalRecording, modalities: Sequence[Modality]) -> SignalRecording:
        """The recording on its grids, with the level that it is to be normalised by, measured on the whole of it."""
        ready = prepare(recording, modalities)
        if recording.prepared:
            return ready
        known = add_own_level(ready, modalities, self.normalization, self.on_missing_reference)
        return replace(ready, reference=known)

    # -----------------------------------------------------------------------------------------------------------
    # ground truth over time

    def step_times(self, clip: SignalRecording) -> NDArray[np.float64]:
        """(S,) seconds on the recording's clock at which the steps of a prediction over time hold: the cells' centres.

        Of a cell in which the recording ends it is the middle of what is left, and NaN for one that begins behind the end, of which
        nothing can be said. Without a grid a model answers once a window: the window is the cell.
        """
        centres = self._centres(clip)
        half = self.window_s / len(centres) / 2
        ends = np.minimum(centres + half, max(clip.end, clip.start + 2 * EDGE))
        return np.where(centres - half < ends - min(EDGE, half), (centres - half + ends) / 2, np.nan)

    def _centres(self, clip: SignalRecording) -> NDArray[np.float64]:
        """(S,) seconds at the centres of all cells, wherever the recording ends."""
        steps = 1 if self.grid_step_s is None else self.num_steps
        return clip.start + (np.arange(steps, dtype=np.float64) + 0.5) * (self.window_s / steps)

    def targets(
        self, clips: Sequence[SignalRecording], names: Sequence[str] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Annotations at the steps of the grid, interpolated linearly between two real samples, as streams are.

        Args:
            clips: as `cut` gives them.
            names: annotations, of one channel each; default `target_names`.

        Returns:
            (B, S, D) in native units, 0 where unknown, and (B, S, D) bool: known. Nothing is known beyond a clip's end.

        Raises:
            RecordingError: an annotation of more than one channel, or with a broken clock.
        """
        wanted = list(self.target_names if names is None else names)
        return read_annotations(clips, [self._centres(clip) for clip in clips], wanted)

    # -----------------------------------------------------------------------------------------------------------
    # normalisation

    def measure(self, recordings: SignalSource | Iterable[SignalSource]) -> dict[str, NDArray[np.float64]]:
        """Stream name → (2, channels): median and IQR, as a standard deviation, after this windower's filters.

        Of one person's recordings, or their baselines, this is a `reference`; recordings that share a person may share it.

        Args:
            recordings: whatever `read` takes, one or several.
        """
        if isinstance(recordings, SignalRecording | str | PathLike | Mapping):
            several: Any = [recordings]
        else:
            several = recordings
        samples = {name: LevelSample() for name in self.modality_names}
        for source in tqdm(several, desc="measuring signals", unit="recording", delay=2, leave=False, disable=None):
            recording = source if isinstance(source, SignalRecording) else self.read(source)
            for name, stream in prepare(recording, self.modality_list()).streams.items():
                samples[name].add(stream.between(recording.start, recording.end).values)
        levels = {one.name: samples[one.name].level(one) for one in self.modality_list()}
        return {name: level for name, level in levels.items() if level is not None}

    def fit(self, recordings: Iterable[SignalRecording]) -> None:
        """Find `statistics` on recordings of the training part, for "population"; and what its streams are like, for every one.

        The latter are `channel_names`, `units` and `trained_on` of the modalities; names and units that are given are kept.
        """
        seen: dict[str, list[Stream]] = {name: [] for name in self.modality_names}

        def noted() -> Iterator[SignalRecording]:
            for one in recordings:
                for name, streams in seen.items():
                    stream = one.streams.get(name)
                    if stream is not None and len(stream) > 1:
                        step = max(1, len(stream) // _OF_EACH)
                        streams.append(replace(stream, values=stream.values[::step], times=stream.times[::step]))
                yield one

        if self.normalization != "population":
            for _ in noted():
                pass
        levels = self.measure(noted()) if self.normalization == "population" else {}
        for name, found in describe_range({name: streams for name, streams in seen.items() if streams}).items():
            self.modalities[name] = {**found, **self.modalities[name], "trained_on": found["trained_on"]}
        if self.normalization != "population":
            return
        missing = [name for name in self.modality_names if name not in levels]
        if missing:
            raise RecordingError(
                f"No recording has a sample of {', '.join(missing)}, so it cannot be normalised. Expected it in some "
                "of them. Leave the modality out, or check the streams' names."
            )
        self.statistics = {name: {"center": one[0].tolist(), "scale": one[1].tolist()} for name, one in levels.items()}

    # -----------------------------------------------------------------------------------------------------------
    # for pipelines

    def rates_of_arrays(self) -> dict[str, float]:
        """Stream name → samples per second of arrays that come without a clock."""
        plain = [one for one in self.modality_list() if one.kind == "regular" and one.summary_s is None]
        return {one.name: one.sampling_rate for one in plain}

    def read(
        self, source: SignalSource, *, streams: Mapping[str, str | Sequence[str]] | None = None
    ) -> SignalRecording:
        """A file, a folder or a dict of streams as a recording; see `recordings.signals.to_recording`.

        Channels are put into the modalities' order and units, where both are named. What is in doubt is in its `warnings`.

        Args:
            source: what is read.
            streams: modality → the stream, or the channels, that it is made of; what is not named here stays as it is.

        Arrays without a clock tick at their modality's `sampling_rate`; of modalities that are summarised, whose rate is that of
        the summaries, arrays need a rate or times of their own.

        Raises:
            RecordingError: it cannot be read, or holds none of the modalities; channels are named and are others; clocks do not
                count seconds; it is too short.
        """
        recording = to_recording(source, rates=self.rates_of_arrays())
        if streams:
            recording = regroup(recording, streams, keep_others=True)
        if not recording.prepared:
            recording = derive_streams(recording, self.modality_list())
            check_any(recording, self.modality_names)  # a window of a recording that goes on may be silent
        return fit_recording(recording.spanned_by(self.modality_names), self.modality_list())

    def is_silent(self, recording: SignalRecording, clip: SignalRecording) -> bool:
        """Whether no modality has a sample in the clip itself; what a window shows from before and after it does not count."""
        if recording.silent is not None:
            return recording.silent
        return recording.is_silent(self.modality_names, clip.start, clip.end)

    def blank(self) -> SignalRecording:
        """One window in which nothing was measured."""
        return SignalRecording({}, start=0.0, end=self.window_s)

    def report(self, recording: SignalRecording) -> dict[str, Any]:
        """What became of each stream.

        Returns:
            `used` {modality: "copied", "decimated from 512 Hz", …}, `missing` [modality], `ignored` [stream that is no
            modality], `measured` {modality: share of the time from start to end that is not masked}, `level` {modality: by what it
            was normalised, "population", "none", "reference", or "recording" where it brings no reference}.
        """
        return describe_streams(
            recording,
            self.modality_list(),
            self.normalization,
            self.on_missing_reference,
            self.statistics,
            None if self.normalization == "none" else self.clip_at,
        )

    def check(self, recording: SignalRecording, clips: Sequence[SignalRecording]) -> list[AnswerWarning]:
        """Whether the level that the recording is normalised by says anything; the reader's doubts are on the recording.

        Raises:
            RecordingError: every input of the model would be 0, because one window is normalised by itself; or a reference was
                measured in another unit.
        """
        if recording.prepared:
            return []
        modalities = self.modality_list()
        check_reference(recording, modalities)
        own = self.normalization == "recording" or self.on_missing_reference == "recording"
        if not own or self.normalization not in ("recording", "reference"):
            return []
        summarised = [one for one in modalities if one.summary_s is not None and one.name in recording.streams]
        bare = replace(recording, streams={})
        if len(summarised) < sum(one.name in recording.streams for one in modalities):
            return []
        if any(add_own_level(bare, [one], self.normalization, "error").get(one.name) is not None for one in summarised):
            return []
        steps = round(recording.seconds / max(one.summary_s or 1.0 for one in summarised))
        name = recording.name or "The recording"
        advice = (
            "Expected that person's level: measure it on an earlier recording, level = processor.measure(earlier), and pass "
            "dataclasses.replace(recording, reference=level); or record for longer, with rest in it."
        )
        if steps <= 1:
            raise RecordingError(
                f"{name} lasts one window of {self.window_s:g} s and brings no reference: normalised by itself it is 0 whatever "
                f"was measured. {advice}"
            )
        if steps < _FEW:
            said = (
                f"{name} lasts {recording.seconds:g} s, {steps} windows, and is normalised by its own level. {advice}"
            )
            return [AnswerWarning("reference_needed", said)]
        return []
