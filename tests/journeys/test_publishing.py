"""Pushed from here, pulled by a stranger: a fresh process with an empty cache gets the same weights and the same answers.

One fresh process an architecture: starting one takes longer than all that it does.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import meco_hub
from loopback_hub.server import READER, WRITER, LoopbackHub
from meco_hub.cli import main
from meco_hub.errors import ConfigurationError, PublishingError

PULL = """
import hashlib, json, sys
import meco_hub
from meco_hub import AutoModelForEmotionRecognition
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoProcessor, pipeline
import torch

repo, folder, kind = sys.argv[1:]
doors = {"face": [AutoProcessor, AutoImageProcessor], "signals": [AutoProcessor, AutoFeatureExtractor], "eye": [AutoProcessor]}

def digest(model):
    whole = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        whole.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return type(model).__name__, str(model.dtype), whole.hexdigest()

def look(source):
    head = AutoModelForEmotionRecognition.from_pretrained(source)
    processors = [door.from_pretrained(source) for door in doors[kind]]
    recognise = pipeline("emotion-recognition", model=source)
    from meco_hub.testing.subject import draw_recordings
    # a processor's own reader takes recordings of ours as well as files
    recordings = draw_recordings(kind, processors[0], 2, seed=1)
    options = {"faces": "cropped"} if kind == "face" else {}
    return {
        "base": digest(AutoModel.from_pretrained(source)),
        "head": digest(head),
        "pipeline": digest(recognise.model),
        "labels": head.config.id2label,
        "processors": [(type(one).__name__, one.to_json_string()) for one in processors],
        "answers": [recognise(one, **options) for one in recordings],
    }

print(json.dumps({"pulled": look(repo), "here": look(folder)}, default=str))
"""


def _stranger(
    hub: LoopbackHub, code: str, *arguments: str, home: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "",
        "OMP_NUM_THREADS": "1",
        **more,
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=500
    )


@pytest.fixture(scope="module")
def tiny_eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for eye clips, untrained, of a few thousand parameters."""
    import torch

    from meco_mcoenet.configuration_mcoenet import MCOENetConfig
    from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition
    from meco_mcoenet.processing_mcoenet import MCOENetProcessor

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"backbone_depths": [1, 1], "backbone_widths": [4, 8], "backbone_num_features": 20}
    more: dict[str, Any] = {"fusion_dim": 16, "router_hidden": 8, "focal_hidden": 6, "deep_layers": 2, "deep_mult": 2}
    config = MCOENetConfig(**sizes, **more, image_size=32)
    folder = tmp_path_factory.mktemp("checkpoints") / "eyes"
    MCOENetForEmotionRecognition(config).save_pretrained(folder)
    MCOENetProcessor.for_config(config).save_pretrained(folder)
    return folder


def _folder(request: pytest.FixtureRequest, name: str) -> Path:
    return meco_hub.checkpoint(name) if name.startswith("meco-") else request.getfixturevalue(name)


