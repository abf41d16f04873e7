"""Small models and batches that the tests of this plugin share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition

# three rates, one of them with a strided stem, one with features that are computed already
MODALITIES = {
    "eeg": {"channels": 3, "sampling_rate": 32},
    "ecg": {"channels": 1, "sampling_rate": 20},
    "power": {"channels": 4, "sampling_rate": 4, "stem": "linear"},
}


Batch = dict[str, Any]


def _config(**changes: Any) -> HiMoEConfig:
    values = {
        "modalities": MODALITIES,
        "d_model": 16,
        "num_heads": 2,
        "stem_channels": 8,
        "encoder_layers": 1,
        "window_s": 4.0,
        "grid_step_s": 0.5,
        "max_lag_s": 1.0,
        "lag_dim": 8,
        "contrastive_dim": 8,
        "dropout": 0.0,
        "initializer_range": 0.2,
    }
    if changes.get("problem_type", "regression") == "regression":
        values["target_names"] = ["valence", "arousal"]
    return HiMoEConfig(**{**values, **changes})


def _model(**changes: Any) -> HiMoEForEmotionRecognition:
    torch.manual_seed(0)
    return HiMoEForEmotionRecognition(_config(**changes)).eval()


def _batch(config: HiMoEConfig, size: int = 4, seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    names = config.modality_names or []
    samples = {name: config.window_samples(name) for name in names}
    entries = config.modalities or {}
    presence = torch.rand(size, len(names), generator=random) > 0.2
    presence[0] = True
    mask = {name: torch.rand(size, count, generator=random) > 0.1 for name, count in samples.items()}
    mask[names[0]][1 % size, : samples[names[0]] // 2] = False
    clocks = {name: torch.arange(count) + torch.rand(size, count, generator=random) for name, count in samples.items()}
    return {
        "inputs": {
            name: torch.randn(size, count, entries[name]["channels"], generator=random)
            for name, count in samples.items()
        },
        "modality_presence": presence,
        "step_mask": mask,
        "timestamps": {
            name: clock / entries[name]["sampling_rate"] - config.context_margin_s for name, clock in clocks.items()
        },
        "offsets": 0.1 * torch.randn(size, len(names), generator=random),
    }


@pytest.fixture(scope="session")
def make_config() -> Callable[..., HiMoEConfig]:
    """`make_config(**changes)`: the config of a small model."""
    return _config


@pytest.fixture(scope="session")
def make_model() -> Callable[..., HiMoEForEmotionRecognition]:
    """`make_model(**changes)`: a small model, always of the same weights, in evaluation."""
    return _model


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """`make_batch(config, size, seed)`: inputs with absent modalities, gaps, irregular clocks and offsets."""
    return _batch


@pytest.fixture(scope="session")
def model() -> HiMoEForEmotionRecognition:
    """One model for all tests that only ask; those that change it make their own."""
    return _model()


@pytest.fixture
def batch(model: HiMoEForEmotionRecognition) -> Batch:
    """A batch for `model`."""
    return _batch(model.config)
