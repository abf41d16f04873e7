"""Signals: noted while a run listens, heeded at the next step, and left as they were before."""

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meco_hub.errors import TrainingInterrupted
from meco_hub.training import engine as interruption
from meco_hub.training.engine import SIGNALS, Interruption, ignore_in_worker


def _accelerator(others: int = 0) -> Any:
    """One process; or two, the other of which has been told `others`."""

    def gather(own: torch.Tensor) -> torch.Tensor:
        return torch.cat([own, torch.tensor([others])])

    return SimpleNamespace(num_processes=2 if others else 1, device=torch.device("cpu"), gather=gather)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_the_run_at_the_next_check(number: signal.Signals) -> None:
    with Interruption(_accelerator()) as heard:
        heard.check()
        os.kill(os.getpid(), number)
        with pytest.raises(TrainingInterrupted, match=f"{number.name} stopped the training") as stop:
            heard.check()
    assert stop.value.exit_code == 128 + number
    assert stop.value.signal_number == number


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def fail() -> None:
        with Interruption(_accelerator()):
            assert [signal.getsignal(number) for number in SIGNALS] != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_no_handler_outside_the_main_thread() -> None:
    seen: list[Any] = []

    def work() -> None:
        with Interruption(_accelerator()) as heard:
            seen.append([signal.getsignal(number) for number in SIGNALS])
            heard.check()

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_ctrl_c_twice_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(interruption, "time", SimpleNamespace(monotonic=lambda: now))
    with Interruption(_accelerator()) as heard:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the terminal and torchrun, telling the same
        now += 3
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(TrainingInterrupted):
            heard.check()


def test_what_another_process_was_told_stops_this_one() -> None:
    with pytest.raises(TrainingInterrupted, match="SIGTERM"):
        Interruption(_accelerator(others=signal.SIGTERM)).check()


def test_too_late_to_stop() -> None:
    with Interruption(_accelerator()) as heard:
        os.kill(os.getpid(), signal.SIGTERM)
        heard.heeded = False
        heard.check()


def test_workers_ignore_them() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        ignore_in_worker(0)
        for number in SIGNALS:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
