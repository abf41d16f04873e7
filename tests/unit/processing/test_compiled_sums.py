"""The loop that numba compiles: the bits that NumPy gives, nothing to pay where it is not worth it, and where it is kept."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.errors import RecordingError
from meco_hub.processing import compiled_sums, event_grids
from meco_hub.processing.event_grids import VoxelGrid
from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.recordings.event_recording import EventRecording

Run = Callable[..., subprocess.CompletedProcess[str]]

HEIGHT, WIDTH = 5, 7
FORGET_US = 10**9  # between two events: no part may hold both


@pytest.fixture(scope="module")
def loop() -> Callable[..., None]:
    pytest.importorskip("numba", reason="the extra 'fast' is not installed")
    found = compiled_sums._compile()
    assert found is not None
    return found


@contextmanager
def _engine(loop: Callable[..., None] | None, longest_part: int = compiled_sums.LONGEST_PART) -> Iterator[list[int]]:
    """Have grids use the loop, or none; gives how many events each call of it took."""
    taken: list[int] = []

    def watched(*arguments: Any) -> None:
        assert loop is not None
        taken.append(len(arguments[0]))
        loop(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_grids, "find_loop", lambda events: watched if loop else None)
        patch.setattr(event_grids, "LONGEST_PART", longest_part)
        yield taken


def _coded(p: np.ndarray, coding: str) -> np.ndarray:
    if coding == "words":
        return np.where(p > 0, "ON", "OFF")
    return np.where(p > 0, 1, -1).astype(np.int8) if coding == "signs" else p.astype(coding)


@st.composite
def recordings(draw: st.DrawFn) -> EventRecording:
    """Of 0 to 40 events, some outside a sensor of 7×5 pixels, in the forms that people have them in."""
    number = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    beyond = draw(st.sampled_from([0, 0, 3]))
    t = np.sort(rng.integers(0, draw(st.sampled_from([0, 3, 33_000, FORGET_US, 10**13])) + 1, number))
    x, y = rng.integers(0, WIDTH + beyond, number), rng.integers(0, HEIGHT + beyond, number)
    p = rng.integers(0, 2, number)
    t += draw(st.sampled_from([0, -5000, 1_600_000_000_000_000]))
    made = EventRecording.from_arrays(
        x.astype(draw(st.sampled_from(["u1", "u2", ">u2", "i4", "f4"]))),
        y.astype(draw(st.sampled_from(["u1", "u2", "i8", "f8"]))),
        t,
        _coded(p, draw(st.sampled_from(["u1", "bool", "i8", "f4", "signs", "words"]))),
        time_unit="us",
        width=WIDTH,
        height=HEIGHT,
    )
    if not draw(st.booleans()):
        return made
    rows = np.empty(number, [("p", "u1"), ("x", "u2"), ("t", "i8"), ("y", "u2")])  # 13 bytes: no column is aligned
    for column in "xytp":
        rows[column] = getattr(made, column)
    rows.flags.writeable = False
    return EventRecording(rows["x"], rows["y"], rows["t"], rows["p"], width=WIDTH, height=HEIGHT)


ARGUMENTS = st.fixed_dictionaries(
    {"bins": st.integers(1, 7)},
    optional={
        "crop": st.just({"top": 1, "left": 2, "height": 3, "width": 4}),
        "window_us": st.sampled_from([5_000_000_000_000, 10**12]),
        "out_of_bounds": st.just("drop"),
        "normalize": st.just("nonzero_std"),
    },
)


def _answer(voxelizer: EventVoxelizer, recording: EventRecording) -> dict[str, np.ndarray] | str:
    try:
        return dict(voxelizer([recording, recording]))
    except RecordingError as error:
        return str(error)


@settings(max_examples=200, deadline=None)
@given(recordings(), ARGUMENTS, st.sampled_from([1, 2, 7, compiled_sums.LONGEST_PART]))
def test_the_same_bits_and_the_same_errors(loop, recording, arguments, longest_part: int) -> None:
    voxelizer = EventVoxelizer(**arguments)
    with _engine(None):
        expected = _answer(voxelizer, recording)
    with _engine(loop, longest_part) as taken:
        answer = _answer(voxelizer, recording)
    assert max(taken, default=0) <= longest_part
    if isinstance(expected, str):
        assert answer == expected
        assert "lie outside the sensor" in expected
        return
    assert isinstance(answer, dict)
    assert {name: values.tobytes() for name, values in answer.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    kept = recording.t[(recording.x < WIDTH) & (recording.y < HEIGHT)]
    lasts = int(np.ptp(kept)) if len(kept) else 0
    if "crop" not in arguments and arguments["bins"] > 1 and 0 < lasts < compiled_sums._LONGEST_US:
        assert sum(taken) == 2 * len(kept)


def test_two_million_events_are_taken_in_parts(loop) -> None:
    rng, number = np.random.default_rng(0), 2_000_000
    columns = (
        rng.integers(0, WIDTH, number).astype(np.uint16),
        rng.integers(0, HEIGHT, number).astype(np.uint16),
        np.sort(rng.integers(0, 4_000_000, number)),
        rng.integers(0, 2, number).astype(np.uint8),
    )
    grids = []
    for engine in (loop, None):
        grid = VoxelGrid(HEIGHT, WIDTH, bins=3, start_us=0, end_us=4_000_000)
        with _engine(engine) as taken:
            grid.add(*columns)
        grids.append((grid.counts.tobytes(), grid.times.tobytes(), grid.finish().tobytes()))
        assert sum(taken) == (number if engine else 0)
    assert grids[0] == grids[1]


@pytest.mark.parametrize("polarity", [0, 1])
def test_the_fullest_part_is_counted_exactly(loop, polarity: int) -> None:
    number, longest = compiled_sums.LONGEST_PART, compiled_sums._LONGEST_US - 1
    t = np.full(number, 10**15 + longest, np.int64)
    t[0] = 10**15
    assert compiled_sums.fits(t)
    place, p = np.zeros(number, np.uint16), np.full(number, polarity, np.uint8)
    packed, counts, times = np.zeros(3, np.int64), np.zeros(3, np.int64), np.full(3, 7, np.int64)
    loop(place + np.uint16(1), place, t, p, 3, 1, 10**15 - 5, packed, counts, times)
    sign = 2 * polarity - 1
    assert counts.tolist() == [0, sign * number, 0]
    assert times.tolist() == [7, 7 + sign * (longest * (number - 1) + 5 * number), 7]
    assert not packed.any()


def test_what_does_not_fit_is_left_to_numpy(loop) -> None:
    few = np.array([0, compiled_sums._LONGEST_US - 1])
    assert compiled_sums.fits(few)
    assert not compiled_sums.fits(few * 2)
    assert not compiled_sums.fits(np.zeros(compiled_sums.LONGEST_PART + 1, np.int64))
    assert not compiled_sums.fits(few[:0])
    grid, zeros = VoxelGrid(1, 1, bins=2, start_us=0, end_us=FORGET_US), np.zeros(2, np.uint16)
    with _engine(loop) as taken:
        grid.add(zeros, zeros, np.array([0, FORGET_US]), np.array([1, 0], np.uint8))
    assert not taken
    assert grid.finish().ravel().tolist() == [1, -1]


@pytest.mark.parametrize(("x", "y", "p"), [(WIDTH, 0, 0), (0, HEIGHT, 1), (0, 0, 2)])
def test_nothing_is_written_outside_of_the_grid(loop, x: int, y: int, p: int) -> None:
    grid = VoxelGrid(HEIGHT, WIDTH, bins=2, start_us=0, end_us=9)
    columns: list[Any] = [
        np.array([value], dtype) for value, dtype in ((x, np.uint16), (y, np.uint16), (4, np.int64), (p, np.uint8))
    ]
    with _engine(loop), pytest.raises(IndexError, match="outside the grid"):
        grid.add(*columns)


# --- When it is loaded ------------------------------------------------------------------------------------------------

_VOXELIZE = """
import sys
import numpy as np
from meco_hub import EventVoxelizer
from meco_hub.processing import compiled_sums
from meco_hub.recordings.event_recording import EventRecording

