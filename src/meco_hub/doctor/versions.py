"""Versions: what our own distribution requires, what others require of each other, and OpenCV where there is one too many.

The supported range is nowhere typed twice: it is read from the metadata of the installed distribution.

This file knows requirements; whether what fits by its version works is found out elsewhere.
"""

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from .. import discovery
from .finding import Finding

_SHOWN = ("torchvision", "mamba-ssm", "opencv-python", "opencv-python-headless")
"""Shown beside our requirements, where they are installed."""

_LOOKED_AT = ("torchvision", "torchaudio", "timm", "transformers", "accelerate", "datasets")
"""Distributions whose requirements of the others are looked at: they are built against one version, or move fast."""

_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def examine_versions() -> tuple[dict[str, str | None], dict[str, list[str]], list[Finding]]:
    """Compare what is installed with what is required.

    Returns:
        name → version or None; extra → its requirements that are missing or do not fit; findings.
    """
    required = _read(discovery.requirements(discovery.CORE))
    findings = [] if required else [_not_installed()]
    versions: dict[str, str | None] = {}
    for one in required:
        if _applies(one, ""):
            versions[one.name] = discovery.installed_version(one.name)
            findings += _judge(one, f"{discovery.CORE} needs")
    versions |= {name: found for name in _SHOWN if (found := discovery.installed_version(name)) is not None}
    for name in _LOOKED_AT:
        for one in _read(discovery.requirements(name)):
            if one.name in versions and _applies(one, ""):
                findings += _judge(one, f"{name} {discovery.installed_version(name)} needs")
    extras = {
        extra: sorted(str(one).partition(";")[0].strip() for one in required if _is_missing(one, extra))
        for extra in sorted(_extras(required) - {"test"})
    }
    return versions, extras, [*findings, *_opencv_doubles()]


def _not_installed() -> Finding:
    return Finding(
        discovery.CORE,
        "is imported from a folder and not installed, so its corpora are not known and its requirements cannot be checked",
        f"pip install {discovery.CORE}, or pip install -e . in its folder",
    )


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
    installed = discovery.installed_version(one.name)
    return installed is not None and one.specifier.contains(installed, prereleases=True)


def _is_missing(one: Requirement, extra: str) -> bool:
    return one.marker is not None and _applies(one, extra) and not _applies(one, "") and not _fits(one)


def _extras(required: Iterable[Requirement]) -> set[str]:
    """Names of the extras that markers mention."""
    return {name for one in required for name in re.findall(r"""extra == ["']([\w.-]+)["']""", str(one.marker))}


def _judge(one: Requirement, who: str) -> list[Finding]:
    if _fits(one):
        return []
    wanted = f"{one.name}{one.specifier}"
    installed = discovery.installed_version(one.name)
    seen = "not installed" if installed is None else f"{installed} is installed"
    return [Finding(one.name, f"{seen}; {who} {wanted}", f'pip install "{wanted}"')]


def _opencv_doubles() -> list[Finding]:
    """All of them install the same folder `cv2`; the last one wins, and uninstalling one tears holes into the others."""
    found = {name: version for name in _OPENCV if (version := discovery.installed_version(name)) is not None}
    if len(found) < 2:
        return []
    seen = " and ".join(f"{name} {version}" for name, version in found.items())
    keep = "opencv-python-headless"
    return [
        Finding(
            "OpenCV",
            f"{seen} overwrite each other's files",
            f"pip uninstall -y {' '.join(found)} && pip install {keep}",
        )
    ]
