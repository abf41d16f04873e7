"""Does anybody, any trial or any content stand on both sides of a split? And which data was it, exactly?

What two splits share is looked for in eight ways, as far as the corpus has the columns:

    identity    the same person
    trial       rows cut from the same trial of the same person
    time        parts of one recording (`source`, `start_s`, `end_s`) that overlap
    content     the same bytes, or samples of signals: `content_sha256`, or the files or pictures themselves
    pixels      the same picture, decoded, in other bytes
    look        a picture that brightens in the same places, or its mirror image does: encoded anew, resized
    spelling    people, files, stimuli, one person's trials: names that differ in case, accents' encoding, spaces, zeros before a
                number, or "./"
    stimulus    the same film or picture was shown

The first five are leaks and stop a training. Looks and spellings may be chance, and are noted. Stimuli are shared whenever
everybody sees the same films, whoever is held out, so they are noted and stop nothing: the note says that a model may have learnt
the film. A protocol that shares more on purpose (people, when each is tested on trials of their own) says so with `allow`, and the
report keeps that as a note too.

Bytes catch copied files, which is how duplicates mostly arise (FER-2013 has them across its official splits), pixels what was
encoded anew without loss. A report says what was looked for, and no more, and how many rows had no identity to check.
"""

import hashlib
import math
import posixpath
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, LeakError
from .file_tree import content_hashes, first_few, looks
from .tables import column

if TYPE_CHECKING:
    import datasets

KINDS = ("identity", "trial", "time", "content", "pixels", "stimulus", "look", "spelling")
"""What splits are compared by."""

NOTED = ("look", "spelling")
"""Kinds that may be chance, and are never more than a note."""

SAME_LOOK = 16
"""Of 256 bits, how many may differ between two pictures that look alike; those of two unrelated ones differ in about 128."""

_WORDS = {
    "identity": "people",
    "trial": "trials",
    "time": "parts of one recording, overlapping in time,",
    "content": "contents, the same byte for byte,",
    "pixels": "pictures, the same pixel for pixel in other bytes,",
    "stimulus": "stimuli",
    "look": "pictures that look alike, or alike mirrored,",
    "spelling": "names that differ in their spelling alone",
}

_SOUGHT = {
    "identity": "people",
    "trial": "trials",
    "time": "stretches of a recording",
    "content": "bytes or samples",
    "pixels": "pixels",
}
"""What a report without a leak says that it looked for."""

_DEFAULT_NAMES = {2: ["train", "test"], 3: ["train", "validation", "test"]}


@dataclass(frozen=True)
class Overlap:
    """What two splits share.

    Attributes:
        shared: the identities, trials or stimuli, or pairs "sample_id = sample_id" of rows; sorted.
    """

    kind: str
    first: str
    second: str
    shared: tuple[str, ...]
    rows: int

    def __str__(self) -> str:
        return (
            f"{len(self.shared)} {_WORDS[self.kind]} stand in {self.first} and in {self.second} ({self.rows} rows there): "
            f"{first_few(self.shared)}"
        )


@dataclass(frozen=True)
class LeakReport:
    """What `leak_check` found.

    Attributes:
        unknown_identities: rows by split whose person is unknown, so that only their content could be checked.
        looked_for: kinds that two splits at least have something of; of the others nothing is known.
    """

    overlaps: tuple[Overlap, ...]
    rows: dict[str, int]
    unknown_identities: dict[str, int]
    notes: tuple[Overlap, ...] = ()
    looked_for: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.overlaps

    def to_dict(self) -> dict[str, Any]:
        """The report as plain types, for report.json."""
        overlaps, notes = (
            [asdict(one) | {"shared": list(one.shared)} for one in found] for found in (self.overlaps, self.notes)
        )
        looked_for = list(self.looked_for)
        return {"clean": self.clean, **asdict(self), "overlaps": overlaps, "notes": notes, "looked_for": looked_for}

    def __str__(self) -> str:
        blind = ", ".join(f"{count} of {self.rows[name]} in {name}" for name, count in self.unknown_identities.items())
        unknown = f" Rows without an identity, checked by content only: {blind}." if blind else ""
        kinds = ", ".join(_SOUGHT[kind] for kind in self.looked_for if kind in _SOUGHT)
        found = "; ".join(map(str, self.overlaps)) or f"Looked in every two splits for the same {kinds}, and found none"
        noted = f" Noted, and no leak by itself: {'; '.join(map(str, self.notes))}." if self.notes else ""
        return f"{found}.{noted}{unknown}"


