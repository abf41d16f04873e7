"""A condition, and the random numbers that it draws.

A condition is a function from recording to recording. What it does to one recording follows from the names in
`condition_generator` alone: every process, machine and method sees the same faults.

This file knows what a condition is; it knows none.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Change = Callable[[Any, np.random.Generator], Any]
"""(recording, random numbers) → the changed recording; the one given is left as it is."""


@dataclass(frozen=True)
class Condition:
    """One point of a grid.

    Attributes:
        name: "family/value", unique in its grid.
        family: what varies; conditions of one family are a curve. Those that differ in what is known of the same faults share
            `draws`.
        value: where on the curve: a rate, seconds, a factor; or the streams that are left, joined by "+".
        apply: the change, deterministic given the generator.
        draws: the name under which random numbers are drawn.
        unit: of `value`, in words; "" for those in words.
        unchanged: the change is none, so that clean answers are its answers.
    """

    name: str
    family: str
    value: float | str
    apply: Change
    draws: str
    unit: str = ""
    unchanged: bool = False

    def generator(
        self, *, dataset: str, protocol: str, seed: int, subject: str, trial: str, window: int
    ) -> np.random.Generator:
        """The random numbers of one window under this condition."""
        return condition_generator(
            dataset=dataset,
            protocol=protocol,
            condition=self.draws,
            value=self.value,
            seed=seed,
            subject=subject,
            trial=trial,
            window=window,
        )


def condition_generator(
    *,
    dataset: str,
    protocol: str,
    condition: str,
    value: float | str,
    seed: int,
    subject: str,
    trial: str,
    window: int,
) -> np.random.Generator:
    """Random numbers that depend on these names and on nothing else."""
    value = float(value) if isinstance(value, int | float) else value
    names = [dataset, protocol, condition, value, int(seed), str(subject), str(trial), int(window)]
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
