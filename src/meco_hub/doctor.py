"""`meco doctor`: what is installed, what is broken, and the line that fixes it.

    report = examine()
    report["findings"]          # [] when all is well

What could hang or crash, which is plugins and compiled kernels, is tried in processes of its own. Nothing is changed.
"""

import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from . import plugins
from .errors import MecoError
from .plugins import EntryPoint


@dataclass(frozen=True)
class Finding:
    """One thing that would not work, or not well.

    Attributes:
        subject: the package or plugin.
        problem: what was seen.
        fix: what to do; the first word is a command where there is one.
        traceback: where there is one.
        level: "error": something does not work, and `meco doctor` exits with 1; "warning": it works, less well than it could.
    """

    subject: str
    problem: str
    fix: str
    traceback: str = ""
    level: Literal["error", "warning"] = "error"


# --- Processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """How a program ended.

    Attributes:
        answer: the JSON object that it printed last; None where it hung, crashed, raised, or printed none.
        problem: how it ended, in a few words; empty where it answered.
        error_output: what it wrote to stderr.
        hangs: it had not come to an end after its time.
    """

    answer: dict[str, Any] | None
    problem: str = ""
    error_output: str = ""
    hangs: bool = False

    @property
    def failed(self) -> bool:
        return self.answer is None


def run_program(program: str, arguments: Sequence[str], timeout_s: float) -> Trial:
    """Run Python source in a fresh interpreter of this environment."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        said = stopped.stderr or b""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        return Trial(None, f"has not come to an end after {timeout_s:g} s", text, hangs=True)
    printed, complaints = done.stdout.strip().splitlines(), done.stderr.strip().splitlines()
    if done.returncode == 0 and printed and printed[-1].startswith("{"):
        return Trial(json.loads(printed[-1]))
    problem = complaints[-1] if complaints else f"ends the process (exit code {done.returncode})"
    if done.returncode < 0:
        problem = f"crashes the process (signal {-done.returncode})"
    return Trial(None, problem, done.stderr)


# --- Versions ---------------------------------------------------------------------------------------------------------
# The supported range is nowhere typed twice: it is read from the metadata of the installed distribution.

_SHOWN = ("torchvision", "timm", "accelerate", "datasets", "mamba-ssm", "opencv-python", "opencv-python-headless")
"""Shown beside our requirements, where they are installed."""

_LOOKED_AT = ("torchvision", "torchaudio", "timm", "transformers", "accelerate", "datasets")
"""Distributions whose requirements of the others are looked at: they are built against one version, or move fast."""

_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def examine_versions() -> tuple[dict[str, str | None], dict[str, list[str]], list[Finding]]:
    """Compare what is installed with what is required.

    Returns:
        name → version or None; extra → its requirements that are missing or do not fit; findings.
    """
    required = _read(plugins.requirements(plugins.CORE))
    findings = []
    if not required:
        problem = "is imported from a folder and not installed, so its corpora are not known and its requirements cannot be checked"
        findings.append(
            Finding(plugins.CORE, problem, f"pip install {plugins.CORE}, or pip install -e . in its folder")
        )
    versions: dict[str, str | None] = {}
    for one in required:
        if _applies(one, ""):
            versions[one.name] = plugins.installed_version(one.name)
            findings += _compare(one, f"{plugins.CORE} needs")
    versions |= {name: found for name in _SHOWN if (found := plugins.installed_version(name)) is not None}
    for name in _LOOKED_AT:
        for one in _read(plugins.requirements(name)):
            if one.name in versions and _applies(one, ""):
                findings += _compare(one, f"{name} {plugins.installed_version(name)} needs")
    optional = [one for one in required if not _applies(one, "")]
    names = {name for one in optional for name in re.findall(r"""extra == ["']([\w.-]+)["']""", str(one.marker))}
    extras = {
        extra: sorted(str(one).partition(";")[0].strip() for one in optional if _applies(one, extra) and not _fits(one))
        for extra in sorted(names - {"test"})
    }
    # all of them install the same folder `cv2`; the last one wins, and uninstalling one tears holes into the others
    opencv = {name: version for name in _OPENCV if (version := plugins.installed_version(name)) is not None}
    if len(opencv) > 1:
        seen = " and ".join(f"{name} {version}" for name, version in opencv.items())
        fix = f"pip uninstall -y {' '.join(opencv)} && pip install opencv-python-headless"
        findings.append(Finding("OpenCV", f"{seen} overwrite each other's files", fix))
    return versions, extras, findings


