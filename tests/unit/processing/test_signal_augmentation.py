"""Random faults of recordings: as often as said, the same from the same generator, and nothing invented."""

import numpy as np
import pytest

from meco_hub.errors import ConfigurationError
from meco_hub.processing.signal_augmentation import (
    SignalAugmentation,
    add_noise,
    arrive_late,
    jitter,
    lag_behind,
    lose_between,
    miscalibrate,
    silence,
    slow_down,
)
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

RATES = {"eeg": 64.0, "emg": 64.0, "ans": 16.0, "eye": 32.0}
WINDOWER = SignalWindower(
    {name: {"channels": 2, "sampling_rate": rate} for name, rate in RATES.items()}, normalization="none"
)
OFF = {"complete": 1.0, "blocks": 0.0, "delay": 0.0, "decimation": 0.0, "noise": 0.0, "channel_dropout": 0.0}


@pytest.fixture(scope="module")
def clip() -> SignalRecording:
    random = np.random.default_rng(0)
    streams = {name: Stream.regular(random.normal(size=(int(20 * rate), 2)), rate) for name, rate in RATES.items()}
    return WINDOWER.cut(SignalRecording(streams))[2]


def draws(augmentation: SignalAugmentation, clip: SignalRecording, count: int = 200) -> list[SignalRecording]:
    return [augmentation(clip, np.random.default_rng(seed)) for seed in range(count)]


def test_the_same_generator_gives_the_same_clip_and_the_clip_stays(clip):
    before = {name: stream.values.copy() for name, stream in clip.streams.items()}
    turned = SignalRecording(dict(reversed(clip.streams.items())), clip.start, clip.end, prepared=clip.prepared)
    for seed in range(30):
        first, second, third = (SignalAugmentation()(one, np.random.default_rng(seed)) for one in (clip, clip, turned))
        assert set(first.streams) == set(second.streams) == set(third.streams)
        for name, stream in first.streams.items():
            for other in (second, third):
                np.testing.assert_array_equal(stream.values, other.streams[name].values)
                np.testing.assert_array_equal(stream.times, other.streams[name].times)
    for name, stream in clip.streams.items():
        np.testing.assert_array_equal(stream.values, before[name])


def test_nothing_changes_when_all_is_off(clip):
    changed = SignalAugmentation(**OFF)(clip, np.random.default_rng(0))
    assert changed.known_lags == dict.fromkeys(clip.streams, 0.0)  # they are known to be unshifted
    ours, theirs = WINDOWER(changed), WINDOWER(clip)
    for name in RATES:
        np.testing.assert_array_equal(ours["inputs"][name], theirs["inputs"][name])


def test_streams_are_dropped_but_never_all(clip):
    left = [len(one.streams) for one in draws(SignalAugmentation(**(OFF | {"complete": 0.3})), clip, 600)]
    assert min(left) == 1
    # 0.3 + 0.7·E[(1−η)⁴], η ~ U(0, 0.7)
    assert np.mean(np.array(left) == 4) == pytest.approx(0.3 + 0.7 * (1 - 0.3**5) / (5 * 0.7), abs=0.06)
    single = clip.without(["eye", "emg", "ans"])
    assert all(len(one.streams) == 1 for one in draws(SignalAugmentation(dropout=1.0, complete=0.0), single, 20))


def test_gaps_lie_in_the_window_and_cover_no_more_than_said(clip):
    shares = []
    for one in draws(SignalAugmentation(**(OFF | {"blocks": 1.0})), clip):
        for name, stream in one.streams.items():
            lost = np.isnan(stream.values).all(axis=1)
            assert not (lost & ((stream.times < clip.start) | (stream.times >= clip.end))).any()
            assert np.count_nonzero(np.diff(np.r_[False, lost, False].astype(int)) == 1) <= 3
            shares.append(lost.sum() / RATES[name] / clip.seconds)
    assert max(shares) <= 0.5 + 0.05
    assert 0.15 < np.mean(shares) < 0.27


def test_delays_bring_other_real_samples_and_are_told(clip):
    for one in draws(SignalAugmentation(**(OFF | {"delay": 1.0})), clip, 30):
        batch = WINDOWER(one)
        assert set(one.known_lags) == set(RATES)
        for index, name in enumerate(RATES):
            lag = one.known_lags[name]
            assert -1 <= lag <= 1
            assert batch["lag_targets"][0, index] == np.float32(lag)
            assert batch["step_mask"][name].all()
            source = clip.streams[name]
            at = np.abs(source.times[:, None] - (clip.start + batch["timestamps"][name][0].astype(float) - lag)).argmin(
                axis=0
            )
            np.testing.assert_array_equal(batch["inputs"][name][0], source.values[at].astype(np.float32))


