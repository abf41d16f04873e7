"""The pipeline on signals: files and arrays, sensors that are missing, recordings longer than a window, and such as go on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

import meco_hub
from meco_hub.answer_warnings import DoubtfulInputWarning
from meco_hub.cli import main
from meco_hub.errors import ConfigurationError, InputError, RecordingError
from meco_hub.recordings.signal_recording import SignalRecording, Stream

RATES = {"eda": 4.0, "resp": 8.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Values over time, untrained, calibrated by hand so that the answer must say so."""
    from meco_himoe.configuration_himoe import HiMoEConfig
    from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
    from meco_himoe.processing_himoe import HiMoESignalWindower

    torch.manual_seed(0)
    config = HiMoEConfig(
        modalities={name: {"channels": 1, "sampling_rate": rate, "patch_s": 1.0} for name, rate in RATES.items()},
        window_s=4.0,
        grid_step_s=1.0,
        max_lag_s=2.0,
        d_model=16,
        encoder_layers=1,
        eeb_layers=1,
        prediction_mode="sequence",
        target_names=["valence", "arousal"],
        target_center=[5.0, 5.0],
        target_halfrange=[4.0, 4.0],
        id2label={0: "valence", 1: "arousal"},
        problem_type="regression",
    )
    config.calibration = {
        "method": "affine",
        "names": ["valence", "arousal"],
        "slope": [0.5, 1.0],
        "intercept": [1.0, 0.0],
        "fitted_on": "nothing, in a test",
        "n": 2,
        "at_bound": False,
        "before": {},
        "after": {},
    }
    folder = tmp_path_factory.mktemp("checkpoints") / "signals"
    HiMoEForEmotionRecognition(config).save_pretrained(folder)
    HiMoESignalWindower.for_config(config, normalization="none").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recognise(checkpoint: Path) -> Any:
    return pipeline("emotion-recognition", model=str(checkpoint))


@pytest.fixture(scope="module")
def recording() -> SignalRecording:
    generator = np.random.default_rng(0)
    streams = {name: Stream.regular(generator.normal(size=int(10 * rate)), rate) for name, rate in RATES.items()}
    return SignalRecording(streams, name="ten seconds")


