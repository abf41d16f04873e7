"""How many million events a second become a voxel grid, beside evio and tonic, on one core.

    pip install --target peers --no-deps evio tonic        # tonic is GPL-3.0: for this comparison only, never a dependency
    PYTHONPATH=peers python benchmarks/events.py           # a minute; without the peers, ours alone

Ten million events on 346×260 pixels, uniform in space and time, five bins. Each library gets the events in its own form, and takes
turns with the others within one run; medians are printed, and ratios are medians of the ratios of neighbours. Other work on the
machine takes caches away, which hurts the quickest most; beside the medians stands what the best rounds give.

What is compared. evio and we share one definition: time runs from the first event, at bin 0, to the last, at the last bin. tonic
lets time run on to one bin more, which it then cuts off; its grid of four bins is the first four of our five, and so it is
compared. Of tonic only the file of this one function is loaded, since its package imports libraries for sound.

Ours is `EventVoxelizer` as it is called in a process that has laid out enough events before: with the loop of numba, where that is
installed (extra `fast`), and beside it with NumPy alone. What loading the loop took stands above the table, and how many events it
takes to gain that.
"""

import os

# Before NumPy and torch are imported, which would start threads.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from unittest import mock  # noqa: E402

import numpy as np  # noqa: E402

from meco_hub.processing import compiled_sums, event_grids  # noqa: E402
from meco_hub.processing.event_voxelizer import EventVoxelizer  # noqa: E402
from meco_hub.recordings.event_recording import EventRecording  # noqa: E402

WIDTH, HEIGHT, BINS = 346, 260, 5


def make_recording(number: int, seed: int = 0) -> EventRecording:
    """Events at random, ten microseconds for every ten events."""
    rng = np.random.default_rng(seed)
    return EventRecording.from_arrays(
        rng.integers(0, WIDTH, number).astype(np.uint16),
        rng.integers(0, HEIGHT, number).astype(np.uint16),
        np.sort(rng.integers(0, number, number)) + 1_600_000_000_000_000,
        rng.integers(0, 2, number).astype(np.uint8),
        width=WIDTH,
        height=HEIGHT,
    )


def prepare_evio(recording: EventRecording) -> Callable[[], np.ndarray] | None:
    if importlib.util.find_spec("evio") is None:
        return None
    from evio import core, representations

    events = core.from_arrays(recording.x, recording.y, recording.t, recording.p)
    return lambda: representations.voxel_grid(events, BINS, (WIDTH, HEIGHT))


def prepare_tonic(recording: EventRecording) -> Callable[[int], np.ndarray] | None:
    package = importlib.util.find_spec("tonic")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "functional" / "to_voxel_grid.py"
    found = importlib.util.spec_from_file_location("tonic_to_voxel_grid", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    events = np.empty(len(recording), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "i1")])
    for name in "xytp":
        events[name] = getattr(recording, name)
    events["p"][events["p"] == 0] = -1  # it would do so itself, in what it was given
    return lambda bins: module.to_voxel_grid_numpy(events, (WIDTH, HEIGHT, 2), bins)[:, 0]


def prepare_limit(recording: EventRecording) -> Callable[[], np.ndarray]:
    """One sum per event at a place that is known already: what no way of counting with NumPy can go below."""
    places = recording.y.astype(np.int64) * WIDTH + recording.x
    weights = recording.p.astype(np.float64)
    return lambda: np.bincount(places, weights, WIDTH * HEIGHT)


def with_numpy_alone(work: Callable[[], Any]) -> Any:
    with mock.patch.object(event_grids, "find_loop", return_value=None):
        return work()


def take_time(work: Callable[[], Any]) -> float:
    """CPU seconds: all use one thread, and other work on the machine then falls on none of them. The second of two calls counts,
    so that none finds its memory given back by the one before."""
    work()
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, whatever the libraries would like
    recording = make_recording(arguments.events)
    voxelizer = EventVoxelizer(bins=BINS)
    ways: dict[str, Callable[[], Any]] = {"ours": lambda: voxelizer(recording)}
    ours = voxelizer(recording)["event_values"][0]
    start = time.process_time()
    loop = compiled_sums.find_loop(compiled_sums.WORTH_LOADING)
    loading = time.process_time() - start
    differences: dict[str, float] = {}
    if loop:
        ways["NumPy alone"] = lambda: with_numpy_alone(ways["ours"])
        assert voxelizer(recording)["event_values"].tobytes() == ours.tobytes(), "numba's loop gives other bits"
    evio, tonic = prepare_evio(recording), prepare_tonic(recording)
    if evio is not None:
        ways["evio"] = evio
        differences["evio"] = float(np.abs(evio() - ours).max())
    if tonic is not None:
        ways["tonic"] = lambda: tonic(BINS)
        differences["tonic"] = float(np.abs(tonic(BINS - 1) - ours[: BINS - 1]).max())
    ways["limit"] = prepare_limit(recording)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, work in ways.items():
            times[name].append(take_time(work))
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one core"
    )
    print(f"{arguments.events / 1e6:g} million events, {WIDTH}×{HEIGHT}, {BINS} bins, {arguments.rounds} rounds")
    if loop:
        gains = [slow - own for slow, own in zip(times["NumPy alone"], times["ours"], strict=True)]
        even = loading / statistics.median(gains) * arguments.events
        print(
            f"ours: numba {version('numba')}, loaded in {loading:.2f} s, which {even / 1e6:.0f} million events gain; it is loaded "
            f"from {compiled_sums.WORTH_LOADING / 1e6:g} million on"
        )
    print("" if loop else "ours: NumPy alone\n")
    print(
        f"{'':12} {'M events/s':>11} {'best round':>11} {'ours faster by':>15} {'best by best':>13} {'largest difference':>19}"
    )
    for name, taken in times.items():
        ratio = statistics.median(other / own for other, own in zip(taken, times["ours"], strict=True))
        speed, best = (arguments.events / seconds / 1e6 for seconds in (statistics.median(taken), min(taken)))
        label = f"{name} {version(name)}" if name in differences else name
        difference = f"{differences[name]:.1e}" if name in differences else ""
        of_best = min(taken) / min(times["ours"])
        print(f"{label:12} {speed:11.1f} {best:11.1f} {ratio:14.2f}× {of_best:12.2f}× {difference:>19}")


if __name__ == "__main__":
    main()
