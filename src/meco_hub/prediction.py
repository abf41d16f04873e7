"""Answers for files: what `meco predict` runs.

One bad file never costs the others their answer: it comes back as a row with `error`. A few files are answered at once;
`predict_folder` answers any number, part by part into a Parquet data set, by as many processes as there are, and goes on where it
was killed.

This file knows files and rows; the pipeline knows the rest.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import plugins
from .drawing import annotate_image
from .errors import CheckpointError, InputError, MecoError
from .recordings.images import read_image

logger = logging.getLogger(__name__)

PART_SIZE = 512
"""Files in a part: what a kill may cost, and what is in memory at once."""

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def list_files(inputs: Sequence[Path], *, pictures: bool = True) -> list[Path]:
    """The files named, with folders replaced by the pictures below them, in sorted order.

    A path that does not exist stays in the list: reading it gives the error that names it.

    Args:
        inputs: files and folders.
        pictures: False for signals and eye clips, of which a folder is one recording.

    Raises:
        InputError: nothing is left, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in inputs:
        if not (pictures and path.is_dir()):
            files.append(path)
            continue
        inside = sorted(sub for sub in path.rglob("*") if sub.suffix.lower() in PICTURES and sub.is_file())
        if not inside:
            raise InputError(
                f"The folder {path} holds no picture; expected files ending in {', '.join(sorted(PICTURES))}. "
                "Name the files themselves if they end otherwise."
            )
        files += inside
    if not files:
        raise InputError("No file was named; expected at least one picture.")
    return files


def _locate(model: str | None) -> str:
    if model is not None:
        return plugins.locate_checkpoint(model)
    folder = plugins.default_checkpoint()
    if folder is None:
        raise CheckpointError(
            "No model was named and no installed plugin bundles a default one. Name a model, or install a plugin."
        )
    return plugins.locate_checkpoint(str(folder))