def test_windows_prepared_together_are_answered_as_alone(
    recognise: Any, recording: SignalRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = recognise.feature_extractor
    at_once = type(processor).clips_at_once
    longer = SignalRecording(
        {name: Stream.regular(np.tile(one.values, (40, 1)), one.rate or 1.0) for name, one in recording.streams.items()}
    )
    assert at_once < len(processor.cut(longer)) < 2 * at_once  # so that there is a rest
    together = recognise(longer)
    monkeypatch.setattr(type(processor), "clips_at_once", 1)
    assert recognise(longer) == together


def test_an_answer_over_time_in_native_units(recognise: Any, recording: SignalRecording) -> None:
    valence, arousal = recognise(recording)
    assert (valence["label"], arousal["label"]) == ("valence", "arousal")
    assert valence["times"] == [0.5 + second for second in range(len(valence["times"]))]
    assert valence["score"] == pytest.approx(np.mean(valence["scores"]))
    assert valence["streams"]["missing"] == []
    assert set(valence["streams"]["used"]) == {"eda", "resp"}
    assert "calibrated" in valence["calibration"]
    # the calibration is applied: what it leaves untouched is the network's own answer, in native units
    raw = recognise(recording, function_to_apply="none")
    assert "calibration" not in raw[0]
    assert arousal["scores"] == pytest.approx([5 + 4 * one for one in raw[1]["scores"]], abs=1e-5)
    assert valence["scores"] == pytest.approx([1 + 0.5 * (5 + 4 * one) for one in raw[0]["scores"]], abs=1e-5)


def test_file_arrays_and_order_say_the_same(recognise: Any, recording: SignalRecording, tmp_path: Path) -> None:
    arrays = {name: (stream.values, stream.times) for name, stream in recording.streams.items()}
    file = tmp_path / "session.npz"
    np.savez(
        file,
        **{
            f"{name}_{part}": one
            for name, both in arrays.items()
            for part, one in zip(("values", "times"), both, strict=True)
        },
    )
    expected = recognise(recording)
    for source in (str(file), arrays, dict(reversed(arrays.items()))):
        assert [entry["scores"] for entry in recognise(source)] == [entry["scores"] for entry in expected]


def test_batches_of_unlike_recordings_change_nothing(recognise: Any, recording: SignalRecording) -> None:
    sources = [recording, recording.clip(0.0, 3.0), recording.without(["eda"])]
    alone = [recognise(source) for source in sources]
    together = recognise(sources, batch_size=4)
    for one, other in zip(alone, together, strict=True):
        for first, second in zip(one, other, strict=True):
            assert first["scores"] == pytest.approx(second["scores"], abs=1e-5)
            assert first["streams"] == second["streams"]


def test_a_missing_sensor_is_named_and_none_at_all_is_an_error(recognise: Any, recording: SignalRecording) -> None:
    entry = recognise(recording.without(["resp"]))[0]
    assert entry["streams"]["missing"] == ["resp"]
    assert np.isfinite(entry["scores"]).all()
    with pytest.raises(RecordingError, match="eda"):
        recognise(recording.without(["eda", "resp"]))


def test_windows_without_any_sample_are_named(recognise: Any, recording: SignalRecording) -> None:
    def torn(stream: Stream, start: float, end: float) -> Stream:
        values = stream.values.copy()
        values[(stream.times >= start) & (stream.times < end)] = np.nan
        return Stream(values, stream.times, stream.rate)

    assert "silent" not in recognise(recording)[0]["streams"]
    one_falls_silent = {name: torn(one, 4.0, 8.0 if name == "eda" else 4.0) for name, one in recording.streams.items()}
    assert "silent" not in recognise(SignalRecording(one_falls_silent))[0]["streams"]
    both = {name: torn(one, 4.0, 8.0) for name, one in recording.streams.items()}
    louder = {name: Stream(2 * one.values, one.times, one.rate) for name, one in both.items()}
    for streams in (both, louder):
        valence = recognise(SignalRecording(streams))[0]
        assert valence["streams"]["silent"] == [[4.0, 8.0]]
        inside = [4 < time < 8 for time in valence["times"]]
        scores = np.array(valence["scores"], np.float64)  # None is NaN
        assert np.isnan(scores).tolist() == inside
        assert valence["score"] == pytest.approx(np.nanmean(scores), abs=1e-5), "no mean knows of them"
    with pytest.raises(
        RecordingError, match=r"nothing to go by in any of its 1 window\(s\).*outside of its own start and end"
    ):
        recognise(SignalRecording(recording.streams, start=100.0, end=104.0, name="night"))


def test_what_cannot_be_used_costs_the_others_nothing(
    recognise: Any, recording: SignalRecording, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"broken\.npz"):
        recognise(str(broken))
    bad, good = recognise([str(broken), recording], errors="return", batch_size=3)
    assert "broken.npz" in bad["error"]
    assert [entry["scores"] for entry in good] == [
        pytest.approx(entry["scores"], abs=1e-5) for entry in recognise(recording)
    ]


def test_a_recording_that_goes_on_is_answered_window_by_window(recognise: Any, recording: SignalRecording) -> None:
    def seconds() -> Any:
        for second in range(10):
            part = {name: one.between(second, second + 1) for name, one in recording.streams.items()}
            yield {name: (one.values, one.times) for name, one in part.items()}

    answers = list(recognise.stream(seconds()))
    assert len(answers) == 3  # two windows, and what is left
    for index in range(2):
        whole = recognise(recording.clip(4.0 * index, 4.0 * index + 4.0))
        assert answers[index][0]["scores"] == pytest.approx(whole[0]["scores"], abs=1e-5)


def test_silence_does_not_end_a_recording_that_goes_on(recognise: Any) -> None:
    def seconds() -> Any:
        for second in [*range(4), *range(24, 32)]:  # nothing for five windows
            yield {
                name: (np.sin(np.arange(int(rate)) + second)[:, None], second + np.arange(int(rate)) / rate)
                for name, rate in RATES.items()
            }

    answers = list(recognise.stream(seconds()))
    assert len(answers) == 8
    silent = [one[0]["score"] is None for one in answers]  # of these windows nothing is known
    assert silent[2:5] == [True] * 3
    assert not any(silent[index] for index in (0, 6, 7))
    assert answers[3][0]["streams"]["silent"] == [[answers[3][0]["start"], answers[3][0]["end"]]]
    assert "silent" not in answers[7][0]["streams"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: {name: (values * np.nan, times) for name, (values, times) in one.items()}, "no sample at all"),
        (lambda one: {}, "holds no signal"),
        (lambda one: {**one, "resp": (one["resp"][0], one["resp"][1] + 1.7e9)}, "stream 'resp' ends at .* same moment"),
        (lambda one: {"rsp": one["resp"]}, "holds 'rsp'; expected at least one of .* Did you mean 'rsp' for 'resp'"),
    ],
)
def test_recordings_that_cannot_be_used_are_refused(
    recognise: Any, recording: SignalRecording, change: Any, message: str
) -> None:
    arrays = {name: (stream.values, stream.times) for name, stream in recording.streams.items()}
    with pytest.raises(RecordingError, match=message):
        recognise(change(arrays))


