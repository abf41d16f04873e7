"""FER+: the pictures of FER-2013 labelled by ten people each, eight expressions.

Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution" (ICMI;
arXiv:1608.01041). The votes are the file fer2013new.csv beside the pictures of FER-2013 in any of its forms (`fer2013.py`).

The label is the expression that more than half of the votes agree on, single votes left out, as the authors have it; pictures
without such a majority, about one in eight, are left out, and so are those that most people find to show no face. `soft_label`
holds the shares of the votes, for training on all of them (`soft_label_weight` of a recipe).

The label agrees with FER-2013's own on two pictures in three. Figures on one do not compare with figures on the other.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..labels import LabelSpace
from . import Corpus
from .fer2013 import EXPRESSIONS, VOTES_NAME, majority, shares
from .file_tree import HASH_COLUMN
from .tables import FaceRow, build_splits

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

corpus = Corpus(
    name="ferplus",
    kind="face",
    labels=LabelSpace("ferplus", EXPRESSIONS, source=f"the columns of {VOTES_NAME}, in order (Barsoum et al. 2016)"),
    description="FER+: FER-2013's pictures labelled by the majority of ten votes, eight expressions.",
    layout=f"fer2013 in any of its forms, with {VOTES_NAME} beside it",
    loader="meco_hub.corpora.ferplus:read",
    options={
        "contempt": "true: eight expressions; false: pictures of contempt, and votes for it, are left out",
        "public_test": "as of fer2013",
    },
    citation='Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label '
    'Distribution", ICMI, arXiv:1608.01041',
    licence="Votes: MIT (Microsoft). Pictures: no licence by their authors, see fer2013.",
)


def read(path: Path, *, contempt: bool = True, public_test: str | None = None) -> "datasets.DatasetDict":
    """Read FER+; see `Corpus.load` for the columns, and `soft_label`, the shares of the votes for the label's classes."""
    import datasets

    from .fer2013 import read_faces

    names = EXPRESSIONS if contempt else EXPRESSIONS[:-1]
    splits, address = read_faces(path, public_test=public_test, votes="needed")
    kept: dict[str, list[FaceRow]] = {}
    for split, rows in splits.items():
        votes = [row.extras.pop("votes") for row in rows]
        kept[split] = []
        for row, label, soft in zip(rows, majority(votes).tolist(), shares(votes, names).tolist(), strict=True):
            if 0 <= label < len(names):
                row.label, row.extras["soft_label"] = label, soft
                kept[split].append(row)
        logger.info("%s: %d of %d pictures of %r have a majority.", address, len(kept[split]), len(rows), split)
    extras = {HASH_COLUMN: datasets.Value("string"), "soft_label": datasets.List(datasets.Value("float32"))}
    return build_splits(kept, names, extras=extras, address=address)
