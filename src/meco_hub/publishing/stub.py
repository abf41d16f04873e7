"""The stub of a pushed repository: for people who load it without importing us.

    config.json                auto_map: AutoConfig, AutoModel, AutoProcessor and native heads → meco_stub.…
    preprocessor_config.json   auto_map: AutoImageProcessor → meco_stub.…
    processor_config.json      auto_map: AutoProcessor → meco_stub.…
    meco_stub.py               imports these classes from the installed packages, or says which packages to install

transformers reads it only with `trust_remote_code=True` and only when meco_hub is not imported: where it is, its registered classes
are taken, and nobody is asked. A feature extractor has no entry of its own: transformers' pipelines would take it for a remote
image processor, and ask whether it may run; AutoProcessor gives it. The stub is written when a folder is pushed, and never when
one is saved (`installed_code.py` says why).

This file knows where transformers looks for `auto_map`; it knows no class by name.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import CheckpointError

STUB = "meco_stub.py"
_MODULE = Path(STUB).stem


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Expected what `save_pretrained` wrote.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds {type(content).__name__}; expected a mapping. Copy the folder again.")
    return content


def _doors(entry: plugins.Architecture, folder: Path) -> dict[str, dict[str, str]]:
    """File → Auto class → dotted path of the class that it shall give."""
    doors = {
        "config.json": {
            "AutoConfig": entry.config,
            "AutoModel": entry.base_model,
            **dict.fromkeys(entry.native_heads, entry.head),
        }
    }
    if entry.processor is None and (part := entry.feature_extractor or entry.image_processor):
        doors["config.json"]["AutoProcessor"] = part
    single = folder / "preprocessor_config.json"
    if single.is_file() and entry.image_processor and "feature_extractor_type" not in _read(single):
        doors[single.name] = {"AutoImageProcessor": entry.image_processor}
    if (folder / "processor_config.json").is_file() and entry.processor:
        doors["processor_config.json"] = {"AutoProcessor": entry.processor}
    return doors


def _imports(paths: set[str]) -> str:
    modules: dict[str, list[str]] = {}
    for path in sorted(paths):
        module, _, name = path.partition(":")
        modules.setdefault(module, []).append(name)
    return "\n".join(
        f"    from {module} import {', '.join(sorted(names))}  # noqa: F401" for module, names in modules.items()
    )


def write_stub(folder: Path) -> list[str]:
    """Make a folder loadable by those who have not imported us; the folder is the one that is pushed, not the one worked in.

    Args:
        folder: config, weights and processor, as `save_pretrained` left them.

    Returns:
        Names of the files written or changed; none when no healthy plugin provides the architecture.

    Raises:
        CheckpointError: a JSON file of it cannot be read.
    """
    entry = plugins.architectures().healthy.get(_read(folder / "config.json").get("model_type", ""))
    if entry is None:
        return []
    doors = _doors(entry, folder)
    for name, classes in doors.items():
        content = _read(folder / name)
        content["auto_map"] = {auto: f"{_MODULE}.{path.partition(':')[2]}" for auto, path in classes.items()}
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    template = files(str(__package__)).joinpath("templates", f"{STUB}.txt").read_text(encoding="utf-8")
    packages = f"meco-hub {plugins.architectures().distributions[entry.model_type]}"
    paths = {path for classes in doors.values() for path in classes.values()}
    stub = template.replace("@IMPORTS@", _imports(paths)).replace("@PACKAGES@", packages)
    (folder / STUB).write_text(stub, encoding="utf-8")
    return [*doors, STUB]
