"""From recordings to batches: the order in which examples are seen, what an example is, and the loaders of a run.

The order is a permutation, one that evens out the classes, or one that evens out the recordings. Balancing repeats the rare and
thins out the frequent, without leaving it to chance which samples a class shows: a class due 2.5 times its size shows every sample
twice and a random half of them once more, and what is thinned out changes every epoch. With strength 0 this is a plain permutation.
The order depends on (seed, epoch) alone, so that every process of a run, and a resumed run, sees the same one.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedModel

from .. import plugins
from ..answers import Task, accepted_inputs
from ..corpora.splits import apportion
from ..errors import ConfigurationError
from ..evaluation.predict import RecordingRows
from ..evaluation.task import LabelledSubset
from ..processing.picture_processor import recording_processor
from .data import ExchangedRatings, TrainingData
from .engine import ignore_in_worker
from .losses import ClassificationLoss, RegressionLoss
from .recipes import AUGMENTATIONS, Recipe

logger = logging.getLogger(__name__)


class Draw(NamedTuple):
    """One sample as it is shown once: what to fetch, and what its augmentation is seeded with."""

    index: int
    epoch: int
    place: int


def class_quota(counts: NDArray[np.integer], strength: float, total: int) -> NDArray[np.int64]:
    """(classes,) how often each class is shown in an epoch of `total` samples: proportional to count^(1 − strength).

    Whole numbers that sum to `total`; classes without samples get none.
    """
    shares = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** (1 - strength), 0.0)
    return np.asarray(apportion((total * shares / shares.sum()).tolist(), total))


def _repeat(members: NDArray[np.int64], quota: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(quota,) members: all of them as often as they fit in, and some of them once more."""
    passes, rest = divmod(quota, len(members))
    return np.concatenate([*[members] * passes, generator.permutation(members)[:rest]])


class EpochSampler(Sampler[Draw]):
    """Draws so many members of every group, in an order that depends on seed and epoch alone.

    Args:
        views: how often each drawn member comes, one time behind the other; each is augmented anew.

    Attributes:
        shown: (groups,) members of each that an epoch shows.
    """

    def __init__(
        self, members: Sequence[NDArray[np.int64]], shown: NDArray[np.int64], seed: int, views: int = 1
    ) -> None:
        self._members, self._seed, self._views = members, seed, views
        self.shown, self.epoch = shown, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return int(self.shown.sum()) * self._views

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self._seed, self.epoch))
        groups = zip(self._members, self.shown.tolist(), strict=True)
        chosen = np.concatenate([_repeat(members, quota, generator) for members, quota in groups if quota])
        for place, index in enumerate(np.repeat(generator.permutation(chosen), self._views).tolist()):
            yield Draw(index, self.epoch, place)


def draw_classes(
    labels: NDArray[np.integer],
    num_classes: int,
    strength: float,
    seed: int,
    *,
    views: int = 1,
    beside: int = 0,
    share: float = 0.0,
) -> EpochSampler:
    """An epoch as long as the data set, or `views` times that; (n,) class indices, all zero where there are no classes.

    Args:
        strength: 0: classes as frequent as they are; 1: all alike; between: in between, 0.5 being the square root.
        beside: so many of the last samples are of a second corpus.
        share: of an epoch that comes from those; the first corpus is shown as without them.
    """
    places, first = np.arange(len(labels)), len(labels) - beside
    members, shown = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for own, total in ((places[:first], first), (places[first:], round(first * share / (1 - share)))):
        groups = [own[labels[own] == index] for index in range(num_classes)]
        if len(own):
            members += groups
            shown.append(class_quota(np.asarray([len(one) for one in groups], np.int64), strength, total))
    return EpochSampler(members, np.concatenate(shown), seed, views)


def draw_recordings(owners: NDArray[np.integer], clips: int, seed: int) -> EpochSampler:
    """So many clips of every recording, others in every epoch; a recording that has fewer shows some of them again.

    `owners`: (n,) the recording of every clip.
    """
    members = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    return EpochSampler(members, np.full(len(members), clips), seed)


# --- Examples ---------------------------------------------------------------------------------------------------------
# Examples: what one step of training sees of a recording.
#
# A recording is read once, cut into clips where the processor cuts, and augmented before the processor sees it, so that
# training and everyone after it share one processor call. What happens to an example depends on (seed, epoch, place in the
# epoch) alone, whatever the number of workers.

Augmentation = Callable[[Any, np.random.Generator], Any]
"""(recording, generator) → recording."""

UNKNOWN = -100
"""The number of a stimulus that has no name, as transformers numbers labels that are to be passed over."""


class Example(NamedTuple):
    """A recording or clip, its label or values, the row it comes from, and the number of what was shown."""

    recording: Any
    label: Any
    row: int
    stimulus: int = UNKNOWN
    soft: NDArray[np.float32] | None = None


