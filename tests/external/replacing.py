"""Tests of a suite that ask what our models and processors do otherwise, on purpose.

Nothing is switched off: such a test is replaced by one that says why and checks what holds instead, or runs the suite's own under
a changed condition. `summary.py` lists them with their reasons.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


def replaces(reason: str) -> Callable[[Test], Test]:
    """Mark a test method that stands in for the suite's of the same name."""

    def mark(test: Test) -> Test:
        setattr(test, "replaces", reason)  # noqa: B010 (a function has no such attribute for a type checker)
        return test

    return mark
