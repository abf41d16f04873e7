"""The signal windower: shapes, masks that hold, normalisation, targets, saving and loading, errors that are ours."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoFeatureExtractor, PreTrainedConfig

from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.processing.signal_modalities import LevelSample, measure_level
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

MODALITIES = {
    "eeg": {"channels": 3, "sampling_rate": 64.0},
    "bvp": {"channels": 1, "sampling_rate": 32.0},
    "hr": {"channels": 1, "sampling_rate": 4.0},
    "ibi": {"channels": 1, "sampling_rate": 4.0, "kind": "irregular", "max_gap_s": 2.0},
    "absent": {"channels": 2, "sampling_rate": 8.0},
}


class ThrowawayConfig(PreTrainedConfig):
    model_type = "meco_throwaway_for_signal_windower"


def make_recording(seconds: float = 30.0, start: float = 0.0, seed: int = 0) -> SignalRecording:
    """One stream that is copied, one that is thinned, one that is interpolated, and one of events."""
    random = np.random.default_rng(seed)

    def regular(channels: int, rate: float, late: float = 0.0) -> Stream:
        count = max(0, int((seconds - late) * rate))
        return Stream.regular(random.normal(2.0, 3.0, (count, channels)), rate, start=start + late)

    beats = np.cumsum(random.uniform(0.6, 1.1, int(seconds)))
    beats = start + beats[beats < seconds]
    streams = {
        "eeg": regular(3, 64.0),
        "bvp": regular(1, 128.0, 0.003),
        "hr": regular(1, 1.0, 2.0),
        "ibi": Stream(random.normal(size=(len(beats), 1)), beats),
        "tags": Stream(np.ones((2, 1)), start + np.array([1.0, 2.0])),
    }
    moments = np.arange(int(seconds * 10)) / 10
    truth = Stream(np.sin(moments)[:, None], start + moments, 10.0)
    return SignalRecording(streams, start, start + seconds, name="S01", annotations={"valence": truth})


def make_windower(**fields) -> SignalWindower:
    return SignalWindower(MODALITIES, **({"window_s": 4.0, "normalization": "none"} | fields))


def assert_same(ours, theirs, tolerance: float = 0.0) -> None:
    assert list(ours) == list(theirs)
    for key in ours:
        pairs = (
            ((ours[key][n], theirs[key][n]) for n in ours[key])
            if isinstance(ours[key], dict)
            else [(ours[key], theirs[key])]
        )
        for a, b in pairs:
            np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------------------------------------------
# batches


def test_every_key_is_there_in_a_fixed_order():
    windower = make_windower(context_margin_s=0.5)
    clips = windower.cut(make_recording(), stride_s=2.0)
    assert len(clips) == 14
    batch = windower(clips, return_tensors="pt")
    assert list(batch) == windower.model_input_names == ["inputs", "step_mask", "timestamps", "modality_presence"]
    for name, one in MODALITIES.items():
        steps = round(5 * one["sampling_rate"])
        assert batch["inputs"][name].shape == (14, steps, one["channels"])
        assert batch["inputs"][name].dtype == batch["timestamps"][name].dtype == torch.float32
        assert batch["step_mask"][name].shape == batch["timestamps"][name].shape == (14, steps)
        assert batch["step_mask"][name].dtype == torch.bool
        behind = ~batch["step_mask"][name]
        assert not batch["inputs"][name][behind].any()
        assert not batch["timestamps"][name][behind].any()
    assert batch["modality_presence"].tolist() == [[True, True, True, True, False] for index in range(14)]


def test_the_right_rate_is_copied_sample_by_sample():
    recording = make_recording()
    batch = make_windower()(recording.clip(8.0, 12.0))
    eeg = recording.streams["eeg"].between(8.0, 12.0)
    np.testing.assert_array_equal(batch["inputs"]["eeg"][0], eeg.values.astype(np.float32))
    np.testing.assert_array_equal(batch["timestamps"]["eeg"][0], (eeg.times - 8.0).astype(np.float32))
    assert batch["step_mask"]["eeg"].all()


def test_cutting_first_gives_what_one_window_gives():
    windower, recording = make_windower(context_margin_s=0.5), make_recording()
    clips = windower.cut(recording, stride_s=3.0)
    for index in (0, 2, 5):
        single = windower(recording.clip(clips[index].start, clips[index].end, margin=10.0))
        assert_same(windower(clips[index]), single, 1e-5)
    assert_same(windower(windower.cut(clips[3])), windower(clips[3]))


def test_what_comes_after_a_window_can_be_left_out():
    """Nothing later changes it, and what lies before and within it is as it would be with both sides."""
    both, past = make_windower(context_margin_s=2.0), make_windower(context_margin_s=2.0, context_after_s=0.0)
    recording = make_recording()
    later = 0
    for clip in recording.clip(4.0, 8.0, margin=3.0), both.cut(recording)[1]:
        whole, known = both(clip), past(clip)
        for name, one in MODALITIES.items():
            until = round(6 * one["sampling_rate"])
            np.testing.assert_array_equal(
                known["inputs"][name][:, :until], whole["inputs"][name][:, :until], err_msg=name
            )
            later += int(whole["step_mask"][name][:, until:].sum())
            assert not known["step_mask"][name][:, until:].any()
            assert not known["inputs"][name][:, until:].any()
    assert later
    with pytest.raises(ConfigurationError, match="at most as much after a window as before"):
        make_windower(context_margin_s=2.0, context_after_s=3.0)


def test_a_batch_is_what_its_clips_are_one_by_one():
    windower = make_windower()
    clips = windower.cut(make_recording())
    together = windower(clips)
    for index, clip in enumerate(clips):
        alone = windower([clip])
        for name in MODALITIES:
            np.testing.assert_array_equal(alone["inputs"][name][0], together["inputs"][name][index])


def test_clips_of_different_people_and_precisions_share_a_batch():
    windower = make_windower(normalization="recording")
    clips = [windower.cut(make_recording(9.0, seed=seed))[1] for seed in range(3)]
    eeg = clips[1].streams["eeg"]
    single = Stream(eeg.values.astype(np.float32), eeg.times, eeg.rate)
    clips.append(replace(clips[1], streams={**clips[1].streams, "eeg": single}))
    order = [0, 1, 3, 1, 2, 0]
    together = windower([clips[index] for index in order])
    for row, index in enumerate(order):
        alone = windower(clips[index])
        for name in MODALITIES:
            np.testing.assert_array_equal(alone["inputs"][name][0], together["inputs"][name][row])


def test_values_whose_squares_are_too_large_are_real():
    recording = make_recording()
    eeg = recording.streams["eeg"]
    large = Stream(eeg.values * 1e30, eeg.times, 64.0)
    windower = make_windower()
    batch = windower(windower.cut(SignalRecording({"eeg": large}, 0, 30))[1])
    assert batch["step_mask"]["eeg"].all()
    np.testing.assert_array_equal(batch["inputs"]["eeg"][0], large.values[256:512].astype(np.float32))


def test_the_order_of_streams_is_irrelevant():
    windower, recording = make_windower(), make_recording()
    turned = SignalRecording(dict(reversed(recording.streams.items())), recording.start, recording.end)
    assert_same(windower(windower.cut(recording)), windower(windower.cut(turned)))


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-1e5, 1e5))
def test_shifting_all_clocks_changes_nothing(shift):
    windower = make_windower(context_margin_s=0.25)
    here, there = make_recording(9.0), make_recording(9.0, start=shift)
    assert_same(windower(windower.cut(here)), windower(windower.cut(there)), 1e-4)


def test_clocks_that_count_from_1970_change_nothing():
    windower = make_windower()
    here, there = make_recording(9.0), make_recording(9.0, start=1.7e9)
    assert_same(windower(windower.cut(here)), windower(windower.cut(there)), 2e-4)


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_masked_with_its_whole_step(worst):
    recording = make_recording()
    eeg = recording.streams["eeg"]
    values = eeg.values.copy()
    values[8 * 64 + 10 : 8 * 64 + 20, 1] = worst
    broken = SignalRecording(recording.streams | {"eeg": Stream(values, eeg.times, 64.0)}, 0, 30)
    for normalization in ("none", "recording"):
        windower = make_windower(normalization=normalization)
        batch = windower(windower.cut(broken)[2])
        expected = np.ones(256, bool)
        expected[10:20] = False
        np.testing.assert_array_equal(batch["step_mask"]["eeg"][0], expected)
        assert np.isfinite(batch["inputs"]["eeg"]).all()
        assert not batch["inputs"]["eeg"][0][10:20].any()


def test_what_stands_behind_a_mask_never_matters():
    windower = make_windower(normalization="population", context_margin_s=0.5)
    channels = {name: one["channels"] for name, one in MODALITIES.items()}
    recordings = []
    for filling in (np.nan, np.inf, 1e30):
        recording = make_recording()
        streams = {}
        for name, stream in recording.streams.items():
            values = stream.values.copy()
            gap = (stream.times > 10) & (stream.times < 13)
            values[gap] = filling
            values[gap, 0] = np.nan  # whatever the other channels hold
            streams[name] = Stream(values, stream.times, stream.rate)
        recordings.append(SignalRecording(streams, 0, 30))
    windower.statistics = {name: {"center": [1.0] * n, "scale": [2.0] * n} for name, n in channels.items()}
    first, second, third = (windower(windower.cut(one)) for one in recordings)
    assert_same(first, second)
    assert_same(first, third)


def test_padding_invents_nothing():
    windower = make_windower()
    recording = make_recording(5.5)
    batch = windower(windower.cut(recording))
    assert batch["inputs"]["eeg"].shape == (2, 256, 3)
    np.testing.assert_array_equal(batch["step_mask"]["eeg"][1], np.arange(256) < 96)
    short = windower(make_recording(1.0))
    assert short["step_mask"]["eeg"][0].sum() == 64
    # samples that a stream has beyond the end are not asked about
    beyond = windower.cut(SignalRecording(make_recording().streams, 0.0, 5.5))
    np.testing.assert_array_equal(windower(beyond)["step_mask"]["eeg"][1], np.arange(256) < 96)
    assert np.abs(windower(beyond)["inputs"]["bvp"][1][60:]).max() == 0


@pytest.mark.parametrize(("last", "starts"), [("pad", [0, 4, 8]), ("align", [0, 4, 5.5]), ("drop", [0, 4])])
def test_the_last_window(last, starts):
    windower = make_windower(last_window=last)
    assert [clip.start for clip in windower.cut(make_recording(9.5))] == starts
    assert len(windower.cut(make_recording(2.0))) == 1
    assert windower.cut(make_recording(2.0))[0].end == 2.0
    assert [clip.start for clip in windower.cut(make_recording(8.0))] == [0, 4]


@pytest.mark.parametrize("last", ["pad", "align", "drop"])
@pytest.mark.parametrize("stride", [6.0, 8.0, 12.0])
def test_no_window_begins_behind_the_end(stride, last):
    """Windows with pauses between them: a pause may be all that is left of a recording."""
    windower = make_windower(stride_s=stride, last_window=last, grid_step_s=1.0)
    for seconds in np.arange(2.0, 30.0, 1.5):
        recording = make_recording(float(seconds))
        clips = windower.cut(recording)
        times = np.concatenate([windower.step_times(clip) for clip in clips])
        assert all(clip.start < clip.end <= recording.end for clip in clips)
        assert np.nanmax(times) < recording.end
        assert (np.diff([clip.start for clip in clips]) > 0).all()


def test_windows_cover_a_recording_with_any_stride():
    windower = make_windower(stride_s=1.5)
    clips = windower.cut(make_recording(10.0, start=3.0))
    np.testing.assert_allclose([clip.start for clip in clips], 3.0 + 1.5 * np.arange(5))
    assert clips[-1].end == 13.0
    assert [clip.start for clip in windower.cut(make_recording(10.0), stride_s=4.0)] == [0.0, 4.0, 8.0]
    with pytest.raises(ConfigurationError, match="stride_s is 0"):
        windower.cut(make_recording(), stride_s=0)


def test_clips_keep_real_samples_to_shift_into():
    windower, recording = make_windower(spare_s=2.0), make_recording()
    clip = windower.cut(recording)[3]
    shifted = windower(clip.shift({"eeg": 0.5}, known=True))
    np.testing.assert_array_equal(
        shifted["inputs"]["eeg"][0], recording.streams["eeg"].between(11.5, 15.5).values.astype(np.float32)
    )
    assert shifted["step_mask"]["eeg"].all()
    np.testing.assert_array_equal(shifted["lag_targets"][0], np.float32([0.5, 0, 0, 0, np.nan]))
    late = windower(windower.cut(recording)[0].shift({"eeg": 1.0}))
    np.testing.assert_array_equal(late["step_mask"]["eeg"][0], np.arange(256) >= 64)  # nothing wraps around
    assert "lag_targets" not in late


def test_a_batch_moves_with_its_dicts():
    batch = make_windower()(make_recording(3.0), return_tensors="pt").to(torch.float64)
    assert batch["inputs"]["eeg"].dtype == torch.float64
    assert batch["step_mask"]["eeg"].dtype == torch.bool
    with pytest.raises(ConfigurationError, match="return_tensors"):
        make_windower()(make_recording(3.0), return_tensors="jax")


# ---------------------------------------------------------------------------------------------------------------
# normalisation


def test_population_statistics_are_robust_and_needed():
    windower = make_windower(normalization="population")
    with pytest.raises(ConfigurationError, match=r"S01, stream 'eeg': .*Call fit"):
        windower(make_recording(4.0))
    recordings = [make_recording(seed=seed) for seed in range(6)]
    recordings[0].streams["eeg"].values[5] = 1e6
    with pytest.raises(RecordingError, match="No recording has a sample of absent"):
        windower.fit(recordings)
    windower = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="population")
    windower.fit(iter(recordings))
    assert json.loads(json.dumps(windower.statistics)) == windower.statistics
    np.testing.assert_allclose(windower.statistics["eeg"]["center"], 2.0, atol=0.15)
    np.testing.assert_allclose(windower.statistics["eeg"]["scale"], 3.0, rtol=0.05)
    values = windower(windower.cut(recordings[0]))["inputs"]["eeg"]
    assert abs(np.median(values)) < 0.1
    assert values.max() == 10.0  # the artefact, clipped


def test_a_reference_is_used_or_missed():
    recording = make_recording(8.0)
    level = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 0.5]])
    windower = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="reference", clip_at=None)
    with pytest.raises(RecordingError, match="S01, stream 'eeg': no reference"):
        windower(windower.cut(recording))
    known = SignalRecording(recording.streams, 0, 8, reference={"eeg": level})
    expected = (recording.streams["eeg"].values[:256] - level[0]) / level[1]
    np.testing.assert_allclose(windower(windower.cut(known))["inputs"]["eeg"][0], expected, rtol=1e-5, atol=1e-6)
    wrong = SignalRecording(recording.streams, 0, 8, reference={"eeg": level[:, :2]})
    with pytest.raises(RecordingError, match=r"expected \(2, 3\)"):
        windower(windower.cut(wrong))
    lenient = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="reference", on_missing_reference="recording")
    own = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="recording")
    assert_same(lenient(lenient.cut(recording)), own(own.cut(recording)))
    np.testing.assert_allclose(
        lenient(lenient.cut(known))["inputs"]["eeg"][0], expected.clip(-10, 10), rtol=1e-5, atol=1e-6
    )


def test_a_recordings_own_level_is_that_of_the_whole_recording():
    windower = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="recording")
    recording = make_recording()
    level = measure_level(recording.streams["eeg"].values)
    clip = windower.cut(recording)[4]
    np.testing.assert_allclose(clip.reference["eeg"], level)
    np.testing.assert_allclose(windower.measure([recording])["eeg"], level)
    expected = (recording.streams["eeg"].between(16, 20).values - level[0]) / level[1]
    np.testing.assert_allclose(windower(clip)["inputs"]["eeg"][0], expected, rtol=1e-4, atol=1e-5)


def test_levels_of_odd_signals():
    constant = np.full((50, 1), 7.0)
    np.testing.assert_array_equal(measure_level(constant), [[7.0], [1.0]])
    at_rest = np.concatenate([constant, constant, [[9.0]]])
    assert measure_level(at_rest)[1, 0] == pytest.approx(at_rest.std())
    np.testing.assert_array_equal(measure_level(np.full((3, 1), np.nan)), [[0.0], [1.0]])
    sample = LevelSample(per_recording=100, limit=250)
    for seed in range(20):
        sample.add(np.random.default_rng(seed).normal(5, 2, (1000, 1)))
    np.testing.assert_allclose(sample.level(), [[5.0], [2.0]], atol=0.5)
    assert sum(map(len, sample._parts)) <= 250


def test_filters_are_applied_once():
    modality = {"channels": 1, "sampling_rate": 64.0, "highpass_hz": 1.0, "lowpass_hz": 20.0}
    windower = SignalWindower({"x": modality}, normalization="none")
    times = np.arange(64 * 30) / 64
    slow, fast = 100 + 50 * np.sin(0.2 * times), np.sin(2 * np.pi * 8 * times)
    clips = windower.cut(SignalRecording({"x": Stream((slow + fast)[:, None], times, 64.0)}))
    np.testing.assert_allclose(windower(clips)["inputs"]["x"][3][:, 0], fast[12 * 64 : 16 * 64], atol=0.05)
    assert_same(windower(windower.cut(clips[3])), windower(clips[3]))
    other = SignalWindower({"x": modality | {"lowpass_hz": 10.0}}, normalization="none")
    with pytest.raises(RecordingError, match="cut by a windower with other modalities"):
        other(clips[3])


# ---------------------------------------------------------------------------------------------------------------
# ground truth over time


def test_targets_are_interpolated_and_end_with_the_clip():
    windower = make_windower(grid_step_s=0.25, target_names=["valence", "arousal"])
    clips = windower.cut(make_recording(10.0), stride_s=4.0)
    labels, known = windower.targets(clips)
    assert labels.shape == known.shape == (3, 16, 2)
    assert labels.dtype == np.float32
    for row, clip in enumerate(clips):
        times = 4.0 * row + 0.125 + 0.25 * np.arange(16)
        np.testing.assert_allclose(windower.step_times(clip), np.where(times < clip.end, times, np.nan))
        good = times < min(clip.end, 9.9)
        np.testing.assert_array_equal(known[row, :, 0], good)
        np.testing.assert_allclose(labels[row, good, 0], np.sin(times[good]), atol=2e-3)
        assert not labels[row, ~good].any()
    assert not known[:, :, 1].any()
    assert windower.targets(clips, ["valence"])[0].shape == (3, 16, 1)
    with pytest.raises(ConfigurationError, match="grid_step_s"):
        _ = make_windower().num_steps
    assert make_windower().targets(clips, ["valence"])[0].shape == (3, 1, 1)  # one answer, at each window's middle


@given(
    seconds=st.floats(0.5, 60.0, allow_subnormal=False),
    stride=st.sampled_from([2.0, 4.0]),
    step=st.sampled_from([0.5, 4.0, None]),
)
def test_no_step_holds_behind_the_end_of_its_recording(seconds: float, stride: float, step: float | None) -> None:
    windower = make_windower(grid_step_s=step)
    recording = make_recording(seconds)
    for clip in windower.cut(recording, stride_s=stride):
        times = windower.step_times(clip)
        answered = times[np.isfinite(times)]
        assert len(answered) >= 1
        assert answered[0] > clip.start
        assert answered[-1] < clip.end <= recording.end
        assert (np.diff(answered) > 0).all()
        assert np.isfinite(times[: len(answered)]).all()  # what is missing is the end


def test_cells_of_a_millisecond_are_answered():
    windower = SignalWindower(
        {"eeg": {"channels": 1, "sampling_rate": 1000.0}}, window_s=1.0, grid_step_s=0.001, normalization="none"
    )
    np.testing.assert_allclose(windower.step_times(SignalRecording({}, 3.0, 4.0)), 3.0005 + np.arange(1000) / 1000)
    assert np.isfinite(windower.step_times(SignalRecording({}, 3.0, 3.5))).sum() == 500


def test_slow_annotations_reach_across_the_borders_of_clips():
    windower = make_windower(grid_step_s=0.5)
    times = np.arange(12.0)
    truth = Stream(np.where(times < 6, times, np.nan)[:, None], times, 1.0)
    recording = SignalRecording(make_recording(12.0).streams, 0, 12, annotations={"v": truth})
    labels, known = windower.targets(windower.cut(recording), ["v"])
    np.testing.assert_allclose(labels[0, :, 0], np.arange(8) * 0.5 + 0.25)
    assert known[0].all()
    np.testing.assert_array_equal(known[1, :, 0], np.arange(8) * 0.5 + 4.25 < 5)


# ---------------------------------------------------------------------------------------------------------------
# saving, fields, errors


def test_saved_and_loaded_by_the_auto_class(tmp_path):
    transformers.AutoConfig.register(ThrowawayConfig.model_type, ThrowawayConfig, exist_ok=True)
    AutoFeatureExtractor.register(ThrowawayConfig, SignalWindower, exist_ok=True)
    names = ["zeta", "alpha", "mid"]
    modalities = {name: {"channels": 2, "sampling_rate": 16.0} for name in names}
    windower = SignalWindower(
        modalities, window_s=3.0, stride_s=1.0, grid_step_s=0.5, target_names=("valence",), normalization="population"
    )
    random = np.random.default_rng(0)
    recording = SignalRecording({name: Stream.regular(random.normal(size=(160, 2)), 16.0) for name in names})
    windower.fit([recording])
    windower.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ThrowawayConfig.model_type}))
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is SignalWindower
    assert loaded.modality_names == names  # transformers sorts the keys of what it saves
    assert loaded.to_dict() == windower.to_dict()
    assert_same(loaded(loaded.cut(recording)), windower(windower.cut(recording)))
    assert SignalWindower.from_pretrained(tmp_path, window_s=2.0).window_s == 2.0
    # clips are known to whoever has the same modalities
    assert_same(loaded(windower.cut(recording)), windower(windower.cut(recording)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windows_s": 4.0}, "no field 'windows_s'. Did you mean 'window_s'"),
        ({"window_s": 0}, "window_s is 0"),
        ({"window_s": "4"}, "window_s is '4'"),
        ({"grid_step_s": 0.3}, "grid steps of 0.3 s; expected a whole number from 1"),
        *(
            ({"grid_step_s": step}, "grid steps of .* expected a whole number from 1")
            for step in (5e-324, 2**-13, 1e12)
        ),
        ({"clip_at": 1e-40}, "clip_at is 1e-40; expected 0.1 at least"),
        # no window has so many numbers, whatever the recording has
        *(
            ({field: 1e9}, "numbers of all modalities; expected")
            for field in ("window_s", "context_margin_s", "spare_s")
        ),
        ({"normalization": "zscore"}, "normalization is 'zscore'; expected one of population"),
        ({"modality_names": ["eeg"]}, "Name each exactly once"),
        ({"statistics": {"eeg": {"mean": [0]}}}, "expected center and scale"),
        (
            {"modalities": {"x": {"channels": 1, "sampling_rte": 4.0}}},
            "no setting 'sampling_rte'. Did you mean 'sampling_rate'",
        ),
        ({"modalities": {"x": {"channels": 1}}}, "says no sampling_rate"),
        ({"modalities": {"x": {"channels": 0, "sampling_rate": 4.0}}}, "channels is 0"),
        ({"modalities": {"x": {"channels": 1, "sampling_rate": float("nan")}}}, "sampling_rate is nan"),
        (
            {"modalities": {"x": {"channels": 1, "sampling_rate": 4.0, "kind": "odd"}}},
            "expected 'regular' or 'irregular'",
        ),
        (
            {"modalities": {"x": {"channels": 1, "sampling_rate": 4.0, "highpass_hz": 1.0, "lowpass_hz": 0.5}}},
            "is not below",
        ),
    ],
)
def test_fields_that_make_no_sense(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        SignalWindower(**({"modalities": MODALITIES} | fields))


@pytest.mark.parametrize("stride", [5e-324, 1e-40, 1e-5])
def test_no_stride_makes_windows_without_end(stride: float) -> None:
    """Their beginnings alone would fill memory."""
    windower = SignalWindower(MODALITIES, window_s=4.0, stride_s=stride)
    with pytest.raises(ConfigurationError, match=r"windows .* s apart; expected 4194304 at most"):
        windower.window_starts(0.0, 300.0)
    with pytest.raises(ConfigurationError, match=r"windows .* s apart; expected 4194304 at most"):
        SignalWindower(MODALITIES, window_s=4.0).window_starts(0.0, 300.0, stride)
    assert len(windower.window_starts(0.0, 300.0, 0.5)) == 1 + (300 - 4) / 0.5


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream.regular(np.zeros((99, 2)), 64.0), "S01, stream 'eeg' has 2 channels; expected 3. Give all"),
        (Stream(np.zeros((3, 99)), np.arange(3.0)), "has 99 channels; expected 3.*transpose it"),
        (Stream(np.zeros((4, 3)), np.array([0, 1, 1, 2.0])), "S01, stream 'eeg': after sample 1 .* duplicate"),
        (Stream(np.zeros((4, 3)), np.array([0, 1, 0.5, 2.0])), "S01, stream 'eeg': after sample 1 .* runs backwards"),
        (Stream(np.zeros((4, 3)), np.array([0, 1, np.nan, 2.0])), "S01, stream 'eeg': the time of sample 2 is nan"),
        (Stream(np.zeros((64, 3)), np.arange(64) / 64, 256.0), "S01, stream 'eeg': the rate is given as 256 Hz"),
        (Stream(np.zeros((4, 3), np.int16), np.arange(4.0)), "S01, stream 'eeg' holds int16"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_streams_that_cannot_be_used_are_named(stream, message):
    recording = SignalRecording({"eeg": stream}, 0, 3, name="S01")
    for call in (make_windower(), make_windower().cut, make_windower().report):
        with pytest.raises(RecordingError, match=message):
            call(recording)


def test_long_recordings_are_to_be_cut():
    with pytest.raises(RecordingError, match=r"S01 lasts 30.000 s; expected at most one window of 4 s. Cut it first"):
        make_windower()(make_recording())


def test_all_missing_is_a_batch_of_nothing_but_no_reading():
    windower = make_windower()
    batch = windower(SignalRecording({}, 0, 4))
    assert not batch["modality_presence"].any()
    assert not any(values.any() for values in batch["inputs"].values())
    with pytest.raises(
        RecordingError, match=r"holds 'HR'; expected at least one of the streams 'eeg', .*Did you mean 'HR' for 'hr'"
    ):
        windower.read({"HR": (np.zeros(10), 1.0)})


def test_reading_arrays_and_reporting(monkeypatch):
    monkeypatch.setitem(sys.modules, "neurokit2", None)  # or beats would be found in the noise
    windower = make_windower()
    random = np.random.default_rng(0)
    recording = windower.read(
        {"eeg": random.normal(size=(640, 3)), "bvp": (random.normal(size=1280), 128.0), "odd": (np.zeros(9), 1.0)}
    )
    assert recording.streams["eeg"].rate == 64.0
    report = windower.report(recording)
    assert report["used"] == {"eeg": "copied", "bvp": "decimated from 128 Hz"}
    assert report["missing"] == ["hr", "ibi", "absent"]
    assert report["ignored"] == ["odd"]
    assert report["measured"]["eeg"] == 1.0
    assert json.dumps(report)
    with pytest.raises(RecordingError, match="'ibi' is an array without a clock"):
        windower.read({"ibi": np.zeros(9)})
