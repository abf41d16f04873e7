"""Files are whole or absent, and nothing that was read, or that is of others, is written over."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import full_disk
import tiny_networks
from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
from meco_hub import durable
from meco_hub.conversion import save_converted
from meco_hub.durable import (
    files_together,
    refuse_filled,
    refuse_overwriting,
    refuse_unwritable,
    remove_abandoned,
    whole_file,
)
from meco_hub.errors import ConfigurationError, ConversionError


def test_what_is_read_is_never_written_over_by_whatever_name(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"photo")
    (tmp_path / "link.png").symlink_to(photo)
    os.link(photo, tmp_path / "hard.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "same").symlink_to(tmp_path)
    for name in ("photo.png", "link.png", "hard.png", "folder/../photo.png", "same/photo.png"):
        for overwrite in (False, True):
            with pytest.raises(ConfigurationError, match="is read"):
                refuse_overwriting([tmp_path / name], overwrite=overwrite, read=[tmp_path / "gone", photo])
            with pytest.raises(ConfigurationError, match="is read"):
                refuse_overwriting([tmp_path / name], overwrite=overwrite, read=[tmp_path / "same"])
    refuse_overwriting([photo], overwrite=True, read=[tmp_path / "folder"])


@pytest.mark.parametrize(
    ("named", "beside"), [("x.set", "x.fdt"), ("x.SET", "other.FDT"), ("s1_physio.tsv.gz", "s1_physio.json")]
)
def test_nor_is_what_is_read_with_it(tmp_path: Path, named: str, beside: str) -> None:
    """Samples or a description that a reader takes unasked; what merely has the same name may go."""
    for name in (named, beside, f"{named.split('.')[0]}.csv"):
        (tmp_path / name).write_text("old")
    with pytest.raises(ConfigurationError, match="is read"):
        refuse_overwriting([tmp_path / beside], overwrite=True, read=[tmp_path / named])
    refuse_overwriting([tmp_path / f"{named.split('.')[0]}.csv"], overwrite=True, read=[tmp_path / named])


def test_what_lies_there_goes_only_when_asked_for(tmp_path: Path) -> None:
    old, dangling, folder = tmp_path / "old.json", tmp_path / "dangling", tmp_path / "folder"
    old.write_text("old")
    dangling.symlink_to(tmp_path / "nowhere")
    folder.mkdir()
    for place in (old, dangling, folder):
        with pytest.raises(ConfigurationError, match="exists already"):
            refuse_overwriting([tmp_path / "new.json", place])
    refuse_overwriting([old, dangling], overwrite=True)
    with pytest.raises(ConfigurationError, match="exists already"):
        refuse_overwriting([folder], overwrite=True)
    with pytest.raises(ConfigurationError, match="written twice"):
        refuse_overwriting([tmp_path / "new.json", tmp_path / "new.json"])


def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in ("file/a.csv", "file/folder/a.csv"):
        with pytest.raises(ConfigurationError, match=r"cannot be written: .*file is no folder"):
            refuse_overwriting([tmp_path / place], overwrite=True)
    refuse_overwriting([tmp_path / "new" / "folder" / "a.csv"])
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(ConfigurationError, match="may not be written to"):
        refuse_overwriting([tmp_path / "new" / "folder" / "a.csv"])
    for folder in ("new/folder", "new"):
        with pytest.raises(ConfigurationError, match=f"{folder} cannot be written: .* may not be written to"):
            refuse_filled(tmp_path / folder)
    (tmp_path / "empty").mkdir()
    refuse_filled(tmp_path / "empty")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "empty")
    with pytest.raises(ConfigurationError, match="may not be written to"):
        refuse_filled(tmp_path / "empty")


def test_names_as_long_as_any(tmp_path: Path) -> None:
    """255 bytes are written, under whatever name it is done meanwhile; one more is refused before the work."""
    for name in ("n" * 255, "n." + "x" * 253, "ü" * 127, "n" * 250 + ".json"):
        place = tmp_path / name
        with whole_file(place) as half:
            half.touch()
        place.unlink()
        with files_together(place, "a") as folder:
            (folder / "a").touch()
        assert (place / "a").exists()
        for refuse in (refuse_unwritable, refuse_filled):
            with pytest.raises(ConfigurationError, match="expected 255 at most"):
                refuse(tmp_path / f"{name}üü" / "a")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "report.json"
    with whole_file(place) as half:
        half.write_text("first")
    with pytest.raises(FileNotFoundError), whole_file(place) as half:
        half.with_name("nowhere").joinpath("second").write_text("second")
    assert place.read_text() == "first"
    # a file that came between the check and the writing is no less another's
    with pytest.raises(ConfigurationError, match="exists already"), whole_file(place, overwrite=False) as half:
        half.write_text("second")
    assert place.read_text() == "first"
    with whole_file(place) as half:
        half.write_text("second")
    assert place.read_text() == "second"
    with whole_file(tmp_path / "deep" / "new.json", overwrite=False) as half:
        half.write_text("new")
    assert sorted(path.name for path in place.parent.iterdir()) == ["new.json", "report.json"]


class _Saved:
    """What a model or a processor is to a conversion: something that writes files."""

    def __init__(self, name: str) -> None:
        self.name = name

    def save_pretrained(self, folder: Path) -> None:
        (folder / self.name).write_text("new")


def test_a_conversion_keeps_the_file_that_it_reads_and_those_of_others(tmp_path: Path) -> None:
    source, notes = tmp_path / "model.safetensors", tmp_path / "notes.txt"
    for file in (source, notes, tmp_path / "config.json"):
        file.write_text("old")
    for name, overwrite, problem in (("model", True, "is read"), ("other", False, "not empty")):
        with pytest.raises(ConfigurationError, match=problem):
            save_converted(_Saved(f"{name}.safetensors"), _Saved("config.json"), tmp_path, source, overwrite=overwrite)
        assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["old"] * 3
    save_converted(_Saved("other.safetensors"), _Saved("config.json"), tmp_path, source, overwrite=True)
    assert (source.read_text(), notes.read_text(), (tmp_path / "config.json").read_text()) == ("old", "old", "new")


def test_no_converted_model_holds_what_is_no_number(tmp_path: Path) -> None:
    """As where a number of the file is too large for the dtype of the model."""
    model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(**tiny_networks.FACE))
    model.classifier.bias.data[0] = float("inf")
    with pytest.raises(ConversionError, match=r"classifier\.bias holds NaN or infinity"):
        save_converted(model, _Saved("config.json"), tmp_path / "new", tmp_path / "source.pt")
    assert list(tmp_path.iterdir()) == []


def test_files_of_one_work_stand_there_together_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def write(text: str, *, size: int = 10) -> None:
        with files_together(folder, "report.json", lambda: None) as place:
            (place / "runs").mkdir()
            (place / "runs" / "run_00.json").write_text(text)
            (place / "report.json").write_text(text * size)

    def held() -> dict[str, str]:
        return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}

    write("a")
    (folder / "runs" / "notes.txt").write_text("of others")
    before = held()
    with full_disk.room(1_000), pytest.raises(OSError, match=f"'{folder}'"):
        write("b", size=10_000)
    assert held() == before
    with files_together(folder, "report.json", lambda: None) as place:  # of two at once, each has its own
        (place / "report.json").write_text("d")
        write("e")
    assert held() == {"report.json": "d", "runs/run_00.json": "e", "runs/notes.txt": "of others"}


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a file system of its own, as a volume of a container is."""
    folder = tmp_path / "volume"
    folder.mkdir()
    with suppress(OSError):
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0:
            yield folder
            subprocess.run(["umount", folder], check=True)
            return
    pytest.skip("nothing may be mounted here")


