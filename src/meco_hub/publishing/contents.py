"""What of a folder is published: weights, config, processor, card, report and pictures, each known by its name.

What is not known by name stays at home and is said to have stayed, so that neither an optimiser's state nor somebody's notes leave
by accident. A pickle anywhere but in a training's own checkpoints refuses the whole folder, whatever it is called: whoever has
one beside safetensors has not decided which of them is the model. So does anything that reads like a password.

This file knows names and contents of files; whether they make a model is checked in `readiness.py`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PublishingError
from ..weight_files import INDEX, WEIGHTS
from .pickles import pickled_as
from .secrets import find_secret

SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
CARD = "README.md"

_RECORDS = re.compile(r"(run|all_results|report[\w.-]*)\.json|recipe\.yaml|card\.yaml")
_PROCESSORS = re.compile(r"(preprocessor|processor|video_preprocessor)_config\.json")
_OTHERS = re.compile(r"config\.json|README\.md|(LICENSE|LICENCE|NOTICE)(\.\w+)?")
_PICTURE = re.compile(r".*\.(png|jpe?g|svg|webp)", re.IGNORECASE)
_STALE = re.compile(
    r"model[\w.-]*\.safetensors(\.index\.json)?|pytorch_model[\w.-]*\.bin(\.index\.json)?|meco_stub\.py"
)
_TRAINING = re.compile(r"((step|epoch)_\d+|best)(\..*)?")
"""Folders of a run that goes on, with what is half written of them: `training/output.py`."""

_MAGIC = {
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".webp": (b"RIFF",),
    ".svg": (b"<",),
}


@dataclass(frozen=True)
class Contents:
    """What goes, and what stays.

    Attributes:
        files: path in the repository → file.
        left_out: paths that stay at home, folders ending in "/".
    """

    files: dict[str, Path]
    left_out: tuple[str, ...]


def is_ours(path: str) -> bool:
    """Whether a push writes files of that name: one in the repository that a later push lacks is stale, and goes."""
    return bool(_STALE.fullmatch(path) or _RECORDS.fullmatch(path) or _PROCESSORS.fullmatch(path))


def is_record(path: str) -> bool:
    """Whether a file says something about these very weights, without being needed to load them."""
    return path == CARD or bool(_RECORDS.fullmatch(path) or _PICTURE.fullmatch(path))


def _goes(path: str) -> bool:
    if path in (WEIGHTS, INDEX) or SHARD.fullmatch(path):
        return True
    return any(kind.fullmatch(path) for kind in (_RECORDS, _PROCESSORS, _OTHERS, _PICTURE))


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Every file, and every folder that is not looked into, by its path below `root`."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_file():
            yield name, path
        elif path.name.startswith(".") or path.is_symlink() or (folder == root and _TRAINING.fullmatch(path.name)):
            yield f"{name}/", path
        else:
            yield from _walk(path, root)


def read_contents(folder: Path, *, secrets: tuple[str, ...] = ()) -> Contents:
    """Sort a folder into what is published and what stays.

    Args:
        folder: as `save_pretrained` or a training left it.
        secrets: words that must not leave, such as the token that the push uses.

    Raises:
        PublishingError: no folder, a pickle, an unreadable file, or something that reads like a password.
    """
    if not folder.is_dir():
        raise PublishingError(
            f"{folder} is no folder; expected one that `save_pretrained` or a training wrote. Nothing was sent."
        )
    files: dict[str, Path] = {}
    left_out: list[str] = []
    for name, path in _walk(folder, folder):
        if name.endswith("/") or path.name.startswith("."):
            left_out.append(name)
            continue
        kind = pickled_as(path)
        if kind is not None:
            raise PublishingError(
                f"{path} is {kind}, which can run code when read; expected safetensors and nothing of the kind beside them. "
                "Nothing was sent. Save the weights with `save_pretrained`, remove the file, and push again."
            )
        if not _goes(name):
            left_out.append(name)
            continue
        _check_content(path, secrets)
        files[name] = path
    return Contents(files, tuple(left_out))


def _check_content(path: Path, secrets: tuple[str, ...]) -> None:
    """A file is what its name says, and holds no password."""
    if path.suffix == ".safetensors":  # read whole by `readiness.py`; its text is in its head
        with path.open("rb") as file:
            text = file.read(8 + min(int.from_bytes(file.read(8), "little"), 1 << 24))
    else:
        text = path.read_bytes()
    found = find_secret(text, secrets)
    if found is not None:
        raise PublishingError(
            f"{path} holds what reads like {found}; expected a file that everybody may see. Nothing was sent. Take it out (and "
            "withdraw it where it was issued, if it was ever public), then push again."
        )
    if path.suffix.lower() in _MAGIC and not text.lstrip().startswith(_MAGIC[path.suffix.lower()]):
        raise PublishingError(
            f"{path} is no {path.suffix[1:]} picture, although it is named so: it begins with {text[:8]!r}. Nothing was sent. Mend "
            "or remove it, and push again."
        )
    if path.suffix == ".json":
        read_json(path)
    elif path.suffix in (".md", ".yaml", ".txt", ""):
        _decode(path, text)


def _decode(path: Path, text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PublishingError(
            f"{path} is no text: {error}. Expected UTF-8. Nothing was sent. Save it so, and push again."
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        PublishingError: it is none.
    """
    try:
        return json.loads(_decode(path, path.read_bytes()))
    except ValueError as error:
        raise PublishingError(f"{path} is no JSON: {error}. Nothing was sent. Mend it, and push again.") from error
