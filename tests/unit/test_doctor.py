"""The doctor: every kind of finding, each planted; tests/journeys/test_command_line.py shows that a sound environment has none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from meco_hub import apart, plugins
from meco_hub import cli as command
from meco_hub import doctor as accelerator
from meco_hub import doctor as cache
from meco_hub import doctor as faces
from meco_hub import doctor as versions
from meco_hub.doctor import run_program
from meco_hub.recordings.event_files import ReadRequest, hdf5

GROUP = "meco_hub.architectures"
Run = Callable[..., subprocess.CompletedProcess[str]]
Plant = Callable[..., Path]
SOUND = """
from meco_hub.plugins import Architecture
architecture = Architecture(model_type={name!r}, kind="face", config="{module}:C", base_model="{module}:M", head="{module}:H")
"""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that these distributions, and no others, are installed, with these requirements."""

    def pretend(what: Mapping[str, str], needs: Mapping[str, list[str]]) -> None:
        monkeypatch.setattr(plugins, "installed_version", lambda name: what.get(name.lower()))
        monkeypatch.setattr(plugins, "requirements", lambda name: list(needs.get(name, [])))

    return pretend


def test_versions_outside_the_range_are_findings(installed: Callable[..., None]) -> None:
    installed(
        {"torch": "2.10.1", "transformers": "5.23.0", "h5py": "2.0"},
        {
            "meco-hub": [
                "torch>=2.11",
                "transformers>=5.17",
                "timm>=1.0",
                'h5py>=3.10; extra == "events"',
                "pytest; extra == 'test'",
            ]
        },
    )
    found, extras, findings = versions.examine_versions()
    assert found == {"torch": "2.10.1", "transformers": "5.23.0", "timm": None}
    assert extras == {"events": ["h5py>=3.10"]}
    assert [(one.subject, one.problem, one.fix) for one in findings] == [
        ("torch", "2.10.1 is installed; meco-hub needs torch>=2.11", 'pip install "torch>=2.11"'),
        ("timm", "not installed; meco-hub needs timm>=1.0", 'pip install "timm>=1.0"'),
    ]


def test_a_torchvision_built_for_another_torch_is_a_finding(installed: Callable[..., None]) -> None:
    installed(
        {"torch": "2.15.0+cpu", "torchvision": "0.28.0"},
        {"meco-hub": ["torch>=2.11"], "torchvision": ["torch==2.14.0", "pillow"]},
    )
    (finding,) = versions.examine_versions()[2]
    assert finding.problem == "2.15.0+cpu is installed; torchvision 0.28.0 needs torch==2.14.0"


def test_a_build_number_and_a_release_candidate_fit(installed: Callable[..., None]) -> None:
    installed(
        {"torch": "2.15.0+cu132", "transformers": "5.24.0rc1"}, {"meco-hub": ["torch>=2.11", "transformers>=5.17"]}
    )
    assert versions.examine_versions()[2] == []


def test_two_opencvs_are_one_too_many(installed: Callable[..., None]) -> None:
    installed(
        {"torch": "3", "opencv-python": "4.10", "opencv-contrib-python-headless": "4.12"}, {"meco-hub": ["torch"]}
    )
    (finding,) = versions.examine_versions()[2]
    assert finding.problem == "opencv-python 4.10 and opencv-contrib-python-headless 4.12 overwrite each other's files"
    assert "pip uninstall -y opencv-python opencv-contrib-python-headless && pip install" in finding.fix


def test_a_core_that_is_not_installed_is_a_finding(installed: Callable[..., None]) -> None:
    installed({}, {})
    (finding,) = versions.examine_versions()[2]
    assert "not installed" in finding.problem


def test_a_cache_that_cannot_be_made_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    report, (finding,) = cache.examine_cache()
    assert not report["writable"]
    assert f"cannot be made: {tmp_path / 'file'} is a file" in finding.problem
    assert finding.fix.startswith("export HF_HOME=")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_cache_says_what_is_left_and_whether_we_are_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "deep" / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    report, findings = cache.examine_cache()
    assert (report["writable"], report["offline"], findings) == (True, ["HF_HUB_OFFLINE"], [])
    monkeypatch.setattr(cache, "_LITTLE_GB", 1e9)
    (finding,) = cache.examine_cache()[1]
    assert (finding.level, "GB left" in finding.problem) == ("warning", True)
    assert not (tmp_path / "deep").exists()


