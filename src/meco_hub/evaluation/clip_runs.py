"""The same test set many times, each time with other clips of its recordings: what a metric owes to the choice of clips.

A model that sees four frames of a sequence answers differently for four others. Baselines of event-based emotion recognition
therefore run their test set 20 times with random starts, and average the metrics over the runs. For every recording, run r draws
from a generator seeded with (seed, r, sample_id), so that clips depend neither on the order nor on what shares a batch.

    runs = predict_runs(model, processor, rows, runs=20)
    write_runs(folder, runs, names)                             # files that `corpora/see_scores.py` scores

Recordings are decoded once for all runs, where they fit into memory.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..errors import ConfigurationError
from ..processing.eye_preprocessor import ClipSampling
from ..processing.picture_processor import recording_processor
from .metrics import softmax
from .predict import Condition, Predictions, RecordingRows, predict_rows

logger = logging.getLogger(__name__)

CACHE_BYTES = 4_000_000_000
"""Memory for decoded recordings; when they need more, they are decoded in every run."""


def sample_clips(sampling: ClipSampling, run: int, seed: int = 0, before: Condition | None = None) -> Condition:
    """The condition under which every recording shows the clip that one run draws.

    Args:
        sampling: the rule.
        run: number of the run; another one draws other clips.
        seed: of all runs.
        before: a condition that is applied first (darkness, a missing stream).
    """

    def condition(recording: Any, sample_id: str) -> Any:
        changed = recording if before is None else before(recording, sample_id)
        digest = hashlib.sha256(f"{seed}/{run}/{sample_id}".encode()).digest()
        return sampling(changed, np.random.default_rng(np.frombuffer(digest, np.uint32)))

    return condition


def check_runs(processor: Any, runs: int) -> ClipSampling:
    """The processor's rule by which runs draw their clips.

    Raises:
        ConfigurationError: there is none, or `runs` is no positive number.
    """
    rule = recording_processor(processor).clip_sampling
    if rule is None:
        raise ConfigurationError(
            f"{type(processor).__name__} has no clip_sampling, so every run would be the same. Evaluate once."
        )
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ConfigurationError(f"runs is {runs!r}; expected a whole number from 1 on.")
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
    """Answer for every row, `runs` times.

    Args:
        model: a head of classes.
        processor: the checkpoint's processor; its `clip_sampling` says how clips are drawn.
        rows: the recordings.
        runs: how often.
        seed: another seed, other clips.
        condition: what happens to a recording before a clip of it is drawn.
        batch_size: clips per forward pass.
        progress: show progress bars.

    Raises:
        ConfigurationError: the processor draws no clips, or `runs` is no positive number.
        InputError: not one row can be used.
    """
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
        file: where to.
        sequences: (n,) names, which should say the truth if the file is to be scored.
        names: class names in the order of the columns.
        probabilities: (n, classes).
    """
    results = {}
    for name, row in zip(sequences, probabilities, strict=True):
        best = np.argsort(-np.asarray(row), kind="stable")
        results[name] = [{"label": names[index], "score": float(row[index])} for index in best]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"results": results}), encoding="utf-8")


def write_runs(folder: str | Path, runs: Sequence[Predictions], names: Sequence[str]) -> list[Path]:
    """Write each run as a file `run_00.json` … that `score_sequence_files` reads.

    Args:
        folder: where to; files of former runs in it are replaced, and others of that name are removed.
        runs: what `predict_runs` gave.
        names: class names in the order of the logits.

    Returns:
        The files, in the order of the runs.
    """
    place = Path(folder)
    for stale in place.glob("run_*.json"):
        stale.unlink()  # a former evaluation of more runs would be averaged in
    files = []
    for number, predictions in enumerate(runs):
        files.append(place / f"run_{number:02d}.json")
        write_sequence_file(files[-1], predictions.sample_ids, names, softmax(predictions.class_scores()))
    return files
