"""Trackers: what is asked for is there before training begins, and is told the figures."""

from pathlib import Path
from typing import Any

import pytest

from meco_hub.errors import DependencyError, UnknownNameError
from meco_hub.training import engine as trackers
from meco_hub.training.engine import check_trackers


def test_a_tracker_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard"])
    check_trackers(["tensorboard", "all"])
    with pytest.raises(DependencyError, match=r"wandb is not installed; here: tensorboard\. Run: pip install wandb"):
        check_trackers(["tensorboard", "wandb"])
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    with pytest.raises(DependencyError, match="none is installed"):
        check_trackers(["all"])


def test_it_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_hub.training.arguments import RunOptions
    from meco_hub.training.loop import train
    from meco_hub.training.recipes import DataRecipe, Recipe, ValidationRecipe

    recipe = Recipe("meco_none", data=DataRecipe(validation=ValidationRecipe(folds=[0])))
    with pytest.raises(UnknownNameError, match="tracker"):
        train(recipe, RunOptions(tmp_path, tmp_path / "out", report_to=("nothing",)))
    assert not (tmp_path / "out").exists()


def test_tensorboard_gets_the_figures_of_every_epoch(tmp_path: Path, tiny_recipe: Any, tiny_faces: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from meco_hub.training.arguments import RunOptions
    from meco_hub.training.loop import train

    record = train(tiny_recipe(), RunOptions(tiny_faces, tmp_path, report_to=("tensorboard",), progress=False))
    assert record is not None
    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*") if path.parent.name == "meco_hub"}
    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("train_loss", "validation_loss", "uar", "learning_rate"):
        told = [(one.step, one.value) for one in events.Scalars(name)]
        assert told == [(row["step"], pytest.approx(row[name])) for row in record["history"]]
