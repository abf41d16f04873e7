"""Parts of a long list: what is done, what waits, what is refused, and the list itself."""

import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.dataset
import pytest

from meco_hub.errors import ConfigurationError, InputError
from meco_hub.shards import ResumableRun, checkpoint_fingerprint, open_run

ENTRIES = [(f"file-{index}", index) for index in range(23)]
MODEL = {"name": "model", "fingerprint": "0123456789abcdef"}


def begin(folder: Path, entries: Any = ENTRIES, **changes: Any) -> ResumableRun:
    options = {"model": MODEL, "settings": {"faces": None}, "part_size": 5, **changes}
    return open_run(folder, iter(entries), **options)


def table(files: list[str]) -> pyarrow.Table:
    return pyarrow.table({"file": files})


def read(folder: Path) -> list[str]:
    return pyarrow.dataset.dataset(folder / "answers.parquet").to_table()["file"].to_pylist()


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_all_files_once(tmp_path: Path, processes: int) -> None:
    run = begin(tmp_path)
    assert run.parts == 5
    for process in range(processes):
        for part, files in run.pending(process, processes):
            assert files == [name for name, _ in ENTRIES[5 * part : 5 * part + 5]]
            run.write(part, table(files), files=len(files), errors=part)
    assert read(tmp_path) == [name for name, _ in ENTRIES]
    assert run.counts() == {"files": 23, "rows": 23, "errors": 10, "parts": 5}
    assert begin(tmp_path).waiting == ()


def test_going_on_does_what_is_missing_damaged_or_another_runs(tmp_path: Path) -> None:
    run = begin(tmp_path)
    for part, files in run.pending():
        run.write(part, table(files), files=len(files), errors=0)
    run.path(1).unlink()
    run.path(3).write_bytes(run.path(3).read_bytes()[:-20])
    other = begin(tmp_path / "other", ENTRIES[:10])
    other.write(0, table(["x"]), files=1, errors=0)
    other.path(0).replace(run.path(2))
    living, half = (run.path(4).with_name(f".{digit * 16}.partial.parquet") for digit in "ab")
    listing = tmp_path / f".{'c' * 16}.partial.jsonl"
    for file in (living, half, listing):
        file.write_bytes(b"half")
    for file in (half, listing):
        os.utime(file, (0, 0))

    again = begin(tmp_path)
    assert again.waiting == (1, 2, 3)
    assert [file.exists() for file in (living, half, listing)] == [True, False, False]
    for part, files in again.pending():
        again.write(part, table(files), files=len(files), errors=0)
    assert read(tmp_path) == [name for name, _ in ENTRIES]


def test_another_list_model_or_setting_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    refused = {
        r"23 files, and now there are 22": {"entries": ENTRIES[:-1]},
        r"or of other sizes": {"entries": [*ENTRIES[:-1], ("file-22", 99)]},
        r"model model \(0123456789ab\); this is model \(fedcba": {
            "model": {**MODEL, "fingerprint": "fedcba9876543210"}
        },
        r"settings \{'faces': None\}": {"settings": {"faces": "all"}},
        r"part_size 5; now it is 6": {"part_size": 6},
    }
    for message, changes in refused.items():
        with pytest.raises(ConfigurationError, match=message):
            begin(tmp_path, **changes)
    assert begin(tmp_path).files == 23
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "files.jsonl", "manifest.json"]


def test_a_part_counts_as_done_by_every_bit_of_it(tmp_path: Path) -> None:
    run = begin(tmp_path, part_size=23)
    run.write(0, table([name for name, _ in ENTRIES]), files=23, errors=0)
    whole = run.path(0).read_bytes()
    generator = random.Random(0)
    for _ in range(400):
        place, bit = generator.randrange(len(whole)), generator.randrange(8)
        run.path(0).write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        assert not run.is_done(0), (place, bit)
    run.path(0).write_bytes(whole)
    assert run.is_done(0)


