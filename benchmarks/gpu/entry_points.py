"""Metadata of source trees that cannot be built where they are: python entry_points.py SITE pyproject.toml…

Plugins and corpora are found by their entry points, which importlib.metadata reads from a `.dist-info` folder. This writes one for
each project, with name, version and entry points, and nothing else.
"""

import sys
import tomllib
from pathlib import Path


def main(site: Path, projects: list[Path]) -> None:
    for file in projects:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        name, version = project["name"], project.get("version", "0")
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        lines = []
        for group, entries in project.get("entry-points", {}).items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
        (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]])
