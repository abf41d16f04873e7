"""The flags of `python -m meco_hub.train`, and the folder that a run writes to.

Every scalar key of a recipe is a flag of the same name, under the names that transformers' `*_no_trainer.py` examples use;
`--set data.validation.seed=3` reaches the rest, its values in YAML as in a recipe file. A flag that is given overrides the recipe;
one that is not changes nothing.
"""

import argparse
import dataclasses
import logging
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import yaml
from transformers import PreTrainedModel

from .. import plugins
from ..durable import begin, remove, swap_in
from ..errors import ConfigurationError, require_count
from .checkpoints import BEST, list_checkpoints, recover_checkpoints
from .recipes import STEPS, Recipe, override, read_recipe_file, recipe_from_dict

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""File in a run's folder that its main process holds."""


def parse_value(text: str) -> Any:
    """A value in YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"The value {text!r} is no YAML: {error}. Quote it.") from error


def parse_assignments(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words as a mapping; a key given twice counts as it was given last."""
    found: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise ConfigurationError(f"{word!r} was given; expected KEY=VALUE, such as data.validation.seed=3.")
        found[key] = parse_value(value)
    return found


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes; nothing here changes what is computed.

    Attributes:
        checkpointing_steps: None, "epoch", or a number of optimiser steps.
        checkpoints_total_limit: older checkpoints beyond this number are removed.
        resume_from_checkpoint: None, a checkpoint's folder, or "auto" for the newest of `output_dir`.
        push_to: None, or the repository ("owner/name") on the Hub that the result is pushed to.
        trust_recipe_code: import whatever class the recipe names as augmentation or teacher, which is to run its author's code.
    """

    data_dir: Path
    output_dir: Path
    overwrite_output_dir: bool = False
    checkpointing_steps: str | int | None = None
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | None = None
    report_to: tuple[str, ...] = ()
    progress: bool = True
    push_to: str | None = None
    push_privately: bool = False
    trust_recipe_code: bool = False


def _bare(hint: Any) -> Any:
    """A recipe key's type without its annotations and without None."""
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    if typing.get_origin(kind) is types.UnionType:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _positive(text: str) -> int:
    try:
        return require_count("it", int(text), most=STEPS.most)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def build_parser() -> argparse.ArgumentParser:
    """The parser, its help taken from the fields of `Recipe`."""
    parser = argparse.ArgumentParser(
        prog="python -m meco_hub.train",
        description="Train a model by a recipe. `accelerate launch -m meco_hub.train …` uses more than one process.",
        epilog="Exit codes: 0 done; 1 an error, in one line; 2 wrong usage; 143 (SIGTERM), 130 (Ctrl-C) or 138 (SIGUSR1) stopped "
        "by a signal, after a checkpoint was written, from which --resume_from_checkpoint auto goes on.",
        argument_default=argparse.SUPPRESS,  # a flag that is not given must leave no trace that could override
        allow_abbrev=False,
    )
    where = parser.add_argument_group("what and where")
    where.add_argument("--recipe", help="a recipe's name (model_type/recipe, see `meco list`) or a YAML file")
    where.add_argument("--data_dir", type=Path, required=True, help="folder or zip of the corpus")
    where.add_argument("--output_dir", type=Path, required=True, help="where the checkpoint and its record are written")
    where.add_argument("--overwrite_output_dir", action="store_true", help="begin anew although output_dir holds a run")
    where.add_argument(
        "--trust_recipe_code",
        action="store_true",
        help="import whatever class the recipe names as augmentation or teacher: this runs code with your rights, of whoever "
        "wrote the recipe; without it only what installed plugins declare",
    )
    where.add_argument("--dataset", help="name of a registered corpus; short for --set data.corpus=…")
    where.add_argument("--labels", nargs="+", help="class names in the order of the logits")
    where.add_argument(
        "--set", nargs="+", action="extend", metavar="KEY=VALUE", help="any recipe key, dotted, its value in YAML"
    )
    state = parser.add_argument_group("checkpoints and trackers")
    state.add_argument(
        "--checkpointing_steps",
        type=lambda text: text if text == "epoch" else _positive(text),
        help="a number of optimiser steps, or 'epoch'",
    )
    state.add_argument("--checkpoints_total_limit", type=_positive, help="keep only the newest so many")
    state.add_argument("--resume_from_checkpoint", help="a checkpoint's folder, or 'auto' for the newest of output_dir")
    state.add_argument("--with_tracking", action="store_true", help="report to all trackers that are installed")
    state.add_argument("--report_to", nargs="+", help="report to these trackers (tensorboard, wandb, trackio, …)")
    state.add_argument("--no_progress", action="store_true", help="no progress bars")
    hub = parser.add_argument_group("the Hub")
    hub.add_argument(
        "--push_to_hub", action="store_true", help="push the result, as `meco push` does; needs --hub_model_id"
    )
    hub.add_argument("--hub_model_id", metavar="OWNER/NAME", help="where to; made when it does not exist")
    hub.add_argument("--hub_private_repo", action="store_true", help="make it private; refuses a public one")
    keys = parser.add_argument_group("recipe keys")
    hints = typing.get_type_hints(Recipe, include_extras=True)
    for one in dataclasses.fields(Recipe):
        hint = hints[one.name]
        kind = _bare(hint)
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        if choices or kind in (int, float, str, bool):
            # values stay YAML here; the recipe's own check converts them and words the errors
            metavar = "|".join(choices) or kind.__name__.upper()
            keys.add_argument(f"--{one.name}", metavar=metavar, help=hint.__metadata__[0].replace("%", "%%"))
    return parser


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[Recipe, RunOptions]:
    """The recipe, flags laid over it and checked, and where the run reads and writes."""
    given = vars(build_parser().parse_args(argv))
    changes: dict[str, Any] = {}
    hints = typing.get_type_hints(Recipe)
    for one in dataclasses.fields(Recipe):
        if isinstance(given.get(one.name), str):
            text, hint = given[one.name], hints[one.name]
            is_text = _bare(hint) is str
            # only numbers, switches and null are YAML: a path such as 2024 or yes is a string all the same
            changes[one.name] = text if is_text and text != "null" else parse_value(text)
    if "labels" in given:
        changes["labels"] = given["labels"]
    if "dataset" in given:
        changes["data.corpus"] = given["dataset"]
    changes |= parse_assignments(given.get("set", []))
    if "recipe" not in given and "model_type" not in changes:
        known = ", ".join(plugins.recipes()) or "none is installed"
        raise ConfigurationError(f"Neither --recipe nor --model_type was given; expected one. Recipes: {known}.")
    base = read_recipe_file(given["recipe"]) if "recipe" in given else {}
    where = f"recipe {given['recipe']}" if "recipe" in given else "the flags"
    if ("push_to_hub" in given) != ("hub_model_id" in given):
        raise ConfigurationError(
            "--push_to_hub and --hub_model_id go together, and one of them was given alone. Give both, or neither and `meco push` "
            "the result afterwards."
        )
    trackers = given.get("report_to") or (["all"] if given.get("with_tracking") else [])
    same = {one.name: given[one.name] for one in dataclasses.fields(RunOptions) if one.name in given}
    options = RunOptions(
        **{**same, "report_to": tuple(trackers)},
        progress="no_progress" not in given,
        push_to=given.get("hub_model_id"),
        push_privately="hub_private_repo" in given,
    )
    return recipe_from_dict(override(base, changes), where), options


