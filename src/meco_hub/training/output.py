"""The folder of a run: whether it may be written to, and how weights get into it.

    config.json model.safetensors preprocessor_config.json    what the Auto classes load, once the run is finished
    recipe.yaml run.json all_results.json                     what was asked for, and what came of it
    best/                                                     the kept weights while the run goes on
    step_N/ epoch_N/                                          checkpoints to resume from

This file knows names of files; it does not know when they are written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..errors import ConfigurationError
from .arguments import RunOptions
from .checkpoints import BEST, list_checkpoints, recover_checkpoints
from .durable import begin, remove, swap_in

_CLAIMS = ("run.json", "all_results.json", "model.safetensors", "config.json")
"""What a finished run says it is; gone first when it is overwritten."""


def check_output(options: RunOptions) -> None:
    """Refuse a folder that holds a run, unless it is to be resumed or overwritten.

    Raises:
        ConfigurationError: the folder holds a run.
    """
    folder = options.output_dir
    if options.resume_from_checkpoint is not None or options.overwrite_output_dir or not folder.is_dir():
        return
    remains = [path for name in ("run.json", "recipe.yaml") if (path := folder / name).exists()]
    remains += list_checkpoints(folder)
    if remains:
        raise ConfigurationError(
            f"{folder} holds a run already ({', '.join(path.name for path in remains[:3])}). Name another output_dir, resume it "
            "with --resume_from_checkpoint auto, or say --overwrite_output_dir."
        )


def prepare_output(options: RunOptions) -> None:
    """Make the folder, clear what an overwritten run left and tidy up after a killed one; called by the main process."""
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    recover_checkpoints(folder)
    if options.resume_from_checkpoint is not None:
        return
    if options.overwrite_output_dir:
        for name in _CLAIMS:
            (folder / name).unlink(missing_ok=True)
    for old in [*reversed(list_checkpoints(folder)), folder / BEST]:
        if old.is_dir():
            remove(old)


def save_best(
    model: PreTrainedModel, processor: Any, output_dir: Path, weights: Mapping[str, Any] | None = None
) -> None:
    """Keep these weights as `best/`, instead of those kept so far, wholly or not at all; `weights` where the model has parts"""
    save_model(model, processor, begin(output_dir / BEST), weights)
    swap_in(output_dir / BEST)


def save_model(model: PreTrainedModel, processor: Any, folder: Path, weights: Mapping[str, Any] | None = None) -> None:
    """Write config, safetensors and processor, so that the Auto classes load the folder."""
    # safetensors holds plain layouts only, and channels_last is none
    state = {name: value.contiguous() for name, value in (weights or model.state_dict()).items()}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
