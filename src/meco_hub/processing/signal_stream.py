"""Windows of a recording that is still going on: samples go in as they come, clips come out when they are complete.

    stream = windower.stream()
    for chunk in device:                                    # {"ecg": (values, times), "eda": (values, times)}
        for clip in stream.push(chunk):
            model(**windower(clip, return_tensors="pt"))
    rest = stream.flush()

A window is complete when no sample that could still come would change it: each stream's clock has passed its end, by as much as
a filter looks ahead. Then it equals the window that `cut` makes of the whole recording, as far as each stream's clock is of one
kind, even or not, all the way. What is older than the next window needs is forgotten.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, joined_by_code
from ..errors import ConfigurationError, InputError, RecordingError
from ..reading import reading
from ..recordings.left_out import PartsLeftOut
from ..recordings.signal_recording import SignalRecording, Stream, StreamCollector, even_rate
from ..recordings.signal_times import as_seconds, check_pause
from ..recordings.signals import check_rate, take_apart
from .resampling import GridPlan
from .signal_doubts import doubt_beginning, doubt_clock, doubt_names, doubt_samples, fit_stream
from .signal_modalities import Modality
from .signal_preparation import check_any, check_channels, fingerprint, plan_stream
from .signal_presence import FEWEST, STILL_S, Past, find_flat, mask_unmeasured

if TYPE_CHECKING:
    from .signal_windower import SignalWindower

_SETTLED = 64
"""Samples after which the rate of a stream is taken as known."""

Chunk = Stream | NDArray[np.floating] | tuple[NDArray[np.floating], NDArray[np.float64] | float]


class WindowStream:
    """Made by `SignalWindower.stream`.

    Args:
        windower: whose windows are cut.
        start: when the first window begins, on the samples' clock; default: the earliest sample of the first push.
        stride_s: from one window's start to the next's; default: the windower's.
        expected: streams that windows wait for; default: every modality.
        timeout_s: how far the fastest clock may run ahead of a stream's before windows stop waiting for that stream.
        reference: stream name → (2, channels) level, for a windower that normalises by it.
        wait_for_filters: False: windows come as soon as the clocks have passed their end; filters then make do with the samples
            that are there, and the last half-width of a filter differs a little from what `cut` gives.

    Raises:
        ConfigurationError: the windower normalises by the level of a whole recording, which nobody knows before its end; or
            `expected` names no modality.
    """

    def __init__(
        self,
        windower: "SignalWindower",
        *,
        start: float | None = None,
        stride_s: float | None = None,
        expected: Iterable[str] | None = None,
        timeout_s: float = 2.0,
        reference: Mapping[str, NDArray[np.floating]],
        wait_for_filters: bool = True,
    ) -> None:
        self._windower = windower
        self._modalities = {one.name: one for one in windower.modality_list()}
        self._expected = set(self._modalities if expected is None else expected)
        if not self._expected <= set(self._modalities):
            raise ConfigurationError(
                f"expected names {sorted(self._expected - set(self._modalities))}; the modalities are {list(self._modalities)}."
            )
        by_own_level = windower.normalization == "recording" or windower.on_missing_reference == "recording"
        if windower.normalization in ("recording", "reference") and by_own_level and not reference:
            raise ConfigurationError(
                "This windower normalises by the level of the whole recording, which is not known before its end. Expected that "
                "person's level: stream(reference=windower.measure([an earlier recording]))."
            )
        if not timeout_s >= 0:
            raise ConfigurationError(f"timeout_s is {timeout_s!r}; expected seconds, not negative.")
        self._start, self._stride, self._timeout = start, stride_s, timeout_s
        self._reference, self._wait = dict(reference), wait_for_filters
        self._mark = fingerprint(tuple(self._modalities.values()))
        self._rates = windower.rates_of_arrays()
        self._doubts: list[AnswerWarning] = []
        self._left_out = PartsLeftOut()
        self._strange: dict[str, Stream] = {}  # one sample of each stream that is no modality
        self._begun: set[str] = set()  # streams whose beginning was looked at
        self._read_doubts: set[tuple[str, str]] = set()  # what readers of pieces doubted
        self._named = self._ended = False
        self._index = 0
        self._buffers: dict[str, _Buffer] = {}

    @property
    def nbytes(self) -> int:
        """Memory of the samples that are kept."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    @property
    def clock(self) -> float:
        """Time of the latest sample of any stream; −∞ before the first."""
        return max((buffer.latest for buffer in self._buffers.values()), default=-np.inf)

    def push(self, samples: "SignalRecording | Mapping[str, Chunk] | Chunk") -> list[SignalRecording]:
        """Take samples, and hand out the windows that they complete, as clips for the windower.

        Args:
            samples: what the windower's `read` takes, files apart: a recording, or stream name → a `Stream`, (values, times),
                (values, rate) or values alone, of (samples,) or (samples, channels), or of pandas with times of its own; times
                are whatever a call takes, of one kind all the way. What has no times follows on the last sample;
                values alone tick at the modality's `sampling_rate`, and of modalities that are summarised they need a clock.
                Without names when there is one modality. Streams that are no modality are not read; where one is missed that they
                may be, the first window has the warning `stream_name_unknown`; where a level fits training in another unit only,
                `unit_unlikely`.

        A packet that came before, all of it or a part, is left out, and the next window has the warning `packet_repeated`.

        So is a part that cannot be used, with the warning `part_left_out`: no numbers, the wrong number of channels, a clock that
        stands still or runs backwards, also from one push to the next, or that jumps by a day. The rest goes on.

        Raises:
            RecordingError: such parts from the first, or very many after each other: of these nothing would ever be answered.
                Nothing of that push is kept. Or a clock that counts in no seconds; or a reference was measured in another unit.
        """
        chunks, failed = self._usable(samples)
        self._left_out.note(failed, used=any(map(len, chunks.values())))
        for name, chunk in chunks.items():
            if name not in self._begun and name in self._buffers:
                chunk = joined([self._buffers[name].stream, chunk])
            if name not in self._begun and len(chunk) >= _SETTLED:  # not when a window is full: it may never be
                doubt_clock(chunk, self._modalities[name], f"stream {name!r}")
        named = samples.streams if isinstance(samples, SignalRecording) else samples
        samples = named if isinstance(named, Mapping) else {}
        self._strange |= {
            name: replace(one, values=one.values[:1].copy(), times=one.times[:1].copy())
            if isinstance(one, Stream)
            else Stream(np.zeros((1, 1)), np.zeros(1))
            for name, one in samples.items()
            if name not in self._modalities and name not in self._strange
        }
        for name, chunk in chunks.items():
            if len(chunk):
                self._buffers.setdefault(name, _Buffer(self._modalities[name])).append(chunk)
        if self._start is None and self._buffers:
            self._start = min(buffer.earliest for buffer in self._buffers.values())
        ready = []
        while self._start is not None and self._is_complete(self._begin()):
            ready.append(self._clip(self._begin(), self._begin() + self._windower.window_s))
            self._index += 1
        if ready:
            self._forget()
        return ready

    def flush(self) -> list[SignalRecording]:
        """The windows that remain when no more samples come, the last one as the windower's `last_window` says.

        Raises:
            RecordingError: nothing came but streams that are no modality.
        """
        if self._start is None:
            if self._strange:
                check_any(SignalRecording(self._strange), list(self._modalities))
            return []
        self._ended = True
        end = max(buffer.end for buffer in self._buffers.values())
        starts = self._windower.window_starts(self._start, end, self._stride)[self._index :]
        self._index += len(starts)
        return [self._clip(start, min(start + self._windower.window_s, end)) for start in starts]

    def _usable(self, samples: Any) -> tuple[dict[str, Stream], dict[str, InputError]]:
        """What of a piece continues the streams, and why the other parts do not."""
        chunks: dict[str, Stream] = {}
        failed: dict[str, InputError] = {}
        if isinstance(samples, SignalRecording):
            self._doubt_once(samples.warnings)
            samples = samples.streams
        if not isinstance(samples, Mapping) and len(self._modalities) != 1:
            said = f"Samples came as {type(samples).__name__} without the name of their stream; expected a dict with some of"
            return {}, {"": RecordingError(f"{said} {', '.join(self._modalities)}.")}
        if not isinstance(samples, Mapping):
            samples = {next(iter(self._modalities)): samples}
        for name in (name for name in samples if name in self._modalities):
            try:
                with reading(
                    f"stream {name!r} cannot be read", RecordingError, "Expected numbers, and their times or rate."
                ):
                    chunks[name] = self._read(name, samples[name])
            except InputError as error:
                failed[name] = error
        now = self.clock if self._buffers else self._start
        for name, chunk in sorted(chunks.items(), key=lambda one: one[1].times[0] if len(one[1]) else -np.inf):
            try:
                check_pause(now, chunk.times, "a sample of any stream")
            except InputError as error:
                failed[name] = error
                del chunks[name]
            else:
                now = max(float(chunk.times[-1]), -np.inf if now is None else now) if len(chunk) else now
        return chunks, failed

    def _begin(self) -> float:
        """When the next window begins."""
        assert self._start is not None
        stride = next(
            one for one in (self._stride, self._windower.stride_s, self._windower.window_s) if one is not None
        )
        return self._start + self._index * stride

    def _read(self, name: str, chunk: Chunk) -> Stream:
        """A chunk as a stream that continues the last one."""
        modality, buffer = self._modalities[name], self._buffers.get(name)
        where = f"stream {name!r}"
        if isinstance(chunk, Stream):
            stream = chunk
        else:  # not by `to_stream`: a packet may be too short to tell a rate by, or rows from columns
            columns, clock, channels = take_apart(chunk, self._rates.get(name), where)
            if np.ndim(clock) == 1:
                found = StreamCollector(where)
                times = as_seconds(clock, where, found, after=buffer.latest if buffer else None)
                self._doubt_once(found.warnings)
                stream = Stream(columns, times, channels=channels)
            else:
                rate = check_rate(clock, where)
                start = buffer.latest + 1 / rate if buffer else (self._start or 0.0)
                stream = Stream.regular(columns, rate, start=start, channels=channels)
        check_channels(stream, name, modality.stream_channels, "")
        stream, doubts = fit_stream(stream, modality, f"Stream {name!r}")
        self._doubts += doubts if buffer is None else []
        if buffer is not None and len(stream) and stream.times[0] <= buffer.latest:
            again = np.isin(stream.times, buffer.stream.times)
            if again.any():
                self._doubts.append(
                    AnswerWarning(
                        "packet_repeated",
                        f"Samples of {name!r} from {stream.times[again][0]:.3f} to {stream.times[again][-1]:.3f} s came twice; "
                        "expected each once. The first ones are kept. Check what sends them.",
                    )
                )
                stream = replace(stream, values=stream.values[~again], times=stream.times[~again])
        times = stream.times if buffer is None else np.concatenate([[buffer.latest], stream.times])
        if not np.isfinite(times).all() or (len(times) > 1 and np.diff(times).min() <= 0):
            raise RecordingError(
                f"{where}: the clock stands still, runs backwards or is no number between {times[0]:.6f} s and {times[-1]:.6f} s. "
                "Expected times that increase from push to push. Leave out samples that come late."
            )
        return stream

    def _is_complete(self, start: float) -> bool:
        """Would no sample that can still come change this window?"""
        end = start + self._windower.window_s + self._windower.shown_after_s
        clock = self.clock
        if clock < end - self._windower.window_s / 2:  # before that, plans would be made on too little
            return False
        for name in self._expected:
            buffer = self._buffers.get(name)
            needed = end if buffer is None else buffer.needs(end, self._start or 0.0, self._wait)
            if buffer is not None and buffer.latest >= needed:
                continue
            # events further apart than their longest gap are not joined, so none that comes later matters
            if clock < needed + max(self._timeout, self._modalities[name].max_gap or 0.0):
                return False
        return bool(self._expected) or clock >= end

    def _clip(self, start: float, end: float) -> SignalRecording:
        windower = self._windower
        streams, measured = {}, {}
        for name in self._modalities:
            if name in self._buffers:
                first = start - windower.context_margin_s - windower.spare_s
                last = start + windower.window_s + windower.shown_after_s
                enough = 0.0 if self._ended else STILL_S
                streams[name], found = self._buffers[name].on_grid(self._start or 0.0, first, last, enough)
                self._doubts += [*found, *self._buffers[name].doubt(start, end)]
                measured[name] = self._buffers[name].measured
        # of few samples its grid may hold none, which does not make the window one in which nothing was measured
        silent = SignalRecording(measured).is_silent(measured, start, end)
        self._doubt_beginnings()
        streams = {name: stream for name, stream in streams.items() if len(stream)}
        doubts, self._doubts = tuple(joined_by_code([*self._left_out.warnings(), *self._doubts])), []
        return SignalRecording(
            streams, start, end, reference=self._reference, prepared=self._mark, silent=silent, warnings=doubts
        )

    def _doubt_beginnings(self) -> None:
        """Note what is in doubt about names, and about streams that have not been there for long."""
        own = {name: buffer.stream for name, buffer in self._buffers.items() if len(buffer.stream)}
        so_far = SignalRecording({**self._strange, **own}, reference=self._reference, name="The recording")
        if not self._named:
            self._doubts += doubt_names(so_far, list(self._modalities.values()))
        self._named = True
        for name, stream in own.items():
            if name in self._begun:
                continue
            if self._ended or len(stream) >= FEWEST:
                self._begun.add(name)
                self._doubts += doubt_beginning(so_far, self._modalities[name])
            else:
                self._doubts += doubt_clock(stream, self._modalities[name], f"The recording, stream {name!r}")

    def _doubt_once(self, found: Iterable[AnswerWarning]) -> None:
        """Note what a reader doubts: of every piece the same but for numbers, so each once."""
        told = {(one.code, re.sub(r"\d+", "", one.message)): one for one in found}
        new = [one for key, one in told.items() if key not in self._read_doubts]
        self._read_doubts |= set(told)
        self._doubts += new

    def _forget(self) -> None:
        """Drop what lies before anything that the next window, or one aligned with the end, can look back on."""
        needed = self._begin() - max(self._windower.window_s, 1.0)
        needed -= self._windower.context_margin_s + self._windower.spare_s
        for buffer in self._buffers.values():
            buffer.forget(needed)


