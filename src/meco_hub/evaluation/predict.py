"""Rows of a corpus as recordings: read when needed, and kept once read when there is room.

Training and evaluation fetch recordings here and nowhere else, so that a picture, an eye clip and an hour of signals are the same
thing to them: something that a processor takes.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
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

from ..answers import accepted_inputs, combine_clips, mirrored_too, require_finite
from ..corpora import Corpus
from ..durable import whole_file
from ..errors import ConfigurationError, CorpusError, FaceNotFoundError, InputError, require_count
from ..processing.eye_preprocessor import ClipSampling
from ..processing.picture_processor import PictureProcessor, recording_processor
from ..processing.preprocessor import RecordingProcessor
from ..reading import reading
from ..recordings.eye_clips import EyeClip
from .metrics import softmax

logger = logging.getLogger(__name__)


class RecordingRows:
    """The recordings of a data set, by row number.

    Attributes:
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
        """The recording of one row."""
        kept = self._kept.get(row)
        if kept is None:
            return self._read(row)
        return Image.fromarray(kept) if isinstance(kept, np.ndarray) else kept

    def _read(self, row: int) -> Any:
        with reading(f"{self.sample_ids[row]} cannot be read", InputError):
            try:
                return self._corpus.read(self._dataset[row])
            except CorpusError as error:  # of this row, which costs no other
                raise InputError(str(error)) from error

    def survey(self, cache_bytes: int, progress: bool = True, name: str = "samples") -> list[int]:
        """Read every row once: reports what cannot be read, and keeps the rest if all of it fits.

        Args:
            cache_bytes: memory that recordings may take; when they need more, none is kept.

        Returns:
            The rows that can be read, in order.
        """
        fine: list[int] = []
        used, keeps, reason = 0, True, ""
        for row, identifier in enumerate(tqdm(self.sample_ids, desc=f"read {name}", unit="rec", disable=not progress)):
            try:
                with reading(f"{identifier} cannot be read", InputError):
                    recording = self._read(row)
                    if isinstance(recording, EyeClip):
                        # what is decoded on demand is decoded here, and its faults are found
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
        times: (clips, steps) seconds at which outputs over time hold, NaN behind the recording's end; None for the others.
        doubts: codes of the warnings that the pipeline's answer would have; None where nobody asked.
    """

    outputs: NDArray[np.float32]
    middles: NDArray[np.float64]
    times: NDArray[np.float64] | None = None
    doubts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Predictions:
    """Answers for a set of rows, in their order."""

    sample_ids: list[str]
    positions: NDArray[np.int64]
    answers: list[RowAnswer]
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def take(self, places: Sequence[int]) -> "Predictions":
        """Some of the rows that were answered, by their places among them."""
        chosen = list(places)
        return replace(
            self,
            sample_ids=[self.sample_ids[place] for place in chosen],
            positions=self.positions[chosen],
            answers=[self.answers[place] for place in chosen],
            unreadable={},
        )

    def class_scores(self) -> NDArray[np.float32]:
        """(n, classes) scores before softmax; the clips of a recording are averaged as probabilities."""
        return np.stack([combine_clips(one.outputs, "softmax", one.times) for one in self.answers]).astype(np.float32)

    def values(self) -> NDArray[np.float32]:
        """(n, targets) scaled values; clips and steps of a recording are averaged."""
        return np.stack([combine_clips(one.outputs, None, one.times) for one in self.answers]).astype(np.float32)


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


def _prepare(
    processor: RecordingProcessor,
    rows: RecordingRows,
    chosen: Sequence[int],
    *,
    batch_size: int,
    stride_s: float | None,
    condition: Condition | None,
    clip_condition: ClipCondition | None,
    workers: int,
    doubts: dict[int, tuple[str, ...]] | None,
) -> Iterator[_Batch]:
    """Read, cut and process, batch by batch; arguments are those of `predict_rows`, `doubts` is filled where it is asked for."""

    def read(row: int) -> tuple[int, list[Any], str]:
        try:
            recording, name = rows[row], rows.sample_ids[row]
            if condition is not None:
                recording = condition(recording, name)
            clips = list(processor.cut(recording, stride_s=stride_s)) if processor.cuts else [recording]
            if doubts is not None:
                doubts[row] = _codes(processor, recording, clips)
            # as in the pipeline, what was not measured is in no mean; a recording of nothing else is answered all the same
            clips = [clip for clip in clips if not processor.is_silent(recording, clip)] or clips
            if clip_condition is not None:
                clips = [clip_condition(clip, name, number) for number, clip in enumerate(clips)]
            return row, clips, ""
        except InputError as error:
            return row, [], str(error)

    pending: list[tuple[int, Any]] = []
    failures: list[tuple[int, str]] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for first in range(0, len(chosen), batch_size):
            for row, clips, reason in pool.map(read, chosen[first : first + batch_size]):
                if reason:
                    failures.append((row, reason))
                pending += [(row, clip) for clip in clips]
            while len(pending) >= batch_size or (failures and not pending):
                yield _make_batch(processor, pending[:batch_size], failures)
                del pending[:batch_size]
                failures = []
        if pending or failures:
            yield _make_batch(processor, pending, failures)


def _codes(processor: RecordingProcessor, recording: Any, clips: Sequence[Any]) -> tuple[str, ...]:
    """Codes of what the pipeline would warn of. Pictures are answered as they are, and the finder looks at them for this alone."""
    if isinstance(processor, PictureProcessor):
        recording = processor.read(recording)
        try:
            clips = processor.cut(recording, faces="auto")
        except FaceNotFoundError:
            return ("no_face_found",)
    return tuple(sorted({one.code for found in processor.doubts(recording, clips) for one in found}))


def _make_batch(
    processor: RecordingProcessor, pending: list[tuple[int, Any]], failures: list[tuple[int, str]]
) -> _Batch:
    def process(clips: list[Any]) -> dict[str, Any]:
        return dict(processor(clips, return_tensors="pt"))

    good, failures, inputs = pending, list(failures), None
    try:
        if pending:
            inputs = process([clip for _, clip in pending])
    except InputError:
        # the processor refused the batch because of one of its clips; find out which by trying each alone
        good = []
        for row, clip in pending:
            try:
                process([clip])
                good.append((row, clip))
            except InputError as error:
                failures.append((row, str(error)))
        if good:
            inputs = process([clip for _, clip in good])
    middles = [
        (one.start + one.end) / 2 if hasattr(one, "start") and hasattr(one, "end") else math.nan for _, one in good
    ]
    times = [processor.step_times(clip) for _, clip in good]
    return _Batch([row for row, _ in good], middles, times, inputs, failures)


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """The same batches, each prepared in a thread while its predecessor is being used."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, batches, end)
        while (current := coming.result()) is not end:
            coming = pool.submit(next, batches, end)
            yield current  # pyright: ignore[reportReturnType]


