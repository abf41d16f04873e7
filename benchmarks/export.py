"""What an exported checkpoint costs and whether it answers the same: onnxruntime beside torch, for each bundled checkpoint.

    python benchmarks/export.py                                  # exports each first, which takes minutes
    python benchmarks/export.py --exports FOLDER                 # keeps them there, NAME/model.onnx, and finds them again
    python benchmarks/export.py --kernels                        # large kernels only: directly, by ONNX's DFT, by matrices

Per checkpoint: the largest difference of scores over 200 recordings of a corpus (faces, CASE, Stress-Predict, drawn eyes
for the synthetic one), every second recording of signals lacking a stream; whether the first labels agree; median over rounds of
onnxruntime's time over torch's, in turns and on one thread each, at batch 1 and 8, and of an int8 export's time over fp32's where
one lies in FOLDER/NAME-int8; sizes; and the time from starting Python to the first answer. Times of answers are those of the
processor, since one thread computes and others may share the machine. Goals: difference ≤ 1e-4, every label, ratio ≤ 1.0 at
batch 1, int8 ≤ 0.6 of fp32.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
from torch import nn

from meco_expressnet_moe.large_kernel_conv import LargeKernelConv2d, smooth_size
from meco_hub import plugins
from meco_hub.answers import Answers
from meco_hub.corpora.synthetic.eyes import write_see
from meco_hub.evaluation.predict import RecordingRows
from meco_hub.evaluation.task import corpus_options, read_run
from meco_hub.exported import graph_inputs, load_exported, unflatten
from meco_hub.exporting import export_checkpoint
from meco_hub.loading import load_model, load_processor
from meco_hub.processing.picture_processor import recording_processor

DATA = Path(__file__).parents[2] / "shared" / "data"
SOURCES = {
    "image_folder": "faces/lfw_expressions.zip",
    "fer2013": "fer2013/fer2013.zip",
    "ferplus": "fer2013/fer2013.zip",
    "case": "case/case_20hz.npz",
    "stress_predict": "stress_predict/stress_predict.zip",
}
GOAL, RATIO, INT8 = 1e-4, 1.0, 0.6
KERNELS = [
    (3, 8, 75, 224),
    (8, 16, 50, 112),
    (16, 32, 25, 56),
    (32, 64, 15, 28),
    (3, 16, 15, 224),
    (3, 4, 25, 112),
    (4, 8, 15, 56),
]
"""Inputs, outputs, kernel and side: the large ones of the published face network, then of the bundled one."""
_COLD = {
    "onnxruntime": """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
kinds = {"tensor(float)": numpy.float32, "tensor(bool)": numpy.bool_}
session.run(None, {one.name: numpy.zeros([side if isinstance(side, int) else int(four) for side, four in
    zip(one.shape, [1, 4, 0, 64, 64])], kinds[one.type]) for one in session.get_inputs()})
""",
    "torch": """
import sys, torch
from meco_hub.loading import load_model, load_processor
from meco_hub.exporting import example_batch
from meco_hub.exported import unflatten
model = load_model(sys.argv[2]).eval()
with torch.inference_mode():
    model(**unflatten({name: one[:1] for name, one in example_batch(model, load_processor(sys.argv[2])).items()}))
