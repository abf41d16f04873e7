"""Trials in processes of their own, for what may hang, crash, or leave something behind.

This file knows how a trial is run and how it ended; it does not know what is tried.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """How a program ended.

    Attributes:
        code: its exit code, negative for a signal; None where it was stopped after its time.
        last_line: of what it printed.
        error_output: what it wrote to stderr.
        timeout_s: seconds that it was given.
    """

    code: int | None
    last_line: str
    error_output: str
    timeout_s: float

    @property
    def hangs(self) -> bool:
        """It had not come to an end."""
        return self.code is None

    @property
    def failed(self) -> bool:
        """It hung, crashed or raised, or did not say how it went."""
        return self.code != 0 or not self.last_line.startswith("{")

    @property
    def problem(self) -> str:
        """How it ended, in a few words."""
        if self.code is None:
            return f"has not come to an end after {self.timeout_s:g} s"
        if self.code < 0:
            return f"crashes the process (signal {-self.code})"
        lines = self.error_output.strip().splitlines()
        return lines[-1] if lines else f"ends the process (exit code {self.code})"


def run_program(program: str, arguments: Sequence[str], timeout_s: float) -> Trial:
    """Run Python source in a fresh interpreter of this environment."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        said = stopped.stderr or b""
        return Trial(None, "", said.decode("utf-8", "replace") if isinstance(said, bytes) else said, timeout_s)
    lines = done.stdout.strip().splitlines()
    return Trial(done.returncode, lines[-1] if lines else "", done.stderr, timeout_s)
