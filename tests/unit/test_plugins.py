"""Discovery: healthy, broken and contested plugins, each planted as an installed distribution."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import meco_hub
from meco_hub import plugins
from meco_hub.errors import PluginError, UnknownNameError

GROUP = "meco_hub.architectures"

Run = Callable[..., subprocess.CompletedProcess[str]]
Plant = Callable[..., Path]

SOUND = """
from meco_hub.plugins import Architecture
architecture = Architecture(model_type={name!r}, kind="face", config="{module}:C", base_model="{module}:M", head="{module}:H")
"""


def sound(name: str, module: str) -> str:
    return SOUND.format(name=name, module=module)


REPORT = """
import json, meco_hub
from meco_hub import plugins
found = plugins.architectures()
print(json.dumps({"healthy": sorted(found.healthy), "broken": [vars(b) for b in found.broken]}))
"""


def test_a_planted_plugin_is_found(run_python: Run, plant: Plant) -> None:
    site = plant("meco-toy", {"toy.py": sound("meco_toy", "toy")}, {GROUP: {"meco_toy": "toy:architecture"}})
    assert "meco_toy" in json.loads(run_python(REPORT, path=(site,)).stdout)["healthy"]


@pytest.mark.parametrize(
    ("files", "target", "reason"),
    [
        ({"toy.py": "raise RuntimeError('no luck')"}, "toy:architecture", "RuntimeError: no luck"),
        ({"toy.py": "raise SystemExit(3)"}, "toy:architecture", "SystemExit: 3"),
        ({}, "toy:architecture", "ModuleNotFoundError"),
        ({"toy.py": ""}, "toy:architecture", "AttributeError"),
        ({"toy.py": "architecture = 3"}, "toy:architecture", "points to int"),
        ({"toy.py": sound("meco_other", "toy")}, "toy:architecture", "make them equal"),
        ({"toy.py": sound("meco_toy", "toy")}, "toy", "points to module"),
        ({"toy.py": sound("meco_toy", "toy")}, "no entry point at all!", "AttributeError"),
        (
            {"toy.py": sound("meco_toy", "toy").replace("kind=", 'recipes="nowhere:recipes", kind=')},
            "toy:architecture",
            "nowhere",
        ),
    ],
)
def test_a_broken_plugin_is_kept_as_data_and_warned_about(
    run_python: Run, plant: Plant, files: dict[str, str], target: str, reason: str
) -> None:
    site = plant("meco-toy", files, {GROUP: {"meco_toy": target}})
    done = run_python(REPORT, path=(site,))
    found = json.loads(done.stdout)
    (broken,) = found["broken"]
    assert "meco_toy" not in found["healthy"]
    assert (broken["name"], broken["distribution"]) == ("meco_toy", "meco-toy")
    assert reason in broken["reason"]
    assert done.stderr.count("'meco_toy' of meco-toy is left out") == 1


def test_a_model_type_without_our_prefix_is_refused(run_python: Run, plant: Plant) -> None:
    site = plant("toy", {"toy.py": sound("toy", "toy")}, {GROUP: {"toy": "toy:architecture"}})
    (broken,) = json.loads(run_python(REPORT, path=(site,)).stdout)["broken"]
    assert "meco_" in broken["reason"]


def test_two_claims_to_one_name_are_both_refused(run_python: Run, plant: Plant) -> None:
    first = plant("meco-one", {"one.py": sound("meco_toy", "one")}, {GROUP: {"meco_toy": "one:architecture"}})
    second = plant("meco-two", {"two.py": sound("meco_toy", "two")}, {GROUP: {"meco_toy": "two:architecture"}})
    found = json.loads(run_python(REPORT, path=(first, second)).stdout)
    assert "meco_toy" not in found["healthy"]
    assert [broken["distribution"] for broken in found["broken"]] == ["meco-one", "meco-two"]
    assert all("meco-one and meco-two" in broken["reason"] for broken in found["broken"])


def requiring(site: Path, *lines: str) -> Path:
    """The planted distribution, with requirements in its metadata."""
    (metadata,) = site.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + "".join(f"Requires-Dist: {line}\n" for line in lines))
    return site


@pytest.mark.parametrize("written_for", [0, plugins.API_VERSION + 1])
def test_a_plugin_of_another_contract_is_refused_before_its_classes(
    run_python: Run, plant: Plant, written_for: int
) -> None:
    declared = sound("meco_toy", "toy_classes").replace("kind=", f"api_version={written_for}, kind=")
    files = {"toy.py": declared, "toy_classes.py": "print('READ')"}
    site = plant("meco-toy", files, {GROUP: {"meco_toy": "toy:architecture"}})
    done = run_python(REPORT + "from transformers import AutoModel", path=(site,))
    assert "READ" not in done.stdout
    found = json.loads(done.stdout)
    (broken,) = found["broken"]
    assert "meco_toy" not in found["healthy"]
    assert broken["reason"] == (
        f"it was written for version {written_for} of the plugin contract, and meco-hub {meco_hub.__version__} serves version "
        f"{plugins.API_VERSION}"
    )
    assert broken["fix"].startswith("pip install --upgrade meco-hub meco-toy")
    assert broken["fix"] in done.stderr


@pytest.mark.parametrize("requirement", ["meco-hub>=99", "meco_hub<0.0.1", "meco-hub>=0.1.0,<0.2"])
def test_which_cores_a_plugin_requires_is_pips_business(run_python: Run, plant: Plant, requirement: str) -> None:
    site = plant("meco-toy", {"toy.py": sound("meco_toy", "toy")}, {GROUP: {"meco_toy": "toy:architecture"}})
    (metadata,) = site.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text() + f"Requires-Dist: {requirement}\n")
    done = run_python(REPORT, path=(site,))
    assert "meco_toy" in json.loads(done.stdout)["healthy"]
    assert done.stderr == ""


LATE = """
import json, sys
from transformers import AutoConfig
try:
    import toy
