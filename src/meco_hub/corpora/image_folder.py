"""Any folder, or zip, of pictures sorted by label.

Three layouts, each as a folder or as a zip of it:

    DIR/<label>/*.jpg                     one split "all"
    DIR/<split>/<label>/*.jpg             splits train, validation (or val, valid, dev), test
    DIR/index.csv and pictures            columns file,label; optional identity, fold, split

The index wins over folders only in what folders cannot say; where a picture lies in a folder named after another label,
or one side knows a picture that the other does not, that is an error. Labels that are expressions in any usual spelling
(happy, Sadness) become the canonical nouns; others stay as written.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, CorpusError
from ..labels import EXPRESSIONS, canonical_or_own
from . import Corpus
from .file_tree import CsvRow, FileTree, first_few, open_tree, read_rows
from .label_table import order_labels
from .tables import FaceRow, build_splits

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

INDEX = "index.csv"

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Folder names (lower case) that mean a split, and the split's name here."""

corpus = Corpus(
    name="image_folder",
    kind="face",
    labels=None,
    description="A folder or zip of pictures, one subfolder per label, with an optional index of identities and folds.",
    layout="<label>/*.jpg, or <split>/<label>/*.jpg, or pictures and an index.csv with the columns file,label",
    loader="meco_hub.corpora.image_folder:read",
    options={
        "labels": "list of the classes in the order of their indices; default: AffectNet's order of the expressions "
        "found, or sorted names when one is no expression",
        "ignore_labels": "list of labels whose pictures are left out",
    },
    citation="Whoever made the folder; it carries no citation of its own.",
    licence="Whatever holds for the pictures.",
)


@dataclass(frozen=True)
class _Picture:
    """A picture as the folder or the index describes it; the label still in words."""

    file: str
    label: str
    split: str = ""
    identity: str = ""
    fold: int = -1


def read(
    path: Path, *, labels: Sequence[str] | None = None, ignore_labels: Sequence[str] = ()
) -> "datasets.DatasetDict":
    """Read a folder or zip of labelled pictures; see the module for the layouts and `Corpus.load` for the columns."""
    for option, value in (("labels", labels), ("ignore_labels", ignore_labels)):
        if isinstance(value, str) or (value is not None and not all(isinstance(name, str) for name in value)):
            raise ConfigurationError(f"image_folder: {option} is {value!r}. Expected a list of label names.")
    opened = open_tree(path)
    tree = _descend(opened)
    pictures = _from_index(tree) if INDEX in tree else _from_folders(tree)
    kept = _without(pictures, [canonical_or_own(name) for name in ignore_labels], tree)
    names = order_labels(
        Counter(picture.label for picture in kept),
        labels,
        f"image_folder: {tree.root}",
        what="pictures",
        remedy="Add them to `labels`, or name them in `ignore_labels` to leave their pictures out.",
    )
    index = {name: position for position, name in enumerate(names)}
    splits: dict[str, list[FaceRow]] = {}
    for picture in kept:
        file, label = picture.file, index[picture.label]
        row = FaceRow(file, label, tree.image_path(file), identity=picture.identity, fold=picture.fold)
        splits.setdefault(picture.split or "all", []).append(row)
    order = [name for name in ("train", "validation", "test", "all") if name in splits]
    ordered = {name: splits[name] for name in [*order, *sorted(set(splits) - set(order))]}
    return build_splits(ordered, names, address=str(tree.root))


def _descend(tree: FileTree) -> FileTree:
    """Step into the one folder that many archives wrap around everything."""
    while INDEX not in tree:
        tops = {name.partition("/")[0] for name in tree.images()}
        if len(tops) != 1:
            return tree
        top = tops.pop()
        inner = tree.below(top + "/")
        holds_pictures = any("/" not in name for name in inner.images())
        if top in tree or top.lower() in SPLIT_NAMES or (holds_pictures and INDEX not in inner):
            return tree
        logger.info("%s: everything lies in %s/; reading from there.", tree.root, top)
        tree = inner
    return tree


