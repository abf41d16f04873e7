"""Every test below this folder is external: written by others, and run on what is ours.

`pytest tests/external --results FOLDER` also writes what became of each test; `summary.py` makes the tables of
docs/transformers_suite.md of such files.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests here share modules

collect_ignore = ["stand_ins"]

_THEIR_MARKERS = (
    "accelerate_tests flash_attn_3_test flash_attn_4_test flash_attn_test is_agent_test is_expert_parallel_test is_fsdp_test "
    "is_pipeline_test is_staging_test is_tensor_parallel_test is_training_test order torch_compile_test"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="folder for a JSON file of what became of each external test")


def pytest_configure(config: pytest.Config) -> None:
    for marker in _THEIR_MARKERS.split():
        config.addinivalue_line("markers", f"{marker}: of transformers' suite")
    folder: Path | None = config.getoption("--results")
    if folder is not None:
        config.pluginmanager.register(_Results(folder / f"transformers-{version('transformers')}.json"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the release that brought a failure: the first after the last one on which every test here had passed."""
    if config.getoption("--results") is None:
        return
    reports = (report for of_kind in terminalreporter.stats.values() for report in of_kind)
    failed = {report.nodeid for report in reports if getattr(report, "failed", False)}  # of subtests too
    now = version("transformers")
    passed = (Path(__file__).parent / "passed_releases.txt").read_text(encoding="utf-8").split()
    if not failed and now not in passed:
        terminalreporter.write_line(f"transformers {now} passes whole: add it to tests/external/passed_releases.txt")
    elif failed:
        cause = (
            "a change of ours" if now in passed else f"what came after transformers {passed[-1]}, or a change of ours"
        )
        terminalreporter.write_line(
            f"transformers {now}: {len(failed)} failed. Every test passed on {', '.join(passed)}, so {cause} brought this."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.external)
        case = getattr(item, "cls", None)
        item.user_properties += [(name, getattr(case, name)) for name in ("subject", "suite") if hasattr(case, name)]
        reason = getattr(getattr(item, "obj", None), "replaces", None)
        if reason is not None:
            item.user_properties.append(("replaces", reason))
            if not _is_asked(item):  # by this release of the suite: nothing is replaced, and nothing shall be counted
                items.remove(item)


def _is_asked(item: pytest.Item) -> bool:
    case, name = getattr(item, "cls", None), getattr(item, "originalname", item.name)
    return any(name in vars(base) for base in getattr(case, "__mro__", ()) if base.__module__.startswith("hf_suite."))


class _Results:
    """Keeps what became of each test, and writes it when all are done."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.tests: dict[str, dict[str, str]] = {}
        self.failed_in_part: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "context"):  # a subtest; the test that holds it is reported as well, and as passed
            if report.failed:
                self.failed_in_part.add(report.nodeid)
            return
        if report.when == "call" or not report.passed:
            reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
            outcome = {"outcome": report.outcome, "reason": reason.removeprefix("Skipped: ")}
            self.tests[report.nodeid] = {**dict(report.user_properties), **outcome}

    def pytest_sessionfinish(self) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for test in self.failed_in_part:
            self.tests[test]["outcome"] = "failed"
        found = {"transformers": version("transformers"), "torch": version("torch"), "tests": self.tests}
        self.target.write_text(json.dumps(found, indent=1), encoding="utf-8")
