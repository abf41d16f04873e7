"""The cache of the Hugging Face Hub: where it is, whether it can be written, what room is left, and whether we are offline.

This file knows the environment's switches; it asks nothing of the network and writes nothing.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from .finding import Finding

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
        findings.append(
            Finding(
                "cache",
                f"{folder} {seen}, so nothing can be downloaded",
                "export HF_HOME=/a/folder/that/can/be/written",
            )
        )
    elif free is not None and free < _LITTLE_GB:
        findings.append(
            Finding(
                "cache",
                f"{folder} has {free:.1f} GB left; checkpoints may need more",
                "hf cache prune, or export HF_HOME=/a/folder/with/room",
                level="warning",
            )
        )
    return report, findings
