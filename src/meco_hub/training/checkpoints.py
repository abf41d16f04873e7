"""Checkpoints of a run in progress: Accelerate's `save_state`, complete or absent.

A checkpoint is written beside its place and moved there when it is whole, so that a folder `step_N` or `epoch_N` is never half
of one, whatever kills the run.

This file knows folders; what is in them is Accelerate's.
"""

import logging
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..errors import CheckpointError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(step|epoch)_(\d+)")


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint.

    Attributes:
        epoch: epochs finished, and the one under way counted from 0.
        batch: batches done in the epoch under way.
        step: optimiser steps done.
        learning_rate: of the first parameter group, at the start of the epoch under way.
        loss_sum, loss_count: of the epoch under way, over batches.
        best: the best value of the selection criterion so far, larger being better.
        best_epoch: the epoch (from 1) it was reached in.
        stale_epochs: epochs since.
        seconds: training time of all sessions so far.
        history: one row of figures per finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float | None = None
    best_epoch: int = 0
    stale_epochs: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value)


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("*_*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, int(path.name.rsplit("_", 1)[1])))


def save_checkpoint(accelerator: Accelerator, output_dir: Path, name: str, total_limit: int | None) -> None:
    """Save the state of a run as `output_dir/name`; called by every process.

    Args:
        accelerator: everything registered with it is saved.
        output_dir: the run's folder.
        name: "step_N" or "epoch_N".
        total_limit: older checkpoints beyond this number are removed.
    """
    partial, final = output_dir / f".{name}.partial", output_dir / name
    if accelerator.is_main_process and partial.exists():
        shutil.rmtree(partial)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        if total_limit is not None:
            for old in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def find_checkpoint(output_dir: Path, wanted: str) -> Path | None:
    """The folder to resume from.

    Args:
        output_dir: the run's folder.
        wanted: a path, a name inside `output_dir`, or "auto" for the newest there.

    Returns:
        The folder; None when "auto" finds none, and the run begins at the beginning.

    Raises:
        CheckpointError: the folder named is not there.
    """
    found = list_checkpoints(output_dir)
    if wanted == "auto":
        return found[-1] if found else None
    for path in (Path(wanted), output_dir / wanted):
        if path.is_dir():
            return path
    names = ", ".join(path.name for path in found) or "none"
    raise CheckpointError(
        f"There is no checkpoint {wanted} to resume from. {output_dir} has: {names}. Name one, or say auto."
    )
