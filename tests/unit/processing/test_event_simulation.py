"""Events simulated from frames: as many as the logarithm says, at the times at which it says so, and none where nothing moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.errors import RecordingError
from meco_hub.processing.event_simulation import LINEAR_BELOW, log_brightness, simulate_events

TIMES = np.array([0, 100_000, 200_000], np.int64)


def pixel(*levels: int) -> np.ndarray:
    """(T, 1, 1) frames of one pixel."""
    return np.array(levels, np.uint8)[:, None, None]


def test_a_pixel_that_brightens_and_darkens_again_gives_its_thresholds_at_their_times() -> None:
    found = simulate_events(pixel(100, 200, 100), TIMES, threshold=0.25)  # ln 2 is 2.77 thresholds
    assert found.p.tolist() == [1, 1, 0, 0]
    up = [100_000 * 0.25 * count / np.log(2) for count in (1, 2)]
    # an OFF event lies one threshold below the last event, not below the peak
    down = [100_000 + 100_000 * (np.log(2) - 0.25 * level) / np.log(2) for level in (1, 0)]
    assert found.t.tolist() == pytest.approx([*up, *down], abs=1)
    assert (found.width, found.height, found.notes["simulated"]) == (1, 1, "threshold 0.25")


def test_small_steps_add_up_and_still_pixels_give_nothing() -> None:
    frames = np.full((3, 4, 5), 128, np.uint8)
    assert len(simulate_events(frames, TIMES)) == 0
    frames[1, 2, 3], frames[2, 2, 3] = 145, 160  # 0.125 and 0.223 of the logarithm
    found = simulate_events(frames, TIMES)
    assert (found.x.tolist(), found.y.tolist(), found.p.tolist()) == ([3], [2], [1])
    assert 100_000 < found.t[0] < 200_000


def test_in_the_dark_a_step_of_one_level_is_no_event() -> None:
    assert len(simulate_events(pixel(3, 4, 3), TIMES)) == 0
    steps = np.diff(log_brightness(np.arange(256, dtype=np.uint8)))
    assert (steps > 0).all()
    assert steps.max() < 0.16
    assert log_brightness(pixel(int(LINEAR_BELOW)))[0, 0, 0] == pytest.approx(np.log(LINEAR_BELOW))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_events_sum_up_to_the_change_of_the_logarithm_and_lie_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (5, 3, 4), dtype=np.uint8)
    times = np.cumsum(random.integers(1, 50_000, 5))
    found = simulate_events(frames, times)
    assert (np.diff(found.t) >= 0).all()
    assert (found.t >= times[0]).all()
    assert (found.t <= times[-1]).all()
    signed = np.zeros((3, 4))
    np.add.at(signed, (found.y, found.x), np.where(found.p == 1, 0.2, -0.2))
    change = log_brightness(frames[-1]) - log_brightness(frames[0])
    assert np.abs(signed - change).max() < 0.2 + 1e-5


@pytest.mark.parametrize(
    ("frames", "times"),
    [(pixel(1, 2), TIMES), (pixel(1, 2, 3).astype(float), TIMES), (pixel(1, 2, 3), TIMES[::-1])],
)
def test_what_is_no_row_of_frames_is_refused(frames: np.ndarray, times: np.ndarray) -> None:
    with pytest.raises(RecordingError, match="expected \\(T, H, W\\) uint8"):
        simulate_events(frames, times)
