"""Plugins: what they declare, and how they are found.

An architecture is a Python distribution with an entry point in the group `meco_hub.architectures`:

    [project.entry-points."meco_hub.architectures"]
    meco_my_model = "my_package:architecture"

`architecture` is an `Architecture`: dotted paths, nothing imported. Reading it imports the plugin's `__init__`, which must
therefore import neither torch nor transformers. Data sets register in the same way in the group `meco_hub.corpora`.

What a stranger's package does when it is imported is not in our hands, so discovery expects the worst of it:
- It raises, exits, or points to nothing: kept as `BrokenPlugin` with its traceback, said once, and nobody else is harmed.
- It was written for a version of the contract that this core does not serve: refused before any of its classes is imported. Code
  that half fits fails later, further from the cause, or gives other numbers.
- Two distributions claim one name: both are refused, because picking one would silently change results.
- It imports torch or transformers in its `__init__`: it works, and it is said, since everybody who imports us waits for it.
- It hangs: a watchdog says its name after `PATIENCE_S` seconds, while it hangs; there is no safe way to stop it.
- Its own import is what imported us: it is read when it declares its architecture, a moment later.
"""

import importlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, metadata, version
from importlib.metadata import requires as _requires
from os import PathLike
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Protocol

from .errors import CheckpointError, PluginError, unknown_name
from .version import __version__

logger = logging.getLogger(__name__)

CORE = "meco-hub"
"""Our own distribution, whose entry points need no watching."""

API_VERSION = 1
"""Version of the contract between core and plugins; it changes when plugins that were written for it would no longer work."""
SERVED_API_VERSIONS = (1,)
"""Versions of the contract that this core serves."""

ARCHITECTURES = "meco_hub.architectures"
CORPORA = "meco_hub.corpora"
PREFIX = "meco_"
"""Every model type starts so: transformers can then never ship one of the same name."""

PATIENCE_S = 10.0
"""Seconds after which an import that has not come to an end is named."""

HEAVY = ("torch", "transformers")
"""What reading an entry point must not import."""

ignored: set[str] = set()
"""Distributions that are left out unread; the doctor puts here those that would not let it live."""


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
        recipe_classes: augmentations and teachers that recipes may name; others are code that nobody installed for this.
        description: one line for `meco list`.
        api_version: version of the contract that the plugin was written for (`API_VERSION` when it was); one that the installed
            core does not serve is refused.
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
    recipe_classes: tuple[str, ...] = ()
    description: str = ""
    api_version: int = 1

    def __post_init__(self) -> None:
        # before all are read there is nobody to wait for
        late = architectures.cache_info().currsize > 0 and _admit(self)
        for subscriber in _subscribers:
            subscriber(self, late=late)


class Subscriber(Protocol):
    """Called with an architecture when it is declared; `late`: after the others had been read."""

    def __call__(self, entry: Architecture, /, *, late: bool) -> None: ...


_subscribers: list[Subscriber] = []


def subscribe(subscriber: Subscriber) -> None:
    """Have a function called with every architecture at the moment when its plugin declares it."""
    _subscribers.append(subscriber)


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be read.

    Attributes:
        name: the entry point's name.
        target: where it points.
        distribution: the distribution that declares it.
        reason: one line.
        traceback: the whole story; empty when nothing was raised (two claims to one name, say).
        fix: a command that would help, where one is known.
    """

    name: str
    target: str
    distribution: str
    reason: str
    traceback: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Plugins:
    """All plugins of one group that are installed.

    Attributes:
        healthy: what each entry point points to, by name.
        broken: those that could not be read.
        distributions: name → the distribution that declares it.
        heavy: name → what its `__init__` imported and should not have, of those that are healthy.
        awaited: name → distribution of those whose own import is what imported us: they have not declared anything yet.
    """

    healthy: dict[str, Any] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    distributions: dict[str, str] = field(default_factory=dict)
    heavy: dict[str, tuple[str, ...]] = field(default_factory=dict)
    awaited: dict[str, str] = field(default_factory=dict)


# --- What is installed ------------------------------------------------------------------------------------------------


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def licence_of(distribution: str) -> str | None:
    """The licence that a distribution's metadata name, or None where it names none or is not installed."""
    try:
        said: Any = metadata(distribution)
    except PackageNotFoundError:
        return None
    return said.get("License-Expression") or said.get("License")


def requirements(distribution: str) -> list[str]:
    """What a distribution says it needs, as in its metadata; nothing for one that is not installed."""
    try:
        return _requires(distribution) or []
    except PackageNotFoundError:
        return []


