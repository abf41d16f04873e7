"""Small packed files of events that stand for very many."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub import reading
from meco_hub.errors import RecordingError
from meco_hub.recordings.events import read_events

COUNT = 200_000


@pytest.mark.parametrize("kind", ["text", "aedat4"])
def test_more_events_than_such_a_file_can_hold(
    kind: str, makers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "text":
        path = tmp_path / "events.txt"
        path.write_bytes(gzip.compress(b"0.100000 1 1 1\n" * COUNT))
    else:
        pytest.importorskip("zstandard")
        path = tmp_path / "events.aedat4"
        events = makers.events(COUNT)
        makers.aedat4(path, type(events)(*(np.full_like(column, column[0]) for column in events)), compression=3)
    assert path.stat().st_size < 2**16
    assert len(read_events(path)) == COUNT
    monkeypatch.setattr(reading, "PLENTY", 2**20)
    with pytest.raises(RecordingError, match="more than a hundred times"):
        read_events(path)
