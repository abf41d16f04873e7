"""Files are whole or absent, and nothing that was read, or that is of others, is written over."""

import os
from pathlib import Path

import pytest

import full_disk
import tiny_networks
from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
from meco_hub.conversion import save_converted
from meco_hub.durable import files_together, refuse_filled, refuse_overwriting, whole_file, whole_folder
from meco_hub.errors import ConfigurationError


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
    with pytest.raises(ConfigurationError, match="is read"):
        save_converted(_Saved("model.safetensors"), _Saved("config.json"), tmp_path, source)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["old"] * 3
    save_converted(_Saved("other.safetensors"), _Saved("config.json"), tmp_path, source)
    assert (source.read_text(), notes.read_text(), (tmp_path / "config.json").read_text()) == ("old", "old", "new")


def test_files_of_one_work_stand_there_together_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def write(text: str, *, size: int = 10) -> None:
        with files_together(folder, last="report.json") as place:
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
    with files_together(folder, last="report.json") as place:  # of two at once, each has its own
        (place / "report.json").write_text("d")
        write("e")
    assert held() == {"report.json": "d", "runs/run_00.json": "e", "runs/notes.txt": "of others"}


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(text: str) -> None:
        with whole_folder(out) as place:
            (place / "a").write_text(text)

    with full_disk.room(1_000), pytest.raises(OSError, match=f"'{out}'"):
        write("a" * 10_000)
    assert list(tmp_path.iterdir()) == []

    def write_beside_another() -> None:
        with whole_folder(out) as place:
            write("first")
            (place / "a").write_text("second")

    with pytest.raises(ConfigurationError, match="not empty"):
        write_beside_another()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("a", "first")]


def test_weights_without_room_are_an_error_of_the_system(tmp_path: Path) -> None:
    """Whatever safetensors calls it: every command knows what to do with those."""
    model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(**tiny_networks.FACE))
    with full_disk.room(5_000), pytest.raises(OSError, match=r"\[Errno 27\]"):
        model.save_pretrained(tmp_path / "out")
    with full_disk.room(5_000), pytest.raises(OSError, match=f"'{tmp_path / 'new'}'"):
        save_converted(model, _Saved("config.json"), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
