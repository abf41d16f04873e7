"""`meco predict FOLDER --output OUT`: parts, bad files, a kill at any moment, two processes, and what reads the result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.dataset
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from meco_hub import plugins
from meco_hub.cli import main
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.pipeline import recogniser
from meco_hub.prediction import predict_files, predict_folder
from tiny_networks import FACE

NAMES = ["surprise", "neutral", "anger", "happiness"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", seed=0)


def write_checkpoint(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    entry = plugins.architecture("meco_expressnet_moe")
    assert entry.image_processor is not None
    config = plugins.load_dotted(entry.config)(**FACE, id2label=dict(enumerate(NAMES)))
    plugins.load_dotted(entry.head)(config).save_pretrained(folder)
    plugins.load_dotted(entry.image_processor)(size={"height": 32, "width": 32}, do_find_face=False).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 pictures in two folders, of which two are bad."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(43):
        place = folder / ("a" if index % 3 else "b")
        place.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (36, 36, 3), np.uint8)).save(place / f"{index:02d}.png")
    (folder / "a" / "10.png").write_bytes(b"no picture")
    (folder / "b" / "30.png").write_bytes(b"")
    (folder / "b" / "notes.txt").write_text("no picture either, and nobody says it is")
    return folder


def read(out: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(out / "answers.parquet").to_table().to_pylist()


def run_meco(*words: Any, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launcher, "-m", "meco_hub", *map(str, words)],
        capture_output=True, text=True, env=environment(), timeout=500,
    )  # fmt: skip


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}


def test_a_folder_becomes_a_data_set(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    report = predict_folder([pictures], tmp_path, model=str(checkpoint), part_size=10, batch_size=4, progress=False)
    assert report == {"files": 43, "rows": 43, "errors": 2, "parts": 5, "answers": str(tmp_path / "answers.parquet")}
    rows = read(tmp_path)
    expected = predict_files([pictures], model=str(checkpoint))
    assert sorted(row["file"] for row in rows) == sorted(row["file"] for row in expected)
    by_file = {row["file"]: row for row in expected}
    for row in rows:
        other = by_file[row["file"]]
        if "error" in other:
            assert row["error"] == other["error"]
            assert row["label"] is None
            assert row["score_anger"] is None
            continue
        assert row["error"] is None
        assert (row["label"], row["face"]) == (other["answer"][0]["label"], None)
        for entry in other["answer"]:
            assert row[f"score_{entry['label']}"] == pytest.approx(entry["score"], abs=2e-5)
        assert row["score"] == max(row[f"score_{name}"] for name in NAMES)
        first = other["answer"][0]
        assert {key: row[key] for key in ("box", "face_side", "tilt", "warnings")} == {
            key: first[key] for key in ("box", "face_side", "tilt", "warnings")
        }
    loaded = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "answers.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]  # pyright: ignore
    assert list(loaded["file"]) == [row["file"] for row in rows]
    # nothing is left to do, and nothing is done
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers.parquet").iterdir()}
    assert predict_folder([pictures], tmp_path, model=str(checkpoint), part_size=10, progress=False) == report
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "answers.parquet").iterdir()} == before


def test_rows_of_parquet_shards_are_pictures(
    checkpoint: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted(pictures.glob("a/*.png"))
    held = [{"image": {"bytes": file.read_bytes(), "path": file.name}, "number": at} for at, file in enumerate(files)]
    held[4]["image"] = {"bytes": None, "path": "elsewhere.png"}
    shards = tmp_path / "shards"
    shards.mkdir()
    for name, rows in {"train-0.parquet": held[:9], "train-1.parquet": held[9:]}.items():
        parquet.write_table(pyarrow.Table.from_pylist(rows), shards / name, row_group_size=4)
    parquet.write_table(pyarrow.table({"text": ["no picture"]}), shards / "words.parquet")
    predict_folder([shards], tmp_path / "out", model=str(checkpoint), part_size=5, batch_size=3, progress=False)
    found = read(tmp_path / "out")
    assert [row["file"] for row in found] == [f"parquet://{at}::{shards}/train-0.parquet" for at in range(9)] + [
        f"parquet://{at}::{shards}/train-1.parquet" for at in range(len(files) - 9)
    ]
    assert "1 .parquet" in caplog.text
    plain = predict_files(files, model=str(checkpoint), batch_size=3)
    assert "Row 4 of" in found[4]["error"]
    assert "Embed the pictures in the file" in found[4]["error"]
    for at, (row, other) in enumerate(zip(found, plain, strict=True)):
        if at != 4:
            assert ("error" in other) == (row["error"] is not None)
            if row["error"] is None:
                assert row["score"] == pytest.approx(other["answer"][0]["score"], rel=1e-5)
    # the same rows, as `datasets` streams them
    streamed = datasets.load_dataset(
        "parquet", data_files=[str(shards / "train-1.parquet")], split="train", streaming=True
    )
    raw = (row["image"] for row in streamed.cast_column("image", datasets.Image(decode=False)))
    answers = recogniser(str(checkpoint))(raw, errors="return")
    for row, answer in zip(found[9:], answers, strict=True):
        assert isinstance(answer, dict) == (row["error"] is not None)
        assert isinstance(answer, dict) or answer[0]["score"] == pytest.approx(row["score"], rel=1e-5)


def test_another_model_or_list_is_refused(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(checkpoint), "--output", str(tmp_path / "out"), "--part_size", "20"]
    assert main(["predict", str(pictures / "b"), *words]) == 1  # one bad picture
    assert "15 files, 1 of them could not be used" in capsys.readouterr().out
    other = write_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(ConfigurationError, match=r"begun with the model checkpoint .* this is other"):
        predict_folder([pictures / "b"], tmp_path / "out", model=str(other), part_size=20)
    with pytest.raises(ConfigurationError, match="15 files, and now there are 43"):
        predict_folder([pictures], tmp_path / "out", model=str(checkpoint), part_size=20)
    assert main(["predict", str(pictures), *words, "--top_k", "1"]) == 1
    assert "--top_k" in capsys.readouterr().err


@pytest.mark.slow
def test_a_kill_loses_no_part_and_the_end_is_the_same(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["predict", pictures, "--model", checkpoint, "--part_size", 2, "--batch_size", 2]
    whole = run_meco(*words, "--output", tmp_path / "whole")
    assert whole.returncode == 1, whole.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "meco_hub", *map(str, words), "--output", str(killed)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 300
    while not list(killed.glob("answers.parquet/part-*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.stem for path in killed.glob("done/part-*")}
    parts = killed.glob("answers.parquet/part-*")
    survivors = {path.name: path.stat().st_mtime_ns for path in parts if path.stem in done}
    assert len(survivors) < 22
    again = run_meco(*words, "--output", killed)
    assert again.returncode == 1, again.stderr
    assert read(killed) == read(tmp_path / "whole")
    for name, stamp in survivors.items():
        assert (killed / "answers.parquet" / name).stat().st_mtime_ns == stamp
    assert sorted(path.name for path in killed.iterdir()) == [
        ".lock", "answers.parquet", "done", "files.jsonl", "manifest.json",
    ]  # fmt: skip


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import accelerate, pyarrow.parquet, torch, transformers, meco_hub.pipeline
from meco_hub import plugins
from meco_hub.prediction import predict_folder
torch.set_num_threads(1)
plugins.load_dotted(plugins.architecture("meco_expressnet_moe").head)
pictures, checkpoint, out = map(Path, sys.argv[1:])

def begin(folder):  # in a process of its own, which need not import anything
    child = os.fork()
    if child == 0:
        code = 1
        try:
            predict_folder([pictures], folder, model=str(checkpoint), part_size=2, batch_size=2, progress=False)
            code = 0
        finally:
            os._exit(code)
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

began = time.monotonic()
assert end(begin(out / "whole")) == 0
whole = time.monotonic() - began
moments = random.Random(0)
for number in range(20):
    child = begin(out / str(number))
    time.sleep(moments.uniform(0, whole))
    os.kill(child, signal.SIGKILL)
    end(child)
    assert end(begin(out / str(number))) == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="processes are forked, so that twenty of them take no time to begin"
)
def test_twenty_kills_at_random_moments_leave_each_row_once(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, pictures, checkpoint, tmp_path],
        capture_output=True, text=True, env=environment(), timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole = read(tmp_path / "whole")
    assert len({row["file"] for row in whole}) == len(whole) == 43
    for number in range(20):
        assert read(tmp_path / str(number)) == whole


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.mark.slow
def test_two_processes_answer_as_one(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["predict", pictures, "--model", checkpoint, "--part_size", 4, "--batch_size", 2]
    one = predict_folder([pictures], tmp_path / "one", model=str(checkpoint), part_size=4, batch_size=2, progress=False)
    done = run_meco(*words, "--output", tmp_path / "two", launcher=TWO)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("43 files, 2 of them") == 1  # one speaks for both
    assert read(tmp_path / "two") == read(tmp_path / "one")
    assert one["parts"] == 11


@pytest.mark.slow
def test_two_processes_evaluate_as_one(checkpoint: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "faces"
    write_image_folder(corpus, seed=1, people=5, takes=1, folds=3, size=40)
    next((corpus / "happiness").glob("*.jpg")).write_bytes(b"no picture")
    options: dict[str, Any] = {"conditions": ("noise/32", "occlusion/random"), "routing": True, "batch_size": 1}
    evaluate_checkpoint(
        checkpoint, "image_folder", corpus, tmp_path / "one", EvaluationSettings(progress=False, **options)
    )
    done = run_meco(
        "evaluate", checkpoint, "--dataset", "image_folder", "--data_dir", corpus, "--output_dir", tmp_path / "two",
        "--conditions", "noise/32", "occlusion/random", "--routing", "--batch_size", 1, "--json", launcher=TWO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "report.json").read_text(encoding="utf-8"))
    one = json.loads((tmp_path / "one" / "report.json").read_text(encoding="utf-8"))
    assert (one["data"]["samples"], one["metrics"]["n"]) == (15, 14)  # eight rows for one process, seven for the other
    for key in set(one) - {"created", "seconds"}:
        assert two[key] == one[key], key
    for name in ("predictions.csv", "predictions.parquet"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert json.loads(done.stdout)["metrics"] == one["metrics"]  # printed once
