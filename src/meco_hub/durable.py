"""Files and folders that are complete or absent, whatever kills the process that writes them; and nothing of others written over.

Every output goes this way: `refuse_overwriting` and `refuse_unwritable` say before the work what may not or cannot be written, and
`whole_file` writes one file, `whole_folder` a folder.

What is written gets a hidden name first (`.best.partial`), reaches the disk, and takes its place by renaming, which a file
system does wholly or not at all. What it replaces steps aside (`.best.replaced`) and what is to go is renamed
(`.step_2.removed`) before anything in it is deleted. So a name without a dot in front is never half of something, and
`restore_after_kill` knows from the hidden names alone what was under way when a process was killed.
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConfigurationError

PARTIAL, REPLACED, REMOVED = "partial", "replaced", "removed"


def hidden(place: Path, state: str) -> Path:
    """Where what belongs at `place` stands while it is being written, replaced or removed."""
    return place.with_name(f".{place.name}.{state}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Return when all files of a folder, and their names, are on the disk itself."""
    if os.name == "nt":  # which can neither open a folder nor sync what was opened for reading
        return
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            _sync(path)


def sync_names(folder: Path) -> None:
    """Return when what was renamed in a folder is on the disk itself."""
    if os.name != "nt":
        _sync(folder)


def refuse_overwriting(targets: Iterable[Path], *, overwrite: bool = False, read: Iterable[Path] = ()) -> None:
    """Refuse, before any work, to write where something lies.

    Args:
        targets: the files that will be written.
        overwrite: files that lie there may be replaced, but never one of `read`.
        read: files that are read; under whatever name, links included. A folder stands for all that lies below it.

    Raises:
        ConfigurationError: names the first file that would be lost, or cannot be written.
    """
    sources: set[tuple[int, int]] | None = None  # of what is read, where one of the targets is there
    wanted: set[Path] = set()
    for target in targets:
        if (name := Path(target).absolute()) in wanted:
            raise ConfigurationError(f"{target} would be written twice; expected another name for each. Name another.")
        wanted.add(name)
        refuse_unwritable(name)
        if not os.path.lexists(target):
            continue
        if sources is None:
            sources = _identities(read)
        if target.exists() and _identity(target) in sources:
            raise ConfigurationError(
                f"{target} is read, and would be written over; expected another place. Name another file or folder to write to."
            )
        if target.is_dir() or not overwrite:
            raise ConfigurationError(
                f"{target} exists already; expected nothing there, because no file of another run is replaced unasked. Name "
                "another place, or pass --overwrite (overwrite=True) where it may go."
            )


def refuse_unwritable(place: Path, *, inside: bool = False) -> None:
    """Refuse, before any work, a place below a file, or in a folder that nobody may write to.

    Args:
        inside: it is a folder, and something will be written in it.

    Raises:
        ConfigurationError: it is one.
    """
    above = Path(place).absolute()
    above = above if inside else above.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise ConfigurationError(f"{place} cannot be written: {above} is no folder. Name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{place} cannot be written: the folder {above} may not be written to. Name another place."
        )


def refuse_filled(folder: Path, advice: str = "Name another.") -> None:
    """Refuse to write a folder where a file or a folder with something in it lies, or where nothing can be written.

    Raises:
        ConfigurationError: one does, or nothing can.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigurationError(f"{folder} exists and is not empty; expected a new folder. {advice}")
    refuse_unwritable(folder, inside=True)


def _identities(read: Iterable[Path]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for path in read:
        with suppress(OSError, ValueError):  # an address, or a file that is not there: nothing to lose
            found.add(_identity(path))
            for below in path.rglob("*") if path.is_dir() else ():
                with suppress(OSError):
                    found.add(_identity(below))
    return found


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def whole_file(place: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A name to write a file under; when the block ends without an error, it is on the disk and stands at `place`, all of it.

    Args:
        place: where the file shall be; its folder is made.
        overwrite: it may replace one that came there meanwhile. What lay there before is for `refuse_overwriting`.

    Raises:
        ConfigurationError: a file is there, and may not be replaced.
        OSError: there is no room, for one; names `place`.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    # its ending stays, by which some writers choose the format
    partial = place.with_name(f".{secrets.token_hex(8)}.{PARTIAL}{place.suffix}")
    try:
        with naming(place, partial):
            yield partial
            if os.name != "nt":
                _sync(partial)
        if overwrite:
            partial.replace(place)
        else:
            _put(partial, place)
        sync_names(place.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """An empty folder to write into; when the block ends without an error, it is on the disk and stands at `place`, all of it.

    Args:
        place: where the folder shall be; new or empty, as `refuse_filled` says before the work. Each of several who write there at
            once has a folder of its own until then.

    Raises:
        ConfigurationError: somebody else wrote there meanwhile.
        OSError: there is no room, for one; names `place`. Nothing of what was written stays.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as inside,
        naming(place, Path(inside)),
    ):
        written = Path(inside, place.name)
        written.mkdir()
        yield written
        sync_tree(written)
        refuse_filled(place)
        if place.is_dir():
            place.rmdir()
        written.rename(place)
        sync_names(place.parent)


