"""`meco new`: a plugin of one's own, written from templates; it installs, trains on synthetic data and passes the conformance kit.

    folder = write_plugin("my-model", "face")            # ./meco-my-model, a distribution of that name

The templates are the files of a plugin as they lie in `templates/`: those below `shared` go into every plugin, those below the kind
beside them. `{{word}}` is filled in, PACKAGE and MODULE in paths likewise; `.inc` files are parts that several templates share.

This package knows what stands in a new plugin; it knows no plugin that exists.
"""

import re
from pathlib import Path

from ..errors import ConfigurationError, PluginError
from .kinds import KINDS
from .names import PluginNames

__all__ = ["KINDS", "PluginNames", "write_plugin"]

_TEMPLATES = Path(__file__).parent / "templates"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def write_plugin(name: str, kind: str, output: str | Path | None = None) -> Path:
    """Write a plugin.

    Args:
        name: what the model shall be called, in small letters, digits and hyphens: "my-model".
        kind: what it looks at: "face", "eye" or "signals".
        output: folder that is new or empty; default: named after the distribution, here.

    Returns:
        The folder.

    Raises:
        ConfigurationError: the name or the kind makes no sense.
        PluginError: something of that name is installed, or the folder is not empty.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"kind is {kind!r}; expected {', '.join(KINDS)}. Say what the model shall look at.")
    names = PluginNames.of(name)
    names.refuse_taken()
    folder = Path(output) if output is not None else Path(names.distribution)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(
            f"{folder} exists and is not empty; expected a place for a new plugin. Name another one with --output, or remove it."
        )
    slots = names.slots() | KINDS[kind].slots() | {"kind": kind}
    for part in sorted((_TEMPLATES / "shared").glob("*.inc")):
        slots[part.stem] = part.read_text(encoding="utf-8").rstrip("\n")
    for side in ("shared", kind):
        for template in sorted((_TEMPLATES / side).rglob("*.tmpl")):
            relative = template.relative_to(_TEMPLATES / side).as_posix().removesuffix(".tmpl")
            target = folder / relative.replace("PACKAGE", names.package).replace("MODULE", names.module)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_fill(template.read_text(encoding="utf-8"), slots), encoding="utf-8")
    return folder


def _fill(text: str, slots: dict[str, str]) -> str:
    """The text with its slots filled, those inside what was filled in too."""
    while _SLOT.search(text):
        text = _SLOT.sub(lambda match: slots[match.group(1)], text)
    return text
