"""A process that has imported everything and forks others that train, so that a test can kill dozens of them in a minute.

    python training_server.py        one job a line on stdin, as JSON; one answer a line on stdout

A job is {"recipe": …, "options": …, "ranks": 1, "kill": …, "die_at": …}. `kill` is null or {"signal": 9, "whom": "all" | "first" |
"group"} and when: "after" seconds, at or after "batches" batches, "during" what. With `die_at` n, the first rank is killed by
SIGKILL just before its n-th change to a file or folder.
With several ranks, each is told what torchrun would tell it. The server itself never trains: what it forks begins afresh.
"""

import json
import logging
import mmap
import os
import signal
import socket
import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}
LIMIT_S = 300


class Trace:
    """What a rank is doing, in memory that outlives it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self.now: dict[str, Any] = {
            "doing": "start",
            "batches": 0,
            "saved": 0,
            "resumed": None,
            "changes": 0,
            "listening": False,
        }
        self.write()

    def write(self, **news: Any) -> None:
        self.now |= news
        text = json.dumps(self.now).encode()
        self._memory[: len(text) + 1] = text + b"\n"

    def read(self) -> dict[str, Any]:
        return json.loads(self._memory[:].split(b"\n")[0])


def _follow(trace: Trace) -> None:
    """Let the parts of a training say that they are being carried out."""
    from meco_hub.training import engine, loop

    def during(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def traced(*args: Any, **kwargs: Any) -> Any:
            before = trace.now["doing"]
            trace.write(doing=label)
            result = original(*args, **kwargs)
            trace.write(doing=before)
            return result

        setattr(owner, name, traced)

    train_batch = loop.TrainingRun._train_batch

    def train_and_count(run: Any, batch: Any) -> Any:
        trace.write(batches=trace.now["batches"] + 1)
        return train_batch(run, batch)

    loop.TrainingRun._train_batch = train_and_count
    during(loop.TrainingRun, "_train_batch", "step")
    during(loop.TrainingRun, "close_epoch", "validation")
    during(loop.TrainingRun, "finish", "finish")
    during(loop, "save_best", "best")
    during(loop.checkpoints, "save_checkpoint", "checkpoint")
    save, resume = loop.checkpoints.save_checkpoint, loop.TrainingRun.resume

    def save_and_tell(*args: Any, **kwargs: Any) -> Any:
        result = save(*args, **kwargs)
        trace.write(saved=kwargs["progress"].step)
        return result

    def resume_and_tell(run: Any) -> None:
        resume(run)
        trace.write(resumed=run.progress.step, doing="loop")

    loop.checkpoints.save_checkpoint, loop.TrainingRun.resume = save_and_tell, resume_and_tell
    listen = engine.Interruption.__enter__

    def listen_and_tell(interruption: Any) -> Any:
        result = listen(interruption)
        trace.write(listening=True)
        return result

    engine.Interruption.__enter__ = listen_and_tell


def _count_changes(trace: Trace, folder: str, die_at: int | None) -> None:
    """Count what changes files, and die at one of the changes."""

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (writes and isinstance(args[0], str | os.PathLike) and str(args[0]).startswith(folder)):
                return
        elif event not in CHANGES or trace.now["doing"] == "start":
            return
        trace.write(changes=trace.now["changes"] + 1)
        if trace.now["changes"] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _train(job: dict[str, Any], trace: Trace, rank: int, port: int, log: Path) -> int:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if job["ranks"] > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["ranks"], "LOCAL_WORLD_SIZE": job["ranks"]}
        os.environ |= {key: str(value) for key, value in told.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from meco_hub import train as door
    from meco_hub.training.recipes import recipe_from_dict, write_recipe

    _follow(trace)
    options = dict(job["options"])
    file = log.with_suffix(".yaml")
    write_recipe(recipe_from_dict(job["recipe"]), file)
    _count_changes(trace, str(options["output_dir"]), job.get("die_at") if rank == 0 else None)
    flags = ["--recipe", str(file), "--no_progress"]
    for key, value in options.items():
        flags += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return door.main(flags)


def _fork(job: dict[str, Any], trace: Trace, rank: int, port: int, log: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = _train(job, trace, rank, port, log)
    except BaseException:
        logging.exception("the job failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _send(children: dict[int, int], kill: dict[str, Any]) -> None:
    targets = list(children)[:1] if kill["whom"] == "first" else list(children)
    for child in targets:
        if kill["whom"] == "group":
            os.killpg(child, kill["signal"])
        else:
            os.kill(child, kill["signal"])


def carry_out(job: dict[str, Any], logs: Path) -> dict[str, Any]:
    """Fork, watch, kill if asked to, wait."""
    began = time.monotonic()
    port = _free_port()
    traces = [Trace() for _ in range(job["ranks"])]
    files = [logs / f"rank{rank}.log" for rank in range(job["ranks"])]
    children = {_fork(job, traces[rank], rank, port, files[rank]): rank for rank in range(job["ranks"])}
    alive, codes = dict(children), {}
    kill = job.get("kill")
    doing = None
    while alive:
        for child in list(alive):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[alive.pop(child)] = os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - began
        if alive and kill and passed >= kill.get("after", 0):
            seen = traces[0].read()
            # until every rank listens, a signal ends the one that does not as it would end any process
            due = kill["signal"] == signal.SIGKILL or all(trace.read()["listening"] for trace in traces)
            if due and seen["batches"] >= kill.get("batches", 0) and kill.get("during") in (None, seen["doing"]):
                doing = seen["doing"]
                _send(alive, kill)
                kill = None
        # a rank whose peer was killed may wait for it in vain
        if passed > LIMIT_S or (job.get("die_at") and alive and -signal.SIGKILL in codes.values()):
            for child in alive:
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)
    seen = traces[0].read()
    return {
        "codes": [codes[rank] for rank in sorted(codes)],
        "seconds": time.monotonic() - began,
        "doing": seen["doing"] if doing is None else doing,
        "saved": seen["saved"],
        "resumed": seen["resumed"],
        "changes": seen["changes"],
        "logs": [file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in files],
    }


def main() -> None:
    import datasets
    import torch

    import meco_hub.train
    import meco_hub.training.arguments
    import meco_hub.training.loop  # noqa: F401 (imported once, for all that are forked)
    from meco_hub.plugins import architectures, load_dotted

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    for entry in architectures().healthy.values():
        load_dotted(entry.head)
    logs = Path(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line), logs)), flush=True)


if __name__ == "__main__":
    main()
