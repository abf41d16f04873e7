"""KEY=VALUE on a command line, the value in YAML: numbers, switches, lists and mappings as in a recipe file.

This file knows how such words are read; it does not know which keys there are.
"""

from collections.abc import Iterable
from typing import Any

import yaml

from .errors import ConfigurationError


def parse_value(text: str) -> Any:
    """A value in YAML.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"The value {text!r} is no YAML: {error}. Quote it.") from error


def parse_assignments(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words as a mapping; a key given twice counts as it was given last.

    Raises:
        ConfigurationError: a word is no assignment, or its value is no YAML.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise ConfigurationError(f"{word!r} was given; expected KEY=VALUE, such as data.validation.seed=3.")
        found[key] = parse_value(value)
    return found
