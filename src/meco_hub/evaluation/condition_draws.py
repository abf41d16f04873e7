"""A condition, and the random numbers that it draws.

A condition is a function from recording to recording: one of whole recordings, one of the clips that are cut from them, or both.
What it does to one of either follows from the names in `condition_generator` alone: every process, machine and method sees the
same faults.

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
        apply: the change of a whole recording, before it is cut into clips; deterministic given the generator. None: there is none.
        draws: the name under which random numbers are drawn.
        unit: of `value`, in words; "" for those in words.
        unchanged: the change is none, so that clean answers are its answers.
        apply_to_clip: the change of each of its clips, drawn clip by clip, after `apply`. None: there is none.
        delays: recordings come out with `known_lags`, which estimates of lags can be held to.
    """

    name: str
    family: str
    value: float | str
    apply: Change | None
    draws: str
    unit: str = ""
    unchanged: bool = False
    apply_to_clip: Change | None = None
    delays: bool = False

    def generator(
        self, *, dataset: str, protocol: str, seed: int, subject: str, trial: str, window: int = 0
    ) -> np.random.Generator:
        """The random numbers of one window under this condition; of a whole recording, those of window 0."""
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
