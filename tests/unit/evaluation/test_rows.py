"""rows: recordings by number, read once where there is room, and the faults of what is decoded on demand."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from meco_hub.corpora import Corpus
from meco_hub.errors import InputError, RecordingError
from meco_hub.evaluation.predict import RecordingRows
from meco_hub.recordings.eye_clips import EyeClip
from meco_hub.recordings.pictures import as_pictures
from meco_hub.recordings.signal_recording import SignalRecording, Stream

READ: list[str] = []


def read_signals(row: dict[str, str]) -> SignalRecording:
    READ.append(row["sample_id"])
    if row["sample_id"] == "broken":
        raise RecordingError("broken: no samples")
    return SignalRecording({"eda": Stream.regular(np.zeros(1000, np.float32), 4.0)}, name=row["sample_id"])


def read_clip(row: dict[str, str]) -> EyeClip:
    return EyeClip(frames=as_pictures([row["path"]] * 2, "frames"), name=row["sample_id"])


def corpus(reader: str, kind: str = "signals") -> Corpus:
    return Corpus(
        name="some",
        kind=kind,
        labels=None,
        description="",
        layout="",
        loader="nowhere:x",
        reader=f"{__name__}:{reader}",
    )


def signals(*names: str) -> RecordingRows:
    READ.clear()
    return RecordingRows(corpus("read_signals"), datasets.Dataset.from_dict({"sample_id": list(names)}))


def test_what_fits_is_read_once() -> None:
    rows = signals("a", "b")
    assert rows.survey(10**6, progress=False) == [0, 1]
    assert [rows[0].name, rows[1].name, rows[1].name] == ["a", "b", "b"]
    assert READ == ["a", "b"]


def test_what_does_not_fit_is_read_anew_and_none_is_kept() -> None:
    rows = signals("a", "b", "c")
    one = rows[0].nbytes
    READ.clear()
    assert rows.survey(2 * one, progress=False) == [0, 1, 2]
    assert [rows[0].name, rows[2].name] == ["a", "c"]
    assert READ == ["a", "b", "c", "a", "c"]


def test_rows_that_cannot_be_read_are_named_and_keep_their_numbers() -> None:
    rows = signals("a", "broken", "c")
    assert rows.survey(10**6, progress=False) == [0, 2]
    assert rows.unreadable == {"broken": "broken: no samples"}
    assert rows[2].name == "c"
    with pytest.raises(InputError, match="no samples"):
        _ = rows[1]
    with pytest.raises(InputError, match="None of 1 samples can be read; the last: broken"):
        signals("broken").survey(0, progress=False)


def test_a_survey_decodes_what_is_decoded_on_demand(tmp_path: Path) -> None:
    Image.new("L", (16, 12), 7).save(tmp_path / "fine.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    table = {"sample_id": ["fine", "bad"], "path": [str(tmp_path / "fine.png"), str(tmp_path / "bad.png")]}
    rows = RecordingRows(corpus("read_clip", "eye"), datasets.Dataset.from_dict(table))
    assert rows[1].name == "bad"  # nothing is decoded yet
    assert rows.survey(10**6, progress=False) == [0]
    assert "bad.png" in rows.unreadable["bad"]
    (tmp_path / "fine.png").unlink()
    assert rows[0].frames.read([1])[0].getpixel((0, 0)) == 7
