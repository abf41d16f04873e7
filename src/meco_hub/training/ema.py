"""Averaged weights: a slow copy of the model that is validated and kept instead of it.

The average is torch's own `AveragedModel`; what is ours is the warm-up of its decay (without it, a short run would still carry its
random beginning): after n updates the decay is min(decay, (1 + n) / (10 + n)).

This file knows averages of tensors; it knows no architecture.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def averaged_copy(model: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """An exponential moving average of `model` on `device`, buffers (BatchNorm statistics) included.

    Call `update_parameters(model)` after each optimiser step; the first call copies.
    """

    @torch.no_grad()
    def blend(averages: Sequence[torch.Tensor], currents: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        count = int(updates)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        if averages[0].is_floating_point():
            for average, current in zip(averages, currents, strict=True):
                average.lerp_(current, weight)
        else:  # counters, such as BatchNorm's number of batches, have no meaningful average
            for average, current in zip(averages, currents, strict=True):
                average.copy_(current)

    return AveragedModel(model, device, multi_avg_fn=blend, use_buffers=True)
