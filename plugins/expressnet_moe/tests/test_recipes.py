"""The four published recipes: they validate, they build, and they say what the paper's notebooks did."""

import pytest

from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.conversion import LABEL_SPACES
from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor
from meco_hub import plugins
from meco_hub.training.recipes import load_recipe

NAMES = ["fer2013", "raf_db", "affectnet7", "affectnet8"]


@pytest.mark.parametrize("name", NAMES)
def test_published_settings(name: str) -> None:
    recipe = load_recipe(f"meco_expressnet_moe/{name}")
    assert recipe.labels == list(LABEL_SPACES[name].names)
    assert (recipe.optimizer, recipe.learning_rate, recipe.adam_epsilon, recipe.weight_decay) == ("adam", 1e-4, 1e-7, 0)
    assert (recipe.lr_scheduler_type, recipe.lr_decay) == ("exponential_per_epoch", 0.95)
    assert (recipe.per_device_train_batch_size, recipe.num_train_epochs, recipe.early_stopping_patience) == (32, 15, 5)
    assert (recipe.selection, recipe.label_smoothing, recipe.class_balance) == ("war", 0.1, 0)
    assert (recipe.augmentation, recipe.mixup_alpha, recipe.ema_decay, recipe.operating_point.rule) == (
        None,
        0,
        None,
        "none",
    )
    assert recipe.data.validation.split == "test"
    assert recipe.model == {}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_names_exists(name: str) -> None:
    recipe = load_recipe(f"meco_expressnet_moe/{name}")
    corpus = plugins.corpus(recipe.data.corpus)
    assert set(recipe.data.options) <= set(corpus.options)
    assert set(recipe.labels or []) <= set(corpus.labels.names)
    config = ExpressNetMoEConfig(id2label=dict(enumerate(recipe.labels or [])), **recipe.model)
    assert config.num_labels == (8 if name == "affectnet8" else 7)
    processor = ExpressNetMoEImageProcessor(**recipe.processor)
    assert (processor.do_find_face, processor.do_normalize) == (True, False)
    assert (processor.size["height"], processor.size["width"]) == (config.image_size, config.image_size)
