"""Files that a reader once failed on otherwise than by an error of ours: the fuzzer's finds that no test writes by itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from films import write_film
from meco_hub import apart
from meco_hub.errors import RecordingError
from meco_hub.recordings.pictures import read_video
from meco_hub.recordings.signals import read_signals
from meco_hub.recordings.video import Video

FOLDER = Path(__file__).parent / "past_failures"


@pytest.mark.processes
@pytest.mark.parametrize(("name", "said"), [("hdf5_crash", r"crashed \(code"), ("hdf5_hang", "did not answer for")])
def test_the_hdf5_library_does_not_take_us_with_it(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAT files of version 7.3: one brought the process down, one kept it for ever. A library without the fault may refuse them."""
    pytest.importorskip("h5py")
    monkeypatch.setattr(apart, "PATIENCE_S", 15.0)
    with pytest.raises(RecordingError, match=rf"{name}\.mat: .*({said}|cannot be read)"):
        read_signals(FOLDER / f"{name}.mat")


def test_statistics_of_a_parquet_column_that_contradict_themselves() -> None:
    """Arrow 26 ends the process by an abort when it is asked what the footer says of that column; reading it is an error."""
    pytest.importorskip("pyarrow")
    with pytest.raises(RecordingError, match=r"parquet_abort\.parquet cannot be read as a table"):
        read_signals(FOLDER / "parquet_abort.parquet")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("read", [read_video, lambda name: list(Video(name))], ids=["OpenCV", "PyAV"])
def test_a_video_whose_name_is_no_utf8(read: Callable[[str], Any], tmp_path: Path) -> None:
    """OpenCV went down with a segmentation fault, and all of the process with it."""
    pytest.importorskip("cv2")
    pytest.importorskip("av")
    place = tmp_path / "film\udcff.avi"
    place.write_bytes(b"RIFF no film")
    with pytest.raises(RecordingError, match="film"):
        read(str(place))


def test_the_name_of_a_video_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would join what a file called `concat:a|b` names, and what a list inside a file does."""
    pytest.importorskip("cv2")
    whole = write_film(tmp_path / "secret.mp4", [np.full((32, 32, 3), 99, np.uint8)] * 4)
    monkeypatch.chdir(tmp_path)
    assert len(read_video("secret.mp4")) == 4
    Path(f"concat:{whole.name}").write_bytes(b"RIFF no film")
    Path("list.mp4").write_text(f"ffconcat version 1.0\nfile {whole.name}\n")
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1")
    for name in (f"concat:{whole.name}", "list.mp4"):
        with pytest.raises(RecordingError, match="is not a video"):
            read_video(name)
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "threads;1"


_PEAK = """
import resource, sys
import pyarrow.parquet
from meco_hub.recordings.picture_tables import read_picture_row
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_picture_row(f"parquet://0::{sys.argv[1]}")
except Exception as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_a_page_of_a_parquet_file_that_says_it_is_huge_fills_nothing(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "shard.parquet"
    parquet.write_table(pyarrow.table({"image": [bytes(200)]}), file, compression="none", use_dictionary=False)
    content = file.read_bytes()
    begin = content.index(b"\x15\x00\x15")  # of the page: its kind, then its two sizes, as numbers of variable length
    sizes = content[begin + 3 : begin + 8]
    assert sizes == bytes((sizes[0], sizes[1], 0x15, sizes[0], sizes[1]))
    file.write_bytes(content[: begin + 6] + b"\xba\xff\xff\xff\x0f" + content[begin + 8 :])  # 2,147,483,613 bytes
    done = subprocess.run([sys.executable, "-c", _PEAK, file], capture_output=True, text=True, timeout=120, check=True)
    kib, said = done.stdout.split(" ", 1)
    assert "shard.parquet cannot be read" in said
    assert "than expected (2147483613)" in said
    assert int(kib) < 200 * 1024  # the reader itself is loaded in it
