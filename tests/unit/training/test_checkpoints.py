"""Checkpoints: whole or skipped, of this run or refused, and never lost by a kill between any two steps of writing one."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from meco_hub.errors import CheckpointError
from meco_hub.training import checkpoints
from meco_hub.training.checkpoints import (
    BEST,
    MANIFEST,
    Progress,
    RunIdentity,
    check_identity,
    check_samples,
    choose_checkpoint,
    find_checkpoint,
    list_checkpoints,
    recover_checkpoints,
    restore_best,
    save_checkpoint,
)

IDENTITY = RunIdentity({"model_type": "meco_x", "learning_rate": 0.1, "distillation": "None"}, 1, {"train": "a"})


class Killed(BaseException):
    """As good as SIGKILL: nothing catches it."""


class Run:
    """A run of one weight, whose every step can be saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accelerator = Accelerator(cpu=True)
        self.progress = Progress()
        self.weight = torch.nn.Linear(1, 1)
        self.weight, self.optimizer = self.accelerator.prepare(self.weight, torch.optim.SGD(self.weight.parameters()))
        self.accelerator.register_for_checkpointing(self.progress)

    def keep(self, text: str) -> None:
        """Keep "weights" as the best."""
        from meco_hub.durable import begin, swap_in

        (begin(self.folder / BEST) / "model.safetensors").write_text(text)
        swap_in(self.folder / BEST)
        self.progress.best_epoch = 1

    def save(self, step: int, total_limit: int | None = None, identity: RunIdentity = IDENTITY) -> Path:
        self.progress.step = step
        return save_checkpoint(
            self.accelerator,
            self.folder,
            f"step_{step}",
            progress=self.progress,
            identity=identity,
            total_limit=total_limit,
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def _step(folder: Path | None) -> int:
    assert folder is not None
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["step"]


def test_listed_as_they_were_written_whatever_their_names(run: Run, tmp_path: Path) -> None:
    for step in (2, 10, 4):  # after going back to step 2, another step 4 is newer than step 10
        run.save(step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_2", "step_10", "step_4"]
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "step_4"
    assert find_checkpoint(tmp_path, "step_10") == find_checkpoint(tmp_path, str(tmp_path / "step_10"))
    run.save(12, total_limit=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_4", "step_12"]


@pytest.mark.parametrize("harm", ["manifest", "torn manifest", "missing", "short"])
def test_half_a_checkpoint_is_skipped_and_said(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    whole, torn = run.save(2), run.save(4)
    if harm == "manifest":
        (torn / MANIFEST).unlink()
    elif harm == "torn manifest":
        text = (torn / MANIFEST).read_text()
        (torn / MANIFEST).write_text(text[: len(text) // 2])
    else:
        victim = torn / "model.safetensors"
        content = victim.read_bytes()
        victim.unlink()
        if harm == "short":
            victim.write_bytes(content[:-1])
    with caplog.at_level(logging.WARNING, logger=checkpoints.__name__):
        assert find_checkpoint(tmp_path, "auto") == whole
    assert "step_4 is no complete checkpoint" in caplog.text
    with pytest.raises(CheckpointError, match="step_4 is no complete checkpoint"):
        find_checkpoint(tmp_path, "step_4")


def test_what_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, "auto") is None
    assert choose_checkpoint(tmp_path, None, IDENTITY) is None
    run.save(2)
    with pytest.raises(CheckpointError, match="has: step_2"):
        find_checkpoint(tmp_path, "step_3")


def _crash_at(monkeypatch: pytest.MonkeyPatch, place: int | None) -> Callable[[], int]:
    """Let the `place`-th change to the file system not happen, nor anything after it; gives how many there were."""
    done = 0

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if place is not None and done >= place:
                raise Killed
            return original(*args, **kwargs)

        return guarded

    for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "link", "fsync"):
        monkeypatch.setattr(os, name, guard(getattr(os, name)))
    monkeypatch.setattr(Path, "write_text", guard(Path.write_text))
    return lambda: done


def _save_over_one(folder: Path) -> Run:
    """Two checkpoints, of which the next save replaces one and removes the other."""
    run = Run(folder)
    run.keep("first")
    run.save(2)
    run.save(4)
    run.keep("second")
    return run


def test_killed_between_any_two_changes_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        run = _save_over_one(tmp_path / "whole")
        count = _crash_at(patch, None)
        run.save(4, total_limit=1)
        changes = count()
    assert changes > 20
    lost = 0
    for place in range(1, changes + 1):
        folder = tmp_path / str(place)
        run = _save_over_one(folder)
        with monkeypatch.context() as patch:
            _crash_at(patch, place)
            with pytest.raises(Killed):
                run.save(4, total_limit=1)
        recover_checkpoints(folder)
        found = find_checkpoint(folder, "auto")
        assert _step(found) == 4, place  # the old one or the new one, but always step 4
        assert found is not None
        # and the best weights that it brings are those of its time
        best = (found / BEST / "model.safetensors").read_text()
        newer = json.loads((found / MANIFEST).read_text())["serial"] == 3
        assert best == ("second" if newer else "first"), place
        lost += not newer
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], place
        again = Run(folder)
        again.accelerator.load_state(str(found))
        assert again.progress.step == 4
    assert 0 < lost < changes


def test_killed_while_tidying_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a whole checkpoint that lacks only its name, one that stepped aside for it, and one half removed
    run = _save_over_one(tmp_path)
    run.save(6)
    (tmp_path / "step_4").rename(tmp_path / ".step_4.partial")
    (tmp_path / "step_6").rename(tmp_path / ".step_6.replaced")
    (tmp_path / "step_2").rename(tmp_path / ".step_2.removed")
    (tmp_path / ".step_8.partial").mkdir()
    (tmp_path / ".mine.partial").mkdir()  # nobody of ours wrote that
    place = 0
    while True:
        place += 1
        with monkeypatch.context() as patch:
            _crash_at(patch, place)
            try:
                recover_checkpoints(tmp_path)
            except Killed:
                continue
            break
    assert place > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.partial", "best", "step_4", "step_6"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_4", "step_6"]


def test_the_best_weights_go_back_with_the_run(run: Run, tmp_path: Path) -> None:
    early = run.save(1)
    run.keep("first")
    middle = run.save(2)
    run.keep("second")
    run.save(3)
    kept = tmp_path / BEST / "model.safetensors"
    assert kept.read_text() == "second"
    restore_best(middle, tmp_path)
    assert kept.read_text() == "first"
    restore_best(early, tmp_path)
    assert not (tmp_path / BEST).exists()
    assert (tmp_path / "step_3" / BEST / "model.safetensors").read_text() == "second"


def test_the_state_of_another_training_is_refused(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    saved = run.save(2)
    recipe = dict(IDENTITY.recipe)
    with pytest.raises(CheckpointError, match=r"model_type was meco_x, is meco_y.*recipe\.yaml"):
        check_identity(saved, RunIdentity(recipe | {"model_type": "meco_y"}, 1))
    with pytest.raises(CheckpointError, match=r"model\.depth was not set, is 3"):
        check_identity(saved, RunIdentity(recipe | {"model.depth": 3}, 1))
    taught = {key: value for key, value in recipe.items() if key != "distillation"} | {"distillation.weight": 1.0}
    with pytest.raises(CheckpointError, match="distillation"):
        check_identity(saved, RunIdentity(taught, 1))
    with pytest.raises(CheckpointError, match=r"written by 1 process\(es\); this run has 2"):
        check_identity(saved, RunIdentity(recipe, 2))
    with caplog.at_level(logging.WARNING, logger=checkpoints.__name__):
        check_identity(saved, RunIdentity(recipe, 1))
        check_samples(saved, IDENTITY)
        assert caplog.text == ""
        check_identity(saved, RunIdentity(recipe | {"learning_rate": 0.2}, 1))
        assert "changed: learning_rate" in caplog.text
        check_samples(saved, RunIdentity(recipe, 1, {"train": "b"}))
        assert "fingerprints differ" in caplog.text