def claims(group: str) -> dict[str, list[EntryPoint]]:
    """Name → entry points of that name, one for each distribution that declares it."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        # An editable and a regular install of one distribution both list its entry points; that is one claim, not two.
        known = found.setdefault(entry.name, [])
        if not any(owner_of(other) == owner_of(entry) and other.value == entry.value for other in known):
            known.append(entry)
    return dict(sorted(found.items()))


def owner_of(entry: EntryPoint) -> str:
    """The distribution that declares an entry point."""
    return (entry.dist.name if entry.dist is not None else None) or "an unnamed distribution"


# --- Reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def watched(what: str, distribution: str) -> Iterator[None]:
    """Say what is being imported, if that takes longer than `PATIENCE_S`, while it goes on."""
    complaint = threading.Timer(
        PATIENCE_S,
        logger.warning,
        (
            "meco_hub: %s of %s is still being imported after %g s. If nothing else happens, it hangs: `pip uninstall %s` gets "
            "you on, and `meco doctor` looks at it from outside.",
            what,
            distribution,
            PATIENCE_S,
            distribution,
        ),
    )
    complaint.daemon = True
    complaint.start()
    try:
        yield
    finally:
        complaint.cancel()


def _read(group: str, check: Callable[[str, Any], str | None]) -> Plugins:
    """Read all entry points of a group.

    Args:
        group: of the entry points.
        check: what is wrong with the object that an entry point of this name led to, or None.
    """
    found = Plugins()
    for name, entries in claims(group).items():
        entries = [entry for entry in entries if owner_of(entry) not in ignored]
        if len(entries) > 1:
            owners = sorted(owner_of(entry) for entry in entries)
            reason = f"claimed by {' and '.join(owners)}; uninstall all but one"
            for entry in entries:
                fix = f"pip uninstall {owner_of(entry)}, or the other"
                _leave_out(found, BrokenPlugin(name, entry.value, owner_of(entry), reason, fix=fix))
        elif entries:
            _read_one(name, entries[0], check, found)
    for name, roots in found.heavy.items():
        logger.warning(
            "meco_hub: plugin %r of %s imports %s when its entry point is read, and everybody who imports meco_hub waits for it. "
            "It belongs into the modules that its Architecture names, not into __init__.",
            name,
            found.distributions[name],
            " and ".join(roots),
        )
    return found


def _leave_out(found: Plugins, plugin: BrokenPlugin) -> None:
    found.broken.append(plugin)
    logger.warning(
        "meco_hub: plugin %r of %s is left out: %s. Fix: %s. `meco doctor` shows more.",
        plugin.name,
        plugin.distribution,
        plugin.reason,
        plugin.fix,
    )


def _read_one(name: str, entry: EntryPoint, check: Callable[[str, Any], str | None], found: Plugins) -> None:
    """Put one plugin among the healthy, the broken or the awaited of `found`."""
    owner = owner_of(entry)
    if _is_being_imported(entry):
        found.awaited[name] = owner
        return
    before = set(sys.modules)
    try:
        with watched(f"plugin {name!r}", owner):
            loaded = entry.load()
        complaint = check(name, loaded)
    except (Exception, SystemExit) as error:  # noqa: BLE001 — a stranger's import may raise anything; it harms nobody else
        fix = f"pip install --upgrade {CORE} {owner}, or pip uninstall {owner}"
        reason = f"{type(error).__name__}: {error}"
        _leave_out(found, BrokenPlugin(name, entry.value, owner, reason, traceback.format_exc(), fix))
        return
    if complaint:
        _leave_out(found, BrokenPlugin(name, entry.value, owner, complaint, fix=_upgrade(owner)))
        return
    found.healthy[name], found.distributions[name] = loaded, owner
    roots = imported_needlessly(entry.module, set(sys.modules) - before)
    if roots:
        found.heavy[name] = roots


def _upgrade(owner: str) -> str:
    return f"pip install --upgrade {CORE} {owner}, or write to its author"


def _is_being_imported(entry: EntryPoint) -> bool:
    """The plugin's own import is what brought us here, and it has not declared its architecture yet."""
    match = entry.pattern.match(entry.value)  # None where the entry point is no "module:object" at all
    module = sys.modules.get(match.group("module")) if match is not None else None
    initializing = module is not None and getattr(module.__spec__, "_initializing", False)
    return initializing and not hasattr(module, (entry.attr or "").partition(".")[0])


def _admit(entry: Architecture) -> bool:
    """Take a plugin that was awaited among the healthy or the broken; False for any other."""
    found, name = architectures(), entry.model_type
    owner = found.awaited.pop(name, None)
    if owner is None:
        return False
    complaint = _check_architecture(name, entry)
    if complaint:
        _leave_out(found, BrokenPlugin(name, f"{name}: declared late", owner, complaint, fix=_upgrade(owner)))
        return False
    found.healthy[name], found.distributions[name] = entry, owner
    return True


