"""What SEE says about its sequences: their names, and `emotion.json`.

This file knows the words of SEE; it does not know where its pictures lie.
"""

import json
import logging
from typing import Any

from ..errors import CorpusError, UnknownNameError
from ..labels import canonical
from .file_tree import FileTree

logger = logging.getLogger(__name__)

LIGHTINGS = ("normal", "Overexposed", "Low", "HDR")
"""The lightings, as sequences' names spell them."""

_SPELT = {light.casefold(): light for light in LIGHTINGS}
NAME_FIELDS = ("number", "volunteer", "sex", "age", "degree", "lighting", "emotion", "frames", "take")
"""The fields of a sequence's name, in order."""

SPLITS = {"training": "train", "testing": "test"}
"""Subset in `emotion.json` → split."""


def parse_sequence_name(name: str) -> dict[str, str]:
    """What a sequence's name says, by `NAME_FIELDS`: as written, but for the light, which is spelt as in `LIGHTINGS`.

    >>> parse_sequence_name("1_001_man_24_Master_normal_angry_45_take000")["lighting"]
    'normal'

    Raises:
        CorpusError: not nine fields, or a field that cannot be what it should.
    """
    fields: dict[str, str] = dict(zip(NAME_FIELDS, name.split("_"), strict=False))
    problem = ""
    if len(name.split("_")) != len(NAME_FIELDS):
        problem = f"has {len(name.split('_'))} fields"
    elif not all(fields[key].isdecimal() for key in ("number", "volunteer", "age", "frames")):
        problem = "has no number where number, volunteer, age or frames should stand"
    elif fields["lighting"].casefold() not in _SPELT:
        problem = f"names the lighting {fields['lighting']!r}, which is none of {', '.join(LIGHTINGS)}"
    if problem:
        raise CorpusError(
            f"The sequence name {name!r} {problem}. Expected {'_'.join(NAME_FIELDS)}, as "
            "1_001_man_24_Master_normal_angry_45_take000."
        )
    return {**fields, "lighting": _SPELT[fields["lighting"].casefold()]}


def read_annotations(tree: FileTree, name: str) -> tuple[list[str], dict[str, Any]]:
    """The labels as they are written, in order, and the entries by sequence.

    Raises:
        CorpusError: the file is no JSON, or holds something else.
    """
    where = tree.where(name)
    try:
        parsed = json.loads(tree.read(name).decode("utf-8-sig"))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError alike
        raise CorpusError(f"{where} is not JSON ({error}). Copy it again from its source.") from error
    tokens, database = (parsed.get("labels"), parsed.get("database")) if isinstance(parsed, dict) else (None, None)
    if (
        not isinstance(tokens, list)
        or not all(isinstance(token, str) and token for token in tokens)
        or len({token.lower() for token in tokens}) != len(tokens)
        or not tokens
        or not isinstance(database, dict)
    ):
        raise CorpusError(
            f"{where} has no `labels`, a list of different names, and `database`, an object of sequences. Is it SEE's?"
        )
    return tokens, database


def label_names(tokens: list[str], where: str) -> list[str]:
    """Canonical names in the file's own order; tokens that are no expressions keep their own."""
    names = []
    for token in tokens:
        try:
            names.append(canonical(token))
        except UnknownNameError:
            logger.warning("%s: the label %r is no known expression and keeps its name.", where, token)
            names.append(token)
    if len(set(names)) != len(names):
        raise CorpusError(f"{where} names an expression twice: {', '.join(tokens)}. Keep one spelling.")
    return names


def read_entry(entry: Any, tokens: list[str], where: str) -> tuple[str, str, int, int]:
    """(split, label token, start, end) of one entry of the database."""
    try:
        subset, token = entry["subset"], entry["annotations"]["label"]
        start, end = entry["annotations"]["segment"]
        start, end = int(start), int(end)
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f'{where} is {str(entry)[:120]}. Expected {{"subset": …, "annotations": {{"label": …, "segment": [start, end]}}}}.'
        ) from error
    if subset not in SPLITS:
        raise CorpusError(f"{where}: the subset is {subset!r}. Expected {' or '.join(SPLITS)}.")
    if token not in tokens:
        raise CorpusError(f"{where}: the label is {token!r}, which `labels` lacks: {', '.join(tokens)}.")
    if end != 0 and not 0 <= start < end:
        raise CorpusError(f"{where}: the segment is [{start}, {end}). Expected 0 ≤ start < end.")
    return SPLITS[subset], token, start, end
