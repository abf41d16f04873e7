"""How fast signals become windows, beside the loop over windows that one would write with SciPy.

    python benchmarks/signals.py            # about two minutes on one core
    python benchmarks/signals.py --quick    # a quarter of the recording

Both make the same batches of the same recordings: seeded noise in the layouts of DEAP's raw files (EEG and others at 512 Hz) and of
an Empatica E4 (six streams at 64 Hz and less), an hour each, in windows of 4 s that overlap by half, and in ones of 60 s every
30 s. The loop takes each window with a second of surroundings, thins by `scipy.signal.resample_poly`, interpolates with
`scipy.interpolate.interp1d`, masks, normalises and stacks. It leaves out work that a windower does: it checks no clock, gives no
times, has one level for all channels, and filters through gaps as if they were zeros. A second loop, `careful`, does that too,
around gaps by filtering the mask as well; the goal is held against the first. Beside them stands the limit of anything that writes
such batches: one plain copy of all windows from streams that are on their grids. What is compared takes turns within one run, by
the CPU time of one thread. `benchmarks/README.md` says what was predicted and what came of it.

Then the small preset of Hi-MoE behind the windower, streamed: how long a hop takes, how many times real time that is, and what the
model costs against the length of its window.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy is imported

import numpy as np  # noqa: E402
import scipy  # noqa: E402
from signals_loop import Layout, window_by_window  # noqa: E402
from turns import time_in_turns  # noqa: E402

from meco_hub.processing.signal_windower import SignalWindower  # noqa: E402
from meco_hub.recordings.signal_recording import SignalRecording, Stream  # noqa: E402

GOAL = 10.0
REAL_TIME = 100.0


LAYOUTS = (
    Layout(
        "DEAP's raw files, 4 s every 2 s",
        {"eeg": (32, 512.0, 128.0), "eye": (2, 512.0, 128.0), "emg": (2, 512.0, 128.0), "ans": (4, 512.0, 32.0)},
        4.0,
        2.0,
    ),
    Layout(
        "DEAP as published, 4 s every 2 s",
        {"eeg": (32, 128.0, 128.0), "eye": (2, 128.0, 128.0), "emg": (2, 128.0, 128.0), "ans": (4, 128.0, 32.0)},
        4.0,
        2.0,
    ),
    Layout(
        "Empatica E4, 60 s every 30 s",
        {
            "acc": (3, 32.0, 32.0),
            "bvp": (1, 64.0, 32.0),
            "eda": (1, 4.0, 4.0),
            "temp": (1, 4.0, 4.0),
            "hr": (1, 1.0, 4.0),
            "ibi": (1, None, 4.0),
        },
        60.0,
        30.0,
    ),
)


def make_recording(layout: Layout, seconds: float) -> SignalRecording:
    """Seeded noise, of which every stream loses one second in 600."""
    random = np.random.default_rng(0)
    streams = {}
    for name, (channels, rate, _) in layout.sensors.items():
        if rate is None:
            times = np.cumsum(random.uniform(0.6, 1.1, int(seconds)))
            streams[name] = Stream(random.normal(size=(len(times), channels)).astype(np.float32), times)
            continue
        values = random.normal(size=(int(seconds * rate), channels)).astype(np.float32)
        per_second = max(1, int(rate))
        for second in random.choice(int(seconds), int(seconds / 600), replace=False):
            values[second * per_second : (second + 1) * per_second] = np.nan
        streams[name] = Stream.regular(values, rate)
    return SignalRecording(streams, 0.0, seconds)


def make_windower(layout: Layout) -> SignalWindower:
    modalities: dict[str, Any] = {}
    for name, (channels, rate, grid) in layout.sensors.items():
        modalities[name] = {
            "channels": channels,
            "sampling_rate": grid,
            "kind": "irregular" if rate is None else "regular",
        }
    statistics_ = {name: {"center": [0.0] * one[0], "scale": [1.0] * one[0]} for name, one in layout.sensors.items()}
    return SignalWindower(modalities, window_s=layout.window_s, stride_s=layout.stride_s, statistics=statistics_)


def windows_of(windower: SignalWindower, recording: SignalRecording) -> Any:
    return windower(windower.cut(recording))


def copy_windows(layout: Layout, streams: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All windows of streams that are on their grids, copied and nothing else."""
    copies = []
    for (_, _, grid), stream in zip(layout.sensors.values(), streams, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(stream, round(layout.window_s * grid), axis=0)
        copies.append(windows[:: round(layout.stride_s * grid)].swapaxes(1, 2).copy())
    return copies


def check_same(layout: Layout, recording: SignalRecording) -> float:
    """Share of samples that both sides hold and that agree to a tenth of a standard deviation, where nothing is resampled."""
    ours, theirs = windows_of(make_windower(layout), recording), window_by_window(layout, recording)
    shares = []
    for name, (_, rate, grid) in layout.sensors.items():
        count = len(theirs[name][0])
        mask = ours["step_mask"][name][:count] & theirs[name][1]
        near = np.abs(ours["inputs"][name][:count] - theirs[name][0]).max(axis=-1) < 0.1
        if rate == grid:
            shares.append(float(near[mask].mean()))
    return min(shares, default=float("nan"))


def report_windower(seconds: float, rounds: int) -> None:
    print(
        f"\nSignalWindower, cut and called, over SciPy loops; {seconds:.0f} s of recording, CPU, medians of {rounds} rounds"
    )
    print(
        f"  {'layout':33s} {'samples/s':>10s} {'loop':>10s} {'careful':>10s} {'limit':>10s}   over the loop:"
        f" {'ours':>6s} {'limit':>6s}   over careful: {'ours':>6s}   x real time"
    )
    for layout in LAYOUTS:
        recording, windower = make_recording(layout, seconds), make_windower(layout)
        share = check_same(layout, make_recording(layout, 300.0))
        if share < 0.999:
            print(f"  {layout.name}: the two disagree in {1 - share:.2%} of the samples that nobody resampled")
        batch = windows_of(windower, recording)
        samples = sum(values.size for values in batch["inputs"].values())
        gridded = [
            np.zeros((round(seconds * grid), channels), np.float32) for channels, _, grid in layout.sensors.values()
        ]
        turns = time_in_turns(
            [
                lambda w=windower, r=recording: windows_of(w, r),
                lambda one=layout, r=recording: window_by_window(one, r),
                lambda one=layout, r=recording: window_by_window(one, r, careful=True),
                lambda one=layout, g=gridded: copy_windows(one, g),
            ],
            rounds,
            clock=time.process_time,
        )
        ours, loop, careful, limit = turns
        ratio, bound = (statistics.median(b / a for a, b in zip(one, loop, strict=True)) for one in (ours, limit))
        over_careful = statistics.median(b / a for a, b in zip(ours, careful, strict=True))
        verdict = f"goal ≥ {GOAL:g}: {'met' if ratio >= GOAL else 'MISSED'}"
        rates = " ".join(f"{samples / statistics.median(one):10.3g}" for one in turns)
        rates += f"                  {ratio:6.1f} {bound:6.1f}                 {over_careful:6.1f}"
        print(f"  {layout.name:33s} {rates}   {seconds / statistics.median(ours):11.0f}   {verdict}")


def report_streaming(seconds: float, answer: Callable[[Any], object] | None = None) -> None:
    """Time each hop of a stream; `answer` is a model's part in it, given the batch of a hop."""
    print(
        "\nSignalWindower.stream, pushed half a second at a time: windower's share of the latency of a hop, milliseconds"
    )
    for layout in LAYOUTS:
        recording, windower = make_recording(layout, seconds), make_windower(layout)
        stream, waits = windower.stream(), []
        for start in np.arange(0.0, seconds, 0.5):
            chunk = {}
            for name, one in recording.streams.items():
                part = one.between(start, start + 0.5)
                chunk[name] = (part.values, part.times)
            began = time.perf_counter()
            ready = stream.push(chunk)
            if ready:
                batch = windower(ready)
                if answer is not None:
                    answer(batch)
                waits.append((time.perf_counter() - began) / len(ready) * 1e3)
        hop = layout.stride_s * 1e3
        print(
            f"  {layout.name:36s} median {statistics.median(waits):7.2f}   worst {max(waits):7.2f}   "
            f"{hop / statistics.median(waits):7.0f} x real time   {stream.nbytes / 2**20:5.1f} MiB kept"
        )


def make_model(window_s: float, scope: str) -> tuple[Any, SignalWindower]:
    """Hi-MoE's small preset on DEAP's four groups, of random weights, and the windower that belongs to it."""
    import torch

    from meco_himoe.configuration_himoe import HiMoEConfig
    from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
    from meco_himoe.processing_himoe import HiMoESignalWindower

    torch.manual_seed(0)
    config = HiMoEConfig.small(window_s=window_s, context_scope=scope)
    statistics_ = {
        name: {"center": [0.0] * one["channels"], "scale": [1.0] * one["channels"]}
        for name, one in (config.modalities or {}).items()
    }
    windower = HiMoESignalWindower.for_config(config, statistics=statistics_, stride_s=window_s / 2)
    return HiMoEForEmotionRecognition(config).eval(), windower


def report_model(seconds: float) -> None:
    """Streaming through windower and model, one core, one window at a time; then the model alone against window length."""
    import torch

    torch.set_num_threads(1)
    model, windower = make_model(4.0, "window")
    layout = LAYOUTS[1]
    recording, stream, wall, cpu = make_recording(layout, seconds), windower.stream(), [], []
    with torch.inference_mode():
        for start in np.arange(0.0, seconds, 0.5):
            parts = {name: one.between(start, start + 0.5) for name, one in recording.streams.items()}
            began, worked = time.perf_counter(), time.process_time()
            for clip in stream.push({name: (one.values, one.times) for name, one in parts.items()}):
                model(**windower([clip], return_tensors="pt"))
                wall.append((time.perf_counter() - began) * 1e3)
                cpu.append((time.process_time() - worked) * 1e3)
                began, worked = time.perf_counter(), time.process_time()
    wall, cpu = wall[3:], cpu[3:]  # the first ones warm caches
    print(f"\nSmall preset and windower, {layout.name}, streamed, one core, per hop of 2 s, milliseconds")
    for kind, own in (("wall", wall), ("CPU", cpu)):
        middle = statistics.median(own)
        verdict = f"goal ≥ {REAL_TIME:g}: {'met' if 2e3 / middle >= REAL_TIME else 'MISSED'}"
        print(f"  {kind:5s} median {middle:6.2f}   worst {max(own):6.2f}   {2e3 / middle:6.0f} x real time   {verdict}")
    print("\nModel alone, one window, CPU milliseconds (least of 7), against window length")
    for scope in ("window", "step"):
        costs = []
        for length in (4.0, 8.0, 16.0, 32.0):
            model, windower = make_model(length, scope)
            batch = windower(windower.cut(make_recording(layout, length))[:1], return_tensors="pt")
            times = []
            with torch.inference_mode():
                for _ in range(8):
                    began = time.process_time()
                    model(**batch)
                    times.append((time.process_time() - began) * 1e3)
            costs.append(min(times[1:]))
        slope = np.polyfit(np.log([4, 8, 16, 32]), np.log(costs), 1)[0]
        told = "   ".join(f"{length} s {cost:.1f}" for length, cost in zip((4, 8, 16, 32), costs, strict=True))
        print(f"  context_scope={scope:6s} {told}   grows with the power {slope:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the recording and fewer rounds")
    parser.add_argument("--model", action="store_true", help="only the model's part")
    parser.add_argument("--windows", action="store_true", help="only whole recordings, no streams and no model")
    options = parser.parse_args()
    seconds, rounds = (900.0, 3) if options.quick else (3600.0, 5)
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, {os.cpu_count()} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, load {os.getloadavg()[0]:.1f}"
    )
    if options.model:
        report_model(min(seconds, 300.0))
        return
    report_windower(seconds, rounds)
    if options.windows:
        return
    report_streaming(min(seconds, 900.0))
    report_model(min(seconds, 300.0))


if __name__ == "__main__":
    main()