def _load_pipeline(source: str, **options: Any) -> Any:
    from transformers import pipeline

    from .loading import read_config
    from .pipeline import TASK

    read_config(source)  # whose error says what is missing, where transformers' own does not
    return pipeline(TASK, model=source, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _reads_recordings(recognise: Any) -> bool:
    """Whether the checkpoint's processor reads its own kind of recording, rather than pictures."""
    processors = (recognise.processor, recognise.feature_extractor, recognise.image_processor)
    return any(hasattr(one, "read") for one in processors)


def _annotate(rows: list[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for row in rows:
        if "error" in row:
            continue
        source = Path(row["file"])
        # Two folders may hold a file of one name; the second picture must not replace the first.
        name, count = f"{source.stem}.png", 1
        while name in taken:
            count += 1
            name = f"{source.stem}-{count}.png"
        taken.add(name)
        annotate_image(read_image(source), row["answer"]).save(folder / name)
        row["annotated"] = str(folder / name)


def predict_files(
    inputs: Sequence[Path],
    *,
    model: str | None = None,
    faces: str | None = None,
    top_k: int | None = None,
    batch_size: int = 8,
    annotate: Path | None = None,
) -> list[dict[str, Any]]:
    """Answer for every file, or for every picture in a folder.

    Args:
        inputs: files and folders; of signals and eye clips a folder is one recording.
        model: bundled checkpoint, folder or Hub id; the bundled face checkpoint when None.
        faces, top_k: as in `EmotionRecognitionPipeline`.
        batch_size: pictures per forward pass.
        annotate: folder to write the pictures to with their answers drawn in.

    Returns:
        One row per file in order: {"file", "answer"} or {"file", "error"}.

    Raises:
        InputError: there is no file at all.
        UnknownNameError, CheckpointError: the model cannot be found or loaded.
    """
    recognise = _load_pipeline(_locate(model))
    files = list_files(inputs, pictures=not _reads_recordings(recognise))
    answers = recognise((str(path) for path in files), batch_size=batch_size, faces=faces, top_k=top_k, errors="return")
    rows: list[dict[str, Any]] = []
    for path, answer in tqdm(zip(files, answers, strict=True), total=len(files), disable=len(files) < 32, unit="file"):
        if isinstance(answer, dict) and "error" in answer:
            rows.append({"file": str(path), "error": answer["error"]})
        else:
            rows.append({"file": str(path), "answer": answer})
    if annotate is not None:
        _annotate(rows, annotate)
    return rows


def walk_files(inputs: Sequence[Path], *, pictures: bool) -> Iterator[tuple[str, int]]:
    """(path, size in bytes) of the files named and of those in the folders, one at a time and always in the same order.

    Args:
        inputs: files and folders. Of folders every picture below them is taken; or, of signals and eye clips, of which a folder
            may itself be one, every entry.
        pictures: whether pictures are looked for.
    """
    for path in inputs:
        if not path.is_dir():
            yield str(path), path.stat().st_size if path.is_file() else -1
        elif pictures:
            for folder, inner, names in os.walk(path):
                inner.sort()
                for name in sorted(names):
                    file = Path(folder, name)
                    if file.suffix.lower() in PICTURES and file.is_file():
                        yield str(file), file.stat().st_size
        else:
            for entry in sorted(path.iterdir()):
                if not entry.name.startswith("."):
                    yield str(entry), entry.stat().st_size if entry.is_file() else -1


class _Rows:
    """Answers as columns of a table.

    Args:
        names: classes or targets in the model's order.
        classes: there is a top answer.
        over_time: answers may run over time.
    """

    def __init__(self, names: Sequence[str], *, classes: bool, over_time: bool) -> None:
        import pyarrow

        self._names, self._classes, self._over_time = names, classes, over_time
        text, number = pyarrow.string(), pyarrow.float32()
        fields = [("file", text), ("label", text), ("score", number), *((f"score_{name}", number) for name in names)]
        line = pyarrow.list_(number)
        if over_time:
            fields += [("times", pyarrow.list_(pyarrow.float64())), *((f"course_{name}", line) for name in names)]
        else:
            fields += [("face", pyarrow.int32()), ("box", line)]
        self._schema = pyarrow.schema([*fields, ("error", text)])

    def table(self, files: Sequence[str], answers: Sequence[Any]) -> Any:
        """One row per file; more where every face was asked for, and one with its error where there is no answer."""
        import pyarrow

        rows: list[dict[str, Any]] = []
        for file, answer in zip(files, answers, strict=True):
            # a name that is no UTF-8 cannot stand in a table as it is
            name = os.fsencode(file).decode("utf-8", "replace")
            if isinstance(answer, dict):
                rows.append({"file": name, "error": answer["error"]})
                continue
            faces = answer if answer and "expressions" in answer[0] else [{"expressions": answer}]
            for index, face in enumerate(faces):
                rows.append({"file": name, **self._row(face["expressions"])})
                if not self._over_time:
                    box = face.get("box") or face["expressions"][0].get("box")
                    rows[-1] |= {"face": index if box else None, "box": list(box.values()) if box else None}
        return pyarrow.Table.from_pylist(rows, schema=self._schema)

    def _row(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        row: dict[str, Any] = {f"score_{entry['label']}": entry["score"] for entry in entries}
        if self._classes:
            row |= {"label": entries[0]["label"], "score": entries[0]["score"]}
        if self._over_time and "times" in entries[0]:
            row["times"] = entries[0]["times"]
            row |= {f"course_{entry['label']}": entry["scores"] for entry in entries}
        return row


def predict_folder(
    inputs: Sequence[Path],
    output: Path,
    *,
    model: str | None = None,
    faces: str | None = None,
    batch_size: int = 8,
    part_size: int = PART_SIZE,
    progress: bool = True,
) -> dict[str, Any]:
    """Answer for any number of files into `output/answers.parquet`, a data set of parts; go on with it if it was begun.

    Under `torchrun` or `accelerate launch` every process answers its share of the parts.

    Args:
        inputs, model, faces, batch_size: as of `predict_files`; folders as of `walk_files`.
        output: folder; see `evaluation/shards.py` for what lies in it.
        part_size: files in a part.
        progress: show a progress bar.

    Returns:
        `files`, `rows`, `errors`, `parts` of the whole data set, and `answers`, its path. Only the main process waits for the
        others; what they return counts what was there when they had finished.

    Raises:
        InputError: there is no file at all.
        ConfigurationError: another list, model or setting began in this folder.
        UnknownNameError, CheckpointError: the model cannot be found or loaded.
    """
    from .evaluation.processes import join_processes
    from .evaluation.shards import ANSWERS, PartRun, checkpoint_fingerprint, open_run
    from .evaluation.task import task_of_model

    # listing millions of files takes one process longer than the others would usually wait
    state = join_processes(timedelta(days=1))
    source = _locate(model)
    recognise = _load_pipeline(source, device=state.device)
    over_time = _reads_recordings(recognise)
    task = task_of_model(recognise.model)

    def begin() -> PartRun:
        return open_run(
            output,
            walk_files(inputs, pictures=not over_time),
            model=checkpoint_fingerprint(source, getattr(recognise.model.config, "_commit_hash", None)),
            settings={"faces": faces, "columns": list(task.names)},
            part_size=part_size,
        )

    run = _decide_together(begin)
    rows = _Rows(task.names, classes=not task.regression, over_time=over_time)
    done = run.files - sum(min(run.part_size, run.files - part * run.part_size) for part in run.waiting)
    show = progress and state.is_local_main_process
    with tqdm(total=run.files, initial=done, unit="file", desc="predict", disable=not show) as bar:
        for part, files in run.pending(state.process_index, state.num_processes):
            answers = list(recognise((file for file in files), batch_size=batch_size, faces=faces, errors="return"))
            errors = sum(isinstance(answer, dict) for answer in answers)
            run.write(part, rows.table(files, answers), files=len(files), errors=errors)
            bar.update(len(files))
        if state.is_main_process:
            # by looking for files and not at a barrier, whose patience ends
            while any(not run.path(part).is_file() for part in run.waiting):
                time.sleep(0.5)
            bar.update(bar.total - bar.n)
    return {**run.counts(), "answers": str(output / ANSWERS)}


def _decide_together(begin: Any) -> Any:
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
