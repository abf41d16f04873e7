"""Plots of answers over time: a line for each label, the plane of valence and arousal, colours that everybody tells apart."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from meco_hub.errors import InputError
from meco_hub.timeline import draw_timeline, plot, timeline

TIMES = [5.0, 15.0, 25.0]


def course(label: str, scores: list[float | None]) -> dict[str, Any]:
    return {"label": label, "score": 5.0, "times": TIMES, "scores": scores, "warnings": []}


FELT = [course("valence", [2.0, 5.0, 7.5]), course("arousal", [3.0, None, 6.0])]
STRESS = [course("stress", [0.1, 0.2, 0.3]), course("rest", [0.9, 0.8, 0.7])]


def test_valence_and_arousal_have_a_plane_beside_their_curves_in_which_colour_is_time() -> None:
    figure = draw_timeline(timeline(FELT, "S01.edf"))
    curves, plane, bar = figure.axes
    assert [line.get_label() for line in curves.get_lines()] == ["valence", "arousal"]
    assert (plane.get_xlabel(), plane.get_ylabel(), bar.get_ylabel()) == ("valence", "arousal", "seconds")
    (dots,) = plane.collections
    assert dots.get_array().tolist() == [5.0, None, 25.0]  # no dot where one of both is not known
    assert dots.get_cmap().name == "cividis"
    assert dots.get_offsets()[[0, 2]].tolist() == [[2.0, 3.0], [7.5, 6.0]]


def test_classes_have_no_plane_and_each_person_a_panel_of_the_same_clock() -> None:
    people = [{"id": place, "labels": ["rest"] * 3, "expressions": STRESS} for place in (0, 1)]
    figure = draw_timeline(timeline(people, "talk.mp4"))
    first, second = figure.axes
    assert [one.get_title(loc="left") for one in (first, second)] == ["talk.mp4, person 0", "talk.mp4, person 1"]
    assert first.get_shared_x_axes().joined(first, second)
    assert first.get_ylabel() == "probability"
    colours = {line.get_label(): line.get_color() for line in first.get_lines()}
    assert colours == {line.get_label(): line.get_color() for line in second.get_lines()}
    assert len(set(colours.values())) == 2


def test_more_labels_than_colours_differ_by_their_lines() -> None:
    figure = draw_timeline(timeline([course(f"label {place}", [0.1, 0.1, 0.1]) for place in range(20)], "a.edf"))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 20


def test_of_more_people_than_panels_those_seen_longest_are_drawn() -> None:
    """As of a film with many cuts: nobody can choose to have fewer of them."""
    long, short = course("rest", [0.5] * 3), {**course("rest", [0.5] * 2), "times": TIMES[:2]}
    people = [{"id": place, "expressions": [long if place % 2 else short], "warnings": []} for place in range(82)]
    figure = draw_timeline(timeline(people, "film.mp4"))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [f"film.mp4, person {place}" for place in range(1, 80, 2)]
    assert figure.get_suptitle().startswith("40 of 82 files and persons")


def test_the_picture_is_written_and_what_does_not_run_over_time_is_refused(tmp_path: Path) -> None:
    plot([("S01.edf", FELT), ("S02.edf", FELT)], tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").width == 1500
    with pytest.raises(InputError, match="0 files and persons run over time"):
        plot([("a.jpg", [{"label": "happiness", "score": 0.9, "warnings": []}])], tmp_path / "none.png")
