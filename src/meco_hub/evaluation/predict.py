"""Rows of a corpus as recordings: read when asked for, and kept once read when there is room.

Training and evaluation fetch recordings here and nowhere else, so that a picture, an eye clip and an hour of signals are the same
thing to them: something that a processor takes.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm
from transformers import PreTrainedModel

from ..answers import accepted_inputs, combine_clips, mirrored_too
from ..corpora import Corpus
from ..errors import InputError
from ..processing.picture_processor import recording_processor
from ..processing.preprocessor import RecordingProcessor
from ..recordings.eye_clips import EyeClip

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
                if isinstance(
                    recording, EyeClip
                ):  # what is decoded on demand is decoded here, and its faults are found
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


# --- Predict ----------------------------------------------------------------------------------------------------------
# From recordings to what a model says of them.
#
# Recordings are read while the model computes, one batch ahead. Long ones are cut into clips by the processor, and their
# clips share batches with those of others. What cannot be used is reported by its sample_id and left out; it never stops
# the others and never becomes a guess. Several processes share the rows, and each gets the whole answer, every row once.

Condition = Callable[[Any, str], Any]
"""(recording, sample_id) → the recording under some condition; the same for the same arguments, in whatever process."""

ClipCondition = Callable[[Any, str, int], Any]
"""(clip, sample_id, number of the clip) → the clip under some condition, likewise; after the recording's."""


@dataclass(frozen=True)
class RowAnswer:
    """What the model says of one row.

    Attributes:
        outputs: (clips, outputs) class scores or scaled values, or (clips, steps, outputs) when they run over time.
        middles: (clips,) seconds at the middle of the clips; NaN for recordings without a clock.
        times: (clips, steps) seconds at which outputs over time hold; None for the others.
    """

    outputs: NDArray[np.float32]
    middles: NDArray[np.float64]
    times: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Predictions:
    """Answers for a set of rows, in their order.

    Attributes:
        sample_ids: names of the rows that were answered.
        positions: (n,) their row numbers.
        answers: one for each.
        unreadable: sample_id → why it could not be used.
        seconds: wall time.
    """

    sample_ids: list[str]
    positions: NDArray[np.int64]
    answers: list[RowAnswer]
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def class_scores(self) -> NDArray[np.float32]:
        """(n, classes) scores before softmax; the clips of a recording are averaged as probabilities."""
        return np.stack([combine_clips(one.outputs, "softmax") for one in self.answers]).astype(np.float32)

    def values(self) -> NDArray[np.float32]:
        """(n, targets) scaled values; clips and steps of a recording are averaged."""
        return np.stack([combine_clips(one.outputs, None) for one in self.answers]).astype(np.float32)


@dataclass
class _Batch:
    owners: list[int]
    middles: list[float]
    times: list[NDArray[np.float64] | None]
    inputs: dict[str, Any] | None
    failures: list[tuple[int, str]]


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors, nested in mappings or not, on a device; images are laid out channels_last."""
    if isinstance(value, dict):
        return {key: to_device(inner, device) for key, inner in value.items()}
    if isinstance(value, torch.Tensor) and value.ndim == 4 and value.is_floating_point():
        return value.to(device, memory_format=torch.channels_last)
    return value.to(device)


def _middle(clip: Any) -> float:
    return (clip.start + clip.end) / 2 if hasattr(clip, "start") and hasattr(clip, "end") else float("nan")


def _process(processor: Any, clips: Sequence[Any]) -> dict[str, Any]:
    return dict(processor(list(clips), return_tensors="pt"))


class _Preparation:
    """Reads, cuts and processes, batch by batch."""

    def __init__(
        self,
        processor: RecordingProcessor,
        rows: RecordingRows,
        chosen: Sequence[int],
        batch_size: int,
        stride_s: float | None,
        condition: Condition | None,
        clip_condition: ClipCondition | None,
        workers: int,
    ) -> None:
        self._processor, self._rows, self._chosen = processor, rows, chosen
        self._batch_size, self._stride, self._workers = batch_size, stride_s, workers
        self._condition, self._clip_condition = condition, clip_condition

    def __iter__(self) -> Iterator[_Batch]:
        pending: list[tuple[int, Any]] = []
        failures: list[tuple[int, str]] = []
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            for first in range(0, len(self._chosen), self._batch_size):
                for row, clips, reason in pool.map(self._read, self._chosen[first : first + self._batch_size]):
                    if reason:
                        failures.append((row, reason))
                    pending += [(row, clip) for clip in clips]
                while len(pending) >= self._batch_size or (failures and not pending):
                    yield self._batch(pending[: self._batch_size], failures)
                    del pending[: self._batch_size]
                    failures = []
            if pending or failures:
                yield self._batch(pending, failures)

    def _read(self, row: int) -> tuple[int, list[Any], str]:
        try:
            recording, name = self._rows[row], self._rows.sample_ids[row]
            if self._condition is not None:
                recording = self._condition(recording, name)
            own = self._processor
            clips = list(own.cut(recording, stride_s=self._stride)) if own.cuts else [recording]
            # as in the pipeline, what was not measured is in no mean; a recording of nothing else is answered all the same
            clips = [clip for clip in clips if not own.is_silent(recording, clip)] or clips
            if self._clip_condition is not None:
                clips = [self._clip_condition(clip, name, number) for number, clip in enumerate(clips)]
            return row, clips, ""
        except InputError as error:
            return row, [], str(error)

    def _batch(self, pending: list[tuple[int, Any]], failures: list[tuple[int, str]]) -> _Batch:
        failures = list(failures)
        if not pending:
            return _Batch([], [], [], None, failures)
        try:
            inputs = _process(self._processor, [clip for _, clip in pending])
        except InputError:
            # the processor refused the batch because of one of its clips; find out which by asking for each alone
            good: list[tuple[int, Any]] = []
            for row, clip in pending:
                try:
                    _process(self._processor, [clip])
                    good.append((row, clip))
                except InputError as error:
                    failures.append((row, str(error)))
            if not good:
                return _Batch([], [], [], None, failures)
            pending = good
            inputs = _process(self._processor, [clip for _, clip in pending])
        middles = [_middle(clip) for _, clip in pending]
        times = [self._processor.step_times(clip) for _, clip in pending]
        return _Batch([row for row, _ in pending], middles, times, inputs, failures)


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """The same batches, each prepared in a thread while its predecessor is being used."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, batches, end)
        while (current := coming.result()) is not end:
            coming = pool.submit(next, batches, end)
            yield current  # pyright: ignore[reportReturnType]


