"""Checkpoints of a run in progress: Accelerate's `save_state`, complete or absent.

A folder `step_N` or `epoch_N` holds Accelerate's state, the weights that were the best until then (`best/`), and, written last,
`checkpoint.json`: which run it belongs to, where the run stood, and the sizes of all other files. It is written beside its place
and moved there when it is whole and on the disk. Because it brings its own best weights, a resumed run never compares with, or
keeps, weights that it has not reached yet.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError

from .. import durable
from ..errors import CheckpointError, MecoError
from ..reading import reading

logger = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
"""Written last into a checkpoint; says what it must hold."""

SCHEMA, SCHEMA_VERSION = "meco_hub/checkpoint", 1

BEST = "best"
"""Folder of the kept weights while the run goes on, in the run's folder and in each checkpoint."""

_NAME = re.compile(r"(step|epoch)_\d+")
_WRITTEN = re.compile(rf"{_NAME.pattern}|{BEST}")

_STATE_KEYS = ("model_type", "model.", "labels", "optimizer", "frozen_modules")
"""Recipe keys, or beginnings of keys, whose change makes a saved state the state of something else."""

_STATE_SWITCHES = ("distillation", "soft_label_head", "ema_decay", "backbone_learning_rate")
"""Recipe keys that may change, but not between something and nothing."""


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint.

    Attributes:
        epoch: epochs finished, and the one under way counted from 0.
        batch: batches done in the epoch under way, by each process.
        learning_rate: of the first parameter group, at the start of the epoch under way.
        loss_sums: of the epoch under way, one per process: the sum over samples of the loss.
        loss_count: samples of the epoch under way, of all processes.
        best: the best value of the selection criterion so far, larger being better.
        best_epoch: the epoch (from 1) it was reached in.
        energy: joules of all sessions so far, by counter; empty where nothing counts them.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    loss_sums: list[float] = field(default_factory=list)
    loss_count: int = 0
    best: float | None = None
    best_epoch: int = 0
    stale_epochs: int = 0
    seconds: float = 0.0
    energy: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value)


@dataclass(frozen=True)
class RunIdentity:
    """What a checkpoint and the run that goes on from it must share.

    Attributes:
        processes: how many train together; each has random states, and a place in the epoch, of its own.
        data: fingerprints of the samples; empty until they have been read.
    """

    recipe: Mapping[str, Any]
    processes: int
    data: Mapping[str, str] = field(default_factory=dict)


def _sizes(folder: Path) -> dict[str, int]:
    """Every file of a checkpoint but its manifest, and its size in bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that is whole."""
    file = folder / MANIFEST
    state = "unreadable" if file.exists() else "missing"
    problem = f"{folder} is no complete checkpoint: its {MANIFEST}, which is written last, is {state}"
    with reading(problem, CheckpointError, "Resume from another, or say auto."):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        expected = dict(manifest["files"])
        manifest |= {"serial": int(manifest["serial"]), "recipe": dict(manifest["recipe"])}
        _ = manifest["processes"], manifest["data"]
    seen = _sizes(folder)
    for name, size in expected.items():
        if seen.get(name) != size:
            there = f"has {seen[name]} bytes" if name in seen else "is missing"
            raise CheckpointError(
                f"{folder} is no complete checkpoint: {name} {there}; expected {size} bytes. Resume from another, or say auto."
            )
    return manifest


def _take_stock(output_dir: Path) -> tuple[list[tuple[int, Path]], list[str]]:
    """Complete checkpoints by their serial numbers, in order, and why others are none."""
    found, defects = [], []
    for path in sorted(output_dir.glob("*_*")):
        if path.is_dir() and _NAME.fullmatch(path.name):
            try:
                found.append((_read_manifest(path)["serial"], path))
            except CheckpointError as error:
                defects.append(str(error))
    return sorted(found), defects


