"""The bundled checkpoint: it answers drawn eyes of persons that no training has seen, and says that it is synthetic."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

import meco_hub
from meco_hub import plugins
from meco_hub.corpora.synthetic.eyes import EXPRESSIONS, draw_sequence
from meco_hub.errors import RecordingError
from meco_hub.training.recipes import load_recipe, recipe_to_dict

NAME = "meco-mcoenet-synthetic-see"


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(meco_hub.checkpoint(NAME))


@pytest.fixture(scope="module")
def recognise() -> Any:
    return pipeline("emotion-recognition", model=str(meco_hub.checkpoint(NAME)))


def source(expression: str, raw: bool = False, **options: Any) -> dict[str, Any]:
    """An eye of a person that is in no corpus: seed 1, where the checkpoint's data have seed 0."""
    drawn = draw_sequence(expression, person="stranger", seed=1, size=64, frames=40, **options)
    events: Any = drawn.event_pictures
    if raw:
        events = {"x": drawn.x, "y": drawn.y, "t": drawn.t, "p": drawn.p}
    return {"frames": drawn.frames, "events": events, "frame_times": drawn.frame_times}


def test_it_is_small_and_says_synthetic_wherever_its_name_is_not_enough(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    assert json.loads((folder / "config.json").read_text())["training_data"] == "synthetic"
    assert plugins.default_checkpoint("eye") == folder
    assert plugins.default_checkpoint("face") != folder
    recipe = load_recipe("meco_mcoenet/see_synthetic")
    assert recipe_to_dict(load_recipe(str(folder / "recipe.yaml"))) == recipe_to_dict(recipe)
    run = json.loads((folder / "run.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    assert run["data"]["leak_check"]["clean"]
    assert report["data"]["seen"] == {"people": 13, "trained_on": 0, "selected_by": 0}
    assert report["runs"]["count"] == 20
    for light in report["groups"]["lighting"]["values"].values():
        assert light["uar"] > 3 / 7  # three times chance


def test_it_answers_a_stranger_and_every_answer_says_synthetic(recognise: Any) -> None:
    answers = recognise([source(expression, take=take) for take in range(3) for expression in EXPRESSIONS])
    right = [answer[0]["label"] == one for answer, one in zip(answers, 3 * EXPRESSIONS, strict=True)]
    assert sum(right) >= 9  # of 21; chance is 3
    assert {entry["training_data"] for answer in answers for entry in answer} == {"synthetic"}


def test_single_events_give_the_answer_of_event_pictures(recognise: Any) -> None:
    one, other = recognise([source("surprise"), source("surprise", raw=True)])
    assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
    for mine, its in zip(one, other, strict=True):
        assert mine["score"] == pytest.approx(its["score"], abs=1e-5)
    assert other[0]["streams"]["used"]["events"] == "single events of 33000 µs each"


@pytest.mark.parametrize(
    ("gone", "said"), [("frames", "has events without frames"), ("events", "has frames without events")]
)
def test_one_stream_alone_is_refused(recognise: Any, gone: str, said: str) -> None:
    clip = {key: value for key, value in source("fear").items() if key != gone}
    with pytest.raises(RecordingError, match=said):
        recognise(clip)
