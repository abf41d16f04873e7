"""A long list of files, answered part by part into Parquet files: by several processes, and again after a kill.

    OUT/files.jsonl                       the list: one [name, size] a line
    OUT/manifest.json                     what is being answered, by which model, with which settings
    OUT/answers.parquet/part-000000.parquet …

A part is written under another name and renamed when it is whole, so that a part that is there is a part that is done. Each names
in its footer the run that it belongs to. List, model and settings are written first; going on with others is refused.

    run = open_run(out, entries, model=…, settings=…, part_size=512)          # by one process
    for part, files in run.pending(process=0, processes=2):
        run.write(part, table, files=len(files), errors=2)

This file knows lists, parts and their names; it knows no model and no picture.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from ..errors import ConfigurationError, InputError

__all__ = ["ANSWERS", "PartRun", "checkpoint_fingerprint", "open_run"]

logger = logging.getLogger(__name__)

SCHEMA = "meco_hub/answers"
SCHEMA_VERSION = 1
ANSWERS = "answers.parquet"
_LIST, _MANIFEST = "files.jsonl", "manifest.json"
_RUN, _COUNTS = b"meco_hub.run", b"meco_hub.counts"


@dataclass(frozen=True)
class PartRun:
    """A list that is being answered; may be handed to other processes.

    Attributes:
        folder: where everything lies.
        name: of the run, by what it depends on.
        files: how many are listed.
        part_size: files in a part.
        waiting: numbers of the parts that were not there when the run was opened.
    """

    folder: Path
    name: str
    files: int
    part_size: int
    waiting: tuple[int, ...]

    @property
    def parts(self) -> int:
        """How many there are in all."""
        return -(-self.files // self.part_size)

    def pending(self, process: int = 0, processes: int = 1) -> Iterator[tuple[int, list[str]]]:
        """The waiting parts of one process, in order, with the names of their files; read as they are asked for."""
        wanted = self.waiting[process::processes]
        with (self.folder / _LIST).open(encoding="utf-8") as lines:
            line = 0
            for part in wanted:
                first = part * self.part_size
                inside = islice(lines, first - line, first - line + self.part_size)
                names = [json.loads(one)[0] for one in inside]
                line = first + len(names)
                yield part, names

    def path(self, part: int) -> Path:
        """Where a part lies when it is done."""
        return self.folder / ANSWERS / f"part-{part:06d}.parquet"

    def write(self, part: int, table: pyarrow.Table, *, files: int, errors: int) -> None:
        """Write one part, whole or not at all."""
        counts = json.dumps({"files": files, "rows": table.num_rows, "errors": errors})
        marked = table.replace_schema_metadata({_RUN: self.name.encode(), _COUNTS: counts.encode()})
        target = self.path(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        # a leading dot hides it from whoever reads the folder as one data set
        half = target.with_name(f".{target.name}.{os.getpid()}")
        with half.open("wb") as stream:
            parquet.write_table(marked, stream)
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(target)

    def is_done(self, part: int) -> bool:
        """Whether a part is there, whole and of this run."""
        return _counts(self.path(part), self.name) is not None

    def counts(self) -> dict[str, int]:
        """`files`, `rows` and `errors` of the parts that are done, and how many `parts` these are."""
        total = {"files": 0, "rows": 0, "errors": 0, "parts": 0}
        for part in range(self.parts):
            found = _counts(self.path(part), self.name)
            if found is not None:
                total = {key: total[key] + found.get(key, 1) for key in total}
        return total


def _counts(file: Path, name: str) -> dict[str, int] | None:
    if not file.is_file():
        return None
    try:
        metadata = parquet.read_schema(file).metadata or {}
    except (pyarrow.ArrowException, OSError) as error:  # ArrowInvalid is both, and a ValueError
        logger.warning("%s cannot be read (%s) and is written again.", file, error)
        return None
    return json.loads(metadata[_COUNTS]) if metadata.get(_RUN) == name.encode() else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_whole(file: Path, text: str) -> None:
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(file)


def _write_list(file: Path, entries: Iterable[tuple[str, int]]) -> tuple[int, str]:
    """Write the list line by line, however long it is; gives its length and fingerprint."""
    digest, count = hashlib.sha256(), 0
    with file.open("w", encoding="utf-8") as stream:
        for entry in entries:
            line = json.dumps(list(entry)) + "\n"  # in ASCII, so that names that are no UTF-8 survive
            digest.update(line.encode())
            stream.write(line)
            count += 1
    return count, digest.hexdigest()


def open_run(
    folder: Path,
    entries: Iterable[tuple[str, int]],
    *,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    part_size: int,
) -> PartRun:
    """Begin a run, or go on with the one that lies there.

    Args:
        folder: where to; created when missing.
        entries: (name, size in bytes) of every file, in an order that is the same each time.
        model: what identifies the weights: "name" and "fingerprint".
        settings: whatever else the answers depend on.
        part_size: files in a part.

    Raises:
        ConfigurationError: another list, model or setting began in this folder; or something else lies there.
        InputError: the list is empty.
    """
    if part_size < 1:
        raise ConfigurationError(f"A part of {part_size} files was asked for; expected 1 or more.")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / _MANIFEST
    if not manifest.is_file() and (folder / ANSWERS).exists():
        raise ConfigurationError(
            f"{folder} holds {ANSWERS} without {_MANIFEST}, so nobody knows what these answers are of. Name another folder, or "
            "remove them."
        )
    for half in [*folder.glob(".*"), *(folder / ANSWERS).glob(".part-*")]:
        if half.name.startswith((f".{_LIST}.", f".{_MANIFEST}.", ".part-")):
            half.unlink()  # of a process that was killed
    listing = folder / f".{_LIST}.{os.getpid()}"
    count, digest = _write_list(listing, entries)
    if not count:
        listing.unlink()
        raise InputError("There is no file to answer for. Check the folder.")
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "model": dict(model),
        "settings": dict(settings),
        "files": {"count": count, "sha256": digest},
        "part_size": part_size,
    }
    if manifest.is_file():
        try:
            _check_same(_read_manifest(manifest), content, folder)
        finally:
            listing.unlink()
    else:
        listing.replace(folder / _LIST)
        _write_whole(manifest, json.dumps(content, indent=2) + "\n")  # last: a list without it is none
    run = PartRun(folder, _digest(content), count, part_size, ())
    waiting = tuple(part for part in range(run.parts) if not run.is_done(part))
    return PartRun(folder, run.name, count, part_size, waiting)


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}. Name another folder, or remove this one.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ConfigurationError(f"{file} is no manifest of answers; expected schema {SCHEMA!r}. Name another folder.")
    return content


def _check_same(begun: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    way_out = "Name another folder, or remove this one to begin anew."
    if begun.get("model") != wanted["model"]:
        raise ConfigurationError(
            f"{folder} was begun with the model {_brief(begun.get('model'))}; this is {_brief(wanted['model'])}. Answers of two "
            f"models do not belong together. {way_out}"
        )
    if begun.get("files") != wanted["files"]:
        raise ConfigurationError(
            f"{folder} was begun with {begun.get('files', {}).get('count')} files, and now there are "
            f"{wanted['files']['count']}, or others, or of other sizes. Expected the same list; {_LIST} holds it. {way_out}"
        )
    for key in ("settings", "part_size", "schema_version"):
        if begun.get(key) != wanted[key]:
            raise ConfigurationError(
                f"{folder} was begun with {key} {begun.get(key)!r}; now it is {wanted[key]!r}. Pass the same, or: {way_out}"
            )


def _brief(model: Any) -> str:
    model = model or {}
    return f"{model.get('name')} ({str(model.get('fingerprint'))[:12]})"


def checkpoint_fingerprint(source: str, commit: str | None = None) -> dict[str, str]:
    """What identifies a checkpoint: its last name, and a hash over weights and configs or the Hub's commit.

    Args:
        source: folder or Hub id.
        commit: of a Hub id, as its config tells.
    """
    folder = Path(source)
    if not folder.is_dir():
        return {"name": source, "fingerprint": commit or source}
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors") and file.is_file():
            with file.open("rb") as stream:
                digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return {"name": folder.resolve().name, "fingerprint": digest.hexdigest()}
