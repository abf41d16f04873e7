"""Summaries of streams: the four numbers, gaps, levels, the windower that shows them, and its context hidden in training."""

import numpy as np
import pytest

from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.processing.resampling import PARTS, session_level, summarise, summary_key, summary_level
from meco_hub.processing.signal_augmentation import SignalAugmentation
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

MODALITIES = {
    "acc": {"channels": 12, "sampling_rate": 0.1, "summary_s": 10.0},
    "ibi": {"channels": 4, "sampling_rate": 0.1, "summary_s": 10.0, "kind": "irregular"},
}


def make_recording(seconds: float = 100.0, seed: int = 0) -> SignalRecording:
    random = np.random.default_rng(seed)
    beats = np.cumsum(random.uniform(0.6, 1.1, int(seconds)))
    beats = beats[beats < seconds]
    streams = {
        "acc": Stream.regular(random.normal(2.0, 3.0, (int(seconds * 32), 3)), 32.0),
        "ibi": Stream(random.normal(0.8, 0.1, (len(beats), 1)), beats),
    }
    return SignalRecording(streams, 0.0, seconds, name="S01")


def test_the_four_numbers() -> None:
    ramp = np.linspace(0.0, 9.0, 100)
    found = summarise(Stream.regular(ramp, 10.0), np.array([5.0]), 10.0, 10.0)[0]
    expected = [4.5, np.mean(np.linspace(-1, 1, 100) * (ramp - 4.5)), np.log(ramp.std()), np.log(9 / 99)]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_what_is_missing_is_left_out_and_too_little_is_nothing() -> None:
    values = np.ones((100, 2))
    values[:40, 1] = np.nan
    values[:40, 0] = 1e9
    points = np.array([5.0])
    np.testing.assert_allclose(summarise(Stream.regular(values, 10.0), points, 10.0, 10.0)[0, :2], 1.0)
    values[:60, 1] = np.nan
    assert np.isnan(summarise(Stream.regular(values, 10.0), points, 10.0, 10.0)).all()
    beats = Stream(np.ones((2, 1)), np.array([1.0, 2.0]))
    assert np.isnan(summarise(beats, points, 10.0, None)).all()


def test_level_is_mean_and_deviation_without_the_missing() -> None:
    level = summary_level(np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan]]))
    np.testing.assert_array_equal(level, [[2.0, 5.0, 0.0], [1.0, 1.0, 1.0]])


def test_a_windower_shows_summaries_and_their_neighbours() -> None:
    recording = make_recording()
    windower = SignalWindower(MODALITIES, window_s=10.0, context_margin_s=20.0, normalization="none")
    clips = windower.cut(recording)
    batch = windower(clips)
    assert len(clips) == 10
    assert batch["inputs"]["acc"].shape == (10, 5, 12)
    assert batch["inputs"]["ibi"].shape == (10, 5, 4)
    whole = summarise(recording.streams["acc"], np.arange(10) * 10 + 5.0, 10.0, 32.0)
    np.testing.assert_allclose(batch["inputs"]["acc"][4], whole[2:7], rtol=1e-5)
    np.testing.assert_array_equal(batch["step_mask"]["acc"][0], [False, False, True, True, True])
    np.testing.assert_allclose(batch["timestamps"]["acc"][4], [-15, -5, 5, 15, 25])
    alone = windower(recording.clip(40.0, 50.0, 20.0))
    np.testing.assert_allclose(alone["inputs"]["ibi"][0], batch["inputs"]["ibi"][4], rtol=1e-5)
    assert windower.report(recording)["used"]["acc"] == "summarised by 10 s from 32 Hz"


def test_streamed_windows_are_those_that_cut_gives() -> None:
    recording = make_recording()
    windower = SignalWindower(MODALITIES, window_s=10.0, context_margin_s=20.0, normalization="none", spare_s=0.0)
    stream, clips = windower.stream(start=0.0), []
    for start in np.arange(0.0, 100.0, 2.5):
        parts = {name: one.between(start, start + 2.5) for name, one in recording.streams.items()}
        clips += stream.push({name: (one.values, one.times) for name, one in parts.items()})
    clips += stream.flush()
    ours, whole = windower(clips[:8]), windower(windower.cut(recording)[:8])
    for name in MODALITIES:
        np.testing.assert_array_equal(ours["step_mask"][name], whole["step_mask"][name])
        np.testing.assert_allclose(ours["inputs"][name], whole["inputs"][name], rtol=1e-5)


