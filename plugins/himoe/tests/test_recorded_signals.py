"""Signals as they are recorded, answered by the bundled checkpoints: what surrounds the samples decides nothing."""

from typing import Any

import numpy as np
import pytest

import meco_hub

STRESS, CASE = "meco-himoe-stress", "meco-himoe-case"
MINUTE = 60


@pytest.fixture(scope="module")
def stress() -> Any:
    return meco_hub.recogniser(STRESS)


@pytest.fixture(scope="module")
def case() -> Any:
    return meco_hub.recogniser(CASE)


def watch(minutes: float = 20, seed: int = 0) -> dict[str, Any]:
    """Skin and temperature of a watch."""
    draw = np.random.default_rng(seed)
    count = int(4 * MINUTE * minutes)
    eda = 3 + 0.02 * draw.normal(size=count).cumsum() + 0.05 * draw.normal(size=count)
    return {"eda": (np.abs(eda), 4.0), "temp": (33 + 0.001 * draw.normal(size=count).cumsum(), 4.0)}


def rated(answers: Any) -> dict[str, list[float | None]]:
    return {one["label"]: [one["score"], *one.get("scores", ())] for one in answers}


@pytest.mark.parametrize("seed", range(4))
def test_streams_that_the_model_does_not_read_change_nothing(seed: int, stress: Any) -> None:
    draw = np.random.default_rng(seed)
    recording = watch()
    times = np.sort(draw.uniform(-7200, 7200, draw.integers(1, 5)))
    strange = {"marker": (np.ones(len(times)), times), "hum": (draw.normal(size=50), 0.01)}
    assert rated(stress({**recording, **strange})) == rated(stress(recording))


def test_a_window_in_which_nothing_was_measured_has_no_value_and_is_in_no_mean(stress: Any) -> None:
    recording = {}
    for name, (values, rate) in watch().items():
        times = np.arange(len(values)) / rate
        there = (times < 5 * MINUTE) | (times >= 8 * MINUTE)
        recording[name] = (values[there], times[there])
    answers = {one["label"]: one for one in stress(recording)}
    for one in answers.values():
        gone = [5 * MINUTE < time < 8 * MINUTE for time in one["times"]]
        assert [score is None for score in one["scores"]] == gone
        assert sum(gone) == 3
    heard = [score for score in answers["stress"]["scores"] if score is not None]
    assert min(heard) < answers["stress"]["score"] < max(heard)
