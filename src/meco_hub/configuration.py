"""`NoCopiedSources`, `NoRemoteCode`: what comes from an installed package, never from a file inside a checkpoint.

A pushed repository carries a stub of a few lines (`publishing/stub.py`), and `auto_map` entries that point to it, for people who
load it without importing us. transformers takes classes that came by such an entry for remote code: it would copy their source
files into whatever is saved next. And whoever loads such a repository with us imported, and saves it again, would write the entries
without the file that they point to. Both leave a folder that nobody else can load.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Self

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from .errors import LARGEST, ConfigurationError, quote, require_count, suggest
from .labels import for_another_head
from .reading import reading

logger = logging.getLogger(__name__)

# fmt: off
_BESIDE_FIELDS = frozenset((
    "num_labels", "model_type", "torch_dtype", "name_or_path", "output_attentions", "attn_implementation",
    "experts_implementation", "per_layer_config", "auto_map", "custom_pipelines", "quantization_config", "operating_point",
    "calibration", "training_control", "training_data",
))
# fmt: on
"""What a config takes that is no field: transformers' own, and what training writes into it."""

_FROM_FILE = "_from_file"
"""Marks fields that were read: a file of another version of transformers may hold what this one does not know."""


class NoCopiedSources:
    """Mixin of models, first among the bases: saving copies no sources."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: what is installed is imported, and needs no copy of its source beside the weights."""


class NoRemoteCode(NoCopiedSources):
    """Mixin of configs and processors, first among the bases: saving writes neither sources nor `auto_map`."""

    def to_dict(self) -> dict[str, Any]:
        """As the class it is mixed into, without `auto_map`: the file it would point to is not saved."""
        fields: dict[str, Any] = super().to_dict()  # pyright: ignore[reportAttributeAccessIssue] — of the other base
        fields.pop("auto_map", None)
        return fields


# --- Configuration ----------------------------------------------------------------------------------------------------
# `EmotionConfig`: what every config of the zoo is, beyond transformers' `PreTrainedConfig`.
#
# transformers stores arguments that it does not know and goes on, writes two labels as none, and names classes LABEL_0,
# LABEL_1. Here a misspelt field is an error, a label index never leaves without its name, and `num_labels` is counted from
# the names.


_ENTRIES, _LETTERS, _DEPTH, _PICTURE = 1 << 18, 1 << 16, 16, 1 << 26


def _pixels(size: dict[str, Any]) -> int:
    sides = [size.get("height"), size.get("width")]
    return abs(sides[0] * sides[1]) if all(isinstance(side, int) for side in sides) else 0  # pyright: ignore[reportOptionalOperand]


def hold_to_limits(value: Any, key: str = "", depth: int = 0) -> int:
    """Refuse a config whose numbers nobody means, before anything is made by them.

    Args:
        value: what a JSON file holds, or a part of it.
        key: its place, for the message.
        depth: how deep it stands.

    Returns:
        How many entries it has.

    Raises:
        ConfigurationError: a whole number beyond `LARGEST`, one that is not finite, a text or a list without end.
    """
    problem, count = "", 1
    if isinstance(value, int | float) and not abs(value) <= (LARGEST if isinstance(value, int) else 1e12):
        problem = f"is {value if isinstance(value, float) or abs(value) < 1e30 else 'a number of more than 30 digits'}"
    elif isinstance(value, str) and len(value) > _LETTERS:
        problem = f"is a text of {len(value)} characters"
    elif isinstance(value, dict) and _pixels(value) > _PICTURE:
        problem = f"is {value['height']} × {value['width']} pixels"
    elif isinstance(value, dict | list | tuple):
        if depth >= _DEPTH or len(value) > _ENTRIES:
            problem = f"has {len(value)} entries, {depth} levels deep"
        else:
            inner = (
                value.items() if isinstance(value, dict) else ((f"[{place}]", one) for place, one in enumerate(value))
            )
            count += sum(hold_to_limits(one, f"{key}.{name}" if key else str(name), depth + 1) for name, one in inner)
            problem = f"has {count} entries" if count > _ENTRIES else ""
    if problem:
        raise ConfigurationError(
            f"{key[:80] or 'The config'} {problem}; expected numbers up to {LARGEST}, texts up to {_LETTERS} characters, and "
            f"{_ENTRIES} entries at most. Copy the checkpoint again, or ask its author."
        )
    return count


def _refuse_odd_answers(content: dict[str, Any]) -> None:
    """Refuse what transformers goes by before, or after, anybody has looked at the fields of a config."""
    named = content.get("architectures")
    if named is not None and not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise ConfigurationError(f"architectures is {quote(repr(named))}; expected a list of names. Leave it out.")
    for key in ("return_dict", "use_return_dict"):
        if content.get(key, True) is not True:
            raise ConfigurationError(
                f"{key} is {quote(repr(content[key]))}; expected true, because whoever loads a checkpoint reads answers by their "
                "names. Leave it out; single calls take return_dict=False."
            )


