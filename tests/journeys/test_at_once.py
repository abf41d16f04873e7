"""Of several that write into one folder at the same moment one wins; the others say so in a line, and leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.evaluation.report_file import read_report
from meco_hub.exported import is_exported
from meco_hub.loading import load_processor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes"),
]


def _at_once(commands: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """(exit code, what was written to stderr) of each."""
    folder.mkdir()
    program = Path(__file__).with_name("at_once.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(code, (folder / f"{number}.err").read_text()) for number, code in enumerate(json.loads(done.stdout))]


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_one_wins_and_the_others_are_refused(command: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if command == "evaluate":
        write_image_folder(tmp_path / "data", people=2, labels=("happiness", "neutral"), takes=1, seed=0)
        words = ["evaluate", str(tiny_checkpoint), "--dataset", "image_folder", "--data_dir", str(tmp_path / "data")]
        words += ["--output_dir", str(out)]
    else:
        pytest.importorskip("onnxruntime", reason='the extra "onnx" is not installed')
        words = ["export", str(tiny_checkpoint), str(out)]
    told = _at_once([words] * 3, tmp_path / "said")
    assert sorted(code for code, _ in told) == [0, 1, 1], told
    for code, said in told:
        assert "Traceback" not in said
        if code:
            (line,) = [one for one in said.splitlines() if str(out) in one]
            assert "exists" in line
    if command == "evaluate":
        assert {"report.json", "predictions.csv", "predictions.parquet"} == {one.name for one in out.iterdir()}
        assert read_report(out / "report.json")["metrics"]["n"] == 4
    else:
        assert is_exported(out)
        load_processor(str(out))
    assert {one.name for one in tmp_path.iterdir()} <= {"out", "said", "data"}  # nothing of the losers, under no name
