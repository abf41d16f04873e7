"""The machine that a training runs on: engines that hold a model in parts, torch.compile, energy, signals, trackers.

**Engines** are FSDP and DeepSpeed, as Accelerate configures them. Where no process has the whole model, three things change:
weights are gathered by all processes before the main one writes them; all go through all of validation together, because each
forward pass is everyone's; and in the end the kept weights are validated as a whole model of their own. Everything else is
Accelerate's business.

FSDP is supported in its second version, which shards a model in place. An averaged copy, a teacher's extra layer and torch.compile
are not combined with these engines.
"""

import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, InitProcessGroupKwargs, KwargsHandler
from torch import nn

from ..errors import ConfigurationError, DependencyError, TrainingInterrupted, suggest, unknown_name
from .recipes import Recipe

logger = logging.getLogger(__name__)

_IN_PARTS = (DistributedType.FSDP, DistributedType.DEEPSPEED)

_SAID_TWICE = {
    "mixed_precision": "ACCELERATE_MIXED_PRECISION",
    "gradient_accumulation_steps": "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
}
"""Recipe key → the variable by which a file of `accelerate config` says the same."""


@contextmanager
def configuring(recipe: Recipe) -> Iterator[None]:
    """Say where Accelerate's configuration and the recipe differ, and in one line what Accelerate cannot begin with."""
    for key, variable in _SAID_TWICE.items():
        theirs, ours = os.environ.get(variable), str(getattr(recipe, key))
        if theirs not in (None, "no", "1", ours):
            logger.warning(
                f"Accelerate's configuration says {key} {theirs} and the recipe {ours}; the recipe holds. Pass --{key} {theirs} "
                "for the other."
            )
    try:
        yield
    except ImportError as error:
        raise DependencyError(
            f"Accelerate cannot begin: {error}. Expected everything that the engine it is configured for needs. Install what is "
            "missing, or choose another engine (`accelerate config`)."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"Accelerate cannot begin: {error} Change mixed_precision in the recipe, or its configuration (`accelerate config`)."
        ) from error


def process_groups() -> list[KwargsHandler]:
    """What Accelerate must be told so that DeepSpeed, where it is configured, holds for processes on CPUs too.

    It chooses no backend for them by itself, and each process would then train alone.
    """
    on_cpus = _deepspeed_is_asked_for() and not torch.accelerator.is_available()
    return [InitProcessGroupKwargs(backend="gloo")] if on_cpus else []


def _deepspeed_is_asked_for() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def prepare_engine(accelerator: Accelerator) -> None:
    """Let the engine that is configured hold for processes on CPUs, and for this loop; called before a model is built.

    Accelerate hands CPUs to DDP where FSDP is configured, without a word. FSDP 2 itself, its collectives and its checkpoints run on
    gloo.
    """
    build_whole_models(accelerator)
    state = accelerator.state
    if _deepspeed_is_asked_for() and state.distributed_type == DistributedType.MULTI_CPU:
        logger.warning(
            f"DeepSpeed is configured, and so is use_cpu, with which Accelerate trains by {state.distributed_type.value}. "
            "Leave use_cpu out: without a GPU, DeepSpeed trains on the CPU."
        )
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and state.distributed_type == DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()  # by the same variables that Accelerate reads
        if state.mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
        # in both places where Accelerate keeps it
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP


def build_whole_models(accelerator: Accelerator) -> None:
    """Let transformers build whole models; called before the first, and again after `prepare`, which lets it divide them.

    With ZeRO-3 it would divide each as it is born, also the one that the kept weights are validated as.
    """
    if (plugin := accelerator.state.deepspeed_plugin) is not None:
        plugin.dschf = None  # pyright: ignore[reportAttributeAccessIssue]  # transformers holds it by a weak reference


def in_parts(accelerator: Accelerator) -> bool:
    """No process has the whole model."""
    return accelerator.distributed_type in _IN_PARTS


def check_engine(accelerator: Accelerator, recipe: Recipe) -> None:
    """Refuse what the loop cannot do with the engine that is configured, before anything is computed."""
    engine = accelerator.distributed_type
    if engine == DistributedType.MEGATRON_LM:
        raise ConfigurationError(
            "Accelerate is configured for Megatron-LM, which knows language models only. Choose DDP, FSDP or DeepSpeed by "
            "`accelerate config`."
        )
    if engine == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ConfigurationError(
            "Accelerate is configured for FSDP 1; expected FSDP 2, which shards a model in place. Set fsdp_version: 2 in its "
            "configuration (`accelerate to-fsdp2` converts one)."
        )
    if in_parts(accelerator):
        wanted = [
            key for key in ("ema_decay", "distillation", "soft_label_head", "torch_compile") if getattr(recipe, key)
        ]
        if wanted:
            raise ConfigurationError(
                f"The recipe sets {', '.join(wanted)}, which {engine.value} cannot be combined with here. Leave it out, or use DDP."
            )


def check_model(accelerator: Accelerator, model: nn.Module, recipe: Recipe) -> None:
    """Refuse a model that the engine cannot divide, and tell DeepSpeed what it does on its own; called before `prepare`."""
    scalars = [name for name, one in model.named_parameters() if one.ndim == 0]
    if scalars and accelerator.distributed_type == DistributedType.FSDP:
        raise ConfigurationError(
            f"{type(model).__name__} has parameters of shape (): {', '.join(scalars[:4])}. FSDP divides parameters by their first "
            "dimension: its author can give them the shape (1,). Train by DDP or DeepSpeed meanwhile."
        )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        plugin = accelerator.deepspeed_plugin
        assert plugin is not None
        # it clips by itself, and must be told before it begins
        plugin.deepspeed_config["gradient_clipping"] = recipe.max_grad_norm or 0.0


