"""The processes that share an evaluation: however they were launched, they know of each other before anything is read.

This file knows launchers and Accelerate's state; it knows nothing that is computed.
"""

import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from ..errors import ConfigurationError

__all__ = ["join_processes"]


def join_processes(patience: timedelta = timedelta(hours=2)) -> PartialState:
    """This process's place among those that were launched; the first call decides, and later ones find the same.

    Accelerate's state alone would not look for others on a machine without an accelerator, and every process would do all the work.

    Args:
        patience: how long a process waits for another.

    Raises:
        ConfigurationError: several processes were launched, and they cannot be brought together.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    alone = accelerator is None or accelerator.type == "mps"  # which no backend connects
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (launched > 1 and alone)
    state = PartialState(cpu=cpu, timeout=patience)
    if launched > 1 and state.num_processes != launched:
        raise ConfigurationError(
            f"{launched} processes were launched and Accelerate brings {state.num_processes} together; expected all. Set "
            "ACCELERATE_USE_CPU=true, or launch with `accelerate launch`."
        )
    return state
