"""Clips of an eye that is still being recorded: complete as soon as they can be, and the same however the pieces are cut."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from meco_hub.corpora.synthetic.eyes import DrawnSequence, draw_sequence
from meco_hub.errors import RecordingError, UnknownNameError
from meco_hub.processing.eye_preprocessor import ClipSampling
from meco_hub.processing.eye_stream import EyeStream
from meco_hub.recordings.left_out import MOST_BAD

SAMPLING = ClipSampling(4, 4, "uniform")


@pytest.fixture(scope="module")
def drawn() -> DrawnSequence:
    return draw_sequence("surprise", person="somebody", frames=70, size=24)


def pieces(drawn: DrawnSequence, step_us: int) -> Iterator[dict[str, Any]]:
    columns = {"x": drawn.x, "y": drawn.y, "t": drawn.t, "p": drawn.p}
    for begin in range(0, int(drawn.frame_times[-1]) + 1, step_us):
        frames, inside = ((times >= begin) & (times < begin + step_us) for times in (drawn.frame_times, drawn.t))
        piece: dict[str, Any] = {"events": {name: one[inside] for name, one in columns.items()}} if inside.any() else {}
        if frames.any():
            piece |= {"frames": drawn.frames[frames], "frame_times": drawn.frame_times[frames]}
        yield piece


def stream(streams: tuple[str, ...] = ("frames", "events")) -> EyeStream:
    return EyeStream(SAMPLING, streams, before_us=33_000)


@pytest.mark.parametrize("step_us", [7_000, 50_000, 400_000, 10_000_000])
def test_clips_are_the_same_however_the_recording_comes_in(drawn: DrawnSequence, step_us: int) -> None:
    own = stream()
    clips = [clip for piece in pieces(drawn, step_us) for clip in own.push(piece)] + own.flush()
    assert len(clips) == 2
    for clip, second in zip(clips, (0, 1), strict=True):
        looked_at = clip.frame_times[list(clip.chosen)]
        assert np.diff(looked_at).tolist() == [132_000] * 3
        assert looked_at[0] == pytest.approx(33_000 + 33_000 + 1_000_000 * second, abs=17_000)
        spans = clip.event_spans(clip.chosen, 33_000)
        inside = [int(((drawn.t >= start) & (drawn.t < end)).sum()) for start, end in spans]
        assert [len(clip.events.between(start, end)) for start, end in spans] == inside


def test_what_the_next_clip_does_not_need_is_forgotten(drawn: DrawnSequence) -> None:
    own, sizes = stream(), []
    for again in range(5):
        for piece in pieces(drawn, 100_000):
            shift = again * 2_400_000
            moved = {name: one + shift if name == "frame_times" else one for name, one in piece.items()}
            if "events" in piece:
                moved["events"] = {**piece["events"], "t": piece["events"]["t"] + shift}
            own.push(moved)
        sizes.append(own.nbytes)
    assert max(sizes) < 0.5 * (drawn.frames.nbytes + 13 * len(drawn.t))


def test_a_still_scene_is_waited_for_half_a_second_and_no_longer(drawn: DrawnSequence) -> None:
    own = stream()
    own.push({"events": {"x": [1], "y": [1], "t": [0], "p": [1]}})
    clips = [
        (step, clip)
        for step in range(40)
        for clip in own.push(
            {"frames": drawn.frames[step : step + 1], "frame_times": np.array([1_000_000 + 33_000 * step])}
        )
    ]
    ((step, clip),) = clips
    assert step * 33_000 == pytest.approx(33_000 + 400_000 + 500_000, abs=34_000)
    assert len(clip.events) == 0


def some(begin_us: int, end_us: int, *, frames_us: int = 33_333, events: bool = True) -> dict[str, Any]:
    times, moments = np.arange(begin_us, end_us, frames_us), np.arange(begin_us, end_us, 1000)
    ones = np.ones(len(moments), int)
    return {
        "frames": np.zeros((len(times), 24, 24), np.uint8),
        "frame_times": times,
        "events": {"x": ones, "y": ones, "p": ones, "t": moments} if events else None,
    }


def test_frames_that_stop_end_it_after_a_minute_of_events_and_a_shorter_gap_costs_its_clips_alone() -> None:
    own, second = stream(), 1_000_000
    made = []
    for at in range(60):
        gap = {"frames": None} if 4 <= at < 40 else {}
        made += own.push(some(at * second, (at + 1) * second) | gap)
    assert len(made) == 60 - 36
    assert own.nbytes < 1_000_000
    stopped = (some(at * second, (at + 1) * second) | {"frames": None} for at in range(60, 200))
    with pytest.raises(RecordingError, match=r"Events have come up to 1\d+ µs, and frames up to 59\d+ µs"):
        list(map(own.push, stopped))
    assert own.nbytes < 2_000_000


def test_clocks_that_are_apart_and_too_few_frames_are_refused() -> None:
    own, second = stream(), 1_000_000
    apart = [
        some(at, at + second) | {"events": {"x": [1], "y": [1], "p": [1], "t": [90 * second + at]}}
        for at in (0, second)
    ]
    with pytest.raises(RecordingError, match="expected both on one clock"):
        list(map(own.push, apart))
    few = (some(at * second, (at + 1) * second, frames_us=250_000) for at in range(20))
    with pytest.raises(RecordingError, match=r"Frames come 0\.25 seconds apart; expected one every 0\.133 seconds"):
        list(map(stream().push, few))


def test_an_hour_in_which_nothing_moves_is_answered_and_kept_small_and_a_piece_may_be_empty() -> None:
    own, second = stream(), 1_000_000
    made = own.push(some(0, 2 * second))
    for at in range(2, 3600):
        made += own.push(some(at * second, (at + 1) * second, frames_us=100_000, events=False))
    assert len(made) == 3599  # the last waits for events
    assert own.nbytes < 100_000
    assert own.push({"frames": [], "frame_times": [], "events": {name: [] for name in "xytp"}}) == []


def test_events_alone_are_clips_of_a_thirtieth_of_a_second(drawn: DrawnSequence) -> None:
    own = stream(("events",))
    clips = [clip for piece in pieces(drawn, 100_000) for clip in own.push(piece)]
    assert len(clips) == 2
    assert clips[0].frames is None
    assert len(clips[0]) == SAMPLING.span


def test_what_cannot_be_used_is_refused(drawn: DrawnSequence) -> None:
    frames = {"frames": drawn.frames[:2], "frame_times": np.array([0, 33_000])}
    event = {"events": {"x": [1], "y": [1], "t": [100], "p": [1]}}

    def push_all(some: list[Any]) -> None:
        own = stream()
        for one in some:
            own.push(one)

    for some, error, words in (
        ([{"frames": drawn.frames[:2]}], RecordingError, "one for each"),
        ([frames, *[frames] * MOST_BAD], RecordingError, "does not rise"),
        ([event, *[{"events": {**event["events"], "t": [50]}}] * MOST_BAD], RecordingError, "times that rise"),
        ([{"pictures": drawn.frames}], UnknownNameError, "part of a piece"),
        ([drawn.frames], RecordingError, "expected a mapping"),
    ):
        with pytest.raises(error, match=words):
            push_all(some)


@pytest.mark.parametrize("streams", [("frames", "events"), ("events",)])
def test_a_clock_that_jumps_makes_no_millions_of_clips(drawn: DrawnSequence, streams: tuple[str, ...]) -> None:
    """As of a camera whose first packets count from its start, and whose later ones from 1970."""
    late = 1_700_000_000_000_000
    what = "a frame" if "frames" in streams else "an event"
    far = (
        {"frames": drawn.frames[:1], "frame_times": np.array([late])}
        if "frames" in streams
        else {"events": {"x": drawn.x[:5], "y": drawn.y[:5], "t": late + np.arange(5), "p": drawn.p[:5]}}
    )
    clips = with_one_more(stream(streams), drawn, far)
    assert len(clips) == 2
    (said,) = [one.message for clip in clips for one in clip.warnings if one.code == "part_left_out"]
    assert f"days without {what}, the next is at 17" in said


def with_one_more(own: EyeStream, drawn: DrawnSequence, odd: Any) -> list[Any]:
    clips = []
    for place, piece in enumerate(pieces(drawn, 400_000)):
        clips += own.push(piece)
        if place == 2:
            before = own.nbytes
            clips += own.push(odd)
            assert own.nbytes == before
    return clips + own.flush()


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "eye.mp4",
        np.zeros((24, 24)),
        {"frames": np.zeros((2, 24, 24), np.uint8)},
        {"frames": np.zeros((2, 24, 24), np.uint8), "frame_times": [1_250_000.5, 1_251_000.5]},
        {"frames": np.zeros((2, 24, 24), np.uint8), "frame_times": [1_250_000, 1_249_000]},
        {"frames": np.zeros((1, 24, 24), np.uint8), "frame_times": [0]},
        {"frames": [None, None], "frame_times": [1_250_000, 1_251_000]},
        {"frames": 7, "frame_times": [1_250_000]},
        {"events": {"x": [1], "y": [1], "t": [50], "p": [1]}},
        {"events": {"x": ["a"], "y": [1], "t": [1_250_000], "p": [1]}},
        {"events": {"x": [1], "t": [1_250_000]}},
        {"events": [1, 2]},
    ],
)
def test_a_part_that_cannot_be_used_is_named_and_left_out_and_the_rest_goes_on(odd: Any, drawn: DrawnSequence) -> None:
    clips, others = with_one_more(stream(), drawn, odd), with_one_more(stream(), drawn, {})
    (said,) = [one.message for clip in clips for one in clip.warnings if one.code == "part_left_out"]
    assert said.startswith("Left out: ")
    for clip, other in zip(clips, others, strict=True):
        assert clip.chosen == other.chosen
        np.testing.assert_array_equal(clip.frame_times, other.frame_times)
        np.testing.assert_array_equal(clip.events.t, other.events.t)
