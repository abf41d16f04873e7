"""Windows onto a line of time: exact where grids coincide, averaged where windows overlap, interpolated elsewhere."""

import numpy as np
import pytest

from meco_hub.answers import read_off, stitch
from meco_hub.errors import InputError


def windows(starts: list[float], steps: int, step: float) -> np.ndarray:
    return np.array(starts)[:, None] + step * (np.arange(steps) + 0.5)


def test_coinciding_grids_come_out_unchanged() -> None:
    generator = np.random.default_rng(0)
    times = windows([0.0, 4.0, 8.0], 8, 0.5)  # side by side
    values = generator.normal(size=(3, 8, 2))
    line, joined = stitch(times, values)
    assert np.array_equal(line, times.ravel())
    assert np.array_equal(joined, values.reshape(-1, 2))
    assert np.array_equal(read_off(line, joined, line), joined)


def test_overlapping_windows_are_averaged_exactly() -> None:
    generator = np.random.default_rng(1)
    times = windows([0.0, 2.0], 8, 0.5)  # 0.25 … 3.75 and 2.25 … 5.75
    values = generator.normal(size=(2, 8, 1))
    line, joined = stitch(times, values)
    assert len(line) == 12
    assert np.array_equal(joined[:4], values[0, :4])
    assert np.array_equal(joined[4:8], (values[0, 4:] + values[1, :4]) / 2)
    assert np.array_equal(joined[8:], values[1, 4:])


def test_rounding_of_clocks_makes_no_new_times() -> None:
    first = np.cumsum(np.full(30, 0.1))
    second = 1.0 + 0.1 * np.arange(1, 31)
    assert not np.array_equal(first[10:], second[:20])  # the same times, up to floating-point steps
    line, joined = stitch(np.stack([first, second]), np.stack([np.full((30, 1), 1.0), np.full((30, 1), 3.0)]))
    assert len(line) == 40
    assert joined[:, 0].tolist() == [1.0] * 10 + [2.0] * 20 + [3.0] * 10


def test_grids_that_fall_between_each_other_do_not_zigzag() -> None:
    times = np.stack([np.arange(0.0, 10.0), np.arange(0.5, 10.5)])
    values = np.stack([np.full((10, 1), 1.0), np.full((10, 1), 3.0)])
    line, joined = stitch(times, values)
    assert len(line) == 20
    assert joined[:, 0].tolist() == [1.0] + [2.0] * 18 + [3.0]


def test_a_straight_line_stays_straight_whatever_the_windows() -> None:
    generator = np.random.default_rng(2)
    starts = np.sort(generator.uniform(0, 20, 7))
    starts[0] = 0.0
    times = windows(starts.tolist(), 16, 0.25)
    line, joined = stitch(times, (2 * times - 1)[..., None])
    asked = np.linspace(line[0], line[-1], 101)
    assert np.allclose(read_off(line, joined, asked)[:, 0], 2 * asked - 1)


def test_outside_the_line_its_ends_hold() -> None:
    line, joined = stitch(np.array([[1.0, 2.0]]), np.array([[[5.0], [7.0]]]))
    asked = np.array([0.0, 1.0, 1.5, 2.0, 9.0])
    assert read_off(line, joined, asked)[:, 0].tolist() == [5.0, 5.0, 6.0, 7.0, 7.0]


def test_steps_without_an_answer_are_left_out() -> None:
    times = np.array([[0.0, 1.0, 2.0], [3.0, np.nan, np.nan], [np.nan] * 3])
    values = np.array([[[1.0], [np.nan], [3.0]], [[4.0], [9.0], [9.0]], [[0.0]] * 3])
    line, joined = stitch(times, values)
    assert line.tolist() == [0.0, 2.0, 3.0]
    assert joined[:, 0].tolist() == [1.0, 3.0, 4.0]


def test_a_line_of_one_time_holds_everywhere() -> None:
    assert read_off(np.array([2.0]), np.array([[4.0, 5.0]]), np.array([0.0, 2.0, 3.0])).tolist() == [[4.0, 5.0]] * 3


def test_a_gap_on_the_line_stays_a_gap() -> None:
    read = read_off(np.arange(4.0), np.array([[0.0], [np.nan], [2.0], [3.0]]), np.array([0.0, 0.5, 1.0, 2.0, 2.5]))
    assert np.isnan(read[:, 0]).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("times", "values", "says"),
    [
        (np.zeros(3), np.zeros((3, 1)), "shape"),
        (np.zeros((1, 3)), np.zeros((1, 3, 1)), "do not rise"),
        (np.array([[2.0, 1.0]]), np.zeros((1, 2, 1)), "do not rise"),
        (np.full((2, 2), np.nan), np.zeros((2, 2, 1)), "No window"),
    ],
)
def test_refuses_what_is_no_course(times: np.ndarray, values: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        stitch(times, values)
    with pytest.raises(InputError, match="line"):
        read_off(np.zeros(0), np.zeros((0, 1)), np.zeros(1))
