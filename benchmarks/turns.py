"""How the benchmarks time: what is compared takes turns within one run, so that other load on the machine falls on all of it."""

import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch


def time_in_turns(
    programs: Sequence[Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] | None = None,
) -> list[list[float]]:
    """Seconds of every program in every round, each round running all of them once; one round before is not counted.

    Args:
        programs: what is timed.
        rounds: how often.
        device: one that works on by itself is waited for.
        clock: by default the wall's; with OMP_WAIT_POLICY=PASSIVE, where threads that wait sleep, the processor's seconds of all
            threads, which other work on the machine moves less.
    """
    sleeps = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" and device == "cpu"
    clock = clock or (time.process_time if sleeps else time.perf_counter)
    seconds: list[list[float]] = [[] for _ in programs]
    for turn in range(rounds + 1):
        for index, program in enumerate(programs):
            start = clock()
            program()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                seconds[index].append(clock() - start)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over rounds of our time over theirs."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def verdict(value: float, goal: float, at_least: bool = False) -> str:
    """Whether a figure meets its goal, in words."""
    met = value >= goal if at_least else value <= goal
    return f"goal {'≥' if at_least else '≤'} {goal:g}: {'met' if met else 'MISSED'}"
