"""Engines that hold a model in parts: FSDP and DeepSpeed, as Accelerate configures them.

Where no process has the whole model, three things change: weights are gathered by all processes before the main one writes them;
all go through all of validation together, because each forward pass is everyone's; and in the end the kept weights are judged
as a whole model of their own. Everything else is Accelerate's business.

FSDP is supported in its second version, which shards a model in place. An averaged copy, a teacher's extra layer and torch.compile
are not combined with these engines.

This file knows engines; the loop knows when to ask.
"""

from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType

from ..errors import ConfigurationError
from .recipes import Recipe

_IN_PARTS = (DistributedType.FSDP, DistributedType.DEEPSPEED)


def in_parts(accelerator: Accelerator) -> bool:
    """No process has the whole model."""
    return accelerator.distributed_type in _IN_PARTS


def check_engine(accelerator: Accelerator, recipe: Recipe) -> None:
    """Refuse what the loop cannot do with the engine that is configured, before anything is computed.

    Raises:
        ConfigurationError: Megatron-LM, FSDP's first version, or a recipe that wants what such an engine does not offer.
    """
    engine = accelerator.distributed_type
    if engine == DistributedType.MEGATRON_LM:
        raise ConfigurationError(
            "Accelerate is configured for Megatron-LM, which knows language models only. Choose DDP, FSDP or DeepSpeed by "
            "`accelerate config`."
        )
    if engine == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ConfigurationError(
            "Accelerate is configured for FSDP 1; expected FSDP 2, which shards a model in place. Set fsdp_version: 2 in its "
            "configuration (`accelerate to-fsdp2` converts one)."
        )
    if in_parts(accelerator):
        wanted = [key for key in ("ema_decay", "distillation", "torch_compile") if getattr(recipe, key)]
        if wanted:
            raise ConfigurationError(
                f"The recipe sets {', '.join(wanted)}, which {engine.value} cannot be combined with here. Leave it out, or use DDP."
            )


def gather_weights(accelerator: Accelerator, model: Any) -> dict[str, Any] | None:
    """The whole model's weights, for the main process to write; None where it has them anyway. Every process must ask."""
    return accelerator.get_state_dict(model) if in_parts(accelerator) else None
