"""What only a GPU can tell, step by step, each in a process of its own with its own time limit; `run.sh` calls it.

Steps, in this order:

    environment   GPU, driver, versions
    scan          the selective scan beside mamba-ssm's kernel and two loops, forward and with gradients
    kernels       large-kernel convolutions, layer by layer: by cuDNN directly and by FFT, in fp32 and bf16
    faces, eyes, signals   each published network in fp32, bf16, channels_last and compiled: forward and training step, samples a
                  second and memory, beside ResNet-50 and four ResNet-18 in the same mode on the same GPU
    waits         how often a training step waits for the GPU, and where: averaged weights; sparse and dense experts
    launch        a training by `accelerate launch` in bf16, from drawn faces to a folder that answers
    fsdp          the same sharded by FSDP 2
    tests         the fast tests, the networks' passes computed on the GPU (`pytest --network_device`)
    fer2013       the published face network trained on FER-2013 for the time that is left (train_published.py)

A step writes its rows as it goes, so one that is stopped at its limit keeps what it has measured. After every step results.json and
results.md are written anew. `--device cpu --limit` takes the same way with small sizes and few repeats.
"""

import argparse
import collections
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.utils import send_to_device

from meco_hub.durable import write_json

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parents[1]))  # the benchmarks that measure single parts

from turns import ratio, time_in_turns  # noqa: E402

