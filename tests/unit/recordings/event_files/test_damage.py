"""Damaged files of every format: our error or a recording, in bounded time; nothing else is raised, and nothing crashes."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FORMATS = (
    *("evt3", "evt2", "evt21", "aedat4", "aedat4_lz4", "aedat4_zstd"),
    *("text", "csv", "npy", "npz", "hdf5"),
)

# In a process of its own, so that a crash of a library below us would be a failed test and not the end of all of them.
FUZZ = textwrap.dedent(
    """
    import random, sys, time, logging
    from pathlib import Path
    from meco_hub.errors import DependencyError, RecordingError
    from meco_hub import apart
    from meco_hub.recordings.events import iterate_events, read_events

    apart.PATIENCE_S = 20.0
    logging.disable(logging.CRITICAL)
    path, rounds = Path(sys.argv[1]), int(sys.argv[2])
    whole = path.read_bytes()
    broken = path.with_name("broken" + path.suffix)
    chance = random.Random(path.name)
    outcomes = {"read": 0, "refused": 0}
    for number in range(rounds):
        data = bytearray(whole)
        kind = number % 4
        if kind == 0:
            data = data[: chance.randrange(len(data))]
        elif kind == 1:
            for _ in range(chance.choice((1, 4, 64))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif kind == 2:  # headers are where it hurts
            for _ in range(chance.choice((1, 2, 8))):
                data[chance.randrange(min(len(data), 512))] = chance.choice((0, 1, 127, 128, 255))
        else:
            at, length = chance.randrange(len(data)), chance.randrange(1, 200)
            data[at : at + length] = b"" if chance.random() < 0.5 else bytes(chance.randrange(256) for _ in range(length))
        broken.write_bytes(bytes(data))
        began = time.perf_counter()
        try:
            recording = read_events(broken)
            assert len(recording.x) == len(recording.t)
            sum(len(part) for part in iterate_events(broken, 777))
            outcomes["read"] += 1
        except (RecordingError, DependencyError) as error:  # a damaged name of a compression is one that nobody has
            assert str(broken) in str(error), error
            outcomes["refused"] += 1
        assert time.perf_counter() - began < 60, f"round {number} took {time.perf_counter() - began:.1f} s"
    print(outcomes["read"], outcomes["refused"])
    """
)


@pytest.mark.processes
@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_give_our_error_or_a_recording(form: str, makers, tmp_path: Path) -> None:
    path = makers.write(form, tmp_path, makers.events(1500))
    done = subprocess.run([sys.executable, "-c", FUZZ, str(path), "120"], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == 120
    assert refused > 10, "the damage was not noticed"


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_of_a_small_file_is_survived(form: str, makers, tmp_path: Path) -> None:
    from meco_hub.errors import RecordingError
    from meco_hub.recordings.events import read_events

    if form == "hdf5":
        pytest.skip("is cut at random above, in a process of its own")
    path = makers.write(form, tmp_path, makers.events(12))
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        path.write_bytes(whole[:length])
        message = str(path)
        try:
            assert len(read_events(path)) <= 12
        except RecordingError as error:
            message = str(error)
        assert str(path) in message


@pytest.mark.processes
def test_a_reading_process_that_crashes_or_hangs_is_survived(
    makers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meco_hub import apart
    from meco_hub.errors import RecordingError
    from meco_hub.recordings.events import iterate_events, read_events

    path = makers.write("hdf5", tmp_path, makers.events(1500))
    assert len(read_events(path)) == 1500
    reader = apart._Reader.take()
    assert reader.process.poll() is None
    reader.process.kill()
    reader.process.wait()
    reader.put_back()
    assert len(read_events(path)) == 1500  # with another process
    # one that dies on the file
    reader = apart._Reader.take()
    reader.begin = lambda *order: reader.process.kill()
    reader.put_back()
    with pytest.raises(RecordingError, match=r"the HDF5 library crashed \(code -9\)"):
        read_events(path)
    # one that never answers
    assert len(read_events(path)) == 1500
    reader = apart._Reader.take()
    reader.begin = lambda *order: None
    reader.put_back()
    monkeypatch.setattr(apart, "PATIENCE_S", 0.3)
    with pytest.raises(RecordingError, match=r"did not answer for 0\.3 s"):
        read_events(path)
    monkeypatch.undo()
    assert len(read_events(path)) == 1500
    assert len(next(iterate_events(path, 100))) == 100  # left unread: the process is let go
