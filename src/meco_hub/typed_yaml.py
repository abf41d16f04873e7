"""Mappings that people write (recipes, `card.yaml`) as dataclasses, checked key by key.

An unknown key is refused with the nearest known one, a value of another type with the type that was expected.
"""

import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

from .errors import suggest

_Kind = TypeVar("_Kind")

_WORDS = {str: "text", bool: "true or false", list: "a list", tuple: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class FieldReader:
    """Reads values, as YAML or JSON gave them, by the annotations of a dataclass's fields.

    Attributes:
        refuse: (dotted path of a key, "" for the whole; what is wrong with it) → the error that is raised.
        skip_null: a key whose value is null counts as not written.
    """

    refuse: Callable[[str, str], Exception]
    skip_null: bool = False

    def read(self, kind: type[_Kind], values: Any, path: str = "") -> _Kind:
        """The mapping `values` as an instance of the dataclass `kind`."""
        if not isinstance(values, Mapping):
            raise self._wrong(path, values, "a mapping")
        known = {one.name: one for one in fields(typing.cast(Any, kind))}
        for key in values:
            if key not in known:
                offer = suggest(key, known)
                raise self.refuse(path, f"has the key {key!r}, which nobody reads.{offer} Known: {', '.join(known)}")
        written = {key: value for key, value in values.items() if value is not None or not self.skip_null}
        needed = [name for name, one in known.items() if one.default is one.default_factory is MISSING]
        absent = [name for name in needed if name not in written]
        if absent:
            raise self.refuse(path, f"lacks {', '.join(absent)}; expected at least {', '.join(needed)}")
        kinds = typing.get_type_hints(kind)
        return kind(
            **{key: self._value(kinds[key], value, f"{path}.{key}".lstrip(".")) for key, value in written.items()}
        )

    def _value(self, kind: Any, value: Any, path: str) -> Any:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin is UnionType:
            kinds = [one for one in inner if one is not NoneType]
            if value is None and NoneType in inner:
                return None
            if len(kinds) == 1:
                return self._value(kinds[0], value, path)
            if isinstance(value, tuple(kinds)) and not isinstance(value, bool):
                return value
            raise self._wrong(path, value, " or ".join(one.__name__ for one in kinds))
        if is_dataclass(kind):
            return self.read(typing.cast(type, kind), value, path)
        if origin is Literal:
            value = "no" if value is False and "no" in inner else value  # YAML 1.1 reads a bare `no` as False
            if value in inner:
                return value
            offer = suggest(value, inner).rstrip("?")
            raise self._wrong(path, value, f"{' or '.join(map(repr, inner))}{'.' if offer else ''}{offer}")
        if origin in (list, tuple) and isinstance(value, list | tuple):
            return origin(self._value(inner[0], one, f"{path}[{place}]") for place, one in enumerate(value))
        if origin is dict and isinstance(value, Mapping):
            # JSON knows keys in quotation marks only
            keys = [int(key) if inner[0] is int and str(key).isdecimal() else key for key in value]
            keys = [str(key) if inner[0] is str else key for key in keys]
            return {
                key: self._value(inner[1], one, f"{path}.{key}") for key, one in zip(keys, value.values(), strict=True)
            }
        if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):
                return float(value)  # YAML 1.1 reads 1e-4 (no dot) as a text; what its author meant is beyond doubt
        if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value.strip() if isinstance(value, str) else value
        raise self._wrong(path, value, _WORDS.get(origin or kind) or kind.__name__)

    def _wrong(self, path: str, value: Any, expected: str) -> Exception:
        return self.refuse(path, f"is {value!r:.60}; expected {expected}")
