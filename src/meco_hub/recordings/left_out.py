"""Parts of a recording that goes on which cannot be used."""

from collections.abc import Mapping

from ..answer_warnings import AnswerWarning
from ..errors import InputError

MOST_BAD = 64
"""Pieces after each other, or rows of one, that cannot be used, at which a recording that goes on has ended."""


class PartsLeftOut:
    """What of a recording that goes on cannot be used. It is named, and ends nothing.

    But where nothing was usable yet, or has not been for long, it is raised: nobody would ever be answered, and nobody told why.

    Args:
        code: of the warning that names it.
    """

    def __init__(self, code: str = "part_left_out") -> None:
        self._code = code
        self._used = False
        self._in_a_row = 0
        self._said: dict[str, tuple[str, int]] = {}  # part → the first reason, and how many came

    def note(self, failed: Mapping[str, InputError], *, used: bool) -> None:
        """Take down which parts of a piece failed, and whether another was used.

        Raises:
            InputError: the first of them, where nothing is used.
        """
        self._used |= used
        self._in_a_row = 0 if used else self._in_a_row + bool(failed)
        for name, error in failed.items():
            if not self._used or self._in_a_row >= MOST_BAD:
                raise error
            reason, count = self._said.get(name, (str(error), 0))
            self._said[name] = reason, count + 1

    def warnings(self) -> list[AnswerWarning]:
        """What was left out since this was asked last."""
        said, self._said = self._said, {}
        more = [f" So were {count - 1} more of its pieces." if count > 1 else "" for _, count in said.values()]
        return [
            AnswerWarning(self._code, f"Left out: {reason}{rest}")
            for (reason, _), rest in zip(said.values(), more, strict=True)
        ]