def test_summaries_are_normalised_by_their_own_level_not_by_that_of_samples() -> None:
    recording = make_recording()
    acc = recording.streams["acc"]
    level = session_level(acc, 10.0)
    assert level.shape == (2, PARTS * 3)
    reference = {"acc": np.array([[9.0] * 3, [9.0] * 3]), summary_key("acc", 10.0): level}
    told = SignalRecording({"acc": acc}, 0.0, 100.0, reference=reference)
    windower = SignalWindower(MODALITIES, window_s=10.0, normalization="reference", clip_at=None)
    plain = SignalWindower(MODALITIES, window_s=10.0, normalization="none")
    expected = (plain(plain.cut(told))["inputs"]["acc"] - level[0]) / level[1]
    np.testing.assert_allclose(windower(windower.cut(told))["inputs"]["acc"], expected, atol=1e-4)
    with pytest.raises(RecordingError, match="no reference"):
        windower(windower.cut(SignalRecording({"acc": acc}, 0.0, 100.0, reference={"acc": reference["acc"]})))
    lenient = SignalWindower(
        MODALITIES, window_s=10.0, normalization="reference", on_missing_reference="recording", clip_at=None
    )
    assert lenient.report(told)["level"] == {"acc": "reference"}
    assert lenient.report(recording)["level"] == {"acc": "recording", "ibi": "recording"}
    own = SignalWindower(MODALITIES, window_s=10.0, normalization="recording", clip_at=None)
    values = own(own.cut(recording))["inputs"]["acc"]
    np.testing.assert_allclose(values.mean(axis=(0, 1)), 0.0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=(0, 1)), 1.0, atol=1e-3)


def test_population_level_of_summaries_is_fitted() -> None:
    windower = SignalWindower(MODALITIES, window_s=10.0)
    windower.fit([make_recording(seed=seed) for seed in range(2)])
    assert len(windower.statistics["acc"]["center"]) == 12
    again = SignalWindower.from_dict(windower.to_dict())
    assert again.modalities["acc"]["summary_s"] == 10.0
    assert again.statistics == windower.statistics


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 3}, {"sampling_rate": 1.0}, {"highpass_hz": 0.1}, {"summary_s": -1.0}],
    ids=lambda one: next(iter(one)),
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigurationError):
        SignalWindower({"acc": {**MODALITIES["acc"], **wrong}})


def test_the_wrong_number_of_channels_and_a_stride_between_summaries_are_refused() -> None:
    windower = SignalWindower(MODALITIES, window_s=10.0, normalization="none")
    with pytest.raises(RecordingError, match="expected 3"):
        windower.cut(SignalRecording({"acc": Stream.regular(np.zeros((640, 2)), 32.0)}))
    with pytest.raises(ConfigurationError, match="stride_s"):
        windower.cut(make_recording(), stride_s=5.0)


def test_context_is_hidden_from_both_sides_at_random_and_the_window_never() -> None:
    windower = SignalWindower(MODALITIES, window_s=10.0, context_margin_s=40.0, normalization="none")
    clip = windower.cut(make_recording())[4]
    quiet = {"dropout": 0.0, "blocks": 0.0, "delay": 0.0, "decimation": 0.0, "noise": 0.0, "channel_dropout": 0.0}
    augment = SignalAugmentation(hidden_context=1.0, **quiet)
    masks = [
        windower(augment(clip, np.random.default_rng(seed)))["step_mask"]["acc"][0].astype(int) for seed in range(20)
    ]
    assert all(mask[4] and (np.diff(mask) != 0).sum() <= 2 for mask in masks)  # one run, the window within it
    assert len({tuple(mask) for mask in masks}) > 5
    left = SignalAugmentation(**quiet)(clip, np.random.default_rng(0))
    assert windower(left)["step_mask"]["acc"].sum() == windower(clip)["step_mask"]["acc"].sum()


def test_arrays_of_a_summarised_stream_need_a_clock_of_their_own() -> None:
    """Taken at the rate of the summaries, a minute of raw samples would be an hour and more."""
    one = SignalWindower({"bvp": {"channels": 4, "sampling_rate": 0.1, "summary_s": 10.0}}, normalization="none")
    with pytest.raises(RecordingError, match="'bvp'"):
        one.read({"bvp": np.arange(640.0)})
    assert one.read({"bvp": (np.arange(640.0), 64.0)}).seconds == pytest.approx(10.0, abs=0.1)


def test_a_pause_counts_for_nothing_where_a_recording_is_too_short() -> None:
    windower = SignalWindower({"acc": {"channels": 4, "sampling_rate": 0.1, "summary_s": 10.0}}, window_s=10.0)
    times = np.concatenate([np.arange(8), 4000 + np.arange(8)]) / 4
    values = np.random.default_rng(0).normal(size=(16, 1))
    with pytest.raises(RecordingError, match=r"acc has 16 samples in 4 s, at least half of 10 s needed"):
        windower.read({"acc": Stream(values, times, 4.0)})
    assert windower.read({"acc": Stream.regular(np.tile(values, (2, 1)), 4.0)}).streams["acc"].rate == 4.0
