"""SEE: 2,405 sequences of one eye each, frames and event pictures of a DAVIS346, seven expressions, four lightings.

Zhang et al. 2023, "In the Blink of an Eye: Event-based Emotion Recognition" (SIGGRAPH, arXiv:2310.04043). 111 volunteers;
the split in `emotion.json` is 1,638 sequences for training and 767 for the test, without a validation part. It is not
independent of people: volunteers stand on both sides, so a figure on it says nothing about strangers. `split:
subject_disjoint` divides the same sequences by volunteers. Read from a folder or a zip:

    emotion.json                                             labels (their order is the classes'), subset, label, segment of each
    frame/<emotion>/<sequence>/00000.jpg …                   grey frames, 30 a second
    event/<emotion>/<sequence>/00000.jpg …                   what happened in 33 ms, one picture per frame; white ON, black OFF

A sequence's name says who, under which light and which expression: `1_001_man_24_Master_normal_angry_45_take000`. Entries
of `emotion.json` that end at 0 or whose folders are missing are left out, as the authors' code does, and counted aloud.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError, quote
from ..labels import EXPRESSIONS, canonical_or_own
from ..reading import MAX_JSON, check_size, reading
from ..recordings.eye_clips import EyeClip
from ..recordings.pictures import PictureFiles
from . import Corpus
from .file_tree import FileTree, first_few, open_tree
from .splits import Protocol, by_identity
from .tables import make_split

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

LIGHTINGS = ("normal", "Overexposed", "Low", "HDR")
"""The lightings, as sequences' names spell them."""

_SPELT = {light.casefold(): light for light in LIGHTINGS}
NAME_FIELDS = ("number", "volunteer", "sex", "age", "degree", "lighting", "emotion", "frames", "take")
"""The fields of a sequence's name, in order."""

MAX_PICTURES = 100_000
"""Of a sequence: 00000.jpg to 99999.jpg."""

SPLITS = {"training": "train", "testing": "test"}
"""Subset in `emotion.json` → split."""

corpus = Corpus(
    name="see",
    kind="eye",
    labels=None,
    description="SEE: 2,405 sequences of one eye of 111 volunteers, frames and event pictures, seven expressions, four lightings; "
    "the official split shares volunteers between training and test.",
    layout="emotion.json beside frame/<emotion>/<sequence>/00000.jpg and event/<emotion>/<sequence>/00000.jpg, below SEE/ or not",
    loader="meco_hub.corpora.see:read",
    options={
        "split": '"official" (default), or "subject_disjoint": divided by volunteers, the same share for the test',
        "split_seed": "of subject_disjoint, default 0: another seed, other volunteers",
        "missing": '"error" (default), or "skip": leave out single pictures that are missing, with their partners in the other '
        "stream, and count them",
        "content": '"ends" (default): the leak check compares the first, middle and last pictures of both streams; "all": every '
        "picture, which reads the whole corpus",
        "annotations": "name of the file of labels and split, default emotion.json",
    },
    citation='Zhang, Zhang, Dong, Peers, Wu, Wei, Heide & Yang 2023, "In the Blink of an Eye: Event-based Emotion Recognition", '
    "SIGGRAPH, arXiv:2310.04043",
    licence="Research by application to its authors; no redistribution.",
    reader="meco_hub.corpora.see:read_clip",
    groups=("lighting", "sex"),
    nuisances=("lighting", "identity"),
    protocols="meco_hub.corpora.see:PROTOCOLS",
)

STREAM_FOLDERS = {"frames": "frame", "events": "event"}
_TEXTS = ("sample_id", "identity", "lighting", "sex", "degree", "token", "archive", "frames_folder", "events_folder")
TEST_SHARE = 767 / 2405
"""Share of the sequences that is held out by `split: subject_disjoint`, the official one."""

PROTOCOLS = {
    "official": Protocol(
        "official",
        "sequence",
        True,
        "the split of emotion.json: volunteers stand on both sides, so figures do not hold for strangers",
        ("identity", "stimulus"),
    ),
    "subject_disjoint": Protocol(
        "official", "subject", False, "the same sequences divided by volunteers: nobody is tested who was trained on"
    ),
}
"""What a division may claim, by the value of the option `split`."""


@dataclass
class _Found:
    """What reading left out, for the note."""

    ended: list[str] = field(default_factory=list)
    folderless: list[str] = field(default_factory=list)
    pictures: Counter[str] = field(default_factory=Counter)
    renamed: list[str] = field(default_factory=list)

    def note(self) -> str:
        parts = []
        if self.ended:
            parts.append(f"{len(self.ended)} entries end at 0 and are left out.")
        if self.folderless:
            parts.append(
                f"{len(self.folderless)} entries have no folders and are left out: {first_few(self.folderless)}."
            )
        if self.pictures:
            total = sum(self.pictures.values())
            parts.append(f"{total} missing pictures of {len(self.pictures)} sequences are left out.")
        if self.renamed:
            parts.append(
                f"{len(self.renamed)} sequences are labelled otherwise than their names say: {first_few(self.renamed)}."
            )
        return " ".join(parts)


