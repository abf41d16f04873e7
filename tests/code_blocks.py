"""Runs the code blocks of a Markdown page, and compares what they print with the text block that follows.

- ```bash and ```python blocks are run, top to bottom, in one folder; Python blocks of a page share their names. Others are not run.
- A ```text block right after one says what it printed to standard output. Words must be the same; "…" stands for anything; numbers
  may differ by rounding, and a page's `<!-- figures vary -->` before the block lets them differ more: they come of a training.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^(?P<marks>```+)(?P<kind>\w*)\n(?P<code>.*?)^(?P=marks)$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_VARY = "<!-- figures vary -->"


@dataclass(frozen=True)
class Block:
    """A piece of code, and what the page says that it prints (None: nothing is said)."""

    kind: str
    code: str
    line: int
    expected: str | None = None
    vary: bool = False


def read_blocks(page: Path) -> list[Block]:
    """The blocks that are run, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(text):
        kind, between = match["kind"], text[end : match.start()]
        if kind in ("bash", "python"):
            found.append(Block(kind, match["code"], text.count("\n", 0, match.start()) + 2))
            end = match.end()
        elif kind == "text" and found and end >= 0 and not between.replace(_VARY, "").strip():
            last = found.pop()
            found.append(Block(last.kind, last.code, last.line, match["code"], _VARY in between))
            end = -1
    return found


def run_page(page: Path, folder: Path, environment: dict[str, str]) -> list[tuple[Block, str]]:
    """Run a page's blocks in a folder; gives each with what it printed."""
    names: dict[str, Any] = {"__name__": "__page__"}
    printed = []
    for block in read_blocks(page):
        if block.kind == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{page.name}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            printed.append((block, done.stdout))
        else:
            output = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
            with contextlib.chdir(folder), contextlib.redirect_stdout(output):
                exec(code, names)
            printed.append((block, output.getvalue()))
    return printed


def shell(root: Path) -> dict[str, str]:
    """The environment of a shell in which `meco` and `python` are this interpreter's."""
    programs = root / "programs"
    programs.mkdir()
    for name, arguments in {"meco": "-m meco_hub", "python": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    return os.environ | {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


def differences(expected: str, printed: str, *, vary: bool = False) -> str:
    """What differs in words or, by more than rounding, in numbers; "" where nothing does."""
    pattern, numbers, place = "", [], 0
    expected, printed = _squeeze(expected), _squeeze(printed)
    for match in re.finditer(rf"…|{_NUMBER.pattern}", expected):
        pattern += re.escape(expected[place : match.start()])
        if match[0] == "…":
            pattern += ".*?"
        else:
            pattern += f"({_NUMBER.pattern})"
            numbers.append(match[0])
        place = match.end()
    pattern += re.escape(expected[place:])
    found = re.fullmatch(pattern, printed, re.DOTALL)
    if found is None:
        return f"The words differ.\nThe page says:\n{expected}\nIt printed:\n{printed}"
    for said, number in zip(numbers, found.groups(), strict=True):
        allowed = _rounding(said)
        if not vary and abs(float(said) - float(number)) > allowed:
            return f"The page says {said}, and it printed {number}, in:\n{printed}"
    return ""


def _rounding(said: str) -> float:
    """How far another processor may end up: half a hundredth, or of large numbers half a percent, and one in the last place."""
    mantissa, _, exponent = said.partition("e")
    if "." not in mantissa:
        return 0
    last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return last + (0.005 * max(1.0, abs(float(said))) if not exponent else last)


def _squeeze(text: str) -> str:
    """Runs of blanks and of "#", which bars are drawn with, as one each."""
    return re.sub(r"([ #])\1+", r"\1", text.strip()).replace("\n ", "\n")
