"""What checkpoints read, computed from raw sensors where a recording has those instead: by NeuroKit2 (MIT), the extra "presets".

    phasic, tonic       of one channel of skin conductance: a high-pass at 0.05 Hz and its rest
    hr                  of an ECG, or of a pulse wave: beats per minute at 1 Hz, a mean over 10 s
    ibi                 likewise: the seconds between two beats, at the second one
    IHR, PTT            of an ECG and a pulse wave: beats per minute, and the seconds from a beat to the pulse's peak, at 4 Hz
    envelopes           of muscles that are sampled much faster than in training: amplitudes at the rate of training

Every stream that was computed is named in a warning: a checkpoint may have been trained on what another program computed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning
from ..errors import DependencyError, RecordingError, import_optional
from ..reading import reading
from ..recordings.signal_names import kinds_of
from ..recordings.signal_recording import SignalRecording, Stream
from .resampling import LONGEST_STEP
from .signal_modalities import Modality

_SHORTEST_S = 10.0
"""Of a stretch without gaps, in which beats are looked for."""

_BEAT_S = (0.3, 2.0)
_TRANSIT_S = (0.1, 0.7)
_BEATS_HZ = 4.0
_RAW = 5.0
"""A muscle's stream so many times faster than in training is no envelope."""


def derive_streams(recording: SignalRecording, modalities: Sequence[Modality]) -> SignalRecording:
    """The recording with the modalities' streams that it lacks and that its sensors can give; its warnings say which.

    Where the library is not installed, the warning says what could be computed.
    """
    raw = {kind: name for name in recording.streams for kind in kinds_of(name) if kind in ("ecg", "bvp", "eda", "emg")}
    made: dict[str, Stream] = {}
    sources: dict[str, tuple[str, ...]] = {}
    wanting: list[str] = []
    for one in modalities:
        plan = _plan(one, recording, raw)
        if plan is None:
            continue
        compute, names = plan
        told = f"from {' and '.join(map(repr, names))}"
        try:
            with reading(f"{one.name!r} cannot be computed {told}", RecordingError, "Check that sensor's signal."):
                stream = compute(*(recording.streams[name] for name in names))
        except DependencyError as error:
            wanting.append(f"{one.name!r} could be computed {told}. {error}")
            continue
        except RecordingError as error:  # the library fails on what is no such signal
            wanting.append(str(error))
            continue
        if stream is not None and len(stream):
            made[one.name], sources[one.name] = stream, names
        else:
            wanting.append(
                f"{one.name!r} cannot be computed {told}: expected {_SHORTEST_S:g} s of it at an even rate, without a gap, and "
                "beats in it where there is a heart to hear."
            )
    if not made and not wanting:
        return recording
    text = [
        f"{name!r} was computed from {' and '.join(map(repr, names))} by NeuroKit2." for name, names in sources.items()
    ]
    doubt = AnswerWarning(
        "stream_derived",
        " ".join([*text, *wanting, "What the checkpoint was trained on may have been computed otherwise."]),
    )
    # its own streams' span: nothing that is computed reaches further
    whole = replace(recording, streams={**recording.streams, **made})
    return replace(whole, warnings=(*recording.warnings, doubt))


def _plan(
    one: Modality, recording: SignalRecording, raw: dict[str, str]
) -> tuple[Callable[..., Stream | None], tuple[str, ...]] | None:
    """How a modality's stream can be computed, and from which; None where it need not or cannot be."""
    stream = recording.streams.get(one.name)
    names = tuple(name.lower() for name in one.channel_names)
    if names == ("phasic", "tonic") and raw.get("eda"):
        source = recording.streams[raw["eda"]]
        fits = source.values.shape[1] == 1 and (stream is None or stream is source)
        return (_split_skin, (raw["eda"],)) if fits else None
    if one.name == "emg" and stream is not None and one.trained_on and one.trained_on.rate:
        target = one.trained_on.rate
        is_raw = (stream.rate or 0) > _RAW * target and stream.values.shape[1] == one.stream_channels
        return (lambda muscles: _envelopes(muscles, target), (one.name,)) if is_raw else None
    if stream is not None:
        return None
    heart = next((kind for kind in ("ecg", "bvp") if kind in raw), None)
    if names == ("ihr", "ptt") and raw.get("ecg") and raw.get("bvp"):
        return _pulse, (raw["ecg"], raw["bvp"])
    if one.name == "hr" and one.stream_channels == 1 and heart:
        return lambda source: _heart_rate(source, heart), (raw[heart],)
    if one.name == "ibi" and one.stream_channels == 1 and heart:
        return lambda source: _intervals(source, heart), (raw[heart],)
    return None


def _neurokit() -> Any:
    return import_optional("neurokit2", "Computing streams from raw sensors", "presets")


