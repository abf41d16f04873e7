"""Groups: the figures of each value are those of its rows, empty ones are null, and gaps are between values with enough rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from meco_hub.durable import write_json
from meco_hub.errors import InputError
from meco_hub.evaluation.intervals import class_groups, group_metrics, value_groups
from meco_hub.evaluation.metrics import compute_metrics, regression_metrics

NAMES = ["a", "b", "c"]


def case(n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, n)
    light = np.where(np.arange(n) % 3 == 0, "Low", "normal")
    strength = np.where(light == "Low", 0.5, 2.5)[:, None]
    return labels, generator.normal(size=(n, 3)) + strength * np.eye(3)[labels], light


def test_each_value_has_the_figures_of_its_rows() -> None:
    labels, logits, light = case()
    people = [f"p{index % 20}" for index in range(120)]
    table = class_groups({"lighting": light.tolist()}, labels, logits, NAMES, people)["lighting"]
    assert list(table["values"]) == ["Low", "normal"]
    for value, entry in table["values"].items():
        own = compute_metrics(labels[light == value], logits[light == value], NAMES)
        assert entry["n"] == own.n
        assert {key: entry[key] for key in own.flat()} == own.flat()
        assert entry["recall"]["a"] == own.per_class["a"].recall
        assert entry["classes"] == 3
        low, high = entry["confidence_intervals"]["uar"]
        assert low <= own.uar <= high
        assert entry["confidence_intervals"]["unit"] == "identity"
    gap = table["gaps"]["uar"]
    assert (gap["highest"], gap["lowest"]) == ("normal", "Low")
    assert gap["gap"] == pytest.approx(table["values"]["normal"]["uar"] - table["values"]["Low"]["uar"])
    assert "n" not in table["gaps"]
    assert "classes" not in table["gaps"]


def test_unknown_and_small_values_are_told_but_make_no_gap() -> None:
    labels, logits, _ = case(60)
    sex = ["woman"] * 25 + ["man"] * 25 + ["other"] * 4 + [""] * 6
    table = class_groups({"sex": sex}, labels, logits, NAMES)["sex"]
    assert list(table["values"]) == ["man", "other", "woman", ""]
    assert table["values"]["other"]["n"] == 4
    assert {gap[side] for gap in table["gaps"].values() for side in ("highest", "lowest")} <= {"man", "woman"}
    assert table["smallest"] == 10


def test_a_value_of_one_class_has_no_area() -> None:
    labels, logits, _ = case(40)
    group = ["all"] * 20 + ["one"] * 20
    labels[20:] = 1
    entry = class_groups({"g": group}, labels, logits, NAMES)["g"]["values"]["one"]
    assert entry["auroc"] is None
    assert entry["classes"] == 1
    assert entry["recall"]["a"] is None


def test_values_have_groups_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(50, 2))
    predictions = truth + generator.normal(size=(50, 2))
    sex = ["woman", "man"] * 25
    table = value_groups({"sex": sex}, truth, predictions, ["v", "a"])
    own = regression_metrics(truth[1::2], predictions[1::2], ["v", "a"])
    assert table["sex"]["values"]["man"]["rmse_v"] == own.per_target["v"].rmse
    assert table["sex"]["gaps"]["ccc"]["gap"] >= 0
    write_json(table, tmp_path / "groups.json")
    assert json.loads((tmp_path / "groups.json").read_text(encoding="utf-8"))["sex"]["values"]["man"]["n"] == 25


def test_lengths_are_checked() -> None:
    labels, logits, _ = case(20)
    with pytest.raises(InputError, match=r"19 rows and there are 20"):
        class_groups({"g": ["x"] * 19}, labels, logits, NAMES)
    with pytest.raises(InputError, match="as many"):
        group_metrics({"g": ["x"], "h": ["x", "y"]}, 1, lambda rows: {"n": len(rows)})