@pytest.mark.parametrize("key", ["run", "files", "rows", "errors", "sha256", "check"])
def test_a_record_is_believed_only_as_it_was_written(key: str, tmp_path: Path) -> None:
    run = begin(tmp_path, part_size=23)
    run.write(0, table([name for name, _ in ENTRIES]), files=23, errors=2)
    file = tmp_path / "done" / "part-000000.json"
    whole = json.loads(file.read_text())
    counts = {"files": 23, "rows": 23, "errors": 2, "parts": 1}
    assert run.counts() == counts
    for changed in (
        {**whole, key: 22},
        {**whole, key: None},
        {name: one for name, one in whole.items() if name != key},
    ):
        file.write_text(json.dumps(changed))
        assert (run.counts(), run.is_done(0)) == (dict.fromkeys(counts, 0), False)
    file.write_text(json.dumps(whole))
    assert (run.counts(), run.is_done(0)) == (counts, True)


@pytest.mark.parametrize("kept", [0, 1, 12, 22])
def test_a_list_that_was_cut_short_is_written_again(tmp_path: Path, kept: int) -> None:
    begin(tmp_path)
    lines = (tmp_path / "files.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "files.jsonl").write_text("".join(lines[:kept]))
    again = begin(tmp_path)
    for part, files in again.pending():
        again.write(part, table(files), files=len(files), errors=0)
    assert read(tmp_path) == [name for name, _ in ENTRIES]
    assert again.counts()["files"] == 23


def test_a_list_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    run = begin(tmp_path)
    (tmp_path / "files.jsonl").write_text('["file-0", 0]\n')
    with pytest.raises(ConfigurationError, match="ends before part 0"):
        list(run.pending())


def test_a_second_one_waits_and_neither_dies(tmp_path: Path) -> None:
    """The first is still listing when others begin: the same run, and one with another list, which is refused."""
    listing, others = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> Iterator[tuple[str, int]]:
        listing.set()
        others.wait(30)
        yield from ENTRIES

    def go(name: str, entries: Any) -> None:
        try:
            run = begin(tmp_path, entries)
            for part, files in run.pending():
                run.write(part, table(files), files=len(files), errors=0)
            done.append(f"{name} {run.counts()['files']}")
        except ConfigurationError:
            done.append(f"{name} refused")

    first = threading.Thread(target=go, args=("first", slow()))
    first.start()
    listing.wait(30)
    rest = [
        threading.Thread(target=go, args=(name, entries))
        for name, entries in (("same", ENTRIES), ("same", ENTRIES), ("other", ENTRIES[:-1]))
    ]
    for thread in rest:
        thread.start()
    others.set()
    for thread in (first, *rest):
        thread.join(60)
    assert sorted(done) == ["first 23", "other refused", "same 23", "same 23"]
    assert read(tmp_path) == [name for name, _ in ENTRIES]


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a" / "answers.parquet").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="nobody knows"):
        begin(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="no manifest of answers"):
        begin(tmp_path / "b")
    with pytest.raises(InputError, match="no file"):
        begin(tmp_path / "c", [])
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "files.jsonl").write_text("somebody else's\n")
    with pytest.raises(ConfigurationError, match="exists already"):
        begin(tmp_path / "e")
    assert (tmp_path / "e" / "files.jsonl").read_text() == "somebody else's\n"
    with pytest.raises(ConfigurationError, match="part_size is 0"):
        begin(tmp_path / "d", part_size=0)


def test_names_that_are_no_utf_8_survive_the_list(tmp_path: Path) -> None:
    names = [(b"bad-\xff.png".decode("utf-8", "surrogateescape"), 1), ("two\nlines.png", 2), ("ä.png", 3)]
    run = begin(tmp_path, names)
    assert [file for _, files in run.pending() for file in files] == [name for name, _ in names]


def test_a_fingerprint_changes_with_the_weights_and_not_with_the_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"x": 1}))
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    first, second = (checkpoint_fingerprint(str(tmp_path / name)) for name in ("a", "b"))
    assert first["fingerprint"] == second["fingerprint"]
    (tmp_path / "b" / "model.safetensors").write_bytes(b"weightS")
    assert checkpoint_fingerprint(str(tmp_path / "b"))["fingerprint"] != first["fingerprint"]
    assert checkpoint_fingerprint("someone/model", "abc") == {"name": "someone/model", "fingerprint": "abc"}
