"""A tiny face checkpoint, as `save_pretrained` leaves it, and portraits to show it."""

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config, weights and processor of a face model of a few thousand parameters, untrained."""
    import torch

    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
    from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    torch.manual_seed(0)
    config = ExpressNetMoEConfig(
        image_size=64,
        fe1_channels=[4, 8],
        fe1_kernel_sizes=[7, 3],
        fe1_hidden_size=16,
        fe2_channels=[4, 8],
        fe2_kernel_sizes=[5, 3],
        fusion_hidden_size=16,
        backbone_depths=[1, 1],
        backbone_widths=[4, 8],
    )
    ExpressNetMoEForEmotionRecognition(config).save_pretrained(folder)
    ExpressNetMoEImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _packaged(package: str, inside: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package}, which carries the portrait, is not installed")
    return Path(spec.origin).parent / inside


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """Eileen Collins, NASA, public domain; a smile."""
    return _packaged("skimage", "data/astronaut.png")


@pytest.fixture(scope="session")
def hopper() -> Path:
    """Rear Admiral Grace Hopper, US Navy, public domain; no smile."""
    return _packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
