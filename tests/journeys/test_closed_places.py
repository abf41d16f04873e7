"""Folders and files that may not be read: each is named, and none is passed over, by somebody whom the system keeps out.

Root is kept out of nothing. Where the suite runs as root, the child gives away what lets root in (Linux: two capabilities).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders are closed otherwise there"),
]

_PAST_MODES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (capabilities(7))
_CAPBSET_DROP = 24  # prctl(2)

PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path
from meco_hub import cli, recogniser
from meco_hub.corpora.image_folder import corpus
from meco_hub.errors import MecoError
from meco_hub.recordings.events import read_events
from meco_hub.recordings.signals import read_signals

place, model = Path(sys.argv[1]), sys.argv[2]

def said(call, *arguments):
    try:
        return str(call(*arguments))
    except MecoError as error:
        return f"{type(error).__name__}: {error}"

table = io.StringIO()
with contextlib.redirect_stdout(table):
    code = cli.main(["predict", str(place / "c"), "--model", model, "--json"])
found = {"code": code, "rows": json.loads(table.getvalue())["files"] if "files" in table.getvalue()[:30] else table.getvalue()}
found["corpus"] = said(corpus.load, place / "c")
for name, call in (("sad", recogniser), ("sad", read_signals), ("shut.mat", read_signals), ("shut.csv", read_signals),
                   ("shut.h5", read_events), ("shut", recogniser)):
    found[f"{name} {call.__name__}"] = said(call, place / "c" / name if name == "sad" else place / name)
print(json.dumps(found))
"""


def _give_away() -> None:
    """In the child: programs that it becomes do not read past the modes of files."""
    import ctypes

    for capability in _PAST_MODES:
        if ctypes.CDLL(None, use_errno=True).prctl(_CAPBSET_DROP, capability, 0, 0, 0):
            os._exit(77)


def test_what_may_not_be_read_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("sad/1.jpg", "happy/1.jpg", "happy/shut.jpg"):
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 96), "orange").save(tmp_path / "c" / name)
    (tmp_path / "shut").mkdir()
    closed = [tmp_path / name for name in ("shut.mat", "shut.csv", "shut.h5", "shut", "c/happy/shut.jpg", "c/sad")]
    for path in closed[:3]:
        path.write_text("time,eda\n0,1\n")
    for path in closed:
        path.chmod(0)
    root = os.geteuid() == 0
    if root and sys.platform != "linux":
        pytest.skip("root reads everything, and gives that away on Linux alone")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, str(tmp_path), str(tiny_checkpoint)],
            capture_output=True, text=True, timeout=300, preexec_fn=_give_away if root else None,
        )  # fmt: skip
    finally:
        for path in closed:
            path.chmod(0o700)
    if done.returncode == 77:
        pytest.skip("this root may not give its capabilities away")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("code") == 1
    rows = str(found.pop("rows"))
    for name, why in (("sad", "a folder that may not be read"), ("shut.jpg", "Permission denied")):
        assert f"{name} " in rows and why in rows, rows  # noqa: PT018 — which of both fails, the rows show
    assert "answer" in rows  # of the file that may be read
    assert "CorpusError" in found["corpus"]
    for what, said in found.items():
        assert "Error: " in said and ("may not be read" in said or "Permission denied" in said), (what, said)  # noqa: PT018
