"""Pushing: a folder, a model, a processor or a pipeline, as one commit that strangers can load.

    push_folder("out", "me/my-model")                   what `meco push` does
    model.push_to_hub("me/my-model")                    the model, its processor, a card
    push_folder("out", "me/my-model", dry_run=True)     what would go, without a request to the Hub

A folder is checked before anything is sent: it loads, its outputs have names, its card says what it cannot do, and
neither pickle nor password is in it. What goes is prepared in a folder of its own, with a card where there is none and
the stub by which `trust_remote_code` finds the package; the folder that was handed in is not touched. The repository then
holds what the folder holds: weights, processors, records and reports of an earlier push that this one lacks are removed
in the same commit, because they would describe another model.
"""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Unpack

import torch
from huggingface_hub import CommitInfo, ModelCard, constants, get_session
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import HFValidationError, _http, validate_repo_id
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from .. import plugins
from ..durable import write_json
from ..errors import MecoError, PublishingError
from ..exported import is_exported
from ..loading import load_processor
from ..weight_files import INDEX, WEIGHTS, check_folder, check_numbers, list_some, read_index, same_shape
from . import PushOptions
from .contents import CARD, SHARD, Contents, is_ours, read_contents, read_json
from .remote import MAIN, Remote

logger = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds in which nothing at all comes from the server, or goes to it."""


@dataclass(frozen=True)
class Push:
    """What was pushed, or in a dry run what would be.

    Attributes:
        removed: paths that went, being of an earlier push; unknown in a dry run.
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
    commit_message: str | None = None,
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
        commit_message: of the commit.
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
    if is_exported(folder):
        raise PublishingError(
            f"{folder} is what `meco export` wrote, a graph without weights; expected a checkpoint, from which others can go on. "
            f"Nothing was sent. Push what it was made from; `hf upload {repo_id} {folder}` sends the graph as it is, card and all."
        )
    remote = _remote(repo_id, revision, token)
    contents = read_contents(folder, secrets=remote.secrets)
    with blame_disk():
        if "config.json" not in contents.files:
            check_folder(folder)  # which says what is there instead
        with stage(folder, contents, repo_id=repo_id, tags=tags) as (place, staged):
            with _naming(place, folder):
                check_ready(place, staged)
                check_auto_map(staged)
            if dry_run:
                return _planned(remote, staged)
            return _send(remote, staged, private, create_pr, commit_message, timeout)


def push_files(folder: Path, repo_id: str, **options: Unpack[PushOptions]) -> Push:
    """Push a folder that is no whole checkpoint, such as a processor's; nothing in the repository is removed.

    Arguments and errors are those of `push_folder`.
    """
    remote = _remote(repo_id, options.get("revision"), options.get("token"))
    contents = read_contents(folder, secrets=remote.secrets)
    if not contents.files:
        raise PublishingError(f"{folder} holds nothing that is published. Nothing was sent.")
    wanted = options.get("private"), options.get("create_pr", False), options.get("commit_message")
    return _send(remote, contents, *wanted, tidy=False)


def check_destination(repo_id: str) -> None:
    """Refuse, without a request, what no push could go to: a name that is none, offline mode, nobody logged in."""
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


def _planned(remote: Remote, contents: Contents) -> Push:
    sizes = {name: path.stat().st_size for name, path in contents.files.items()}
    return Push(remote.repo_id, remote.branch, sizes, contents.left_out)


def _send(
    remote: Remote,
    contents: Contents,
    private: bool | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    timeout: float = TIMEOUT,
    *,
    tidy: bool = True,
) -> Push:
    if constants.is_offline_mode():
        raise _offline()
    planned = _planned(remote, contents)
    message = commit_message or ("Upload model" if "config.json" in contents.files else "Upload processor")
    with answering_within(timeout):
        head = remote.open(private)
        stale = (
            tuple(sorted(name for name in head.files if is_ours(name) and name not in planned.files)) if tidy else ()
        )
        commit = remote.publish(contents.files, stale, head=head, message=message, create_pr=create_pr)
    return replace(planned, removed=stale, commit=commit, unchanged=commit.oid == head.commit)


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