def build_augmentation(options: dict[str, Any] | None) -> Augmentation | None:
    """The augmentation that a recipe names."""
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
        cut: turns a recording into the clips that a model takes; None where the recording is the example.
        augmentation: changes a recording or clip; None leaves it.
        readable: rows that can be read; all of them when None.
        cache_bytes: memory that clips may take; when they need more, each is cut anew whenever it is shown.

    Attributes:
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
        self._shown += [""] * (len(subset.labels) - len(self._shown)) * bool(self._shown)  # of a second corpus
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
        soft = None if self._subset.soft is None else self._subset.soft[row]
        return Example(recording, self._subset.labels[row], row, shown, soft)


@dataclass(frozen=True)
class Collate:
    """Makes a batch: `processor(recordings)` plus `labels`, on the scale on which the model answers, and `soft_labels`.

    Attributes:
        accepted: inputs that the model takes; others that a processor gives are left out.
        time_continuous: the values run over time and are taken from the recordings, by the processor's `targets`.
        has_stimuli: the corpus names what was shown; a model that takes `stimulus_ids` gets its number.
        overrides: options of the processor that are others for now (progressive resizing).
    """

    processor: Any
    task: Task
    accepted: frozenset[str]
    channels_last: bool = False
    time_continuous: bool = False
    has_stimuli: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        recordings = [example.recording for example in examples]
        made = dict(self.processor(recordings, return_tensors="pt", **self.overrides))
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
            labels = {"labels": torch.tensor([int(example.label) for example in examples], dtype=torch.int64)}
            soft = [example.soft for example in examples if example.soft is not None]
            return {**labels, "soft_labels": torch.from_numpy(np.stack(soft))} if soft else labels
        if self.time_continuous:
            native, known = self.processor.targets(recordings, list(self.task.names))
        else:
            native = np.stack([example.label for example in examples])
            known = np.isfinite(native)
        native, known = np.asarray(native), np.asarray(known, bool)
        scaled = np.where(known, self.task.scale(native), 0).astype(np.float32)
        return {"labels": torch.from_numpy(scaled), "label_mask": torch.from_numpy(known)}


class JoinedRows(RecordingRows):
    """The recordings of several corpora, one behind the other."""

    def __init__(self, *parts: RecordingRows) -> None:
        self._kept: dict[int, Any] = {}
        self.sample_ids = [name for part in parts for name in part.sample_ids]
        self.unreadable: dict[str, str] = {}
        self._places = [(part, row) for part in parts for row in range(len(part))]

    def _read(self, row: int) -> Any:
        part, place = self._places[row]
        return part[place]


# --- Loaders ----------------------------------------------------------------------------------------------------------
# The loaders of a run: recordings read, cut, drawn, augmented and collated into batches.


@dataclass(frozen=True)
class Loaders:
    """Batches of training, and the recordings of validation.

    Attributes:
        train: to be prepared by Accelerate, together with model, optimiser and schedule: DeepSpeed reads the batch off it.
        sampler: the order of the training examples; set its epoch.
    """

    train: Any
    collate: Collate
    sampler: EpochSampler
    examples: Examples
    train_rows: RecordingRows
    validation_rows: RecordingRows
    train_readable: list[int]
    validation_readable: list[int]

    def batches(self, processes: int) -> int:
        """Batches of an epoch that each of so many processes sees, as Accelerate shares them out."""
        return len(BatchSamplerShard(self.train.batch_sampler, processes))

    def unreadable(self) -> dict[str, dict[str, str]]:
        """Side → sample_id → why it was left out."""
        return {"train": self.train_rows.unreadable, "validation": self.validation_rows.unreadable}


def build_criterion(recipe: Recipe, task: Task, loaders: Loaders) -> ClassificationLoss | RegressionLoss:
    """The label loss; that of classes knows how often each is shown."""
    if task.regression:
        return RegressionLoss(recipe.mse_weight, recipe.ccc_weight)
    drawn = [draw.index for draw in loaders.sampler]
    shown = np.bincount(loaders.examples.labels[drawn], minlength=len(task.names)).astype(np.float64)
    return ClassificationLoss(recipe.label_smoothing, shown / shown.sum(), recipe.logit_adjustment)


