"""FER-2013: 35,887 grey 48×48 faces found by web search, seven expressions.

Goodfellow et al. 2013, "Challenges in Representation Learning: A report on three machine learning contests" (ICONIP;
arXiv:1307.0414). 28,709 pictures for training, 3,589 public test (which everyone uses for validation) and 3,589 private
test (which papers report). The distribution has three forms, all read here, each also from a zip:

    fer2013.csv             emotion,pixels,Usage: 0…6 = angry disgust fear happy sad surprise neutral; pixels are 2,304
                            numbers; usage Training, PublicTest, PrivateTest       (the challenge's own file)
    icml_face_data.csv      the same, with spaces in the header
    train/ and test/        <emotion>/*.jpg, where test/ holds both tests: 28,709 and 7,178 pictures. File names begin
                            with PublicTest_ or PrivateTest_, by which they can be separated again

A figure on the 7,178 merged pictures compares with none on the 3,589; `public_test` chooses. Folders need not hold both:
test/ alone is a split as well. The labels are known to be noisy (people agree with them on about 65 %), and more than 1,500
pictures occur twice or more, across the official splits too and under other labels. `content_sha256` is the hash of the
pixels, so that the leak check finds them; `data.validation.by_content` and `data.train.without_content_of` of a recipe keep
each on one side.

With `votes`, the ten votes of FER+ (fer2013new.csv, see `ferplus.py`) come as the column `soft_label`.
"""

import hashlib
import io
import logging
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigurationError, CorpusError
from ..labels import LabelSpace, canonical_or_own
from . import Corpus
from .file_tree import HASH_COLUMN, CsvRow, FileTree, first_few, open_tree, read_rows
from .tables import FaceRow, build_splits

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

# --- The votes of FER+ -------------------------------------------------------------------------------------------------
# The ten votes of FER+ for each picture of FER-2013: one file, fer2013new.csv.
#
#     Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
#
# Barsoum et al. 2016 (arXiv:1608.01041). A single vote for something is taken for a slip, as its authors do, and left out.

VOTES_NAME = "fer2013new.csv"
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_COLUMNS = (*EXPRESSIONS, "unknown", "nf")
_NO_FACE = [0] * len(EXPRESSIONS) + [0, 10]


class Votes:
    """The votes, by picture."""

    def __init__(self, tree: FileTree) -> None:
        folders = tree.folders_with(VOTES_NAME)
        if not folders:
            raise CorpusError(
                f"{tree.where('')} holds no {VOTES_NAME}. Expected the votes of FER+ (github.com/microsoft/FERPlus) beside the "
                "pictures of FER-2013. Copy the file there."
            )
        self.address = tree.where(folders[0] + VOTES_NAME)
        self._by_name: dict[str, list[int]] = {}
        self._rows: list[list[int]] = []
        for row in read_rows(tree, folders[0] + VOTES_NAME, ("image name", *_COLUMNS)):
            cells = [row[column] for column in _COLUMNS]
            if not all(cell.isascii() and cell.isdigit() for cell in cells):
                raise CorpusError(
                    f"{row.where}: the votes are {cells}. Expected whole numbers from 0. Correct the line."
                )
            self._rows.append([int(cell) for cell in cells])
            if row["image name"]:
                self._by_name[PurePosixPath(row["image name"]).stem] = self._rows[-1]

    def of_files(self, names: Sequence[str]) -> "NDArray[np.int64]":
        """(n, 10) votes of pictures in the file's order, found by the name without its folder and ending.

        The published file has lines without a name, for pictures that show no face: where it has any, a picture that is not
        named counts as one of them.
        """
        import numpy as np

        stems = [PurePosixPath(name).stem for name in names]
        lacking = [name for name, stem in zip(names, stems, strict=True) if stem not in self._by_name]
        if lacking and len(self._by_name) == len(self._rows):
            raise CorpusError(f"{self.address} has no line for {first_few(lacking)}. Expected one for every picture.")
        found = [self._by_name.get(stem, _NO_FACE) for stem in stems]
        return np.asarray(found, np.int64).reshape(len(names), len(_COLUMNS))

    def of_rows(self, count: int) -> "NDArray[np.int64]":
        """(count, 10) votes of all rows of the challenge's own csv, which names no pictures: line by line."""
        import numpy as np

        if len(self._rows) != count:
            raise CorpusError(
                f"{self.address} has {len(self._rows)} lines, and the csv of pictures {count} rows. Expected as many, because a "
                "row's votes are found by its number. Take both files as they were published."
            )
        return np.asarray(self._rows, np.int64)


