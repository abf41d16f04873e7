"""Which time steps are drawn: the published rule with its oddities, the even one, and the middle."""

from collections import Counter

import numpy as np
import pytest

from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.processing.eye_preprocessor import ClipSampling
from meco_hub.recordings.eye_clips import EyeClip


def draws(sampling: ClipSampling, length: int, count: int = 4000) -> Counter[tuple[int, ...]]:
    generator = np.random.default_rng(0)
    return Counter(tuple(sampling.draw(length, generator)) for _ in range(count))


def legacy_windows(length: int) -> dict[tuple[int, ...], float]:
    """Every window of the published rule and its probability, counted out by hand."""
    chances: dict[tuple[int, ...], float] = {}
    for phase in range(5):
        kept = list(range(phase, length, 4))
        starts = range(max(0, len(kept) - 5) + 1)
        for start in starts:
            window = tuple(kept[start : start + 4])
            chances[window] = chances.get(window, 0) + 1 / 5 / len(starts)
    return chances


@pytest.mark.parametrize("length", [18, 21, 53])
def test_legacy_draws_what_the_published_rule_draws_as_often(length: int) -> None:
    expected, found = legacy_windows(length), draws(ClipSampling(), length)
    assert set(found) == set(expected)
    for window, chance in expected.items():
        assert found[window] / 4000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)


def test_legacy_never_draws_the_last_window_and_allows_a_phase_of_four() -> None:
    found = draws(ClipSampling(), 53)
    assert max(window[-1] for window in found) < 52  # 0, 4, …, 52 are kept in phase 0; the last window would be 40 … 52
    assert (40, 44, 48, 52) not in found
    assert (4, 8, 12, 16) in found
    # phase 4 joins phase 0: windows of that residue come about twice as often as others
    residues = Counter[int]()
    for window, count in found.items():
        residues[window[0] % 4] += count
    assert residues[0] / 4000 == pytest.approx(0.4, abs=0.04)
    assert residues[1] / 4000 == pytest.approx(0.2, abs=0.04)


def test_legacy_repeats_from_the_beginning_where_too_few_are_left() -> None:
    sampling = ClipSampling()
    seen = draws(sampling, 9, 200)
    assert (0, 4, 8, 0) in seen
    assert (1, 5, 1, 5) in seen
    assert all(len(window) == 4 for window in seen)
    with pytest.raises(RecordingError, match="has 0 time steps"):
        sampling.draw(0, np.random.default_rng(0))


def test_uniform_draws_every_window_alike() -> None:
    found = draws(ClipSampling(sampling="uniform"), 18)
    assert set(found) == {(start, start + 4, start + 8, start + 12) for start in range(6)}
    assert min(found.values()) > 0.8 * 4000 / 6


def test_the_middle_is_the_middle_and_needs_no_chance() -> None:
    sampling = ClipSampling(sampling="center")
    assert sampling.center(13) == [0, 4, 8, 12]
    assert sampling.center(18) == [2, 6, 10, 14]
    assert set(draws(sampling, 53, 20)) == {(20, 24, 28, 32)}


@pytest.mark.parametrize("rule", ["uniform", "center"])
def test_clips_that_are_too_short_are_refused(rule: str) -> None:
    clip = EyeClip(np.zeros((12, 16, 16), np.uint8), name="short")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="short has 12 time steps; expected 13 or more"):
        ClipSampling(sampling=rule)(clip, np.random.default_rng(0))


def test_one_generator_state_gives_one_clip() -> None:
    clip = EyeClip(np.zeros((40, 16, 16), np.uint8))  # pyright: ignore[reportArgumentType]
    first, second = (ClipSampling()(clip, np.random.default_rng(7)) for _ in range(2))
    assert first.chosen == second.chosen
    assert clip.chosen is None


@pytest.mark.parametrize("field", [{"num_frames": 0}, {"stride": 1.5}, {"sampling": "random"}, {"stride": True}])
def test_values_that_make_no_sense_are_refused(field: dict) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(field))):
        ClipSampling(**field)
