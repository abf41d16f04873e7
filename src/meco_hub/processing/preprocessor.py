"""What the hub asks of a processor: the contract, with a default for everything that an architecture may leave out.

`PublishedProcessor` is every processor of the zoo: made for a config, and pushed alone. `RecordingProcessor` is one that reads its
own kind of recording (signals, eye clips, events). Image processors, ours and transformers' own, need not derive from it:
`recording_processor` makes one of them, to which a whole picture is a recording whose `cut` gives its faces.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from ..answer_warnings import AnswerWarning, once_a_code
from ..errors import ConfigurationError, InputError
from ..publishing import PushOptions

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from ..recordings.video import Frame


class PublishedProcessor:
    """Mixin of processors, before transformers' own base."""

    @classmethod
    def for_config(cls, config: Any, **settings: Any) -> Self:
        """A processor that agrees with a model's config; `settings` are any of its fields. The default ignores the config."""
        return cls(**settings)

    def push_to_hub(self, repo_id: str, **options: Unpack[PushOptions]) -> "CommitInfo":
        """Push this processor's config into a repository, whose other files stay as they are; one commit.

        A model's `push_to_hub` brings its processor along: this is for changing the processor alone.

        Args:
            repo_id: "owner/name"; made when it does not exist.
            private, revision, create_pr, commit_message, token: as for a model's `push_to_hub`.

        Raises:
            PublishingError: the Hub did not take it; says whether the remote changed, and what to do.
        """
        from ..publishing.objects import push_processor  # above this module; needed by few

        return push_processor(self, repo_id, **options)


class FilmFollower(Protocol):
    """Made by `RecordingProcessor.follow`: called with each frame of one film, it gives (person, clip) of what is then complete.

    Attributes:
        counted: what clips are called where answers count them.
    """

    counted: str

    def __call__(self, frame: "Frame", name: str = "") -> "list[tuple[int, Any]]": ...

    def state(self) -> dict[str, Any]:
        """What another one needs to go on, as JSON has it."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the one that `state` is of."""
        ...

    def nothing(self, name: str, seconds: float) -> InputError:
        """Why a film of that name and length gave no clip at all."""
        ...


class RecordingProcessor(PublishedProcessor):
    """A processor that reads recordings; also called as `processor(clips, return_tensors="pt")`, which gives the batch.

    Attributes:
        modality_names: streams in the order of the model's inputs; empty where there is none to name.
        clip_sampling: draws a clip of a recording at random, `clip_sampling(clip, generator)`; None where nothing is drawn.
        clips_at_once: how many of the clips that `cut` gives a pipeline prepares in one call, and holds in memory together.
    """

    modality_names: Sequence[str] = ()
    clip_sampling: Any = None
    clips_at_once: int = 1

    if TYPE_CHECKING:  # each class has its own, or transformers' base behind this one has it

        def __call__(self, recordings: Any, *, return_tensors: str | None = None) -> Mapping[str, Any]: ...

    @property
    def cuts(self) -> bool:
        """One recording can be several examples of training and evaluation."""
        return type(self).cut is not RecordingProcessor.cut

    def read(self, source: Any) -> Any:
        """A path, arrays or a mapping as a recording; by default the source is one."""
        return source

    def cut(self, recording: Any, *, stride_s: float | None = None) -> Sequence[Any]:
        """The clips of a recording, `stride_s` seconds apart; by default it is one."""
        return [recording]

    def locate(self, clip: Any) -> dict[str, Any]:
        """Where in its recording a clip lies: `start` and `end` in seconds, None where it has no clock."""
        return {"start": getattr(clip, "start", None), "end": getattr(clip, "end", None)}

    def step_times(self, clip: Any) -> NDArray[np.float64] | None:
        """(S,) seconds at which the steps of a prediction over time hold; None for a model that answers once a clip.

        NaN for a step that lies behind the recording's end: it is in no answer and in no mean.
        """
        return None

    def targets(
        self, clips: Sequence[Any], names: Sequence[str] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Ratings over time at the steps of the model: (B, S, D) values and (B, S, D) bool, known.

        Raises:
            ConfigurationError: this processor has no steps to lay them on.
        """
        raise ConfigurationError(
            f"The corpus is rated over time, and {type(self).__name__} has no `targets` to lay ratings on the model's time "
            "grid. Train an architecture for signals, or a corpus with one value per recording."
        )

    def fit(self, recordings: Iterable[Any]) -> None:
        """Find what normalisation must know on recordings of the training part; by default nothing."""

    def blank(self) -> Any:
        """A recording in which nothing was measured, for places in a batch whose recording cannot be used.

        Raises:
            ConfigurationError: this processor has none.
        """
        raise ConfigurationError(
            f"{type(self).__name__} has no `blank`, so one bad recording cannot be passed over in a batch. Define it, or pass "
            'errors="raise".'
        )

    def report(self, recording: Any) -> dict[str, Any] | None:
        """What became of each stream, for the answer; None where there is nothing to say."""
        return None

    def is_silent(self, recording: Any, clip: Any) -> bool:
        """Whether nothing was measured in a clip of this recording, so that no answer can be about it; by default it was."""
        return False

    def check(self, recording: Any, clips: Sequence[Any]) -> list[AnswerWarning]:
        """What an answer for this recording rests on and is in doubt, beside what its reader found; by default nothing.

        What concerns one clip only, such as one face of a picture, stands on the clip itself, as its `warnings`.
        """
        return []

    def doubts(self, recording: Any, clips: Sequence[Any]) -> list[list[AnswerWarning]]:
        """What an answer for each clip of a recording warns of, by its reader, by `check` and on the clip; once a code."""
        whole = [*getattr(recording, "warnings", ()), *self.check(recording, clips)]
        return [once_a_code([*whole, *getattr(clip, "warnings", ())]) for clip in clips]

    def follow(self, *, faces: str | None = None, min_face: float | None = None) -> "FilmFollower | None":
        """What makes clips of the people in a film of faces, frame by frame; by default None: films of faces are not read.

        Args:
            faces, min_face: as of the pipeline.
        """
        return None

    def stream(self, **options: Any) -> Any:
        """Windows of a recording that goes on.

        Raises:
            ConfigurationError: this processor cannot follow one.
        """
        raise ConfigurationError(
            f"{type(self).__name__} takes whole recordings only; expected a processor that has `stream`. Pass a file, or use a "
            "checkpoint for signals."
        )
