"""Pictures: every kind is written, is not blank, follows its data, and says which extra is missing."""

import csv
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import DependencyError, InputError

pytest.importorskip("matplotlib")

from meco_hub.evaluation.pictures import (
    COLOURS,
    FORMATS,
    draw_confusion,
    draw_degradation,
    draw_people,
    draw_reliability,
    draw_routing,
    draw_scatter,
)
from meco_hub.evaluation.report import write_pictures

BINS = [
    {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
    {"low": 0.5, "high": 1.0, "n": 12, "confidence": 0.8, "accuracy": 0.6},
]


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def has_colour(shown: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return bool((np.abs(shown.astype(int) - wanted).max(axis=-1) <= 2).sum() > 30)


def test_confusion_shows_shares_of_rows(tmp_path: Path) -> None:
    labels = ["calm", "stress", "amusement"]
    first = draw_confusion([[9, 1, 0], [2, 8, 0], [0, 0, 0]], labels, tmp_path / "deep" / "a.png", title="model")
    other = draw_confusion([[1, 9, 0], [2, 8, 0], [0, 0, 0]], labels, tmp_path / "b.png", title="model")
    shown = pixels(first)
    assert min(shown.shape[:2]) >= 600
    assert has_colour(shown, "#DDDDDD")  # the class without samples has no shares
    assert not np.array_equal(shown, pixels(other))
    assert np.array_equal(
        shown, pixels(draw_confusion([[9, 1, 0], [2, 8, 0], [0, 0, 0]], labels, tmp_path / "c.png", title="model"))
    )
    with pytest.raises(InputError, match=r"\(2, 2\)"):
        draw_confusion([[1, 2], [3, 4]], labels, tmp_path / "d.png")


def test_reliability_leaves_empty_bins_out(tmp_path: Path) -> None:
    shown = pixels(draw_reliability(BINS, tmp_path / "r.png", ece=0.2, title="model"))
    assert has_colour(shown, COLOURS[5])
    below_the_legend = shown[shown.shape[0] // 3 :, : shown.shape[1] // 2]
    assert not has_colour(below_the_legend, COLOURS[5])


def test_curves_have_colours_of_their_own_and_break_where_nothing_is_known(tmp_path: Path) -> None:
    curves = {
        "all": {"levels": [0, 1, 2], "values": [0.9, None, 0.3]},
        "eda": {"levels": [0, 1, 2], "values": [0.9, 0.8, 0.7]},
    }
    shown = pixels(draw_degradation(curves, tmp_path / "d.png", metric="CCC", level="rate", clean=0.92))
    assert has_colour(shown, COLOURS[0])
    assert has_colour(shown, COLOURS[1])
    with pytest.raises(InputError, match="'x' has 2 levels and 1 values"):
        draw_degradation({"x": {"levels": [0, 1], "values": [1.0]}}, tmp_path / "e.png", metric="UAR")


def test_routing(tmp_path: Path) -> None:
    shares = [[0.9, 0.1], [np.nan, np.nan], [0.5, 0.5]]
    assert has_colour(
        pixels(draw_routing(shares, ["a", "b", "c"], ["expert 0", "expert 1"], tmp_path / "r.png")), "#DDDDDD"
    )


def test_a_report_gets_the_pictures_that_it_has_data_for(tmp_path: Path) -> None:
    report: dict[str, Any] = {
        "kind": "classification",
        "checkpoint": {"name": "model"},
        "metrics": {"uar": 0.7, "ece": 0.1},
        "confusion_matrix": {"labels": ["a", "b"], "counts": [[3, 1], [0, 4]]},
        "reliability": {"bins": BINS},
        "conditions": [
            *({"family": f"delay/{who}", "value": level, "unit": "s", "metrics": {"uar": 0.7 - level / 10}}
              for level in (2, 0, 1) for who in ("eda", "ecg")),
            {"family": "dark", "value": 1, "metrics": {"uar": 0.6}},
            {"family": "present", "value": "eda", "metrics": {"uar": 0.6}},
            {"family": "present", "value": "eda+ecg", "metrics": {"uar": None}},
        ],
        "routing": {"tables": [{"router": "top", "by": "class", "rows": ["a", "b"], "experts": ["0", "1"],
                                "shares": [[0.2, 0.8], [None, None]]}]},
    }  # fmt: skip
    written = write_pictures(report, tmp_path)
    assert [file.name for file in written] == [
        "confusion.png",
        "reliability.png",
        "degradation_delay.png",  # one strength of darkness is no curve
        "degradation_present.png",
        "routing_top_class.png",
    ]
    assert all(pixels(file).std() > 5 for file in written)
    assert write_pictures({"kind": "regression", "metrics": {}, "conditions": [], "routing": None}, tmp_path) == []


def texts(file: Path) -> list[str]:
    """What is written in an SVG."""
    root = ElementTree.parse(file).getroot()
    assert root.tag.endswith("svg")
    return ["".join(one.itertext()).strip() for one in root.iter() if one.tag.endswith("}text")]


REPORT: dict[str, Any] = {
    "kind": "classification",
    "checkpoint": {"name": "model", "training_data": "synthetic"},
    "data": {"corpus": "image_folder", "identities": 3, "synthetic": True},
    "metrics": {"n": 12, "uar": 0.7, "ece": 0.1},
    "confidence_intervals": {"uar": [0.6, 0.8]},
    "confusion_matrix": {"labels": ["a", "b"], "counts": [[3, 1], [0, 8]]},
    "reliability": {"bins": BINS},
    "per_person": {"metric": "uar", "values": [0.9, 0.5, None], "n": [4, 6, 2]},
    "conditions": [
        {"family": "missing", "value": level, "metrics": {"uar": 0.7 - level / 4}, "interval": [0.4, 0.8]}
        for level in (0.0, 0.5, 0.8)
    ],
    "routing": {"tables": [{"router": "top", "by": "class", "rows": ["a"], "experts": ["1", "2", "3"],
                            "shares": [[0.2, 0.25, 0.1]]}]},
}  # fmt: skip


def test_pictures_say_on_what_and_on_how_many_they_are(tmp_path: Path) -> None:
    written = {file.name: texts(file) for file in write_pictures(REPORT, tmp_path, "svg")}
    assert set(written) == {
        "confusion.svg", "reliability.svg", "people.svg", "degradation_missing.svg", "routing_top_class.svg",
    }  # fmt: skip
    for name, said in written.items():
        assert "n = 12, 3 people, image_folder (synthetic), trained on synthetic data" in said, name
    assert "people, best first (n = 2)" in written["people.svg"]
    for name in ("people.svg", "degradation_missing.svg"):
        assert "chance 0.50" in written[name]
    assert "clean 0.70" in written["degradation_missing.svg"]
    assert "12" in written["reliability.svg"]  # how many samples its one bin holds
    assert {"expert 1", "expert 2", "expert 3", "0.25"} <= set(written["routing_top_class.svg"])
    assert "1.0" not in written["routing_top_class.svg"]  # the scale ends where the shares do


@pytest.mark.parametrize("over_time", [True, False])
def test_values_are_drawn_beside_what_people_rated(over_time: bool, tmp_path: Path) -> None:
    report = {
        "kind": "regression",
        "checkpoint": {"name": "model"},
        "data": {"corpus": "case", "identities": 2},
        "targets": ["valence"],
        "metrics": {"n": 3, "ccc": 0.5, "ccc_valence": 0.512},
        "confidence_intervals": {"ccc_valence": [0.25, 0.75]},
    }
    with (tmp_path / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sample_id", "time_s" if over_time else "window", "valence_true", "valence"])
        for number, error in enumerate((0.1, 0.5, 2.0)):
            for moment in range(10):
                truth = "" if moment == 3 and over_time else 5 + moment / 10
                writer.writerow([f"file_{number}", moment, truth, 5 + moment / 10 + error])
    written = {file.name: texts(file) for file in write_pictures(report, tmp_path, "svg")}
    assert list(written) == ["scatter_valence.svg", *["over_time.svg"] * over_time]
    assert "model   CCC 0.512 [0.25, 0.75]" in written["scatter_valence.svg"]
    assert "n = 3, 2 people, case" in written["scatter_valence.svg"]
    if over_time:
        assert "model: file_1, of median error" in written["over_time.svg"]
        assert {"rated", "answered", "95 % of errors", "seconds", "valence"} <= set(written["over_time.svg"])


def test_every_format_is_written_twice_alike_and_no_other(tmp_path: Path) -> None:
    for suffix in FORMATS:
        first, again = (
            draw_people([0.9, 0.2], tmp_path / f"{name}.{suffix}", metric="UAR", chance=0.5) for name in "ab"
        )
        assert first.read_bytes() == again.read_bytes(), suffix
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match=r"ends in \.png, \.svg, \.pdf"):
        draw_people([0.9, 0.2], tmp_path / "a.bmp", metric="UAR")
    with pytest.raises(InputError, match="no pair"):
        draw_scatter([np.nan], [1.0], tmp_path / "a.svg", target="valence")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"meco-hub\[report\]"):
        draw_confusion([[1]], ["a"], tmp_path / "a.png")
