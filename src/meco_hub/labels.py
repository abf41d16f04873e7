"""Label spaces: the names of classes, their order, and where that order comes from.

Every data set numbers its expressions differently, so a label index never leaves this library without its name. The
canonical names are nouns (happiness, not happy); `canonical` turns the spellings found in the wild into them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigurationError, unknown_name

EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""The eight expressions in AffectNet's official order (Mollahosseini et al. 2017, label 0 to 7)."""

_SPELLINGS = {
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "afraid": "fear",
    "fearful": "fear",
    "disgusted": "disgust",
    "angry": "anger",
    "contemptuous": "contempt",
}


def canonical(name: str) -> str:
    """The canonical name of an expression, whatever its case or part of speech ("Happy" → "happiness").

    Raises:
        UnknownNameError: the name is no known spelling of one of the eight expressions.
    """
    folded = name.strip().lower()
    folded = _SPELLINGS.get(folded, folded)
    if folded not in EXPRESSIONS:
        raise unknown_name("expression", name, [*EXPRESSIONS, *_SPELLINGS])
    return folded


def canonical_or_own(name: str) -> str:
    """The canonical name of an expression in any usual spelling; any other name as it stands."""
    folded = name.strip().lower()
    folded = _SPELLINGS.get(folded, folded)
    return folded if folded in EXPRESSIONS else name.strip()


@dataclass(frozen=True)
class LabelSpace:
    """Names in the order of their indices.

    Attributes:
        name: what the space is called ("raf_db").
        names: class names; position is index.
        source: where the order comes from.
    """

    name: str
    names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ConfigurationError(
                f"Label space {self.name!r} names a class twice: {self.names}. Remove one of them."
            )

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}


def index_map(source: Sequence[str], target: Sequence[str]) -> list[int]:
    """For every class of `source`, its index in `target`, or −1 where `target` lacks it.

    Both may spell expressions in any way that `canonical` knows; other names must agree letter by letter.
    """

    def key(name: str) -> str:
        folded = name.strip().lower()
        return _SPELLINGS.get(folded, folded)

    position = {key(name): index for index, name in enumerate(target)}
    return [position.get(key(name), -1) for name in source]


_OF_A_HEAD = ("id2label", "label2id", "target_names", "target_center", "target_halfrange")
"""Fields of a config that have one entry for each number that the head answers with."""


def for_another_head(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config's fields without the labels of its head, where a head of another size is wanted.

    `from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)` is how users of transformers go on from a checkpoint with
    other classes; the saved names would contradict it.

    Args:
        config: the fields, as saved.
        wanted: what was passed to `from_pretrained`; `num_labels` and `id2label` are looked at.
    """
    names = wanted.get("id2label")
    count = wanted.get("num_labels") if names is None else len(names)
    if count in (None, len(config.get("id2label") or ())):
        return dict(config)
    own = {name: value for name, value in config.items() if name not in _OF_A_HEAD}
    return own | {name: wanted[name] for name in _OF_A_HEAD if wanted.get(name) is not None}
