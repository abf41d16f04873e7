"""The script that trains the published network on a GPU, all the way through with a tiny network on a CPU."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meco_hub.corpora.synthetic.faces import write_fer2013_folders

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "train_published.sh"


@pytest.mark.timeout(300)
def test_one_command_trains_and_writes_figures_and_no_weights(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer.zip", seed=3, train_per_class=24, public_per_class=3, private_per_class=0)
    finished = subprocess.run(
        [SCRIPT, "--data_dir", tmp_path / "fer.zip", "--tiny", "--output_dir", tmp_path / "out"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"figures.json", "curve.csv", "utilisation.csv", "report.json"}
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert figures["test"]["n"] == 21
    assert figures["steps"] == 24
    assert figures["pictures_per_second"] > 0
    assert figures["published_accuracy"] == 0.6466
    with (out / "curve.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert int(rows[-1]["step"]) == 24
    assert "accuracy" in finished.stdout


def test_parts_that_do_not_make_up_the_zip_are_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "benchmarks" / "gpu").mkdir(parents=True)
    (tree / "benchmarks" / "gpu" / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    parts = tree / "out" / "gpu" / "parts"
    parts.mkdir(parents=True)
    (parts / "fer2013.zip.00").write_bytes(b"half")
    (parts / "sha256").write_text("0" * 64)
    finished = subprocess.run(
        ["bash", tree / "benchmarks" / "gpu" / SCRIPT.name],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert finished.returncode == 1
    assert "do not make up the zip" in finished.stderr


def test_entry_points_are_read_from_sources_alone(tmp_path: Path) -> None:
    written = [sys.executable, ROOT / "benchmarks" / "gpu" / "entry_points.py", tmp_path]
    subprocess.run(
        [*written, ROOT / "pyproject.toml", ROOT / "plugins" / "expressnet_moe" / "pyproject.toml"], check=True
    )
    code = (
        "from importlib.metadata import distribution as d;"
        "print([e.name for e in d('meco-expressnet-moe').entry_points], 'ferplus' in [e.name for e in d('meco-hub').entry_points])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert told.stdout.strip() == "['meco_expressnet_moe'] True", told.stderr
