"""From a recipe to a model and its processor.

transformers accepts and stores any config field; a misspelt one would silently keep its default. So the fields of `model` and
`processor` are checked here against what the classes declare.
"""

import dataclasses
import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedModel

from .. import plugins
from ..answers import Task, task_of_model
from ..errors import ConfigurationError, suggest
from ..evaluation.calibration import OutputLayer, output_layers
from ..labels import index_map
from ..loading import load_model, load_processor, read_config
from ..processing.preprocessor import PublishedProcessor
from .recipes import Recipe


def _refuse_unknown(given: Iterable[str], known: Sequence[str], section: str, owner: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigurationError(
                f"Recipe key '{section}.{key}' is no option of {owner}.{suggest(key, known)} Known: {', '.join(known)}."
            )


def processor_options(kind: type) -> list[str]:
    """What a processor's class may be configured by."""
    declared = getattr(kind, "valid_kwargs", None)
    if declared is not None:
        return sorted(declared.__annotations__)  # a TypedDict's include those it inherits
    return [name for name in inspect.signature(kind).parameters if name not in ("self", "args", "kwargs")]


def _move_rows(layer: OutputLayer, places: Sequence[int]) -> None:
    """Rows of weight and bias from these places; where a place is negative, a new row as torch initialises it."""
    bound = math.prod(layer.weight.shape[1:]) ** -0.5
    for name in ("weight", "bias"):
        old = getattr(layer, name)
        if old is not None:
            rows = [old[place] if place >= 0 else torch.empty_like(old[0]).uniform_(-bound, bound) for place in places]
            setattr(layer, name, nn.Parameter(torch.stack(rows)))
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(places))


@torch.no_grad()
def relabel(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Give a head other classes, or another order: rows of its last layers follow their class, new classes start afresh.

    Args:
        model: a head that has a `classifier` or `output_layers` (`evaluation/calibration.py`), and, where more than those rows
            belongs to the classes, `move_classes(places)`.
    """
    own = task_of_model(model).names
    places = index_map(names, own)
    if places == list(range(len(places))) and len(places) == model.config.num_labels:
        return
    layers = output_layers(model)
    if not layers:
        raise ConfigurationError(
            f"{type(model).__name__} has no `classifier` that is a Linear layer, and no `output_layers`, so it cannot be given the "
            f"classes {', '.join(names)}. Train from scratch, or with the checkpoint's own: {', '.join(own)}."
        )
    for layer in layers:
        _move_rows(layer, places)
    follow = getattr(model, "move_classes", None)
    if callable(follow):
        follow(places)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    setattr(model, "num_labels", len(names))  # noqa: B010 (a plain number, which torch declares no attribute for)


def _from_checkpoint(recipe: Recipe, task: Task) -> tuple[PreTrainedModel, Any]:
    source = plugins.locate_checkpoint(str(recipe.model_name_or_path))
    processor = load_processor(source)
    _refuse_unknown(recipe.processor, processor_options(type(processor)), "processor", type(processor).__name__)
    if recipe.processor:
        processor = load_processor(source, **recipe.processor)
    config = read_config(source)
    fields = [one.name for one in dataclasses.fields(cast(Any, type(config)))]
    _refuse_unknown(recipe.model, fields, "model", type(config).__name__)
    model = load_model(source, **recipe.model)
    if model.config.model_type != recipe.model_type:
        raise ConfigurationError(
            f"{recipe.model_name_or_path} is a {model.config.model_type}; the recipe's model_type is {recipe.model_type!r}. "
            "Make them agree."
        )
    if task.regression:
        own = task_of_model(model)
        if own.names != task.names:
            raise ConfigurationError(
                f"{recipe.model_name_or_path} answers {', '.join(own.names)}; the recipe trains {', '.join(task.names)}. "
                "Start from a checkpoint that answers the same, or train from scratch."
            )
    else:
        relabel(model, task.names)
    model.config.operating_point = None  # the bias is trained further, so what was chosen for it no longer holds
    model.config.calibration = None
    return model, processor


def _outputs(recipe: Recipe, task: Task, fields: Sequence[str], owner: str) -> dict[str, Any]:
    """The config's fields that say what the head answers."""
    values: dict[str, Any] = {
        "id2label": dict(enumerate(task.names)),
        "label2id": {name: index for index, name in enumerate(task.names)},
        "problem_type": "regression" if task.regression else "single_label_classification",
    }
    if task.regression:
        scale = {
            "target_names": list(task.names),
            "target_center": list(task.center),
            "target_halfrange": list(task.halfrange),
        }
        if not set(scale) <= set(fields):
            raise ConfigurationError(
                f"The corpus is rated in values, and {owner} has no {', '.join(scale)}: it knows classes only. Train it on "
                "a corpus of classes."
            )
        values |= scale
    elif "label_smoothing" in fields:
        # the loop computes the loss; the config says the same so that whoever trains on gets the same loss
        if "label_smoothing" in recipe.model:
            raise ConfigurationError(
                "Recipe key 'model.label_smoothing' is decided by 'label_smoothing'. Set that instead."
            )
        values["label_smoothing"] = recipe.label_smoothing
    return values


def _build_processor(entry: plugins.Architecture, config: Any, options: dict[str, Any]) -> Any:
    path = entry.processor or entry.image_processor or entry.feature_extractor
    if path is None:
        raise ConfigurationError(
            f"{entry.model_type!r} declares no processor, so nothing can be fed to it. Fix its plugin."
        )
    kind = plugins.load_dotted(path)
    _refuse_unknown(options, processor_options(kind), "processor", kind.__name__)
    # where windows, rates and grids are the model's, they are not said twice
    return kind.for_config(config, **options) if issubclass(kind, PublishedProcessor) else kind(**options)


def build(recipe: Recipe, task: Task) -> tuple[PreTrainedModel, Any]:
    """A head and its processor, ready to be trained."""
    if recipe.model_name_or_path is not None:
        return _from_checkpoint(recipe, task)
    entry = plugins.architecture(recipe.model_type)
    config_class = plugins.load_dotted(entry.config)
    fields = [one.name for one in dataclasses.fields(config_class)]
    _refuse_unknown(recipe.model, fields, "model", config_class.__name__)
    try:
        config = config_class(**{**_outputs(recipe, task, fields, config_class.__name__), **recipe.model})
    except StrictDataclassError as error:  # transformers wraps what a config's own checks say
        raise ConfigurationError(f"Recipe key 'model': {error.__cause__ or error}") from error
    model = plugins.load_dotted(entry.head)(config)
    processor = _build_processor(entry, config, recipe.processor)
    if recipe.backbone_weights is not None:
        load = getattr(model, "load_backbone_weights", None)
        if load is None:
            raise ConfigurationError(
                f"{type(model).__name__} has no `load_backbone_weights`, so it cannot start from {recipe.backbone_weights!r}. "
                "Leave backbone_weights out."
            )
        load(recipe.backbone_weights)
    return model, processor
