"""Which channels make a modality: presets by name, or a mapping of one's own.

A corpus of signals names its channels and offers presets; the option `modalities` takes a preset's name, or
{modality: [channel, …]}, so that recipes can cut a corpus differently without code. The choice travels in a column, as JSON.

This file knows names of channels; it does not know samples.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..errors import ConfigurationError, unknown_name

Layout = Mapping[str, tuple[str, ...]]
"""Modality → its channels, in order."""

LAYOUT_COLUMN = "modalities"
"""Column that holds a row's layout as JSON."""


def choose_layout(
    choice: str | Mapping[str, Sequence[str]], presets: Mapping[str, Layout], channels: Sequence[str]
) -> str:
    """The layout asked for, as JSON.

    Args:
        choice: a preset's name or a mapping.
        presets: what the corpus offers.
        channels: every channel of the corpus.

    Raises:
        UnknownNameError: no such preset.
        ConfigurationError: a mapping that names no channel, unknown ones, or one twice.
    """
    if isinstance(choice, str):
        if choice not in presets:
            raise unknown_name("preset of modalities", choice, presets, "A mapping {modality: [channel, …]} works too.")
        return json.dumps(presets[choice])
    if (
        not isinstance(choice, Mapping)
        or not choice
        or not all(isinstance(one, list | tuple) for one in choice.values())
    ):
        raise ConfigurationError(
            f"modalities is {choice!r}. Expected {' or '.join(presets)}, or a mapping {{modality: [channel, …]}}."
        )
    named = [channel for group in choice.values() for channel in group]
    unknown = [channel for channel in named if channel not in channels]
    if unknown or len(set(named)) != len(named) or not all(choice.values()):
        wrong = (
            f"unknown are {', '.join(map(str, unknown))}"
            if unknown
            else "a channel is named twice, or a stream has none"
        )
        raise ConfigurationError(
            f"modalities is {dict(choice)}: {wrong}. Expected each stream to name some of {', '.join(channels)}, each once."
        )
    return json.dumps({name: list(group) for name, group in choice.items()})


@lru_cache(maxsize=64)
def _parse(text: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(group) for name, group in json.loads(text).items()}


def layout_of(row: Mapping[str, Any]) -> Layout:
    """The layout that a row was loaded with."""
    return _parse(row[LAYOUT_COLUMN])
