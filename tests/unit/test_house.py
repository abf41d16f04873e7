"""The promises that the tree makes: what importing costs, who may import whom, and which names are public."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meco_hub

SOURCE = Path(meco_hub.__file__).parent
REPOSITORY = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]

LAYERS = (
    {"errors"},
    {"labels", "plugins", "assignments"},
    {"recordings", "outputs", "auto", "listing"},
    {"processing", "nn", "modeling", "drawing"},
    {"loading"},
    {"corpora"},
    {"evaluation"},
    {"training"},
    {"answers"},
    {"pipeline", "train"},
    {"prediction"},
    {"registration"},
    {"doctor"},
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
    for path in [*SOURCE.rglob("*.py"), *(REPOSITORY / "plugins").rglob("src/**/*.py")]:
        if path.name.startswith(("configuration_", "modeling")):
            assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), path


def test_every_module_says_what_it_knows() -> None:
    for path in [*SOURCE.rglob("*.py"), *(REPOSITORY / "plugins").rglob("src/**/*.py")]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert re.search("This (file|package) knows", text.split("\n\n")[-1]), (
            f"{path}: finish with 'This file knows …'"
        )
