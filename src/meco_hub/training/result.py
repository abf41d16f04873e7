"""What a run ends with: the folder that the Auto classes load, and the record of how it came about.

Everything is written under a name of its own and moved when it is whole, `run.json` last: while that is there, the rest fits it.

This file knows the files of a finished run; what they say was decided before.
"""

from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..evaluation.report import write_json
from .arguments import RunOptions
from .checkpoints import BEST, RESULT, Progress, limit_checkpoints, list_checkpoints
from .data import TrainingData
from .durable import begin, move_files, remove
from .output import save_model
from .recipes import Recipe
from .record import write_record
from .settlement import Settlement


def write_result(
    model: PreTrainedModel,
    processor: Any,
    *,
    accelerator: Accelerator,
    recipe: Recipe,
    options: RunOptions,
    data: TrainingData,
    unreadable: dict[str, dict[str, str]],
    reference: dict[str, Any] | None,
    progress: Progress,
    settled: Settlement,
) -> dict[str, Any]:
    """Write weights, config, processor and record into the run's folder; called by the main process.

    Returns:
        What `run.json` says.
    """
    folder = options.output_dir
    written = begin(folder / RESULT)
    save_model(model, processor, written)
    record = write_record(
        written / "run.json",
        accelerator=accelerator,
        model=model,
        recipe=recipe,
        data=data,
        data_dir=options.data_dir,
        progress=progress,
        validation=settled.validation,
        operating_point=settled.operating_point.to_dict() if settled.operating_point else None,
        calibration=settled.calibration.to_dict() if settled.calibration else None,
        unreadable=unreadable,
        reference=reference,
    )
    numbers = {f"eval_{key}": value for key, value in settled.validation.items() if isinstance(value, int | float)}
    write_json({"epoch": progress.epoch, **numbers}, written / "all_results.json")
    # a kill may have come between the last checkpoint and the removal of those beyond the limit
    limit_checkpoints(folder, options.checkpoints_total_limit)
    move_files(folder / RESULT, folder, last="run.json")
    if not list_checkpoints(folder):  # whoever resumes one may want to look at the kept weights
        remove(folder / BEST)
    return record