def build_loaders(
    recipe: Recipe, data: TrainingData, model: PreTrainedModel, processor: Any, accelerator: Accelerator, progress: bool
) -> Loaders:
    """Read the recordings, fit what the processor must know of them, and make the loader."""
    if data.task.regression and data.corpus.time_continuous:
        recording_processor(processor).targets(
            [], data.names
        )  # which raises where it cannot lay ratings on the model's grid
    cache = int(recipe.cache_gb * 1e9)
    if data.permutation is not None and data.corpus.time_continuous:
        train_rows: RecordingRows = ExchangedRatings(data.corpus, data.train.dataset, data.permutation)
    else:
        train_rows = RecordingRows(data.corpus, data.train.dataset)
    side = data.train
    if (beside := data.beside) is not None:
        train_rows = JoinedRows(train_rows, RecordingRows(beside.corpus, beside.side.dataset))
        soft = [one.soft for one in (side, beside.side) if one.soft is not None]
        side = replace(
            side,
            labels=np.concatenate([side.labels, beside.side.labels]),
            soft=np.concatenate(soft) if soft else None,
        )
    validation_rows = RecordingRows(data.corpus, data.validation.dataset)
    readable = train_rows.survey(cache, progress, "training samples")
    validation_readable = validation_rows.survey(cache, progress, "validation samples")
    contract = recording_processor(processor)
    if recipe.model_name_or_path is None:
        # what normalises a signal is learnt from the training part alone, and saved with the processor
        contract.fit(train_rows[row] for row in readable)
    examples = Examples(
        train_rows,
        side,
        cut=contract.cut if contract.cuts else None,
        augmentation=build_augmentation(recipe.augmentation),
        seed=recipe.seed,
        readable=readable,
        cache_bytes=cache,
    )
    second = int((examples.owners >= len(data.train.labels)).sum())
    if beside is not None and not second:
        raise ConfigurationError(
            f"Recipe key 'data.beside' names {beside.corpus.name}, of which 0 of {len(beside.side.labels)} samples can be used; "
            "expected some. Check its files and drop_labels, or leave the key out."
        )
    if recipe.clips_per_recording is not None:
        sampler = draw_recordings(examples.owners, recipe.clips_per_recording, recipe.seed)
    elif data.task.regression:
        if recipe.consistency_weight:
            raise ConfigurationError(
                "Recipe key 'consistency_weight' is set, and the corpus is rated by values; expected classes. Leave the key out."
            )
        sampler = draw_classes(np.zeros(len(examples), np.int64), 1, 0.0, recipe.seed)
    else:
        sampler = draw_classes(
            examples.labels,
            len(data.names),
            recipe.class_balance,
            recipe.seed,
            views=recipe.views,
            beside=second,
            share=recipe.data.beside.share if recipe.data.beside else 0.0,
        )
    batch = recipe.per_device_train_batch_size
    collate = Collate(
        processor,
        data.task,
        accepted_inputs(model),
        recipe.channels_last,
        data.corpus.time_continuous,
        has_stimuli=bool(examples.stimuli),
    )
    train = DataLoader(
        cast(Any, examples),
        batch_size=batch,
        sampler=sampler,
        collate_fn=collate,
        num_workers=recipe.dataloader_num_workers,
        worker_init_fn=ignore_in_worker,
        # a last batch of one sample would make BatchNorm fail, a small one would make it noisy
        drop_last=recipe.dataloader_drop_last and len(sampler) >= batch * accelerator.num_processes,
        # an own generator: the loader's seed must not come out of the stream that dropout draws from
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    return Loaders(train, collate, sampler, examples, train_rows, validation_rows, readable, validation_readable)


# --- Progressive ------------------------------------------------------------------------------------------------------
# Progressive resizing: small pictures first, when there is most to learn, and the final size at the end.
#
# Howard's fastai course (2018) and EfficientNetV2 (Tan and Le 2021, arXiv:2104.00298) train so. A convolutional network whose
# features are pooled has the same weights at any size; what it costs falls with the square of the side.


class ImageSizes:
    """Sets the side of the training pictures, epoch by epoch.

    Args:
        model: what is trained; its config's `image_size` follows, for models that check it.
        sizes: epoch, counted from 0 → side in pixels from then on; empty leaves everything as it is.
    """

    def __init__(self, model: PreTrainedModel, collate: Collate, sizes: Mapping[int, int]) -> None:
        whole = all(isinstance(number, int) for pair in sizes.items() for number in pair)
        if sizes and (not whole or min(sizes) != 0 or min(sizes.values()) < 1):
            raise ConfigurationError(
                f"Recipe key 'image_sizes' is {dict(sizes)}; expected sides in pixels by epoch, 0 among the epochs: "
                "{0: 64, 12: 96}."
            )
        self._own = getattr(model.config, "image_size", None)
        if sizes and not isinstance(self._own, int):
            raise ConfigurationError(
                f"Recipe key 'image_sizes' is set, and the config of {type(model).__name__} has no `image_size` to change. Leave "
                "the key out."
            )
        self._model, self._collate, self._sizes = model, collate, dict(sizes)

    def start_epoch(self, epoch: int) -> None:
        """Call at the start of each epoch, counted from 0."""
        if self._sizes:
            self._set(self._sizes[max(start for start in self._sizes if start <= epoch)])

    def end(self) -> None:
        """Back to the checkpoint's own size; call before it is validated or saved."""
        if self._sizes:
            self._set(self._own)

    def _set(self, side: int | None) -> None:
        self._model.config.image_size = side
        self._collate.overrides["size"] = {"height": side, "width": side}
