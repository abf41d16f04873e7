"""The script of everything that wants a GPU, some of its way on a CPU; the published network's training with a tiny one."""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from meco_hub.corpora.synthetic.faces import write_fer2013_folders

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run.sh"


def test_one_command_trains_and_writes_figures_and_no_weights(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer.zip", seed=3, train_per_class=24, public_per_class=3, private_per_class=0)
    words = "--device cpu --limit --only environment scan fer2013"
    finished = subprocess.run(
        [SCRIPT, *words.split(), "--data_dir", tmp_path / "fer.zip", "--output_dir", tmp_path / "out"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    out = tmp_path / "out"
    trained = {"figures.json", "curve.csv", "utilisation.csv", "report.json"}
    assert {path.name for path in out.iterdir()} == {*trained, "results.json", "results.md"}
    results = {one["step"]: one for one in json.loads((out / "results.json").read_text(encoding="utf-8"))}
    assert list(results) == ["environment", "scan", "fer2013"]
    assert "torch" in results["environment"]["rows"][0]
    assert results["scan"]["rows"][-1]["ours ms"] > 0
    assert results["fer2013"]["rows"][0]["n"] == 21
    assert "| scan | selective scan (1, 8, 16, 50), forward | ours ms |" in (out / "results.md").read_text(
        encoding="utf-8"
    )
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert figures["test"]["n"] == 21
    assert figures["steps"] == 24
    assert figures["pictures_per_second"] > 0
    assert figures["published_accuracy"] == 0.6466
    with (out / "curve.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert int(rows[-1]["step"]) == 24


def test_a_step_that_takes_too_long_keeps_what_it_measured(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("measure", SCRIPT.with_name("measure.py"))
    assert spec is not None
    assert spec.loader is not None
    measure = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = measure  # where its dataclass looks
    spec.loader.exec_module(measure)
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import json, pathlib, sys, time\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--output_dir') + 1])\n"
        "(out / 'rows.jsonl').write_text(json.dumps({'what': 'first', 'ms': 1}) + '\\n')\n"
        "time.sleep(600)\n"
    )
    measure.HERE = slow
    arguments = argparse.Namespace(output_dir=tmp_path, device="cpu", limit=True, data_dir=None)
    result = measure.run_step("scan", arguments, 3.0)
    assert result["rows"] == [{"what": "first", "ms": 1}]
    assert result["error"] == "stopped after 3 s"
    assert "failed: stopped after 3 s" in measure.to_markdown([result])
    slow.write_text("raise SystemExit('no such kernel | at all')")
    result = measure.run_step("scan", arguments, 60.0)
    assert (result["rows"], result["exit"]) == ([], 1)
    assert "no such kernel \\| at all" in measure.to_markdown([result])


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
