"""Runs commands at the same moment, each in a process of its own; what they share is imported once.

python at_once.py FOLDER < a list of lists of words, as JSON        # FOLDER/0.out, 0.err, …; prints the exit codes
"""

import json
import os
import sys
from pathlib import Path

import meco_hub.evaluation.evaluate  # what the commands would each import
import meco_hub.exporting
import meco_hub.pipeline  # noqa: F401
from meco_hub.cli import main


def child(words: list[str], place: Path, gate: int) -> int:
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(place.with_suffix(f".{stream}"), os.O_WRONLY | os.O_CREAT), number)
    os.read(gate, 1)  # opens when the parent closes its end
    try:
        return main(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    commands: list[list[str]] = json.load(sys.stdin)
    gate, opener = os.pipe()
    children = []
    for number, words in enumerate(commands):
        if not (one := os.fork()):
            os.close(opener)
            code = 70
            try:
                code = child(words, Path(sys.argv[1], str(number)), gate)
            finally:
                os._exit(code)
        children.append(one)
    os.close(opener)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]))