finally:
    from meco_hub import plugins
    found = plugins.architectures()
    print(json.dumps({"healthy": sorted(found.healthy), "broken": [b.reason for b in found.broken], "left": found.awaited}))
"""


@pytest.mark.parametrize("written_for", [plugins.API_VERSION, plugins.API_VERSION + 1])
def test_a_plugin_whose_import_is_what_imports_us_is_read_when_it_declares_itself(
    run_python: Run, plant: Plant, written_for: int
) -> None:
    declared = sound("meco_toy", "toy_classes").replace("kind=", f"api_version={written_for}, kind=")
    site = plant("meco-toy", {"toy.py": declared}, {GROUP: {"meco_toy": "toy:architecture"}})
    found = json.loads(run_python(LATE, path=(site,)).stdout.splitlines()[-1])
    served = written_for == plugins.API_VERSION
    assert ("meco_toy" in found["healthy"]) == served
    assert [f"version {written_for}" in reason for reason in found["broken"]] == ([] if served else [True])
    assert found["left"] == {}


HEAVY = """
import json, sys
{first}
from meco_hub import plugins
found = plugins.architectures()
print(json.dumps({{"heavy": found.heavy, "healthy": sorted(found.healthy)}}))
"""


@pytest.mark.parametrize(
    ("code", "first", "heavy"),
    [
        pytest.param("import fake_torch_user, torch", "", ["torch"], id="first to import torch"),
        pytest.param("from torch import nn", "import torch", ["torch"], id="torch is there already"),
        pytest.param("from .parts import Part", "import torch", ["torch"], id="in a module that it imports"),
        pytest.param("def late():\n    import torch", "import torch", None, id="inside a function"),
    ],
)
def test_a_plugin_that_imports_torch_when_read_works_and_is_said(
    run_python: Run, plant: Plant, code: str, first: str, heavy: list[str] | None
) -> None:
    files = {
        "torch/__init__.py": "class nn: pass",  # stands for the real one, which takes seconds
        "fake_torch_user.py": "",
        "toy/__init__.py": code + "\n" + sound("meco_toy", "toy"),
        "toy/parts.py": "import torch\nclass Part: pass",
    }
    site = plant("meco-toy", files, {GROUP: {"meco_toy": "toy:architecture"}})
    done = run_python(HEAVY.format(first=first), path=(site,))
    found = json.loads(done.stdout)
    assert "meco_toy" in found["healthy"]
    assert found["heavy"].get("meco_toy") == heavy
    assert ("'meco_toy' of meco-toy imports torch" in done.stderr) == (heavy is not None)


def test_a_plugin_that_hangs_is_named_while_it_hangs(run_python: Run, plant: Plant) -> None:
    # it does not end its sleep before somebody has said its name
    code = f"""
