"""ferplus: votes become labels and shares as their authors have it, found by name or by row; and what is wrong with the file."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from look_alikes import write_fer2013_csv
from meco_hub.corpora.fer2013 import EXPRESSIONS, majority, shares
from meco_hub.corpora.fer2013 import corpus as fer2013
from meco_hub.corpora.ferplus import corpus
from meco_hub.corpora.splits import by_content, without_content_of
from meco_hub.corpora.synthetic.faces import write_fer2013_folders
from meco_hub.errors import ConfigurationError, CorpusError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
#                 neutral happy surprise sad anger disgust fear contempt unknown NF
UNANIMOUS_FEAR = [0, 0, 0, 0, 0, 0, 10, 0, 0, 0]
SPLIT = [5, 0, 0, 5, 0, 0, 0, 0, 0, 0]
SLIPS = [1, 6, 1, 1, 1, 0, 0, 0, 0, 0]
CONTEMPT = [0, 2, 0, 0, 0, 0, 0, 8, 0, 0]
UNKNOWN = [2, 0, 0, 0, 0, 0, 0, 0, 8, 0]
NO_FACE = [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]
SINGLE = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_majority_and_shares() -> None:
    votes = [UNANIMOUS_FEAR, SPLIT, SLIPS, CONTEMPT, UNKNOWN, NO_FACE, SINGLE]
    names = [EXPRESSIONS[one] if one >= 0 else None for one in majority(votes)]
    assert names == ["fear", None, "happiness", "contempt", None, None, None]
    soft = shares(votes, ["happiness", "neutral", "sadness", "fear"])
    np.testing.assert_allclose(
        soft, [[0, 0, 0, 1], [0, 0.5, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]
    )


def write_votes(folder: Path, lines: list[tuple[str, list[int]]]) -> None:
    text = [HEADER, *(f"Training,{name},{','.join(map(str, votes))}" for name, votes in lines)]
    (folder / "fer2013new.csv").write_text("\n".join(text) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """28 pictures of training and 28 of the tests: unanimous for fear, but the first five."""
    drawn = write_fer2013_folders(tmp_path / "fer", seed=6)
    special = [SPLIT, CONTEMPT, SLIPS, NO_FACE, UNKNOWN]
    votes = special + [UNANIMOUS_FEAR] * (len(drawn) - len(special))
    write_votes(tmp_path / "fer", list(zip((Path(one.sample_id).name for one in drawn), votes, strict=True)))
    return tmp_path / "fer"


@pytest.mark.parametrize("zipped", [False, True])
def test_labels_are_those_of_the_majority(folder: Path, zipped: bool) -> None:
    where = Path(shutil.make_archive(str(folder), "zip", folder)) if zipped else folder
    splits = corpus.load(where)
    assert splits["train"].features["label"].names == list(EXPRESSIONS)
    assert {name: len(split) for name, split in splits.items()} == {"train": 28 - 3, "test": 28}
    names = [EXPRESSIONS[one] for one in splits["train"]["label"]]
    assert sorted(set(names)) == ["contempt", "fear", "happiness"]
    assert names.count("fear") == 23
    row = splits["train"][names.index("contempt")]
    np.testing.assert_allclose(row["soft_label"], [0, 0.2, 0, 0, 0, 0, 0, 0.8])
    seven = corpus.load(where, contempt=False)["train"]
    assert seven.features["label"].names == list(EXPRESSIONS[:-1])
    assert len(seven) == 24
    assert all(len(one) == 7 for one in seven["soft_label"])


def test_what_is_held_out_is_what_fer2013_holds_out(folder: Path) -> None:
    of_test, of_train = (sorted((folder / side).glob("*/*")) for side in ("test", "train"))
    shutil.copy(of_test[0], of_train[10])  # a picture that recurs in the test
    whole = fer2013.load(folder)
    rest, aside = by_content(without_content_of(whole["train"], whole["test"]), 0.4, seed=0)
    assert len(rest) + len(aside) == 27
    labelled, divided = corpus.load(folder)["train"]["sample_id"], corpus.load(folder, held_out=0.4)
    assert set(divided["held_out"]["sample_id"]) == set(aside["sample_id"]) & set(labelled)
    assert set(divided["train"]["sample_id"]) == set(rest["sample_id"]) & set(labelled)
    assert divided["test"]["sample_id"] == corpus.load(folder)["test"]["sample_id"]
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        corpus.load(folder, held_out=1.0)


def test_without_training_pictures_there_is_nothing_to_hold_out(folder: Path) -> None:
    expected = corpus.load(folder)["test"]["sample_id"]
    shutil.rmtree(folder / "train")
    assert {name: split["sample_id"] for name, split in corpus.load(folder, held_out=0.4).items()} == {"test": expected}


def test_fer2013_keeps_its_labels_and_tells_the_votes(folder: Path) -> None:
    plain, told = fer2013.load(folder)["train"], fer2013.load(folder, votes=True)["train"]
    assert "soft_label" not in plain.column_names
    assert told["label"][:] == plain["label"][:]
    assert len(told) == 28
    names = told.features["label"].names
    by_name = dict(zip(told["sample_id"], told["soft_label"], strict=True))
    assert sorted({tuple(round(share, 3) for share in one) for one in by_name.values()}) == sorted(
        {
            tuple(1.0 if name == "fear" else 0.0 for name in names),
            tuple(0.5 if name in ("sadness", "neutral") else 0.0 for name in names),
            tuple(1.0 if name == "happiness" else 0.0 for name in names),  # of CONTEMPT and SLIPS
            tuple(1.0 if name == "neutral" else 0.0 for name in names),  # of UNKNOWN
            (0.0,) * 7,
        }
    )


def test_a_copy_without_votes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "fer2013new.csv").unlink()
    with pytest.raises(CorpusError, match=r"holds no fer2013new\.csv.*Copy the file there"):
        corpus.load(folder)
    assert "soft_label" not in fer2013.load(folder, votes=True)["test"].column_names
    assert "without votes" in caplog.text


def test_votes_of_the_csv_go_by_the_row(tmp_path: Path) -> None:
    drawn = write_fer2013_csv(tmp_path / "fer", seed=5)
    lines = [
        ("" if number == 2 else "x.png", NO_FACE if number == 2 else UNANIMOUS_FEAR) for number in range(len(drawn))
    ]
    write_votes(tmp_path / "fer", lines)
    splits = corpus.load(tmp_path / "fer")
    assert {name: len(split) for name, split in splits.items()} == {"train": 27, "validation": 14, "test": 14}
    assert "train/000002" not in splits["train"]["sample_id"]
    write_votes(tmp_path / "fer", lines[:-1])
    with pytest.raises(CorpusError, match="55 lines, and the csv of pictures 56 rows"):
        corpus.load(tmp_path / "fer")


def test_a_file_of_votes_that_is_wrong(folder: Path) -> None:
    file = folder / "fer2013new.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]))
    with pytest.raises(CorpusError, match=r"has no line for test/.*Expected one for every picture"):
        corpus.load(folder)
    # the published file does not name what shows no face
    file.write_text("\n".join([*lines[:-1], "Training,,0,0,0,0,0,0,0,0,0,10"]))
    assert len(corpus.load(folder)["test"]) == 27
    file.write_text("\n".join([*lines[:-1], lines[-1].replace("10", "ten")]))
    with pytest.raises(CorpusError, match=r"line 57: the votes are .*'ten'.*Expected whole numbers"):
        corpus.load(folder)
