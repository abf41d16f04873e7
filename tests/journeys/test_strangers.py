"""A pushed folder in the hands of people who did not import us: the stub loads it or says what to install; saved again, it works.

Each way of loading needs an interpreter of its own, and does all it has to do in one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import meco_hub
from meco_hub.publishing.hub import STUB, write_stub

_PROGRAM = """
import json, os, sys, contextlib
way, root = sys.argv[1:3]
if way == "missing":
    class Block:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.startswith("meco_") and not name.startswith("meco_stub"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Block)
if way == "imported":
    import meco_hub
import builtins, transformers
def ask(question=""):
    raise SystemExit("asked: " + question)
builtins.input = ask
options = {"trust_remote_code": True} if way in ("trusted", "missing") else {}
found = {}
for name, doors in json.loads(sys.argv[3]).items():
    for door in doors:
        try:
            place = os.path.join(root, name)
            if door == "pipeline":
                thing = transformers.pipeline("emotion-recognition", model=place)
            else:
                thing = getattr(transformers, door).from_pretrained(place, **options)
            again = os.path.join(root, "again", way, name, door)
            thing.save_pretrained(again)
            files = sorted(os.listdir(again))
            maps = [f for f in files if f.endswith(".json") and "auto_map" in json.load(open(os.path.join(again, f)))]
            found[name + "/" + door] = [type(thing).__name__, files, maps]
        except (Exception, SystemExit) as error:
            found[name + "/" + door] = [type(error).__name__, str(error)[:600], []]
json.dump(found, open(os.path.join(root, way + ".json"), "w"))
"""

DOORS = {
    "face": ["AutoConfig", "AutoImageProcessor", "AutoProcessor", "AutoModel", "AutoModelForImageClassification"],
    "eye": ["AutoConfig", "AutoProcessor", "AutoModel", "AutoModelForVideoClassification"],
    "signals": ["AutoConfig", "AutoFeatureExtractor", "AutoProcessor", "AutoModel"],
}
MODEL = ["config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def pushed(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind as a push would leave it on the Hub."""
    from meco_mcoenet.configuration_mcoenet import MCOENetConfig
    from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition
    from meco_mcoenet.processing_mcoenet import MCOENetProcessor

    root = tmp_path_factory.mktemp("pushed")
    shutil.copytree(tiny_checkpoint, root / "face")
    shutil.copytree(meco_hub.checkpoint("meco-himoe-case"), root / "signals")
    config = MCOENetConfig.small()
    MCOENetForEmotionRecognition(config).save_pretrained(root / "eye")
    MCOENetProcessor.for_config(config).save_pretrained(root / "eye")
    for kind in DOORS:
        assert STUB in write_stub(root / kind)
    return root


@pytest.fixture(scope="module")
def load(pushed: Path):
    """Load all of them in a fresh interpreter by one way; gives door → [class or error, files saved or message, auto_maps]."""

    def run(way: str) -> dict[str, Any]:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(pushed / f"hf-{way}"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, way, str(pushed), json.dumps(_doors(way))],
            capture_output=True, text=True, env=environment, cwd=pushed, stdin=subprocess.DEVNULL, timeout=550,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads((pushed / f"{way}.json").read_text(encoding="utf-8"))

    return run


def _doors(way: str) -> dict[str, list[str]]:
    """Every door by which a way is open; the task of our pipeline is known only to those who imported us."""
    return {name: [*doors, "pipeline"] if way == "imported" else doors for name, doors in DOORS.items()}


def _expected(door: str, name: str) -> list[str]:
    if door == "pipeline":
        return sorted([*MODEL, *_expected("AutoProcessor", name)])
    if door.startswith("AutoModel"):
        return MODEL
    if door == "AutoConfig":
        return ["config.json"]
    return ["processor_config.json"] if name == "eye" else ["preprocessor_config.json"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["trusted", "imported"])
def test_every_door_opens_and_what_is_saved_again_is_whole(load, way: str) -> None:
    found = load(way)
    for name, doors in _doors(way).items():
        for door in doors:
            cls, files, maps = found[f"{name}/{door}"]
            assert files == _expected(door, name), (name, door, cls, files)
            assert maps == [], (name, door)


@pytest.mark.slow
def test_without_the_packages_it_is_said_which_to_install(load) -> None:
    for door, (error, message, _) in load("missing").items():
        if door == "signals/AutoFeatureExtractor":  # it has no entry of its own; AutoProcessor gives it
            continue
        assert error == "ImportError", (door, error, message)
        assert "pip install meco-hub meco-" in message, (door, message)


@pytest.mark.slow
def test_without_our_import_and_without_trust_transformers_asks(load) -> None:
    found = load("plain")
    assert found["face/AutoModel"][0] == "SystemExit"
    assert "asked:" in found["face/AutoModel"][1]


def test_the_stub_is_thin(pushed: Path) -> None:
    for kind in DOORS:
        stub = (pushed / kind / STUB).read_text(encoding="utf-8")
        assert len(stub.splitlines()) < 20
        assert "class " not in stub.replace("classes", "")
        compile(stub, STUB, "exec")


def test_a_folder_of_nobody_gets_no_stub(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert write_stub(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("kind", DOORS)
def test_a_saved_pipeline_loads_again(pushed: Path, kind: str, tmp_path: Path) -> None:
    from transformers import pipeline

    first = pipeline("emotion-recognition", model=str(pushed / kind))
    first.save_pretrained(tmp_path / "again")
    again = pipeline("emotion-recognition", model=str(tmp_path / "again"))
    files = {path.name for path in (tmp_path / "again").iterdir()}
    assert files == {*MODEL, "processor_config.json" if kind == "eye" else "preprocessor_config.json"}
    assert again._processor.to_dict() == first._processor.to_dict()
    ours, theirs = first.model.state_dict(), again.model.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours)