# Does a folder load? Asked before it is pushed: config, processor, names, the heads of the files, and whether the weights are
# numbers.
#
# The network is built on the meta device, where it takes no memory, and its parameters are compared with what the
# safetensors say of themselves: a file that is cut short, lies about its length or belongs to another model is found before
# a stranger finds it.

_PLACEHOLDER = re.compile(r"LABEL_\d+")
_SHOWN = 4
"""Names listed of those that differ."""

_DO = "Nothing was sent. Save the model with `save_pretrained`, all files of it, and push again."


def check_ready(folder: Path, contents: Contents) -> None:
    """Refuse a folder that a stranger could not load."""
    if "config.json" in contents.files:
        _check_files(contents)
    entries = check_folder(folder) or {}
    cls, config = _declared_class(folder)
    _check_names(folder, cls, config)
    with torch.device("meta"):
        model = cls(config)
    check_numbers(folder)
    _compare(folder, model, {name: entry.shape for name, entry in entries.items()})
    try:
        load_processor(str(folder))
    except MecoError as error:
        raise PublishingError(f"{error} Nothing was sent.") from error


def check_auto_map(contents: Contents) -> None:
    """Refuse an `auto_map` that names a file which does not go along."""
    for name in contents.files:
        if not name.endswith("config.json"):
            continue
        for door, target in (read_json(contents.files[name]).get("auto_map") or {}).items():
            for one in filter(None, target if isinstance(target, list) else [target]):
                module = f"{str(one).split('.')[0]}.py"
                if module not in contents.files:
                    raise PublishingError(
                        f"The auto_map of {contents.files[name]} sends {door} to {one}, but {module} does not go along. Whoever "
                        "has not installed the plugin could not load it. Nothing was sent. Remove auto_map there, and push again."
                    )


