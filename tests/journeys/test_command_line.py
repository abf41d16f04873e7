"""The command `meco`, in this process, on real files."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from transformers import pipeline

import full_disk
from meco_hub.cli import main
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import CheckpointError
from meco_hub.pipeline import recogniser
from meco_hub.prediction import predict_folder
from meco_hub.processing import picture_processor
from meco_hub.shards import ResumableRun
from meco_hub.weight_files import hash_weights


def _write_faces(folder: Path, count: int) -> list[Path]:
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    return paths


def test_list_shows_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "meco_expressnet_moe" in [entry["name"] for entry in found["architectures"]]
    assert {"fer2013", "raf_db", "affectnet", "image_folder"} <= {entry["name"] for entry in found["corpora"]}
    assert {f"meco_expressnet_moe/{name}" for name in ("fer2013", "raf_db", "affectnet7", "affectnet8")} <= {
        entry["name"] for entry in found["recipes"]
    }
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "image_folder" in printed
    assert re.search(r"meco-expressnet-lfw5  meco_expressnet_moe  \d+\.\d MB  neutral", printed)


def test_a_hundred_files_some_of_them_bad(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _write_faces(tmp_path / "in", 100)
    paths[3].write_bytes(b"")
    paths[40].write_bytes(paths[40].read_bytes()[:60])
    paths[77].write_text("no picture")
    code = main(["predict", str(tmp_path / "in"), "--model", str(tiny_checkpoint), "--json", "--top_k", "1"])
    rows = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert [index for index, row in enumerate(rows) if "error" in row] == [3, 40, 77]
    assert all(paths[index].name in rows[index]["error"] for index in (3, 40, 77))
    assert all(len(row["answer"]) == 1 for row in rows if "answer" in row)


def test_predict_prints_the_notice_and_annotates(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = _write_faces(tmp_path / "one", 1)
    (twin,) = _write_faces(tmp_path / "two", 1)
    arguments = ["predict", str(path), str(twin), "--model", str(tiny_checkpoint), "--annotate", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "Regulation (EU) 2024/1689" in printed.err
    assert "not felt emotions" in printed.err
    assert printed.out.startswith(f"{path}: ")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000-2.png", "000.png"]


def test_predict_names_no_label_below_the_score_that_was_asked_for(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = _write_faces(tmp_path, 1)
    words = ["predict", str(path), "--model", str(tiny_checkpoint), "--faces", "cropped", "--abstain_below"]
    assert main([*words, "0.999"]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: abstains, ")
    assert main([*words, "0"]) == 0
    assert "abstains" not in capsys.readouterr().out


def test_no_picture_is_written_over(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    (path,) = _write_faces(photos, 1)
    before = path.read_bytes()
    (tmp_path / "same").symlink_to(photos)
    for folder in (photos, tmp_path / "same"):
        for more in ([], ["--overwrite"]):
            words = ["predict", str(photos), "--model", str(tiny_checkpoint), "--annotate", str(folder), *more]
            assert main(words) == 1
            assert "is read, and would be written over" in capsys.readouterr().err
    assert path.read_bytes() == before
    words = ["predict", str(photos), "--model", str(tiny_checkpoint), "--annotate", str(out)]
    assert main(words) == 0
    (out / path.name).write_bytes(b"mine")
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert (out / path.name).read_bytes() == b"mine"
    assert main([*words, "--overwrite"]) == 0
    assert Image.open(out / path.name).size == (40, 40)


def test_no_table_or_plot_is_written_over_what_is_read(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    (path,) = _write_faces(photos, 1)
    os.link(path, tmp_path / "hard.png")
    (tmp_path / "same").symlink_to(photos)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(path, "a.png")
    before = {file: file.read_bytes() for file in (path, tmp_path / "photos.zip")}
    words = ["--model", str(tiny_checkpoint), "--overwrite"]
    for flag in ("--csv", "--plot"):
        for target in (
            path,
            tmp_path / "hard.png",
            tmp_path / "same" / path.name,
            photos / ".." / "photos" / path.name,
        ):
            assert main(["predict", str(photos), flag, str(target), *words]) == 1
            assert "is read, and would be written over" in capsys.readouterr().err
        assert main(["predict", str(tmp_path / "photos.zip"), flag, str(tmp_path / "photos.zip"), *words]) == 1
        assert "is read, and would be written over" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before
    table = photos / "table.csv"  # which is no picture, so not read
    table.write_text("mine")
    assert main(["predict", str(photos), "--csv", str(table), "--model", str(tiny_checkpoint)]) == 1
    assert table.read_text() == "mine"
    assert main(["predict", str(photos), "--csv", str(table), *words]) == 0
    assert table.read_text() != "mine"


def test_a_comparison_writes_no_table_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, seen, data = tmp_path / "comparison.yaml", tmp_path / "seen.yaml", tmp_path / "data"
    file.write_text(f"corpus: image_folder\nmodels: {{forest: {{baseline: random_forest, sees: '{seen}'}}}}\n")
    seen.write_text("model_type: meco_expressnet_moe\n")
    (path,) = _write_faces(data / "happiness", 1)
    before = {one: one.read_bytes() for one in (file, path, seen)}
    for target in before:
        words = ["compare", str(file), "--data_dir", str(data), "--output_dir", str(tmp_path / "out")]
        assert main([*words, "--csv", str(target), "--overwrite"]) == 1
        assert "is read, and would be written over" in capsys.readouterr().err
    assert {one: one.read_bytes() for one in before} == before


def _spoil(tiny_checkpoint: Path, folder: Path) -> Path:
    """Weights that are numbers all, by which no answer is one."""
    shutil.copytree(tiny_checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    weights[next(name for name in weights if name.endswith("running_var"))].fill_(-1.0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_what_is_no_number_is_no_answer(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt, faces = _spoil(tiny_checkpoint, tmp_path / "nan"), tmp_path / "faces"
    (path,) = _write_faces(faces / "happiness", 1)
    assert main(["predict", str(path), "--model", str(spoilt), "--json", "--faces", "cropped"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert "no numbers" in row["error"]
    with pytest.raises(CheckpointError, match="no numbers"):
        recogniser(spoilt)(str(path), faces="cropped", function_to_apply="none")
    report = predict_folder([path], tmp_path / "out", model=str(spoilt), faces="cropped", progress=False)
    assert report["errors"] == 1
    words = ["evaluate", str(spoilt), "--dataset", "image_folder", "--data_dir", str(faces), "--json"]
    assert main(words) == 1
    assert "no numbers" in json.loads(capsys.readouterr().out)["error"]


def test_weights_are_those_that_their_records_name(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = _write_faces(tmp_path / "faces", 1)
    spoilt = _spoil(tiny_checkpoint, tmp_path / "nan")
    digest = hash_weights(tiny_checkpoint)
    records = {
        "run.json": {"weights_sha256": digest},
        "report.json": {"checkpoint": {"weights_sha256": digest}},
    }
    for name, record in records.items():
        (spoilt / name).write_text(json.dumps(record))
        assert main(["predict", str(path), "--model", str(spoilt)]) == 1
        assert f"{name} is about weights with" in capsys.readouterr().err
        (spoilt / name).unlink()


def test_names_are_shown_and_not_obeyed(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_faces(tmp_path, 1)[0].rename(tmp_path / "x.jpg: happiness 0.999\n\x1b[31m\x9b1mforged\u202egnp.png")
    (tmp_path / "y\x1b[2J\n.png").write_bytes(b"no picture")
    for flags, rows in (([], 2), (["--csv", "-"], 9)):
        main(["predict", str(tmp_path), "--model", str(tiny_checkpoint), "--faces", "cropped", *flags])
        out = capsys.readouterr().out
        assert not set("\x1b\x9b\u202e") & set(out)
        lines = [line for line in out.splitlines() if "warning:" not in line]
        assert len(lines) == rows
    main(["predict", str(tmp_path), "--model", str(tiny_checkpoint), "--faces", "cropped", "--json"])
    out = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e") & set(out)
    assert {Path(row["file"]).name for row in json.loads(out)} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("place", "code"), [("/dev/full", 1), ("a closed pipe", 141)])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk to write to is a device of Linux")
def test_output_that_nobody_takes_ends_in_one_line_and_costs_nothing_else(
    place: str,
    code: int,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*words: str) -> list[str]:
        end, other = os.pipe()
        os.close(end)
        with os.fdopen(other, "w") if code == 141 else Path(place).open("w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert main(list(words)) == code
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("meco:")]

    assert len(run("list", "--json")) == (code == 1)
    model = ["--model", str(tiny_checkpoint), "--faces", "cropped"]
    _write_faces(tmp_path / "faces" / "anger", 3)
    assert len(run("predict", str(tmp_path / "faces"), *model, "--csv", str(tmp_path / "t.csv"))) == (code == 1)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as table:
        assert len({row["file"] for row in csv.DictReader(table)}) == 3
    data = ["--dataset", "image_folder", "--data_dir", str(tmp_path / "faces"), "--output_dir", str(tmp_path / "out")]
    assert len(run("evaluate", str(tiny_checkpoint), *data)) == (code == 1)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]["n"] == 3


def test_a_disk_that_fills_keeps_the_parts_that_were_finished(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_faces(tmp_path / "faces", 6)
    out, write = tmp_path / "out", ResumableRun.write_tables
    words = ["predict", str(tmp_path / "faces"), "--model", str(tiny_checkpoint), "--faces", "cropped"]
    words += ["--output", str(out), "--part_size", "2"]

    def filling(run: ResumableRun, part: int, *tables: Any, **options: Any) -> None:
        with full_disk.room(1_000 if part == 1 else 10_000_000):
            write(run, part, *tables, **options)

    assert main([*words[:-1], "0"]) == 1
    assert "part_size is 0; expected a whole number from 1" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(ResumableRun, "write_tables", filling)
        assert main(words) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco:")]
    assert "OSError" in line
    parts = out / "answers.parquet"
    assert [path.name for path in parts.iterdir()] == ["part-000000.parquet"]  # and nothing half-written
    kept = (parts / "part-000000.parquet").stat().st_mtime_ns
    assert main(words) == 0
    assert (parts / "part-000000.parquet").stat().st_mtime_ns == kept
    assert len({Path(row["file"]).name for row in parquet.read_table(parts).to_pylist()}) == 6


@pytest.mark.parametrize("command", ["demo", "new", "calibrate", "evaluate", "card"])
def test_a_disk_without_room_leaves_nothing_that_could_be_taken_for_whole(
    command: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, faces = tmp_path / "disk" / "out", tmp_path / "faces"
    place.parent.mkdir()
    write_image_folder(faces, seed=1, labels=("neutral", "happiness"), people=4, takes=2, size=32)
    data = ["--dataset", "image_folder", "--data_dir", str(faces)]
    words, room = {
        "demo": (["demo", "--space", str(place)], 140),  # enough for its program, and not for all it needs
        "new": (["new", "my-thing", "--kind", "face", "--output", str(place)], 1_000),
        "calibrate": (["calibrate", str(tiny_checkpoint), str(place), *data], 5_000),
        "evaluate": (["evaluate", str(tiny_checkpoint), *data, "--output_dir", str(place)], 4_500),
        "card": (["card", "meco-himoe-case", "--output", str(place)], 5_000),
    }[command]
    with full_disk.room(room):
        assert main(words) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco:")]
    assert "OSError: [Errno 27]" in line
    assert str(place) in line
    assert [path for path in place.parent.rglob("*") if path.is_file()] == []
    assert main(words) == 0


@pytest.mark.parametrize(
    ("stop", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_what_was_answered_before_an_interrupt_is_said(
    stop: int,
    code: int,
    said: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths, read = _write_faces(tmp_path, 6), picture_processor.read_image

    def interrupted(source: Any, *args: Any, **options: Any) -> Any:
        if source == str(paths[4]):
            if stop == signal.SIGINT:  # which a shell lets its background jobs ignore
                signal.default_int_handler(stop, None)
            signal.raise_signal(stop)
        return read(source, *args, **options)

    monkeypatch.setattr(picture_processor, "read_image", interrupted)
    words = ["predict", str(tmp_path), "--model", str(tiny_checkpoint), "--faces", "cropped", "--batch_size", "1"]
    assert main([*words, "--json"]) == code
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) >= 3
    assert printed.err.count(said) == 1
    assert main([*words, "--output", str(tmp_path / "out"), "--part_size", "2"]) == code
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(list((tmp_path / "out" / "done").iterdir())) == 2


@pytest.mark.processes
def test_a_crash_leaves_nothing_of_a_face_behind(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Answered in a process that dies in the middle; no folder that it may write to has anything more than before."""
    (path,) = _write_faces(tmp_path / "faces", 1)
    code = (
        "import os, sys, torch; from meco_hub.cli import main; from meco_hub.answers import Answers; "
        "Answers.entries = lambda *_, **__: os.kill(os.getpid(), 9); main(sys.argv[1:])"
    )
    own = ("home", "tmp", "here", "hub", "cache")
    for name in own:
        (tmp_path / name).mkdir()
    places = {"HOME": "home", "TMPDIR": "tmp", "HF_HOME": "hub", "XDG_CACHE_HOME": "cache", "MPLCONFIGDIR": "cache"}
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(path), "--model", str(tiny_checkpoint), "--faces", "cropped"],
        env=os.environ | {name: str(tmp_path / place) for name, place in places.items()},
        cwd=tmp_path / "here", capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert [file for name in own for file in (tmp_path / name).rglob("*") if file.is_file()] == []
    assert [file.name for file in (tmp_path / "faces").iterdir()] == [path.name]


