"""Files of weights that others wrote: read as tensors and names, never as code.

This file knows what such files can look like; it does not know which network they belong to.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from meco_hub.errors import CheckpointError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs keep the state dict beside other things."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of what `torch.save` wrote, by name.

    A state dict may lie under one of `_WRAPPERS`, and its names may all begin with "module." (DataParallel).

    Raises:
        CheckpointError: no such file, damaged, would run code when read, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}. Pass a .safetensors, .pth or .pt file.")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read as weights: {str(error).splitlines()[0] if str(error) else type(error).__name__}. Expected a "
            "safetensors file, or a state dict saved by torch.save; anything else is not read, since it could run code."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds {_describe(content)}; expected a state dict: names and tensors.")
    odd = [name for name, value in content.items() if not isinstance(value, torch.Tensor) or not isinstance(name, str)]
    if odd:
        raise CheckpointError(
            f"{path} holds something else than tensors under {', '.join(map(str, odd[:4]))}; expected a state dict."
        )
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def _describe(content: object) -> str:
    return f"an empty {type(content).__name__}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
