"""`meco list`: what the installed plugins offer, as data.

This file knows how to read plugins; `commands/list.py` prints what it returns.
"""

import json
from typing import Any

from . import plugins


def inventory() -> dict[str, list[dict[str, Any]]]:
    """Architectures, checkpoints, corpora and recipes, each a list of flat records; broken plugins are listed too."""
    known = plugins.architectures()
    architectures = [
        {"name": name, "kind": entry.kind, "distribution": known.distributions[name], "description": entry.description}
        for name, entry in known.healthy.items()
    ]
    checkpoints = []
    for name, folder in plugins.checkpoints().items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        labels = [label for _, label in sorted(config["id2label"].items(), key=lambda item: int(item[0]))]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        checkpoints.append(
            {
                "name": name,
                "model_type": config["model_type"],
                "megabytes": round(size / 1e6, 1),
                "labels": ", ".join(labels),
                "folder": str(folder),
            }
        )
    corpora = [
        {"name": name, "kind": entry.kind, "description": entry.description}
        for name, entry in plugins.corpora().healthy.items()
    ]
    recipes = [
        {"name": f"{name}/{path.stem}"}
        for name, entry in known.healthy.items()
        if entry.recipes is not None
        for path in sorted(plugins.resource_folder(entry.recipes).glob("*.yaml"))
    ]
    broken = [
        {"name": plugin.name, "distribution": plugin.distribution, "reason": plugin.reason}
        for group in (known, plugins.corpora())
        for plugin in group.broken
    ]
    return {
        "architectures": architectures,
        "checkpoints": checkpoints,
        "corpora": corpora,
        "recipes": recipes,
        "broken": broken,
    }
