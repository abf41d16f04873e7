"""`meco convert`: the authors' weights into a checkpoint folder.

This file knows the flags of converting.
"""

import argparse
from pathlib import Path

from .. import plugins
from ..errors import MecoError
from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "convert", _run, "Turn the weights that an architecture's authors publish into a checkpoint folder."
    )
    parser.add_argument("model_type")
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--labels", help="a label space of the plugin, or names separated by commas in the order of the outputs"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")


def _run(arguments: argparse.Namespace) -> int:
    entry = plugins.architecture(arguments.model_type)
    if entry.converter is None:
        raise MecoError(
            f"The plugin of {arguments.model_type!r} offers no converter. Expected one that declares `converter`; see `meco list`."
        )
    convert = plugins.load_dotted(entry.converter)
    report = convert(arguments.weights, arguments.output, labels=arguments.labels, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(report.to_dict())
    else:
        print(report)
    return 0
