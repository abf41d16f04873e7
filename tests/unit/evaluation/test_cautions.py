"""list_warnings: what a figure must not be quoted without."""

from dataclasses import replace
from typing import Any

from meco_hub.corpora.case import corpus as case
from meco_hub.corpora.deap import corpus as deap
from meco_hub.evaluation.report import list_warnings
from meco_hub.evaluation.report_file import PERMUTED, control_of, describe_control


def report(ccc: float | None = 0.1, seen: dict[str, int] | None = None, control: str | None = None) -> dict[str, Any]:
    return {
        "checkpoint": {"control": control},
        "data": {"seen": seen},
        "metrics": {"n": 3, "rmse": 0.9, "ccc": ccc, "ccc_valence": ccc, "pcc": 0.9},
        "references": {},
    }


def test_good_figures_are_doubted_where_the_corpus_knows_better() -> None:
    (told,) = list_warnings(report(0.61), deap)
    assert told.startswith("ccc 0.61, ccc_valence 0.61 on deap: above 0.6 this is a bug or a leak")
    assert list_warnings(report(0.6), deap) == list_warnings(report(None), deap) == []
    assert list_warnings(report(0.99), case) == []
    assert list_warnings(report(0.99), replace(case, suspicious_above=0.5)) != []


def test_people_of_the_training_are_told() -> None:
    assert list_warnings(report(seen={"people": 4, "trained_on": 0, "selected_by": 1}), case) == []
    (told,) = list_warnings(report(seen={"people": 4, "trained_on": 3, "selected_by": 0}), case)
    assert told.startswith("3 of 4 people were trained on")


def test_a_control_is_told_by_its_config_or_its_record() -> None:
    assert control_of({"training_control": PERMUTED}, None) == PERMUTED
    assert control_of({}, {"control": PERMUTED}) == PERMUTED
    assert control_of({}, {}) is control_of({"training_control": None}, None) is None
    (told,) = list_warnings(report(control=PERMUTED), case)
    assert "trained on permuted labels" in told
    assert describe_control("other") == "This checkpoint is a control (other), and no model."
    assert describe_control(None) == ""
