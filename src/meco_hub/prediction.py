"""Answers for files: what `meco predict` runs.

One bad file never costs the others their answer: it comes back as a row with `error`. A few files are answered at once;
`predict_folder` answers any number, part by part into a Parquet data set, by as many processes as there are, and goes on
where it was killed.
"""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from . import plugins
from .durable import refuse_overwriting, refuse_unwritable, whole_file
from .errors import ConfigurationError, DependencyError, ImageError, InputError, require_count
from .recordings.images import CLUTTER, OTHER_CHECKPOINT, PICTURE_SUFFIXES, read_image
from .recordings.picture_tables import SCHEME, picture_rows
from .recordings.video import Video, frame_step, is_video
from .shards import ANSWERS, ResumableRun, checkpoint_fingerprint, decide_together, join_processes, open_run

if TYPE_CHECKING:  # of the extra `train`, which answers for single files need not have
    pass

logger = logging.getLogger(__name__)


# --- Drawing ----------------------------------------------------------------------------------------------------------
# Drawing answers into pictures: a box around each face, the expression and its score beside it.

_INK = (255, 214, 0)
_PAPER = (0, 0, 0)


def _faces(answer: list[dict[str, Any]]) -> list[tuple[dict[str, float] | None, list[dict[str, Any]]]]:
    if answer and "expressions" in answer[0]:
        return [(face["box"], face["expressions"]) for face in answer]
    return [(answer[0].get("box"), answer)] if answer else []


