"""The recipes: they validate, name what exists, and build a model and a windower that agree."""

import pytest

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.processing_himoe import HiMoESignalWindower
from meco_hub import plugins
from meco_hub.training.recipes import load_recipe

NAMES = ["deap", "dreamer", "case", "stress_predict"]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_names_exists(name: str) -> None:
    recipe = load_recipe(f"meco_himoe/{name}")
    corpus = plugins.corpus(recipe.data.corpus)
    assert corpus.kind == "signals"
    assert set(recipe.data.options) <= set(corpus.options)
    answers = (
        {"problem_type": "single_label_classification", "id2label": dict(enumerate(corpus.labels.names))}
        if corpus.labels
        else {"target_names": [target.name for target in corpus.targets]}
    )
    config = HiMoEConfig(**answers, **recipe.model)
    windower = HiMoESignalWindower.for_config(config, **recipe.processor)
    assert windower.modality_names == config.modality_names
    assert corpus.time_continuous is (config.prediction_mode == "sequence")


def test_the_deap_recipe_is_the_small_preset() -> None:
    assert load_recipe("meco_himoe/deap").model == {}
