"""tables: typed columns in memory, and cache keys that follow the content."""

import datasets
import pytest

from meco_hub.corpora.tables import FaceRow, build_splits, with_column
from meco_hub.errors import CorpusError


def build(content: bytes = b"1", path: str | None = None) -> datasets.Dataset:
    rows = [
        FaceRow("a", 1, path=path, content=content, extras={"valence": 0.5}),
        FaceRow("b", 0, extras={"valence": -1}),
    ]
    extras = {"valence": datasets.Value("float32")}
    return build_splits({"train": rows, "test": []}, ["x", "y"], extras=extras, note="a note", address="here")["train"]


def test_columns() -> None:
    data = build(path="somewhere")
    assert data[0] == {
        "image": {"bytes": b"1", "path": "somewhere"},
        "label": 1,
        "identity": "",
        "fold": -1,
        "sample_id": "a",
        "valence": 0.5,
    }
    assert data[1]["image"] == {"bytes": None, "path": None}
    assert data.features["label"].names == ["x", "y"]
    assert data.features["valence"].dtype == "float32"
    assert data.info.description == "a note"
    assert data.split == "train"
    assert data.cache_files == []


def test_empty_splits_are_left_out_and_none_at_all_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    build()
    assert "here: no rows for the split 'test'" in caplog.text
    with pytest.raises(CorpusError, match="here holds no picture that can be used"):
        build_splits({"train": [], "test": []}, ["x"], address="here")


def test_the_cache_key_follows_the_content() -> None:
    assert build()._fingerprint == build()._fingerprint
    assert build()._fingerprint != build(b"2")._fingerprint
    assert build()._fingerprint != build(path="elsewhere")._fingerprint


def test_a_column_added_and_replaced() -> None:
    data = build().select([1, 0])
    added = with_column(data, "fold", [7, 8], datasets.Value("int32"))
    assert added["fold"][:] == [7, 8]
    assert added["sample_id"][:] == ["b", "a"]
    assert (added.split, added.info.description) == ("train", "a note")
    parts = [with_column(build().select([row]), "fold", [0], datasets.Value("int32")) for row in (0, 1)]
    assert parts[0]._fingerprint != parts[1]._fingerprint  # slices of one table are two data sets
    assert data.features["fold"].dtype == "int32"