def _write_together(folder: Path) -> None:
    with files_together(folder, "config.json") as place:
        (place / "deep" / "er").mkdir(parents=True)
        for name in ("config.json", "deep/er/a.txt"):
            (place / name).write_text("new")


def _convert(folder: Path) -> None:
    save_converted(_Saved("model.safetensors"), _Saved("config.json"), folder, folder.parent / "source.pt")


@pytest.mark.parametrize("write", [_write_together, _convert])
def test_a_mount_point_is_written_to_as_any_folder(mounted: Path, write: Callable[[Path], None]) -> None:
    assert mounted.stat().st_dev != mounted.parent.stat().st_dev
    write(mounted)
    assert (mounted / "config.json").read_text() == "new"
    assert len(list(mounted.iterdir())) == 2
    with pytest.raises(ConfigurationError, match="not empty"):
        write(mounted)
    assert [path.name for path in mounted.parent.iterdir()] == ["volume"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out" / "b.csv").mkdir(parents=True)
    (tmp_path / "out" / "report.json").write_text("old")

    def write() -> None:
        with files_together(tmp_path / "out", "report.json", lambda: None) as place:
            for name in ("a.csv", "b.csv", "report.json"):
                (place / name).write_text("new")

    with pytest.raises(ConfigurationError, match=r"b\.csv exists already"):
        write()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.csv", "report.json"]
    assert (tmp_path / "out" / "report.json").read_text() == "old"


@pytest.mark.parametrize("moves", range(8))
def test_what_cannot_move_in_or_is_interrupted_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """After so many files got another name the next one cannot, or somebody presses Ctrl-C."""
    out, rename, link, left = tmp_path / "out", Path.rename, os.link, moves
    (out / "runs").mkdir(parents=True)
    for name in ("a.csv", "report.json", "runs/run_01.json", "notes.txt"):
        (out / name).write_text("old")

    def count(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0 and path.name[0] != ".":  # what was put aside comes back
            raise (KeyboardInterrupt, OSError(errno.EIO, "broken"))[moves % 2]

    def renamed(path: Path, target: Path) -> Path:
        count(path)
        return rename(path, target)

    def linked(path: Path, target: Path, **options: bool) -> None:
        count(path)
        link(path, target, **options)

    def held() -> dict[str, str]:
        return {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}

    def write() -> None:
        with files_together(out, "report.json", lambda: None, stale=["runs/run_*.json"]) as place:
            for name in ("a.csv", "deep/er/b.csv", "runs/run_00.json", "report.json"):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text("new")

    before = held()
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(os, "link", linked)
    if moves < 7:  # three go aside, four come
        with pytest.raises((KeyboardInterrupt, OSError)):
            write()
        assert held() == before
        assert sorted(path.name for path in out.iterdir()) == ["a.csv", "notes.txt", "report.json", "runs"]
    else:
        write()
        new = dict.fromkeys(("a.csv", "deep/er/b.csv", "runs/run_00.json", "report.json"), "new")
        assert held() == {**new, "notes.txt": "old"}


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_leaves_what_no_other_file_has_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """All but the file that says that the work is whole."""
    names, left = ["a.txt", "b.txt", "report.json"], iter(range(moved))
    for name in names:
        (tmp_path / name).write_text("old")
    move = durable._move

    def killed(file: Path, place: Path) -> None:
        if next(left, None) is None:
            os._exit(9)
        move(file, place)

    monkeypatch.setattr(durable, "_move", killed)
    child = os.fork()
    if not child:
        with files_together(tmp_path, "report.json", lambda: None) as place:
            for name in names:
                (place / name).write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    found = [(tmp_path / name).read_text() for name in names[:-1]]
    assert found == ["new"] * moved + ["old"] * (2 - moved)
    assert not (tmp_path / "report.json").exists()


def test_a_folder_in_it_may_be_a_mount_point_too(mounted: Path) -> None:
    out = mounted.parent
    with files_together(out, "report.json", lambda: None) as place:
        (place / "volume").mkdir()
        for name in ("volume/run.json", "report.json"):
            (place / name).write_text("new")
    assert [(mounted / "run.json").read_text(), (out / "report.json").read_text()] == ["new", "new"]
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "volume"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_no_file_takes_the_place_of_a_device(tmp_path: Path) -> None:
    """Root, who may, would leave a machine without its /dev/null."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)

    def together() -> None:
        with files_together(tmp_path, "pipe", lambda: None) as place:
            (place / "pipe").touch()

    def one() -> None:
        with whole_file(link) as place:
            place.touch()

    for write in (lambda: refuse_overwriting([pipe], overwrite=True), together, one):
        with pytest.raises(ConfigurationError, match="is a device or pipe"):
            write()
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_is_in_nobodys_way_and_goes(tmp_path: Path) -> None:
    with files_together(tmp_path, "a") as place:
        (place / "a").touch()
        refuse_filled(tmp_path)
        remove_abandoned(tmp_path, 3600)
        assert place.exists()
        place.rename(left := place.with_name(f".{16 * '0'}.partial"))
        place.mkdir()
        (place / "a").touch()
    remove_abandoned(tmp_path, -1)
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_of_many_at_once_one_finds_the_folder_empty(tmp_path: Path) -> None:
    """Between the look and the first file there is a moment, into which nobody else gets."""
    folder, start = tmp_path / "out", threading.Barrier(4)

    def look() -> None:
        refuse_overwriting([folder / "report.json"])
        time.sleep(0.05)

    def write(number: int) -> str:
        try:
            with files_together(folder, "report.json", look) as place:
                for name in (f"{number}.csv", "report.json"):
                    (place / name).write_text(str(number))
                start.wait(30)
        except ConfigurationError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(write, range(4)))
    (winner,) = [number for number, one in enumerate(said) if not one]
    assert all("exists already" in one for one in said if one)
    assert sorted(one.name for one in folder.iterdir()) == [f"{winner}.csv", "report.json"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"

    def write(text: str) -> None:
        with files_together(out, "a") as place:
            (place / "a").write_text(text)

    with full_disk.room(1_000), pytest.raises(OSError, match=f"'{out}'"):
        write("a" * 10_000)
    assert list(tmp_path.iterdir()) == []

    def write_beside_another() -> None:
        with files_together(out, "a") as place:
            write("first")
            (place / "a").write_text("second")

    with pytest.raises(ConfigurationError, match="not empty"):
        write_beside_another()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("a", "first")]


def test_weights_without_room_are_an_error_of_the_system(tmp_path: Path) -> None:
    """Whatever safetensors calls it: every command knows what to do with those."""
    model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(**tiny_networks.FACE))
    with full_disk.room(5_000), pytest.raises(OSError, match=r"\[Errno 27\]"):
        model.save_pretrained(tmp_path / "out")
    with full_disk.room(5_000), pytest.raises(OSError, match=f"'{tmp_path / 'new'}'"):
        save_converted(model, _Saved("config.json"), tmp_path / "new", tmp_path / "source.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
