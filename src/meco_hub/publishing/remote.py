"""One repository on the Hub, and the one commit that a push makes there.

    look at the branch (make repository and branch where they are missing) → upload the weights → commit on the parent seen

Until the commit nothing of a push can be seen by others. The commit names its parent, so the Hub takes it only if nobody
came in between, and trying it again cannot commit twice. Where its answer is lost, the branch holds all of the push or
nothing, the error says so, and pushing again is safe.

Exceptions of the HTTP libraries hold their request, and that holds the token; so a `Failure` keeps numbers and words of them, and
the error we raise is free of them.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from ..errors import PublishingError
from ..weight_files import TRANSPORT_ERROR
from .contents import Secret, blot_out

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""Of a request that huggingface_hub does not itself repeat."""

PATIENCE = 300.0
"""Seconds; a server that demands a longer wait is not waited for."""

MAIN = "main"

_Answer = TypeVar("_Answer")

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_FULL = (errno.ENOSPC, errno.EDQUOT)

_ADVICE = {
    400: "The Hub calls the request wrong: read what it says, correct the folder, and push again.",
    401: "Log in with `hf auth login`, set HF_TOKEN, or pass a token that is still valid; then push again.",
    403: "Use a token that may write to {repo}, or ask its owner; with --create_pr the right to read is enough. Then push again.",
    404: "Check the name {repo} and whether your token may see it; then push again.",
    408: "Push again.",
    409: "Something else is changing {repo} at this moment: wait until it is done, look at the repository, and push again.",
    412: "Look at what is there now, and push again to put yours on top.",
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
        retry_after: seconds that the server wants us to wait.
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
        """The server said no, so nothing came of the request; otherwise it may have carried it out."""
        return self.status is not None and (self.status < 500 or self.status == 507) and self.status != 408


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def read_failure(error: Exception, repo_id: str, secrets: Iterable[str] = ()) -> Failure:
    """Put an exception of a push into words. `secrets`: words to blot out, beside those that look like tokens."""
    secrets = tuple(secrets)
    for one in _causes(error):
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


class Head(NamedTuple):
    """What a branch holds: its commit (None before the first) and its files."""

    commit: str | None
    files: frozenset[str]


@dataclass
class Remote:
    """A branch of a repository.

    Args:
        branch: where the commit goes, or what a pull request is opened against.
        token: as huggingface_hub takes it: a word, True or None for the one that is logged in, False for none.
    """

    repo_id: str
    branch: str = MAIN
    token: str | bool | None = None
    made: bool = field(default=False, init=False)
    """The repository did not exist before."""

    def __post_init__(self) -> None:
        word = get_token() if self.token in (None, True) else self.token
        self.secrets: tuple[str, ...] = (Secret(word),) if isinstance(word, str) else ()
        self.token = Secret(self.token) if isinstance(self.token, str) else self.token
        self._api = HfApi(token=self.token)

    def __repr__(self) -> str:
        return f"Remote({self.repo_id!r}, {self.branch!r})"

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.repo_id} ({self.branch})"

    def open(self, private: bool | None) -> Head:
        """The branch as it is; repository and branch are made where they are missing.

        Args:
            private: make the repository private; one that is public already is refused.
        """
        info = self._ask("looking at", lambda: self._info(None), missing=True)
        if info is None:
            # 409 says that it is there after all: of an attempt whose answer was lost, or hidden from this token
            self._ask("making", lambda: self._api.create_repo(self.repo_id, private=private), fine=409)
            self.made = True
            info = self._ask("looking at", lambda: self._info(None), missing=True)
        elif private and info.private is False:
            raise PublishingError(
                f"{self.repo_id} is public already, and --private was asked for; expected a private repository or none. Nothing "
                "was sent. Make it private in its settings, or push to another name."
            )
        if self.branch != MAIN:
            info = self._ask("looking at", lambda: self._info(self.branch), missing=True)
            if info is None:
                self._ask(
                    "making the branch of",
                    lambda: self._api.create_branch(self.repo_id, branch=self.branch, exist_ok=True),
                )
                info = self._ask("looking at", lambda: self._info(self.branch), missing=True)
        if info is None:
            return Head(None, frozenset())
        return Head(info.sha, frozenset(one.rfilename for one in info.siblings or ()))

    def _info(self, revision: str | None) -> Any:
        return self._api.model_info(self.repo_id, revision=revision)

    def publish(
        self, files: Mapping[str, Path], deletions: Sequence[str], *, head: Head, message: str, create_pr: bool
    ) -> CommitInfo:
        """Send the files and commit them, once and together.

        Args:
            head: the branch as `open` saw it.
            create_pr: as a pull request, which leaves the branch as it is.

        Returns:
            The commit; that of `head` when the branch holds all of this already.

        Raises:
            PublishingError: the Hub did not take it; says what has become of the branch.
        """
        with ExitStack() as handles:
            # huggingface_hub itself repeats what it uploads
            additions = self._ask("uploading to", lambda: self._upload(files, handles, create_pr), attempts=1)
            return self._commit(additions, deletions, head, message, create_pr)

    def _upload(self, files: Mapping[str, Path], handles: ExitStack, create_pr: bool) -> list[CommitOperationAdd]:
        """Send what is large, which nobody sees before the commit."""
        # The client sends large files by Xet without asking whether the server knows it. The public Hub does; for any other they
        # are handed over open, which the client sends by Git LFS.
        public = constants.ENDPOINT.rstrip("/") == constants.HUGGINGFACE_CO_URL_HOME.rstrip("/")
        additions = [
            CommitOperationAdd(name, path if public else handles.enter_context(path.open("rb")))
            for name, path in files.items()
        ]
        self._api.preupload_lfs_files(
            self.repo_id,
            additions,
            revision=self.branch,
            create_pr=create_pr,
            free_memory=False,
            gitignore_content="",  # one that stands in the repository must not keep a file back unsaid
        )
        return additions

    def _commit(
        self,
        additions: Sequence[CommitOperationAdd],
        deletions: Sequence[str],
        head: Head,
        message: str,
        create_pr: bool,
    ) -> CommitInfo:
        operations = [*additions, *(CommitOperationDelete(name, is_folder=False) for name in deletions)]
        changed: bool | None = False
        hint = ""
        for attempt in range(1, ATTEMPTS + 1):
            done = self._try(
                lambda: self._api.create_commit(
                    self.repo_id,
                    operations,
                    commit_message=message,
                    revision=self.branch,
                    create_pr=create_pr,
                    parent_commit=head.commit,
                )
            )
            if not isinstance(done, Failure):
                return done
            if not done.refused and create_pr:  # asking again could open another
                hint = "A pull request may have been opened all the same: look, before you push again."
                break
            changed = changed if done.refused else None
            if not self._wait(done, attempt, ATTEMPTS):
                break
        raise self._error("committing to", done, changed=changed, hint=hint)

    def _try(self, act: Callable[[], _Answer]) -> _Answer | Failure:
        """The answer, or what is left of the exception: never the exception, whose request carries the token."""
        try:
            return act()
        except Exception as error:  # noqa: BLE001 — the HTTP library goes by two names, and Xet raises what it likes
            return read_failure(error, self.repo_id, self.secrets)

    def _ask(
        self, doing: str, act: Callable[[], _Answer], *, missing: bool = False, fine: int = 0, attempts: int = ATTEMPTS
    ) -> Any:
        """The answer to a request that may be repeated without harm; None where `missing` allows that there is nothing, or for
        a status that is as good as success.
        """
        for attempt in range(1, attempts + 1):
            answer = self._try(act)
            if not isinstance(answer, Failure):
                return answer
            if missing and answer.kind in ("missing repository", "missing revision"):
                return None
            if answer.status == fine:
                return None
            if not self._wait(answer, attempt, attempts):
                break
        raise self._error(doing, answer)

    def _wait(self, failure: Failure, attempt: int, attempts: int) -> bool:
        """Whether to try again, after having waited for it."""
        if not failure.transient or attempt >= attempts:
            return False
        seconds = 2.0 ** (attempt - 1) if failure.retry_after is None else failure.retry_after
        if seconds > PATIENCE:
            return False
        logger.warning("%s Trying again in %.0f s (%d of %d).", _sentence(failure.text), seconds, attempt, attempts - 1)
        time.sleep(seconds)
        return True

    def _error(self, doing: str, failure: Failure, *, changed: bool | None = False, hint: str = "") -> PublishingError:
        if changed is None:
            state = (
                f"Whether {self.place} has changed could not be found out; it holds either all of this push or nothing of it, and "
                "pushing again is safe."
            )
        elif failure.status == 412:
            state = f"In {self.repo_id} somebody else has committed since this push began, and nothing of this push is in it."
        elif self.made:
            state = f"The repository {self.repo_id} was made just now, and nothing of this push is in it."
        else:
            state = f"{self.place} is as it was."
        words = [f"{_sentence(failure.text)[:-1]}, while {doing} {self.place}.", state, hint, failure.advice]
        return PublishingError(" ".join(word for word in words if word), changed)


def _sentence(text: str) -> str:
    text = text.rstrip(". ")
    return f"{text[:1].upper()}{text[1:]}."