Row = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step as it runs.

    Attributes:
        device: "cuda" or "cpu".
        limit: small sizes and few repeats.
        data_dir: FER-2013, or None.
        out: folder of results.
        seconds: time there is.
        write: takes a row: `what` was measured, and figures by name.
    """

    device: str
    limit: bool
    data_dir: Path | None
    out: Path
    seconds: float
    write: Callable[[Row], None]

    @property
    def rounds(self) -> int:
        return 2 if self.limit else 20


def milliseconds(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 3)


def environment(step: Step) -> None:
    from meco_hub.evaluation.report import library_versions

    row: Row = {"what": "machine", **library_versions(), "cpus": os.cpu_count()}
    if step.device == "cuda":
        found = torch.cuda.get_device_properties(0)
        row |= {"gpu": found.name, "gpu_gib": round(found.total_memory / 2**30, 1), "cuda": torch.version.cuda}
        row |= {"cudnn": torch.backends.cudnn.version()}
    step.write(row)


def scan(step: Step) -> None:
    import selective_scan as ours

    kernel = step.device == "cuda" and ours.module._mamba_kernel() is not None
    if not kernel:
        step.write({"what": "mamba-ssm", "skipped": "mamba-ssm's kernel is not installed, or there is no GPU"})
    shapes = ((1, 8, 16, 50),) if step.limit else (*ours.SHAPES, (32, 256, 16, 500))
    for shape in shapes:
        arguments = ours.make_arguments(shape, step.device)
        scans: dict[str, Any] = {"ours": ours.ours_without_kernel, "careful loop": ours.careful_loop}
        if kernel:
            scans["mamba-ssm"] = ours.ours
        for kind in ("forward", "with gradients"):
            if kind == "forward":
                programs = [lambda one=one: one(*arguments) for one in scans.values()]  # noqa: B023
            else:
                programs = [ours.with_gradients(one, arguments) for one in scans.values()]
            spent = dict(zip(scans, time_in_turns(programs, step.rounds, step.device), strict=True))
            row: Row = {"what": f"selective scan {shape}, {kind}"}
            row |= {f"{name} ms": milliseconds(times) for name, times in spent.items()}
            row |= {
                f"{name} / ours": round(ratio(times, spent["ours"]), 2)
                for name, times in spent.items()
                if name != "ours"
            }
            step.write(row)


def kernels(step: Step) -> None:
    from faces import LAYERS

    from meco_expressnet_moe.large_kernel_conv import LargeKernelConv2d

    batch = 1 if step.limit else 32
    for inputs, outputs, kernel, side in LAYERS[-2:] if step.limit else LAYERS:
        for dtype in (torch.float32, torch.bfloat16):
            row: Row = {"what": f"convolution {inputs}→{outputs}, {kernel}×{kernel}, {side} px, {str(dtype)[6:]}"}
            for kind in ("forward", "with gradients"):
                pixels = torch.randn(batch, inputs, side, side, device=step.device, requires_grad=True)
                programs = []
                for implementation in ("native", "fft"):
                    layer = LargeKernelConv2d(
                        inputs, outputs, kernel, padding="same", implementation=implementation
                    ).to(step.device)

                    def run(layer: torch.nn.Module = layer, learns: bool = kind != "forward") -> None:
                        with torch.autocast(step.device, dtype, enabled=dtype != torch.float32):  # noqa: B023
                            answer = layer(pixels)  # noqa: B023
                        if learns:
                            answer.float().sum().backward()

                    programs.append(run)
                direct, fft = time_in_turns(programs, step.rounds, step.device)
                row |= {f"{kind}: cuDNN ms": milliseconds(direct), f"{kind}: FFT ms": milliseconds(fft)}
                row |= {f"{kind}: FFT / cuDNN": round(ratio(fft, direct), 2)}
            step.write(row)


def _face_network(step: Step) -> tuple[torch.nn.Module, dict[str, Any], int]:
    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition

    batch = 1 if step.limit else 64
    model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig())
    return model, {"pixel_values": torch.rand(batch, 3, 224, 224)}, batch


def _eye_network(step: Step) -> tuple[torch.nn.Module, dict[str, Any], int]:
    from meco_mcoenet.configuration_mcoenet import MCOENetConfig
    from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition

    batch = 2 if step.limit else 64
    model = MCOENetForEmotionRecognition(MCOENetConfig())
    return model, {name: torch.randn(batch, 4, 3, 100, 100) for name in ("pixel_values", "event_values")}, batch


def _signal_network(step: Step) -> tuple[torch.nn.Module, dict[str, Any], int]:
    from meco_himoe.configuration_himoe import HiMoEConfig
    from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
    from meco_himoe.processing_himoe import HiMoESignalWindower
    from meco_hub.exported import unflatten
    from meco_hub.exporting import example_batch, random_batch

    batch = 2 if step.limit else 64
    config = HiMoEConfig()
    model = HiMoEForEmotionRecognition(config)
    example = example_batch(model, HiMoESignalWindower.for_config(config))
    return model, dict(unflatten(random_batch(example, batch, seed=0))), batch


def _network(step: Step, made: tuple[torch.nn.Module, dict[str, Any], int]) -> None:
    import timm

    own, inputs, batch = made
    inputs, side = send_to_device(inputs, step.device), 64 if step.limit else 224
    torch.backends.cudnn.benchmark = True
    peers: dict[str, tuple[list[torch.nn.Module], torch.Tensor]] = {
        "ResNet-50": ([timm.create_model("resnet50", num_classes=7)], torch.rand(batch, 3, side, side)),
        "four ResNet-18": (
            [timm.create_model("resnet18", num_classes=7) for _ in range(4)],
            torch.rand(batch, 3, 100, 100),
        ),
    }
    peers = {
        name: ([one.to(step.device) for one in models], pixels.to(step.device))
        for name, (models, pixels) in peers.items()
    }
    own.to(step.device)
    answer = own.eval()(**inputs).logits
    regression = getattr(own.config, "problem_type", None) == "regression"
    target = torch.zeros_like(answer) if regression else torch.zeros(batch, dtype=torch.int64, device=step.device)

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        # of float32, whatever the network computed in
        return torch.nn.functional.mse_loss(logits.float(), target) if regression else (
            torch.nn.functional.cross_entropy(logits.float(), target)
        )  # fmt: skip

    for mode in ("fp32", "bf16", "bf16 channels_last", "bf16 compiled"):
        if mode.endswith("compiled") and step.limit:
            continue  # minutes of a compiler, which prove nothing of the way
        dtype = torch.float32 if mode == "fp32" else torch.bfloat16
        networks: dict[str, Any] = {
            "ours": ([own], lambda models: [models[0](**inputs).logits]),
            **{
                name: (models, lambda models, pixels=pixels: [one(pixels) for one in models])
                for name, (models, pixels) in peers.items()
            },
        }
        row: Row = {"what": mode, "batch": batch}
        spent: dict[str, dict[str, list[float]]] = {"forward": {}, "step": {}}
        for name, (models, call) in networks.items():
            for one in models:
                one.to(memory_format=torch.channels_last if "channels_last" in mode else torch.contiguous_format)
            if mode.endswith("compiled"):
                models = [torch.compile(one) for one in models]
            optimizer = torch.optim.AdamW([p for one in models for p in one.parameters()], lr=1e-4)

            def forward(models: Any = models, call: Any = call, dtype: torch.dtype = dtype) -> None:
                with torch.inference_mode(), torch.autocast(step.device, dtype, enabled=dtype != torch.float32):
                    call(models)

            def learn(
                models: Any = models, call: Any = call, dtype: torch.dtype = dtype, optimizer: Any = optimizer
            ) -> None:
                with torch.autocast(step.device, dtype, enabled=dtype != torch.float32):
                    answers = call(models)
                # a peer has classes, whatever ours answers
                losses = [loss_of(one) if one.shape == answer.shape else one.float().square().mean() for one in answers]
                optimizer.zero_grad()
                sum(losses).backward()
                optimizer.step()

            for kind, program in (("forward", forward), ("step", learn)):
                for one in models:
                    one.train(kind == "step")
                if step.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                (spent[kind][name],) = time_in_turns([program], max(1, step.rounds // 2), step.device)
                row[f"{kind}: {name} samples/s"] = round(batch / statistics.median(spent[kind][name]), 1)
                if step.device == "cuda":
                    row[f"{kind}: {name} MiB"] = round(torch.cuda.max_memory_allocated() / 2**20)
        for kind, times in spent.items():
            for name in peers:
                row[f"{kind}: time / {name}"] = round(ratio(times["ours"], times[name]), 2)
        step.write(row)


def faces(step: Step) -> None:
    _network(step, _face_network(step))


def eyes(step: Step) -> None:
    _network(step, _eye_network(step))


def signals(step: Step) -> None:
    _network(step, _signal_network(step))


FACE_RECIPE: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "model": {"image_size": 64, "backbone_depths": [1, 1, 1, 1], "backbone_widths": [16, 32, 64, 128]},
    "processor": {"size": {"height": 64, "width": 64}},
    "augmentation": {"name": "face"},
    "data": {"corpus": "image_folder", "train": {"split": "all"}, "validation": {"by_identity": 0.2}},
    "per_device_train_batch_size": 16,
    "num_train_epochs": 2,
}


def _draw_faces(folder: Path, step: Step) -> Path:
    from meco_hub.corpora.synthetic.faces import write_image_folder

    labels = ("neutral", "happiness", "surprise")
    write_image_folder(folder, seed=1, labels=labels, people=10 if step.limit else 60, takes=4, size=64)
    return folder


@contextmanager
def _counted_waits(device: str) -> Iterator[collections.Counter[str]]:
    """Counts the places at which this process waits for the GPU."""
    places: collections.Counter[str] = collections.Counter()
    if device == "cpu":
        yield places
        return
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one in heard:
        if "synchroniz" in str(one.message):
            places[f"{Path(one.filename).name}:{one.lineno}"] += 1


def waits(step: Step) -> None:
    from meco_hub.training.arguments import RunOptions
    from meco_hub.training.loop import TrainingRun
    from meco_hub.training.recipes import recipe_from_dict

    made, inputs, batch = _eye_network(step)
    for dispatch in ("sparse", "dense"):
        model = type(made)(type(made.config)(expert_dispatch=dispatch)).to(step.device).eval()
        ready = send_to_device(inputs, step.device)

        def forward(model: torch.nn.Module = model, ready: dict[str, Any] = ready) -> None:
            with torch.inference_mode():
                model(**ready)

        (spent,) = time_in_turns([forward], step.rounds, step.device)
        with _counted_waits(step.device) as places:
            forward()
        row = {"what": f"eyes, {dispatch} experts, batch {batch}", "ms": milliseconds(spent)}
        step.write(row | {"waits": sum(places.values()) if step.device == "cuda" else None, "where": dict(places)})
    with tempfile.TemporaryDirectory() as scratch:
        data = _draw_faces(Path(scratch) / "faces", step)
        for ema in (None, 0.9):
            recipe = recipe_from_dict({**FACE_RECIPE, "ema_decay": ema})
            run = TrainingRun(recipe, RunOptions(data, Path(scratch) / f"run{ema}", progress=False))
            run.model.train()
            spent = []
            for batch_ in itertools.islice(run._batches(), 8):
                begun = time.perf_counter()
                with _counted_waits(step.device) as places:
                    run._train_batch(batch_)
                    if run.average is not None:
                        run.average.update_parameters(run.bare_model)
                spent.append(time.perf_counter() - begun)
                run.progress.batch += 1
            run.accelerator.end_training()
            row = {"what": f"a training step of faces, ema_decay {ema}", "ms": milliseconds(spent)}
            step.write(row | {"waits": sum(places.values()) if step.device == "cuda" else None, "where": dict(places)})


def _launched(step: Step, what: str, flags: list[str], changes: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = _draw_faces(Path(scratch) / "faces", step)
        recipe, out = Path(scratch) / "recipe.yaml", Path(scratch) / "out"
        recipe.write_text(yaml.safe_dump({**FACE_RECIPE, **changes}), encoding="utf-8")
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", *flags]
        command += ["--cpu"] if step.device == "cpu" else []
        command += ["-m", "meco_hub.train", "--recipe", str(recipe), "--data_dir", str(data), "--output_dir", str(out)]
        began = time.perf_counter()
        done = subprocess.run([*command, "--no_progress"], capture_output=True, text=True, cwd=scratch)
        row: Row = {"what": what, "exit": done.returncode, "seconds": round(time.perf_counter() - began, 1)}
        if done.returncode:
            step.write(row | {"error": (done.stderr or done.stdout)[-600:]})
            return
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        row |= {"steps": record["steps"], "train_loss": [one["train_loss"] for one in record["history"]]}
        picture = next(one for one in data.rglob("*.*") if one.suffix in (".png", ".jpg"))
        asked = [sys.executable, "-m", "meco_hub", "predict", str(picture), "--model", str(out)]
        answered = subprocess.run([*asked, "--json"], capture_output=True, text=True, cwd=scratch)
        step.write(row | {"its folder answers": answered.returncode == 0})


def launch(step: Step) -> None:
    _launched(step, "accelerate launch, bf16", ["--mixed_precision", "bf16"], {"mixed_precision": "bf16"})


def fsdp(step: Step) -> None:
    if step.device == "cpu":
        step.write({"what": "accelerate launch, FSDP 2", "skipped": "Accelerate's launcher shards on GPUs only"})
        return
    flags = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_state_dict_type", "SHARDED_STATE_DICT"]
    _launched(step, "accelerate launch, FSDP 2", [*flags, "--fsdp_auto_wrap_policy", "NO_WRAP"], {})


def tests(step: Step) -> None:
    workers = max(1, min(14, (os.cpu_count() or 2) - 1))
    chosen = ["plugins/mcoenet/tests/test_modeling.py"] if step.limit else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--network_device", step.device]
    command += ["-m", "not slow and not external", "-n", str(workers), *chosen]
    log = step.out / "tests.txt"
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT).returncode
    text = log.read_text(encoding="utf-8")
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, flags=re.MULTILINE)
    step.write({"what": "fast tests", "exit": code, **counts, "failing": failed[:100]})


def fer2013(step: Step) -> None:
    if step.data_dir is None:
        step.write({"what": "FER-2013", "skipped": "no --data_dir, and no parts of it beside run.sh"})
        return
    minutes = max(0.5, (step.seconds - 75) / 60)
    command = [sys.executable, str(HERE.with_name("train_published.py")), "--data_dir", str(step.data_dir)]
    command += ["--output_dir", str(step.out), "--minutes", f"{minutes:.2f}", *(["--tiny"] if step.limit else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        step.write({"what": "FER-2013", "exit": done.returncode, "error": done.stderr[-600:]})
        return
    figures = json.loads((step.out / "figures.json").read_text(encoding="utf-8"))
    row = {"what": "FER-2013, published network from random weights, PublicTest", "minutes": round(minutes, 2)}
    row |= {key: figures["test"][key] for key in ("war", "uar", "ece", "n")}
    row |= {
        key: figures[key] for key in ("published_accuracy", "epochs", "steps", "pictures_per_second", "utilisation")
    }
    step.write(row)


STEPS: dict[str, tuple[Callable[[Step], None], int]] = {
    "environment": (environment, 20),
    "scan": (scan, 40),
    "kernels": (kernels, 40),
    "faces": (faces, 70),
    "eyes": (eyes, 60),
    "signals": (signals, 60),
    "waits": (waits, 40),
    "launch": (launch, 45),
    "fsdp": (fsdp, 45),
    "tests": (tests, 150),
    "fer2013": (fer2013, 600),
}
"""Name → step, and the most seconds that it may take."""


def run_step(name: str, arguments: argparse.Namespace, seconds: float) -> Row:
    """Run one step in a process of its own; what it wrote before it ended, or before it was stopped."""
    rows = arguments.output_dir / "rows.jsonl"
    rows.unlink(missing_ok=True)
    command = [sys.executable, str(HERE), "--step", name, "--device", arguments.device, "--seconds", f"{seconds:.0f}"]
    command += ["--output_dir", str(arguments.output_dir), *(["--limit"] if arguments.limit else [])]
    command += [] if arguments.data_dir is None else ["--data_dir", str(arguments.data_dir)]
    began, error = time.perf_counter(), ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as heard:
        process = subprocess.Popen(command, stdout=heard, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code, error = None, f"stopped after {seconds:.0f} s"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            heard.seek(0)
            error = heard.read()[-600:]
    written = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()] if rows.exists() else []
    rows.unlink(missing_ok=True)
    ended = {"exit": code, "seconds": round(time.perf_counter() - began, 1), "error": error}
    return {"step": name, **ended, "rows": written}


def to_markdown(results: list[Row]) -> str:
    """One table: a line for each figure."""
    lines = ["| step | what | figure | value |", "|---|---|---|---|"]
    for one in results:
        for row in one["rows"]:
            for name, value in row.items():
                if name != "what":
                    lines.append(f"| {one['step']} | {row['what']} | {name} | {_cell(value)} |")
        ended = f"failed: {_cell(one['error'])}" if one["error"] else "done"
        lines.append(f"| {one['step']} | the step | {one['seconds']} s | {ended} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return " ".join(text.split()).replace("|", "\\|")[:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="FER-2013's folder or zip")
    parser.add_argument("--output_dir", type=Path, default=Path(os.environ.get("OUT", "out/gpu/run")))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit", action="store_true", help="small sizes, few repeats: to try the way through")
    parser.add_argument("--seconds", type=float, help="for all steps together (default 580, on a CPU 3600)")
    parser.add_argument("--only", choices=tuple(STEPS), nargs="*", default=tuple(STEPS), help="these steps alone")
    parser.add_argument("--step", choices=tuple(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("No GPU is to be seen. `--device cpu --limit` tries the way through on a CPU.", file=sys.stderr)
        return 1
    if arguments.seconds is None:
        arguments.seconds = 580.0 if arguments.device == "cuda" else 3600.0
    out: Path = arguments.output_dir.resolve()
    arguments.output_dir = out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.step:
        torch.manual_seed(0)
        with (out / "rows.jsonl").open("a", encoding="utf-8") as stream:

            def write(row: Row) -> None:
                stream.write(json.dumps(row) + "\n")
                stream.flush()

            STEPS[arguments.step][0](
                Step(arguments.device, arguments.limit, arguments.data_dir, out, arguments.seconds, write)
            )
        return 0
    began, results = time.perf_counter(), list[Row]()
    for name in (one for one in STEPS if one in arguments.only):
        left = arguments.seconds - (time.perf_counter() - began)
        if left < 15:
            results.append({"step": name, "exit": None, "seconds": 0.0, "error": "no time was left", "rows": []})
            continue
        most = STEPS[name][1] * (1 if arguments.device == "cuda" else 10)  # the limits are a GPU's
        results.append(run_step(name, arguments, min(most, left)))
        write_json(results, out / "results.json")
        (out / "results.md").write_text(to_markdown(results), encoding="utf-8")
        print(f"{name}: {results[-1]['seconds']} s, {len(results[-1]['rows'])} rows {results[-1]['error'][-300:]}")
    print((out / "results.md").read_text(encoding="utf-8"))
    return int(any(one["error"] for one in results))


if __name__ == "__main__":
    sys.exit(main())
