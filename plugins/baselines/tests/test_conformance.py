"""What every architecture of the zoo must do, of both baselines: values, values over time, and classes."""

from typing import Any

from meco_hub.testing import Check, parametrize_with_checks

# two rates, in an order that is not the alphabet's
GRU: dict[str, Any] = {
    "modalities": {"eeg": {"channels": 3, "sampling_rate": 8}, "ecg": {"channels": 1, "sampling_rate": 4}},
    "window_s": 4.0,
    "step_s": 0.5,
    "d_model": 8,
}
EEGNET: dict[str, Any] = {
    "modalities": {"eeg": {"channels": 4, "sampling_rate": 16}},
    "temporal_filters": 4,
    "separable_filters": 8,
}
CLASSES = {"problem_type": "single_label_classification", "id2label": {0: "calm", 1: "stressed"}}


@parametrize_with_checks("meco_gru", config=[{**GRU, "prediction_mode": "sequence"}, {**GRU, **CLASSES}])
def test_conformance_of_the_gru(check: Check) -> None:
    check()


@parametrize_with_checks("meco_eegnet", config=[EEGNET, {**EEGNET, **CLASSES}])
def test_conformance_of_eegnet(check: Check) -> None:
    check()
