"""`--push_to_hub` of a training: decided before it begins, and no harm to it when the push fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meco_hub.errors import ConfigurationError, PublishingError
from meco_hub.train import main
from meco_hub.training.arguments import parse_arguments

FLAGS = [
    "--model_type",
    "meco_expressnet_moe",
    "--dataset",
    "image_folder",
    "--data_dir",
    "data",
    "--output_dir",
    "out",
]
FLAGS += ["--set", "data.validation={split: test}"]


def test_the_flags() -> None:
    _, options = parse_arguments(FLAGS)
    assert (options.push_to, options.push_privately) == (None, False)
    _, options = parse_arguments([*FLAGS, "--push_to_hub", "--hub_model_id", "me/x", "--hub_private_repo"])
    assert (options.push_to, options.push_privately) == ("me/x", True)


@pytest.mark.parametrize("alone", [["--push_to_hub"], ["--hub_model_id", "me/x"]])
def test_one_without_the_other(alone: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="--push_to_hub and --hub_model_id go together"):
        parse_arguments([*FLAGS, *alone])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """A training that takes no time, and a push that does what it is told to; gives what was asked of both."""
    from meco_hub.publishing import hub
    from meco_hub.training import loop

    asked: list[Any] = []
    record = {"validation": {"uar": 0.5}, "selection": {"best_epoch": 1}, "epochs": 1, "seconds": 1.0}

    def prepare(outcome: Any) -> list[Any]:
        def push(folder: Path, repo_id: str, **options: Any) -> Any:
            asked.append((folder, repo_id, options))
            if isinstance(outcome, Exception):
                raise outcome
            return hub.Push(repo_id, "main", {})

        monkeypatch.setattr(hub, "push_folder", push)
        monkeypatch.setattr(loop, "train", lambda *_: asked.append("trained") or record)
        return asked

    return prepare


HUB = ["--push_to_hub", "--hub_model_id", "me/x"]


def test_after_the_training_it_is_pushed(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "a word that is long enough")
    asked = run(None)
    assert main([*FLAGS, *HUB]) == 0
    assert asked == ["trained", (Path("out"), "me/x", {"private": None})]
    assert "Pushed to me/x" in capsys.readouterr().out
    asked = run(PublishingError("The Hub said no."))
    assert main([*FLAGS, *HUB]) == 1
    assert "the training is complete; push it later: meco push out me/x" in capsys.readouterr().err


def test_what_could_not_be_pushed_is_not_trained(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = run(None)
    assert main([*FLAGS, *HUB]) == 1
    assert asked == []
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
