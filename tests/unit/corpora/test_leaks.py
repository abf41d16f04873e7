"""leaks: a planted person and a planted picture are found, and a fingerprint says exactly what it should."""

import io
import itertools
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps

from meco_hub.corpora.file_tree import HASH_COLUMN, content_hashes, with_content_hashes
from meco_hub.corpora.image_folder import corpus
from meco_hub.corpora.leaks import Overlap, fingerprint, leak_check
from meco_hub.corpora.splits import by_content, without_content_of
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.corpora.tables import FaceRow, build_splits, with_column
from meco_hub.errors import ConfigurationError, CorpusError, LeakError


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
    with pytest.raises(LeakError, match=r"1 contents, the same byte for byte, stand in train and in test .*: 2 = 4"):
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


NUMBERS = itertools.count()


def rows(**columns: list[Any]) -> datasets.Dataset:
    """Rows of signals; whatever is not given differs from row to row."""
    number = len(next(iter(columns.values())))
    names = [f"row {next(NUMBERS)}" for _ in range(number)]
    return datasets.Dataset.from_dict({"sample_id": names, "identity": names, "content_sha256": names} | columns)


def found(first: datasets.Dataset, second: datasets.Dataset, **options: Any) -> tuple[list[Overlap], list[Overlap]]:
    report = leak_check(first, second, raises=False, **options)
    return list(report.overlaps), list(report.notes)


def test_a_planted_trial() -> None:
    first = rows(identity=["ann", "ann"], trial=["1", "2"])
    overlaps, notes = found(first, rows(identity=["ann", "bob"], trial=["2", "1"]))
    assert [(o.kind, o.shared, o.rows) for o in overlaps] == [("identity", ("ann",), 1), ("trial", ("ann/2",), 1)]
    assert notes == []
    with pytest.raises(LeakError, match=r"1 trials stand in train and in test \(1 rows there\): ann/2"):
        leak_check(first, rows(identity=["ann"], trial=["2"]), allow=("identity",))
    # two people's trials of one number are not one trial, and two unnamed trials none
    assert found(first, rows(identity=["bob"], trial=["1"])) == ([], [])
    assert found(rows(trial=[""]), rows(trial=[""])) == ([], [])


def test_shared_stimuli_are_noted_unless_they_are_forbidden() -> None:
    first, second = rows(stimulus=["film 1", "film 2"]), rows(stimulus=["film 2", ""])
    report = leak_check(first, second)
    assert report.clean
    assert [(o.kind, o.shared) for o in report.notes] == [("stimulus", ("film 2",))]
    assert "Noted, and no leak by itself: 1 stimuli stand in train and in test (1 rows there): film 2." in str(report)
    assert report.to_dict()["notes"][0]["kind"] == "stimulus"
    with pytest.raises(LeakError, match="1 stimuli stand in train and in test"):
        leak_check(first, second, allow=())
    with pytest.raises(ConfigurationError, match="Expected some of identity, trial, time, content, pixels, stimulus"):
        leak_check(first, second, allow=("people",))


def test_a_planted_overlap_in_time() -> None:
    nan = float("nan")
    first = rows(
        sample_id=["a", "b", "c"], source=["x", "x", "y"], start_s=[0.0, 100.0, 0.0], end_s=[60.0, 160.0, 60.0]
    )

    def with_second(source: str, start: float, end: float) -> list[str]:
        second = rows(sample_id=["z"], source=[source], start_s=[start], end_s=[end])
        return [one for o in found(first, second)[0] for one in o.shared]

    assert with_second("x", 59.0, 90.0) == ["a = z"]
    assert with_second("x", 60.0, 100.0) == []  # touching
    assert with_second("x", 120.0, 130.0) == ["b = z"]  # inside
    assert with_second("y", 59.0, 90.0) == ["c = z"]
    assert with_second("w", 0.0, 60.0) == []
    assert with_second("x", nan, nan) == ["b = z"]  # the whole recording
    with pytest.raises(LeakError, match=r"1 parts of one recording, overlapping in time, stand in train and in test"):
        leak_check(first, rows(source=["x"], start_s=[50.0], end_s=[55.0]))


def test_overlaps_in_time_are_those_that_every_pair_would_show() -> None:
    draw = random.Random(0)

    def some(number: int) -> datasets.Dataset:
        starts = [draw.uniform(0, 300) for _ in range(number)]
        return rows(
            source=[draw.choice("xy") for _ in starts], start_s=starts, end_s=[s + draw.uniform(1, 40) for s in starts]
        )

    first, second = some(12), some(60)
    expected = {
        theirs["sample_id"]
        for theirs in second
        for mine in first
        if mine["source"] == theirs["source"]
        and mine["start_s"] < theirs["end_s"]
        and theirs["start_s"] < mine["end_s"]
    }
    (overlap,) = found(first, second)[0]
    assert {one.split(" = ")[1] for one in overlap.shared} == expected
    assert 0 < len(expected) < 60


