"""SEE, read from its look-alike: labels in the file's order, both splits, segments, and what is missing."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meco_hub import plugins
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.see import corpus, parse_sequence_name
from meco_hub.corpora.synthetic.eyes import SEE, write_see
from meco_hub.corpora.synthetic.faces import Drawn
from meco_hub.errors import ConfigurationError, CorpusError
from meco_hub.recordings.eye_clips import EyeClip
from meco_hub.recordings.pictures import Pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Drawn]]:
    place = tmp_path_factory.mktemp("see") / "data"
    return place, write_see(place, seed=0, people=4, takes=1, size=24, frames=(18, 20))


@pytest.fixture
def copy(folder: tuple[Path, list[Drawn]], tmp_path: Path) -> Path:
    """A copy that a test may damage; its root."""
    shutil.copytree(folder[0], tmp_path / "data")
    return tmp_path / "data" / "SEE"


def change(root: Path, sequence: str, **entry: object) -> None:
    file = root / "emotion.json"
    content = json.loads(file.read_text())
    content["database"][sequence] = {**content["database"][sequence], **entry}
    file.write_text(json.dumps(content))


def test_rows_say_what_was_drawn(folder: tuple[Path, list[Drawn]]) -> None:
    place, drawn = folder
    splits = corpus.load(place)
    names = splits["train"].features["label"].names
    assert names == list(SEE)  # the file's order, which is no alphabet's
    found = {
        row["sample_id"]: (names[row["label"]], split, row["identity"], row["lighting"], row["end"] - row["start"])
        for split, rows in splits.items()
        for row in rows
    }
    assert found == {one.sample_id: (one.label, one.split, one.identity, one.lighting, one.frames) for one in drawn}
    row = splits["train"][0]
    assert row["token"] in row["sample_id"].split("_")
    assert row["sex"] in ("man", "woman")
    assert row["fold"] == -1
    assert "LEAKY" in splits["test"].info.description
    assert plugins.corpus("see") is corpus


def test_a_clip_is_read_when_it_is_looked_at(folder: tuple[Path, list[Drawn]]) -> None:
    rows = corpus.load(folder[0])["train"]
    row = rows[3]
    clip = corpus.read(row)
    assert isinstance(clip, EyeClip)
    assert (clip.name, len(clip), clip.nbytes) == (row["sample_id"], row["end"] - row["start"], 0)
    for stream, tree in ((clip.frames, "frame"), (clip.events, "event")):
        assert isinstance(stream, Pictures)
        [file] = (folder[0] / "SEE" / tree).glob(f"*/{row['sample_id']}/00005.jpg")
        np.testing.assert_array_equal(np.asarray(stream.read([5])[0].convert("L")), np.asarray(Image.open(file)))


def test_a_zip_is_the_same_corpus(folder: tuple[Path, list[Drawn]], tmp_path: Path) -> None:
    write_see(tmp_path / "see.zip", seed=0, people=4, takes=1, size=24, frames=(18, 20))
    packed, unpacked = corpus.load(tmp_path / "see.zip"), corpus.load(folder[0] / "SEE")
    for split in ("train", "test"):
        assert packed[split]["sample_id"][:] == unpacked[split]["sample_id"][:]
        assert fingerprint(packed[split]) == fingerprint(unpacked[split])
    one, other = (corpus.read(data["test"][1]).loaded() for data in (packed, unpacked))
    np.testing.assert_array_equal(one.frames.values, other.frames.values)
    np.testing.assert_array_equal(one.events.values, other.events.values)


def test_the_official_split_shares_people_and_the_other_does_not(folder: tuple[Path, list[Drawn]]) -> None:
    official = corpus.load(folder[0])
    report = leak_check(official["train"], official["test"], raises=False)
    assert [overlap.kind for overlap in report.overlaps] == ["identity"]
    assert report.overlaps[0].shared == ("001", "002", "003", "004")
    disjoint = corpus.load(folder[0], split="subject_disjoint")
    assert leak_check(disjoint["train"], disjoint["test"]).clean
    assert sum(map(len, disjoint.values())) == sum(map(len, official.values()))
    assert set(disjoint["test"]["label"]) == set(range(7))
    again = corpus.load(folder[0], split="subject_disjoint")
    assert again["test"]["sample_id"][:] == disjoint["test"]["sample_id"][:]
    assert "nobody is tested who was trained on" in disjoint["test"].info.description
    others = {
        seed: set(corpus.load(folder[0], split="subject_disjoint", split_seed=seed)["test"]["identity"])
        for seed in range(6)
    }
    assert len(set(map(frozenset, others.values()))) > 1


def test_every_picture_counts_when_all_are_compared(copy: Path) -> None:
    before = [fingerprint(corpus.load(copy, content=kind)["train"]) for kind in ("ends", "all")]
    row = corpus.load(copy)["train"][0]
    Image.new("L", (24, 24)).save(f"{row['frames_folder']}00002.jpg")
    after = [fingerprint(corpus.load(copy, content=kind)["train"]) for kind in ("ends", "all")]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_oddities_of_the_original_are_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = write_see(tmp_path, seed=1, people=2, takes=1, size=24, frames=(18, 18))
    for stream in ("frame", "event"):
        (tmp_path / "SEE" / stream / "neutral").rename(tmp_path / "SEE" / stream / "neutraL")
    file = tmp_path / "SEE" / "emotion.json"
    content = json.loads(file.read_text())
    for number, segment in ((998, [0, 0]), (999, [0, 20])):  # one that ends at 0, one without folders
        annotations = {"label": "fear", "segment": segment}
        name = f"{number}_001_man_24_Master_normal_fear_20_take099"
        content["database"][name] = {"subset": "training", "annotations": annotations}
    file.write_text(json.dumps(content))
    splits = corpus.load(tmp_path)
    assert sum(map(len, splits.values())) == len(drawn)
    neutral = [row for rows in splits.values() for row in rows if row["token"] == "neutral"]
    assert len(neutral) == 2
    assert all("/neutraL/" in row["frames_folder"] for row in neutral)
    assert len(corpus.read(neutral[0]).loaded()) == 18
    for text in (caplog.text, splits["train"].info.description):
        assert "1 entries end at 0" in text
        assert "1 entries have no folders" in text


def test_segments_cut_sequences(copy: Path) -> None:
    sequence = corpus.load(copy)["train"]["sample_id"][0]
    token = parse_sequence_name(sequence)["emotion"]
    change(copy, sequence, annotations={"label": token, "segment": [4, 17]})
    rows = corpus.load(copy)["train"]
    clip = corpus.read(rows[0])
    assert len(clip) == 13
    assert clip.frames.sources[0].endswith("00004.jpg")
    assert clip.frames.sources[-1].endswith("00016.jpg")


def test_missing_pictures_stop_the_reader_unless_told_otherwise(copy: Path) -> None:
    rows = corpus.load(copy)["train"]
    Path(f"{rows[0]['events_folder']}00007.jpg").unlink()
    with pytest.raises(CorpusError, match=r"lacks events: 00007\.jpg"):
        corpus.load(copy)
    skipped = corpus.load(copy, missing="skip")["train"]
    assert skipped[0]["left_out"] == [7]
    assert "1 missing pictures of 1 sequences are left out" in skipped.info.description
    clip = corpus.read(skipped[0])
    assert len(clip) == len(corpus.read(rows[0])) - 1
    assert not any(str(source).endswith("00007.jpg") for source in clip.frames.sources)  # the partner too


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"subset": "validation"}, "subset is 'validation'"),
        ({"annotations": {"label": "bored", "segment": [0, 18]}}, "label is 'bored'"),
        ({"annotations": {"label": "fear", "segment": [9, 3]}}, r"segment is \[9, 3\)"),
        ({"annotations": {"label": "fear"}}, "Expected"),
    ],
)
def test_entries_that_make_no_sense_are_named(copy: Path, entry: dict, said: str) -> None:
    sequence = corpus.load(copy)["train"]["sample_id"][0]
    change(copy, sequence, **entry)
    with pytest.raises(CorpusError, match=said) as caught:
        corpus.load(copy)
    assert sequence in str(caught.value)


def test_other_layouts_and_options_are_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="not laid out as SEE"):
        corpus.load(tmp_path / "empty")
    shutil.rmtree(copy / "event")
    with pytest.raises(CorpusError, match="not laid out as SEE"):
        corpus.load(copy)
    with pytest.raises(ConfigurationError, match="split is 'random'"):
        corpus.load(copy, split="random")
    (copy / "event").mkdir()
    (copy / "event" / "readme.txt").touch()
    (copy / "emotion.json").write_text("{")
    with pytest.raises(CorpusError, match="is not JSON"):
        corpus.load(copy)
    (copy / "emotion.json").write_text('{"labels": ["happy", "happiness"], "database": {}}')
    with pytest.raises(CorpusError, match="names an expression twice"):
        corpus.load(copy)


def test_names_of_sequences() -> None:
    said = parse_sequence_name("12_035_woman_22_undergraduate_overexposed_surprise_131_take002")
    assert said["volunteer"] == "035"
    assert said["lighting"] == "Overexposed"
    assert said["emotion"] == "surprise"
    assert said["take"] == "take002"
    for name in (
        "1_001_man_24_Master_normal_angry_45",
        "1_001_man_24_Master_dim_angry_45_take000",
        "a_b_c_d_e_f_g_h_i",
    ):
        with pytest.raises(CorpusError, match=name):
            parse_sequence_name(name)


def test_the_look_alike_is_the_same_for_the_same_seed(tmp_path: Path, folder: tuple[Path, list[Drawn]]) -> None:
    arguments = {"people": 2, "takes": 1, "size": 24, "frames": (18, 19)}
    drawn = write_see(tmp_path / "a.zip", seed=3, **arguments)
    write_see(tmp_path / "b.zip", seed=3, **arguments)
    write_see(tmp_path / "c.zip", seed=4, **arguments)
    contents = [(tmp_path / f"{name}.zip").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert Counter(one.label for one in drawn) == dict.fromkeys(SEE, 2)
    with pytest.raises(CorpusError, match="not empty"):
        write_see(folder[0], seed=0)
    with pytest.raises(ConfigurationError, match="people=0"):
        write_see(tmp_path / "d", seed=0, people=0)
