"""What an eye clip's answer rests on: which seconds, how many frames and events; and what is in doubt about the events."""

import numpy as np
import pytest

from meco_hub.processing.eye_preprocessor import describe_steps, doubt_events, doubt_rate
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import EyeClip
from meco_hub.recordings.pictures import PictureArray

TIMES = np.arange(10, dtype=np.int64) * 33_000 + 1_000_000


def clip_of(event_times: np.ndarray, polarity: np.ndarray | None = None, **notes: str) -> EyeClip:
    count = len(event_times)
    zeros = np.zeros(count, np.uint16)
    both = (np.arange(count) % 2).astype(np.uint8) if polarity is None else polarity.astype(np.uint8)
    events = EventRecording(zeros, zeros, event_times.astype(np.int64), both, width=8, height=8, notes=dict(notes))
    return EyeClip(PictureArray(np.zeros((10, 8, 8), np.uint8)), events, TIMES)


def test_a_raw_clip_tells_seconds_frames_and_events() -> None:
    clip = clip_of(np.arange(1_000_000, 1_300_000, 1_000))
    seen = describe_steps(clip, [2, 5], 33_000, "before")
    # windows [1.033, 1.066) and [1.132, 1.165) seconds, an event a millisecond
    assert seen == {"start": 1.033, "end": 1.165, "frames": 2, "events": 66}
    assert doubt_events(clip, [2, 5], 33_000, "before") == []


@pytest.mark.parametrize(("unit", "empty"), [(1, 0), (1000, 2)])
def test_events_on_another_clock_leave_windows_empty(unit: int, empty: int) -> None:
    """Whatever clock the events are on: a code exactly where a window holds none."""
    times = 1_000_000 + np.arange(0, 300_000, 1_000) * unit
    found = doubt_events(clip_of(times), [2, 5], 33_000, "before")
    assert [one.code for one in found] == (["no_events_in_window"] if empty else [])
    assert not empty or f"{empty} of the 2 windows" in found[0].message


@pytest.mark.parametrize(("rate", "gap_s", "doubtful"), [
    (30, 0, False), (21, 0, False), (19, 0, True), (0.1, 0, True), (30, 0.1, False), (30, 1, True), (30, 10_800, True),
    (200, 0, False), (200, 0.1, False),
])  # fmt: skip
def test_frames_that_lie_far_apart_are_told(rate: float, gap_s: float, doubtful: bool) -> None:
    times = np.rint(1e6 * np.arange(10) / rate).astype(np.int64)
    times[5:] += round(1e6 * gap_s)
    clip = EyeClip(PictureArray(np.zeros((10, 8, 8), np.uint8)), None, times)
    assert [one.code for one in doubt_rate(clip, [0, 3, 6, 9])] == ["frame_rate_low"] * doubtful
    assert doubt_rate(clip, [0, 3]) == (doubt_rate(clip, [0, 3, 6, 9]) if not gap_s else [])
    assert doubt_rate(EyeClip(PictureArray(np.zeros((10, 8, 8), np.uint8)), None), [0, 9]) == []


@pytest.mark.parametrize(("grey", "codes"), [(128, []), (0, ["background_not_grey"]), (255, ["background_not_grey"])])
def test_event_pictures_stand_on_grey(grey: int, codes: list[str]) -> None:
    clip = EyeClip(None, PictureArray(np.full((10, 8, 8), grey, np.uint8)))
    assert [one.code for one in doubt_events(clip, [0, 3], 33_000, "before")] == codes
    assert describe_steps(clip, [0, 3], 33_000, "before") == {
        "start": None,
        "end": None,
        "frames": None,
        "events": None,
    }


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(("events", "others", "notes", "doubtful"), [
    (300, 0, {}, True), (300, 1, {}, False), (99, 0, {}, False), (300, 0, {"simulated": "of a film"}, False),
])  # fmt: skip
def test_a_camera_sees_brighter_and_darker(
    sign: int, events: int, others: int, notes: dict[str, str], doubtful: bool
) -> None:
    polarity = np.full(events, sign)
    polarity[:others] = 1 - sign
    clip = clip_of(np.linspace(1_000_000, 1_299_000, events).astype(np.int64), polarity, **notes)
    found = doubt_events(clip, [2, 5], 33_000, "before")
    assert [one.code for one in found] == ["one_polarity"] * doubtful
    assert not doubtful or f"All 300 events have the polarity {sign}" in found[0].message