def _declared_class(folder: Path) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    read_json(folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise PublishingError(
            f"The config of {folder} cannot be read: {str(error).split('. ')[0]}. Expected one of a registered architecture, see "
            f"`meco list`. {_DO}"
        ) from error
    entry = plugins.architecture(config.model_type)
    known = {path.rpartition(":")[2]: path for path in (entry.head, entry.base_model)}
    (name,) = getattr(config, "architectures", None) or (entry.head.rpartition(":")[2],)
    if name not in known:
        raise PublishingError(
            f"{folder / 'config.json'} says its class is {name}; expected {' or '.join(known)}, those of {config.model_type}. {_DO}"
        )
    return plugins.load_dotted(known[name]), config


def _check_names(folder: Path, cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """A label index never leaves without its name."""
    if cls.__name__ == plugins.architecture(config.model_type).base_model.rpartition(":")[2]:
        return  # a base model has no labels
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    unnamed = [name for name in names if _PLACEHOLDER.fullmatch(name) or not name.strip()]
    if unnamed or not names or len(set(names)) < len(names):
        seen = ", ".join(names[:_SHOWN]) or "none"
        raise PublishingError(
            f"The labels of {folder / 'config.json'} are {seen}; expected a name of its own for each output. Nothing was sent. Set "
            "id2label and label2id in the config, and push again."
        )


def _check_files(contents: Contents) -> None:
    """One file of weights, or the shards that their index names, no more of either."""
    files = contents.files
    shards = {name for name in files if SHARD.fullmatch(name)}
    if WEIGHTS in files and (shards or INDEX in files):
        raise PublishingError(
            f"The folder holds {WEIGHTS} and shards as well ({list_some(shards) or INDEX}); expected one or the other, since "
            "nobody can tell which of them is the model. Nothing was sent. Remove what is old, and push again."
        )
    if WEIGHTS in files:
        return
    if INDEX not in files:
        raise PublishingError(
            f"The folder holds {list_some(shards) or 'no weights'}; expected {WEIGHTS}, or shards and {INDEX}. {_DO}"
        )
    unnamed = shards - set(read_index(files[INDEX]))
    if unnamed:
        raise PublishingError(
            f"The folder holds {list_some(unnamed)}, which {INDEX} does not name; expected its shards alone. Nothing was sent. "
            "Remove what is old, and push again."
        )


def _compare(folder: Path, model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    # tied to another tensor, which the file holds in its stead
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    missing = [name for name in expected if name not in shapes and name not in tied]
    unexpected = [name for name in shapes if name not in expected]
    differing = [
        f"{name} {shapes[name]} instead of {shape}"
        for name, shape in expected.items()
        if not same_shape(shapes.get(name, shape), shape)
    ]
    if missing or unexpected or differing:
        parts = [
            f"{word} {list_some(names)}"
            for word, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
            if names
        ]
        raise PublishingError(
            f"The weights of {folder} are not those of a {type(model).__name__} with this config: {'; '.join(parts)}. {_DO}"
        )


# --- Staging ----------------------------------------------------------------------------------------------------------
# What is pushed is prepared in a folder of its own: links to the weights, copies of the rest, and what the folder lacked. Among
# the latter is a stub, for people who load the repository without importing us.
#
#     config.json                auto_map: AutoConfig, AutoModel, AutoProcessor and native heads → meco_stub.…
#     preprocessor_config.json   auto_map: AutoImageProcessor → meco_stub.…
#     processor_config.json      auto_map: AutoProcessor → meco_stub.…
#     meco_stub.py               imports these classes from the installed packages, or says which packages to install
#
# transformers reads it only with `trust_remote_code=True` and only when meco_hub is not imported: where it is, its registered
# classes are taken without a question. A feature extractor has no entry of its own: transformers' pipelines would take it for
# a remote image processor, and ask whether it may run; AutoProcessor gives it. The stub is written when a folder is pushed, and
# never when one is saved (`configuration.NoRemoteCode` says why).

STUB = "meco_stub.py"
_MODULE = Path(STUB).stem
_UNFILLED = "[More Information Needed]"


@contextmanager
def stage(
    folder: Path, contents: Contents, *, repo_id: str, tags: Sequence[str] = ()
) -> Iterator[tuple[Path, Contents]]:
    """A temporary folder that holds what is pushed, and its contents; gone when the block is left."""
    from .card import check_card, render_card  # which brings jinja2

    with tempfile.TemporaryDirectory(prefix="meco-push-") as temporary:
        place = Path(temporary) / (folder.resolve().name or "model")
        place.mkdir()
        for name, path in contents.files.items():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _bring(path.resolve(), target)
        _leave_people_out(place / "run.json")
        added = write_stub(place)
        if CARD not in contents.files:
            (place / CARD).write_text(render_card(place, repo_id=repo_id), encoding="utf-8")
            added.append(CARD)
        text = (place / CARD).read_text(encoding="utf-8")
        if tags:
            card = ModelCard(text)
            data: Any = card.data
            data.tags = list(dict.fromkeys([*(data.tags or []), *tags]))
            text = str(card)
            (place / CARD).write_text(text, encoding="utf-8")
        if _UNFILLED in text:
            raise PublishingError(
                f"{CARD} still says {_UNFILLED!r}; expected a card that was filled in. Nothing was sent. Fill it in, or remove it: "
                "`meco card` renders one."
            )
        check_card(text, CARD)
        names = sorted({*contents.files, *added})
        yield place, Contents({name: place / name for name in names}, contents.left_out)


def _leave_people_out(file: Path) -> None:
    """Take the fingerprints of people out of a record: whoever can guess a name, or count to S99, knows it by its hash."""
    if not file.is_file():
        return
    record = read_json(file)
    sides = record.get("data")
    for side in sides.values() if isinstance(sides, dict) else ():
        if isinstance(side, dict):
            side.pop("people", None)
    write_json(record, file)


def _bring(source: Path, target: Path) -> None:
    if source.suffix != ".safetensors":
        shutil.copyfile(source, target)
        return
    try:
        target.symlink_to(source)
    except OSError:  # Windows wants a privilege for links
        shutil.copyfile(source, target)


def _doors(entry: plugins.Architecture, folder: Path) -> dict[str, dict[str, str]]:
    """File → Auto class → dotted path of the class that it shall give."""
    doors = {
        "config.json": {
            "AutoConfig": entry.config,
            "AutoModel": entry.base_model,
            **dict.fromkeys(entry.native_heads, entry.head),
        }
    }
    if entry.processor is None and (part := entry.feature_extractor or entry.image_processor):
        doors["config.json"]["AutoProcessor"] = part
    single = folder / "preprocessor_config.json"
    if single.is_file() and entry.image_processor and "feature_extractor_type" not in read_json(single):
        doors[single.name] = {"AutoImageProcessor": entry.image_processor}
    if (folder / "processor_config.json").is_file() and entry.processor:
        doors["processor_config.json"] = {"AutoProcessor": entry.processor}
    return doors


def _imports(paths: set[str]) -> str:
    modules: dict[str, list[str]] = {}
    for path in sorted(paths):
        module, _, name = path.partition(":")
        modules.setdefault(module, []).append(name)
    return "\n".join(
        f"    from {module} import {', '.join(sorted(names))}  # noqa: F401" for module, names in modules.items()
    )


def write_stub(folder: Path) -> list[str]:
    """Make a folder loadable by those who have not imported us; the folder is the one that is pushed, not the one worked in.

    Returns:
        Names of the files written or changed; none when no healthy plugin provides the architecture.
    """
    entry = plugins.architectures().healthy.get(read_json(folder / "config.json").get("model_type", ""))
    if entry is None:
        return []
    doors = _doors(entry, folder)
    for name, classes in doors.items():
        content = read_json(folder / name)
        content["auto_map"] = {auto: f"{_MODULE}.{path.partition(':')[2]}" for auto, path in classes.items()}
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    template = resources.files(str(__package__)).joinpath("templates", f"{STUB}.txt").read_text(encoding="utf-8")
    packages = f"meco-hub {plugins.architectures().distributions[entry.model_type]}"
    paths = {path for classes in doors.values() for path in classes.values()}
    stub = template.replace("@IMPORTS@", _imports(paths)).replace("@PACKAGES@", packages)
    (folder / STUB).write_text(stub, encoding="utf-8")
    return [*doors, STUB]


# --- Timeouts ---------------------------------------------------------------------------------------------------------


@contextmanager
def answering_within(seconds: float) -> Iterator[None]:
    """Let no request of huggingface_hub wait longer than this for a sign of life; by default it waits for ever.

    There is no public way to say so for all of its requests. The client of now is reached by `get_session`, those that replace it
    after a failed connection only by a private name, which a test pins down on both ends of the supported range.
    """

    def impose(request: Any) -> None:
        # here and not on the client: some calls pass a timeout of their own, namely none
        given = request.extensions.get("timeout") or {}
        parts = ("connect", "read", "write", "pool")
        within = {part: min(seconds, given[part]) if given.get(part) else seconds for part in parts}
        request.extensions = {**request.extensions, "timeout": within}

    def bound(client: Any) -> Any:
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], impose]}
        return client

    # The client of now, and those that replace it after a failed connection.
    client, factory = bound(get_session()), _http._GLOBAL_CLIENT_FACTORY
    _http._GLOBAL_CLIENT_FACTORY = lambda: bound(factory())
    try:
        yield
    finally:
        _http._GLOBAL_CLIENT_FACTORY = factory
        for one in {id(each): each for each in (client, get_session())}.values():
            hooks = one.event_hooks
            one.event_hooks = {**hooks, "request": [hook for hook in hooks["request"] if hook is not impose]}
