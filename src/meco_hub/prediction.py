"""Answers for files: what `meco predict` runs.

One bad file never costs the others their answer: it comes back as a row with `error`.

This file knows files and rows; the pipeline knows the rest.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import plugins
from .drawing import annotate_image
from .errors import CheckpointError, InputError
from .recordings.images import read_image

logger = logging.getLogger(__name__)

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def list_files(inputs: Sequence[Path]) -> list[Path]:
    """The files named, with folders replaced by the pictures below them, in sorted order.

    A path that does not exist stays in the list: reading it gives the error that names it.

    Raises:
        InputError: nothing is left, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in inputs:
        if not path.is_dir():
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


def _load_pipeline(model: str | None) -> Any:
    from transformers import pipeline

    from .pipeline import TASK

    if model is None:
        folder = plugins.default_checkpoint()
        if folder is None:
            raise CheckpointError(
                "No model was named and no installed plugin bundles a default one. Name a model, or install a plugin."
            )
        model = str(folder)
    return pipeline(TASK, model=plugins.locate_checkpoint(model))  # pyright: ignore[reportCallIssue, reportArgumentType]


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
        inputs: files and folders.
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
    files = list_files(inputs)
    recognise = _load_pipeline(model)
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
