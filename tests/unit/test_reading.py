"""Files of strangers: whatever a decoder raises is one error of ours, sizes are held to limits, and nothing waits for ever."""

import io
import json
import os
import shutil
import struct
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from meco_hub.answer_warnings import DoubtfulInputWarning
from meco_hub.comparison.plan import read_comparison
from meco_hub.corpora import Corpus, file_tree
from meco_hub.corpora.file_tree import open_tree, read_path
from meco_hub.corpora.image_folder import corpus as image_folder
from meco_hub.corpora.see import read_entry
from meco_hub.errors import (
    CardError,
    CorpusError,
    DependencyError,
    ImageError,
    InputError,
    MecoError,
    RecordingError,
    quote,
)
from meco_hub.evaluation.report_file import read_report
from meco_hub.prediction import list_files
from meco_hub.publishing.card import check_card
from meco_hub.reading import find_member, read_json, read_member, read_yaml, reading
from meco_hub.recordings import events, images, signals
from meco_hub.recordings.events import read_events
from meco_hub.recordings.images import read_image
from meco_hub.recordings.signal_files import empatica
from meco_hub.recordings.signal_files.npz import read_npz
from meco_hub.recordings.signals import read_signals
from meco_hub.training.recipes import load_recipe
from xdf_files import xdf_chunk, xdf_stream


class Odd(Exception):
    """What nobody has heard of."""


RAISED = (
    *(AssertionError(), KeyError("x"), IndexError("no"), ZeroDivisionError("by zero"), RecursionError("deep")),
    *(MemoryError(), Odd("x" * 9999)),
)


