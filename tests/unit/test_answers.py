"""answers: the form that a config calls for, and what a calibration does to it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.answers import Answers, Calibration, abstain, combine_clips
from meco_hub.errors import CheckpointError, ConfigurationError


def answers(**config: Any) -> Answers:
    known = {"problem_type": None, "id2label": {0: "neutral", 1: "anger", 2: "fear"}}
    return Answers(SimpleNamespace(config=SimpleNamespace(**(known | config))))  # type: ignore[arg-type]


VALUES = {
    "problem_type": "regression",
    "target_names": ["valence", "arousal"],
    "target_center": [5.0, 5.0],
    "target_halfrange": [4.0, 2.0],
}
LOGITS = torch.tensor([1.0, 3.0, 2.0])


def test_classes_most_probable_first() -> None:
    some = answers()
    scores = some.scores(LOGITS)
    assert scores.sum() == pytest.approx(1)
    entries = some.entries(scores, top_k=2)
    assert [entry["label"] for entry in entries] == ["anger", "fear"]
    assert entries[0] == {"label": "anger", "score": pytest.approx(0.66524, abs=1e-5)}


def test_the_function_is_the_configs_unless_told_otherwise() -> None:
    many = answers(problem_type="multi_label_classification")
    sigmoid = 1 / (1 + np.exp(-LOGITS.numpy()))
    assert np.allclose(many.scores(LOGITS), sigmoid)
    assert np.allclose(answers().scores(LOGITS, "sigmoid"), sigmoid)
    assert many.scores(LOGITS, "softmax").sum() == pytest.approx(1)
    assert many.scores(LOGITS, "none").tolist() == LOGITS.tolist()


def test_values_in_native_units_and_in_their_own_order() -> None:
    some = answers(**VALUES)
    assert some.regression
    scores = some.scores(torch.tensor([-1.0, 1.0]))
    assert some.entries(scores) == [{"label": "valence", "score": 1.0}, {"label": "arousal", "score": 7.0}]
    assert some.scores(torch.tensor([-1.0, 1.0]), "none").tolist() == [-1, 1]
    with pytest.raises(
        ConfigurationError, match=r"'softmax' was passed; the checkpoint answers values \(valence, arousal\)"
    ):
        some.scores(torch.tensor([-1.0, 1.0]), "softmax")


def test_a_temperature_is_applied_and_said() -> None:
    warm = Calibration("temperature", "validation", 9, temperature=2.0)
    some = answers(calibration=warm.to_dict())
    assert np.allclose(some.scores(LOGITS), torch.softmax(LOGITS.double() / 2, -1).numpy())
    assert all(entry["calibration"] == str(warm) for entry in some.entries(some.scores(LOGITS)))
    raw = some.scores(LOGITS, "none")
    assert raw.tolist() == LOGITS.tolist()
    assert "calibration" not in some.entries(raw, function="none")[0]


def test_a_line_is_applied_to_native_values() -> None:
    line = Calibration("affine", "validation", 9, names=("valence", "arousal"), slope=(0.5, 1.0), intercept=(2.0, -1.0))
    some = answers(**VALUES, calibration=line.to_dict())
    assert some.scores(torch.tensor([[0.0, 0.0]])).tolist() == [[4.5, 4.0]]
    with pytest.raises(CheckpointError, match=r"config\.calibration has the method"):
        answers(calibration={"method": "magic"})


def test_what_a_model_was_trained_on_is_said_where_its_config_says_it() -> None:
    some = answers(training_data="synthetic")
    assert {entry["training_data"] for entry in some.entries(some.scores(LOGITS))} == {"synthetic"}
    assert some.entries(some.scores(LOGITS, "none"), function="none")[0]["training_data"] == "synthetic"
    over = answers(**VALUES, training_data="synthetic")
    assert over.over_time(np.zeros((1, 2, 2)), np.array([[0.0, 1.0]]))[0]["training_data"] == "synthetic"
    assert "training_data" not in answers().entries(some.scores(LOGITS))[0]


def test_overlapping_clips_are_averaged_over_time() -> None:
    some = answers(**VALUES)
    times = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    outputs = np.stack([np.full((3, 2), [-0.25, 0.5]), np.full((3, 2), [0.25, 0.5])])
    valence, arousal = some.over_time(outputs, times)
    assert valence["times"] == [0, 1, 2, 3]
    assert valence["scores"] == [4, 5, 5, 6]
    assert (valence["label"], valence["score"]) == ("valence", 5)
    assert arousal["scores"] == [6] * 4
    classes = answers().over_time(np.log([[[0.12, 0.18, 0.7]], [[0.32, 0.18, 0.5]]]), np.array([[0.5], [1.5]]), top_k=2)
    assert [(entry["label"], round(entry["score"], 6)) for entry in classes] == [("fear", 0.6), ("neutral", 0.22)]


def test_clips_are_combined_as_probabilities_and_calibrated_once() -> None:
    clips = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 2.0]])
    mean = np.exp(clips) / np.exp(clips).sum(axis=1, keepdims=True)
    mean = mean.mean(axis=0)
    assert np.allclose(np.exp(combine_clips(clips, "softmax")), mean)
    several = combine_clips(clips, "sigmoid")
    assert np.allclose(1 / (1 + np.exp(-several)), (1 / (1 + np.exp(-clips))).mean(axis=0))
    assert np.array_equal(combine_clips(clips, None), clips.mean(axis=0))
    assert np.array_equal(combine_clips(clips[:1], "softmax"), clips[0])
    assert np.isfinite(combine_clips(clips * 1e4, "softmax")).all()
    warm = answers(calibration=Calibration("temperature", "validation", 9, temperature=2.0).to_dict())
    found = {one["label"]: one["score"] for one in warm.over_time(clips[:, None], np.arange(3.0)[:, None])}
    expected = np.sqrt(mean) / np.sqrt(mean).sum()
    assert [found[name] for name in ("neutral", "anger", "fear")] == pytest.approx(expected.tolist())


def test_no_label_is_used_where_nothing_was_measured() -> None:
    answer = [{"label": name, "score": None, "times": [1.0], "scores": [None]} for name in ("stress", "baseline")]
    abstain(answer, 0.5)
    assert [entry["abstained"] for entry in answer] == [True, True]
