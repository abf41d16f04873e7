"""A training that is killed or told to stop, at whatever moment, ends as if nothing had happened once it is resumed.

What is compared: every file that the run ends with, byte by byte, but for the times in `run.json`. What is printed (`-s`): where
the kills fell.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from tqdm import tqdm

import tiny_networks
from meco_hub.training.checkpoints import list_checkpoints
from meco_hub.training.recipes import recipe_from_dict, write_recipe

TINY: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "labels": ["surprise", "neutral", "happiness"],
    "model": {
        **tiny_networks.FACE,
        "fe2_channels": [8, 16],
        "conv_dropout": 0.0,
        "fe1_head_dropout": 0.1,
        "backbone_dropout": 0.1,
        "fusion_dropout": 0.1,
        "router_aux_loss_coef": 0.01,
        "batch_norm_momentum": 0.2,
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all", "folds": [0, 1, 2]}, "validation": {"folds": [3]}},
    # everything that has a state of its own, or draws at random
    "augmentation": {"name": "face"},
    "mixup_alpha": 0.3,
    "class_balance": 0.5,
    "ema_decay": 0.9,
    "max_grad_norm": 1.0,
    "freeze_backbone_epochs": 1,
    "warmup_ratio": 0.1,
    "operating_point": {"rule": "max_mean"},
    "selection": "loss",
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 3,
}
FLAGS = {"checkpointing_steps": 2, "checkpoints_total_limit": 2}
SEED = 20260731
RUNS = 6
"""Killed at random moments, each one to three times."""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in ("seconds", "energy")}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def result(folder: Path) -> dict[str, Any]:
    """All that a run leaves, the states in its checkpoints aside: name → digest, or what it says."""
    left = {path.name: None if path.is_dir() else _digest(path) for path in folder.iterdir()}
    left["run.json"] = _without_times(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    if (folder / "best").is_dir():
        left["best"] = _digest(folder / "best" / "model.safetensors")
    return left


def _flags(**more: Any) -> dict[str, Any]:
    return FLAGS | more


@pytest.fixture(scope="module")
def whole(
    training_server: Any, look_alike: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """The run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    training_server.train(
        TINY, look_alike, folder, flags=_flags()
    )  # the first run of a server reads much from the disk
    told = training_server.train(TINY, look_alike, folder, flags=_flags(overwrite_output_dir=True))
    assert told["codes"] == [0], told["logs"]
    bests = [row["best"] for row in result(folder)["run.json"]["history"]]
    assert bests[0]
    assert any(bests[1:]), "the best weights must change on the way, or resuming them is not tried"
    return told, folder


def _complete(folder: Path) -> list[int]:
    """Steps at which the checkpoints in a folder were written."""
    return [json.loads((path / "checkpoint.json").read_text())["step"] for path in list_checkpoints(folder)]


def _resume(server: Any, data: Path, folder: Path, saved: int, **job: Any) -> dict[str, Any]:
    """Resume, and see that the run goes on from what was finished, not from before."""
    saved = max([saved, *_complete(folder)])
    told = server.train(TINY, data, folder, flags=_flags(resume_from_checkpoint="auto"), **job)
    if told["resumed"] is not None:
        assert told["resumed"] >= saved, "a finished checkpoint was lost"
    return told


def _kill_and_resume(
    server: Any, data: Path, folder: Path, moments: random.Random, seconds: float, ranks: int = 1
) -> list[str]:
    """Train, be killed at random moments one to three times, resume until done; gives what each kill hit."""
    hit, saved = [], 0
    for _ in range(moments.choice([1, 1, 2, 3])):
        kill = {"after": moments.uniform(0, seconds), "signal": signal.SIGKILL, "whom": "all"}
        if hit:
            told = _resume(server, data, folder, saved, kill=kill, ranks=ranks)
        else:
            told = server.train(TINY, data, folder, flags=_flags(), kill=kill, ranks=ranks)
        if told["codes"] == [0] * ranks:
            break
        # of two ranks one may be over while the other still does its last lines, and only that one is killed then
        assert set(told["codes"]) <= {0, -signal.SIGKILL}, told["logs"]
        hit.append(told["doing"])
        saved = max(saved, told["saved"])
    else:
        told = _resume(server, data, folder, saved, ranks=ranks)
    assert told["codes"] == [0] * ranks, told["logs"]
    if hit:
        return hit
    shutil.rmtree(folder)  # the machine has become faster, and the run was over before it could be killed
    return _kill_and_resume(server, data, folder, moments, seconds / 2, ranks)