def _join_clips(
    answers: list[tuple[NDArray[np.float32], float, NDArray[np.float64] | None]], doubts: tuple[str, ...] | None
) -> RowAnswer:
    outputs = np.stack([one[0] for one in answers])
    middles = np.asarray([one[1] for one in answers])
    times = [one[2] for one in answers]
    over_time = outputs.ndim == 3 and times[0] is not None
    return RowAnswer(outputs, middles, np.stack(times) if over_time else None, doubts)  # pyright: ignore[reportArgumentType, reportCallIssue]


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
    doubts: bool = False,
    progress: bool = True,
) -> Predictions:
    """Answer for every row that can be read.

    Args:
        model: a head whose output has `logits`; put into evaluation mode and left there.
        processor: the checkpoint's processor, called as `processor(list of recordings, return_tensors="pt")`.
        chosen: row numbers, in order; all of them when None.
        stride_s: seconds between the beginnings of the clips of a long recording; the processor's own when None.
        observe: called with the model's output and the rows of its clips after every forward pass of this process.
        options: further arguments of the model's forward, such as `output_router_logits=True`.
        together: every process answers for every row, as it must where each has a part of the model only.
        mirror: average with the answer to the mirrored picture (`mirrored_too`); `observe` sees the picture's alone.
        doubts: also find of what the pipeline's answers would warn; of pictures that takes a face finder.

    Raises:
        InputError: there is no row, or not one that can be used.
        CheckpointError: an answer is no number.
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
    codes: dict[int, tuple[str, ...]] | None = {} if doubts else None
    batches = _prepare(
        recording_processor(processor), rows, own, batch_size=batch_size, stride_s=stride_s, condition=condition,
        clip_condition=clip_condition, workers=workers, doubts=codes,
    )  # fmt: skip
    show = progress and state.is_local_main_process
    with torch.inference_mode(), tqdm(total=len(own), unit="rec", disable=not show, desc="predict") as bar:
        for batch in _ahead(batches):
            for row, reason in batch.failures:
                failed.setdefault(row, reason)
            if batch.inputs is not None:
                inputs = {key: to_device(value, model.device) for key, value in batch.inputs.items() if key in takes}
                output = model(**inputs, **(options or {}))
                if observe is not None:
                    observe(output, batch.owners)
                answer = mirrored_too(model, inputs, output.logits) if mirror else output.logits.float()
                require_finite(answer.cpu().numpy(), type(model).__name__)
                for place, (row, logits) in enumerate(zip(batch.owners, answer.cpu().numpy(), strict=True)):
                    found.setdefault(row, []).append((logits, batch.middles[place], batch.times[place]))
            bar.update(len(found.keys() | failed.keys()) - bar.n)
    answers = {row: _join_clips(parts, (codes or {}).get(row)) for row, parts in found.items() if row not in failed}
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


# --- Runs -------------------------------------------------------------------------------------------------------------
# The same test set many times, each time with other clips of its recordings: what a metric owes to the choice of clips.
#
#     runs = predict_runs(model, processor, rows, runs=20)
#     write_runs(folder, runs, names)                             # files that `corpora/see_scores.py` scores
#
# A model that sees four frames of a sequence answers differently for four others. Baselines of event-based emotion
# recognition therefore run their test set 20 times with random starts, and average the metrics over the runs. For every
# recording, run r draws from a generator seeded with (seed, r, sample_id), so that clips depend neither on the order nor on
# what shares a batch. Recordings are decoded once for all runs, where they fit into memory.

CACHE_BYTES = 4_000_000_000
"""Memory for decoded recordings; when they need more, they are decoded in every run."""


def sample_clips(sampling: ClipSampling, run: int, seed: int = 0, before: Condition | None = None) -> Condition:
    """The condition under which every recording shows the clip that one run draws."""

    def condition(recording: Any, sample_id: str) -> Any:
        changed = recording if before is None else before(recording, sample_id)
        digest = hashlib.sha256(f"{seed}/{run}/{sample_id}".encode()).digest()
        return sampling(changed, np.random.default_rng(np.frombuffer(digest, np.uint32)))

    return condition


def check_runs(processor: Any, runs: int) -> ClipSampling:
    """The processor's rule by which runs draw their clips."""
    rule = recording_processor(processor).clip_sampling
    if rule is None:
        raise ConfigurationError(
            f"{type(processor).__name__} has no clip_sampling, so every run would be the same. Evaluate once."
        )
    require_count("runs", runs)
    return rule


