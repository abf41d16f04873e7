"""The 96×96 csv derivative of AffectNet: 28,175 pictures whose labels were partly made by a machine.

A copy that circulates on Kaggle and on which arXiv:2510.13493 reports: a tenth of AffectNet, resized to 96×96, with
near-monochrome pictures removed, and labels revised by a facial-expression model, which is why for some pictures the
folder and `labels.csv` disagree. It has no official split and nearly balanced classes. A figure on it says how well a model
agrees with another model on a random cut; it must not stand in one table with figures on AffectNet's validation set.

    labels.csv      columns (unnamed index,) pth,label(,relFCs); pth = "<label>/imageN.jpg"
    <label>/*.jpg   96×96

The cut published there is `sklearn.model_selection.train_test_split(test_size=0.2, random_state=52, stratify=label)` on the
csv's rows in their order; with seven classes the rows of contempt are removed first, so the two cuts differ.

This file knows the derivative on disk; it does not know AffectNet itself.
"""

import logging
from collections import Counter
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, CorpusError, UnknownNameError
from ..labels import canonical
from .csv_rows import read_rows
from .file_tree import FileTree
from .tables import FaceRow, build_splits
from .wording import first_few

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

NOTE = (
    "This copy is the 96×96 csv derivative: a cleaned tenth of AffectNet with partly pseudo-labelled classes and no official "
    "split. Its figures do not compare with any on AffectNet's own validation set."
)
PUBLISHED_SEED = 52
PUBLISHED_TEST_FRACTION = 0.2


def read_derivative(
    tree: FileTree, names: tuple[str, ...], *, split: str | None, labels_from: str
) -> "datasets.DatasetDict":
    """Read the derivative.

    Args:
        tree: the folder that holds labels.csv.
        names: the classes to keep, in the order of their indices.
        split: "published" for train and test, None for one split "all".
        labels_from: "csv" or "folder".

    Raises:
        CorpusError: a picture that is not there or is listed twice, or a label that is no expression.
        ConfigurationError: an unknown `split` or `labels_from`, or the published cut on labels from folders.
    """
    if split not in (None, "published"):
        raise ConfigurationError(f'affectnet: derivative_split is {split!r}. Expected "published" or nothing.')
    if labels_from not in ("csv", "folder"):
        raise ConfigurationError(f'affectnet: labels_from is {labels_from!r}. Expected "csv" or "folder".')
    if split and labels_from == "folder":
        raise ConfigurationError(
            "affectnet: the published cut is stratified by the csv's labels, so it cannot go with labels_from='folder'. "
            "Leave one of the two options out."
        )
    logger.warning("%s: %s", tree.where(""), NOTE)
    rows, raw = _rows(tree, names, labels_from)
    address = tree.where("labels.csv")
    if split is None:
        return build_splits({"all": rows}, names, note=NOTE, address=address)
    train, test = _published_cut(raw, address)
    cut = {"train": [rows[index] for index in train], "test": [rows[index] for index in test]}
    return build_splits(
        cut, names, note=f"{NOTE} Cut as published: 80/20, seed 52, {len(names)} classes.", address=address
    )


def _rows(tree: FileTree, names: tuple[str, ...], labels_from: str) -> tuple[list[FaceRow], list[str]]:
    """The rows kept, in the csv's order, and their labels as the csv spells them."""
    index = {name: position for position, name in enumerate(names)}
    rows: list[FaceRow] = []
    raw: list[str] = []
    missing: list[str] = []
    disagreeing = 0
    dropped: Counter[str] = Counter()
    listed: set[str] = set()
    for row in read_rows(tree, "labels.csv", ("pth", "label")):
        path = row["pth"]
        in_csv = _expression(row["label"], row.where)
        folder = path.split("/")[-2] if "/" in path else ""
        in_folder = _expression(folder, f"{row.where}, folder of {path!r}")
        disagreeing += in_csv != in_folder
        if path in listed:
            raise CorpusError(f"{row.where}: {path} is listed twice. Keep one line.")
        listed.add(path)
        label = in_csv if labels_from == "csv" else in_folder
        if label not in index:
            dropped[label] += 1
            continue
        if path not in tree:
            missing.append(path)
            continue
        rows.append(FaceRow(path, index[label], path=tree.image_path(path)))
        raw.append(row["label"])
    if missing:
        raise CorpusError(
            f"{tree.where('labels.csv')} lists pictures that are not there: {first_few(missing)}. Expected them beside the "
            "csv, as <label>/imageN.jpg. Unpack all of it."
        )
    unlisted = sum(name not in listed for name in tree.images())
    logger.info(
        "%s: folder and csv disagree on %d of %d pictures (the %s was believed); left out: %s; %d pictures are not listed.",
        tree.where("labels.csv"),
        disagreeing,
        len(listed),
        labels_from,
        dict(dropped) or "none",
        unlisted,
    )
    return rows, raw


def _published_cut(raw_labels: list[str], address: str) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            list(range(len(raw_labels))),
            test_size=PUBLISHED_TEST_FRACTION,
            random_state=PUBLISHED_SEED,
            stratify=raw_labels,
        )
    except ValueError as error:
        raise CorpusError(f"{address} has too few pictures for the published cut ({error}). Use one split.") from error
    return list(train), list(test)


def _expression(name: str, where: str) -> str:
    try:
        return canonical(name)
    except UnknownNameError as error:
        raise CorpusError(f"{where}: {error}") from error
