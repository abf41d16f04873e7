"""Which time steps of a clip are looked at: a few, evenly apart, from a random or a fixed start.

    sampling = ClipSampling(num_frames=4, stride=4, sampling="legacy")
    sampling(clip, generator)          # in training and in repeated evaluation: a random start, as a clip with `chosen` steps
    sampling.centered(clip)            # where the answer must not depend on chance: the window in the middle

"legacy" draws as the code does that the published figures come from, oddities included:
- A phase is drawn from 0 … stride, inclusive, one value too many: phase `stride` is phase 0 without its first frame.
- Of the n frames that phase keeps, the first of the window is drawn from 0 … max(0, n − num_frames − 1), inclusive: where there
  is any choice, the last possible window is never drawn.
- Where fewer than num_frames are kept, they are repeated from the beginning.

"uniform" draws every window of num_frames frames, `stride` apart, with the same probability, and refuses clips that are too short.

This file knows time steps and chance; it knows no picture and no model.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..errors import ConfigurationError, RecordingError
from ..recordings.eye_clips import EyeClip

Rule = Literal["legacy", "uniform", "center"]
RULES: tuple[str, ...] = get_args(Rule)


@dataclass(frozen=True)
class ClipSampling:
    """Chooses time steps of a clip: `sampling(clip, generator) -> clip`; usable as a recipe's augmentation.

    Attributes:
        num_frames: how many are chosen.
        stride: distance between two of them, in frames.
        sampling: "legacy" or "uniform", see the module; "center" chooses the middle window whatever the generator.

    Raises:
        ConfigurationError: a value makes no sense.
    """

    num_frames: int = 4
    stride: int = 4
    sampling: str = "legacy"

    def __post_init__(self) -> None:
        for key in ("num_frames", "stride"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"ClipSampling's {key} is {value!r}; expected a whole number from 1 on.")
        if self.sampling not in RULES:
            raise ConfigurationError(f"ClipSampling's sampling is {self.sampling!r}; expected {', '.join(RULES)}.")

    @property
    def span(self) -> int:
        """Frames from the first chosen one to the last, both included."""
        return (self.num_frames - 1) * self.stride + 1

    def __call__(self, clip: EyeClip, generator: np.random.Generator) -> EyeClip:
        """The clip with time steps chosen at random, the same for frames and events.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.draw(len(clip), generator, clip.called))

    def centered(self, clip: EyeClip) -> EyeClip:
        """The clip with its middle window chosen.

        Raises:
            RecordingError: the clip is too short.
        """
        return clip.at(self.center(len(clip), clip.called))

    def draw(self, length: int, generator: np.random.Generator, called: str = "the clip") -> list[int]:
        """Time steps of a clip of `length` steps, drawn by the rule.

        Raises:
            RecordingError: the clip is too short.
        """
        if self.sampling == "legacy":
            return self._draw_legacy(length, generator, called)
        if self.sampling == "center":
            return self.center(length, called)
        self._check(length, called)
        return self._window(int(generator.integers(0, length - self.span + 1)))

    def center(self, length: int, called: str = "the clip") -> list[int]:
        """Time steps of the middle window; half a step before the middle where it cannot be met.

        Raises:
            RecordingError: the clip is too short.
        """
        self._check(length, called)
        return self._window((length - self.span) // 2)

    def _draw_legacy(self, length: int, generator: np.random.Generator, called: str) -> list[int]:
        phase = int(generator.integers(0, self.stride + 1))
        kept = list(range(phase, length, self.stride))
        if not kept:
            raise RecordingError(
                f"{called} has {length} time steps; the sampler begins at step {phase}. Expected {self.stride + 1} or more. "
                "Record longer."
            )
        begin = int(generator.integers(0, max(0, len(kept) - self.num_frames - 1) + 1))
        window = kept[begin : begin + self.num_frames]
        return [window[place % len(window)] for place in range(self.num_frames)]

    def _window(self, start: int) -> list[int]:
        return list(range(start, start + self.span, self.stride))

    def _check(self, length: int, called: str) -> None:
        if length < self.span:
            raise RecordingError(
                f"{called} has {length} time steps; expected {self.span} or more, for {self.num_frames} frames that lie "
                f"{self.stride} apart. Record longer, or use a processor with a smaller stride."
            )
