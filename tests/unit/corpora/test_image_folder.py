"""image_folder: three layouts as folder and zip, the order of labels, and every disagreement."""

import zipfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest

from meco_hub.corpora.image_folder import corpus
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.synthetic.faces import draw_face, write_image_folder
from meco_hub.errors import ConfigurationError, CorpusError


def picture(path: Path, label: str = "neutral", person: str = "p") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_face(label, person=person, size=32).save(path)
    return path


def index(folder: Path, *lines: str) -> None:
    (folder / "index.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("target", ["faces", "faces.zip"])
def test_reads_back_what_was_drawn(target: str, tmp_path: Path, pixels) -> None:
    drawn = write_image_folder(tmp_path / target, seed=3, labels=("surprise", "neutral", "anger"), people=5, folds=3)
    splits = corpus.load(tmp_path / target)
    assert list(splits) == ["all"]
    rows = splits["all"]
    assert rows.features["label"].names == ["neutral", "surprise", "anger"]
    assert rows.features["fold"].dtype == "int32"
    by_id = {row["sample_id"]: row for row in rows}
    assert by_id.keys() == {face.sample_id for face in drawn}
    for face in drawn:
        row = by_id[face.sample_id]
        assert rows.features["label"].names[row["label"]] == face.label
        assert (row["identity"], row["fold"]) == (face.identity, face.fold)
        assert row["image"]["bytes"] is None
    face = drawn[7]
    cell = by_id[face.sample_id]["image"]
    expected = draw_face(face.label, person=face.person, take=face.take, seed=3, size=64)
    assert np.abs(pixels(cell).astype(int) - np.asarray(expected)).mean() < 6  # JPEG
    if target.endswith(".zip"):
        assert cell["path"] == f"zip://{face.sample_id}::{tmp_path / target}"
    else:
        assert cell["path"] == str(tmp_path / target / face.sample_id)


def test_folder_and_zip_have_one_fingerprint(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "faces", seed=3)
    write_image_folder(tmp_path / "faces.zip", seed=3)
    prints = [fingerprint(corpus.load(tmp_path / name)["all"]) for name in ("faces", "faces.zip")]
    assert prints[0] == prints[1]


def test_datasets_itself_decodes_the_cells(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "faces.zip", seed=3, people=1)
    rows = corpus.load(tmp_path / "faces.zip")["all"].cast_column("image", datasets.Image())
    assert rows[0]["image"].size == (64, 64)


def test_without_an_index(tmp_path: Path) -> None:
    drawn = write_image_folder(tmp_path / "faces", seed=0, people=2, index=False)
    rows = corpus.load(tmp_path / "faces")["all"]
    assert len(rows) == len(drawn) == 12
    assert set(rows["identity"]) == {""}
    assert set(rows["fold"]) == {-1}


def test_any_ending_in_any_case_and_what_is_no_picture(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.PNG", "d.bmp", "e.webp"):
        picture(tmp_path / "Happy" / name)
    (tmp_path / "Happy" / "notes.txt").write_text("no picture")
    (tmp_path / "Happy" / ".DS_Store").write_text("clutter")
    rows = corpus.load(tmp_path)["all"]
    assert rows["sample_id"][:] == ["Happy/a.JPG", "Happy/b.jpeg", "Happy/c.PNG", "Happy/d.bmp", "Happy/e.webp"]
    assert rows.features["label"].names == ["happiness"]


@pytest.mark.parametrize("spelling", ["validation", "val", "Valid", "dev"])
def test_splits_by_folder(spelling: str, tmp_path: Path) -> None:
    for split, count in (("train", 3), (spelling, 2), ("test", 1)):
        for number in range(count):
            picture(tmp_path / split / "sad" / f"{number}.png")
    splits = corpus.load(tmp_path)
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "validation": 2, "test": 1}
    assert splits["validation"][0]["sample_id"] == f"{spelling}/sad/0.png"


def test_splits_by_index_in_a_flat_folder(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png", person=str(number))
    index(
        tmp_path,
        "\ufeffFile , label, split",
        *("images/0.png,x,test", "images/1.png,y,train", "images/2.png,y,train", "images/3.png,x,val"),
    )
    splits = corpus.load(tmp_path)
    assert {name: split["sample_id"][:] for name, split in splits.items()} == {
        "train": ["images/1.png", "images/2.png"],
        "validation": ["images/3.png"],
        "test": ["images/0.png"],
    }
    assert splits["train"].features["label"].names == ["x", "y"]


def test_steps_into_a_single_wrapping_folder(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "outer" / "inner", seed=0, people=2)
    rows = corpus.load(tmp_path)["all"]
    assert rows[0]["sample_id"] == "neutral/Synthetic_Person_000_0000.jpg"
    assert rows[0]["identity"] == "Synthetic_Person_000"
    picture(tmp_path / "single" / "neutral" / "a.png")
    assert corpus.load(tmp_path / "single")["all"][0]["sample_id"] == "neutral/a.png"


def test_order_of_labels(tmp_path: Path) -> None:
    for label in ("angry", "happy", "neutral"):
        picture(tmp_path / label / "a.png")
    assert corpus.load(tmp_path)["all"].features["label"].names == ["neutral", "happiness", "anger"]
    given = corpus.load(tmp_path, labels=["anger", "fear", "happy", "neutral"])["all"]
    assert given.features["label"].names == ["anger", "fear", "happiness", "neutral"]
    assert dict(zip(given["sample_id"], given["label"], strict=True)) == {
        "angry/a.png": 0,
        "happy/a.png": 2,
        "neutral/a.png": 3,
    }
    picture(tmp_path / "Confused" / "a.png")
    assert corpus.load(tmp_path)["all"].features["label"].names == ["Confused", "anger", "happiness", "neutral"]


def test_labels_left_out(tmp_path: Path) -> None:
    for label in ("anger", "confused", "neutral"):
        picture(tmp_path / label / "a.png")
    with pytest.raises(CorpusError, match=r"not in the list neutral, anger: confused \(1 pictures\)"):
        corpus.load(tmp_path, labels=["neutral", "anger"])
    rows = corpus.load(tmp_path, labels=["neutral", "anger"], ignore_labels=["confused", "contempt"])["all"]
    assert rows["sample_id"][:] == ["anger/a.png", "neutral/a.png"]
    with pytest.raises(ConfigurationError, match="ignore_labels names 'confusd'"):
        corpus.load(tmp_path, ignore_labels=["confusd"])
    with pytest.raises(CorpusError, match="no picture that can be used"):
        corpus.load(tmp_path, ignore_labels=["anger", "confused", "neutral"])
    with pytest.raises(ConfigurationError, match=r"labels is 'anger'. Expected a list"):
        corpus.load(tmp_path, labels="anger")
    with pytest.raises(ConfigurationError, match="twice"):
        corpus.load(tmp_path, labels=["happy", "happiness"])


def test_pictures_in_the_wrong_depth(tmp_path: Path) -> None:
    picture(tmp_path / "neutral" / "a.png")
    picture(tmp_path / "lost.png")
    picture(tmp_path / "neutral" / "deeper" / "b.png")
    with pytest.raises(CorpusError, match=r"neither in <label>/.*lost\.png, neutral/deeper/b\.png"):
        corpus.load(tmp_path)


def broken_index(case: str, folder: Path) -> str:
    """Prepare one disagreement; returns the complaint to expect."""
    files = [f"neutral/{n}.png" for n in range(8)]
    for name in files:
        picture(folder / name)
    good = [f"{name},neutral,p,0" for name in files]
    header = "file,label,identity,fold"
    match case:
        case "missing":
            index(folder, header, *good, *(f"neutral/gone{n}.png,neutral,p,0" for n in range(7)))
            return r"not there: neutral/gone0\.png, .*gone4\.png, … \(7 in all\)"
        case "unlisted":
            index(folder, header, *good[:6])
            return r"does not list: neutral/6\.png, neutral/7\.png"
        case "twice":
            index(folder, header, *good, good[0])
            return r"lists files twice: neutral/0\.png"
        case "other label":
            index(folder, header, *good[:7], "neutral/7.png,happy,p,0")
            return r"other than their folder's: neutral/7\.png \(listed as happiness\)"
        case "no label":
            index(folder, header, *good[:7], "neutral/7.png,,p,0")
            return r"index\.csv, line 9: file or label is empty"
        case "fold":
            index(folder, header, *good[:7], "neutral/7.png,neutral,p,two")
            return r"line 9: the fold is 'two'"
        case "negative fold":
            index(folder, header, *good[:7], "neutral/7.png,neutral,p,-3")
            return r"line 9: the fold is -3"
        case "split":
            index(
                folder, "file,label,split", *(f"{name},neutral,train" for name in files[:7]), "neutral/7.png,neutral,"
            )
            return r"give.* some files no split: neutral/7\.png"
        case "split name":
            index(folder, "file,label,split", *(f"{name},neutral,my split" for name in files))
            return r"the split is 'my split'"
        case "cells":
            index(folder, header, *good[:7], "neutral/7.png,neutral")
            return r"line 9: 2 cells where the header has 4"
        case "columns":
            index(folder, "path,label", "a,b")
            return r"has the columns path, label; file is missing"
        case "column twice":
            index(folder, "file,label,label", "a,b,c")
            return r"names the columns label twice"
        case "empty":
            (folder / "index.csv").write_text("")
            return r"index\.csv is empty"
        case "encoding":
            (folder / "index.csv").write_bytes(b"file,label\n\xff\xfe,b\n")
            return r"is not UTF-8"
        case "quote":
            index(folder, "file,label", '"neutral/0.png,neutral')
            return r"not a csv row"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        *("missing", "unlisted", "twice", "other label", "no label", "fold", "negative fold", "split", "split name"),
        *("cells", "columns", "column twice", "empty", "encoding", "quote"),
    ],
)
def test_index_and_files_that_disagree(case: str, tmp_path: Path) -> None:
    complaint = broken_index(case, tmp_path)
    with pytest.raises(CorpusError, match=complaint) as caught:
        corpus.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_real_faces(lfw: datasets.Dataset, lfw_zip: Path, pixels) -> None:
    rows = lfw
    names = rows.features["label"].names
    assert names == ["neutral", "happiness", "sadness", "surprise", "anger"]
    counts = Counter(names[label] for label in rows["label"])
    assert counts == {"neutral": 5368, "happiness": 4244, "surprise": 284, "anger": 182, "sadness": 100}
    assert sum(counts.values()) == 10178
    assert Counter(rows["fold"]) == {0: 2544, 1: 2544, 2: 2545, 3: 2545}
    assert pixels(rows[0]["image"]).shape == (112, 112)
    parts = [by_fold(rows, [fold])[1] for fold in range(4)]
    assert leak_check(*parts).clean  # nobody, and no picture, in two folds
    with zipfile.ZipFile(lfw_zip) as archive:
        assert set(rows["sample_id"]) | {"index.csv"} == set(archive.namelist())
