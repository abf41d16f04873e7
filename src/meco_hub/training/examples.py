"""Examples: what one step of training sees of a recording.

A recording is read once, cut into clips where the processor cuts, and augmented before the processor sees it, so that training and
everyone after it share one processor call. What happens to an example depends on (seed, epoch, place in the epoch) alone,
whatever the number of workers.

This file knows recordings, labels and batches; it does not know how a model is trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .. import plugins
from ..errors import ConfigurationError
from ..evaluation.rows import RecordingRows
from ..evaluation.subset import LabelledSubset
from ..evaluation.task import Task
from .sampling import Draw

Augmentation = Callable[[Any, np.random.Generator], Any]
"""(recording, generator) → recording."""

AUGMENTATIONS = {
    "face": "meco_hub.processing.face_augmentation:FaceAugmentation",
    "signals": "meco_hub.processing.signal_augmentation:SignalAugmentation",
    "clip": "meco_hub.processing.clip_sampling:ClipSampling",
}
"""Short names for `augmentation.name`; any other is a dotted path "package.module:Class"."""


UNKNOWN = -100
"""The number of a stimulus that has no name, as transformers numbers labels that are to be passed over."""


class Example(NamedTuple):
    """A recording or clip, its label or values, the row it comes from, and the number of what was shown."""

    recording: Any
    label: Any
    row: int
    stimulus: int = UNKNOWN


def build_augmentation(options: dict[str, Any] | None) -> Augmentation | None:
    """The augmentation that a recipe asks for.

    Raises:
        ConfigurationError: it has no name, or its options do not fit.
    """
    if options is None:
        return None
    rest = {key: value for key, value in options.items() if key != "name"}
    name = options.get("name")
    if not isinstance(name, str):
        raise ConfigurationError(
            f"Recipe key 'augmentation' is {options}; expected a `name`: {', '.join(AUGMENTATIONS)} or 'package.module:Class'."
        )
    kind = plugins.load_dotted(AUGMENTATIONS.get(name, name))
    try:
        return kind(**rest)
    except TypeError as error:
        raise ConfigurationError(f"The augmentation {name!r} does not take {rest}: {error}.") from error


class Examples(Dataset):
    """The examples of one side.

    Args:
        rows: the recordings.
        subset: their labels; as many as there are rows.
        cut: turns a recording into the clips that a model takes; None where the recording is the example.
        augmentation: changes a recording or clip; None leaves it.
        seed: of the augmentation.
        readable: rows that can be read; all of them when None.
        cache_bytes: memory that clips may take; when they need more, each is cut anew whenever it is shown.

    Attributes:
        owners: (n,) row of every example.
        stimuli: names of what was shown, sorted; examples hold their places here. Empty where the corpus names none.
    """

    def __init__(
        self,
        rows: RecordingRows,
        subset: LabelledSubset,
        *,
        cut: Callable[[Any], Sequence[Any]] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        readable: Sequence[int] | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self._rows, self._subset, self._cut = rows, subset, cut
        self._augmentation, self._seed = augmentation, seed
        self._room, self._kept = cache_bytes, dict[int, Sequence[Any]]()
        columns = subset.dataset.column_names
        self._shown: list[str] = subset.dataset["stimulus"][:] if "stimulus" in columns else []
        self.stimuli = sorted({name for name in self._shown if name})
        self._number = {name: place for place, name in enumerate(self.stimuli)}
        chosen = list(range(len(rows))) if readable is None else list(readable)
        counts = [1 if cut is None else len(self._cut_once(row)) for row in chosen]
        self.owners: NDArray[np.int64] = np.repeat(np.asarray(chosen, np.int64), counts)
        self._parts = np.concatenate([np.arange(count) for count in counts])

    def _cut_once(self, row: int) -> Sequence[Any]:
        """The clips of a row; kept while all so far fit, because filters cost more than anything else that happens to a clip."""
        assert self._cut is not None
        clips = self._cut(self._rows[row])
        self._room -= sum(getattr(clip, "nbytes", 0) for clip in clips)
        if self._room > 0:
            self._kept[row] = clips
        else:
            self._kept.clear()
        return clips

    @property
    def labels(self) -> NDArray[Any]:
        """(n,) class indices, or (n, targets) native values, of every example."""
        return self._subset.labels[self.owners]

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, draw: Draw | int) -> Example:
        index = draw.index if isinstance(draw, Draw) else draw
        row = int(self.owners[index])
        if self._cut is None:
            recording = self._rows[row]
        else:
            recording = (self._kept.get(row) or self._cut(self._rows[row]))[self._parts[index]]
        if self._augmentation is not None and isinstance(draw, Draw):
            recording = self._augmentation(recording, np.random.default_rng((self._seed, draw.epoch, draw.place)))
        shown = self._number.get(self._shown[row], UNKNOWN) if self._shown else UNKNOWN
        return Example(recording, self._subset.labels[row], row, shown)


@dataclass(frozen=True)
class Collate:
    """Makes a batch: `processor(recordings)` plus `labels`, on the scale on which the model answers.

    Attributes:
        processor: the checkpoint's processor.
        task: classes, or values and their scale.
        accepted: inputs that the model takes; others that a processor gives are left out.
        channels_last: lay 4-dimensional inputs out channels_last.
        time_continuous: the values run over time and are taken from the recordings, by the processor's `targets`.
        has_stimuli: the corpus names what was shown, which a model that takes `stimulus_ids` is told.
    """

    processor: Any
    task: Task
    accepted: frozenset[str]
    channels_last: bool = False
    time_continuous: bool = False
    has_stimuli: bool = False

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        recordings = [example.recording for example in examples]
        made = dict(self.processor(recordings, return_tensors="pt"))
        batch = {key: value for key, value in made.items() if key in self.accepted}
        if self.channels_last:
            batch = {
                key: value.contiguous(memory_format=torch.channels_last)
                if isinstance(value, torch.Tensor) and value.ndim == 4
                else value
                for key, value in batch.items()
            }
        if "group_ids" in self.accepted:
            batch["group_ids"] = torch.tensor([example.row for example in examples], dtype=torch.int64)
        if self.has_stimuli and "stimulus_ids" in self.accepted:
            batch["stimulus_ids"] = torch.tensor([example.stimulus for example in examples], dtype=torch.int64)
        return {**batch, **self._labels(recordings, examples)}

    def _labels(self, recordings: list[Any], examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        if not self.task.regression:
            return {"labels": torch.tensor([int(example.label) for example in examples], dtype=torch.int64)}
        if self.time_continuous:
            native, known = self.processor.targets(recordings, list(self.task.names))
        else:
            native = np.stack([example.label for example in examples])
            known = np.isfinite(native)
        native, known = np.asarray(native), np.asarray(known, bool)
        scaled = np.where(known, self.task.scale(native), 0).astype(np.float32)
        return {"labels": torch.from_numpy(scaled), "label_mask": torch.from_numpy(known)}


def check_labels(processor: Any, task: Task, time_continuous: bool) -> None:
    """Refuse values over time for a processor that cannot lay them on a model's time grid.

    Raises:
        ConfigurationError: it has no `targets`.
    """
    if task.regression and time_continuous and not hasattr(processor, "targets"):
        raise ConfigurationError(
            f"The corpus is rated over time, and {type(processor).__name__} has no `targets` to lay ratings on the model's time "
            "grid. Train an architecture for signals, or a corpus with one value per recording."
        )
