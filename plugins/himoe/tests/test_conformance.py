"""What every architecture of the zoo must do: answering values for a window, values over time, and classes."""

from typing import Any

from meco_hub.testing import Check, parametrize_with_checks

# three rates, an order that is not the alphabet's, and features that are computed already
TINY: dict[str, Any] = {
    "modalities": {
        "eeg": {"channels": 3, "sampling_rate": 32},
        "ecg": {"channels": 1, "sampling_rate": 20},
        "power": {"channels": 4, "sampling_rate": 4, "stem": "linear"},
    },
    "d_model": 16,
    "num_heads": 2,
    "stem_channels": 8,
    "encoder_layers": 1,
    "window_s": 4.0,
    "grid_step_s": 0.5,
    "max_lag_s": 1.0,
    "lag_dim": 8,
    "contrastive_dim": 8,
}
CLASSES = {"problem_type": "single_label_classification", "id2label": {0: "calm", 1: "stressed"}}


@parametrize_with_checks("meco_himoe", config=[TINY, {**TINY, "prediction_mode": "sequence"}, {**TINY, **CLASSES}])
def test_conformance(check: Check) -> None:
    check()