def voxelize(number):
    t = np.arange(number)
    recording = EventRecording.from_arrays(t % 7, t % 5, t, t % 2, time_unit="us", width=7, height=5)
    return EventVoxelizer()(recording)["event_values"].tobytes()
"""


def test_short_recordings_do_not_import_numba(run_python: Run) -> None:
    said = run_python(_VOXELIZE + "voxelize(1_000_000)\nprint('meco_hub' in sys.modules, 'numba' in sys.modules)")
    assert said.stdout.split() == ["True", "False"]


def test_it_is_loaded_once_that_many_events_were_laid_out(run_python: Run) -> None:
    pytest.importorskip("numba", reason="the extra 'fast' is not installed")
    code = """
compiled_sums.WORTH_LOADING = 1000
first = voxelize(600), 'numba' in sys.modules
print(first[1], voxelize(600) == first[0], 'numba' in sys.modules, compiled_sums.find_loop(0) is not None)
"""
    assert run_python(_VOXELIZE + code).stdout.split() == ["False", "True", "True", "True"]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compiled_sums._compile.cache_clear()
    monkeypatch.setattr(compiled_sums, "_laid_out", compiled_sums.WORTH_LOADING)
    yield
    compiled_sums._compile.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_without_numba_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled_sums.find_loop(1) is None
    assert not caplog.records


@pytest.mark.usefixtures("forgetful")
def test_a_numba_that_does_not_load_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.5 or less')")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert compiled_sums.find_loop(1) is compiled_sums.find_loop(1) is None
    (record,) = caplog.records
    assert "Numba needs NumPy 2.5 or less. Set NUMBA_CACHE_DIR" in record.getMessage()


# --- Where compiled code is kept --------------------------------------------------------------------------------------

_ALONE = """
import os, sys
os.environ.pop("NUMBA_CACHE_DIR", None)
os.environ.update({environment!r})
sys.dont_write_bytecode = True
import alone
loop = alone._compile()
print(loop is not None, sum(loop.stats.cache_hits.values()) if loop else None)
"""


@pytest.fixture
def alone(tmp_path: Path, run_python: Run) -> Callable[..., tuple[list[str], str]]:
    """Load the loop from a copy of its file in a folder where nothing can be written, and say how that went."""
    pytest.importorskip("numba", reason="the extra 'fast' is not installed")
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(compiled_sums.__file__, folder / "alone.py")
    (folder / "__pycache__").touch()  # a file in the folder's place: nobody can write there, the administrator neither

    def load(**environment: str) -> tuple[list[str], str]:
        done = run_python(_ALONE.format(environment=environment), path=(folder,))
        assert sorted(path.name for path in folder.iterdir()) == ["__pycache__", "alone.py"]
        return done.stdout.split(), done.stderr

    return load


def test_a_read_only_installation_keeps_it_in_the_users_cache(alone, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    assert alone(**environment) == (["True", "0"], "")
    written = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert {path.suffix for path in written} == {".nbi", ".nbc"}
    assert alone(**environment) == (["True", "1"], "")  # from there
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == written


def test_where_nothing_can_be_kept_numpy_goes_on(alone, tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    environment = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    found, said = alone(**environment)
    assert found == ["False", "None"]
    assert "Set NUMBA_CACHE_DIR to a folder that can be written" in said
    assert len(said.splitlines()) == 1
    place = tmp_path / "chosen"
    assert alone(**environment, NUMBA_CACHE_DIR=str(place)) == (["True", "0"], "")
    assert {path.suffix for path in place.rglob("*") if path.is_file()} == {".nbi", ".nbc"}


def test_a_damaged_cache_is_no_error(alone, tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert alone(**environment) == (["True", "0"], "")
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:100])
    found, said = alone(**environment)
    assert found == ["False", "None"]
    assert "without numba" in said


def test_numba_that_may_not_compile_is_not_used(alone) -> None:
    assert alone(NUMBA_DISABLE_JIT="1") == (["False", "None"], "")
