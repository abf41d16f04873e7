"""transformers' own common tests, of the version that is installed.

The source distribution on PyPI has them, the wheel does not. It is fetched once per version into a cache folder outside the
repository; nothing of it is committed. What its tests import beside themselves and the distribution lacks stands in `stand_ins/`.

    MECO_EXTERNAL_SUITES=skip     where there is no network: the tests are skipped, and say so. Without it they fail.
"""

import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

PACKAGE = "hf_suite"
STAND_INS = Path(__file__).parent / "stand_ins"
RELEASE = tuple(int(part) for part in version("transformers").split(".")[:2])
"""Of the suite and of transformers: it changes with every release, and so does what must be replaced."""

SKIP = "MECO_EXTERNAL_SUITES"


def module(name: str) -> ModuleType:
    """A module of the suite, such as `test_modeling_common`; fetched when it is not there yet."""
    try:
        folder = _laid_out(version("transformers"))
    except _NotFetchedError as error:
        if os.environ.get(SKIP) == "skip":
            pytest.skip(f"{SKIP}=skip, and {error}", allow_module_level=True)
        pytest.fail(str(error), pytrace=False)
    for place in (str(STAND_INS), str(folder)):
        if place not in sys.path:
            sys.path.insert(0, place)
    package = importlib.import_module(PACKAGE)
    beside = str(STAND_INS / PACKAGE)
    if beside not in package.__path__:
        package.__path__.append(beside)
    return importlib.import_module(f"{PACKAGE}.{name}")


class _NotFetchedError(Exception):
    """The suite could not be fetched; the message says what to do."""


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meco_hub" / "external"


def _laid_out(release: str) -> Path:
    """The folder that holds the package, made when it is missing."""
    folder = _cache() / f"transformers-{release}"
    if (folder / PACKAGE / "__init__.py").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = _cache() / f"transformers-{release}.tar.gz"
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source = archive if archive.is_file() else _download(release, Path(scratch), archive)
        made = Path(scratch) / folder.name / PACKAGE
        made.mkdir(parents=True)
        with tarfile.open(source) as opened:
            for member in opened:
                path = PurePosixPath(member.name)
                if member.isfile() and path.match("*/tests/test_*_common.py") and len(path.parts) == 3:
                    content = opened.extractfile(member)
                    assert content is not None
                    (made / path.name).write_bytes(content.read())
        if not (made / "test_modeling_common.py").is_file():
            raise _NotFetchedError(
                f"{source.name} has no tests/test_modeling_common.py; expected transformers' own tests."
            )
        # the suite asks for a package's __init__ where transformers' repository has one
        (made / "__init__.py").touch()
        try:
            made.parent.rename(folder)
        except OSError:  # another process was faster
            if not (folder / PACKAGE / "__init__.py").is_file():
                raise
    return folder


def _download(release: str, scratch: Path, wanted: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # "transformers", not ":all:": pip prepares its metadata, and the tools for that may come as wheels
    command += ["--no-binary", "transformers", "--dest", str(scratch), f"transformers=={release}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    found = scratch / f"transformers-{release}.tar.gz"
    if done.returncode or not found.is_file():
        raise _NotFetchedError(
            f"the source distribution of transformers {release}, which holds its tests, could not be fetched by\n"
            f"    {' '.join(command[:-3])} DIR {command[-1]}\n{done.stderr.strip() or done.stdout.strip()}\n"
            f"Needed are pip in this environment (python -m ensurepip) and a package index. Without network, put the file at "
            f"{wanted}, or set {SKIP}=skip to skip these tests."
        )
    return found