def annotate_image(image: Image.Image, answer: list[dict[str, Any]], lines: int = 2) -> Image.Image:
    """A copy of the picture with the answer drawn in.

    Args:
        image: any mode; the copy is RGB.
        answer: what the pipeline returned for it, in any of its three forms.
        lines: how many expressions are written per face.
    """
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    size = max(12, round(min(drawn.size) / 24))
    font = ImageFont.load_default(size)
    for box, expressions in _faces(answer):
        if box is not None:
            draw.rectangle((box["xmin"], box["ymin"], box["xmax"], box["ymax"]), outline=_INK, width=max(2, size // 8))
        text = "\n".join(f"{entry['label']} {entry['score']:.2f}" for entry in expressions[:lines])
        x, y = (box["xmin"], box["ymax"]) if box is not None else (0, 0)
        left, top, right, bottom = draw.multiline_textbbox((x, y), text, font=font)
        # Near the lower edge the text would fall off the picture; it then stands inside it.
        shift = min(0, drawn.height - (bottom + 4))
        draw.rectangle((left - 3, top + shift - 3, right + 3, bottom + shift + 3), fill=_PAPER)
        draw.multiline_text((x, y + shift), text, font=font, fill=_INK)
    return drawn


# --- Files --------------------------------------------------------------------------------------------------------------

PARQUET = ".parquet"

PART_SIZE = 512
"""Files in a part: what a kill may cost, and what is in memory at once."""


def list_files(inputs: Sequence[Path | str], *, pictures: bool = True) -> list[str]:
    """The files named, with folders replaced by the pictures below them, in sorted order; what was left out is logged.

    A path that does not exist stays in the list: reading it gives the error that names it.

    Args:
        inputs: files, folders, and addresses.
        pictures: False for signals and eye clips, of which a folder is one recording.

    Raises:
        InputError: nothing is left, or a folder holds no picture.
    """
    files: list[str] = []
    left_out: Counter[str] = Counter()
    for path in inputs:
        if not pictures:
            files.append(str(path))
            continue
        inside = [name for name, _ in walk_files([path], pictures=True, left_out=left_out)]
        if not inside:
            raise InputError(
                f"The folder {path} holds no picture; expected files ending in {', '.join(sorted(PICTURE_SUFFIXES))}. "
                f"Name the files themselves if they end otherwise. {OTHER_CHECKPOINT}"
            )
        files += inside
    if not files:
        raise InputError("No file was named; expected at least one picture.")
    _tell_left_out(left_out)
    return files


def _tell_left_out(left_out: Mapping[str, int]) -> None:
    if left_out:
        seen = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        logger.warning("Left out of the folders, because they are no pictures by their names: %s.", seen)


def _annotated_names(files: Sequence[str], folder: Path) -> dict[str, Path]:
    """Where each picture goes with its answer drawn in; two folders may hold a file of one name."""
    places: dict[str, Path] = {}
    taken: set[str] = set()
    for file in files:
        stem, count = Path(file).stem, 1
        name = f"{stem}.png"
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}.png"
        taken.add(name.casefold())
        places.setdefault(file, folder / name)
    return places


def predict_files(
    inputs: Sequence[Path | str],
    *,
    model: str | None = None,
    faces: str | None = None,
    min_face: float | None = None,
    abstain_below: float | str | None = None,
    top_k: int | None = None,
    batch_size: int = 8,
    annotate: Path | None = None,
    overwrite: bool = False,
    written: Sequence[Path] = (),
    strict: bool = False,
    streams: Mapping[str, Sequence[str]] | None = None,
    rows: list[dict[str, Any]] | None = None,
    every: float | None = None,
    fps: float | None = None,
    smooth: float | None = None,
) -> list[dict[str, Any]]:
    """Answer for every file, or for every picture in a folder.

    Args:
        inputs: files, folders and addresses; of signals and eye clips a folder is one recording.
        model: bundled checkpoint, folder or Hub id; the bundled face checkpoint when None.
        faces, min_face, abstain_below, top_k: as in `EmotionRecognitionPipeline`.
        batch_size: pictures per forward pass.
        annotate: folder to write the pictures to with their answers drawn in.
        overwrite: pictures that lie there may be replaced, but never one that is read.
        written: files that the caller will write; they are refused likewise, before anything is answered.
        strict: what would be answered with a warning is an error instead.
        streams: of signals, as in `EmotionRecognitionPipeline`.
        rows: a list that gets the rows one by one: what it holds is kept where something ends this early.
        every, fps, smooth: of films, likewise.

    Returns:
        One row per file in order: {"file", "answer"} or {"file", "error"}.

    Raises:
        InputError: there is no file at all.
        ConfigurationError: a picture or file would be written over one that is read, or one that is there.
        UnknownNameError, CheckpointError: the model cannot be found or loaded.
    """
    require_count("batch_size", batch_size)
    if annotate is not None and annotate.exists() and not annotate.is_dir():
        raise ConfigurationError(
            f"{annotate} is a file; expected a folder to write annotated pictures to. Name another."
        )
    from .pipeline import recogniser  # with torch and transformers, which listing files needs not

    recognise = recogniser(model)
    files = list_files(inputs, pictures=not recognise.reads_recordings)
    places = {} if annotate is None else _annotated_names(files, annotate)
    sources = (Path(name.rpartition("::")[2] or name) for name in files)  # of a picture in an archive, the archive
    refuse_overwriting([*places.values(), *written], overwrite=overwrite, read=sources)
    films = _film_options(inputs, recognise.reads_films, every, fps, smooth)
    if films and annotate is not None:
        raise ConfigurationError("--annotate was passed with a film; it draws into pictures. Leave it or the film out.")
    options: dict[str, Any] = {
        "faces": faces,
        "min_face": min_face,
        "errors": "return",
        "on_warning": "raise" if strict else "ignore",  # rows hold them
        **({} if abstain_below is None else {"abstain_below": abstain_below}),
        **({} if streams is None else {"streams": streams}),
        **({} if smooth is None else {"smooth": smooth}),
    }
    sources = (Video(name, **films) if films and is_video(name) else name for name in files)
    answers: Any = recognise(sources, batch_size=batch_size, top_k=top_k, **options)
    rows = [] if rows is None else rows
    for name, answer in tqdm(zip(files, answers, strict=True), total=len(files), disable=len(files) < 32, unit="file"):
        if isinstance(answer, dict) and "error" in answer:
            rows.append({"file": name, "error": answer["error"]})
            continue
        rows.append({"file": name, "answer": answer})
        if name in places:
            with whole_file(places[name], overwrite=overwrite) as partial:
                annotate_image(read_image(name), rows[-1]["answer"]).save(partial)
            rows[-1]["annotated"] = str(places[name])
    return rows


def _film_options(
    inputs: Sequence[Path | str], faces: bool, every: float | None, fps: float | None, smooth: float | None
) -> dict[str, Any]:
    """How films are read, where there are some: they are named, folders are not searched for them."""
    frame_step(every, fps)
    if faces and any(is_video(name) for name in inputs):
        return {"every": every, "fps": fps, "progress": True}
    if (every, fps, smooth) != (None, None, None):
        raise ConfigurationError(
            "every, fps or smooth was passed, and no input is a film of faces. Expected one, such as talk.mp4; leave them out."
        )
    return {}


def walk_files(
    inputs: Sequence[Path | str], *, pictures: bool, left_out: "Counter[str] | None" = None
) -> Iterator[tuple[str, int]]:
    """(path, size in bytes) of the files named and of those in the folders, one at a time and always in the same order.

    Args:
        inputs: files and folders. Of folders every picture below them is taken, rows of Parquet files too; or, of signals and eye
            clips, of which a folder may itself be one, every entry. What is hidden, or left there by an operating system, is not
            followed.
        pictures: whether pictures are looked for.
        left_out: is told what lies in the folders and is no picture: how many files of which ending.
    """
    closed: list[OSError] = []
    for given in inputs:
        path = Path(given)
        if "://" in str(given):
            yield str(given), -1  # an address, or a place in a zip file, which Path would shorten
        elif not path.is_dir():
            rows = _rows(path) if pictures and path.suffix.lower() == PARQUET else None
            yield from rows or [(str(path), _size(path))]
        elif pictures:
            for folder, inner, names in os.walk(path, onerror=closed.append):
                yield from ((str(error.filename), -1) for error in closed)  # reading it says that it may not be read
                closed.clear()
                inner[:] = sorted(name for name in inner if not _is_clutter(name))
                for name in sorted(name for name in names if not _is_clutter(name)):
                    file = Path(folder, name)
                    if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file():
                        yield str(file), _size(file)
                    elif file.suffix.lower() == PARQUET and (rows := _rows(file)) is not None:
                        yield from rows
                    elif left_out is not None:
                        left_out[file.suffix.lower() or "without an ending"] += 1
            yield from ((str(error.filename), -1) for error in closed)
            closed.clear()
        elif not os.access(path, os.R_OK | os.X_OK):
            yield str(path), -1
        else:
            for entry in sorted(path.iterdir()):
                if not _is_clutter(entry.name):
                    yield str(entry), _size(entry)


def _rows(file: Path) -> Iterator[tuple[str, int]] | None:
    """The pictures of a Parquet file, one a row; None where it holds none, or reading it will say what is wrong."""
    try:
        count = picture_rows(file)
    except (DependencyError, ImageError):
        return None
    size = _size(file)
    return None if count is None else ((f"{SCHEME}{row}::{file}", size) for row in range(count))


def _size(file: Path) -> int:
    """Bytes of a file; −1 of what is none, or is gone since it was listed."""
    try:
        return file.stat().st_size if file.is_file() else -1
    except OSError:
        return -1


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in CLUTTER


_PLACES = {
    "looked_at": "text",
    "box": "numbers",
    "face_score": "number",
    "face_side": "number",
    "tilt": "number",
    "start": "seconds",
    "end": "seconds",
    "frames": "count",
    "events": "count",
}
"""What was looked at, as answers and columns hold it; a column is empty where it means nothing."""


def flat_rows(file: str, answer: Any) -> list[dict[str, Any]]:
    """An answer as rows of a table: one, or one a face where every face was asked for; one with "error" where there is no answer.

    Args:
        file: its name.
        answer: what the pipeline returned for it.

    Returns:
        Columns: `file`, `label` and `score` of the first entry, `abstained` (which leaves `label` empty), `score_<label>`, what was
        looked at (`_PLACES`), `face` (which one, from 0), `times` and `course_<label>` of answers over time, `boxes` and
        `labels` of films, `streams`, `training_data`, `warnings`, `error`; a column may be missing.
    """
    name = _storable(file)
    if isinstance(answer, dict):
        return [{"file": name, "error": _storable(answer["error"])}]
    rows: list[dict[str, Any]] = []
    every = bool(answer) and "expressions" in answer[0]
    for index, face in enumerate(answer if every else [{"expressions": answer}]):
        entries = face["expressions"]
        first = {**entries[0], **face}
        abstained = first.get("abstained")
        row = {"file": name, "label": None if abstained else first["label"], "score": first["score"]}
        row |= {} if abstained is None else {"abstained": abstained}
        row |= {f"score_{entry['label']}": entry["score"] for entry in entries}
        row |= {key: first.get(key) for key in _PLACES}
        if first.get("box"):
            row |= {"box": list(first["box"].values()), "face": index}
        if "id" in face:
            row |= {"face": face["id"], **{key: face[key] for key in ("boxes", "labels") if key in face}}
        if "times" in first:
            row["times"] = first["times"]
            row |= {f"course_{entry['label']}": entry["scores"] for entry in entries}
        if "streams" in first:
            row["streams"] = _storable(json.dumps(first["streams"], ensure_ascii=False))
        if "training_data" in first:
            row["training_data"] = first["training_data"]
        said = [{key: _storable(text) for key, text in one.items()} for one in first["warnings"]]
        rows.append({**row, "warnings": said})
    return rows


def _storable(text: str) -> str:
    """A text that UTF-8 can hold: what is no character in a name is written as in all that is printed, \\udce9."""
    return text.encode("utf-8", "backslashreplace").decode()


def _schema(names: Sequence[str], *, over_time: bool, films: bool = False) -> Any:
    """Columns of the Parquet data set.

    Args:
        names: classes or targets in the model's order.
        over_time: answers may run over time.
        films: and be of persons in films.
    """
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float32()
    line, seconds = pyarrow.list_(number), pyarrow.float64()
    kinds = {"text": text, "numbers": line, "number": number, "seconds": seconds, "count": pyarrow.int64()}
    fields = [("file", text), ("label", text), ("score", number), *((f"score_{name}", number) for name in names)]
    fields += [
        ("abstained", pyarrow.bool_()),
        ("face", pyarrow.int32()),
        *((name, kinds[kind]) for name, kind in _PLACES.items()),
    ]
    if over_time:
        fields += [("times", pyarrow.list_(seconds)), *((f"course_{name}", line) for name in names), ("streams", text)]
    if films:
        fields += [("boxes", pyarrow.list_(line)), ("labels", pyarrow.list_(text))]
    doubt = pyarrow.struct([("code", text), ("message", text)])
    return pyarrow.schema([*fields, ("training_data", text), ("warnings", pyarrow.list_(doubt)), ("error", text)])


def predict_folder(
    inputs: Sequence[Path | str],
    output: Path,
    *,
    model: str | None = None,
    faces: str | None = None,
    min_face: float | None = None,
    abstain_below: float | str | None = None,
    batch_size: int = 8,
    part_size: int = PART_SIZE,
    strict: bool = False,
    progress: bool = True,
    every: float | None = None,
    fps: float | None = None,
    smooth: float | None = None,
) -> dict[str, Any]:
    """Answer for any number of files into `output/answers.parquet`, a data set of parts; go on with it if it was begun.

    Under `torchrun` or `accelerate launch` every process answers its share of the parts. A film has a row for each person and
    minute; see `long_films`.

    Args:
        inputs, model, faces, min_face, abstain_below, batch_size, strict: as of `predict_files`; folders as of `walk_files`.
        every, fps, smooth: as of `predict_files`.
        output: folder; `shards` says what lies in it.
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
    import pyarrow

    from .answers import task_of_model
    from .long_films import LongFilm, forget
    from .pipeline import recogniser

    require_count("batch_size", batch_size)
    if output.exists() and not output.is_dir():
        raise ConfigurationError(f"{output} is a file; expected a folder for the data set of answers. Name another.")
    refuse_unwritable(output / ANSWERS)
    # listing millions of files takes one process longer than the others would usually wait
    state = join_processes(timedelta(days=1))
    source = plugins.locate_checkpoint(model)
    recognise = recogniser(source, device=state.device)
    films = _film_options(inputs, recognise.reads_films, every, fps, smooth)
    over_time = recognise.reads_recordings
    task = task_of_model(recognise.model)

    def begin() -> ResumableRun:
        return open_run(
            output,
            walk_files(inputs, pictures=not over_time, left_out=left_out),
            model=checkpoint_fingerprint(source, getattr(recognise.model.config, "_commit_hash", None)),
            settings={
                "faces": faces,
                "min_face": min_face,
                "abstain_below": abstain_below,
                "strict": strict,
                "columns": list(task.names),
                **({"every": every, "fps": fps, "smooth": smooth} if films else {}),
            },
            part_size=part_size,
        )

    left_out: Counter[str] = Counter()
    run = decide_together(begin)
    _tell_left_out(left_out)
    schema = _schema(task.names, over_time=over_time or bool(films), films=bool(films))
    chosen = {"faces": faces, "min_face": min_face, "abstain_below": abstain_below, "smooth": smooth}
    options = {
        **{name: value for name, value in chosen.items() if value is not None},
        "errors": "return",
        "on_warning": "raise" if strict else "ignore",
    }  # the table holds them

    def table_of(rows: list[dict[str, Any]]) -> Any:
        if task.regression:  # the first of several values is no top answer
            rows = [{**row, "label": None, "score": None} for row in rows]
        return pyarrow.Table.from_pylist(rows, schema=schema)

    def answered(files: Sequence[str], minutes: Path) -> Iterator[tuple[Any, int]]:
        """The tables of one part: of files in a row that are no films at once, of films minute by minute."""
        index = 0
        for film, some in groupby(files, key=lambda file: bool(films) and is_video(file)):
            own = list(some)
            if not film:
                answers = list(recognise(iter(own), batch_size=batch_size, **options))
                rows = [row for file, answer in zip(own, answers, strict=True) for row in flat_rows(file, answer)]
                yield table_of(rows), sum(isinstance(answer, dict) for answer in answers)
            for place, file in enumerate(own if film else ()):
                long = LongFilm(minutes, index + place, run.name)
                called = {key: value for key, value in options.items() if key != "errors"}
                yield from long.tables(
                    recognise,
                    Video(file, **films),
                    table_of,
                    partial(flat_rows, file),
                    batch_size=batch_size,
                    options=called,
                )
            index += len(own)

    done = run.files - sum(min(run.part_size, run.files - part * run.part_size) for part in run.waiting)
    show = progress and state.is_local_main_process
    with tqdm(total=run.files, initial=done, unit="file", desc="predict", disable=not show) as bar:
        for part, files in run.pending(state.process_index, state.num_processes):
            minutes = run.films(part)
            run.write_tables(part, answered(files, minutes), schema=schema, files=len(files))
            forget(minutes)
            bar.update(len(files))
        if state.is_main_process:
            # by looking for files and not at a barrier, whose patience ends
            while any(run.record(part) is None for part in run.waiting):
                time.sleep(0.5)
            bar.update(bar.total - bar.n)
    return {**run.counts(), "answers": str(output / ANSWERS)}
