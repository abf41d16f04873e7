"""Learnt single numbers: shape (1,) in the network, which FSDP can divide, and () in files, which every version reads.

`fully_shard` takes no parameter without dimensions. Files have held such ones as scalars from the first release on, and go on doing
so: a conversion of transformers' own adds the dimension when weights are loaded and takes it away when they are saved.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter

_NAMES = ("router.own_expert", "lag_estimator.temperature", "contrastive_head.log_scale")


class _Reshape(ConversionOps):
    """One tensor, in another shape."""

    def __init__(self, shape: tuple[int, ...], back: tuple[int, ...]) -> None:
        self.shape, self.back = shape, back

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        (value,) = input_dict.values()
        value = value[0] if isinstance(value, list) else value
        # other shapes pass: that they do not fit is for transformers to say
        return {target_patterns[0]: value.reshape(self.shape) if value.numel() == 1 else value}

    @property
    def reverse_op(self) -> ConversionOps:
        return _Reshape(self.back, self.shape)


register_checkpoint_conversion_mapping(
    "meco_himoe", [WeightConverter(name, name, [_Reshape((1,), ())]) for name in _NAMES], overwrite=True
)


def single_number(module: nn.Module, name: str) -> nn.Parameter:
    """A parameter of shape (1,) for `module.<name>`, which `load_state_dict` fills from () too, as files hold it."""
    module.register_load_state_dict_pre_hook(partial(_add_dimension, name))
    return nn.Parameter(torch.empty(1))


def _add_dimension(name: str, _: nn.Module, state: dict[str, torch.Tensor], prefix: str, *__: Any) -> None:
    if (key := prefix + name) in state and state[key].ndim == 0:
        state[key] = state[key].reshape(1)
