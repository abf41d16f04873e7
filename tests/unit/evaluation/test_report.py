"""What is written: strict JSON, readable, and rows that match."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from meco_hub.durable import write_json
from meco_hub.errors import InputError
from meco_hub.evaluation.intervals import class_intervals
from meco_hub.evaluation.metrics import compute_metrics, softmax
from meco_hub.evaluation.report import build_report, write_predictions, write_values
from meco_hub.evaluation.report_file import SCHEMA_VERSION, read_report
from meco_hub.evaluation.series import AlignedPredictions, TimeSeries, score_trials


def test_the_tables_name_the_class_that_the_figures_count(tmp_path: Path) -> None:
    # scores so near each other that their probabilities round to equals
    labels, logits, names = np.array([1]), np.array([[0.0, 1e-17]]), ["neutral", "anger"]
    assert softmax(logits).tolist() == [[0.5, 0.5]]
    assert compute_metrics(labels, logits, names).war == 1.0
    write_predictions(tmp_path, names, ["a"], labels, logits)
    assert next(csv.DictReader((tmp_path / "predictions.csv").open()))["prediction"] == "anger"
    assert parquet.read_table(tmp_path / "predictions.parquet")["prediction"].to_pylist() == ["anger"]


def test_report_holds_what_it_promises(tmp_path: Path) -> None:
    labels, names = np.array([0, 0, 1, 1]), ["neutral", "anger", "fear"]
    logits = np.eye(3)[[0, 1, 1, 1]] * 2.0
    report = build_report(
        metrics=compute_metrics(labels, logits, names),
        intervals=class_intervals(labels, logits.argmax(1), 3),
        names=names,
        checkpoint={"name": "some", "operating_point": None},
        data={"corpus": "image_folder"},
        seconds=1.23456,
    )
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
    assert read["metrics"]["balanced_accuracy"] == 0.75
    assert read["metrics"].keys() >= {"auroc", "brier", "mce", "top_2_accuracy", "cross_entropy"}
    assert sum(one["n"] for one in read["reliability"]["bins"]) == 4
    # nobody looked for a leak, nobody named a protocol: null, not "none found"
    assert read["data"] == {"protocol": None, "leak_check": None, "corpus": "image_folder"}
    assert (read["groups"], read["references"], read["conditions"]) == ({}, {}, [])
    assert read["calibration"] is read["routing"] is read["run"] is None
    assert read_report(tmp_path / "deep" / "report.json") == read


def test_json_is_strict_and_rows_stay_rows(tmp_path: Path) -> None:
    value = {"undefined": float("nan"), "rows": [[1, 2], [3, 4]], "text": ["a [b]", "c"], "number": np.float32(0.5)}
    write_json(value, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "[1, 2]" in text
    assert json.loads(text) == {"undefined": None, "rows": [[1, 2], [3, 4]], "text": ["a [b]", "c"], "number": 0.5}


def test_predictions_are_named(tmp_path: Path) -> None:
    logits = np.array([[2.0, 0], [1.0, 0]])
    write_predictions(tmp_path, ["neutral", "anger"], ["a.jpg", 'b",.jpg'], np.array([0, 1]), logits)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sample_id"] for row in rows] == ["a.jpg", 'b",.jpg']
    assert [(row["label"], row["prediction"]) for row in rows] == [("neutral", "neutral"), ("anger", "neutral")]
    assert abs(float(rows[0]["neutral"]) + float(rows[0]["anger"]) - 1) < 1e-5


def test_a_report_of_values(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    truth = generator.uniform(1, 9, size=(12, 2))
    names = ["valence", "arousal"]
    scores = score_trials(
        truth, [one[None] + 1 for one in truth], names, [f"p{index % 3}" for index in range(12)],
        references={"training mean": np.full((12, 2), 5.0)}, groups={"sex": ["m", "w"] * 6},
    )  # fmt: skip
    report = build_report(
        metrics=scores, intervals=scores.intervals,
        groups=scores.groups, references=scores.references, names=names, checkpoint={"name": "some"},
        data={"corpus": "deap", "protocol": {"name": "P0", "leaky": True, "why": "random windows"}}, seconds=1.0,
        calibration={"method": "affine"}, conditions=[{"condition": "missing", "level": 0.5, "metrics": {"rmse": 2.0}}],
        run={"recipe": "some"},
    )  # fmt: skip
    write_json(report, tmp_path / "report.json")
    read = read_report(tmp_path / "report.json")
    assert read["kind"] == "regression"
    assert read["targets"] == names
    assert read["metrics"]["rmse"] == pytest.approx(1.0)
    assert read["metrics"].keys() >= {"n", "rmse_valence", "mae", "pcc_arousal", "ccc"}
    assert "pooled over trials" in read["headline"]
    assert read["levels"]["trial"]["per_subject"]["units"] == 3
    assert read["references"]["training mean"]["ccc"] == 0.0
    assert read["groups"]["sex"]["values"]["m"]["n"] == 6
    assert read["confidence_intervals"]["units"] == 3
    assert read["data"]["protocol"]["leaky"] is True
    assert read["calibration"] == {"method": "affine"}
    assert "confusion_matrix" not in read


def test_reports_of_version_1_are_read_with_the_keys_of_today(tmp_path: Path) -> None:
    old = {
        "schema": "meco_hub/report",
        "schema_version": 1,
        "kind": "classification",
        "checkpoint": {"name": "old"},
        "data": {"corpus": "image_folder", "folds": [3]},
        "metrics": {"n": 4, "uar": 0.7, "macro_auroc": 0.9},
    }
    write_json(old, tmp_path / "old.json")
    read = read_report(tmp_path / "old.json")
    assert read["schema_version"] == 1
    assert (read["metrics"]["balanced_accuracy"], read["metrics"]["auroc"], read["metrics"]["brier"]) == (
        0.7,
        0.9,
        None,
    )
    assert read["data"] == {"protocol": None, "leak_check": None, "corpus": "image_folder", "folds": [3]}
    assert read["conditions"] == []
    assert read["calibration"] is None
    read["conditions"].append("something")
    assert read_report(tmp_path / "old.json")["conditions"] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "no report"),
        ('{"schema": "other"}', "no report"),
        (f'{{"schema": "meco_hub/report", "schema_version": {SCHEMA_VERSION + 1}}}', "Update"),
        ('{"schema": "meco_hub/report"}', "schema_version None"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_report(tmp_path / "report.json")


def test_values_are_written_with_their_times_or_windows(tmp_path: Path) -> None:
    truth, predictions = np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([[1.5, 2.5], [2.5, 3.5]])
    line = TimeSeries(np.array([10.0, 10.05]), truth, predictions)
    over_time = AlignedPredictions([line], np.full((1, 2), np.nan), [])
    write_values(tmp_path / "a.csv", ["v", "a"], ["s1"], over_time)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"sample_id": "s1", "time_s": "10", "v_true": "1", "v": "1.5", "a_true": "", "a": "2.5"}
    assert rows[1]["time_s"] == "10.05"
    windows = AlignedPredictions([], truth[:1], [predictions])
    write_values(tmp_path / "b.csv", ["v", "a"], ["s1"], windows)
    assert (tmp_path / "b.csv").read_text(encoding="utf-8").splitlines() == [
        "sample_id,window,v_true,v,a_true,a",
        "s1,0,1,1.5,,2.5",
        "s1,1,1,2.5,,3.5",
    ]
