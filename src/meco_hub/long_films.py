"""Films of any length into a data set: answered minute by minute, so that memory stays flat and a kill costs one minute.

    OUT/films/part-000003/
        000005-0000.parquet …       the rows of the first minute of the part's sixth file, as they will stand in the data set
        000005-0000.json …          its SHA-256, and what the next minute needs: time, people, smoothing

A minute is done when its record is there and names the bytes of its rows. Going on, the film is decoded from its beginning, which
keeps clocks and cuts as they were, and looked at from where the last minute ended. People are restored from the record, with their
ids, motion and smoothing, by the same lines as between two minutes of a run that nobody killed: so both write the same rows. Of
eyes, clips begin anew with each minute. The minutes are copied into the part when all its files are answered, and deleted.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .durable import hash_file, whole_file, write_json
from .errors import CheckpointError, InputError
from .pipeline import EmotionRecognitionPipeline
from .reading import read_json, reading
from .recordings.video import Video

MINUTE_S = 60.0
"""Seconds of film that are in memory at once, and that a kill may cost."""

Rows = list[dict[str, Any]]


class LongFilm:
    """One film of a part.

    Args:
        folder: of the part's minutes.
        index: of the film in its part.
        run: name of the run that the minutes belong to.
    """

    def __init__(self, folder: Path, index: int, run: str) -> None:
        self._folder, self._index, self._run = folder, index, run

    def tables(
        self,
        recognise: EmotionRecognitionPipeline,
        film: Video,
        table_of: Callable[[Rows], Any],
        rows_of: Callable[[Any], Rows],
        *,
        batch_size: int,
        options: dict[str, Any],
    ) -> Iterator[tuple[Any, int]]:
        """The film's rows as tables, each with how many errors it has: those that lie there, and then the others as they come.

        Args:
            table_of: rows → a table of the data set's schema.
            rows_of: an answer, or {"error": message} → its rows.
            options: of a call of the pipeline.
        """
        from pyarrow import parquet

        minute, record = 0, None
        while (found := self._record(minute)) is not None:
            record = found
            yield parquet.read_table(self._file(minute)), record["errors"]
            minute += 1
        if record is not None and record["ended"]:
            return
        state = None if record is None else record["state"]
        answers = recognise.film_parts(film, seconds=MINUTE_S, state=state, batch_size=batch_size, **options)
        while True:
            try:
                with reading(f"{film.name} cannot be used", InputError, "Check it, or leave it out."):
                    answer, state = next(answers, (None, None))
            except (InputError, CheckpointError) as error:
                answer, state = {"error": str(error)}, None
            if answer is None:
                return
            rows, errors = rows_of(answer) if answer else [], int(isinstance(answer, dict))
            if state is None and not rows and film.warnings:  # nobody is in the last minute
                name = rows_of({"error": ""})[0]["file"]
                rows = [{"file": name, "warnings": [one.to_dict() for one in film.warnings]}]
            table = table_of(rows)
            self._write(minute, table, {"errors": errors, "state": state, "ended": state is None})
            yield table, errors
            minute += 1
            if state is None:
                return

    def _file(self, minute: int) -> Path:
        return self._folder / f"{self._index:06d}-{minute:04d}.parquet"

    def _write(self, minute: int, table: Any, record: dict[str, Any]) -> None:
        from pyarrow import parquet

        file = self._file(minute)
        with whole_file(file) as half:
            parquet.write_table(table, half)
            digest = hash_file(half)
        write_json({"run": self._run, "sha256": digest, **record}, file.with_suffix(".json"))

    def _record(self, minute: int) -> dict[str, Any] | None:
        file = self._file(minute)
        try:
            record = read_json(file.with_suffix(".json"), CheckpointError, "")
            whole = record["run"] == self._run and record["sha256"] == hash_file(file)
        except (CheckpointError, OSError, KeyError, TypeError):
            return None
        return record if whole else None


def forget(folder: Path) -> None:
    """Delete the minutes of a part that is done."""
    shutil.rmtree(folder, ignore_errors=True)