# --- Output -----------------------------------------------------------------------------------------------------------
# The folder of a run: whether it may be written to, and how weights get into it.
#
#     config.json model.safetensors preprocessor_config.json    what the Auto classes load, once the run is finished
#     recipe.yaml run.json all_results.json                     the recipe, and what came of it
#     best/                                                     the kept weights while the run goes on
#     step_N/ epoch_N/                                          checkpoints to resume from

_CLAIMS = ("run.json", "all_results.json", "report.json", "model.safetensors", "config.json")
"""What a finished run, and an evaluation of it, say that it is; gone first when it is overwritten."""


def check_output(options: RunOptions, begins_from: str | None = None) -> None:
    """Refuse a folder that holds a run or a model, unless it is to be resumed or overwritten."""
    folder = options.output_dir
    if begins_from is not None and folder.is_dir() and Path(begins_from).is_dir() and folder.samefile(begins_from):
        raise ConfigurationError(
            f"{folder} is the checkpoint that the run begins from, and would be written over. Name another output_dir."
        )
    if options.resume_from_checkpoint is not None or options.overwrite_output_dir or not folder.is_dir():
        return
    remains = [path for name in ("run.json", "recipe.yaml", *_CLAIMS, BEST) if (path := folder / name).exists()]
    remains += list_checkpoints(folder)
    if remains:
        raise ConfigurationError(
            f"{folder} holds a run or a model already ({', '.join(path.name for path in remains[:3])}). Name another "
            "output_dir, resume it with --resume_from_checkpoint auto, or say --overwrite_output_dir."
        )


def claim_output(folder: Path) -> IO[str]:
    """Make the folder, for this process alone: until what is returned is closed, which a kill does too, no other one may."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claim = (folder / LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written ({error}); expected a folder for the run. Name another output_dir."
        ) from error
    try:
        import fcntl

        # not flock, which a loader's workers would hold on to when the training is killed
        fcntl.lockf(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        logger.debug("This system has no such locks; nobody keeps a second training out of %s.", folder)
    except (BlockingIOError, PermissionError) as error:
        claim.close()
        raise ConfigurationError(
            f"Another training is writing to {folder}; expected a folder for this one alone. Wait for it, end it, or name another "
            "output_dir."
        ) from error
    except OSError as error:
        logger.warning("%s cannot be locked (%s); let no second training begin there now.", folder, error)
    return claim


def prepare_output(options: RunOptions) -> None:
    """Clear what an overwritten run left and tidy up after a killed one; called by the main process."""
    folder = options.output_dir
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
