"""Faults on demand: what goes wrong at which request."""

import re
from dataclasses import dataclass, field

STATUSES = {"401": 401, "403": 403, "409": 409, "412": 412, "429": 429, "500": 500, "503": 503, "507": 507}
"""Answered instead of doing what was asked."""

WORDS = {
    401: "Invalid credentials in Authorization header",
    403: "You do not have the rights for this",
    409: "Conflict",
    412: "Precondition failed",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
    507: "Insufficient storage",
}

OTHERS = ("cut", "cut after", "500 after", "hang", "half", "echo")
"""Connection closed before, or after doing what was asked; done, but answered 500; never answered; half a body; 500 that
repeats the caller's headers."""


@dataclass
class Fault:
    """One kind of trouble.

    Args:
        kind: of `STATUSES` or `OTHERS`.
        at: number of the request since the fault was set, from 0; None for any.
        match: what its "METHOD path" must contain, as a regular expression.
        times: how often; -1 for always from then on.
        retry_after: seconds, sent with a status.
    """

    kind: str
    at: int | None = None
    match: str = ""
    times: int = 1
    retry_after: str | None = None
    struck: int = field(default=0, init=False)
    seen: int = field(default=-1, init=False)

    def strikes(self, request: str) -> bool:
        """Whether it is this request's turn; counts those that match."""
        if not re.search(self.match, request):
            return False
        self.seen += 1
        if self.at is not None and (self.seen != self.at if self.times == 1 else self.seen < self.at):
            return False
        if self.times >= 0 and self.struck >= self.times:
            return False
        self.struck += 1
        return True
