"""The fuzzer: that it sees what it is for, and that a short run finds nothing."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from meco_hub.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture
def fuzzer() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_it_tells_errors_of_ours_from_others(
    fuzzer: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    valid = bytes(range(64))

    def read(path: Path) -> Any:
        content = path.read_bytes()
        if content == valid:
            return "whole"
        if len(content) < 20:
            raise InputError("too short")
        if len(content) < 40:
            raise ZeroDivisionError
        if len(content) < 45:
            raise InputError("x") from MemoryError()
        if len(content) == 63:
            time.sleep(60)
        return content

    monkeypatch.setattr(fuzzer, "HANG_S", 0.2)
    form = fuzzer.Format("a.bin", lambda path: path.write_bytes(valid), read)
    monkeypatch.setattr(fuzzer, "formats", lambda _: {"odd": form})
    table, findings = fuzzer.fuzz(60.0, 60)
    counts = table["odd"]
    assert counts["tried"] == 60 == sum(counts[column] for column in fuzzer.COLUMNS[1:])
    assert min(counts[column] for column in ("refused", "changed", "silent", "foreign", "hangs")) > 0
    assert any("ZeroDivisionError" in one for one in findings)
    assert any("memory" in one for one in findings)
    assert any("hang" in one for one in findings)
    assert "ZeroDivisionError" in capfd.readouterr().out


@pytest.mark.timeout(1800)
def test_damaged_files_of_every_format(fuzzer: ModuleType) -> None:
    table, findings = fuzzer.fuzz(seconds=900.0, inputs=150)
    assert not findings
    assert len(table) > 45
    assert min(counts["tried"] for counts in table.values()) > 0
    assert sum(counts["refused"] for counts in table.values()) > sum(counts["tried"] for counts in table.values()) / 4
