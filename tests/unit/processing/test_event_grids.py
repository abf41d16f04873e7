"""Event grids against a plain loop over the events, and the promises that hold for any recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.processing import event_grids
from meco_hub.processing.event_grids import EventPicture, LastEventPicture, PolarityCounts, TimeSurface, VoxelGrid

HEIGHT, WIDTH = 5, 7


@st.composite
def events(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    number = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    span = draw(st.sampled_from([0, 1, 3, 50, 33_000, 10**9, 10**13]))
    start = draw(st.sampled_from([0, -5000, 1_600_000_000_000_000]))
    t = np.sort(rng.integers(0, span + 1, number)) + start
    x, y = rng.integers(0, WIDTH, number).astype(np.uint16), rng.integers(0, HEIGHT, number).astype(np.uint16)
    return x, y, t.astype(np.int64), rng.integers(0, 2, number).astype(np.uint8)


def _voxels(columns, bins: int, start: int | None = None, end: int | None = None) -> np.ndarray:
    x, y, t, p = columns
    grid = VoxelGrid(
        *(HEIGHT, WIDTH),
        bins=bins,
        start_us=int(t[0]) if start is None else start,
        end_us=int(t[-1]) if end is None else end,
    )
    grid.add(x, y, t, p)
    return grid.finish()


def _loop(columns, bins: int) -> np.ndarray:
    """The definition, event by event."""
    grid = np.zeros((bins, HEIGHT, WIDTH))
    x, y, t, p = (column.tolist() for column in columns)
    span = t[-1] - t[0]
    for column, row, time, sign in zip(x, y, t, p, strict=True):
        place = (time - t[0]) * (bins - 1) / span if span else 0.0
        for b in range(bins):
            grid[b, row, column] += (2 * sign - 1) * max(0.0, 1 - abs(place - b))
    return grid


@settings(max_examples=80, deadline=None)
@given(events(), st.integers(1, 7))
def test_the_voxel_grid_is_its_definition(columns, bins: int) -> None:
    np.testing.assert_allclose(_voxels(columns, bins), _loop(columns, bins), atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(events(), st.integers(1, 7))
def test_mass_is_conserved(columns, bins: int) -> None:
    signs = 2 * columns[3].astype(np.int64) - 1
    grid = _voxels(columns, bins).astype(np.float64)
    assert grid.sum() == pytest.approx(signs.sum(), abs=1e-4)
    for row in range(HEIGHT):  # and per pixel, not just in sum
        here = columns[1] == row
        assert grid[:, row].sum() == pytest.approx(signs[here].sum(), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(events(), st.integers(1, 7), st.sampled_from([1, -7, 10**6, 10**15]))
def test_shifting_the_clock_changes_nothing(columns, bins: int, shift: int) -> None:
    x, y, t, p = columns
    np.testing.assert_array_equal(_voxels((x, y, t + shift, p), bins), _voxels(columns, bins))


@settings(max_examples=60, deadline=None)
@given(events(), st.integers(1, 7))
def test_reversed_polarity_gives_the_negative(columns, bins: int) -> None:
    x, y, t, p = columns
    np.testing.assert_array_equal(_voxels((x, y, t, 1 - p), bins), -_voxels(columns, bins))


@settings(max_examples=60, deadline=None)
@given(events(), st.integers(1, 7), st.integers(1, 20))
def test_parts_give_exactly_the_whole(columns, bins: int, size: int) -> None:
    x, y, t, p = columns
    start, end = int(t[0]), int(t[-1])
    makers = (
        lambda: VoxelGrid(HEIGHT, WIDTH, bins=bins, start_us=start, end_us=end),
        lambda: PolarityCounts(HEIGHT, WIDTH),
        lambda: TimeSurface(HEIGHT, WIDTH, end_us=end, decay_us=1000.0),
        lambda: EventPicture(HEIGHT, WIDTH, contribution=0.2),
        lambda: LastEventPicture(HEIGHT, WIDTH),
    )
    for make in makers:
        whole, parts = make(), make()
        whole.add(x, y, t, p)
        for first in range(0, len(t), size):
            cut = np.s_[first : first + size]
            parts.add(x[cut], y[cut], t[cut], p[cut])
        np.testing.assert_array_equal(parts.finish(), whole.finish())


def test_tens_of_thousands_of_events_on_one_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    number = 200_000
    t = np.sort(np.random.default_rng(0).integers(0, 30_000_000, number))
    zeros = np.zeros(number, np.uint16)
    p = np.ones(number, np.uint8)
    grid = VoxelGrid(1, 1, bins=3, start_us=int(t[0]), end_us=int(t[-1]))
    grid.add(zeros, zeros, t, p)
    place = (t - t[0]) * 2 / (t[-1] - t[0])
    expected = [np.maximum(0, 1 - np.abs(place - b)).sum() for b in range(3)]
    np.testing.assert_allclose(grid.finish().ravel(), expected, rtol=1e-6)
    # and the fast way, where it does fit, counts the same
    sums = VoxelGrid(1, 1, bins=2, start_us=0, end_us=1000)._sums(zeros[:900], zeros[:900], np.arange(900), p[:900], 0)
    assert (sums[0].item(), sums[1].item()) == (900, 900 * 899 // 2)
    monkeypatch.setattr(event_grids, "_BITS", 24)  # too few: the two sums are made one by one
    slow = VoxelGrid(1, 1, bins=2, start_us=0, end_us=1000)._sums(zeros[:900], zeros[:900], np.arange(900), p[:900], 0)
    assert (slow[0].item(), slow[1].item()) == (900, 900 * 899 // 2)


def test_counts_surfaces_and_pictures_by_hand() -> None:
    x, y = np.array([0, 0, 0, 1, 2, 2], np.uint16), np.zeros(6, np.uint16)
    t, p = np.array([0, 10, 20, 20, 30, 40]), np.array([1, 1, 0, 0, 1, 0], np.uint8)
    counts = PolarityCounts(1, 4)
    surface = TimeSurface(1, 4, end_us=40, decay_us=10.0)
    picture, soft, last = EventPicture(1, 4), EventPicture(1, 4, contribution=0.1), LastEventPicture(1, 4)
    for grid in (counts, surface, picture, soft, last):
        grid.add(x, y, t, p)
    assert counts.finish().tolist() == [[[1, 1, 1, 0]], [[2, 0, 1, 0]]]  # OFF, ON
    expected = np.exp([[[-2, -2, 0, -np.inf]], [[-3, -np.inf, -1, -np.inf]]])
    np.testing.assert_allclose(surface.finish(), expected, rtol=1e-6)
    assert picture.picture().tolist() == [[255, 0, 128, 128]]  # +1, −1, 0, nothing
    assert soft.picture().tolist() == [[154, 102, 128, 128]]  # 128 ± 25.5, to the nearest even
    assert last.picture().tolist() == [[0, 0, 0, 128]]
    np.testing.assert_array_equal(picture.finish()[0], picture.picture().astype(np.float32) / np.float32(255))


def test_more_events_than_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, WIDTH, 5000).astype(np.uint16), rng.integers(0, HEIGHT, 5000).astype(np.uint16)
    t, p = np.sort(rng.integers(0, 10_000, 5000)), rng.integers(0, 2, 5000).astype(np.uint8)
    whole = _voxels((x, y, t, p), 5)
    monkeypatch.setattr(event_grids, "_BLOCK", 64)
    np.testing.assert_array_equal(_voxels((x, y, t, p), 5), whole)
