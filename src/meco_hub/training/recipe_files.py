"""Recipe files: found by name, read from YAML, overridden by flags, checked key by key, written with the run.

An unknown key is refused with the nearest known one, a value of the wrong type with the type that was expected.

This file knows YAML and the plugins' recipe folders; what the keys mean is written in `recipes.py`.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml

from .. import plugins
from ..errors import ConfigurationError, unknown_name
from .recipes import Recipe


def _refuse_unknown(keys: Sequence[str], known: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=2, cutoff=0.5)
            offer = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
            raise ConfigurationError(f"Unknown recipe key {key!r} in {where}.{offer} Known: {', '.join(known)}.")


def _convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the annotated type, or an error that names the key."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _convert(value, inner[0], where)
    if origin is types.UnionType:
        (kind,) = [part for part in inner if part is not type(None)]
        return None if value is None else _convert(value, kind, where)
    if dataclasses.is_dataclass(kind):
        return _build(cast(type, kind), value, where)
    if origin is Literal:
        # YAML 1.1 reads a bare `no` as False, and "no" is one of Accelerate's precisions
        value = "no" if value is False and "no" in inner else value
        if value in inner:
            return value
        near = difflib.get_close_matches(str(value), inner, n=1, cutoff=0.5)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"Recipe key {where!r} is {value!r}; expected one of {', '.join(inner)}.{offer}")
    if origin is list and isinstance(value, list | tuple):
        return [_convert(item, inner[0], f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is float and isinstance(value, str) and _is_number(value):
        return float(value)  # YAML 1.1 reads 1e-4 (no dot) as a string; what its author meant is beyond doubt
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    expected = kind.__name__ if origin is None else str(kind)
    raise ConfigurationError(f"Recipe key {where!r} is {value!r} ({type(value).__name__}); expected {expected}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _build(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} is {values!r}; expected a mapping of keys to values.")
    fields = {one.name: one for one in dataclasses.fields(kind)}
    _refuse_unknown(list(values), list(fields), where)
    hints = typing.get_type_hints(kind, include_extras=True)
    needed = [name for name, one in fields.items() if one.default is one.default_factory is dataclasses.MISSING]
    for name in needed:
        if name not in values:
            raise ConfigurationError(f"{where} lacks {name!r}; expected: {hints[name].__metadata__[0]}.")
    prefix = "" if kind is Recipe else f"{where}."
    return kind(**{name: _convert(value, hints[name], f"{prefix}{name}") for name, value in values.items()})


def recipe_from_dict(values: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Check `values` key by key and build the recipe.

    Raises:
        ConfigurationError: an unknown key, a wrong type, or values that exclude each other.
    """
    return _build(Recipe, values, where)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain mappings, lists and scalars; `recipe_from_dict` gives the same recipe back."""
    return dataclasses.asdict(recipe)


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `changes` laid over it. Keys of `changes` may be dotted: "data.validation.seed".

    Raises:
        ConfigurationError: a dotted key leads through something that is no mapping.
    """
    result = dict(values)
    for dotted, change in changes.items():
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            if inner is not None and not isinstance(inner, Mapping):
                raise ConfigurationError(f"{dotted!r} cannot be set: {parent!r} is {inner!r}, expected a mapping.")
            place[parent] = dict(inner or {})
            place = place[parent]
        place[last] = change
    return result


def known_recipes() -> dict[str, Path]:
    """The recipes of all installed architectures: "<model_type>/<recipe>" → file."""
    found: dict[str, Path] = {}
    for model_type, entry in plugins.architectures().healthy.items():
        if entry.recipes is None:
            continue
        for file in sorted(plugins.resource_folder(entry.recipes).glob("*.yaml")):
            found[f"{model_type}/{file.stem}"] = file
    return found


def find_recipe(name_or_file: str) -> Path:
    """The file of a recipe, given as a path or as "<model_type>/<recipe>".

    Raises:
        UnknownNameError: neither a file nor a registered recipe; the message offers the nearest names.
    """
    path = Path(name_or_file)
    if path.is_file():
        return path
    found = known_recipes()
    if name_or_file in found:
        return found[name_or_file]
    raise unknown_name("recipe", name_or_file, found, "A path to a .yaml file works too.")


def read_recipe_file(name_or_file: str) -> dict[str, Any]:
    """The unchecked mapping in a recipe file.

    Raises:
        UnknownNameError: there is no such recipe.
        ConfigurationError: the file is not YAML, or holds no mapping.
    """
    path = find_recipe(name_or_file)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no readable YAML: {error}. Correct the file.") from error
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{path} holds {type(values).__name__}; expected a mapping of recipe keys to values.")
    return dict(values)


def load_recipe(name_or_file: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, lay `changes` over it (dotted keys allowed) and check it; errors as of the steps."""
    values = override(read_recipe_file(name_or_file), changes or {})
    return recipe_from_dict(values, f"recipe {name_or_file}")


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Write the resolved recipe; reading it again gives an equal one."""
    text = yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False, allow_unicode=True, width=110)
    file.write_text(text, encoding="utf-8")
