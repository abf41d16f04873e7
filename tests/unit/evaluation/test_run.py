"""`meco evaluate` from end to end on a look-alike: labels by name, bad pictures, splits and folds."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig

import meco_hub
from meco_hub import plugins
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import CheckpointError, ConfigurationError, CorpusError, InputError, UnknownNameError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from tiny_networks import FACE

MODEL = "meco_expressnet_moe"
NAMES = ["surprise", "neutral", "anger", "happiness"]  # neither the corpus's order nor all of its classes


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    write_image_folder(folder, seed=1, people=6, takes=2, folds=3, size=40)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    entry = plugins.architecture(MODEL)
    assert entry.image_processor is not None
    config = plugins.load_dotted(entry.config)(**FACE, id2label=dict(enumerate(NAMES)))
    model = plugins.load_dotted(entry.head)(config)
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    plugins.load_dotted(entry.image_processor)(size={"height": 32, "width": 32}).save_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).id2label == dict(enumerate(NAMES))
    return folder


def evaluate(checkpoint: Path, corpus: Path, out: Path, **options: Any) -> dict[str, Any]:
    return evaluate_checkpoint(
        checkpoint, "image_folder", corpus, out, EvaluationSettings(progress=False, overwrite=True, **options)
    )


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_report_and_predictions_agree(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = evaluate(checkpoint, corpus, out, batch_size=5)
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == report
    rows = rows_of(out)
    assert report["metrics"]["n"] == len(rows) == 36
    # the label of every row is the one its folder says, although the checkpoint numbers classes otherwise
    assert all(row["label"] == row["sample_id"].split("/")[0] for row in rows)
    assert all(max(NAMES, key=lambda name: float(row[name])) == row["prediction"] for row in rows)
    hits = [row["label"] == row["prediction"] for row in rows]
    assert report["metrics"]["war"] == pytest.approx(np.mean(hits))
    recalls = [np.mean([hit for row, hit in zip(rows, hits, strict=True) if row["label"] == name])
               for name in ("neutral", "happiness", "surprise")]  # fmt: skip
    assert report["metrics"]["uar"] == pytest.approx(np.mean(recalls))
    assert report["confusion_matrix"]["labels"] == NAMES
    assert report["confidence_intervals"]["unit"] == "identity"
    assert report["confidence_intervals"]["units"] == 6
    assert report["data"]["identities"] == 6
    assert report["checkpoint"]["name"] == "checkpoint"
    assert len(report["checkpoint"]["weights_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(report)


def test_warnings_are_those_that_the_pipeline_gives(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="the face finder needs the extra 'faces'")
    for place, file in enumerate(sorted(file for file in corpus.rglob("*") if file.suffix in (".png", ".jpg"))[::5]):
        Image.new("L", (40, 40), 20 + place).save(file)  # nobody is in these
    known = evaluate(checkpoint, corpus, tmp_path / "out", batch_size=5, workers=2)["selective"]["with_warnings"]
    rows = rows_of(tmp_path / "out")
    answers = meco_hub.recogniser(checkpoint)([corpus / row["sample_id"] for row in rows], top_k=1, on_warning="ignore")
    codes = [[one["code"] for one in answer[0]["warnings"]] for answer in answers]
    assert known["codes"] == dict(Counter(code for found in codes for code in found))
    wrong = [row["label"] != row["prediction"] for row, found in zip(rows, codes, strict=True) if found]
    assert known["warned"] == len(wrong) > 0
    assert known["warned_risk"] == pytest.approx(np.mean(wrong))


def test_answers_do_not_depend_on_the_batch(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    evaluate(checkpoint, corpus, tmp_path / "a", batch_size=1)
    evaluate(checkpoint, corpus, tmp_path / "b", batch_size=64)
    for first, second in zip(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"), strict=True):
        assert first["sample_id"] == second["sample_id"]
        assert all(abs(float(first[name]) - float(second[name])) < 2e-5 for name in NAMES)


def test_folds_and_splits_choose(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    report = evaluate(checkpoint, corpus, tmp_path / "out", folds=[0, 2], split="all")
    assert report["metrics"]["n"] == 24
    assert report["data"]["folds"] == [0, 2]
    with pytest.raises(ConfigurationError):
        evaluate(checkpoint, corpus, tmp_path / "out", folds=[7])
    with pytest.raises(UnknownNameError, match="all"):
        evaluate(checkpoint, corpus, tmp_path / "out", split="al")


def test_bad_pictures_are_reported_and_left_out(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    victims = sorted((corpus / "neutral").glob("*.jpg"))[:2]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:200])
    report = evaluate(checkpoint, corpus, tmp_path / "out", batch_size=4)
    assert report["metrics"]["n"] == 34
    assert report["data"]["samples"] == 36
    assert set(report["data"]["unreadable"]) == {f"neutral/{victim.name}" for victim in victims}
    assert victims[0].name in report["data"]["unreadable"][f"neutral/{victims[0].name}"]
    for row in rows_of(tmp_path / "out"):
        assert row["label"] == row["sample_id"].split("/")[0]  # nothing slid against its label


def test_nothing_readable_is_an_error(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    for picture in corpus.rglob("*.jpg"):
        picture.write_bytes(b"not a picture")
    with pytest.raises(InputError, match="None of 36"):
        evaluate(checkpoint, corpus, tmp_path / "out")


def test_classes_the_checkpoint_lacks(checkpoint: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "other"
    write_image_folder(corpus, seed=1, labels=("neutral", "fear"), people=4, takes=1, size=40)
    with pytest.raises(CorpusError, match=r"fear \(4 samples\)"):
        evaluate(checkpoint, corpus, tmp_path / "out")
    report = evaluate(checkpoint, corpus, tmp_path / "out", exclude_unknown_labels=True)
    assert report["data"]["excluded_labels"] == {"fear": 4}
    assert report["metrics"]["n"] == 4


def test_incomplete_checkpoints_are_refused(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    (checkpoint / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        evaluate(checkpoint, corpus, tmp_path / "out")
    with pytest.raises(UnknownNameError, match="nosuch"):
        evaluate(Path("nosuch"), corpus, tmp_path / "out")


def test_unknown_corpus_offers_the_nearest(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="image_folder"):
        evaluate_checkpoint(checkpoint, "image_foldr", corpus, tmp_path / "out")


def test_runs_that_would_all_be_the_same_are_refused_before_anything_is_computed(
    checkpoint: Path, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no clip_sampling, so every run would be the same"):
        evaluate(checkpoint, corpus, tmp_path / "out", runs=3)
    assert not (tmp_path / "out").exists()


def test_runs_that_lie_elsewhere_are_not_replaced(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "run_07.json").write_text("of somebody")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs").symlink_to(others)
    with pytest.raises(ConfigurationError, match="runs is a link"):
        evaluate(checkpoint, corpus, tmp_path / "out")
    assert (others / "run_07.json").read_text() == "of somebody"
