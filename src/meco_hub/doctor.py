"""`meco doctor`: what is installed, what is broken, and the line that mends it.

This file knows how to look at an environment; it changes nothing in it.
"""

import importlib
import platform
import sys
import traceback
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from . import plugins, registration
from .errors import MecoError

_REQUIRED = ("torch", "torchvision", "transformers", "huggingface-hub", "accelerate", "datasets", "safetensors", "timm")


@dataclass(frozen=True)
class Finding:
    """One thing that would not work.

    Attributes:
        subject: the package or plugin.
        problem: what was seen.
        mend: what to do.
        traceback: where there is one.
    """

    subject: str
    problem: str
    mend: str
    traceback: str = ""


def _versions() -> tuple[dict[str, str | None], list[Finding]]:
    found: dict[str, str | None] = {}
    findings = []
    for name in _REQUIRED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
            findings.append(Finding(name, "not installed", f"pip install {name}"))
    return found, findings


def _import(name: str, mend: str) -> Finding | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 — whatever it raises is the finding
        return Finding(name, f"does not import: {type(error).__name__}: {error}", mend, traceback.format_exc())
    return None


def _face_finder_findings() -> list[Finding]:
    missing = _import("cv2", 'pip install "meco-hub[faces]"')
    if missing is not None:
        return [Finding("face finder", missing.problem, missing.mend, missing.traceback)]
    from .processing.face_finder import FaceFinder

    try:
        FaceFinder().find(np.zeros((64, 64, 3), np.uint8))
    except MecoError as error:  # its message holds the line that mends it
        return [Finding("face finder", str(error), 'pip install "meco-hub[faces]"')]
    return []


def _plugin_findings() -> list[Finding]:
    findings = [
        Finding(
            f"plugin {plugin.name}",
            f"{plugin.reason} (entry point {plugin.target} of {plugin.distribution})",
            f"pip install --upgrade {plugin.distribution}, or pip uninstall {plugin.distribution}",
            plugin.traceback,
        )
        for group in (plugins.architectures(), plugins.corpora())
        for plugin in group.broken
    ]
    # Classes are imported when transformers is; a plugin whose entry point is sound may still fail here.
    importlib.import_module("transformers.models.auto.modeling_auto")
    importlib.import_module("transformers.models.auto.image_processing_auto")
    for model_type, trace in registration.failures.items():
        owner = plugins.architectures().distributions[model_type]
        findings.append(
            Finding(f"plugin {model_type}", "its classes do not import", f"pip install --upgrade {owner}", trace)
        )
    return findings


def examine() -> dict[str, Any]:
    """Look at the environment.

    Returns:
        versions (name → version or None), python, platform, device ("cpu", "cuda", …), plugins (name → distribution) and
        findings, each with subject, problem, mend and traceback. An empty list of findings means all is well.
    """
    versions, findings = _versions()
    device = "unknown"
    # torchvision's extension is built against one torch; a mismatch shows only when it is imported.
    broken = _import("torch", "pip install --force-reinstall torch") or _import(
        "torchvision", "pip install --upgrade torch torchvision   (both of one release)"
    )
    if broken is not None:
        findings.append(broken)
    else:
        import torch

        # torch names the accelerator it was built for, whether or not one is there
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = "cpu" if accelerator is None else accelerator.type
        findings += _plugin_findings()
    findings += _face_finder_findings()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "versions": versions,
        "device": device,
        "plugins": {
            name: group.distributions[name]
            for group in (plugins.architectures(), plugins.corpora())
            for name in group.healthy
        },
        "findings": [asdict(finding) for finding in findings],
    }
