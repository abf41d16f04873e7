"""Recordings that go on: files that somebody appends to, real sockets on loopback, and what must not come over them."""

import io
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.live import MAX_ARRAY, Newest, pieces_of

EVENT = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]


def events(first: int, count: int = 4) -> np.ndarray:
    found = np.zeros(count, EVENT)
    found["t"] = first + 1000 * np.arange(count)
    found["x"], found["y"], found["p"] = np.arange(count), 7, 1
    return found


def saved(*arrays: Any) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], str]]:
    """`serve(content, step)`: the address of a server that sends this once, so many bytes at a time, and closes."""
    opened: list[socket.socket] = []

    def start(content: bytes, step: int) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                for first in range(0, len(content), step):
                    connection.sendall(content[first : first + step])

        threading.Thread(target=run, daemon=True).start()
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in opened:
        server.close()


def append(path: Path, parts: list[bytes]) -> threading.Thread:
    """A recorder: appends one part after the other, and reaches the disk in between."""

    def run() -> None:
        for part in parts:
            with path.open("ab") as file:
                file.write(part)
            time.sleep(0.12)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("step", [1 << 16, 13])
def test_a_socket_gives_arrays_as_they_were_saved_however_they_are_torn(serve: Any, step: int) -> None:
    frames = np.zeros(2, [("t", "<i8"), ("frame", "u1", (4, 5))])
    frames["t"], frames["frame"][1] = [10, 20], 9
    signals = np.zeros(3, [("time", "<f8"), ("eda", "<f4"), ("acc", "<f8", (3,))])
    signals["time"], signals["acc"][:, 2] = [0, 0.25, 0.5], 1
    one, two, three, four = pieces_of(serve(saved(events(0), frames, signals, events(9000)), step), idle_s=5)
    assert (one["events"].t.tolist(), one["events"].x.tolist()) == ([0, 1000, 2000, 3000], [0, 1, 2, 3])
    assert two["frames"].shape == (2, 4, 5)
    assert two["frame_times"].tolist() == [10, 20]
    assert {name: one.values.shape for name, one in three.streams.items()} == {"eda": (3, 1), "acc": (3, 3)}
    assert four["events"].t[0] == 9000


def test_a_file_grows_by_arrays_and_half_of_one_is_waited_for(tmp_path: Path) -> None:
    path, content = tmp_path / "events.npy", saved(events(0), events(5000))
    path.write_bytes(content[:100])
    recorder = append(path, [content[100:200], content[200:]])
    assert [one["events"].t[0] for one in pieces_of(path, idle_s=1.5)] == [0, 5000]
    recorder.join()


def test_a_table_grows_by_rows_and_half_of_one_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    path.write_text("# of a watch\ntime,eda (uS),acc.x,acc.y\n0,1.5,0,0\n0.25,1.")
    recorder = append(path, [b"5,0,1\n0.5,,0,", b"2\n", b"0.75,2.5,0,3\n1.0,9"])
    parts = list(pieces_of(path, idle_s=1.0))
    recorder.join()
    eda = np.concatenate([part.streams["eda"].values[:, 0] for part in parts if "eda" in part.streams])
    assert eda.tolist() == [1.5, 1.5, 2.5]
    acc = np.concatenate([part.streams["acc"].values for part in parts])
    assert acc.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert parts[0].streams["eda"].units == ("uS",)
    assert parts[0].streams["acc"].channels == ("x", "y")


def test_rows_that_cannot_be_read_are_named_and_cost_no_other(tmp_path: Path) -> None:
    path = tmp_path / "session.csv"
    rows = [f"{at / 4},{at}" for at in range(40)]
    rows[7], rows[20], rows[33] = "1.75", "5.0,five", "eight,33"
    path.write_text("time,eda\n" + "\n".join(rows) + "\n")
    parts = list(pieces_of(path, idle_s=0.2))
    assert [at for part in parts for at in part.streams["eda"].values[:, 0]] == [
        at for at in range(40) if at not in (7, 20, 33)
    ]
    said = " ".join(one.message for part in parts for one in part.warnings if one.code == "part_left_out")
    assert "has 1 cells" in said
    assert "'five'" in said
    assert "'eight'" in said
    path.write_text("time,eda\n" + "no,number\n" * 200)
    with pytest.raises(RecordingError):
        list(pieces_of(path, idle_s=0.2))


def test_a_table_of_events_is_known_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("t,x,y,p\n100,1,2,1\n150,3,4,0\n")
    (part,) = pieces_of(path, idle_s=0.2)
    assert (part["events"].t.tolist(), part["events"].p.tolist()) == ([100, 150], [1, 0])


