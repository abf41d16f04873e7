"""`meco predict` over very many pictures, by several processes, killed again and again: rate, memory, and each row once.

    python benchmarks/big_prediction.py                           # 100,000 files, two processes, ten kills
    python benchmarks/big_prediction.py --parquet                 # the same pictures as rows of Parquet shards
    python benchmarks/big_prediction.py --limit 300 --kills 2     # a minute on an idle machine

Pictures of 36×36 of noise and a network of a few thousand parameters are made here, and no face is looked for (in noise the finder
looks four times, which takes three quarters of the time), so what is measured is everything but the two. The first run is left
alone: a tenth's rate is its files over the time between the parts that end it and the one before, or over the processor's time
that was used meanwhile, and its memory the largest that a process has then (Pss, which shares out what is mapped together). The
second one is killed, all its processes at once, at random moments, and begun again after each; its answers must be those of the
first.
"""

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow
import torch
from PIL import Image
from pyarrow import dataset, parquet

from meco_hub import plugins

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from tiny_networks import FACE

NAMES = ["surprise", "neutral", "anger", "happiness"]
FOLDER, SHARD = 1000, 5000
"""Pictures in a folder, and in a Parquet file."""


def write_checkpoint(folder: Path) -> Path:
    """A tiny face network that takes pictures as they are."""
    torch.manual_seed(0)
    entry = plugins.architecture("meco_expressnet_moe")
    assert entry.image_processor is not None
    config = plugins.load_dotted(entry.config)(**FACE, id2label=dict(enumerate(NAMES)))
    plugins.load_dotted(entry.head)(config).save_pretrained(folder)
    made = plugins.load_dotted(entry.image_processor)(size={"height": 32, "width": 32}, do_find_face=False)
    made.save_pretrained(folder)
    return folder


def write_pictures(folder: Path, count: int, as_rows: bool) -> None:
    """So many pictures, as files or as rows."""
    draw = np.random.default_rng(0)
    kinds = []
    for _ in range(100):
        stream = io.BytesIO()
        Image.fromarray(draw.integers(0, 255, (36, 36, 3), np.uint8)).save(stream, "png")
        kinds.append(stream.getvalue())
    for first in range(0, count, SHARD if as_rows else FOLDER):
        last = min(first + (SHARD if as_rows else FOLDER), count)
        if as_rows:
            rows = [{"image": {"bytes": kinds[place % 100], "path": f"{place}.png"}} for place in range(first, last)]
            folder.mkdir(exist_ok=True)
            parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{first:09d}.parquet", row_group_size=1000)
            continue
        place = folder / f"{first:09d}"
        place.mkdir(parents=True)
        for index in range(first, last):
            (place / f"{index:09d}.png").write_bytes(kinds[index % 100])


