"""Whether an engine holds a model in parts: FSDP 2 or DeepSpeed's ZeRO-3.

Then every layer gathers its weights from all processes when it is called, so all processes must call the same layers in the same
order: a mixture that runs only the experts that its own samples chose lets them wait for each other forever. Such a model asks
`is_sharded` and runs all of them. The conformance kit's check `same_layers_everywhere` finds those that do not.
"""

import torch
from torch import nn


def is_sharded(module: nn.Module) -> bool:
    """Whether weights of a module, or of one in it, are held in parts by several processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule  # half a second, which whoever starts one process need not wait for

    zero_3 = any(hasattr(parameter, "ds_id") for parameter in module.parameters())
    return zero_3 or any(isinstance(each, FSDPModule) for each in module.modules())
