"""Training, by its function and by its doors: `meco train`, `python -m meco_hub.train`, `accelerate launch -m meco_hub.train`.

python -m meco_hub.train --recipe meco_mymodel/myrecipe --data_dir DATA --output_dir OUT
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import MecoError, TrainingInterrupted, naming_extras, visible


@naming_extras()
def train_model(
    recipe: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Train a model by a recipe, and write its checkpoint.

    Args:
        recipe: a recipe's name ("model_type/recipe", see `meco list`), or a YAML file.
        data_dir: the corpus's folder or zip file.
        output_dir: where the checkpoint and its record are written.
        changes: recipe keys to change, dotted where they are nested: {"num_train_epochs": 3, "data.validation.seed": 1}.
        options: of the run, as `training.arguments.RunOptions` has them: `resume_from_checkpoint="auto"`,
            `overwrite_output_dir=True`, `progress=False`, …

    Returns:
        What `run.json` says; None in all processes of a launcher but the main one.

    Raises:
        UnknownNameError: a recipe, architecture, corpus or split that does not exist.
        ConfigurationError: the recipe makes no sense or does not fit the data, or `output_dir` holds a run already.
        CorpusError, LeakError: the data cannot be used.
        DependencyError: the extra `train` is not installed.
        TrainingInterrupted: a signal told the run to stop; a checkpoint is written.
    """
    from .training.arguments import RunOptions
    from .training.loop import train
    from .training.recipes import load_recipe

    return train(load_recipe(str(recipe), changes), RunOptions(Path(data_dir), Path(output_dir), **options))


class VisibleRecord(logging.LogRecord):
    """Log messages as `visible` has them, whoever writes them: others may fill several lines."""

    def getMessage(self) -> str:
        text = super().getMessage()
        return visible(text) if self.name.startswith("meco_hub") else "\n".join(map(visible, text.split("\n")))


TERMINATED = "terminated"
"""What a `KeyboardInterrupt` says that stands for SIGTERM."""


def explain(error: BaseException, command: str = "meco") -> int:
    """Say in one line on stderr why a command ended.

    Returns:
        The exit code: 1, or a shell's for Ctrl-C (130), SIGTERM (143) and a closed pipe (141).
    """
    if isinstance(error, OSError):
        for stream in filter(
            None, (sys.stdout, sys.stderr)
        ):  # one that is broken or full must not be tried again when Python ends
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if isinstance(error, BrokenPipeError):
        return 141
    if isinstance(error, KeyboardInterrupt):
        terminated = error.args == (TERMINATED,)
        how = TERMINATED if terminated else "interrupted"
        print(f"{command}: {how}; what was finished is kept", file=sys.stderr)
        return 143 if terminated else 130
    print(visible(f"{command}: {type(error).__name__}: {error}"), file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Train by flags and recipe.

    Returns:
        0; 1 after one of our errors, which is printed as one line; 128 + the signal's number (143 for SIGTERM) after one that
        told the run to stop, which by then has written a checkpoint.
    """
    logging.setLogRecordFactory(VisibleRecord)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("meco_hub").setLevel(logging.INFO)
    try:
        with naming_extras():
            from .training.arguments import parse_arguments

            recipe, options = parse_arguments(argv)
            import transformers

            from .training.loop import train  # after the flags: --help and a misspelt key need not wait for torch

            if options.push_to is not None:
                from .publishing.hub import check_destination

                check_destination(options.push_to)  # now, and not after hours of training
            if not options.progress:
                transformers.utils.logging.disable_progress_bar()
            record = train(recipe, options)
    except TrainingInterrupted as stop:
        print(f"meco train: {stop}", file=sys.stderr)
        return stop.exit_code
    except (MecoError, OSError, KeyboardInterrupt) as error:
        return explain(error, "meco train")
    if record is not None:  # the main process speaks for all
        metrics = record["validation"]
        print(f"best epoch {record['selection']['best_epoch']} of {record['epochs']}, {record['seconds']:.0f} s")
        shown = [name for name in ("uar", "war", "macro_f1", "rmse", "mae", "ccc") if metrics.get(name) is not None]
        print("validation  " + "  ".join(f"{name} {metrics[name]:.4f}" for name in shown))
        print(f"Wrote {options.output_dir}")
        if options.push_to is not None:
            return _push(options.output_dir, options.push_to, options.push_privately)
    return 0


def _push(folder: Path, repo_id: str, private: bool) -> int:
    """Push the result; should that fail, the training is none the worse for it."""
    from .publishing.hub import push_folder

    try:
        pushed = push_folder(folder, repo_id, private=private or None)
    except MecoError as error:
        explain(error, "meco train")
        print(f"meco train: the training is complete; push it later: meco push {folder} {repo_id}", file=sys.stderr)
        return 1
    print(f"Pushed to {pushed.commit.commit_url if pushed.commit else repo_id}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