def test_one_stream_is_slowed_down(clip):
    rates = []
    for one in draws(SignalAugmentation(**(OFF | {"decimation": 1.0})), clip, 40):
        slow = [RATES[name] / (stream.rate or 0) for name, stream in one.streams.items() if stream.rate != RATES[name]]
        assert len(slow) == 1
        rates.append(slow[0])
        assert all(mask.mean() > 0.85 for mask in WINDOWER(one)["step_mask"].values())
    assert set(rates) == {2.0, 4.0}


def test_noise_and_dead_channels(clip):
    noisy = SignalAugmentation(**(OFF | {"noise": 0.05}))(clip, np.random.default_rng(0))
    for name, stream in noisy.streams.items():
        assert (stream.values - clip.streams[name].values).std() == pytest.approx(0.05, rel=0.25)
    dropping = SignalAugmentation(**(OFF | {"channel_dropout": 0.3}))
    dead = [np.ptp(one.streams["eeg"].values, axis=0) == 0 for one in draws(dropping, clip)]
    assert np.mean(dead) == pytest.approx(0.3 - 0.3**2 / 2, abs=0.07)  # one always stays
    assert not any(all(one) for one in dead)
    for one in draws(SignalAugmentation(**(OFF | {"channel_dropout": 1.0})), clip, 10):
        assert (np.ptp(one.streams["emg"].values, axis=0) > 0).all()


def test_switching_one_change_off_leaves_the_others(clip):
    for seed in range(10):
        whole = SignalAugmentation(noise=0)(clip, np.random.default_rng(seed))
        undelayed = SignalAugmentation(noise=0, delay=0)(clip, np.random.default_rng(seed))
        assert set(whole.streams) == set(undelayed.streams)
        for name, stream in whole.streams.items():
            np.testing.assert_array_equal(stream.values, undelayed.streams[name].values)


@pytest.mark.parametrize(
    "fields", [{"dropout": 1.5}, {"noise": -1}, {"delay_s": "1"}, {"decimation_factors": (0,)}, {"blocks": True}]
)
def test_settings_that_make_no_sense(fields):
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        SignalAugmentation(**fields)
    assert SignalAugmentation(decimation_factors=[2]).decimation_factors == (2,)  # pyright: ignore[reportArgumentType]
    empty = SignalRecording({}, 0, 1)
    assert SignalAugmentation()(empty, np.random.default_rng(0)) is empty


def test_single_changes():
    stream = Stream.regular(np.arange(100.0), 10.0)
    recording = SignalRecording({"x": stream}, 2.0, 8.0)
    lost = lose_between(recording, {"x": [(3.0, 4.0)], "y": [(0, 1)]}).streams["x"].values[:, 0]
    np.testing.assert_array_equal(np.isnan(lost), (stream.times >= 3) & (stream.times < 4))
    random = np.random.default_rng(0)
    trembling = jitter(stream, 0.5, random)
    assert (np.diff(trembling.times) > 0).all()
    assert (trembling.times - stream.times).std() > 0.05
    np.testing.assert_array_equal(trembling.values, stream.values)
    assert jitter(stream, 0.0, random) is stream
    late = jitter(Stream(stream.values, stream.times + 1.7e9, 10.0), 5.0, random)
    assert (np.diff(late.times) > 0).all()
    assert slow_down(recording, {"x": 4}).streams["x"].rate == 2.5
    single = Stream(stream.values.astype(np.float32), stream.times, 10.0)
    assert add_noise(single, np.array([1.0]), random).values.dtype == np.float32
    assert set(silence(stream, np.array([True])).values[:, 0]) == {49.5}


