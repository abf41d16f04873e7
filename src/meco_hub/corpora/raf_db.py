"""RAF-DB, basic expressions: 15,339 faces from the web, each labelled by about 40 people.

Li, Deng & Du 2017, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild"
(CVPR). The official split is 12,271 for training and 3,068 for the test; there is no official validation set, so hold out
part of the training pictures (`splits.stratified`) and touch the test once. Two forms are read, each also from a zip:

    basic/EmoLabel/list_patition_label.txt      "train_00001.jpg 5", the file name misspelt by its authors
    basic/Image/aligned/train_00001_aligned.jpg 100×100, aligned; or basic/Image/original/train_00001.jpg, as found

    DATASET/{train,test}/{1…7}/train_00001_aligned.jpg, train_labels.csv, test_labels.csv     (a copy with image,label)

Labels 1 to 7 are surprise fear disgust happiness sadness anger neutral: index = label − 1. Who is shown is not published,
so no split by person is possible, and the official one may share people.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, CorpusError
from ..labels import LabelSpace
from . import Corpus
from .file_tree import FileTree, first_few, open_tree, read_rows
from .tables import FaceRow, build_splits

if TYPE_CHECKING:
    import datasets

LISTS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
LABELS = LabelSpace(
    name="raf_db",
    names=("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    source="EmoLabel/list_patition_label.txt, 1 to 7 (Li et al. 2017)",
)

corpus = Corpus(
    name="raf_db",
    kind="face",
    labels=LABELS,
    description="RAF-DB, basic set: 15,339 faces from the web, seven expressions, labelled by about 40 people each; "
    "official train and test, no identities.",
    layout="basic/EmoLabel/list_patition_label.txt and basic/Image/aligned/, or DATASET/{train,test}/{1…7}/",
    loader="meco_hub.corpora.raf_db:read",
    options={
        "pictures": '"aligned" (default): 100×100, aligned; "original": as found on the web, with the face somewhere. The '
        "DATASET copy has the aligned ones only"
    },
    citation='Li, Deng & Du 2017, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition '
    'in the Wild", CVPR',
    licence="Non-commercial research by agreement with its authors; no redistribution.",
)


def read(path: Path, *, pictures: str = "aligned") -> "datasets.DatasetDict":
    """Read RAF-DB from a folder or a zip; see the module for the forms and `Corpus.load` for the columns."""
    if pictures not in ("aligned", "original"):
        raise ConfigurationError(f'raf_db: pictures is {pictures!r}. Expected "aligned" or "original".')
    tree = open_tree(path)
    for name in LISTS:
        roots = tree.folders_with(name)
        if roots:
            return _read_official(tree.below(roots[0]), name, pictures)
    roots = [folder for folder in tree.folders_above("train") if tree.images(folder + "test/")]
    if not roots:
        raise CorpusError(f"{path} is not laid out as RAF-DB. Expected {corpus.layout}. Check that data_dir is right.")
    if pictures == "original":
        raise ConfigurationError(
            f"raf_db: {path} is the copy with DATASET/, which has aligned pictures only. Leave pictures='original' out, "
            "or name the official folder."
        )
    return _read_copy(tree.below(roots[0]), tree)


def _read_official(tree: FileTree, list_name: str, pictures: str) -> "datasets.DatasetDict":
    folder, ending = f"Image/{pictures}/", "_aligned.jpg" if pictures == "aligned" else ".jpg"
    splits: dict[str, list[FaceRow]] = {"train": [], "test": []}
    names: set[str] = set()
    with tree.open_text(list_name) as text:
        for number, line in enumerate(text, start=1):
            words = line.split()
            if not words:
                continue
            where = f"{tree.where(list_name)}, line {number}"
            split = words[0].partition("_")[0]
            if len(words) != 2 or split not in splits or not words[0].endswith(".jpg"):
                raise CorpusError(f"{where}: {line.strip()!r}. Expected 'train_00001.jpg 5' or 'test_0001.jpg 5'.")
            label = _label(words[1], where)
            name = folder + words[0].removesuffix(".jpg") + ending
            if name in names:
                raise CorpusError(f"{where}: {words[0]} is listed twice. Keep one line.")
            names.add(name)
            splits[split].append(FaceRow(name, label, path=tree.image_path(name)))
    _compare(names, tree.images(folder), tree.where(list_name), tree.where(folder))
    return build_splits(splits, LABELS.names, address=tree.where(""))


def _read_copy(tree: FileTree, whole: FileTree) -> "datasets.DatasetDict":
    splits: dict[str, list[FaceRow]] = {}
    for split in ("train", "test"):
        rows = []
        for name in tree.images(f"{split}/"):
            parts = name.split("/")
            if len(parts) != 3:
                raise CorpusError(f"{tree.where(name)} lies elsewhere than {split}/<1…7>/. Move it away.")
            rows.append(FaceRow(name, _label(parts[1], tree.where(name)), path=tree.image_path(name)))
        lists = whole.folders_with(f"{split}_labels.csv")
        if lists:
            _compare_labels(rows, whole, lists[0] + f"{split}_labels.csv", tree.where(f"{split}/"))
        splits[split] = rows
    return build_splits(splits, LABELS.names, address=tree.where(""))


def _compare_labels(rows: list[FaceRow], whole: FileTree, list_name: str, folder: str) -> None:
    """Folders and list say the same thing twice; a difference means that one was edited, so neither is believed."""
    listed: dict[str, int] = {}
    for line in read_rows(whole, list_name, ("image", "label")):
        if line["image"] in listed:
            raise CorpusError(f"{line.where}: {line['image']} is listed twice. Keep one line.")
        listed[line["image"]] = _label(line["label"], line.where)
    found = {PurePosixPath(row.sample_id).name: row.label for row in rows}
    if len(found) < len(rows):
        raise CorpusError(f"{folder} holds one picture under two labels. Keep the one that {list_name} lists.")
    _compare(set(listed), list(found), whole.where(list_name), folder)
    differing = [
        f"{name} (folder {label + 1}, list {listed[name] + 1})"
        for name, label in found.items()
        if listed[name] != label
    ]
    if differing:
        raise CorpusError(
            f"{whole.where(list_name)} and the folders of {folder} disagree on labels: {first_few(differing)}. "
            "Expected them to agree. Get an unedited copy."
        )


def _compare(listed: set[str], found: list[str], list_address: str, folder: str) -> None:
    missing = sorted(listed.difference(found))
    if missing:
        raise CorpusError(f"{list_address} lists pictures that {folder} lacks: {first_few(missing)}. Unpack all of it.")
    unlisted = sorted(set(found) - listed)
    if unlisted:
        raise CorpusError(
            f"{folder} holds pictures that {list_address} does not list: {first_few(unlisted)}. Move them away."
        )


def _label(text: str, where: str) -> int:
    if len(text) != 1 or text not in "1234567":
        raise CorpusError(f"{where}: the label is {text!r}. Expected a number from 1 to 7.")
    return int(text) - 1