def read(
    path: Path,
    *,
    split: str = "official",
    split_seed: int = 0,
    missing: str = "error",
    content: str = "ends",
    annotations: str = "emotion.json",
) -> "datasets.DatasetDict":
    """Read SEE from a folder or a zip; see `Corpus.load` for the columns.

    Further columns: `lighting`, `sex`, `degree` (strings), `age` (int32), `token` (the label as written), `archive` (the zip, or
    ""), `frames_folder` and `events_folder` (where the pictures lie), `start` and `end` (numbers of the segment's pictures, end
    excluded), `left_out` (numbers within it that are missing), `files`.
    """
    for key, value, known in (
        ("split", split, tuple(PROTOCOLS)),
        ("missing", missing, ("error", "skip")),
        ("content", content, ("ends", "all")),
    ):
        if value not in known:
            raise ConfigurationError(f"see: {key} is {value!r}. Expected {' or '.join(map(repr, known))}.")
    tree = open_tree(path)
    streams = [f"{folder}/" for folder in STREAM_FOLDERS.values()]
    roots = [
        root
        for root in tree.folders_with(annotations)
        if all(any(name.startswith(root + stream) for name in tree.names) for stream in streams)
    ]
    if not roots:
        raise CorpusError(f"{path} is not laid out as SEE. Expected {corpus.layout}. Check that data_dir is right.")
    return _read_root(tree.below(roots[0]), annotations, split, split_seed, missing, content)


def _read_root(
    tree: FileTree, annotations: str, split: str, seed: int, missing: str, content: str
) -> "datasets.DatasetDict":
    tokens, database = read_annotations(tree, annotations)
    names = label_names(tokens, tree.where(annotations))
    pictures = _pictures(tree)
    found = _Found()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS.values()}
    for sequence, entry in database.items():
        where = f"{tree.where(annotations)}, {sequence}"
        side, token, start, end = read_entry(entry, tokens, where)
        if end == 0:
            found.ended.append(sequence)
            continue
        folders = {stream: pictures.get((folder, token.lower(), sequence)) for stream, folder in STREAM_FOLDERS.items()}
        if None in folders.values():
            found.folderless.append(sequence)
            continue
        row = _row(tree, sequence, token, (start, end), folders, missing, content, found)  # pyright: ignore[reportArgumentType]
        rows[side].append({**row, "label": tokens.index(token)})
    note = found.note()
    if note:
        logger.warning("%s: %s", tree.where(""), note)
    return _build(rows, names, split, seed, note, tree.where(""))


_Folder = tuple[str, frozenset[int]]
"""A sequence's folder as it is spelt on disk, and the numbers of its pictures."""


def _pictures(tree: FileTree) -> dict[tuple[str, str, str], _Folder]:
    """(stream folder, emotion in lower case, sequence) → its pictures; the instructions spell one emotion "neutraL"."""
    streams = frozenset(STREAM_FOLDERS.values())
    spelt: dict[tuple[str, str, str], tuple[str, set[int]]] = {}
    for name in tree.names:
        parts = PurePosixPath(name).parts
        if len(parts) == 4 and parts[0] in streams and parts[3].endswith(".jpg") and parts[3][:-4].isdecimal():
            key = (parts[0], parts[1].lower(), parts[2])
            spelt.setdefault(key, (name[: -len(parts[3])], set()))[1].add(int(parts[3][:-4]))
    return {key: (folder, frozenset(numbers)) for key, (folder, numbers) in spelt.items()}