def test_errors_are_one_line_and_exit_with_one(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tmp_path), "--model", str(tiny_checkpoint)]) == 1
    printed = capsys.readouterr().err
    assert "holds no picture" in printed
    assert "--model" in printed  # a recording's folder may have been meant
    (face,) = _write_faces(tmp_path, 1)
    assert main(["predict", str(face), "--model", str(tmp_path)]) == 1
    assert "is no checkpoint: it holds 000.png, expected config.json" in capsys.readouterr().err
    (tmp_path / "eda.csv").write_text("time,eda\n0,1\n1,2\n")
    assert main(["predict", str(tmp_path / "eda.csv"), "--model", str(tiny_checkpoint)]) == 1
    assert "(--model, see `meco list`)" in capsys.readouterr().out
    assert main(["predict", str(tmp_path), "--model", "meco-expresnet-lfw5"]) == 1
    printed = capsys.readouterr().err
    assert "UnknownNameError" in printed
    assert "Did you mean 'meco-expressnet-lfw5'" in printed
    assert "Traceback" not in printed
    assert main(["convert", "meco_expresnet_moe", "x.h5", str(tmp_path / "out")]) == 1
    assert "Did you mean 'meco_expressnet_moe'" in capsys.readouterr().err


def test_every_picture_of_a_folder_is_answered_or_named(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its format and its name; what is left out is said, and clutter is not followed."""
    folder = tmp_path / "in"
    (folder / "__MACOSX").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    picture = Image.new("RGB", (40, 40), (90, 100, 110))
    Image.init()  # Pillow may be built without some formats
    formats = {
        "a.avif": "AVIF",
        "b.jfif": "JPEG",
        "c.pgm": "PPM",
        "d.TGA": "TGA",
        "e.jp2": "JPEG2000",
        "日本.png": "PNG",
    }
    formats |= {"__MACOSX/x.jpg": "JPEG", ".hidden/y.jpg": "JPEG", "._z.jpg": "JPEG", "photo.bin": "PNG"}
    for name, kind in formats.items():
        if kind in Image.SAVE:
            picture.save(folder / name, kind)
    (folder / "notes.txt").write_text("no picture")
    expected = sorted(name for name in formats if "/" not in name and name[0] != "." and name != "photo.bin")
    expected = [name for name in expected if (folder / name).is_file()]
    main(["predict", str(folder), "--model", str(tiny_checkpoint), "--json", "--faces", "cropped"])
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).name for row in rows] == expected
    assert not [row for row in rows if "error" in row]
    assert "no pictures by their names: 1 .bin, 1 .txt" in caplog.text


@pytest.mark.processes
@pytest.mark.parametrize(
    ("encoding", "flag"), [("utf-8:strict", []), ("latin-1", ["--json"]), ("ascii", ["--csv", "-"])]
)
def test_a_name_that_the_terminal_cannot_encode_costs_no_answer(
    tiny_checkpoint: Path, tmp_path: Path, encoding: str, flag: list[str]
) -> None:
    names = [b"caf\xe9.png", "caf\u00e9-2.png".encode(), "\u65e5\u672c.png".encode()]
    for name in names:
        Image.new("RGB", (40, 40), (90, 100, 110)).save(tmp_path / os.fsdecode(name), "PNG")
    words = [sys.executable, "-m", "meco_hub", "predict", str(tmp_path), "--model", str(tiny_checkpoint), *flag]
    done = subprocess.run(
        [*words, "--faces", "cropped", "--top_k", "1"],
        capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding.partition(":")[0])
    assert len(json.loads(text) if "--json" in flag else text.splitlines()) == len(names) + ("--csv" in flag)


@pytest.mark.parametrize("flag", ["--annotate", "--output", "--batch_size"])
def test_what_cannot_be_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    (path,) = _write_faces(tmp_path, 1)
    value = "0" if flag == "--batch_size" else str(path)
    # no checkpoint is read before
    assert main(["predict", str(path), "--model", str(tmp_path / "none"), flag, value]) == 1
    printed = capsys.readouterr().err
    assert "ConfigurationError" in printed
    assert printed.count("\n") == 1


def test_wrong_usage_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict"])
    assert stop.value.code == 2
    assert "FILE_OR_FOLDER" in capsys.readouterr().err


def test_doctor_finds_this_environment_well(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["findings"]) == (0, [])
    assert report["plugins"]["meco_expressnet_moe"] == "meco-expressnet-moe"
    assert report["versions"]["torch"]
    if not torch.accelerator.is_available():
        assert report["device"] == "cpu"


def test_evaluate_matches_labels_by_name_and_writes_the_report(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_faces(tmp_path / "data" / "Happy", 3)
    _write_faces(tmp_path / "data" / "contempt", 2)
    common = ["evaluate", str(tiny_checkpoint), "--dataset", "image_folder", "--data_dir", str(tmp_path / "data")]
    assert main([*common, "--output_dir", str(tmp_path / "out")]) == 1
    assert "contempt (2 samples)" in capsys.readouterr().err
    assert main([*common, "--output_dir", str(tmp_path / "out"), "--exclude_unknown_labels"]) == 0
    assert "n = 3" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["n"] == 3
    assert report["data"]["excluded_labels"] == {"contempt": 2}
    assert report["per_class"]["happiness"]["support"] == 3
    assert main(["evaluate", str(tiny_checkpoint), "--dataset", "image_foldr", *common[4:], "--output_dir", "x"]) == 1
    assert "Did you mean 'image_folder'" in capsys.readouterr().err


def test_calibrating_afterwards_changes_scores_and_no_weight(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image_folder(tmp_path / "faces", seed=0, people=4)
    common = ["--dataset", "image_folder", "--data_dir", str(tmp_path / "faces")]
    assert main(["calibrate", str(tiny_checkpoint), str(tmp_path / "out"), *common]) == 0
    assert "24 samples" in capsys.readouterr().out
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    face = Image.open(next((tmp_path / "faces").rglob("*.jpg")))
    plain, calibrated = (
        pipeline("emotion-recognition", model=str(one), top_k=None)(face, faces="cropped", function_to_apply=how)
        for one, how in ((tiny_checkpoint, "none"), (tmp_path / "out", "softmax"))
    )
    temperature = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["calibration"][
        "temperature"
    ]
    logits = {one["label"]: one["score"] / temperature for one in plain}
    total = sum(np.exp(value) for value in logits.values())
    for one in calibrated:
        assert one["score"] == pytest.approx(np.exp(logits[one["label"]]) / total, abs=1e-5)
    assert main(["calibrate", str(tiny_checkpoint), str(tmp_path / "out"), *common]) == 1
    assert "not empty" in capsys.readouterr().err


def test_a_private_test_alone_is_evaluated_with_and_without_a_folder_for_the_report(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FER-2013 as one receives its private test: a zip of test/<emotion>/PrivateTest_<n>.png, and nothing else."""
    from zipfile import ZipFile

    with ZipFile(tmp_path / "private.zip", "w") as archive:
        for number, emotion in enumerate(["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"] * 2):
            stream = io.BytesIO()
            face = np.random.default_rng(number).integers(0, 256, (48, 48)).astype(np.uint8)
            Image.fromarray(face).save(stream, "PNG")
            archive.writestr(f"test/{emotion}/PrivateTest_{number:07d}.png", stream.getvalue())
    # as a training on the votes of FER+ leaves it behind; the zip has none
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    record = {"recipe": {"data": {"corpus": "fer2013", "options": {"votes": True}}}, "data": {}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    common = [
        "evaluate",
        str(folder),
        "--dataset",
        "fer2013",
        "--data_dir",
        str(tmp_path / "private.zip"),
        "--split",
        "test",
    ]
    flags = ["--exclude_unknown_labels"]
    before = set(tmp_path.iterdir())
    assert main([*common, *flags]) == 0
    printed = capsys.readouterr().out
    assert "war " in printed
    assert "Wrote" not in printed
    assert set(tmp_path.iterdir()) == before
    assert main([*common, *flags, "--output_dir", str(tmp_path / "out")]) == 0
    assert "Wrote" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["n"] > 0
    assert all(0 <= metrics[key] <= 1 for key in ("war", "uar", "ece"))
    assert main([*common, *flags, "--pictures"]) == 1
    assert "without --output_dir" in capsys.readouterr().err
