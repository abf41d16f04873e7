"""What all core tests share: fresh interpreters, distributions planted beside the installed ones, and a Hub to push to."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where loopback_hub and tiny_networks stand

if TYPE_CHECKING:
    from loopback_hub.server import LoopbackHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Iterator[LoopbackHub]":
    """A Hub of our own that this process pushes to, logged in with the right to write, and never waiting between attempts."""
    import time

    from huggingface_hub import constants

    from loopback_hub.server import WRITER, LoopbackHub

    with LoopbackHub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)  # made of it when it was imported
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", WRITER)
        monkeypatch.setattr(time, "sleep", server.pauses.append)
        yield server


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
