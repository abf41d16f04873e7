"""raf_db: the official folder and the copy with DATASET/, and lists that disagree with pictures."""

from pathlib import Path

import numpy as np
import pytest

from look_alikes import write_raf_db
from meco_hub.corpora.raf_db import corpus
from meco_hub.corpora.synthetic.faces import draw_face
from meco_hub.errors import ConfigurationError, CorpusError

LIST = "basic/EmoLabel/list_patition_label.txt"


@pytest.mark.parametrize("target", ["raf", "raf.zip"])
@pytest.mark.parametrize("layout", ["official", "kaggle"])
def test_reads_back_what_was_drawn(layout: str, target: str, tmp_path: Path, pixels) -> None:
    drawn = write_raf_db(tmp_path / target, seed=2, layout=layout)
    splits = corpus.load(tmp_path / target)
    assert {name: len(split) for name, split in splits.items()} == {"train": 28, "test": 14}
    names = splits["train"].features["label"].names
    assert names == ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    rows = {row["sample_id"]: (name, row) for name, split in splits.items() for row in split}
    assert rows.keys() == {face.sample_id for face in drawn}
    for face in drawn:
        split, row = rows[face.sample_id]
        assert (split, names[row["label"]], row["identity"], row["fold"]) == (face.split, face.label, "", -1)
    face = drawn[5]
    expected = np.asarray(draw_face(face.label, person=face.person, seed=2, size=100)).astype(int)
    assert np.abs(pixels(rows[face.sample_id][1]["image"]) - expected).mean() < 6  # JPEG


def test_label_1_is_surprise_and_7_neutral(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="official")
    written = dict(line.split() for line in (tmp_path / "raf" / LIST).read_text().splitlines())
    for row in corpus.load(tmp_path / "raf")["train"]:
        stem = Path(row["sample_id"]).name.replace("_aligned", "")
        assert row["label"] == int(written[stem]) - 1


def test_original_pictures(tmp_path: Path, pixels) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="official")
    rows = corpus.load(tmp_path / "raf", pictures="original")["train"]
    assert rows[0]["sample_id"] == "Image/original/train_00001.jpg"
    assert pixels(rows[0]["image"]).shape == (160, 160, 3)
    write_raf_db(tmp_path / "copy", seed=2, layout="kaggle")
    with pytest.raises(ConfigurationError, match="aligned pictures only"):
        corpus.load(tmp_path / "copy", pictures="original")
    with pytest.raises(ConfigurationError, match="pictures is 'cropped'"):
        corpus.load(tmp_path / "raf", pictures="cropped")


def test_the_basic_folder_itself_and_the_corrected_spelling(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="official")
    emo = tmp_path / "raf" / "basic" / "EmoLabel"
    (emo / "list_patition_label.txt").rename(emo / "list_partition_label.txt")
    assert len(corpus.load(tmp_path / "raf" / "basic")["train"]) == 28


def test_the_copy_without_its_lists(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="kaggle")
    assert len(corpus.load(tmp_path / "raf" / "DATASET")["test"]) == 14


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("train_00001.jpg 8", r"line 43: the label is '8'. Expected a number from 1 to 7"),
        ("train_00001.jpg 0", r"line 43: the label is '0'"),
        ("train_00001.jpg", r"line 43: 'train_00001.jpg'. Expected 'train_00001.jpg 5'"),
        ("other_00001.jpg 1", r"line 43: 'other_00001.jpg 1'"),
        ("train_00001.jpg 1", r"line 43: train_00001\.jpg is listed twice"),
        ("train_99999.jpg 1", r"lists pictures that .*aligned/ lacks: Image/aligned/train_99999_aligned\.jpg"),
    ],
)
def test_a_wrong_line(line: str, complaint: str, tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="official")
    with (tmp_path / "raf" / LIST).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CorpusError, match=complaint):
        corpus.load(tmp_path / "raf")


def test_a_picture_nobody_lists(tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="official")
    aligned = tmp_path / "raf" / "basic" / "Image" / "aligned"
    (aligned / "train_77777_aligned.jpg").write_bytes((aligned / "train_00001_aligned.jpg").read_bytes())
    with pytest.raises(CorpusError, match=r"does not list: Image/aligned/train_77777_aligned\.jpg"):
        corpus.load(tmp_path / "raf")


def edit_copy(case: str, folder: Path) -> str:
    listing = folder / "train_labels.csv"
    lines = listing.read_text().splitlines()
    name, label = lines[1].split(",")
    picture = folder / "DATASET" / "train" / label / name
    other = str(int(label) % 7 + 1)
    match case:
        case "labels":
            listing.write_text("\n".join([lines[0], f"{name},{other}", *lines[2:]]) + "\n")
            return rf"disagree on labels: {name} \(folder {label}, list {other}\)"
        case "missing":
            picture.unlink()
            return rf"lists pictures that .* lacks: {name}"
        case "unlisted":
            listing.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
            return rf"does not list: {name}"
        case "listed twice":
            listing.write_text("\n".join([*lines, lines[1]]) + "\n")
            return rf"line 30: {name} is listed twice"
        case "two folders":
            (folder / "DATASET" / "train" / other / name).write_bytes(picture.read_bytes())
            return "one picture under two labels"
        case "folder":
            picture.parent.rename(picture.parent.with_name("9"))
            return "the label is '9'. Expected a number from 1 to 7"
        case "loose":
            picture.rename(folder / "DATASET" / "train" / name)
            return r"lies elsewhere than train/<1…7>/"
    raise AssertionError(case)


@pytest.mark.parametrize("case", ["labels", "missing", "unlisted", "listed twice", "two folders", "folder", "loose"])
def test_the_copy_when_edited(case: str, tmp_path: Path) -> None:
    write_raf_db(tmp_path / "raf", seed=2, layout="kaggle")
    complaint = edit_copy(case, tmp_path / "raf")
    with pytest.raises(CorpusError, match=complaint):
        corpus.load(tmp_path / "raf")
