"""The ten votes of FER+ for each picture of FER-2013: one file, fer2013new.csv.

    Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF

Barsoum et al. 2016 (arXiv:1608.01041). A single vote for something is taken for a slip, as its authors do, and left out.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ..errors import CorpusError
from .file_tree import FileTree, first_few, read_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

VOTES_NAME = "fer2013new.csv"
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_COLUMNS = (*EXPRESSIONS, "unknown", "nf")
_NO_FACE = [0] * len(EXPRESSIONS) + [0, 10]


class Votes:
    """The votes, by picture.

    Args:
        tree: where the file lies, at any depth.

    Raises:
        CorpusError: there is no such file, or a line of it does not hold votes.
    """

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

        Raises:
            CorpusError: there is no line for a picture.
        """
        import numpy as np

        stems = [PurePosixPath(name).stem for name in names]
        lacking = [name for name, stem in zip(names, stems, strict=True) if stem not in self._by_name]
        if lacking and len(self._by_name) == len(self._rows):
            raise CorpusError(f"{self.address} has no line for {first_few(lacking)}. Expected one for every picture.")
        found = [self._by_name.get(stem, _NO_FACE) for stem in stems]
        return np.asarray(found, np.int64).reshape(len(names), len(_COLUMNS))

    def of_rows(self, count: int) -> "NDArray[np.int64]":
        """(count, 10) votes of all rows of the challenge's own csv, which names no pictures: line by line.

        Raises:
            CorpusError: the file has another number of lines.
        """
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

    heard = _without_single(votes)
    best = heard.argmax(axis=1)
    agreed = (2 * heard.max(axis=1) > heard.sum(axis=1)) & (best < len(EXPRESSIONS))
    return np.where(agreed, best, -1).astype(np.int64)


def shares(votes: "ArrayLike", names: Sequence[str]) -> "NDArray[np.float32]":
    """(n, classes) shares of the votes for these expressions; all zero where nobody voted for one of them.

    Args:
        votes: (n, 10) votes in the file's order.
        names: classes, some of `EXPRESSIONS` in any order.
    """
    import numpy as np

    heard = _without_single(votes)[:, [EXPRESSIONS.index(name) for name in names]].astype(np.float32)
    total = heard.sum(axis=1, keepdims=True)
    return np.divide(heard, total, out=np.zeros_like(heard), where=total > 0)


def _without_single(votes: "ArrayLike") -> "NDArray[np.int64]":
    import numpy as np

    counts = np.asarray(votes, np.int64).reshape(-1, len(_COLUMNS))
    return np.where(counts > 1, counts, 0)
