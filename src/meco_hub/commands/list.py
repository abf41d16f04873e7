"""`meco list`: what is installed.

This file knows how the inventory is printed.
"""

import argparse

from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command."""
    commands.add("list", _run, "Architectures, bundled checkpoints, corpora and recipes that are installed.")


def _run(arguments: argparse.Namespace) -> int:
    from ..listing import inventory

    found = inventory()
    if arguments.json:
        print_json(found)
        return 0
    for title, rows in found.items():
        print(f"{title}:")
        for row in rows:
            print("  " + "  ".join(str(value) for value in row.values() if value))
        if not rows:
            print("  none")
    return 0
