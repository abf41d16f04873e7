"""Files are whole or absent, and nothing that was read, or that is of others, is written over."""

import os
from pathlib import Path

import pytest

from meco_hub.conversion import save_converted
from meco_hub.durable import refuse_overwriting, whole_file
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
