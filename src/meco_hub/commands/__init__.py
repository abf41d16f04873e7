"""The commands of `meco`, one file each: flags and printing only; each calls one function of the library.

A command's file has `add(commands)`, which declares its flags, and a function that runs and returns the exit code. A new command
is a new file here and its name in `COMMANDS`.

This package knows which commands there are and what their files share.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

__all__ = ["COMMANDS", "NOTICE", "Commands", "Run", "is_main_process", "print_json"]

COMMANDS = ("list", "predict", "convert", "evaluate", "score", "train", "card", "push", "new", "synthetic", "doctor")
"""In the order of `meco --help`; each is a module of this package."""

NOTICE = (
    "Scores are inferred expressions, not felt emotions. This is an emotion recognition system under Regulation (EU) 2024/1689 "
    "(Art. 3(39)): prohibited in workplaces and education except for medical or safety reasons (Art. 5(1)(f)); tell the people "
    "exposed (Art. 50(3))."
)

Run = Callable[[argparse.Namespace], int]


class Commands:
    """Where a command declares itself.

    Args:
        parsers: what `argparse` gave for the subcommands.
    """

    def __init__(self, parsers: Any) -> None:
        self._parsers = parsers

    def add(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A command that `run` carries out; gives its parser, for its flags. `--json` is among them."""
        parser = self._parsers.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print JSON for programs")
        return parser

    def mention(self, name: str, text: str) -> None:
        """A command whose flags are parsed elsewhere."""
        self._parsers.add_parser(name, help=text, add_help=False)


def print_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def is_main_process() -> bool:
    """Under a launcher, one process speaks for all."""
    from accelerate import PartialState

    return PartialState().is_main_process