CASES = [("meco-expressnet-lfw5", "face"), ("meco-himoe-case", "signals"), ("tiny_eyes", "eye")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_is_pushed_is_what_is_pulled(
    hub: LoopbackHub, request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str
) -> None:
    folder = _folder(request, name)
    meco_hub.AutoModelForEmotionRecognition.from_pretrained(folder).push_to_hub("me/model")
    pushed = hub.repositories["me/model"]
    (newest, first) = pushed.history()
    assert (newest.title, first.title) == ("Upload model", "initial commit")
    assert newest.tree["model.safetensors"].lfs
    # records of unchanged weights come along
    assert {path.name for path in folder.iterdir()} <= set(newest.tree)
    assert "[More Information Needed]" not in newest.tree["README.md"].content.decode()

    done = _stranger(hub, PULL, "me/model", str(folder), kind, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wish to run" not in done.stdout, "it asked for trust, although the package is imported"
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["pulled"] == seen["here"]
    assert seen["pulled"]["answers"][0] != seen["pulled"]["answers"][1]
    assert (tmp_path / "home" / "hub" / "models--me--model").is_dir()


def _commits(hub: LoopbackHub, name: str = "me/model") -> list[str]:
    return [commit.title for commit in hub.repositories[name].history()]


def test_a_pipeline_pushes_the_same(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    from transformers import pipeline

    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    commit = model.push_to_hub("me/model", tags=["tried-out"])
    assert commit.oid == hub.repositories["me/model"].resolve("main")
    assert "tried-out" in hub.repositories["me/model"].tree("main")["README.md"].content.decode()
    pipeline("emotion-recognition", model=str(tiny_checkpoint)).push_to_hub("me/piped", commit_message="By a pipeline")
    assert _commits(hub, "me/piped") == ["By a pipeline", "initial commit"]
    ours, piped = (hub.repositories[name].tree("main") for name in ("me/model", "me/piped"))
    assert set(ours) == set(piped)
    assert {path for path in ours if ours[path] != piped[path]} == {"README.md"}  # which names the repository


def test_a_processor_alone_leaves_the_rest(hub: LoopbackHub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    model.push_to_hub("me/model")
    before = hub.repositories["me/model"].tree("main")
    processor = AutoImageProcessor.from_pretrained(tiny_checkpoint)
    processor.do_find_face = not processor.do_find_face
    processor.push_to_hub("me/model")
    after = hub.repositories["me/model"].tree("main")
    assert _commits(hub) == ["Upload processor", "Upload model", "initial commit"]
    assert set(before) == set(after)
    assert {path for path in before if before[path] != after[path]} == {"preprocessor_config.json"}


def test_a_model_without_a_processor_asks_for_one(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    from transformers import AutoImageProcessor

    loaded = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    made = type(loaded)(loaded.config)
    made.name_or_path = ""
    with pytest.raises(PublishingError, match=r"without its processor.*push_to_hub\(repo_id, processor=…\)"):
        made.push_to_hub("me/model")
    assert hub.requests == []
    made.push_to_hub("me/model", processor=AutoImageProcessor.from_pretrained(tiny_checkpoint))
    assert "preprocessor_config.json" in hub.repositories["me/model"].tree("main")


def test_the_report_of_other_weights_stays_at_home(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(meco_hub.checkpoint("meco-himoe-case"))
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.push_to_hub("me/model")
    assert "run.json" not in hub.repositories["me/model"].tree("main")
    assert "no longer those of" in caplog.text
    with pytest.raises(ConfigurationError, match="push_to_hub"):
        model.save_pretrained("unused", push_to_hub=True)


def test_large_weights_go_in_shards_and_old_ones_leave(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    model.push_to_hub("me/model")
    model.push_to_hub("me/model", max_shard_size="20KB")
    tree = hub.repositories["me/model"].tree("main")
    index = json.loads(tree["model.safetensors.index.json"].content)
    shards = set(index["weight_map"].values())
    assert len(shards) > 1
    assert shards == {
        path for path in tree if path.endswith(".safetensors")
    }  # model.safetensors would be loaded instead
    model.push_to_hub("me/model")
    assert {path for path in hub.repositories["me/model"].tree("main") if "safetensors" in path} == {
        "model.safetensors"
    }
    assert _commits(hub) == ["Upload model"] * 3 + ["initial commit"]


def test_branches_and_pull_requests(hub: LoopbackHub, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    repository = hub.make("me/model")
    model.push_to_hub("me/model", revision="tried")
    assert _commits(hub) == ["initial commit"]
    assert "model.safetensors" in repository.tree("tried")
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(PublishingError, match=r"403 .* with --create_pr the right to read is enough"):
        model.push_to_hub("me/model")
    commit = model.push_to_hub("me/model", create_pr=True)
    assert commit.pr_url == f"{hub.url}/me/model/discussions/1"
    assert _commits(hub) == ["initial commit"]
    assert "model.safetensors" in repository.tree("refs/pr/1")


def test_private_stays_private(hub: LoopbackHub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    model.push_to_hub("me/secret", private=True)
    assert hub.repositories["me/secret"].private
    hub.make("me/open")
    with pytest.raises(PublishingError, match=r"me/open is public already.*Nothing was sent"):
        model.push_to_hub("me/open", private=True)
    assert _commits(hub, "me/open") == ["initial commit"]


def test_without_a_token(hub: LoopbackHub, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PublishingError, match=r"answered 401 .* Log in with `hf auth login`"):
        meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint).push_to_hub("me/model")
    assert hub.repositories == {}


def test_a_server_whose_repositories_begin_empty(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    hub.begun = False
    model = meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    model.push_to_hub("me/model")
    assert _commits(hub) == ["Upload model"]
    commit = model.push_to_hub("me/model")
    assert _commits(hub) == ["Upload model"]
    assert commit.oid == hub.repositories["me/model"].resolve("main")


def test_the_command(
    hub: LoopbackHub, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "mine"))
    (folder / "notes.txt").write_text("to do")
    (folder / "step_10").mkdir()
    (folder / "step_10" / "optimizer.bin").write_bytes(b"\x80\x04.")
    assert main(["push", str(folder), "me/model", "--dry_run"]) == 0
    told = capsys.readouterr().out
    assert hub.requests == []
    assert [line.split()[-1] for line in told.splitlines() if "stays" in line] == ["notes.txt", "step_10/"]
    assert "Nothing was sent: this would go to me/model (main)." in told
    assert main(["push", str(folder), "me/model", "--message", "First try", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    tree = hub.repositories["me/model"].tree("main")
    assert said["files"] == {path: len(entry.content) for path, entry in tree.items() if path != ".gitattributes"}
    assert said["commit"] == hub.repositories["me/model"].resolve("main")
    assert _commits(hub) == ["First try", "initial commit"]
    assert main(["push", str(folder), "me/model"]) == 0
    assert "holds all of this already" in capsys.readouterr().out
    assert _commits(hub) == ["First try", "initial commit"]
    assert main(["push", str(folder), "model"]) == 1
    assert "expected owner/name. Nothing was sent." in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(path.name for path in tiny_checkpoint.iterdir()), "notes.txt", "step_10"]
    )


def test_nothing_of_the_token_is_pushed_or_kept(hub: LoopbackHub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    meco_hub.AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint).push_to_hub("me/model", token=WRITER)
    for commit in hub.repositories["me/model"].history():
        assert WRITER not in commit.title
        assert not [path for path, entry in commit.tree.items() if WRITER.encode() in entry.content]