def _join(answers: list[tuple[NDArray[np.float32], float, NDArray[np.float64] | None]]) -> RowAnswer:
    outputs = np.stack([one[0] for one in answers])
    middles = np.asarray([one[1] for one in answers])
    times = [one[2] for one in answers]
    over_time = outputs.ndim == 3 and times[0] is not None
    return RowAnswer(outputs, middles, np.stack(times) if over_time else None)  # pyright: ignore[reportArgumentType, reportCallIssue]


def predict_rows(
    model: PreTrainedModel,
    processor: Any,
    rows: RecordingRows,
    *,
    chosen: Sequence[int] | None = None,
    batch_size: int = 32,
    stride_s: float | None = None,
    condition: Condition | None = None,
    clip_condition: ClipCondition | None = None,
    observe: Callable[[Any, list[int]], None] | None = None,
    options: dict[str, Any] | None = None,
    workers: int = 1,
    together: bool = False,
    mirror: bool = False,
    progress: bool = True,
) -> Predictions:
    """Answer for every row that can be read.

    Args:
        model: a head whose output has `logits`; put into evaluation mode and left there.
        processor: the checkpoint's processor, called as `processor(list of recordings, return_tensors="pt")`.
        rows: the recordings.
        chosen: row numbers, in order; all of them when None.
        batch_size: clips per forward pass.
        stride_s: seconds between the beginnings of the clips of a long recording; the processor's own when None.
        condition: what happens to a recording before it is cut.
        clip_condition: what happens to each of its clips afterwards.
        observe: called with the model's output and the rows of its clips after every forward pass of this process.
        options: further arguments of the model's forward, such as `output_router_logits=True`.
        workers: threads that read.
        together: every process answers for every row, as it must where each has a part of the model only.
        mirror: average with the answer to the mirrored picture (`mirrored_too`); `observe` sees the picture's alone.
        progress: show a progress bar.

    Raises:
        InputError: there is no row, or not one that can be used.
    """
    wanted = list(range(len(rows))) if chosen is None else list(chosen)
    if not wanted:
        raise InputError("There is no sample to predict. Check the split and the folds.")
    began = time.perf_counter()
    state = PartialState()
    own = wanted if together else wanted[state.process_index :: state.num_processes]
    model.eval()
    takes = accepted_inputs(model)
    found: dict[int, list[tuple[NDArray[np.float32], float, NDArray[np.float64] | None]]] = {}
    failed: dict[int, str] = {}
    preparation = _Preparation(
        recording_processor(processor), rows, own, batch_size, stride_s, condition, clip_condition, workers
    )
    show = progress and state.is_local_main_process
    with torch.inference_mode(), tqdm(total=len(own), unit="rec", disable=not show, desc="predict") as bar:
        for batch in _ahead(iter(preparation)):
            for row, reason in batch.failures:
                failed.setdefault(row, reason)
            if batch.inputs is not None:
                inputs = {key: to_device(value, model.device) for key, value in batch.inputs.items() if key in takes}
                output = model(**inputs, **(options or {}))
                if observe is not None:
                    observe(output, batch.owners)
                answer = mirrored_too(model, inputs, output.logits) if mirror else output.logits.float()
                for place, (row, logits) in enumerate(zip(batch.owners, answer.cpu().numpy(), strict=True)):
                    found.setdefault(row, []).append((logits, batch.middles[place], batch.times[place]))
            bar.update(len(found.keys() | failed.keys()) - bar.n)
    answers = {row: _join(parts) for row, parts in found.items() if row not in failed}
    if state.num_processes > 1 and not together:
        answers, failed = dict(gather_object(list(answers.items()))), dict(gather_object(list(failed.items())))
    for row, reason in sorted(failed.items()):
        logger.warning("%s is left out: %s", rows.sample_ids[row], reason)
    if not answers:
        row = min(failed)
        raise InputError(f"None of {len(wanted)} samples can be used; the first, {rows.sample_ids[row]}: {failed[row]}")
    positions = sorted(answers)
    return Predictions(
        sample_ids=[rows.sample_ids[row] for row in positions],
        positions=np.asarray(positions, dtype=np.int64),
        answers=[answers[row] for row in positions],
        unreadable={rows.sample_ids[row]: reason for row, reason in sorted(failed.items())},
        seconds=time.perf_counter() - began,
    )
