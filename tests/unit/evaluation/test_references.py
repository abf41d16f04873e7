"""references: a window's numbers are those of its own samples, and scaling knows people and nothing else."""

import numpy as np
import pytest

from meco_hub.evaluation.references import scaled_within, window_statistics
from meco_hub.recordings.signal_recording import SignalRecording, Stream


def test_mean_spread_and_slope_of_what_is_inside() -> None:
    ramp = Stream.regular(np.stack([np.arange(40.0), np.full(40, 7.0)], axis=1), 4.0, start=-5.0)
    ramp.values[22, 1] = np.nan
    recording = SignalRecording({"eda": ramp}, 0.0, 5.0)
    found = window_statistics(recording, {"eda": 2, "ibi": 1})
    inside = np.arange(20.0, 40.0)  # from 0 s on
    assert found[:6] == pytest.approx([inside.mean(), inside.std(), 4.0, 7.0, 0.0, 0.0])
    assert np.isnan(found[6:]).all()
    assert len(found) == 9


def test_scaling_within_people() -> None:
    numbers = np.array([[1.0, np.nan], [3.0, 5.0], [10.0, 1.0], [10.0, 3.0]])
    scaled = scaled_within(numbers, ["a", "a", "b", "b"])
    assert scaled.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]