@contextmanager
def naming(place: Path, partial: Path) -> Iterator[None]:
    """Let an error name `place`: of a disk that is full the system names nothing, and of what is half written a hidden name."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        if unnamed or (error.filename is not None and str(error.filename).startswith(str(partial))):
            error.filename = str(place)
        raise


def remove_abandoned(folder: Path, age_s: float) -> None:
    """Remove what `whole_file` left in a folder when its process was killed, if nobody has touched it for so many seconds."""
    for path in folder.glob(f".{16 * '[0-9a-f]'}.{PARTIAL}*"):
        with suppress(OSError):  # its writer lives, and has just renamed it
            if path.is_file() and time.time() - path.stat().st_mtime > age_s:
                path.unlink()


def hash_file(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """JSON has no NaN; what is undefined is null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(value: Any, file: Path) -> None:
    """Write strict, readable JSON: undefined numbers as null, keys in their own order, a line feed at the end."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # a row of a confusion matrix is read as a row; no bracket inside, so strings with brackets keep their lines
    text = re.sub(r"\[\n\s*([^][{}]*?)\n\s*\]", lambda found: "[" + re.sub(r"\n *", " ", found[1]) + "]", text)
    with whole_file(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _put(partial: Path, place: Path) -> None:
    """Give a file its name, unless there is one of that name, whoever made it a moment ago."""
    try:
        os.link(partial, place)
    except FileExistsError:
        refuse_overwriting([place])
    except OSError:  # a file system without hard links
        refuse_overwriting([place])
        partial.rename(place)


def begin(place: Path) -> Path:
    """An empty folder to write what shall stand at `place`; `swap_in(place)` puts it there."""
    partial = hidden(place, PARTIAL)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def swap_in(place: Path) -> None:
    """Put what was written for `place` there, and remove what stood there."""
    partial, replaced = hidden(place, PARTIAL), hidden(place, REPLACED)
    sync_tree(partial)
    if place.exists():
        if replaced.exists():
            shutil.rmtree(replaced)
        place.rename(replaced)
    partial.rename(place)
    sync_names(place.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def move_files(written: Path, folder: Path, last: str) -> None:
    """Move the files that were written into the folder of `begin(written)` into `folder`, beside what it holds already.

    Args:
        written: the name they were written under, on the same file system.
        folder: where they go, one by one.
        last: name of the file that is moved last, and whose old version goes first: while it is there, all the rest fits it.
    """
    partial = hidden(written, PARTIAL)
    sync_tree(partial)
    (folder / last).unlink(missing_ok=True)
    sync_names(folder)
    for path in sorted(partial.iterdir(), key=lambda path: (path.name == last, path.name)):
        if path.is_dir() and (folder / path.name).is_dir():
            remove(folder / path.name)
        path.replace(folder / path.name)
    sync_names(folder)
    partial.rmdir()


@contextmanager
def files_together(folder: Path, last: str) -> Iterator[Path]:
    """An empty folder to write into; when the block ends without an error, its files stand in `folder`, beside what it holds.

    Args:
        folder: where they go; made when missing. Each of several who write there at once has a folder of its own until then.
        last: as of `move_files`. Other files of `folder` stay, in its own folders too.

    Raises:
        OSError: there is no room, for one; names `folder`. Nothing of what was written stays, and what lay there is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".", suffix=f".{PARTIAL}", dir=folder) as place,
        naming(folder, Path(place)),
    ):
        written = Path(place)
        yield written
        sync_tree(written)
        names = [path.relative_to(written) for path in written.rglob("*") if not path.is_dir()]
        (folder / last).unlink(missing_ok=True)
        sync_names(folder)
        for name in sorted(names, key=lambda name: (name == Path(last), name)):
            (folder / name).parent.mkdir(exist_ok=True)
            (written / name).replace(folder / name)
        sync_names(folder)


def remove(place: Path) -> None:
    """Remove a folder, which is gone at once or not at all."""
    removed = hidden(place, REMOVED)
    if removed.exists():
        shutil.rmtree(removed)
    place.rename(removed)
    shutil.rmtree(removed)


def link_tree(source: Path, target: Path) -> None:
    """Make `target` a folder with the files of `source`, which from then on nobody may change in place.

    Files are hard links, which take no space; where the file system has none, copies.
    """
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copy2(path, copy)


def _name(path: Path) -> str:
    return path.name[1:].rpartition(".")[0]


def restore_after_kill(folder: Path, names: re.Pattern[str], is_complete: Callable[[Path], bool]) -> list[str]:
    """Bring a folder in order after a kill: finish what only lacked its renaming, undo and remove the rest.

    Args:
        folder: in which `swap_in`, `move_files` and `remove` were under way.
        names: of what was written in it; anything else is left alone.
        is_complete: says whether something that was being written is whole.

    Returns:
        What was found and done, in words, one line each; nothing when all was in order.
    """
    done = []
    found = {
        state: [path for path in sorted(folder.glob(f".*.{state}")) if path.is_dir() and names.fullmatch(_name(path))]
        for state in (PARTIAL, REPLACED, REMOVED)
    }
    for state in (PARTIAL, REPLACED):  # a new one that is whole goes before the old one that stepped aside for it
        for path in found[state]:
            place = path.with_name(_name(path))
            if not place.exists() and is_complete(path):
                path.rename(place)
                done.append(f"{place.name} was whole but for its name, and is kept")
    for state, paths in found.items():
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
                if state == PARTIAL:
                    done.append(f"{_name(path)} was being written when the run was killed, and is begun anew")
    return done
