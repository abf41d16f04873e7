"""What went wrong on the way to the Hub, read off an exception and put into words without repeating what it carries.

Exceptions of the HTTP libraries hold their request, and that holds the token; so a `Failure` keeps numbers and words of them, and
the error we raise is free of them.

This file knows statuses, and what a person can do about each.
"""

import errno
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from ..hub_files import TRANSPORT_ERROR
from .secrets import blot_out

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_FULL = (errno.ENOSPC, errno.EDQUOT)

_ADVICE = {
    400: "The Hub calls the request wrong: read what it says, mend the folder, and push again.",
    401: "Log in with `hf auth login`, set HF_TOKEN, or pass a token that is still valid; then push again.",
    403: "Use a token that may write to {repo}, or ask its owner; with --create_pr the right to read is enough. Then push again.",
    404: "Check the name {repo} and whether your token may see it; then push again.",
    408: "Push again.",
    409: "Something else is changing {repo} at this moment: wait until it is done, look at the repository, and push again.",
    412: "Somebody else has committed to {repo} since this push began: look at what, and push again to put yours on top.",
    413: "The Hub takes no request of that size: leave pictures out or make them smaller, and push again.",
    429: "The Hub asks for patience: wait {wait}, and push again.",
    507: "The Hub has no room left for {repo}: free some or ask its operator, and push again.",
}
_LATER = "That is the Hub's own trouble: push again later."


@dataclass(frozen=True)
class Failure:
    """What is left of an exception once its request is gone.

    Attributes:
        kind: "status", "connection", "timeout", "disk", "offline", "missing repository", "missing revision" or "other".
        text: what was seen, in words, free of secrets.
        status: the HTTP status, where the server answered.
        retry_after: seconds that the server asked for.
        advice: what the user can do.
    """

    kind: str
    text: str
    advice: str
    status: int | None = None
    retry_after: float | None = None

    @property
    def transient(self) -> bool:
        """Trying the same again may help."""
        return self.kind in ("connection", "timeout") or self.status in _TRANSIENT

    @property
    def refused(self) -> bool:
        """The server said no, so nothing came of the request; otherwise it may have done what it was asked."""
        return self.status is not None and (self.status < 500 or self.status == 507) and self.status != 408


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def read_failure(error: Exception, repo_id: str, secrets: Iterable[str] = ()) -> Failure:
    """Put an exception of a push into words.

    Args:
        error: what was raised; wrapped or not.
        repo_id: where the push went.
        secrets: words to blot out, beside those that look like tokens.
    """
    secrets = tuple(secrets)
    for one in _chain(error):
        failure = _read_one(one, repo_id, secrets)
        if failure is not None:
            return failure
    text = blot_out(f"{type(error).__name__}: {_first_line(error)}", secrets)
    return Failure("other", text, "If it makes no sense to you, report it with the command you gave.")


def _read_one(error: BaseException, repo_id: str, secrets: tuple[str, ...]) -> Failure | None:
    if isinstance(error, OfflineModeIsEnabled):
        return Failure("offline", "HF_HUB_OFFLINE is set, which forbids any request", "Unset it, and push again.")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _read_status(error, repo_id, secrets)
    if isinstance(error, TRANSPORT_ERROR):
        # TimeoutException and its kin are named alike in both libraries
        late = "Timeout" in type(error).__name__
        text = blot_out(f"{type(error).__name__}: {_first_line(error)}", secrets)
        if late:
            return Failure("timeout", f"the Hub did not answer in time ({text})", _LATER)
        return Failure("connection", f"the connection to the Hub broke ({text})", "Check the network, and push again.")
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return Failure(
            "disk",
            f"this machine's disk is full{where}",
            "Free some room (TMPDIR names where files are prepared), and push again.",
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return Failure("connection", blot_out(f"the connection to the Hub broke ({error})", secrets), "Push again.")
    if isinstance(error, OSError) and error.errno is not None:
        return Failure(
            "disk", blot_out(str(error), secrets), "Make the file readable or the folder writable, and push again."
        )
    return None


def _read_status(error: HfHubHTTPError, repo_id: str, secrets: tuple[str, ...]) -> Failure:
    response = error.response
    status, request = response.status_code, response.request
    said = blot_out(_first_line(error.server_message or ""), secrets)
    address = urlsplit(str(request.url))
    text = f"the Hub at {address.scheme}://{address.hostname or ''}{f':{address.port}' if address.port else ''} answered {status}"
    text += f" to {request.method} {blot_out(address.path, secrets)}" + (f": {said.rstrip('.')}" if said else "")
    wait = _retry_after(response.headers)
    advice = _ADVICE.get(status, _LATER if status >= 500 else _ADVICE[400])
    advice = advice.format(repo=repo_id, wait=f"{wait:.0f} s" if wait else "a few minutes")
    kind = "status"
    if isinstance(error, RevisionNotFoundError):
        kind = "missing revision"
    elif isinstance(error, RepositoryNotFoundError) or status == 404:
        kind = "missing repository"
    return Failure(kind, text, advice, status, wait)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, given as such or as a date."""
    value = headers.get("Retry-After")
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _first_line(words: object) -> str:
    return next((line.strip() for line in str(words).splitlines() if line.strip()), "")
