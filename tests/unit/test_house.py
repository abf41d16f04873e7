"""The promises that the tree makes: what importing costs, that imports go one way, and which names are public."""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import meco_hub

SOURCE = Path(meco_hub.__file__).parent
REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (REPOSITORY / "plugins").glob("*/pyproject.toml"))
OURS = sorted([*SOURCE.rglob("*.py"), *(path for plugin in PLUGINS for path in (plugin / "src").rglob("*.py"))])
"""Every module that is installed."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def _house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", REPOSITORY / "benchmarks" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_modules_import_each_other() -> None:
    house = _house()
    known = house.modules(SOURCE)
    graph = {module: house.imports(module, known) for module in known}
    assert sum(len(others) for others in graph.values()) > 2 * len(known)  # it does see imports
    assert house.circles(graph) == []


def test_a_circle_is_seen() -> None:
    assert _house().circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_the_core_names_no_architecture() -> None:
    declared = [tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"] for plugin in PLUGINS]
    types = [name for one in declared for name in one["entry-points"]["meco_hub.architectures"]]
    assert len(types) > len(PLUGINS) > 3
    forbidden = {name.removeprefix("meco_").split("_")[0] for name in types} | {"mco_e", "hi_moe"}
    assert {"expressnet", "mcoenet", "himoe", "gru", "eegnet"} <= forbidden
    for path in SOURCE.rglob("*"):
        if path.suffix in {".py", ".md", ".yaml", ".html"}:
            text = path.read_text(encoding="utf-8").lower()
            # at the beginning of a word: TrainingRun names nobody
            assert not [name for name in forbidden if re.search(rf"(?<![a-z]){name}", text)], path


def test_public_names_are_all_there_and_no_others() -> None:
    assert sorted(meco_hub.__all__) == dir(meco_hub)
    assert set(meco_hub.__all__) == {*meco_hub._HOMES, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = meco_hub.nothing


@pytest.mark.parametrize("name", sorted(meco_hub._HOMES))
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(meco_hub, name)
    assert value.__module__.startswith("meco_hub."), f"{name} comes from {value.__module__}"
    text = inspect.getdoc(value) or ""
    assert len(text.split()) >= 8, f"{name} says only {text!r}"
    page = (REPOSITORY / "docs" / "public_api.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page


def test_type_checkers_see_every_public_name() -> None:
    (branch,) = (
        node
        for node in ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    seen = {
        alias.name: node.module
        for node in branch.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert seen == meco_hub._HOMES


def test_a_name_that_leaves_warns_for_two_minor_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(meco_hub._LEAVING, "index_map", ("labels", "0.9", "meco_hub.LabelSpace"))
    for _ in range(2):  # at every use, not only the first
        with pytest.warns(
            FutureWarning, match=r"meco_hub\.index_map leaves in version 0\.11\. Use meco_hub\.LabelSpace"
        ) as seen:
            found = meco_hub.index_map
        assert seen[0].filename == __file__
    assert found(["happy"], ["happiness"]) == [0]
    assert "index_map" not in dir(meco_hub)


def test_names_that_have_left_are_gone() -> None:
    now = tuple(int(part) for part in meco_hub.__version__.split(".")[:2])
    for name, (_, since, _) in meco_hub._LEAVING.items():
        major, minor = (int(part) for part in since.split("."))
        assert now < (major, minor + 2), f"{name} has warned since {since}: remove it"
        assert name not in meco_hub.__all__


def test_importing_loads_neither_torch_nor_transformers(run_python: Run) -> None:
    code = """
import sys, meco_hub
from meco_hub import plugins
plugins.architectures(); plugins.corpora(); plugins.checkpoints()
print([m for m in ("torch", "transformers", "datasets", "timm", "pandas", "cv2") if m in sys.modules])
"""
    assert run_python(code).stdout.strip() == "[]"


def test_no_postponed_annotations_in_configurations_and_models() -> None:
    # @strict validates nothing, and config_class becomes a string, where annotations are postponed
    for path in OURS:
        if path.name.startswith(("configuration_", "modeling")):
            assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), path


def _defined_here(tree: ast.Module) -> set[str]:
    """Public names that a module defines itself."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


PACKAGES = [path for path in OURS if path.name == "__init__.py" and path.parent != SOURCE]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_every_package_lists_its_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    listed = set(lists[0]) if lists else set()
    hidden = _defined_here(tree) - listed
    assert not hidden, f"{path}: add {sorted(hidden)} to __all__, or put an underscore before them"
    parts = path.parent.relative_to(SOURCE.parent if path.is_relative_to(SOURCE) else _source_of(path)).parts
    package = importlib.import_module(".".join(parts))
    for name in listed:
        assert getattr(package, name, None) is not None, f"{path}: __all__ lists {name}, which is not there"


def _source_of(path: Path) -> Path:
    return next(plugin / "src" for plugin in PLUGINS if path.is_relative_to(plugin))


def test_a_plugin_is_declared_without_torch(run_python: Run) -> None:
    for plugin in PLUGINS:
        (package,) = (path.name for path in (plugin / "src").iterdir() if path.name.startswith("meco_"))
        code = (
            f"import sys, {package}; print([m for m in ('torch', 'transformers', 'numpy', 'timm') if m in sys.modules])"
        )
        assert run_python(code).stdout.strip() == "[]", f"{package}/__init__.py imports what takes seconds"


def test_only_what_people_start_prints() -> None:
    for path in OURS:
        inside = path.relative_to(SOURCE).as_posix() if path.is_relative_to(SOURCE) else ""
        if path.name == "__main__.py" or inside in ("cli.py", "train.py"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        prints = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not prints, f"{path} prints in line {prints}: log, or return what is to be said"


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    machine = re.compile(
        "|".join(("/" + "root/", "/" + "work/", "/" + "opt/mv", r"/" + r"home/\w", "/" + "tmp/build", r"C:\\Users"))
    )
    folders = ("src", "plugins", "tests", "examples", "benchmarks", "docs", "model_cards", ".ci")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    files += [path for path in REPOSITORY.iterdir() if path.is_file()]
    endings = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".txt", ".cff", ".tmpl", ".inc", ".html", ""}
    for path in files:
        if path.suffix in endings and "__pycache__" not in path.parts:
            found = machine.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{path} names {found and found.group()}"


def test_no_process_imports_from_the_folder_that_one_stands_in() -> None:
    """Recordings come in folders of strangers, who may have put a json.py beside them."""
    found = 0
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                found += 1
                assert ast.unparse(node.elts[1]) == "'-P'", f"{path}:{node.lineno} starts Python without -P"
    assert found >= 3


def test_files_of_others_are_parsed_behind_the_one_net() -> None:
    """`json.loads(file.read_text())` knows neither a nest of 3,000 brackets nor a pipe nor a gigabyte; `read_json` does."""
    known = {"exporting.py": 1, "plugins.py": 1, "checkpoints.py": 1, "checks_plugin.py": 1}  # ours, or in `reading(…)`
    found: dict[str, int] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
                "json.loads",
                "yaml.safe_load",
                "yaml.load",
            ):
                continue
            if node.args and re.search(r"\.read(_text|_bytes)?\(", ast.unparse(node.args[0])):
                found[path.name] = found.get(path.name, 0) + 1
    assert found == known
