"""What `meco synthetic` writes is marked, and the mark is found from wherever a corpus is read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from meco_hub import plugins
from meco_hub.cli import _WRITERS
from meco_hub.corpora import SYNTHETIC_NOTE
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.corpora.synthetic.marker import ARRAY, MARKER, is_synthetic
from meco_hub.corpora.synthetic.signals import write_case_npz, write_stress_predict
from meco_hub.plugins import load_dotted


@pytest.mark.parametrize("name", sorted(_WRITERS))
@pytest.mark.parametrize("ending", ["", ".zip"])
def test_every_look_alike_is_marked(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    if not ending:
        monkeypatch.setattr(Path, "write_bytes", lambda path, content: written.append(path.name))
    else:
        monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda archive, info, content: written.append(info.filename))
    write = load_dotted(_WRITERS[name])
    write(tmp_path / f"drawn{ending}", seed=0, **({"people": 1} if "people" in write.__annotations__ else {}))
    assert written.count(MARKER) == 1


def test_the_mark_is_found_from_above_from_below_and_in_archives(tmp_path: Path) -> None:
    write_stress_predict(tmp_path / "all" / "watch", seed=0, people=1, task_s=70, tasks=1)
    for place in ("all", "all/watch", "all/watch/Raw_data", "all/watch/Raw_data/S01", "all/watch/Raw_data/S01/EDA.csv"):
        assert is_synthetic(tmp_path / place), place
    write_image_folder(tmp_path / "faces.zip", seed=0, people=1, takes=1)
    assert is_synthetic(tmp_path / "faces.zip")
    assert is_synthetic(tmp_path)  # two levels down
    mixed = tmp_path / "faces" / "train" / "more" / "drawn"
    write_image_folder(mixed, seed=0, people=1, takes=1)
    assert is_synthetic(tmp_path / "faces")
    assert not is_synthetic(tmp_path / "faces.txt")


def test_an_npz_is_marked_inside(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "mine" / "case.npz", seed=0, people=1, films=1, folds=1)
    assert is_synthetic(tmp_path / "mine" / "case.npz")
    assert is_synthetic(tmp_path / "mine")
    with np.load(tmp_path / "mine" / "case.npz") as arrays:
        real = {name: arrays[name] for name in arrays if name != ARRAY}
    (tmp_path / "real").mkdir()
    np.savez(tmp_path / "real" / "case.npz", **real)
    assert not is_synthetic(tmp_path / "real" / "case.npz")
    corpus = plugins.corpus("case")
    assert SYNTHETIC_NOTE in corpus.load(tmp_path / "mine")["all"].info.description
    assert SYNTHETIC_NOTE not in corpus.load(tmp_path / "real")["all"].info.description
    assert corpus.declared_in(tmp_path / "mine").synthetic
    assert not corpus.declared_in(tmp_path / "real").synthetic
    assert corpus.declared_in(tmp_path / "mine").namespace != corpus.namespace
