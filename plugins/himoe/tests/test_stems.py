"""The statistics stem: what it says of a patch, and that nothing behind a mask reaches it."""

import math

import pytest
import torch

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.encoders import describe_patches
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition

MODALITIES = {
    "acc": {"channels": 3, "sampling_rate": 8, "patch_s": 2.0, "stem": "statistics"},
    "eda": {"channels": 1, "sampling_rate": 4, "patch_s": 4.0, "stem": "statistics"},
}


def test_statistics_of_a_patch_are_those_of_its_valid_samples():
    x = torch.randn(2, 24, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 24, dtype=torch.bool)
    valid[0, 12:18] = False
    found = describe_patches(x.masked_fill(~valid.unsqueeze(-1), 0.0), valid, 12)
    assert found.shape == (2, 2, 8)
    own = x[0, 18:24, 1]
    ramp = torch.linspace(-1, 1, 12)[6:]
    assert found[0, 1, 1].item() == pytest.approx(own.mean().item(), abs=1e-5)
    assert found[0, 1, 3].item() == pytest.approx(((own - own.mean()) * ramp).mean().item(), abs=1e-5)
    assert found[0, 1, 5].item() == pytest.approx(0.5 * math.log(own.var(unbiased=False).item() + 1e-4), abs=1e-5)
    assert found[0, 1, 7].item() == pytest.approx(0.5 * math.log(own.diff().square().mean().item() + 1e-4), abs=1e-5)


def test_statistics_of_nothing_are_finite():
    found = describe_patches(torch.zeros(1, 8, 1), torch.zeros(1, 8, dtype=torch.bool), 4)
    assert found.isfinite().all()


def test_values_behind_a_mask_change_nothing():
    torch.manual_seed(0)
    model = HiMoEForEmotionRecognition(HiMoEConfig(modalities=MODALITIES, window_s=8.0, d_model=16, num_heads=2)).eval()
    inputs = {"acc": torch.randn(2, 64, 3), "eda": torch.randn(2, 32, 1)}
    mask = {name: torch.rand(x.shape[:2]) > 0.3 for name, x in inputs.items()}
    spoilt = {name: x.masked_fill(~mask[name].unsqueeze(-1), float("nan")) for name, x in inputs.items()}
    with torch.no_grad():
        clean, other = (model(inputs=one, step_mask=mask).logits for one in (inputs, spoilt))
    assert (clean - other).abs().max().item() == 0.0


def test_every_parameter_of_the_stem_learns():
    model = HiMoEForEmotionRecognition(HiMoEConfig(modalities=MODALITIES, window_s=8.0, d_model=16, num_heads=2))
    model(inputs={"acc": torch.randn(2, 64, 3), "eda": torch.randn(2, 32, 1)}, labels=torch.zeros(2, 3)).loss.backward()
    for stem in model.himoe.encoders.stems:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stem.parameters())