# --- Compilation ------------------------------------------------------------------------------------------------------
# torch.compile by flag.
#
# Models are compiled in place, so that weights keep their names, checkpoints fit compiled and plain runs alike, and
# validation runs the code that training runs. Inductor draws dropout from a stream of its own, so a compiled run with
# dropout is as random as a plain one, but not the same; without dropout they differ by rounding.


def compile_in_place(models: Iterable[nn.Module], backend: str) -> None:
    """Let `model(…)` run compiled from its first call on."""
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise ConfigurationError(
            f"Recipe key 'torch_compile_backend' is {backend!r}; expected one of {', '.join(known)}.{suggest(backend, known)}"
        )
    for model in models:
        model.compile(backend=backend)


# --- Energy -----------------------------------------------------------------------------------------------------------
# Energy that a run used, where the machine says it.
#
# Linux counts the joules of Intel's and AMD's processors (RAPL) in files that are often readable by root only; NVIDIA's
# GPUs count their own through NVML. Both count the whole chip, whoever used it. Where neither can be read, the answer is
# None, not a guess.

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules since it was made."""

    def __init__(self, powercap: Path = _RAPL, gpus: bool = False) -> None:
        self._zones = [zone for zone in sorted(powercap.glob("*-rapl:[0-9]")) if _read(zone / "energy_uj") is not None]
        self._last = {zone: _read(zone / "energy_uj") or 0 for zone in self._zones}
        self._joules = 0.0
        self._nvml: Any = None
        self._handles: list[Any] = []
        if gpus:
            self._nvml, self._handles = _open_gpus()
        self._gpu_start = self._gpu_total()

    def read(self) -> dict[str, float] | None:
        """ "cpu_joules" and "gpu_joules", those that are counted; None when nothing is.

        Call it now and then: the processor's counters start over after some minutes to hours.
        """
        for zone in self._zones:
            now = _read(zone / "energy_uj")
            if now is None:
                continue
            passed = now - self._last[zone]
            if passed < 0:  # the counter has started over
                passed += _read(zone / "max_energy_range_uj") or 0
            self._joules += max(passed, 0) / 1e6
            self._last[zone] = now
        found: dict[str, float] = {}
        if self._zones:
            found["cpu_joules"] = round(self._joules, 1)
        if self._handles:
            found["gpu_joules"] = round(self._gpu_total() - self._gpu_start, 1)
        return found or None

    def _gpu_total(self) -> float:
        return sum(self._nvml.nvmlDeviceGetTotalEnergyConsumption(one) for one in self._handles) / 1e3


def _read(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _open_gpus() -> tuple[Any, list[Any]]:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, []
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        for one in handles:
            nvml.nvmlDeviceGetTotalEnergyConsumption(one)  # older cards do not count
    except nvml.NVMLError:
        return None, []
    return nvml, handles


# --- Interruption -----------------------------------------------------------------------------------------------------
# A signal to stop is noted, the optimiser step under way is finished, and all processes stop after the same one.
#
#     SIGTERM   what `kill`, torchrun and SLURM's time limit send            exit code 143
#     SIGINT    Ctrl-C; a second one, two seconds later or more, ends at once           130
#     SIGUSR1   what `sbatch --signal=USR1@120` sends two minutes before the limit      138 (Linux on x86 and ARM)
#
# Until training begins, a signal ends the process as it always would: nothing is lost. Once it is over, the result is
# written first.
#
# The codes are 128 + the signal's number, as a shell reports a process that a signal ended.

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]

_SAME_S = 2.0
"""A terminal signals all processes and torchrun signals them again: signals so close together, in seconds, are one."""


def ignore_in_worker(_: int) -> None:
    """`worker_init_fn` of a loader: a signal to the whole group must not take the workers from under the last step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Interruption:
    """Notes signals while it is entered, and finds out whether any process has received one.

    Only the main thread may handle signals; entered in another, it listens to none, and the process ends as it would have.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._received = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self.heeded = True

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: the handler was set by something other than Python, which cannot put it back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self._received:
            self._received, self._since = number, now
        elif number == signal.SIGINT and now - self._since > _SAME_S:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Stop when any process has received a signal; every process must call this at the same points."""
        if not self.heeded:
            return
        received = self._received
        if self._accelerator.num_processes > 1:
            own = torch.tensor([received], device=self._accelerator.device)
            received = int(self._accelerator.gather(own).max())  # pyright: ignore[reportAttributeAccessIssue]
        if received:
            raise TrainingInterrupted(f"{signal.Signals(received).name} stopped the training.", received)


# --- Trackers ---------------------------------------------------------------------------------------------------------
# Trackers by name, looked for before anything is computed.
#
# Accelerate leaves a tracker out without a word when its package is missing; its user would find out after the run.


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that does not exist or is not installed."""
    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    there = [str(name) for name in get_available_trackers()]
    for name in names:
        if name == "all":
            if not there:
                raise DependencyError(
                    f"All trackers were asked for, and none is installed. Install one of: {', '.join(known)}."
                )
        elif name not in known:
            raise unknown_name("tracker", name, [*known, "all"])
        elif name not in there:
            raise DependencyError(
                f"The tracker {name} is not installed; here: {', '.join(there) or 'none'}. Run: pip install {name}"
            )