""",
}


def recordings(name: str, data: Path, number: int, place: Path) -> list[Any]:
    """So many recordings of the corpus that a checkpoint was trained on, evenly from all of it; of a small one some come twice."""
    run = read_run(plugins.locate_checkpoint(name)) or {}
    corpus = plugins.corpus(run["data"]["corpus"])
    if corpus.name == "see":
        write_see(place / "see.zip", seed=7)
        source = place / "see.zip"
    else:
        source = data / SOURCES[corpus.name]
    splits = corpus.load(source, **corpus_options(run, corpus.name))
    parts = [RecordingRows(corpus, split) for split in splits.values()]
    places = [(part, row) for part in parts for row in range(len(part))]
    return [part[row] for part, row in (places[place] for place in np.linspace(0, len(places) - 1, number).astype(int))]


def batches(model: Any, processor: Any, found: list[Any], size: int) -> Iterator[dict[str, torch.Tensor]]:
    """The graph's inputs of those recordings; of signals every second lacks one stream, another each time."""
    reader = recording_processor(processor)
    streams = reader.modality_names
    for first in range(0, len(found), size):
        clips = []
        for place, one in enumerate(found[first : first + size], start=first):
            clip = reader.cut(one)[0] if reader.cuts else one
            clips.append(clip.without([streams[place // 2 % len(streams)]]) if streams and place % 2 else clip)
        yield graph_inputs(model, reader(clips, return_tensors="pt"))


def in_turns(
    programs: list[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Seconds of every program in every round; one round before is not counted."""
    seconds: list[list[float]] = [[] for _ in programs]
    for turn in range(rounds + 1):
        for index, program in enumerate(programs):
            start = clock()
            program()
            if turn:
                seconds[index].append(clock() - start)
    return seconds


def cold_starts(exported: Path, source: str, rounds: int) -> dict[str, float]:
    """Median seconds from starting Python to the first answer."""
    programs = [
        lambda code=code: subprocess.run(
            [sys.executable, "-c", code, str(exported), source], check=True, capture_output=True
        )
        for code in _COLD.values()
    ]
    return dict(zip(_COLD, map(statistics.median, in_turns(programs, rounds, time.perf_counter)), strict=True))


def compare(name: str, exported: Path, data: Path, number: int) -> tuple[int, int, float]:
    """How many recordings were answered, how many of them with the same first label, and the largest difference of scores."""
    source = plugins.locate_checkpoint(name)
    model, processor = load_model(source).eval(), load_processor(source)
    graph, answers = load_exported(exported, model.config, threads=1), Answers(model)
    largest, equal, seen = 0.0, 0, 0
    with (
        tempfile.TemporaryDirectory() as place,
        torch.inference_mode(),
    ):  # clips read their pictures when they are processed
        found = recordings(name, data, number, Path(place))
        for size, part in ((1, found[: number // 2]), (16, found[number // 2 :])):
            for batch in batches(model, processor, part, size):
                ours = answers.scores(graph(**unflatten(batch)).logits)
                theirs = answers.scores(model(**unflatten(batch)).logits)
                largest = max(largest, float(np.abs(ours - theirs).max()))
                equal += int((ours.argmax(axis=-1) == theirs.argmax(axis=-1)).reshape(len(ours), -1).all(axis=1).sum())
                seen += len(ours)
    return seen, equal, largest


def report(name: str, exported: Path, data: Path, number: int, rounds: int) -> None:
    source = plugins.locate_checkpoint(name)
    model, processor = load_model(source).eval(), load_processor(source)
    graph = load_exported(exported, model.config, threads=1)
    int8 = exported.with_name(f"{name}-int8")
    small = load_exported(int8, model.config, threads=1) if int8.is_dir() else None
    print(f"\n{name}")
    seen, equal, largest = compare(name, exported, data, number)
    met = f"goal {GOAL:g}: {'met' if largest <= GOAL and equal == seen else 'MISSED'}"
    print(f"  {seen} recordings: largest difference of scores {largest:.1e}, labels equal in {equal} ({met})")
    with tempfile.TemporaryDirectory() as place:
        found = recordings(name, data, 8, Path(place))
        prepared = [next(batches(model, processor, found[:size], size)) for size in (1, 8)]
    with torch.inference_mode():
        for size, batch in zip((1, 8), prepared, strict=True):
            given = unflatten(batch)
            feed = {key: value.numpy() for key, value in batch.items()}
            ours, theirs = in_turns([lambda f=feed: graph.session.run(None, f), lambda g=given: model(**g)], rounds)
            ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
            goal = f"   (goal {RATIO:g}: {'met' if ratio <= RATIO else 'MISSED'})" if size == 1 else ""
            times = f"{statistics.median(ours) * 1e3:.2f} ms, torch {statistics.median(theirs) * 1e3:.2f} ms"
            print(f"  batch {size}: onnxruntime over torch {ratio:.2f}   onnxruntime {times}{goal}")
            if small is not None:
                programs = [lambda f=feed, one=one: one.session.run(None, f) for one in (small, graph)]
                ratio = statistics.median(mine / other for mine, other in zip(*in_turns(programs, rounds), strict=True))
                print(
                    f"  batch {size}: int8 over fp32 {ratio:.2f}   (goal {INT8:g}: {'met' if ratio <= INT8 else 'MISSED'})"
                )
    weights = (Path(source) / "model.safetensors").stat().st_size
    print(f"  model.onnx {(exported / 'model.onnx').stat().st_size / 1e6:.2f} MB, weights {weights / 1e6:.2f} MB")
    cold = cold_starts(exported, source, max(1, rounds // 10))
    print(f"  first answer after {cold['onnxruntime']:.2f} s with onnxruntime, {cold['torch']:.2f} s with torch")


class ByOperator(nn.Module):
    """A convolution by torch.fft, which becomes ONNX's DFT."""

    def __init__(self, layer: LargeKernelConv2d, side: int) -> None:
        super().__init__()
        kernel = layer.kernel_size[0]
        self.before, self.side = (kernel - 1) // 2, side
        self.grid = smooth_size(side + kernel // 2)
        spectrum = torch.fft.rfft2(layer.weight.detach(), s=(self.grid, self.grid)).conj()
        self.real, self.imaginary = nn.Parameter(spectrum.real.clone()), nn.Parameter(spectrum.imag.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        after = self.grid - self.side - self.before
        spectrum = torch.fft.rfft2(nn.functional.pad(x, (self.before, after, self.before, after)))
        a, b = spectrum.real.unsqueeze(1), spectrum.imag.unsqueeze(1)
        real = (a * self.real - b * self.imaginary).sum(dim=2)
        imaginary = (a * self.imaginary + b * self.real).sum(dim=2)
        return torch.fft.irfft2(torch.complex(real, imaginary), s=(self.grid, self.grid))[..., : self.side, : self.side]


def report_kernels(kernels: list[tuple[int, int, int, int]], rounds: int) -> None:
    """Milliseconds of one picture through one convolution in onnxruntime, in three ways, and how far each is from float64."""
    for inputs, outputs, kernel, side in kernels:
        layers = {
            way: LargeKernelConv2d(inputs, outputs, kernel, padding="same", bias=False, implementation=way).eval()
            for way in ("native", "fft")
        }
        layers["fft"].load_state_dict(layers["native"].state_dict())
        ways = {"direct": layers["native"], "DFT": ByOperator(layers["native"], side), "matrices": layers["fft"]}
        x = torch.randn(1, inputs, side, side)
        with torch.no_grad():
            expected = copy.deepcopy(layers["fft"]).double()(x.double()).numpy()
        sessions = []
        for way in ways.values():
            made = torch.onnx.export(torch.export.export(way, (x,)), dynamo=True, verbose=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            sessions.append(onnxruntime.InferenceSession(made.model_proto.SerializeToString(), options))
        feeds = [{one.get_inputs()[0].name: x.numpy()} for one in sessions]
        programs = [lambda one=one, feed=feed: one.run(None, feed) for one, feed in zip(sessions, feeds, strict=True)]
        times = map(statistics.median, in_turns(programs, rounds))
        errors = [np.abs(program()[0] - expected).max() / np.abs(expected).max() for program in programs]
        told = [f"{way} {t * 1e3:.2f} ms ({e:.0e})" for way, t, e in zip(ways, times, errors, strict=True)]
        print(f"{inputs} → {outputs}, {kernel}×{kernel} on {side}×{side}: {', '.join(told)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Onnxruntime beside torch, for each bundled checkpoint.")
    parser.add_argument(
        "--exports", type=Path, help="folder of exports, made where they are missing (default: thrown away)"
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder with faces/, fer2013/, case/ and stress_predict/"
    )
    parser.add_argument("--only", nargs="+", help="names of checkpoints (default: all that are bundled)")
    parser.add_argument("--number", type=int, default=200, help="recordings that are compared (200)")
    parser.add_argument("--rounds", type=int, default=30, help="repeats of each timing (30)")
    parser.add_argument("--kernels", action="store_true", help="time large kernels alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.kernels:
        report_kernels(KERNELS, given.rounds)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = given.exports or Path(place)
        for name in given.only or sorted(plugins.checkpoints()):
            if not (folder / name / "model.onnx").is_file():
                export_checkpoint(name, folder / name)
            report(name, folder / name, given.data, given.number, given.rounds)


if __name__ == "__main__":
    main()
