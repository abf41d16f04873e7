"""A recording of several clips has the scores in the pipeline that an evaluation counts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

import meco_hub
from meco_hub.answers import Calibration, calibration_of, task_of_model
from meco_hub.evaluation.metrics import softmax
from meco_hub.evaluation.predict import Predictions, predict_rows
from meco_hub.evaluation.series import align_predictions
from meco_hub.evaluation.task import LabelledSubset


class Rows(list[Any]):
    """Recordings in memory, by row number."""

    sample_ids = ("first",)


def recording(processor: Any, seconds: float) -> Any:
    rng = np.random.default_rng(3)
    streams = {}
    for one in processor.modality_list():
        rate = 16.0 if one.summary_s else one.sampling_rate
        walk = rng.normal(size=(int(seconds * rate), one.stream_channels)).cumsum(axis=0)
        streams[one.name] = (walk, rate)
    return processor.read(streams)


def both(name: str, calibration: Calibration, windows: float) -> tuple[list[dict[str, Any]], Predictions, Any, Any]:
    """The pipeline's answer, and what an evaluation finds for the same recording."""
    loaded: Any = pipeline("emotion-recognition", model=meco_hub.checkpoint(name))
    loaded.model.config.calibration = calibration.to_dict()
    processor = loaded.feature_extractor
    recognise: Any = pipeline("emotion-recognition", model=loaded.model, feature_extractor=processor)
    one = recording(processor, windows * processor.window_s)
    rows: Any = Rows([one])
    predictions = predict_rows(loaded.model, processor, rows, progress=False)
    assert len(predictions.answers[0].outputs) > 2
    return recognise(one), predictions, rows, loaded.model


def test_classes_are_combined_before_they_are_calibrated() -> None:
    answer, predictions, _, model = both(
        "meco-himoe-stress", Calibration("temperature", "nothing", 1, temperature=2.0), 5.5
    )
    calibration = calibration_of(model.config)
    assert calibration is not None
    (expected,) = softmax(calibration.apply(predictions.class_scores()))
    found = {entry["label"]: entry["score"] for entry in answer}
    assert [found[name] for name in task_of_model(model).names] == pytest.approx(expected.tolist(), abs=1e-6)
    each = np.array([entry["scores"] for entry in answer])
    assert np.ptp(each, axis=1).max() > 1e-3  # clips of one answer would agree in any order
    assert np.abs(each.mean(axis=1) - [entry["score"] for entry in answer]).max() > 1e-5


def test_values_are_the_same() -> None:
    names = ("valence", "arousal")
    line = Calibration("affine", "nothing", 1, names=names, slope=(0.5, 1.5), intercept=(1.0, -2.0))
    answer, predictions, rows, model = both("meco-himoe-case", line, 3.3)
    corpus: Any = SimpleNamespace(time_continuous=False)
    side = LabelledSubset(rows, np.zeros((1, 2)), {})
    rated = align_predictions(predictions, rows, side, corpus, task_of_model(model), line)
    assert [entry["score"] for entry in answer] == pytest.approx(rated.answers()[0].tolist(), abs=1e-5)
    # 3.3 windows: what the last one says of the time behind the recording's end is in neither
    for entry in answer:
        assert max(entry["times"]) < entry["end"]
        assert entry["score"] == pytest.approx(np.mean(entry["scores"]), abs=1e-5)
    assert 0 < rated.shares[0][-1] < 1
    assert (rated.shares[0][:-1] == 1).all()
