"""Who is who from frame to frame, by boxes alone; and what smoothing does to outputs and labels."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from meco_hub.errors import ConfigurationError
from meco_hub.processing.face_finder import Face, FaceFinder
from meco_hub.processing.face_preprocessor import FacePreprocessor
from meco_hub.processing.face_tracks import PATIENCE_S, SEARCH_S, FaceFollower, FaceTracker, FilmFaces, Smoothing
from meco_hub.processing.picture_processor import PictureProcessor
from meco_hub.recordings.video import Frame

Box = tuple[float, float, float, float]


def square(x: float, y: float = 100.0, side: float = 80.0) -> Box:
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


@pytest.mark.parametrize("rate", [5, 10, 30])
@pytest.mark.parametrize("seconds", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("shake", [0.0, 3.0])
def test_two_who_cross_keep_their_ids_though_one_hides_the_other(rate: int, seconds: float, shake: float) -> None:
    tracker, shaken = FaceTracker(), np.random.default_rng(0)
    ends: dict[int, float] = {}
    for step in range(int(seconds * rate) + 1):
        share = step / (seconds * rate)
        left, right = 100 + 400 * share, 500 - 400 * share
        moved = [x + shake * shaken.standard_normal() for x in (left, right)]
        hidden = abs(left - right) < 50
        boxes = [square(moved[0], 100), *([] if hidden else [square(moved[1], 115, 90)])]
        persons = tracker(boxes, step / rate)
        ends = dict(zip(persons, moved[: len(boxes)], strict=True))
        assert persons[0] == 0
        assert set(persons) <= {0, 1}, f"a new person at {step / rate} s"
    assert ends[0] > 400
    assert ends[1] < 200


HALF_HIDDEN = {
    **dict(zip(range(15, 25), [308, 302, 297, 294, 290, 288, 286, 283, 279, 284], strict=True)),
    **dict(zip(range(35, 46), [196, 197, 194, 192, 190, 188, 184, 180, 175, 168, 165], strict=True)),
}
"""Frame → middle of the box of a face that passes behind another at ten frames a second, as YuNet gives it: while a part of it is
hidden, the box shrinks to the part that is seen, and its middle stays behind or even moves backwards."""


def test_what_is_half_hidden_does_not_move_as_its_box_does() -> None:
    tracker, found = FaceTracker(), []
    for step in range(15, 46):
        boxes = [square(171 + 4.75 * (step - 15), 180, 78)]
        if step in HALF_HIDDEN:
            boxes.append(square(HALF_HIDDEN[step], 202, 90 if step < 24 or step > 36 else 75))
        found += tracker(boxes, step / 10)[1:]
    assert found == [1] * len(HALF_HIDDEN)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000), st.floats(20, 200)), max_size=6))
def test_every_face_has_a_person_of_its_own_and_nobody_who_stands_still_is_another(
    faces: Sequence[tuple[float, float, float]],
) -> None:
    tracker, boxes = FaceTracker(), [square(*face) for face in faces]
    first = tracker(boxes, 0.0)
    assert first == list(range(len(boxes)))
    if all(one == other or math.dist(one[:2], other[:2]) > 5 for one in faces for other in faces):
        again = tracker(boxes, 0.1)
        assert sorted(again) == first


def test_a_cut_ends_tracks_and_so_does_a_long_absence() -> None:
    tracker = FaceTracker()
    assert tracker([square(100)], 0.0) == [0]
    assert tracker([square(100)], 0.1, cut=True) == [1]
    assert tracker([], 0.2) == []
    assert tracker([square(100)], 0.1 + PATIENCE_S) == [1]
    for step in range(1, 12):
        assert tracker([], 0.1 + PATIENCE_S + 0.2 * step) == []
    assert tracker([square(100)], 2.4 + PATIENCE_S) == [2]


def test_where_few_frames_are_looked_at_people_are_waited_for() -> None:
    tracker = FaceTracker()
    assert [tracker([square(100)], 5.0 * step) for step in range(4)] == [[0]] * 4


def test_who_is_far_away_or_of_another_size_is_another() -> None:
    tracker = FaceTracker()
    tracker([square(100)], 0.0)
    assert tracker([square(300)], 0.1) == [1]
    assert tracker([square(100, side=200)], 0.2) == [2]


class Finder:
    """Knows the faces of each frame, and notes whether a frame was searched all over; around faces it sees those alone."""

    def __init__(self) -> None:
        self.shown: list[Box] = []
        self.searched: list[bool] = []

    def find(self, image: Image.Image, **options: object) -> list[Face]:
        if options.get("upright"):
            self.searched.append(True)
        return [Face(box, 0.9, close_score=0.95) for box in self.shown]

    def find_again(self, image: Image.Image, before: list[Face], **options: object) -> list[Face] | None:
        near = [one for one in self.shown if any(math.dist(one, face.box) < 60 for face in before)]
        if len(near) != len(before):
            return None
        self.searched.append(False)
        return [Face(box, 0.9, close_score=0.95) for box in near]


def seen(faces: FilmFaces, finder: Finder, boxes: list[Box], time: float, cut: bool = False) -> list[int]:
    finder.shown = boxes
    return [person for person, _ in faces(Image.new("RGB", (8, 8)), time, cut)]


def film() -> tuple[FilmFaces, Finder]:
    finder = Finder()
    return FilmFaces(finder), finder  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.floats(0, 2), st.floats(0, 50))
def test_who_comes_in_is_found_after_as_long_as_is_said_at_most(rate: int, enters: float, begin: float) -> None:
    faces, finder = film()
    found: dict[int, float] = {}
    for step in range(round(3.5 * rate) + 4):
        time = begin + step / rate
        boxes = [square(100 + step), *([square(500)] if time >= begin + enters else [])]
        for person in seen(faces, finder, boxes, time):
            found.setdefault(person, time)
    assert set(found) == {0, 1}
    assert found[1] <= begin + enters + SEARCH_S + 1 / rate + 1e-6
    if rate <= 5:
        assert all(finder.searched)
    elif rate >= 25:
        assert sum(finder.searched) <= 0.3 * len(finder.searched)


def test_a_frame_is_searched_all_over_at_a_cut_and_while_somebody_is_lost() -> None:
    faces, finder = film()
    two, one = [square(100), square(400)], [square(100)]
    for step in range(60):
        boxes = one if 22 <= step < 40 else two
        assert seen(faces, finder, boxes, step / 25, cut=step == 13) == ([0, 1] if step < 13 else [2, 3])[: len(boxes)]
    expected = {0, 5, 10, 13, 18, *range(22, 41), 45, 50, 55}
    assert {step for step, all_over in enumerate(finder.searched) if all_over} == expected
    for step in range(60, 120):  # who stays away is waited for, and no longer
        seen(faces, finder, one, step / 25)
    assert not all(finder.searched[-8:])


@pytest.mark.parametrize("stop", range(3, 9))
def test_a_film_that_is_gone_on_with_is_searched_as_if_it_had_not_stopped(stop: int) -> None:
    whole, first, again = film(), film(), film()
    for step in range(20):
        if step == stop:
            again[0].restore(json.loads(json.dumps(first[0].state())))
        part = first if step < stop else again
        boxes = [square(100 + 3 * step), *([square(400)] if step > 6 else [])]
        assert seen(*part, boxes, step / 25) == seen(*whole, boxes, step / 25)
    assert first[1].searched + again[1].searched == whole[1].searched


@pytest.mark.parametrize("stop", [0, 10, 30])
def test_a_doubtful_half_is_looked_at_once_a_second_and_said_of_each_frame(stop: int) -> None:
    class Doubtful(FaceFinder):
        looked, close_score = 0, 0.5

        def find(self, *_: object, **__: object) -> list[Face]:
            return [Face((0, 10, 20, 40), 0.8, yaw=0.0, turn=0.4, room=0.2, close_score=self.close_score)]

        def find_again(self, *_: object, **__: object) -> list[Face]:
            return self.find()

        def find_half(self, picture: Image.Image) -> Face | None:
            self.looked += 1
            return Face((-20.0, 10.0, 20.0, 40.0), 0.6)

    preprocessor, finder = FacePreprocessor(), Doubtful()
    preprocessor.face_finder = finder
    follower = FaceFollower(PictureProcessor(preprocessor))
    for step in range(51):
        finder.close_score = 0.9 if 40 <= step < 45 else 0.5  # of a certain face nothing is looked at, or said
        if step == stop:
            before, follower = follower, FaceFollower(PictureProcessor(preprocessor))
            follower.restore(json.loads(json.dumps(before.state())))
        ((_, shown),) = follower(Frame(np.zeros((48, 64, 3), np.uint8), step / 25))
        codes = [one.code for one in shown.warnings]
        assert ("face_cut_off" in codes) == (finder.close_score < 0.9)
        assert finder.looked == step // 25 + 1


def test_smoothing_is_a_mean_that_forgets_by_the_clock_and_not_by_the_frame() -> None:
    smoothing = Smoothing(seconds=0.5)
    assert smoothing.push(3.0, np.array([4.0, -2.0])).tolist() == [4.0, -2.0]  # the first counts in full
    weight = math.exp(-0.2 / 0.5)
    assert smoothing.push(3.2, np.array([0.0, 1.0])) == pytest.approx(
        [4 * weight / (1 + weight), (1 - 2 * weight) / (1 + weight)]
    )
    assert smoothing.push(1e6, np.array([7.0, 7.0])) == pytest.approx([7.0, 7.0])
    assert smoothing.anew().push(0.0, np.array([1.0])).tolist() == [1.0]
    off = Smoothing(seconds=0)
    assert [off.push(time, np.array([value]))[0] for time, value in ((0.0, 1.0), (0.1, 5.0))] == [1.0, 5.0]


def test_a_label_changes_only_when_another_leads_clearly() -> None:
    smoothing = Smoothing(margin=0.1)
    scores = ([0.6, 0.4], [0.48, 0.52], [0.44, 0.56], [0.52, 0.48], [0.56, 0.44])
    assert [smoothing.choose(np.array(row)) for row in scores] == [0, 0, 1, 1, 0]
    without = Smoothing(margin=0)
    assert [without.choose(np.array(row)) for row in scores] == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("settings", [{"seconds": -1}, {"seconds": math.inf}, {"margin": 1.5}, {"margin": "a"}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"smooth|label_margin"):
        Smoothing(**settings)  # type: ignore[arg-type]