def leak_check(
    train: "datasets.Dataset",
    *others: "datasets.Dataset",
    names: Sequence[str] | None = None,
    raises: bool = True,
    allow: Collection[str] = ("stimulus",),
) -> LeakReport:
    """Compare every two of the splits given.

    Validation is compared with test too: a model selected on test pictures has seen them.

    Args:
        train, others: splits with the columns identity and sample_id, and those that say what the content is (`content_hashes`).
        names: what to call them; default train, validation, test for up to three.
        raises: False to get a report with its overlaps in place of an error.
        allow: kinds that may be shared; what is found of them becomes a note.
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
    if not set(allow) <= set(KINDS):
        raise ConfigurationError(f"allow is {list(allow)}. Expected some of {', '.join(KINDS)}.")
    sides = [_Side(name, split) for name, split in zip(called, splits, strict=True)]
    found = [overlap for first, second in combinations(sides, 2) for overlap in _compare(first, second)]
    allow = {*allow, *NOTED}
    looked_for = tuple(kind for kind in KINDS if sum(kind in side.kinds for side in sides) > 1)
    report = LeakReport(
        overlaps=tuple(overlap for overlap in found if overlap.kind not in allow),
        rows={side.name: side.rows for side in sides},
        unknown_identities={side.name: side.unknown for side in sides if side.unknown},
        notes=tuple(overlap for overlap in found if overlap.kind in allow),
        looked_for=looked_for,
    )
    if raises and not report.clean:
        raise LeakError(
            f"{report} Expected nobody and nothing on both sides. Split by identity (by_identity), take the duplicates "
            "out, or go on with `allow_leak: true` under `data` of the recipe (raises=False in Python) and let the report say so."
        )
    return report


@dataclass(frozen=True, order=True)
class _Part:
    """From when to when a row lies in its source."""

    start: float
    end: float
    sample: str


class _Side:
    """A split, as far as it is compared: rows by person, trial, stimulus and content, and parts by source."""

    def __init__(self, name: str, dataset: "datasets.Dataset") -> None:
        plain = dataset.with_format(None)
        self.name = name
        self.rows = len(plain)
        compared = ("identity", "trial", "content", "stimulus", "pixels", "spelling")
        self.by: dict[str, dict[str, list[str]]] = {kind: defaultdict(list) for kind in compared}
        self.parts: dict[str, list[_Part]] = defaultdict(list)
        people, samples = column(plain, "identity"), column(plain, "sample_id")
        self.unknown = sum(not who for who in people)
        trials, stimuli, sources = (column(plain, kind, "") for kind in ("trial", "stimulus", "source"))
        # two people's trials may bear one number; where nobody is known, the trial's own name must do
        bare = trials
        trials = [f"{who}/{trial}" if who and trial else trial for who, trial in zip(people, bare, strict=True)]
        contents, shown = content_hashes(plain), looks(plain)
        self.content = dict(zip(samples, contents, strict=True))
        self.looks = {one: look.gradient for one, look in zip(samples, shown, strict=True) if look.gradient.strip("0")}
        found = (people, trials, contents, stimuli, [look.pixels for look in shown])
        for kind, values in zip(compared[:-1], found, strict=True):  # spellings are made of them below
            for value, sample in zip(values, samples, strict=True):
                if value:
                    self.by[kind][value].append(sample)
        starts: list[Any] = column(plain, "start_s", math.nan)
        ends: list[Any] = column(plain, "end_s", math.nan)
        for source, start, end, sample in zip(sources, starts, ends, samples, strict=True):
            if source:  # without bounds, the row is the whole recording
                if start is None or end is None or math.isnan(start) or math.isnan(end):
                    start, end = -math.inf, math.inf
                self.parts[source].append(_Part(start, end, sample))
        # a person "1" is no stimulus "01", and of two people's trials none is another's
        alone = [""] * self.rows
        named = {"person": (alone, people), "file": (alone, sources), "film": (alone, stimuli), "trial": (people, bare)}
        for kind, (owners, names) in named.items():
            for owner, name in dict.fromkeys(zip(owners, names, strict=True)):
                if name:
                    self.by["spelling"][f"{kind}/{owner}/{plain_name(name)}"].append(
                        f"{owner}/{name}" if owner else name
                    )
        self.kinds = {
            *(kind for kind, own in self.by.items() if own),
            *["time"] * bool(self.parts),
            *["look"] * bool(self.looks),
        }


def plain_name(name: str) -> str:
    """A name without what people change when they write it again."""
    text = " ".join(unicodedata.normalize("NFC", name).casefold().split())
    return re.sub(r"(?<!\d)0+(?=\d)", "", posixpath.normpath(text.replace("\\", "/")))


def _compare(first: _Side, second: _Side) -> list[Overlap]:
    overlaps = []
    for kind in KINDS:
        if kind in ("time", "look"):
            if pairs := (_overlapping if kind == "time" else _alike)(first, second):
                overlaps.append(Overlap(kind, first.name, second.name, tuple(sorted(pairs)), len(pairs)))
            continue
        mine, theirs = first.by[kind], second.by[kind]
        shared = mine.keys() & theirs.keys()
        if kind == "pixels":  # in the same bytes they are found already
            known = set(first.content.values())
            theirs = {one: [row for row in theirs[one] if second.content[row] not in known] for one in shared}
            shared = {one for one in shared if theirs[one]}
        if kind == "spelling":
            shared = {one for one in shared if not set(mine[one]) & set(theirs[one])}
        if shared:
            # a hash says nothing to a reader; the rows that have it do
            names = [
                f"{mine[one][0]} = {theirs[one][0]}" if kind in ("content", "pixels", "spelling") else one
                for one in shared
            ]
            rows = sum(len(theirs[one]) for one in shared)
            overlaps.append(Overlap(kind, first.name, second.name, tuple(sorted(names)), rows))
    return overlaps


def _alike(first: _Side, second: _Side) -> list[str]:
    """ "row = row" for every picture of the second split that looks like one of the first, and is not the same pixel for pixel."""
    import numpy as np

    if not first.looks or not second.looks:
        return []

    def bits(side: _Side) -> Any:
        packed = np.frombuffer(bytes.fromhex("".join(side.looks.values())), np.uint8).reshape(len(side.looks), 32)
        return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1

    same = {row for key in first.by["pixels"].keys() & second.by["pixels"].keys() for row in second.by["pixels"][key]}
    mine, asked, names, others = bits(first), bits(second), list(first.looks), list(second.looks)
    pairs = []
    for start in range(0, len(second.looks), 256):
        theirs = asked[start : start + 256]
        # mirrored, a picture brightens where it darkened, from the other side
        mirrored = -theirs.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)
        agree = np.maximum(theirs @ mine.T, mirrored @ mine.T)
        for place in np.flatnonzero(agree.max(axis=1) >= 256 - 2 * SAME_LOOK):
            row = others[start + int(place)]
            if row not in same:
                pairs.append(f"{names[int(agree[place].argmax())]} = {row}")
    return pairs


def _overlapping(first: _Side, second: _Side) -> list[str]:
    """ "row = row" for every row of the second split that overlaps one of the first."""
    pairs = []
    for source in first.parts.keys() & second.parts.keys():
        mine = sorted(first.parts[source])
        starts = [part.start for part in mine]
        # of all parts that start before a moment, the one that lasts longest overlaps whatever any of them does
        longest = list(accumulate(mine, lambda a, b: b if b.end > a.end else a))
        for part in second.parts[source]:
            before = bisect_left(starts, part.end)
            if before and longest[before - 1].end > part.start:
                pairs.append(f"{longest[before - 1].sample} = {part.sample}")
    return pairs


def fingerprint(dataset: "datasets.Dataset") -> str:
    """SHA-256 (hex) of which recordings these are and how they are labelled.

    It covers each row's sample_id, label name (or targets, or `annotations_sha256` where they run over time) and content,
    whatever the order of the rows or of the classes, and is the same in every process and on every platform.
    """
    plain = dataset.with_format(None)
    samples, truths = column(plain, "sample_id"), _truths(plain)
    rows = ["\0".join(row) for row in zip(samples, truths, content_hashes(plain), strict=True)]
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def _truths(plain: "datasets.Dataset") -> list[str]:
    """What is to be predicted of each row, as text."""
    if "label" in plain.column_names:
        names = getattr(plain.features["label"], "names", None)
        return [
            names[label] if names and label is not None and label >= 0 else str(label)
            for label in column(plain, "label")
        ]
    if "targets" in plain.column_names:
        return [",".join(repr(float("nan" if one is None else one)) for one in row) for row in column(plain, "targets")]
    return [str(one) for one in column(plain, "annotations_sha256", "")]