class Harmful:
    def __reduce__(self) -> Any:
        return (Path("harmed").touch, ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "expected arrays as np.save writes them"),
        (saved(np.array([Harmful()], dtype=object)), "no Python objects"),
        (saved(np.zeros(3)), "named fields"),
        (saved(np.zeros(3, [("a", "f8")])), "expected x, y, t and p"),
        (saved(events(0))[:-3], "ends inside an array"),
        (
            saved(events(0)).replace(b"(4,)", b"(9999999999,)".ljust(4))[:200],
            "named fields|ends inside|sends what is no array",
        ),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "header of"),
        (
            saved(events(3000), events(0))[: len(saved(events(0)))] + pickle.dumps("a text"),
            "expected arrays as np.save",
        ),
    ],
)
def test_what_is_no_array_is_refused_before_it_is_read(serve: Any, content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=words):
        list(pieces_of(serve(content, 1 << 16), idle_s=5))
    assert not Path("harmed").exists()


def test_an_array_that_promises_too_much_is_refused(serve: Any) -> None:
    file = io.BytesIO()
    header = {"descr": EVENT, "fortran_order": False, "shape": (MAX_ARRAY,)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match="Send smaller pieces"):
        list(pieces_of(serve(file.getvalue(), 1 << 16), idle_s=5))


def test_where_nothing_is_the_error_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for source, words in (
        (f"tcp://127.0.0.1:{port}", "Nobody answers"),
        ("tcp://127.0.0.1", "names no host and port"),
        ("tcp://127.0.0.1:99999", "names no host and port"),
        ("tcp://[::1", "names no host and port"),
        (tmp_path / "none.csv", "There is no file"),
    ):
        with pytest.raises(RecordingError, match=words):
            list(pieces_of(source, idle_s=1))
    (tmp_path / "one.edf").write_bytes(b"0")
    with pytest.raises(RecordingError, match="cannot be followed while it grows"):
        list(pieces_of(tmp_path / "one.edf"))


def test_of_a_source_from_which_nothing_comes_that_is_said(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "header.csv").write_text("time,eda\n0.0,1")
    (tmp_path / "none.npy").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        for source in (silent, serve(b"", 1), tmp_path / "header.csv", tmp_path / "none.npy"):
            with pytest.raises(RecordingError, match=r"silent for 0\.3 seconds, before a whole row or array"):
                list(pieces_of(source, idle_s=0.3))


@pytest.mark.parametrize("ending", ["csv", "npy"])
@pytest.mark.parametrize("what", ["cut short", "replaced", "put elsewhere"])
def test_a_file_that_does_not_only_grow_is_refused_when_what_was_before_is_told(
    tmp_path: Path, ending: str, what: str
) -> None:
    path, other = tmp_path / f"recording.{ending}", tmp_path / "other"
    content = saved(events(0), events(5000)) if ending == "npy" else b"t,x,y,p\n100,1,2,1\n150,3,4,0\n"
    path.write_bytes(content)
    other.write_bytes(content)
    pieces = pieces_of(path, idle_s=0.4)
    told = [next(pieces)]
    told += [next(pieces)] if ending == "npy" else []
    if what == "cut short":
        path.write_bytes(content[:10])
    elif what == "replaced":
        other.replace(path)
    else:  # as by a recorder that has finished
        path.rename(other)
        assert list(pieces) == []
        return
    with pytest.raises(RecordingError, match=f"{ending} was {what} while it was followed"):
        next(pieces)


def test_a_line_without_an_end_is_not_kept_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meco_hub.recordings.live._BLOCK", 1000)
    (tmp_path / "session.csv").write_bytes(b"time,eda\n" + b"1" * 5000)
    with pytest.raises(RecordingError, match="a line of more than 1000 bytes"):
        list(pieces_of(tmp_path / "session.csv", idle_s=0.3))


def test_the_newest_is_kept_the_others_are_counted_and_an_error_arrives() -> None:
    go, told = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        go.wait()
        yield from range(1, 6)
        told.set()
        raise RecordingError("it broke")

    newest = Newest(source(), merge=lambda dropped, newer: newer + 100 * dropped)
    items = iter(newest)
    assert next(items) == 0
    go.set()
    told.wait()
    time.sleep(0.05)
    merged = next(items)
    assert newest.dropped == 4
    assert merged == 5 + 100 * (4 + 100 * (3 + 100 * (2 + 100 * 1)))
    with pytest.raises(RecordingError, match="it broke"):
        next(items)
