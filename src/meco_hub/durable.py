"""Files and folders that are complete or absent, whatever kills the process that writes them; and nothing of others written over.

Every output goes this way: `refuse_overwriting` and `refuse_unwritable` say before the work what may not or cannot be written, and
`whole_file` writes one file, `files_together` several that belong together.

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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, quote

_LONGEST_NAME = 255
"""Bytes of one name, of Linux, macOS and Windows alike."""

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


def _with_companions(file: Path) -> list[Path]:
    """A file, and what readers take with it unasked: EEGLAB's samples, the description of a table in BIDS."""
    name, beside = file.name.lower(), []
    if name.endswith(".set"):
        with suppress(OSError, ValueError):  # a folder that is not there, or an address
            beside = [one for one in file.parent.iterdir() if one.suffix.lower() == ".fdt"]
    elif name.endswith((".tsv", ".tsv.gz")):
        beside = [file.with_name(file.name.split(".")[0] + ".json")]
    return [file, *beside]


def refuse_overwriting(targets: Iterable[Path], *, overwrite: bool = False, read: Iterable[Path] = ()) -> None:
    """Refuse, before any work, to write where something lies.

    Args:
        targets: the files that will be written.
        overwrite: files that lie there may be replaced, but never one of `read`.
        read: files that are read; under whatever name, links included. A folder stands for all that lies below it,
            and a file for what is read with it.

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
        _refuse_device(name)
        if target.is_dir() or not overwrite:
            raise ConfigurationError(
                f"{target} exists already; expected nothing there, because no file of another run is replaced unasked. Name "
                "another place, or pass --overwrite (overwrite=True) where it may go."
            )


def _refuse_device(place: Path) -> None:
    """Refuse to put a file where a device, pipe or socket is, which nobody else would find any more: /dev/null, for one."""
    if place.exists() and not place.is_file() and not place.is_dir():
        raise ConfigurationError(
            f"{place} is a device or pipe; expected the name of a file, which takes its place. Name one."
        )


def refuse_unwritable(place: Path, *, inside: bool = False) -> None:
    """Refuse, before any work, a place below a file, or in a folder that nobody may write to.

    Args:
        inside: it is a folder, and something will be written in it.

    Raises:
        ConfigurationError: it is one.
    """
    above = Path(place).absolute()
    _refuse_long_names(above)
    above = above if inside else above.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise ConfigurationError(f"{place} cannot be written: {above} is no folder. Name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{place} cannot be written: the folder {above} may not be written to. Name another place."
        )


def _refuse_long_names(place: Path) -> None:
    long = next((part for part in place.parts if len(os.fsencode(part)) > _LONGEST_NAME), None)
    if long is not None:
        raise ConfigurationError(
            f"The name {quote(long)} has {len(os.fsencode(long))} bytes; expected {_LONGEST_NAME} at most, which is all that file "
            "systems take. Name another place."
        )


def refuse_filled(folder: Path, advice: str = "Name another.") -> None:
    """Refuse to write a folder where a file or a folder with something in it lies, or where nothing can be written.

    Raises:
        ConfigurationError: one does, or nothing can.
    """
    _refuse_long_names(folder)
    # what is being written there, or was when its process was killed, is nobody's file
    if folder.is_file() or (folder.is_dir() and not all(one.match(_UNNAMED) for one in folder.iterdir())):
        raise ConfigurationError(f"{folder} exists and is not empty; expected a new folder. {advice}")
    refuse_unwritable(folder, inside=True)


def _identities(read: Iterable[Path]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for path in (one for named in read for one in _with_companions(Path(named))):
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
        ConfigurationError: a file is there, and may not be replaced; or a device or pipe.
        OSError: there is no room, for one; names `place`.
    """
    _refuse_device(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    # its ending stays, by which some writers choose the format
    partial = place.with_name(_unnamed() + place.suffix[:20])
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
def naming(place: Path, partial: Path) -> Iterator[None]:
    """Let an error name `place`: of a disk that is full the system names nothing, and of what is half written a hidden name."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        if unnamed or (error.filename is not None and str(error.filename).startswith(str(partial))):
            error.filename = str(place)
        raise


def _unnamed() -> str:
    """A hidden name that nothing else has."""
    return f".{secrets.token_hex(8)}.{PARTIAL}"


_UNNAMED = f".{16 * '[0-9a-f]'}.{PARTIAL}*"


def remove_abandoned(folder: Path, age_s: float) -> None:
    """Remove what a killed process was writing in a folder, if nobody has touched it for so many seconds."""
    for path in folder.glob(_UNNAMED):
        with suppress(OSError):  # its writer lives, and has just renamed it
            if time.time() - path.stat().st_mtime > age_s:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A folder into which nobody else who asks here moves files meanwhile: who comes second waits, and then sees what is there.

    Where the system locks no folders (Windows, some network drives), everybody goes ahead.
    """
    held = None
    try:
        with suppress(ImportError, OSError):
            import fcntl

            held = os.open(folder, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        if held is not None:
            os.close(held)  # which ends the lock, as the end of the process does


@contextmanager
def files_together(
    folder: Path,
    last: str,
    check: Callable[[], None] | None = None,
    *,
    read: Iterable[Path] = (),
    stale: Sequence[str] = (),
) -> Iterator[Path]:
    """An empty folder to write into; when the block ends without an error, its files are on the disk and stand in `folder`.

    A folder that is there keeps its other files, and may be a mount point: what is written waits inside it, on the same file
    system. One that is not there is written beside its place, and appears at once.

    Args:
        folder: where they go; made when missing. Each of several who write there at once has a place of its own until then.
        last: name of the file that comes last, and whose old version goes first: while it is there, all the rest fits it.
        check: called when all is written and nobody else may move files there; what it raises keeps them out. None: as
            `refuse_filled`.
        read: files that are read, and therefore never written over.
        stale: patterns of files of an earlier work, which go when those of this one come.

    Raises:
        ConfigurationError: of `check`; a folder stands where a file goes; a file would be written over that is read.
        OSError: there is no room, for one; names `folder`. Nothing of what was written stays, and what lay there is as it was.
    """
    check = check or (lambda: refuse_filled(folder))
    place = folder if folder.is_dir() else folder.parent
    made = [one for one in (place, *place.parents) if not one.exists()]
    place.mkdir(parents=True, exist_ok=True)
    written = place / _unnamed()
    try:
        with naming(folder, written):
            written.mkdir()
            yield written
            sync_tree(written)
            if place is folder or not _appears(written, folder, check):
                _move_files(written, folder, last, check, read, stale)
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        for one in made:
            with suppress(OSError):  # somebody else writes there, too
                one.rmdir()
        raise
    shutil.rmtree(written, ignore_errors=True)


def _appears(written: Path, folder: Path, check: Callable[[], None]) -> bool:
    """Give a folder its name, unless there is one with something in it, whoever made it a moment ago."""
    check()
    try:
        written.rename(folder)
    except OSError:
        if folder.is_dir():
            return False
        raise
    sync_names(folder.parent)
    return True


def _move_files(
    written: Path, folder: Path, last: str, check: Callable[[], None], read: Iterable[Path], stale: Sequence[str]
) -> None:
    """Move the files in, `last` at the end; where that fails or is interrupted, what was there comes back."""
    names = [path.relative_to(written) for path in written.rglob("*") if not path.is_dir()]
    places = [folder / name for name in sorted(names, key=lambda name: (name == Path(last), name))]
    with alone_in(folder):
        refuse_overwriting(places, overwrite=True, read=read)
        check()
        leaving = {folder / last, *places}
        leaving |= {path for pattern in stale for path in folder.glob(pattern) if not path.is_dir()}
        aside = {place: place.with_name(_unnamed()) for place in leaving if os.path.lexists(place)}
        made = [one for one in {above for place in places for above in place.parents} if not one.exists()]
        try:
            for place in sorted(aside, key=lambda place: place != folder / last):
                try:  # a file stays where it is until another takes its place, since nothing comes back after a kill
                    os.link(place, aside[place], follow_symlinks=False)
                except (OSError, NotImplementedError):  # as on file systems that know one name a file
                    place.rename(aside[place])
            (folder / last).unlink(missing_ok=True)
            sync_names(folder)
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                _move(written / place.relative_to(folder), place)
            for place in leaving.difference(places):
                place.unlink(missing_ok=True)
            for changed in {place.parent for place in [*places, *aside]}:
                sync_names(changed)
        except BaseException:
            for place in places:
                if place not in aside:
                    place.unlink(missing_ok=True)
            for place, waiting in aside.items():
                if os.path.lexists(waiting):
                    place.unlink(missing_ok=True)  # of two names of one file, renaming would leave both
                    waiting.rename(place)
            for one in sorted(made, reverse=True):
                with suppress(OSError):
                    one.rmdir()
            raise
        for waiting in aside.values():
            waiting.unlink()


def _move(file: Path, place: Path) -> None:
    """Rename a file, or copy it where a folder on the way is another file system's."""
    try:
        file.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with whole_file(place) as partial:
            shutil.copyfile(file, partial)


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
        folder: in which `swap_in` and `remove` were under way.
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
