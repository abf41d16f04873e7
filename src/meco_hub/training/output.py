"""The folder of a run: whether it may be written to, and how weights get into it.

    config.json model.safetensors preprocessor_config.json    what the Auto classes load, once the run is finished
    recipe.yaml run.json all_results.json                     what was asked for, and what came of it
    best/                                                     the kept weights while the run goes on
    step_N/ epoch_N/                                          checkpoints to resume from

This file knows names of files; it does not know when they are written.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..errors import ConfigurationError
from .arguments import RunOptions
from .checkpoints import list_checkpoints
from .recipe_files import load_recipe, recipe_to_dict, write_recipe
from .recipes import Recipe
from .record import flatten

logger = logging.getLogger(__name__)

BEST = "best"
"""Folder of the kept weights while the run goes on."""


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


def prepare_output(recipe: Recipe, options: RunOptions) -> None:
    """Make the folder, clear what an overwritten run left, and write the recipe; called by the main process."""
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "recipe.yaml"
    if options.resume_from_checkpoint is None:
        for old in [*list_checkpoints(folder), folder / BEST]:
            if old.is_dir():
                shutil.rmtree(old)
    elif saved.is_file():
        before, now = flatten(recipe_to_dict(load_recipe(str(saved)))), flatten(recipe_to_dict(recipe))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            logger.warning("The run is resumed by another recipe than it began with; changed: %s.", ", ".join(changed))
    write_recipe(recipe, saved)


def save_model(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    """Write config, safetensors and processor, so that the Auto classes load the folder."""
    # safetensors holds plain layouts only, and channels_last is none
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
