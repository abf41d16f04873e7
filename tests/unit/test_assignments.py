"""assignments: KEY=VALUE words, their values as in a recipe file."""

from typing import Any

import pytest

from meco_hub.errors import ConfigurationError
from meco_hub.training.arguments import parse_assignments, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("case_5", "case_5"),
        ("[0, 2]", [0, 2]),
        ("{eda: [gsr], heart: [ecg, bvp]}", {"eda": ["gsr"], "heart": ["ecg", "bvp"]}),
        ("'3'", "3"),
        ("", None),
    ],
)
def test_values_are_yaml(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_words_become_a_mapping() -> None:
    assert parse_assignments([]) == {}
    assert parse_assignments(["a=1", "b.c=x=y", "a=2"]) == {"a": 2, "b.c": "x=y"}


@pytest.mark.parametrize("word", ["split", "=3", ""])
def test_what_is_no_assignment(word: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{word!r} was given; expected KEY=VALUE"):
        parse_assignments([word])


def test_what_is_no_yaml() -> None:
    with pytest.raises(ConfigurationError, match=r"The value '\[1, ' is no YAML"):
        parse_assignments(["folds=[1, "])
