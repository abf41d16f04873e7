"""The bundled checkpoints for faces: their size, their files, and the figures that are told of them; and what the one answers that
stands for faces when no model is named.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from transformers import pipeline

import meco_hub
from meco_hub import plugins
from meco_hub.cli import main
from meco_hub.publishing.card_notes import FILE as CARD_NOTES

NAMES = sorted(name for name in meco_hub.checkpoints() if name.startswith("meco-expressnet-"))
REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="module")
def recognise():
    return pipeline("emotion-recognition")


def test_it_is_one_of_them_that_answers_when_no_model_is_named(recognise) -> None:
    folder = plugins.default_checkpoint()
    assert folder is not None
    assert folder.name in NAMES
    assert recognise.model.name_or_path == str(folder)
    # what a user may ask of it without knowing which it is
    assert recognise(Image.new("RGB", (96, 96)), faces="cropped", abstain_below="risk 0.05", on_warning="ignore")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found_by_name_and_small_enough_for_git(name: str) -> None:
    folder = meco_hub.checkpoint(name)
    assert meco_hub.checkpoints()[name] == folder
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 20e6
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "recipe.yaml", "report.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not [path for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_it_tells_of_the_machine_it_was_made_on(name: str) -> None:
    for path in meco_hub.checkpoint(name).iterdir():
        if path.suffix in {".json", ".yaml", ".md"}:
            assert not re.search(r"(?<![\w.])/(?:tmp|work|home|root|opt)/", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", NAMES)
def test_labels_stand_in_the_order_of_the_recipe(name: str) -> None:
    folder = meco_hub.checkpoint(name)
    labels = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["labels"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert {"neutral", "happiness", "surprise", "sadness", "anger"} <= set(labels)
    assert config["id2label"] == {str(place): label for place, label in enumerate(labels)}


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
@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not beside the repository (../shared/data)")
@pytest.mark.parametrize("name", NAMES)
def test_evaluating_it_again_gives_the_report_that_comes_with_it(name: str, tmp_path: Path) -> None:
    """By the command that its card names, without what takes long and is about other pictures."""
    folder = meco_hub.checkpoint(name)
    command = yaml.safe_load((folder / CARD_NOTES).read_text(encoding="utf-8"))["evaluation"]["command"]
    words = shlex.split(command.replace("--conditions steadiness", ""))
    place, out = words.index("--data_dir") + 1, words.index("--output_dir") + 1
    (file,) = DATA.glob(f"*/{words[place]}")
    words[place], words[out] = str(file), str(tmp_path / "out")
    assert words[:3] == ["meco", "evaluate", name]
    assert main(words[1:]) == 0
    again = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert again["data"]["fingerprint"] == told["data"]["fingerprint"]
    assert again["checkpoint"]["weights_sha256"] == told["checkpoint"]["weights_sha256"]
    assert again["metrics"]["n"] == told["metrics"]["n"] > 2500
    # Another processor may round a borderline picture to the other side; more than that would be another model
    for figure in ("uar", "war", "macro_f1", "macro_auroc"):
        assert again["metrics"][figure] == pytest.approx(told["metrics"][figure], abs=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_readme_and_card_tell_the_figures_of_the_report(name: str) -> None:
    report = json.loads((meco_hub.checkpoint(name) / "report.json").read_text(encoding="utf-8"))
    intervals = report["confidence_intervals"]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
    card = (REPOSITORY / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    for figure, written in (("uar", "UAR"), ("war", "WAR"), ("macro_f1", "macro-F1")):
        low, high = intervals[figure]
        told = f"{report['metrics'][figure]:.3f} [{low:.3f}, {high:.3f}]"
        assert told in card
        assert f"{written} {told}" in row or (written == "macro-F1" and written not in row)
    names = report["confusion_matrix"]["labels"]
    for figure in ("recall", "precision"):
        assert f"| {figure} | " + " | ".join(f"{report['per_class'][n][figure]:.2f}" for n in names) + " |" in card
    assert str(report["checkpoint"]["operating_point"]["tau"]) in card
