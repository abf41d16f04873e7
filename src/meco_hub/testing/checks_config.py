"""What is asked of a config: it survives its file, refuses misspelt fields, and keeps the names of labels.

This file knows what a config must keep; it makes no model.
"""

import dataclasses
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from ..errors import MecoError
from .check import NotConforming, require, rule
from .subject import Subject, is_ours

_VOLATILE = ("transformers_version", "_name_or_path", "architectures", "dtype", "_commit_hash")
"""What transformers writes into every config, or takes out of it, on its own."""


def _content(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in _VOLATILE}


def _reread(subject: Subject, config: Any) -> Any:
    folder = subject.new_folder()
    config.save_pretrained(folder)
    return subject.config_class.from_pretrained(folder)


@rule()
def config_round_trip(subject: Subject) -> None:
    """Saved and read again, a config is the same, whether it has its defaults or not."""
    for what, config in (("default", subject.config_class()), ("tiny", subject.config())):
        before, after = _content(config), _content(_reread(subject, config))
        lost = [key for key in before if key not in after or before[key] != after[key]] + sorted(
            set(after) - set(before)
        )
        listing = "; ".join(f"{key}: {before.get(key)!r} became {after.get(key)!r}" for key in lost)
        require(
            not lost,
            f"The {what} config changes when it is saved and read. {listing}.",
            "JSON knows lists and no tuples, and `__post_init__` runs again on reading: let it complete values, never change them.",
        )


@rule()
def config_misspelt_field(subject: Subject) -> None:
    """A field that is misspelt is refused rather than stored beside its default."""
    inherited = {
        one.name
        for base in subject.config_class.__mro__[1:]
        if dataclasses.is_dataclass(base)
        for one in dataclasses.fields(base)
    }
    own = [one.name for one in dataclasses.fields(subject.config_class) if one.name not in inherited]
    require(
        bool(own),
        f"{subject.config_class.__name__} declares no field of its own.",
        "Declare what the model is made of as annotated fields with defaults.",
    )
    name = max(own, key=len)
    misspelt = name[:-1] + name[-1] * 2
    value = subject.fields.get(name, getattr(subject.config_class(), name, None))
    try:
        subject.config(**{misspelt: value})
    except (StrictDataclassError, MecoError, TypeError, ValueError) as error:
        require(
            name in str(error) and misspelt in str(error),
            f"{subject.config_class.__name__}({misspelt}=…) is refused with: {error}",
            f"Let the message name {misspelt!r} and offer {name!r}.",
        )
        return
    raise NotConforming(
        f"{subject.config_class.__name__}({misspelt}=…) is accepted, so a typing error silently keeps the default of {name!r}. "
        "Derive the config from meco_hub.configuration.EmotionConfig, which refuses such names."
    )


@rule()
def config_unknown_key(subject: Subject) -> None:
    """A key that a later version wrote neither prevents reading nor is lost."""
    config = subject.config(zz_from_a_later_version=17)
    again = _reread(subject, config)
    require(
        getattr(again, "zz_from_a_later_version", None) == 17,
        "A key that no field takes (zz_from_a_later_version=17) is lost when the config is saved and read.",
        "Hand all of __post_init__'s kwargs on: super().__post_init__(**kwargs).",
    )


@rule()
def config_labels(subject: Subject) -> None:
    """Names of labels are kept, in their order, two of them or five; without names there are as many as `num_labels`."""
    if subject.is_regression:
        _check_targets(subject)
        return
    for names in (["calm", "cross"], ["surprise", "anger", "joy", "boredom", "awe"]):
        config = subject.config(**_named(subject, dict(enumerate(names))))
        for what, one in (("made", config), ("saved and read", _reread(subject, config))):
            seen = (one.id2label, one.label2id, one.num_labels)
            expected = (dict(enumerate(names)), {name: index for index, name in enumerate(names)}, len(names))
            require(
                seen == expected,
                f"A config with the classes {', '.join(names)} has, when {what}, id2label, label2id and num_labels {seen}.",
                "Derive the config from meco_hub.configuration.EmotionConfig, which keeps both.",
            )
    for count in (2, 5):
        config = subject.config(num_labels=count, **_named(subject, None))
        for what, one in (("made", config), ("saved and read", _reread(subject, config))):
            require(
                len(one.id2label or {}) == count == one.num_labels,
                f"A config with num_labels={count} and no names has, when {what}, {one.id2label}.",
                "Derive the config from meco_hub.configuration.EmotionConfig, which keeps the names (transformers leaves two "
                "unnamed ones out), and let its default_label_names(count) name as many as num_labels says.",
            )


def _named(subject: Subject, names: dict[int, str] | None) -> dict[str, Any]:
    """Changes that give a config these names in place of those that the tiny config may have."""
    changes: dict[str, Any] = {"label2id": None} if "label2id" in subject.fields else {}
    return {**changes, "id2label": names} if names or "id2label" in subject.fields else changes


def _check_targets(subject: Subject) -> None:
    names = ["pleasure", "vigour"]
    given = {"target_names": names, "target_center": [5.0, 0.5], "target_halfrange": [4.0, 0.5]}
    for key in ("id2label", "label2id"):
        given |= {key: None} if key in subject.fields else {}
    config = subject.config(**given)
    for what, one in (("made", config), ("saved and read", _reread(subject, config))):
        seen = (
            one.id2label,
            one.num_labels,
            {key: getattr(one, key, None) for key in given if key.startswith("target")},
        )
        expected = (dict(enumerate(names)), 2, {key: value for key, value in given.items() if key.startswith("target")})
        require(
            seen == expected,
            f"A config with the targets {names} has, when {what}, {seen}; expected {expected}.",
            "Derive the config from meco_hub.configuration.EmotionConfig, and let its default_label_names(count) give "
            "the target_names.",
        )


@rule()
def config_labels_reach_the_head(subject: Subject) -> None:
    """As many logits as labels."""
    if subject.is_regression:
        changes: dict[str, Any] = {
            "target_names": ["pleasure", "vigour"],
            "target_center": None,
            "target_halfrange": None,
        }
    else:
        changes = _named(subject, dict(enumerate(["surprise", "anger", "joy", "boredom", "awe"])))
    config = subject.config(**changes)
    try:
        logits = subject.logits(subject.head_class(config).eval(), subject.batch(2))
    except RuntimeError as error:
        if is_ours(error):
            raise
        raise NotConforming(
            f"A head with {config.num_labels} labels fails: {error}. Take its width from `len(config.id2label)`."
        ) from error
    require(
        logits.shape[-1] == config.num_labels,
        f"A head with {config.num_labels} labels gives logits of shape {tuple(logits.shape)}.",
        "Take the width of its last layer from `config.num_labels`.",
    )
