"""What a part of a long recording costs: memory and time of reading it, beside the memory of what is read.

    python benchmarks/event_span.py                    # 74 million events, 1.3 GB of files in a temporary folder; a minute
    python benchmarks/event_span.py --events 5000000

One camera of 1280×720 pixels, two million events a second. The 33 ms in the middle are read, by `read_events` with a span and by
`read_eye_clip`, whose frames lie there. Each reading is done by a process of its own, which has read another small file before; its
cost is how far its peak of memory rises.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meco_hub.recordings.events import read_events
from meco_hub.recordings.eye_clips import read_eye_clip

PER_TICK, TICK_US = 128, 64  # two million a second
HEADER = b"% evt 2.0\n% format EVT2;height=720;width=1280\n% end\n"


def write(folder: Path, ticks: int) -> dict[str, Path]:
    """The same events as EVT 2.0, as a structured array, and as text of at most two million."""
    paths = {"raw": folder / "clip.raw", "npy": folder / "clip.npy"}
    kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])
    rng = np.random.default_rng(0)
    with paths["raw"].open("wb") as raw, paths["npy"].open("wb") as npy:
        raw.write(HEADER)
        np.lib.format.write_array_header_1_0(
            npy, {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (ticks * PER_TICK,)}
        )
        for first in range(0, ticks, 4096):
            high = np.arange(first, min(first + 4096, ticks))
            shape = (len(high), PER_TICK)
            x, y = rng.integers(0, 1280, shape), rng.integers(0, 720, shape)
            low, p = np.sort(rng.integers(0, TICK_US, shape), axis=1), rng.integers(0, 2, shape)
            words = np.empty((len(high), PER_TICK + 1), "<u4")
            words[:, 0] = 0x8 << 28 | high
            words[:, 1:] = p << 28 | low << 22 | x << 11 | y
            raw.write(words.tobytes())
            rows = np.empty(shape, kind)
            rows["x"], rows["y"], rows["t"], rows["p"] = x, y, high[:, None] * TICK_US + low, p
            npy.write(rows.tobytes())
    return paths


def measure(path: str, way: str, start_us: int) -> None:
    """In a process of its own: print what reading costs."""
    with tempfile.TemporaryDirectory() as folder:
        small = write(Path(folder), 64)[Path(path).suffix[1:]]
        read_events(small)
    ways: dict[str, Callable[[], int]] = {
        "whole": lambda: len(read_events(path)),
        "span": lambda: len(read_events(path, start_us=start_us, end_us=start_us + 33_000)),
        "clip": lambda: len(
            read_eye_clip(
                {
                    "frames": np.zeros((13, 4, 4), np.uint8),
                    "events": path,
                    "frame_times": start_us + 33_000 * np.arange(13),
                }
            ).events  # type: ignore[arg-type]
        ),
    }
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    events = ways[way]()
    taken = time.perf_counter() - began
    print(json.dumps([events, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, taken]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=74_000_000)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, way, start = arguments.measure
        measure(path, way, int(start))
        return
    ticks = arguments.events // PER_TICK
    print(f"{ticks * PER_TICK / 1e6:g} million events, {ticks * TICK_US / 1e6:g} s\n")
    print(f"{'file':5} {'read':6} {'events':>10} {'their memory':>13} {'peak rises by':>14} {'time':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write(Path(folder), ticks).items():
            for way in ("span", "clip", "whole"):
                command = [sys.executable, __file__, "--measure", str(path), way, str(ticks * TICK_US // 2)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                events, megabytes, seconds = json.loads(done.stdout)
                print(
                    f"{name:5} {way:6} {events:10d} {events * 13 / 2**20:10.1f} MB {megabytes:11.1f} MB {seconds:5.1f} s"
                )


if __name__ == "__main__":
    main()