def majority(votes: "ArrayLike") -> "NDArray[np.int64]":
    """(n,) index into `EXPRESSIONS` of what more than half agree on; −1 where no expression has that.

    Args:
        votes: (n, 10) votes in the file's order.
    """
    import numpy as np

    counted = _without_single(votes)
    best = counted.argmax(axis=1)
    agreed = (2 * counted.max(axis=1) > counted.sum(axis=1)) & (best < len(EXPRESSIONS))
    return np.where(agreed, best, -1).astype(np.int64)


def shares(votes: "ArrayLike", names: Sequence[str]) -> "NDArray[np.float32]":
    """(n, classes) shares of the votes for these expressions; all zero where nobody voted for one of them.

    Args:
        votes: (n, 10) votes in the file's order.
    """
    import numpy as np

    counted = _without_single(votes)[:, [EXPRESSIONS.index(name) for name in names]].astype(np.float32)
    total = counted.sum(axis=1, keepdims=True)
    return np.divide(counted, total, out=np.zeros_like(counted), where=total > 0)


def _without_single(votes: "ArrayLike") -> "NDArray[np.int64]":
    import numpy as np

    counts = np.asarray(votes, np.int64).reshape(-1, len(_COLUMNS))
    return np.where(counts > 1, counts, 0)


# --- The corpus --------------------------------------------------------------------------------------------------------

