"""`meco push`: a checkpoint's folder to the Hub, as one commit.

This file knows the flags of pushing, and how a push is printed.
"""

import argparse

from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "push",
        _run,
        "Push a checkpoint to the Hub: weights, config, processor, card, report and pictures, in one commit.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of a checkpoint, or the name of a bundled one")
    parser.add_argument("repo", metavar="REPO", help="owner/name; made when it does not exist")
    parser.add_argument("--private", action="store_true", default=None, help="make it private; refuses a public one")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch, made when it does not exist (default: main)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--dry_run", action="store_true", help="check and list what would go, and send nothing")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="give a silent server up after this (default: 60)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return value


def _run(arguments: argparse.Namespace) -> int:
    from .. import plugins
    from ..publishing.hub import push_folder
    from ..publishing.waiting import TIMEOUT

    pushed = push_folder(
        plugins.checkpoints().get(arguments.folder) or arguments.folder,
        arguments.repo,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        message=arguments.message,
        dry_run=arguments.dry_run,
        timeout=arguments.timeout or TIMEOUT,
    )
    if arguments.json:
        print_json(pushed.to_dict())
        return 0
    for name, size in pushed.files.items():
        print(f"{_size(size):>10}  {name}")
    for name in pushed.removed:
        print(f"{'removed':>10}  {name}")
    for name in pushed.left_out:
        print(f"{'stays':>10}  {name}")
    place = f"{pushed.repo_id} ({pushed.revision})"
    print(f"{_size(sum(pushed.files.values())):>10}  in {len(pushed.files)} files")
    if pushed.commit is None:
        print(f"Nothing was sent: this would go to {place}.")
    elif pushed.unchanged:
        print(f"{place} holds all of this already: {pushed.commit.commit_url}")
    else:
        print(pushed.commit.pr_url or pushed.commit.commit_url)
    return 0


def _size(count: int) -> str:
    """In decimal units, as the Hub shows them."""
    for unit, worth in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count} B"
