"""The contract of a corpus: cheap to read, strict about options, in memory, off the network."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from look_alikes import write_fer2013_csv
from meco_hub.corpora import Corpus
from meco_hub.corpora.affectnet import corpus as affectnet
from meco_hub.corpora.fer2013 import corpus as fer2013
from meco_hub.corpora.image_folder import corpus as image_folder
from meco_hub.corpora.raf_db import corpus as raf_db
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import ConfigurationError, CorpusError, PluginError

CORPORA = (affectnet, fer2013, image_folder, raf_db)


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_says_whom_to_cite_and_what_is_allowed(corpus: Corpus) -> None:
    assert corpus.kind == "face"
    assert corpus.description
    assert corpus.layout
    assert corpus.citation
    assert corpus.licence
    assert hash(corpus) == hash(corpus)
    with pytest.raises(TypeError):
        corpus.options["more"] = "options are read-only"  # type: ignore[index]


@pytest.mark.parametrize(
    ("corpus", "names"),
    [
        (fer2013, "anger disgust fear happiness sadness surprise neutral"),
        (raf_db, "surprise fear disgust happiness sadness anger neutral"),
        (affectnet, "neutral happiness sadness surprise fear disgust anger contempt"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_official_orders(corpus: Corpus, names: str) -> None:
    assert corpus.labels is not None
    assert corpus.labels.names == tuple(names.split())


def test_unknown_option_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'num_class'. Did you mean 'num_classes'"):
        affectnet.load(tmp_path, num_class=7)


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_missing_and_empty_folders(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere does not exist. Expected"):
        corpus.load(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="Expected"):
        corpus.load(tmp_path)
    file = tmp_path / "notes.txt"
    file.write_text("no corpus")
    with pytest.raises(CorpusError, match=r"notes\.txt is a file that cannot be opened as a zip"):
        corpus.load(file)


def test_the_loaded_table_says_whom_to_cite(tmp_path: Path) -> None:
    write_fer2013_csv(tmp_path / "fer", seed=0, train_per_class=1)
    info = fer2013.load(tmp_path / "fer")["train"].info
    assert "35,887" in info.description
    assert "Goodfellow" in info.citation
    assert info.license == fer2013.licence


READERS = """
from meco_hub.corpora.image_folder import read


def without_identity(path):
    splits = read(path)
    return type(splits)({name: split.remove_columns("identity") for name, split in splits.items()})


def everything_twice(path):
    rows = read(path)["all"]
    return type(read(path))(train=rows, test=rows)
"""


@pytest.mark.parametrize(
    ("loader", "complaint"),
    [
        ("no.such.module:read", "cannot be imported"),
        ("meco_hub.corpora.fer2013:no_such_function", "cannot be imported"),
        ("clumsy_readers:without_identity", "without the columns identity"),
        ("clumsy_readers:everything_twice", "gives one sample_id twice"),
    ],
)
def test_a_readers_slip_is_named(loader: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clumsy_readers.py").write_text(READERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "clumsy_readers", raising=False)
    write_image_folder(tmp_path / "faces", seed=0, people=2, takes=1)
    with pytest.raises(PluginError, match=complaint):
        Corpus("mine", "face", None, "", "", loader).load(tmp_path / "faces")


def test_entry_points_are_cheap(run_python: Callable) -> None:
    code = """
import sys
from importlib.metadata import entry_points
found = {entry.name: entry.load() for entry in entry_points(group="meco_hub.corpora")}
for name in ("affectnet", "fer2013", "image_folder", "raf_db"):
    assert found[name].name == name
print([m for m in ("torch", "transformers", "datasets", "pandas", "pyarrow", "scipy", "sklearn") if m in sys.modules])
"""
    assert run_python(code).stdout.strip() == "[]"


def test_reading_splitting_and_checking_write_nothing_and_stay_off_the_network(
    run_python: Callable, tmp_path: Path
) -> None:
    code = f"""
import os, socket, tempfile
from pathlib import Path
home, scratch = Path({str(tmp_path)!r}) / "hf", Path({str(tmp_path)!r}) / "scratch"
scratch.mkdir()
tempfile.tempdir = str(scratch)
def refuse(*args, **kwargs):
    raise AssertionError("reached for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from meco_hub.corpora import affectnet, fer2013, image_folder, leaks, raf_db, splits
from meco_hub.corpora.synthetic import faces as synthetic
from meco_hub.corpora.file_tree import with_content_hashes
data = Path({str(tmp_path)!r}) / "data"
for name, write, corpus in (
    ("fer", synthetic.write_fer2013_folders, fer2013.corpus),
    ("raf", synthetic.write_raf_db, raf_db.corpus),
    ("affect", synthetic.write_affectnet, affectnet.corpus),
    ("faces", synthetic.write_image_folder, image_folder.corpus),
):
    write(data / name, seed=0)
    loaded = corpus.load(data / name)
rows = loaded["all"].shuffle(seed=1)
hashed = with_content_hashes(rows)
train, test = splits.by_identity(hashed, 0.3, seed=0)
leaks.leak_check(train, test)
leaks.fingerprint(splits.assign_folds(test, 2, seed=0))
left = [str(p) for folder in (home, scratch, Path("~/.cache/huggingface").expanduser()) for p in folder.rglob("*")]
print(len(train) + len(test), left)
"""
    home = tmp_path / "home"
    home.mkdir()
    done = run_python(f"import os; os.environ['HOME'] = {str(home)!r}\n{code}")
    assert done.stdout.strip() == "72 []"
