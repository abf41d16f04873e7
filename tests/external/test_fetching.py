"""Where the suite cannot be fetched its tests fail, unless the user has said otherwise; nothing of it lands in the repository."""

import io
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
import transformers_suite


@pytest.fixture
def nothing_to_fetch_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and pip without an index."""
    for name, value in {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(transformers_suite.SKIP, raising=False)
    return tmp_path


def test_a_suite_that_cannot_be_fetched_fails(nothing_to_fetch_from: Path) -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"could not be fetched(.|\n)*put the file at .*or set MECO_EXTERNAL"
    ):
        transformers_suite.module("test_modeling_common")


def test_it_is_skipped_only_where_the_user_says_so(
    nothing_to_fetch_from: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(transformers_suite.SKIP, "skip")
    with pytest.raises(pytest.skip.Exception, match="could not be fetched"):
        transformers_suite.module("test_modeling_common")


def test_an_archive_in_the_cache_is_taken(nothing_to_fetch_from: Path) -> None:
    release = version("transformers")
    cache = nothing_to_fetch_from / "meco_hub" / "external"
    cache.mkdir(parents=True)
    with tarfile.open(cache / f"transformers-{release}.tar.gz", "w:gz") as archive:
        for name in ("tests/test_modeling_common.py", "tests/deep/test_other_common.py", "setup.py"):
            entry = tarfile.TarInfo(f"transformers-{release}/{name}")
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"a = "))
    folder = transformers_suite._laid_out(release)
    assert folder.is_relative_to(nothing_to_fetch_from)
    assert sorted(path.name for path in folder.rglob("*.py")) == ["__init__.py", "test_modeling_common.py"]
