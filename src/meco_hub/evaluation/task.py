"""What a model is asked for: classes or values, by name, in order, on which scale.

Models answer values on the scale [−1, 1] of their targets' range; people rate and read native units. Everything outside a model
is in native units, and this is the one place where the two are turned into each other.

This file knows names and scales; it knows no data set on disk.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ..corpora import Corpus
from ..errors import ConfigurationError


@dataclass(frozen=True)
class Task:
    """The outputs of a head.

    Attributes:
        names: of classes or targets, in the order of the logits.
        regression: values rather than classes.
        center, halfrange: of each target: native = center + halfrange · output; empty for classes.
    """

    names: tuple[str, ...]
    regression: bool = False
    center: tuple[float, ...] = ()
    halfrange: tuple[float, ...] = ()

    def scale(self, native: NDArray[np.floating]) -> NDArray[np.float32]:
        """(…, targets) native values → the scale on which models answer."""
        return ((np.asarray(native, np.float32) - self._row(self.center)) / self._row(self.halfrange)).astype(
            np.float32
        )

    def native(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """(…, targets) outputs of a model → native values."""
        return self._row(self.center).astype(np.float64) + self._row(self.halfrange) * np.asarray(outputs, np.float64)

    @staticmethod
    def _row(values: tuple[float, ...]) -> NDArray[np.float32]:
        return np.asarray(values, np.float32)


def task_of_model(model: PreTrainedModel) -> Task:
    """What a head answers, as its config says.

    Raises:
        ConfigurationError: a head of values that does not name them.
    """
    config: Any = model.config
    if config.problem_type != "regression":
        return Task(tuple(config.id2label[index] for index in range(len(config.id2label))))
    names = getattr(config, "target_names", None)
    if not names:
        raise ConfigurationError(
            f"The config of {type(model).__name__} says problem_type 'regression' and no target_names; expected the names "
            "of its values in order. Add them to config.json."
        )
    count = len(names)
    return Task(
        tuple(names),
        regression=True,
        center=tuple(getattr(config, "target_center", None) or [0.0] * count),
        halfrange=tuple(getattr(config, "target_halfrange", None) or [1.0] * count),
    )


def task_of_corpus(corpus: Corpus, wanted: list[str] | None = None) -> Task:
    """The values that a corpus has been rated on.

    Args:
        corpus: one that declares targets.
        wanted: some of its targets, in the order of the outputs; all of them when None.

    Raises:
        ConfigurationError: a target that the corpus does not have.
    """
    known = {target.name: target for target in corpus.targets}
    names = wanted or list(known)
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{name!r} is no target of the corpus {corpus.name!r}; it has {', '.join(known)}. Correct `labels`."
            )
    return Task(
        tuple(names),
        regression=True,
        center=tuple(known[name].center for name in names),
        halfrange=tuple(known[name].halfrange for name in names),
    )
