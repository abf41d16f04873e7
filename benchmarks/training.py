"""What the training loop costs: its rate over a bare PyTorch loop's, the loader's rate over the model's, memory over epochs.

    python benchmarks/training.py [--epochs 4] [--kind faces|signals]

Both loops train the same model on the same batches of the same loader, epoch by epoch in turn, on drawn data; the bare one does
what a tutorial does: forward, loss, backward, step. Ratios are medians over the epochs of one run. Memory is what the process
holds after each epoch of the loop.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.corpora.synthetic.signals import write_case_npz
from meco_hub.training.arguments import RunOptions
from meco_hub.training.loop import TrainingRun
from meco_hub.training.recipes import recipe_from_dict

RECIPES: dict[str, dict[str, Any]] = {
    "faces": {
        "model_type": "meco_expressnet_moe",
        "model": {"image_size": 64, "backbone_depths": [1, 1, 1, 1], "backbone_widths": [16, 32, 64, 128]},
        "processor": {"size": {"height": 64, "width": 64}},
        "augmentation": {"name": "face"},
        "data": {"corpus": "image_folder", "train": {"split": "all"}, "validation": {"by_identity": 0.1}},
        "per_device_train_batch_size": 32,
    },
    "signals": {
        "model_type": "meco_himoe",
        "model": {
            "modalities": {
                "cardiac": {"channels": 2, "sampling_rate": 20.0},
                "eda": {"channels": 2, "sampling_rate": 20.0},
                "resp": {"channels": 1, "sampling_rate": 20.0},
            },
            "window_s": 10.0,
            "grid_step_s": 0.5,
            "prediction_mode": "sequence",
        },
        "augmentation": {"name": "signals"},
        "data": {"corpus": "case", "train": {"split": "all"}, "validation": {"by_identity": 0.2}},
        "selection": "rmse",
        "per_device_train_batch_size": 32,
    },
}


def bare_epoch(run: TrainingRun) -> int:
    """What a tutorial would write; gives the number of samples."""
    model, optimizer, seen = run.model, run.optimizer, 0
    model.train()
    for batch in run.loaders.train:
        targets = [batch["labels"], *([batch["label_mask"]] if "label_mask" in batch else [])]
        outputs = model(**batch)
        loss = run.criterion(outputs.logits, *targets)
        if outputs.aux_loss is not None:
            loss = loss + outputs.aux_loss
        optimizer.zero_grad()
        run.accelerator.backward(loss)
        optimizer.step()
        seen += len(batch["labels"])
    return seen


def loop_epoch(run: TrainingRun) -> int:
    """The same by the loop, without its validation, which the bare one lacks too."""
    run.train_epoch()
    seen = run.progress.loss_count
    run.progress.epoch += 1
    run.progress.batch, run.progress.loss_sums, run.progress.loss_count = 0, [], 0
    run.losses.begin([])
    return seen


def read_epoch(run: TrainingRun) -> int:
    """The loader alone."""
    return sum(len(batch["labels"]) for batch in run.loaders.train)


def step_rate(run: TrainingRun, repeats: int) -> float:
    """Samples a second of the model alone: one batch that lies ready, again and again."""
    batch = next(iter(run.loaders.train))
    run.model.train()
    began = time.perf_counter()
    for _ in range(repeats):
        outputs = run.model(**batch)
        targets = [batch["labels"], *([batch["label_mask"]] if "label_mask" in batch else [])]
        run.accelerator.backward(run.criterion(outputs.logits, *targets))
        run.optimizer.step()
        run.optimizer.zero_grad()
    return repeats * len(batch["labels"]) / (time.perf_counter() - began)


def rate(epoch: Callable[[TrainingRun], int], run: TrainingRun) -> float:
    """Samples a second of one epoch."""
    began = time.perf_counter()
    seen = epoch(run)
    return seen / (time.perf_counter() - began)


def measure(kind: str, epochs: int, folder: Path) -> None:
    """Time one kind of data and print its ratios."""
    if kind == "faces":
        data_dir = folder / "faces"
        write_image_folder(data_dir, seed=0, people=40, takes=4, size=96)
    else:
        data_dir = folder / "case.npz"
        write_case_npz(data_dir, seed=0, people=20, films=8)
    recipe = recipe_from_dict({**RECIPES[kind], "num_train_epochs": 2 * epochs + 2})
    run = TrainingRun(recipe, RunOptions(data_dir, folder / f"out-{kind}", progress=False))
    rate(loop_epoch, run)  # warm
    process = psutil.Process()
    ours, bare, reading, memory = [], [], [], []
    for _ in range(epochs):
        ours.append(rate(loop_epoch, run))
        memory.append(process.memory_info().rss / 1e6)
        bare.append(rate(bare_epoch, run))
        reading.append(rate(read_epoch, run))
    model = step_rate(run, repeats=max(3, 2 * epochs))
    loop_ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    print(
        f"{kind:8} {statistics.median(ours):7.1f} samples/s by the loop, {statistics.median(bare):7.1f} by the bare one",
        end="",
    )
    print(f"   ratio {loop_ratio:.3f} (goal 0.95)")
    print(f"{'':8} loader alone {statistics.median(reading):7.1f}, model alone {model:7.1f}", end="")
    print(f"   ratio {statistics.median(reading) / model:.2f} (goal 2)")
    grown = (memory[-1] - memory[0]) / max(1, len(memory) - 1)
    print(f"{'':8} memory after each epoch {', '.join(f'{one:.0f}' for one in memory)} MB, {grown:+.2f} MB an epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kind", choices=sorted(RECIPES), nargs="+", default=sorted(RECIPES))
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kind:
            measure(kind, arguments.epochs, Path(folder))


if __name__ == "__main__":
    main()
