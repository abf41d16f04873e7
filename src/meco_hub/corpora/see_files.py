"""SEE on disk: from its folders or zip to rows, and from a row to a clip.

Layout, labels and the official split are described in `see.py`.

This file knows SEE on disk; it does not know how clips are sampled from a sequence.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError
from ..recordings.eye_clips import EyeClip
from ..recordings.pictures import PictureFiles
from .file_tree import FileTree, open_tree
from .protocols import official
from .see import corpus
from .see_annotations import SPLITS, label_names, parse_sequence_name, read_annotations, read_entry
from .wording import first_few

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

STREAM_FOLDERS = {"frames": "frame", "events": "event"}
_TEXTS = ("sample_id", "identity", "lighting", "sex", "degree", "token", "archive", "frames_folder", "events_folder")
TEST_SHARE = 767 / 2405
"""Share of the sequences that is held out by `split: subject_disjoint`, the official one."""

PROTOCOLS = {
    "official": official(
        "sequence",
        "the split of emotion.json: volunteers stand on both sides, so figures do not hold for strangers",
        leaky=True,
        shares=("identity", "stimulus"),
    ),
    "subject_disjoint": official(
        "subject", "the same sequences divided by volunteers: nobody is tested who was trained on", shares=("stimulus",)
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

    Raises:
        CorpusError: another layout, entries that make no sense, pictures that are missing.
        ConfigurationError: an unknown value of an option.
    """
    for key, value, known in (
        ("split", split, tuple(PROTOCOLS)),
        ("missing", missing, ("error", "skip")),
        ("content", content, ("ends", "all")),
    ):
        if value not in known:
            raise ConfigurationError(f"see: {key} is {value!r}. Expected {' or '.join(map(repr, known))}.")
    with open_tree(path) as tree:
        roots = [root for root in tree.folders_with(annotations) if _holds_streams(tree, root)]
        if not roots:
            raise CorpusError(f"{path} is not laid out as SEE. Expected {corpus.layout}. Check that data_dir is right.")
        return _read_root(tree.below(roots[0]), annotations, split, split_seed, missing, content)


def _holds_streams(tree: FileTree, root: str) -> bool:
    prefixes = tuple(f"{root}{folder}/" for folder in STREAM_FOLDERS.values())
    return all(any(name.startswith(prefix) for name in tree.names) for prefix in prefixes)


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
    archive, at = _addresses(tree, folders)
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

    from .splits import by_identity

    text, number = datasets.Value("string"), datasets.Value("int32")
    features = datasets.Features(
        {
            "label": datasets.ClassLabel(names=names),
            **dict.fromkeys(_TEXTS, text),
            **dict.fromkeys(("fold", "age", "start", "end"), number),
            "left_out": datasets.List(number),
            "files": datasets.List(text),
        }
    )
    if not any(rows.values()):
        raise CorpusError(f"{address} holds no sequence that can be used. Check that data_dir names the right folder.")
    info = datasets.DatasetInfo(features=features, description=f"Protocol {PROTOCOLS[split]}. {note}".strip())

    def table(some: list[dict[str, Any]], name: str) -> datasets.Dataset:
        columns = {key: [row[key] for row in some] for key in features}
        return datasets.Dataset.from_dict(columns, features=features, info=info.copy(), split=datasets.NamedSplit(name))

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


def _addresses(tree: FileTree, folders: Mapping[str, _Folder]) -> tuple[str, dict[str, str]]:
    """The zip ("" for a folder), and where each stream's pictures lie, inside the zip or absolutely."""
    if tree.image_path("").startswith("zip://"):
        return str(tree.root), {stream: tree.base + folder for stream, (folder, _) in folders.items()}
    return "", {stream: f"{tree.root / tree.base / folder}/" for stream, (folder, _) in folders.items()}


def _picture(archive: str, folder: str, number: int) -> str:
    return f"zip://{folder}{number:05d}.jpg::{archive}" if archive else f"{folder}{number:05d}.jpg"
