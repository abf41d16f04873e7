"""Train the published ExpressNet-MoE on FER-2013 for so many minutes, and write what came of it; `measure.py` calls it.

The network is the published one, 35.9 million weights at 224 pixels, from random weights: its authors started from VGGFace2, whose
weights are not ours to give out. What is around it is ours: pictures that recur are kept on one side, a tenth of the training part
selects, and PublicTest is looked at once. The learning rate runs down over as many steps as the minutes hold, told by a probe.

Written to --output_dir: figures.json (figures on PublicTest and on validation, throughput, utilisation, versions), curve.csv (one
line per epoch), utilisation.csv (one line per second), report.json. No weights.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from meco_hub.csv_files import write_rows
from meco_hub.durable import write_json
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.report import library_versions
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import TrainingRun, train
from meco_hub.training.recipes import Recipe, override, read_recipe_file, recipe_from_dict, recipe_to_dict

PUBLISHED = 0.6466
"""Accuracy of the published run, on both tests together and selected on them (arXiv:2510.13493)."""

CHANGES: dict[str, Any] = {
    "description": "The published network on FER-2013 from random weights, in bf16, for some minutes of one GPU",
    "data.options": {"public_test": "validation", "votes": False},
    "data.train": {"split": "train", "without_content_of": ["validation"]},
    "data.validation": {"by_content": 0.1},
    "data.allow_leak": False,
    "processor.do_find_face": False,
    "processor.do_grayscale": True,
    "model.norm_topk_prob": True,
    "model.router_aux_loss_coef": 0.01,
    "model.batch_norm_momentum": 0.1,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 5.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.05,
    "early_stopping_patience": None,
    "selection": "balanced_score",
    "augmentation": {"name": "face", "rotation": 15.0, "shift": 0.08, "erase": 0.25, "noise": 0.2, "jpeg": 0.2},
    "ema_decay": 0.995,
    "calibrate": True,
}
TINY: dict[str, Any] = {
    # the same way through, with a network that a CPU trains in seconds
    "model.image_size": 64,
    "model.backbone_depths": [1, 1, 1, 1],
    "model.backbone_widths": [8, 16, 32, 64],
    "model.fe1_kernel_sizes": [15, 9, 7, 5, 3, 3],
    "processor.size": {"height": 64, "width": 64},
    "per_device_train_batch_size": 16,
}


class Utilisation:
    """What nvidia-smi would say of the GPU, once a second, in a thread; a context manager.

    Attributes:
        rows: (seconds, % of the time in which a kernel ran, MiB in use, watts).
    """

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Utilisation":
        if torch.cuda.is_available():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        handle, began = pynvml.nvmlDeviceGetHandleByIndex(0), time.perf_counter()
        while not self._stop.wait(1.0):
            self.rows.append(
                (
                    round(time.perf_counter() - began, 1),
                    float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
                    pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20,
                    pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                )
            )

    def summary(self) -> dict[str, float] | None:
        """Medians over the middle nine tenths of the time; None without a GPU."""
        if len(self.rows) < 3:
            return None
        cut = len(self.rows) // 20
        kept = self.rows[cut : len(self.rows) - cut]
        busy, memory, power = (statistics.median(row[column] for row in kept) for column in (1, 2, 3))
        return {"busy_percent": busy, "memory_mib": memory, "watts": power}


def build_recipe(arguments: argparse.Namespace) -> Recipe:
    """The published recipe with what this run changes."""
    cpus = os.cpu_count() or 1
    changes = {
        **CHANGES,
        "learning_rate": arguments.learning_rate,
        "per_device_train_batch_size": arguments.batch_size,
        "per_device_eval_batch_size": arguments.batch_size,
        "dataloader_num_workers": 0 if arguments.tiny else max(1, cpus - 1),
        "mixed_precision": "bf16",
        "seed": arguments.seed,
        **(TINY if arguments.tiny else {}),
    }
    return recipe_from_dict(override(read_recipe_file("meco_expressnet_moe/fer2013"), changes), "the published recipe")


def probe(recipe: Recipe, data_dir: Path, folder: Path, steps: int) -> tuple[float, int]:
    """Seconds per step of training, the first steps left out, and steps per epoch."""
    run = TrainingRun(recipe, RunOptions(data_dir, folder, progress=False))
    times: list[float] = []
    run.model.train()
    for batch in run._batches():
        run._train_batch(batch)
        run.progress.batch += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) == steps:
            break
    gaps = [later - earlier for earlier, later in zip(times[steps // 3 :], times[steps // 3 + 1 :], strict=False)]
    run.accelerator.end_training()
    return statistics.mean(gaps), len(run.loaders.train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, default=Path(os.environ.get("OUT", "out/gpu/run")))
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of training and its validation; start and test not counted"
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tiny", action="store_true", help="a small network and 24 steps, to try the way through on a CPU"
    )
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    recipe = build_recipe(arguments)
    out = arguments.output_dir
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        per_step, per_epoch = probe(recipe, arguments.data_dir, Path(scratch) / "probe", 12 if arguments.tiny else 40)
        # validation after each epoch is a ninth of the pictures, forward only: a twentieth of the time
        steps = 24 if arguments.tiny else int(60 * arguments.minutes / per_step / 1.1)
        print(f"{per_step:.3f} s per step, {per_epoch} steps per epoch: {steps} steps, {steps / per_epoch:.1f} epochs")
        changed = {"max_train_steps": steps, "num_train_epochs": max(1, -(-steps // per_epoch))}
        settings = recipe_from_dict(override(recipe_to_dict(recipe), changed), "the published recipe")
        folder, began = Path(scratch) / "run", time.perf_counter()
        with Utilisation() as utilisation:
            run = train(settings, RunOptions(arguments.data_dir, folder, progress=False))
        assert run is not None
        seconds = time.perf_counter() - began
        report = evaluate_checkpoint(
            folder,
            "fer2013",
            arguments.data_dir,
            out,
            EvaluationSettings(split="validation", batch_size=arguments.batch_size),
        )
    with (out / "curve.csv").open("w", newline="") as stream:
        head = list(run["history"][0])
        write_rows(stream, head, ([step.get(name) for name in head] for step in run["history"]))
    with (out / "utilisation.csv").open("w", newline="") as stream:
        write_rows(stream, ("seconds", "busy_percent", "memory_mib", "watts"), utilisation.rows)
    pictures = steps * settings.per_device_train_batch_size
    figures = {
        "split": "PublicTest, looked at once",
        "published_accuracy": PUBLISHED,
        "test": report["metrics"],
        "intervals": report["confidence_intervals"],
        "validation": run["validation"],
        "parameters": report["checkpoint"]["parameters"],
        "steps": steps,
        "epochs": round(steps / per_epoch, 2),
        "training_seconds": round(seconds, 1),
        "pictures_per_second": round(settings.per_device_train_batch_size / per_step, 1),
        "pictures_per_second_with_validation": round(pictures / seconds, 1),
        "utilisation": utilisation.summary(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "energy": run.get("energy"),
        "tiny": arguments.tiny,
        "versions": library_versions(),
    }
    write_json(figures, out / "figures.json")
    for name in ("predictions.csv", "predictions.parquet"):
        (out / name).unlink(missing_ok=True)
    print(json.dumps({key: figures[key] for key in ("epochs", "pictures_per_second", "utilisation", "device")}))
    print(
        f"PublicTest: accuracy {report['metrics']['war']:.4f} (published {PUBLISHED}), UAR {report['metrics']['uar']:.4f}"
    )


if __name__ == "__main__":
    main()
