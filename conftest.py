"""Two ways of running the tests otherwise.

`--no-processes`, by which `make check` is quick: tests that start other interpreters are left to `make test`. A test starts them
when it asks for a fixture that does, or says so by the mark `processes`. One that starts one without having said so fails here, so
that the mark cannot be forgotten.

`--network_device cuda` computes every pass of a network of ours there, gradients too, and leaves all else on the CPU: weights and
inputs go over and outputs come back as one differentiable step, so that tests need not know of it.
"""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# how long a busy machine takes says nothing of a test; and what is drawn is the same in every run, so that a red test is of the
# change it ran on. `--hypothesis-profile random` draws anew. Hypothesis also draws numbers that it reads in the modules which are
# loaded so far; those differ from worker to worker and from run to run, so they are left out.
providers.is_local_module_file = lambda path: False
settings.register_profile("meco", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("random", settings.get_profile("meco"), derandomize=False)
settings.load_profile("meco")

_FIXTURES = {"run_python", "training_server", "surroundings"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-processes", action="store_true", help="leave out tests that start other processes")
    parser.addoption("--network_device", help="compute the passes of networks there: cuda")


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


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        for key in value:  # in place of its own kind: a ModelOutput stays one
            value[key] = _moved(value[key], device)
        return value
    return type(value)(_moved(one, device) for one in value) if isinstance(value, list | tuple) else value


@pytest.fixture(autouse=True)
def _networks_elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every head of ours compute on `--network_device`."""
    device = request.config.getoption("--network_device")
    if device is None:
        return
    from meco_hub.modeling import EmotionPreTrainedModel

    plain, inside = EmotionPreTrainedModel.__call__, []

    def call(self: Any, *inputs: Any, **named: Any) -> Any:
        # what is traced, or without values, has no pass to move
        traced = torch.jit.is_tracing() or any(isinstance(one, torch.jit.ScriptModule) for one in self.modules())
        if inside or traced or any(one.is_meta for one in self.parameters()):
            return plain(self, *inputs, **named)
        inside.append(self)
        try:
            state = {name: one.to(device) for name, one in (*self.named_parameters(), *self.named_buffers())}
            named = {name: _moved(dict(one) if isinstance(one, dict) else one, device) for name, one in named.items()}
            answer = torch.func.functional_call(self, state, _moved(inputs, device), named)
            with torch.no_grad():
                for name, own in self.named_buffers():  # statistics that the pass has brought up to date
                    if state[name] is not own:
                        own.copy_(state[name])
            return _moved(answer, "cpu")
        finally:
            inside.pop()

    monkeypatch.setattr(EmotionPreTrainedModel, "__call__", call)