def _read(lines: Iterable[str]) -> list[Requirement]:
    found = []
    for line in lines:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:  # of somebody else's metadata; pip complains about it louder than we could
            continue
    return found


def _applies(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def _fits(one: Requirement) -> bool:
    installed = plugins.installed_version(one.name)
    return installed is not None and one.specifier.contains(installed, prereleases=True)


def _compare(one: Requirement, who: str, level: Literal["error", "warning"] = "error") -> list[Finding]:
    if _fits(one):
        return []
    wanted = f"{one.name}{one.specifier}"
    installed = plugins.installed_version(one.name)
    seen = "not installed" if installed is None else f"{installed} is installed"
    return [Finding(one.name, f"{seen}; {who} {wanted}", f'pip install "{wanted}"', level=level)]


# --- Accelerator ------------------------------------------------------------------------------------------------------
# Whether they work, not only whether they are there.

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


def _try_import(name: str, fix: str) -> Finding | None:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 — whatever it raises is the finding
        return Finding(name, f"does not import: {type(error).__name__}: {error}", fix, traceback.format_exc())
    return None


def _unused_gpu(report: dict[str, Any]) -> list[Finding]:
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if report["device"] != "cpu" or not driver:
        return []
    if report["cuda"] is None:
        problem, fix = "was built without CUDA", f"{_TORCH}   (a build for your CUDA: pytorch.org)"
    else:
        problem = f"was built for CUDA {report['cuda']} and cannot use the driver"
        fix = "nvidia-smi   (which CUDA the driver supports; then update it, or install a torch that is built for that CUDA)"
    return [Finding("torch", f"an NVIDIA driver is here, and torch {problem}: everything runs on the CPU", fix)]


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
    if trial.answer is None:
        problem = f"{trial.problem}; the selective scan is plain PyTorch, slower on CUDA"
        return "broken", [Finding("mamba_ssm", problem, _MAMBA, trial.error_output)]
    return ("kernel works" if trial.answer["kernel"] else "installed"), []


# --- Faces ------------------------------------------------------------------------------------------------------------

_FIX = 'pip install "meco-hub[faces]"'


def examine_face_finder() -> list[Finding]:
    """Try the face finder on a black picture."""
    if importlib.util.find_spec("cv2") is None:
        return [Finding("face finder", "OpenCV is not installed: faces must be cropped already", _FIX, level="warning")]
    try:
        from .processing.face_finder import FaceFinder

        FaceFinder().find(np.zeros((64, 64, 3), np.uint8))
    except MecoError as error:  # its message holds the line that fixes it
        return [Finding("face finder", str(error), _FIX)]
    except Exception as error:  # noqa: BLE001 — whatever a broken OpenCV raises is the finding
        problem = f"does not work: {type(error).__name__}: {error}"
        return [Finding("face finder", problem, f"{_FIX} --force-reinstall", traceback.format_exc())]
    return []


# --- Cache ------------------------------------------------------------------------------------------------------------

_LITTLE_GB = 1.0
_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_TRUE = {"1", "ON", "YES", "TRUE"}


def examine_cache() -> tuple[dict[str, Any], list[Finding]]:
    """Look at the folder into which checkpoints are downloaded.

    Returns:
        folder, writable, free_gb (None where unknown), offline (switches that are on), endpoint (None: the usual one); findings.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    place = next(one for one in (folder, *folder.parents) if one.exists())
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    free = shutil.disk_usage(place).free / 1e9 if place.is_dir() else None
    report = {
        "folder": str(folder),
        "writable": writable,
        "free_gb": None if free is None else round(free, 1),
        "offline": [name for name in _FLAGS if os.environ.get(name, "").upper() in _TRUE],
        "endpoint": os.environ.get("HF_ENDPOINT"),
    }
    findings = []
    if not writable:
        seen = "cannot be written" if place.is_dir() else f"cannot be made: {place} is a file"
        problem = f"{folder} {seen}, so nothing can be downloaded"
        findings.append(Finding("cache", problem, "export HF_HOME=/a/folder/that/can/be/written"))
    elif free is not None and free < _LITTLE_GB:
        problem = f"{folder} has {free:.1f} GB left; checkpoints may need more"
        fix = "hf cache prune, or export HF_HOME=/a/folder/with/room"
        findings.append(Finding("cache", problem, fix, level="warning"))
    return report, findings


# --- Plugins ----------------------------------------------------------------------------------------------------------
# Each is read in a process of its own before this process reads it.
#
# One that hangs or crashes would take the doctor with it, and one that imports torch is noticed only where nobody has
# imported it before. Afterwards the classes of all are imported as transformers would import them, in one more process.

PATIENCE_S = 30.0
"""Seconds that reading one plugin may take; the default of `meco doctor --patience`."""

_CLASSES = 4
"""So many times as long may importing transformers and all classes take: ten seconds on a quiet machine."""

_READ = """
import contextlib, json, sys
from meco_hub import plugins
group, name, owner, *others = sys.argv[1:]
plugins.ignored.update(others)
(entry,) = [one for one in plugins.claims(group)[name] if plugins.owner_of(one) == owner]
with contextlib.suppress(Exception, SystemExit):  # whoever reads it afterwards keeps the traceback
    entry.load()
print()
print(json.dumps({"heavy": [root for root in plugins.HEAVY if root in sys.modules]}))
"""

_IMPORT = """
import importlib, json, sys
from meco_hub import plugins, registration
plugins.ignored.update(sys.argv[1:])
for name in ("modeling", "image_processing", "feature_extraction", "processing"):
    importlib.import_module(f"transformers.models.auto.{name}_auto")
print()
print(json.dumps(registration.failures))
"""


def examine_plugins(patience_s: float) -> tuple[dict[str, str], list[Finding]]:
    """Try all plugins.

    Returns:
        name → distribution of those that work, in the order of `meco list`; findings.
    """
    strangers = [
        (group, name, entry)
        for group in (plugins.ARCHITECTURES, plugins.CORPORA)
        for name, entries in plugins.claims(group).items()
        for entry in entries
        if plugins.owner_of(entry) != plugins.CORE
    ]
    owners = sorted({plugins.owner_of(entry) for _, _, entry in strangers})

    def read(one: tuple[str, str, EntryPoint]) -> Trial:
        group, name, entry = one
        owner = plugins.owner_of(entry)
        return run_program(_READ, (group, name, owner, *(other for other in owners if other != owner)), patience_s)

    with ThreadPoolExecutor(4) as pool:
        trials = list(pool.map(read, strangers))
    findings = []
    for (_, name, entry), trial in zip(strangers, trials, strict=True):
        owner = plugins.owner_of(entry)
        if trial.failed:
            plugins.ignored.add(owner)  # this process must not meet it
            findings.append(_impossible(f"plugin {name}", f"reading {entry.value} of {owner}", owner, trial))
    # pip makes sure that these fit; here they were overridden, and what is tried below may work all the same
    for owner in owners:
        for one in _read(plugins.requirements(owner)):
            if canonicalize_name(one.name) == plugins.CORE and _applies(one, ""):
                findings += _compare(one, f"{owner} {plugins.installed_version(owner)} needs", "warning")
    groups = (plugins.architectures(), plugins.corpora())
    for group in groups:
        for one in group.broken:
            if one.distribution not in plugins.ignored:
                problem = f"{one.reason} (entry point {one.target} of {one.distribution})"
                findings.append(Finding(f"plugin {one.name}", problem, one.fix, one.traceback))
    for (_, name, entry), trial in zip(strangers, trials, strict=True):
        roots = trial.answer["heavy"] if trial.answer and any(name in group.healthy for group in groups) else ()
        if roots:
            problem = f"imports {' and '.join(roots)} when its entry point is read, and everybody who imports meco_hub waits for it"
            upgrade = f"pip install --upgrade {plugins.owner_of(entry)}"
            fix = f"{upgrade}, or ask its author to import them in modules, not in __init__"
            findings.append(Finding(f"plugin {name}", problem, fix, level="warning"))
    impaired, about_classes = _examine_classes(owners, patience_s)
    healthy = {
        name: group.distributions[name]
        for group in groups
        for name in group.healthy
        if name not in impaired and group.distributions[name] not in plugins.ignored
    }
    return healthy, findings + about_classes


def _impossible(subject: str, doing: str, owner: str, trial: Trial) -> Finding:
    problem = f"{'hangs: ' if trial.hangs else ''}{doing} {trial.problem}"
    return Finding(subject, problem, f"pip uninstall {owner}, or pip install --upgrade {owner}", trial.error_output)


def _examine_classes(owners: Iterable[str], patience_s: float) -> tuple[set[str], list[Finding]]:
    """Import all classes; where that does not come to an end, of one distribution after another.

    Returns:
        Names of architectures that do not work; findings.
    """
    known = plugins.architectures().distributions
    timeout = _CLASSES * patience_s
    left_out = sorted(plugins.ignored)
    trial = run_program(_IMPORT, left_out, timeout)
    if trial.answer is not None:
        return set(trial.answer), [_no_classes(name, known.get(name, "?"), text) for name, text in trial.answer.items()]
    impaired, findings = set[str](), []
    suspects = sorted(set(owners) & set(known.values()))

    def import_alone(owner: str) -> Trial:
        return run_program(_IMPORT, [*left_out, *(other for other in owners if other != owner)], timeout)

    with ThreadPoolExecutor(2) as pool:
        trials = list(pool.map(import_alone, suspects))
    for owner, alone in zip(suspects, trials, strict=True):
        names = [name for name, distribution in known.items() if distribution == owner]
        if alone.answer is None:
            impaired.update(names)
            findings += [_impossible(f"plugin {name}", "importing its classes", owner, alone) for name in names]
        else:
            impaired.update(alone.answer)
            findings += [_no_classes(name, owner, text) for name, text in alone.answer.items()]
    if not findings:
        problem, fix = (
            f"its Auto classes cannot be imported: {trial.problem}",
            "pip install --force-reinstall transformers",
        )
        findings.append(Finding("transformers", problem, fix, trial.error_output))
    return impaired, findings


def _no_classes(name: str, owner: str, text: str) -> Finding:
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return Finding(f"plugin {name}", f"its classes do not import: {last}", f"pip install --upgrade {owner}", text)


# --- All of it --------------------------------------------------------------------------------------------------------


def examine(patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Look at the environment.

    Args:
        patience_s: seconds after which a plugin that is still being imported is said to hang.

    Returns:
        python, platform, versions (name → version or None), extras (extra → requirements that are missing or do not fit), device
        ("cpu", "cuda", …), accelerator, plugins (name → distribution) that are healthy, cache, and findings: each with subject,
        problem, fix, traceback and level. No finding of level "error" means that all works.
    """
    versions, extras, findings = examine_versions()
    plugins, about_plugins = examine_plugins(patience_s)  # first: it keeps those that hang out of this process
    accelerator, about_accelerator = examine_accelerator()
    cache, about_cache = examine_cache()
    findings = [*findings, *about_accelerator, *about_plugins, *examine_face_finder(), *about_cache]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "versions": versions,
        "extras": extras,
        "device": accelerator["device"],
        "accelerator": accelerator,
        "plugins": plugins,
        "cache": cache,
        "findings": [asdict(finding) for finding in findings],
    }
