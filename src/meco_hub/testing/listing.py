"""Which checks there are, and which of them are asked of an architecture.

This file knows the modules that hold rules; it knows no rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..plugins import Architecture
from .check import Check, Rule
from .subject import Recordings, Subject

__all__ = ["list_checks", "rules"]


def rules() -> list[Rule]:
    """All rules, in the order in which they are best read: a broken declaration explains what fails after it."""
    from . import (
        checks_config,
        checks_graph,
        checks_inputs,
        checks_learning,
        checks_loading,
        checks_numerics,
        checks_pipeline,
        checks_plugin,
        checks_processor,
        checks_routing,
        checks_streams,
    )

    modules = (
        checks_plugin,
        checks_config,
        checks_loading,
        checks_processor,
        checks_numerics,
        checks_streams,
        checks_inputs,
        checks_learning,
        checks_routing,
        checks_graph,
        checks_pipeline,
    )
    return [one for module in modules for one in vars(module).values() if isinstance(one, Rule)]


def list_checks(
    entry: Architecture,
    variants: Sequence[Mapping[str, Any]],
    processor: Mapping[str, Any],
    recordings: Recordings | None,
) -> list[Check]:
    """The checks that apply to an architecture, variant by variant."""
    found: list[Check] = []
    for number, fields in enumerate(variants, start=1):
        subject = Subject(entry, fields, processor, recordings)
        mark = f"-{number}" if len(variants) > 1 else ""
        found += [
            Check(f"{one.topic}{mark}", one.topic, one.slow, one, subject)
            for one in rules()
            if (number == 1 or not one.once) and one.applies(subject)
        ]
    return found
