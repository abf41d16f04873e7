"""affectnet: two official layouts and the derivative, read back, cut as published, and what does not fit."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from look_alikes import write_affectnet
from meco_hub.corpora.affectnet import _published_cut, corpus
from meco_hub.corpora.synthetic.faces import affect_of, draw_face
from meco_hub.errors import ConfigurationError, CorpusError

EIGHT = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"]


@pytest.mark.parametrize("target", ["affect", "affect.zip"])
@pytest.mark.parametrize("layout", ["npy", "csv"])
def test_official_layouts(layout: str, target: str, tmp_path: Path, pixels) -> None:
    drawn = write_affectnet(tmp_path / target, seed=4, layout=layout)
    splits = corpus.load(tmp_path / target)
    assert {name: len(split) for name, split in splits.items()} == {"train": 32, "validation": 16}
    assert splits["train"].features["label"].names == EIGHT
    rows = {row["sample_id"]: (name, row) for name, split in splits.items() for row in split}
    assert rows.keys() == {face.sample_id for face in drawn}
    for face in drawn:
        split, row = rows[face.sample_id]
        assert (split, EIGHT[row["label"]], row["identity"], row["fold"]) == (face.split, face.label, "", -1)
        assert (row["valence"], row["arousal"]) == pytest.approx(affect_of(face.label))
    face = drawn[9]
    row = rows[face.sample_id][1]
    shown = pixels(row["image"])
    if layout == "csv":
        x0, y0, x1, y1 = map(int, row["face_box"])
        assert (x0, y0, x1, y1) == (40, 20, 136, 116)
        shown = shown[y0:y1, x0:x1]
    expected = np.asarray(draw_face(face.label, person=face.person, seed=4, size=224 if layout == "npy" else 96))
    assert np.abs(shown.astype(int) - expected).mean() < 8  # JPEG


@pytest.mark.parametrize("layout", ["npy", "csv", "derivative"])
def test_seven_classes(layout: str, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout=layout)
    splits = corpus.load(tmp_path / "affect", num_classes=7)
    for split in splits.values():
        assert split.features["label"].names == EIGHT[:7]
        assert len(set(Counter(split["label"]).values())) == 1
        assert set(split["label"]) == set(range(7))
    with pytest.raises(ConfigurationError, match="num_classes is 6"):
        corpus.load(tmp_path / "affect", num_classes=6)


@pytest.mark.parametrize("layout", ["npy", "csv"])
@pytest.mark.parametrize("option", [{"derivative_split": "published"}, {"labels_from": "csv"}])
def test_options_of_the_derivative_elsewhere(layout: str, option: dict, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout=layout, train_per_class=1, validation_per_class=1)
    with pytest.raises(ConfigurationError, match="is for the 96×96 derivative"):
        corpus.load(tmp_path / "affect", **option)


def test_validation_alone_and_two_layouts(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, train_per_class=1, validation_per_class=1)
    (tmp_path / "affect" / "train_set").rename(tmp_path / "elsewhere")
    assert list(corpus.load(tmp_path / "affect")) == ["validation"]
    (tmp_path / "affect" / "labels.csv").write_text("pth,label\n")
    with pytest.raises(CorpusError, match="several layouts of AffectNet at once"):
        corpus.load(tmp_path / "affect")


def edit_arrays(case: str, folder: Path) -> str:
    notes = folder / "train_set" / "annotations"
    match case:
        case "label":
            np.save(notes / "0_exp.npy", np.array("8"))
            return r"annotations/0_exp\.npy holds 8. Expected a label from 0 to 7"
        case "fraction":
            np.save(notes / "0_exp.npy", np.array("1.5"))
            return r"0_exp\.npy holds 1.5"
        case "word":
            np.save(notes / "0_exp.npy", np.array("happy"))
            return r"0_exp\.npy is not one number"
        case "several":
            np.save(notes / "0_exp.npy", np.array([1, 2]))
            return r"0_exp\.npy is not one number in NumPy's format \(2 values\)"
        case "garbage":
            (notes / "0_exp.npy").write_bytes(b"garbage")
            return r"0_exp\.npy is not one number"
        case "pickle":
            np.save(notes / "0_exp.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
            return r"0_exp\.npy is not one number"
        case "bare pickle":
            (notes / "0_exp.npy").write_bytes(pickle.dumps(Bomb()))
            return r"0_exp\.npy is not one number"
        case "range":
            np.save(notes / "0_val.npy", np.array("1.7"))
            return r"0_val\.npy holds 1.7. Expected valence and arousal in"
        case "no annotation":
            (notes / "0_aro.npy").unlink()
            return r"without all of their annotations: train_set/images/0\.jpg"
        case "no picture":
            (folder / "train_set" / "images" / "0.jpg").unlink()
            return "annotations without a picture: 0"
    raise AssertionError(case)


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "case",
    [
        *("label", "fraction", "word", "several", "garbage", "pickle", "bare pickle", "range"),
        *("no annotation", "no picture"),
    ],
)
def test_arrays_that_are_wrong(case: str, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, train_per_class=1, validation_per_class=1)
    complaint = edit_arrays(case, tmp_path / "affect")
    with pytest.raises(CorpusError, match=complaint):
        corpus.load(tmp_path / "affect")


@pytest.mark.parametrize("value", [np.array("3"), np.array(["3"]), np.array(b"3"), np.array(3), np.array([3.0])])
def test_every_way_to_store_a_number(value: np.ndarray, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, train_per_class=1, validation_per_class=1)
    notes = tmp_path / "affect" / "train_set" / "annotations"
    np.save(notes / "0_exp.npy", value)
    np.save(notes / "0_val.npy", np.array("-2"))
    rows = {row["sample_id"]: row for row in corpus.load(tmp_path / "affect")["train"]}
    assert rows["train_set/images/0.jpg"]["label"] == 3
    assert np.isnan(rows["train_set/images/0.jpg"]["valence"])


def lists(folder: Path) -> Path:
    return folder / "Manually_Annotated_file_lists" / "training.csv"


def test_rows_without_expression_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="csv", train_per_class=1, validation_per_class=1)
    with caplog.at_level("INFO", logger="meco_hub"):
        corpus.load(tmp_path / "affect", num_classes=7)
    assert "training.csv: left out 1 × contempt, 1 × no face, 1 × none, 1 × uncertain." in caplog.text


def test_csv_without_header_and_repeated_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="csv")
    path = lists(tmp_path / "affect")
    header, *lines = path.read_text().splitlines()
    before = corpus.load(tmp_path / "affect")["train"][:]
    path.write_text("\n".join(lines) + "\n")
    assert corpus.load(tmp_path / "affect")["train"][:] == before
    path.write_text("\n".join([header, *lines, lines[-1]]) + "\n")
    with caplog.at_level("INFO", logger="meco_hub"):
        assert corpus.load(tmp_path / "affect")["train"][:] == before
    assert "1 × repeated" in caplog.text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1/x.jpg,0,0,9,9,,11,0,0", "line 9: expression is '11'. Expected a number from 0 to 10"),
        ("1/x.jpg,0,0,9,9,,1.5,0,0", "line 9: expression is '1.5'. Expected a whole number"),
        ("1/x.jpg,0,0,9,9,,,0,0", "line 9: expression is ''"),
        ("{known},NULL,0,9,9,,1,0,0", "line 9: face_x is 'NULL'"),
        ("{known},0,0,9,9,,1,1.5,0", "line 9: valence is '1.5'"),
        ("{known},0,0,9,9,,1,-1.5,0", "line 9 holds -1.5. Expected valence"),
        ("{listed},0,0,9,9,,{other},0,0", "line 9: {listed} was listed before, in train as"),
        ("1/x.jpg,0,0,9,9,,1,0,0", r"lists pictures that are not there: 1/x\.jpg"),
        ("1/x.jpg,0,0,9,9,1,0,0", "line 9: 8 cells where the header has 9"),
    ],
)
def test_csv_rows_that_are_wrong(line: str, complaint: str, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="csv", train_per_class=1, validation_per_class=1)
    path = lists(tmp_path / "affect")
    header, *rows = path.read_text().splitlines()
    listed, *_, label, _, _ = rows[5].split(",")
    words = {"known": rows[-1].split(",")[0], "listed": listed, "other": (int(label) + 1) % 8}
    path.write_text("\n".join([header, *rows[3:10], line.format(**words)]) + "\n")  # the wrong line is the ninth
    with pytest.raises(CorpusError, match=complaint.format(**words)):
        corpus.load(tmp_path / "affect")


def test_one_picture_in_both_lists_or_in_two_places(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="csv")
    training = lists(tmp_path / "affect")
    validation = training.with_name("validation.csv")
    last = validation.read_text().splitlines()[-1]
    validation.write_text(validation.read_text() + training.read_text().splitlines()[-1] + "\n")
    with pytest.raises(CorpusError, match=r"was listed before, in train as .*, and here in validation"):
        corpus.load(tmp_path / "affect")
    validation.write_text("\n".join(validation.read_text().splitlines()[:-1]) + "\n")
    listed = last.split(",")[0]
    double = tmp_path / "affect" / "Automatically_Annotated_Images" / listed
    double.parent.mkdir(parents=True)
    double.write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"is found at .*Keep one of them"):
        corpus.load(tmp_path / "affect")


def test_derivative(tmp_path: Path, caplog: pytest.LogCaptureFixture, pixels) -> None:
    drawn = write_affectnet(tmp_path / "affect", seed=4, layout="derivative", relabelled=5)
    with caplog.at_level("INFO", logger="meco_hub"):
        splits = corpus.load(tmp_path / "affect")
    assert list(splits) == ["all"]
    rows = splits["all"]
    assert rows["sample_id"][:] == [face.sample_id for face in drawn]  # the csv's order
    assert [EIGHT[label] for label in rows["label"]] == [face.label for face in drawn]
    assert "folder and csv disagree on 5 of 32 pictures (the csv was believed)" in caplog.text
    assert "do not compare with any on AffectNet's own validation set" in caplog.text
    assert "pseudo-labelled" in rows.info.description
    assert pixels(rows[0]["image"]).shape == (96, 96, 3)
    from_folder = corpus.load(tmp_path / "affect", labels_from="folder")["all"]
    differing = [a != b for a, b in zip(rows["label"], from_folder["label"], strict=True)]
    assert differing == [True] * 5 + [False] * 27


def test_derivative_cut(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="derivative", train_per_class=5)
    eight = corpus.load(tmp_path / "affect", derivative_split="published")
    seven = corpus.load(tmp_path / "affect", derivative_split="published", num_classes=7)
    assert {name: len(split) for name, split in eight.items()} == {"train": 32, "test": 8}
    assert {name: len(split) for name, split in seven.items()} == {"train": 28, "test": 7}
    assert set(Counter(eight["test"]["label"]).values()) == {1}
    without = {i for i in eight["test"]["sample_id"] if not i.startswith("contempt/")}
    assert without != set(seven["test"]["sample_id"])  # two cuts, not one with a class removed
    assert "seed 52, 7 classes" in seven["train"].info.description
    again = corpus.load(tmp_path / "affect", derivative_split="published")
    assert again["test"]["sample_id"][:] == eight["test"]["sample_id"][:]


COUNTS = {  # class: (train, test) of the seven and of the eight classes, as the notebooks of arXiv:2510.13493 printed them
    "anger": ((2886, 722), (2886, 722)),
    "contempt": (None, (2595, 649)),
    "disgust": ((2777, 695), (2778, 694)),
    "fear": ((2434, 609), (2434, 609)),
    "happy": ((3469, 867), (3469, 867)),
    "neutral": ((2289, 572), (2289, 572)),
    "sad": ((2396, 599), (2396, 599)),
    "surprise": ((3693, 923), (3693, 923)),
}


@pytest.mark.parametrize("classes", [7, 8])
def test_the_published_cut_has_the_published_counts(classes: int) -> None:
    published = {name: pair[classes - 7] for name, pair in COUNTS.items() if pair[classes - 7]}
    labels = [name for name, counts in published.items() for _ in range(sum(counts or ()))]
    train, test = _published_cut(labels, "labels.csv")
    assert (len(train), len(test)) == {7: (19944, 4987), 8: (22540, 5635)}[classes]
    counted = [Counter(labels[row] for row in side) for side in (train, test)]
    assert {name: (counted[0][name], counted[1][name]) for name in published} == published


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"derivative_split": "official"}, "derivative_split is 'official'"),
        ({"labels_from": "path"}, "labels_from is 'path'"),
        ({"derivative_split": "published", "labels_from": "folder"}, "stratified by the csv's labels"),
    ],
)
def test_derivative_options(options: dict, complaint: str, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="derivative", train_per_class=1)
    with pytest.raises(ConfigurationError, match=complaint):
        corpus.load(tmp_path / "affect", **options)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("99,anger/gone.jpg,anger,0.8", r"not there: anger/gone\.jpg"),
        ("99,anger/x.jpg,confused,0.8", r"line 10: There is no expression named 'confused'"),
        ("99,confused/x.jpg,anger,0.8", r"line 10, folder of 'confused/x\.jpg': There is no expression"),
        ("{first}", r"line 10: .* is listed twice"),
        ("99,x.jpg", r"line 10: 2 cells where the header has 4"),
    ],
)
def test_derivative_rows_that_are_wrong(line: str, complaint: str, tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="derivative", train_per_class=1)
    path = tmp_path / "affect" / "labels.csv"
    path.write_text(path.read_text() + line.format(first=path.read_text().splitlines()[1]) + "\n")
    with pytest.raises(CorpusError, match=complaint):
        corpus.load(tmp_path / "affect")


def test_derivative_too_small_to_cut(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "affect", seed=4, layout="derivative", train_per_class=1)
    with pytest.raises(CorpusError, match="too few pictures for the published cut"):
        corpus.load(tmp_path / "affect", derivative_split="published")
