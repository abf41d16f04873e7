"""Without a network: a filled cache is enough, and where a file is missing the message says which, of which repository.

One fresh process goes through it all, since offline mode is decided when huggingface_hub is imported; another fills its cache.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback_hub.server import LoopbackHub
from meco_hub.publishing.hub import push_folder

FILL = """
from meco_hub.loading import load_model, load_processor
load_model("me/face"), load_processor("me/face")
"""

USE = """
import json, sys
from pathlib import Path
import meco_hub
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, pipeline
from meco_hub import AutoModelForEmotionRecognition
from meco_hub.cli import main
from meco_hub.loading import load_model, load_processor

picture, cache = sys.argv[1], Path(sys.argv[2])
recognise = lambda: pipeline("emotion-recognition", model="me/face")
doors = {
    "base": lambda: AutoModel.from_pretrained("me/face"),
    "head": lambda: AutoModelForEmotionRecognition.from_pretrained("me/face"),
    "model": lambda: load_model("me/face"),
    "processor": lambda: load_processor("me/face"),
    "pipeline": recognise,
}

def try_all():
    told = {}
    for name, open_door in doors.items():
        try:
            told[name] = type(open_door()).__name__
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told

seen = {"full": try_all(), "answer": recognise()(picture, faces="cropped")}
AutoProcessor.from_pretrained("me/face"), AutoImageProcessor.from_pretrained("me/face")
seen["exit code"] = main(["predict", picture, "--model", "me/face", "--faces", "cropped"])
for name in ("preprocessor_config.json", "model.safetensors", "config.json"):
    (found,) = cache.rglob(name)
    found.rename(cache / "aside")
    seen[name] = try_all()
    (cache / "aside").rename(found)
(found,) = cache.rglob("config.json")
found.unlink()
seen["exit code without"] = main(["predict", picture, "--model", "me/face"])
try:
    from meco_hub.publishing.hub import push_folder
    push_folder(sys.argv[3], "me/face")
except Exception as error:
    seen["push"] = f"{type(error).__name__}: {error}"
seen["dry"] = sorted(push_folder(sys.argv[3], "me/face", dry_run=True).files)
print(json.dumps(seen))
"""


def _python(code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "", "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_a_filled_cache_is_enough_and_a_gap_has_a_name(
    hub: LoopbackHub, tiny_checkpoint: Path, astronaut: Path, tmp_path: Path
) -> None:
    push_folder(tiny_checkpoint, "me/face")
    cache = tmp_path / "home"
    _python(FILL, HF_ENDPOINT=hub.url, HF_HOME=str(cache), HF_HUB_OFFLINE="0")
    hub.forget()
    places = (str(astronaut), str(cache), str(tiny_checkpoint))
    done = _python(USE, *places, HF_ENDPOINT=hub.url, HF_HOME=str(cache), HF_HUB_OFFLINE="1")
    assert hub.requests == []
    seen = json.loads(done.stdout.splitlines()[-1])

    names = ["ExpressNetMoEModel", "ExpressNetMoEForEmotionRecognition", "ExpressNetMoEForEmotionRecognition"]
    assert list(seen["full"].values()) == [*names, "ExpressNetMoEImageProcessor", "EmotionRecognitionPipeline"]
    assert seen["exit code"] == 0
    assert f"{seen['answer'][0]['label']} {seen['answer'][0]['score']:.3f}" in done.stdout

    def gap(name: str) -> str:
        return f"CheckpointError: {name} of me/face is not in the cache ({cache / 'hub'}), and HF_HUB_OFFLINE is set"

    without = seen["preprocessor_config.json"]
    for door in ("processor", "pipeline"):
        assert without[door].startswith(gap("preprocessor_config.json")), without[door]
        assert "`hf download me/face`, or unset HF_HUB_OFFLINE" in without[door].replace("(", "").replace(")", "")
    assert without["model"] == names[1]
    without = seen["model.safetensors"]
    for door in ("base", "head", "model", "pipeline"):
        assert without[door].startswith(gap("model.safetensors")), without[door]
    without = seen["config.json"]
    for door in ("model", "processor"):
        assert without[door].startswith(gap("config.json")), without[door]
    assert seen["exit code without"] == 1
    assert "meco: " + gap("config.json") in done.stderr
    assert seen["push"].startswith(
        "PublishingError: HF_HUB_OFFLINE is set, which forbids any request. Nothing was sent."
    )
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(seen["dry"])


def test_what_is_not_there_has_a_name_with_a_network_too(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopback_hub.faults import Fault
    from meco_hub.weight_files import explain_absence

    hub.make("me/face")
    options = {"cache_dir": str(tmp_path)}
    assert "me/face on http" in str(explain_absence("me/face", ["config.json"], **options))
    assert "holds no config.json" in str(explain_absence("me/face", ["config.json"], **options))
    assert explain_absence("me/face", [".gitattributes"], **options) is None
    assert "There is no me/other on http" in str(explain_absence("me/other", ["config.json"], **options))
    hub.faults = [Fault("cut", times=-1)]
    assert "cannot be asked for it" in str(explain_absence("me/face", ["config.json"], **options))
    assert explain_absence(str(tmp_path), ["config.json"]) is None
