"""leaks: a planted person and a planted picture are found, and a fingerprint says exactly what it should."""

import json
from pathlib import Path

import datasets
import pytest

from meco_hub.corpora.contents import HASH_COLUMN, content_hashes, with_content_hashes
from meco_hub.corpora.image_folder import corpus
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.synthetic import write_image_folder
from meco_hub.corpora.tables import FaceRow, build_splits
from meco_hub.errors import ConfigurationError, LeakError


def side(*rows: tuple[str, str, bytes]) -> datasets.Dataset:
    """A split of (sample_id, identity, content)."""
    faces = [FaceRow(name, 0, content=content, identity=identity) for name, identity, content in rows]
    return build_splits({"all": faces}, ["a", "b"], address="a test")["all"]


TRAIN = side(("1", "ann", b"1"), ("2", "ann", b"2"), ("3", "bob", b"3"))


def test_clean() -> None:
    report = leak_check(TRAIN, side(("4", "cem", b"4"), ("5", "", b"5")))
    assert report.clean
    assert report.rows == {"train": 3, "test": 2}
    assert report.unknown_identities == {"test": 1}
    assert "Rows without an identity, checked by content only: 1 of 2 in test." in str(report)


def test_a_planted_person() -> None:
    test = side(("4", "ann", b"4"), ("5", "ann", b"5"), ("6", "cem", b"6"))
    with pytest.raises(LeakError, match=r"1 people stand in train and in test \(2 rows there\): ann\..*by_identity"):
        leak_check(TRAIN, test)
    (overlap,) = leak_check(TRAIN, test, raises=False).overlaps
    assert (overlap.kind, overlap.shared, overlap.rows) == ("identity", ("ann",), 2)


def test_a_planted_picture() -> None:
    test = side(("4", "cem", b"2"), ("5", "", b"5"))
    with pytest.raises(LeakError, match=r"1 pictures, the same byte for byte, stand in train and in test .*: 2 = 4"):
        leak_check(TRAIN, test)


def test_people_nobody_knows_are_no_leak() -> None:
    assert leak_check(side(("1", "", b"1")), side(("2", "", b"2"))).clean


def test_every_pair_is_compared() -> None:
    validation, test = side(("4", "cem", b"4")), side(("5", "cem", b"4"))
    report = leak_check(TRAIN, validation, test, raises=False)
    assert [(o.kind, o.first, o.second) for o in report.overlaps] == [
        ("identity", "validation", "test"),
        ("content", "validation", "test"),
    ]
    assert leak_check(TRAIN, validation, names=["fit", "select"]).rows == {"fit": 3, "select": 1}
    for names in (["one"], ["one", "one"]):
        with pytest.raises(ConfigurationError, match="Expected one name for each"):
            leak_check(TRAIN, validation, names=names)


def test_the_report_goes_into_json() -> None:
    report = leak_check(TRAIN, side(("4", "ann", b"1")), raises=False).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["clean"] is False
    assert report["overlaps"][0] == {
        "kind": "identity",
        "first": "train",
        "second": "test",
        "shared": ["ann"],
        "rows": 1,
    }


def test_on_files(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "a", seed=0, people=3)
    write_image_folder(tmp_path / "b.zip", seed=1, people=3)
    a, b = corpus.load(tmp_path / "a")["all"], corpus.load(tmp_path / "b.zip")["all"]
    assert {o.kind for o in leak_check(a, b, raises=False).overlaps} == {"identity"}  # same names, other drawings
    source = Path(a[0]["image"]["path"])
    copy = tmp_path / "c" / "neutral" / "copy.jpg"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(source.read_bytes())
    c = corpus.load(tmp_path / "c")["all"]
    (overlap,) = leak_check(a, c, raises=False).overlaps
    assert overlap.shared == (f"{a[0]['sample_id']} = neutral/copy.jpg",)


def test_fingerprint_says_which_pictures_and_labels() -> None:
    original = fingerprint(TRAIN)
    assert len(original) == 64
    assert fingerprint(TRAIN.shuffle(seed=1)) == original
    assert fingerprint(TRAIN.select([0, 1])) != original
    assert fingerprint(side(("1", "x", b"1"), ("2", "", b"2"), ("3", "", b"3"))) == original  # people are no part of it
    assert fingerprint(side(("1", "ann", b"1"), ("2", "ann", b"2"), ("3", "bob", b"4"))) != original
    assert fingerprint(side(("1", "ann", b"1"), ("2", "ann", b"2"), ("4", "bob", b"3"))) != original


def test_fingerprint_goes_by_label_names() -> None:
    def labelled(label: int, names: list[str]) -> str:
        return fingerprint(build_splits({"all": [FaceRow("1", label, content=b"1")]}, names, address="")["all"])

    assert labelled(0, ["anger", "fear"]) == labelled(1, ["fear", "anger"])
    assert labelled(0, ["anger", "fear"]) != labelled(0, ["fear", "anger"])


def test_hashes_are_kept_and_follow_their_rows(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "faces", seed=0, people=2)
    rows = corpus.load(tmp_path / "faces")["all"]
    hashed = with_content_hashes(rows.select([5, 1, 3]))
    assert hashed[HASH_COLUMN][:] == content_hashes(rows.select([5, 1, 3]))
    assert hashed["sample_id"][:] == [rows[5]["sample_id"], rows[1]["sample_id"], rows[3]["sample_id"]]
    assert with_content_hashes(hashed) is hashed
    assert fingerprint(hashed) == fingerprint(rows.select([1, 3, 5]))
    assert content_hashes(rows.cast_column("image", datasets.Image())) == content_hashes(rows)  # decoding or not
