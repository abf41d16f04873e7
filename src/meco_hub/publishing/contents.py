"""What of a folder is published: weights, config, processor, card, report and pictures, each known by its name.

What is not known by name stays at home and is said to have stayed, so that neither an optimiser's state nor somebody's
notes leave by accident. A pickle anywhere but in a training's own checkpoints refuses the whole folder, whatever it is
called: whoever has one beside safetensors has not decided which of them is the model. So does anything that reads like a
password.
"""

import bz2
import gzip
import lzma
import pickletools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from .. import reading
from ..errors import PublishingError
from ..weight_files import INDEX, WEIGHTS

SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
CARD = "README.md"

_RECORDS = re.compile(r"(run|all_results|report[\w.-]*)\.json|recipe\.yaml|card\.yaml")
_PROCESSORS = re.compile(r"(preprocessor|processor|video_preprocessor)_config\.json")
_OTHERS = re.compile(r"config\.json|README\.md|(LICENSE|LICENCE|NOTICE)(\.\w+)?")
_PICTURE = re.compile(r".*\.(png|jpe?g|svg|webp)", re.IGNORECASE)
_PUBLISHED = (SHARD, _RECORDS, _PROCESSORS, _OTHERS, _PICTURE)
_STALE = re.compile(
    r"model[\w.-]*\.safetensors(\.index\.json)?|pytorch_model[\w.-]*\.bin(\.index\.json)?|meco_stub\.py"
)
_TRAINING = re.compile(r"((step|epoch)_\d+|best)(\..*)?")
"""Folders of a run that goes on, with what is half written of them: `training/arguments.py`."""

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


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Every file, and every folder that is not looked into, by its path below `root`."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.is_file():
            yield name, path
        elif (
            path.name.startswith(".")
            or not path.is_dir()
            or path.is_symlink()
            or (folder == root and _TRAINING.fullmatch(path.name))
        ):
            yield f"{name}/", path
        else:
            yield from _walk(path, root)


def read_contents(folder: Path, *, secrets: tuple[str, ...] = ()) -> Contents:
    """Sort a folder into what is published and what stays.

    Args:
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
        if name not in (WEIGHTS, INDEX) and not any(kind.fullmatch(name) for kind in _PUBLISHED):
            left_out.append(name)
            continue
        if not _stays_inside(path, folder):
            raise PublishingError(
                f"{path} is a link to {path.resolve()}, outside of the folder; expected what lies in it: nobody who looks at "
                "the folder sees what would be published. Nothing was sent. Put a copy in its place, or remove it."
            )
        _check_content(path, secrets)
        files[name] = path
    return Contents(files, tuple(left_out))


def _stays_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies where it seems to; in the Hub's cache, whose snapshots are links, in the same repository's blobs."""
    root = folder.resolve()
    cached = root.parent.name == "snapshots" and root.parents[1].name.startswith("models--")
    return path.resolve().is_relative_to(root) or (cached and path.resolve().is_relative_to(root.parents[1] / "blobs"))


