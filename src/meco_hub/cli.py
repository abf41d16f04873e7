"""The command `meco`; `commands/` has a file for each of its commands.

Exit codes: 0 all is well; 1 our error, a bad input among several, or a finding of the doctor; 2 wrong usage.

This file knows how a command is found and how our errors are printed.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from . import __version__
from .commands import COMMANDS, Commands
from .errors import MecoError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meco", description="Emotion recognition models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"meco_hub {__version__}")
    commands = Commands(parser.add_subparsers(dest="command", required=True, metavar="command"))
    for name in COMMANDS:
        importlib.import_module(f".commands.{name}", __package__).add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; our own errors are printed to stderr as one line and give 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["train"]:  # its flags are the training loop's own
            from .train import main as train

            return train(words[1:])
        arguments = _parser().parse_args(words)
        return arguments.run(arguments)
    except MecoError as error:
        print(f"meco: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
