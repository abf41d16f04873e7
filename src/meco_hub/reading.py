"""What all readers of strangers' files share: a net at the door, limits of size, members of zips, and JSON.

    with reading(f"{path} cannot be read as npz", RecordingError, "Copy it again."):
        …                              # whatever a decoder raises comes out as one RecordingError that says so

Decoders document one exception and raise twenty others on damage, so none is listed anywhere. Sizes that a file declares are held
to limits before anything is allocated.
"""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .answer_warnings import DoubtfulInputWarning
from .errors import MecoError, quote

MAX_MEMBER = 2**30
"""Bytes of a file in a zip, unless a format needs less."""

PLENTY = 2**25
"""Bytes to which any file may unpack, be it ever so small: a day of zeros takes less. Text takes twenty times as much while it is
read."""

MAX_YAML, _DEEPEST = 2**20, 100
"""Bytes of YAML, and lists within lists of it: people write it, and its parser takes the square of the depth."""

MAX_JSON = 2**25
"""Bytes of a JSON file: indexes, reports and predictions have a few million at most."""


def reason(error: BaseException) -> str:
    """Why something failed, in one short line: the system's words, or the exception's, with its type where these say little."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # its own text repeats the path, however long
    text = " ".join(str(error).split())
    if " " in text and not isinstance(error, KeyError):
        return quote(text)
    return f"{type(error).__name__}: {quote(text)}" if text else type(error).__name__


@contextmanager
def reading(problem: str, kind: type[MecoError], remedy: str = "Copy it again from its source.") -> Iterator[None]:
    """The net at a reader's door: whatever is raised inside becomes one of our errors, and those that are ours pass.

    Args:
        problem: what cannot be done with which file, without a full stop.
        kind: of the error.
        remedy: what to do.

    Raises:
        MecoError: of that kind; or what was raised, where it is ours already. An import that fails passes too: no file is to blame.
    """
    try:
        yield
    except (MecoError, ImportError, DoubtfulInputWarning):  # the last where Python was told to raise warnings
        raise
    except Exception as error:
        raise kind(f"{problem} ({reason(error)}). {remedy}") from error


def refuse_special(path: Path, kind: type[MecoError], expected: str) -> None:
    """Make sure that a path is no pipe, socket or device, which may never end; one that is not there is for others to say."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise kind(f"{path} is a device or pipe; expected {expected}.")


def read_bytes(file: Path, kind: type[MecoError], limit: int) -> bytes:
    """A regular file's bytes, which are at most `limit`.

    Raises:
        MecoError: of that kind: it is larger, or a device or pipe. OSError where it cannot be opened.
    """
    refuse_special(file, kind, "a file")
    check_size(file.stat().st_size, str(file), kind, limit)
    return file.read_bytes()


def check_size(size: int, name: str, kind: type[MecoError], limit: int) -> None:
    """Refuse what declares more than `limit` bytes."""
    if size > limit:
        raise kind(
            f"{name} says that it holds {size} bytes; at most {limit} are read. It is damaged, or something else."
        )


def most_unpacked(packed: int) -> int:
    """Bytes that a file of that size may unpack to: a hundred times as many, or `PLENTY`."""
    return max(PLENTY, 100 * packed)


def check_packed(unpacked: int, packed: int, name: str, kind: type[MecoError]) -> None:
    """Refuse what claims to become more than `most_unpacked`: recordings cannot be packed so tightly."""
    if unpacked > most_unpacked(packed):
        raise kind(
            f"{name} says that its {packed} bytes hold {unpacked}, more than a hundred times as many. It is damaged, or made to "
            "fill memory. Unpack it yourself if you trust it."
        )


def check_dataset(dataset: Any, file: Path, kind: type[MecoError]) -> int:
    """Refuse a data set of HDF5 that lies in another file, or whose pieces, each unpacked as a whole, would fill memory.

    Args:
        dataset: of h5py.
        file: that was opened.
        kind: of the error.

    Returns:
        Its bytes, unpacked.
    """
    called = f"{file}, {quote(str(dataset.name))}"
    if dataset.is_virtual or dataset.external or not file.samefile(dataset.file.filename):
        raise kind(
            f"{called} lies in another file; expected one file that holds all of it. Put it into one by h5repack."
        )
    check_packed(math.prod(dataset.chunks or ()) * dataset.dtype.itemsize, file.stat().st_size, called, kind)
    return math.prod(dataset.shape) * dataset.dtype.itemsize


def ends_inside_line(file: Path) -> bool:
    """Whether a text's last line has no end, as of a file that was cut off; every writer of tables ends each."""
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - 4))
        return not stream.read().rstrip(b"\0").endswith((b"\n", b"\r"))


def decode_text(content: bytes) -> str:
    """A text in UTF-8, or in UTF-16 with the mark that Windows' editor and Excel begin it with.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def read_json(file: Path, kind: type[MecoError], expected: str, **options: Any) -> Any:
    """What a JSON file holds; `options` are those of `json.loads`.

    Raises:
        MecoError: of that kind: it cannot be read, is no JSON in UTF-8, is nested too deeply, or larger than `MAX_JSON`.
    """
    with reading(f"{file} cannot be read as JSON", kind, expected):
        return json.loads(read_bytes(file, kind, MAX_JSON).decode("utf-8-sig"), **options)


def read_yaml(file: Path, kind: type[MecoError], expected: str) -> Any:
    """What a YAML file holds; errors as of `read_json`, of `MAX_YAML`."""
    with reading(f"{file} cannot be read", kind, expected):
        return parse_yaml(read_bytes(file, kind, MAX_YAML).decode("utf-8-sig"))


def parse_yaml(text: str) -> Any:
    """What YAML holds that a stranger wrote.

    Refused is what is nested endlessly, and what refers to another place in it: a dozen such lines can make thousands of millions
    of values.

    Raises:
        ValueError: that, or it is too long. What PyYAML raises.
    """
    import yaml

    if len(text) > MAX_YAML:
        raise ValueError(f"it has {len(text)} characters, and more than {MAX_YAML} are not read")
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):  # one by one, so that it ends where it is too deep
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it refers to itself by *names. Write everything out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it has lists or mappings within each other, more than {_DEEPEST}")
    return yaml.safe_load(text)


def plain_name(member: str) -> str:
    """A zip member's name without the "./" that some archivers begin each with."""
    while member.startswith("./"):
        member = member[2:]
    return member


def find_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A zip's member by its name, whether or not the archive writes "./" in front.

    Raises:
        KeyError: there is none.
    """
    try:
        return archive.getinfo(name)
    except KeyError:
        return archive.getinfo(f"./{name}")


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, kind: type[MecoError], limit: int) -> bytes:
    """A member's bytes, never more than it declares, and that at most `limit`.

    Raises:
        MecoError: of that kind: it declares more. Whatever zipfile raises on damage.
    """
    check_size(info.file_size, name, kind, limit)
    with archive.open(info) as stream:
        return stream.read(info.file_size + 1)  # read() without a number would unpack all before it counts
