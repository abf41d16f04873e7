"""Being told to stop: a signal is noted, the optimiser step under way is finished, and all processes stop after the same one.

    SIGTERM   what `kill`, torchrun and SLURM's time limit send            exit code 143
    SIGINT    Ctrl-C; a second one, two seconds later or more, ends at once           130
    SIGUSR1   what `sbatch --signal=USR1@120` sends two minutes before the limit      138 (Linux on x86 and ARM)

Until training begins, a signal ends the process as it always would: nothing is lost. Once it is over, the result is written first.

The codes are 128 + the signal's number, as a shell reports a process that a signal ended.

This file knows signals; what is written before the run ends is the loop's business.
"""

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from ..errors import TrainingInterrupted

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]

_SAME_S = 2.0
"""A terminal tells all processes and torchrun tells them again: signals so close together, in seconds, are one."""


def ignore_in_worker(_: int) -> None:
    """`worker_init_fn` of a loader: a signal to the whole group must not take the workers from under the last step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Interruption:
    """Notes signals while it is entered, and asks all processes whether one has.

    Only the main thread may handle signals; entered in another, it listens to none, and the process ends as it would have.

    Args:
        accelerator: of the run.

    Attributes:
        heeded: whether `check` raises; set it to False when it is too late for a checkpoint to help.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._received = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self.heeded = True

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was set by something other than Python, which cannot put it back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self._received:
            self._received, self._since = number, now
        elif number == signal.SIGINT and now - self._since > _SAME_S:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Stop when any process has been told to; every process must call this at the same points.

        Raises:
            TrainingInterrupted: one has.
        """
        if not self.heeded:
            return
        received = self._received
        if self._accelerator.num_processes > 1:
            own = torch.tensor([received], device=self._accelerator.device)
            received = int(self._accelerator.gather(own).max())  # pyright: ignore[reportAttributeAccessIssue]
        if received:
            raise TrainingInterrupted(f"{signal.Signals(received).name} stopped the training.", received)