def _report(name: str, hits: list[list[str]], began: float) -> None:
    flat = Counter(one for run in hits for one in run)
    listing = ", ".join(f"{count} in {what}" for what, count in flat.most_common())
    print(
        f"\n{name}: {len(hits)} runs, seed {SEED}, {flat.total()} kills ({listing}), {time.monotonic() - began:.0f} s"
    )


@pytest.mark.parametrize(
    ("ranks", "kills"),
    [
        (1, 4),
        pytest.param(1, None, marks=[pytest.mark.slow, pytest.mark.timeout(2400)], id="every change"),
        pytest.param(2, 12, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_killed_before_a_change_to_a_file(
    training_server: Any, look_alike: Path, tmp_path: Path, ranks: int, kills: int | None
) -> None:
    # short, because the slow variant is killed once at each place: three checkpoints, two of which are removed, and two bests
    recipe, flags = TINY | {"num_train_epochs": 2}, {"checkpointing_steps": 4, "checkpoints_total_limit": 1}
    began, hits = time.monotonic(), []
    told = training_server.train(recipe, look_alike, tmp_path / "whole", flags=flags, ranks=ranks)
    expected, changes = result(tmp_path / "whole"), told["changes"]
    places = [round(changes * (part + 0.5) / (kills or changes) + 0.5) for part in range(kills or changes)]
    for place in tqdm(places, desc="kill", disable=len(places) < 10):
        folder = tmp_path / str(place)
        told = training_server.train(recipe, look_alike, folder, flags=flags, die_at=place, ranks=ranks)
        assert told["codes"][0] == -signal.SIGKILL, (place, told["logs"])
        hits.append([told["doing"]])
        saved = max([told["saved"], *_complete(folder)])
        again = flags | {"resume_from_checkpoint": "auto"}
        told = training_server.train(recipe, look_alike, folder, flags=again, ranks=ranks)
        assert told["codes"] == [0] * ranks, told["logs"]
        assert told["resumed"] >= saved, f"killed at change {place}: a finished checkpoint was lost"
        assert result(folder) == expected, f"killed at change {place} in {hits[-1]}"
        shutil.rmtree(folder)
    _report(f"{ranks} process(es), killed before {len(places)} of {changes} changes to files", hits, began)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_killed_at_random_moments(
    training_server: Any, look_alike: Path, tmp_path: Path, whole: tuple[dict[str, Any], Path], ranks: int
) -> None:
    began, moments, hits = time.monotonic(), random.Random(SEED + ranks), []
    seconds, reference = whole[0]["seconds"], whole[1]
    if ranks > 1:
        reference = tmp_path / "reference"
        told = training_server.train(TINY, look_alike, reference, flags=_flags(), ranks=ranks)
        assert told["codes"] == [0] * ranks, told["logs"]
        seconds = told["seconds"]
    expected = result(reference)
    # every change to a file is struck above; these fall between, in steps and validations too
    for run in range(RUNS):
        folder = tmp_path / str(run)
        hits.append(_kill_and_resume(training_server, look_alike, folder, moments, seconds, ranks))
        assert result(folder) == expected, f"run {run}, killed in {hits[-1]}"
    _report(f"{ranks} process(es), killed at random moments", hits, began)


@pytest.mark.parametrize(
    ("number", "code", "during", "batches"),
    [(signal.SIGTERM, 143, "step", 1), (signal.SIGTERM, 143, "validation", 18), (signal.SIGINT, 130, "step", 12)],
)
def test_told_to_stop(
    training_server: Any,
    look_alike: Path,
    tmp_path: Path,
    whole: tuple[dict[str, Any], Path],
    number: int,
    code: int,
    during: str,
    batches: int,
) -> None:
    kill = {"signal": number, "whom": "all", "during": during, "batches": batches}
    told = training_server.train(TINY, look_alike, tmp_path, kill=kill)  # no checkpoints are asked for
    assert told["codes"] == [code], told["logs"]
    (saved,) = list_checkpoints(tmp_path)
    assert f"{signal.Signals(number).name} stopped the training after step" in told["logs"][0]
    assert "--resume_from_checkpoint auto" in told["logs"][0]
    again = training_server.train(TINY, look_alike, tmp_path, flags={"resume_from_checkpoint": "auto"})
    assert again["codes"] == [0]
    assert f"step_{again['resumed']}" == saved.name
    files = ("model.safetensors", "config.json", "run.json")
    mine, expected = result(tmp_path), result(whole[1])
    assert {name: mine[name] for name in files} == {name: expected[name] for name in files}


def test_a_whole_group_is_told_to_stop_loader_included(training_server: Any, look_alike: Path, tmp_path: Path) -> None:
    # torchrun and SLURM signal the group of a process: the workers of its loader too
    recipe = TINY | {"dataloader_num_workers": 1}
    kill = {"signal": signal.SIGTERM, "whom": "group", "during": "step"}
    told = training_server.train(recipe, look_alike, tmp_path, kill=kill)
    assert told["codes"] == [143], told["logs"]
    assert len(list_checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("whom", ["first", "all"])
def test_two_processes_stop_together_whoever_is_told(
    training_server: Any, look_alike: Path, tmp_path: Path, whom: str
) -> None:
    reference = training_server.train(TINY, look_alike, tmp_path / "reference", ranks=2)
    assert reference["codes"] == [0, 0], reference["logs"]
    kill = {"signal": signal.SIGTERM, "whom": whom, "during": "step"}
    told = training_server.train(TINY, look_alike, tmp_path / "cut", ranks=2, kill=kill)
    assert told["codes"] == [143, 143], told["logs"]
    (saved,) = list_checkpoints(tmp_path / "cut")
    refused = training_server.train(TINY, look_alike, tmp_path / "cut", flags={"resume_from_checkpoint": "auto"})
    assert refused["codes"] == [1]
    assert "was written by 2 process(es); this run has 1" in refused["logs"][0]
    again = training_server.train(TINY, look_alike, tmp_path / "cut", flags={"resume_from_checkpoint": "auto"}, ranks=2)
    assert again["codes"] == [0, 0], again["logs"]
    assert f"step_{again['resumed']}" == saved.name
    mine, expected = result(tmp_path / "cut"), result(tmp_path / "reference")
    assert mine["model.safetensors"] == expected["model.safetensors"]
    assert mine["run.json"] == expected["run.json"]


class Launch:
    """A training under the real torchrun, with two processes."""

    def __init__(self, recipe: Path, data: Path, folder: Path, *more: str) -> None:
        self.folder, self._log = folder, folder.with_suffix(f".{time.monotonic_ns()}.log")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [
            "-m",
            "meco_hub.train",
            "--recipe",
            str(recipe),
            "--data_dir",
            str(data),
            "--output_dir",
            str(folder),
        ]
        command += [part for key, value in FLAGS.items() for part in (f"--{key}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
        with self._log.open("w") as log:
            self.process = subprocess.Popen([*command, "--no_progress", *more], env=environment, stdout=log, stderr=log)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, what: str) -> None:
        """Until the log has it."""
        while what not in self.log():
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)

    def members(self) -> list[psutil.Process]:
        """torchrun and its workers; the launcher first."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def end(self) -> int:
        return self.process.wait(timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runs_under_torchrun_killed_at_random_moments(look_alike: Path, tmp_path: Path) -> None:
    began, moments = time.monotonic(), random.Random(SEED)
    recipe = tmp_path / "recipe.yaml"
    write_recipe(recipe_from_dict(TINY), recipe)
    reference = Launch(recipe, look_alike, tmp_path / "reference")
    reference.wait_until("corpora.tables")  # imports are over, training begins
    since = time.monotonic()
    assert reference.end() == 0, reference.log()
    seconds, expected, where = time.monotonic() - since, result(reference.folder), []
    for run in range(2):
        killed = Launch(recipe, look_alike, tmp_path / str(run))
        killed.wait_until("corpora.tables")
        time.sleep(moments.uniform(0, seconds))
        members = killed.members() if killed.process.poll() is None else []
        # the second loses one worker only, and torchrun has to notice
        for member in members[1:2] if run == 1 else members:
            member.kill()
        killed.end()
        complete = [path.name for path in list_checkpoints(killed.folder)]
        resumed = Launch(recipe, look_alike, killed.folder, "--resume_from_checkpoint", "auto")
        assert resumed.end() == 0, resumed.log()
        if complete:
            assert f"/{complete[-1]} at step" in resumed.log()
        assert result(killed.folder) == expected
        where.append(complete[-1] if complete else "before the first checkpoint")
    print(f"\ntorchrun, 2 processes: 2 runs, seed {SEED}, killed after {where}, {time.monotonic() - began:.0f} s")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_is_told_to_stop(look_alike: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    write_recipe(recipe_from_dict(TINY | {"num_train_epochs": 200}), recipe)
    told = Launch(recipe, look_alike, tmp_path / "run")
    told.wait_until("epoch 1 ")
    told.process.send_signal(signal.SIGTERM)
    assert told.end() != 0
    assert "SIGTERM stopped the training after step" in told.log()
    step = int(told.log().split("SIGTERM stopped the training after step ")[1].split()[0])
    assert list_checkpoints(told.folder)[-1].name == f"step_{step}"
