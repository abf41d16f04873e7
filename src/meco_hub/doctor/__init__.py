"""`meco doctor`: what is installed, what is broken, and the line that mends it.

    report = examine()
    report["findings"]          # [] when all is well

What could hang or crash, which is plugins and compiled kernels, is tried in processes of its own. Nothing is changed.

This package knows how to look at an environment; `commands/doctor.py` prints what it returns.
"""

import platform
import sys
from dataclasses import asdict
from typing import Any

from .accelerator import examine_accelerator
from .cache import examine_cache
from .faces import examine_face_finder
from .finding import Finding
from .plugin_trial import PATIENCE_S, examine_plugins
from .versions import examine_versions

__all__ = ["PATIENCE_S", "Finding", "examine"]


def examine(patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Look at the environment.

    Args:
        patience_s: seconds after which a plugin that is still being imported is said to hang.

    Returns:
        python, platform, versions (name → version or None), extras (extra → requirements that are missing or do not fit), device
        ("cpu", "cuda", …), accelerator, plugins (name → distribution) that are healthy, cache, and findings: each with subject,
        problem, mend, traceback and level. No finding of level "error" means that all works.
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