def _row(
    tree: FileTree,
    sequence: str,
    token: str,
    segment: tuple[int, int],
    folders: Mapping[str, _Folder],
    missing: str,
    content: str,
    found: _Found,
) -> dict[str, Any]:
    said = parse_sequence_name(sequence)
    if said["emotion"].lower() != token.lower():
        found.renamed.append(sequence)
    start, end = segment
    gaps = {stream: [n for n in range(start, end) if n not in numbers] for stream, (_, numbers) in folders.items()}
    for stream, numbers in gaps.items():
        if numbers and missing == "error":
            lacking = [f"{n:05d}.jpg" for n in numbers]
            raise CorpusError(
                f"{tree.where(folders[stream][0])} lacks {stream}: {first_few(lacking)}, of the segment [{start}, {end}). Copy "
                "them again, or say missing='skip' to leave them out of both streams."
            )
    left_out = sorted({number for numbers in gaps.values() for number in numbers})
    if left_out:
        found.pictures[sequence] = len(left_out)
    kept = [number for number in range(start, end) if number not in left_out]
    if not kept:
        raise CorpusError(
            f"{tree.where(folders['frames'][0])}: not one picture of [{start}, {end}) is there. Copy them again."
        )
    archive = str(tree.root) if tree.image_path("").startswith("zip://") else ""
    inside = {stream: tree.base + folder for stream, (folder, _) in folders.items()}
    at = inside if archive else {stream: f"{tree.root / folder}/" for stream, folder in inside.items()}
    compared = kept if content == "all" else sorted({kept[0], kept[len(kept) // 2], kept[-1]})
    return {
        "sample_id": sequence,
        "identity": said["volunteer"],
        "fold": -1,
        "lighting": said["lighting"],
        "sex": said["sex"],
        "age": int(said["age"]),
        "degree": said["degree"],
        "token": token,
        "archive": archive,
        "frames_folder": at["frames"],
        "events_folder": at["events"],
        "start": start,
        "end": end,
        "left_out": left_out,
        "files": [_picture(archive, at[stream], number) for stream in STREAM_FOLDERS for number in compared],
    }


def _build(
    rows: dict[str, list[dict[str, Any]]], names: list[str], split: str, seed: int, note: str, address: str
) -> "datasets.DatasetDict":
    import datasets

    features = {
        "label": datasets.ClassLabel(names=names),
        **dict.fromkeys(_TEXTS, "string"),
        **dict.fromkeys(("fold", "age", "start", "end"), "int32"),
        "left_out": datasets.List(datasets.Value("int32")),
        "files": datasets.List(datasets.Value("string")),
    }
    if not any(rows.values()):
        raise CorpusError(f"{address} holds no sequence that can be used. Check that data_dir names the right folder.")
    note = f"Protocol {PROTOCOLS[split]}. {note}".strip()

    def table(some: list[dict[str, Any]], name: str) -> datasets.Dataset:
        return make_split(name, features, {key: [row[key] for row in some] for key in features}, note)

    if split == "subject_disjoint":
        parts = by_identity(table([*rows["train"], *rows["test"]], "all"), TEST_SHARE, seed=seed)
        return datasets.DatasetDict(dict(zip(SPLITS.values(), parts, strict=True)))
    for name, some in rows.items():
        if not some:
            logger.warning("%s: no sequences for the split %r; it is left out.", address, name)
    return datasets.DatasetDict({name: table(some, name) for name, some in rows.items() if some})


def read_clip(row: Mapping[str, Any]) -> EyeClip:
    """The clip of one row; no picture is decoded yet."""
    left_out = set(row["left_out"])
    numbers = [number for number in range(row["start"], row["end"]) if number not in left_out]
    frames, events = (
        PictureFiles([_picture(row["archive"], row[f"{stream}_folder"], number) for number in numbers])
        for stream in STREAM_FOLDERS
    )
    return EyeClip(frames, events, name=row["sample_id"])


def _picture(archive: str, folder: str, number: int) -> str:
    return f"zip://{folder}{number:05d}.jpg::{archive}" if archive else f"{folder}{number:05d}.jpg"


def parse_sequence_name(name: str) -> dict[str, str]:
    """What a sequence's name says, by `NAME_FIELDS`: as written, but for the light, which is spelt as in `LIGHTINGS`.

    >>> parse_sequence_name("1_001_man_24_Master_normal_angry_45_take000")["lighting"]
    'normal'
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
    """The labels as they are written, in order, and the entries by sequence."""
    where = tree.where(name)
    with reading(f"{where} is not JSON", CorpusError):
        content = tree.read(name)
        check_size(len(content), where, CorpusError, MAX_JSON)
        parsed = json.loads(content.decode("utf-8-sig"))
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
    names = [canonical_or_own(token) for token in tokens]
    for name in names:
        if name not in EXPRESSIONS:
            logger.warning("%s: the label %r is no known expression and keeps its name.", where, name)
    if len(set(names)) != len(names):
        raise CorpusError(f"{where} names an expression twice: {', '.join(tokens)}. Keep one spelling.")
    return names


def read_entry(entry: Any, tokens: list[str], where: str) -> tuple[str, str, int, int]:
    """(split, label token, start, end) of one entry of the database."""
    expected = 'Expected {"subset": …, "annotations": {"label": …, "segment": [start, end]}}.'
    with reading(f"{where} is {quote(entry, 120)}", CorpusError, expected):
        subset, token = str(entry["subset"]), entry["annotations"]["label"]
        start, end = entry["annotations"]["segment"]
        start, end = int(start), int(end)
    if subset not in SPLITS:
        raise CorpusError(f"{where}: the subset is {subset!r}. Expected {' or '.join(SPLITS)}.")
    if token not in tokens:
        raise CorpusError(f"{where}: the label is {token!r}, which `labels` lacks: {', '.join(tokens)}.")
    if end != 0 and not 0 <= start < end:
        raise CorpusError(f"{where}: the segment is [{start}, {end}). Expected 0 ≤ start < end.")
    if end > MAX_PICTURES:
        raise CorpusError(
            f"{where}: the segment [{start}, {end}) is longer than the pictures, whose names have five digits. Correct the "
            "file."
        )
    return SPLITS[subset], token, start, end