@pytest.mark.parametrize(("delay", "first", "last"), [(0.5, 0, 94), (-0.5, 5, 99), (0.25, 0, 97), (20.0, 0, -1)])
def test_what_arrives_late_is_the_same_in_its_right_place(delay: float, first: int, last: int) -> None:
    stream = Stream.regular(np.arange(100.0), 10.0, start=1.7e9)
    recording = SignalRecording({"x": stream, "y": stream}, annotations={"valence": stream})
    wrong, right = arrive_late(recording, {"x": delay}), arrive_late(recording, {"x": delay}, corrected=True)
    for found in (wrong, right):  # no more than was recorded, and nothing else
        np.testing.assert_array_equal(found.streams["x"].values[:, 0], np.arange(float(first), last + 1))
        assert found.streams["y"] is found.annotations["valence"] is stream
        assert (found.start, found.end) == (recording.start, recording.end)
    np.testing.assert_array_equal(right.streams["x"].times, stream.times[first : last + 1])
    np.testing.assert_array_equal(wrong.streams["x"].times, stream.times[first : last + 1] + delay)
    assert (wrong.streams["x"].times >= recording.start - 1e-6).all()
    assert (wrong.streams["x"].times < recording.end).all()
    assert wrong.known_lags == {"x": delay, "y": 0.0}
    assert right.known_lags == {}
    twice = arrive_late(wrong, {"x": 0.0, "y": 1.0, "gone": 1.0})
    assert twice.known_lags == {"x": delay, "y": 1.0}
    assert twice.streams["x"] is wrong.streams["x"]


def test_gain_and_offset_turn_each_channel_about_its_centre_and_leave_other_changes_alone(clip):
    level = {name: np.array([[3.0, -1.0], [2.0, 0.5]]) for name in RATES}
    known = SignalRecording(clip.streams, clip.start, clip.end, reference=level, prepared=clip.prepared)
    plain = SignalAugmentation(**OFF | {"noise": 0.1})(known, np.random.default_rng(5))
    moved = SignalAugmentation(**OFF | {"noise": 0.1}, gain=0.5, offset=0.5)(known, np.random.default_rng(5))
    for name, stream in moved.streams.items():
        before = plain.streams[name].values - level[name][0]
        slope, rest = np.polyfit(before[:, 0], stream.values[:, 0] - level[name][0][0], 1)
        assert slope > 0
        assert abs(slope - 1) > 1e-3
        assert np.abs(before[:, 0] * slope + rest - (stream.values[:, 0] - 3.0)).max() < 1e-4
    assert np.isclose(
        miscalibrate(clip.streams["eeg"], np.zeros(2), np.ones(2), np.zeros(2)).values, clip.streams["eeg"].values
    ).all()


def test_gains_spread_as_much_as_was_asked_for(clip):
    gained = draws(SignalAugmentation(**OFF, gain=0.3), clip, 400)
    spread = np.array([one.streams["ans"].values.std(axis=0) for one in gained]) / clip.streams["ans"].values.std(
        axis=0
    )
    assert abs(np.log(spread).std() - 0.3) < 0.05
    assert abs(np.log(spread).mean()) < 0.05


def test_a_stream_that_lags_behind_keeps_its_clock():
    ramp = Stream.regular(np.arange(10.0)[:, None], 0.5)  # one more every 2 s
    beats = Stream(np.array([[0.8], [0.9], [1.0]]), np.array([1.0, 1.9, 2.9]))
    clip = SignalRecording({"slow": ramp, "beats": beats, "still": ramp}, 0.0, 20.0)
    late = lag_behind(clip, {"slow": 3.0, "beats": 0.5})
    np.testing.assert_array_equal(late.streams["slow"].times, ramp.times)
    np.testing.assert_allclose(late.streams["slow"].values[:, 0], [np.nan, np.nan, *np.arange(0.5, 8.0)])
    early = lag_behind(clip, {"slow": -3.0}).streams["slow"]
    np.testing.assert_allclose(early.values[:, 0], [*np.arange(1.5, 9.0), np.nan, np.nan])
    np.testing.assert_allclose(late.streams["beats"].times, beats.times + 0.5)
    assert late.streams["still"] is ramp
    assert late.known_lags == {"slow": 3.0, "beats": 0.5, "still": 0.0}


def test_delays_that_keep_the_clock_come_as_often_as_others(clip):
    settings = OFF | {"delay": 0.5, "delay_s": 1.0}
    moved, kept = (draws(SignalAugmentation(**settings, delay_keeps_clock=keeps), clip, 50) for keeps in (False, True))
    for one, other in zip(moved, kept, strict=True):
        assert one.known_lags == other.known_lags
        for name, stream in clip.streams.items():
            np.testing.assert_array_equal(other.streams[name].times, stream.times)
    assert any(lag for one in kept for lag in one.known_lags.values())
    with pytest.raises(ConfigurationError, match="delay_keeps_clock is 1"):
        SignalAugmentation(delay_keeps_clock=1)  # pyright: ignore[reportArgumentType]