def _is_complete(folder: Path) -> bool:
    try:
        _read_manifest(folder)
    except CheckpointError:
        return False
    return True


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints of a run, in the order in which they were written."""
    return [path for _, path in _take_stock(output_dir)[0]]


def recover_checkpoints(output_dir: Path) -> None:
    """Finish or remove what was being written when a run was killed; called by the main process before anyone resumes."""
    for line in durable.restore_after_kill(output_dir, _WRITTEN, _is_complete):
        logger.warning("In %s: %s.", output_dir, line)
    # recipe, records and weights, of which a kill leaves a part under a name of its own
    durable.remove_abandoned(output_dir, 0.0)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What is written inside is whole, or one error says why not, and what to do."""
    try:
        yield
    # torch and safetensors each say in words of their own that there is no room
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, MecoError):
            raise
        # on a full disk, others want its room too
        shutil.rmtree(durable.hidden(place, durable.PARTIAL), ignore_errors=True)
        free = shutil.disk_usage(place.parent).free
        raise CheckpointError(
            f"{place} cannot be written ({str(error).splitlines()[0]}); {free / 1e6:.0f} MB are free there. What was written "
            "before is whole. Make room, and go on by the same command with --resume_from_checkpoint auto."
        ) from error


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: Path,
    name: str,
    *,
    progress: Progress,
    identity: RunIdentity,
    total_limit: int | None = None,
) -> Path:
    """Save the state of a run as `output_dir/name`; called by every process.

    Args:
        accelerator: everything registered with it is saved.
        name: "step_N" or "epoch_N".
        total_limit: older checkpoints beyond this number are removed.
    """
    place = output_dir / name
    partial = durable.hidden(place, durable.PARTIAL)
    if accelerator.is_main_process:
        durable.begin(place)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if progress.best_epoch:
            durable.link_tree(output_dir / BEST, partial / BEST)
        durable.sync_tree(partial)  # the manifest must not be on the disk before what it vouches for
        before = _take_stock(output_dir)[0]
        manifest = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            # counted, because times of files do not survive copying and steps begin anew where a run went back
            "serial": before[-1][0] + 1 if before else 1,
            "epoch": progress.epoch,
            "batch": progress.batch,
            "step": progress.step,
            **asdict(identity),
            "files": _sizes(partial),
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        durable.swap_in(place)
        limit_checkpoints(output_dir, total_limit)
    accelerator.wait_for_everyone()
    return place


def limit_checkpoints(output_dir: Path, total_limit: int | None) -> None:
    """Remove the oldest checkpoints beyond a number; called by the main process."""
    if total_limit is not None:
        for old in list_checkpoints(output_dir)[:-total_limit]:
            durable.remove(old)


def restore_best(checkpoint: Path, output_dir: Path) -> None:
    """Make `best/` what it was when the checkpoint was written; called by the main process."""
    if (checkpoint / BEST).is_dir():
        durable.link_tree(checkpoint / BEST, durable.begin(output_dir / BEST))
        durable.swap_in(output_dir / BEST)
    elif (output_dir / BEST).is_dir():
        durable.remove(output_dir / BEST)


def find_checkpoint(output_dir: Path, wanted: str) -> Path | None:
    """The folder to resume from.

    Args:
        wanted: a path, a name inside `output_dir`, or "auto" for the newest there.

    Returns:
        The folder; None when "auto" finds none, and the run begins at the beginning.
    """
    stock, defects = _take_stock(output_dir)
    found = [path for _, path in stock]
    for defect in defects:
        logger.warning("Skipped: %s", defect)
    if wanted == "auto":
        return found[-1] if found else None
    for path in (Path(wanted), output_dir / wanted):
        if path.is_dir():
            _read_manifest(path)
            return path
    names = ", ".join(path.name for path in found) or "none"
    raise CheckpointError(
        f"There is no checkpoint {wanted} to resume from. {output_dir} has: {names}. Name one, or say auto."
    )


def choose_checkpoint(output_dir: Path, wanted: str | None, identity: RunIdentity) -> Path | None:
    """The folder that a run goes on from, found and checked; None when it begins at the beginning."""
    if wanted is None:
        return None
    found = find_checkpoint(output_dir, wanted)
    if found is None:
        logger.info("There is no checkpoint in %s; the run begins at the beginning.", output_dir)
    else:
        check_identity(found, identity)
    return found


def check_identity(folder: Path, identity: RunIdentity) -> None:
    """Refuse a checkpoint of something else; say what changed where going on makes sense all the same."""
    manifest = _read_manifest(folder)
    if manifest["processes"] != identity.processes:
        raise CheckpointError(
            f"{folder} was written by {manifest['processes']} process(es); this run has {identity.processes}. Random states, "
            "schedule and place in the epoch belong to that number: resume with as many, or train anew."
        )
    before, now = manifest["recipe"], json.loads(json.dumps(dict(identity.recipe)))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    other = [key for key in changed if key.startswith(_STATE_KEYS)]
    other += [key for key in _STATE_SWITCHES if (before.get(key) == "None") != (now.get(key) == "None")]
    if other:
        listing = "; ".join(f"{key} was {before.get(key, 'not set')}, is {now.get(key, 'not set')}" for key in other)
        raise CheckpointError(
            f"{folder} holds the state of another training: {listing}. Resume by the recipe it began with (recipe.yaml beside it), "
            "or train anew, from its weights if they fit (model_name_or_path)."
        )
    if changed:
        logger.warning(
            "The run is resumed by another recipe than %s was written by; changed: %s.", folder.name, ", ".join(changed)
        )


def check_samples(folder: Path, identity: RunIdentity) -> None:
    """Say so if the samples are not those that a checkpoint was trained on."""
    if identity.data != _read_manifest(folder)["data"]:
        logger.warning(
            "The samples are not those that %s was trained on (their fingerprints differ); the run will not be what it would "
            "have been without the interruption.",
            folder.name,
        )