@pytest.mark.parametrize(
    ("resp", "message"),
    [
        (lambda values, times: (np.zeros((80, 2)), times), "stream 'resp' has 2 channels, and 1 are read"),
        (lambda values, times: (values, times[::-1]), "stream 'resp': .* runs backwards"),
        (lambda values, times: (values, np.repeat(times[::2], 2)), "stream 'resp': .* duplicate"),
    ],
)
def test_streams_that_cannot_be_used_are_named_and_left_out(
    recognise: Any, recording: SignalRecording, resp: Any, message: str
) -> None:
    arrays = {name: (stream.values, stream.times) for name, stream in recording.streams.items()}
    with pytest.warns(DoubtfulInputWarning, match=message):
        answer = recognise({**arrays, "resp": resp(*arrays["resp"])})
    assert answer[0]["streams"]["missing"] == ["resp"]
    assert "part_left_out" in {one["code"] for one in answer[0]["warnings"]}
    assert answer[0]["score"] == pytest.approx(recognise({"eda": arrays["eda"]})[0]["score"], abs=1e-6)


def test_a_sensor_of_nothing_but_nan_is_a_missing_one(recognise: Any, recording: SignalRecording) -> None:
    arrays = {name: (stream.values, stream.times) for name, stream in recording.streams.items()}
    silent = recognise({**arrays, "resp": (arrays["resp"][0] * np.nan, arrays["resp"][1])})
    absent = recognise({"eda": arrays["eda"]})
    assert silent[0]["streams"]["missing"] == absent[0]["streams"]["missing"] == ["resp"]
    assert [one["scores"] for one in silent] == [one["scores"] for one in absent]


def test_a_processor_that_follows_nothing_says_so() -> None:
    with pytest.raises(ConfigurationError, match="whole recordings only"):
        meco_hub.EventVoxelizer().stream()


def test_the_bundled_checkpoint_takes_a_dict_of_streams_and_a_stream_with_a_known_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the README shows: what a person's level is, a whole recording says by itself, and of a stream one is told."""
    recognise = pipeline("emotion-recognition", model=meco_hub.checkpoint("meco-himoe-case"))
    random = np.random.default_rng(0)
    eda = random.normal(size=(400, 2))
    answer = recognise({"eda": (eda, 4.0)})
    assert [entry["label"] for entry in answer] == ["valence", "arousal"]
    assert list(answer[0]["streams"]["used"]) == ["eda"]
    assert answer[0]["streams"]["missing"] == ["cardiac", "resp", "temp", "emg"]
    level = recognise.feature_extractor.measure([recognise.feature_extractor.read({"eda": (eda, 4.0)})])
    chunks = ({"eda": (eda[at : at + 20], at / 4 + np.arange(20) / 4)} for at in range(0, 400, 20))
    streamed = list(recognise.stream(chunks, reference=level))
    assert len(streamed) == 2
    assert all(np.isfinite(entry["score"]) for one in streamed for entry in one)
    assert answer[0]["streams"]["level"] == {"eda": "recording"}
    assert streamed[0][0]["streams"]["level"] == {"eda": "reference"}
    np.savez(tmp_path / "alone.npz", eda_values=eda, eda_rate=4.0)
    assert main(["predict", str(tmp_path / "alone.npz"), "--model", "meco-himoe-case"]) == 0
    assert "without cardiac, resp, temp, emg)  (relative to this recording's own level)" in capsys.readouterr().out
