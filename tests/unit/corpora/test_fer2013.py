"""fer2013: the csv in both spellings and the folders, pixel by pixel, and every row that is wrong."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from look_alikes import write_fer2013_csv
from meco_hub.corpora.fer2013 import corpus, gray_png
from meco_hub.corpora.leaks import fingerprint
from meco_hub.corpora.synthetic.faces import Drawn, draw_face, write_fer2013_folders
from meco_hub.errors import ConfigurationError, CorpusError


def check(splits, drawn: list[Drawn]) -> dict[str, dict]:
    rows = {row["sample_id"]: {**row, "split": name} for name, split in splits.items() for row in split}
    assert rows.keys() == {face.sample_id for face in drawn}
    names = splits["train"].features["label"].names
    assert names == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    for face in drawn:
        row = rows[face.sample_id]
        assert (row["split"], names[row["label"]], row["identity"], row["fold"]) == (face.split, face.label, "", -1)
    return rows


@pytest.mark.parametrize("spaced", [False, True], ids=["fer2013.csv", "icml_face_data.csv"])
@pytest.mark.parametrize("where", ["folder", "subfolder", "zip", "file"])
def test_csv(spaced: bool, where: str, tmp_path: Path, pixels) -> None:
    target = {"zip": tmp_path / "fer.zip", "subfolder": tmp_path / "fer" / "fer2013"}.get(where, tmp_path / "fer")
    drawn = write_fer2013_csv(target, seed=5, spaced_header=spaced)
    data_dir = {"subfolder": target.parent, "file": target / ("icml_face_data.csv" if spaced else "fer2013.csv")}.get(
        where, target
    )
    splits = corpus.load(data_dir)
    assert {name: len(split) for name, split in splits.items()} == {"train": 28, "validation": 14, "test": 14}
    rows = check(splits, drawn)
    assert splits["train"][0]["sample_id"] == "train/000000"
    assert splits["validation"][0]["sample_id"] == "public_test/000028"
    for face in drawn[::9]:
        expected = np.asarray(draw_face(face.label, person=face.person, seed=5, size=48, gray=True))
        assert np.array_equal(pixels(rows[face.sample_id]["image"]), expected)


def test_csv_merged(tmp_path: Path) -> None:
    write_fer2013_csv(tmp_path / "fer", seed=5)
    splits = corpus.load(tmp_path / "fer", public_test="merged")
    assert {name: len(split) for name, split in splits.items()} == {"train": 28, "test": 28}
    assert Counter(i.partition("/")[0] for i in splits["test"]["sample_id"]) == {"public_test": 14, "private_test": 14}


def test_csv_without_a_usage(tmp_path: Path) -> None:
    write_fer2013_csv(tmp_path / "fer", seed=5, public_per_class=0)
    assert list(corpus.load(tmp_path / "fer")) == ["train", "test"]


@pytest.mark.parametrize("target", ["fer", "fer.zip"])
def test_folders(target: str, tmp_path: Path, pixels) -> None:
    drawn = write_fer2013_folders(tmp_path / target, seed=6)
    splits = corpus.load(tmp_path / target)
    assert {name: len(split) for name, split in splits.items()} == {"train": 28, "test": 28}
    rows = check(splits, drawn)
    face = drawn[3]
    expected = np.asarray(draw_face(face.label, person=face.person, seed=6, size=48, gray=True)).astype(int)
    assert np.abs(pixels(rows[face.sample_id]["image"]) - expected).mean() < 6  # JPEG
    split_again = corpus.load(tmp_path / target, public_test="validation")
    assert {name: len(split) for name, split in split_again.items()} == {"train": 28, "validation": 14, "test": 14}
    assert all("PublicTest_" in name for name in split_again["validation"]["sample_id"])
    assert all("PrivateTest_" in name for name in split_again["test"]["sample_id"])


def test_folders_whose_names_tell_nothing(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer", seed=6, public_per_class=1, private_per_class=0)
    for number, path in enumerate(sorted((tmp_path / "fer" / "test").rglob("*.jpg"))):
        path.rename(path.with_name(f"im{number}.jpg"))
    assert len(corpus.load(tmp_path / "fer")["test"]) == 7
    with pytest.raises(CorpusError, match=r"do not tell public from private test: test/angry/im0\.jpg"):
        corpus.load(tmp_path / "fer", public_test="validation")


def test_a_validation_folder_of_its_own(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer", seed=6)
    (tmp_path / "fer" / "validation" / "happy").mkdir(parents=True)
    (tmp_path / "fer" / "train" / "happy").rename(tmp_path / "fer" / "validation" / "happy")
    splits = corpus.load(tmp_path / "fer")
    assert {name: len(split) for name, split in splits.items()} == {"train": 24, "validation": 4, "test": 28}
    with pytest.raises(ConfigurationError, match="folder validation/ of its own"):
        corpus.load(tmp_path / "fer", public_test="merged")


def test_folders_with_a_stranger(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer", seed=6)
    (tmp_path / "fer" / "train" / "happy").rename(tmp_path / "fer" / "train" / "contempt")
    with pytest.raises(
        CorpusError, match=r"outside <split>/<emotion>/: train/contempt/Training_.*Expected the emotions"
    ):
        corpus.load(tmp_path / "fer")


def test_another_layout(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(CorpusError, match=r"neither fer2013\.csv nor icml_face_data\.csv nor the folders"):
        corpus.load(tmp_path)
    with pytest.raises(ConfigurationError, match="public_test is 'both'"):
        corpus.load(tmp_path, public_test="both")


FACE = " ".join(["7"] * 2304)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (f"0,{FACE[:-2]},Training", r"line 3: 2303 pixels. Expected 2304 \(48×48\)"),
        (f"0,{FACE} 7,Training", "line 3: 2305 pixels"),
        (f"0,{FACE[:-1]}256,Training", "line 3: a pixel is '256'"),
        (f"0,{FACE[:-1]}-1,Training", "line 3: a pixel is '-1'"),
        (f"0,{FACE[:-1]}7.5,Training", "line 3: a pixel is '7.5'"),
        (f"7,{FACE},Training", "line 3: the emotion is '7'"),
        (f"-1,{FACE},Training", "line 3: the emotion is '-1'"),
        (f",{FACE},Training", "line 3: the emotion is ''"),
        (f"happy,{FACE},Training", "line 3: the emotion is 'happy'"),
        (f"0,{FACE},Test", "line 3: the usage is 'Test'. Expected Training, PublicTest or PrivateTest"),
        (f"0,{FACE}", "line 3: 2 cells where the header has 3"),
        (f"0,{'7 ' * 70000},Training", r"line \d: not a csv row"),
    ],
)
def test_rows_that_are_wrong(row: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(f"emotion,pixels,Usage\n3,{FACE},Training\n{row}\n")
    with pytest.raises(CorpusError, match=complaint) as caught:
        corpus.load(tmp_path)
    assert str(path) in str(caught.value)


def test_the_competitions_own_test_csv_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(f"pixels\n{FACE}\n")
    with pytest.raises(CorpusError, match="emotion, usage is missing"):
        corpus.load(tmp_path)


@pytest.mark.parametrize("side", [1, 48, 255])
def test_png_is_what_pillow_reads(side: int) -> None:
    values = np.random.RandomState(side).randint(0, 256, (side, side)).astype(np.uint8)
    picture = Image.open(io.BytesIO(gray_png(values.tobytes(), side)))
    picture.verify()  # checks every chunk's CRC
    picture = Image.open(io.BytesIO(gray_png(values.tobytes(), side)))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), values)


def test_the_fingerprint_hangs_on_nothing_but_the_file(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n3,{FACE},Training\n")
    # pinned: no compressor, platform or version may change what a data set is called
    assert fingerprint(corpus.load(tmp_path)["train"]) == PINNED


PINNED = "c43c00c3f08f2e960cca9abd7f9dcd39ec3572d02cca91b4681fd197e45cbfa3"


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize("target", ["fer", "fer.zip"])
def test_one_of_the_folders_is_enough(side: str, target: str, tmp_path: Path) -> None:
    sizes = {"train_per_class": 3, "public_per_class": 0, "private_per_class": 0}
    if side == "test":
        sizes = {"train_per_class": 0, "public_per_class": 0, "private_per_class": 3}
    write_fer2013_folders(tmp_path / target, seed=6, **sizes)
    assert {name: len(split) for name, split in corpus.load(tmp_path / target).items()} == {side: 21}


def test_equal_pictures_are_told_however_they_are_stored(tmp_path: Path) -> None:
    """In the csv, and as PNG files of any compression; a JPEG of the same has other pixels, and is another."""
    values = np.random.RandomState(0).randint(0, 256, (48, 48)).astype(np.uint8)
    row = " ".join(map(str, values.ravel()))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "fer2013.csv").write_text(f"emotion,pixels,Usage\n3,{row},Training\n")
    happy = tmp_path / "folders" / "train" / "happy"
    happy.mkdir(parents=True)
    Image.fromarray(values).save(happy / "a.png", compress_level=0)
    Image.fromarray(values).save(happy / "b.png", compress_level=9)
    Image.fromarray(values).save(happy / "c.jpg")
    Image.fromarray(values).resize((24, 24)).save(happy / "d.png")
    (happy / "e.png").write_bytes(b"no picture")
    first, *others = corpus.load(tmp_path / "folders")["train"]["content_sha256"]
    assert corpus.load(tmp_path / "csv")["train"]["content_sha256"][:] == [first]
    assert others[0] == first
    assert len({first, *others}) == 4
