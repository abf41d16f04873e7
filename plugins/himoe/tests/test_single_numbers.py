"""Learnt single numbers: scalars in files, and of one dimension in the network, whichever way they come and go."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
from meco_hub import checkpoint

NAMES = {"own_expert", "temperature", "log_scale"}


@pytest.mark.parametrize("name", ["meco-himoe-case", "meco-himoe-stress", "meco-himoe-stress-live"])
def test_bundled_checkpoints_load_and_are_saved_bit_for_bit(name: str, tmp_path: Path) -> None:
    folder = Path(checkpoint(name))
    held = load_file(folder / "model.safetensors")
    model = HiMoEForEmotionRecognition.from_pretrained(folder)
    own = model.state_dict()
    assert own.keys() == held.keys()
    changed = {key.rpartition(".")[2] for key in held if held[key].shape != own[key].shape}
    assert changed
    assert changed <= NAMES
    assert all(torch.equal(held[key].flatten(), own[key].flatten()) for key in held)
    assert all(one.ndim for one in model.parameters())
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_network_that_was_never_a_file(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model(max_lag_s=1.0)
    found = {key: one for key, one in model.state_dict().items() if key.rpartition(".")[2] in NAMES}
    assert {key.rpartition(".")[2] for key in found} == NAMES
    with torch.no_grad():
        for one in model.parameters():
            one.add_(0.25)
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    assert all(held[key].shape == () for key in found)
    copied = copy.deepcopy(model)
    copied.load_state_dict(held)  # as files hold them
    for again in (HiMoEForEmotionRecognition.from_pretrained(tmp_path), copied):
        assert all(torch.equal(one, again.state_dict()[key]) for key, one in model.state_dict().items())