def _from_folders(tree: FileTree) -> list[_Picture]:
    files = tree.images()
    if not files:
        raise CorpusError(f"{tree.where('')} holds no pictures. Expected {corpus.layout}.")
    tops = {file.split("/")[0].lower() for file in files}
    with_splits = tops <= SPLIT_NAMES.keys()
    depth = 3 if with_splits else 2
    misplaced = [file for file in files if file.count("/") != depth - 1]
    if misplaced:
        raise CorpusError(
            f"{tree.where('')} has pictures that lie neither in <label>/ nor all in <split>/<label>/: "
            f"{first_few(misplaced)}. Expected {corpus.layout}. Move them, or list them in {INDEX}."
        )
    other = len(tree.names) - len(files)
    if other:
        logger.info("%s: %d files are no pictures by their ending and are passed over.", tree.root, other)
    pictures = []
    for file in files:
        parts = file.split("/")
        split = SPLIT_NAMES[parts[0].lower()] if with_splits else ""
        pictures.append(_Picture(file, canonical_or_own(parts[-2]), split))
    return pictures


def _from_index(tree: FileTree) -> list[_Picture]:
    address = tree.where(INDEX)
    pictures = [_picture(row) for row in read_rows(tree, INDEX, ("file", "label"))]
    counts = Counter(picture.file for picture in pictures)
    twice = [file for file, count in counts.items() if count > 1]
    if twice:
        raise CorpusError(f"{address} lists files twice: {first_few(twice)}. Keep one line for each.")
    missing = [picture.file for picture in pictures if picture.file not in tree]
    if missing:
        raise CorpusError(
            f"{address} lists files that are not there: {first_few(missing)}. Expected paths relative to the index, with "
            "forward slashes. Add the files or remove the lines."
        )
    unlisted = [file for file in tree.images() if file not in counts]
    if unlisted:
        raise CorpusError(
            f"{tree.where('')} holds pictures that {INDEX} does not list: {first_few(unlisted)}. "
            "List them or move them away."
        )
    known = {picture.label for picture in pictures} | set(EXPRESSIONS)
    elsewhere = [
        f"{picture.file} (listed as {picture.label})"
        for picture in pictures
        if "/" in picture.file
        and (folder := canonical_or_own(picture.file.split("/")[-2])) in known
        and folder != picture.label
    ]
    if elsewhere:
        raise CorpusError(
            f"{address} gives files a label other than their folder's: {first_few(elsewhere)}. "
            "Correct the line, or move the file into its label's folder."
        )
    unsplit = [picture.file for picture in pictures if not picture.split]
    if unsplit and len(unsplit) < len(pictures):
        raise CorpusError(f"{address} gives some files no split: {first_few(unsplit)}. Fill the column, or remove it.")
    return pictures


def _picture(row: CsvRow) -> _Picture:
    if not row["file"] or not row["label"]:
        raise CorpusError(f"{row.where}: file or label is empty. Fill the cell or remove the line.")
    fold = row.get("fold", "")
    split = row.get("split", "")
    try:
        number = int(fold) if fold else -1
    except ValueError as error:
        raise CorpusError(f"{row.where}: the fold is {fold!r}. Expected a whole number, or nothing.") from error
    if not -1 <= number < 2**31:
        raise CorpusError(f"{row.where}: the fold is {number}. Expected 0, 1, 2, … or nothing.")
    split = SPLIT_NAMES.get(split.lower(), split)
    if split and not split.isidentifier():
        raise CorpusError(
            f"{row.where}: the split is {split!r}. Expected a plain word such as train, validation, test."
        )
    return _Picture(row["file"], canonical_or_own(row["label"]), split, row.get("identity", ""), number)


def _without(pictures: list[_Picture], ignored: list[str], tree: FileTree) -> list[_Picture]:
    found = {picture.label for picture in pictures}
    # an expression that this folder happens to lack may well be ignored; a misspelt name must not pass
    strange = [name for name in ignored if name not in found and name not in EXPRESSIONS]
    if strange:
        raise ConfigurationError(
            f"image_folder: ignore_labels names {', '.join(map(repr, strange))}, which {tree.root} does not have. "
            f"It has {', '.join(sorted(found))}."
        )
    return [picture for picture in pictures if picture.label not in ignored]
