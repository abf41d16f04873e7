"""What all core tests share: fresh interpreters, and distributions planted beside the installed ones."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a fresh interpreter: `run_python(code, path=[…])`; `path` goes in front of its import path."""

    def run(code: str, *, path: tuple[Path, ...] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")]),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hf"),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """Plant an installed distribution: `plant("name", {"module.py": code}, {"group": {"entry": "module:object"}})`."""

    def write(name: str, files: Mapping[str, str], entries: Mapping[str, Mapping[str, str]]) -> Path:
        site = tmp_path / f"site-{name}"
        information = site / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for group, members in entries.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in members.items()), ""]
        (information / "entry_points.txt").write_text("\n".join(lines))
        for relative, code in files.items():
            target = site / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(code)
        return site

    return write