def test_a_gpu_that_torch_cannot_use_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator.shutil, "which", lambda name: "/usr/bin/" + name)
    (finding,) = accelerator._unused_gpu({"device": "cpu", "cuda": None})
    assert "was built without CUDA" in finding.problem
    (finding,) = accelerator._unused_gpu({"device": "cpu", "cuda": "13.2"})
    assert "built for CUDA 13.2 and cannot use the driver" in finding.problem
    assert accelerator._unused_gpu({"device": "cuda", "cuda": "13.2"}) == []


def test_a_device_that_does_not_compute_is_a_finding() -> None:
    assert accelerator._try_device("cpu") == ("cpu", [])
    _, (finding,) = accelerator._try_device("nonsense")
    assert "does not compute: RuntimeError" in finding.problem
    assert "Traceback" in finding.traceback


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "state", "problem"),
    [
        ("raise ImportError('undefined symbol: _ZN2at')", "broken", "ImportError: undefined symbol: _ZN2at"),
        ("import os; os.kill(os.getpid(), 11)", "broken", "crashes the process (signal 11)"),
        ("def selective_scan_fn(*a): return a[0]", "installed", None),
    ],
)
def test_mamba_is_tried_in_a_process_of_its_own(
    code: str, state: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mamba_ssm" / "ops"
    folder.mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("")
    (folder / "selective_scan_interface.py").write_text(code)
    (tmp_path / "torch.py").write_text("class cuda:\n    is_available = staticmethod(lambda: False)")  # spares seconds
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found, findings = accelerator._try_mamba()
    assert found == state
    assert [problem in finding.problem for finding in findings if problem] == ([True] if problem else [])


def test_without_opencv_there_is_a_warning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    (finding,) = faces.examine_face_finder()
    assert (finding.level, finding.fix) == ("warning", 'pip install "meco-hub[faces]"')


@pytest.mark.processes
def test_a_trial_says_how_it_ended() -> None:
    assert run_program("import time; time.sleep(60)", (), 0.3).hangs
    assert run_program("import os; os._exit(3)", (), 60).problem == "ends the process (exit code 3)"
    raised = run_program("raise ValueError('no')", (), 60)
    assert (raised.failed, raised.problem) == (True, "ValueError: no")
    assert run_program("print('noise'); print('{}')", (), 60).failed is False
    assert run_program("print('noise')", (), 60).failed


@pytest.mark.processes
def test_nothing_of_the_folder_that_one_stands_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings of strangers come in folders, with a json.py beside them, perhaps."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "clip.h5", "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", data=[1, 2, 3])
    for name in ("json", "h5py", "numpy", "meco_hub", "sitecustomize", "encodings"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'a'); raise ImportError({name!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])  # as `python -m` has it
    assert not run_program("import json, meco_hub; print('{}')", (), 60).failed
    monkeypatch.setattr(apart, "_idle", [])
    assert sum(len(block[0]) for block in hdf5.open_hdf5(ReadRequest(Path("clip.h5"), 1000)).blocks) == 3
    assert not (tmp_path / "RAN").exists()


EXAMINE = """
import dataclasses, json
from meco_hub.doctor import examine_plugins
healthy, findings = examine_plugins({patience})
print(json.dumps([healthy, [dataclasses.asdict(one) for one in findings]]))
"""


def test_a_plugin_that_hangs_does_not_take_the_doctor_with_it(run_python: Run, plant: Plant) -> None:
    code = "import time\ntime.sleep(600)"
    site = plant("meco-hangs", {"hangs.py": code}, {GROUP: {"meco_hangs": "hangs:architecture"}})
    without_classes = "from meco_hub import doctor; doctor._examine_classes = lambda *_: (set(), [])"
    done = run_python(without_classes + EXAMINE.format(patience=3), path=(site,))
    healthy, findings = json.loads(done.stdout.splitlines()[-1])
    assert "meco_hangs" not in healthy
    (finding,) = [one for one in findings if one["subject"] == "plugin meco_hangs"]
    assert finding["problem"] == "hangs: reading hangs:architecture of meco-hangs has not come to an end after 3 s"


@pytest.mark.slow
def test_plugins_that_hang_crash_lie_or_import_torch_are_named(run_python: Run, plant: Plant) -> None:
    sites = [
        plant(f"meco-{name}", {f"{name}.py": code}, {GROUP: {f"meco_{name}": f"{name}:architecture"}})
        for name, code in {
            "hangs": "import time\ntime.sleep(600)",
            "crashes": "import os\nos._exit(7)",
            "raises": "raise RuntimeError('no luck')",
            "hollow": SOUND.format(name="meco_hollow", module="nowhere"),
            "heavy": "import transformers\n" + SOUND.format(name="meco_heavy", module="nowhere_either"),
        }.items()
    ]
    (metadata,) = sites[2].glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + "Requires-Dist: meco-hub>=99\n")
    patience = 12 * max(1.0, os.getloadavg()[0] / 4)  # one that imports transformers is slow, and does not hang
    done = run_python(EXAMINE.format(patience=patience), path=tuple(sites))
    healthy, findings = json.loads(done.stdout.splitlines()[-1])
    assert {"meco_expressnet_moe", "meco_himoe", "meco_mcoenet"} <= set(healthy)
    assert not {"meco_hangs", "meco_crashes", "meco_raises", "meco_hollow"} & set(healthy)
    of = {}
    for finding in findings:
        of.setdefault(finding["subject"], []).append(finding)
    assert of["plugin meco_hangs"][0]["problem"].startswith(
        "hangs: reading hangs:architecture of meco-hangs has not come to an end"
    )
    assert of["plugin meco_hangs"][0]["fix"].startswith("pip uninstall meco-hangs")
    assert "ends the process (exit code 7)" in of["plugin meco_crashes"][0]["problem"]
    assert "RuntimeError: no luck" in of["plugin meco_raises"][0]["problem"]
    (unfit,) = of["meco-hub"]
    assert "meco-raises 1.0 needs meco-hub>=99" in unfit["problem"]
    assert (unfit["fix"], unfit["level"]) == ('pip install "meco-hub>=99"', "warning")
    assert (
        "its classes do not import: ModuleNotFoundError: No module named 'nowhere'"
        in of["plugin meco_hollow"][0]["problem"]
    )
    assert "Traceback" in of["plugin meco_hollow"][0]["traceback"]
    heavy = [finding for finding in of["plugin meco_heavy"] if finding["level"] == "warning"]
    assert "imports transformers when its entry point is read" in heavy[0]["problem"]


