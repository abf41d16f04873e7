"""Small files that stand for very much, through the doors that people use: what each fills, measured in a process of its own.

Peaks are of the whole process (`ru_maxrss`), above what a small file through the same door fills, of which the interpreter, its
libraries and the network are the most.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bombs
from meco_hub import checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.xdist_group("bombs"),  # two workers would make and read all of them twice
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory otherwise"),
]

REFUSED_MIB = 64
"""What is beyond the limits is refused by what it says."""
TEXT_MIB = 256
"""Of packed text nothing says how much it is: the limit is unpacked."""
MOST_MIB = 1280
"""What is just within the limits: 88 million pixels, 35 of a film's frame, 128 MiB of arrays."""


@pytest.fixture(scope="module")
def measured(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """(name, door) → size of the file, KiB that were filled, what was said."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("bombs")
    program = [sys.executable, bombs.__file__, str(folder), str(tiny_checkpoint), str(checkpoint("meco-himoe-stress"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, timeout=550, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {(row["name"], row["door"]): row for row in rows}


def _limit(name: str) -> int:
    return MOST_MIB if name.startswith("large") else TEXT_MIB if name.endswith(".gz") else REFUSED_MIB


@pytest.mark.parametrize("name", sorted(bombs.bombs(Path())))
def test_a_small_file_fills_no_more_than_is_said(name: str, measured: dict[tuple[str, str], dict[str, Any]]) -> None:
    row, usual = measured[name, "pipeline"], measured[bombs.form_of(name), "pipeline"]
    assert row["kib"] >= 0, row  # it did not end otherwise
    assert row["kib"] - usual["kib"] < _limit(name) * 1024, row
    assert row["size"] < 3e6
    if not name.startswith(("large", "header")):
        assert "Error: " in row["said"], row


@pytest.mark.parametrize("form", ["first.png", "first.mp4", "first.csv"])
def test_nor_do_all_of_a_kind_at_the_command(form: str, measured: dict[tuple[str, str], dict[str, Any]]) -> None:
    row, usual = measured[f"all that {form} stands for", "meco predict"], measured[form, "meco predict"]
    assert row["said"] == "answer: 1", row  # its exit code: some could not be used
    names = [name for name in bombs.bombs(Path()) if bombs.form_of(name) == form and not name.startswith("large")]
    assert len(names) > 3
    assert row["kib"] >= 0, row  # it did not end otherwise
    assert row["kib"] - usual["kib"] < max(map(_limit, names)) * 1024, row
