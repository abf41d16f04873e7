"""The recipes: they validate, they name what exists, and they say what the authors' code does."""

import numpy as np
import pytest

from meco_hub import plugins
from meco_hub.training.loaders import build_augmentation
from meco_hub.training.recipes import load_recipe
from meco_mcoenet.configuration_mcoenet import SMALL, MCOENetConfig
from meco_mcoenet.processing_mcoenet import MCOENetProcessor


def test_published_settings() -> None:
    recipe = load_recipe("meco_mcoenet/see")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.decay_everything) == (
        "adamw",
        3e-4,
        1e-3,
        True,
    )
    assert (recipe.lr_scheduler_type, recipe.lr_decay, recipe.num_train_epochs) == ("step_per_epoch", 0.94, 100)
    assert recipe.learning_rate * recipe.lr_decay**99 == pytest.approx(6.6e-7, rel=0.01)
    assert (recipe.per_device_train_batch_size, recipe.dataloader_drop_last, recipe.seed) == (64, False, 114514)
    assert (recipe.label_smoothing, recipe.class_balance, recipe.max_grad_norm, recipe.ema_decay) == (0, 0, None, None)
    assert recipe.labels is None  # the order of emotion.json
    assert recipe.model == recipe.processor == {}


@pytest.mark.parametrize("name", ["see", "see_synthetic"])
def test_what_a_recipe_names_exists(name: str) -> None:
    recipe = load_recipe(f"meco_mcoenet/{name}")
    corpus = plugins.corpus(recipe.data.corpus)
    assert corpus.kind == plugins.architecture(recipe.model_type).kind == "eye"
    assert set(recipe.data.options) <= set(corpus.options)
    config = MCOENetConfig(**recipe.model)
    processor = MCOENetProcessor(**recipe.processor)
    assert processor.image_processor.size.shortest_edge == config.image_size
    assert processor.num_frames == config.num_frames
    # training draws as repeated evaluation does
    assert build_augmentation(recipe.augmentation) == processor.clip_sampling


def test_the_synthetic_recipe_trains_the_small_preset() -> None:
    recipe = load_recipe("meco_mcoenet/see_synthetic")
    assert "synthetic" in recipe.description
    assert {key: recipe.model.get(key) for key in SMALL} == SMALL
    assert set(recipe.model) - set(SMALL) == {"expert_dispatch", "router_aux_loss_coef", "training_data"}
    assert recipe.model["training_data"] == "synthetic"
    drawn = build_augmentation(recipe.augmentation)
    assert drawn is not None
    assert drawn.draw(13, np.random.default_rng(0)) == [0, 4, 8, 12]  # pyright: ignore[reportAttributeAccessIssue]
