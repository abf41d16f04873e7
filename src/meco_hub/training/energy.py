"""Energy that a run used, where the machine says it.

Linux counts the joules of Intel's and AMD's processors (RAPL) in files that are often readable by root only; NVIDIA's GPUs count
their own through NVML. Both count the whole chip, whoever used it. Where neither can be read, the answer is None, not a guess.

This file knows where counters are; it estimates nothing.
"""

import importlib
from pathlib import Path
from typing import Any

_RAPL = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules since it was made.

    Args:
        powercap: folder of the processor's counters.
        gpus: count the GPUs too.
    """

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