import logging, threading
said = threading.Event()
class Listener(logging.Handler):
    def emit(self, record):
        if "still being imported" in record.getMessage():
            said.set()
logging.getLogger("meco_hub").addHandler(Listener())
assert said.wait(60), "nobody named it"
{sound("meco_toy", "toy")}
"""
    site = plant("meco-toy", {"toy.py": code}, {GROUP: {"meco_toy": "toy:architecture"}})
    program = "import logging; logging.basicConfig()\nfrom meco_hub import plugins; plugins.PATIENCE_S = 0.2" + REPORT
    done = run_python(program, path=(site,))
    assert "meco_toy" in json.loads(done.stdout)["healthy"]
    assert done.stderr.count("plugin 'meco_toy' of meco-toy is still being imported after 0.2 s") == 1
    assert "pip uninstall meco-toy" in done.stderr


def test_a_quick_plugin_is_not_complained_about(run_python: Run, plant: Plant) -> None:
    site = plant("meco-toy", {"toy.py": sound("meco_toy", "toy")}, {GROUP: {"meco_toy": "toy:architecture"}})
    assert run_python(REPORT, path=(site,)).stderr == ""


def test_an_object_that_is_no_corpus_is_refused(run_python: Run, plant: Plant) -> None:
    site = plant("meco-toy", {"toy.py": "corpus = 3"}, {"meco_hub.corpora": {"toy": "toy:corpus"}})
    done = run_python("from meco_hub import plugins\nprint(plugins.corpora().broken[0].reason)", path=(site,))
    assert done.stdout.strip() == "points to int, expected a Corpus"


def test_a_distribution_seen_twice_is_one_claim(run_python: Run, plant: Plant) -> None:
    site = plant("meco-toy", {"toy.py": sound("meco_toy", "toy")}, {GROUP: {"meco_toy": "toy:architecture"}})
    copy = site.with_name("copy")
    copy.mkdir()
    (copy / "meco_toy-1.0.dist-info").symlink_to(site / "meco_toy-1.0.dist-info")
    assert "meco_toy" in json.loads(run_python(REPORT, path=(site, copy)).stdout)["healthy"]


def test_asking_for_a_broken_plugin_says_why(run_python: Run, plant: Plant) -> None:
    site = plant("meco-toy", {"toy.py": "raise OSError('gone')"}, {GROUP: {"meco_toy": "toy:architecture"}})
    code = "from meco_hub import plugins\ntry:\n plugins.architecture('meco_toy')\nexcept plugins.PluginError as e:\n print(e)"
    assert "OSError: gone" in run_python(code, path=(site,)).stdout


def test_load_dotted_says_what_is_wrong() -> None:
    assert plugins.load_dotted("json:dumps") is json.dumps
    with pytest.raises(PluginError, match="is no dotted path"):
        plugins.load_dotted("json.dumps")
    with pytest.raises(PluginError, match="no 'nothing'"):
        plugins.load_dotted("json:nothing")


def test_an_unknown_checkpoint_offers_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "checkpoints", lambda: {"meco-toy-one": Path("x")})
    with pytest.raises(UnknownNameError, match="Did you mean 'meco-toy-one'"):
        plugins.checkpoint("meco-toy-on")
    with pytest.raises(UnknownNameError, match="Did you mean 'meco-toy-one'"):
        plugins.locate_checkpoint("meco-toi-one")


def test_locate_checkpoint_takes_folders_names_and_hub_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plugins, "checkpoints", lambda: {"meco-toy-one": tmp_path / "bundled"})
    assert plugins.locate_checkpoint(str(tmp_path)) == str(tmp_path)
    assert plugins.locate_checkpoint("meco-toy-one") == str(tmp_path / "bundled")
    assert plugins.locate_checkpoint("somebody/some-model") == "somebody/some-model"
    for name in ("./nowhere/model", "a" * 5000, "a\0b"):
        with pytest.raises(UnknownNameError):
            plugins.locate_checkpoint(name)
