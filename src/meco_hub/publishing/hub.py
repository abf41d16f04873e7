"""Pushing: a folder, a model, a processor or a pipeline, as one commit that strangers can load.

    push_folder("out", "me/my-model")                   what `meco push` does
    model.push_to_hub("me/my-model")                    the model, its processor, a card
    push_folder("out", "me/my-model", dry_run=True)     what would go, and nothing is asked of the Hub

A folder is checked before anything is sent: it loads, its outputs have names, its card says what it cannot do, and neither pickle
nor password is in it. What goes is prepared in a folder of its own, with a card where there is none and the stub by which
`trust_remote_code` finds the package; the folder that was handed in is not touched. The repository then holds what the folder
holds: weights, processors, records and reports of an earlier push that this one lacks are removed in the same commit, because they
would describe another model.

This file knows the order in which a push is prepared; requests are in `remote.py`.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, constants
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..errors import MecoError, PublishingError
from ..modeling import check_folder
from .contents import Contents, is_ours, read_contents
from .readiness import check_auto_map, check_ready
from .remote import MAIN, Remote
from .staging import stage
from .waiting import TIMEOUT, answering_within

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Push:
    """What was pushed, or in a dry run what would be.

    Attributes:
        repo_id, revision: where.
        files: path → bytes.
        left_out: paths that stay at home.
        removed: paths that went, being of an earlier push; unknown in a dry run.
        commit: None in a dry run.
        unchanged: the repository held all of this already, and there is no new commit.
    """

    repo_id: str
    revision: str
    files: dict[str, int]
    left_out: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    commit: CommitInfo | None = field(default=None, repr=False)
    unchanged: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "repo_id": self.repo_id,
            "revision": self.revision,
            "files": self.files,
            "bytes": sum(self.files.values()),
            "left_out": list(self.left_out),
            "removed": list(self.removed),
            "commit": self.commit.oid if self.commit else None,
            "url": self.commit.commit_url if self.commit else None,
            "pull_request": self.commit.pr_url if self.commit else None,
            "unchanged": self.unchanged,
        }


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    token: str | bool | None = None,
    tags: Sequence[str] = (),
    dry_run: bool = False,
    timeout: float = TIMEOUT,
) -> Push:
    """Push a checkpoint's folder as one commit.

    Args:
        folder: as `save_pretrained` or a training left it, processor included. Sharded weights go as they are.
        repo_id: "owner/name"; made when it does not exist.
        private: make it private; an existing public repository is then refused.
        revision: the branch, made when it does not exist; "main" by default.
        create_pr: open a pull request instead of committing to the branch.
        message: of the commit.
        token: as huggingface_hub takes it; by default the one that is logged in.
        tags: more tags for the card's metadata.
        dry_run: check, prepare and list everything, and send nothing.
        timeout: seconds after which a server that does not answer is given up.

    Raises:
        PublishingError: the folder must not or cannot be pushed, or the Hub did not take it. After it the branch holds what it held
            before, unless the message says that this is not known.
        CheckpointError, MecoError: the folder is no checkpoint, or its card is not fit to print.
    """
    folder = Path(folder)
    remote = _remote(repo_id, revision, token)
    contents = read_contents(folder, secrets=remote.secrets)
    with blame_disk():
        if "config.json" not in contents.files:
            check_folder(folder)  # which says what is there instead
        with stage(folder, contents, repo_id=repo_id, tags=tags) as (place, staged):
            with _naming(place, folder):
                check_ready(place, staged)
                check_auto_map(staged)
            return _send(remote, staged, private, create_pr, message or _message(staged), dry_run, timeout)


def push_files(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    token: str | bool | None = None,
    timeout: float = TIMEOUT,
) -> Push:
    """Push a folder that is no whole checkpoint, such as a processor's; nothing in the repository is removed.

    Arguments and errors are those of `push_folder`.
    """
    remote = _remote(repo_id, revision, token)
    contents = read_contents(folder, secrets=remote.secrets)
    if not contents.files:
        raise PublishingError(f"{folder} holds nothing that is published. Nothing was sent.")
    return _send(remote, contents, private, create_pr, message or _message(contents), False, timeout, tidy=False)


def check_destination(repo_id: str) -> None:
    """Refuse, without a request, what no push could go to: a name that is none, offline mode, nobody logged in.

    Raises:
        PublishingError: says which.
    """
    remote = _remote(repo_id, None, None)
    if constants.is_offline_mode():
        raise _offline()
    if not remote.secrets:
        raise PublishingError(
            f"Nobody is logged in, and a push to {repo_id} needs a token that may write there. Log in with `hf auth login` or set "
            "HF_TOKEN."
        )


def _offline() -> PublishingError:
    return PublishingError(
        "HF_HUB_OFFLINE is set, which forbids any request. Nothing was sent. Unset it, and push again; --dry_run works without."
    )


def _remote(repo_id: str, revision: str | None, token: str | bool | None) -> Remote:
    """Where it goes, checked as far as that needs no request."""
    problem = None
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        problem = str(error).rstrip(".")
    if problem or repo_id.count("/") != 1:
        raise PublishingError(
            f"{repo_id!r} names no repository{f' ({problem})' if problem else ''}; expected owner/name. Nothing was sent."
        )
    return Remote(repo_id, revision or MAIN, token)


def _message(contents: Contents) -> str:
    return "Upload model" if "config.json" in contents.files else "Upload processor"


def _send(
    remote: Remote,
    contents: Contents,
    private: bool | None,
    create_pr: bool,
    message: str,
    dry_run: bool,
    timeout: float,
    *,
    tidy: bool = True,
) -> Push:
    sizes = {name: path.stat().st_size for name, path in contents.files.items()}
    planned = Push(remote.repo_id, remote.branch, sizes, contents.left_out)
    if dry_run:
        return planned
    if constants.is_offline_mode():
        raise _offline()
    with answering_within(timeout):
        head = remote.open(private)
        stale = tuple(sorted(name for name in head.files if is_ours(name) and name not in sizes)) if tidy else ()
        commit = remote.publish(contents.files, stale, head=head, message=message, create_pr=create_pr)
    unchanged = commit.oid == head.commit
    return Push(remote.repo_id, remote.branch, sizes, contents.left_out, stale, commit, unchanged)


@contextmanager
def _naming(place: Path, folder: Path) -> Iterator[None]:
    """Errors about the prepared folder name the one that was handed in."""
    try:
        yield
    except MecoError as error:
        error.args = tuple(one.replace(str(place), str(folder)) if isinstance(one, str) else one for one in error.args)
        raise


@contextmanager
def blame_disk() -> Iterator[None]:
    """Say it in our words when this machine's disk is full or cannot be written to."""
    problem = None
    try:
        yield
    except OSError as error:
        if isinstance(error, MecoError):
            raise
        problem = str(error)
    if problem is not None:
        raise PublishingError(
            f"What is pushed could not be prepared: {problem}. Nothing was sent. Free some room or name another folder with "
            f"TMPDIR, now {tempfile.gettempdir()}; then push again."
        )
