"""SEE: 2,405 sequences of one eye each, frames and event pictures of a DAVIS346, seven expressions, four lightings.

Zhang et al. 2023, "In the Blink of an Eye: Event-based Emotion Recognition" (SIGGRAPH, arXiv:2310.04043). 111 volunteers; the split
in `emotion.json` is 1,638 sequences for training and 767 for the test, without a validation part. It is not independent of people:
volunteers stand on both sides, so a figure on it says nothing about strangers. `split: subject_disjoint` divides the same sequences
by volunteers. Read from a folder or a zip:

    emotion.json                                             labels (their order is the classes'), subset, label and segment of each
    frame/<emotion>/<sequence>/00000.jpg …                   grey frames, 30 a second
    event/<emotion>/<sequence>/00000.jpg …                   what happened in 33 ms, one picture per frame; white ON, black OFF

A sequence's name says who, under which light and which expression: `1_001_man_24_Master_normal_angry_45_take000`. Entries of
`emotion.json` that end at 0 or whose folders are missing are left out, as the authors' code does, and counted aloud.

This file knows what SEE declares of itself; `see_files.py` reads it.
"""

from . import Corpus

corpus = Corpus(
    name="see",
    kind="eye",
    labels=None,
    description="SEE: 2,405 sequences of one eye of 111 volunteers, frames and event pictures, seven expressions, four lightings; "
    "the official split shares volunteers between training and test.",
    layout="emotion.json beside frame/<emotion>/<sequence>/00000.jpg and event/<emotion>/<sequence>/00000.jpg, below SEE/ or not",
    loader="meco_hub.corpora.see_files:read",
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
    reader="meco_hub.corpora.see_files:read_clip",
    groups=("lighting", "sex"),
    protocols="meco_hub.corpora.see_files:PROTOCOLS",
)
