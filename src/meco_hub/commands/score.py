"""`meco score`: tables from files of predictions.

This file knows the flags of scoring.
"""

import argparse
from pathlib import Path

from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "score", _run, "Score per-sequence prediction files: a folder of runs, or several, a row of the table each."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE_OR_FOLDER")


def _run(arguments: argparse.Namespace) -> int:
    from ..evaluation.report import plain
    from ..evaluation.sequence_files import score_sequence_sets
    from ..evaluation.sequence_scores import table

    found = score_sequence_sets(arguments.files)
    if arguments.json:
        print_json(plain({name: scores.to_dict() for name, scores in found.items()}))
    else:
        print(table(found))
    return 0
