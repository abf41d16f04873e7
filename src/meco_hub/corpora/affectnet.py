"""AffectNet: faces from web search with expression, valence and arousal.

Mollahosseini, Hasani & Mahoor 2017, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the
Wild" (IEEE Transactions on Affective Computing; arXiv:1708.03985). Labels 0 to 7: neutral happy sad surprise fear disgust
anger contempt. The test set is not public; papers report on the validation set: 4,000 pictures, 500 a class, or 3,500
without contempt. Three forms are read, each also from a zip:

    {train,val}_set/images/N.jpg, annotations/N_{exp,val,aro,lnd}.npy     the release since 2021: cropped, 287,651 + 4,000
    training.csv, validation.csv, <folder>/<sub>/<name>.jpg               the first release: uncropped pictures; the csv has
                                                                          the face box, and expressions 8 none, 9 uncertain,
                                                                          10 no face, whose rows are left out
    labels.csv (pth,label), <label>/imageN.jpg                            a 96×96 derivative: see below before
                                                                          quoting a figure on it

`val_set` and `validation.csv` become the split "validation". Who is shown is not published.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError, UnknownNameError
from ..labels import EXPRESSIONS, LabelSpace, canonical
from ..reading import reading
from . import Corpus
from .file_tree import CsvRow, FileTree, first_few, open_tree, read_rows
from .tables import FaceRow, build_splits

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

LABELS = LabelSpace(name="affectnet", names=EXPRESSIONS, source="AffectNet's expression codes 0 to 7 (2017)")
CSV_COLUMNS = (
    "subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression", "valence",
    "arousal",
)  # fmt: skip
WITHOUT_EXPRESSION = {8: "none", 9: "uncertain", 10: "no face"}

corpus = Corpus(
    name="affectnet",
    kind="face",
    labels=LABELS,
    description="AffectNet: about 290,000 hand-labelled faces from web search, eight expressions, valence and arousal.",
    layout="{train,val}_set/{images,annotations}/, or training.csv and validation.csv with their pictures, or the 96×96 "
    "derivative's labels.csv with <label>/*.jpg",
    loader="meco_hub.corpora.affectnet:read",
    options={
        "num_classes": "8 (default), or 7: contempt left out",
        "derivative_split": 'for the derivative only: "published" cuts it 80/20 with seed 52 into train and test, as '
        'in arXiv:2510.13493; default: one split "all"',
        "labels_from": 'for the derivative only: "csv" (default) or "folder", where the two disagree',
    },
    citation='Mollahosseini, Hasani & Mahoor 2017, "AffectNet: A Database for Facial Expression, Valence, and Arousal '
    'Computing in the Wild", IEEE TAC, arXiv:1708.03985',
    licence="Non-commercial research by agreement with its authors; no redistribution.",
)


def read(
    path: Path, *, num_classes: int = 8, derivative_split: str | None = None, labels_from: str | None = None
) -> "datasets.DatasetDict":
    """Read AffectNet from a folder or a zip; see the module for the forms and `Corpus.load` for the columns.

    The official layouts add `valence` and `arousal` (float32 in [−1, 1], NaN where not annotated), the first release also
    `face_box` (four float32: x0, y0, x1, y1 in pixels of the uncropped picture).
    """
    if num_classes not in (7, 8):
        raise ConfigurationError(f"affectnet: num_classes is {num_classes!r}. Expected 7 (no contempt) or 8.")
    names = LABELS.names[:num_classes]  # contempt is the last
    tree = open_tree(path)
    layout, root = _layout(tree)
    if layout == "labels.csv":
        return read_derivative(tree.below(root), names, split=derivative_split, labels_from=labels_from or "csv")
    for option, value in (("derivative_split", derivative_split), ("labels_from", labels_from)):
        if value is not None:
            raise ConfigurationError(
                f"affectnet: {option}={value!r} is for the 96×96 derivative; {path} has an official layout, with its "
                "own splits and labels. Leave the option out."
            )
    return _read_arrays(tree.below(root), names) if layout == "_set/" else _read_csvs(tree, names)


def _layout(tree: FileTree) -> tuple[str, str]:
    """What layout this is, and the folder that holds it."""
    arrays = tree.folders_above("train_set/images") or tree.folders_above("val_set/images")
    csvs = tree.folders_with("training.csv") or tree.folders_with("validation.csv")
    derivative = tree.folders_with("labels.csv")
    found = [(n, roots[0]) for n, roots in (("_set/", arrays), (".csv", csvs), ("labels.csv", derivative)) if roots]
    if len(found) != 1:
        seen = "several layouts of AffectNet at once" if found else "no layout of AffectNet"
        raise CorpusError(f"{tree.root} has {seen}. Expected one: {corpus.layout}. Point data_dir at one copy.")
    return found[0]


def _read_arrays(tree: FileTree, names: tuple[str, ...]) -> "datasets.DatasetDict":
    splits = {
        split: list(_array_rows(tree, folder, len(names)))
        for split, folder in (("train", "train_set"), ("validation", "val_set"))
    }
    extras = {"valence": "float32", "arousal": "float32"}
    return build_splits(splits, names, extras=extras, address=tree.where(""))


def _array_rows(tree: FileTree, folder: str, num_classes: int) -> Iterator[FaceRow]:
    from tqdm.auto import tqdm

    images = tree.images(f"{folder}/images/")
    stems = {image: image.removeprefix(f"{folder}/images/").rpartition(".")[0] for image in images}
    lacking = [
        image
        for image, stem in stems.items()
        if any(f"{folder}/annotations/{stem}_{kind}.npy" not in tree for kind in ("exp", "val", "aro"))
    ]
    if lacking:
        raise CorpusError(
            f"{tree.where(folder)} has pictures without all of their annotations: {first_few(lacking)}. Expected "
            f"annotations/N_exp.npy, N_val.npy and N_aro.npy for every images/N.jpg. Unpack all of it."
        )
    labelled = {
        n.removesuffix("_exp.npy").rpartition("/")[2]
        for n in tree.names
        if n.startswith(f"{folder}/annotations/") and n.endswith("_exp.npy")
    }
    widowed = sorted(labelled.difference(stems.values()))
    if widowed:
        raise CorpusError(
            f"{tree.where(folder)} has annotations without a picture: {first_few(widowed)}. Unpack all of it."
        )
    for image in tqdm(images, desc=folder, disable=None):
        stem = f"{folder}/annotations/{stems[image]}"
        label = _array_number(tree, f"{stem}_exp.npy")
        if label not in range(8):
            raise CorpusError(f"{tree.where(stem)}_exp.npy holds {label:g}. Expected a label from 0 to 7.")
        if label < num_classes:
            affect = {
                name: _affect(_array_number(tree, f"{stem}_{kind}.npy"), f"{tree.where(stem)}_{kind}.npy")
                for name, kind in (("valence", "val"), ("arousal", "aro"))
            }
            yield FaceRow(image, int(label), path=tree.image_path(image), extras=affect)


def _array_number(tree: FileTree, name: str) -> float:
    """The one number in a .npy, which the release stores as a number or, mostly, as text ('<U1')."""
    import io

    import numpy as np

    from ..recordings.signal_files.npz import check_promise

    with reading(f"{tree.where(name)} is not one number in NumPy's format", CorpusError, "Copy it again."):
        content = tree.read(name)
        check_promise(io.BytesIO(content), tree.where(name), len(content))
        values = np.load(io.BytesIO(content), allow_pickle=False)  # a pickle could run code
        if values.size != 1:
            raise ValueError(f"{values.size} values")
        value = values.item()
        return float(value.decode() if isinstance(value, bytes) else value)


def _affect(value: float, where: str) -> float:
    if value == -2:  # the annotators' code for "not annotated"
        return math.nan
    if not -1 <= value <= 1:
        raise CorpusError(f"{where} holds {value:g}. Expected valence and arousal in [−1, 1], or −2 for none.")
    return value


def _read_csvs(tree: FileTree, names: tuple[str, ...]) -> "datasets.DatasetDict":
    import datasets

    pictures = _by_tail(tree)
    seen: dict[str, tuple[str, int]] = {}
    splits: dict[str, list[FaceRow]] = {}
    for split, name in (("train", "training.csv"), ("validation", "validation.csv")):
        folders = tree.folders_with(name)
        if not folders:
            logger.warning("%s has no %s; the split %r is left out.", tree.root, name, split)
            continue
        splits[split] = _csv_split(tree, folders[0] + name, split, len(names), pictures, seen)
    extras: dict[str, Any] = {
        "valence": "float32",
        "arousal": "float32",
        "face_box": datasets.List(datasets.Value("float32"), length=4),
    }
    return build_splits(splits, names, extras=extras, address=str(tree.root))


def _csv_split(
    tree: FileTree,
    name: str,
    split: str,
    num_classes: int,
    pictures: dict[str, list[str]],
    seen: dict[str, tuple[str, int]],
) -> list[FaceRow]:
    rows: list[FaceRow] = []
    dropped: Counter[str] = Counter()
    missing: list[str] = []
    for row in read_rows(tree, name, CSV_COLUMNS, headerless=CSV_COLUMNS):
        code = _csv_number(row, "expression", 0, 10)
        if not code.is_integer():
            raise CorpusError(
                f"{row.where}: expression is {row['expression']!r}. Expected a whole number from 0 to 10."
            )
        label = int(code)
        if label in WITHOUT_EXPRESSION or label >= num_classes:
            dropped[WITHOUT_EXPRESSION.get(label, LABELS.names[min(label, 7)])] += 1
            continue
        listed = row["subdirectory_filepath"]
        earlier = seen.get(listed)
        if earlier == (split, label):
            dropped["repeated"] += 1
            continue
        if earlier is not None:
            raise CorpusError(
                f"{row.where}: {listed} was listed before, in {earlier[0]} as {LABELS.names[earlier[1]]}, and here in "
                f"{split} as {LABELS.names[label]}. Keep one line."
            )
        seen[listed] = (split, label)
        found = pictures.get("/".join(listed.split("/")[-2:]), [])
        if len(found) > 1:
            raise CorpusError(f"{row.where}: {listed} is found at {first_few(found)}. Keep one of them.")
        if not found:
            missing.append(listed)
            continue
        x, y, width, height = (_csv_number(row, f"face_{side}", -1e6, 1e6) for side in ("x", "y", "width", "height"))
        extras = {
            "valence": _affect(_csv_number(row, "valence", -2, 1), row.where),
            "arousal": _affect(_csv_number(row, "arousal", -2, 1), row.where),
            "face_box": [x, y, x + width, y + height],
        }
        rows.append(FaceRow(listed, label, path=tree.image_path(found[0]), extras=extras))
    if missing:
        raise CorpusError(
            f"{tree.where(name)} lists pictures that are not there: {first_few(missing)}. Unpack all parts of the release "
            f"below {tree.root}."
        )
    if dropped:
        logger.info("%s: left out %s.", tree.where(name), ", ".join(f"{n} × {c}" for c, n in sorted(dropped.items())))
    return rows


def _by_tail(tree: FileTree) -> dict[str, list[str]]:
    """Pictures by "<sub>/<name>.jpg", as the csv names them; the folder above differs between copies."""
    pictures: dict[str, list[str]] = {}
    for name in tree.images():
        pictures.setdefault("/".join(name.split("/")[-2:]), []).append(name)
    return pictures


def _csv_number(row: CsvRow, column: str, low: float, high: float) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise CorpusError(f"{row.where}: {column} is {row[column]!r}. Expected a number from {low:g} to {high:g}.")
    return value


# The 96×96 csv derivative of AffectNet: 28,175 pictures whose labels were partly made by a machine.
#
# A copy that circulates on Kaggle and on which arXiv:2510.13493 reports: a tenth of AffectNet, resized to 96×96, with
# near-monochrome pictures removed, and labels revised by a facial-expression model, which is why for some pictures the
# folder and `labels.csv` disagree. It has no official split and nearly balanced classes. A figure on it says how well a model
# agrees with another model on a random cut; it must not stand in one table with figures on AffectNet's validation set.
#
#     labels.csv      columns (unnamed index,) pth,label(,relFCs); pth = "<label>/imageN.jpg"
#     <label>/*.jpg   96×96
#
# The cut published there is `sklearn.model_selection.train_test_split(test_size=0.2, random_state=52, stratify=label)` on the
# csv's rows in their order; with seven classes the rows of contempt are removed first, so the two cuts differ.

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
        split: "published" for train and test, None for one split "all".
        labels_from: "csv" or "folder".
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
