"""A training so small that it takes a fraction of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_networks
from meco_hub.training.recipes import Recipe, override, recipe_from_dict

_RECIPE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "labels": ["surprise", "neutral", "happiness"],
    "model": {
        **tiny_networks.FACE,
        "fe2_channels": [8, 16],
        "batch_norm_momentum": 0.2,
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0, 1, 2]}, "validation": {"folds": [3]}},
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 2,
}


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Recipe]:
    """`tiny_recipe(learning_rate=…)`: two epochs of nine steps, changed where told."""
    return lambda **changes: recipe_from_dict(override(_RECIPE, changes))


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 drawn faces of three expressions in a folder per class."""
    from meco_hub.corpora.synthetic.faces import write_image_folder

    folder = tmp_path_factory.mktemp("tiny") / "faces"
    write_image_folder(folder, seed=1, labels=("neutral", "happiness", "surprise"), people=16, takes=2, size=32)
    return folder
