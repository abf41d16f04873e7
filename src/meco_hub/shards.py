"""A long list of files, answered part by part into Parquet files: by several processes, and again after a kill.

    OUT/files.jsonl                       the list: one [name, size] a line
    OUT/manifest.json                     what is being answered, by which model, with which settings
    OUT/answers.parquet/part-000000.parquet …
    OUT/done/part-000000.json …           of each part: the run that it belongs to, its counts, and its SHA-256
    OUT/films/part-000000/ …              minutes of films of a part that is not done; see `long_films`

List, model and settings are written first; going on with others is refused. Every file is written under another name, reaches
the disk, and is renamed. A part is done when it has the bytes that its record names; any other is written again. Whoever opens a
run waits for whoever is opening it; two that have opened the same may both write, and write the same.

    run = open_run(out, entries, model=…, settings=…, part_size=512)          # by one process
    for part, files in run.pending(process=0, processes=2):
        run.write(part, table, files=len(files), errors=2)
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .durable import hash_file, refuse_overwriting, remove_abandoned, whole_file, write_json
from .errors import ConfigurationError, InputError, MecoError, require_count
from .reading import read_json, reading

if TYPE_CHECKING:  # of the extra `train`, which answers for single files need not have
    import pyarrow
    from accelerate import PartialState

logger = logging.getLogger(__name__)


SCHEMA = "meco_hub/answers"
SCHEMA_VERSION = 5
ANSWERS = "answers.parquet"
_LIST, _MANIFEST, _DONE, _LOCK, _FILMS = "files.jsonl", "manifest.json", "done", ".lock", "films"
_CHECK = "check"
"""Key of a record's own fingerprint, by which its counts are known to be those that were written."""
_RUN = b"meco_hub.run"
_ABANDONED_S = 3600.0
"""A half-written file that nobody has touched for so long is of a process that was killed."""


