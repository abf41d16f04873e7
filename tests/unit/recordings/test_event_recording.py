"""Event recordings: what becomes one, what does not, and cutting."""

import logging

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.event_recording import EventRecording


def _recording(**changes) -> EventRecording:
    columns = {"x": [1, 2, 3, 4], "y": [5, 6, 7, 8], "t": [10, 20, 20, 40], "p": [0, 1, 1, 0], **changes}
    return EventRecording.from_arrays(**columns, width=346, height=260, name="clip")


def test_types_are_settled() -> None:
    recording = _recording()
    assert [getattr(recording, column).dtype for column in "xytp"] == [np.uint16, np.uint16, np.int64, np.uint8]
    assert len(recording) == 4
    assert recording.nbytes == 4 * 13
    assert "4 events" in repr(recording)


def test_right_types_are_not_copied() -> None:
    x, y = np.arange(3, dtype=np.uint16), np.arange(3, dtype=np.uint16)
    t, p = np.arange(3, dtype=np.int64), np.array([0, 1, 1], np.uint8)
    recording = EventRecording.from_arrays(x, y, t, p)
    assert all(getattr(recording, name) is column for name, column in (("x", x), ("y", y), ("t", t), ("p", p)))
    assert np.shares_memory(recording.between(1, 3).x, x)


@pytest.mark.parametrize(
    "polarities", [[0, 1, 1, 0], [-1, 1, 1, -1], [False, True, True, False], [-1.0, 1.0, 1.0, -1.0]]
)
def test_polarities_in_every_form(polarities: list) -> None:
    assert _recording(p=polarities).p.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("x", [1, 2, np.nan, 4], "x holds NaN at event 2"),
        ("x", [1, -2, 3, 4], "x holds values from -2 to 4"),
        ("y", [1, 2, 3, 70_000], "y holds values from 1 to 70000"),
        ("y", [1, 2.5, 3, 4], "y holds fractions of a pixel, such as 2.5"),
        ("y", [1, np.inf, 3, 4], "y holds values from 1.0 to inf"),
        ("t", [1, np.nan, 3, 4], "t is nan at event 1"),
        ("t", [1, 2, 3, 2**62], "which no clock shows"),
        ("t", np.array([1, 2, 3, 2**63], np.uint64), "which no clock shows"),
        ("p", [0, 1, 2, 1], "p holds values from 0 to 2"),
        ("p", [0, 1, -1, 1], "p holds −1 and 0"),
        ("p", [0, 0.5, 1, 1], "p holds values from 0.0 to 1.0"),
        ("p", [0, np.nan, 1, 1], "p holds NaN"),
        ("p", [0, 1], "different lengths"),
        ("x", [[1, 2], [3, 4]], r"x has shape \(2, 2\)"),
        ("x", ["a", "b", "c", "d"], "x has shape"),
    ],
)
def test_what_cannot_be_used_is_named(column: str, values: object, message: str) -> None:
    with pytest.raises(RecordingError, match=message) as caught:
        _recording(**{column: values})
    assert "clip" in str(caught.value)


def test_unsorted_time_is_sorted_stably_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        recording = _recording(t=[20, 10, 20, 10])
    assert recording.t.tolist() == [10, 10, 20, 20]
    assert recording.x.tolist() == [2, 4, 1, 3]
    assert recording.notes["reordered"] == 2
    assert "time steps back 2 times" in caplog.text
    assert "reordered" not in _recording().notes


def test_cutting_by_time_and_number() -> None:
    recording = _recording()
    assert recording.between(20, 40).x.tolist() == [2, 3]
    assert len(recording.between(41, 50)) == 0
    assert recording.slice(1, 3).t.tolist() == [20, 20]
    shifted = recording.shift(1000)
    assert shifted.t.tolist() == [1010, 1020, 1020, 1040]
    assert shifted.between(1020, 1040).x.tolist() == [2, 3]


def test_frames_are_cut_and_shifted_with_the_events() -> None:
    recording = EventRecording.from_arrays(
        *([1], [1], [15], [1]), frames=np.arange(3, dtype=np.uint8)[:, None, None], frame_times=np.array([0, 10, 20])
    )
    part = recording.shift(100).between(105, 125)
    assert part.frames is not None
    assert part.frame_times is not None
    assert part.frames.ravel().tolist() == [1, 2]
    assert part.frame_times.tolist() == [110, 120]
    with pytest.raises(RecordingError, match="one time per frame"):
        EventRecording.from_arrays([1], [1], [1], [1], frames=np.zeros((2, 3, 3), np.uint8))


def test_from_anything() -> None:
    torch = pytest.importorskip("torch")
    x, y, t, p = [1, 2], [3, 4], [5, 6], [0, 1]
    rows = np.rec.fromarrays([x, y, t, p], names="x,y,t,p")
    table = np.stack([x, y, t, p], axis=1)
    tensors = {name: torch.tensor(values) for name, values in (("xs", x), ("ys", y), ("ts", t), ("ps", p))}
    for source in (rows, table, tensors, {"X": x, "Y": y, "timestamp": t, "polarity": p}):
        recording = EventRecording.from_any(source, width=10, height=20)
        assert [getattr(recording, column).tolist() for column in "xytp"] == [x, y, t, p]
        assert (recording.width, recording.height) == (10, 20)
    assert EventRecording.from_any(EventRecording.from_any(rows, width=7), width=10, height=20).width == 7
    for wrong in (np.zeros((3, 5)), [1, 2], "text", {"x": x, "y": y, "t": t}):
        with pytest.raises(RecordingError):
            EventRecording.from_any(wrong)


def test_none_at_all() -> None:
    recording = EventRecording.from_arrays([], [], [], [])
    assert len(recording) == 0
    assert len(recording.between(0, 10)) == 0