def predict_runs(
    model: PreTrainedModel,
    processor: Any,
    rows: RecordingRows,
    *,
    runs: int,
    seed: int = 0,
    condition: Condition | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> list[Predictions]:
    """Answer for every row, `runs` times."""
    rule = check_runs(processor, runs)
    readable = rows.survey(CACHE_BYTES, progress, "test samples") if runs > 1 else None
    found = []
    for run in range(runs):
        if progress and PartialState().is_local_main_process:
            logger.info("Run %d of %d.", run + 1, runs)
        draw = sample_clips(rule, run, seed, condition)
        found.append(
            predict_rows(
                model, processor, rows, chosen=readable, batch_size=batch_size, condition=draw, progress=progress
            )
        )
    return found


def describe_runs(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean and standard deviation (n − 1) over runs of every metric that all of them have; of the choice of clips, not of seeds."""
    keys = [key for key in metrics[0] if all(one.get(key) is not None for one in metrics)]
    values = {key: np.asarray([one[key] for one in metrics], np.float64) for key in keys}
    return {
        "count": len(metrics),
        "mean": {key: float(column.mean()) for key, column in values.items()},
        "sd": {key: float(column.std(ddof=1)) if len(column) > 1 else None for key, column in values.items()},
    }


def write_sequence_file(
    file: Path, sequences: Sequence[str], names: Sequence[str], probabilities: NDArray[np.floating]
) -> None:
    """Write one run in the same layout, each list sorted by score.

    Args:
        sequences: (n,) names, which should say the truth if the file is to be scored.
        probabilities: (n, classes).
    """
    results = {}
    for name, row in zip(sequences, probabilities, strict=True):
        best = np.argsort(-np.asarray(row), kind="stable")
        results[name] = [{"label": names[index], "score": float(row[index])} for index in best]
    with whole_file(file) as partial:
        partial.write_text(json.dumps({"results": results}), encoding="utf-8")


def write_runs(folder: str | Path, runs: Sequence[Predictions], names: Sequence[str]) -> list[Path]:
    """Write each run as a file `run_00.json` … that `score_sequence_files` reads."""
    place = Path(folder)
    for stale in place.glob("run_*.json"):
        stale.unlink()  # a former evaluation of more runs would be averaged in
    files = []
    for number, predictions in enumerate(runs):
        files.append(place / f"run_{number:02d}.json")
        write_sequence_file(files[-1], predictions.sample_ids, names, softmax(predictions.class_scores()))
    return files
