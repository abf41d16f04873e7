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
from .fer2013 import EXPRESSIONS, VOTES_NAME, majority, read_faces, shares
from .fer2013 import corpus as fer2013
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
        "held_out": "a share of train that becomes the split held_out: what `data.validation.by_content` of that share holds "
        "out of fer2013; train loses what recurs in another split. For going on from a network that learnt fer2013 so divided",
    },
    citation='Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label '
    'Distribution", ICMI, arXiv:1608.01041',
    licence="Votes: MIT (Microsoft). Pictures: no licence by their authors, see fer2013.",
)


def read(
    path: Path, *, contempt: bool = True, public_test: str | None = None, held_out: float | None = None
) -> "datasets.DatasetDict":
    """Read FER+; see `Corpus.load` for the columns, and `soft_label`, the shares of the votes for the label's classes."""
    import datasets

    names = EXPRESSIONS if contempt else EXPRESSIONS[:-1]
    splits, address = read_faces(path, public_test=public_test, votes="needed")
    if held_out is not None and splits.get("train"):
        splits = _hold_out(splits, fer2013.load(path, public_test=public_test), held_out)
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


def _hold_out(
    splits: dict[str, list[FaceRow]], whole: "datasets.DatasetDict", share: float
) -> dict[str, list[FaceRow]]:
    """The rows, divided as a recipe divides fer2013: by all of its pictures, with and without a majority."""
    from .splits import by_content, without_content_of

    pool = without_content_of(whole["train"], *(part for name, part in whole.items() if name != "train"))
    place = {
        name: split
        for split, part in zip(("train", "held_out"), by_content(pool, share, seed=0), strict=True)
        for name in part["sample_id"]
    }
    divided = {
        split: [row for row in splits["train"] if place.get(row.sample_id) == split] for split in ("train", "held_out")
    }
    return splits | divided
