"""What a check is: a name, something to run, and an error that leads to the fix."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MecoError

if TYPE_CHECKING:
    from .subject import Subject


class NotConforming(AssertionError):
    """An architecture does not do what every architecture of the zoo must do; the message says what was seen and how to fix it."""


@dataclass(frozen=True)
class Rule:
    """A requirement on every architecture to which it applies.

    Attributes:
        slow: takes more than a few seconds even on a tiny model.
        once: looks at the plugin and not at a model, so that variants of the config change nothing.
    """

    topic: str
    test: "Callable[[Subject], None]"
    applies: "Callable[[Subject], bool]"
    slow: bool = False
    once: bool = False


def rule(
    applies: "Callable[[Subject], bool] | None" = None, *, slow: bool = False, once: bool = False
) -> "Callable[[Callable[[Subject], None]], Rule]":
    """Decorator that makes a function a `Rule` named after it. Without `applies` it holds for all."""

    def declare(test: "Callable[[Subject], None]") -> Rule:
        return Rule(test.__name__, test, applies or (lambda _: True), slow, once)

    return declare


def require(holds: bool, seen: str, fix: str) -> None:
    """Fail with what was seen and what to do about it."""
    if not holds:
        raise NotConforming(f"{seen} {fix}")


@contextmanager
def blaming(seen: str, fix: str, *errors: type[Exception]) -> Iterator[None]:
    """Fail with an error that is raised inside, after what was seen and before what to do about it.

    An error that another one of ours led to passes: that one says what is wrong.
    """
    try:
        yield
    except errors as error:
        if not isinstance(error, MecoError) and is_ours(error):
            raise
        text = f"{type(error).__name__}: {str(error)[:400]}".rstrip(". ")
        raise NotConforming(f"{seen}: {text}. {fix}") from error


def is_ours(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is one of ours."""
    while error is not None:
        if isinstance(error, MecoError):
            return True
        error = error.__cause__ or error.__context__
    return False


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
    """A rule and the architecture under test. Calling it runs it."""

    name: str
    topic: str
    slow: bool
    rule: Rule
    subject: "Subject"

    def __call__(self) -> None:
        self.subject.seed()  # so that no check depends on which ran before it
        try:
            self.rule.test(self.subject)
        except NotConforming:
            raise
        except Exception as error:
            raise NotConforming(
                f"{self.topic} came to no end: {type(error).__name__}: {error} The rule: {self.rule.test.__doc__}"
            ) from error

    def __str__(self) -> str:
        return self.name
