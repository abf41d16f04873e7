"""Clips taken at once: to the bit what they are one by one, whatever the streams, clocks, levels and windows."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_bits import bits
from meco_hub.errors import RecordingError
from meco_hub.processing.signal_preparation import SignalClips
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

SLICES = (slice(None), slice(1, 4), slice(None, None, 2), slice(None, None, -1), slice(-1, None), slice(0, 0))


def draw_clock(random: np.random.Generator, rate: float, seconds: float) -> np.ndarray:
    """Even, jittered, wandering, with a jump, with samples left out, of another rate than it should be, or of events."""
    times = np.arange(max(4, int(seconds * rate))) / rate
    kind = random.integers(8)
    if kind == 1:
        times = times + random.uniform(-0.14, 0.14, len(times)) / rate
    if kind == 2:  # fast at first, then slow: together as long as it should be
        half = len(times) // 2
        times = np.cumsum(np.r_[np.full(half, 0.8), np.full(len(times) - half, 1.2)]) / rate
    if kind == 3:
        times[len(times) // 2 :] += random.choice([0.4 / rate, 3.0 / rate, 2.0])
    if kind == 4:
        times = times[random.random(len(times)) > 0.05]
    if kind == 5:
        times = times * random.choice([1.003, 0.9, 1.3])
    if kind == 6:
        times = np.cumsum(random.uniform(0.6, 1.4, len(times)) / rate)
    return times


def draw_stream(random: np.random.Generator, rate: float, seconds: float, channels: int) -> Stream:
    times = draw_clock(random, rate, seconds) + random.choice([0.0, 0.003, 2.7, -1.3])
    values = random.normal(1.0, 2.0, (len(times), channels)) * random.choice([1.0, 1e30, 1e60], p=[0.8, 0.1, 0.1])
    for _ in range(random.integers(3)):
        begin = random.integers(len(times))
        values[begin : begin + random.integers(1, 40), random.integers(channels)] = random.choice([np.nan, np.inf])
    with np.errstate(over="ignore"):
        values = values.astype((np.float32, np.float64)[random.integers(2)])
    return Stream(values, times, rate if random.random() < 0.5 else None)


def draw_clips(seed: int) -> tuple[SignalWindower, SignalClips]:
    """A windower, and what it cuts of a recording; nothing of one with a clock that contradicts its rate."""
    random = np.random.default_rng(seed)
    seconds, modalities, streams, statistics = random.uniform(2.0, 25.0), {}, {}, {}
    summarised = random.random() < 0.2
    for name in ("a", "b", "c", "d")[: random.integers(1, 5)]:
        channels, grid = int(random.integers(1, 4)), float(random.choice([0.5, 4.0, 7.5, 16.0, 32.0]))
        own = grid * random.choice([1.0, 1.0, 1.01, 2.0, 4.0, 1.37, 0.25])
        one: dict[str, Any] = {"channels": channels, "sampling_rate": grid}
        if random.random() < 0.2:
            one["kind"], own = "irregular", 1.1
        elif summarised and random.random() < 0.7:
            one = {"channels": 4 * channels, "sampling_rate": 1.0, "summary_s": 1.0}
        elif random.random() < 0.3:
            one |= {"highpass_hz": 0.05 * grid, "lowpass_hz": 0.4 * grid}
        modalities[name] = one
        if random.random() < 0.9:
            streams[name] = draw_stream(random, own, random.choice([seconds, 0.6 * seconds]), channels)
        level = random.normal(size=one["channels"]), random.uniform(0.5, 2.0, one["channels"])
        statistics[name] = {"center": level[0].tolist(), "scale": level[1].tolist()}
    offset = random.choice([0.0, 3.3, 1.7e9])
    streams = {name: replace(one, times=one.times + offset) for name, one in streams.items()}
    margin = float(random.choice([0.0, 0.5, 1.7]))
    windower = SignalWindower(
        modalities,
        window_s=float(random.choice([2.0, 4.0, 3.3])),
        context_margin_s=margin,
        context_after_s=None if random.random() < 0.5 else margin * float(random.choice([0.0, 0.4])),
        spare_s=float(random.choice([0.0, 2.0])),
        last_window=str(random.choice(["pad", "align", "drop"])),
        normalization=str(random.choice(["population", "reference", "recording", "none"])),
        on_missing_reference="recording",
        clip_at=(None, 1.5)[random.integers(2)],
        statistics=statistics,
    )
    reference = {n: np.array([s["center"], s["scale"]]) for n, s in statistics.items() if random.random() < 0.5}
    end = float(offset + random.choice([1.0, 0.8, 1.1]) * seconds)
    recording = SignalRecording(streams, float(offset), end, "S01", reference=reference)
    if random.random() < 0.3:
        recording = replace(recording, known_lags=dict.fromkeys(streams, 0.25))
    stride = float(random.choice([1.0, 2.0, 7.0] if summarised else [0.5, 1.0, 1.7, 2.0, 3.0, 7.0]))
    try:
        return windower, windower.cut(recording, stride_s=stride)
    except RecordingError:
        return windower, windower.cut(replace(recording, streams={}), stride_s=stride)


def answer(windower: SignalWindower, clips: Any) -> Any:
    try:
        return bits(windower(clips))
    except RecordingError as error:  # a recording whose own level is no number
        return str(error)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), part=st.sampled_from(SLICES))
def test_clips_at_once_are_what_they_are_one_by_one(seed: int, part: slice) -> None:
    windower, clips = draw_clips(seed)
    assert answer(windower, clips[part]) == answer(windower, list(clips)[part])


def test_most_such_cases_are_taken_at_once() -> None:
    cases = [draw_clips(seed) for seed in range(50)]
    assert sum(clips.shown(windower.modality_list()) is not None for windower, clips in cases) > 35


def test_a_clock_that_wanders_is_looked_at_clip_by_clip() -> None:
    """As a whole it takes as long as it should; half a clip of it does not."""
    times = np.cumsum(np.r_[np.full(320, 0.97), np.full(320, 1.03)]) / 32
    stream = Stream(np.random.default_rng(0).normal(size=(640, 1)), times, 32.0)
    windower = SignalWindower({"a": {"channels": 1, "sampling_rate": 32.0}}, window_s=4.0, normalization="none")
    clips = windower.cut(SignalRecording({"a": stream}))
    assert clips.recording.streams["a"] is stream
    assert clips.shown(windower.modality_list()) is None
    assert bits(windower(clips)) == bits(windower(list(clips)))


def test_a_batch_at_once_is_what_the_formula_says() -> None:
    """Value, time and mask of every step, from the raw samples by plain arithmetic; with a gap, margins and levels."""
    random = np.random.default_rng(1)
    values = random.normal(3.0, 2.0, (32 * 600, 2)).astype(np.float32)
    values[5000:5200, 0] = np.nan
    statistics = {"a": {"center": [3.0, 2.0], "scale": [2.0, 0.2]}}
    windower = SignalWindower(
        {"a": {"channels": 2, "sampling_rate": 32.0}},
        window_s=4.0,
        stride_s=1.5,
        context_margin_s=0.5,
        statistics=statistics,
    )
    batch = windower(windower.cut(SignalRecording({"a": Stream.regular(values, 32.0)})))
    assert len(batch["inputs"]["a"]) == 399
    for row, start in enumerate(np.arange(399) * 1.5):
        place = round((start - 0.5) * 32) + np.arange(160)
        known = (place >= 0) & (place < len(values))
        raw = values[place.clip(0, len(values) - 1)]
        known &= np.isfinite(raw).all(axis=1)
        wanted = ((raw - np.array([3, 2], np.float32)) / np.array([2, 0.2], np.float32)).clip(-10, 10)
        if row == 398:  # the rest of the recording is shorter than a window
            known &= place / 32 < 600.0
        np.testing.assert_array_equal(batch["step_mask"]["a"][row], known)
        np.testing.assert_allclose(batch["inputs"]["a"][row], np.where(known[:, None], wanted, 0.0), rtol=1e-6)
        np.testing.assert_allclose(batch["timestamps"]["a"][row], np.where(known, place / 32 - start, 0.0), atol=1e-6)
