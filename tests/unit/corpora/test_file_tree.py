"""file_tree: zips that must not be trusted, and files that cannot be read, each named."""

import zipfile
from pathlib import Path

import pytest

from meco_hub.corpora.file_tree import open_tree, read_cell
from meco_hub.corpora.image_folder import corpus
from meco_hub.corpora.leaks import fingerprint
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import CorpusError


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return path


@pytest.mark.parametrize(
    "name", ["../neutral/a.jpg", "neutral/../../a.jpg", "/neutral/a.jpg", "C:/a.jpg", "neutral\\a.jpg", "a::b.jpg"]
)
def test_unsafe_names(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "faces.zip", "neutral/fine.jpg", name)
    with pytest.raises(CorpusError, match="unsafe member names") as caught:
        corpus.load(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)


def test_encrypted(tmp_path: Path) -> None:
    path = archive(tmp_path / "faces.zip", "neutral/a.jpg")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    path.write_bytes(raw)
    with pytest.raises(CorpusError, match=r"is encrypted: neutral/a\.jpg"):
        corpus.load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "faces.zip", "neutral/a.jpg", "neutral/a.jpg")
    with pytest.raises(CorpusError, match=r"holds members twice: neutral/a\.jpg"):
        corpus.load(path)


def test_truncated_zip(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "whole.zip", seed=0, people=1)
    path = tmp_path / "half.zip"
    path.write_bytes((tmp_path / "whole.zip").read_bytes()[:2000])
    with pytest.raises(CorpusError, match=r"half\.zip is a file that cannot be opened as a zip"):
        corpus.load(path)


def test_a_broken_member_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    write_image_folder(path, seed=0, people=2)
    rows = corpus.load(path)["all"]
    victim = "happiness/Synthetic_Person_001_0003.jpg"
    raw = bytearray(path.read_bytes())
    start = raw.index(victim.encode()) + len(victim) + 200
    raw[start : start + 20] = bytes(20)
    path.write_bytes(raw)
    with pytest.raises(CorpusError, match=rf"{victim}::.*faces\.zip cannot be read \(Bad CRC-32"):
        fingerprint(rows)


def test_clutter_is_not_listed(tmp_path: Path) -> None:
    path = archive(tmp_path / "faces.zip", "a/b.jpg", "__MACOSX/a/._b.jpg", "a/.DS_Store", "a/Thumbs.db", ".git/x.jpg")
    tree = open_tree(path)
    assert tree.names == ["a/b.jpg"]


def test_links_to_a_folder_above_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").write_bytes(b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.jpg").write_bytes(b"x")
    (tmp_path / "linked").symlink_to(elsewhere, target_is_directory=True)
    tree = open_tree(tmp_path)
    assert tree.names == ["a/b.jpg", "linked/c.jpg"]


def test_searching(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "x.zip", "deep/down/train/happy/1.jpg", "train/happy/1.jpg", "retrain/x.jpg", "deep/t.csv"
    )
    tree = open_tree(path)
    assert tree.folders_above("train") == ["", "deep/down/"]
    assert tree.folders_with("t.csv") == ["deep/"]
    inner = tree.below("deep/")
    assert inner.names == ["down/train/happy/1.jpg", "t.csv"]
    assert inner.read("t.csv") == b"content"
    assert inner.where("t.csv") == f"{path}!/deep/t.csv"
    assert inner.image_path("down/train/happy/1.jpg") == f"zip://deep/down/train/happy/1.jpg::{path}"


def test_cells_that_cannot_be_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", "a.jpg")
    assert read_cell({"bytes": b"here", "path": "ignored"}) == b"here"
    assert read_cell({"bytes": None, "path": f"zip://a.jpg::{path}"}) == b"content"
    with pytest.raises(CorpusError, match="neither bytes nor a path"):
        read_cell({"bytes": None, "path": None})
    with pytest.raises(CorpusError, match=r"gone\.jpg cannot be read"):
        read_cell({"bytes": None, "path": str(tmp_path / "gone.jpg")})
    with pytest.raises(CorpusError, match=r"gone\.jpg::.*cannot be read"):
        read_cell({"bytes": None, "path": f"zip://gone.jpg::{path}"})