def raiser(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", RAISED, ids=lambda one: type(one).__name__)
class TestWhateverADecoderRaises:
    def test_is_an_image_error(self, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "face.png"
        Image.new("RGB", (16, 16)).save(path)
        monkeypatch.setattr(Image, "open", raiser(error))
        with pytest.raises(ImageError, match=r"face\.png") as seen:
            read_image(str(path))
        assert seen.value.__cause__ is error
        assert len(str(seen.value)) < 600

    def test_is_a_recording_error(self, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "S01.csv"
        path.write_text("time,eda\n0,1\n")
        monkeypatch.setattr(signals, "_reader", lambda _: raiser(error))
        monkeypatch.setattr(events, "_opener", lambda _: raiser(error))
        for read in (read_signals, read_events):
            with pytest.raises(RecordingError, match=r"S01\.csv") as seen:
                read(path)
            assert len(str(seen.value)) < 600

    def test_of_one_stream_leaves_the_others(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "S01.npz"
        np.savez(path, eda_values=np.arange(8.0), eda_rate=4.0, ecg_values=np.arange(8.0), ecg_rate=4.0)
        usual = signals.make_stream

        def make_stream(values: Any, where: str, **options: Any) -> Any:
            if "ecg" in where:
                raise error
            return usual(values, where, **options)

        monkeypatch.setattr(signals, "make_stream", make_stream)
        recording = read_signals(path)
        assert list(recording.streams) == ["eda"]
        assert [one.code for one in recording.warnings] == ["part_left_out"]
        assert "'ecg'" in recording.warnings[0].message

    def test_is_a_corpus_error(self, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        corpus = Corpus("mine", "face", None, "x", "<label>/*.jpg", "a:b", citation="", licence="", reader="a:c")
        monkeypatch.setattr(Corpus, "_function", lambda *_: raiser(error))
        with pytest.raises(CorpusError, match="mine"):
            corpus.load(tmp_path)
        with pytest.raises(InputError, match=r"row_7 of mine"):
            corpus.read({"sample_id": "row_7"})

    def test_costs_no_other_row_of_a_data_set(self, error: Exception) -> None:
        from datasets import Dataset

        from meco_hub.evaluation.predict import RecordingRows

        def read(row: dict[str, Any]) -> Any:
            if row["sample_id"] == "b":
                raise error
            if row["sample_id"] == "c":
                raise CorpusError("c.dat: another shape")
            return Image.new("RGB", (16, 16))

        corpus: Any = types.SimpleNamespace(reader="mine", read=read)
        rows = RecordingRows(corpus, Dataset.from_dict({"sample_id": ["a", "b", "c", "d"]}))
        assert rows.survey(10**6, progress=False) == [0, 3]
        assert set(rows.unreadable) == {"b", "c"}
        assert rows.unreadable["b"].startswith("b cannot be read")
        with pytest.raises(InputError):
            _ = rows[1]

    def test_costs_no_other_file_its_answer(self, error: Exception) -> None:
        from meco_hub.pipeline import EmotionRecognitionPipeline

        def prepare(*_: object) -> Iterator[Any]:
            raise error
            yield

        stub: Any = types.SimpleNamespace(
            _prepare=prepare, _recordings=types.SimpleNamespace(blank=lambda: None), _tensors=lambda _: {}
        )
        (item,) = EmotionRecognitionPipeline.preprocess(stub, "holiday.png", errors="return")
        assert "holiday.png" in item["error"]
        with pytest.raises(InputError):
            list(EmotionRecognitionPipeline.preprocess(stub, "holiday.png"))


def test_our_own_errors_and_missing_packages_pass_the_net() -> None:
    for error in (
        CardError("ours"),
        DependencyError("missing"),
        ModuleNotFoundError("x"),
        DoubtfulInputWarning("asked for"),
    ):
        with pytest.raises(type(error)) as seen, reading("x", RecordingError):
            raise error
        assert seen.value is error


def test_quotes_and_messages_are_short_and_printable() -> None:
    assert quote("a\n\x1b[31mb") == r"a\u000a\u001b[31mb"
    assert len(quote("0" * 10**6)) < 250
    assert len(str(MecoError("0" * 10**6))) < 2000


# --- Sizes ------------------------------------------------------------------------------------------------------------


def e4_zip(path: Path, prefix: str = "", **contents: bytes) -> Path:
    files = {"EDA.csv": b"1700000000\n4\n" + b"0.5\n" * 40, "TEMP.csv": b"1700000000\n4\n" + b"33\n" * 40} | {
        f"{name}.csv": content for name, content in contents.items()
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{prefix}{name}", content)
    return path


@pytest.mark.parametrize("prefix", ["", "./", "S01/", "./S01/"])
def test_members_with_a_dot_in_front_are_read(prefix: str, tmp_path: Path) -> None:
    assert set(read_signals(e4_zip(tmp_path / "s.zip", prefix)).streams) == {"eda", "temp"}


def test_corpora_and_pictures_with_a_dot_in_front_are_read(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "orange").save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name in ("./happy/1.png", "./sad/2.png"):
            archive.writestr(name, picture.getvalue())
    rows = image_folder.load(tmp_path / "faces.zip")["all"]
    assert rows["sample_id"][:] == ["happy/1.png", "sad/2.png"]
    assert image_folder.read(rows[0]).size == (16, 16)


def test_a_member_that_declares_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = e4_zip(tmp_path / "s.zip", ACC=b"\0" * 10_000)
    monkeypatch.setattr(empatica, "MAX_BYTES", 9_999)
    recording = read_signals(path)
    assert set(recording.streams) == {"eda", "temp"}
    assert [one.code for one in recording.warnings] == ["part_left_out"]
    assert "ACC.csv says that it holds 10000 bytes" in recording.warnings[0].message
    monkeypatch.setattr(file_tree, "MAX_MEMBER", 9_999)
    tree = open_tree(path)
    for read in (tree.read, lambda name: tree.open_text(name).__enter__()):
        with pytest.raises(CorpusError, match="10000 bytes"):
            read("ACC.csv")
    with pytest.raises(CorpusError, match="10000 bytes"):
        read_path(f"zip://ACC.csv::{path}")


def test_a_member_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    with zipfile.ZipFile(e4_zip(tmp_path / "s.zip", ACC=b"\0" * 10**6)) as archive:
        info = find_member(archive, "ACC.csv")
        info.file_size = 100  # a header that lies
        with pytest.raises(zipfile.BadZipFile, match="CRC"):
            read_member(archive, info, "x", RecordingError, 1000)


def test_what_a_file_says_is_quoted_in_a_few_words(tmp_path: Path) -> None:
    recording = read_signals(e4_zip(tmp_path / "s.zip", ACC=b"0" * 10**6))
    assert set(recording.streams) == {"eda", "temp"}
    assert len(recording.warnings[0].message) < 800


def test_an_array_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("eda_values.npy", stream.getvalue() + bytes(80))
    with pytest.raises(RecordingError, match=r"promises the shape \(1000000000,\)"):
        read_npz(tmp_path / "a.npz")


def test_what_unpacks_to_far_more_than_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scipy.io import savemat

    monkeypatch.setattr("meco_hub.reading.PLENTY", 100_000)
    values = {"eda_values": np.zeros(100_000), "eda_rate": 4.0}
    np.savez_compressed(tmp_path / "a.npz", **values)
    savemat(tmp_path / "a.mat", values, do_compression=True)
    for name in ("a.npz", "a.mat"):
        with pytest.raises(RecordingError, match="more than a hundred times as many"):
            read_signals(tmp_path / name)


def test_a_chunk_that_claims_more_samples_than_bytes(tmp_path: Path) -> None:
    info = xdf_chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    parts = xdf_stream(1, "ecg", "float32", 128.0, np.zeros((8, 1), np.float32), np.arange(8.0))
    parts[1] = xdf_chunk(3, struct.pack("<BQ", 8, 10**12), 1)
    (tmp_path / "a.xdf").write_bytes(b"XDF:" + info + b"".join(parts))
    with pytest.raises(RecordingError, match="claims 1000000000000 samples"):
        read_signals(tmp_path / "a.xdf")


def test_a_state_dict_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    import torch

    from meco_hub.conversion import read_state_dict
    from meco_hub.errors import CheckpointError

    path = tmp_path / "release.pt"
    torch.save({"a": torch.zeros(1).expand(10**12)}, path)
    with pytest.raises(CheckpointError, match=r"'a' declares the shape \(1000000000000,\) and has 4 bytes"):
        read_state_dict(path)
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name) + b"\0" * 100_000)
    with pytest.raises(CheckpointError, match="says that it holds"):
        read_state_dict(tmp_path / "packed.pt")


@pytest.mark.parametrize("size", ["99999x99999", "0x260", "346x5000"])
def test_a_sensor_of_absurd_size(size: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"
    words = np.array([0x8000, 0x0001, 0x2003] * 20, "<u2")
    path.write_bytes(f"% evt 3.0\n% geometry {size}\n% end\n".encode() + words.tobytes())
    if size == "0x260":  # not said, as far as anybody can tell
        assert len(read_events(path)) == 20
        return
    with pytest.raises(RecordingError, match="expected 1 to 4096"):
        read_events(path)


@pytest.mark.parametrize("segment", [[0, 10**8], [0, 1e400], [1], "ab", None, [0, "x"]])
def test_a_segment_that_no_sequence_has(segment: Any) -> None:
    entry = {"subset": "training", "annotations": {"label": "angry", "segment": segment}}
    with pytest.raises(CorpusError) as seen:
        read_entry(entry, ["angry"], "emotion.json")
    if segment == [0, 10**8]:
        assert "longer than the pictures" in str(seen.value)


def test_one_time_a_month_late(tmp_path: Path) -> None:
    times = np.arange(400) / 4
    times[-1] += 30 * 86400
    path = tmp_path / "S01.csv"
    path.write_text("time,eda\n" + "".join(f"{time},{time % 7}\n" for time in times))
    with pytest.raises(RecordingError, match=r"30\.0 days, of which its samples cover 100 s; after sample 398"):
        read_signals(path)
    for few in ("0,1\n2592000,2\n", "0,1\n1,1\n2592000,2\n"):
        path.write_text(f"time,eda\n{few}")
        with pytest.raises(RecordingError, match=r"30\.0 days, of which its samples cover [01] s"):
            read_signals(path)
    # one that was worn in the mornings of a week is none of these
    mornings = np.concatenate([day * 86400 + np.arange(0, 7200, 5.0) for day in range(7)])
    path.write_text("time,eda\n" + "".join(f"{time},{time % 7}\n" for time in mornings))
    assert read_signals(path).seconds > 6 * 86400


def test_json_that_is_nested_or_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"report\.json cannot be read"):
        read_report(file)
    file.write_text(json.dumps({"schema": "meco_hub/report", "schema_version": 1}))  # without what version 1 always had
    with pytest.raises(InputError, match=r"report\.json cannot be read as a report"):
        read_report(file)
    monkeypatch.setattr("meco_hub.reading.MAX_JSON", 10)
    with pytest.raises(InputError, match="at most 10"):
        read_json(file, InputError, "x")


def test_yaml_that_refers_to_itself(tmp_path: Path) -> None:
    file = tmp_path / "card.yaml"
    file.write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    with pytest.raises(CardError, match="refers to itself"):
        read_yaml(file, CardError, "x")


@pytest.mark.parametrize("text", ["[" * 300_000, "a: " + "{a: " * 300_000, "- " * 300_000, "x: " + "y" * 2**20])
def test_yaml_that_is_nested_or_large(text: str, tmp_path: Path) -> None:
    file = tmp_path / "card.yaml"
    file.write_text(text)
    begun = time.process_time()
    for read in (
        lambda: read_yaml(file, CardError, "Fix it."),
        lambda: load_recipe(str(file)),
        lambda: read_comparison(file),
    ):
        with pytest.raises(MecoError, match=r"cannot be read|says that it holds"):
            read()
    with pytest.raises(CardError):
        check_card(f"---\n{text}\n---\n# Card\n", "a card")
    assert time.process_time() - begun < 20  # PyYAML alone takes the square of the depth


def test_documents_of_a_checkpoint_that_were_damaged(tmp_path: Path) -> None:
    from meco_hub import checkpoint
    from meco_hub.errors import CheckpointError
    from meco_hub.loading import load_processor, read_config
    from meco_hub.publishing.card import check_card, render_card

    folder = tmp_path / "mine"
    shutil.copytree(checkpoint("meco-expressnet-lfw5"), folder)
    report = json.loads((folder / "report.json").read_text())
    for key in ("metrics", "data", "checkpoint"):
        (folder / "report.json").write_text(json.dumps({name: value for name, value in report.items() if name != key}))
        with pytest.raises((CardError, InputError), match="mine"):
            render_card(folder)
    for name, read in (("config.json", read_config), ("preprocessor_config.json", load_processor)):
        (folder / name).write_text('{"a":' * 100_000)
        with pytest.raises(CheckpointError, match="mine"):
            read(str(folder))
    with pytest.raises(CardError, match="README"):
        check_card("---\na: " + "[" * 100_000 + "\n---\n", "README.md")


# --- What never ends, and what may not be read -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.npz", "p.csv", "p.edf", "p.mat", "p.xdf", "p.xdf.gz", "p.zip", "p"])
def test_signals_from_a_pipe_are_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RecordingError, match="device or pipe"):
        read_signals(tmp_path / name)


def test_a_picture_of_an_archive_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.zip")
    for path in (tmp_path / "p.zip", Path("/dev/zero")):
        with pytest.raises(MecoError, match="device or pipe"):
            read_image(f"zip://a.png::{path}")


def test_pipes_in_corpora_and_in_place_of_reports_are_refused(tmp_path: Path) -> None:
    for name in ("index.csv", "report.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(CorpusError, match="device or pipe"):
        image_folder.load(tmp_path)
    with pytest.raises(CorpusError, match="device or pipe"):
        read_path(str(tmp_path / "index.csv"))
    with pytest.raises(InputError, match="device or pipe"):
        read_report(tmp_path / "report.json")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder below `faces` that may not be read; as root, too, who may read everything."""
    folder = tmp_path / "faces" / "sad"
    for name in ("sad", "happy"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "faces" / name / "1.png")
    usual = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "access", lambda path, _: os.fspath(path) != str(folder))
    return folder


def test_a_folder_that_may_not_be_read_is_no_missing_class(closed: Path) -> None:
    with pytest.raises(CorpusError, match="sad is a folder that cannot be read"):
        image_folder.load(closed.parent)


def test_a_folder_that_may_not_be_read_is_a_row(closed: Path) -> None:
    assert set(list_files([closed.parent])) == {str(closed.parent / "happy" / "1.png"), str(closed)}
    assert list_files([closed]) == [str(closed)]
    with pytest.raises(ImageError, match="may not be read"):
        read_image(str(closed))


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that sends a byte now and then, and never ends."""
    over = threading.Event()

    class Drip(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not over.wait(0.05):
                try:
                    self.wfile.write(b"\x89")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Drip)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/face.png"
    over.set()
    server.shutdown()
    server.server_close()


def test_a_slow_address_has_so_long_and_no_longer(dripping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "TIMEOUT_S", 0.3)
    with pytest.raises(ImageError, match=r"cannot be fetched \(not whole after 0\.3 s\)"):
        read_image(dripping)


# --- Files that were cut off where a format can tell ---------------------------------------------------------------------


def test_text_that_ends_inside_a_line_says_so(tmp_path: Path) -> None:
    table = "time,eda\n" + "".join(f"{at / 4},{at % 3 + 0.25}\n" for at in range(40))
    rows = "t,x,y,p\n" + "".join(f"{50 * at},{at % 300},{at % 200},{at % 2}\n" for at in range(100))
    for read, text in ((read_signals, table), (read_events, rows)):
        path = tmp_path / "clip.csv"
        path.write_text(text)
        assert "file_ends_early" not in {one.code for one in read(path).warnings}
        path.write_text(text[:-1])
        assert "file_ends_early" in {one.code for one in read(path).warnings}


def test_events_that_end_inside_a_group_say_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"
    head = b"% evt 3.0\n% geometry 346x260\n% end\n"
    words = np.array([0x8000, *(one for at in range(20) for one in (0x6000 | at, at, 0x2003))], "<u2").tobytes()
    path.write_bytes(head + words)
    assert read_events(path).warnings == ()
    for cut in (2, 4):  # behind a row, behind a time
        path.write_bytes(head + words[:-cut])
        assert [one.code for one in read_events(path).warnings] == ["file_ends_early"]
