"""Cells carried out: trained, evaluated, shared by processes, and never made twice.

A cell is a folder: `model/` holds the checkpoint, `test/` report, predictions and people, `cell.json` what it was made by. Whoever
works on one holds its lock, which the system lets go when the process dies; so several `meco compare` on the same folder, on one
machine or on many that share a disk, take the cells that are free, and then wait for those that others are at. Processes of one
launcher train each cell together. A training that was killed goes on from the end of its last epoch.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..durable import plain, remove, write_json
from ..errors import ConfigurationError, TrainingInterrupted
from ..evaluation.evaluate import evaluate_checkpoint
from ..reading import read_json
from ..shards import join_processes
from ..training.arguments import RunOptions
from ..training.checkpoints import BEST, list_checkpoints
from ..training.loop import train
from .baselines import evaluate_baseline
from .plan import Cell, Plan

logger = logging.getLogger(__name__)

RECORD, REPORT = "cell.json", Path("test") / "report.json"


def is_finished(cell: Cell, output_dir: Path) -> bool:
    """Whether the cell's report is there, under the conditions that are wanted."""
    folder = output_dir / cell.folder
    if not (folder / REPORT).is_file():
        return False
    return _read(folder)["conditions"] == list(cell.settings.conditions)


def _read(folder: Path) -> dict[str, Any]:
    return _mapping(folder / RECORD, ("made_by", "conditions"))


def _mapping(file: Path, keys: Sequence[str]) -> dict[str, Any]:
    """What a file of a finished cell holds, with the keys that are read of it."""
    remedy = "Expected what the comparison wrote. Remove its folder, and the cell is made again."
    found = read_json(file, ConfigurationError, remedy)
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise ConfigurationError(f"{file} holds no mapping with {', '.join(keys)}. {remedy}")
    return found


def check_cells(cells: Sequence[Cell], output_dir: Path) -> None:
    """Refuse a folder that holds cells made by something else."""
    for cell in cells:
        folder = output_dir / cell.folder
        if not (folder / RECORD).is_file():
            continue
        before, now = _read(folder)["made_by"], json.loads(json.dumps(plain(cell.made_by)))
        other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if other:
            listing = "; ".join(f"{key} was {before.get(key)!r:.60}, is {now.get(key)!r:.60}" for key in other[:3])
            raise ConfigurationError(
                f"{folder} is the cell {cell}, and was made by something else: {listing}. Figures of both would stand in one "
                "table. Name another output_dir, or remove that folder."
            )


def run_cells(plan: Plan, output_dir: Path, *, progress: bool = True) -> None:
    """Make all cells that are not there; returns when all are, whoever made them.

    Raises:
        TrainingInterrupted: a signal stopped a training; it goes on from there when the command is given again.
    """
    state = join_processes()
    check_cells(plan.cells, output_dir)
    todo = [cell for cell in plan.cells if not is_finished(cell, output_dir)]
    show = progress and state.is_main_process
    with tqdm(total=len(plan.cells), initial=len(plan.cells) - len(todo), unit="cell", disable=not show) as bar:
        for patience in (0.0, -1.0):  # what is free first, then what others are at
            left = []
            for cell in todo:
                bar.set_description(str(cell))
                with _taken(cell, output_dir, patience, state.is_main_process) as taken:
                    if taken is None:
                        left.append(cell)
                        continue
                    if taken:
                        _make(cell, plan, output_dir / cell.folder, show)
                        state.wait_for_everyone()  # the main process writes the report
                bar.update()
            todo = left


@contextmanager
def _taken(cell: Cell, output_dir: Path, patience: float, is_main: bool) -> Iterator[bool | None]:
    """Hold a cell's lock: True where it is to be made, False where somebody has made it, None where somebody is at it."""
    folder = output_dir / cell.folder
    lock = FileLock(folder / ".lock", timeout=patience)
    found: list[bool | None] = [None]
    try:
        if is_main:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
                found = [not is_finished(cell, output_dir)]
            except Timeout:
                pass
        broadcast_object_list(found)
        yield found[0]
    finally:
        lock.release()


def _make(cell: Cell, plan: Plan, folder: Path, progress: bool) -> None:
    state = join_processes()
    if state.is_main_process:
        check_cells([cell], folder.parents[1])  # somebody else may have begun it meanwhile
        if (folder / REPORT.parent).is_dir():  # of a killed evaluation, or of one under other conditions
            remove(folder / REPORT.parent)
        record = {"cell": str(cell), "made_by": cell.made_by, "conditions": list(cell.settings.conditions)}
        write_json(record, folder / RECORD)
    state.wait_for_everyone()
    settings = replace(cell.settings, progress=False)
    logger.info("%s", cell)
    if cell.recipe is not None and cell.choice.baseline is not None:
        sees = cell.choice.sees is not None
        evaluate_baseline(cell.choice.baseline, cell.recipe, plan.data_dir, folder / "test", settings, sees=sees)
        return
    source: str | Path = str(cell.choice.checkpoint)
    if cell.recipe is not None:
        source = folder / "model"
        if not (source / "run.json").is_file():
            options = RunOptions(
                plan.data_dir,
                source,
                checkpointing_steps="epoch",
                checkpoints_total_limit=1,
                resume_from_checkpoint="auto",
                progress=progress,
                trust_recipe_code=plan.trust,
            )
            try:
                train(cell.recipe, options)
            except TrainingInterrupted as stop:
                raise TrainingInterrupted(
                    f"The training of {cell} was stopped by a signal; what it has come to is kept. The same command goes on.",
                    stop.signal_number,
                ) from stop
        if state.is_main_process:
            for rest in (*list_checkpoints(source), source / BEST):
                if rest.is_dir():
                    remove(rest)
        state.wait_for_everyone()
    evaluate_checkpoint(source, plan.comparison.corpus, plan.data_dir, folder / "test", settings)


def read_reports(plan: Plan, output_dir: Path) -> Mapping[Cell, dict[str, Any]]:
    """The reports of the cells that are finished, by cell; a row that chooses has those that it chose."""
    reports = {
        cell: _mapping(output_dir / cell.folder / REPORT, ()) for cell in plan.cells if is_finished(cell, output_dir)
    }
    made = {(cell.model, cell.fold, cell.seed): cell for cell in reports}
    chosen = {}
    for model, choice in plan.comparison.models.items():
        for first in plan.cells_of(model) if choice.best_of else ():
            candidates = [made.get((name, first.fold, first.seed)) for name in choice.best_of or ()]
            if (best := _best(candidates, plan, output_dir)) is not None:
                chosen[replace(best, model=model, chosen=best.model)] = reports[best]
    return reports | chosen


def _best(candidates: Sequence[Cell | None], plan: Plan, output_dir: Path) -> Cell | None:
    """The candidate with the best figure on its validation part, by the weights that were kept; None until all are there."""
    figures = {}
    for cell in candidates:
        if cell is None:
            return None
        file = output_dir / cell.folder / "model" / "run.json"
        run = _mapping(file, ("selection", "history"))
        kept = next(row for row in run["history"] if row["epoch"] == run["selection"]["best_epoch"])
        figures[cell] = -kept["rmse"] if plan.corpus.targets else kept["uar"]
    return max(figures, key=lambda cell: figures[cell])
