"""Streams on grids: what is kept exactly, what is filtered, and what is never invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.processing.resampling import Bands, fill_holes, plan_grid, thin
from meco_hub.recordings.signal_recording import Stream


def tone(frequency: float, rate: float, seconds: float = 40.0, start: float = 0.0) -> Stream:
    times = start + np.arange(int(seconds * rate)) / rate
    return Stream(np.sin(2 * np.pi * frequency * times + 0.3)[:, None], times, rate)


def decibels(stream: Stream, edge: float = 5.0) -> float:
    inside = stream.between(stream.times[0] + edge, stream.times[-1] - edge).values
    return 20 * np.log10(inside.std() * np.sqrt(2) + 1e-12)


def test_the_right_rate_is_kept_as_it_is():
    stream = Stream.regular(np.random.default_rng(0).normal(size=(400, 3)), 64.0, start=0.137)
    plan = plan_grid(stream, 64.0, 0.0)
    gridded = plan.apply(stream)
    assert plan.how == "copy"
    assert np.shares_memory(gridded.values, stream.values)
    np.testing.assert_array_equal(gridded.times, stream.times)


def test_lost_samples_become_nan_and_nothing_else_moves():
    stream = Stream.regular(np.arange(100.0), 10.0)
    kept = np.r_[0:20, 23:60, 90:100]
    holed = Stream(stream.values[kept], stream.times[kept], 10.0)
    plan = plan_grid(holed, 10.0, 0.0)
    gridded = plan.apply(holed)
    assert plan.how == "copy"
    assert len(gridded) == 100
    np.testing.assert_array_equal(gridded.values[kept], stream.values[kept])
    assert np.isnan(np.delete(gridded.values, kept)).all()
    assert fill_holes(Stream(stream.values, np.cumsum(np.linspace(0.05, 0.3, 100)), 10.0), 10.0) is None


@pytest.mark.parametrize("own", [512.0, 256.0, 1000.0, 192.0, 129.7])
def test_tones_above_the_new_nyquist_frequency_are_gone_and_those_below_are_there(own):
    for frequency in np.array([1.02, 1.1, 1.3]) * 32.0:
        if frequency < own / 2:
            assert decibels(plan_grid(tone(frequency, own), 64.0, 0.0).apply(tone(frequency, own))) < -40
    for frequency in (0.5, 5.0, 15.0, 22.0):
        stream = tone(frequency, own)
        gridded = plan_grid(stream, 64.0, 0.01).apply(stream)
        inside = gridded.between(5, 35)
        expected = np.sin(2 * np.pi * frequency * inside.times + 0.3)
        np.testing.assert_allclose(inside.values[:, 0], expected, atol=0.02)


def test_an_irrational_ratio_of_rates_is_filtered_too():
    stream = tone(45.0, 200 * np.pi)
    plan = plan_grid(stream, 64.0, 0.0)
    assert plan.how == "decimate"
    assert decibels(plan.apply(stream)) < -40
    assert decibels(plan_grid(tone(5.0, 200 * np.pi), 64.0, 0.0).apply(tone(5.0, 200 * np.pi))) == pytest.approx(
        0, abs=0.1
    )


def test_a_trembling_fast_clock_is_filtered_before_it_is_thinned():
    stream = tone(45.0, 512.0)
    times = np.sort(stream.times + np.random.default_rng(0).normal(0, 2e-4, len(stream)))
    values = np.sin(2 * np.pi * 45.0 * times)[:, None]
    assert decibels(plan_grid(Stream(values, times, 512.0), 64.0, 0.0).apply(Stream(values, times, 512.0))) < -30


def test_gaps_neither_spread_nor_fill():
    rate, values = 512.0, np.full((512 * 20, 2), 7.0)
    values[512 * 8 : 512 * 10, 1] = np.nan
    values[512 * 8 : 512 * 10, 0] = 1e9  # one bad channel takes the others with it
    stream = Stream.regular(values, rate)
    gridded = plan_grid(stream, 64.0, 0.0).apply(stream)
    missing = np.isnan(gridded.values).any(axis=1)
    np.testing.assert_array_equal(
        missing, (gridded.times >= 8) & (gridded.times < 10) | (gridded.times < 0) | (gridded.times > 20)
    )
    np.testing.assert_allclose(gridded.values[~missing], 7.0, atol=1e-9)
    single = np.full((512 * 4, 1), 2.0)
    single[700] = np.nan
    assert not np.isnan(
        plan_grid(Stream.regular(single, rate), 64.0, 0.0).apply(Stream.regular(single, rate), 0, 4).values
    ).any()


def test_slow_streams_are_interpolated_only_between_neighbours():
    stream = Stream.regular(np.array([0.0, 1.0, 4.0, np.nan, 16.0, 25.0]), 1.0)
    gridded = plan_grid(stream, 4.0, 0.0).apply(stream)
    np.testing.assert_allclose(gridded.times, np.arange(20) / 4 + 0.125)
    good = (gridded.times < 2) | (gridded.times > 4)
    np.testing.assert_array_equal(np.isfinite(gridded.values[:, 0]), good)
    np.testing.assert_allclose(
        gridded.values[good, 0], np.interp(gridded.times[good], [0, 1, 2, 4, 5], [0, 1, 4, 16, 25])
    )


def test_events_are_joined_up_to_their_longest_gap():
    times = np.array([0.0, 0.8, 1.7, 5.0, 5.9])
    stream = Stream(times[:, None] * 2, times)
    gridded = plan_grid(stream, 10.0, 0.0, max_gap=2.0).apply(stream)
    real = np.isfinite(gridded.values[:, 0])
    np.testing.assert_array_equal(real, (gridded.times <= 1.7) | (gridded.times >= 5.0))
    np.testing.assert_allclose(gridded.values[real, 0], gridded.times[real] * 2)


def test_a_point_on_a_sample_takes_it_however_long_the_gaps_beside_it():
    stream = Stream(np.array([[1.0], [2.0], [3.0]]), np.array([0.05, 3.05, 9.05]))
    gridded = plan_grid(stream, 10.0, 0.0, max_gap=1.0).apply(stream)
    real = np.isfinite(gridded.values[:, 0])
    np.testing.assert_array_equal(gridded.values[real, 0], [1.0, 2.0, 3.0])


def test_bands():
    slow, fast = tone(0.1, 128.0, 80), tone(10.0, 128.0, 80)
    both = Stream(slow.values + fast.values + 4200.0, slow.times, 128.0)
    high = plan_grid(both, 128.0, 0.0, bands=Bands(highpass=1.0)).apply(both).between(10, 70)
    np.testing.assert_allclose(high.values, fast.between(10, 70).values, atol=0.01)
    low = plan_grid(both, 128.0, 0.0, bands=Bands(lowpass=2.0)).apply(both).between(10, 70)
    np.testing.assert_allclose(low.values - 4200, slow.between(10, 70).values, atol=0.01)
    holed = both.values.copy()
    holed[5000:5100] = np.nan
    filtered = plan_grid(both, 128.0, 0.0, bands=Bands(highpass=1.0)).apply(Stream(holed, both.times, 128.0))
    np.testing.assert_array_equal(np.isnan(filtered.values), np.isnan(holed))


def test_thinning_keeps_every_second_place():
    stream = tone(3.0, 64.0)
    slow = thin(stream, 2)
    assert slow.rate == 32.0
    np.testing.assert_array_equal(slow.times, stream.times[::2])
    np.testing.assert_allclose(slow.between(5, 35).values, stream.between(5, 35).values[::2], atol=1e-3)
    assert thin(stream, 1) is stream
    events = Stream(stream.values, np.cumsum(np.linspace(0.1, 1, len(stream))))
    assert thin(events, 4) is events


@settings(max_examples=40, deadline=None)
@given(
    own=st.sampled_from([8.0, 20.0, 32.0, 64.0, 100.0, 333.0]),
    rate=st.sampled_from([4.0, 20.0, 32.0]),
    lost=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), max_size=3),
    shift=st.floats(-1e5, 1e5),
)
def test_clocks_may_start_anywhere_and_part_is_as_the_whole(own, rate, lost, shift):
    stream = Stream.regular(np.random.default_rng(0).normal(size=(int(20 * own), 2)), own, start=0.03)
    values = stream.values.copy()
    for start, length in lost:
        values[(stream.times >= start) & (stream.times < start + length)] = np.nan
    stream = Stream(values, stream.times, own)
    moved = Stream(values, stream.times + shift, own)
    here = plan_grid(stream, rate, 0.0).apply(stream)
    there = plan_grid(moved, rate, shift).apply(moved)
    np.testing.assert_allclose(there.values, here.values, atol=1e-6)
    np.testing.assert_allclose(there.times - shift, here.times, atol=1e-9 * max(1, abs(shift)))
    # the part between 6 s and 14 s needs no more of the stream than its plan says
    plan = plan_grid(stream, rate, 0.0)
    reach = plan.reach + 2 / own
    part = plan.apply(stream.between(6 - reach, 14 + reach), 6, 14)
    whole = plan.apply(stream, 6, 14)
    np.testing.assert_allclose(part.values, whole.values, atol=1e-9)


@pytest.mark.parametrize("how", ["copy", "decimate", "interpolate", "summarise"])
@pytest.mark.parametrize("gap", [0.0, 400.0])
def test_a_long_stream_comes_onto_its_grid_in_parts(how: str, gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_hub.processing import resampling

    draw = np.random.default_rng(0)
    times = 5 + np.arange(16000) / 16
    times[9000:] += gap
    values = draw.normal(size=(16000, 2)).astype(np.float32)
    values[draw.random(16000) < 0.01] = np.nan
    stream = Stream(values, times, 16.0)
    rate = {"copy": 16.0, "decimate": 5.0, "interpolate": 40.0, "summarise": 0.1}[how]
    bands = Bands(highpass=0.5) if how == "copy" else Bands()
    plan = plan_grid(stream, rate, 5.0, bands=bands, summary=how == "summarise")
    assert plan.how == how
    for start, end in ((-np.inf, np.inf), (100.0, 900.0), (700.0, 800.0)):
        whole = plan.apply(stream, start, end)
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "AT_ONCE", 4000)
            parts = plan.apply(stream, start, end)
        np.testing.assert_allclose(parts.times, whole.times, atol=1e-9)
        # whether a sample at the very end of a filter counts is a matter of rounding
        np.testing.assert_allclose(parts.values, whole.values, atol=5e-3)
        assert (parts.rate, parts.values.dtype) == (whole.rate, whole.values.dtype)
