"""`meco new`: a plugin of one's own.

This file knows the flags, and what to say next.
"""

import argparse
from pathlib import Path

from . import Commands, print_json

_KINDS = ("face", "eye", "signals")


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "new",
        _run,
        "Write a plugin: an architecture of your own that installs, trains on synthetic data and passes its tests.",
    )
    parser.add_argument("name", help="what the model shall be called, such as my-model")
    parser.add_argument("--kind", required=True, choices=_KINDS, help="what it looks at")
    parser.add_argument("--output", type=Path, help="a folder that is new or empty; default: meco-<name>, here")


def _run(arguments: argparse.Namespace) -> int:
    from ..scaffold import KINDS, PluginNames, write_plugin

    folder = write_plugin(arguments.name, arguments.kind, arguments.output)
    names = PluginNames.of(arguments.name)
    following = [
        f"pip install -e {folder}",
        KINDS[arguments.kind].draw,
        f"meco train --recipe {names.package}/synthetic --data_dir data --output_dir out",
        f"pytest {folder / 'tests'}",
    ]
    if arguments.json:
        print_json(
            {
                "folder": str(folder),
                "distribution": names.distribution,
                "model_type": names.package,
                "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
                "next": following,
            }
        )
        return 0
    print(f"Wrote {names.distribution} to {folder}. What follows (the data are synthetic, drawn by a program):")
    print("\n".join(f"  {line}" for line in following))
    return 0
