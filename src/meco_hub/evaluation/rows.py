"""Rows of a corpus as recordings: read when asked for, and kept once read when there is room.

Training and evaluation fetch recordings here and nowhere else, so that a picture, an eye clip and an hour of signals are the same
thing to them: something that a processor takes.

This file knows how a row becomes a recording; it knows no label and no model.
"""

import logging
from typing import Any

import datasets
import numpy as np
from PIL import Image
from tqdm import tqdm

from ..corpora import Corpus
from ..errors import InputError

logger = logging.getLogger(__name__)


class RecordingRows:
    """The recordings of a data set, by row number.

    Args:
        corpus: whose rows these are; it knows how to read them.
        dataset: with the columns that the corpus's reader wants, and `sample_id`.

    Attributes:
        sample_ids: name of every row.
        unreadable: sample_id → reason, of rows that `survey` could not read.
    """

    def __init__(self, corpus: Corpus, dataset: datasets.Dataset) -> None:
        self._corpus = corpus
        self._dataset = dataset if corpus.reader else dataset.select_columns(["image"])
        self._kept: dict[int, Any] = {}
        self.sample_ids: list[str] = dataset["sample_id"][:]
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, row: int) -> Any:
        """The recording of one row.

        Raises:
            InputError: it cannot be read.
        """
        kept = self._kept.get(row)
        if kept is None:
            return self._read(row)
        return Image.fromarray(kept) if isinstance(kept, np.ndarray) else kept

    def _read(self, row: int) -> Any:
        return self._corpus.read(self._dataset[row])

    def survey(self, cache_bytes: int, progress: bool = True, name: str = "samples") -> list[int]:
        """Read every row once: reports what cannot be read, and keeps the rest if all of it fits.

        Args:
            cache_bytes: memory that recordings may take; when they need more, none is kept.
            progress: show a progress bar.
            name: what the bar says.

        Returns:
            The rows that can be read, in order.

        Raises:
            InputError: not one can.
        """
        fine: list[int] = []
        used, keeps, reason = 0, True, ""
        for row, identifier in enumerate(tqdm(self.sample_ids, desc=f"read {name}", unit="rec", disable=not progress)):
            try:
                recording = self._read(row)
                if hasattr(recording, "loaded"):  # what is decoded on demand is decoded here, and its faults are found
                    recording = recording.loaded()
            except InputError as error:
                reason = str(error)
                self.unreadable[identifier] = reason
                logger.warning("%s is left out: %s", identifier, reason)
                continue
            fine.append(row)
            # a decoded picture is a third of a PIL image's weight when it is a plain array
            kept = np.asarray(recording) if isinstance(recording, Image.Image) else recording
            used += getattr(kept, "nbytes", 0)
            if keeps and used > cache_bytes:
                keeps = False
                self._kept.clear()
                logger.info("The %s need more than %.1f GB and are read anew each time.", name, cache_bytes / 1e9)
            if keeps:
                self._kept[row] = kept
        if not fine:
            raise InputError(f"None of {len(self)} {name} can be read; the last: {reason}")
        return fine
