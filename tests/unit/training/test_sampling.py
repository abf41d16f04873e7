"""The order of samples: complete, balanced to measure, and the same for the same seed."""

import numpy as np
import pytest

from meco_hub.training.loaders import EpochSampler, class_quota, draw_classes

LABELS = np.array([0] * 80 + [1] * 15 + [2] * 5)


def drawn(sampler: EpochSampler) -> np.ndarray:
    return np.array([draw.index for draw in sampler])


def test_without_balance_every_sample_comes_once() -> None:
    sampler = draw_classes(LABELS, 3, 0.0, seed=0)
    assert sorted(drawn(sampler)) == list(range(100))
    assert not (drawn(sampler) == np.arange(100)).all()


@pytest.mark.parametrize(("strength", "expected"), [(0.0, [80, 15, 5]), (1.0, [34, 33, 33]), (0.5, [59, 26, 15])])
def test_quota_follows_the_strength(strength: float, expected: list[int]) -> None:
    quota = class_quota(np.array([80, 15, 5]), strength, 100)
    assert quota.sum() == 100
    assert np.abs(quota - expected).max() <= 1
    sampler = draw_classes(LABELS, 3, strength, seed=0)
    assert (np.bincount(LABELS[drawn(sampler)], minlength=3) == quota).all()
    assert (sampler.shown == quota).all()


def test_what_is_left_of_a_quota_goes_to_the_largest_remainders_and_the_first_of_equals() -> None:
    assert class_quota(np.array([5, 5, 5]), 1.0, 10).tolist() == [4, 3, 3]
    assert class_quota(np.array([3, 3, 3]), 1.0, 8).tolist() == [3, 3, 2]
    assert class_quota(np.array([1, 3, 12]), 0.0, 8).tolist() == [1, 1, 6]  # 0.5, 1.5 and 6
    assert class_quota(np.array([1, 6, 3]), 0.0, 9).tolist() == [1, 5, 3]  # 0.9, 5.4 and 2.7


def test_repeats_are_spread_evenly_within_a_class() -> None:
    times = np.bincount(drawn(draw_classes(LABELS, 3, 1.0, seed=0)), minlength=100)
    for label in range(3):
        own = times[np.flatnonzero(np.equal(LABELS, label))]
        assert own.max() - own.min() <= 1


def test_what_is_thinned_out_changes_with_the_epoch() -> None:
    sampler = draw_classes(LABELS, 3, 1.0, seed=0)
    seen: set[int] = set()
    for epoch in range(8):
        sampler.set_epoch(epoch)
        seen |= set(drawn(sampler).tolist())
    assert len(seen & set(range(80))) > 75


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, second, other = (draw_classes(LABELS, 3, 0.5, seed=seed) for seed in (4, 4, 5))
    list(first)  # having been used before changes nothing
    assert list(first) == list(second)
    assert list(first) != list(other)
    second.set_epoch(1)
    assert list(first) != list(second)
    assert [draw.place for draw in second] == list(range(100))
    assert {draw.epoch for draw in second} == {1}


def test_classes_without_samples_get_none() -> None:
    assert class_quota(np.array([3, 0, 1]), 1.0, 4).tolist() == [2, 0, 2]
    assert len(list(draw_classes(np.array([0, 0, 2, 0]), 3, 1.0, seed=0))) == 4