SIDE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
USAGES = {"training": "train", "publictest": "public_test", "privatetest": "private_test"}
LABELS = LabelSpace(
    name="fer2013",
    names=("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    source="column `emotion` of fer2013.csv, 0 to 6 (Goodfellow et al. 2013)",
)

corpus = Corpus(
    name="fer2013",
    kind="face",
    labels=LABELS,
    description="FER-2013: 35,887 grey 48×48 faces from web search, seven expressions, noisy labels, official splits.",
    layout="fer2013.csv (or icml_face_data.csv), or the folders train/<emotion>/ and test/<emotion>/, or one of them",
    loader="meco_hub.corpora.fer2013:read",
    options={
        "public_test": '"validation": the public test is the split "validation" and the private test is "test"; "merged": '
        '"test" holds both. Default: "validation" for the csv, and for folders what they hold (test/ is merged)',
        "votes": "true: the votes of FER+ for the seven expressions, as shares, are the column soft_label",
    },
    citation='Goodfellow et al. 2013, "Challenges in Representation Learning", ICONIP, arXiv:1307.0414',
    licence="No licence by its authors; pictures from web search, given out by the Kaggle challenge for research.",
)


def read(path: Path, *, public_test: str | None = None, votes: bool = False) -> "datasets.DatasetDict":
    """Read FER-2013 from a csv, a folder or a zip; see the module for the forms and `Corpus.load` for the columns.

    A copy without the file of votes is read without them, with a warning: they are for training, and a checkpoint that was
    trained on them is evaluated on copies that have none.
    """
    import datasets

    splits, address = read_faces(path, public_test=public_test, votes="wanted" if votes else "no")
    extras: dict[str, Any] = {HASH_COLUMN: datasets.Value("string")}
    if any("votes" in row.extras for rows in splits.values() for row in rows):
        extras["soft_label"] = datasets.List(datasets.Value("float32"))
        for rows in splits.values():
            soft = shares([row.extras.pop("votes") for row in rows], LABELS.names)
            for row, one in zip(rows, soft.tolist(), strict=True):
                row.extras["soft_label"] = one
    return build_splits(splits, LABELS.names, extras=extras, address=address)


def read_faces(
    path: Path, *, public_test: str | None, votes: Literal["no", "wanted", "needed"]
) -> tuple[dict[str, list[FaceRow]], str]:
    """The rows of every split, and the corpus's address for messages.

    Each row's extras hold `content_sha256`, and `votes`, the ten counts of FER+, when they are wanted and there;
    a CorpusError says when they are needed and not there.
    """
    if public_test not in (None, "validation", "merged"):
        raise ConfigurationError(f'fer2013: public_test is {public_test!r}. Expected "validation" or "merged".')
    if path.is_file() and path.suffix.lower() == ".csv":
        name, path = path.name, path.parent
        beside = [name, VOTES_NAME] if (path / VOTES_NAME).is_file() else [name]
        return _read_csv(FileTree(path, beside), name, merged=public_test == "merged", votes=votes)
    tree = open_tree(path)
    tables = [folder + name for name in CSV_NAMES for folder in tree.folders_with(name)]
    if tables:
        return _read_csv(tree, tables[0], merged=public_test == "merged", votes=votes)
    roots = [
        folder
        for side in ("train", "test")
        for folder in tree.folders_above(side)
        if any(name.count("/") == folder.count("/") + 2 for name in tree.images(f"{folder}{side}/"))
    ]
    if not roots:
        raise CorpusError(
            f"{path} holds neither {' nor '.join(CSV_NAMES)} nor the folders train/ or test/ with a folder for each "
            f"emotion. Expected {corpus.layout}. (The competition's train.csv and test.csv are another file: test.csv has "
            "no labels.)"
        )
    splits = _read_folders(tree.below(roots[0]), public_test)
    if found := _find_votes(tree, votes):
        for rows in splits.values():
            for row, counts in zip(rows, found.of_files([row.sample_id for row in rows]).tolist(), strict=True):
                row.extras["votes"] = counts
    return splits, tree.below(roots[0]).where("")


def _find_votes(tree: FileTree, votes: str) -> Votes | None:
    if votes == "no" or (votes == "wanted" and not tree.folders_with(VOTES_NAME)):
        if votes == "wanted":
            logger.warning("%s holds no %s: pictures are read without votes.", tree.where(""), VOTES_NAME)
        return None
    return Votes(tree)


def _read_csv(tree: FileTree, name: str, *, merged: bool, votes: str) -> tuple[dict[str, list[FaceRow]], str]:
    from tqdm.auto import tqdm

    parts: dict[str, list[FaceRow]] = {usage: [] for usage in USAGES.values()}
    every: list[FaceRow] = []
    rows = read_rows(tree, name, ("emotion", "pixels", "usage"))
    for number, row in enumerate(tqdm(rows, desc=name, unit=" rows", disable=None)):
        usage = USAGES.get(row["usage"].lower())
        if usage is None:
            raise CorpusError(
                f"{row.where}: the usage is {row['usage']!r}. Expected Training, PublicTest or PrivateTest. Correct the line."
            )
        content = gray_png(_pixels(row), SIDE)
        every.append(_face(f"{usage}/{number:06d}", _label(row), content=content))
        parts[usage].append(every[-1])
    if found := _find_votes(tree, votes):
        for row, counts in zip(every, found.of_rows(len(every)).tolist(), strict=True):
            row.extras["votes"] = counts
    public, private = parts["public_test"], parts["private_test"]
    held_out = {"test": public + private} if merged else {"validation": public, "test": private}
    return {"train": parts["train"], **held_out}, tree.where(name)


def picture_hash(content: bytes) -> str:
    """SHA-256 (hex) of a picture's pixels, by way of `gray_png`: the same in the csv and in any file without loss.

    Of a JPEG, of another size or mode, and of what nobody can decode, the hash of the bytes.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "BMP", "TIFF", "PPM")) as image:
            plain = image.mode == "L" and image.size == (SIDE, SIDE)
            content = gray_png(image.tobytes(), SIDE) if plain else content
    except Exception as error:  # noqa: BLE001 — whoever reads the picture says what is wrong with it
        logger.debug("A picture is compared by its bytes: %s", error)
    return hashlib.sha256(content).hexdigest()


def _face(sample_id: str, label: int, *, content: bytes, path: str | None = None) -> FaceRow:
    """A row with the hash of its pixels; it holds the bytes only where no path leads to them."""
    found: dict[str, Any] = {HASH_COLUMN: picture_hash(content)}
    return FaceRow(sample_id, label, path=path, content=None if path else content, extras=found)


def _label(row: CsvRow) -> int:
    emotion = row["emotion"]
    if len(emotion) != 1 or emotion not in "0123456":
        raise CorpusError(f"{row.where}: the emotion is {emotion!r}. Expected a number from 0 to 6. Correct the line.")
    return int(emotion)


def _pixels(row: CsvRow) -> bytes:
    numbers = row["pixels"].split()
    if len(numbers) != SIDE * SIDE:
        raise CorpusError(
            f"{row.where}: {len(numbers)} pixels. Expected {SIDE * SIDE} ({SIDE}×{SIDE}). Correct the line."
        )
    try:
        return bytes(map(int, numbers))
    except ValueError as error:
        wrong = next(n for n in numbers if not (n.isascii() and n.isdigit() and int(n) < 256))
        raise CorpusError(f"{row.where}: a pixel is {wrong!r}. Expected whole numbers from 0 to 255.") from error


def gray_png(pixels: bytes, side: int) -> bytes:
    """A square 8-bit grey PNG, stored uncompressed.

    Uncompressed, because the bytes are hashed by leak checks and fingerprints: what a compressor writes depends on its
    version, this does not. 48×48 pixels take 2.4 kB.

    Args:
        pixels: side · side bytes, row by row.
        side: width and height in pixels, at most 255 (one stored block must hold the picture).
    """
    lines = b"".join(b"\0" + pixels[start : start + side] for start in range(0, side * side, side))
    length = struct.pack("<HH", len(lines), 0xFFFF ^ len(lines))
    stream = b"\x78\x01\x01" + length + lines + struct.pack(">I", zlib.adler32(lines))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _read_folders(tree: FileTree, public_test: str | None) -> dict[str, list[FaceRow]]:
    train = _rows(tree, tree.images("train/"))
    held_out = tree.images("test/")
    extra = [folder for folder in ("validation/", "val/") if tree.images(folder)]
    if extra and public_test is not None:
        raise ConfigurationError(
            f"fer2013: {tree.where('')} has a folder {extra[0]} of its own, so public_test={public_test!r} has nothing to "
            "choose. Leave the option out."
        )
    if extra:
        return {"train": train, "validation": _rows(tree, tree.images(extra[0])), "test": _rows(tree, held_out)}
    if public_test == "validation":
        public = [name for name in held_out if _usage(name) == "public_test"]
        private = [name for name in held_out if _usage(name) == "private_test"]
        untold = [name for name in held_out if _usage(name) not in ("public_test", "private_test")]
        if untold:
            raise CorpusError(
                f"{tree.where('test/')} has file names that do not tell public from private test: {first_few(untold)}. "
                "Expected PublicTest_<n> and PrivateTest_<n>. Use the csv, or report the merged test as what it is."
            )
        return {"train": train, "validation": _rows(tree, public), "test": _rows(tree, private)}
    return {"train": train, "test": _rows(tree, held_out)}


def _usage(name: str) -> str | None:
    return USAGES.get(PurePosixPath(name).name.partition("_")[0].lower())


def _rows(tree: FileTree, names: Sequence[str]) -> list[FaceRow]:
    rows, strange = [], []
    for name in names:
        parts = name.split("/")
        label = LABELS.label2id.get(canonical_or_own(parts[1])) if len(parts) == 3 else None
        if label is None:
            strange.append(name)
        else:
            rows.append(_face(name, label, content=tree.read(name), path=tree.image_path(name)))
    if strange:
        raise CorpusError(
            f"{tree.where('')} has pictures outside <split>/<emotion>/: {first_few(strange)}. Expected the emotions "
            "angry disgust fear happy neutral sad surprise. Move them away."
        )
    return rows
