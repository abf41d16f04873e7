"""Signals as they are recorded, answered by the bundled checkpoints: what surrounds the samples decides nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import meco_hub
from meco_hub.recordings.signal_recording import Stream

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


# --- while a recording goes on ------------------------------------------------------------------------------------------


def packets(recording: dict[str, Any], seconds: float, form: str) -> Any:
    """The recording in pieces, in one of the forms that chunks have."""
    longest = max(len(values) / rate for values, rate in recording.values())
    for begin in np.arange(0, longest, seconds):
        piece = {}
        for name, (values, rate) in recording.items():
            first, last = round(begin * rate), round((begin + seconds) * rate)
            part, times = values[first:last], np.arange(len(values))[first:last] / rate
            piece[name] = {
                "(n,) and times": (part, times),
                "(n, 1) and times": (part.reshape(len(part), -1), times),
                "and a rate": (part, rate),
                "streams": Stream(part.reshape(len(part), -1), times, rate),
            }[form]
        yield piece


FORMS = [(name, form) for name in (STRESS, CASE) for form in ("(n, 1) and times", "and a rate", "streams")]


@pytest.mark.parametrize(("name", "form"), [(STRESS, "(n,) and times"), *FORMS])
def test_every_bundled_checkpoint_answers_while_a_recording_goes_on_as_for_the_whole(
    name: str, form: str, stress: Any, case: Any
) -> None:
    recognise = {STRESS: stress, CASE: case}[name]
    draw = np.random.default_rng(1)
    recording = watch(30) if name == STRESS else {"eda": (draw.normal(size=(2000, 2)), 4.0)}
    level = recognise.feature_extractor.measure(recording)
    live = list(recognise.stream(packets(recording, 7.0, form), reference=level))
    read = recognise.feature_extractor.read(recording)
    whole = recognise(replace(read, reference=level))
    for entry in whole:
        mine = [other for answer in live for other in answer if other["label"] == entry["label"]]
        scores = [score for one in mine for score in one.get("scores", [one["score"]])]
        assert len(scores) == {STRESS: 30, CASE: 50}[name]
        np.testing.assert_allclose(scores, entry["scores"], atol=1e-5)


def test_a_packet_that_comes_twice_ends_nothing_and_is_named(stress: Any) -> None:
    recording = watch(30)
    level = stress.feature_extractor.measure(recording)
    pieces = list(packets(recording, 60.0, "(n,) and times"))
    once = list(stress.stream(pieces, reference=level, on_warning="ignore"))
    again = list(stress.stream([*pieces[:10], *pieces[9:]], reference=level, on_warning="ignore"))
    assert [rated(one) for one in again] == [rated(one) for one in once]
    assert [[one["code"] for one in answer[0]["warnings"]] for answer in again].count(["packet_repeated"]) == 1


@pytest.mark.parametrize("name", [STRESS, CASE])
def test_a_level_is_measured_on_whatever_can_be_answered_for(name: str, stress: Any, case: Any, tmp_path: Path) -> None:
    recognise = {STRESS: stress, CASE: case}[name]
    recording = {"eda": (np.random.default_rng(0).normal(size=(800, 1 if name == STRESS else 2)), 4.0)}
    file = tmp_path / "earlier.npz"
    np.savez(file, eda_values=recording["eda"][0], eda_rate=4.0)
    processor = recognise.feature_extractor
    expected = processor.measure([processor.read(recording)])
    for source in (recording, [recording], file, [str(file)], processor.read(file)):
        level = processor.measure(source)
        assert level.keys() == expected.keys() == {"eda"}
        np.testing.assert_array_equal(level["eda"], expected["eda"])