def joined(parts: Sequence[Stream]) -> Stream:
    """Parts of a stream that follow each other as one."""
    values: Sequence[Any] = [part.values for part in parts]
    return replace(parts[0], values=np.concatenate(values), times=np.concatenate([part.times for part in parts]))


class _Buffer:
    """What is kept of one stream, and the plan by which it comes onto its grid."""

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.earliest = self.latest = np.nan
        self._chunks: list[Stream] = []
        self._plan: GridPlan | None = None
        self._settled = False
        self._past = Past()
        self.measured: Stream  # of what is kept, NaN where it is masked

    @property
    def nbytes(self) -> int:
        kept = [*self._chunks, *([self._past.seen] if self._past.seen else [])]
        return sum(one.values.nbytes + one.times.nbytes for one in kept)

    @property
    def end(self) -> float:
        """When the latest sample ends, as `SignalRecording.end` has it."""
        stream = self._joined()
        rate = stream.rate or even_rate(stream.times)
        return self.latest + (1 / rate if rate else 0.0)

    @property
    def stream(self) -> Stream:
        """The samples that are kept."""
        return self._joined()

    def append(self, chunk: Stream) -> None:
        if not self._chunks:
            self.earliest = float(chunk.times[0])
        self.latest = float(chunk.times[-1])
        self._chunks.append(chunk)

    def needs(self, end: float, anchor: float, wait_for_filters: bool) -> float:
        """The clock reading from which on a window that ends at `end` cannot change any more."""
        plan = self._settle(anchor)
        ahead = plan.reach if wait_for_filters else 0.0
        last = np.ceil((end - anchor) * plan.rate - 0.5 - 1e-3) - 1
        if plan.how == "summarise":  # all samples of the last period, the next beat after it where there is no rate
            return anchor + (last + 1) / plan.rate - ((1 + 1e-3) / plan.own_rate if plan.own_rate else 0.0)
        if plan.how == "interpolate":
            return anchor + (last + 0.5) / plan.rate - 1e-3 / plan.rate + ahead
        return end - (1 + 1e-3) / plan.own_rate + ahead

    def on_grid(self, anchor: float, start: float, end: float, enough: float) -> tuple[Stream, list[AnswerWarning]]:
        """The samples from `start` up to `end` on the modality's grid, and what is in doubt about those that are kept.

        A stream that has been constant from its first sample on is masked once that has lasted for `enough` seconds.
        """
        plan = self._settle(anchor)
        if plan.how == "copy" and not plan.is_kept_by(self._joined().times):
            plan = self._plan = self._make_plan(anchor)  # the clock was even so far, and is not any more
        stream, where = self._joined(), f"Stream {self.modality.name!r}"
        if text := find_flat(stream, where, self._past, enough):
            measured, doubts = (
                replace(stream, values=np.full_like(stream.values, np.nan)),
                [AnswerWarning("sensor_flat", text)],
            )
        else:
            measured, doubts = mask_unmeasured(stream, self.modality, where, self._past)
        self.measured = measured
        return plan.apply(measured, start, end), doubts

    def doubt(self, start: float, end: float) -> list[AnswerWarning]:
        """What is in doubt about the samples from `start` to `end`, which `on_grid` has looked at, by the last minutes."""
        whole = self._past.seen_with(self.measured)
        return doubt_samples(whole, self.modality, f"Stream {self.modality.name!r}", (start, end))

    def forget(self, before: float) -> None:
        """Drop samples that no value from `before` on depends on."""
        whole = self._joined()
        back = self._plan.reach + 2 * self._plan.longest_gap if self._plan else 0.0
        first = int(np.searchsorted(whole.times, before - back))
        self._past = self._past.forgetting(whole, self.measured, first)
        # a copy, so that the forgotten part is let go
        self._chunks = [replace(whole, values=whole.values[first:].copy(), times=whole.times[first:].copy())]

    def _joined(self) -> Stream:
        if len(self._chunks) > 1:
            self._chunks = [joined(self._chunks)]
        return self._chunks[0]

    def _settle(self, anchor: float) -> GridPlan:
        """The plan, made anew as long as there are too few samples to be sure of it."""
        if self._plan is None or not self._settled:
            self._plan = self._make_plan(anchor)
            self._settled = len(self._joined()) >= _SETTLED
        return self._plan

    def _make_plan(self, anchor: float) -> GridPlan:
        return plan_stream(self._joined(), self.modality, anchor, name="streamed recording")
