"""`model_cards/` holds the card of every bundled checkpoint, rendered from its files; a stale one fails here.

Render them again with `meco card NAME --output model_cards/NAME.md --overwrite`.
"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import meco_hub
from meco_hub.publishing.card import card_gaps, check_card, render_card, render_html, split_sections

REPOSITORY = Path(__file__).parents[2]
CARDS = REPOSITORY / "model_cards"
NAMES = sorted(meco_hub.checkpoints())
NATIVE = {"image-classification", "video-classification", "tabular-regression", "tabular-classification"}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_is_one_for_each_checkpoint_and_no_other() -> None:
    assert sorted(path.stem for path in CARDS.glob("*.md")) == NAMES


def test_it_is_what_its_files_give(name: str) -> None:
    file = CARDS / f"{name}.md"
    assert file.read_text(encoding="utf-8") == render_card(meco_hub.checkpoint(name)), (
        f"{file.name} is stale: meco card {name} --output model_cards/{file.name} --overwrite"
    )


def test_nothing_in_it_is_left_open(name: str) -> None:
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert card_gaps(meco_hub.checkpoint(name)) == {}
    assert "not stated" not in card.lower()
    check_card(card, name)


def test_its_metadata_are_what_the_hub_reads(name: str) -> None:
    card = ModelCard((CARDS / f"{name}.md").read_text(encoding="utf-8"), ignore_metadata_errors=False)
    data: Any = card.data
    assert data.library_name == "transformers"
    assert data.pipeline_tag in NATIVE
    assert {"emotion-recognition", "meco"} <= set(data.tags)
    assert data.license
    assert data.datasets
    assert data.metrics
    again = ModelCard(str(card), ignore_metadata_errors=False).data
    assert again.to_dict() == data.to_dict()
    assert again.eval_results == data.eval_results
    synthetic = "synthetic" in name
    assert ("synthetic" in data.tags) == synthetic
    assert ("synthetic" in card.text.strip().splitlines()[0]) == synthetic


def test_it_says_what_the_law_and_honesty_ask(name: str) -> None:
    sections = split_sections((CARDS / f"{name}.md").read_text(encoding="utf-8"))
    for article in ("3(39)", "5(1)(f)", "50(3)", "2024/1689"):
        assert article in sections["Legal note"]
    assert "### Who is missing" in sections["Limits"]
    for row in ("| code |", "| these weights |"):
        assert row in sections["Licences"]


def test_its_figures_stand_beside_commands_that_exist(name: str) -> None:
    figures = split_sections((CARDS / f"{name}.md").read_text(encoding="utf-8"))["Figures"]
    commands = re.findall(r"```\n(.+?)\n```", figures, re.DOTALL)
    assert commands
    for command in commands:
        words = command.split()
        if words[0] == "python":
            assert (REPOSITORY / words[1]).is_file(), command
        elif words[:2] == ["meco", "compare"]:
            assert (REPOSITORY / words[2]).is_file(), command
        else:
            assert words[:2] == ["meco", "evaluate"], command
            assert words[2] == name, command


def test_its_four_lines_load_it(name: str) -> None:
    section = split_sections((CARDS / f"{name}.md").read_text(encoding="utf-8"))["How to load"]
    (code,) = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    assert len(code.strip().splitlines()) == 4
    tree = ast.parse(code)
    space: dict[str, Any] = {}
    exec(
        compile(ast.Module(tree.body[:3], type_ignores=[]), name, "exec"), space
    )  # the fourth asks about a file of the reader's
    assert callable(space["recognise"])


def test_it_is_a_page_to_look_at(name: str) -> None:
    page = render_html((CARDS / f"{name}.md").read_text(encoding="utf-8"))
    assert page.count("<h1>") == 1
    assert page.count("<table>") >= 2
    assert "| --- |" not in page  # every table was one
