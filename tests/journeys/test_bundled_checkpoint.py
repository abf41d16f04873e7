"""The checkpoint that answers when no model is named: its size, its files, its answers, and the figures that are told of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import pipeline

import meco_hub
from meco_hub.cli import main

NAME = "meco-expressnet-lfw5"
REPOSITORY = Path(__file__).parents[2]
FACES = REPOSITORY.parent / "shared" / "data" / "faces" / "lfw_expressions.zip"


@pytest.fixture(scope="module")
def recognise():
    return pipeline("emotion-recognition")


def test_it_is_found_by_name_and_small_enough_for_git() -> None:
    folder = meco_hub.checkpoint(NAME)
    assert meco_hub.checkpoints()[NAME] == folder
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 20e6
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "recipe.yaml", "report.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not [path for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def test_nothing_in_it_tells_of_the_machine_it_was_made_on() -> None:
    for path in meco_hub.checkpoint(NAME).iterdir():
        if path.suffix in {".json", ".yaml", ".md"}:
            assert not re.search(r"(?<![\w.])/(?:tmp|work|home|root|opt)/", path.read_text(encoding="utf-8")), path


def test_labels_stand_in_the_order_of_the_recipe() -> None:
    config = json.loads((meco_hub.checkpoint(NAME) / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {
        "0": "neutral", "1": "happiness", "2": "surprise", "3": "sadness", "4": "anger"
    }  # fmt: skip


@pytest.mark.parametrize(("portrait", "expected"), [("astronaut", "happiness"), ("hopper", "neutral")])
def test_it_answers_for_the_portraits(recognise, request: pytest.FixtureRequest, portrait: str, expected: str) -> None:
    answer = recognise(str(request.getfixturevalue(portrait)), faces="largest")
    assert answer[0]["label"] == expected
    assert answer[0]["score"] > 0.5


def test_it_answers_alike_for_colour_and_grey(recognise, astronaut: Path) -> None:
    # it was trained on grey faces, so its processor takes the colour away before the network could be confused by it
    face = Image.open(astronaut).convert("RGB").crop((170, 60, 280, 170))
    assert recognise(face, faces="cropped") == recognise(face.convert("L"), faces="cropped")


@pytest.mark.slow
def test_the_demo_answers_and_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "portraits.py"), "--output_dir", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert re.search(r"astronaut\.png: happiness", done.stdout)
    assert re.search(r"grace_hopper\.jpg: neutral", done.stdout)
    assert "not felt emotions" in done.stderr
    for name in ("astronaut.png", "grace_hopper.png"):
        assert Image.open(tmp_path / name).mode == "RGB"


@pytest.mark.slow
@pytest.mark.skipif(not FACES.is_file(), reason="the faces are not beside the repository (../shared/data/faces)")
def test_evaluating_it_again_gives_the_report_that_comes_with_it(tmp_path: Path) -> None:
    arguments = ["--dataset", "image_folder", "--data_dir", str(FACES), "--folds", "3", "--output_dir", str(tmp_path)]
    assert main(["evaluate", NAME, *arguments]) == 0
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    told = json.loads((meco_hub.checkpoint(NAME) / "report.json").read_text(encoding="utf-8"))
    assert again["data"]["fingerprint"] == told["data"]["fingerprint"]
    assert again["checkpoint"]["weights_sha256"] == told["checkpoint"]["weights_sha256"]
    assert again["metrics"]["n"] == told["metrics"]["n"] == 2545
    # Another processor may round a borderline picture to the other side; more than that would be another model
    for name in ("uar", "war", "macro_f1", "macro_auroc"):
        assert again["metrics"][name] == pytest.approx(told["metrics"][name], abs=5e-3)


def test_readme_and_card_tell_the_figures_of_the_report() -> None:
    report = json.loads((meco_hub.checkpoint(NAME) / "report.json").read_text(encoding="utf-8"))
    intervals = report["confidence_intervals"]
    told = [
        f"{report['metrics'][name]:.3f} [{intervals[name][0]:.3f}, {intervals[name][1]:.3f}]"
        for name in ("uar", "war", "macro_f1")
    ]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith(f"| `{NAME}`"))
    card = (REPOSITORY / "model_cards" / f"{NAME}.md").read_text(encoding="utf-8")
    for figure in told:
        assert figure in row
        assert figure in card
    names = report["confusion_matrix"]["labels"]
    for figure in ("recall", "precision"):
        assert f"| {figure} | " + " | ".join(f"{report['per_class'][n][figure]:.2f}" for n in names) + " |" in card
    assert str(report["checkpoint"]["operating_point"]["tau"]) in card
