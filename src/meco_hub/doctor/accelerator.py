"""torch, torchvision, the accelerator and mamba_ssm's kernel: whether they work, not only whether they are there.

This file knows what to try; it computes a few numbers on the device and nothing more.
"""

import importlib
import importlib.util
import json
import shutil
import traceback
from pathlib import Path
from typing import Any

from .finding import Finding
from .processes import run_program

_TORCH = "pip install --force-reinstall torch"
_BOTH = "pip install --upgrade torch torchvision   (both of one release)"
_MAMBA = 'pip install --force-reinstall --no-build-isolation "meco-hub[mamba]", or pip uninstall mamba-ssm'

_KERNEL = """
import json, torch
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
used = torch.cuda.is_available()
if used:
    u = torch.randn(1, 2, 8, device="cuda")
    b = torch.randn(1, 4, 8, device="cuda")
    y = selective_scan_fn(u, torch.rand_like(u), -torch.rand(2, 4, device="cuda"), b, b, torch.ones(2, device="cuda"))
    assert torch.isfinite(y).all(), "its answer is not finite"
print(json.dumps({"kernel": used}))
"""


def examine_accelerator() -> tuple[dict[str, Any], list[Finding]]:
    """Import torch and torchvision, and compute on the accelerator.

    Returns:
        device, name, cuda (what torch was built for, or None), mamba ("absent", "broken", "installed", "kernel works"); findings.
    """
    report: dict[str, Any] = {"device": "unknown", "name": None, "cuda": None, "mamba": "absent"}
    # torchvision's extension is built against one torch; a mismatch shows only when it is imported
    broken = _try_import("torch", _TORCH) or (
        _try_import("torchvision", _BOTH) if importlib.util.find_spec("torchvision") is not None else None
    )
    if broken is not None:
        return report, [broken]
    import torch

    # torch names the accelerator it was built for, whether or not one is there
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    report["device"] = "cpu" if accelerator is None else accelerator.type
    report["cuda"] = torch.version.cuda
    findings = _unused_gpu(report)
    if accelerator is not None:
        report["name"], failed = _try_device(accelerator.type)
        findings += failed
    if importlib.util.find_spec("mamba_ssm") is not None:
        report["mamba"], failed = _try_mamba()
        findings += failed
    return report, findings


def _try_import(name: str, mend: str) -> Finding | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 — whatever it raises is the finding
        return Finding(name, f"does not import: {type(error).__name__}: {error}", mend, traceback.format_exc())
    return None


def _unused_gpu(report: dict[str, Any]) -> list[Finding]:
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if report["device"] != "cpu" or not driver:
        return []
    if report["cuda"] is None:
        problem, mend = (
            "was built without CUDA",
            "pip install --force-reinstall torch   (a build for your CUDA: pytorch.org)",
        )
    else:
        problem = f"was built for CUDA {report['cuda']} and cannot use the driver"
        mend = "nvidia-smi   (which CUDA the driver supports; then update it, or install a torch that is built for that CUDA)"
    return [Finding("torch", f"an NVIDIA driver is here, and torch {problem}: everything runs on the CPU", mend)]


def _try_device(kind: str) -> tuple[str | None, list[Finding]]:
    import torch

    name = None
    try:
        name = torch.cuda.get_device_name() if kind == "cuda" else kind
        total = float((torch.ones(8, 8, device=kind) @ torch.ones(8, 8, device=kind)).sum())
        if total != 512.0:
            return name, [Finding(kind, f"8×8 ones times 8×8 ones sum to {total}; expected 512", _TORCH)]
    except Exception as error:  # noqa: BLE001 — whatever it raises is the finding
        problem = f"does not compute: {type(error).__name__}: {error}"
        return name, [Finding(kind, problem, _TORCH, traceback.format_exc())]
    return name, []


def _try_mamba() -> tuple[str, list[Finding]]:
    """In a process of its own: what was compiled for another torch may take the whole process with it."""
    trial = run_program(_KERNEL, (), timeout_s=120)
    if trial.failed:
        problem = f"{trial.problem}; the selective scan is plain PyTorch, slower on CUDA"
        return "broken", [Finding("mamba_ssm", problem, _MAMBA, trial.error_output)]
    return ("kernel works" if json.loads(trial.last_line)["kernel"] else "installed"), []
