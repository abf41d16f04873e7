"""torch.compile by flag: the same figures, and weights under their own names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from meco_hub.errors import ConfigurationError
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import train


@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.5}])
def test_a_compiled_run_is_the_plain_one(
    tmp_path: Path, tiny_recipe: Any, tiny_faces: Path, more: dict[str, Any]
) -> None:
    from torch._dynamo.utils import counters

    plain = train(tiny_recipe(**more), RunOptions(tiny_faces, tmp_path / "plain", progress=False))
    torch._dynamo.reset()
    counters.clear()
    settings = tiny_recipe(torch_compile=True, torch_compile_backend="eager", **more)
    options = RunOptions(tiny_faces, tmp_path / "compiled", checkpointing_steps="epoch", progress=False)
    compiled = train(settings, options)
    assert counters["stats"]["calls_captured"] > 0
    assert plain is not None
    assert compiled is not None
    for first, second in zip(plain["history"], compiled["history"], strict=True):
        for name in ("train_loss", "validation_loss"):
            assert first[name] == pytest.approx(second[name], rel=1e-5)
    weights, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("compiled", "plain"))
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[name], expected[name], atol=1e-5) for name in expected)
    state = load_file(tmp_path / "compiled" / "epoch_2" / "model.safetensors")
    assert not [name for name in state if "_orig_mod" in name]


def test_a_backend_that_torch_lacks(tmp_path: Path, tiny_recipe: Any, tiny_faces: Path) -> None:
    settings = tiny_recipe(torch_compile=True, torch_compile_backend="inductr")
    with pytest.raises(ConfigurationError, match="Did you mean 'inductor'"):
        train(settings, RunOptions(tiny_faces, tmp_path, progress=False))
