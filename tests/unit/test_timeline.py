"""Plots of answers over time: a line for each label, the plane of valence and arousal, colours that everybody tells apart. And
the rows of tables, which say what an answer rests on and do nothing to whoever opens them."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from meco_hub.errors import InputError
from meco_hub.prediction import _schema, flat_rows
from meco_hub.timeline import draw_timeline, plot, timeline, write_csv

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


RESTS_ON = {
    "looked_at": "face", "face_score": 0.75, "face_side": 40.5, "tilt": -3.5, "start": 1.0, "end": 3.0, "frames": 4,
    "events": 2**40, "streams": {"used": {"frames": "b\udce9.mp4"}, "missing": ["ä"]}, "training_data": "synthetic",
    "abstained": False,
}  # fmt: skip
DOUBT = {"code": "face_small", "message": "b\udce9.jpg holds 2 frames."}


def as_csv(name: str, answer: Any) -> list[dict[str, str]]:
    text = io.StringIO(newline="")
    write_csv([(name, answer)], text)
    text.seek(0)
    text.read().encode("utf-8")  # as whoever writes it does
    text.seek(0)
    return list(csv.DictReader(text))


@pytest.mark.parametrize("one_of_many", [False, True])
def test_tables_hold_all_that_an_answer_rests_on(one_of_many: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    box = {"xmin": 1.0, "ymin": 2.0, "xmax": 41.5, "ymax": 40.0}
    whole = {"box": box, **RESTS_ON, "warnings": [DOUBT]}
    entry = {"label": "anger", "score": 0.5, "abstained": whole.pop("abstained")}
    answer = [{**whole, "expressions": [entry]}] if one_of_many else [{**entry, **whole}]
    (row,) = as_csv("a.jpg", answer)
    flat = pyarrow.Table.from_pylist(flat_rows("a.jpg", answer), schema=_schema(["anger"], over_time=True))
    (stored,) = flat.to_pylist()
    for key, value in RESTS_ON.items():
        if key == "streams":
            assert json.loads(row[key]) == json.loads(stored[key]) == value
        else:
            assert (row[key], stored[key]) == (str(value), value)
    assert [float(row[edge]) for edge in box] == stored["box"] == list(box.values())
    assert row["warnings"] == "b\\udce9.jpg holds 2 frames. [face_small]"
    assert stored["warnings"] == [{"code": "face_small", "message": "b\\udce9.jpg holds 2 frames."}]


def test_names_that_are_no_text_are_told_apart_in_tables() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    names = [os.fsdecode(name) for name in (b"caf\xe8.jpg", b"caf\xe9.jpg", "café.jpg".encode())]
    entry = [{"label": "anger", "score": 0.5, "warnings": []}]
    rows = [
        row for name in names for answer in (entry, {"error": f"{name} is empty."}) for row in flat_rows(name, answer)
    ]
    stored = pyarrow.Table.from_pylist(rows, schema=_schema(["anger"], over_time=False)).to_pylist()
    assert len({row["file"] for row in stored}) == 3
    assert [row["file"] for row in stored[::2]] == [as_csv(name, entry)[0]["file"] for name in names]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n="])
def test_no_cell_is_a_formula(begin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{begin}cmd|' !A0"
    for answer in ([{"label": text, "score": -0.5, "warnings": []}], {"error": text}):
        (row,) = as_csv(text, answer)
        for key, cell in row.items():
            assert key == "score" or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")), (key, cell)
    if begin in "=+-@\t":  # a name that is shown as it is still names the file
        monkeypatch.chdir(tmp_path)
        Path(text).touch()
        assert Path(as_csv(text, {"error": "bad"})[0]["file"]).samefile(text)
