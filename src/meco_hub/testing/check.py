"""What a check is: a name, something to run, and an error that leads to the fix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MecoError

if TYPE_CHECKING:
    from .subject import Subject


class NotConforming(AssertionError):
    """An architecture does not do what every architecture of the zoo must do; the message says what was seen and how to fix it."""


@dataclass(frozen=True)
class Rule:
    """One thing that is asked of every architecture to which it applies.

    Attributes:
        topic: its name.
        ask: raises `NotConforming` where the architecture does not do it.
        applies: whether it makes sense for this one.
        slow: takes more than a few seconds even on a tiny model.
        once: looks at the plugin and not at a model, so that variants of the config change nothing.
    """

    topic: str
    ask: "Callable[[Subject], None]"
    applies: "Callable[[Subject], bool]"
    slow: bool = False
    once: bool = False


def rule(
    applies: "Callable[[Subject], bool] | None" = None, *, slow: bool = False, once: bool = False
) -> "Callable[[Callable[[Subject], None]], Rule]":
    """Decorator that makes a function a `Rule` named after it. Without `applies` it is asked of everybody."""

    def declare(ask: "Callable[[Subject], None]") -> Rule:
        return Rule(ask.__name__, ask, applies or (lambda _: True), slow, once)

    return declare


def require(holds: bool, seen: str, fix: str) -> None:
    """Fail with what was seen and what to do about it."""
    if not holds:
        raise NotConforming(f"{seen} {fix}")


def refusal(act: Callable[[], object], what: str, fix: str) -> MecoError | None:
    """Our error by which `act` refuses what it is given, None where it goes through; any other error is a failure."""
    try:
        act()
    except MecoError as error:
        return error
    except Exception as error:
        raise NotConforming(f"{what} ends in {type(error).__name__}: {str(error)[:200]}. {fix}") from error
    return None


@dataclass(frozen=True)
class Check:
    """A rule and the architecture that it is asked of. Calling it runs it.

    Attributes:
        name: unique among the checks of an architecture; the test's id.
        topic: the rule's name; `name` unless there are several variants.
        slow: takes more than a few seconds.

    Raises:
        NotConforming: (when called) the architecture does not conform.
    """

    name: str
    topic: str
    slow: bool
    rule: Rule
    subject: "Subject"

    def __call__(self) -> None:
        self.subject.seed()  # so that no check depends on which ran before it
        try:
            self.rule.ask(self.subject)
        except NotConforming:
            raise
        except Exception as error:
            raise NotConforming(
                f"{self.topic} came to no end: {type(error).__name__}: {error} What it asks: {self.rule.ask.__doc__}"
            ) from error

    def __str__(self) -> str:
        return self.name
