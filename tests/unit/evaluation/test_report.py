"""What is written: strict JSON, readable, and rows that match."""

import csv
import json
from pathlib import Path

import numpy as np

from meco_hub.evaluation.bootstrap import bootstrap
from meco_hub.evaluation.metrics import figures
from meco_hub.evaluation.report import SCHEMA_VERSION, Report, write_json, write_predictions


def test_report_holds_what_it_promises(tmp_path: Path) -> None:
    labels, names = np.array([0, 0, 1, 1]), ["neutral", "anger", "fear"]
    logits = np.eye(3)[[0, 1, 1, 1]] * 2.0
    report = Report(
        figures=figures(labels, logits, names),
        intervals=bootstrap(labels, logits.argmax(1), 3, resamples=20),
        names=names,
        checkpoint={"name": "some", "operating_point": None},
        data={"corpus": "image_folder"},
        seconds=1.23456,
    ).to_dict()
    write_json(report, tmp_path / "deep" / "report.json")
    read = json.loads((tmp_path / "deep" / "report.json").read_text(encoding="utf-8"))
    assert (read["schema"], read["schema_version"], read["kind"]) == (
        "meco_hub/report",
        SCHEMA_VERSION,
        "classification",
    )
    assert read["metrics"]["uar"] == 0.75
    assert read["metrics"]["war"] == 0.75
    assert read["metrics"]["n"] == 4
    assert read["per_class"]["neutral"] == {"recall": 0.5, "precision": 1.0, "f1": 2 / 3, "support": 2}
    assert read["confusion_matrix"]["counts"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert read["confusion_matrix"]["labels"] == names
    low, high = read["confidence_intervals"]["uar"]
    assert 0 <= low <= high <= 1
    assert {"meco_hub", "torch", "transformers"} <= read["versions"].keys()


def test_json_is_strict_and_rows_stay_rows(tmp_path: Path) -> None:
    value = {"undefined": float("nan"), "rows": [[1, 2], [3, 4]], "text": ["a [b]", "c"], "number": np.float32(0.5)}
    write_json(value, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "[1, 2]" in text
    assert json.loads(text) == {"undefined": None, "rows": [[1, 2], [3, 4]], "text": ["a [b]", "c"], "number": 0.5}


def test_predictions_are_named(tmp_path: Path) -> None:
    write_predictions(
        tmp_path / "p.csv", ["neutral", "anger"], ["a.jpg", 'b",.jpg'], np.array([0, 1]), np.array([[2.0, 0], [1.0, 0]])
    )
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sample_id"] for row in rows] == ["a.jpg", 'b",.jpg']
    assert [(row["label"], row["prediction"]) for row in rows] == [("neutral", "neutral"), ("anger", "neutral")]
    assert abs(float(rows[0]["neutral"]) + float(rows[0]["anger"]) - 1) < 1e-5
