"""What a newcomer reads holds: code blocks of the README and the guides print what stands below them, links lead somewhere, the
site builds without a warning and without a network, the tutorials run, and CONTRIBUTING.md draws the walks that calls take.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import meco_hub
from code_blocks import differences, read_blocks, run_page, shell

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
RUNNABLE = [page for page in PAGES if read_blocks(page)]
"""CONTRIBUTING.md has blocks too; test_new_plugin.py runs them."""
TUTORIALS = sorted((DOCS / "tutorials").glob("*.ipynb"))
LINKING = [
    *PAGES,
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted(
        page
        for page in REPOSITORY.glob("*/**/README.md")
        if not any(part.startswith(".") or part == "out" for part in page.relative_to(REPOSITORY).parts)  # environments
    ),
    *TUTORIALS,
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_a_page_prints_what_it_says(page: Path, tmp_path: Path, astronaut: Path, hopper: Path) -> None:
    folder = tmp_path / "folder"
    portraits = folder / "out" / "demo" / "portraits"  # where `make demo` leaves them
    portraits.mkdir(parents=True)
    shutil.copy(astronaut, portraits / "astronaut.png")
    shutil.copy(hopper, portraits / "grace_hopper.jpg")
    runpy.run_path(str(REPOSITORY / "examples" / "portraits.py"))["film"](
        [portraits / "astronaut.png", portraits / "grace_hopper.jpg"], portraits.parent / "talk.mp4"
    )
    wrong = [
        f"{page.name}, line {block.line}: {found}"
        for block, printed in run_page(page, folder, shell(tmp_path))
        if block.expected is not None and (found := differences(block.expected, printed, vary=block.vary))
    ]
    assert not wrong, "\n\n".join(wrong)


def test_the_readme_is_short_and_shows_what_comes_out() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    blocks = read_blocks(README)
    assert sum(block.expected is not None for block in blocks) == 4
    for words in (
        "not felt emotions",
        "Art. 3(39)",
        "Art. 5(1)(f)",
        "Art. 50(3)",
        "make demo",
        "make test",
        "synthetic",
    ):
        assert words in text
    for name in meco_hub.checkpoints():
        assert f"| `{name}`" in text
        assert f"[`{name}`](../model_cards/{name}.md)" in (DOCS / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("happiness 0.93", "happiness 0.94", True),
        ("happiness 0.93", "happiness 0.91", False),
        ("happiness 0.930", "happiness 0.937", False),
        ("n 120.5", "n 120.9", True),
        ("2.5e-03", "2.8e-03", False),
        ("happiness 0.93", "neutral 0.93", False),
        ("n = 48", "n = 49", False),
        ("a …\nlast 1", "a b\nc\nlast 1", True),
        ("a …\nlast 1", "a b\nc", False),
        ("0.50  ##########", "0.51  ###########", True),
        ("", "something", False),
    ],
)
def test_a_difference_is_seen(expected: str, printed: str, same: bool) -> None:
    assert (differences(expected, printed) == "") is same


def links(page: Path) -> list[str]:
    """Relative targets of a page's links and pictures, code apart."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^(```+).*?^\1|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if "://" not in target and not target.startswith("mailto:")
    ]


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        wanted = page if not target else page.parent / target
        assert wanted.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in headings(wanted), f"{page.name} links to {link}, and there is no such heading"


def test_every_page_is_on_the_site() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        line for tree in re.findall(r"^```\{toctree\}(.*?)^```", index, re.M | re.S) for line in tree.splitlines()
    }
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= listed
    assert {f"tutorials/{page.stem}" for page in TUTORIALS} <= listed


def test_every_defence_has_its_test() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| attack" not in line]
    named = [re.search(r"`((?:plugins/\w+/)?tests/[\w/]+\.py)::(\w+)` \|$", row) for row in rows]
    assert len(rows) > 20
    for row, found in zip(rows, named, strict=True):
        assert found, f"no test stands in the row {row}"
        source = (REPOSITORY / found[1]).read_text(encoding="utf-8")
        assert f"def {found[2]}(" in source, f"{found[1]} has no test {found[2]}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_builds_strictly_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    folders = ["-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *folders],
        capture_output=True, text=True, check=False, timeout=500, env=os.environ | {"https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    for name in meco_hub.__all__:
        assert name.startswith("__") or f'id="meco_hub.{name}"' in reference, f"the API reference lacks {name}"
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?://[^\"]+)\"", page.read_text(encoding="utf-8")
        )
        assert not loaded, f"{page.name} loads {loaded}"
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?https?://", style.read_text(encoding="utf-8")), (
            f"{style.name} loads from a server"
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    import nbformat

    from notebooks import printed, run_notebook

    assert tutorial.stat().st_size < 100_000
    told = nbformat.read(tutorial, as_version=4)
    ran = run_notebook(tutorial, tmp_path)
    for number, (old, new) in enumerate(zip(told.cells, ran.cells, strict=True)):
        if old.cell_type == "code":
            trained = tutorial.stem == "train"  # figures that come of a training vary
            found = differences(printed(old), printed(new), vary=trained)
            assert not found, f"cell {number}: {found}"


def drawn_walks() -> dict[str, tuple[list[str], int]]:
    """What CONTRIBUTING.md draws: name → files in order, changes of file."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {}
    for head, changes, tree in re.findall(
        r"^(face|wristband|evaluate): \d+ files, (\d+) changes.*\n((?:[ ]+\S.*\n)+)", text, re.M
    ):
        found[head] = (re.findall(r"^\s+(?:→ )?(\S+\.py)", tree, re.M), int(changes))
    return found


def test_walks_are_drawn_through_files_that_are_there() -> None:
    walks = drawn_walks()
    assert list(walks) == ["face", "wristband", "evaluate"]
    sources = [REPOSITORY / "src" / "meco_hub", *(REPOSITORY / "plugins").glob("*/src")]
    for name, (files, _) in walks.items():
        missing = [file for file in files if not any((source / file).is_file() for source in sources)]
        assert not missing, (
            f"the walk {name} in CONTRIBUTING.md leads through {missing}; `python benchmarks/walk.py` prints today's"
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_walks_are_those_that_calls_take() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / "walk.py"), "--json"],
        capture_output=True, text=True, check=True, timeout=500,
    )  # fmt: skip
    taken = json.loads(done.stdout.splitlines()[-1])
    for name, (files, changes) in drawn_walks().items():
        assert files == taken[name]["files"], (
            f"CONTRIBUTING.md draws another walk {name} than `python benchmarks/walk.py` prints"
        )
        assert changes == pytest.approx(taken[name]["changes"], rel=0.05)  # a call more or less moves no drawing