class Run:
    """One `meco predict`, begun as often as it must be."""

    def __init__(self, options: argparse.Namespace, root: Path, name: str) -> None:
        self.output = root / name
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.processes)]
        words = ["predict", str(root / "pictures"), "--model", str(root / "checkpoint"), "--output", str(self.output)]
        words += ["--faces", "cropped"]
        self._command = [sys.executable, *launch, "-m", "meco_hub", *words, "--part_size", str(options.part_size)]
        self._log = root / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
            )

    def parts(self) -> int:
        """Parts that are done."""
        folder = self.output / "done"
        return sum(1 for _ in folder.glob("part-*")) if folder.is_dir() else 0

    def running(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    def usage(self) -> tuple[float, float]:
        """MB of the largest process, and processor's seconds that all have used so far."""
        assert self.process is not None
        found, seconds = [0.0], 0.0
        try:
            for one in psutil.Process(self.process.pid).children(recursive=True):
                found.append(one.memory_full_info().pss / 1e6)
                seconds += sum(one.cpu_times()[:2])
        except psutil.NoSuchProcess:  # it has just ended
            pass
        return max(found), seconds

    def kill(self) -> None:
        """All processes at once, as a machine that goes down ends them."""
        assert self.process is not None
        everyone = [self.process.pid]
        everyone += [one.pid for one in psutil.Process(self.process.pid).children(recursive=True)]
        for pid in everyone:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # its parent's end took it along
                continue
        self.process.wait()

    def names(self) -> list[str]:
        """The `file` of every row."""
        return dataset.dataset(self.output / "answers.parquet").to_table(columns=["file"])["file"].to_pylist()


def run_alone(run: Run, total: int, part_size: int) -> None:
    """Rate and memory by tenth, of a run that is left alone."""
    run.begin()
    parts = -(-total // part_size)
    peaks, used, first, done = [0.0] * 10, [0.0] * 10, 0.0, 0
    while run.running():
        done = max(done, run.parts())
        tenth = min(9, 10 * done // parts)
        memory, seconds = run.usage()
        if not done:  # what starting costs
            first = seconds
        peaks[tenth], used[tenth] = max(peaks[tenth], memory), max(used[tenth], seconds)
        time.sleep(0.5)
    assert run.process is not None
    assert run.process.returncode == 0, run._log.read_text(errors="replace")[-3000:]
    times = sorted(file.stat().st_mtime for file in (run.output / "done").iterdir())
    print("| tenth | files a second | files a processor's second | largest process, MB |\n|---|---|---|---|")
    ends = [times[max(0, parts * (tenth + 1) // 10 - 1)] for tenth in range(10)]
    counts = [max(0, parts * (tenth + 1) // 10 - 1) for tenth in range(10)]
    for tenth in range(10):
        # the first part's beginning is not known, so the first tenth is counted from its end
        before, since = (counts[tenth - 1], ends[tenth - 1]) if tenth else (0, times[0])
        seconds, files = ends[tenth] - since, (counts[tenth] - before) * part_size
        spent = used[tenth] - (used[tenth - 1] if tenth else first)
        rate = f"{files / seconds:.0f}" if seconds > 0 and files else "–"
        by_processor = f"{files / spent:.0f}" if spent > 0 and files else "–"
        print(f"| {tenth + 1} | {rate} | {by_processor} | {f'{peaks[tenth]:.0f}' if peaks[tenth] else '–'} |")


def run_killed(run: Run, kills: int, parts: int, chance: random.Random) -> None:
    """The same, killed so often: some while it begins, the others at a random part."""
    for number in range(kills):
        run.begin()
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 15))
        else:
            wanted = run.parts() + chance.uniform(0, 2 * (parts - run.parts()) / (kills - number + 1))
            while run.running() and run.parts() < wanted:
                time.sleep(0.02)
        if run.running():
            run.kill()
        print(f"killed at {run.parts()} of {parts} parts", flush=True)
    run.begin()
    assert run.process is not None
    assert run.process.wait() == 0, run._log.read_text(errors="replace")[-3000:]


def main() -> int:
    """Make, run, print; 1 where a row is missing, there twice, or another than in the run that was left alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--limit", type=int, help="at most so many files")
    parser.add_argument("--parquet", action="store_true", help="rows of Parquet files instead of files")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--part_size", type=int, help="files in a part; default: a fiftieth of all, at most 512")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total = min(options.files, options.limit or options.files)
    options.part_size = options.part_size or max(1, min(512, total // 50))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_checkpoint(root / "checkpoint")
        write_pictures(root / "pictures", total, options.parquet)
        what = "rows of Parquet" if options.parquet else "files"
        print(f"{total} {what}, {options.processes} processes, parts of {options.part_size}\n", flush=True)
        alone, killed = Run(options, root, "alone"), Run(options, root, "killed")
        run_alone(alone, total, options.part_size)
        run_killed(killed, options.kills, -(-total // options.part_size), random.Random(options.seed))
        whole = dataset.dataset(alone.output / "answers.parquet").to_table()
        same = whole.equals(dataset.dataset(killed.output / "answers.parquet").to_table())
        names = killed.names()
        twice, missing = len(names) - len(set(names)), total - len(set(names))
        print(
            f"\nkilled {options.kills} times: {twice} rows twice, {missing} missing, answers {'the same' if same else 'OTHERS'}"
        )
        return 0 if same and not twice and not missing else 1


if __name__ == "__main__":
    raise SystemExit(main())
