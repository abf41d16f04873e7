"""The core as a house: how many files and lines it has, which modules serve one other alone, and whether imports run in circles.

    python benchmarks/house.py                          # this checkout
    python benchmarks/house.py OTHER/src/meco_hub       # another one, for a comparison

Only text is read; nothing of the project is imported. Templates of `meco new` are left out.
"""

import ast
import statistics
import sys
from pathlib import Path

CORE = Path(__file__).parents[1] / "src" / "meco_hub"


def modules(core: Path) -> dict[str, Path]:
    """Dotted name → file, of every module of a package."""
    found = {}
    for path in sorted(core.rglob("*.py")):
        parts = [core.name, *path.relative_to(core).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, known: dict[str, Path]) -> set[str]:
    """The known modules that a file imports anywhere, inside functions too; not those that only a type checker imports."""
    package = module.split(".") if known[module].name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                source = ".".join([*base, *([child.module] if child.module else [])])
                names = {f"{source}.{alias.name}" for alias in child.names}
                found.update(names & set(known) or {source} & set(known))
            elif isinstance(child, ast.Import):
                found.update({alias.name for alias in child.names} & set(known))
            visit(child)

    visit(ast.parse(known[module].read_text(encoding="utf-8")))
    return found - {module}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: Tarjan's strongly connected components of more than one."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def _longest_function(core: Path) -> tuple[int, str]:
    found = [(0, "")]
    for path in core.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append((length, f"{path.relative_to(core)}:{node.name}"))
    return max(found)


def main(core: Path = CORE) -> None:
    """Print the figures."""
    known = modules(core)
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in known.values()]
    graph = {module: imports(module, known) for module in known}
    importers = {module: sum(module in others for others in graph.values()) for module in known}
    length, where = _longest_function(core)
    print(f"files                      {len(known)}")
    print(f"lines                      {sum(lengths)}, median {statistics.median(lengths):g}, longest {max(lengths)}")
    print(f"modules with one importer  {sum(count == 1 for count in importers.values())}")
    for group in circles(graph):
        print(f"circle                     {', '.join(group)}")
    print(f"circles                    {len(circles(graph))}")
    print(f"longest function           {length} lines, {where}")


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
