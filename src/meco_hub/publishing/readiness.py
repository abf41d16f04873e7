"""Does a folder load? Asked before it is pushed, without reading the weights: config, processor, names, and the heads of the files.

The network is built on the meta device, where it takes no memory, and its parameters are compared with what the safetensors say of
themselves: a file that is cut short, lies about its length or belongs to another model is found before a stranger finds it.

This file knows what a whole checkpoint is.
"""

import re
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from .. import plugins
from ..errors import MecoError, PublishingError
from ..loading import load_processor
from ..modeling import check_folder
from ..weight_files import INDEX, WEIGHTS, list_some, read_index
from .contents import SHARD, Contents, read_json

_PLACEHOLDER = re.compile(r"LABEL_\d+")
_SHOWN = 4
"""Names listed of those that differ."""

_DO = "Nothing was sent. Save the model with `save_pretrained`, all files of it, and push again."


def check_ready(folder: Path, contents: Contents) -> None:
    """Refuse a folder that a stranger could not load.

    Args:
        folder: the folder itself.
        contents: what would be pushed of it.

    Raises:
        PublishingError: something is missing, damaged, of another model, or without a name; says which.
        CheckpointError: no config, no safetensors, or files of them that are damaged.
    """
    if "config.json" in contents.files:
        _check_files(contents)
    entries = check_folder(folder) or {}
    cls, config = _declared_class(folder)
    _check_names(folder, cls, config)
    _compare(folder, _skeleton(cls, config), {name: entry.shape for name, entry in entries.items()})
    try:
        load_processor(str(folder))
    except MecoError as error:
        raise PublishingError(f"{error} Nothing was sent.") from error


def check_auto_map(contents: Contents) -> None:
    """Refuse an `auto_map` that names a file which does not go along.

    Raises:
        PublishingError: it dangles.
    """
    for name in contents.files:
        if not name.endswith("config.json"):
            continue
        for door, target in (read_json(contents.files[name]).get("auto_map") or {}).items():
            for one in filter(None, target if isinstance(target, list) else [target]):
                module = f"{str(one).split('.')[0]}.py"
                if module not in contents.files:
                    raise PublishingError(
                        f"The auto_map of {contents.files[name]} sends {door} to {one}, but {module} does not go along. Whoever "
                        "has not installed the plugin could not load it. Nothing was sent. Remove auto_map there, and push again."
                    )


def _declared_class(folder: Path) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    read_json(folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise PublishingError(
            f"The config of {folder} cannot be read: {str(error).split('. ')[0]}. Expected one of a registered architecture, see "
            f"`meco list`. {_DO}"
        ) from error
    entry = plugins.architecture(config.model_type)
    known = {path.rpartition(":")[2]: path for path in (entry.head, entry.base_model)}
    (name,) = getattr(config, "architectures", None) or (entry.head.rpartition(":")[2],)
    if name not in known:
        raise PublishingError(
            f"{folder / 'config.json'} says its class is {name}; expected {' or '.join(known)}, those of {config.model_type}. {_DO}"
        )
    return plugins.load_dotted(known[name]), config


def _check_names(folder: Path, cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """A label index never leaves without its name."""
    if cls.__name__ == plugins.architecture(config.model_type).base_model.rpartition(":")[2]:
        return  # a base model has no labels
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    unnamed = [name for name in names if _PLACEHOLDER.fullmatch(name) or not name.strip()]
    if unnamed or not names or len(set(names)) < len(names):
        seen = ", ".join(names[:_SHOWN]) or "none"
        raise PublishingError(
            f"The labels of {folder / 'config.json'} are {seen}; expected a name of its own for each output. Nothing was sent. Set "
            "id2label and label2id in the config, and push again."
        )


def _skeleton(cls: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return cls(config)


def _check_files(contents: Contents) -> None:
    """One file of weights, or the shards that their index names, no more of either."""
    files = contents.files
    shards = {name for name in files if SHARD.fullmatch(name)}
    if WEIGHTS in files and (shards or INDEX in files):
        raise PublishingError(
            f"The folder holds {WEIGHTS} and shards as well ({list_some(shards) or INDEX}); expected one or the other, since "
            "nobody can tell which of them is the model. Nothing was sent. Remove what is old, and push again."
        )
    if WEIGHTS in files:
        return
    if INDEX not in files:
        raise PublishingError(
            f"The folder holds {list_some(shards) or 'no weights'}; expected {WEIGHTS}, or shards and {INDEX}. {_DO}"
        )
    unnamed = shards - set(read_index(files[INDEX]))
    if unnamed:
        raise PublishingError(
            f"The folder holds {list_some(unnamed)}, which {INDEX} does not name; expected its shards alone. Nothing was sent. "
            "Remove what is old, and push again."
        )


def _compare(folder: Path, model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    # tied to another tensor, which the file holds in its stead
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    missing = [name for name in expected if name not in shapes and name not in tied]
    unexpected = [name for name in shapes if name not in expected]
    differing = [
        f"{name} {shapes[name]} instead of {shape}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    ]
    if missing or unexpected or differing:
        parts = [
            f"{word} {list_some(names)}"
            for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
            if names
        ]
        raise PublishingError(
            f"The weights of {folder} are not those of a {type(model).__name__} with this config: {'; '.join(parts)}. {_DO}"
        )
