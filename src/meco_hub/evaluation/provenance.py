"""Where a checkpoint's weights come from, as its run.json says, and whom they have seen.

A figure on people that the weights were trained on says nothing about strangers. The run's record therefore keeps a fingerprint of
every person on either side of the training, and an evaluation says how many of its people are among them.

This file knows what a run's record says; it knows no weights.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_KEPT = (
    "control",
    "epochs",
    "steps",
    "selection",
    "validation",
    "seed",
    "seconds",
    "energy",
    "hardware",
    "versions",
    "recipe",
)


def read_run(checkpoint: str) -> dict[str, Any] | None:
    """What the checkpoint's run.json says of where the weights come from; None when there is none."""
    file = Path(checkpoint) / "run.json"
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        logger.warning("%s cannot be read (%s); the report goes without it.", file, error)
        return None


def summarise_run(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a report says of the training: recipe, data and machine, without the history and without lists of people."""
    if run is None:
        return None
    data = {
        name: {key: value for key, value in part.items() if key != "people"} if isinstance(part, Mapping) else part
        for name, part in run.get("data", {}).items()
    }
    return {"data": data, **{key: run[key] for key in _KEPT if key in run}}


def hash_people(corpus: str, identities: Iterable[str]) -> list[str]:
    """Fingerprints of persons, sorted: enough to know one again, and no list of names."""
    known = {name for name in identities if name}
    return sorted(hashlib.sha256(f"{corpus}/{name}".encode()).hexdigest()[:16] for name in known)


def corpus_options(run: Mapping[str, Any] | None, corpus: str) -> dict[str, Any]:
    """The options that training read the same corpus with; none for another corpus or without a record."""
    data = ((run or {}).get("recipe") or {}).get("data") or {}
    return dict(data.get("options") or {}) if data.get("corpus") == corpus else {}


def seen_people(run: Mapping[str, Any] | None, corpus: str, identities: Sequence[str]) -> dict[str, Any] | None:
    """How many of these persons the weights were trained on, or selected by.

    Returns:
        {"people", "trained_on", "selected_by"}; None without a record of them, for another corpus, or where nobody is named here
        or was in training: not knowing whom the weights have seen is not having seen nobody.
    """
    data = (run or {}).get("data") or {}
    own = hash_people(corpus, identities)
    sides = {
        key: (data.get(name) or {}).get("people")
        for key, name in (("trained_on", "train"), ("selected_by", "validation"))
    }
    if not own or not sides["trained_on"] or sides["selected_by"] is None or data.get("corpus") != corpus:
        return None
    return {"people": len(own), **{key: len(set(own) & set(side or ())) for key, side in sides.items()}}
