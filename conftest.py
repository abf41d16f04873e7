"""`--no-processes`, by which `make check` is quick: tests that start other processes are left to `make test`.

A test starts processes when it asks for a fixture that does, or says so by the mark `processes`. One that starts one without having
said so fails here, so that the mark cannot be forgotten.
"""

import subprocess
from typing import Any

import pytest

_FIXTURES = {"run_python", "training_server", "surroundings"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-processes", action="store_true", help="leave out tests that start other processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--no-processes"):
        return
    starting = [
        item
        for item in items
        if _FIXTURES & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("processes")
    ]
    config.hook.pytest_deselected(items=starting)
    items[:] = [item for item in items if item not in set(starting)]


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whoever starts a process be told."""
    if not request.config.getoption("--no-processes"):
        return

    def refuse(self: Any, command: Any, *_: Any, **__: Any) -> None:
        self.returncode, self._child_created = 0, False  # what its __del__ looks at
        pytest.fail(f"{request.node.nodeid} starts a process ({command!r:.80}): mark it with pytest.mark.processes")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
