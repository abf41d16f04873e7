"""What the five wheels hold, and what their metadata say; `make dist` installs them and answers with them."""

import re
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import meco_hub
from meco_hub.errors import _EXTRAS

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (REPOSITORY / "plugins").glob("*/pyproject.toml"))
PROJECTS = [REPOSITORY, *PLUGINS]


def _project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module", params=PROJECTS, ids=lambda folder: _project(folder)["name"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, zipfile.ZipFile]:
    """A project and its wheel, built from this tree."""
    target = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(request.param)).build(directory=str(target), versions=["standard"])
    return request.param, zipfile.ZipFile(built)


def _metadata(file: zipfile.ZipFile) -> Message:
    (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_string(file.read(name).decode("utf-8"))


def test_a_wheel_holds_its_licence_and_says_that_it_is_typed(wheel: tuple[Path, zipfile.ZipFile]) -> None:
    _, file = wheel
    (licence,) = (name for name in file.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert file.read(licence) == (REPOSITORY / "LICENSE").read_bytes()
    packages = {name.partition("/")[0] for name in file.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    assert len(packages) == 1
    assert f"{packages.pop()}/py.typed" in file.namelist()


def test_a_wheel_holds_all_files_of_its_package(wheel: tuple[Path, zipfile.ZipFile]) -> None:
    folder, file = wheel
    (package,) = (path.parent for path in (folder / "src").glob("*/__init__.py"))
    files = {
        path.relative_to(folder / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(file.namelist())
    if folder == REPOSITORY:
        assert any("/scaffold/templates/" in name for name in files)
        return
    patterns = [r"/recipes/[\w/]+\.yaml", r"/card\.md"]
    if (package / "checkpoints").is_dir():
        patterns.append(r"/checkpoints/[\w-]+/model\.safetensors")
    for pattern in patterns:
        assert any(re.search(pattern + "$", name) for name in files), pattern


def test_the_metadata_are_whole(wheel: tuple[Path, zipfile.ZipFile]) -> None:
    folder, file = wheel
    said = _metadata(file)
    assert said["Version"] == meco_hub.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert said.get_all("Project-URL")
    for minor in (11, 12, 13, 14):
        assert f"Programming Language :: Python :: 3.{minor}" in said.get_all("Classifier", [])
    # its README is its page on the index, where a path inside this repository leads nowhere
    assert "# meco" in said.get_payload()
    assert not re.findall(r"\]\((?!https?://)[^)]*\)", said.get_payload())
    if folder != REPOSITORY:
        (core,) = (line for line in said.get_all("Requires-Dist", []) if line.startswith("meco-hub"))
        assert re.fullmatch(r"meco-hub(\[\w+\])?>=[\d.]+", core), "a range of cores is no plugin's business"


def test_every_extra_that_an_error_names_brings_the_package() -> None:
    extras = _project(REPOSITORY)["optional-dependencies"]
    distributions = {"sklearn": "scikit-learn", "yaml": "pyyaml", "markdown_it": "markdown-it-py"}
    core = " ".join(_project(REPOSITORY)["dependencies"])
    for package, extra in _EXTRAS.items():
        name = distributions.get(package, package)
        assert any(re.split(r"[<>=\[]", line)[0] == name for line in extras[extra]), f"{extra} lacks {name}"
        assert not re.search(rf"(^|\s){name}\b", core)


def test_the_citation_is_of_this_version() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {meco_hub.__version__}\n" in text
    for folder in PLUGINS:
        assert _project(folder)["name"] in text


def test_the_oldest_that_is_tested_is_the_oldest_that_is_asked_for() -> None:
    ours = _project(REPOSITORY)
    asked = {one for part in (ours["dependencies"], *ours["optional-dependencies"].values()) for one in part}
    lines = (REPOSITORY / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.removesuffix(".*").split("==") for line in lines if not line.startswith("#"))
    del pinned["torchvision"]  # nobody asks for it; this is the one of that torch
    assert len(pinned) == 6
    for name, version in pinned.items():
        assert {one for one in asked if re.match(rf"{name}\b(?!-)", one)} == {f"{name}>={version}"}
