"""Folders that are complete or absent, whatever kills the process that writes them.

What is written gets a hidden name first (`.best.partial`), reaches the disk, and takes its place by renaming, which a file
system does wholly or not at all. What it replaces steps aside (`.best.replaced`) and what is to go is renamed
(`.step_2.removed`) before anything in it is deleted. So a name without a dot in front is never half of something, and
`restore_after_kill` knows from the hidden names alone what was under way when a process was killed.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

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
