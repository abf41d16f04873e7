"""The promises that the tree makes: what importing costs, who may import whom, and which names are public."""

import ast
import importlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meco_hub

SOURCE = Path(meco_hub.__file__).parent
REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (REPOSITORY / "plugins").glob("*/pyproject.toml"))
OURS = sorted([*SOURCE.rglob("*.py"), *(path for plugin in PLUGINS for path in (plugin / "src").rglob("*.py"))])
"""Every module that is installed."""

Run = Callable[..., subprocess.CompletedProcess[str]]

LAYERS = (
    {"errors"},
    {"discovery", "labels", "plugins", "assignments", "installed_code", "weight_files"},
    {"recordings", "outputs", "auto", "listing"},
    {"hub_files"},
    {"processing", "nn", "modeling", "configuration", "drawing"},
    {"loading"},
    {"corpora"},
    {"evaluation"},
    {"training"},
    {"answers"},
    {"pipeline", "train"},
    {"prediction"},
    {"publishing"},
    {"registration"},
    {"doctor", "scaffold", "testing"},
    {"commands"},
    {"cli", "__init__", "__main__"},
)
"""Who stands below whom; a module may import, at its head, only from its own layer or one above it in this list."""


def _layer(module: str) -> int:
    for index, members in enumerate(LAYERS):
        if module in members:
            return index
    raise AssertionError(f"meco_hub.{module} stands in no layer: give it a place in LAYERS")


def _head_imports(path: Path) -> Iterator[str]:
    """First-level modules of ours that a file imports when it is imported itself."""
    package = ["meco_hub", *path.relative_to(SOURCE).parent.parts]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        parts = [*base, *(node.module or "").split(".")] if node.module else base
        if parts[:1] != ["meco_hub"]:
            continue
        yield from [parts[1]] if len(parts) > 1 else [a.name for a in node.names if a.name != "__version__"]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for imported in _head_imports(path):
        if own == "__init__":  # it hands out names lazily, and installs the hook
            continue
        assert _layer(imported) <= _layer(own), f"{own} imports {imported}, which stands above it"


def test_the_core_names_no_architecture() -> None:
    plugins = [path.name for path in (REPOSITORY / "plugins").iterdir() if (path / "pyproject.toml").is_file()]
    assert plugins
    forbidden = {name.split("_")[0] for name in plugins} | {"expressnet", "mcoenet", "mco_e", "himoe", "hi_moe"}
    for path in SOURCE.rglob("*"):
        if path.suffix in {".py", ".md", ".yaml", ".html"}:
            text = path.read_text(encoding="utf-8").lower()
            assert not [name for name in forbidden if name in text], path


def test_public_names_are_all_there_and_no_others() -> None:
    assert sorted(meco_hub.__all__) == dir(meco_hub)
    for name in meco_hub.__all__:
        assert getattr(meco_hub, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = meco_hub.nothing


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


def test_every_module_says_what_it_knows() -> None:
    for path in OURS:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert re.search("This (file|package) knows", text.split("\n\n")[-1]), (
            f"{path}: finish with 'This file knows …'"
        )


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
        if path.name == "__main__.py" or inside in ("cli.py", "train.py") or inside.startswith("commands/"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        prints = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not prints, f"{path} prints in line {prints}: log, or return what is to be said"


LINES, LONGER = 330, {"loop.py": 400, "pipeline.py": 400}
"""Lines that are not blank: about 300 of them. The longer two are read from top to bottom, as models are."""


def test_no_module_is_too_long_to_be_read() -> None:
    for path in OURS:
        if path.name.startswith("modeling_"):  # as long as its architecture needs
            continue
        lines = sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        limit = LONGER.get(path.name, LINES)
        assert lines <= limit, (
            f"{path} has {lines} lines that are not blank; expected {limit} at most. Cut it where it folds"
        )
    for name in LONGER:
        lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in OURS if path.name == name]
        assert max(lengths) > LINES, f"{name} is short again: take it out of LONGER"


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