def _check_content(path: Path, secrets: tuple[str, ...]) -> None:
    """A file is what its name says, and holds no password."""
    if path.suffix == ".safetensors":  # read whole when readiness is checked; its text is in its head
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
            f"{path} is no {path.suffix[1:]} picture, although it is named so: it begins with {text[:8]!r}. Nothing was sent. Fix "
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


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds."""
    content = reading.read_json(path, PublishingError, "Nothing was sent. Fix it, and push again.")
    if not isinstance(content, dict):
        raise PublishingError(
            f"{path} holds a {type(content).__name__}; expected a mapping. Nothing was sent. Fix it, and push again."
        )
    return content


# Is a file a pickle, whatever it is called? It is looked at, never loaded.
#
# Pickles come bare (of any protocol), compressed as joblib writes them, inside the zip or tar of `torch.save`, and inside
# numpy's arrays of objects.

_NAMES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_ACTS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
"""What a pickle needs in order to do anything; a text that happens to parse has none of them."""

_LOOKED_AT = 1 << 20
"""Bytes of a bare pickle of the old text protocols that are parsed."""

_COMPRESSED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda data: gzip.GzipFile(fileobj=BytesIO(data)).read(64),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data, 64),
    b"\xfd7zXZ": lambda data: lzma.LZMADecompressor().decompress(data, 64),
    b"\x78": lambda data: zlib.decompressobj().decompress(data, 64),
}


def pickled_as(path: Path) -> str | None:
    """How a file is a pickle, in words, or None when it is none."""
    if path.suffix.lower() in _NAMES:
        return f"named as a pickle is ({path.suffix})"
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            head = file.read(2)
        return "a pickle inside" if _begins_binary(head) else None  # a header of that length would be no JSON
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if _begins_binary(head) or _is_text_pickle(head):
        return "a pickle inside"
    for magic, begin in _COMPRESSED.items():
        if head.startswith(magic):
            try:
                return "a compressed pickle inside" if _begins_binary(begin(head)) else None
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
                return None  # not compressed after all
    if head.startswith(b"\x93NUMPY") and b"'|O'" in head[:256]:
        return "a numpy array of pickled objects"
    return _in_archive(path, head)


def _begins_binary(head: bytes) -> bool:
    return len(head) >= 2 and head[0] == 0x80 and head[1] <= 5


def _is_text_pickle(head: bytes) -> bool:
    seen = False
    try:
        for operation, _, _ in pickletools.genops(head):
            seen = seen or operation.name in _ACTS
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return seen


def _in_archive(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".pkl") for name in archive.namelist()):
                return "a zip with a pickle inside, as torch.save writes it"
            arrays = [name for name in archive.namelist() if name.endswith(".npy")]
            for name in arrays:
                with archive.open(name) as member:
                    if b"'|O'" in member.read(256):
                        return "numpy arrays of pickled objects"
    if head[257:262] == b"ustar":
        with tarfile.open(path) as archive:
            if any(name == "pickle" or name.endswith(".pkl") for name in archive.getnames()):
                return "a tar with a pickle inside, as torch.save once wrote it"
    return None


# Words that must never be seen: tokens and keys, found in what is published and blotted out of what is said.

_PATTERNS = {
    "a Hugging Face token": rb"\b(?:hf|api_org)_(?:oauth_|jwt_)?[A-Za-z0-9][A-Za-z0-9._-]{15,}",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": rb"\bgl(?:pat|oas|dt|rt|cbt|ptt|ft|soat|agent|imt)-[A-Za-z0-9_.-]{20,}",
    "an AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": rb"(?i:aws_?secret_?(?:access_?)?key)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    "a Google key": rb"\bAIza[A-Za-z0-9_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{20,}|\bya29\.[A-Za-z0-9_-]{20,}|\b1//0[A-Za-z0-9_-]{30,}",
    "an Azure key": rb"\bAccountKey=[A-Za-z0-9/+]{60,}={0,2}",
    "a Slack token": rb"\bxox[a-z](?:-[A-Za-z0-9]+){2,}|\bxapp-\d-[A-Za-z0-9-]{20,}|hooks\.slack\.com/services/T[A-Za-z0-9/]{20,}",
    "a Stripe key": rb"\b(?:sk|rk|whsec)_(?:(?:live|test)_)?[A-Za-z0-9]{20,}",
    "an npm token": rb"\bnpm_[A-Za-z0-9]{30,}",
    "a PyPI token": rb"\bpypi-[A-Za-z0-9_-]{40,}",
    "a Docker token": rb"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
    "a DigitalOcean token": rb"\bdo[opr]_v1_[a-f0-9]{40,}",
    "a Databricks token": rb"\bdapi[a-f0-9]{32}\b",
    "a SendGrid key": rb"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "a Twilio key": rb"\bSK[a-f0-9]{32}\b",
    "a Telegram token": rb"\b\d{8,10}:AA[A-Za-z0-9_-]{32,}",
    "an API key": rb"\b(?:sk|pk|gsk|xai|r8|nvapi|pplx|fw|tgp_v1)[-_][A-Za-z0-9_-]{32,}",
    "a signed token (JWT)": rb"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "an OAuth token": rb"(?i:access_?token|refresh_?token|id_?token|client_?secret)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9._~+/-]{20,}",
    "an authorisation header": rb"(?i:\bauthorization)[\"']?\s*[:=]\s*[\"']?(?i:bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{16,}",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,80}:[^\s/@\"'<>]{3,80}@",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+@|(?<=[\w/=-])\?[^\s'\"<>)]+")
"""User and password of a URL, and its query: that of a signed upload address is a key to it."""

_SHORTEST = 8
"""Characters; a shorter word of the user's would be found everywhere."""

HIDDEN = "***"


class Secret(str):
    """A token that does not show itself where local variables are printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def find_secret(content: bytes, known: Iterable[str] = ()) -> str | None:
    """What kind of secret a file holds, in words, or None."""
    for name, pattern in _COMPILED.items():
        if pattern.search(content):
            return name
    if any(len(word) >= _SHORTEST and word.encode() in content for word in known):
        return "the token of this push"
    return None


def blot_out(text: str, known: Iterable[str] = ()) -> str:
    """A text without secrets: a server may repeat what it was sent."""
    for word in known:
        if len(word) >= _SHORTEST:
            text = text.replace(word, HIDDEN)
    text = _IN_URL.sub("", text)
    for pattern in _COMPILED.values():
        text = re.sub(pattern.pattern.decode(), HIDDEN, text)
    return text