def imported_needlessly(plugin: str, new: Iterable[str]) -> tuple[str, ...]:
    """Which of `HEAVY` reading a plugin imported.

    Where somebody else has imported torch before, importing it again leaves no trace in `sys.modules`; what it leaves is a name
    in the plugin's modules.

    Args:
        plugin: the module that its entry point names.
        new: modules that were not there before.
    """
    new = list(new)
    roots = {name.partition(".")[0] for name in new}
    package = plugin.partition(".")[0]
    for name in new:
        if name.partition(".")[0] == package:
            roots |= {_home(value) for value in list(getattr(sys.modules.get(name), "__dict__", {}).values())}
    return tuple(root for root in HEAVY if root in roots)


def _home(value: Any) -> str:
    """The package that a module, class or function comes from."""
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    return value.__module__.partition(".")[0] if isinstance(value, type | FunctionType) else ""


# --- Looking up -------------------------------------------------------------------------------------------------------


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
    if loaded.api_version not in SERVED_API_VERSIONS:
        served = " and ".join(map(str, SERVED_API_VERSIONS))
        contract = f"it was written for version {loaded.api_version} of the plugin contract"
        return f"{contract}, and {CORE} {__version__} serves version {served}"
    for resource in (loaded.recipes, loaded.checkpoints, loaded.card):
        if resource is not None:  # whoever lists recipes or checkpoints later must not meet a package that is not there
            resource_folder(resource)
    return None


def _check_corpus(name: str, loaded: Any) -> str | None:
    if all(hasattr(loaded, attribute) for attribute in ("name", "kind", "load", "read")):
        return None
    return f"points to {type(loaded).__name__}, expected a Corpus"


@cache
def architectures() -> Plugins:
    """The installed architectures, read once per process. Names are model types, values `Architecture`."""
    return _read(ARCHITECTURES, _check_architecture)


@cache
def corpora() -> Plugins:
    """The installed corpora, read once per process."""
    return _read(CORPORA, _check_corpus)


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


def locate_checkpoint(name: str | PathLike[str] | None) -> str:
    """What to hand to `from_pretrained` for a folder, a bundled checkpoint's name, a Hub id ("owner/name"), or None.

    None is the bundled checkpoint that stands for faces.

    Raises:
        UnknownNameError: it is none of these; the message offers the nearest bundled names.
        CheckpointError: None, and no installed plugin bundles a default.
    """
    name = default_checkpoint() if name is None else name
    if name is None:
        raise CheckpointError(
            "No model was named and no installed plugin bundles a default one. Name a model, or install a plugin."
        )
    name = str(name)
    if _is_folder(name):
        return name
    found = checkpoints()
    if name in found:
        return str(found[name])
    # A Hub id has exactly one slash and is no path; the Hub can know nothing else.
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not _is_folder(Path(name).parent):
        return name
    raise unknown_name("folder, bundled checkpoint or Hub id", name, found, "`meco list` shows the bundled ones.")


def _is_folder(name: str | Path) -> bool:
    """A name that is too long for one, or has zeros in it, is none."""
    return os.path.isdir(name)  # noqa: PTH112 — a Path raises the system's errors


def default_checkpoint(kind: str = "face") -> Path | None:
    """The folder of the checkpoint that answers when no model is named, or None when no plugin offers one."""
    found = checkpoints()
    for entry in architectures().healthy.values():
        if entry.kind == kind and entry.default_checkpoint in found:
            return found[entry.default_checkpoint]
    return None


def recipes() -> dict[str, Path]:
    """The recipes of all installed architectures: "<model_type>/<recipe>" → file."""
    found: dict[str, Path] = {}
    for model_type, entry in architectures().healthy.items():
        if entry.recipes is not None:
            files = sorted(resource_folder(entry.recipes).glob("*.yaml"))
            found |= {f"{model_type}/{file.stem}": file for file in files}
    return found


def inventory() -> dict[str, list[dict[str, Any]]]:
    """What `meco list` shows, each a list of flat records: architectures, checkpoints, corpora, recipes, and broken plugins."""
    known, data_sets = architectures(), corpora()
    bundled = []
    for name, folder in checkpoints().items():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        labels = [label for _, label in sorted(config["id2label"].items(), key=lambda item: int(item[0]))]
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        bundled.append(
            {
                "name": name,
                "model_type": config["model_type"],
                "megabytes": round(size / 1e6, 1),
                "labels": ", ".join(labels),
                "folder": str(folder),
            }
        )
    return {
        "architectures": [
            {"name": name, "kind": one.kind, "distribution": known.distributions[name], "description": one.description}
            for name, one in known.healthy.items()
        ],
        "checkpoints": bundled,
        "corpora": [
            {"name": name, "kind": one.kind, "description": one.description} for name, one in data_sets.healthy.items()
        ],
        "recipes": [{"name": name} for name in recipes()],
        "broken": [
            {"name": plugin.name, "distribution": plugin.distribution, "reason": plugin.reason}
            for plugin in [*known.broken, *data_sets.broken]
        ],
    }