@pytest.mark.slow
def test_classes_that_hang_are_named(run_python: Run, plant: Plant) -> None:
    site = plant(
        "meco-late",
        {
            "late.py": SOUND.format(name="meco_late", module="late_classes"),
            "late_classes.py": "import time\ntime.sleep(600)",
        },
        {GROUP: {"meco_late": "late:architecture"}},
    )
    patience = 12 * max(1.0, os.getloadavg()[0] / 4)  # whoever imports transformers is slow, and does not hang
    done = run_python(EXAMINE.format(patience=patience), path=(site,))
    healthy, findings = json.loads(done.stdout.splitlines()[-1])
    assert {"meco_expressnet_moe", "meco_himoe", "meco_mcoenet"} <= set(healthy)
    assert "meco_late" not in healthy
    assert [one["problem"].partition(" has not")[0] for one in findings] == ["hangs: importing its classes"]


@pytest.mark.parametrize(("level", "code"), [("error", 1), ("warning", 0), (None, 0)])
def test_the_exit_code_is_for_scripts(
    level: str | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from meco_hub import doctor

    finding = {
        "subject": "torch",
        "problem": "is old",
        "fix": "pip install torch",
        "traceback": "Traceback: x",
        "level": level,
    }
    report = {
        "python": "3.11",
        "platform": "here",
        "versions": {"torch": "1", "timm": None},
        "extras": {"events": ["h5py>=3.10"], "faces": []},
        "device": "cpu",
        "accelerator": {"device": "cpu", "name": None, "cuda": None, "mamba": "absent"},
        "plugins": {"meco_toy": "meco-toy"},
        "cache": {"folder": "/c", "free_gb": 3.0, "offline": ["HF_HUB_OFFLINE"], "writable": True, "endpoint": None},
        "findings": [finding] if level else [],
    }
    monkeypatch.setattr(doctor, "examine", lambda patience: report)
    assert command.main(["doctor", "--json", "--patience", "1"]) == code
    assert json.loads(capsys.readouterr().out) == report
    assert command.main(["doctor", "--patience", "1"]) == code
    printed = capsys.readouterr().out
    assert 'extra events: lacks h5py>=3.10: pip install "meco-hub[events]"' in printed
    assert "timm missing" in printed
    if level:
        assert "torch: is old\n      fix: pip install torch\n      Traceback: x" in printed
    else:
        assert printed.endswith("All is well.\n")
