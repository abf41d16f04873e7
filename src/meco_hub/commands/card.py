"""`meco card`: a checkpoint's model card.

This file knows the flags of rendering a card and what is said of gaps.
"""

import argparse
import sys
from pathlib import Path

from .. import plugins
from ..errors import CardError
from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("card", _run, "Render a checkpoint's model card, and say what nobody has stated.")
    parser.add_argument("model", help="folder or bundled checkpoint")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead of printing it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a web page too, to look at")


def _run(arguments: argparse.Namespace) -> int:
    from ..publishing.card import card_gaps, render_card, write_form
    from ..publishing.card_notes import FILE

    folder = Path(plugins.locate_checkpoint(arguments.model))
    if not folder.is_dir():
        raise CardError(
            f"{arguments.model} is no folder on this machine; expected one, or a bundled checkpoint's name. A repository's card "
            "is its README.md."
        )
    card = render_card(folder)
    gaps = card_gaps(folder)
    if gaps:
        form = folder / FILE
        made = "" if form.is_file() else f"; wrote {write_form(folder)} to fill in"
        print(f"Not stated in {form}{made}. The card says so. It needs:", file=sys.stderr)
        for key, what in gaps.items():
            print(f"  {key}: {what}", file=sys.stderr)
    if arguments.html is not None:
        from ..publishing.card_html import render_html

        arguments.html.write_text(render_html(card), encoding="utf-8")
    if arguments.output is not None:
        arguments.output.write_text(card, encoding="utf-8")
    if arguments.json:
        print_json({"folder": str(folder), "gaps": gaps, "card": card})
    elif arguments.output is None:
        print(card, end="")
    else:
        print(f"Wrote {arguments.output}")
    return 0
