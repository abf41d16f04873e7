"""What the checks look at: a tiny model of an architecture, its processor, recordings for them, and a checkpoint of all that.

Everything is made when it is first asked for and kept, so that forty checks cost one model. Weights are shaken after they have
been initialised: a layer that begins at zero would hide whatever is wrong before it.

This file knows how an architecture's parts are put together for a check; it checks nothing.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MecoError
from ..plugins import Architecture, load_dotted
from .check import NotConforming

if TYPE_CHECKING:
    import torch

__all__ = ["Recordings", "Subject"]

Recordings = Callable[[int, int], Sequence[Any]]
"""(number, seed) → that many recordings, all different, equal for equal arguments."""

_SHAKE = 0.05
"""Standard deviation of what is added to every weight."""


class Subject:
    """An architecture under test.

    Args:
        entry: what its plugin declares.
        fields: of its config, that make it tiny.
        options: of its processor.
        recordings: where they come from; None: drawn by kind.
    """

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

    # --- what the plugin declares ---

    def load(self, what: str) -> Any:
        """The class behind a field of the architecture ("config", "head", …).

        Raises:
            NotConforming: it cannot be imported.
        """
        path = getattr(self.entry, what)
        try:
            return load_dotted(path)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise NotConforming(
                f"{self.entry.model_type} declares {what}={path!r}, which cannot be imported: {type(error).__name__}: {error}. "
                "Correct the path in the plugin's __init__, or the module."
            ) from error

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

    # --- parts ---

    def config(self, **changes: Any) -> Any:
        """A config of the tiny model, changed as told."""
        return self.config_class(**{**self.fields, **changes})

    def model(self, seed: int = 0, *, shaken: bool = True, **changes: Any) -> Any:
        """A tiny head in evaluation mode, equal for equal arguments."""
        import torch

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
        made = kind.for_config(self.config(), **given) if hasattr(kind, "for_config") else kind(**given)
        if hasattr(made, "fit"):
            made.fit(self._recordings(made, 6, 1))
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
        from .drawn_recordings import draw_recordings

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
        return processor.cut(recording)[0] if hasattr(processor, "cut") else recording

    def varied_clips(self, number: int, seed: int) -> list[Any]:
        """Clips of which some lack a stream, or everything, where that may happen: what stands in their place is used too."""
        clips = self.clips(number, seed)
        names = getattr(self.processor, "modality_names", None)
        if self.entry.kind != "signals" or not names:
            return clips
        fewer = [
            self.first_clip(one.without([names[index % len(names)]]), self.processor)
            for index, one in enumerate(self.recordings(len(names), seed))
        ]
        return [*clips, *fewer, *([self.processor.blank()] if hasattr(self.processor, "blank") else [])]

    def process(self, clips: Sequence[Any], processor: Any = None) -> dict[str, Any]:
        """Clips as the tensors that the model's forward takes."""
        own = self.processor if processor is None else processor
        made = dict(own(list(clips), return_tensors="pt"))
        return {key: value for key, value in made.items() if key in self.inputs}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """What the head's forward takes."""
        import inspect

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

    # --- answers ---

    @staticmethod
    def seed(number: int = 0) -> None:
        """Set the random numbers back."""
        import torch

        torch.manual_seed(number)

    @staticmethod
    def answer(model: Any, batch: Mapping[str, Any], **more: Any) -> Any:
        """The model's output. Chance is seeded: a model that rolls dice shall fail where that is the question, and nowhere else."""
        import torch

        Subject.seed()
        with torch.no_grad():
            return model(**batch, **more)

    def logits(self, model: Any, batch: Mapping[str, Any]) -> "torch.Tensor":
        """The model's logits."""
        return self.answer(model, batch).logits

    @cached_property
    def is_regression(self) -> bool:
        """Whether the head answers values rather than classes."""
        return self.config().problem_type == "regression"

    def labels(self, like: "torch.Tensor", seed: int = 0) -> "torch.Tensor":
        """Labels that fit logits: values on the scale [−1, 1], or classes of which neighbours differ."""
        import torch

        random = torch.Generator().manual_seed(seed)
        if self.is_regression:
            return torch.rand(like.shape, generator=random) * 1.6 - 0.8
        count = like.shape[-1]
        return (torch.arange(like[..., 0].numel()) % count).reshape(like.shape[:-1])

    # --- a checkpoint ---

    @cached_property
    def _place(self) -> "tempfile.TemporaryDirectory[str]":
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


def is_ours(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is one of ours."""
    while error is not None:
        if isinstance(error, MecoError):
            return True
        error = error.__cause__ or error.__context__
    return False
