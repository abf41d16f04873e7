"""`--no-processes`, by which `make check` is quick: tests that start other interpreters are left to `make test`.

A test starts them when it asks for a fixture that does, or says so by the mark `processes`. One that starts one without having said
so fails here, so that the mark cannot be forgotten.
"""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# how long a busy machine takes says nothing of a test
settings.register_profile("meco", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meco")

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
    """Have whoever starts an interpreter be told; libraries may run what they like (`ldconfig`, `uname`)."""
    if not request.config.getoption("--no-processes"):
        return
    start = subprocess.Popen.__init__

    def watch(self: Any, command: Any, *more: Any, **options: Any) -> None:
        if isinstance(command, list | tuple) and str(command[0]) == sys.executable:
            self.returncode, self._child_created = 0, False  # what its __del__ looks at
            pytest.fail(f"{request.node.nodeid} starts a process: mark it with pytest.mark.processes")
        start(self, command, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", watch)
