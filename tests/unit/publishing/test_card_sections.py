"""A plugin's card says what it must, or is refused."""

import pytest

from meco_hub import plugins
from meco_hub.errors import CardError
from meco_hub.publishing.card import REQUIRED, read_sections, says_something, split_sections

WHOLE = "\n\n".join(f"## {name}\n\nSomething about it." for name in REQUIRED)


def test_a_whole_card_is_read_by_its_headings() -> None:
    assert read_sections(WHOLE, "card.md") == dict.fromkeys(REQUIRED, "Something about it.")


@pytest.mark.parametrize("empty", ["", "-", "<!-- later -->", "TODO", "n/a", "### Sub\n", "- \n- "])
def test_empty_limits_are_refused(empty: str) -> None:
    text = WHOLE.replace("## Limits\n\nSomething about it.", f"## Limits\n\n{empty}")
    with pytest.raises(CardError, match=r"card\.md says nothing below ## Limits"):
        read_sections(text, "card.md")


def test_a_missing_section_is_refused() -> None:
    with pytest.raises(CardError, match="## Not for"):
        read_sections(WHOLE.replace("## Not for", "## Other"), "card.md")


def test_a_placeholder_is_refused() -> None:
    with pytest.raises(CardError, match="placeholder"):
        read_sections(WHOLE + "\n[More Information Needed]", "card.md")


def test_headings_in_code_are_code() -> None:
    assert split_sections("## A\n```\n## B\n```\n## C\nc")["A"] == "```\n## B\n```"
    assert not says_something("- …")


@pytest.mark.parametrize("model_type", sorted(plugins.architectures().healthy))
def test_the_cards_of_the_installed_plugins_are_whole(model_type: str) -> None:
    card = plugins.architecture(model_type).card
    assert card is not None
    file = plugins.resource_folder(card)
    sections = read_sections(file.read_text(encoding="utf-8"), str(file))
    assert "2024/1689" in sections["Legal note"]
    assert "not a felt emotion" in sections["What it is"]
