"""synthetic: the same bytes for the same seed, faces that differ where they should, and never over a real corpus."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import look_alikes
from meco_hub.corpora import affectnet, fer2013, image_folder, raf_db
from meco_hub.corpora.leaks import fingerprint
from meco_hub.corpora.synthetic import faces as synthetic
from meco_hub.corpora.synthetic.faces import draw_face
from meco_hub.errors import CorpusError, UnknownNameError
from meco_hub.labels import EXPRESSIONS

SMALL = {"train_per_class": 1}
WRITERS = {
    "image_folder": (synthetic.write_image_folder, {"people": 2}, image_folder.corpus),
    "fer2013 csv": (look_alikes.write_fer2013_csv, SMALL, fer2013.corpus),
    "fer2013 folders": (synthetic.write_fer2013_folders, SMALL, fer2013.corpus),
    "raf_db official": (synthetic.write_raf_db, SMALL, raf_db.corpus),
    "raf_db kaggle": (look_alikes.write_raf_db, {**SMALL, "layout": "kaggle"}, raf_db.corpus),
    "affectnet npy": (synthetic.write_affectnet, SMALL, affectnet.corpus),
    "affectnet csv": (look_alikes.write_affectnet, {**SMALL, "layout": "csv"}, affectnet.corpus),
    "affectnet derivative": (look_alikes.write_affectnet, {**SMALL, "layout": "derivative"}, affectnet.corpus),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    write, options, corpus = WRITERS[name]
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / folder, seed=seed, **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    prints = [[fingerprint(s) for s in corpus.load(tmp_path / folder).values()] for folder in "abc"]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("name", WRITERS)
def test_zips_are_reproducible_too(name: str, tmp_path: Path) -> None:
    write, options, _ = WRITERS[name]
    for file in ("a.zip", "b.zip"):
        write(tmp_path / file, seed=0, **options)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_never_over_what_is_there(name: str, tmp_path: Path) -> None:
    write, options, _ = WRITERS[name]
    (tmp_path / "precious").write_text("real data")
    with pytest.raises(CorpusError, match="exists and is not empty"):
        write(tmp_path, seed=0, **options)
    assert contents(tmp_path) == {"precious": b"real data"}


@pytest.mark.parametrize("name", ["new/faces", "new/faces.zip"])
def test_a_writer_that_is_stopped_leaves_nothing(name: str, tmp_path: Path) -> None:
    """Half of a corpus looks like a small one."""
    files: Any = [("neutral/1.png", b"picture"), ("neutral/2.png", None)]
    with pytest.raises(TypeError):
        synthetic.store(tmp_path / name, files)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert not (tmp_path / name).exists()


def test_faces_differ_by_expression_person_and_take() -> None:
    def pixels(expression: str = "neutral", person: str = "p", take: int = 0, seed: int = 0) -> np.ndarray:
        return np.asarray(draw_face(expression, person=person, take=take, seed=seed, size=48))

    assert np.array_equal(pixels(), pixels())
    faces = [pixels(expression) for expression in EXPRESSIONS]
    faces += [pixels(person="q"), pixels(take=1), pixels(seed=1)]
    for one, other in itertools.combinations(faces, 2):
        assert np.abs(one.astype(int) - other).max() > 40
    assert draw_face("fear", person="p", size=48, gray=True).mode == "L"
    assert draw_face("fear", person="p", size=33).size == (33, 33)
    with pytest.raises(UnknownNameError, match="Did you mean 'happiness'"):
        draw_face("hapiness", person="p")


def test_expressions_of_strangers_can_be_learnt() -> None:
    # a linear classifier on 24 × 24 grey pixels, other people for the test; chance is 1 in 4
    from sklearn.linear_model import LogisticRegression

    labels = ("neutral", "happiness", "surprise", "anger")

    def drawn(people: range) -> tuple[np.ndarray, np.ndarray]:
        faces = [
            (np.asarray(draw_face(label, person=str(p), size=24, gray=True), dtype=float).ravel() / 255, index)
            for p in people
            for index, label in enumerate(labels)
        ]
        return np.stack([face for face, _ in faces]), np.array([label for _, label in faces])

    train, test = drawn(range(120)), drawn(range(1000, 1040))
    score = LogisticRegression(max_iter=300).fit(*train).score(*test)
    assert score > 0.6
