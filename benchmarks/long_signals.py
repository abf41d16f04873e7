"""What a day of many channels takes: an EDF is drawn, read, put on its grids and cut into windows; memory and seconds of each step.

    python benchmarks/long_signals.py --hours 24 --channels 32 --rate 256 [--folder SCRATCH]

"Held" is what the process holds itself (RssAnon), looked at every 20 ms; pages of files that are mapped into it are the system's
cache, which it takes back when it needs them, and are not counted. The file and what is made of it lie in SCRATCH: 24 hours of 32
channels at 256 Hz need 6 GB there.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from meco_hub.processing.signal_windower import SignalWindower

_HEADER = (8, 80, 80, 8, 8, 44, 8, 8, 4)
"""Widths of the fields of an EDF's header, before those of the signals."""


def draw_edf(path: Path, hours: float, channels: int, rate: int) -> int:
    """Write a file of so many channels of noise, a minute at a time; how many bytes it has."""
    seconds = round(hours * 3600)
    cells = ["0", "X", "X", "01.01.01", "00.00.00", str(256 * (channels + 1)), "", str(seconds), "1", str(channels)]
    head = "".join(cell.ljust(width) for cell, width in zip(cells, (*_HEADER[:5], 8, 44, 8, 8, 4), strict=True))
    columns = [
        ([f"EEG {index}" for index in range(channels)], 16),
        ([""] * channels, 80),
        (["uV"] * channels, 8),
        *(([value] * channels, 8) for value in ("-200", "200", "-32768", "32767")),
        ([""] * channels, 80),
        ([str(rate)] * channels, 8),
        ([""] * channels, 32),
    ]
    head += "".join(cell.ljust(width) for cells, width in columns for cell in cells)
    draw = np.random.default_rng(0)
    minute = draw.integers(-9000, 9000, (60 + 7, channels * rate), np.int16)
    with path.open("wb") as file:
        file.write(head.encode("ascii"))
        for first in range(0, seconds, 60):
            file.write(minute[first % 7 :][: min(60, seconds - first)].tobytes())  # no minute is the one before
    return path.stat().st_size


def held() -> int:
    """Bytes that this process holds itself."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no RssAnon; expected Linux.")


@contextmanager
def watched(what: str, before: int) -> Iterator[None]:
    """Print the seconds of a step, and the most that was held in it beyond what was held at the start."""
    done, most = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(f"{what:28} {seconds:8.1f} s   at most {(max(most[0], held()) - before) / 1e6:8.0f} MB held", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rate", type=int, default=256)
    parser.add_argument("--grid", type=float, default=128.0, help="samples per second of the windows")
    parser.add_argument("--folder", type=Path, default=None, help="where the file is drawn")
    asked = parser.parse_args()
    settings = {"channels": asked.channels, "sampling_rate": asked.grid, "highpass_hz": 0.5, "lowpass_hz": 45.0}
    windower = SignalWindower({"eeg": settings}, window_s=4.0, normalization="recording")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        path = Path(folder) / "day.edf"
        size = draw_edf(path, asked.hours, asked.channels, asked.rate)
        print(f"{asked.hours:g} hours, {asked.channels} channels at {asked.rate} Hz: {size / 1e6:.0f} MB", flush=True)
        windower.cut(windower.read({"eeg": (np.random.default_rng(0).normal(size=(4096, asked.channels)), 256.0)}))
        before = held()
        with watched("read", before):
            recording = windower.read(str(path))
        with watched("on its grid, cut", before):
            clips = windower.cut(recording)
        with watched(f"{len(clips)} windows, 32 at once", before):
            for first in range(0, len(clips), 32):
                windower(clips[first : first + 32])
        with watched("report", before):
            windower.report(recording)


if __name__ == "__main__":
    main()