def test_planted_content_by_hash_and_by_files(tmp_path: Path) -> None:
    overlaps, _ = found(rows(sample_id=["a"], content_sha256=["1"]), rows(sample_id=["b"], content_sha256=["1"]))
    assert [(o.kind, o.shared) for o in overlaps] == [("content", ("a = b",))]
    (tmp_path / "one.csv").write_bytes(b"1")
    (tmp_path / "copy.csv").write_bytes(b"1")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("in/copy.csv", b"1")

    def of_files(name: str, file: str, **columns: list[Any]) -> datasets.Dataset:
        made = {"sample_id": [name], "identity": [name], "files": [[file]]}
        return datasets.Dataset.from_dict(made | columns)

    first = of_files("a", str(tmp_path / "one.csv"))
    for other in (str(tmp_path / "copy.csv"), f"zip://in/copy.csv::{tmp_path / 'two.zip'}"):
        (overlap,) = found(first, of_files("b", other))[0]
        assert overlap.shared == ("a = b",)
    # parts of one file are the same content only where they are the same part
    first = of_files("a", str(tmp_path / "one.csv"), start_s=[0.0], end_s=[5.0])
    assert found(first, of_files("b", str(tmp_path / "copy.csv"), start_s=[5.0], end_s=[9.0]))[0] == []
    assert len(found(first, of_files("b", str(tmp_path / "copy.csv"), start_s=[0.0], end_s=[5.0]))[0]) == 1
    for gone in (str(tmp_path / "gone.csv"), f"zip://in/gone.csv::{tmp_path / 'two.zip'}"):
        with pytest.raises(CorpusError, match=r"gone.csv.* cannot be read .*Copy it again"):
            leak_check(first, of_files("b", gone))
    with pytest.raises(CorpusError, match="Expected one of content_sha256, files, image"):
        leak_check(datasets.Dataset.from_dict({"sample_id": ["a"], "identity": ["a"]}))
    with pytest.raises(CorpusError, match="Row 0 names no file"):
        leak_check(datasets.Dataset.from_dict({"sample_id": ["a"], "identity": ["a"], "files": [[]]}))


def test_fingerprint_of_targets() -> None:
    def of(targets: list[float]) -> str:
        return fingerprint(rows(sample_id=["a"], content_sha256=["1"], targets=[targets]))

    assert of([1.0, float("nan")]) == of([1.0, float("nan")]) != of([1.0, 2.0])
    plain = rows(sample_id=["a"], content_sha256=["1"])
    running = rows(sample_id=["a"], content_sha256=["1"], annotations_sha256=["2"])
    assert fingerprint(plain) != fingerprint(running)


# --- What is the same and was written in another way ------------------------------------------------------------------


def picture(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


ORIGINAL = side(("1", "p", encoded(picture(1))), ("2", "q", encoded(picture(2))))


@pytest.mark.parametrize(
    "again", [encoded(picture(1), compress_level=0), encoded(picture(1), "BMP")], ids=["png", "bmp"]
)
def test_pictures_in_other_bytes_are_a_leak(again: bytes) -> None:
    other = side(("9", "r", again))
    with pytest.raises(LeakError, match=r"1 pictures, the same pixel for pixel in other bytes, .*: 1 = 9"):
        leak_check(ORIGINAL, other)
    assert len(without_content_of(ORIGINAL, other)) == 1
    joined = datasets.concatenate_datasets([ORIGINAL, other])
    for seed in range(4):
        assert leak_check(*by_content(with_column(joined, "identity", [""] * 3, "string"), 0.4, seed=seed)).clean


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=90),
        lambda image: encoded(ImageOps.mirror(image)),
        lambda image: encoded(image.resize((96, 96))),
    ],
    ids=["jpeg", "mirrored", "resized"],
)
def test_pictures_that_look_alike_are_noted(change: Any) -> None:
    report = leak_check(ORIGINAL, side(("9", "r", change(picture(1)))))
    assert [(one.kind, one.shared) for one in report.notes] == [("look", ("1 = 9",))]
    assert leak_check(ORIGINAL, side(("9", "r", encoded(picture(3))))).notes == ()


@pytest.mark.parametrize(
    ("one", "other"), [("M\u00fcller", "Mu\u0308ller"), ("P1", "p1"), ("1", "01"), ("s 1", "s  01")]
)
def test_names_that_differ_in_their_spelling_are_noted(one: str, other: str) -> None:
    report = leak_check(side(("1", one, b"a")), side(("2", other, b"b")))
    assert [note.kind for note in report.notes] == ["spelling"]
    assert leak_check(side(("1", "s1", b"a")), side(("2", "s10", b"b"))).notes == ()


def test_files_under_another_spelling_are_noted() -> None:
    first, second = rows(source=["./f1"], identity=["a"]), rows(source=["f1"], identity=["b"])
    assert [note.kind for note in leak_check(first, second).notes] == ["spelling"]


@pytest.mark.parametrize("kind", ["stimulus", "trial"])
def test_films_and_trials_under_another_spelling_are_noted(kind: str) -> None:
    first = rows(identity=["a"], **{kind: ["Film 1"]})
    for other, found in (("film 01", ["spelling"]), ("film 2", [])):
        report = leak_check(first, rows(identity=["a"], **{kind: [other]}), allow=("identity",))
        assert [note.kind for note in report.notes if note.kind != "identity"] == found
    # another person's trial is another one, and a person is no film
    other = rows(identity=["1"], **{kind: ["film 01"]})
    assert leak_check(rows(identity=["b"], **{kind: ["01"]}), other).notes == ()


def test_what_was_looked_for_is_said_and_no_more() -> None:
    told = str(leak_check(ORIGINAL, side(("9", "r", encoded(picture(3))))))
    assert told == "Looked in every two splits for the same people, bytes or samples, pixels, and found none."
    nobody = str(leak_check(side(("1", "", b"broken")), side(("2", "", b"too"))))
    assert nobody.startswith("Looked in every two splits for the same bytes or samples, and found none.")
