"""What the checks look at: a tiny model of an architecture, its processor, recordings for them, and a checkpoint of all that.

Everything is made when it is first needed and kept, so that forty checks cost one model. Weights are shaken after they have
been initialised: a layer that begins at zero would hide whatever is wrong before it.
"""

import inspect
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..corpora.synthetic.eyes import EXPRESSIONS, draw_sequence
from ..corpora.synthetic.faces import draw_face
from ..plugins import Architecture, load_dotted
from ..processing.picture_processor import recording_processor
from ..processing.preprocessor import PublishedProcessor
from ..processing.signal_windower import SignalWindower
from ..recordings.event_recording import EventRecording
from ..recordings.eye_clips import EyeClip
from ..recordings.signal_recording import SignalRecording, Stream
from .check import NotConforming, blaming

Batch = dict[str, Any]

CLOCKS = ("timestamps", "offsets")
"""Inputs that are seconds; the pipeline leaves them in single precision."""

Recordings = Callable[[int, int], Sequence[Any]]
"""(number, seed) → that many recordings, all different, equal for equal arguments."""

_SHAKE = 0.05
"""Standard deviation of what is added to every weight."""


class Subject:
    """An architecture under test."""

    def __init__(
        self,
        entry: Architecture,
        fields: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self.entry, self.fields, self.options = entry, dict(fields), dict(options or {})
        self._draw = recordings

    def __repr__(self) -> str:
        return f"Subject({self.entry.model_type!r}, {self.fields})"

    def load(self, what: str) -> Any:
        """The class behind a field of the architecture ("config", "head", …)."""
        path = getattr(self.entry, what)
        seen = f"{self.entry.model_type} declares {what}={path!r}, which cannot be imported"
        fix = "Correct the path in the plugin's __init__, or the module."
        with blaming(seen, fix, ImportError, AttributeError, TypeError, ValueError):
            return load_dotted(path)

    @cached_property
    def config_class(self) -> Any:
        return self.load("config")

    @cached_property
    def head_class(self) -> Any:
        return self.load("head")

    @cached_property
    def base_class(self) -> Any:
        return self.load("base_model")

    @property
    def processor_kind(self) -> str | None:
        """Which of its processors makes a model's whole input, as a field of the architecture."""
        return next(
            (kind for kind in ("processor", "image_processor", "feature_extractor") if getattr(self.entry, kind)), None
        )

    @cached_property
    def processor_class(self) -> Any:
        if self.processor_kind is None:
            raise NotConforming(
                f"{self.entry.model_type} declares no processor, so nothing can be fed to it. Declare image_processor, "
                "feature_extractor or processor in the plugin's __init__."
            )
        return self.load(self.processor_kind)

    def config(self, **changes: Any) -> Any:
        """A config of the tiny model, with these changes."""
        return self.config_class(**{**self.fields, **changes})

    def model(self, seed: int = 0, *, shaken: bool = True, **changes: Any) -> Any:
        """A tiny head in evaluation mode, equal for equal arguments."""
        torch.manual_seed(seed)
        model = self.head_class(self.config(**changes))
        if shaken:
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.is_floating_point():
                        parameter.add_(_SHAKE * torch.randn_like(parameter))
        return model.eval()

    def make_processor(self, **options: Any) -> Any:
        """A processor for the tiny model."""
        given = {**self.options, **options}
        kind = self.processor_class
        made = kind.for_config(self.config(), **given) if issubclass(kind, PublishedProcessor) else kind(**given)
        recording_processor(made).fit(self._recordings(made, 6, 1))
        return made

    @cached_property
    def shared_model(self) -> Any:
        """A model for checks that do not change it."""
        return self.model()

    @cached_property
    def processor(self) -> Any:
        """A processor for checks that do not change it."""
        return self.make_processor()

    def _recordings(self, processor: Any, number: int, seed: int) -> list[Any]:
        if self._draw is not None:
            return list(self._draw(number, seed))
        return draw_recordings(self.entry.kind, processor, number, seed)

    def recordings(self, number: int = 4, seed: int = 0) -> list[Any]:
        """Recordings as a user would hand them in."""
        return self._recordings(self.processor, number, seed)

    def clips(self, number: int = 4, seed: int = 0, processor: Any = None) -> list[Any]:
        """Recordings as the processor turns them into a batch: each one's first clip, where it cuts them."""
        own = self.processor if processor is None else processor
        return [self.first_clip(one, own) for one in self._recordings(own, number, seed)]

    @staticmethod
    def first_clip(recording: Any, processor: Any) -> Any:
        contract = recording_processor(processor)
        return contract.cut(recording)[0] if contract.cuts else recording

    def varied_clips(self, number: int, seed: int) -> list[Any]:
        """Clips of which some lack a stream, or everything, where that may happen: what stands in their place is used too."""
        clips = self.clips(number, seed)
        names = recording_processor(self.processor).modality_names
        if self.entry.kind != "signals" or not names:
            return clips
        fewer = [
            self.first_clip(one.without([names[index % len(names)]]), self.processor)
            for index, one in enumerate(self.recordings(len(names), seed))
        ]
        return [*clips, *fewer, self.processor.blank()]

    def process(self, clips: Sequence[Any], processor: Any = None) -> dict[str, Any]:
        """Clips as the tensors that the model's forward takes."""
        own = self.processor if processor is None else processor
        made = dict(own(list(clips), return_tensors="pt"))
        return {key: value for key, value in made.items() if key in self.inputs}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """What the head's forward takes."""
        return frozenset(inspect.signature(self.head_class.forward).parameters) - {"self"}

    def batch(self, number: int = 4, seed: int = 0) -> dict[str, Any]:
        """Tensors of that many recordings."""
        made = self.process(self.clips(number, seed))
        if not made:
            raise NotConforming(
                f"{type(self.processor).__name__} gives nothing that {self.head_class.__name__}.forward takes "
                f"({', '.join(sorted(self.inputs))}). Name the processor's outputs as the forward's arguments."
            )
        return made

    @staticmethod
    def seed(number: int = 0) -> None:
        """Set the random numbers back."""
        torch.manual_seed(number)

    @staticmethod
    def answer(model: Any, batch: Mapping[str, Any], **more: Any) -> Any:
        """The model's output. Chance is seeded: a model that rolls dice shall fail where that is the question, and nowhere else."""
        Subject.seed()
        with torch.no_grad():
            return model(**batch, **more)

    def logits(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The model's logits."""
        return self.answer(model, batch).logits

    @cached_property
    def is_regression(self) -> bool:
        """Whether the head answers values rather than classes."""
        return self.config().problem_type == "regression"

    def labels(self, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """Labels that fit logits: values on the scale [−1, 1], or classes of which neighbours differ."""
        random = torch.Generator().manual_seed(seed)
        if self.is_regression:
            return torch.rand(like.shape, generator=random) * 1.6 - 0.8
        count = like.shape[-1]
        return (torch.arange(like[..., 0].numel()) % count).reshape(like.shape[:-1])

    @cached_property
    def _place(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix=f"{self.entry.model_type}-")

    def new_folder(self) -> Path:
        """An empty folder that is gone with the subject."""
        return Path(tempfile.mkdtemp(dir=self._place.name))

    @cached_property
    def checkpoint(self) -> Path:
        """`shared_model` and `processor`, saved."""
        folder = self.new_folder()
        self.shared_model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        return folder


# What a processor reads is taken from fields that others read too: `num_frames` and `frame_stride` of eye clips;
# `modalities`, `modality_names` and `window_s` of signals. Where a processor has none of them, its plugin hands the kit
# recordings.


_FACES = ("neutral", "happiness", "surprise", "anger")
_SIDE = 48  # pixels of what is drawn; processors resize it


def draw_recordings(kind: str, processor: Any, number: int, seed: int) -> list[Any]:
    """That many recordings, all different, equal for equal arguments."""
    if kind == "face":
        return [
            draw_face(_FACES[index % len(_FACES)], person=f"person {index}", take=index, seed=seed, size=_SIDE)
            for index in range(number)
        ]
    if kind == "eye":
        return [_draw_clip(processor, index, seed)[0] for index in range(number)]
    if kind == "signals":
        return [draw_signals(processor, index, seed) for index in range(number)]
    raise NotConforming(
        f"The architecture's kind is {kind!r}; recordings can be drawn of faces, eyes and signals only. Correct `kind`, or pass "
        "`recordings=` to the kit."
    )


def _draw_clip(processor: Any, index: int, seed: int) -> tuple[EyeClip, EventRecording]:
    steps = int(getattr(processor, "num_frames", 4)) * int(getattr(processor, "frame_stride", 4)) + 2
    drawn = draw_sequence(
        EXPRESSIONS[index % len(EXPRESSIONS)],
        person=f"person {index}",
        take=index,
        frames=max(steps, 8),
        seed=seed,
        size=_SIDE,
    )
    pictures = EyeClip(drawn.frames, drawn.event_pictures, drawn.frame_times, name=f"drawn clip {index}")  # pyright: ignore[reportArgumentType]
    events = EventRecording.from_arrays(drawn.x, drawn.y, drawn.t, drawn.p, width=_SIDE, height=_SIDE, time_unit="us")
    return pictures, events


def with_raw_events(processor: Any, index: int, seed: int) -> EyeClip:
    """The clip of that number with its single events in place of event pictures."""
    clip, events = _draw_clip(processor, index, seed)
    return EyeClip(clip.frames, events, clip.frame_times, name=clip.name)


def _streams_of(processor: Any) -> dict[str, tuple[int, float]]:
    """Stream name → (channels, samples per second), in the processor's order."""
    if isinstance(processor, SignalWindower):
        return {one.name: (one.channels, one.sampling_rate) for one in processor.modality_list()}
    known = getattr(processor, "modalities", None)
    if not isinstance(known, Mapping) or not known:
        raise NotConforming(
            f"{type(processor).__name__} does not say which streams it reads, so none can be drawn for it. Give it `modalities` "
            "(name → channels and sampling_rate), `modality_names` and `window_s`, as SignalWindower has them, or pass "
            "`recordings=` to the kit."
        )
    names = getattr(processor, "modality_names", None) or list(known)
    return {name: (int(known[name]["channels"]), float(known[name]["sampling_rate"])) for name in names}


def draw_signals(processor: Any, index: int, seed: int) -> SignalRecording:
    """One window of every stream, each with rhythms and levels of its own; every third ends early."""
    window = float(getattr(processor, "window_s", 4.0))
    end = window * (0.75 if index % 3 == 2 else 1.0)
    streams, reference = {}, {}
    for name, (channels, rate) in _streams_of(processor).items():
        random = np.random.RandomState([zlib.crc32(name.encode()), index, seed])
        times = np.arange(max(2, round(end * rate)), dtype=np.float64) / rate
        pace, phase = random.uniform(0.1, 0.4, channels) * rate, random.uniform(0, 6, channels)
        waves = np.sin(2 * np.pi * times[:, None] * pace + phase)
        values = random.normal(0, 0.7, channels) + waves + 0.3 * random.normal(size=(len(times), channels))
        streams[name] = Stream(values, times, rate)
        reference[name] = np.stack([np.zeros(channels), np.ones(channels)])
    return SignalRecording(streams, start=0.0, end=end, name=f"drawn recording {index}", reference=reference)


def draw_session(processor: SignalWindower, seed: int = 0) -> dict[str, tuple[NDArray[np.floating], float]]:
    """Three windows of every regular stream, as it is recorded: (samples, channels) and rate."""
    random, session = np.random.RandomState(seed), {}
    for one in processor.modality_list():
        if one.kind == "regular":
            rate = one.sampling_rate if one.summary_s is None else 16 / one.summary_s
            session[one.name] = (random.normal(size=(round(3 * processor.window_s * rate), one.stream_channels)), rate)
    return session


# batches as processors give them: mappings of tensors, in which a mapping of streams may stand for a tensor


def leaves(batch: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Every tensor, with the keys that lead to it."""
    for key, value in batch.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def values_in(batch: Mapping[str, Any]) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    """The tensors that hold what was measured: floating point, and no clocks."""
    return [(path, one) for path, one in leaves(batch) if one.is_floating_point() and path[0] not in CLOCKS]


def changed(
    batch: Mapping[str, Any],
    change: Callable[[tuple[str, ...], torch.Tensor], torch.Tensor],
    path: tuple[str, ...] = (),
) -> Batch:
    """A copy in which every tensor is `change(path, tensor)`."""
    return {
        key: changed(value, change, (*path, key)) if isinstance(value, Mapping) else change((*path, key), value)
        for key, value in batch.items()
    }


def rows(batch: Mapping[str, Any], which: slice) -> Batch:
    """Some of the batch's items."""
    return changed(batch, lambda _, one: one[which])


def reverse(batch: Mapping[str, Any]) -> Batch:
    """The same, with the keys of every mapping the other way round."""
    return {
        key: reverse(value) if isinstance(value, Mapping) else value for key, value in reversed(list(batch.items()))
    }


def make_pipeline(folder: str) -> Any:
    """`pipeline("emotion-recognition")` of a folder."""
    from transformers import pipeline

    make: Any = pipeline  # typed for transformers' own tasks only
    with quiet():
        return make("emotion-recognition", model=folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, reports and progress bars of what is called inside; what matters of them is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
