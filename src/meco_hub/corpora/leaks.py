"""Does anybody, or any picture, stand on both sides of a split? And which data was it, exactly?

Leaks are looked for by identity, where the corpus names people, and by content: SHA-256 of the encoded bytes. Bytes catch
copied files, which is how duplicates mostly arise (FER-2013 has them across its official splits); a picture encoded anew,
cropped or resized differs in its bytes and is not found. A report says how many rows had no identity to check.

This file knows how to compare splits; it does not know how they were made.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, LeakError
from .contents import content_hashes
from .wording import first_few

if TYPE_CHECKING:
    import datasets

_DEFAULT_NAMES = {2: ["train", "test"], 3: ["train", "validation", "test"]}


@dataclass(frozen=True)
class Overlap:
    """What two splits share.

    Attributes:
        kind: "identity" or "content".
        first, second: names of the splits.
        shared: the identities, or pairs "sample_id = sample_id" of equal pictures; sorted.
        rows: how many rows of the second split are concerned.
    """

    kind: str
    first: str
    second: str
    shared: tuple[str, ...]
    rows: int

    def __str__(self) -> str:
        what = "people" if self.kind == "identity" else "pictures, the same byte for byte,"
        return (
            f"{len(self.shared)} {what} stand in {self.first} and in {self.second} ({self.rows} rows there): "
            f"{first_few(self.shared)}"
        )


@dataclass(frozen=True)
class LeakReport:
    """What `leak_check` found.

    Attributes:
        overlaps: empty when nothing was found.
        rows: number of rows by split.
        unknown_identities: rows by split whose person is unknown, so that only their content could be checked.
    """

    overlaps: tuple[Overlap, ...]
    rows: dict[str, int]
    unknown_identities: dict[str, int]

    @property
    def clean(self) -> bool:
        return not self.overlaps

    def to_dict(self) -> dict[str, Any]:
        """The report as plain types, for report.json."""
        overlaps = [asdict(overlap) | {"shared": list(overlap.shared)} for overlap in self.overlaps]
        return {"clean": self.clean, **asdict(self), "overlaps": overlaps}

    def __str__(self) -> str:
        blind = ", ".join(f"{count} of {self.rows[name]} in {name}" for name, count in self.unknown_identities.items())
        unknown = f" Rows without an identity, checked by content only: {blind}." if blind else ""
        found = "; ".join(map(str, self.overlaps)) if self.overlaps else "No person or picture stands in two splits"
        return f"{found}.{unknown}"


def leak_check(
    train: "datasets.Dataset",
    *others: "datasets.Dataset",
    names: Sequence[str] | None = None,
    raises: bool = True,
) -> LeakReport:
    """Compare every two of the splits given.

    Validation is compared with test too: a model selected on test pictures has seen them.

    Args:
        train, others: splits with the columns image, identity and sample_id.
        names: what to call them; default train, validation, test for up to three.
        raises: False to get a report with its overlaps in place of an error.

    Raises:
        LeakError: something stands in two splits.
        ConfigurationError: names and splits differ in number.
    """
    splits = [train, *others]
    called = (
        list(names)
        if names is not None
        else _DEFAULT_NAMES.get(len(splits)) or [f"split {n}" for n in range(len(splits))]
    )
    if len(called) != len(splits) or len(set(called)) != len(called):
        raise ConfigurationError(
            f"{len(splits)} splits were given, and the names {called}. Expected one name for each."
        )
    sides = [_Side(name, split) for name, split in zip(called, splits, strict=True)]
    overlaps = [overlap for first, second in combinations(sides, 2) for overlap in _compare(first, second)]
    report = LeakReport(
        overlaps=tuple(overlaps),
        rows={side.name: side.rows for side in sides},
        unknown_identities={side.name: side.unknown for side in sides if side.unknown},
    )
    if raises and not report.clean:
        raise LeakError(
            f"{report} Expected nobody and nothing on both sides. Split by identity (by_identity), take the duplicates "
            "out, or go on with raises=False and let the report say so."
        )
    return report


class _Side:
    """A split, as far as it is compared: rows by person and by content."""

    def __init__(self, name: str, dataset: "datasets.Dataset") -> None:
        plain = dataset.with_format(None)
        self.name = name
        self.rows = len(plain)
        columns = plain.select_columns(["identity", "sample_id"])[:]
        self.people: dict[str, list[str]] = defaultdict(list)
        self.contents: dict[str, list[str]] = defaultdict(list)
        for identity, content, sample in zip(
            columns["identity"], content_hashes(plain), columns["sample_id"], strict=True
        ):
            if identity:
                self.people[identity].append(sample)
            self.contents[content].append(sample)
        self.unknown = sum(not identity for identity in columns["identity"])


def _compare(first: _Side, second: _Side) -> list[Overlap]:
    overlaps = []
    people = sorted(first.people.keys() & second.people.keys())
    if people:
        rows = sum(len(second.people[who]) for who in people)
        overlaps.append(Overlap("identity", first.name, second.name, tuple(people), rows))
    contents = first.contents.keys() & second.contents.keys()
    if contents:
        pairs = sorted(f"{first.contents[c][0]} = {second.contents[c][0]}" for c in contents)
        rows = sum(len(second.contents[c]) for c in contents)
        overlaps.append(Overlap("content", first.name, second.name, tuple(pairs), rows))
    return overlaps


def fingerprint(dataset: "datasets.Dataset") -> str:
    """SHA-256 (hex) of which pictures these are and how they are labelled.

    It covers each row's sample_id, label name and picture bytes, whatever the order of the rows or of the classes, and is
    the same in every process and on every platform.
    """
    plain = dataset.with_format(None)
    columns = plain.select_columns(["sample_id", "label"])[:]
    label_names = getattr(plain.features["label"], "names", None)
    rows = []
    for sample, label, content in zip(columns["sample_id"], columns["label"], content_hashes(plain), strict=True):
        name = label_names[label] if label_names and label is not None and label >= 0 else str(label)
        rows.append("\0".join((sample, name, content)))
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