def join_processes(patience: timedelta = timedelta(hours=2)) -> "PartialState":
    """This process's place among those that were launched; the first call decides, and later ones find the same.

    Accelerate's state alone would not look for others on a machine without an accelerator, and every process would do all the work.

    Args:
        patience: how long a process waits for another.

    Raises:
        ConfigurationError: several processes were launched, and they cannot be brought together.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    launched = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    alone = accelerator is None or accelerator.type == "mps"  # which no backend connects
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (launched > 1 and alone)
    state = PartialState(cpu=cpu, timeout=patience)
    if launched > 1 and state.num_processes != launched:
        raise ConfigurationError(
            f"{launched} processes were launched and Accelerate brings {state.num_processes} together; expected all. Set "
            "ACCELERATE_USE_CPU=true, or launch with `accelerate launch`."
        )
    return state


@dataclass(frozen=True)
class ResumableRun:
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
                with reading(f"{lines.name} has changed while it was read", ConfigurationError, "Begin the run again."):
                    names = [json.loads(one)[0] for one in inside]
                if len(names) != min(self.part_size, self.files - first):
                    raise ConfigurationError(
                        f"{lines.name} ends before part {part}; expected {self.files} files, as when the run was opened. Begin it "
                        "again, which writes the list again."
                    )
                line = first + len(names)
                yield part, names

    def path(self, part: int) -> Path:
        """Where a part lies when it is done."""
        return self.folder / ANSWERS / f"part-{part:06d}.parquet"

    def films(self, part: int) -> Path:
        """Where minutes of films lie until the part is done."""
        return self.folder / _FILMS / f"part-{part:06d}"

    def write(self, part: int, table: "pyarrow.Table", *, files: int, errors: int) -> None:
        """Write one part, whole or not at all."""
        self.write_tables(part, [(table, errors)], schema=table.schema, files=files)

    def write_tables(
        self, part: int, tables: "Iterable[tuple[pyarrow.Table, int]]", *, schema: "pyarrow.Schema", files: int
    ) -> None:
        """The same of tables, each with how many errors it has, are written as they come."""
        from pyarrow import parquet

        rows = errors = 0
        marked = schema.with_metadata({_RUN: self.name.encode()})
        with whole_file(self.path(part)) as half:  # hidden from whoever reads the folder as one data set
            with parquet.ParquetWriter(half, marked) as writer:
                for table, wrong in tables:
                    writer.write_table(table.replace_schema_metadata(marked.metadata))
                    rows, errors = rows + table.num_rows, errors + wrong
            digest = hash_file(half)
        record = {"run": self.name, "files": files, "rows": rows, "errors": errors, "sha256": digest}
        write_json(record | {_CHECK: _digest(record)}, self._record_file(part))

    def _record_file(self, part: int) -> Path:
        return self.folder / _DONE / f"part-{part:06d}.json"

    def record(self, part: int) -> dict[str, Any] | None:
        """What was noted of a part when it was written; None where it was not, or by another run."""
        try:
            found = read_json(self._record_file(part), ConfigurationError, "")
        except ConfigurationError:
            return None
        if not isinstance(found, dict):
            return None
        check = found.pop(_CHECK, None)
        return found if found.get("run") == self.name and check == _digest(found) else None

    def is_done(self, part: int) -> bool:
        """Whether a part is there, of this run, and has the very bytes that were written."""
        record, file = self.record(part), self.path(part)
        if record is None or not file.is_file():
            return False
        try:
            whole = hash_file(file) == record.get("sha256")
        except OSError:
            whole = False
        if not whole:
            logger.warning("%s is not as it was written, and is written again.", file)
        return whole

    def counts(self) -> dict[str, int]:
        """`files`, `rows` and `errors` of the parts that were written, and how many `parts` these are."""
        total = {"files": 0, "rows": 0, "errors": 0, "parts": 0}
        for part in range(self.parts):
            found = self.record(part)
            if found is not None:
                total = {key: total[key] + found.get(key, 1) for key in total}
        return total


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
) -> ResumableRun:
    """Begin a run, or go on with the one that lies there.

    Args:
        folder: where to; created when missing.
        entries: (name, size in bytes) of every file, in an order that is the same each time.
        model: what identifies the weights: "name" and "fingerprint".
        settings: whatever else the answers depend on.
        part_size: files in a part.

    Raises:
        ConfigurationError: another list, model or setting began in this folder; or something else lies there. Nothing is changed.
        InputError: the list is empty.
    """
    require_count("part_size", part_size)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        manifest = folder / _MANIFEST
        found = [name for name in (ANSWERS, _DONE) if os.path.lexists(folder / name)]
        if found and not manifest.is_file():
            raise ConfigurationError(
                f"{folder} holds {found[0]} without {_MANIFEST}, so nobody knows what these answers are of. Name another folder, "
                "or remove them."
            )
        with whole_file(folder / _LIST) as listing:
            count, digest = _write_list(listing, entries)
            if not count:
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
                _check_same(_read_manifest(manifest), content, folder)
            elif os.path.lexists(folder / _LIST) and hash_file(folder / _LIST) != digest:
                refuse_overwriting(
                    [folder / _LIST]
                )  # nor is it ours, of a run that was killed before it had a manifest
        # from here on the run is known to be the same, and its list is whole, whatever became of the one that lay there
        if not manifest.is_file():
            with whole_file(manifest) as half:
                half.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        remove_abandoned(folder, _ABANDONED_S)
        remove_abandoned(folder / ANSWERS, _ABANDONED_S)
        run = ResumableRun(folder, _digest(content), count, part_size, ())
        waiting = tuple(part for part in range(run.parts) if not run.is_done(part))
        for part in waiting:  # so that a record that is there says that the part was written
            run._record_file(part).unlink(missing_ok=True)
        return ResumableRun(folder, run.name, count, part_size, waiting)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; where the system has no such locks, as many as come."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Another process is opening %s; this one waits for it.", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logger.warning("%s cannot be locked (%s); let no second process begin there now.", folder, error)
        yield


def _read_manifest(file: Path) -> dict[str, Any]:
    content = read_json(file, ConfigurationError, "Name another folder, or remove this one.")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ConfigurationError(f"{file} is no manifest of answers; expected schema {SCHEMA!r}. Name another folder.")
    return content


def _check_same(begun: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    way_out = "Name another folder, or remove this one to begin anew."
    if begun.get("model") != wanted["model"]:
        raise ConfigurationError(
            f"{folder} was begun with the model {_brief(begun)}; this is {_brief(wanted)}. Answers of two "
            f"models do not belong together. {way_out}"
        )
    if begun.get("files") != wanted["files"]:
        raise ConfigurationError(
            f"{folder} was begun with {_of(begun, 'files', 'count')} files, and now there are "
            f"{wanted['files']['count']}, or others, or of other sizes. Expected the same list; {_LIST} holds it. {way_out}"
        )
    for key in ("settings", "part_size", "schema_version"):
        if begun.get(key) != wanted[key]:
            raise ConfigurationError(
                f"{folder} was begun with {key} {begun.get(key)!r}; now it is {wanted[key]!r}. Pass the same, or: {way_out}"
            )


def _brief(content: Mapping[str, Any]) -> str:
    return f"{_of(content, 'model', 'name')} ({str(_of(content, 'model', 'fingerprint'))[:12]})"


def _of(content: Mapping[str, Any], part: str, key: str) -> Any:
    """What a manifest says; None where it does not."""
    found = content.get(part)
    return found.get(key) if isinstance(found, Mapping) else None


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
            digest.update(file.name.encode() + bytes.fromhex(hash_file(file)))
    return {"name": folder.resolve().name, "fingerprint": digest.hexdigest()}


def decide_together(begin: Any) -> Any:
    """What the main process made of it, in all processes: its result, or its error."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    shared: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            shared[0] = begin()
        except MecoError as error:
            shared[1] = error
    broadcast_object_list(shared)
    if shared[1] is not None:
        raise shared[1]
    return shared[0]