def _stretches(stream: Stream) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """(times, values of the first channel, rate) of every stretch without a gap that is long enough."""
    rate = stream.rate
    if not rate:
        return
    real = np.isfinite(stream.values).all(axis=1)
    times, values = stream.times[real], stream.values[real, 0].astype(np.float64)
    cuts = np.flatnonzero(np.diff(times) > LONGEST_STEP / rate) + 1
    for part, own in zip(np.split(values, cuts), np.split(times, cuts), strict=True):
        if len(own) >= _SHORTEST_S * rate and part.std() > 0:
            yield own, part, rate


def _beats(stream: Stream, kind: str) -> list[NDArray[np.float64]]:
    """Times of the beats in every stretch of an ECG, or of the peaks of a pulse wave ("bvp")."""
    library = _neurokit()
    found = []
    for times, values, rate in _stretches(stream):
        if kind == "ecg":
            _, marks = library.ecg_peaks(library.ecg_clean(values, sampling_rate=rate), sampling_rate=rate)
            places = marks["ECG_R_Peaks"]
        else:
            marks = library.ppg_findpeaks(library.ppg_clean(values, sampling_rate=rate), sampling_rate=rate)
            places = marks["PPG_Peaks"]
        found.append(times[np.asarray(places, np.int64)])
    return found


def _intervals(heart: Stream, kind: str) -> Stream | None:
    """Seconds between beats, at the second of two."""
    times, values = [], []
    for beats in _beats(heart, kind):
        steps = np.diff(beats)
        good = (steps > _BEAT_S[0]) & (steps < _BEAT_S[1])
        times.append(beats[1:][good])
        values.append(steps[good])
    if not sum(map(len, times)):
        return None
    return Stream(np.concatenate(values)[:, None].astype(np.float32), np.concatenate(times), None, ("ibi",), ("s",))


def _heart_rate(heart: Stream, kind: str) -> Stream | None:
    """Beats per minute at every second, a mean over the ten around it."""
    intervals = _intervals(heart, kind)
    if intervals is None:
        return None
    ticks = np.arange(np.ceil(intervals.times[0]), intervals.times[-1] + 1)
    first, last = intervals.times.searchsorted((ticks - 5, ticks + 5))
    sums = np.concatenate([[0.0], np.cumsum(intervals.values[:, 0], dtype=np.float64)])
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = 60 * (last - first) / (sums[last] - sums[first])
    return Stream(rates[:, None].astype(np.float32), ticks, 1.0, ("hr",), ("bpm",))


def _pulse(ecg: Stream, wave: Stream) -> Stream | None:
    """Instantaneous heart rate and pulse transit time."""
    peaks = np.concatenate(_beats(wave, "bvp") or [np.empty(0)])
    parts = []
    for beats in _beats(ecg, "ecg"):
        steps = np.diff(beats)
        after = peaks.searchsorted(beats[1:] + _TRANSIT_S[0])
        late = np.append(peaks, np.inf)[after] - beats[1:]
        good = (steps > _BEAT_S[0]) & (steps < _BEAT_S[1]) & (late < _TRANSIT_S[1])
        if good.sum() < 2:
            continue
        own = beats[1:][good]
        ticks = np.arange(np.ceil(own[0] * _BEATS_HZ), own[-1] * _BEATS_HZ + 1e-9) / _BEATS_HZ
        parts.append((ticks, np.stack([np.interp(ticks, own, one[good]) for one in (60 / steps, late)], axis=1)))
    if not parts:
        return None
    times, values = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return Stream(values.astype(np.float32), times, _BEATS_HZ, ("IHR", "PTT"), ("bpm", "s"))


def _split_skin(skin: Stream) -> Stream | None:
    """Phasic and tonic part of skin conductance."""
    library = _neurokit()
    times, values = [], []
    for own, part, rate in _stretches(skin):
        both = library.eda_phasic(part, sampling_rate=rate, method="highpass")
        times.append(own)
        values.append(np.stack([both["EDA_Phasic"], both["EDA_Tonic"]], axis=1))
    if not times:
        return None
    units = skin.units * 2 if len(skin.units) == 1 else ()
    return Stream(
        np.concatenate(values).astype(np.float32), np.concatenate(times), skin.rate, ("phasic", "tonic"), units
    )


def _envelopes(muscles: Stream, rate: float) -> Stream | None:
    """Amplitude of every channel, thinned to about `rate`."""
    library = _neurokit()
    every = max(1, round((muscles.rate or rate) / rate))
    times, values = [], []
    for own, _, own_rate in _stretches(muscles):
        first = int(muscles.times.searchsorted(own[0]))
        channels = muscles.values[first : first + len(own)].astype(np.float64)
        amplitudes = [
            library.emg_amplitude(library.emg_clean(channel, sampling_rate=own_rate)) for channel in channels.T
        ]
        times.append(own[::every])
        values.append(np.stack(amplitudes, axis=1)[::every])
    if not times:
        return None
    envelope = np.concatenate(values).astype(np.float32)
    return replace(muscles, values=envelope, times=np.concatenate(times), rate=(muscles.rate or rate) / every)