def _refuse_code_of_the_hub(content: dict[str, Any]) -> None:
    """Refuse a file whose `attn_implementation`, or another like it, is a repository: transformers would fetch and run its code."""
    for key, value in content.items():
        if not key.endswith(("implementation", "implementation_internal")):
            continue
        for name in value.values() if isinstance(value, dict) else [value]:
            if isinstance(name, str) and "/" in name:
                raise ConfigurationError(
                    f"{key} is '{quote(name)}', code from the Hub; expected a name such as 'eager'. Nothing was fetched. Whoever "
                    "trusts that code passes it to `from_pretrained`."
                )


class EmotionConfig(NoRemoteCode, PreTrainedConfig):
    """Base class of every config in the zoo. A subclass is decorated with `@strict`, or neither its types nor its checks hold."""

    def default_label_names(self, count: int | None) -> Sequence[str]:
        """Names for a head whose classes or values nobody named; a subclass has its own.

        Args:
            count: how many, if `num_labels` was passed.
        """
        return [f"LABEL_{index}" for index in range(2 if count is None else count)]

    def __post_init__(self, **kwargs: Any) -> None:
        hold_to_limits({**{one.name: getattr(self, one.name, None) for one in fields(self)}, **kwargs})
        self._refuse_misspelt(kwargs, read=kwargs.pop(_FROM_FILE, False))
        count = kwargs.pop("num_labels", None)
        if count is not None:
            require_count("num_labels", count, "Leave it out: it is counted.")
        if self.id2label is None and self.label2id is not None:
            self.id2label = {int(index): name for name, index in self.label2id.items()}
        if self.id2label is None:
            self.id2label = dict(enumerate(self.default_label_names(count)))
        if count is not None and count != len(self.id2label):
            raise ConfigurationError(
                f"num_labels={count}, but {len(self.id2label)} are named: {', '.join(map(str, self.id2label.values()))}. Leave "
                "num_labels out: it is counted."
            )
        if self.label2id is None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As transformers', and `num_labels` or `id2label` may ask for a head of another size than the saved one.

        Raises:
            ConfigurationError: what it holds is no config, or beyond all limits.
        """
        remedy = "Copy what `save_pretrained` wrote again."
        with reading(f"The config is none of {cls.__name__}", ConfigurationError, remedy):
            hold_to_limits(config_dict)
            _refuse_code_of_the_hub(config_dict)
            _refuse_odd_answers(config_dict)
            own, wanted = config_dict.get("id2label") or {}, kwargs.get("id2label")
            if wanted and sorted(map(str, own.values())) == sorted(map(str, wanted.values())):
                if [own[key] for key in sorted(own, key=int)] != [wanted[key] for key in sorted(wanted, key=int)]:
                    logger.warning(
                        "id2label %s names the checkpoint's classes in another order. Its own order stays, because its weights "
                        "answer in it: %s. Match labels by name.",
                        wanted,
                        own,
                    )
                kwargs = {key: value for key, value in kwargs.items() if key not in ("id2label", "label2id")}
            try:
                return super().from_dict({**for_another_head(config_dict, kwargs), _FROM_FILE: True}, **kwargs)
            except StrictDataclassError as error:
                raise ConfigurationError(str(error)) from error

    def to_diff_dict(self) -> dict[str, Any]:
        """As transformers', and the labels always: it leaves two unnamed ones out, and our default may be another."""
        return {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}

    def _refuse_misspelt(self, unknown: dict[str, Any], *, read: bool) -> None:
        # transformers stores unknown arguments silently, so a misspelt field would quietly keep its default
        own = [one.name for one in fields(type(self))]
        for name in unknown:
            if name in _BESIDE_FIELDS or name in self.attribute_map or name.startswith("_"):
                continue
            near = suggest(name, own, count=1, cutoff=0.88 if read else 0.6)
            if near or not read:
                raise ConfigurationError(
                    f"{type(self).__name__} has no field {name!r}.{near} Leave it out, or correct it."
                )

    def validate_labels(self) -> None:
        """Indices count from 0, and both maps say the same."""
        names = self.id2label or {}
        if sorted(names) != list(range(len(names))) or not names:
            raise ConfigurationError(
                f"id2label has the keys {sorted(names)}; expected 0, 1, … without gaps. Number the labels from 0."
            )
        if len(set(names.values())) < len(names):
            raise ConfigurationError(f"id2label {names} gives one name to several indices. Name every class once.")
        if self.label2id != {name: index for index, name in names.items()}:
            raise ConfigurationError(
                f"label2id {self.label2id} is not the inverse of id2label {names}. Leave label2id out: it is derived."
            )
