"""`meco evaluate --conditions --routing --pictures`: entries, curves and tables of one report, and what is refused beforehand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from meco_hub import plugins
from meco_hub.answers import mirrored_too
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import ConfigurationError, DependencyError, InputError, UnknownNameError
from meco_hub.evaluation import pictures
from meco_hub.evaluation.degradation import degrade, relative_drop, summarise_families
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.image_conditions import image_conditions
from meco_hub.evaluation.predict import Predictions
from meco_hub.evaluation.report_file import read_report
from meco_hub.loading import load_model, load_processor
from tiny_networks import FACE

NAMES = ["surprise", "neutral", "anger", "happiness"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_image_folder(folder, seed=1, people=5, takes=1, folds=3, size=40)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    entry = plugins.architecture("meco_expressnet_moe")
    assert entry.image_processor is not None
    config = plugins.load_dotted(entry.config)(**FACE, id2label=dict(enumerate(NAMES)))
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    plugins.load_dotted(entry.head)(config).save_pretrained(folder)
    plugins.load_dotted(entry.image_processor)(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def evaluate(checkpoint: Path, corpus: Path, out: Path, **options: Any) -> dict[str, Any]:
    return evaluate_checkpoint(
        checkpoint, "image_folder", corpus, out, EvaluationSettings(progress=False, overwrite=True, **options)
    )


def test_conditions_routing_and_pictures_of_one_report(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    report = evaluate(
        checkpoint, corpus, out, conditions=("noise", "occlusion/eyes", "blur/6"), routing=True, pictures=True
    )
    assert read_report(out / "report.json") == json.loads((out / "report.json").read_text(encoding="utf-8"))

    entries = {entry["condition"]: entry for entry in report["conditions"]}
    assert len(entries) == len(report["conditions"]) == 11
    assert entries["noise/0"]["metrics"]["uar"] == report["metrics"]["uar"]
    assert entries["noise/0"]["relative_drop"] == 0
    assert all(entry["metrics"]["n"] == report["metrics"]["n"] for entry in entries.values())
    assert entries["noise/64"]["unit"] == "grey levels"
    # something came of it
    assert entries["noise/64"]["metrics"]["cross_entropy"] != report["metrics"]["cross_entropy"]
    curve = [entries[f"noise/{value}"]["metrics"]["uar"] for value in (0, 8, 16, 32, 64)]
    family = report["condition_families"]["noise"]
    assert family["area"] == pytest.approx(np.trapezoid(curve, [0, 8, 16, 32, 64]) / 64)
    assert family["worst"] == min(curve)
    assert family["points"] == 5
    assert set(report["condition_families"]) == {"noise", "occlusion/eyes", "blur"}

    routers = report["routing"]["routers"]
    assert [len(one["experts"]) for one in routers] == [len(one["mean_weight"]) for one in routers]
    assert len(routers) == 2
    for one in routers:
        assert sum(one["mean_weight"]) == pytest.approx(1)
        assert sum(one["top_1_share"]) == pytest.approx(1)
        assert sum(one["chosen_share"]) == pytest.approx(one["top_k"])
        assert 0 <= one["entropy"] <= 1
        assert one["dead"] == [
            name for name, share in zip(one["experts"], one["chosen_share"], strict=True) if not share
        ]
    tables = {(one["router"], one["by"]): one for one in report["routing"]["tables"]}
    assert set(tables) == {(f"router {index}", by) for index in (1, 2) for by in ("class", "condition")}
    by_class = tables["router 1", "class"]
    assert by_class["rows"] == NAMES
    anger = NAMES.index("anger")
    assert by_class["n"][anger] == 0
    assert np.isnan(by_class["shares"][anger]).all()
    filled = [(n, row) for n, row in zip(by_class["n"], by_class["shares"], strict=True) if n]
    mean = np.average([row for _, row in filled], axis=0, weights=[n for n, _ in filled])
    np.testing.assert_allclose(mean, routers[0]["mean_weight"], atol=1e-12)
    # what changes nothing is not run again, and stands as "clean"
    assert tables["router 2", "condition"]["rows"][0] == "clean"
    assert len(tables["router 2", "condition"]["rows"]) == 1 + 9

    drawn = {path.name for path in out.glob("*.png")}
    assert {"confusion.png", "reliability.png", "degradation_noise.png", "degradation_occlusion.png"} <= drawn
    assert {"routing_router_1_class.png", "routing_router_2_condition.png"} <= drawn

    table = parquet.read_table(out / "predictions.parquet").to_pylist()
    lines = (out / "predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row["sample_id"] for row in table] == [line.split(",")[0] for line in lines]
    assert [row["prediction"] for row in table] == [line.split(",")[2] for line in lines]
    assert all(row["prediction"] == max(NAMES, key=lambda name: row[f"score_{name}"]) for row in table)


def test_the_same_report_whatever_the_batch_and_the_threads(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"conditions": ("low_light/6",), "routing": True}
    one = evaluate(checkpoint, corpus, tmp_path / "a", batch_size=1, **options)
    other = evaluate(checkpoint, corpus, tmp_path / "b", batch_size=7, workers=3, **options)
    first, second = one["conditions"][0]["metrics"], other["conditions"][0]["metrics"]
    assert first["cross_entropy"] == pytest.approx(second["cross_entropy"], rel=1e-5)
    for a, b in zip(one["routing"]["tables"], other["routing"]["tables"], strict=True):
        assert a["rows"] == b["rows"]
        np.testing.assert_allclose(a["shares"], b["shares"], atol=1e-5)
    seeded = evaluate(checkpoint, corpus, tmp_path / "c", condition_seed=1, **options)
    assert seeded["conditions"][0]["metrics"]["cross_entropy"] != first["cross_entropy"]


def test_what_makes_no_sense_is_refused_before_anything_is_read(
    checkpoint: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_nothing(*arguments: Any, **options: Any) -> Predictions:
        raise AssertionError("rows were predicted before the settings were checked")

    monkeypatch.setattr("meco_hub.evaluation.evaluate.predict_rows", read_nothing)
    with pytest.raises(UnknownNameError, match="motion_blur"):
        evaluate(checkpoint, corpus, tmp_path, conditions=("motionblur",))
    with pytest.raises(ConfigurationError, match="signals"):
        evaluate(checkpoint, corpus, tmp_path, conditions=("blur", "jitter"))

    def missing() -> None:
        raise DependencyError("report")

    monkeypatch.setattr("meco_hub.evaluation.evaluate.require_matplotlib", missing)
    with pytest.raises(DependencyError):
        evaluate(checkpoint, corpus, tmp_path, pictures=True)
    monkeypatch.setattr("meco_hub.evaluation.degradation.accepted_inputs", lambda model: frozenset({"pixel_values"}))
    with pytest.raises(ConfigurationError, match="no routers"):
        evaluate(checkpoint, corpus, tmp_path, routing=True)
    assert pictures.require_matplotlib is not missing


def test_a_condition_without_an_answer_is_an_entry_and_not_the_end() -> None:
    conditions = [one for one in image_conditions().values() if one.family == "blur"]

    def answer(applied: Any) -> tuple[dict[str, Any], Predictions]:
        applied(Image.new("L", (32, 32)), "a")
        if applied.name == "blur/4":
            raise InputError("no answer without a sharp picture")
        unreadable = {"b": "bad"} if applied.name == "blur/2" else {}
        return {"n": 3, "uar": 0.25}, Predictions([], np.zeros(0, np.int64), [], unreadable)

    known = {"dataset": "d", "protocol": "", "seed": 0, "subjects": {}}
    clean = {"n": 4, "uar": 0.5}
    entries = degrade(conditions, answer, clean, "uar", known=known, progress=False)
    by_name = {entry["condition"]: entry for entry in entries}
    assert by_name["blur/4"]["metrics"] == {"n": 0, "uar": None}
    assert by_name["blur/4"]["relative_drop"] is None
    assert "sharp" in by_name["blur/4"]["unreadable"]["*"]
    assert by_name["blur/2"]["unreadable"] == {"b": "bad"}
    assert by_name["blur/1"]["relative_drop"] == 0.5
    assert summarise_families(entries, clean, "uar")["blur"]["area"] is None


def test_areas_over_realised_strengths_words_and_nothing_to_fall_from() -> None:
    entries = [
        {"family": "missing", "value": value, "realised": realised, "metrics": {"ccc": ccc}}
        for value, realised, ccc in ((0.0, 0.0, 0.8), (0.5, 0.4, 0.4), (0.8, 0.5, 0.2))
    ]
    found = summarise_families(entries, {"ccc": 0.8}, "ccc")["missing"]
    assert found["area"] == pytest.approx((0.4 * 0.6 + 0.1 * 0.3) / 0.5)
    assert found["worst_relative_drop"] == pytest.approx(0.75)
    words = [
        {"family": "present", "value": value, "metrics": {"ccc": ccc}} for value, ccc in (("a+b", 0.6), ("a", 0.2))
    ]
    assert summarise_families(words, {"ccc": 0.6}, "ccc")["present"]["area"] == pytest.approx(0.4)
    assert relative_drop(-0.1, -0.2) is None
    assert relative_drop(None, 0.5) is None


def test_steadiness_is_the_share_of_answers_that_stay(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    report = evaluate(checkpoint, corpus, tmp_path / "clean", conditions=("steadiness", "low_light/8"))
    entries = {entry["condition"]: entry for entry in report["conditions"]}
    assert len(entries) == len(report["conditions"])
    assert {"slight_noise", "slight_jpeg", "shift", "rotation", "mirror", "border", "brightness", "size", "blur"} <= {
        entry["family"] for entry in entries.values()
    }
    untouched = {name for name, entry in entries.items() if name.endswith("/0") and entry["family"] != "size"}
    assert all(entries[name]["same_label"] == 1 for name in untouched)
    assert all(0 <= entry["same_label"] <= 1 for entry in entries.values())
    # against answers made by hand: the pictures mirrored, read from disk
    mirrored = tmp_path / "mirrored"
    for file in (*corpus.rglob("*.jpg"), *corpus.rglob("*.csv")):
        target = mirrored / file.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".csv":
            target.write_bytes(file.read_bytes())
            continue
        with Image.open(file) as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target.with_suffix(".png"))
    for index in mirrored.rglob("*.csv"):
        index.write_text(index.read_text().replace(".jpg", ".png"))
    evaluate(checkpoint, mirrored, tmp_path / "other")
    first, second = (
        {row["sample_id"].rpartition(".")[0]: row["prediction"] for row in table.to_pylist()}
        for table in (parquet.read_table(tmp_path / out / "predictions.parquet") for out in ("clean", "other"))
    )
    assert first.keys() == second.keys()
    same = sum(first[name] == second[name] for name in first) / len(first)
    assert entries["mirror/1"]["same_label"] == pytest.approx(same)


def test_a_picture_and_its_mirror_image_are_answered_alike_when_both_are_looked_at(
    checkpoint: Path, corpus: Path, tmp_path: Path
) -> None:
    plain = evaluate(checkpoint, corpus, tmp_path / "plain", conditions=("mirror",))
    both = evaluate(checkpoint, corpus, tmp_path / "both", conditions=("mirror",), mirror=True)
    assert [entry["same_label"] for entry in both["conditions"]] == [1, 1]
    assert (plain["data"]["mirrored"], both["data"]["mirrored"]) == (False, True)
    assert both["conditions"][1]["metrics"]["cross_entropy"] == pytest.approx(
        both["metrics"]["cross_entropy"], abs=1e-6
    )
    # the mean over both, by hand
    model, processor = load_model(str(checkpoint)).eval(), load_processor(str(checkpoint))
    file = next(corpus.rglob("*.jpg"))
    with Image.open(file) as image:
        picture = image.convert("RGB")
    with torch.inference_mode():
        mean = sum(
            model(**processor([one], return_tensors="pt")).logits.softmax(-1) / 2
            for one in (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        )[0]
    rows = {row["sample_id"]: row for row in parquet.read_table(tmp_path / "both" / "predictions.parquet").to_pylist()}
    row = rows[file.relative_to(corpus).as_posix()]
    assert [row[f"score_{name}"] for name in NAMES] == pytest.approx(mean.tolist(), abs=1e-5)


def test_what_is_no_picture_has_no_mirror_image() -> None:
    with pytest.raises(ConfigurationError, match="answer for mirrored pictures too, and takes streams"):
        mirrored_too(torch.nn.Identity(), {"streams": torch.zeros(1, 3)}, torch.zeros(1, 2))
