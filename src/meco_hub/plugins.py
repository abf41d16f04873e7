"""Plugins: what they declare, and how they are found.

An architecture is a Python distribution with an entry point in the group `meco_hub.architectures`:

    [project.entry-points."meco_hub.architectures"]
    meco_my_model = "my_package:architecture"

`architecture` is an `Architecture`: dotted paths, nothing imported. Reading it imports the plugin's `__init__`, which must
therefore import neither torch nor transformers. Data sets register in the same way in the group `meco_hub.corpora`.

How they are read, and what becomes of those that cannot be, is in `discovery.py`.

This file knows what a plugin declares, and which of them there are.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import discovery
from .discovery import BrokenPlugin, Plugins
from .errors import PluginError, unknown_name

__all__ = ["Architecture", "BrokenPlugin", "Plugins"]

ARCHITECTURES = "meco_hub.architectures"
CORPORA = "meco_hub.corpora"
PREFIX = "meco_"
"""Every model type starts so: transformers can then never ship one of the same name."""

_when_declared: list[Callable[[], None]] = []


def call_when_declared(then: Callable[[], None]) -> None:
    """Have a function called whenever a plugin that was half imported has declared its architecture."""
    if then not in _when_declared:
        _when_declared.append(then)


@dataclass(frozen=True)
class Architecture:
    """What a plugin declares of one architecture. Classes and folders are dotted paths: "package.module:Name".

    Attributes:
        model_type: the config's `model_type` and the entry point's name; starts with "meco_".
        kind: what it looks at: "face", "eye" or "signals".
        config: its `PreTrainedConfig`.
        base_model: its base `PreTrainedModel`.
        head: its `…ForEmotionRecognition`.
        image_processor, feature_extractor, processor: its processor classes, those it has.
        native_heads: transformers' own Auto classes that the head serves too ("AutoModelForImageClassification").
        recipes: folder of training recipes inside the package ("package:recipes").
        checkpoints: folder of bundled checkpoints inside the package ("package:checkpoints").
        default_checkpoint: the bundled checkpoint that stands for this kind when no model is named.
        card: the hand-written card inside the package ("package:card.md").
        converter: function (source file, output folder, **options) that turns the authors' weights into a folder of ours.
        description: one line for `meco list`.
    """

    model_type: str
    kind: str
    config: str
    base_model: str
    head: str
    image_processor: str | None = None
    feature_extractor: str | None = None
    processor: str | None = None
    native_heads: tuple[str, ...] = ()
    recipes: str | None = None
    checkpoints: str | None = None
    default_checkpoint: str | None = None
    card: str | None = None
    converter: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        from .registration import watch_modules

        paths = (self.config, self.base_model, self.head, self.image_processor, self.feature_extractor, self.processor)
        watch_modules(path.partition(":")[0] for path in paths if path)
        distribution = discovery.half_imported.pop(self.model_type, None)
        if distribution is not None:
            known = architectures()
            known.healthy[self.model_type] = self
            known.distributions[self.model_type] = distribution
            for then in _when_declared:
                then()


def load_dotted(path: str) -> Any:
    """Import what "package.module:attribute" names.

    Raises:
        PluginError: the path is malformed or leads nowhere.
    """
    module_name, _, attribute = path.partition(":")
    if not attribute:
        raise PluginError(
            f"{path!r} is no dotted path. Expected 'package.module:Name'; correct it where it is declared."
        )
    module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(
            f"Module {module_name!r} has no {attribute!r}, which {path!r} points to. Correct the path where it is declared."
        ) from error


def resource_folder(path: str) -> Path:
    """The folder or file that "package:relative/path" names, inside the installed package."""
    package, _, relative = path.partition(":")
    module = importlib.import_module(package)
    if module.__file__ is None:
        raise PluginError(f"Package {package!r} has no files on disk, so {path!r} cannot be read. Install it unzipped.")
    return Path(module.__file__).parent / relative


def _check_architecture(name: str, loaded: Any) -> str | None:
    if not isinstance(loaded, Architecture):
        return f"points to {type(loaded).__name__}, expected an Architecture"
    if loaded.model_type != name:
        return f"its entry point is named {name!r} but its model_type is {loaded.model_type!r}; make them equal"
    if not name.startswith(PREFIX):
        return f"its model_type {name!r} does not start with {PREFIX!r}"
    for resource in (loaded.recipes, loaded.checkpoints, loaded.card):
        if resource is not None:
            resource_folder(
                resource
            )  # whoever lists recipes or checkpoints later must not meet a package that is not there
    return None


def _check_corpus(name: str, loaded: Any) -> str | None:
    if all(hasattr(loaded, attribute) for attribute in ("name", "kind", "load", "read")):
        return None
    return f"points to {type(loaded).__name__}, expected a Corpus"


@cache
def architectures() -> Plugins:
    """The installed architectures, read once per process. Names are model types, values `Architecture`."""
    return discovery.read(ARCHITECTURES, _check_architecture)


@cache
def corpora() -> Plugins:
    """The installed corpora, read once per process."""
    return discovery.read(CORPORA, _check_corpus)


def _of(plugins: Plugins, kind: str, name: str, hint: str) -> Any:
    if name in plugins.healthy:
        return plugins.healthy[name]
    for plugin in plugins.broken:
        if plugin.name == name:
            raise PluginError(
                f"The {kind} {name!r} of {plugin.distribution} is installed but cannot be used: {plugin.reason}. "
                "`meco doctor` shows the traceback."
            )
    raise unknown_name(kind, name, plugins.healthy, hint)


def architecture(model_type: str) -> Architecture:
    """The architecture of that model type.

    Raises:
        UnknownNameError: no plugin declares it.
        PluginError: a plugin declares it, but is broken or claimed twice.
    """
    return _of(architectures(), "architecture", model_type, "Install the plugin that provides it.")


def corpus(name: str) -> Any:
    """The corpus of that name; errors as for `architecture`."""
    return _of(corpora(), "corpus", name, "")


def checkpoints() -> dict[str, Path]:
    """Bundled checkpoints of all installed architectures: name → folder."""
    found: dict[str, Path] = {}
    for entry in architectures().healthy.values():
        if entry.checkpoints is None:
            continue
        folder = resource_folder(entry.checkpoints)
        if folder.is_dir():
            found |= {sub.name: sub for sub in sorted(folder.iterdir()) if (sub / "config.json").is_file()}
    return found


def checkpoint(name: str) -> Path:
    """The folder of a bundled checkpoint; pass it to any `from_pretrained` or to `pipeline(model=…)`.

    Raises:
        UnknownNameError: no installed plugin bundles it; the message offers the nearest names.
    """
    found = checkpoints()
    if name not in found:
        raise unknown_name("bundled checkpoint", name, found, "`meco list` shows all.")
    return found[name]


def locate_checkpoint(name: str) -> str:
    """What to hand to `from_pretrained` for a folder, a bundled checkpoint's name, or a Hub id ("owner/name").

    Raises:
        UnknownNameError: it is none of the three; the message offers the nearest bundled names.
    """
    if Path(name).is_dir():
        return name
    found = checkpoints()
    if name in found:
        return str(found[name])
    # A Hub id has exactly one slash and is no path; anything else would be asked of the Hub in vain.
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir():
        return name
    raise unknown_name("folder, bundled checkpoint or Hub id", name, found, "`meco list` shows the bundled ones.")


def default_checkpoint(kind: str = "face") -> Path | None:
    """The folder of the checkpoint that answers when no model is named, or None when no plugin offers one."""
    found = checkpoints()
    for entry in architectures().healthy.values():
        if entry.kind == kind and entry.default_checkpoint in found:
            return found[entry.default_checkpoint]
    return None
