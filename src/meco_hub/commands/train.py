"""`meco train`: its flags are the training loop's own.

This file knows that they are parsed elsewhere.
"""

from . import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    commands.mention("train", "Train by a recipe; `meco train --help` lists its flags.")
