"""Drawn eyes: repeatable, different where they should be, and lit as their names say."""

import numpy as np
import pytest

from meco_hub.corpora.synthetic.eyes import EXPRESSIONS, FRAME_US, LIGHTINGS, draw_sequence
from meco_hub.errors import UnknownNameError
from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.recordings.event_recording import EventRecording


def test_equal_arguments_draw_equal_sequences() -> None:
    one, same, other = (draw_sequence("fear", person=who, frames=5, size=24) for who in ("a", "a", "b"))
    np.testing.assert_array_equal(one.frames, same.frames)
    np.testing.assert_array_equal(one.t, same.t)
    assert (one.frames != other.frames).any()
    assert one.frames.shape == one.event_pictures.shape == (5, 24, 24)
    assert one.frames.dtype == one.event_pictures.dtype == np.uint8


def test_take_light_and_expression_matter() -> None:
    base = draw_sequence("fear", person="a", frames=4, size=24)
    for change in ({"take": 1}, {"lighting": "Low"}, {"seed": 1}):
        assert (draw_sequence("fear", person="a", frames=4, size=24, **change).frames != base.frames).any()
    assert (draw_sequence("anger", person="a", frames=4, size=24).frames != base.frames).any()
    for wrong in ({"expression": "bored"}, {"expression": "fear", "lighting": "dim"}):
        with pytest.raises(UnknownNameError):
            draw_sequence(**{"person": "a", **wrong})


def test_events_are_those_of_the_pictures() -> None:
    drawn = draw_sequence("surprise", person="a", frames=12, size=32)
    recording = EventRecording(drawn.x, drawn.y, drawn.t, drawn.p, 32, 32)
    spans = np.stack([drawn.frame_times - FRAME_US, drawn.frame_times], axis=1)
    frames = EventVoxelizer(representation="event_frame")(recording, windows=spans)["event_values"][0]
    np.testing.assert_array_equal(np.rint(np.asarray(frames) * 255), drawn.event_pictures)
    assert (np.diff(drawn.t) >= 0).all()
    assert 0.003 < (drawn.event_pictures != 128).mean() < 0.3


def test_light_spoils_frames_more_than_events() -> None:
    lit = {
        light: [
            draw_sequence(label, person=f"p{n}", lighting=light, frames=10, size=32)
            for n, label in enumerate(EXPRESSIONS)
        ]
        for light in LIGHTINGS
    }
    clipped = {
        light: np.mean([((s.frames == 255) | (s.frames < 20)).mean() for s in some]) for light, some in lit.items()
    }
    active = {light: np.mean([(s.event_pictures != 128).mean() for s in some]) for light, some in lit.items()}
    assert clipped["normal"] < 0.2
    assert min(clipped[light] for light in LIGHTINGS[1:]) > 0.35
    assert min(active.values()) > 0.4 * max(active.values())
    assert np.mean([s.frames.mean() for s in lit["Overexposed"]]) > 200
    assert np.mean([s.frames.mean() for s in lit["Low"]]) < 30
